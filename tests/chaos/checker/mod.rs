//! The judge of a run. Pure: the evidence goes in, the violations come out. Written before anything that makes runs.
//!
//! | file | rules |
//! | --- | --- |
//! | [`promises`] | what a client was promised is there, once, and stays as it was seen |
//! | [`story`] | the events of each job: whole, in order, one end |
//! | [`domains`] | the hypervisor did exactly what the jobs say, once, in their order |
//! | [`daemons`] | stores whole, logs quiet, memory bounded, reads answered, everything settled |

mod daemons;
mod domains;
mod promises;
mod story;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub(crate) use self::daemons::READ_MS;

use crate::history::Evidence;

/// A rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rule {
    /// A job that was promised is not there.
    LostJob,
    /// A job is there that nobody asked for, or twice, or as something else than was asked.
    StrangeJob,
    /// A repeat got another job.
    OtherAnswer,
    /// A final state changed.
    FinalChanged,
    /// What was seen of a job is not part of its story.
    HistoryRewritten,
    /// A job has not ended.
    Open,
    /// An event is missing, doubled or out of place.
    Story,
    /// The outcome of a job is unknown and need not be.
    NeedlessUnknown,
    /// A job failed for a reason that there was not.
    WrongFault,
    /// An outcome says `already` or not, and it was otherwise.
    WrongOutcome,
    /// The hypervisor did something else than the jobs say.
    Deeds,
    /// A domain is not as the jobs say.
    World,
    /// What `vm list` shows is not so.
    Inventory,
    /// A store is damaged.
    Store,
    /// A log has something that no fault explains.
    Log,
    /// A daemon ended by itself.
    Death,
    /// A daemon took too much memory.
    Memory,
    /// A question was not answered in time.
    Slow,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    /// The rule.
    pub(crate) rule: Rule,
    /// What was seen.
    pub(crate) what: String,
}

impl Violation {
    fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// Everything that is wrong with a run.
pub(crate) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = promises::check(evidence);
    violations.extend(evidence.jobs.iter().flat_map(story::check));
    violations.extend(domains::check(evidence));
    violations.extend(daemons::check(evidence));
    violations
}
