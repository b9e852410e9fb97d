//! Speaks as the client worker does on its answering port: ZMTP over TCP, Noise, MessagePack. Who is let in is up to the
//! key that it is made with; what it answers is up to the test.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use maglica_proto::{
    codec,
    join::{JoinAnswer, Joined},
    key::{KeyPair, PublicKey, Secret},
    request::{Answer, Request, Role},
    seal::{Kind, Refusal, Responder, Session, Welcome, refusal},
    transport::zmtp::{Handshake, Item, Limits, encode_message, encode_ready, greeting},
};

/// What the worker does with a request.
pub(crate) enum Reply {
    /// It answers.
    Answer(Answer),
    /// It closes the connection, as if it had been restarted just then.
    Hang,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

type Handler = dyn FnMut(Request) -> Reply + Send;

/// Whom it knows.
#[derive(Clone)]
pub(crate) enum Door {
    /// This operator.
    Operator(PublicKey),
    /// Nobody.
    Closed(Refusal),
    /// Whoever has the token with this key.
    Token(Secret),
}

/// Listens until the test ends; gives the port.
pub(crate) fn serve(keys: KeyPair, door: Door, handler: impl FnMut(Request) -> Reply + Send + 'static) -> u16 {
    serve_as("test", keys, door, handler)
}

/// The same, as a client worker of this version.
pub(crate) fn serve_as(
    version: &'static str,
    keys: KeyPair,
    door: Door,
    handler: impl FnMut(Request) -> Reply + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let handler: Arc<Mutex<Handler>> = Arc::new(Mutex::new(handler));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (keys, door, handler) = (keys.clone(), door.clone(), Arc::clone(&handler));
            // The connection ends with the command; why does not matter.
            std::thread::spawn(move || stream.and_then(|stream| connection(stream, version, &keys, &door, &handler)));
        }
    });
    port
}

fn connection(
    mut stream: TcpStream,
    version: &str,
    keys: &KeyPair,
    door: &Door,
    handler: &Mutex<Handler>,
) -> io::Result<()> {
    stream.write_all(&greeting())?;
    let mut handshake = Handshake::new(Limits::default());
    let mut buffer = [0; 65_536];
    let mut sent_ready = false;
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        handshake.decoder().feed(&buffer[..read]);
        if !sent_ready {
            stream.write_all(&encode_ready("ROUTER", None))?;
            sent_ready = true;
        }
        if handshake.advance().map_err(io::Error::other)?.is_some() {
            break;
        }
    }
    let mut session = None;
    loop {
        while let Some(item) = handshake.decoder().next().map_err(io::Error::other)? {
            let Item::Message(message) = item else { continue };
            let payload = message.frame(message.len() - 1).unwrap();
            let Some(answer) = answer(payload, &mut session, version, keys, door, handler) else { return Ok(()) };
            let mut bytes = BytesMut::new();
            encode_message(&[b"", &answer], &mut bytes);
            stream.write_all(&bytes)?;
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        handshake.decoder().feed(&buffer[..read]);
    }
}

fn answer(
    payload: &[u8],
    session: &mut Option<(Session, bool)>,
    version: &str,
    keys: &KeyPair,
    door: &Door,
    handler: &Mutex<Handler>,
) -> Option<Vec<u8>> {
    if let Some((session, join)) = session.as_ref() {
        let opened = session.open(Kind::Request, payload).ok()?;
        let body = if *join {
            let joined = Joined { name: "alice".into(), role: Some(Role::Operator), pub_port: 5555 };
            codec::encode(&JoinAnswer::Joined(joined))
        } else {
            let request = codec::decode(&opened.body).unwrap();
            match (handler.lock().unwrap())(request) {
                Reply::Answer(answer) => codec::encode(&answer),
                Reply::Hang => return None,
            }
        };
        return Some(session.seal_answer(opened.re, &body.unwrap()).unwrap());
    }
    let Ok(responder) = Responder::read(keys, payload) else { return Some(refusal(Refusal::Unverified)) };
    let psk = match door {
        Door::Closed(why) => return Some(refusal(*why)),
        Door::Operator(key) if *key != responder.key => return Some(refusal(Refusal::UnknownKey)),
        Door::Operator(_) => None,
        Door::Token(psk) => Some(psk),
    };
    let welcome = Welcome {
        protocol: responder.protocol(),
        program: version.into(),
        name: "root".into(),
        topic: None,
        server_key: None,
    };
    let join = responder.join;
    let (message, made) = responder.accept(&welcome, psk).unwrap();
    *session = Some((made, join));
    Some(message)
}
