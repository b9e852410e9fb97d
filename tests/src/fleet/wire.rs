//! The connection of a simulated host: ZMTP over TCP without a `zeromq` socket behind it. On the wire it is what a real
//! host worker sends; here a thousand of them share a process and its processors with the client worker that is
//! measured, and the real one's unix socket and tasks would be counted against it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use maglica_proto::transport::{
    forward::tune,
    zmtp::{Decoder, Handshake, Item, Limits, Message, encode_ready, greeting},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Dialling and the handshake, as on a real host.
const LIMIT: Duration = Duration::from_secs(5);
/// Flags of a frame: more follow; its length has eight bytes.
const MORE: u8 = 1;
const LONG: u8 = 2;

/// What is at our end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Asks.
    Req,
    /// Listens.
    Sub,
}

/// A connection.
pub(super) struct Wire {
    stream: TcpStream,
    decoder: Decoder,
}

/// Where a simulated host calls from: each has a machine's own address, as real ones have, as far as loopback goes.
pub(super) fn address_of(host: u32, server: SocketAddr) -> Option<IpAddr> {
    let [_, high, middle, low] = host.to_be_bytes();
    server
        .ip()
        .is_loopback()
        .then_some(server)
        .filter(SocketAddr::is_ipv4)
        .map(|_| IpAddr::V4(Ipv4Addr::new(127, 128 | high, middle, low)))
}

impl Wire {
    /// Dials and shakes hands.
    pub(super) async fn dial(to: SocketAddr, from: Option<IpAddr>, kind: Kind) -> anyhow::Result<Self> {
        timeout(LIMIT, Self::connect(to, from, kind)).await.context("no answer in time")?
    }

    async fn connect(to: SocketAddr, from: Option<IpAddr>, kind: Kind) -> anyhow::Result<Self> {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0)).with_context(|| format!("cannot call from {from}"))?;
        }
        let mut stream = socket.connect(to).await.with_context(|| format!("cannot reach {to}"))?;
        tune(&stream)?;
        let name = match kind {
            Kind::Req => "REQ",
            Kind::Sub => "SUB",
        };
        let mut hello = greeting().to_vec();
        hello.extend_from_slice(&encode_ready(name, None));
        stream.write_all(&hello).await?;
        let mut handshake = Handshake::new(Limits::default());
        while handshake.advance()?.is_none() {
            if stream.read_buf(handshake.decoder().space()).await? == 0 {
                bail!("closed during the handshake");
            }
        }
        Ok(Self { stream, decoder: handshake.into_decoder() })
    }

    /// Sends a message of these frames.
    pub(super) async fn send(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        for (index, frame) in frames.iter().enumerate() {
            let more = if index + 1 < frames.len() { MORE } else { 0 };
            match u8::try_from(frame.len()) {
                Ok(short) => bytes.extend_from_slice(&[more, short]),
                Err(_) => {
                    bytes.extend_from_slice(&[more | LONG]);
                    bytes.extend_from_slice(&(frame.len() as u64).to_be_bytes());
                }
            }
            bytes.extend_from_slice(frame);
        }
        self.stream.write_all(&bytes).await
    }

    /// The next message. Cancel-safe.
    pub(super) async fn next(&mut self) -> anyhow::Result<Message> {
        loop {
            match self.decoder.next()? {
                Some(Item::Message(message)) => return Ok(message),
                // The client worker has none to send.
                Some(Item::Command(_)) => {}
                None => {
                    if self.stream.read_buf(self.decoder.space()).await? == 0 {
                        bail!("the client worker closed the connection");
                    }
                }
            }
        }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&mut self, payload: &[u8]) -> anyhow::Result<Bytes> {
        self.send(&[&[], payload]).await?;
        let message = self.next().await?;
        message.frame(1).map(Bytes::copy_from_slice).context("an answer without a payload")
    }

    /// Subscribes to a topic.
    pub(super) async fn subscribe(&mut self, topic: &[u8]) -> io::Result<()> {
        let mut frame = vec![1];
        frame.extend_from_slice(topic);
        self.send(&[&frame]).await
    }
}
