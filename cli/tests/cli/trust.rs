//! Keys: missing, readable by others, unknown, not the pinned one; joining.

use std::{fs, os::unix::fs::PermissionsExt};

use maglica_proto::{
    config::keyfile,
    join::Invitation,
    key::{KeyPair, Token},
    request::Answer,
    seal::Refusal,
};

use crate::{
    place::{Place, free_port},
    worker::{Door, serve},
};

#[test]
fn without_a_key_nothing_is_sent_and_the_way_to_one_is_told() {
    let place = Place::new(free_port());
    place.configure(serve(place.server.clone(), Door::Operator(place.operator.public()), |_| {
        unreachable!("it must not be asked")
    }));
    fs::remove_file(place.path("key")).unwrap();
    place.run(&["image", "list"]).exits(9).says("there is no private key").says("maglica operator join");
}

#[test]
fn a_private_key_that_others_can_read_is_not_used() {
    let place = Place::new(free_port());
    fs::set_permissions(place.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    place.run(&["image", "list"]).exits(9).says("can be read by others").says("hint: chmod 600 ");
}

#[test]
fn a_client_worker_with_another_key_than_the_pinned_one_is_told_with_the_expected_fingerprint() {
    let place = Place::new(free_port());
    let port = serve(KeyPair::generate().unwrap(), Door::Operator(place.operator.public()), |_| {
        unreachable!("it must not be asked")
    });
    place.configure(port);
    let ran = place.run(&["image", "list"]).exits(9).says(&place.server.public().fingerprint().to_string());
    assert!(!ran.stderr.contains("continue") && ran.stdout.is_empty(), "{ran:?}");
}

#[test]
fn a_key_that_is_not_known_or_revoked_is_told_in_its_own_words() {
    for (why, word) in [(Refusal::UnknownKey, "unknown-key"), (Refusal::Revoked, "revoked")] {
        let place = Place::new(free_port());
        place.configure(serve(place.server.clone(), Door::Closed(why), |_| unreachable!("it must not be asked")));
        place.run(&["vm", "list"]).exits(9).says(word).says(&place.operator.public().fingerprint().to_string());
    }
}

fn invitation(port: u16, server: &KeyPair, token: Token) -> String {
    Invitation { server: format!("127.0.0.1:{port}"), key: server.public(), token }.to_line().expose().to_owned()
}

#[test]
fn an_operator_joins_with_a_line_and_pins_the_key_that_came_with_it() {
    let place = Place::new(free_port());
    for file in ["key", "server.pub"] {
        fs::remove_file(place.path(file)).unwrap();
    }
    let token = Token::generate().unwrap();
    let port = serve(place.server.clone(), Door::Token(token.psk()), |_| Answer::Done.into());
    let line = invitation(port, &place.server, token);
    place
        .run_with(&["operator", "join"], &line)
        .exits(0)
        .says("joined as operator alice (operator)")
        .says(&format!("rep_port: {port}"));
    assert_eq!(keyfile::read_public(&place.path("server.pub")).unwrap(), place.server.public());
    keyfile::read_private(&place.path("key")).expect("a key of its own");
}

#[test]
fn a_wrong_token_pins_nothing() {
    let place = Place::new(free_port());
    fs::remove_file(place.path("server.pub")).unwrap();
    let port = serve(place.server.clone(), Door::Token(Token::generate().unwrap().psk()), |_| Answer::Done.into());
    let line = invitation(port, &place.server, Token::generate().unwrap());
    place.run_with(&["operator", "join"], &line).exits(9).says("does not accept the invitation");
    assert!(!place.path("server.pub").exists());
    place.run_with(&["operator", "join"], "rubbish\n").exits(2).says("an invitation has three words");
}

#[test]
fn joining_does_not_replace_the_key_of_another_client_worker() {
    let place = Place::new(free_port());
    let other = KeyPair::generate().unwrap();
    let line = invitation(free_port(), &other, Token::generate().unwrap());
    place.run_with(&["operator", "join"], &line).exits(9).says(&other.public().fingerprint().to_string());
    assert_eq!(keyfile::read_public(&place.path("server.pub")).unwrap(), place.server.public());
}
