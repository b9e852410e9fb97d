//! The sealed conversation of a simulated host: as `maglica_proto::transport::SealedRequester`, over a [`Wire`].

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use maglica_proto::{
    key::{KeyPair, PublicKey, Token},
    name::HostName,
    seal::{Hello, Initiator, Kind, PeerKind, Refusal, SealError, Session},
};
use tokio::time::timeout;

use super::wire::{self, Wire};

/// How long one round trip may take, as on a real host.
const LIMIT: Duration = Duration::from_secs(10);
/// After this long there is a new session, as on a real host.
const SESSION_MAX: Duration = Duration::from_secs(3600);

/// Whom a simulated host talks to, and from where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// The asking port.
    pub(super) rep: SocketAddr,
    /// The publishing port.
    pub(super) publish: SocketAddr,
    /// The address that the host calls from, if it is its own.
    pub(super) from: Option<IpAddr>,
    /// The client worker's key.
    pub(super) server: PublicKey,
}

/// A session and where its broadcasts come.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) session: Arc<Session>,
    pub(super) topic: String,
    since: Instant,
}

/// The conversation.
pub(super) struct Talk {
    route: Route,
    keys: KeyPair,
    name: HostName,
    token: Option<Token>,
    wire: Option<Wire>,
    channel: Option<Channel>,
}

impl Talk {
    /// One that has not begun; a joining one if there is a token.
    pub(super) const fn new(route: Route, keys: KeyPair, name: HostName, token: Option<Token>) -> Self {
        Self { route, keys, name, token, wire: None, channel: None }
    }

    /// The present session.
    pub(super) const fn channel(&self) -> Option<&Channel> {
        self.channel.as_ref()
    }

    /// Asks; shakes hands if there is no session, and again if the client worker does not know it any more.
    pub(super) async fn call(&mut self, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let known = self.channel.is_some();
        match self.ask(body).await {
            Err(error) if known && is_refusal(&error, Refusal::NoSession) => {
                self.channel = None;
                self.ask(body).await
            }
            answer => answer,
        }
    }

    async fn ask(&mut self, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let session = self.session().await?;
        let (message, counter) = session.seal(Kind::Request, body)?;
        let answer = self.exchange(&message).await?;
        let opened = session.open(Kind::Answer, &answer).inspect_err(|_| self.channel = None)?;
        ensure!(opened.re == counter, "another question was answered");
        Ok(opened.body)
    }

    async fn session(&mut self) -> anyhow::Result<Arc<Session>> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.since.elapsed() < SESSION_MAX) {
            return Ok(channel.session.clone());
        }
        let hello = Hello::new("maglica-simulate", self.name.as_str());
        let (initiator, first) =
            Initiator::start(&self.keys, self.route.server, PeerKind::Host, hello, self.token.as_ref())?;
        let second = self.exchange(&first).await?;
        let (welcome, session) = initiator.finish(&second)?;
        let (session, topic) = (Arc::new(session), welcome.topic.unwrap_or_default());
        self.channel = Some(Channel { session: session.clone(), topic, since: Instant::now() });
        Ok(session)
    }

    /// One round trip. A connection that failed once is not used again.
    async fn exchange(&mut self, message: &[u8]) -> anyhow::Result<Bytes> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => Wire::dial(self.route.rep, self.route.from, wire::Kind::Req).await?,
        };
        let answer = timeout(LIMIT, wire.ask(message)).await.context("no answer in time")??;
        self.wire = Some(wire);
        Ok(answer)
    }
}

fn is_refusal(error: &anyhow::Error, word: Refusal) -> bool {
    matches!(error.downcast_ref(), Some(SealError::Refused(why)) if *why == word)
}

/// The one address of a configured `host:port`.
pub(super) async fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let found = tokio::net::lookup_host(address).await.with_context(|| format!("cannot resolve {address}"))?.next();
    let Some(found) = found else { bail!("{address} has no address") };
    Ok(found)
}
