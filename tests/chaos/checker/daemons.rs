//! The daemons themselves: their stores, logs and memory, and whether they answered.

use super::{Rule, Violation};
use crate::history::{Evidence, Remains};

/// A daemon of the tests' build with some dozens of domains and jobs stays far below.
const MEMORY_KIB: u64 = 200 * 1024;
/// How long a read may take while the client worker is up: its answers come from memory; the rest is for two busy cores.
pub(crate) const READ_MS: u64 = 5_000;
/// What a daemon may complain of while it cannot write.
const CANNOT_WRITE: [&str; 3] = ["cannot", "ledger", "store"];

pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found: Vec<Violation> = evidence.remains.iter().flat_map(remains).collect();
    if let Some(open) = &evidence.unsettled {
        found.push(Violation::new(Rule::Open, format!("not settled in time: {open}")));
    }
    for read in evidence.reads.iter().filter(|read| read.fair) {
        if let Some(why) = &read.failed {
            found.push(Violation::new(Rule::Slow, format!("a read at {} ms had no answer: {why}", read.at)));
        } else if read.took_ms > READ_MS {
            found.push(Violation::new(Rule::Slow, format!("a read at {} ms took {} ms", read.at, read.took_ms)));
        }
    }
    found
}

fn remains(of: &Remains) -> Vec<Violation> {
    let mut found = Vec::new();
    let name = &of.daemon;
    if of.integrity != "ok" {
        found.push(Violation::new(Rule::Store, format!("the store of {name}: {}", of.integrity)));
    }
    for line in &of.worrying {
        let excused =
            of.disk_trouble && !line.contains("panicked") && CANNOT_WRITE.iter().any(|word| line.contains(word));
        if !excused {
            found.push(Violation::new(Rule::Log, format!("{name}: {line}")));
        }
    }
    for death in &of.deaths {
        found.push(Violation::new(Rule::Death, format!("{name} ended by itself: {death}")));
    }
    if of.peak_kib > MEMORY_KIB {
        found.push(Violation::new(Rule::Memory, format!("{name} had {} KiB", of.peak_kib)));
    }
    found
}
