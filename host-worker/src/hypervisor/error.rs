//! What can go wrong with the hypervisor, by what a caller does about it.

use std::time::Duration;

use maglica_proto::fault::{Code, Fault, chain};

/// A call to the hypervisor did not do what it was to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HypervisorError {
    /// The object is not there.
    #[error("{doing}: {why}")]
    NotFound {
        /// What was being done, to which object.
        doing: String,
        /// libvirt's words.
        why: String,
    },
    /// An object of that name is there already.
    #[error("{doing}: {why}")]
    AlreadyExists {
        /// What was being done, to which object.
        doing: String,
        /// libvirt's words.
        why: String,
    },
    /// The object is in use for now; the same call can succeed later.
    #[error("{doing}: {why}")]
    Busy {
        /// What was being done, to which object.
        doing: String,
        /// libvirt's words.
        why: String,
    },
    /// The object is in a state in which this cannot be done: it runs already, it is off.
    #[error("{doing}: {why}")]
    WrongState {
        /// What was being done, to which object.
        doing: String,
        /// libvirt's words.
        why: String,
    },
    /// libvirt does not answer; nothing was done.
    #[error("{doing}: libvirt does not answer: {why}")]
    Down {
        /// What was being done, to which object.
        doing: String,
        /// libvirt's words, or how long it was waited for.
        why: String,
    },
    /// The call began and no answer came: whether it was done is not known.
    #[error("{doing}: no answer, so what came of it is not known: {why}")]
    Unknown {
        /// What was being done, to which object.
        doing: String,
        /// How the answer was lost.
        why: String,
    },
    /// The guest's agent does not answer (yet).
    #[error("{doing}: {why}")]
    NoAgent {
        /// What was being done, to which object.
        doing: String,
        /// libvirt's words.
        why: String,
    },
    /// libvirt refused or failed.
    #[error("{doing}: {why}")]
    Refused {
        /// What was being done, to which object.
        doing: String,
        /// libvirt's words.
        why: String,
    },
}

impl HypervisorError {
    pub(super) fn timed_out(doing: String, limit: Duration) -> Self {
        Self::Unknown { doing, why: format!("it took longer than {} s", limit.as_secs()) }
    }

    /// Whether the object is not there.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The code as which it travels.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists { .. } => Code::Conflict,
            Self::WrongState { .. } => Code::WrongState,
            Self::Unknown { .. } => Code::OutcomeUnknown,
            Self::Down { .. } | Self::Busy { .. } | Self::NoAgent { .. } | Self::Refused { .. } => Code::Hypervisor,
        }
    }
}

impl From<HypervisorError> for Fault {
    fn from(error: HypervisorError) -> Self {
        Self::new(error.code(), chain(&error))
    }
}
