//! A backup comes back as it was made or not at all.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use maglica_proto::config::{Config, folder};

use super::{pack::backup, unpack::restore, *};
use crate::{
    job::store::{JobStore, SqliteStore},
    local,
    trust::{KeySet, Register},
};

/// A configuration whose state is in this folder.
fn config(folder: &Path) -> Config {
    let text = format!("{{\"state_dir\": {:?}, \"host\": {{\"name\": \"h1\"}}}}", folder.display().to_string());
    Config::from_yaml(&text, Path::new("test.conf")).unwrap()
}

/// A state folder as a daemon leaves it.
fn with_state(folder: &Path) -> Config {
    let config = config(folder);
    let state = local::state_dir(&config);
    local::server_keys(&config).unwrap();
    Register::default().write(&state.join(TRUST)).unwrap();
    SqliteStore::open(&state.join(JOBS)).unwrap();
    fs::write(state.join("audit.log"), "one\ntwo\nhalf a li").unwrap();
    config
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_is_restored_where_there_is_nothing_and_is_its_owners_only() {
    let (here, there, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to, file) = (with_state(here.path()), config(there.path()), out.path().join("backup.tar"));
    // One that was killed left its copy.
    fs::create_dir(local::state_dir(&from).join(".backup-old")).unwrap();
    let made = backup(&from, &file).unwrap();
    assert_eq!(
        (files(out.path()), fs::metadata(&file).unwrap().permissions().mode() & 0o777),
        (vec!["backup.tar".to_owned()], 0o600)
    );
    assert!(!local::state_dir(&from).join(".backup-old").exists());
    let restored = restore(&to, &file, false).unwrap();
    assert!(restored.manifest == made && restored.aside.is_none() && !restored.settled.knows_revoked);
    let state = local::state_dir(&to);
    assert_eq!(fs::read_to_string(state.join("audit.log")).unwrap(), "one\ntwo\n");
    for (name, mode) in [("", 0o700), (KEY, 0o600), (TRUST, 0o600), (JOBS, 0o600)] {
        assert_eq!(fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name:?}");
    }
    let key = |config| KeySet::load(&local::state_dir(config)).unwrap().newest();
    assert_eq!(key(&from), key(&to));
    let forgotten = SqliteStore::open(&state.join(JOBS)).unwrap().forgotten().unwrap();
    assert!(forgotten >= made.made, "ids of before the restore make no new jobs");
    assert_eq!(files(there.path()), ["client-worker"], "nothing is left beside it");
}

#[test]
fn a_state_that_is_there_is_put_aside_only_if_that_is_asked_for() {
    let (here, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (config, file) = (with_state(here.path()), out.path().join("backup.tar"));
    backup(&config, &file).unwrap();
    let state = local::state_dir(&config);
    fs::write(state.join("audit.log"), "later\n").unwrap();
    assert!(matches!(restore(&config, &file, false), Err(BackupError::Occupied(_))));
    {
        let _running = folder::lock(&state, "client worker").unwrap();
        assert!(matches!(restore(&config, &file, true), Err(BackupError::Folder(FolderError::Locked { .. }))));
    }
    assert_eq!(fs::read_to_string(state.join("audit.log")).unwrap(), "later\n");
    let restored = restore(&config, &file, true).unwrap();
    let aside = restored.aside.unwrap();
    assert!(restored.settled.knows_revoked);
    assert_eq!(fs::read_to_string(aside.join("audit.log")).unwrap(), "later\n");
    assert_eq!(fs::read_to_string(state.join("audit.log")).unwrap(), "one\ntwo\n");
    assert_eq!(files(here.path()).len(), 2);
}

#[test]
fn a_backup_that_is_damaged_anywhere_or_cut_off_is_refused_and_changes_nothing() {
    let (here, there, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to, file) = (with_state(here.path()), config(there.path()), out.path().join("backup.tar"));
    backup(&from, &file).unwrap();
    let good = fs::read(&file).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&file, bytes).unwrap();
        assert!(restore(&to, &file, false).is_err(), "{what}");
        assert!(files(there.path()).is_empty(), "{what}: {:?}", files(there.path()));
    };
    for part in 0..16 {
        refused(&good[..good.len() * part / 16], "cut off");
    }
    // One bit in the content of each file; what fills up the blocks between them is nobody's.
    let mut archive = tar::Archive::new(good.as_slice());
    let places: Vec<(u64, u64)> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.map(|entry| (entry.raw_file_position(), entry.size())).unwrap())
        .collect();
    assert!(places.len() >= 6, "{places:?}");
    for (at, size) in places {
        for offset in [0, size / 2, size - 1] {
            let mut bad = good.clone();
            bad[usize::try_from(at + offset).unwrap()] ^= 1;
            refused(&bad, "a bit in a file");
        }
        let mut bad = good.clone();
        bad[usize::try_from(at).unwrap() - 512] ^= 1;
        refused(&bad, "a bit in a name");
    }
    refused(b"hello", "another file");
    fs::write(&file, &good).unwrap();
    restore(&to, &file, false).unwrap();
}

/// A tar of these files with good sums.
fn forged(files: &[(&str, &[u8])]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut tar = tar::Builder::new(Vec::new());
    let mut sums = String::new();
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        // Written by hand: the library itself refuses bad names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    };
    for (name, bytes) in files {
        sums.push_str(&format!("{}  {name}\n", data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))));
        add(name, bytes);
    }
    add(SUMS, sums.as_bytes());
    tar.into_inner().unwrap()
}

#[test]
fn a_backup_of_a_newer_form_or_with_files_of_elsewhere_is_refused() {
    let (there, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (to, file) = (config(there.path()), out.path().join("backup.tar"));
    let manifest =
        |form| serde_json::to_vec(&Manifest { form, program: "9".into(), made: Timestamp::default() }).unwrap();
    fs::write(&file, forged(&[(MANIFEST, &manifest(FORM + 1))])).unwrap();
    assert!(matches!(restore(&to, &file, false), Err(BackupError::Newer { found, .. }) if found == FORM + 1));
    for name in ["../evil", "/evil", "a/b", ".hidden", LOCK, ""] {
        fs::write(&file, forged(&[(MANIFEST, &manifest(FORM)), (name, b"x")])).unwrap();
        assert!(matches!(restore(&to, &file, false), Err(BackupError::Damaged(_))), "{name:?}");
    }
    fs::write(&file, forged(&[(MANIFEST, &manifest(FORM)), ("key", b"x"), ("key", b"x")])).unwrap();
    assert!(restore(&to, &file, false).unwrap_err().to_string().contains("twice"));
    fs::write(&file, forged(&[(MANIFEST, &manifest(FORM))])).unwrap();
    assert!(restore(&to, &file, false).unwrap_err().to_string().contains("missing"));
    assert!(files(there.path()).is_empty() && files(out.path()).len() == 1);
}
