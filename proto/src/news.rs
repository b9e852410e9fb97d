//! What happens, as `maglica watch` hears it: jobs, machines and hosts that change. The client worker keeps the last of it in
//! memory; a cursor says how much one has heard.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    inventory::DomainState,
    job::JobRow,
    name::{DomainName, HostName},
    request::Presence,
    units::Timestamp,
};

/// How much one has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsCursor {
    /// Whose count it is: changes with each start of the client worker.
    pub feed: Uuid,
    /// The number of the next.
    pub next: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsItem {
    /// When the client worker heard of it.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub news: News,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "about")]
pub enum News {
    /// A job is new, or in another state.
    Job {
        /// The job as it is.
        job: Box<JobRow>,
    },
    /// A virtual machine or image.
    Vm {
        /// Its name.
        name: DomainName,
        /// Its host.
        host: HostName,
        /// Whether it is an image.
        #[serde(default)]
        image: bool,
        /// What of it.
        change: VmNews,
    },
    /// A host.
    Host {
        /// Its name.
        host: HostName,
        /// What of it.
        change: HostNews,
    },
}

/// What happened to a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum VmNews {
    /// It is new on its host.
    Appeared {
        /// Its state.
        state: DomainState,
    },
    /// It is in another state.
    State {
        /// Before.
        from: DomainState,
        /// Now.
        to: DomainState,
    },
    /// It is not on its host any more.
    Gone,
    /// Something of a newer version.
    #[serde(other)]
    Other,
}

/// What happened to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum HostNews {
    /// It was let in.
    Joined,
    /// It was shut out.
    Left,
    /// It is there again, or silent.
    Presence {
        /// As what it counts now.
        presence: Presence,
    },
    /// Something of a newer version.
    #[serde(other)]
    Other,
}
