//! What the gate let in and what it refused, by kind. Counts only grow until the process ends, `open` excepted.

use std::sync::atomic::{AtomicU64, Ordering};

use maglica_proto::transport::forward::ForwardError;
use maglica_proto::transport::zmtp::Violation;

/// Why a connection was refused or ended by us. The names are those of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `accept` failed, most often for want of file descriptors.
    AcceptFailed,
    /// Not in the allow list.
    NotAllowed,
    /// Too many connections in all.
    TotalLimit,
    /// Too many connections of this address.
    AddressLimit,
    /// Not ZMTP 3 with NULL, or a socket type that does not belong here.
    Handshake,
    /// Greeting and READY did not come in time.
    HandshakeTimeout,
    /// Left before the end of the handshake.
    HandshakeClosed,
    /// Reserved bits or an unexpected command.
    Framing,
    /// Frame, number of frames or message above the limit.
    TooLarge,
    /// A message that is not of this port's form.
    Envelope,
    /// More requests than a REQ socket can have.
    OutOfStep,
    /// Empty, over-long or too many subscriptions.
    Subscription,
    /// A message was not finished in time.
    MessageTimeout,
    /// Left in the middle of a message.
    Truncated,
    /// Took no bytes.
    Stalled,
    /// Took too few bytes.
    Backlog,
    /// No memory left for messages under way.
    Memory,
    /// Silent with nothing under way.
    Idle,
    /// The connection failed.
    Lost,
    /// Our own socket failed.
    Inner,
    /// Dropped at the bus's wish.
    Kicked,
    /// It had proven nothing, and a newcomer needed its place.
    Displaced,
}

impl Refusal {
    /// All kinds, in the order of the counters.
    pub const ALL: [Self; 22] = [
        Self::AcceptFailed,
        Self::NotAllowed,
        Self::TotalLimit,
        Self::AddressLimit,
        Self::Handshake,
        Self::HandshakeTimeout,
        Self::HandshakeClosed,
        Self::Framing,
        Self::TooLarge,
        Self::Envelope,
        Self::OutOfStep,
        Self::Subscription,
        Self::MessageTimeout,
        Self::Truncated,
        Self::Stalled,
        Self::Backlog,
        Self::Memory,
        Self::Idle,
        Self::Lost,
        Self::Inner,
        Self::Kicked,
        Self::Displaced,
    ];

    /// Whether honest peers end like this every day: a port scan, a command that was interrupted, a machine switched off.
    #[must_use]
    pub const fn is_ordinary(self) -> bool {
        matches!(self, Self::HandshakeClosed | Self::Idle | Self::Lost)
    }

    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcceptFailed => "accept-failed",
            Self::NotAllowed => "not-allowed",
            Self::TotalLimit => "total-limit",
            Self::AddressLimit => "address-limit",
            Self::Handshake => "handshake",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::HandshakeClosed => "handshake-closed",
            Self::Framing => "framing",
            Self::TooLarge => "too-large",
            Self::Envelope => "envelope",
            Self::OutOfStep => "out-of-step",
            Self::Subscription => "subscription",
            Self::MessageTimeout => "message-timeout",
            Self::Truncated => "truncated",
            Self::Stalled => "stalled",
            Self::Backlog => "backlog",
            Self::Memory => "memory",
            Self::Idle => "idle",
            Self::Lost => "lost",
            Self::Inner => "inner",
            Self::Kicked => "kicked",
            Self::Displaced => "displaced",
        }
    }
}

impl From<&ForwardError> for Refusal {
    fn from(error: &ForwardError) -> Self {
        match error {
            ForwardError::Violation(violation) => match violation {
                Violation::Signature
                | Violation::Version(_)
                | Violation::Mechanism
                | Violation::Ready
                | Violation::SocketType => Self::Handshake,
                Violation::Flags(_) | Violation::Command => Self::Framing,
                Violation::FrameTooBig(_) | Violation::TooManyFrames | Violation::MessageTooBig => Self::TooLarge,
                Violation::Envelope => Self::Envelope,
                Violation::OutOfStep => Self::OutOfStep,
                Violation::Subscription => Self::Subscription,
            },
            ForwardError::HandshakeTimeout(_) => Self::HandshakeTimeout,
            ForwardError::HandshakeClosed => Self::HandshakeClosed,
            ForwardError::MessageTimeout(_) => Self::MessageTimeout,
            ForwardError::Truncated => Self::Truncated,
            ForwardError::Stalled(_) => Self::Stalled,
            ForwardError::Backlog(_) => Self::Backlog,
            ForwardError::Budget => Self::Memory,
            ForwardError::Idle(_) => Self::Idle,
            ForwardError::Outer(_) => Self::Lost,
            ForwardError::Inner(_) => Self::Inner,
        }
    }
}

/// Live counters of one gate.
#[derive(Debug, Default)]
pub struct GateCounters {
    accepted: AtomicU64,
    open: AtomicU64,
    closed: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSnapshot {
    /// Connections that came past the caps.
    pub accepted: u64,
    /// Connections open now, those in their handshake included.
    pub open: u64,
    /// Connections that their peer or our own socket closed in good order.
    pub closed: u64,
    /// How many were refused, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
}

impl GateCounters {
    pub(super) fn opened(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn gone(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> GateSnapshot {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GateSnapshot {
            accepted: load(&self.accepted),
            open: load(&self.open),
            closed: load(&self.closed),
            refused: std::array::from_fn(|index| load(&self.refused[index])),
        }
    }
}

impl GateSnapshot {
    /// How many were refused for this reason.
    #[must_use]
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_counter_and_name() {
        let counters = GateCounters::default();
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
            counters.refused(refusal);
        }
        assert_eq!(counters.snapshot().refused, [1; Refusal::ALL.len()]);
        let names: std::collections::HashSet<_> = Refusal::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
