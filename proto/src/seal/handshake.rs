//! The handshake: `Noise_IK` between enrolled keys, `Noise_IKpsk2` to join by a token.
//!
//! The prologue holds the protocol's name and the message kind, so neither a host's handshake nor a joiner's can be
//! passed off as another's. It holds no id of the cloud: the client worker's key, which the initiator has pinned, is
//! one. The first message can be replayed by nature; it has no effect, and the session that it leads to is usable
//! only by whoever holds the key.

use serde::{Deserialize, Serialize};
use snow::{Builder, HandshakeState};

use super::{
    SealError,
    header::{Header, Kind, SessionId, read_refusal},
    session::Session,
};
use crate::{
    codec,
    key::{KeyPair, PublicKey, Secret, Token, TokenId, psk_bytes},
};

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
const PATTERN_JOIN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// The inner protocol that this version speaks: requests, answers, broadcasts.
pub const PROTOCOL: u8 = 1;
/// The oldest that it still speaks.
pub const PROTOCOL_FLOOR: u8 = 1;
/// A handshake message with its payload is far smaller; the bound is for reading strangers'.
const HANDSHAKE_MAX: usize = 2048;

/// Who is at the other end of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// A host worker.
    Host,
    /// Somebody with a CLI.
    Operator,
}

impl PeerKind {
    const fn hello(self, join: bool) -> Kind {
        match (self, join) {
            (Self::Host, false) => Kind::HelloHost,
            (Self::Operator, false) => Kind::HelloOperator,
            (Self::Host, true) => Kind::JoinHost,
            (Self::Operator, true) => Kind::JoinOperator,
        }
    }
}

/// What the initiator says in the first message; the client worker's key alone can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest inner protocol that it speaks.
    pub protocol_min: u8,
    /// The newest.
    pub protocol_max: u8,
    /// Its program's version, for people.
    pub program: String,
    /// The name that it would like to be known by; decides nothing, for a name belongs to a key.
    pub name: String,
    /// The token that it joins with.
    #[serde(default)]
    pub token: Option<TokenId>,
}

impl Hello {
    /// A hello of this program.
    #[must_use]
    pub fn new(program: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            protocol_min: PROTOCOL_FLOOR,
            protocol_max: PROTOCOL,
            program: program.into(),
            name: name.into(),
            token: None,
        }
    }
}

/// What the client worker answers in the second message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The inner protocol of this session.
    pub protocol: u8,
    /// The client worker's version, for people.
    pub program: String,
    /// The name by which it knows the key.
    pub name: String,
    /// The topic on which a host's broadcasts come in this session; ends in `/`.
    #[serde(default)]
    pub topic: Option<String>,
    /// The client worker's next key, to be pinned in the place of the one that this handshake was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_key: Option<PublicKey>,
}

/// The side that dials, between its two messages.
pub struct Initiator {
    noise: HandshakeState,
}

impl Initiator {
    /// Begins: gives the message to send.
    ///
    /// # Errors
    /// [`SealError`] if the crypto refuses the keys.
    pub fn start(
        keys: &KeyPair,
        server: PublicKey,
        peer: PeerKind,
        mut hello: Hello,
        token: Option<&Token>,
    ) -> Result<(Self, Vec<u8>), SealError> {
        let kind = peer.hello(token.is_some());
        hello.token = token.map(Token::id);
        let psk = token.map(|token| psk_bytes(&token.psk())).transpose()?;
        let builder = builder(kind, keys, psk.as_ref())?
            .remote_public_key(server.as_bytes())
            .map_err(|source| SealError::Verify { what: "server key", source })?;
        let mut noise =
            builder.build_initiator().map_err(|source| SealError::Verify { what: "handshake to begin", source })?;
        let message =
            write(&mut noise, Header::without_session(kind), &codec::encode(&hello).map_err(SealError::Payload)?)?;
        Ok((Self { noise }, message))
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`SealError::Refused`] with the word, or why the answer is not to be believed.
    pub fn finish(mut self, message: &[u8]) -> Result<(Welcome, Session), SealError> {
        let (header, rest) = Header::split(message)?;
        if header.kind == Kind::Refusal {
            return Err(read_refusal(rest));
        }
        if header.kind != Kind::Welcome {
            return Err(SealError::Misplaced("it does not answer a handshake"));
        }
        let payload = read(&mut self.noise, rest)?;
        let (session, payload) = payload.split_first_chunk::<16>().ok_or(SealError::Malformed("no session id"))?;
        if SessionId(*session) != header.session || header.counter != 0 {
            return Err(SealError::Misplaced("the session id inside differs, or its counter is not zero"));
        }
        let welcome: Welcome = codec::decode(payload).map_err(SealError::Payload)?;
        if !(PROTOCOL_FLOOR..=PROTOCOL).contains(&welcome.protocol) {
            return Err(SealError::Version { min: welcome.protocol, max: welcome.protocol, ours: PROTOCOL });
        }
        Ok((welcome, into_session(self.noise, header.session)?))
    }
}

/// The client worker's side: a first message that was read, with the key that it came from.
pub struct Responder {
    noise: HandshakeState,
    /// Who it says it is.
    pub peer: PeerKind,
    /// Whether it wants to join by a token.
    pub join: bool,
    /// The key at the other end. Proven when the first sealed message of the session is opened, not before.
    pub key: PublicKey,
    /// What it said.
    pub hello: Hello,
}

impl Responder {
    /// Reads a first message.
    ///
    /// # Errors
    /// [`SealError`]: it is not one, or it was not made for this key.
    pub fn read(keys: &KeyPair, message: &[u8]) -> Result<Self, SealError> {
        let (header, rest) = Header::split(message)?;
        let (peer, join) = match header.kind {
            Kind::HelloHost => (PeerKind::Host, false),
            Kind::HelloOperator => (PeerKind::Operator, false),
            Kind::JoinHost => (PeerKind::Host, true),
            Kind::JoinOperator => (PeerKind::Operator, true),
            Kind::Welcome | Kind::Request | Kind::Answer | Kind::Broadcast | Kind::Refusal | Kind::Beat => {
                return Err(SealError::Misplaced("it does not begin a handshake"));
            }
        };
        if header != Header::without_session(header.kind) {
            return Err(SealError::Misplaced("it begins a session and names one"));
        }
        // The pre-shared key comes into play in the second message only; until the token is known, any will do.
        let mut noise = builder(header.kind, keys, join.then_some(&[0; 32]))?
            .build_responder()
            .map_err(|source| SealError::Verify { what: "handshake to answer", source })?;
        let payload = read(&mut noise, rest)?;
        let hello: Hello = codec::decode(&payload).map_err(SealError::Payload)?;
        let key = noise
            .get_remote_static()
            .and_then(|key| <[u8; 32]>::try_from(key).ok())
            .ok_or(SealError::Malformed("no key"))?;
        if hello.protocol_max < PROTOCOL_FLOOR || hello.protocol_min > PROTOCOL {
            return Err(SealError::Version { min: hello.protocol_min, max: hello.protocol_max, ours: PROTOCOL });
        }
        Ok(Self { noise, peer, join, key: PublicKey::from_bytes(key), hello })
    }

    /// The newest inner protocol that both speak.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.hello.protocol_max.min(PROTOCOL)
    }

    /// Lets it in: gives the message to answer with, and the session. `psk` is the token's, when it joins by one.
    ///
    /// # Errors
    /// [`SealError`] if the crypto refuses.
    pub fn accept(mut self, welcome: &Welcome, psk: Option<&Secret>) -> Result<(Vec<u8>, Session), SealError> {
        if let Some(psk) = psk {
            let psk = psk_bytes(psk)?;
            self.noise.set_psk(2, &psk).map_err(|source| SealError::Verify { what: "token", source })?;
        }
        let session = SessionId::generate()?;
        let header = Header { kind: Kind::Welcome, session, counter: 0 };
        let mut payload = session.0.to_vec();
        payload.extend(codec::encode(welcome).map_err(SealError::Payload)?);
        let message = write(&mut self.noise, header, &payload)?;
        Ok((message, into_session(self.noise, session)?))
    }
}

fn builder<'a>(kind: Kind, keys: &'a KeyPair, psk: Option<&'a [u8; 32]>) -> Result<Builder<'a>, SealError> {
    let fail = |source| SealError::Verify { what: "handshake to set up", source };
    let pattern = if psk.is_some() { PATTERN_JOIN } else { PATTERN };
    let params = pattern.parse().map_err(|_| SealError::Malformed("the Noise pattern is not built in"))?;
    let builder =
        Builder::new(params).local_private_key(keys.private()).map_err(fail)?.prologue(prologue(kind)).map_err(fail)?;
    match psk {
        Some(psk) => builder.psk(2, psk).map_err(fail),
        None => Ok(builder),
    }
}

const fn prologue(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::HelloHost => b"maglica protocol/host",
        Kind::HelloOperator => b"maglica protocol/operator",
        Kind::JoinHost => b"maglica protocol/join-host",
        Kind::JoinOperator => b"maglica protocol/join-operator",
        // None of these begins a handshake; a prologue of its own keeps it that way.
        Kind::Welcome | Kind::Request | Kind::Answer | Kind::Broadcast | Kind::Refusal | Kind::Beat => {
            b"maglica protocol/none"
        }
    }
}

fn write(noise: &mut HandshakeState, header: Header, payload: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut buffer = vec![0; payload.len() + 256];
    let length = noise
        .write_message(payload, &mut buffer)
        .map_err(|source| SealError::Verify { what: "handshake to send", source })?;
    let mut message = header.to_bytes().to_vec();
    message.extend_from_slice(&buffer[..length]);
    Ok(message)
}

fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, SealError> {
    if message.len() > HANDSHAKE_MAX {
        return Err(SealError::Malformed("a handshake message over its limit"));
    }
    let mut payload = vec![0; message.len()];
    let length =
        noise.read_message(message, &mut payload).map_err(|source| SealError::Verify { what: "handshake", source })?;
    payload.truncate(length);
    Ok(payload)
}

fn into_session(noise: HandshakeState, id: SessionId) -> Result<Session, SealError> {
    let noise = noise
        .into_stateless_transport_mode()
        .map_err(|source| SealError::Verify { what: "handshake to end", source })?;
    Ok(Session::new(id, noise))
}
