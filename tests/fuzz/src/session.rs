//! Opening sealed messages: forged ones, and genuine ones that were changed on the way.
//!
//! Input: a byte for the kind and the way, the edits (a count, then place and value of each), the body.

use std::sync::OnceLock;

use maglica_proto::{
    key::KeyPair,
    seal::{Hello, Initiator, Kind, PeerKind, Responder, SealError, Session, Welcome, header::HEADER_LEN},
};

use crate::input::Input;

/// The two ends; made once, for a handshake is slow. No input depends on an earlier one: each seals a message anew.
fn ends() -> &'static (Session, Session) {
    static ENDS: OnceLock<(Session, Session)> = OnceLock::new();
    ENDS.get_or_init(|| {
        let made = || -> Result<_, SealError> {
            let (server, host) = (KeyPair::generate()?, KeyPair::generate()?);
            let hello = Hello::new("0", "host0");
            let (initiator, first) = Initiator::start(&host, server.public(), PeerKind::Host, hello, None)?;
            let welcome =
                Welcome { protocol: 1, program: "0".into(), name: "host0".into(), topic: None, server_key: None };
            let (second, theirs) = Responder::read(&server, &first)?.accept(&welcome, None)?;
            Ok((initiator.finish(&second)?.1, theirs))
        };
        made().expect("a handshake between two new keys succeeds")
    })
}

/// Seals a message, changes it, and demands that only the untouched one opens, once.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let way = input.byte();
    let (host, server) = ends();
    let (kind, from, to) = match way & 3 {
        0 | 1 => (Kind::Request, host, server),
        2 => (Kind::Broadcast, server, host),
        _ => (Kind::Answer, server, host),
    };
    let edits: Vec<(usize, u8)> = (0..input.byte() % 8).map(|_| (input.number(), input.byte())).collect();
    let mut body = input.0.to_vec();
    if way & 0xf0 == 0xf0 {
        // Long enough for several Noise messages.
        body.resize(body.len() + 140_000, 7);
    }
    let sealed = match kind {
        Kind::Answer => from.seal_answer(7, &body),
        _ => from.seal(kind, &body).map(|(message, _)| message),
    };
    let sealed = sealed.expect("a body within the limit can be sealed");

    // Bytes of a stranger, as they are and behind a header that fits.
    assert!(to.open(kind, input.0).is_err(), "bytes of a stranger were believed");
    let mut forged = sealed[..HEADER_LEN].to_vec();
    forged.extend_from_slice(input.0);
    assert!(to.open(kind, &forged).is_err(), "forged bytes behind a genuine header were believed");

    let changed = changed(&sealed, way, &edits);
    if changed != sealed {
        assert!(to.open(kind, &changed).is_err(), "a changed message was believed");
    }
    for other in [Kind::Request, Kind::Answer, Kind::Broadcast] {
        assert!(other == kind || to.open(other, &sealed).is_err(), "a message was taken for one of another kind");
    }
    assert!(from.open(kind, &sealed).is_err(), "a message was believed by the one who sent it");

    let opened = to.open(kind, &sealed).expect("what was tried before does not keep the genuine message from opening");
    assert_eq!(opened.body, body);
    assert_eq!(opened.re, if kind == Kind::Answer { 7 } else { opened.counter });
    assert!(matches!(to.open(kind, &sealed), Err(SealError::Replayed(_))), "a message opened twice");
}

fn changed(sealed: &[u8], way: u8, edits: &[(usize, u8)]) -> Vec<u8> {
    let mut message = sealed.to_vec();
    for &(place, value) in edits {
        let place = place % message.len().max(1);
        match way >> 2 & 3 {
            0 | 1 => message.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= value),
            2 => message.truncate(place),
            _ => message.insert(place, value),
        }
    }
    message
}
