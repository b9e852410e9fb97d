//! Golden bytes of what is not MessagePack: headers, the two clear messages, and what is derived from tokens and keys.

use maglica_proto::seal::{
    Header, Kind, Refusal, SessionId, beat,
    header::{BEAT_TOPIC, HEADER_LEN},
    refusal,
};

use super::{
    compare,
    fixtures::{covers, key, token},
};

pub(crate) fn kinds() -> Vec<(&'static str, Kind)> {
    let kinds = vec![
        ("hello-host", Kind::HelloHost),
        ("hello-operator", Kind::HelloOperator),
        ("join-host", Kind::JoinHost),
        ("join-operator", Kind::JoinOperator),
        ("welcome", Kind::Welcome),
        ("request", Kind::Request),
        ("answer", Kind::Answer),
        ("broadcast", Kind::Broadcast),
        ("refusal", Kind::Refusal),
        ("beat", Kind::Beat),
    ];
    let values: Vec<_> = kinds.iter().map(|(_, kind)| kind).collect();
    covers!(values, "1" => Kind::HelloHost, "2" => Kind::HelloOperator, "3" => Kind::JoinHost, "4" => Kind::JoinOperator,
        "5" => Kind::Welcome, "6" => Kind::Request, "7" => Kind::Answer, "8" => Kind::Broadcast, "9" => Kind::Refusal,
        "10" => Kind::Beat);
    kinds
}

fn refusals() -> Vec<Refusal> {
    let all = vec![
        Refusal::UnknownKey,
        Refusal::Pending,
        Refusal::Revoked,
        Refusal::NoSession,
        Refusal::Unverified,
        Refusal::Version,
        Refusal::Busy,
    ];
    covers!(all, "1" => Refusal::UnknownKey, "2" => Refusal::Pending, "3" => Refusal::Revoked, "4" => Refusal::NoSession,
        "5" => Refusal::Unverified, "6" => Refusal::Version, "7" => Refusal::Busy);
    all
}

#[test]
fn the_header_of_every_kind_has_its_golden_bytes() {
    let session = SessionId(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
    let header = |kind| Header { kind, session, counter: 0x0102_0304_0506_0708 };
    let written: Vec<_> = kinds().into_iter().map(|(name, kind)| (name, header(kind).to_bytes().to_vec())).collect();
    compare("header", &written);
    for (name, bytes) in written {
        let (read, rest) = Header::split(&bytes).unwrap();
        assert_eq!((kinds().into_iter().find(|(_, kind)| *kind == read.kind).unwrap().0, rest.len()), (name, 0));
        assert_eq!(read, header(read.kind));
    }
}

#[test]
fn a_header_with_any_other_magic_version_or_reserved_byte_is_refused() {
    let good = Header::without_session(Kind::Request).to_bytes();
    assert!(Header::split(&good).is_ok());
    for at in [0, 1, 2, 3, 4, 6, 7] {
        let mut bad = good;
        bad[at] ^= 1;
        assert!(Header::split(&bad).is_err(), "byte {at}");
    }
    for kind in (0..=u8::MAX).filter(|kind| !(1..=10).contains(kind)) {
        let mut bad = good;
        bad[5] = kind;
        assert!(Header::split(&bad).is_err(), "kind {kind}");
    }
    assert!(Header::split(&good[..HEADER_LEN - 1]).is_err());
}

#[test]
fn the_clear_messages_have_their_golden_bytes() {
    let mut written = vec![("beat", beat()), ("beat-topic", BEAT_TOPIC.as_bytes().to_vec())];
    written.extend(refusals().into_iter().map(|why| (why.word(), refusal(why))));
    compare("clear", &written);
}

#[test]
fn a_token_gives_its_golden_id_and_key() {
    compare(
        "token",
        &[
            ("line", token().to_line().expose().as_bytes().to_vec()),
            ("id", token().id().to_string().into_bytes()),
            ("psk", token().psk().expose().as_bytes().to_vec()),
        ],
    );
}

#[test]
fn a_key_has_its_golden_public_half_and_fingerprint() {
    let public = key().public();
    // RFC 7748, section 5.2.
    let known = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
    assert_eq!(data_encoding::HEXLOWER.encode(public.as_bytes()), known);
    compare(
        "key",
        &[
            ("private", key().to_line().expose().as_bytes().to_vec()),
            ("public", public.to_string().into_bytes()),
            ("fingerprint", public.fingerprint().to_string().into_bytes()),
        ],
    );
}
