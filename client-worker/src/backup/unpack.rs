//! Restores a backup: all of it is read, checked and settled in a folder beside the state folder, which takes that one's place in
//! one step at the end. Whatever fails before leaves everything as it was.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

use data_encoding::HEXLOWER;
use maglica_proto::{
    config::{Config, folder, keyfile},
    units::Timestamp,
};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{BackupError, FORM, JOBS, KEY, LOCK, MANIFEST, Manifest, SUMS, TRUST, io_error, settle};
use crate::{job::store::SqliteStore, local};

/// Manifest and sums are far smaller.
const TEXT_MAX: u64 = 16 << 20;
/// What the folder begins with in which a backup is checked.
const TEMPORARY: &str = ".restore-";
/// So many files no state folder has.
const FILES_MAX: usize = 10_000;

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// From what.
    pub manifest: Manifest,
    /// Where the state of before is, if there was one.
    pub aside: Option<PathBuf>,
    /// What it means.
    pub settled: settle::Settled,
}

/// Restores the backup in this file, or from stdin for `-`. A state that is there is put aside if `force` says so.
///
/// # Errors
/// [`BackupError`]; then nothing has changed.
pub fn restore(config: &Config, source: &Path, force: bool) -> Result<Restored, BackupError> {
    let state = local::state_dir(config);
    let above = folder::private(config.state_dir.clone())?;
    let occupied = is_occupied(&state);
    // Held until the end; a daemon that runs has it.
    let _lock = if state.exists() { Some(folder::lock(&state, "client worker")?) } else { None };
    if occupied && !force {
        return Err(BackupError::Occupied(state));
    }
    remove_leftovers(&above);
    let stage = folder::private(above.join(format!("{TEMPORARY}{}", Uuid::new_v4().simple())))?;
    let done = (|| {
        let manifest = if source == Path::new("-") {
            unpack(io::stdin().lock(), &stage)?
        } else {
            unpack(io::BufReader::new(File::open(source).map_err(io_error("read", source))?), &stage)?
        };
        check(&stage)?;
        let settled = settle::settle(&stage, occupied.then_some(state.as_path()), SystemTime::now().into())?;
        to_disk(&stage)?;
        crate::failpoint("restore.ready");
        Ok((manifest, settled))
    })();
    let (manifest, settled) = match done {
        Ok(done) => done,
        Err(error) => {
            // Only a copy.
            let _ = fs::remove_dir_all(&stage);
            return Err(error);
        }
    };
    let aside = put(&stage, &state, &above, occupied)?;
    Ok(Restored { manifest, aside, settled })
}

/// What a restore that was killed left holds private keys.
fn remove_leftovers(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether there is anything in the folder that a daemon wrote to keep.
fn is_occupied(state: &Path) -> bool {
    let mut entries = fs::read_dir(state).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name() != LOCK && !entry.file_name().to_string_lossy().starts_with('.'))
}

fn damaged(why: impl Into<String>) -> BackupError {
    BackupError::Damaged(why.into())
}

/// Unpacks all files but the two that speak of them, and compares their sums.
fn unpack(source: impl Read, stage: &Path) -> Result<Manifest, BackupError> {
    let unreadable = |error: io::Error| damaged(error.to_string());
    let mut archive = tar::Archive::new(source);
    let (mut manifest, mut listed) = (None::<Manifest>, None::<BTreeMap<String, String>>);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = name(&entry)?;
        if listed.is_some() || found.len() > FILES_MAX {
            return Err(damaged(format!("{name} comes after its end")));
        }
        if manifest.is_none() || name == SUMS {
            let mut text = Vec::new();
            entry.by_ref().take(TEXT_MAX).read_to_end(&mut text).map_err(unreadable)?;
            if name == SUMS {
                listed = Some(sums(&text)?);
                continue;
            }
            if name != MANIFEST {
                return Err(damaged(format!("it begins with {name}")));
            }
            let read: Manifest = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
            if read.form > FORM {
                return Err(BackupError::Newer { found: read.form, program: read.program });
            }
            found.insert(name, HEXLOWER.encode(&Sha256::digest(&text)));
            manifest = Some(read);
            continue;
        }
        let path = stage.join(&name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match file {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(damaged(format!("{name} is in it twice")));
            }
            file => file.map_err(io_error("write", &path))?,
        };
        let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            let count = entry.read(&mut buffer).map_err(unreadable)?;
            if count == 0 {
                break;
            }
            digest.update(&buffer[..count]);
            io::Write::write_all(&mut file, &buffer[..count]).map_err(io_error("write", &path))?;
        }
        found.insert(name, HEXLOWER.encode(&digest.finalize()));
    }
    let (Some(manifest), Some(listed)) = (manifest, listed) else { return Err(damaged("its end is missing")) };
    if listed != found {
        return Err(damaged("its contents are not what was written"));
    }
    Ok(manifest)
}

/// A plain name of a plain file.
fn name<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, BackupError> {
    let path = entry.path().map_err(|error| damaged(error.to_string()))?;
    let mut parts = path.components();
    let name = match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => name.to_str().unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    let plain = entry.header().entry_type() == tar::EntryType::Regular;
    if !plain || name.is_empty() || name.starts_with('.') || name == LOCK {
        return Err(damaged(format!("{} does not belong into one", path.display())));
    }
    Ok(name)
}

fn sums(text: &[u8]) -> Result<BTreeMap<String, String>, BackupError> {
    let text = std::str::from_utf8(text).map_err(|error| damaged(error.to_string()))?;
    let line = |line: &str| line.split_once("  ").map(|(sum, name)| (name.to_owned(), sum.to_owned()));
    text.lines().map(|text| line(text).ok_or_else(|| damaged("its list of sums cannot be read"))).collect()
}

/// Everything that the daemon would refuse to start with.
fn check(stage: &Path) -> Result<(), BackupError> {
    for name in [KEY, TRUST, JOBS] {
        if !stage.join(name).exists() {
            return Err(damaged(format!("{name} is missing")));
        }
    }
    keyfile::read_private(&stage.join(KEY))?;
    SqliteStore::open(&stage.join(JOBS))?.check()?;
    Ok(())
}

fn to_disk(stage: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(stage).map_err(io_error("read", stage))?.flatten() {
        File::open(entry.path())
            .and_then(|file| file.sync_all())
            .map_err(io_error("bring to the disk", entry.path()))?;
    }
    File::open(stage).and_then(|folder| folder.sync_all()).map_err(io_error("bring to the disk", stage))
}

/// Puts the restored folder into its place; gives where the one of before is.
fn put(stage: &Path, state: &Path, above: &Path, occupied: bool) -> Result<Option<PathBuf>, BackupError> {
    let into_place = || io_error("put into its place", state);
    let mut aside = None;
    if occupied {
        let now = Timestamp::from(SystemTime::now()).as_millis();
        let old = above.join(format!("client-worker.before-restore-{now}"));
        // Exchanged in one step, so that there is never a moment without a state: a daemon that starts in it would make a new one.
        match renameat_with(CWD, stage, CWD, state, RenameFlags::EXCHANGE) {
            Ok(()) => fs::rename(stage, &old).map_err(io_error("put aside", &old))?,
            // A file system that cannot.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::rename(state, &old).map_err(io_error("put aside", &old))?;
                fs::rename(stage, state).map_err(into_place())?;
            }
            Err(errno) => return Err(into_place()(errno.into())),
        }
        aside = Some(old);
    } else {
        if state.exists() {
            // What a backup or a start that failed left: a lock, and temporary files.
            fs::remove_dir_all(state).map_err(into_place())?;
        }
        fs::rename(stage, state).map_err(into_place())?;
    }
    File::open(above).and_then(|folder| folder.sync_all()).map_err(io_error("bring to the disk", above))?;
    Ok(aside)
}
