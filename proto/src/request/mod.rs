//! What an operator asks of the client worker, by which role; what it is answered is in [`answer`].

pub mod answer;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    audit::AuditPlace,
    console::{ConsoleInput, LogPlace},
    id::JobId,
    job::{CloneSpec, JobSpec},
    key::{Fingerprint, Secret, TokenId},
    name::{DomainName, HostName, OperatorName},
    news::NewsCursor,
};

pub use answer::*;

/// How many jobs one [`Request::SubmitMany`] may hold: its answer has to fit into one message.
pub const SUBMIT_MAX: usize = 1000;

/// What an operator may do. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// List and show.
    Viewer,
    /// Submit and cancel jobs.
    Operator,
    /// Invite, accept and revoke hosts and operators.
    Admin,
}

impl Role {
    /// The role's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verb")]
pub enum Request {
    /// All images.
    ImageList,
    /// One image with all its details, on each host that has it.
    ImageShow {
        /// Its name.
        name: DomainName,
        /// Only on this host.
        #[serde(default)]
        host: Option<HostName>,
    },
    /// Virtual machines, a page at a time.
    VmList {
        /// The `next` of the page before; none for the first.
        #[serde(default)]
        after: Option<VmCursor>,
    },
    /// One virtual machine (or image) with all its details.
    VmShow {
        /// Its name.
        name: DomainName,
        /// Its host, where two have one of that name.
        #[serde(default)]
        host: Option<HostName>,
    },
    /// All hosts.
    HostList,
    /// How long it takes to say something to hosts, sealed, and hear the answer.
    HostPing {
        /// Which; none: all.
        #[serde(default)]
        hosts: Vec<HostName>,
        /// How long to wait for the slowest, in milliseconds; the client worker has a bound of its own.
        wait_ms: u32,
    },
    /// How the client worker is.
    Status,
    /// The last jobs, newest first.
    JobList {
        /// How many at the most.
        limit: u32,
    },
    /// One job with its story.
    JobShow {
        /// Which.
        id: JobId,
    },
    /// The events of a job from `after` on; waits for one if there is none yet.
    JobWatch {
        /// Which.
        id: JobId,
        /// How many events are known already.
        after: u32,
        /// How long to wait at most, in milliseconds; the client worker has a bound of its own.
        wait_ms: u32,
    },
    /// Where a clone would be made, were it asked for now.
    Place {
        /// The clone.
        spec: CloneSpec,
    },
    /// What happened since `after`; waits for something if there is nothing yet.
    Watch {
        /// How much is known already; none: nothing of the past is wanted.
        #[serde(default)]
        after: Option<NewsCursor>,
        /// How long to wait at most, in milliseconds; the client worker has a bound of its own.
        wait_ms: u32,
    },
    /// Open a machine's serial console to type into it. A repeat with the same id is the same console.
    ConsoleOpen {
        /// Made by the asker; known to it alone.
        id: Uuid,
        /// The machine.
        name: DomainName,
        /// Its host, where two have one of that name.
        #[serde(default)]
        host: Option<HostName>,
        /// Take the place of whoever types into it now.
        #[serde(default)]
        force: bool,
    },
    /// Open it to look at it only.
    ConsoleView {
        /// Made by the asker; known to it alone.
        id: Uuid,
        /// The machine.
        name: DomainName,
        /// Its host, where two have one of that name.
        #[serde(default)]
        host: Option<HostName>,
    },
    /// What it showed from there on; waits for something if there is nothing yet.
    ConsoleRead {
        /// Which.
        id: Uuid,
        /// The position.
        from: u64,
        /// How long to wait at most, in milliseconds; the client worker has a bound of its own.
        wait_ms: u32,
    },
    /// Type this.
    ConsoleWrite {
        /// Which.
        id: Uuid,
        /// What, and the position of its first byte: what was taken already is not taken again.
        #[serde(flatten)]
        input: ConsoleInput,
    },
    /// Leave it.
    ConsoleClose {
        /// Which.
        id: Uuid,
    },
    /// What a machine's serial port put out, as its host keeps it.
    VmLog {
        /// The machine.
        name: DomainName,
        /// Its host, where two have one of that name.
        #[serde(default)]
        host: Option<HostName>,
        /// From where on; none: the last of it.
        #[serde(default)]
        place: Option<LogPlace>,
        /// Without a place: how much of the end, in bytes; the host has a bound of its own.
        tail: u32,
        /// How long to wait for more, in milliseconds, if there is nothing at that place; there is a bound.
        wait_ms: u32,
    },
    /// Do this. The same id with the same spec is the same job.
    Submit {
        /// Made by the asker.
        id: JobId,
        /// What.
        spec: JobSpec,
    },
    /// Do all of these, each as by [`Request::Submit`]: one that is refused keeps none of the others back.
    SubmitMany {
        /// At most [`SUBMIT_MAX`].
        jobs: Vec<Submission>,
    },
    /// Stop this job.
    JobCancel {
        /// Which.
        id: JobId,
    },
    /// Let a host join by a token. The token is made by the asker, so that a repeat is the same invitation.
    HostInvite {
        /// The host's name.
        name: HostName,
        /// The invitation.
        invite: Invite,
    },
    /// Let a pending host in.
    HostAccept {
        /// The name that it gave.
        name: HostName,
        /// The fingerprint of its key, as the host printed it.
        fingerprint: Fingerprint,
    },
    /// Shut a host out for ever; its name may be invited again, its key never.
    HostRevoke {
        /// Which.
        name: HostName,
    },
    /// Have a host make itself a new key. It does so soon, or when it is back; its present key is then never good again.
    HostRekey {
        /// Which.
        name: HostName,
        /// The key that is to go, so that a repeat does not replace the next one as well.
        fingerprint: Fingerprint,
    },
    /// Let a person or program in by a token.
    OperatorAdd {
        /// The name.
        name: OperatorName,
        /// What it may do.
        role: Role,
        /// The invitation.
        invite: Invite,
    },
    /// Shut an operator out for ever.
    OperatorRevoke {
        /// Which.
        name: OperatorName,
    },
    /// All operators.
    OperatorList,
    /// A page of the audit: the lines from `from` on, or if `back` the lines that end there.
    Audit {
        /// The `next` of the page before; none: from the very beginning, or if `back` from the very end.
        #[serde(default)]
        from: Option<AuditPlace>,
        /// Whether to read backwards.
        #[serde(default)]
        back: bool,
        /// How many lines at the most; the client worker has a bound of its own.
        limit: u32,
    },
    /// The client worker's own keys, and who has not used the next one yet.
    KeyShow,
    /// Make the client worker's next key, and have everybody pin it.
    KeyRotate {
        /// The key that is to go, so that a repeat does not begin another rotation.
        fingerprint: Fingerprint,
    },
    /// End the client worker's old key; the next one is then the only one.
    KeyRetire {
        /// The key that is to go.
        fingerprint: Fingerprint,
        /// Even if there are hosts that have not used the next one yet, and so will not find the client worker any more.
        #[serde(default)]
        force: bool,
    },
}

/// One of several jobs that are submitted together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Made by the asker.
    pub id: JobId,
    /// What.
    pub spec: JobSpec,
}

/// A token's stored half: whoever holds the token itself can enrol with it, once, until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Says which token a joiner holds.
    pub token: TokenId,
    /// The key both sides derive from the token, base64.
    pub psk: Secret,
    /// How long it is good for, in seconds.
    pub valid_s: u32,
}

impl Request {
    /// The least role that may ask this. One place, one match: a new verb does not compile until it is decided.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::ImageList
            | Self::ImageShow { .. }
            | Self::VmList { .. }
            | Self::VmShow { .. }
            | Self::HostList
            | Self::HostPing { .. }
            | Self::Status
            | Self::JobList { .. }
            | Self::JobShow { .. }
            | Self::JobWatch { .. }
            | Self::Place { .. }
            | Self::Watch { .. }
            | Self::ConsoleView { .. }
            | Self::ConsoleRead { .. }
            | Self::ConsoleClose { .. }
            | Self::VmLog { .. } => Role::Viewer,
            Self::ConsoleOpen { .. } | Self::ConsoleWrite { .. } => Role::Operator,
            Self::Submit { .. } | Self::SubmitMany { .. } | Self::JobCancel { .. } => Role::Operator,
            Self::HostInvite { .. }
            | Self::HostAccept { .. }
            | Self::HostRevoke { .. }
            | Self::HostRekey { .. }
            | Self::OperatorAdd { .. }
            | Self::OperatorRevoke { .. }
            | Self::OperatorList
            | Self::Audit { .. }
            | Self::KeyShow
            | Self::KeyRotate { .. }
            | Self::KeyRetire { .. } => Role::Admin,
        }
    }

    /// The verb as it travels, for logs.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::ImageList => "image-list",
            Self::ImageShow { .. } => "image-show",
            Self::VmList { .. } => "vm-list",
            Self::VmShow { .. } => "vm-show",
            Self::HostList => "host-list",
            Self::HostPing { .. } => "host-ping",
            Self::Status => "status",
            Self::JobList { .. } => "job-list",
            Self::JobShow { .. } => "job-show",
            Self::JobWatch { .. } => "job-watch",
            Self::Place { .. } => "place",
            Self::Watch { .. } => "watch",
            Self::ConsoleOpen { .. } => "console-open",
            Self::ConsoleView { .. } => "console-view",
            Self::ConsoleRead { .. } => "console-read",
            Self::ConsoleWrite { .. } => "console-write",
            Self::ConsoleClose { .. } => "console-close",
            Self::VmLog { .. } => "vm-log",
            Self::Submit { .. } => "submit",
            Self::SubmitMany { .. } => "submit-many",
            Self::JobCancel { .. } => "job-cancel",
            Self::HostInvite { .. } => "host-invite",
            Self::HostAccept { .. } => "host-accept",
            Self::HostRevoke { .. } => "host-revoke",
            Self::HostRekey { .. } => "host-rekey",
            Self::OperatorAdd { .. } => "operator-add",
            Self::OperatorRevoke { .. } => "operator-revoke",
            Self::OperatorList => "operator-list",
            Self::Audit { .. } => "audit",
            Self::KeyShow => "key-show",
            Self::KeyRotate { .. } => "key-rotate",
            Self::KeyRetire { .. } => "key-retire",
        }
    }
}
