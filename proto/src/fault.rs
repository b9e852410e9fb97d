//! An error as it travels: a code that programs act on, a sentence for people, and the object it is about.
//!
//! No advice in it: hints are added where a person reads, in the CLI.

use serde::{Deserialize, Serialize};

/// What kind of thing went wrong. The CLI's exit code follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request breaks a rule that needs no look at the world.
    InvalidInput,
    /// There is no such virtual machine, image, host, pool, job or operator.
    NotFound,
    /// The name is taken, or the same id came with another body.
    Conflict,
    /// The object is in a state in which this cannot be done: an image that runs, a machine already off.
    WrongState,
    /// No room: pool or memory.
    NoRoom,
    /// No host can take it, and why each was refused is in the message.
    NoHost,
    /// The host is not reachable at the moment.
    HostDown,
    /// A program that the host needs is missing.
    ToolMissing,
    /// A program ran and failed.
    ToolFailed,
    /// libvirt refused, failed or does not answer.
    Hypervisor,
    /// Something we do not know how to handle: a disk that cannot be cloned, a guest that is not recognised.
    Unsupported,
    /// The job was cancelled.
    Cancelled,
    /// Not done within its time limit.
    Timeout,
    /// The host fell silent, or its ledger was lost, while the job ran: what became of it is not known.
    OutcomeUnknown,
    /// The asker's role does not include this.
    Forbidden,
    /// A key is unknown, revoked or not the pinned one.
    Trust,
    /// The two sides speak different protocol versions, or one does not know the verb.
    Version,
    /// The other side cannot answer now (starting, stopping, store not writable, too busy).
    Unavailable,
    /// A bug of ours.
    Internal,
    /// A code of a newer version.
    #[serde(other)]
    Unknown,
}

impl Code {
    /// The word, as it travels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid-input",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::WrongState => "wrong-state",
            Self::NoRoom => "no-room",
            Self::NoHost => "no-host",
            Self::HostDown => "host-down",
            Self::ToolMissing => "tool-missing",
            Self::ToolFailed => "tool-failed",
            Self::Hypervisor => "hypervisor",
            Self::Unsupported => "unsupported",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::Forbidden => "forbidden",
            Self::Trust => "trust",
            Self::Version => "version",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        }
    }
}

/// An error that is told to the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What programs act on.
    pub code: Code,
    /// One sentence in lower case: what was being done, to which object, what came of it.
    pub message: String,
    /// The name of the object, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Names that exist and look like the one that was not found, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub similar: Vec<String>,
    /// What is left behind that could not be undone, each as a line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

impl Fault {
    /// A fault with this code and sentence.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), object: None, similar: Vec::new(), left: Vec::new() }
    }

    /// The same with the object it is about.
    #[must_use]
    pub fn about(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }

    /// The same with the whole chain of `error` as the message, as an edge that turns an error into a fault does.
    #[must_use]
    pub fn from_error(code: Code, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(code, chain(error))
    }
}

/// An error and its sources as one line, each said once.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_shown_as_it_travels() {
        for code in [Code::InvalidInput, Code::NoHost, Code::OutcomeUnknown, Code::Forbidden, Code::Unavailable] {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("{:?}", code.as_str()));
        }
    }
}
