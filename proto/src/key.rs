//! Keys, their fingerprints, and the tokens that let a new key in. No files here: whoever keeps a key reads and writes it.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A text that is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: {why}")]
pub struct InvalidKey {
    /// What it was to be.
    pub what: &'static str,
    /// Why it is not.
    pub why: &'static str,
}

/// A public key (X25519), shown as base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What people compare.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(format!("SHA256:{}", BASE64_NOPAD.encode(&Sha256::digest(self.0))))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        decode_32(text, "public key").map(Self)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidKey;
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

fn decode_32(text: &str, what: &'static str) -> Result<[u8; 32], InvalidKey> {
    let text = text.trim();
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| InvalidKey { what, why: "it is not base64" })?;
    let written = Zeroizing::new(BASE64.encode(&bytes));
    // The decoder also takes several padded pieces one after the other; a key is written in one way.
    if *written != text {
        return Err(InvalidKey { what, why: "it is not base64" });
    }
    bytes.try_into().map_err(|_| InvalidKey { what, why: "it does not have 32 bytes" })
}

/// A public key's fingerprint, `SHA256:` and base64 as ssh shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(String);

impl FromStr for Fingerprint {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let invalid = |why| InvalidKey { what: "fingerprint", why };
        let digest = text.trim().strip_prefix("SHA256:").ok_or(invalid("it does not begin with SHA256:"))?;
        match BASE64_NOPAD.decode(digest.as_bytes()) {
            Ok(bytes) if bytes.len() == 32 => Ok(Self(text.trim().to_owned())),
            Ok(_) | Err(_) => Err(invalid("what follows SHA256: is not a digest in base64")),
        }
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidKey;
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A key pair (X25519). Its bytes are wiped when it goes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyPair {
    private: [u8; 32],
    #[zeroize(skip)]
    public: PublicKey,
}

impl KeyPair {
    /// A new one from the system's random source.
    ///
    /// # Errors
    /// [`InvalidKey`] if the random source fails.
    pub fn generate() -> Result<Self, InvalidKey> {
        let mut private = [0; 32];
        getrandom::fill(&mut private)
            .map_err(|_| InvalidKey { what: "key pair", why: "the system's random source failed" })?;
        Self::from_private(private)
    }

    fn from_private(private: [u8; 32]) -> Result<Self, InvalidKey> {
        let public = crate::seal::public_of(&private)
            .ok_or(InvalidKey { what: "key pair", why: "its public half cannot be computed" })?;
        Ok(Self { private, public })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) const fn private(&self) -> &[u8; 32] {
        &self.private
    }

    /// The private half as the one line of a key file. Anybody who reads it is its owner.
    #[must_use]
    pub fn to_line(&self) -> Secret {
        Secret::new(BASE64.encode(&self.private))
    }

    /// Reads the line of a key file.
    ///
    /// # Errors
    /// [`InvalidKey`] if it is not a private key.
    pub fn from_line(line: &str) -> Result<Self, InvalidKey> {
        Self::from_private(decode_32(line, "private key")?)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public.fingerprint())
    }
}

/// A text that must not be shown: it prints as `***`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps this text from being shown.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Says which token a joiner holds, without being the token: the first eight bytes of a digest, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(String);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A single-use token of 128 random bits, shown as `mg-` and 22 characters.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Token([u8; 16]);

/// What every token begins with, so that one is recognised where it does not belong.
const TOKEN_PREFIX: &str = "mg-";

impl Token {
    /// A new one from the system's random source.
    ///
    /// # Errors
    /// [`InvalidKey`] if the random source fails.
    pub fn generate() -> Result<Self, InvalidKey> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|_| InvalidKey { what: "token", why: "the system's random source failed" })?;
        Ok(Self(bytes))
    }

    /// The token as the person who joins types it.
    #[must_use]
    pub fn to_line(&self) -> Secret {
        Secret::new(format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&self.0)))
    }

    /// Which token this is.
    #[must_use]
    pub fn id(&self) -> TokenId {
        TokenId(HEXLOWER.encode(&self.digest("maglica token id")[..8]))
    }

    /// The key that both sides of the joining handshake share.
    #[must_use]
    pub fn psk(&self) -> Secret {
        Secret::new(BASE64.encode(&self.digest("maglica token psk")))
    }

    fn digest(&self, purpose: &str) -> [u8; 32] {
        Sha256::new().chain_update(purpose).chain_update([0]).chain_update(self.0).finalize().into()
    }
}

/// The bytes of a [`Token::psk`] that travelled as text.
///
/// # Errors
/// [`InvalidKey`] if it is not 32 bytes in base64.
pub(crate) fn psk_bytes(psk: &Secret) -> Result<[u8; 32], InvalidKey> {
    decode_32(psk.expose(), "pre-shared key")
}

impl FromStr for Token {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let invalid = |why| InvalidKey { what: "token", why };
        let body = text.trim().strip_prefix(TOKEN_PREFIX).ok_or(invalid("it does not begin with mg-"))?;
        let bytes = BASE64URL_NOPAD
            .decode(body.as_bytes())
            .map_err(|_| invalid("it holds other characters than a token has"))?;
        bytes.try_into().map(Self).map_err(|_| invalid("it is too short or too long; was it cut?"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_line_and_is_not_shown() {
        let pair = KeyPair::generate().unwrap();
        let again = KeyPair::from_line(pair.to_line().expose()).unwrap();
        assert_eq!(again.public(), pair.public());
        assert_eq!(format!("{:?}", pair.to_line()), "***");
        assert!(!format!("{pair:?}").contains(pair.to_line().expose()));
    }

    #[test]
    fn a_key_is_written_in_one_way() {
        // 31 bytes and one more, each with padding of its own.
        let pieces = format!("{}{}", BASE64.encode(&[7; 31]), BASE64.encode(&[7]));
        assert_eq!(BASE64.decode(pieces.as_bytes()).map(|bytes| bytes.len()), Ok(32), "the decoder takes it");
        assert!(pieces.parse::<PublicKey>().is_err() && KeyPair::from_line(&pieces).is_err());
        assert_eq!(BASE64.encode(&[7; 32]).parse(), Ok(PublicKey::from_bytes([7; 32])));
    }

    #[test]
    fn a_fingerprint_is_the_same_for_the_same_key_only() {
        let pair = KeyPair::generate().unwrap();
        let fingerprint = pair.public().fingerprint();
        assert_eq!(fingerprint.to_string().parse::<Fingerprint>().unwrap(), fingerprint);
        assert_ne!(KeyPair::generate().unwrap().public().fingerprint(), fingerprint);
        for text in ["", "SHA256:", "SHA256:abc", "MD5:00"] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_token_reads_back_and_its_id_does_not_tell_it() {
        let token = Token::generate().unwrap();
        let line = token.to_line();
        assert_eq!(line.expose().parse::<Token>().unwrap(), token);
        assert!(!line.expose().contains(&token.id().to_string()));
        assert_ne!(token.id().to_string(), token.psk().expose());
        assert!("mg-abc".parse::<Token>().is_err());
    }
}
