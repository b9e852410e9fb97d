//! The files of the audit: `audit.log`, and `audit-N.log` for older ones that begin with line N. One file's first line
//! holds the hash of the last line of the file before it, so older ones can be put away without losing the chain.
//!
//! What is synced is safe; what was written after it can be taken back, so that a write that failed in the middle leaves
//! nothing behind.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use maglica_proto::{
    audit::{AuditEntry, AuditEvent, AuditHead, Chain, LineHash},
    key::Fingerprint,
};

use super::AuditError;

/// The present file.
const PRESENT: &str = "audit.log";
/// The next one, until it is whole.
const NEXT: &str = "audit.log.next";
/// How much of a torn line is kept in the line that tells of it.
const TORN_TEXT: usize = 200;

/// The present file, and where the next line goes.
pub(super) struct Files {
    folder: PathBuf,
    key: Fingerprint,
    limit: u64,
    file: File,
    /// The number of its first line.
    first: u64,
    synced: Position,
    written: Position,
    /// Something beyond `written` may be in the file.
    dirty: bool,
    /// Writing failed last time.
    failing: Option<String>,
}

/// An end of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) len: u64,
    pub(super) head: AuditHead,
}

/// What was found when the audit was opened.
#[derive(Debug, Default)]
pub(super) struct Mended {
    /// Lines that tell of it.
    pub(super) lines: Vec<AuditEvent>,
    /// What is wrong with the chain.
    pub(super) flaw: Option<String>,
}

/// The older files, by the number of their first lines.
pub(super) fn older(folder: &Path) -> Result<Vec<(u64, PathBuf)>, AuditError> {
    let io = |source| AuditError::Io { what: "list the files of", path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("audit-").and_then(|name| name.strip_suffix(".log"));
        if let Some(first) = number.and_then(|number| number.parse().ok()) {
            files.push((first, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// What a file holds.
struct Scanned {
    chain: Chain,
    /// Where its last whole line ends.
    len: u64,
    torn: Vec<u8>,
    /// The lines of which it says itself that they do not fit.
    told: Vec<u64>,
}

fn scan(path: &Path, file: &File) -> Result<Scanned, AuditError> {
    let io = |source| AuditError::Io { what: "read", path: path.to_owned(), source };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut scanned = Scanned { chain: Chain::whole(), len: 0, torn: Vec::new(), told: Vec::new() };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(io)?;
        if read == 0 {
            return Ok(scanned);
        }
        let Some(whole) = line.strip_suffix(b"\n") else {
            scanned.torn = line;
            return Ok(scanned);
        };
        let entry = scanned.chain.read(&String::from_utf8_lossy(whole));
        if let Some(AuditEntry { what: AuditEvent::Broken { line, .. }, .. }) = entry {
            scanned.told.push(line);
        }
        scanned.len += u64::try_from(read).unwrap_or(u64::MAX);
    }
}

impl Files {
    /// Opens the present file, or begins one; see [`super::Audit::start`].
    pub(super) fn open(folder: &Path, key: Fingerprint, limit: u64) -> Result<(Self, Mended), AuditError> {
        let path = folder.join(PRESENT);
        let file = match append(&path, false) {
            Ok(file) => file,
            Err(AuditError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let before = last_of_older(folder)?;
                tracing::info!("there is no audit yet; a new one begins");
                return Ok((Self::begin(folder, key, limit, before)?, Mended::default()));
            }
            Err(error) => return Err(error),
        };
        let scanned = scan(&path, &file)?;
        let (Some(head), Some(first)) = (scanned.chain.last(), scanned.chain.first()) else {
            return Self::begin_over(folder, key, limit, &scanned);
        };
        if !scanned.torn.is_empty() {
            file.set_len(scanned.len).map_err(io("mend", &path))?;
        }
        let position = Position { len: scanned.len, head };
        let folder = folder.to_owned();
        let files =
            Self { folder, key, limit, file, first, synced: position, written: position, dirty: false, failing: None };
        Ok((files, mended(&scanned)))
    }

    /// The present file holds no line that can be read: it is put aside under its own name, and another begun.
    fn begin_over(
        folder: &Path,
        key: Fingerprint,
        limit: u64,
        scanned: &Scanned,
    ) -> Result<(Self, Mended), AuditError> {
        let path = folder.join(PRESENT);
        let why = if scanned.len == 0 && scanned.torn.is_empty() {
            "it was empty, which it never is: its lines were removed".to_owned()
        } else {
            let aside = folder.join(format!("audit.log.unreadable-{}", millis()));
            fs::rename(&path, &aside).map_err(io("put aside", &path))?;
            format!("no line of it could be read; it was put aside as {}", aside.display())
        };
        tracing::error!(error = %why, "the audit is damaged; a new file begins");
        let lines = vec![AuditEvent::Broken { line: 1, why: why.clone() }];
        Ok((Self::begin(folder, key, limit, last_of_older(folder)?)?, Mended { lines, flaw: Some(why) }))
    }

    /// Begins a file after this line, and puts the present one aside.
    fn begin(folder: &Path, key: Fingerprint, limit: u64, before: Option<AuditHead>) -> Result<Self, AuditError> {
        let (path, next) = (folder.join(PRESENT), folder.join(NEXT));
        let (seq, prev) = match before {
            Some(before) => (before.seq + 1, before.hash),
            None => (0, random()?),
        };
        let what = AuditEvent::Begun { prev, key: key.clone(), program: env!("CARGO_PKG_VERSION").to_owned() };
        let (mut line, hash) = AuditEntry { seq, at: SystemTime::now().into(), what }.line(prev)?;
        line.push('\n');
        // One that was begun when the disk was full.
        let _ = fs::remove_file(&next);
        let mut file = append(&next, true)?;
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &next))?;
        fs::rename(&next, &path).map_err(io("begin", &path))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("begin", &path))?;
        let len = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let position = Position { len, head: AuditHead { seq, hash } };
        let (folder, first) = (folder.to_owned(), seq);
        Ok(Self { folder, key, limit, file, first, synced: position, written: position, dirty: false, failing: None })
    }

    /// Puts the present file aside if it is full, and begins the next. Everything must be synced.
    pub(super) fn next_if_full(&mut self) -> Result<(), AuditError> {
        if self.synced.len < self.limit || self.written.head != self.synced.head || self.dirty {
            return Ok(());
        }
        let (path, aside) = (self.folder.join(PRESENT), self.folder.join(format!("audit-{:012}.log", self.first)));
        // A second name first, so that at no moment there is a gap.
        match fs::hard_link(&path, &aside) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io("put aside", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let begun = Self::begin(&self.folder, self.key.clone(), self.limit, Some(self.synced.head))?;
        tracing::info!(file = %aside.display(), "the audit goes on in a new file");
        *self = begun;
        Ok(())
    }

    /// Writes lines; gives the number of the first.
    pub(super) fn append<'a>(&mut self, events: impl IntoIterator<Item = &'a AuditEvent>) -> Result<u64, AuditError> {
        if self.dirty {
            self.take_back()?;
        }
        let (mut text, mut head) = (String::new(), self.written.head);
        let at = SystemTime::now().into();
        for event in events {
            let entry = AuditEntry { seq: head.seq + 1, at, what: event.clone() };
            let (line, hash) = entry.line(head.hash)?;
            text.push_str(&line);
            text.push('\n');
            head = AuditHead { seq: entry.seq, hash };
        }
        let first = self.written.head.seq + 1;
        self.dirty = true;
        full_disk().and_then(|()| self.file.write_all(text.as_bytes())).map_err(io("write", &self.path()))?;
        self.dirty = false;
        self.written = Position { len: self.written.len + u64::try_from(text.len()).unwrap_or(u64::MAX), head };
        Ok(first)
    }

    /// Brings to the disk what was written.
    pub(super) fn sync(&mut self) -> Result<(), AuditError> {
        if self.synced.head != self.written.head {
            crate::failpoint("audit.before-sync");
            self.file.sync_data().map_err(io("sync", &self.path()))?;
            crate::failpoint("audit.after-sync");
            self.synced = self.written;
        }
        Ok(())
    }

    /// Takes back everything that is not synced.
    pub(super) fn take_back(&mut self) -> Result<(), AuditError> {
        self.dirty = true;
        self.file.set_len(self.synced.len).map_err(io("mend", &self.path()))?;
        self.written = self.synced;
        self.dirty = false;
        Ok(())
    }

    /// Where what is safe ends.
    pub(super) const fn synced(&self) -> Position {
        self.synced
    }

    /// The present file for reading, and the number of its first line.
    pub(super) fn reading(&self) -> Result<(PathBuf, u64, File), AuditError> {
        let file = self.file.try_clone().map_err(io("read", &self.path()))?;
        Ok((self.folder.clone(), self.first, file))
    }

    /// Notes whether writing works, and says so when that changes.
    pub(super) fn note(&mut self, trouble: Option<String>) {
        match (&self.failing, &trouble) {
            (None, Some(why)) => {
                tracing::error!(error = %why, "the audit cannot be written: nothing that changes anything is done")
            }
            (Some(_), None) => tracing::info!("the audit can be written again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.failing = trouble;
    }

    /// Why writing does not work.
    pub(super) const fn failing(&self) -> Option<&String> {
        self.failing.as_ref()
    }

    fn path(&self) -> PathBuf {
        self.folder.join(PRESENT)
    }
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> AuditError {
    move |source| AuditError::Io { what, path: path.to_owned(), source }
}

fn append(path: &Path, new: bool) -> Result<File, AuditError> {
    let opened = OpenOptions::new().read(true).append(true).create_new(new).mode(0o600).open(path);
    opened.map_err(io("open", path))
}

fn random() -> Result<LineHash, AuditError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| AuditError::Random)?;
    Ok(LineHash::from_bytes(bytes))
}

fn millis() -> u64 {
    maglica_proto::units::Timestamp::from(SystemTime::now()).as_millis()
}

/// The last line of the newest file that was put aside: there is no present one.
fn last_of_older(folder: &Path) -> Result<Option<AuditHead>, AuditError> {
    let Some((_, path)) = older(folder)?.pop() else { return Ok(None) };
    let file = File::open(&path).map_err(io("open", &path))?;
    Ok(scan(&path, &file)?.chain.last())
}

fn mended(scanned: &Scanned) -> Mended {
    let mut mended = Mended::default();
    if !scanned.torn.is_empty() {
        let bytes = u64::try_from(scanned.torn.len()).unwrap_or(u64::MAX);
        let text: String = String::from_utf8_lossy(&scanned.torn).chars().take(TORN_TEXT).collect();
        tracing::warn!(bytes, text = ?text, "the audit ended in a part of a line, for which nothing was done; it is cut off");
        mended.lines.push(AuditEvent::Torn { bytes, text });
    }
    if let Some(flaw) = scanned.chain.flaws().first() {
        let why = flaw.to_string();
        tracing::error!(
            line = flaw.line,
            error = %why,
            flaws = scanned.chain.count(),
            "the audit's chain does not hold: somebody may have changed it (maglica audit --verify)"
        );
        for flaw in scanned.chain.flaws().iter().filter(|flaw| !scanned.told.contains(&flaw.line)) {
            mended.lines.push(AuditEvent::Broken { line: flaw.line, why: flaw.to_string() });
        }
        mended.flaw = Some(why);
    }
    mended
}

/// A place where tests let the disk be full.
fn full_disk() -> std::io::Result<()> {
    #[cfg(feature = "failpoints")]
    fail::fail_point!("audit.full", |_| Err(rustix::io::Errno::NOSPC.into()));
    Ok(())
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
