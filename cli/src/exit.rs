//! The exit codes: what a script can tell apart. `docs/cli.md` has the same table.

use std::process::ExitCode;

use maglica_proto::fault::Code;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done, and complete.
    Ok = 0,
    /// Failed in a way that has no code of its own.
    Failed = 1,
    /// The command line or an input is wrong; nothing was done.
    Usage = 2,
    /// Answered, but a host was absent.
    Partial = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The name is taken.
    Conflict = 5,
    /// The thing is in a state in which this cannot be done.
    WrongState = 6,
    /// No room, or no host that can take it.
    NoRoom = 7,
    /// The client worker or the host does not answer.
    Unreachable = 8,
    /// A key is missing, unknown, revoked or not the pinned one.
    Trust = 9,
    /// The role does not include this.
    Forbidden = 10,
    /// Not done within the time.
    Timeout = 11,
    /// The job was cancelled.
    Cancelled = 12,
    /// The configuration cannot be used.
    Configuration = 13,
    /// What became of the job is not known.
    OutcomeUnknown = 14,
    /// Of several, some were done and others not.
    Some = 15,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// All of them, in order.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::Partial,
        Self::NotFound,
        Self::Conflict,
        Self::WrongState,
        Self::NoRoom,
        Self::Unreachable,
        Self::Trust,
        Self::Forbidden,
        Self::Timeout,
        Self::Cancelled,
        Self::Configuration,
        Self::OutcomeUnknown,
        Self::Some,
        Self::Interrupted,
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for people.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done, and complete",
            Self::Failed => "failed; the message says how",
            Self::Usage => "the command line or an input is wrong; nothing was done",
            Self::Partial => "answered, but a host is absent: its rows are old or missing",
            Self::NotFound => "no such virtual machine, image, host, pool, job or operator",
            Self::Conflict => "the name is taken, or something else changed it first",
            Self::WrongState => "the machine, image or job is in a state in which this cannot be done",
            Self::NoRoom => "no room, or no host that can take it",
            Self::Unreachable => "the client worker or the host does not answer",
            Self::Trust => "a key is missing, unknown, revoked, or not the pinned one",
            Self::Forbidden => "your role does not include this",
            Self::Timeout => "not done within the time limit",
            Self::Cancelled => "the job was cancelled, or you said no",
            Self::Configuration => "the configuration cannot be used",
            Self::OutcomeUnknown => "what became of the job is not known yet",
            Self::Some => "of several, some were done and others not: the table says which",
            Self::Interrupted => "Ctrl-C; a job that was submitted goes on",
        }
    }

    /// The exit code of a fault that was told by the client worker or a host.
    #[must_use]
    pub const fn of(code: Code) -> Self {
        match code {
            Code::InvalidInput => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::Conflict => Self::Conflict,
            Code::WrongState => Self::WrongState,
            Code::NoRoom | Code::NoHost => Self::NoRoom,
            Code::HostDown | Code::Unavailable => Self::Unreachable,
            Code::Cancelled => Self::Cancelled,
            Code::Timeout => Self::Timeout,
            Code::OutcomeUnknown => Self::OutcomeUnknown,
            Code::Forbidden => Self::Forbidden,
            Code::Trust => Self::Trust,
            Code::ToolMissing
            | Code::ToolFailed
            | Code::Hypervisor
            | Code::Unsupported
            | Code::Version
            | Code::Internal
            | Code::Unknown => Self::Failed,
        }
    }

    /// What several that ended so come to: all done, none, or some.
    #[must_use]
    pub fn together(all: &[Self]) -> Self {
        match all.split_first() {
            None => Self::Ok,
            Some((first, rest)) if rest.iter().all(|exit| exit == first) => *first,
            Some(_) if all.contains(&Self::Ok) => Self::Some,
            // None was done, for different reasons.
            Some(_) => Self::Failed,
        }
    }

    /// The table of all of them.
    #[must_use]
    pub fn table() -> String {
        Self::ALL.iter().map(|exit| format!("{:>5}  {}\n", exit.code(), exit.meaning())).collect()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_number_once_and_in_order() {
        assert!(Exit::ALL.windows(2).all(|pair| pair[0].code() < pair[1].code()));
        assert_eq!(Exit::table().lines().count(), Exit::ALL.len());
    }

    #[test]
    fn several_come_to_all_none_or_some() {
        use Exit::{Failed, NotFound, Ok, WrongState};
        for (all, together) in [
            (&[][..], Ok),
            (&[Ok, Ok], Ok),
            (&[Ok, WrongState], Exit::Some),
            (&[WrongState, WrongState], WrongState),
            (&[WrongState, NotFound], Failed),
        ] {
            assert_eq!(Exit::together(all), together, "{all:?}");
        }
    }

    #[test]
    fn the_manual_has_the_same_table() {
        let manual = include_str!("../../docs/cli.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(manual.contains(&row), "docs/cli.md lacks {row}");
        }
    }
}
