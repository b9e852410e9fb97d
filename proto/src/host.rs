//! What a host worker says to the client worker (REQ to 5556), what it hears in answer, and what is broadcast to it
//! (PUB 5555, sealed for it alone).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    change::Change,
    console::{ConsoleInput, LineReport, LogPart, LogPlace},
    fault::Fault,
    id::JobId,
    inventory::Inventory,
    job::{HostEvent, HostEventKind, Outcome, Task, VmTask},
    key::PublicKey,
    name::HostName,
};

/// How many requests one [`HostRequest::Several`] may hold.
pub const SEVERAL_MAX: usize = 64;

/// A job as it is offered to its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The job.
    pub job: JobId,
    /// The how-manieth broadcast this is, from 1.
    pub attempt: u32,
    /// What to do.
    pub task: Task,
}

/// What is broadcast to one host, sealed for it.
#[expect(
    clippy::large_enum_variant,
    reason = "short-lived: built, sealed, dropped; a box would only add an allocation"
)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "broadcast")]
pub enum Broadcast {
    /// Take this job.
    Offer(Offer),
    /// Stop this job and take back what it did.
    Cancel {
        /// Which.
        job: JobId,
    },
    /// Have this console open, and type this into it. Say [`HostRequest::Line`] at once.
    Console {
        /// The line.
        line: Uuid,
        /// The machine.
        vm: VmTask,
        /// Whether it is to be opened; if not, and it is not open, that is the end of it.
        open: bool,
        /// What to type.
        #[serde(flatten)]
        input: ConsoleInput,
    },
    /// Nobody looks at this console any more.
    ConsoleEnd {
        /// The line.
        line: Uuid,
    },
    /// Say [`HostRequest::Log`] with this number.
    LogRead {
        /// Tells one question from another.
        number: u64,
        /// The machine.
        vm: VmTask,
        /// From where on; none: the last of it.
        #[serde(default)]
        place: Option<LogPlace>,
        /// Without a place: how much of the end.
        tail: u32,
        /// How long to wait for more if there is nothing at that place.
        wait_ms: u32,
    },
    /// Say [`HostRequest::Pong`] with this number, at once.
    Ping {
        /// Tells one ping from another.
        number: u64,
    },
}

/// A job that the host has and has not yet seen acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub job: JobId,
    /// How far it is, while it runs.
    #[serde(default)]
    pub progress: Option<HostEventKind>,
}

/// What the host says every few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Changes whenever the host worker starts.
    pub boot: Uuid,
    /// The jobs in its ledger that are granted and not acknowledged: running, or ended and being reported.
    pub held: Vec<Held>,
    /// The revision of the inventory it sent last; 0 for none.
    pub inventory: u64,
}

/// What came of a job on its host, with all its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The job.
    pub job: JobId,
    /// What came of it. A fault of code `cancelled` means that it was stopped on request.
    pub result: Result<Outcome, Fault>,
    /// All that happened on the host, progress left out.
    pub events: Vec<HostEvent>,
}

/// What a host worker asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub enum HostRequest {
    /// I am here; what is there for me?
    Heartbeat(Heartbeat),
    /// This is all that I have. Replaces what was sent before once all its parts are there.
    Inventory {
        /// Grows with every change while the host worker runs.
        revision: u64,
        /// Which part this is, from 0: a message has a size limit, a host may have thousands of domains.
        part: u32,
        /// How many parts there are.
        parts: u32,
        /// The facts and pools, and this part's share of the domains.
        inventory: Box<Inventory>,
    },
    /// This changed since a revision that I sent. A fault of code `conflict`: that is not what you have; all is to be sent.
    InventoryChange {
        /// The revision that it changes.
        from: u64,
        /// The revision that it makes.
        revision: u64,
        /// What changed.
        change: Box<Change>,
    },
    /// May I do this job? It is in my ledger.
    Accept {
        /// Which.
        job: JobId,
        /// Of which broadcast.
        attempt: u32,
    },
    /// I will not do this job.
    Refuse {
        /// Which.
        job: JobId,
        /// Why.
        fault: Fault,
    },
    /// What happened to a job lately.
    Progress {
        /// Which.
        job: JobId,
        /// New events, in order; the last one may be a [`HostEventKind::StepProgress`].
        events: Vec<HostEvent>,
    },
    /// A job has ended here.
    Report(Box<Report>),
    /// All of these, one after the other; at most [`SEVERAL_MAX`], and none of them is a [`HostRequest::Several`]. What
    /// comes after the first that ends in a fault is not looked at: a job's report follows what the job changed.
    Several {
        /// The requests.
        requests: Vec<HostRequest>,
    },
    /// What a console showed, and how much has been typed.
    Line(LineReport),
    /// The answer to [`Broadcast::LogRead`].
    Log {
        /// Its number.
        number: u64,
        /// A piece of the log, or why there is none.
        result: Result<LogPart, Fault>,
    },
    /// The answer to [`Broadcast::Ping`].
    Pong {
        /// Its number.
        number: u64,
    },
    /// Where do I fetch from for this job of mine?
    Source {
        /// Which.
        job: JobId,
    },
    /// Somebody with this key dials me for this job: is that right?
    Vouch {
        /// The job that it names.
        job: JobId,
        /// Its key, proven.
        key: PublicKey,
        /// As what it comes.
        role: Visitor,
    },
    /// This will be my key. It takes the place of the present one with the first request in a session of its own.
    Rekey {
        /// The public half.
        key: PublicKey,
    },
}

/// Why a host may not do a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denial {
    /// It was cancelled.
    Cancelled,
    /// It is another host's.
    NotYours,
    /// It has ended.
    Ended,
    /// There is no such job.
    NoSuchJob,
    /// Something of a newer version.
    #[serde(other)]
    Other,
}

/// As what somebody dials a host for a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visitor {
    /// Another host.
    Host,
    /// An operator.
    Operator,
}

/// Where a host takes connections for transfers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// Which host.
    pub host: HostName,
    /// Where.
    pub address: SocketAddr,
    /// Its key.
    pub key: PublicKey,
}

/// What somebody who dialled may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "for")]
pub enum Vouched {
    /// The disks of this domain of yours.
    Image(VmTask),
    /// It is the operator of your own job.
    Job,
}

/// The answer to a [`HostRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum HostAnswer {
    /// To a heartbeat.
    Beat(Box<BeatAnswer>),
    /// Act.
    Granted,
    /// Do not act.
    Denied {
        /// Why.
        why: Denial,
    },
    /// To [`HostRequest::Source`].
    Source(Door),
    /// To [`HostRequest::Vouch`]: let it in.
    Vouched(Vouched),
    /// It is stored; it need not be said again.
    Stored,
    /// To [`HostRequest::Several`]: one answer a request, in their order, up to the first fault.
    Several {
        /// The answers.
        answers: Vec<HostAnswer>,
    },
    /// To [`HostRequest::Line`].
    Line {
        /// Whether anybody looks at it still.
        wanted: bool,
        /// What is to be typed from the told position on.
        #[serde(flatten)]
        input: ConsoleInput,
    },
    /// The request could not be served.
    Fault {
        /// Why.
        fault: Fault,
    },
}

/// What a heartbeat is answered with: all that the host needs to know, should every broadcast have been lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatAnswer {
    /// The jobs that it should take, oldest first; at most a bounded number at a time.
    pub offers: Vec<Offer>,
    /// The held jobs that are to be stopped.
    pub cancels: Vec<JobId>,
    /// The held jobs that have ended for the client worker: it has their report, or will never want it.
    pub settled: Vec<JobId>,
    /// The inventory named in the heartbeat is not what the client worker has: send it again.
    pub want_inventory: bool,
    /// How long to wait for the next heartbeat, in milliseconds.
    pub next_ms: u32,
    /// Jobs that the host should hold and did not name. If it knows how one ended, it reports that again: the client
    /// worker's store may have been restored from a backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<JobId>,
    /// An administrator wants this host to have a new key: [`HostRequest::Rekey`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rekey: bool,
    /// Should the client worker be lost, come back at a random moment within this time, in milliseconds: the more hosts
    /// there are, the longer, so that they do not come all at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_ms: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}
