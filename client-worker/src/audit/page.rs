//! Reading the audit, a page at a time, in either direction, over all files. Lines are given as they stand there, whatever
//! they hold: to judge them is the reader's.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use maglica_proto::{
    audit::{AuditHead, AuditPage, AuditPlace},
    fault::{Code, Fault, chain},
};

use super::files;

/// The bytes of a page: well below a message's limit.
const BYTES: u64 = 512 * 1024;
/// The lines of a page.
const LINES: u32 = 5000;

/// What there is to read.
pub(super) struct Snapshot {
    pub(super) folder: PathBuf,
    /// The first line of the present file.
    pub(super) first: u64,
    pub(super) file: File,
    /// So far it is safe.
    pub(super) len: u64,
    pub(super) head: AuditHead,
    pub(super) flaw: Option<String>,
    pub(super) trouble: Option<String>,
}

/// Reads a page: from `from` on, or if `back` up to it; none is the very beginning, or the very end.
pub(super) fn read(snapshot: &Snapshot, from: Option<AuditPlace>, back: bool, limit: u32) -> Result<AuditPage, Fault> {
    let fault = |what: &dyn std::error::Error| Fault::new(Code::Unavailable, format!("cannot read the audit: {what}"));
    // The present file may have been put aside since: it is the same one.
    let older = files::older(&snapshot.folder).map_err(|error| Fault::new(Code::Unavailable, chain(&error)))?;
    let older: Vec<(u64, PathBuf)> = older.into_iter().filter(|(first, _)| *first < snapshot.first).collect();
    let all: Vec<u64> = older.iter().map(|(first, _)| *first).chain([snapshot.first]).collect();
    let open = |at: usize| -> Result<(File, u64), Fault> {
        match older.get(at) {
            Some((_, path)) => open_older(path).map_err(|error| fault(&error)),
            None => {
                let file = snapshot.file.try_clone().map_err(|error| fault(&error))?;
                // Somebody may have cut it off under the client worker: what is left is what there is to judge.
                let there = file.metadata().map_err(|error| fault(&error))?.len();
                Ok((file, snapshot.len.min(there)))
            }
        }
    };
    let at = match from {
        None if back => all.len() - 1,
        None => 0,
        Some(place) => all.iter().position(|first| *first == place.file).ok_or_else(|| {
            Fault::new(Code::NotFound, format!("there is no file of the audit that begins with line {}", place.file))
        })?,
    };
    let (file, len) = open(at)?;
    let offset = from.map_or(if back { len } else { 0 }, |place| place.offset.min(len));
    let limit = usize::try_from(limit.clamp(1, LINES)).unwrap_or(usize::MAX);
    let (start, end) = if back { (offset.saturating_sub(BYTES), offset) } else { (offset, len.min(offset + BYTES)) };
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
    file.read_exact_at(&mut bytes, start).map_err(|error| fault(&error))?;
    let (lines, used) = if back { last_lines(&bytes, start > 0, limit) } else { first_lines(&bytes, end < len, limit) };
    let used = u64::try_from(used).unwrap_or(u64::MAX);
    let next = if back {
        match (end - used, at.checked_sub(1)) {
            (0, None) => None,
            (0, Some(before)) => Some(AuditPlace { file: all[before], offset: open(before)?.1 }),
            (offset, _) => Some(AuditPlace { file: all[at], offset }),
        }
    } else if start + used < len {
        Some(AuditPlace { file: all[at], offset: start + used })
    } else {
        all.get(at + 1).map(|first| AuditPlace { file: *first, offset: 0 })
    };
    Ok(AuditPage { lines, next, head: snapshot.head, flaw: snapshot.flaw.clone() })
}

fn open_older(path: &Path) -> std::io::Result<(File, u64)> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned()
}

/// The first whole lines, and how many bytes they take. What has no end at all is given as it is, so that reading goes on.
fn first_lines(bytes: &[u8], more: bool, limit: usize) -> (Vec<String>, usize) {
    let (mut lines, mut used) = (Vec::new(), 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n').take(limit) {
        if more && !line.ends_with(b"\n") && used > 0 {
            break;
        }
        lines.push(text(line));
        used += line.len();
    }
    (lines, used)
}

/// The last whole lines, and how many bytes they take.
fn last_lines(bytes: &[u8], more: bool, limit: usize) -> (Vec<String>, usize) {
    let mut all: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    if more && all.len() > 1 {
        // Its beginning is before these bytes.
        all.remove(0);
    }
    let kept = &all[all.len().saturating_sub(limit)..];
    (kept.iter().map(|line| text(line)).collect(), kept.iter().map(|line| line.len()).sum())
}
