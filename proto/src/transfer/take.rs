//! Receives files and writes them. This thread opens what comes, another one writes and digests.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::{
    TransferError,
    content::{self, BLOCK, Gathering, SEGMENT, SegmentDigest, segments},
    file,
    message::{Ask, Listed, Say},
    wire::{Came, Wire},
};
use crate::units::ByteSize;

/// How many digests one message carries.
const DIGESTS_AT_ONCE: usize = 500;
/// How many pieces wait between the two threads.
const AHEAD: usize = 4;
/// How much such a piece has.
const PIECE: usize = 1024 * 1024;

/// How far a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// How much of its data is here.
    pub done: ByteSize,
    /// How much data it has, about.
    pub total: ByteSize,
}

/// The side that takes.
pub struct Taker<'a> {
    wire: &'a mut Wire,
    /// The digests of the segments of the present file that are known to be here, in order.
    have: Vec<SegmentDigest>,
}

enum Write {
    /// Bytes that belong one after the other.
    Bytes(u64, Vec<u8>),
    Segment(u64, SegmentDigest),
}

impl<'a> Taker<'a> {
    /// Takes over this connection.
    #[must_use]
    pub const fn new(wire: &'a mut Wire) -> Self {
        Self { wire, have: Vec::new() }
    }

    /// What is there?
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn list(&mut self) -> Result<Listed, TransferError> {
        self.wire.say(&Ask::Describe)?;
        match self.wire.hear()? {
            Say::Files(listed) => Ok(listed),
            other @ (Say::Begin { .. } | Say::Segment { .. } | Say::End | Say::Wait | Say::Refused { .. }) => {
                Err(unexpected(other))
            }
        }
    }

    /// That was all.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn done(&mut self) -> Result<(), TransferError> {
        self.wire.say(&Ask::Done)
    }

    /// Fetches a file into this one, which may hold a part of it from an earlier try. When it returns, the content is that of the
    /// other side, and on the disk. `told` hears how far it is.
    ///
    /// # Errors
    /// [`TransferError`]; what is here then is kept for the next try.
    pub fn fetch(
        &mut self,
        number: u32,
        into: &File,
        rate: Option<ByteSize>,
        told: impl FnMut(Told),
    ) -> Result<(), TransferError> {
        self.have.clear();
        let length = into.metadata().map_err(file("look at"))?.len();
        content::digests(into, length, |_, digest| {
            self.have.push(digest);
            Ok(true)
        })?;
        for digests in self.have.chunks(DIGESTS_AT_ONCE) {
            self.wire.say(&Ask::Have { digests: digests.to_vec() })?;
        }
        self.wire.say(&Ask::Fetch { file: number, rate })?;
        let (size, data, from, before) = loop {
            match self.wire.hear()? {
                Say::Begin { size, data, from, before } => break (size, data, from.as_bytes(), before),
                Say::Wait => {}
                other @ (Say::Files(_) | Say::Segment { .. } | Say::End | Say::Refused { .. }) => {
                    return Err(unexpected(other));
                }
            }
        };
        let size = size.as_bytes();
        if from > size || from % SEGMENT != 0 && from != size {
            return Err(TransferError::Protocol("it begins at no segment"));
        }
        // Whatever was there from here on is made zeros, for zeros do not come.
        into.set_len(from.min(length)).map_err(file("cut"))?;
        into.set_len(size).map_err(file("make room in"))?;
        let (sender, receiver) = sync_channel(AHEAD);
        let received = thread::scope(|scope| {
            let writer = scope.spawn(move || write(into, receiver));
            let received = receive(self.wire, size, from, Told { done: before, total: data }, told, sender);
            let written = writer.join().map_err(|_| TransferError::Protocol("the writing thread died"))?;
            // One that could not write makes the other one stop, and is the reason.
            written.and(received)
        });
        received?;
        into.sync_all().map_err(file("store"))
    }
}

fn unexpected(say: Say) -> TransferError {
    match say {
        Say::Refused { fault } => TransferError::Refused(fault.into()),
        Say::Files(_) | Say::Begin { .. } | Say::Segment { .. } | Say::End | Say::Wait => {
            TransferError::Protocol("an answer to another question")
        }
    }
}

fn receive(
    wire: &mut Wire,
    size: u64,
    from: u64,
    mut state: Told,
    mut told: impl FnMut(Told),
    to: SyncSender<Write>,
) -> Result<(), TransferError> {
    let (mut piece, mut begins) = (Vec::with_capacity(PIECE), from);
    let (mut next, mut number) = (from, from / SEGMENT);
    told(state);
    // The writer says itself why it went.
    let gone = |_| TransferError::Closed;
    loop {
        match wire.receive::<Say>()? {
            Came::Data { offset, bytes } => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let end = offset.saturating_add(length);
                // Forwards only, whole blocks, and never past the segment that is under way.
                let bound = ((number + 1) * SEGMENT).min(size);
                let aligned = offset % u64::try_from(BLOCK).unwrap_or(1) == 0 && bytes.len() <= BLOCK;
                if offset < next || end > bound || !aligned {
                    return Err(TransferError::Protocol("content out of its place"));
                }
                if piece.len() >= PIECE || (offset != next && !piece.is_empty()) {
                    let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
                    to.send(Write::Bytes(begins, full)).map_err(gone)?;
                    told(state);
                }
                if piece.is_empty() {
                    begins = offset;
                }
                piece.extend_from_slice(bytes);
                state.done = state.done.plus(ByteSize::bytes(length)).min(state.total.max(state.done));
                next = end;
            }
            Came::Message(Say::Segment { number: said, digest, passed }) if said == number => {
                if !piece.is_empty() {
                    let rest = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
                    to.send(Write::Bytes(begins, rest)).map_err(gone)?;
                }
                to.send(Write::Segment(number, digest)).map_err(gone)?;
                number += 1;
                next = (number * SEGMENT).min(size);
                state.done = passed.min(state.total);
                told(state);
            }
            Came::Message(Say::Wait) => told(state),
            Came::Message(Say::End) if number == segments(size) => return Ok(()),
            Came::Message(Say::Segment { .. } | Say::End) => {
                return Err(TransferError::Protocol("a segment is missing"));
            }
            Came::Message(other @ (Say::Files(_) | Say::Begin { .. } | Say::Refused { .. })) => {
                return Err(unexpected(other));
            }
        }
    }
}

fn write(into: &File, from: Receiver<Write>) -> Result<(), TransferError> {
    let mut gathering = Gathering::default();
    for write in from {
        match write {
            Write::Bytes(offset, bytes) => {
                for (block, at) in bytes.chunks(BLOCK).zip((offset..).step_by(BLOCK)) {
                    gathering.block(at, block);
                }
                into.write_all_at(&bytes, offset).map_err(file("write"))?;
            }
            Write::Segment(number, digest) => {
                if gathering.end() != digest {
                    return Err(TransferError::Digest(number));
                }
            }
        }
    }
    Ok(())
}
