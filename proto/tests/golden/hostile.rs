//! Bytes that nobody honest writes: refused, never a panic, never memory by a length that was only claimed.

use maglica_proto::codec::{self, CodecError};
use proptest::prelude::*;

use super::{Case, messages, value::Value};

/// MessagePack that claims the most items or bytes that each form can, and holds none.
const CLAIMS: [&[u8]; 8] = [
    b"\xdb\xff\xff\xff\xff",     // text
    b"\xc6\xff\xff\xff\xff",     // bytes
    b"\xc9\xff\xff\xff\xff\x01", // extension
    b"\xdd\xff\xff\xff\xff",     // list
    b"\xdf\xff\xff\xff\xff",     // map
    b"\xdc\xff\xff",
    b"\xde\xff\xff",
    b"\xda\xff\xff",
];

#[test]
fn bytes_after_a_message_are_refused() {
    for case in messages::all() {
        for extra in [&b"\xc0"[..], b"\x00", &case.bytes] {
            let bytes = [&case.bytes, extra].concat();
            let refused =
                matches!((case.reread)(&bytes), Err(CodecError::Trailing { extra: many, .. }) if many == extra.len());
            assert!(refused, "{} {}", case.file, case.name);
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    for case in messages::all() {
        for length in 0..case.bytes.len() {
            assert!((case.reread)(&case.bytes[..length]).is_err(), "{} {} cut to {length}", case.file, case.name);
        }
    }
}

/// The map of a message with one more field, whose value is these bytes.
fn with_field(case: &Case, value: &[u8]) -> Option<Vec<u8>> {
    // Our messages are maps of up to 15 fields; a plain word has no fields.
    let &first = case.bytes.first()?;
    (0x80..0x8f).contains(&first).then(|| [&[first + 1], &case.bytes[1..], b"\xa1x", value].concat())
}

#[test]
fn a_length_that_is_only_claimed_is_refused() {
    for case in messages::all() {
        for claim in CLAIMS {
            assert!((case.reread)(claim).is_err(), "{} {claim:x?}", case.file);
            if let Some(bytes) = with_field(&case, claim) {
                assert!((case.reread)(&bytes).is_err(), "{} {} {claim:x?}", case.file, case.name);
            }
            let Ok(Value::Map(fields)) = codec::decode(&case.bytes) else { continue };
            for claimed in fields.keys() {
                let mut bytes = vec![0x80 + u8::try_from(fields.len()).unwrap()];
                for (key, value) in fields.iter().filter(|(key, _)| *key != claimed) {
                    bytes.extend(codec::encode(key).unwrap());
                    bytes.extend(codec::encode(value).unwrap());
                }
                bytes.extend(codec::encode(claimed).unwrap());
                bytes.extend_from_slice(claim);
                assert!((case.reread)(&bytes).is_err(), "{} {} {claimed} {claim:x?}", case.file, case.name);
            }
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_a_little_is_ignored() {
    for case in messages::all() {
        for (depth, accepted) in [(8, true), (100, false), (200_000, false)] {
            for opening in [&b"\x91"[..], b"\x81\xa1x"] {
                let mut value = opening.repeat(depth);
                value.push(0xc0);
                let Some(bytes) = with_field(&case, &value) else { continue };
                assert_eq!((case.reread)(&bytes).is_ok(), accepted, "{} {} {depth} deep", case.file, case.name);
            }
        }
        assert!((case.reread)(&vec![0x91; 200_000]).is_err());
        assert!((case.reread)(&vec![0x81; 200_000]).is_err());
    }
}

#[test]
fn a_field_twice_or_a_missing_one_is_refused() {
    use maglica_proto::request::Request;
    let twice = b"\x83\xa4verb\xa8job-list\xa5limit\x01\xa5limit\x02";
    assert!(codec::decode::<Request>(twice).is_err());
    assert!(codec::decode::<Request>(b"\x81\xa4verb\xa8job-list").is_err());
    assert!(codec::decode::<Request>(b"\x82\xa4verb\xa8job-list\xa5limit\x01").is_ok());
    assert!(codec::decode::<Request>(b"\x81\xa4verb\xa7no-such").is_err());
}

#[test]
fn a_name_that_breaks_its_rule_is_refused_in_every_message() {
    let mut seen = 0;
    // A hello's name is checked by who uses it; the other two are for people.
    for case in messages::all().into_iter().filter(|case| !["hello", "welcome", "join-answer"].contains(&case.file)) {
        let value: Value = codec::decode(&case.bytes).unwrap();
        for field in ["name", "host", "on", "image", "pool", "volume", "vm"] {
            let bad = value.clone().with_text_in(field, "../../etc/passwd");
            if bad != value {
                seen += 1;
                assert!((case.reread)(&codec::encode(&bad).unwrap()).is_err(), "{} {} {field}", case.file, case.name);
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn changed_bytes_are_read_or_refused_without_a_panic(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..8),
    ) {
        let cases = messages_once();
        let case = which.get(cases);
        let mut bytes = case.bytes.clone();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        // What is read is a value like any other: it can be written, and read again as the same.
        if let Ok(written) = (case.reread)(&bytes) {
            prop_assert_eq!((case.reread)(&written).unwrap(), written);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for case in messages_once() {
            let _ = (case.reread)(&bytes);
        }
    }
}

fn messages_once() -> &'static [Case] {
    static CASES: std::sync::OnceLock<Vec<Case>> = std::sync::OnceLock::new();
    CASES.get_or_init(messages::all)
}
