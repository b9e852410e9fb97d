//! The register's rules: tokens, revocation, the door, new keys.

use maglica_proto::key::{KeyPair, Token};

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn key() -> PublicKey {
    KeyPair::generate().unwrap().public()
}

fn invite(token: &Token) -> Invite {
    Invite { token: token.id(), psk: token.psk(), valid_s: 60 }
}

#[test]
fn a_token_lets_in_once_and_not_after_its_time() {
    let (token, mut register) = (Token::generate().unwrap(), Register::default());
    register.invite(InvitedAs::Host { name: host("h1") }, invite(&token), at(0)).unwrap();
    let late = register.clone().join(&token.id(), key(), at(60));
    assert_eq!(late.unwrap_err().code, Code::Trust);
    let first = key();
    assert_eq!(register.join(&token.id(), first, at(1)).unwrap(), Known::Host(host("h1")));
    assert!(register.psk(&token.id(), &first, at(2)).is_some(), "its answer was lost, and it asks again");
    assert!(register.psk(&token.id(), &key(), at(2)).is_none(), "somebody else with the used token");
    assert_eq!(register.join(&token.id(), first, at(2)).unwrap(), Known::Host(host("h1")));
    assert_eq!(register.join(&token.id(), key(), at(3)).unwrap_err().code, Code::Trust);
}

#[test]
fn a_revoked_key_stays_out_for_ever_and_its_name_may_be_used_again() {
    let (token, mut register, first) = (Token::generate().unwrap(), Register::default(), key());
    register.invite(InvitedAs::Host { name: host("h1") }, invite(&token), at(0)).unwrap();
    register.join(&token.id(), first, at(0)).unwrap();
    register.revoke_host(&host("h1")).unwrap();
    assert_eq!(register.lookup(&first), Err(Refusal::Revoked));
    let again = Token::generate().unwrap();
    register.invite(InvitedAs::Host { name: host("h1") }, invite(&again), at(0)).unwrap();
    assert_eq!(register.join(&again.id(), first, at(0)).unwrap_err().code, Code::Trust);
    assert!(register.join(&again.id(), key(), at(0)).is_ok());
}

#[test]
fn a_pending_host_is_let_in_by_its_fingerprint_only() {
    let (mut register, ours, theirs) = (Register::default(), key(), key());
    register.knock(host("h1"), theirs, at(0));
    assert_eq!(register.accept(&host("h1"), &ours.fingerprint(), at(0)).unwrap_err().code, Code::Trust);
    register.knock(host("h1"), ours, at(0));
    register.accept(&host("h1"), &ours.fingerprint(), at(0)).unwrap();
    assert_eq!(register.lookup(&ours), Ok(Known::Host(host("h1"))));
    assert_eq!(register.lookup(&theirs), Err(Refusal::UnknownKey));
}

#[test]
fn strangers_at_the_door_are_bounded() {
    let mut register = Register::default();
    for i in 0..1000 {
        register.knock(host(&format!("h{i}")), key(), at(i));
    }
    assert_eq!(register.pending().len(), PENDING_MAX);
}

#[test]
fn the_last_administrator_cannot_be_shut_out() {
    let mut register = Register::default();
    let root = OperatorName::new("root").unwrap();
    register.enrol_local_operator(root.clone(), key(), at(0));
    assert_eq!(register.revoke_operator(&root).unwrap_err().code, Code::WrongState);
}

/// A register with these hosts, and their keys.
fn enrolled(names: &[&str]) -> (Register, Vec<PublicKey>) {
    let mut register = Register::default();
    let keys = names.iter().map(|name| {
        let token = Token::generate().unwrap();
        register.invite(InvitedAs::Host { name: host(name) }, invite(&token), at(0)).unwrap();
        let key = key();
        register.join(&token.id(), key, at(0)).unwrap();
        key
    });
    let keys = keys.collect();
    (register, keys)
}

#[test]
fn a_host_gets_a_new_key_when_it_speaks_with_it_and_the_old_one_is_gone_for_ever() {
    let (mut register, keys) = enrolled(&["h1"]);
    let (name, old, next) = (host("h1"), keys[0], key());
    assert_eq!(register.announce(&name, next).unwrap_err().code, Code::WrongState, "nobody asked for it");
    register.ask_rekey(&name, &old.fingerprint()).unwrap();
    for _ in 0..2 {
        register.announce(&name, next).unwrap();
        assert!(register.wants_rekey(&name) && register.is_next(&name, &next));
        // Until it is used, both are the host's.
        assert_eq!(register.lookup(&old), Ok(Known::Host(name.clone())));
        assert_eq!(register.lookup(&next), Ok(Known::Host(name.clone())));
    }
    for _ in 0..2 {
        register.promote(&name, &next);
        assert_eq!(register.lookup(&old), Err(Refusal::Revoked));
        assert_eq!(register.lookup(&next), Ok(Known::Host(name.clone())));
        assert!(!register.wants_rekey(&name) && !register.is_next(&name, &next));
        // The administrator's command again, and the host's word again: their answers were lost.
        register.ask_rekey(&name, &old.fingerprint()).unwrap();
        register.announce(&name, next).unwrap();
    }
    let stored = serde_json::to_vec(&register).unwrap();
    let again: Register = serde_json::from_slice(&stored).unwrap();
    assert!(!again.differs_on_disk(&register));
}

#[test]
fn a_host_takes_no_key_that_is_known_already() {
    let (mut register, keys) = enrolled(&["h1", "h2", "h3"]);
    let (name, root, waiting, shut_out) = (host("h1"), key(), key(), key());
    register.enrol_local_operator(OperatorName::new("root").unwrap(), root, at(0));
    register.knock(host("h9"), waiting, at(0));
    register.revoked.insert(shut_out);
    register.ask_rekey(&name, &keys[0].fingerprint()).unwrap();
    register.ask_rekey(&host("h3"), &keys[2].fingerprint()).unwrap();
    let soon_another_hosts = key();
    register.announce(&host("h3"), soon_another_hosts).unwrap();
    for taken in [keys[1], root, waiting, shut_out, soon_another_hosts] {
        assert_eq!(register.announce(&name, taken).unwrap_err().code, Code::Conflict, "{taken}");
    }
    assert_eq!(register.ask_rekey(&name, &keys[1].fingerprint()).unwrap_err().code, Code::Conflict);
    assert_eq!(register.ask_rekey(&host("h8"), &keys[1].fingerprint()).unwrap_err().code, Code::NotFound);
    // One that was announced and never used gives way; it is then nobody's.
    let (first, second) = (key(), key());
    register.announce(&name, first).unwrap();
    register.announce(&name, second).unwrap();
    assert_eq!(register.lookup(&first), Err(Refusal::UnknownKey));
    register.promote(&name, &first);
    assert_eq!(register.lookup(&keys[0]), Ok(Known::Host(name)));
}

#[test]
fn a_host_that_is_revoked_while_it_changes_its_key_is_so_with_both() {
    let (mut register, keys) = enrolled(&["h1"]);
    let (name, next) = (host("h1"), key());
    register.ask_rekey(&name, &keys[0].fingerprint()).unwrap();
    register.announce(&name, next).unwrap();
    register.revoke_host(&name).unwrap();
    assert_eq!((register.lookup(&keys[0]), register.lookup(&next)), (Err(Refusal::Revoked), Err(Refusal::Revoked)));
    register.promote(&name, &next);
    assert_eq!(register.lookup(&next), Err(Refusal::Revoked));
}
