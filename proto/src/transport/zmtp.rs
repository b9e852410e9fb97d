//! ZMTP 3.x without I/O: what may arrive on a connection before anybody is authenticated.
//!
//! Owns the greeting, the READY command, framing and their bounds. Knows nothing of sockets, clocks or of what the payload means;
//! which whole messages are allowed on which port is decided in [`super::rules`].
//!
//! ```text
//! bytes ─▶ Handshake: greeting ─▶ READY ─▶ Decoder: whole messages and commands, or one Violation and the end
//! ```
//!
//! Nothing here allocates by a length that a peer claims: buffers grow only as bytes arrive.
//! Source: ZeroMQ RFC 23 (ZMTP 3.0) and RFC 37 (ZMTP 3.1).

mod command;
mod frames;
mod handshake;
#[cfg(test)]
mod tests;

pub use command::{Command, encode_pong, encode_ready};
pub use frames::{Decoder, Item, Message, encode_message};
pub use handshake::{GREETING_LEN, Handshake, Ready, greeting};

use thiserror::Error;

/// Bounds on what one peer may send. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of one message frame.
    pub max_frame: usize,
    /// Most frames in one message.
    pub max_frames: usize,
    /// Largest whole message, frame headers included.
    pub max_message: usize,
    /// Largest body of a command frame (READY, PING, SUBSCRIBE).
    pub max_command: usize,
    /// Most properties in a READY command.
    pub max_properties: usize,
}

/// 1 MiB is the largest sealed body; the slack covers the clear header, the topic and the frame headers.
pub const MAX_MESSAGE: usize = (1 << 20) + 4096;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: MAX_MESSAGE,
            max_frames: 4,
            max_message: MAX_MESSAGE + 64,
            // READY of every known implementation is under 100 bytes; an identity may add 255.
            max_command: 512,
            max_properties: 16,
        }
    }
}

/// What a peer did that ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// The first bytes are not a ZMTP signature.
    #[error("not a ZMTP greeting")]
    Signature,
    /// An older protocol than ZMTP 3.0.
    #[error("ZMTP version {0} is older than 3")]
    Version(u8),
    /// Another security mechanism than NULL.
    #[error("security mechanism is not NULL")]
    Mechanism,
    /// The handshake's command is not a well-formed READY.
    #[error("malformed READY command")]
    Ready,
    /// READY names a socket type that does not belong on this port.
    #[error("socket type does not belong on this port")]
    SocketType,
    /// A reserved bit of a frame's flags is set, or a command says that more follows.
    #[error("reserved bits in frame flags {0:#04x}")]
    Flags(u8),
    /// A frame claims to be longer than allowed.
    #[error("frame of {0} bytes is above the limit")]
    FrameTooBig(u64),
    /// A message has more frames than allowed.
    #[error("more frames in a message than allowed")]
    TooManyFrames,
    /// A whole message is longer than allowed.
    #[error("message is above the limit")]
    MessageTooBig,
    /// A command that is not expected here, or a malformed one.
    #[error("unexpected or malformed command")]
    Command,
    /// A whole message that does not have the form this port speaks.
    #[error("message does not have the form of this port")]
    Envelope,
    /// More requests on the way than a REQ socket can have, or an answer nobody asked for.
    #[error("request and answer out of step")]
    OutOfStep,
    /// An empty or over-long subscription, or too many of them.
    #[error("subscription not allowed")]
    Subscription,
}
