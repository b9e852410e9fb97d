//! Sealing: a Noise session between the client worker and each of its peers.
//!
//! The peer (host worker or CLI) is the initiator and knows the client worker's public key beforehand; one round trip
//! of [`handshake`] gives both a [`Session`], in which every message has a clear [`Header`], the same header again
//! inside, and a counter that is the nonce and is accepted once ([`window`]). Joining by token adds the token as a
//! pre-shared key to the same handshake. What a stranger hears is one [`Refusal`] word.
//!
//! Nothing here decides who may do what: a session only says whose key is at the other end.

pub mod handshake;
pub mod header;
pub mod session;
pub mod window;

pub use handshake::{Hello, Initiator, PeerKind, Responder, Welcome};
pub use header::{Header, Kind, Refusal, SessionId, beat, refusal};
pub use session::{MAX_BODY, MAX_SEALED, Opened, Session};

use snow::{
    params::DHChoice,
    resolvers::{CryptoResolver, DefaultResolver},
};

/// A handshake or a message that is not to be believed, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not our protocol, or another version's outer form.
    #[error("not a Maglica message: {0}")]
    Malformed(&'static str),
    /// The other side refused in a word.
    #[error("the client worker refused: {0}")]
    Refused(Refusal),
    /// The bytes are not from the key they should be from, or were changed on the way.
    #[error("cannot verify a {what}")]
    Verify {
        /// What it was to be.
        what: &'static str,
        /// Noise's own word.
        #[source]
        source: snow::Error,
    },
    /// The inside does not say what the outside says.
    #[error("a sealed message was recorded elsewhere: {0}")]
    Misplaced(&'static str),
    /// This counter was accepted before, or is too old to tell.
    #[error("a sealed message came a second time (counter {0})")]
    Replayed(u64),
    /// Too large to be sent as one message.
    #[error("a message of {0} bytes is over the limit of {MAX_BODY}")]
    TooLarge(usize),
    /// No protocol version that both speak.
    #[error("the other side speaks protocol versions {min} to {max}, this one {ours}")]
    Version {
        /// The other side's oldest.
        min: u8,
        /// The other side's newest.
        max: u8,
        /// Ours.
        ours: u8,
    },
    /// The payload of a handshake could not be read or written.
    #[error("the payload of a handshake is not understood")]
    Payload(#[source] crate::codec::CodecError),
    /// A token's key is not one.
    #[error(transparent)]
    Key(#[from] crate::key::InvalidKey),
}

/// The public half of a private key; none only if the crypto is not built in.
pub(crate) fn public_of(private: &[u8; 32]) -> Option<crate::key::PublicKey> {
    let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519)?;
    dh.set(private);
    dh.pubkey().try_into().ok().map(crate::key::PublicKey::from_bytes)
}
