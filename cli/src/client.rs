//! Questions to the client worker, asked again when an answer is lost. Every request may be repeated: those that change
//! something carry an id made here.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use maglica_proto::{
    codec,
    config::{Config, keyfile},
    fault::chain,
    join::{Invitation, JoinAnswer, JoinRequest, Joined},
    key::{Fingerprint, KeyPair, PublicKey, Token},
    request::{Answer, Request},
    seal::{Hello, PeerKind, Refusal, SealError},
    transport::{DialLimits, Requester, SealedError, SealedRequester, TransportError},
};

use crate::{error::Error, release};

/// The version that the client worker logs.
const PROGRAM: &str = concat!("maglica ", env!("CARGO_PKG_VERSION"));
/// One attempt of a question that is answered at once; within [`crate::app::ANSWER_LIMIT`] there is room for more.
const ATTEMPT: Duration = Duration::from_secs(4);
/// The first pause before a repetition; doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The client worker, as this command reaches it.
pub struct Client {
    own: Fingerprint,
    conversation: SealedRequester,
    notes: Arc<Mutex<Vec<String>>>,
    /// The client worker's version, once it has said it.
    server: Option<String>,
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
        let path = config.operator.server_key.clone();
        let server = keyfile::read_public(&path)?;
        let (own, notes) = (keys.public().fingerprint(), Arc::<Mutex<Vec<String>>>::default());
        let (mut pinned, said) = (server, notes.clone());
        let pin = move |next| match repin(&path, pinned, next) {
            Ok(()) => {
                pinned = next;
                true
            }
            Err(why) => {
                let note =
                    format!("the client worker is about to change its key, and {why}; write this line into it: {next}");
                said.lock().unwrap_or_else(PoisonError::into_inner).push(note);
                false
            }
        };
        let conversation = conversation(keys, server, config.client.rep_addr(), None).pinning(pin);
        Ok(Self { own, conversation, notes, server: None, met: false })
    }

    /// The client worker's newest key that is known to be its own.
    #[must_use]
    pub fn newest_server(&self) -> PublicKey {
        self.conversation.newest_server()
    }

    /// The client worker's version, once it has answered.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// What the person should know, said once.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        let mut notes = std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        notes.dedup();
        notes
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
            let limit =
                until.saturating_duration_since(Instant::now()).min(ATTEMPT + held).max(Duration::from_millis(1));
            let error = match self.once(&body, limit).await {
                Ok(Answer::Fault { fault }) => return Err(Error::Fault(fault.into())),
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.conversation.forget();
            if !self.may_pass(&error) || Instant::now() + pause >= until {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&mut self, body: &[u8], limit: Duration) -> Result<Answer, Error> {
        let until = Instant::now() + limit;
        let handshake = self.conversation.session(limit).await.map(|(_, welcome)| {
            if self.server.as_deref() != Some(&welcome.program) {
                self.server = Some(welcome.program.clone());
                self.notes
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(release::server_differs(&welcome.program));
            }
        });
        self.met |= !matches!(handshake, Err(SealedError::Transport(_)));
        handshake.map_err(|error| self.no_session(error))?;
        let left = until.saturating_duration_since(Instant::now());
        Ok(codec::decode(&self.conversation.call(body, left).await?)?)
    }

    fn no_session(&self, error: SealedError) -> Error {
        let addr = || self.conversation.addr().to_owned();
        match error {
            // It could not read what was made for the pinned key, or its answer was not made with that key.
            SealedError::Seal {
                source: SealError::Refused(Refusal::Unverified) | SealError::Verify { .. }, ..
            } => Error::WrongServer { addr: addr(), expected: self.conversation.server().fingerprint() },
            SealedError::Seal { source: SealError::Refused(why), .. } => {
                Error::Refused { addr: addr(), own: self.own.clone(), why }
            }
            SealedError::Seal { .. } | SealedError::Transport(_) | SealedError::Crossed { .. } => error.into(),
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

/// Pins the next key in the place of the one that this command began with.
fn repin(path: &Path, pinned: PublicKey, next: PublicKey) -> Result<(), String> {
    match keyfile::read_public(path) {
        Ok(known) if known == next => Ok(()),
        Ok(known) if known == pinned => keyfile::write_public(path, next).map_err(|error| chain(&error)),
        Ok(_) => Err(format!("{} was changed meanwhile", path.display())),
        Err(error) => Err(chain(&error)),
    }
}

/// Enrols the key by the token of the invitation; gives also the client worker's key to pin, which may be a newer one than the
/// invitation's.
///
/// # Errors
/// [`Error::TokenRefused`] if the token is unknown, used or expired; others as [`Client::ask`].
pub async fn join(keys: &KeyPair, invitation: &Invitation, limit: Duration) -> Result<(Joined, PublicKey), Error> {
    let mut conversation =
        conversation(keys.clone(), invitation.key, invitation.server.clone(), Some(invitation.token.clone()));
    let handshake = conversation.session(limit).await.map(drop);
    handshake.map_err(|error| match error {
        SealedError::Seal {
            source: SealError::Refused(Refusal::Unverified | Refusal::UnknownKey) | SealError::Verify { .. },
            addr,
        } => Error::TokenRefused { addr },
        SealedError::Seal { source: SealError::Refused(why), addr } => {
            Error::Refused { addr, own: keys.public().fingerprint(), why }
        }
        SealedError::Seal { .. } | SealedError::Transport(_) | SealedError::Crossed { .. } => error.into(),
    })?;
    let body = codec::encode(&JoinRequest { program: PROGRAM.to_owned() })?;
    match codec::decode(&conversation.call(&body, limit).await?)? {
        JoinAnswer::Joined(joined) => Ok((joined, conversation.newest_server())),
        JoinAnswer::Fault { fault } => Err(Error::Fault(fault.into())),
    }
}

fn conversation(keys: KeyPair, server: PublicKey, addr: String, token: Option<Token>) -> SealedRequester {
    let requester = Requester::new(addr, None, DialLimits::default());
    SealedRequester::new(requester, keys, server, PeerKind::Operator, Hello::new(PROGRAM, user()), token)
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
