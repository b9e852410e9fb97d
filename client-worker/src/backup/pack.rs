//! Makes a backup. The daemon may run: jobs are copied by SQLite at one moment, small files are read until they stand still.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Read as _, Seek, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use data_encoding::HEXLOWER;
use maglica_proto::config::{Config, folder};
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{BackupError, FORM, JOBS, KEY, LOCK, MANIFEST, Manifest, SUMS, TRUST, io_error};
use crate::local;

/// How often the files are read before they count as restless.
const READS: u32 = 20;
const READ_PAUSE: Duration = Duration::from_millis(50);
/// So much is read at a time to find the end of a file's last line.
const TAIL: usize = 64 << 10;
/// How long SQLite may be busy.
const BUSY: Duration = Duration::from_secs(30);
/// What temporary folders begin with; one that a killed backup left is removed by the next.
const TEMPORARY: &str = ".backup-";

/// Writes a backup to this file, or to stdout for `-`. The file is there whole, on the disk and for its owner only, or not at all.
///
/// # Errors
/// [`BackupError`].
pub fn backup(config: &Config, target: &Path) -> Result<Manifest, BackupError> {
    let state = local::state_dir(config);
    if !state.join(TRUST).exists() {
        return Err(BackupError::Nothing(state));
    }
    if target == Path::new("-") {
        let stdout = io::stdout().lock();
        if stdout.is_terminal() {
            return Err(BackupError::Terminal);
        }
        return pack(&state, io::BufWriter::new(stdout)).map(|(manifest, _)| manifest);
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", Uuid::new_v4().simple()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let file = file.map_err(io_error("write", &temporary))?;
    let done = pack(&state, io::BufWriter::new(file)).and_then(|(manifest, file)| {
        file.into_inner()
            .map_err(|error| error.into_error())
            .and_then(|file| file.sync_all())
            .map_err(io_error("write", &temporary))?;
        fs::rename(&temporary, target).map_err(io_error("write", target))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("bring to the disk", folder))?;
        Ok(manifest)
    });
    if done.is_err() {
        // It may not have come to be; the error says what matters.
        let _ = fs::remove_file(&temporary);
    }
    done
}

fn pack<W: Write>(state: &Path, out: W) -> Result<(Manifest, W), BackupError> {
    let manifest =
        Manifest { form: FORM, program: env!("CARGO_PKG_VERSION").to_owned(), made: SystemTime::now().into() };
    remove_leftovers(state);
    let stage = folder::private(state.join(format!("{TEMPORARY}{}", Uuid::new_v4().simple())))?;
    let done = (|| {
        // The jobs first: whoever they speak of is in the register, which is read later.
        snapshot(&state.join(JOBS), &stage.join(JOBS))?;
        crate::failpoint("backup.jobs-copied");
        let files = still(state)?;
        write_tar(out, &manifest, &stage.join(JOBS), &files)
    })();
    // Only a copy.
    let _ = fs::remove_dir_all(&stage);
    Ok((manifest, done?))
}

fn remove_leftovers(state: &Path) {
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Copies the jobs as they are at one moment; writers go on.
fn snapshot(from: &Path, to: &Path) -> Result<(), BackupError> {
    let connection = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(BackupError::Copy)?;
    connection.busy_timeout(BUSY).map_err(BackupError::Copy)?;
    connection.execute("vacuum into ?1", [to.to_string_lossy()]).map_err(BackupError::Copy)?;
    Ok(())
}

/// What a file of the state folder is in a backup.
enum Piece {
    /// A small one, whole.
    Bytes(Vec<u8>),
    /// One that is only appended to, up to its last whole line. Held open: it may be renamed meanwhile, and be large.
    Log(File, u64),
}

impl Piece {
    /// Whether it is what it was before, but for what was appended.
    fn follows(&self, before: &Self) -> bool {
        match (before, self) {
            (Self::Bytes(before), Self::Bytes(now)) => before == now,
            (Self::Log(_, before), Self::Log(_, now)) => before <= now,
            (Self::Bytes(_), Self::Log(..)) | (Self::Log(..), Self::Bytes(_)) => false,
        }
    }
}

/// All other files of the folder, read at a moment at which none of them changed but for what was appended.
fn still(state: &Path) -> Result<BTreeMap<String, Piece>, BackupError> {
    let mut before = read_all(state)?;
    for _ in 0..READS {
        let now = read_all(state)?;
        let same = before.len() == now.len()
            && before.iter().zip(&now).all(|((name, old), (other, new))| name == other && new.follows(old));
        if same && now.contains_key(KEY) && now.contains_key(TRUST) {
            return Ok(now);
        }
        std::thread::sleep(READ_PAUSE);
        before = now;
    }
    Err(BackupError::Restless)
}

fn read_all(state: &Path) -> Result<BTreeMap<String, Piece>, BackupError> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(state).map_err(io_error("read", state))? {
        let entry = entry.map_err(io_error("read", state))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let wanted = !name.starts_with('.') && !name.starts_with(JOBS) && name != LOCK;
        if !wanted || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let piece = if name.ends_with(".log") {
            File::open(&path).and_then(|file| whole_lines(&file).map(|length| Piece::Log(file, length)))
        } else {
            fs::read(&path).map(Piece::Bytes)
        };
        match piece {
            Ok(piece) => drop(files.insert(name, piece)),
            // Renamed meanwhile: the next look finds it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(io_error("read", path)(source)),
        }
    }
    Ok(files)
}

/// How long a file is up to its last whole line.
fn whole_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut buffer = vec![0; TAIL];
    while end > 0 {
        let begin = end.saturating_sub(TAIL as u64);
        let part = &mut buffer[..usize::try_from(end - begin).unwrap_or(TAIL)];
        file.read_exact_at(part, begin)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

fn write_tar<W: Write>(
    out: W,
    manifest: &Manifest,
    jobs: &Path,
    files: &BTreeMap<String, Piece>,
) -> Result<W, BackupError> {
    let mut tar = tar::Builder::new(out);
    let mut sums = String::new();
    let text = serde_json::to_vec_pretty(manifest).map_err(|error| BackupError::Damaged(error.to_string()))?;
    let mut add = |name: &str, size: u64, open: &dyn Fn() -> io::Result<Box<dyn io::Read>>| {
        let unreadable = || io_error("read", name);
        let mut digest = Sha256::new();
        io::copy(&mut open().map_err(unreadable())?.take(size), &mut digest).map_err(unreadable())?;
        sums.push_str(&format!("{}  {name}\n", HEXLOWER.encode(&digest.finalize())));
        append(&mut tar, manifest, name, size, open().map_err(unreadable())?.take(size))
    };
    let bytes = |bytes: &[u8]| -> io::Result<Box<dyn io::Read>> { Ok(Box::new(io::Cursor::new(bytes.to_vec()))) };
    add(MANIFEST, text.len() as u64, &|| bytes(&text))?;
    for (name, piece) in files {
        match piece {
            Piece::Bytes(content) => add(name, content.len() as u64, &|| bytes(content))?,
            Piece::Log(file, length) => add(name, *length, &|| {
                let mut file = file.try_clone()?;
                file.rewind()?;
                Ok(Box::new(io::BufReader::new(file)))
            })?,
        }
    }
    let size = fs::metadata(jobs).map_err(io_error("read", jobs))?.len();
    add(JOBS, size, &|| Ok(Box::new(io::BufReader::new(File::open(jobs)?))))?;
    append(&mut tar, manifest, SUMS, sums.len() as u64, sums.as_bytes())?;
    let mut out = tar.into_inner().map_err(io_error("write", "the backup"))?;
    out.flush().map_err(io_error("write", "the backup"))?;
    Ok(out)
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    manifest: &Manifest,
    name: &str,
    size: u64,
    bytes: impl io::Read,
) -> Result<(), BackupError> {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(manifest.made.as_millis() / 1000);
    tar.append_data(&mut header, name, bytes).map_err(io_error("write", "the backup"))
}
