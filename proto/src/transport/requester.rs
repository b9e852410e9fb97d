//! Questions to the client worker: one at a time, each answered once or failed with a reason.
//!
//! ```text
//! no connection ──request──▶ connected ──answer──▶ connected
//!       ▲                        │ error, time-out, dropped future
//!       └────────────────────────┘
//! ```
//!
//! A REQ socket that missed one answer is of no use any more, so it is dropped and the next call makes a new one. Nothing is repeated
//! here: whoever asks knows whether a question may be asked twice.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;
use zeromq::{ReqSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use super::dial::{DialLimits, Link, TransportError};
use super::rules::Role;

/// Asks one address.
pub struct Requester {
    addr: String,
    run_dir: Option<PathBuf>,
    limits: DialLimits,
    connection: Option<Connection>,
}

struct Connection {
    socket: ReqSocket,
    link: Link,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requester")
            .field("addr", &self.addr)
            .field("connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

impl Requester {
    /// A requester for `addr` ("host:port"); nothing is dialled yet. The private folder of a connection is made in `run_dir`,
    /// without it in the system's folder for temporary files.
    #[must_use]
    pub fn new(addr: String, run_dir: Option<PathBuf>, limits: DialLimits) -> Self {
        Self { addr, run_dir, limits, connection: None }
    }

    /// The address asked.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Sends `payload` and waits for the answer; dialling is part of `limit`.
    ///
    /// # Errors
    /// Each [`TransportError`] names the address. After one, the question may or may not have been received.
    pub async fn request(&mut self, payload: Vec<u8>, limit: Duration) -> Result<Vec<u8>, TransportError> {
        let most = self.limits.forward.zmtp.max_frame;
        if payload.len() > most {
            return Err(TransportError::TooLarge { addr: self.addr.clone(), size: payload.len(), limit: most });
        }
        // Taken out: when this future is dropped half-way, the socket goes with it.
        let kept = self.connection.take().filter(|c| !c.link.is_over());
        let (connection, answer) = timeout(limit, self.ask(kept, payload))
            .await
            .map_err(|_| TransportError::NoAnswer { addr: self.addr.clone(), waited: limit })??;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn ask(&self, kept: Option<Connection>, payload: Vec<u8>) -> Result<(Connection, Vec<u8>), TransportError> {
        let Connection { mut socket, link } = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        if let Err(error) = socket.send(ZmqMessage::from(payload)).await {
            return Err(link.reason(error).await);
        }
        let answer = match socket.recv().await {
            Ok(answer) => answer,
            Err(error) => return Err(link.reason(error).await),
        };
        // The forwarder let only [empty][payload] through, and the socket took the delimiter off.
        let payload = answer.into_vecdeque().pop_back().unwrap_or_default();
        Ok((Connection { socket, link }, payload.into()))
    }

    async fn connect(&self) -> Result<Connection, TransportError> {
        let run_dir = self.run_dir.as_deref();
        let mut link = Link::dial(&self.addr, Role::Answerer, run_dir, &self.limits).await?;
        let mut socket = ReqSocket::new();
        if let Err(error) = socket.connect(link.endpoint()).await {
            return Err(link.reason(error).await);
        }
        link.connected();
        Ok(Connection { socket, link })
    }
}
