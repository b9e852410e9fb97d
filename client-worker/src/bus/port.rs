//! The raw `zeromq` sockets of the client worker: a ROUTER that answers REQ peers, and a PUB. Frames are opaque here.
//!
//! Both bind unix sockets in a folder that only this user can enter; the gate is the only one who connects.
//!
//! What is known of `zeromq` 0.7 and dealt with here: a REP socket is blocked by one peer that does not read and turns in circles on a
//! truncated frame, hence ROUTER; ROUTER's `send` waits while a peer's queue is full, hence it is never awaited; `bind` fails on a stale
//! socket file, and the end of a socket removes its file later, even if by then it is a new socket's.
//!
//! **Each socket has a thread of its own.** `zeromq` takes the locks of its list of peers in two ways: some callers wait for them as
//! futures, others block their thread. A lock that is handed to a future while all threads of the runtime block on it is never taken
//! nor given back: peers that came and went while others were answered stopped the whole client worker. On one thread nothing of
//! that list is ever contended.

use std::future::Future;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use zeromq::{
    RouterRecvHalf, RouterSendHalf, RouterSocket, Socket, SocketRecv, SocketSend, ZmqError, ZmqMessage, ZmqResult,
};

use super::topics::Topics;

/// `sun_path` of Linux holds 108 bytes, the last of which is zero.
const MAX_PATH: usize = 107;
/// Room for what is appended to the name while a socket is being bound: a dot, a process id, a dash and a number.
const BINDING_SUFFIX: usize = 20;
/// Makes the name under which a socket is bound its own within the process.
static BINDINGS: AtomicU32 = AtomicU32::new(0);
/// Requests that may wait between the socket's thread and whoever serves them; beyond it the socket is not read.
const REQUESTS: usize = 1024;
/// Broadcasts that may wait for the socket's thread; beyond it the publisher waits.
const BROADCASTS: usize = 1024;
/// The gate, the connection, delimiter, payload.
const REQUEST_FRAMES: usize = 4;
/// The gate, the connection, what it says of a subscription.
const WORD_FRAMES: usize = 3;

/// Why a socket could not be bound or used.
#[derive(Debug, Error)]
pub enum PortError {
    /// The path does not fit into a unix address.
    #[error("socket path {path} has {len} bytes, at most {most} fit")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
        /// What fits.
        most: usize,
    },
    /// Others could enter the folder of the socket.
    #[error("folder {path} of the socket must be for its owner only (0700), it is {mode:04o}")]
    FolderOpen {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A system call failed.
    #[error("cannot bind socket {path}")]
    Bind {
        /// The path of the socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The `zeromq` socket failed.
    #[error("socket {path} failed")]
    Socket {
        /// The path of the socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<ZmqError>,
    },
    /// Its thread is gone.
    #[error("the thread of socket {path} has ended")]
    Ended {
        /// The path of the socket.
        path: PathBuf,
    },
}

/// Runs this on a thread of its own, until it ends.
fn on_own_thread<F: Future<Output = ()>>(name: &str, work: impl FnOnce() -> F + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work())).map(drop)
}

/// Asks for something now; `None` if it would have to be waited for, and it is then given up.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Who asked: goes back unchanged with the answer. One connection, not one person.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The gate's own connection, by which it comes.
    gate: Bytes,
    connection: Bytes,
}

impl Peer {
    #[cfg(test)]
    pub(super) fn of(connection: &'static str) -> Self {
        Self { gate: Bytes::from_static(b"gate"), connection: Bytes::from_static(connection.as_bytes()) }
    }

    /// The identity the gate gave to the connection, to be kicked by.
    #[must_use]
    pub fn identity(&self) -> &[u8] {
        &self.connection
    }
}

/// The receiving half of port 5556.
pub struct RepPort {
    requests: mpsc::Receiver<ZmqResult<(Peer, Bytes)>>,
    replier: RepReplier,
    malformed: Arc<AtomicU64>,
    file: SocketFile,
}

impl RepPort {
    /// Binds at `path`, in a folder that must be 0700; a stale file there is replaced.
    ///
    /// # Errors
    /// [`PortError`], each with the path.
    pub async fn bind(path: &Path) -> Result<Self, PortError> {
        let (listener, file) = SocketFile::bind(path)?;
        let (requests, receiver) = mpsc::channel(REQUESTS);
        // Unbounded, for whoever answers must not wait; the gate bounds how many questions a connection may have open.
        let (replies, to_send) = mpsc::unbounded_channel();
        let replier = RepReplier { replies, dropped: Arc::default() };
        let malformed = Arc::new(AtomicU64::new(0));
        let (dropped, strange) = (replier.dropped.clone(), malformed.clone());
        let (ready, bound) = oneshot::channel();
        on_own_thread("port-rep", move || async move {
            let mut socket = RouterSocket::new();
            let result = socket.bind_listener(listener).await;
            let good = result.is_ok();
            let _ = ready.send(result.map(drop));
            if good {
                let (sender, receiver) = socket.split();
                tokio::join!(receive(receiver, requests, &strange), send(sender, to_send, &dropped));
            }
        })
        .map_err(|source| PortError::Bind { path: path.to_owned(), source })?;
        file.adopt(bound.await)?;
        Ok(Self { requests: receiver, replier, malformed, file })
    }

    /// To answer from any task.
    #[must_use]
    pub fn replier(&self) -> RepReplier {
        self.replier.clone()
    }

    /// Messages that were not `[gate][connection][empty][payload]`. The gate lets none through, so this stays zero.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// The next request. Cancel-safe.
    ///
    /// # Errors
    /// When the socket itself has failed, not a peer.
    pub async fn recv(&mut self) -> Result<(Peer, Bytes), PortError> {
        match self.requests.recv().await {
            Some(Ok(request)) => Ok(request),
            Some(Err(error)) => Err(self.file.failed(error)),
            None => Err(self.file.ended()),
        }
    }
}

/// Hands on what comes, until nobody wants it any more.
async fn receive(mut socket: RouterRecvHalf, requests: mpsc::Sender<ZmqResult<(Peer, Bytes)>>, malformed: &AtomicU64) {
    loop {
        let received = tokio::select! {
            received = socket.recv() => received,
            () = requests.closed() => return,
        };
        let request = match received {
            Ok(message) => {
                let mut frames = message.into_vecdeque();
                let (REQUEST_FRAMES, Some([])) = (frames.len(), frames.get(2).map(|frame| &frame[..])) else {
                    malformed.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let peer = Peer { gate: frames[0].clone(), connection: frames[1].clone() };
                Ok((peer, frames.pop_back().unwrap_or_default()))
            }
            Err(error) => Err(error),
        };
        let failed = request.is_err();
        if requests.send(request).await.is_err() || failed {
            return;
        }
    }
}

/// Sends the answers, until the last one who could give any is gone.
async fn send(mut socket: RouterSendHalf, mut replies: mpsc::UnboundedReceiver<(Peer, Bytes)>, dropped: &AtomicU64) {
    while let Some((peer, payload)) = replies.recv().await {
        let mut frames = ZmqMessage::from(payload);
        frames.push_front(Bytes::new());
        frames.push_front(peer.connection);
        frames.push_front(peer.gate);
        // It only puts the message into the gate's queue, which is full with 100,000 answers; fewer requests can be under way.
        if !matches!(at_once(socket.send(frames)), Some(Ok(()))) {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Answers; never waits.
#[derive(Clone)]
pub struct RepReplier {
    replies: mpsc::UnboundedSender<(Peer, Bytes)>,
    dropped: Arc<AtomicU64>,
}

impl RepReplier {
    /// Sends the one answer to a request. False when the port has ended; a peer that is gone is counted in [`RepReplier::dropped`].
    pub fn reply(&self, peer: &Peer, payload: Bytes) -> bool {
        self.replies.send((peer.clone(), payload)).is_ok()
    }

    /// Answers that never reached a peer's queue.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Port 5555: one owner publishes. The socket behind it is a ROUTER too, see [`super::topics`].
pub struct PubPort {
    broadcasts: mpsc::Sender<(Bytes, Bytes)>,
    file: SocketFile,
}

impl PubPort {
    /// Binds at `path`, in a folder that must be 0700; a stale file there is replaced.
    ///
    /// # Errors
    /// [`PortError`], each with the path.
    pub async fn bind(path: &Path) -> Result<Self, PortError> {
        let (listener, file) = SocketFile::bind(path)?;
        let (broadcasts, to_send) = mpsc::channel(BROADCASTS);
        let (ready, bound) = oneshot::channel();
        on_own_thread("port-pub", move || async move {
            let mut socket = RouterSocket::new();
            let result = socket.bind_listener(listener).await;
            let good = result.is_ok();
            let _ = ready.send(result.map(drop));
            if good {
                let (sender, receiver) = socket.split();
                publish(receiver, sender, to_send).await;
            }
        })
        .map_err(|source| PortError::Bind { path: path.to_owned(), source })?;
        file.adopt(bound.await)?;
        Ok(Self { broadcasts, file })
    }

    /// Sends `[topic][payload]` to whoever has subscribed to a prefix of `topic`. Who is not there, or too slow, misses it.
    ///
    /// # Errors
    /// When the socket itself has failed, not a peer.
    pub async fn publish(&mut self, topic: &[u8], payload: Bytes) -> Result<(), PortError> {
        let topic = Bytes::copy_from_slice(topic);
        self.broadcasts.send((topic, payload)).await.map_err(|_| self.file.ended())
    }
}

/// Keeps who subscribed to what and sends each message to those, until nobody publishes any more or the socket fails; the next
/// broadcast hears of that.
async fn publish(
    mut receiver: RouterRecvHalf,
    mut sender: RouterSendHalf,
    mut messages: mpsc::Receiver<(Bytes, Bytes)>,
) {
    let mut topics = Topics::default();
    loop {
        tokio::select! {
            received = receiver.recv() => match received {
                Ok(message) => {
                    let frames = message.into_vecdeque();
                    if frames.len() == WORD_FRAMES {
                        topics.take(&Peer { gate: frames[0].clone(), connection: frames[1].clone() }, &frames[2]);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the publishing socket failed");
                    return;
                }
            },
            message = messages.recv() => {
                let Some((topic, payload)) = message else { return };
                for peer in topics.listeners(&topic) {
                    let mut frames = ZmqMessage::from(peer.gate.clone());
                    frames.push_back(peer.connection.clone());
                    frames.push_back(topic.clone());
                    frames.push_back(payload.clone());
                    // Who is too slow misses it.
                    if let Some(Err(_)) = at_once(sender.send(frames)) {
                        // A gate that is gone has taken all its connections with it, and cannot say so.
                        topics.forget(&peer);
                    }
                }
            }
        }
    }
}

/// A bound path; the file is removed with it, unless another socket has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Binds under another name and renames: that replaces a stale file in one step, and `zeromq`, which removes the name it was
    /// bound under some time after its end, finds nothing there.
    fn bind(path: &Path) -> Result<(UnixListener, Self), PortError> {
        let len = path.as_os_str().len() + BINDING_SUFFIX;
        if len > MAX_PATH {
            return Err(PortError::PathTooLong {
                path: path.to_owned(),
                len: path.as_os_str().len(),
                most: MAX_PATH - BINDING_SUFFIX,
            });
        }
        let failed = |source| PortError::Bind { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("."));
        let mode = folder.metadata().map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(PortError::FolderOpen { path: folder.to_owned(), mode });
        }
        let mut binding = path.as_os_str().to_owned();
        let number = BINDINGS.fetch_add(1, Ordering::Relaxed);
        binding.push(format!(".{:x}-{number:x}", std::process::id()));
        let listener = UnixListener::bind(&binding).map_err(failed)?;
        std::fs::rename(&binding, path).map_err(failed)?;
        let inode = path.symlink_metadata().map_err(failed)?.ino();
        let path = path.to_owned();
        Ok((listener, Self { path, inode }))
    }

    fn adopt(&self, bound: Result<ZmqResult<()>, oneshot::error::RecvError>) -> Result<(), PortError> {
        bound.map_err(|_| self.ended())?.map_err(|error| self.failed(error))
    }

    fn ended(&self) -> PortError {
        PortError::Ended { path: self.path.clone() }
    }

    fn failed(&self, source: ZmqError) -> PortError {
        PortError::Socket { path: self.path.clone(), source: Box::new(source) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.path.symlink_metadata().is_ok_and(|now| now.ino() == self.inode) {
            // Nobody is harmed by a file that stays: the next bind replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[path = "port_tests.rs"]
mod tests;
