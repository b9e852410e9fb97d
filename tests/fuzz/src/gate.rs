//! The gate's parser: greeting, READY, frames, and which messages belong on which port. The only code that is ours
//! before anybody has shown a key.
//!
//! Input: a byte for the port and the limits, a byte for how the stream is cut and answered, then the stream.

use bytes::{Bytes, BytesMut};
use maglica_proto::transport::{
    rules::{Role, RuleLimits, Rules},
    zmtp::{Command, Decoder, Handshake, Item, Limits, Message, Violation, encode_message, encode_pong},
};

use crate::input::Input;

/// What came of a stream, step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    SocketType(Vec<u8>),
    Forwarded(Bytes),
    ChangedNothing,
    Answered(Bytes),
    Ended(Violation),
}

/// Feeds the stream whole, and cut in two ways.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let (port, cut) = (input.byte(), input.byte());
    let role = [Role::Requester, Role::Subscriber, Role::Answerer, Role::Publisher][usize::from(port & 3)];
    // Small ones, so that short inputs reach them.
    let tight = Limits { max_frame: 300, max_frames: 4, max_message: 600, max_command: 64, max_properties: 3 };
    let limits = if port & 4 == 0 { Limits::default() } else { tight };

    let whole = hear(role, limits, cut, std::iter::once(input.0));
    let bytewise = hear(role, limits, cut, input.0.chunks(1));
    assert_eq!(whole, bytewise, "byte by byte it is something else");
    let cut_up = hear(role, limits, cut, Pieces { rest: input.0, state: u32::from(cut) | 0x100 });
    assert_eq!(whole, cut_up, "in pieces it is something else");
}

/// Pieces of 1 to 128 bytes, as the state has it.
struct Pieces<'a> {
    rest: &'a [u8],
    state: u32,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (self.state >> 25) as usize + 1;
        let (piece, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        (!piece.is_empty()).then_some(piece)
    }
}

/// As `transport::forward` and its pump do it, without sockets.
fn hear<'a>(role: Role, limits: Limits, answers: u8, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut pieces = pieces;
    let mut handshake = Handshake::new(limits);
    let mut decoder = loop {
        match handshake.advance() {
            Err(violation) => {
                heard.push(Heard::Ended(violation));
                return heard;
            }
            Ok(Some(ready)) => {
                let accepted = role.accepts().contains(&ready.socket_type.as_slice());
                heard.push(Heard::SocketType(ready.socket_type));
                if !accepted {
                    heard.push(Heard::Ended(Violation::SocketType));
                    return heard;
                }
                break handshake.into_decoder();
            }
            Ok(None) => {}
        }
        let Some(piece) = pieces.next() else { return heard };
        handshake.decoder().feed(piece);
    };
    let mut rules = Rules::new(role, RuleLimits::default());
    loop {
        if let Err(violation) = drain(&mut decoder, &mut rules, limits, answers, &mut heard) {
            heard.push(Heard::Ended(violation));
            return heard;
        }
        let most = limits.max_message + limits.max_command + 2 * 9;
        assert!(decoder.buffered() <= most, "{} bytes are held", decoder.buffered());
        let Some(piece) = pieces.next() else { return heard };
        decoder.feed(piece);
    }
}

fn drain(
    decoder: &mut Decoder,
    rules: &mut Rules,
    limits: Limits,
    answers: u8,
    heard: &mut Vec<Heard>,
) -> Result<(), Violation> {
    while let Some(item) = decoder.next()? {
        // Our own socket speaks in between, at moments that do not depend on how the stream is cut.
        if answers >> (heard.len() % 8) & 1 == 1 {
            rules.from_inner()?;
        }
        let forward = match item {
            Item::Message(message) => {
                check_message(&message, limits);
                rules.from_outer(message)?
            }
            Item::Command(body) => {
                assert!(body.len() <= limits.max_command);
                match Command::parse(&body)? {
                    Command::Ping { context } => {
                        heard.push(Heard::Answered(encode_pong(&context)));
                        continue;
                    }
                    command @ (Command::Subscribe(_) | Command::Cancel(_)) => rules.from_outer_command(&command)?,
                }
            }
        };
        heard.push(forward.map_or(Heard::ChangedNothing, Heard::Forwarded));
    }
    Ok(())
}

/// Within the limits, and written anew it is the same.
fn check_message(message: &Message, limits: Limits) {
    assert!((1..=limits.max_frames).contains(&message.len()) && message.raw().len() <= limits.max_message);
    let frames: Vec<&[u8]> = (0..message.len()).filter_map(|index| message.frame(index)).collect();
    assert_eq!(frames.len(), message.len());
    assert!(frames.iter().all(|frame| frame.len() <= limits.max_frame));
    let mut bytes = BytesMut::new();
    encode_message(&frames, &mut bytes);
    let mut decoder = Decoder::new(limits);
    decoder.feed(&bytes);
    let Ok(Some(Item::Message(again))) = decoder.next() else { panic!("its own frames are no message") };
    assert!((0..frames.len()).all(|index| again.frame(index) == Some(frames[index])) && decoder.buffered() == 0);
}
