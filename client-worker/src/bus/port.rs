//! The raw `zeromq` sockets of the client worker: a ROUTER that answers REQ peers, and a PUB. Frames are opaque here.
//!
//! Both bind unix sockets in a folder that only this user can enter; the gate is the only one who connects.
//!
//! What is known of `zeromq` 0.7 and dealt with here: a REP socket is blocked by one peer that does not read and turns in circles on a
//! truncated frame, hence ROUTER; ROUTER's `send` waits while a peer's queue is full, hence it is never awaited by the one who
//! receives; `bind` fails on a stale socket file, and the end of a socket removes its file later, even if by then it is a new socket's.

use std::future::Future;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeromq::{
    PubSocket, RouterRecvHalf, RouterSendHalf, RouterSocket, Socket, SocketRecv, SocketSend, ZmqError, ZmqMessage,
    ZmqResult,
};

/// `sun_path` of Linux holds 108 bytes, the last of which is zero.
const MAX_PATH: usize = 107;
/// Room for what is appended to the name while a socket is being bound: a dot, a process id, a dash and a number.
const BINDING_SUFFIX: usize = 20;
/// Makes the name under which a socket is bound its own within the process.
static BINDINGS: AtomicU32 = AtomicU32::new(0);
/// Answers waiting for peers whose queue is full. The gate closes such a peer within seconds, so few ever wait.
const SLOW_REPLIES: usize = 256;
/// How long one answer may wait for its peer before it is dropped: longer than the gate keeps a peer that takes no bytes.
const SLOW_REPLY_LIMIT: Duration = Duration::from_secs(15);
/// Identity, delimiter, payload.
const REQUEST_FRAMES: usize = 3;

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
}

/// Who asked: goes back unchanged with the answer. One connection, not one person.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer(Bytes);

impl Peer {
    /// The identity the gate gave to the connection, to be kicked by.
    #[must_use]
    pub fn identity(&self) -> &[u8] {
        &self.0
    }
}

/// The receiving half of port 5556.
pub struct RepPort {
    receiver: RouterRecvHalf,
    replier: RepReplier,
    file: SocketFile,
    malformed: u64,
}

impl RepPort {
    /// Binds at `path`, in a folder that must be 0700; a stale file there is replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`PortError`], each with the path.
    pub async fn bind(path: &Path) -> Result<Self, PortError> {
        let (listener, file) = SocketFile::bind(path)?;
        let mut socket = RouterSocket::new();
        file.adopt(socket.bind_listener(listener).await)?;
        let (sender, receiver) = socket.split();
        Ok(Self { receiver, replier: RepReplier::new(sender), file, malformed: 0 })
    }

    /// To answer from any task.
    #[must_use]
    pub fn replier(&self) -> RepReplier {
        self.replier.clone()
    }

    /// Messages that were not `[identity][empty][payload]`. The gate lets none through, so this stays zero.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// The next request. Cancel-safe.
    ///
    /// # Errors
    /// When the socket itself has failed, not a peer.
    pub async fn recv(&mut self) -> Result<(Peer, Bytes), PortError> {
        loop {
            let message = self.receiver.recv().await.map_err(|e| self.file.failed(e))?;
            let mut frames = message.into_vecdeque();
            if let (REQUEST_FRAMES, Some(identity), Some([])) =
                (frames.len(), frames.front(), frames.get(1).map(|f| &f[..]))
            {
                let peer = Peer(identity.clone());
                return Ok((peer, frames.pop_back().unwrap_or_default()));
            }
            self.malformed += 1;
        }
    }
}

type Sending = Pin<Box<dyn Future<Output = ZmqResult<()>> + Send>>;

/// Answers; never waits.
#[derive(Clone)]
pub struct RepReplier {
    sender: RouterSendHalf,
    slow: mpsc::Sender<Sending>,
    dropped: Arc<AtomicU64>,
}

impl RepReplier {
    fn new(sender: RouterSendHalf) -> Self {
        let (slow, mut waiting) = mpsc::channel::<Sending>(SLOW_REPLIES);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        tokio::spawn(async move {
            while let Some(sending) = waiting.recv().await {
                if !matches!(timeout(SLOW_REPLY_LIMIT, sending).await, Ok(Ok(()))) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { sender, slow, dropped }
    }

    /// Sends the one answer to a request. False when it was dropped: the peer is gone, or takes nothing and too many wait already.
    pub fn reply(&self, peer: &Peer, payload: Bytes) -> bool {
        let mut frames = ZmqMessage::from(payload);
        frames.push_front(Bytes::new());
        frames.push_front(peer.0.clone());
        let mut sender = self.sender.clone();
        let mut sending: Sending = Box::pin(async move { sender.send(frames).await });
        // Nearly always done at the first look: `send` only puts the message into the peer's queue. Otherwise it goes on elsewhere.
        let sent = match sending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result.is_ok(),
            Poll::Pending => return self.slow.try_send(sending).is_ok() || self.count_dropped(),
        };
        sent || self.count_dropped()
    }

    /// Answers that never reached a queue.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn count_dropped(&self) -> bool {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// Port 5555: one owner publishes.
pub struct PubPort {
    socket: PubSocket,
    file: SocketFile,
}

impl PubPort {
    /// Binds at `path`, in a folder that must be 0700; a stale file there is replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`PortError`], each with the path.
    pub async fn bind(path: &Path) -> Result<Self, PortError> {
        let (listener, file) = SocketFile::bind(path)?;
        let mut socket = PubSocket::new();
        file.adopt(socket.bind_listener(listener).await)?;
        Ok(Self { socket, file })
    }

    /// Sends `[topic][payload]` to whoever has subscribed to a prefix of `topic`. Who is not there, or too slow, misses it.
    ///
    /// # Errors
    /// When the socket itself has failed, not a peer.
    pub async fn publish(&mut self, topic: &[u8], payload: Bytes) -> Result<(), PortError> {
        let mut message = ZmqMessage::from(Bytes::copy_from_slice(topic));
        message.push_back(payload);
        self.socket.send(message).await.map_err(|e| self.file.failed(e))
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

    fn adopt<T>(&self, bound: ZmqResult<T>) -> Result<(), PortError> {
        bound.map(drop).map_err(|e| self.failed(e))
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
mod tests {
    use super::*;

    fn folder(mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        dir
    }

    #[tokio::test]
    async fn a_path_that_does_not_fit_and_an_open_folder_are_refused_by_name() {
        let dir = folder(0o700);
        let long = dir.path().join("x".repeat(100));
        let error = RepPort::bind(&long).await.err().unwrap();
        assert!(matches!(error, PortError::PathTooLong { .. }), "{error}");
        assert!(error.to_string().contains(long.to_str().unwrap()));
        let open = folder(0o755);
        let error = PubPort::bind(&open.path().join("pub")).await.err().unwrap();
        assert!(matches!(error, PortError::FolderOpen { mode: 0o755, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_stale_file_is_replaced_and_the_end_of_the_old_socket_does_not_take_the_new_one() {
        let dir = folder(0o700);
        let path = dir.path().join("rep");
        std::fs::write(&path, b"stale").unwrap();
        let old = RepPort::bind(&path).await.unwrap();
        let new = RepPort::bind(&path).await.unwrap();
        drop(old);
        // Lets the old socket's accept task end, which removes what it believes to be its file.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(new);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn an_answer_for_a_peer_that_is_gone_is_dropped_and_counted() {
        let dir = folder(0o700);
        let port = RepPort::bind(&dir.path().join("rep")).await.unwrap();
        let replier = port.replier();
        assert!(!replier.reply(&Peer(Bytes::from_static(b"nobody")), Bytes::new()));
        assert_eq!(replier.dropped(), 1);
    }
}
