//! The two messages of a handshake as a stranger may send them.
//!
//! Input: the message. The corpus holds genuine first messages to the key below; everything else is to be refused.

use std::sync::OnceLock;

use maglica_proto::{
    key::KeyPair,
    seal::{Hello, Initiator, PeerKind, Responder},
};

/// First messages made for [`server`] by its peers; of the four kinds.
const GENUINE: [&[u8]; 4] = [
    include_bytes!("../corpus/handshake/hello-host"),
    include_bytes!("../corpus/handshake/hello-operator"),
    include_bytes!("../corpus/handshake/join-host"),
    include_bytes!("../corpus/handshake/join-operator"),
];

/// The client worker's key of the golden handshake in `proto/tests/golden`.
fn server() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::from_line("WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=").expect("32 bytes"))
}

/// Reads the message as a first one and as an answer.
pub fn check(data: &[u8]) {
    let genuine = GENUINE.contains(&data);
    match Responder::read(server(), data) {
        Ok(responder) => {
            assert!(genuine, "a first message that nobody made was believed");
            assert!(responder.protocol() >= 1 && responder.join == responder.hello.token.is_some());
        }
        Err(error) => assert!(!genuine, "a genuine message was refused: {error}"),
    }
    let started = Initiator::start(server(), server().public(), PeerKind::Host, Hello::new("0", "host0"), None);
    let (initiator, _) = started.expect("a handshake can be begun");
    assert!(initiator.finish(data).is_err(), "an answer that nobody gave was believed");
}
