//! Dialling out, and the checks both ends put in front of their `zeromq` sockets.
//!
//! The `zeromq` crate aborts on a claimed length, has no limits and no time-outs, so none of its sockets ever sees TCP: they speak
//! over unix sockets, and what is here forwards only whole, bounded, well-formed messages between the two.
//!
//! | file | owns |
//! | --- | --- |
//! | [`zmtp`] | greeting, READY and frames; pure |
//! | [`rules`] | which whole messages belong on which port; pure |
//! | [`bucket`], [`budget`] | how many messages, how much memory |
//! | [`meter`] | how often what strangers cause is said in a log; pure |
//! | [`forward`] | one connection: handshakes on both sides, pump, time limits |
//! | [`dial`] | resolving, connecting, the private unix socket of a dialled connection |
//! | [`Requester`], [`Subscriber`] | what host worker and CLI use |
//! | [`SealedRequester`] | the same with a sealed session: handshake, questions, answers |
//! | [`backoff`] | pauses between tries |
//!
//! Not here: listening (the client worker's gate), retries.

pub mod backoff;
pub mod bucket;
pub mod budget;
pub mod dial;
pub mod forward;
pub mod meter;
mod pump;
mod requester;
pub mod rules;
mod sealed;
mod subscriber;
pub mod zmtp;

pub use dial::{DialLimits, TransportError};
pub use requester::Requester;
pub use sealed::{SealedError, SealedRequester};
pub use subscriber::Subscriber;
