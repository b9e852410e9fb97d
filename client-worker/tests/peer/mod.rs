//! What the gate's tests share: a port with a service behind a gate, and a peer that says byte for byte what a test wants.
#![expect(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses the part it needs; a panic is how a test fails"
)]

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use maglica_client_worker::bus::port::{PubPort, RepPort};
use maglica_client_worker::gate::{Gate, GateCounters, GateHandle, GateLimits, PortKind, Refusal};
use maglica_proto::transport::zmtp::{
    Decoder, Handshake, Item, Limits, Message, encode_message, encode_ready, greeting,
};
use maglica_proto::transport::{DialLimits, Requester};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything in a test; reached only when it fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Size of the service's answer to `big`.
pub(crate) const BIG: usize = 512 * 1024;

/// A gate with what is behind it.
pub(crate) struct Served {
    pub(crate) addr: SocketAddr,
    pub(crate) counters: Arc<GateCounters>,
    pub(crate) handle: GateHandle,
    stop: CancellationToken,
    gate: JoinHandle<()>,
    service: Option<JoinHandle<()>>,
    _dir: TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(service) = &self.service {
            service.abort();
        }
    }
}

impl Served {
    /// An echo service behind a gate: answers `re:` and the question, and [`BIG`] bytes to `big`; `silence` is never answered and
    /// `who` is answered with the identity that the service sees.
    pub(crate) async fn rep(limits: GateLimits) -> Self {
        Self::rep_at("127.0.0.1:0".parse().unwrap(), limits).await
    }

    pub(crate) async fn rep_at(addr: SocketAddr, limits: GateLimits) -> Self {
        let dir = private_dir();
        let path = dir.path().join("rep");
        let mut port = RepPort::bind(&path).await.unwrap();
        let service = tokio::spawn(async move {
            let replier = port.replier();
            while let Ok((peer, question)) = port.recv().await {
                match &question[..] {
                    b"silence" => continue,
                    b"big" => replier.reply(&peer, vec![7; BIG].into()),
                    b"who" => replier.reply(&peer, peer.identity().to_vec().into()),
                    other => replier.reply(&peer, [b"re:", other].concat().into()),
                };
            }
        });
        let gate = Gate::bind(addr, PortKind::Rep, &path, limits).await.unwrap();
        Self::start(gate, Some(service), dir)
    }

    pub(crate) async fn publisher(limits: GateLimits) -> (Self, PubPort) {
        let dir = private_dir();
        let path = dir.path().join("pub");
        let port = PubPort::bind(&path).await.unwrap();
        let addr = "127.0.0.1:0".parse().unwrap();
        let gate = Gate::bind(addr, PortKind::Pub, &path, limits).await.unwrap();
        (Self::start(gate, None, dir), port)
    }

    fn start(gate: Gate, service: Option<JoinHandle<()>>, dir: TempDir) -> Self {
        let stop = CancellationToken::new();
        Self {
            addr: gate.local_addr().unwrap(),
            counters: gate.counters(),
            handle: gate.handle(),
            gate: tokio::spawn(gate.run(stop.clone())),
            stop,
            service,
            _dir: dir,
        }
    }

    /// Stops gate and service and waits for the gate's end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let gate = std::mem::replace(&mut self.gate, tokio::spawn(async {}));
        tokio::time::timeout(LIMIT, gate).await.unwrap().unwrap();
    }

    pub(crate) fn refused(&self, refusal: Refusal) -> u64 {
        self.counters.snapshot().refused(refusal)
    }

    pub(crate) async fn refuses_at_least(&self, refusal: Refusal, count: u64) {
        let reached = || self.refused(refusal) >= count;
        self.wait_for(&format!("{refusal:?} × {count}"), reached).await;
    }

    /// Waits until exactly this many were refused for this reason.
    pub(crate) async fn refuses(&self, refusal: Refusal, count: u64) {
        self.refuses_at_least(refusal, count).await;
        assert_eq!(self.refused(refusal), count);
    }

    /// Waits until one was refused for one of these reasons, where which one is a matter of the kernel's buffers.
    pub(crate) async fn refuses_one_of(&self, refusals: &[Refusal]) {
        let sum = || refusals.iter().map(|&r| self.refused(r)).sum::<u64>();
        self.wait_for(&format!("one of {refusals:?}"), || sum() >= 1).await;
        assert_eq!(sum(), 1);
    }

    /// Waits until this many connections are open.
    pub(crate) async fn has_open(&self, count: u64) {
        let open = || self.counters.snapshot().open == count;
        self.wait_for(&format!("{count} open"), open).await;
    }

    async fn wait_for(&self, what: &str, reached: impl Fn() -> bool) {
        let wait = async {
            while !reached() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(LIMIT, wait).await.is_err() {
            let seen = self.counters.snapshot();
            let refused: Vec<_> = Refusal::ALL
                .into_iter()
                .filter(|&r| seen.refused(r) > 0)
                .map(|r| (r.name(), seen.refused(r)))
                .collect();
            panic!("never {what}; open {}, refused {refused:?}", seen.open);
        }
    }

    /// An honest REQ peer is answered: our own requester and a bare ZMTP client.
    pub(crate) async fn still_answers(&self) {
        let mut requester = Requester::new(self.addr.to_string(), None, DialLimits::default());
        let answer = requester.request(b"honest".to_vec(), LIMIT).await.unwrap();
        assert_eq!(answer, b"re:honest");
        let mut raw = RawPeer::shaken(self.addr, "REQ").await;
        assert_eq!(raw.ask(b"raw").await, b"re:raw");
    }
}

fn private_dir() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

/// A TCP connection without a library.
pub(crate) struct RawPeer {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
}

impl RawPeer {
    /// Connected, nothing said.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(addr).await.unwrap(), decoder: Decoder::new(Limits::default()) }
    }

    /// Connected and through the handshake.
    pub(crate) async fn shaken(addr: SocketAddr, socket_type: &str) -> Self {
        Self::shaken_as(addr, socket_type, None).await
    }

    pub(crate) async fn shaken_as(addr: SocketAddr, socket_type: &str, identity: Option<&[u8]>) -> Self {
        let mut peer = Self::connect(addr).await;
        peer.send(&greeting()).await;
        peer.send(&encode_ready(socket_type, identity)).await;
        let mut handshake = Handshake::new(Limits::default());
        while handshake.advance().unwrap().is_none() {
            let n = tokio::time::timeout(LIMIT, peer.stream.read_buf(handshake.decoder().space()));
            assert_ne!(n.await.unwrap().unwrap(), 0, "closed in the handshake");
        }
        peer.decoder = handshake.into_decoder();
        peer
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send_frames(&mut self, frames: &[&[u8]]) {
        let mut out = BytesMut::new();
        encode_message(frames, &mut out);
        self.send(&out).await;
    }

    /// The next item, or `None` when the connection was closed.
    pub(crate) async fn item(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.decoder.next().unwrap() {
                return Some(item);
            }
            let read = self.stream.read_buf(self.decoder.space());
            match tokio::time::timeout(LIMIT, read).await.expect("in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn message(&mut self) -> Option<Message> {
        match self.item().await? {
            Item::Message(message) => Some(message),
            Item::Command(body) => panic!("command {body:?}"),
        }
    }

    pub(crate) async fn command(&mut self) -> Option<Bytes> {
        match self.item().await? {
            Item::Command(body) => Some(body),
            Item::Message(message) => panic!("message {message:?}"),
        }
    }

    /// Asks as a REQ socket does.
    pub(crate) async fn ask(&mut self, question: &[u8]) -> Vec<u8> {
        self.send_frames(&[b"", question]).await;
        let answer = self.message().await.expect("an answer");
        assert_eq!((answer.len(), answer.frame(0)), (2, Some(&b""[..])));
        answer.frame(1).unwrap().to_vec()
    }

    /// Waits for the gate to close the connection, whatever it says before.
    pub(crate) async fn is_closed(&mut self) {
        let mut bin = vec![0; 64 * 1024];
        let wait = async { while matches!(self.stream.read(&mut bin).await, Ok(n) if n > 0) {} };
        tokio::time::timeout(LIMIT, wait).await.expect("closed");
    }
}
