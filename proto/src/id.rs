//! Ids: jobs are UUIDv7, made by whoever asks, so that a repeated request is recognised.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::units::Timestamp;

/// A job's id and idempotency key: a UUIDv7 made by the CLI, so ids sort by time of submission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// A new id of this moment.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id as a UUID.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    /// When it was made, by the asker's clock; none if it is not a UUIDv7.
    #[must_use]
    pub fn made_at(self) -> Option<Timestamp> {
        // The first 48 bits are the milliseconds since 1970 (RFC 9562).
        let millis = u64::try_from(self.0.as_u128() >> 80).ok()?;
        (self.0.get_version_num() == 7).then_some(Timestamp::from_millis(millis))
    }

    /// The last twelve hexadecimal digits: random, short enough for the temporary names of what a job builds.
    #[must_use]
    pub fn short(self) -> String {
        let text = self.0.simple().to_string();
        text[text.len() - 12..].to_owned()
    }
}

impl From<Uuid> for JobId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::parse_str(text).map(Self).map_err(|_| InvalidId(text.chars().take(64).collect()))
    }
}

/// The text is not a job id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a job id (a UUID such as 0193e0a5-7f3e-7c1a-9d3b-2f6c1a0b4d5e)")]
pub struct InvalidId(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_made_if_it_is_of_the_kind_that_does() {
        let id: JobId = "0193e0a5-7f3e-7c1a-9d3b-2f6c1a0b4d5e".parse().unwrap();
        assert_eq!(id.made_at(), Some(Timestamp::from_millis(0x0193_e0a5_7f3e)));
        let random: JobId = "0193e0a5-7f3e-4c1a-9d3b-2f6c1a0b4d5e".parse().unwrap();
        assert_eq!(random.made_at(), None);
    }
}
