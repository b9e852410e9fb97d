//! Sealed sessions end to end, and everything that must not be believed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use maglica_proto::{
    key::{KeyPair, Token},
    seal::{Hello, Initiator, Kind, MAX_BODY, PeerKind, Refusal, Responder, SealError, Session, Welcome, refusal},
};
use proptest::prelude::*;

fn welcome() -> Welcome {
    Welcome { protocol: 1, program: "0".into(), name: "host0".into(), topic: Some("s/1/".into()), server_key: None }
}

fn pair() -> (Session, Session) {
    let (server, host) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (initiator, first) =
        Initiator::start(&host, server.public(), PeerKind::Host, Hello::new("0", "host0"), None).unwrap();
    let responder = Responder::read(&server, &first).unwrap();
    assert_eq!((responder.key, responder.peer, responder.join), (host.public(), PeerKind::Host, false));
    let (second, theirs) = responder.accept(&welcome(), None).unwrap();
    let (heard, ours) = initiator.finish(&second).unwrap();
    assert_eq!(heard, welcome());
    (ours, theirs)
}

#[test]
fn a_request_and_its_answer_pass_between_the_two_ends() {
    let (host, server) = pair();
    for body in [vec![], b"hello".to_vec(), vec![7; 65_519], vec![8; MAX_BODY]] {
        let (message, counter) = host.seal(Kind::Request, &body).unwrap();
        let opened = server.open(Kind::Request, &message).unwrap();
        assert_eq!((opened.counter, opened.body), (counter, body.clone()));
        let answer = server.seal_answer(opened.counter, &body).unwrap();
        assert_eq!(host.open(Kind::Answer, &answer).unwrap().re, counter);
    }
    assert!(matches!(host.seal(Kind::Request, &vec![0; MAX_BODY + 1]), Err(SealError::TooLarge(_))));
}

#[test]
fn a_message_cut_off_between_two_of_its_noise_messages_is_noticed_and_the_whole_one_still_accepted() {
    let (host, server) = pair();
    let (message, _) = host.seal(Kind::Request, &vec![7; 200_000]).unwrap();
    for whole_parts in 1..=3 {
        let cut = &message[..32 + whole_parts * 65_535];
        assert!(matches!(server.open(Kind::Request, cut), Err(SealError::Misplaced(_))), "{whole_parts} parts");
    }
    assert_eq!(server.open(Kind::Request, &message).unwrap().body.len(), 200_000);
}

#[test]
fn a_message_is_accepted_once_only() {
    let (host, server) = pair();
    let (message, _) = host.seal(Kind::Request, b"once").unwrap();
    server.open(Kind::Request, &message).unwrap();
    assert!(matches!(server.open(Kind::Request, &message), Err(SealError::Replayed(0))));
}

#[test]
fn a_message_is_believed_only_where_it_was_meant_to_go() {
    let (host, server) = pair();
    let (other_host, other_server) = pair();
    let (message, _) = host.seal(Kind::Request, b"x").unwrap();
    assert!(other_server.open(Kind::Request, &message).is_err(), "another session");
    assert!(host.open(Kind::Request, &message).is_err(), "back to its sender");
    assert!(server.open(Kind::Broadcast, &message).is_err(), "another kind");
    let (broadcast, _) = server.seal(Kind::Broadcast, b"x").unwrap();
    assert!(other_host.open(Kind::Broadcast, &broadcast).is_err(), "another host");
    assert!(host.open(Kind::Answer, &broadcast).is_err(), "a broadcast as an answer");
    // The clear kind alone changed: the copy inside gives it away.
    let mut forged = broadcast.clone();
    forged[5] = Kind::Answer as u8;
    assert!(matches!(host.open(Kind::Answer, &forged), Err(SealError::Misplaced(_))));
    // None of the failures spent the counter.
    assert!(server.open(Kind::Request, &message).is_ok());
    assert!(host.open(Kind::Broadcast, &broadcast).is_ok());
}

#[test]
fn a_handshake_for_another_server_key_cannot_be_read() {
    let (server, other, host) =
        (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (_, first) = Initiator::start(&host, other.public(), PeerKind::Host, Hello::new("0", "h"), None).unwrap();
    assert!(matches!(Responder::read(&server, &first), Err(SealError::Verify { .. })));
}

#[test]
fn a_hosts_handshake_cannot_be_passed_off_as_an_operators() {
    let (server, host) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (_, mut first) = Initiator::start(&host, server.public(), PeerKind::Host, Hello::new("0", "h"), None).unwrap();
    first[5] = Kind::HelloOperator as u8;
    assert!(Responder::read(&server, &first).is_err());
}

#[test]
fn only_the_right_token_joins() {
    let (server, host) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (right, wrong) = (Token::generate().unwrap(), Token::generate().unwrap());
    for (held, works) in [(&right, true), (&wrong, false)] {
        let (initiator, first) =
            Initiator::start(&host, server.public(), PeerKind::Host, Hello::new("0", "h"), Some(held)).unwrap();
        let responder = Responder::read(&server, &first).unwrap();
        assert_eq!((responder.join, &responder.hello.token), (true, &Some(held.id())));
        let (second, theirs) = responder.accept(&welcome(), Some(&right.psk())).unwrap();
        match initiator.finish(&second) {
            Ok((_, ours)) => {
                assert!(works);
                let (message, _) = ours.seal(Kind::Request, b"enrol").unwrap();
                assert!(theirs.open(Kind::Request, &message).is_ok());
            }
            Err(error) => assert!(!works, "{error}"),
        }
    }
}

#[test]
fn a_refusal_is_heard_as_its_word() {
    let (server, host) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (initiator, _) = Initiator::start(&host, server.public(), PeerKind::Host, Hello::new("0", "h"), None).unwrap();
    assert!(matches!(initiator.finish(&refusal(Refusal::Revoked)), Err(SealError::Refused(Refusal::Revoked))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_changed_byte_anywhere_is_noticed(body in proptest::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0_u8..8) {
        let (host, server) = pair();
        let (mut message, _) = host.seal(Kind::Request, &body).unwrap();
        let at = at.index(message.len());
        message[at] ^= 1 << bit;
        prop_assert!(server.open(Kind::Request, &message).is_err());
    }
}
