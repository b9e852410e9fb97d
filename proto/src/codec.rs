//! MessagePack: every message is a map with named fields, so that fields can be added; unknown ones are ignored.
//!
//! UUIDs and addresses travel as text (serde's human-readable form), as `PROTOCOL.md` shows them.

mod shape;

use serde::{Serialize, de::DeserializeOwned};

pub use self::shape::Shape;

/// How deep a message may nest. Ours need seven; the bound keeps a hostile one from using up the stack.
const MAX_DEPTH: usize = 32;

/// A message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not MessagePack, or not of the expected shape.
    #[error("cannot read a message as {what}")]
    Decode {
        /// The type that was expected.
        what: &'static str,
        /// Why.
        #[source]
        source: rmp_serde::decode::Error,
    },
    /// Not one whole MessagePack value.
    #[error("cannot read a message as {what}")]
    Shape {
        /// The type that was expected.
        what: &'static str,
        /// Why.
        #[source]
        source: Shape,
    },
    /// Bytes follow the message.
    #[error("{extra} bytes follow a whole {what}")]
    Trailing {
        /// The type that was read.
        what: &'static str,
        /// How many bytes are too many.
        extra: usize,
    },
    /// A value that MessagePack cannot hold; a bug of ours.
    #[error("cannot write a {what}")]
    Encode {
        /// The type.
        what: &'static str,
        /// Why.
        #[source]
        source: rmp_serde::encode::Error,
    },
}

/// Writes a message.
///
/// # Errors
/// [`CodecError::Encode`] if the value cannot be written, which is a bug.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(256);
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map().with_human_readable();
    value.serialize(&mut serializer).map_err(|source| CodecError::Encode { what: short_name::<T>(), source })?;
    Ok(bytes)
}

/// Reads a message, which must take up all the bytes.
///
/// # Errors
/// [`CodecError::Shape`], [`CodecError::Decode`] or [`CodecError::Trailing`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    shape::check(bytes).map_err(|source| CodecError::Shape { what: short_name::<T>(), source })?;
    let mut rest = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest).with_human_readable();
    deserializer.set_max_depth(MAX_DEPTH);
    let value =
        T::deserialize(&mut deserializer).map_err(|source| CodecError::Decode { what: short_name::<T>(), source })?;
    match rest.len() {
        0 => Ok(value),
        extra => Err(CodecError::Trailing { what: short_name::<T>(), extra }),
    }
}

fn short_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    full.rsplit("::").next().unwrap_or(full)
}
