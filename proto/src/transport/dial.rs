//! A dialled connection: name, TCP, outer handshake, and the private unix socket through which our own `zeromq` socket reaches it.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use thiserror::Error;
use tokio::net::{TcpStream, UnixListener, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::forward::{ForwardError, ForwardLimits, Shared, admit, forward, fresh_identity, introduce};
use super::rules::Role;

/// Bounds of a dialled connection.
#[derive(Debug, Clone, Copy)]
pub struct DialLimits {
    /// Resolving the name and connecting, all addresses of the name together.
    pub connect: Duration,
    /// The connection itself.
    pub forward: ForwardLimits,
}

impl Default for DialLimits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), forward: ForwardLimits::default() }
    }
}

/// Why nothing came back from `addr`.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The host name has no address.
    #[error("cannot resolve {addr}")]
    Unresolvable {
        /// `host:port` as configured.
        addr: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// Nobody listens there.
    #[error("connection refused by {addr}")]
    Refused {
        /// `host:port` as configured.
        addr: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection could not be made for another reason.
    #[error("cannot connect to {addr}")]
    Unreachable {
        /// `host:port` as configured.
        addr: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from {addr} within {waited:?}")]
    NoAnswer {
        /// `host:port` as configured.
        addr: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The other side closed the connection.
    #[error("{addr} closed the connection")]
    Closed {
        /// `host:port` as configured.
        addr: String,
    },
    /// What listens there does not speak as it should.
    #[error("protocol violation by {addr}")]
    Protocol {
        /// `host:port` as configured.
        addr: String,
        /// What was wrong.
        #[source]
        source: ForwardError,
    },
    /// The payload is above the limit and was not sent.
    #[error("{size} bytes for {addr} are above the limit of {limit}")]
    TooLarge {
        /// `host:port` as configured.
        addr: String,
        /// Bytes to be sent.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A subscription that cannot be made; nothing was connected.
    #[error("cannot subscribe to topic {topic:?} of {addr}")]
    Topic {
        /// `host:port` as configured.
        addr: String,
        /// The topic, lossily.
        topic: String,
    },
    /// Something on this machine failed.
    #[error("{doing} for the connection to {addr}")]
    Local {
        /// `host:port` as configured.
        addr: String,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A connection whose outer handshake is done, waiting for or carrying our own socket.
pub(super) struct Link {
    addr: String,
    endpoint: String,
    /// Removed as soon as our own socket is connected: nothing is left behind even after a crash.
    dir: Option<TempDir>,
    /// `None` once its end has been reported.
    task: Option<JoinHandle<Result<(), ForwardError>>>,
}

/// How long a closed connection may take to say why.
const REASON_WAIT: Duration = Duration::from_millis(200);

impl Link {
    /// Dials `addr` ("host:port"); the private folder is made in `run_dir` or in the system's folder for temporary files.
    pub(super) async fn dial(
        addr: &str,
        role: Role,
        run_dir: Option<&Path>,
        limits: &DialLimits,
    ) -> Result<Self, TransportError> {
        let stream = timeout(limits.connect, connect(addr))
            .await
            .map_err(|_| TransportError::NoAnswer { addr: addr.to_owned(), waited: limits.connect })??;
        let admitted = admit(stream, role, &limits.forward).await.map_err(|e| classify(addr, e))?;
        let local = |doing| move |source| TransportError::Local { addr: addr.to_owned(), doing, source };
        let identity = fresh_identity().map_err(local("making an identity"))?;
        let dir = private_dir(run_dir).map_err(local("making a private folder"))?;
        let path = dir.path().join("zmq");
        let endpoint = format!("ipc://{}", path.display());
        let listener = UnixListener::bind(&path).map_err(local("listening on a private unix socket"))?;
        let limits = limits.forward;
        let task = tokio::spawn(async move {
            let (inner, _) = timeout(limits.handshake, listener.accept())
                .await
                .map_err(|_| ForwardError::Inner(io::ErrorKind::TimedOut.into()))?
                .map_err(ForwardError::Inner)?;
            drop(listener);
            let (inner, decoder) = introduce(inner, role, &identity, &limits).await?;
            forward(admitted, inner, decoder, Bytes::new(), &limits, Shared::default()).await
        });
        Ok(Self { addr: addr.to_owned(), endpoint, dir: Some(dir), task: Some(task) })
    }

    /// What our own socket connects to.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Our own socket is connected: the path is not needed any more.
    pub(super) fn connected(&mut self) {
        self.dir = None;
    }

    /// Whether the connection has ended.
    pub(super) fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end of the connection and says why. Cancel-safe.
    pub(super) async fn ended(&mut self) -> TransportError {
        let end = match &mut self.task {
            Some(task) => task.await,
            None => Ok(Ok(())),
        };
        self.task = None;
        match end {
            Ok(Ok(())) => TransportError::Closed { addr: self.addr.clone() },
            Ok(Err(error)) => classify(&self.addr, error),
            Err(error) => {
                TransportError::Local { addr: self.addr.clone(), doing: "forwarding", source: io::Error::other(error) }
            }
        }
    }

    /// Why our own socket failed: most often because the connection behind it ended.
    pub(super) async fn reason(mut self, error: zeromq::ZmqError) -> TransportError {
        match timeout(REASON_WAIT, self.ended()).await {
            Ok(reason) => reason,
            Err(_) => TransportError::Local {
                addr: self.addr.clone(),
                doing: "using the own zeromq socket",
                source: io::Error::other(error),
            },
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn private_dir(run_dir: Option<&Path>) -> io::Result<TempDir> {
    let parent = run_dir.map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new().prefix("maglica-").permissions(std::fs::Permissions::from_mode(0o700)).tempdir_in(parent)
}

async fn connect(addr: &str) -> Result<TcpStream, TransportError> {
    let unresolvable = |source| TransportError::Unresolvable { addr: addr.to_owned(), source };
    // An address needs no resolver, and so no thread.
    let candidates = match addr.parse::<SocketAddr>() {
        Ok(address) => vec![address],
        Err(_) => lookup_host(addr).await.map_err(unresolvable)?.collect(),
    };
    let mut last = None;
    for address in candidates {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let Some(source) = last else {
        return Err(unresolvable(io::ErrorKind::NotFound.into()));
    };
    let addr = addr.to_owned();
    if source.kind() == io::ErrorKind::ConnectionRefused {
        return Err(TransportError::Refused { addr, source });
    }
    Err(TransportError::Unreachable { addr, source })
}

/// How the end of the connection looks to the one who dialled.
fn classify(addr: &str, error: ForwardError) -> TransportError {
    let addr = addr.to_owned();
    match error {
        ForwardError::Violation(_) | ForwardError::Truncated | ForwardError::MessageTimeout(_) => {
            TransportError::Protocol { addr, source: error }
        }
        ForwardError::HandshakeTimeout(waited) | ForwardError::Stalled(waited) => {
            TransportError::NoAnswer { addr, waited }
        }
        // A gate that has no room for us closes before or after its greeting.
        ForwardError::HandshakeClosed | ForwardError::Outer(_) | ForwardError::Idle(_) => {
            TransportError::Closed { addr }
        }
        ForwardError::Inner(source) => TransportError::Local { addr, doing: "forwarding", source },
        ForwardError::Backlog(_) | ForwardError::Budget => {
            TransportError::Local { addr, doing: "forwarding", source: io::Error::other(error) }
        }
    }
}
