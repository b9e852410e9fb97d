//! What is refused above the gate, by kind: counted for `maglica status`, and said in the log at a bounded rate.
//!
//! Of the one who was refused only what was checked is ever logged: the fingerprint of a key, or an enrolled name.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use maglica_proto::{
    key::PublicKey,
    name::{HostName, OperatorName},
    seal::{Refusal as Word, SealError},
    transport::meter::Meter,
};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// Why something was refused. The names are those of `maglica status` and of the log.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds, in the order of the counters.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// The name in `maglica status` and in the log.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// No message of ours at all, or one that nobody may send to the client worker.
    Alien = "not-a-message",
    /// A first handshake message that was not made for the client worker's key, or is damaged.
    Handshake = "bad-handshake",
    /// A first handshake message that was accepted before.
    HandshakeAgain = "repeated-handshake",
    /// No common version of the protocol.
    Version = "version",
    /// A key that is not enrolled, or not as what it says to be.
    UnknownKey = "unknown-key",
    /// A host that waits to be let in.
    Pending = "pending",
    /// A key that was shut out.
    Revoked = "revoked",
    /// A token that is unknown, used or expired.
    Token = "bad-token",
    /// A session that there is not (any more); after a restart every peer is refused so once.
    NoSession = "no-session",
    /// A sealed message that is damaged, or was made with another key.
    Unverified = "unverified",
    /// A sealed message that was recorded in another place.
    Misplaced = "misplaced",
    /// A sealed message that came before.
    Replayed = "replayed",
    /// More than the client worker does at once, in all or for this key.
    Busy = "busy",
    /// A request that cannot be read: damaged, or of a verb that is not known or another kind of peer's.
    Unreadable = "unreadable",
    /// A verb that the asker's role does not include.
    Forbidden = "forbidden",
    /// What a host says of a job that is not its own, or has ended.
    Denied = "denied",
    /// More than a host may say: too long, too many.
    Excessive = "excessive",
}

impl Kind {
    /// Why a sealed message was not opened.
    #[must_use]
    pub const fn of(error: &SealError) -> Self {
        match error {
            SealError::Malformed(_) | SealError::TooLarge(_) | SealError::Refused(_) => Self::Alien,
            SealError::Verify { .. } | SealError::Payload(_) | SealError::Key(_) => Self::Unverified,
            SealError::Misplaced(_) => Self::Misplaced,
            SealError::Replayed(_) => Self::Replayed,
            SealError::Version { .. } => Self::Version,
        }
    }

    /// What a word of the register means.
    #[must_use]
    pub const fn word(word: Word) -> Self {
        match word {
            Word::UnknownKey => Self::UnknownKey,
            Word::Pending => Self::Pending,
            Word::Revoked => Self::Revoked,
            Word::NoSession => Self::NoSession,
            Word::Unverified => Self::Unverified,
            Word::Version => Self::Version,
            Word::Busy => Self::Busy,
        }
    }
}

/// Who was refused: nothing that a stranger wrote.
#[derive(Debug, Clone, Copy)]
pub enum Who<'a> {
    /// Somebody of whom nothing is known.
    Stranger,
    /// Who claims or has this key.
    Key(&'a PublicKey),
    /// An enrolled host.
    Host(&'a HostName),
    /// An enrolled operator.
    Operator(&'a OperatorName),
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger => f.write_str("stranger"),
            Self::Key(key) => key.fingerprint().fmt(f),
            Self::Host(name) => name.fmt(f),
            Self::Operator(name) => name.fmt(f),
        }
    }
}

/// The counters, and what keeps the log short.
#[derive(Debug)]
pub struct Refused {
    counts: [AtomicU64; Kind::ALL.len()],
    meters: Mutex<[Meter; Kind::ALL.len()]>,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            meters: Mutex::new([Meter::new(Instant::now()); Kind::ALL.len()]),
        }
    }
}

impl Refused {
    /// Counts a refusal; says it, unless many of its kind were said just now. `what` is a sentence of ours, with nothing in it
    /// that a peer wrote.
    pub fn note(&self, kind: Kind, who: Who<'_>, what: &str) {
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
        let said = self.meters.lock().unwrap_or_else(PoisonError::into_inner)[kind as usize].note(Instant::now());
        if let Some(left_out) = said {
            tracing::info!(kind = kind.name(), peer = %who, left_out, "refused: {what}");
        }
    }

    /// Says how many were counted and not said, of each kind whose time is up. To be called every few seconds.
    pub fn say_rest(&self) {
        let now = Instant::now();
        let rests: Vec<(Kind, u64)> = {
            let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
            Kind::ALL.into_iter().filter_map(|kind| Some((kind, meters[kind as usize].rest(now)?))).collect()
        };
        for (kind, left_out) in rests {
            tracing::info!(kind = kind.name(), left_out, "refused more of the same kind");
        }
    }

    /// How many were refused, by kind, since the start.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        Kind::ALL.into_iter().map(|kind| (kind.name(), self.counts[kind as usize].load(Ordering::Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_counter_and_name() {
        let refused = Refused::default();
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            refused.note(kind, Who::Stranger, "a test");
        }
        let names: std::collections::BTreeSet<_> = refused.snapshot().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(refused.snapshot().iter().all(|(_, count)| *count == 1));
    }
}
