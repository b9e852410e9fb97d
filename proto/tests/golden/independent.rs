//! A client written from `PROTOCOL.md` alone, on the Noise library and byte slices: it talks to the real thing, and
//! its bytes with fixed keys are golden. If this and the real thing disagree, one of them or the document is wrong.

use maglica_proto::{
    codec,
    key::{KeyPair, PublicKey},
    seal::{Hello, Kind, PeerKind, Responder, Session, Welcome},
};
use snow::{Builder, HandshakeState, StatelessTransportState};

use super::{
    compare,
    fixtures::{key, token},
};

const IK: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
const IKPSK2: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// The client worker's private key and the two ephemeral ones of the golden handshake.
const SERVER: [u8; 32] = [0x5a; 32];
const EPHEMERAL: [u8; 32] = [0x11; 32];
const SERVER_EPHEMERAL: [u8; 32] = [0x22; 32];

fn bytes_of(base64: &str) -> [u8; 32] {
    data_encoding::BASE64.decode(base64.as_bytes()).unwrap().try_into().unwrap()
}

fn server() -> KeyPair {
    KeyPair::from_line(&data_encoding::BASE64.encode(&SERVER)).unwrap()
}

/// The 32 bytes in clear.
fn header(kind: u8, session: [u8; 16], counter: u64) -> Vec<u8> {
    [&b"MGLC\x01"[..], &[kind, 0, 0], &session, &counter.to_be_bytes()].concat()
}

fn initiator(prologue: &[u8], psk: Option<&[u8; 32]>, server: &PublicKey) -> HandshakeState {
    let private = bytes_of(key().to_line().expose());
    let builder = Builder::new(if psk.is_some() { IKPSK2 } else { IK }.parse().unwrap())
        .local_private_key(&private)
        .unwrap()
        .remote_public_key(server.as_bytes())
        .unwrap()
        .prologue(prologue)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&EPHEMERAL);
    match psk {
        Some(psk) => builder.psk(2, psk).unwrap().build_initiator().unwrap(),
        None => builder.build_initiator().unwrap(),
    }
}

fn noise_write(noise: &mut HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let length = noise.write_message(payload, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

fn noise_read(noise: &mut HandshakeState, message: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let length = noise.read_message(message, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

fn seal(noise: &StatelessTransportState, head: &[u8], counter: u64, re: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let inner = [head, &re.to_be_bytes(), &length, body].concat();
    let mut message = head.to_vec();
    for (number, chunk) in (0..).zip(inner.chunks(65_519)) {
        let mut buffer = vec![0; chunk.len() + 16];
        assert_eq!(noise.write_message(counter * 32 + number, chunk, &mut buffer).unwrap(), chunk.len() + 16);
        message.extend_from_slice(&buffer);
    }
    message
}

/// Gives header, counter answered to, and body.
fn open(noise: &StatelessTransportState, message: &[u8]) -> (Vec<u8>, u64, Vec<u8>) {
    let (head, sealed) = message.split_at(32);
    let counter = u64::from_be_bytes(head[24..].try_into().unwrap());
    let mut inner = Vec::new();
    for (number, chunk) in (0..).zip(sealed.chunks(65_535)) {
        let mut buffer = vec![0; chunk.len()];
        let length = noise.read_message(counter * 32 + number, chunk, &mut buffer).unwrap();
        inner.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(&inner[..32], head);
    let length = u32::from_be_bytes(inner[40..44].try_into().unwrap());
    assert_eq!(inner.len(), 44 + usize::try_from(length).unwrap());
    (head.to_vec(), u64::from_be_bytes(inner[32..40].try_into().unwrap()), inner[44..].to_vec())
}

fn hello(joining: bool) -> Vec<u8> {
    let token = joining.then(|| token().id());
    codec::encode(&Hello { protocol_min: 1, protocol_max: 1, program: "0.1.0".into(), name: "host0".into(), token })
        .unwrap()
}

fn welcome() -> Welcome {
    let topic = Some("s/000102030405060708090a0b0c0d0e0f/".to_owned());
    Welcome { protocol: 1, program: "0.1.0".into(), name: "host0.example.jp".into(), topic, server_key: None }
}

/// Shakes hands with the real thing; gives both ends and the session's id.
fn meet(kind: u8, prologue: &[u8], joining: bool) -> (StatelessTransportState, Session, [u8; 16], Seen) {
    let psk = joining.then(|| bytes_of(token().psk().expose()));
    let mut noise = initiator(prologue, psk.as_ref(), &server().public());
    let first = [header(kind, [0; 16], 0), noise_write(&mut noise, &hello(joining))].concat();
    let responder = Responder::read(&server(), &first).unwrap();
    let seen = Seen { peer: responder.peer, join: responder.join, key: responder.key, hello: responder.hello.clone() };
    let (second, session) = responder.accept(&welcome(), joining.then(|| token().psk()).as_ref()).unwrap();
    assert_eq!(second[..8], *b"MGLC\x01\x05\x00\x00");
    assert_eq!(second[24..32], [0; 8]);
    let payload = noise_read(&mut noise, &second[32..]);
    let id: [u8; 16] = payload[..16].try_into().unwrap();
    assert_eq!(id, second[8..24]);
    assert_eq!(codec::decode::<Welcome>(&payload[16..]).unwrap(), welcome());
    (noise.into_stateless_transport_mode().unwrap(), session, id, seen)
}

/// What the real thing understood of the first message.
struct Seen {
    peer: PeerKind,
    join: bool,
    key: PublicKey,
    hello: Hello,
}

#[test]
fn a_client_written_from_the_document_is_understood() {
    for (kind, prologue, joining) in [
        (1, &b"maglica protocol/host"[..], false),
        (2, b"maglica protocol/operator", false),
        (3, b"maglica protocol/join-host", true),
        (4, b"maglica protocol/join-operator", true),
    ] {
        let (noise, session, id, seen) = meet(kind, prologue, joining);
        let host = [1, 3].contains(&kind);
        assert_eq!((seen.peer == PeerKind::Host, seen.join, seen.key), (host, joining, key().public()));
        assert_eq!(seen.hello.token.map(|id| id.to_string()), joining.then(|| token().id().to_string()));
        for (counter, body) in
            [vec![], b"small".to_vec(), vec![7; 65_519 - 44], vec![8; 300_000]].into_iter().enumerate()
        {
            let counter = u64::try_from(counter).unwrap();
            let message = seal(&noise, &header(6, id, counter), counter, counter, &body);
            let opened = session.open(Kind::Request, &message).unwrap();
            assert_eq!((opened.counter, opened.re, &opened.body), (counter, counter, &body));
            let answer = session.seal_answer(counter, &body).unwrap();
            assert_eq!(open(&noise, &answer), (header(7, id, counter), counter, body));
        }
        let (broadcast, counter) = session.seal(Kind::Broadcast, b"hear").unwrap();
        assert_eq!((counter, open(&noise, &broadcast)), (4, (header(8, id, 4), 4, b"hear".to_vec())));
    }
}

/// A whole conversation with fixed keys: the example of the document.
#[test]
fn the_handshake_and_the_sealed_message_of_the_document_have_their_golden_bytes() {
    let prologue = b"maglica protocol/host";
    let mut client = initiator(prologue, None, &server().public());
    let mut worker = Builder::new(IK.parse().unwrap())
        .local_private_key(&SERVER)
        .unwrap()
        .prologue(prologue)
        .unwrap()
        .fixed_ephemeral_key_for_testing_only(&SERVER_EPHEMERAL)
        .build_responder()
        .unwrap();
    let first = [header(1, [0; 16], 0), noise_write(&mut client, &hello(false))].concat();
    assert_eq!(noise_read(&mut worker, &first[32..]), hello(false));
    // The real thing reads the golden message too.
    let real = Responder::read(&server(), &first).unwrap();
    assert_eq!((real.key, codec::encode(&real.hello).unwrap()), (key().public(), hello(false)));

    let id = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
    let payload = [&id[..], &codec::encode(&welcome()).unwrap()].concat();
    let second = [header(5, id, 0), noise_write(&mut worker, &payload)].concat();
    assert_eq!(noise_read(&mut client, &second[32..]), payload);
    let (client, worker) =
        (client.into_stateless_transport_mode().unwrap(), worker.into_stateless_transport_mode().unwrap());
    let body = codec::encode(&maglica_proto::request::Request::ImageList).unwrap();
    let request = seal(&client, &header(6, id, 0), 0, 0, &body);
    assert_eq!(open(&worker, &request).2, body);
    let answer = seal(&worker, &header(7, id, 0), 0, 0, b"\x81\xa6answer\xa4done");
    assert_eq!(open(&client, &answer).1, 0);
    compare(
        "handshake",
        &[
            ("server-private", SERVER.to_vec()),
            ("server-public", server().public().as_bytes().to_vec()),
            ("client-private", bytes_of(key().to_line().expose()).to_vec()),
            ("client-public", key().public().as_bytes().to_vec()),
            ("client-ephemeral-private", EPHEMERAL.to_vec()),
            ("server-ephemeral-private", SERVER_EPHEMERAL.to_vec()),
            ("message-1", first),
            ("message-2", second),
            ("request", request),
            ("answer", answer),
        ],
    );
}
