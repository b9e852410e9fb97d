//! A sealed conversation with the client worker: dials, shakes hands, asks. Host worker and CLI both speak through it.
//!
//! ```text
//! no session ──call──▶ session ──answer──▶ session
//!     ▲                   │ transport error: the session stays, the connection is new
//!     └── no-session, an answer that cannot be believed, too old ──┘
//! ```
//! Nothing is repeated here but the handshake, which has no effect: whoever asks knows whether it may be asked twice.
//!
//! A client worker that is about to change its key says the next one in its welcome, which only the holder of the pinned
//! key can have sealed. Whoever can pin it does, and shakes hands anew at once, for the next key.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Requester, TransportError};
use crate::{
    key::{KeyPair, PublicKey, Token},
    seal::{Hello, Initiator, Kind, PeerKind, Refusal, SealError, Session, Welcome},
};

/// A session is replaced when it is this old, so that a key that leaks one day opens little.
const SESSION_MAX: Duration = Duration::from_secs(3600);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// It did not come.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It came and is a refusal, or is not to be believed.
    #[error("{addr} cannot be talked to")]
    Seal {
        /// `host:port` as configured.
        addr: String,
        /// Why.
        #[source]
        source: SealError,
    },
    /// It answers another question.
    #[error("{addr} answered another question than was asked")]
    Crossed {
        /// `host:port` as configured.
        addr: String,
    },
}

impl SealedError {
    /// The word of the client worker, if it refused in one.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Seal { source: SealError::Refused(why), .. } => Some(*why),
            Self::Seal { .. } | Self::Transport(_) | Self::Crossed { .. } => None,
        }
    }
}

struct Open {
    session: Arc<Session>,
    welcome: Welcome,
    since: Instant,
}

/// One end of a sealed conversation.
pub struct SealedRequester {
    requester: Requester,
    keys: KeyPair,
    server: PublicKey,
    peer: PeerKind,
    hello: Hello,
    token: Option<Token>,
    open: Option<Open>,
    pin: Option<Pin>,
}

/// Keeps the client worker's next key, said in a handshake with the pinned one, in the place of that. Tells whether it is kept
/// for good; if not, the pinned one stays in use.
type Pin = Box<dyn FnMut(PublicKey) -> bool + Send>;

impl SealedRequester {
    /// A conversation that has not begun. With a `token` it is a joining one.
    #[must_use]
    pub const fn new(
        requester: Requester,
        keys: KeyPair,
        server: PublicKey,
        peer: PeerKind,
        hello: Hello,
        token: Option<Token>,
    ) -> Self {
        Self { requester, keys, server, peer, hello, token, open: None, pin: None }
    }

    /// The same, which pins the client worker's next key when it hears of it.
    #[must_use]
    pub fn pinning(mut self, pin: impl FnMut(PublicKey) -> bool + Send + 'static) -> Self {
        self.pin = Some(Box::new(pin));
        self
    }

    /// The address that is asked.
    #[must_use]
    pub fn addr(&self) -> &str {
        self.requester.addr()
    }

    /// The client worker's key that is expected.
    #[must_use]
    pub const fn server(&self) -> PublicKey {
        self.server
    }

    /// The newest key of the client worker that is known to be its own: the pinned one, or the one that it announced.
    #[must_use]
    pub fn newest_server(&self) -> PublicKey {
        self.open.as_ref().and_then(|open| open.welcome.server_key).unwrap_or(self.server)
    }

    /// The session and what it began with; shakes hands if there is none.
    ///
    /// # Errors
    /// [`SealedError`].
    pub async fn session(&mut self, limit: Duration) -> Result<(Arc<Session>, &Welcome), SealedError> {
        if self.open.as_ref().is_some_and(|open| open.since.elapsed() > SESSION_MAX) {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(self.shake_hands(limit).await?);
        }
        match &self.open {
            Some(open) => Ok((open.session.clone(), &open.welcome)),
            // Was set a line above.
            None => Err(SealedError::Crossed { addr: self.requester.addr().to_owned() }),
        }
    }

    /// Speaks with another key from now on, in a session of its own.
    pub fn change_keys(&mut self, keys: KeyPair) {
        self.keys = keys;
        self.open = None;
    }

    /// Forgets the session; the next call makes a new one.
    pub fn forget(&mut self) {
        self.open = None;
    }

    async fn shake_hands(&mut self, limit: Duration) -> Result<Open, SealedError> {
        let open = self.shake_hands_once(limit).await?;
        let (Some(next), Some(pin)) = (open.welcome.server_key, &mut self.pin) else { return Ok(open) };
        if next == self.server || !pin(next) {
            return Ok(open);
        }
        self.server = next;
        // The session that there is is as good, should this fail.
        Ok(self.shake_hands_once(limit).await.unwrap_or(open))
    }

    async fn shake_hands_once(&mut self, limit: Duration) -> Result<Open, SealedError> {
        let fail = |addr: &str, source| SealedError::Seal { addr: addr.to_owned(), source };
        let (initiator, first) =
            Initiator::start(&self.keys, self.server, self.peer, self.hello.clone(), self.token.as_ref())
                .map_err(|source| fail(self.requester.addr(), source))?;
        let second = self.requester.request(first, limit).await?;
        let (welcome, session) = initiator.finish(&second).map_err(|source| fail(self.requester.addr(), source))?;
        Ok(Open { session: Arc::new(session), welcome, since: Instant::now() })
    }

    /// Asks `body` and gives the body of the answer. `limit` is for each of the at most two round trips.
    ///
    /// # Errors
    /// [`SealedError`]. The question may have been received all the same.
    pub async fn call(&mut self, body: &[u8], limit: Duration) -> Result<Vec<u8>, SealedError> {
        let known = self.open.is_some();
        match self.ask(body, limit).await {
            // The client worker has restarted: it does not know the session, so it did nothing with the question.
            Err(error) if known && error.refusal() == Some(Refusal::NoSession) => {
                self.open = None;
                self.ask(body, limit).await
            }
            answer => answer,
        }
    }

    async fn ask(&mut self, body: &[u8], limit: Duration) -> Result<Vec<u8>, SealedError> {
        let (session, _) = self.session(limit).await?;
        let fail = |addr: &str, source| SealedError::Seal { addr: addr.to_owned(), source };
        let (message, counter) =
            session.seal(Kind::Request, body).map_err(|source| fail(self.requester.addr(), source))?;
        let answer = self.requester.request(message, limit).await?;
        match session.open(Kind::Answer, &answer) {
            Ok(opened) if opened.re == counter => Ok(opened.body),
            Ok(_) => Err(SealedError::Crossed { addr: self.requester.addr().to_owned() }),
            Err(source) => {
                // Whatever it is, the next call begins anew: a stranger's forged refusal costs one handshake.
                self.open = None;
                Err(fail(self.requester.addr(), source))
            }
        }
    }
}
