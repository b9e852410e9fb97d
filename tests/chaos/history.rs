//! What was asked, heard and seen in a run: the only things that the checker believes.
//!
//! Clients and reader write into a [`History`] while the run goes on; when everything is quiet the run adds what the stores, the
//! hypervisors, their witnesses and the daemons' logs say, and the whole is the [`Evidence`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use maglica_proto::{
    fault::Fault,
    id::JobId,
    job::{JobRow, JobSpec, JobView},
};
use serde::Serialize;
use uuid::Uuid;

/// Something that a client did or heard.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    /// Milliseconds since the run began.
    pub(crate) at: u64,
    /// Which client.
    pub(crate) client: usize,
    /// What.
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What a client did or heard.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub(crate) enum What {
    /// It sends a job, for the first time or again.
    Submits {
        /// The id that it made.
        id: JobId,
        /// What it wants.
        spec: JobSpec,
    },
    /// It wants a job stopped.
    Cancels {
        /// Which.
        id: JobId,
    },
    /// The job was shown to it; as the answer to a submission this is the promise.
    Saw {
        /// Whether it was the answer to a submission.
        promise: bool,
        /// The job.
        view: Box<JobView>,
    },
    /// A line of a list, or of a watch.
    Listed {
        /// The line.
        row: JobRow,
    },
    /// It was refused.
    Refused {
        /// The job.
        id: JobId,
        /// Why.
        fault: Fault,
    },
    /// There was no answer.
    Silence {
        /// The job.
        id: JobId,
        /// What was heard instead.
        why: String,
    },
}

/// The history while it is being written.
#[derive(Debug, Clone)]
pub(crate) struct History {
    began: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl History {
    /// An empty one that begins now.
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), entries: Arc::default() }
    }

    /// Milliseconds since it began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Adds something that happens now.
    pub(crate) fn note(&self, client: usize, what: What) {
        let entry = Entry { at: self.now(), client, what };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// Everything so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A domain as a hypervisor has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Vm {
    /// Its UUID.
    pub(crate) uuid: Uuid,
    /// Whether it runs.
    pub(crate) running: bool,
}

/// The domains of one host by name.
pub(crate) type Vms = BTreeMap<String, Vm>;

/// What a hypervisor really did with a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deed {
    /// Defined it.
    Defined,
    /// Started it.
    Started,
    /// Stopped it.
    Stopped,
    /// Forgot it.
    Undefined,
}

/// Something that a witness saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Seen {
    /// The domain.
    pub(crate) vm: String,
    /// What was done.
    pub(crate) deed: Deed,
}

/// One question of the reader, which reaches the client worker past the faulty network.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Read {
    /// When it was asked.
    pub(crate) at: u64,
    /// How long that took.
    pub(crate) took_ms: u64,
    /// Why there was no answer, if there was none.
    pub(crate) failed: Option<String>,
    /// Whether the client worker was up and left alone all the while.
    pub(crate) fair: bool,
}

/// What is left of a daemon.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Remains {
    /// Which.
    pub(crate) daemon: String,
    /// What `pragma integrity_check` says of its store.
    pub(crate) integrity: String,
    /// The lines of its log that an administrator would be worried by.
    pub(crate) worrying: Vec<String>,
    /// Whether its disk was full or read-only for a while.
    pub(crate) disk_trouble: bool,
    /// How it ended without being told to, each time.
    pub(crate) deaths: Vec<String>,
    /// Its highest resident memory, in KiB.
    pub(crate) peak_kib: u64,
}

/// Everything that is known of a run at its end.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Evidence {
    /// The domains of each host before.
    pub(crate) before: BTreeMap<String, Vms>,
    /// What the clients did and heard.
    pub(crate) history: Vec<Entry>,
    /// All jobs in the order in which they were stored.
    pub(crate) jobs: Vec<JobView>,
    /// What was really done on each host, in order.
    pub(crate) witness: BTreeMap<String, Vec<Seen>>,
    /// The domains of each host at the end.
    pub(crate) after: BTreeMap<String, Vms>,
    /// The virtual machines that `vm-list` shows at the end: host, name, whether it runs.
    pub(crate) listed: BTreeSet<(String, String, bool)>,
    /// The hosts that `vm-list` could not speak for at the end.
    pub(crate) absent: Vec<String>,
    /// The hosts that lost their ledger or were shut out: the outcome of their jobs may be unknown.
    pub(crate) forgetful: BTreeSet<String>,
    /// What the reader asked.
    pub(crate) reads: Vec<Read>,
    /// The daemons.
    pub(crate) remains: Vec<Remains>,
    /// What was still open when patience was over.
    pub(crate) unsettled: Option<String>,
}
