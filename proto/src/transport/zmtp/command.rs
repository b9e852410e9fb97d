//! Commands: READY in the handshake, PING/PONG and SUBSCRIBE/CANCEL afterwards. Anything else is a violation.

use bytes::{BufMut, Bytes, BytesMut};

use super::Violation;
use super::frames::put_header;

/// RFC 37: a PING's context is at most 16 bytes.
const MAX_PING_CONTEXT: usize = 16;
/// RFC 37: PING carries its time to live in two bytes before the context.
const PING_TTL_LEN: usize = 2;

/// A command that may follow the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The peer asks for a sign of life; the context is to be echoed.
    Ping {
        /// Opaque bytes of the peer, at most 16.
        context: Bytes,
    },
    /// ZMTP 3.1 form of a subscription.
    Subscribe(Bytes),
    /// ZMTP 3.1 form of the end of a subscription.
    Cancel(Bytes),
}

impl Command {
    /// Reads the body of a command frame.
    ///
    /// # Errors
    /// [`Violation::Command`] for every other or malformed command.
    pub fn parse(body: &Bytes) -> Result<Self, Violation> {
        let (name, data) = split_name(body).ok_or(Violation::Command)?;
        let data = body.slice_ref(data);
        match name {
            b"PING" if (PING_TTL_LEN..=PING_TTL_LEN + MAX_PING_CONTEXT).contains(&data.len()) => {
                Ok(Self::Ping { context: data.slice(PING_TTL_LEN..) })
            }
            b"SUBSCRIBE" => Ok(Self::Subscribe(data)),
            b"CANCEL" => Ok(Self::Cancel(data)),
            _ => Err(Violation::Command),
        }
    }
}

/// The name and the rest of a command's body.
fn split_name(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = body.split_first()?;
    rest.split_at_checked(usize::from(len))
}

/// Reads READY and gives its `Socket-Type`. Other properties, the identity among them, are checked for form and dropped.
pub(super) fn parse_ready(body: &[u8], max_properties: usize) -> Result<Vec<u8>, Violation> {
    let (name, mut rest) = split_name(body).ok_or(Violation::Ready)?;
    if name != b"READY" {
        return Err(Violation::Ready);
    }
    let mut socket_type = None;
    let mut seen = 0;
    while !rest.is_empty() {
        seen += 1;
        if seen > max_properties {
            return Err(Violation::Ready);
        }
        let (key, after) = split_name(rest).ok_or(Violation::Ready)?;
        if key.is_empty() {
            return Err(Violation::Ready);
        }
        let (len, after) = after.split_first_chunk::<4>().ok_or(Violation::Ready)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| Violation::Ready)?;
        let (value, after) = after.split_at_checked(len).ok_or(Violation::Ready)?;
        // RFC 23: property names are case-insensitive.
        if key.eq_ignore_ascii_case(b"Socket-Type") && socket_type.replace(value.to_vec()).is_some() {
            return Err(Violation::Ready);
        }
        rest = after;
    }
    socket_type.ok_or(Violation::Ready)
}

/// A READY command frame with a socket type and, towards our own sockets, an identity (at most 255 bytes).
#[must_use]
pub fn encode_ready(socket_type: &str, identity: Option<&[u8]>) -> Bytes {
    let mut body = BytesMut::with_capacity(64);
    put_short(&mut body, b"READY");
    put_property(&mut body, b"Socket-Type", socket_type.as_bytes());
    if let Some(identity) = identity {
        put_property(&mut body, b"Identity", identity);
    }
    encode_command(&body)
}

/// The answer to a PING.
#[must_use]
pub fn encode_pong(context: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(8 + context.len());
    put_short(&mut body, b"PONG");
    body.put_slice(context);
    encode_command(&body)
}

fn encode_command(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 9);
    put_header(&mut out, super::frames::COMMAND, body.len());
    out.put_slice(body);
    out.freeze()
}

/// A name behind its one-byte length. Longer names than 255 bytes do not exist in ZMTP; the rest would be cut.
fn put_short(out: &mut BytesMut, name: &[u8]) {
    let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
    out.put_u8(len);
    out.put_slice(&name[..usize::from(len)]);
}

fn put_property(out: &mut BytesMut, key: &[u8], value: &[u8]) {
    put_short(out, key);
    let len = u32::try_from(value.len()).unwrap_or(0);
    out.put_u32(len);
    if len > 0 {
        out.put_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &[u8], data: &[u8]) -> Bytes {
        let mut body = BytesMut::new();
        put_short(&mut body, name);
        body.put_slice(data);
        body.freeze()
    }

    #[test]
    fn a_ping_gives_its_context_and_an_overlong_one_is_refused() {
        assert_eq!(
            Command::parse(&command(b"PING", b"\x00\x0aabc")),
            Ok(Command::Ping { context: Bytes::from_static(b"abc") })
        );
        assert_eq!(Command::parse(&command(b"PING", &[0; 19])), Err(Violation::Command));
        assert_eq!(Command::parse(&command(b"PING", &[0])), Err(Violation::Command));
    }

    #[test]
    fn unknown_and_truncated_commands_are_refused() {
        for body in [
            command(b"PONG", b""),
            command(b"ERROR", b"\x00"),
            command(b"READY", b""),
            Bytes::new(),
            Bytes::from_static(&[5, b'P']),
        ] {
            assert_eq!(Command::parse(&body), Err(Violation::Command), "{body:?}");
        }
    }

    #[test]
    fn ready_with_missing_twofold_or_truncated_properties_is_refused() {
        let mut twofold = BytesMut::new();
        put_short(&mut twofold, b"READY");
        put_property(&mut twofold, b"Socket-Type", b"REQ");
        let once = twofold.clone();
        put_property(&mut twofold, b"socket-type", b"SUB");
        assert_eq!(parse_ready(&once, 16), Ok(b"REQ".to_vec()));
        assert_eq!(parse_ready(&twofold, 16), Err(Violation::Ready));
        assert_eq!(parse_ready(&once, 0), Err(Violation::Ready));
        assert_eq!(parse_ready(b"\x05READY", 16), Err(Violation::Ready));
        for cut in 0..once.len() {
            assert_eq!(parse_ready(&once[..cut], 16), Err(Violation::Ready));
        }
    }
}
