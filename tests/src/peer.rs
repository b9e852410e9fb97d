//! A peer that the test plays itself: speaks the real wire with keys of the test's choice, and says what no honest program says.

use std::{net::SocketAddr, time::Duration};

use maglica_proto::{
    codec,
    host::{HostAnswer, HostRequest},
    join::{JoinAnswer, JoinRequest},
    key::{KeyPair, PublicKey, Token},
    request::{Answer, Request},
    seal::{Hello, Initiator, Kind, PeerKind, SealError, Session, Welcome},
    transport::{DialLimits, Requester, TransportError},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Runtime;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// None came.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It is a refusal, or cannot be believed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl PeerError {
    /// The word of the refusal; empty if it is none.
    #[must_use]
    pub fn refusal(&self) -> String {
        if let Self::Seal(SealError::Refused(why)) = self { why.to_string() } else { String::new() }
    }
}

/// A peer.
pub struct Peer {
    runtime: Runtime,
    requester: Requester,
    keys: KeyPair,
    server: PublicKey,
    kind: PeerKind,
    session: Option<Session>,
}

impl Peer {
    /// One that has these keys and expects the client worker to have that one. Nothing is said yet.
    ///
    /// # Panics
    /// If the runtime cannot be made.
    #[must_use]
    pub fn new(addr: SocketAddr, kind: PeerKind, keys: KeyPair, server: PublicKey) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let requester = Requester::new(addr.to_string(), None, DialLimits::default());
        Self { runtime, requester, keys, server, kind, session: None }
    }

    /// Sends bytes as they are; gives the bytes of the answer.
    ///
    /// # Errors
    /// None came.
    pub fn raw(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        self.runtime.block_on(self.requester.request(bytes, LIMIT))
    }

    /// Begins a session, a joining one if there is a token. The next question is asked in it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn shake_hands(&mut self, name: &str, token: Option<&Token>) -> Result<Welcome, PeerError> {
        let hello = Hello::new("test", name);
        let (initiator, first) = Initiator::start(&self.keys, self.server, self.kind, hello, token)?;
        let second = self.raw(first)?;
        let (welcome, session) = initiator.finish(&second)?;
        self.session = Some(session);
        Ok(welcome)
    }

    /// Leaves the connection and makes a new one for the next message; the session stays.
    pub fn reconnect(&mut self) {
        self.requester = Requester::new(self.requester.addr().to_owned(), None, DialLimits::default());
    }

    /// Forgets the session; the next question begins one.
    pub fn forget(&mut self) {
        self.session = None;
    }

    /// Seals a question without sending it.
    ///
    /// # Panics
    /// If there is no session.
    pub fn seal<T: Serialize>(&mut self, question: &T) -> Vec<u8> {
        let body = codec::encode(question).expect("a question can be written");
        let session = self.session.as_ref().expect("a session was begun");
        session.seal(Kind::Request, &body).expect("a small message can be sealed").0
    }

    /// Seals bytes that are no question, without sending them.
    ///
    /// # Panics
    /// If there is no session, or they are too many for one message.
    pub fn seal_body(&mut self, body: &[u8]) -> Vec<u8> {
        let session = self.session.as_ref().expect("a session was begun");
        session.seal(Kind::Request, body).expect("a message that is not too large can be sealed").0
    }

    /// Begins a session if there is none, sends these bytes sealed, and opens the answer.
    ///
    /// # Errors
    /// There is none, or it is a refusal.
    pub fn say_body<A: DeserializeOwned>(&mut self, body: &[u8]) -> Result<A, PeerError> {
        if self.session.is_none() {
            self.shake_hands("test", None)?;
        }
        let sealed = self.seal_body(body);
        self.send(sealed)
    }

    /// Sends what was sealed and opens the answer.
    ///
    /// # Errors
    /// There is none, or it is a refusal.
    ///
    /// # Panics
    /// If there is no session, or the answer is none of this kind.
    pub fn send<A: DeserializeOwned>(&mut self, sealed: Vec<u8>) -> Result<A, PeerError> {
        let answer = self.raw(sealed)?;
        let session = self.session.as_ref().expect("a session was begun");
        let opened = session.open(Kind::Answer, &answer)?;
        Ok(codec::decode(&opened.body).expect("an answer can be read"))
    }

    fn call<A: DeserializeOwned>(&mut self, question: &impl Serialize) -> Result<A, PeerError> {
        if self.session.is_none() {
            self.shake_hands("test", None)?;
        }
        let sealed = self.seal(question);
        self.send(sealed)
    }

    /// Asks as an operator.
    ///
    /// # Errors
    /// There is no answer.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, PeerError> {
        self.call(request)
    }

    /// Asks as a host worker.
    ///
    /// # Errors
    /// There is no answer.
    pub fn say(&mut self, request: &HostRequest) -> Result<HostAnswer, PeerError> {
        self.call(request)
    }

    /// Joins by a token.
    ///
    /// # Errors
    /// There is no answer.
    pub fn join(&mut self, name: &str, token: &Token) -> Result<JoinAnswer, PeerError> {
        self.shake_hands(name, Some(token))?;
        self.call(&JoinRequest { program: "test".to_owned() })
    }
}
