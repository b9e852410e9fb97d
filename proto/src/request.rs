//! What an operator asks of the client worker, by which role, and the answers.

use serde::{Deserialize, Serialize};

use crate::{
    audit::{AuditPage, AuditPlace},
    fault::Fault,
    id::JobId,
    inventory::{Domain, HostFacts, Pool},
    job::{JobEvent, JobRow, JobSpec, JobView},
    key::{Fingerprint, PublicKey, Secret, TokenId},
    name::{DomainName, HostName, OperatorName},
    status::Status,
    units::{ByteSize, Timestamp},
};

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
            | Self::VmList { .. }
            | Self::VmShow { .. }
            | Self::HostList
            | Self::HostPing { .. }
            | Self::Status
            | Self::JobList { .. }
            | Self::JobShow { .. }
            | Self::JobWatch { .. } => Role::Viewer,
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
            Self::VmList { .. } => "vm-list",
            Self::VmShow { .. } => "vm-show",
            Self::HostList => "host-list",
            Self::HostPing { .. } => "host-ping",
            Self::Status => "status",
            Self::JobList { .. } => "job-list",
            Self::JobShow { .. } => "job-show",
            Self::JobWatch { .. } => "job-watch",
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

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// To [`Request::ImageList`].
    Images(Listing<ImageRow>),
    /// To [`Request::VmList`].
    Vms {
        /// The rows of this page.
        #[serde(flatten)]
        listing: Listing<VmRow>,
        /// Where the next page begins; none if this is the last.
        #[serde(default)]
        next: Option<VmCursor>,
    },
    /// To [`Request::VmShow`].
    Vm(Box<VmView>),
    /// To [`Request::HostList`].
    Hosts {
        /// All, pending ones last.
        hosts: Vec<HostRow>,
    },
    /// To [`Request::HostPing`].
    Pings {
        /// One for each host that was asked for, by name.
        pings: Vec<Ping>,
    },
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::SubmitMany`].
    Submitted {
        /// One for each job, in the order of the request.
        results: Vec<Result<JobRow, Fault>>,
    },
    /// To [`Request::JobList`].
    Jobs {
        /// Newest first.
        jobs: Vec<JobRow>,
    },
    /// To [`Request::JobShow`], [`Request::Submit`] and [`Request::JobCancel`].
    Job(Box<JobView>),
    /// To [`Request::JobWatch`].
    Watch {
        /// The job as it is.
        row: Box<JobRow>,
        /// Its events from the asked one on.
        events: Vec<JobEvent>,
        /// How far the running step is.
        #[serde(default)]
        progress: Option<crate::job::HostEventKind>,
    },
    /// To [`Request::OperatorList`].
    Operators {
        /// All.
        operators: Vec<OperatorRow>,
    },
    /// To [`Request::Audit`].
    Audit(Box<AuditPage>),
    /// To [`Request::KeyShow`], [`Request::KeyRotate`] and [`Request::KeyRetire`].
    Keys(Box<KeysView>),
    /// Done, and stored.
    Done,
    /// Refused or failed.
    Fault {
        /// Why.
        fault: Fault,
    },
}

/// Rows from many hosts, with what is known of each host, so that nobody takes a part for the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Hosts that are not up: their rows, if any, are old.
    pub absent: Vec<Absence>,
}

/// A host whose rows are old or missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// Which.
    pub host: HostName,
    /// Suspect or down.
    pub presence: Presence,
    /// When it was last heard of; none: not since the client worker started.
    #[serde(default)]
    pub heard: Option<Timestamp>,
}

/// Whether a host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Heard of lately.
    Up,
    /// Silent for longer than it should be.
    Suspect,
    /// Silent for long.
    Down,
    /// It asks to be let in.
    Pending,
}

impl Presence {
    /// The word for tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Pending => "pending",
        }
    }
}

/// Whether an image can be cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// It can.
    Ready,
    /// It runs, so it cannot.
    Running,
    /// One of its disks is missing or of a kind that cannot be cloned.
    Broken,
}

impl ImageState {
    /// The word for tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Broken => "broken",
        }
    }
}

/// An image in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// Its name.
    pub name: DomainName,
    /// Its host.
    pub host: HostName,
    /// Size of its disks as a guest sees them.
    #[serde(default)]
    pub disk: Option<ByteSize>,
    /// Format of its first disk.
    pub format: String,
    /// Whether it can be cloned.
    pub state: ImageState,
    /// How old this knowledge is, in milliseconds.
    pub age_ms: u64,
}

/// Where a page of virtual machines ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VmCursor {
    /// The last row's name.
    pub name: DomainName,
    /// The last row's host.
    pub host: HostName,
}

/// A virtual machine in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRow {
    /// Its name.
    pub name: DomainName,
    /// Its host.
    pub host: HostName,
    /// Its state as last seen.
    pub state: crate::inventory::DomainState,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory.
    pub memory: ByteSize,
    /// Disks as the guest sees them.
    #[serde(default)]
    pub disk: Option<ByteSize>,
    /// The image it was cloned from, if Maglica did it.
    #[serde(default)]
    pub image: Option<DomainName>,
    /// Its addresses, as far as known.
    #[serde(default)]
    pub addresses: Vec<std::net::IpAddr>,
    /// How old this knowledge is, in milliseconds.
    pub age_ms: u64,
}

/// A virtual machine with all its details.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmView {
    /// Its host.
    pub host: HostName,
    /// Whether its host is up.
    pub presence: Presence,
    /// How old this knowledge is, in milliseconds.
    pub age_ms: u64,
    /// The domain.
    #[serde(flatten)]
    pub domain: Domain,
}

/// A host in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    /// Its name.
    pub name: HostName,
    /// Whether it is there.
    pub presence: Presence,
    /// When it was last heard of.
    #[serde(default)]
    pub heard: Option<Timestamp>,
    /// Its weight in placement.
    pub weight: u32,
    /// Running domains.
    pub active: u32,
    /// Domains in all, images left out.
    pub domains: u32,
    /// The fingerprint of its key.
    pub fingerprint: Fingerprint,
    /// What it is; none if not heard of since the client worker started.
    #[serde(default)]
    pub facts: Option<HostFacts>,
    /// Its pools.
    #[serde(default)]
    pub pools: Vec<Pool>,
}

/// How long a host took to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Which.
    pub host: HostName,
    /// Whether it is there.
    pub presence: Presence,
    /// From saying it to hearing the answer, as the client worker measured it, in microseconds; none: no answer in time.
    #[serde(default)]
    pub took_us: Option<u64>,
    /// When it was last heard of.
    #[serde(default)]
    pub heard: Option<Timestamp>,
}

/// An operator in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRow {
    /// The name.
    pub name: OperatorName,
    /// What it may do.
    pub role: Role,
    /// The fingerprint of its key; none while invited only.
    #[serde(default)]
    pub fingerprint: Option<Fingerprint>,
    /// Since when.
    pub since: Timestamp,
}

/// The client worker's own keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysView {
    /// The one that it has.
    pub present: ServerKey,
    /// The one that takes its place; until then both are good.
    #[serde(default)]
    pub next: Option<ServerKey>,
    /// Hosts that have not used the next one yet.
    pub hosts: Vec<HostName>,
    /// Operators that have not.
    pub operators: Vec<OperatorName>,
    /// Hosts that are to make themselves a new key and have not yet.
    pub rekeying: Vec<HostName>,
}

/// A key of the client worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKey {
    /// The public half.
    pub key: PublicKey,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Since when there is it.
    pub since: Timestamp,
}
