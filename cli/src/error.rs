//! Everything that can go wrong, its exit code, and the hints: advice is given here and nowhere else.

use std::{io, path::PathBuf, time::Duration};

use maglica_proto::{
    codec::CodecError,
    config::{ConfigError, keyfile::KeyFileError},
    fault::{Code, Fault},
    id::JobId,
    join::InvalidInvitation,
    key::{Fingerprint, InvalidKey},
    name::{DomainName, SnapshotName},
    seal::{Refusal, SealError},
    transport::{SealedError, TransportError},
};

use crate::exit::Exit;

/// Why the command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something that a person gave is not what it should be.
    #[error("{what}: {why}")]
    Input {
        /// The option or file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file that was named cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that was named cannot be written.
    #[error("cannot write into {}", path.display())]
    Write {
        /// Which, or its folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A key or token could not be made.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The invitation is none.
    #[error("the invitation cannot be read")]
    Invitation(#[from] InvalidInvitation),
    /// The client worker does not answer.
    #[error("no answer from the client worker")]
    Transport(#[from] TransportError),
    /// Whoever answers does not have the pinned key.
    #[error("{addr} is not the client worker that this machine trusts: it does not have the key {expected}")]
    WrongServer {
        /// Who was asked.
        addr: String,
        /// The fingerprint of the pinned key.
        expected: Fingerprint,
    },
    /// The client worker knows us not, or not any more.
    #[error("the client worker at {addr} refuses this key ({own}): {why}")]
    Refused {
        /// Who was asked.
        addr: String,
        /// Our key's fingerprint.
        own: Fingerprint,
        /// The word.
        why: Refusal,
    },
    /// The token is not accepted.
    #[error("the client worker at {addr} does not accept the invitation")]
    TokenRefused {
        /// Who was asked.
        addr: String,
    },
    /// The pinned key and the one of an invitation differ.
    #[error("{} holds another client worker's key ({pinned}) than the invitation ({invited})", path.display())]
    OtherServer {
        /// The file of the pinned key.
        path: PathBuf,
        /// Its fingerprint.
        pinned: Fingerprint,
        /// The invitation's.
        invited: Fingerprint,
    },
    /// A sealed message is not to be believed.
    #[error("the answer of the client worker cannot be believed")]
    Seal(#[from] SealError),
    /// A message could not be written or read.
    #[error("the answer of the client worker is not understood")]
    Codec(#[from] CodecError),
    /// An answer to another question.
    #[error("the client worker gave an answer that does not belong to the question {0}")]
    Unexpected(&'static str),
    /// Told by the client worker.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// The job failed or was cancelled.
    #[error("job {id} {state}: {fault}")]
    Job {
        /// Which.
        id: JobId,
        /// `failed` or `cancelled`.
        state: &'static str,
        /// Why.
        fault: Box<Fault>,
    },
    /// The job's host fell silent and did not come back.
    #[error("the host of job {id} is silent: what became of it is not known")]
    Lost {
        /// Which.
        id: JobId,
    },
    /// The command's own time is over.
    #[error("job {id} has not ended within {} s", limit.as_secs())]
    StillGoing {
        /// Which.
        id: JobId,
        /// The limit.
        limit: Duration,
    },
    /// Ctrl-C.
    #[error("interrupted; job {id} goes on")]
    Interrupted {
        /// Which.
        id: JobId,
    },
    /// A pattern fits nothing.
    #[error("no virtual machine is called like {pattern:?}")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A machine has no such snapshot.
    #[error("{vm} has no snapshot {name}")]
    NoSnapshot {
        /// The machine.
        vm: DomainName,
        /// The snapshot.
        name: SnapshotName,
    },
    /// Several jobs were interrupted or not waited for any longer.
    #[error("{ended} of {all} jobs have ended; the others go on")]
    Left {
        /// Those that have.
        ended: usize,
        /// All.
        all: usize,
        /// Ctrl-C rather than the time limit.
        interrupted: bool,
    },
    /// The audit does not hang together.
    #[error("the audit was changed: {why}")]
    Audit {
        /// The first flaw.
        why: String,
        /// How many are told besides, if all were looked for.
        more: Option<usize>,
    },
    /// The person said no.
    #[error("nothing was done")]
    Declined,
    /// Writing to stdout.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// The output cannot be shown in this form; a bug of ours.
    #[error("cannot write the answer as {0}: {1}")]
    Format(&'static str, String),
    /// The runtime.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

impl From<SealedError> for Error {
    fn from(error: SealedError) -> Self {
        match error {
            SealedError::Transport(error) => error.into(),
            SealedError::Seal { source, .. } => source.into(),
            SealedError::Crossed { .. } => SealError::Misplaced("it answers another question").into(),
        }
    }
}

impl Error {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Input { .. } | Self::File { .. } | Self::Write { .. } | Self::Invitation(_) => {
                Exit::Usage
            }
            Self::Config(_) => Exit::Configuration,
            Self::KeyFile(_) | Self::WrongServer { .. } | Self::TokenRefused { .. } | Self::OtherServer { .. } => {
                Exit::Trust
            }
            Self::Transport(error) => of_transport(error),
            Self::Refused { why, .. } => of_refusal(*why),
            Self::Seal(SealError::Refused(why)) => of_refusal(*why),
            Self::Seal(SealError::Verify { .. } | SealError::Misplaced(_) | SealError::Replayed(_)) => Exit::Trust,
            Self::Fault(fault) | Self::Job { fault, .. } => Exit::of(fault.code),
            Self::Lost { .. } => Exit::OutcomeUnknown,
            Self::NoMatch { .. } | Self::NoSnapshot { .. } => Exit::NotFound,
            Self::StillGoing { .. } | Self::Left { interrupted: false, .. } => Exit::Timeout,
            Self::Interrupted { .. } | Self::Left { interrupted: true, .. } => Exit::Interrupted,
            Self::Declined => Exit::Cancelled,
            Self::Seal(
                SealError::Malformed(_)
                | SealError::TooLarge(_)
                | SealError::Version { .. }
                | SealError::Payload(_)
                | SealError::Key(_),
            )
            | Self::Key(_)
            | Self::Codec(_)
            | Self::Unexpected(_)
            | Self::Audit { .. }
            | Self::Output(_)
            | Self::Format(..)
            | Self::Runtime(_) => Exit::Failed,
        }
    }

    /// What the reader can do about it, best first.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::KeyFile(error) => of_key_file(error),
            Self::Transport(error) => of_transport_hint(error),
            Self::WrongServer { .. } => vec![
                "compare with the fingerprint that `maglica-client-worker init` prints on its machine; if the client worker really has \
                 a new key, ask its administrator for a new invitation"
                    .into(),
                "a key that was rotated while this machine was away is pinned anew by writing the new public key into the file of \
                 operator.server_key"
                    .into(),
            ],
            Self::Refused { why, .. } => of_refusal_hint(*why),
            Self::TokenRefused { .. } => {
                vec!["an invitation is good once and for a limited time; ask for a new one (maglica operator add, maglica host invite)".into()]
            }
            Self::OtherServer { path, .. } => vec![format!("to trust the new client worker instead, remove {} first", path.display())],
            Self::Fault(fault) => of_fault(fault, None),
            Self::Job { fault, id, .. } => of_fault(fault, Some(*id)),
            Self::Lost { id } => vec![format!("it is settled when the host is back: maglica job wait {id}")],
            Self::StillGoing { id, .. } | Self::Interrupted { id } => {
                vec![format!("to look at it: maglica job show {id}"), format!("to stop it:    maglica job cancel {id}")]
            }
            Self::NoMatch { .. } => vec!["to see which there are: maglica vm list".into()],
            Self::NoSnapshot { vm, .. } => vec![format!("to see which there are: maglica snapshot list {vm}")],
            Self::Left { .. } => vec!["to look at them: maglica job list".into()],
            Self::Audit { more: None, .. } => vec!["to look at all of it: maglica audit --verify".into()],
            Self::Audit { more: Some(0), .. } => Vec::new(),
            Self::Audit { more: Some(more), .. } => vec![format!("{more} more of its flaws are told above")],
            Self::Unexpected(_) | Self::Codec(_) => vec![SAME_VERSION.into()],
            Self::Seal(SealError::Version { .. } | SealError::Malformed(_)) => vec![SAME_VERSION.into()],
            Self::Seal(
                SealError::Refused(_)
                | SealError::Verify { .. }
                | SealError::Misplaced(_)
                | SealError::Replayed(_)
                | SealError::TooLarge(_)
                | SealError::Payload(_)
                | SealError::Key(_),
            )
            | Self::Usage(_)
            | Self::Input { .. }
            | Self::File { .. }
            | Self::Write { .. }
            | Self::Config(_)
            | Self::Key(_)
            | Self::Invitation(_)
            | Self::Declined
            | Self::Output(_)
            | Self::Format(..)
            | Self::Runtime(_) => Vec::new(),
        }
    }

    /// What could not be taken back, a line each.
    #[must_use]
    pub fn left(&self) -> &[String] {
        if let Self::Fault(fault) | Self::Job { fault, .. } = self { &fault.left } else { &[] }
    }
}

const SAME_VERSION: &str = "use the same version of Maglica on both sides";

const fn of_transport(error: &TransportError) -> Exit {
    match error {
        TransportError::Unresolvable { .. }
        | TransportError::Refused { .. }
        | TransportError::Unreachable { .. }
        | TransportError::NoAnswer { .. }
        | TransportError::Closed { .. }
        | TransportError::Protocol { .. } => Exit::Unreachable,
        TransportError::TooLarge { .. } | TransportError::Topic { .. } | TransportError::Local { .. } => Exit::Failed,
    }
}

fn of_transport_hint(error: &TransportError) -> Vec<String> {
    match error {
        TransportError::Refused { .. } => vec![
            "is maglica-client-worker running there? (systemctl status maglica-client-worker)".into(),
            "client.host and client.rep_port in maglica.conf say where it is looked for".into(),
        ],
        TransportError::Unresolvable { .. } | TransportError::Unreachable { .. } | TransportError::NoAnswer { .. } | TransportError::Closed { .. } => {
            vec!["client.host and client.rep_port in maglica.conf say where the client worker is looked for".into()]
        }
        TransportError::Protocol { .. } => vec!["does something else listen there? client.rep_port must be the port that answers, not the one that publishes".into()],
        TransportError::TooLarge { .. } | TransportError::Topic { .. } | TransportError::Local { .. } => Vec::new(),
    }
}

const fn of_refusal(why: Refusal) -> Exit {
    match why {
        Refusal::UnknownKey | Refusal::Pending | Refusal::Revoked | Refusal::Unverified => Exit::Trust,
        Refusal::NoSession | Refusal::Busy => Exit::Unreachable,
        Refusal::Version => Exit::Failed,
    }
}

fn of_refusal_hint(why: Refusal) -> Vec<String> {
    match why {
        Refusal::UnknownKey => vec![
            "ask an administrator for an invitation (maglica operator add NAME), then: maglica operator join".into(),
        ],
        Refusal::Revoked => {
            vec!["a revoked key is never accepted again; remove the key file and join with a new invitation".into()]
        }
        Refusal::Version => vec![SAME_VERSION.into()],
        Refusal::NoSession | Refusal::Busy => vec!["try again in a moment".into()],
        Refusal::Pending | Refusal::Unverified => Vec::new(),
    }
}

fn of_key_file(error: &KeyFileError) -> Vec<String> {
    match error {
        KeyFileError::Absent { .. } => vec![
            "on the client worker's own machine, run this as root after maglica-client-worker has started once".into(),
            "elsewhere, ask for an invitation (maglica operator add NAME) and: maglica operator join".into(),
        ],
        KeyFileError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            vec!["run this as root, or join with a key of your own: maglica operator join".into()]
        }
        KeyFileError::Readable { path, .. } => vec![format!("chmod 600 {}", path.display())],
        KeyFileError::Io { .. } | KeyFileError::Invalid { .. } | KeyFileError::Generate { .. } => Vec::new(),
    }
}

/// The list to look into; faults name the kind of thing that was not found.
fn where_to_look(message: &str) -> &'static str {
    let lists = [
        ("storage pool", "maglica host list -o json"),
        ("image", "maglica image list"),
        ("virtual machine", "maglica vm list"),
        ("no job", "maglica job list"),
        ("operator", "maglica operator list"),
        ("host", "maglica host list"),
    ];
    lists
        .into_iter()
        .find(|(kind, _)| message.contains(kind))
        .map_or("maglica image list, vm list, host list, job list", |(_, list)| list)
}

fn of_fault(fault: &Fault, job: Option<JobId>) -> Vec<String> {
    if !fault.similar.is_empty() {
        return vec![format!("did you mean {}?", fault.similar.join(" or "))];
    }
    let object = fault.object.as_deref();
    let mut hints: Vec<String> = match fault.code {
        Code::NotFound => vec![format!("see what there is: {}", where_to_look(&fault.message))],
        Code::Conflict => {
            object.map(|name| format!("see what has the name: maglica vm show {name}")).into_iter().collect()
        }
        Code::WrongState => object
            .map(|name| match name.parse::<JobId>() {
                Ok(job) => format!("see what became of it: maglica job show {job}"),
                Err(_) if fault.message.ends_with(" is paused") => format!("let it go on: maglica vm resume {name}"),
                Err(_) => format!("see its state: maglica vm show {name}"),
            })
            .into_iter()
            .collect(),
        Code::NoRoom if !fault.message.contains("pool") => {
            vec!["see what hosts have: maglica host list -o json".into()]
        }
        Code::NoRoom => {
            vec!["see the room of each pool: maglica host list -o json; another pool is chosen with --pool".into()]
        }
        Code::NoHost => vec!["see the hosts: maglica host list".into()],
        Code::HostDown => vec!["see the hosts: maglica host list; is maglica-host-worker running there?".into()],
        Code::ToolMissing => {
            vec!["install it on the host, or name its folder in host.tool_path of the host's maglica.conf".into()]
        }
        Code::Hypervisor => vec!["is libvirtd running on the host? (systemctl status libvirtd)".into()],
        Code::Unsupported if fault.message.contains(" disk ") => {
            object.map(|name| format!("see its disks: maglica vm show {name}")).into_iter().collect()
        }
        // Said whole already.
        Code::Unsupported if ["its sockets", "NUMA"].iter().any(|word| fault.message.contains(word)) => Vec::new(),
        Code::Unsupported => {
            vec!["if it is the guest that is not recognised, --no-customize leaves its files as they are".into()]
        }
        Code::Forbidden => {
            vec!["an administrator can give a key with another role: maglica operator add NAME --role …".into()]
        }
        Code::Trust => vec!["ask an administrator for a new invitation".into()],
        Code::Version => vec![SAME_VERSION.into()],
        Code::Unavailable => vec!["try again in a moment".into()],
        Code::Internal => vec!["this is a fault of Maglica; please report it with the logs of the daemons".into()],
        Code::OutcomeUnknown => vec!["see what is there: maglica vm list".into()],
        Code::InvalidInput | Code::ToolFailed | Code::Cancelled | Code::Timeout | Code::Unknown => Vec::new(),
    };
    hints.extend(job.map(|id| format!("the whole story: maglica job show {id}")));
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_answered_with_the_names_that_look_like_it_and_nothing_else() {
        let mut fault = Fault::new(Code::NotFound, "there is no image debian13");
        fault.similar = vec!["debian12".into(), "debian11".into()];
        let error = Error::Fault(fault.into());
        assert_eq!(error.hints(), ["did you mean debian12 or debian11?"]);
        assert_eq!(error.exit(), Exit::NotFound);
    }

    #[test]
    fn a_wrong_pinned_key_names_the_expected_one_and_offers_no_way_round() {
        let expected = maglica_proto::key::KeyPair::generate().unwrap().public().fingerprint();
        let error = Error::WrongServer { addr: "host:1".into(), expected: expected.clone() };
        assert!(error.to_string().contains(&expected.to_string()));
        assert_eq!(error.exit(), Exit::Trust);
        assert!(!error.hints().concat().contains("continue"));
    }

    #[test]
    fn an_interrupted_job_is_told_how_to_be_found_again_and_stopped() {
        let id = JobId::generate();
        let hints = Error::Interrupted { id }.hints().join("\n");
        assert!(hints.contains(&format!("job show {id}")) && hints.contains(&format!("job cancel {id}")));
    }

    #[test]
    fn faults_keep_their_kind_as_exit_code() {
        for (code, exit) in [
            (Code::InvalidInput, 2),
            (Code::NotFound, 4),
            (Code::Conflict, 5),
            (Code::WrongState, 6),
            (Code::NoRoom, 7),
            (Code::NoHost, 7),
            (Code::HostDown, 8),
            (Code::Unavailable, 8),
            (Code::Trust, 9),
            (Code::Forbidden, 10),
            (Code::Timeout, 11),
            (Code::Cancelled, 12),
            (Code::OutcomeUnknown, 14),
            (Code::ToolFailed, 1),
        ] {
            assert_eq!(Error::Fault(Fault::new(code, "x").into()).exit().code(), exit, "{code:?}");
        }
    }
}
