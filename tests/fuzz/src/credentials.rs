//! What people carry over by hand or keep in files: invitations, keys, fingerprints, tokens, ids.
//!
//! Input: the text.

use maglica_proto::{
    id::JobId,
    join::Invitation,
    key::{Fingerprint, KeyPair, PublicKey, Token},
};

use crate::input::text;

/// What is one of them prints as it was written; there is one way to write each.
pub fn check(data: &[u8]) {
    let text = text(data);
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text.trim());
        let fingerprint = key.fingerprint();
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }
    if let Ok(pair) = KeyPair::from_line(&text) {
        assert_eq!(pair.to_line().expose(), text.trim());
        assert!(!format!("{pair:?}").contains(text.trim()), "a private key is shown");
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string(), text.trim());
    }
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_line().expose(), text.trim());
        assert!(!format!("{token:?}").contains(text.trim()), "a token is shown");
    }
    match text.parse::<Invitation>() {
        Ok(invitation) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(invitation.to_line().expose(), words.join(" "));
            let address = Invitation::address(&invitation.server).expect("it was checked");
            let port = &invitation.server[address.len() + 1..];
            assert!(port.bytes().all(|byte| byte.is_ascii_digit()), "{port:?} is not a port");
        }
        Err(error) => assert!(error.to_string().len() < 1000),
    }
    match text.parse::<JobId>() {
        Ok(id) => assert_eq!(id.to_string().parse(), Ok(id)),
        Err(error) => assert!(error.to_string().len() < 1000),
    }
}
