//! Key files: one line each. A private key is a file that only its owner can read; any file is written whole or not
//! at all, and is on the disk when the call returns.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::key::{InvalidKey, KeyPair, PublicKey};

/// Only its owner reads it.
pub const SECRET_MODE: u32 = 0o600;
/// Everybody reads it.
pub const PUBLIC_MODE: u32 = 0o644;
/// A folder of secrets.
pub const FOLDER_MODE: u32 = 0o700;
/// A key's line has 44 characters; what is far longer is another file.
const MAX_FILE: u64 = 4096;

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("there is no {what} {}", path.display())]
    Absent {
        /// `private key` or `public key`.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Others can read a private key.
    #[error("the private key {} can be read by others (mode {mode:04o}, must be 0600)", path.display())]
    Readable {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else.
    #[error("{} does not hold a {what}", path.display())]
    Invalid {
        /// `private key` or `public key`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: InvalidKey,
    },
    /// No new key could be made.
    #[error("cannot make a key for {}", path.display())]
    Generate {
        /// For which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: InvalidKey,
    },
}

impl KeyFileError {
    /// Whether the file is just not there.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }
}

/// Reads a private key.
///
/// # Errors
/// [`KeyFileError`]; also if anybody but its owner could read the file.
pub fn read_private(path: &Path) -> Result<KeyPair, KeyFileError> {
    const WHAT: &str = "private key";
    let (file, mode) = open(path, WHAT)?;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Readable { path: path.to_owned(), mode });
    }
    let line = zeroize::Zeroizing::new(read(file, path)?);
    KeyPair::from_line(&line).map_err(|source| KeyFileError::Invalid { what: WHAT, path: path.to_owned(), source })
}

/// Reads a public key.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    const WHAT: &str = "public key";
    let (file, _) = open(path, WHAT)?;
    read(file, path)?.parse().map_err(|source| KeyFileError::Invalid { what: WHAT, path: path.to_owned(), source })
}

/// Reads a private key; where there is none yet, makes one and writes it. Two programs that do it at once end up with
/// the same key.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_or_create_private(path: &Path) -> Result<KeyPair, KeyFileError> {
    match read_private(path) {
        Err(KeyFileError::Absent { .. }) => {}
        other @ (Ok(_) | Err(_)) => return other,
    }
    let pair = KeyPair::generate().map_err(|source| KeyFileError::Generate { path: path.to_owned(), source })?;
    let line = zeroize::Zeroizing::new(format!("{}\n", pair.to_line().expose()));
    match write_with(path, line.as_bytes(), SECRET_MODE, |temporary, path| fs::hard_link(temporary, path)) {
        Ok(()) => Ok(pair),
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => read_private(path),
        Err(error) => Err(error),
    }
}

/// Writes a private key in the place of whatever was there.
///
/// # Errors
/// [`KeyFileError::Io`]; the old file is then untouched.
pub fn write_private(path: &Path, pair: &KeyPair) -> Result<(), KeyFileError> {
    let line = zeroize::Zeroizing::new(format!("{}\n", pair.to_line().expose()));
    write_atomic(path, line.as_bytes(), SECRET_MODE)
}

/// Writes a public key in the place of whatever was there.
///
/// # Errors
/// [`KeyFileError::Io`]; the old file is then untouched.
pub fn write_public(path: &Path, key: PublicKey) -> Result<(), KeyFileError> {
    write_atomic(path, format!("{key}\n").as_bytes(), PUBLIC_MODE)
}

/// Writes a file whole or not at all: beside it, to the disk, then into its place. Missing folders are made, readable by
/// their owner only.
///
/// # Errors
/// [`KeyFileError::Io`]; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyFileError> {
    write_with(path, bytes, mode, |temporary, path| fs::rename(temporary, path))
}

fn write_with(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    place: impl Fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), KeyFileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let at = |doing| move |source| KeyFileError::Io { doing, path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(at("make the folder of"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", uuid::Uuid::new_v4().simple()));
    let done = write_new(&temporary, bytes, mode)
        .map_err(at("write"))
        .and_then(|()| place(&temporary, path).map_err(at("put into its place")));
    // Renamed: it is gone already. Linked or failed: it is not wanted any more.
    let _ = fs::remove_file(&temporary);
    done?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("bring to the disk"))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have taken bits that the caller wants; it never adds any.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn open(path: &Path, what: &'static str) -> Result<(File, u32), KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyFileError::Absent { what, path: path.to_owned() });
        }
        Err(source) => return Err(KeyFileError::Io { doing: "read", path: path.to_owned(), source }),
    };
    let mode =
        file.metadata().map_err(|source| KeyFileError::Io { doing: "read", path: path.to_owned(), source })?.mode()
            & 0o7777;
    Ok((file, mode))
}

fn read(file: File, path: &Path) -> Result<String, KeyFileError> {
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|source| KeyFileError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_private_key_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/key");
        let made = read_or_create_private(&path).unwrap();
        assert_eq!(read_or_create_private(&path).unwrap().public(), made.public());
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn programs_that_make_the_same_key_at_once_agree_on_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| read_or_create_private(&path).unwrap().public())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        read_or_create_private(&path).unwrap();
        for open in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let error = read_private(&path).unwrap_err().to_string();
            assert!(error.contains("can be read by others") && error.contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_public_key_reads_back_and_another_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pub");
        assert!(read_public(&path).unwrap_err().is_absent());
        let key = KeyPair::generate().unwrap().public();
        write_public(&path, key).unwrap();
        assert_eq!((read_public(&path).unwrap(), mode(&path)), (key, 0o644));
        fs::write(&path, "hello").unwrap();
        assert!(matches!(read_public(&path), Err(KeyFileError::Invalid { .. })));
    }

    #[test]
    fn a_file_that_cannot_be_put_into_its_place_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::create_dir_all(path.join("inside")).unwrap();
        assert!(write_atomic(&path, b"x", SECRET_MODE).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
