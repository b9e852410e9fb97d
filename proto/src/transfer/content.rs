//! What a file's content is made of: blocks, of which those that are all zeros do not travel, and segments, each with a digest.
//!
//! The digest of a segment is SHA-256 over its blocks that are not all zeros, each preceded by its number in the file (8 bytes,
//! big-endian). So holes cost nothing, and two files have the same digests if and only if they read the same.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use rustix::fs::{SeekFrom, seek};
use sha2::{Digest as _, Sha256};

use super::{TransferError, file};

/// How many bytes a block has; the last one of a file may have fewer.
pub const BLOCK: usize = 32 * 1024;
/// How many bytes a segment has.
pub const SEGMENT: u64 = 64 * 1024 * 1024;
/// How much is read at once.
pub const READ: usize = 1024 * 1024;

const BLOCK_U64: u64 = 32 * 1024;
const READ_U64: u64 = 1024 * 1024;

/// A segment's digest.
pub type SegmentDigest = [u8; 32];

/// How many segments a file of this length has.
#[must_use]
pub const fn segments(size: u64) -> u64 {
    size.div_ceil(SEGMENT)
}

/// Gathers the digest of a segment.
#[derive(Default)]
pub struct Gathering(Sha256);

impl Gathering {
    /// The block at this offset, which is not all zeros. Blocks come in their order.
    pub fn block(&mut self, offset: u64, bytes: &[u8]) {
        self.0.update((offset / BLOCK_U64).to_be_bytes());
        self.0.update(bytes);
    }

    /// The digest; begins anew.
    pub fn end(&mut self) -> SegmentDigest {
        self.0.finalize_reset().into()
    }
}

/// Whether a block is all zeros.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Most blocks that are not say so in their first bytes.
    let (head, tail) = bytes.split_at(bytes.len().min(64));
    head.iter().all(|byte| *byte == 0) && tail.chunks(4096).all(|chunk| chunk.iter().fold(0, |or, byte| or | byte) == 0)
}

/// Goes through a part of a file that begins and ends at blocks: `each` gets the offset and bytes of every block that is not all
/// zeros, `passed` how much was read, in pieces. Holes are not read.
///
/// # Errors
/// What `each` says, or [`TransferError::File`].
pub fn blocks(
    from: &File,
    start: u64,
    end: u64,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), TransferError>,
    mut passed: impl FnMut(u64),
) -> Result<(), TransferError> {
    buffer.resize(READ, 0);
    let mut at = start;
    while let Some((data, hole)) = extent(from, at, end).map_err(file("read"))? {
        // In whole blocks: a block that is data in part is read as a whole.
        let mut offset = (data / BLOCK_U64 * BLOCK_U64).max(at);
        let stop = hole.div_ceil(BLOCK_U64).saturating_mul(BLOCK_U64).min(end);
        while offset < stop {
            let length = usize::try_from((stop - offset).min(READ_U64)).unwrap_or(READ);
            let piece = &mut buffer[..length];
            from.read_exact_at(piece, offset).map_err(file("read"))?;
            for (block, at) in piece.chunks(BLOCK).zip((offset..).step_by(BLOCK)) {
                if !is_zero(block) {
                    each(at, block)?;
                }
            }
            let length = u64::try_from(length).unwrap_or(READ_U64);
            passed(length);
            offset += length;
        }
        at = stop;
        if at >= end {
            break;
        }
    }
    Ok(())
}

/// The next data at or after `at`, before `end`: where it begins and ends. Files that know no holes are data as a whole.
fn extent(from: &File, at: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= end {
        return Ok(None);
    }
    let data = match seek(from, SeekFrom::Data(at)) {
        Ok(data) => data,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => return Ok(Some((at, end))),
        Err(error) => return Err(error.into()),
    };
    if data >= end {
        return Ok(None);
    }
    let hole = seek(from, SeekFrom::Hole(data))?;
    Ok(Some((data, hole.min(end))))
}

/// How much of a part of a file is data.
///
/// # Errors
/// What the system says.
pub fn data_within(from: &File, start: u64, end: u64) -> io::Result<u64> {
    let (mut at, mut sum) = (start, 0);
    while let Some((data, hole)) = extent(from, at, end)? {
        sum += hole - data;
        at = hole;
    }
    Ok(sum)
}

/// The digests of a file's segments, one after the other, as long as `wanted` takes them.
///
/// # Errors
/// [`TransferError::File`].
pub fn digests(
    from: &File,
    size: u64,
    mut wanted: impl FnMut(u64, SegmentDigest) -> Result<bool, TransferError>,
) -> Result<(), TransferError> {
    let (mut buffer, mut gathering) = (Vec::new(), Gathering::default());
    for number in 0..segments(size) {
        let start = number * SEGMENT;
        let end = (start + SEGMENT).min(size);
        let block = |offset, bytes: &[u8]| {
            gathering.block(offset, bytes);
            Ok(())
        };
        blocks(from, start, end, &mut buffer, block, |_| {})?;
        if !wanted(number, gathering.end())? {
            break;
        }
    }
    Ok(())
}
