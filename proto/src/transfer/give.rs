//! Reads files and sends them, as the other side asks. One thread reads and digests, this one seals and sends.

use std::{
    fs::File,
    io::Seek as _,
    os::unix::fs::MetadataExt as _,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    TransferError,
    content::{self, Gathering, SEGMENT, SegmentDigest, segments},
    file,
    message::{Ask, FileInfo, Listed, Say},
    wire::Wire,
};
use crate::{
    fault::{Code, Fault},
    units::ByteSize,
};

/// How many digests of segments one side takes of the other: of a file of 16 TiB.
const HAVE_MAX: usize = 256 * 1024;
/// How many pieces wait between the two threads.
const AHEAD: usize = 4;
/// How much such a piece has.
const PIECE: usize = 1024 * 1024;
/// How often the other side hears that this one still compares.
const STILL_HERE: Duration = Duration::from_secs(5);

/// A file that is offered.
pub struct OfferedFile {
    /// What is said of it.
    pub info: FileInfo,
    file: File,
}

impl OfferedFile {
    /// Offers an open file or block device.
    ///
    /// # Errors
    /// [`TransferError::File`] if it cannot be measured.
    pub fn new(role: impl Into<String>, format: impl Into<String>, mut from: File) -> Result<Self, TransferError> {
        // A block device has no length of its own in its metadata.
        let size = from.seek(std::io::SeekFrom::End(0)).map_err(file("measure"))?;
        let data = content::data_within(&from, 0, size).map_err(file("measure"))?;
        let (size, data) = (ByteSize::bytes(size), ByteSize::bytes(data));
        Ok(Self { info: FileInfo { role: role.into(), format: format.into(), size, data }, file: from })
    }

    /// When it was last written to: another value, and it has changed.
    fn written(&self) -> Result<(i64, i64, u64), TransferError> {
        let data = self.file.metadata().map_err(file("look at"))?;
        Ok((data.mtime(), data.mtime_nsec(), data.size()))
    }
}

/// Everything that is offered to one taker.
pub struct Offer {
    /// The domain's description, if the files are its disks.
    pub description: Option<String>,
    /// The pool that its first disk lies in.
    pub pool: Option<String>,
    /// The files.
    pub files: Vec<OfferedFile>,
}

/// Serves the other side until it has all that it wants.
///
/// # Errors
/// [`TransferError`].
pub fn give(wire: &mut Wire, offer: &Offer) -> Result<(), TransferError> {
    let mut have: Vec<SegmentDigest> = Vec::new();
    loop {
        match wire.hear::<Ask>()? {
            Ask::Describe => {
                let files = offer.files.iter().map(|file| file.info.clone()).collect();
                let listed = Listed { description: offer.description.clone(), pool: offer.pool.clone(), files };
                wire.say(&Say::Files(listed))?;
            }
            Ask::Have { digests } => {
                if have.len() + digests.len() > HAVE_MAX {
                    return Err(TransferError::Protocol("more digests than a file has segments"));
                }
                have.extend(digests);
            }
            Ask::Fetch { file, rate } => {
                let found = usize::try_from(file).ok().and_then(|file| offer.files.get(file));
                let Some(found) = found else { return Err(TransferError::Protocol("there is no such file")) };
                let result = send(wire, found, &std::mem::take(&mut have), rate);
                if let Err(TransferError::File { .. }) = &result {
                    // The other side is to know that it is no matter of the connection.
                    let message = format!("{} cannot be read on the host that has it", found.info.role);
                    wire.say(&Say::Refused { fault: Fault::new(Code::ToolFailed, message) })?;
                }
                result?;
            }
            Ask::Done => return Ok(()),
        }
    }
}

/// From where on the other side needs it: the first segment whose digest differs.
fn differs(wire: &mut Wire, from: &File, size: u64, have: &[SegmentDigest]) -> Result<u64, TransferError> {
    let (mut same, mut said) = (0, Instant::now());
    if !have.is_empty() {
        content::digests(from, size, |number, digest| {
            if said.elapsed() > STILL_HERE {
                wire.say(&Say::Wait)?;
                said = Instant::now();
            }
            let equal = usize::try_from(number).ok().and_then(|number| have.get(number)) == Some(&digest);
            same += u64::from(equal);
            Ok(equal)
        })?;
    }
    Ok((same * SEGMENT).min(size))
}

enum Read {
    /// Blocks: where each belongs, and where it ends in the bytes.
    Blocks(Vec<u8>, Vec<(u64, usize)>),
    Segment(u64, SegmentDigest, u64),
}

fn send(
    wire: &mut Wire,
    offered: &OfferedFile,
    have: &[SegmentDigest],
    rate: Option<ByteSize>,
) -> Result<(), TransferError> {
    let before = offered.written()?;
    let FileInfo { size, data, .. } = offered.info;
    let from = differs(wire, &offered.file, size.as_bytes(), have)?;
    let gone = content::data_within(&offered.file, 0, from).map_err(file("measure"))?;
    wire.say(&Say::Begin { size, data, from: ByteSize::bytes(from), before: ByteSize::bytes(gone) })?;
    let (sender, receiver) = sync_channel(AHEAD);
    let reading = &offered.file;
    thread::scope(|scope| {
        let reader = scope.spawn(move || read(reading, size.as_bytes(), from, gone, &sender));
        let sent = forward(wire, receiver, rate);
        // One that waits for room in the channel hears that nobody takes any more.
        let read = reader.join().map_err(|_| TransferError::Protocol("the reading thread died"))?;
        sent.and(read)
    })?;
    if offered.written()? != before {
        let message = format!("{} was written to while it was copied; is its machine running?", offered.info.role);
        wire.say(&Say::Refused { fault: Fault::new(Code::WrongState, message) })?;
        return Err(TransferError::Protocol("the file changed"));
    }
    wire.say(&Say::End)
}

/// Reads from this segment on; stops early, and without an error, when nobody takes it any more.
fn read(from: &File, size: u64, start: u64, gone: u64, to: &SyncSender<Read>) -> Result<(), TransferError> {
    let (mut buffer, mut gathering, mut passed) = (Vec::new(), Gathering::default(), gone);
    let (mut bytes, mut places) = (Vec::with_capacity(PIECE), Vec::new());
    for number in start / SEGMENT..segments(size) {
        let end = ((number + 1) * SEGMENT).min(size);
        let mut taken = true;
        let each = |offset, block: &[u8]| {
            gathering.block(offset, block);
            bytes.extend_from_slice(block);
            places.push((offset, bytes.len()));
            if bytes.len() >= PIECE {
                let piece = std::mem::replace(&mut bytes, Vec::with_capacity(PIECE));
                taken &= to.send(Read::Blocks(piece, std::mem::take(&mut places))).is_ok();
            }
            if taken { Ok(()) } else { Err(TransferError::Closed) }
        };
        match content::blocks(from, number * SEGMENT, end, &mut buffer, each, |length| passed += length) {
            Err(TransferError::Closed) => return Ok(()),
            other => other?,
        }
        if !bytes.is_empty() {
            let piece = std::mem::replace(&mut bytes, Vec::with_capacity(PIECE));
            if to.send(Read::Blocks(piece, std::mem::take(&mut places))).is_err() {
                return Ok(());
            }
        }
        if to.send(Read::Segment(number, gathering.end(), passed)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn forward(wire: &mut Wire, from: Receiver<Read>, rate: Option<ByteSize>) -> Result<(), TransferError> {
    let (begun, mut sent, mut said) = (Instant::now(), 0_u64, Instant::now());
    for read in from {
        match read {
            Read::Blocks(bytes, places) => {
                let mut at = 0;
                for (offset, end) in places {
                    wire.data(offset, &bytes[at..end])?;
                    at = end;
                }
                sent += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if let Some(pause) = ahead_of(rate, sent, begun.elapsed()) {
                    wire.flush()?;
                    wait(wire, pause)?;
                }
            }
            Read::Segment(number, digest, passed) => {
                // A long hole is gone through fast, but is many segments: what they say is gathered as well.
                wire.say(&Say::Segment { number, digest, passed: ByteSize::bytes(passed) })?;
                said = Instant::now();
            }
        }
        if said.elapsed() > STILL_HERE {
            wire.say(&Say::Wait)?;
            said = Instant::now();
        }
    }
    Ok(())
}

/// How long to wait so that not more than the rate was sent.
fn ahead_of(rate: Option<ByteSize>, sent: u64, took: Duration) -> Option<Duration> {
    let rate = u128::from(rate?.as_bytes().max(1));
    let due = u64::try_from(u128::from(sent) * 1_000_000 / rate).unwrap_or(u64::MAX);
    Duration::from_micros(due).checked_sub(took).filter(|pause| *pause > Duration::from_millis(1))
}

/// Waits, and says now and then that this is on purpose.
fn wait(wire: &mut Wire, mut pause: Duration) -> Result<(), TransferError> {
    while !pause.is_zero() {
        let step = pause.min(STILL_HERE);
        thread::sleep(step);
        pause -= step;
        wire.say(&Say::Wait)?;
    }
    Ok(())
}
