//! One connection between an untrusted TCP peer and our own `zeromq` socket: handshakes on both sides, then the pump.
//!
//! ```text
//! peer ═TCP═ [outer handshake, our identity never shown] pump ═ whole messages ═ [inner handshake, fresh identity] ═unix═ zeromq
//! ```
//! Where we dial, each connection has a socket of its own behind it; at the gate all share one way to it.
//!
//!
//! Owns time limits and socket options. Which messages pass is decided in [`super::rules`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::bucket::{Rate, SharedBucket};
use super::budget::Share;
use super::pump::Pump;
use super::rules::{Role, RuleLimits};
use super::zmtp::{Decoder, Handshake, Limits, Violation, encode_ready, greeting};

/// Length of the identity that stands for a peer towards our own socket.
pub const IDENTITY_LEN: usize = 16;

/// A name for one connection towards our own socket; the peer cannot choose it.
pub type Identity = [u8; IDENTITY_LEN];

/// A fresh identity that nobody can guess.
///
/// # Errors
/// When the system gives no randomness.
pub fn fresh_identity() -> io::Result<Identity> {
    let mut identity = [0; IDENTITY_LEN];
    getrandom::fill(&mut identity).map_err(io::Error::other)?;
    // ZMTP keeps identities that begin with zero for itself.
    identity[0] |= 1;
    Ok(identity)
}

/// Everything that bounds one connection.
#[derive(Debug, Clone, Copy)]
pub struct ForwardLimits {
    /// Greeting and READY must be whole within this time.
    pub handshake: Duration,
    /// A message must be whole this long after its first byte.
    pub message: Duration,
    /// A peer that takes no byte for this long is closed.
    pub stall: Duration,
    /// A peer with nothing under way is closed after this long; `None` keeps it.
    pub idle: Option<Duration>,
    /// Bytes waiting for a slow peer; above it, the peer is closed rather than messages skipped.
    pub max_backlog: usize,
    /// Messages and commands per connection; a faster peer is read more slowly.
    pub rate: Rate,
    /// Bounds on frames and messages.
    pub zmtp: Limits,
    /// Bounds on the conversation.
    pub rules: RuleLimits,
}

impl Default for ForwardLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            message: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            // A host worker speaks every 5 s; a long poll is under way for 25 s and does not count as silence.
            idle: Some(Duration::from_secs(120)),
            // All answers a peer can have asked for, at their largest.
            max_backlog: 9 * super::zmtp::MAX_MESSAGE,
            // Measured: 16 clients together make 38,000 round trips a second.
            rate: Rate { per_second: 10_000.0, burst: 10_000.0 },
            zmtp: Limits::default(),
            rules: RuleLimits::default(),
        }
    }
}

/// Why a connection was ended by us.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// The peer broke the protocol or a limit of it.
    #[error("peer broke the protocol")]
    Violation(#[from] Violation),
    /// Greeting or READY did not come in time.
    #[error("no complete handshake within {0:?}")]
    HandshakeTimeout(Duration),
    /// The peer left before the end of its handshake.
    #[error("closed during the handshake")]
    HandshakeClosed,
    /// A message was begun and not finished in time.
    #[error("message not complete within {0:?}")]
    MessageTimeout(Duration),
    /// The peer left in the middle of a message.
    #[error("closed in the middle of a message")]
    Truncated,
    /// The peer takes no bytes.
    #[error("peer took no bytes for {0:?}")]
    Stalled(Duration),
    /// More waits for the peer than allowed.
    #[error("{0} bytes waiting for a slow peer")]
    Backlog(usize),
    /// All connections together hold more memory than allowed.
    #[error("memory for messages under way is used up")]
    Budget,
    /// The peer has been silent with nothing under way.
    #[error("silent for {0:?} with nothing under way")]
    Idle(Duration),
    /// The connection to the peer failed.
    #[error("connection to the peer failed")]
    Outer(#[source] io::Error),
    /// Our own socket did not speak as it should.
    #[error("own socket failed")]
    Inner(#[source] io::Error),
}

/// What several connections share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Memory of the whole gate.
    pub memory: Option<Share>,
    /// Messages of the peer's address.
    pub address_rate: Option<Arc<SharedBucket>>,
}

/// Silence after which TCP probes a peer.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// Time between two probes; three unanswered ones end the connection.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// Sent bytes may stay unacknowledged this long: as long as a silent peer is kept.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Sets nodelay, keepalive and `TCP_USER_TIMEOUT`.
///
/// # Errors
/// Those of the system calls; the peer may be gone already.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(
        &socket2::TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY)
            .with_retries(KEEPALIVE_PROBES),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// An outer connection whose peer has shown that it speaks ZMTP and is of the right type.
#[derive(Debug)]
pub struct Admitted {
    pub(super) stream: TcpStream,
    pub(super) decoder: Decoder,
    pub(super) role: Role,
}

/// Does the handshake with the untrusted side.
///
/// # Errors
/// Every way in which the peer can fail it; the connection is dropped.
pub async fn admit(mut stream: TcpStream, role: Role, limits: &ForwardLimits) -> Result<Admitted, ForwardError> {
    tune(&stream).map_err(ForwardError::Outer)?;
    let ready = encode_ready(role.shown_outside(), None);
    let work = exchange(&mut stream, &ready, limits.zmtp, role.accepts());
    let decoder = timeout(limits.handshake, work)
        .await
        .map_err(|_| ForwardError::HandshakeTimeout(limits.handshake))?
        .map_err(|e| match e {
            Exchange::Closed => ForwardError::HandshakeClosed,
            Exchange::Violation(v) => ForwardError::Violation(v),
            Exchange::Io(e) => ForwardError::Outer(e),
        })?;
    Ok(Admitted { stream, decoder, role })
}

/// Forwards between a peer and the stream of whole messages `inner` until one side ends. `name` stands before each message that
/// goes inside.
///
/// # Errors
/// Why we ended the connection; `Ok` when one side closed it between two messages.
pub async fn forward<S: AsyncRead + AsyncWrite + Unpin>(
    outer: Admitted,
    inner: S,
    from_inner: Decoder,
    name: Bytes,
    limits: &ForwardLimits,
    shared: Shared,
) -> Result<(), ForwardError> {
    Pump::new(outer, inner, from_inner, name, limits, shared).run().await
}

/// Does the handshake with our own socket under `identity`, in the place of a peer of this role.
///
/// # Errors
/// Our own socket does not speak as it should.
pub async fn introduce(
    mut inner: UnixStream,
    role: Role,
    identity: &Identity,
    limits: &ForwardLimits,
) -> Result<(UnixStream, Decoder), ForwardError> {
    let ready = encode_ready(role.shown_inside(), Some(identity));
    // Our own sockets are known, their type need not be checked.
    let work = exchange(&mut inner, &ready, limits.zmtp, &[]);
    let decoder = timeout(limits.handshake, work)
        .await
        .map_err(|_| ForwardError::Inner(io::ErrorKind::TimedOut.into()))?
        .map_err(|e| match e {
            Exchange::Closed => ForwardError::Inner(io::ErrorKind::UnexpectedEof.into()),
            Exchange::Violation(v) => ForwardError::Inner(io::Error::other(v)),
            Exchange::Io(e) => ForwardError::Inner(e),
        })?;
    Ok((inner, decoder))
}

enum Exchange {
    Closed,
    Violation(Violation),
    Io(io::Error),
}

/// Sends greeting and READY in one write, then reads the other side's. `accepts` empty: any socket type.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    ready: &[u8],
    limits: Limits,
    accepts: &[&[u8]],
) -> Result<Decoder, Exchange> {
    let mut hello = BytesMut::with_capacity(128);
    hello.extend_from_slice(&greeting());
    hello.extend_from_slice(ready);
    stream.write_all(&hello).await.map_err(Exchange::Io)?;
    let mut handshake = Handshake::new(limits);
    loop {
        if let Some(peer) = handshake.advance().map_err(Exchange::Violation)? {
            if accepts.is_empty() || accepts.contains(&peer.socket_type.as_slice()) {
                return Ok(handshake.into_decoder());
            }
            return Err(Exchange::Violation(Violation::SocketType));
        }
        let read = stream.read_buf(handshake.decoder().space()).await;
        if read.map_err(Exchange::Io)? == 0 {
            return Err(Exchange::Closed);
        }
    }
}
