//! The parser against every way of cutting, against garbage, and against its own encoder.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

/// Small, so that random input meets every limit.
const SMALL: Limits = Limits { max_frame: 64, max_frames: 3, max_message: 128, max_command: 32, max_properties: 4 };

/// Everything a stream gives when its bytes arrive in pieces of these lengths, and how it ended.
fn decode(stream: &[u8], pieces: &[usize]) -> (Vec<Item>, Option<Violation>, usize) {
    let mut decoder = Decoder::new(SMALL);
    let mut items = Vec::new();
    let mut most = 0;
    let mut rest = stream;
    let mut pieces = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let n = pieces.next().unwrap_or(1).clamp(1, rest.len());
        decoder.feed(&rest[..n]);
        rest = &rest[n..];
        loop {
            match decoder.next() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(violation) => return (items, Some(violation), most),
            }
        }
        most = most.max(decoder.buffered());
    }
    (items, None, most)
}

/// Streams that are mostly well-formed, so that the parser gets past the first byte.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..80);
    let message = proptest::collection::vec(body.clone(), 1..5).prop_map(|frames| {
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let mut out = BytesMut::new();
        encode_message(&frames, &mut out);
        out.to_vec()
    });
    let command = proptest::collection::vec(any::<u8>(), 0..40).prop_map(|body| {
        let mut out = vec![0x04, u8::try_from(body.len()).unwrap()];
        out.extend(body);
        out
    });
    let more = proptest::collection::vec(any::<u8>(), 0..20).prop_map(|body| {
        let mut out = vec![0x01, u8::try_from(body.len()).unwrap()];
        out.extend(body);
        out
    });
    let garbage = proptest::collection::vec(any::<u8>(), 0..8);
    proptest::collection::vec(prop_oneof![6 => message, 3 => command, 2 => more, 1 => garbage], 0..8)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_split_of_the_stream_gives_the_same_result(
        stream in stream(),
        pieces in proptest::collection::vec(1usize..40, 1..10),
    ) {
        let (items, end, _) = decode(&stream, &[usize::MAX]);
        let (other, other_end, _) = decode(&stream, &pieces);
        prop_assert_eq!(items, other);
        prop_assert_eq!(end, other_end);
    }

    #[test]
    fn garbage_never_panics_and_little_is_kept(
        stream in proptest::collection::vec(any::<u8>(), 0..4_000),
        pieces in proptest::collection::vec(1usize..64, 1..10),
    ) {
        let (_, _, most) = decode(&stream, &pieces);
        // A whole message that lacks one byte, and the piece after it.
        prop_assert!(most <= SMALL.max_message + 9 + 64, "{most}");
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same_frames(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..700), 1..5),
    ) {
        let parts: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let mut out = BytesMut::new();
        encode_message(&parts, &mut out);
        let mut decoder = Decoder::new(Limits::default());
        decoder.feed(&out);
        let Ok(Some(Item::Message(message))) = decoder.next() else {
            panic!("no message");
        };
        prop_assert_eq!(message.raw(), &out.freeze());
        prop_assert_eq!(message.len(), frames.len());
        for (index, frame) in frames.iter().enumerate() {
            prop_assert_eq!(message.frame(index), Some(frame.as_slice()));
        }
        prop_assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn a_handshake_is_read_however_it_is_cut_and_what_follows_stays(
        pieces in proptest::collection::vec(1usize..90, 1..10),
        damage in proptest::option::of((0usize..100, any::<u8>())),
    ) {
        let mut bytes = greeting().to_vec();
        bytes.extend_from_slice(&encode_ready("REQ", Some(b"chosen-by-the-peer")));
        let handshake_len = bytes.len();
        if let Some((at, value)) = damage {
            bytes[at] = value;
        }
        let whole = shake(&bytes, &[usize::MAX]);
        prop_assert_eq!(&whole, &shake(&bytes, &pieces));
        if damage.is_none() {
            prop_assert_eq!(whole, Some(Ok(Ready { socket_type: b"REQ".to_vec() })));
            prop_assert_eq!(shake(&bytes[..handshake_len - 1], &pieces), None);
        }
    }
}

fn shake(bytes: &[u8], pieces: &[usize]) -> Option<Result<Ready, Violation>> {
    let mut handshake = Handshake::new(Limits::default());
    let mut rest = bytes;
    let mut pieces = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let n = pieces.next().unwrap_or(1).clamp(1, rest.len());
        handshake.decoder().feed(&rest[..n]);
        rest = &rest[n..];
        match handshake.advance() {
            Ok(None) => {}
            Ok(Some(ready)) => return Some(Ok(ready)),
            Err(violation) => return Some(Err(violation)),
        }
    }
    None
}

#[test]
fn a_claimed_length_of_a_terabyte_is_refused_at_its_header_and_allocates_nothing() {
    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(&[0x02]);
    decoder.feed(&(1u64 << 40).to_be_bytes());
    assert_eq!(decoder.next(), Err(Violation::FrameTooBig(1 << 40)));
    assert!(decoder.capacity() < 1024, "{}", decoder.capacity());
}

#[test]
fn the_largest_allowed_length_allocates_only_as_bytes_arrive() {
    let limits = Limits::default();
    let mut decoder = Decoder::new(limits);
    decoder.feed(&[0x02]);
    decoder.feed(&(limits.max_frame as u64).to_be_bytes());
    decoder.feed(b"little");
    assert_eq!(decoder.next(), Ok(None));
    assert!(decoder.space().capacity() < 16 * 1024);
}

#[test]
fn reserved_bits_endless_frames_and_long_messages_are_refused() {
    let first = |bytes: &[u8]| decode(bytes, &[usize::MAX]).1;
    assert_eq!(first(&[0x08]), Some(Violation::Flags(0x08)));
    assert_eq!(first(&[0x05, 0]), Some(Violation::Flags(0x05)));
    assert_eq!(first(&[0x01, 0].repeat(4)), Some(Violation::TooManyFrames));
    assert_eq!(first(&[0x00, 65]), Some(Violation::FrameTooBig(65)));
    assert_eq!(first(&[0x04, 33]), Some(Violation::FrameTooBig(33)));
    let mut long = Vec::new();
    for _ in 0..3 {
        long.extend([0x01, 60]);
        long.extend([0; 60]);
    }
    assert_eq!(first(&long), Some(Violation::MessageTooBig));
}

#[test]
fn a_command_between_two_frames_is_taken_out_and_the_message_stays_whole() {
    let stream = b"\x01\x00\x04\x02\x01P\x00\x02hi";
    let (items, end, _) = decode(stream, &[1]);
    assert_eq!(end, None);
    assert_eq!(items.len(), 2);
    assert_eq!(items[0], Item::Command("\x01P".into()));
    let Item::Message(message) = &items[1] else {
        panic!("{items:?}");
    };
    assert_eq!(&message.raw()[..], b"\x01\x00\x00\x02hi");
    let mut many = b"\x01\x00".to_vec();
    many.extend(b"\x04\x02\x01P".repeat(3));
    assert_eq!(decode(&many, &[7]).1, Some(Violation::Command));
}

#[test]
fn other_protocols_versions_and_mechanisms_are_refused_at_their_first_byte() {
    let end = |bytes: &[u8]| shake(bytes, &[1]);
    assert_eq!(end(b"GET / HTTP"), Some(Err(Violation::Signature)));
    let mut old = greeting();
    old[10] = 2;
    assert_eq!(end(&old), Some(Err(Violation::Version(2))));
    let mut plain = greeting();
    plain[12..17].copy_from_slice(b"PLAIN");
    assert_eq!(end(&plain), Some(Err(Violation::Mechanism)));
    let mut nullx = greeting();
    nullx[16] = b'X';
    assert_eq!(end(&nullx), Some(Err(Violation::Mechanism)));
    let mut message_first = greeting().to_vec();
    message_first.push(0x00);
    assert_eq!(end(&message_first), Some(Err(Violation::Ready)));
}
