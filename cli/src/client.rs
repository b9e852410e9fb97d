//! The sealed connection to the client worker: dial, handshake, ask, and ask again on a fresh socket when an answer is
//! lost. Every request may be repeated: those that change something carry an id made here.
//!
//! ```text
//! no session ──handshake──▶ session ──answer──▶ session
//!     ▲                        │ lost answer, refusal, doubt
//!     └────────────────────────┘
//! ```

use std::time::{Duration, Instant};

use maglica_proto::{
    codec,
    config::{Config, keyfile},
    join::{Invitation, JoinAnswer, JoinRequest, Joined},
    key::{KeyPair, PublicKey},
    request::{Answer, Request},
    seal::{Hello, Initiator, Kind, PeerKind, Refusal, SealError, Session},
    transport::{DialLimits, Requester, TransportError},
};

use crate::error::Error;

/// The version that the client worker logs.
const PROGRAM: &str = concat!("maglica ", env!("CARGO_PKG_VERSION"));
/// One attempt of a question that is answered at once; within [`crate::app::ANSWER_LIMIT`] there is room for more.
const ATTEMPT: Duration = Duration::from_secs(4);
/// The first pause before a repetition; doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The client worker, as this command reaches it.
pub struct Client {
    keys: KeyPair,
    server: PublicKey,
    requester: Requester,
    session: Option<Session>,
    /// It answered once, so that a refused connection is a restart rather than a wrong address.
    met: bool,
}

impl Client {
    /// Reads the keys; nothing is dialled yet.
    ///
    /// # Errors
    /// [`Error::KeyFile`].
    pub fn open(config: &Config) -> Result<Self, Error> {
        let keys = keyfile::read_private(&config.operator.key)?;
        let server = keyfile::read_public(&config.operator.server_key)?;
        Ok(Self::new(keys, server, config.client.rep_addr()))
    }

    fn new(keys: KeyPair, server: PublicKey, addr: String) -> Self {
        Self { keys, server, requester: Requester::new(addr, None, DialLimits::default()), session: None, met: false }
    }

    /// The client worker's key, as it is pinned here.
    #[must_use]
    pub const fn server(&self) -> PublicKey {
        self.server
    }

    /// Asks until there is an answer or the time is over. A question that the client worker holds back on purpose says
    /// how long.
    ///
    /// # Errors
    /// [`Error`]; a fault that was answered is [`Error::Fault`].
    pub async fn ask(&mut self, request: &Request, held: Duration, until: Instant) -> Result<Answer, Error> {
        let body = codec::encode(request)?;
        let mut pause = PAUSE;
        loop {
            let limit = until.saturating_duration_since(Instant::now()).min(ATTEMPT + held).max(Duration::from_millis(1));
            let error = match self.once(&body, limit).await {
                Ok(Answer::Fault { fault }) => return Err(Error::Fault(fault.into())),
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.session = None;
            if !self.may_pass(&error) || Instant::now() + pause >= until {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&mut self, body: &[u8], limit: Duration) -> Result<Answer, Error> {
        let until = Instant::now() + limit;
        let session = match self.session.take() {
            Some(session) => session,
            None => self.handshake(limit).await?,
        };
        let (message, counter) = session.seal(Kind::Request, body)?;
        let left = until.saturating_duration_since(Instant::now());
        let answer = self.requester.request(message, left).await?;
        let opened = session.open(Kind::Answer, &answer)?;
        if opened.re != counter {
            return Err(SealError::Misplaced("it answers another question").into());
        }
        self.session = Some(session);
        Ok(codec::decode(&opened.body)?)
    }

    async fn handshake(&mut self, limit: Duration) -> Result<Session, Error> {
        let hello = Hello::new(PROGRAM, user());
        let (initiator, message) = Initiator::start(&self.keys, self.server, PeerKind::Operator, hello, None)?;
        let answer = self.requester.request(message, limit).await?;
        self.met = true;
        match initiator.finish(&answer) {
            Ok((_, session)) => Ok(session),
            // It could not read what was made for the pinned key, or its answer was not made with that key.
            Err(SealError::Refused(Refusal::Unverified) | SealError::Verify { .. }) => {
                Err(Error::WrongServer { addr: self.requester.addr().to_owned(), expected: self.server.fingerprint() })
            }
            Err(SealError::Refused(why)) => {
                Err(Error::Refused { addr: self.requester.addr().to_owned(), own: self.keys.public().fingerprint(), why })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it could be better at the next attempt.
    fn may_pass(&self, error: &Error) -> bool {
        if let Error::Transport(error) = error {
            let lost = matches!(error, TransportError::NoAnswer { .. } | TransportError::Closed { .. });
            let away = matches!(error, TransportError::Refused { .. } | TransportError::Unreachable { .. });
            return lost || (away && self.met);
        }
        if let Error::Refused { why, .. } | Error::Seal(SealError::Refused(why)) = error {
            return matches!(why, Refusal::NoSession | Refusal::Busy);
        }
        // A session that the other side has forgotten or replaced.
        matches!(error, Error::Seal(SealError::Verify { .. } | SealError::Misplaced(_) | SealError::Replayed(_)))
    }
}

/// Enrols the key by the token of the invitation.
///
/// # Errors
/// [`Error::TokenRefused`] if the token is unknown, used or expired; others as [`Client::ask`].
pub async fn join(keys: &KeyPair, invitation: &Invitation, limit: Duration) -> Result<Joined, Error> {
    let mut requester = Requester::new(invitation.server.clone(), None, DialLimits::default());
    let hello = Hello::new(PROGRAM, user());
    let (initiator, message) = Initiator::start(keys, invitation.key, PeerKind::Operator, hello, Some(&invitation.token))?;
    let answer = requester.request(message, limit).await?;
    let (_, session) = initiator.finish(&answer).map_err(|error| {
        if let SealError::Refused(Refusal::Unverified | Refusal::UnknownKey) | SealError::Verify { .. } = error {
            return Error::TokenRefused { addr: invitation.server.clone() };
        }
        if let SealError::Refused(why) = error {
            return Error::Refused { addr: invitation.server.clone(), own: keys.public().fingerprint(), why };
        }
        error.into()
    })?;
    let (message, counter) = session.seal(Kind::Request, &codec::encode(&JoinRequest { program: PROGRAM.to_owned() })?)?;
    let opened = session.open(Kind::Answer, &requester.request(message, limit).await?)?;
    if opened.re != counter {
        return Err(SealError::Misplaced("it answers another question").into());
    }
    match codec::decode(&opened.body)? {
        JoinAnswer::Joined(joined) => Ok(joined),
        JoinAnswer::Fault { fault } => Err(Error::Fault(fault.into())),
    }
}

/// Whether anybody listens at this address: what is wrong first, for somebody who has no key yet either.
///
/// # Errors
/// [`Error::Transport`] if the connection is refused.
pub async fn listens(addr: &str) -> Result<(), Error> {
    let connect = tokio::time::timeout(ATTEMPT, tokio::net::TcpStream::connect(addr));
    match connect.await {
        Ok(Err(source)) if source.kind() == std::io::ErrorKind::ConnectionRefused => {
            Err(TransportError::Refused { addr: addr.to_owned(), source }.into())
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The name that this person would like to be known by; it decides nothing.
fn user() -> String {
    std::env::var("USER").unwrap_or_default()
}
