//! The handshake of a transfer, and records that are sealed in order. No I/O.
//!
//! ```text
//! opening    = 'MGLT' ‖ version ‖ role ‖ length(2) ‖ Noise message 1 (Hello)         at most 1 KiB
//! acceptance = length(2) ‖ Noise message 2 (Acceptance)
//! record     = length(2) ‖ Noise message                                             each direction counts its own from 0
//! ```
//! `Noise_IK` between keys that the client worker named to both, as on the bus; AES-GCM in the place of ChaChaPoly, for disks are
//! large and hosts have AES in their processors. A stranger hears nothing: the connection is closed.

use snow::{Builder, HandshakeState, StatelessTransportState};

use super::{
    TransferError,
    message::{Acceptance, Hello, PROTOCOL},
};
use crate::{
    codec,
    key::{KeyPair, PublicKey},
};

const PATTERN: &str = "Noise_IK_25519_AESGCM_BLAKE2s";
const MAGIC: [u8; 4] = *b"MGLT";
const VERSION: u8 = 1;
/// What precedes the Noise message of an opening.
pub const OPENING_HEAD: usize = 8;
/// The longest Noise message of a handshake.
pub const HANDSHAKE_MAX: usize = 1016;
/// The longest record without its length.
pub const RECORD_MAX: usize = 65_535;
/// What a record is longer than its content.
pub const TAG: usize = 16;

/// As what somebody dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A host worker.
    Host,
    /// Somebody with a CLI.
    Operator,
}

impl Role {
    const fn number(self) -> u8 {
        match self {
            Self::Host => 1,
            Self::Operator => 2,
        }
    }

    const fn prologue(self) -> &'static [u8] {
        match self {
            Self::Host => b"maglica transfer/host",
            Self::Operator => b"maglica transfer/operator",
        }
    }
}

fn builder(role: Role, keys: &KeyPair) -> Result<Builder<'_>, TransferError> {
    let params = PATTERN.parse().map_err(TransferError::Seal)?;
    Builder::new(params)
        .local_private_key(keys.private())
        .and_then(|builder| builder.prologue(role.prologue()))
        .map_err(TransferError::Seal)
}

/// The side that dials, between its two messages.
pub struct Opener {
    noise: HandshakeState,
}

impl Opener {
    /// Begins: gives the opening to send.
    ///
    /// # Errors
    /// [`TransferError`] if the crypto refuses the keys.
    pub fn start(keys: &KeyPair, peer: PublicKey, role: Role, hello: &Hello) -> Result<(Self, Vec<u8>), TransferError> {
        let mut noise = builder(role, keys)?
            .remote_public_key(peer.as_bytes())
            .and_then(Builder::build_initiator)
            .map_err(TransferError::Seal)?;
        let message = write(&mut noise, &codec::encode(hello)?)?;
        let mut opening = MAGIC.to_vec();
        opening.extend([VERSION, role.number()]);
        opening.extend(message);
        Ok((Self { noise }, opening))
    }

    /// Reads the acceptance, without its length.
    ///
    /// # Errors
    /// [`TransferError`] if it is not the peer's.
    pub fn finish(mut self, message: &[u8]) -> Result<Sealed, TransferError> {
        let acceptance: Acceptance = codec::decode(&read(&mut self.noise, message)?)?;
        if acceptance.protocol != PROTOCOL {
            return Err(TransferError::Protocol("another form of transfers"));
        }
        Sealed::new(self.noise)
    }
}

/// The side that is dialled: an opening that was read. Whose key it is is proven; whether it was sent just now is not, before the
/// first record is opened.
pub struct Acceptor {
    noise: HandshakeState,
    /// As what it comes.
    pub role: Role,
    /// The key at the other end.
    pub key: PublicKey,
    /// What it said.
    pub hello: Hello,
}

impl Acceptor {
    /// Reads the head of an opening: as what it comes, and how long the Noise message is.
    ///
    /// # Errors
    /// [`TransferError::Protocol`] if it is none.
    pub fn head(head: [u8; OPENING_HEAD]) -> Result<(Role, usize), TransferError> {
        let [a, b, c, d, version, role, high, low] = head;
        if [a, b, c, d] != MAGIC || version != VERSION {
            return Err(TransferError::Protocol("it is no opening of a transfer"));
        }
        let role = match role {
            1 => Role::Host,
            2 => Role::Operator,
            _ => return Err(TransferError::Protocol("it comes as nothing known")),
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > HANDSHAKE_MAX {
            return Err(TransferError::Protocol("an opening over its limit"));
        }
        Ok((role, length))
    }

    /// Reads the Noise message of an opening.
    ///
    /// # Errors
    /// [`TransferError`] if it was not made for this key.
    pub fn read(keys: &KeyPair, role: Role, message: &[u8]) -> Result<Self, TransferError> {
        let mut noise = builder(role, keys)?.build_responder().map_err(TransferError::Seal)?;
        let hello: Hello = codec::decode(&read(&mut noise, message)?)?;
        let key = noise.get_remote_static().and_then(|key| <[u8; 32]>::try_from(key).ok());
        let key = key.ok_or(TransferError::Protocol("no key"))?;
        if !(hello.protocol_min..=hello.protocol_max).contains(&PROTOCOL) {
            return Err(TransferError::Protocol("another form of transfers"));
        }
        Ok(Self { noise, role, key: PublicKey::from_bytes(key), hello })
    }

    /// Lets it in: gives the acceptance to send.
    ///
    /// # Errors
    /// [`TransferError`] if the crypto refuses.
    pub fn accept(mut self) -> Result<(Vec<u8>, Sealed), TransferError> {
        let message = write(&mut self.noise, &codec::encode(&Acceptance { protocol: PROTOCOL })?)?;
        Ok((message, Sealed::new(self.noise)?))
    }
}

/// A Noise message with its length in front.
fn write(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, TransferError> {
    let mut message = vec![0; 2 + HANDSHAKE_MAX];
    let length = noise.write_message(payload, &mut message[2..]).map_err(TransferError::Seal)?;
    message.truncate(2 + length);
    message[..2].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    Ok(message)
}

fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, TransferError> {
    let mut payload = vec![0; message.len()];
    let length = noise.read_message(message, &mut payload).map_err(TransferError::Seal)?;
    payload.truncate(length);
    Ok(payload)
}

/// Both directions of a transfer's session.
pub struct Sealed {
    noise: StatelessTransportState,
    sent: u64,
    received: u64,
}

impl Sealed {
    fn new(noise: HandshakeState) -> Result<Self, TransferError> {
        let noise = noise.into_stateless_transport_mode().map_err(TransferError::Seal)?;
        Ok(Self { noise, sent: 0, received: 0 })
    }

    /// Seals the next record of this side and appends it, with its length, to `out`.
    ///
    /// # Errors
    /// [`TransferError::Seal`] if the content is too long for a record.
    pub fn seal(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), TransferError> {
        let at = out.len();
        out.resize(at + 2 + content.len() + TAG, 0);
        let length = self.noise.write_message(self.sent, content, &mut out[at + 2..]).map_err(TransferError::Seal)?;
        let length = u16::try_from(length).map_err(|_| TransferError::Protocol("a record over its limit"))?;
        out[at..at + 2].copy_from_slice(&length.to_be_bytes());
        self.sent += 1;
        Ok(())
    }

    /// Opens the next record of the other side, without its length, into `content`, which must be as long; gives how much it is.
    ///
    /// # Errors
    /// [`TransferError::Seal`] if it is not the next.
    pub fn open(&mut self, record: &[u8], content: &mut [u8]) -> Result<usize, TransferError> {
        let length = self.noise.read_message(self.received, record, content).map_err(TransferError::Seal)?;
        self.received += 1;
        Ok(length)
    }
}
