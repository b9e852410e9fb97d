//! The trunk: the one unix connection on which a gate carries all its connections to our own `zeromq` socket, as ZeroMQ's
//! own proxies do: each message has the connection's identity before it.
//!
//! ```text
//! connection ─▶ Lane ─┐                                  ┌─▶ [identity][…] ─▶ zeromq ROUTER
//! connection ─▶ Lane ─┴─▶ what waits, in one write ══════╪══ whatever came, in one read ─▶ each to its Lane
//! ```
//! A unix connection for each would cost two files, two system calls a message and our socket two tasks. A [`Lane`] is the
//! stream that a connection's pump reads and writes; what is written goes on whole messages at a time, so none can be cut.

use std::{
    collections::HashMap,
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use maglica_proto::{
    fault::chain,
    transport::{
        forward::{ForwardError, ForwardLimits, Identity, fresh_identity, introduce},
        rules::Role,
        zmtp::{Decoder, Item, Limits, encode_message},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// With so many bytes waiting to be written, connections wait. One may exceed it by what its pump holds.
const WAITING: usize = 1 << 20;
/// Header and body of the frame that names the connection.
const NAME_LEN: usize = 2 + size_of::<Identity>();
/// A pause before a broken trunk is made anew.
const PAUSE: Duration = Duration::from_millis(100);

/// All connections of a gate, on their way to one socket.
#[derive(Debug, Default)]
pub(super) struct Trunk {
    state: Mutex<State>,
    filled: Notify,
    up: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BytesMut,
    /// Connections that wait for room.
    wakers: Vec<Waker>,
    /// Unbounded, for nobody must wait for one connection; what it is sent is bounded by what it asked for, and its pump
    /// ends it when it does not keep up.
    lanes: HashMap<Identity, mpsc::UnboundedSender<Bytes>>,
}

impl Trunk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection's way to the socket behind.
    ///
    /// # Errors
    /// There is none in time.
    pub(super) async fn lane(self: &Arc<Self>, identity: Identity, limit: Duration) -> Result<Lane, ForwardError> {
        let mut up = self.up.subscribe();
        let ready = timeout(limit, up.wait_for(|up| *up)).await;
        ready.map_err(|_| ForwardError::Inner(io::ErrorKind::NotConnected.into()))?.map_err(|_| closed())?;
        let (sender, coming) = mpsc::unbounded_channel();
        self.state().lanes.insert(identity, sender);
        Ok(Lane { trunk: self.clone(), identity, coming, begun: Bytes::new() })
    }

    /// Carries until `stop`; makes the connection anew when it breaks, which ends those that it carried.
    pub(super) async fn run(
        self: Arc<Self>,
        inner: &Path,
        role: Role,
        limits: &ForwardLimits,
        stop: CancellationToken,
    ) {
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.carry(inner, role, limits) => ended,
            };
            // The socket may be gone before its gate hears that all is to stop.
            if let Err(error) = ended
                && !stop.is_cancelled()
            {
                tracing::error!(?role, error = chain(&error), "the gate's way to its own socket broke");
            }
            self.broke();
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn broke(&self) {
        self.up.send_replace(false);
        let mut state = self.state();
        state.waiting.clear();
        state.lanes.clear();
        state.wakers.drain(..).for_each(Waker::wake);
    }

    async fn carry(&self, inner: &Path, role: Role, limits: &ForwardLimits) -> Result<(), ForwardError> {
        let stream = UnixStream::connect(inner).await.map_err(ForwardError::Inner)?;
        let identity = fresh_identity().map_err(ForwardError::Inner)?;
        let longer = |limits: Limits| Limits {
            max_frames: limits.max_frames + 1,
            max_message: limits.max_message + NAME_LEN,
            ..limits
        };
        let limits = ForwardLimits { zmtp: longer(limits.zmtp), ..*limits };
        let (stream, decoder) = introduce(stream, role, &identity, &limits).await?;
        let (reader, writer) = stream.into_split();
        self.up.send_replace(true);
        let ended = tokio::select! {
            ended = self.write(writer) => ended,
            ended = self.read(reader, decoder) => ended,
        };
        ended.map_err(ForwardError::Inner)
    }

    async fn write(&self, mut writer: OwnedWriteHalf) -> io::Result<()> {
        let mut batch = BytesMut::new();
        loop {
            let waiting = {
                let mut state = self.state();
                std::mem::swap(&mut batch, &mut state.waiting);
                state.wakers.drain(..).for_each(Waker::wake);
                !batch.is_empty()
            };
            if waiting {
                writer.write_all(&batch).await?;
                batch.clear();
                if batch.capacity() > WAITING {
                    batch = BytesMut::new();
                }
            } else {
                self.filled.notified().await;
            }
        }
    }

    async fn read(&self, mut reader: OwnedReadHalf, mut decoder: Decoder) -> io::Result<()> {
        loop {
            if reader.read_buf(decoder.space()).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let state = self.state();
            while let Some(item) = decoder.next().map_err(io::Error::other)? {
                let Item::Message(message) = item else { continue };
                let lane = message.frame(0).and_then(|name| Identity::try_from(name).ok());
                if let Some(lane) = lane.and_then(|identity| state.lanes.get(&identity)) {
                    // One that has just ended needs nothing any more.
                    let _ = lane.send(message.raw().slice(NAME_LEN..));
                }
            }
        }
    }
}

fn closed() -> ForwardError {
    ForwardError::Inner(io::ErrorKind::BrokenPipe.into())
}

/// A connection's way to the socket behind the gate.
#[derive(Debug)]
pub(super) struct Lane {
    trunk: Arc<Trunk>,
    identity: Identity,
    coming: mpsc::UnboundedReceiver<Bytes>,
    begun: Bytes,
}

impl Lane {
    /// What stands before each message of this connection.
    pub(super) fn name(&self) -> Bytes {
        let mut name = BytesMut::with_capacity(NAME_LEN + 2);
        encode_message(&[&self.identity, &[]], &mut name);
        // Without the empty frame, which was there so that the name says that more comes.
        name.truncate(NAME_LEN);
        name.freeze()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.trunk.state().lanes.remove(&self.identity);
    }
}

impl AsyncRead for Lane {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.begun.is_empty() {
            match self.coming.poll_recv(cx) {
                Poll::Ready(Some(message)) => self.begun = message,
                // The end of the trunk.
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let length = self.begun.len().min(buf.remaining());
        buf.put_slice(&self.begun[..length]);
        self.begun.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Lane {
    /// All or nothing: what is given are whole messages, each with the connection's name.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, messages: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.trunk.state();
        if !state.lanes.contains_key(&self.identity) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.waiting.len() >= WAITING {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(messages);
        drop(state);
        if first {
            self.trunk.filled.notify_one();
        }
        Poll::Ready(Ok(messages.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
