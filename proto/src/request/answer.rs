//! The answers to an operator's requests, and the rows that they are made of.

use serde::{Deserialize, Serialize};

use crate::{
    audit::AuditPage,
    console::{ConsoleOutput, ConsoleView, LogPart},
    fault::Fault,
    inventory::{Domain, HostFacts, Pool},
    job::{JobEvent, JobRow, JobView},
    key::{Fingerprint, PublicKey},
    name::{DomainName, HostName, OperatorName},
    news::{NewsCursor, NewsItem},
    placement::Placement,
    request::Role,
    status::Status,
    units::{ByteSize, Timestamp},
};

/// The answer to a [`Request`](super::Request).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// To [`Request::ImageList`](super::Request::ImageList).
    Images(Listing<ImageRow>),
    /// To [`Request::ImageShow`](super::Request::ImageShow).
    Image {
        /// One for each host that has it, by host; never empty.
        copies: Vec<ImageCopy>,
    },
    /// To [`Request::VmList`](super::Request::VmList).
    Vms {
        /// The rows of this page.
        #[serde(flatten)]
        listing: Listing<VmRow>,
        /// Where the next page begins; none if this is the last.
        #[serde(default)]
        next: Option<VmCursor>,
    },
    /// To [`Request::VmShow`](super::Request::VmShow).
    Vm(Box<VmView>),
    /// To [`Request::HostList`](super::Request::HostList).
    Hosts {
        /// All, pending ones last.
        hosts: Vec<HostRow>,
    },
    /// To [`Request::HostPing`](super::Request::HostPing).
    Pings {
        /// One for each host that was asked for, by name.
        pings: Vec<Ping>,
    },
    /// To [`Request::Status`](super::Request::Status).
    Status(Box<Status>),
    /// To [`Request::SubmitMany`](super::Request::SubmitMany).
    Submitted {
        /// One for each job, in the order of the request.
        results: Vec<Result<JobRow, Fault>>,
    },
    /// To [`Request::JobList`](super::Request::JobList).
    Jobs {
        /// Newest first.
        jobs: Vec<JobRow>,
    },
    /// To [`Request::JobShow`](super::Request::JobShow), [`Request::Submit`](super::Request::Submit) and [`Request::JobCancel`](super::Request::JobCancel).
    Job(Box<JobView>),
    /// To [`Request::JobWatch`](super::Request::JobWatch).
    Watch {
        /// The job as it is.
        row: Box<JobRow>,
        /// Its events from the asked one on.
        events: Vec<JobEvent>,
        /// How far the running step is.
        #[serde(default)]
        progress: Option<crate::job::HostEventKind>,
    },
    /// To [`Request::Place`](super::Request::Place).
    Placement(Box<Placement>),
    /// To [`Request::Watch`](super::Request::Watch).
    News {
        /// What happened, in order.
        items: Vec<NewsItem>,
        /// How much is known with it.
        next: NewsCursor,
        /// There was more between, which is forgotten: look at the lists.
        #[serde(default)]
        missed: bool,
    },
    /// To [`Request::ConsoleOpen`](super::Request::ConsoleOpen) and [`Request::ConsoleView`](super::Request::ConsoleView).
    Console(ConsoleView),
    /// To [`Request::ConsoleRead`](super::Request::ConsoleRead).
    ConsoleOutput(ConsoleOutput),
    /// To [`Request::ConsoleWrite`](super::Request::ConsoleWrite).
    ConsoleTaken {
        /// How much has been taken: what comes next begins here.
        taken: u64,
    },
    /// To [`Request::VmLog`](super::Request::VmLog).
    VmLog(LogPart),
    /// To [`Request::OperatorList`](super::Request::OperatorList).
    Operators {
        /// All.
        operators: Vec<OperatorRow>,
    },
    /// To [`Request::Audit`](super::Request::Audit).
    Audit(Box<AuditPage>),
    /// To [`Request::KeyShow`](super::Request::KeyShow), [`Request::KeyRotate`](super::Request::KeyRotate) and [`Request::KeyRetire`](super::Request::KeyRetire).
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

/// An image on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageCopy {
    /// The host.
    pub host: HostName,
    /// Whether that is there.
    pub presence: Presence,
    /// How old this knowledge is, in milliseconds.
    pub age_ms: u64,
    /// Whether it can be cloned.
    pub state: ImageState,
    /// The image.
    pub domain: Domain,
    /// The machines there that were made of it, by name; at most [`CLONES_SHOWN`].
    #[serde(default)]
    pub clones: Vec<DomainName>,
    /// How many there are.
    pub clones_total: u32,
    /// Those of the host's domains whose disks are overlays on its own, so that it cannot be removed; at most [`CLONES_SHOWN`].
    #[serde(default)]
    pub overlays: Vec<DomainName>,
}

/// How many machines are named of each copy of an image.
pub const CLONES_SHOWN: usize = 100;

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
