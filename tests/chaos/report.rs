//! What is said of the runs: a line for each that failed, its folder, and one line in the end.

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use crate::{plan::Plan, run::Outcome, stage};

/// The sum of all runs.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    /// How many there were.
    pub(crate) runs: u64,
    /// The seeds that failed, each with how much was wrong.
    pub(crate) failed: BTreeMap<u64, usize>,
    /// The seeds that could not be run.
    pub(crate) broken: BTreeMap<u64, String>,
    faults: BTreeMap<&'static str, u64>,
    jobs: u64,
    ended: BTreeMap<&'static str, u64>,
    retries: u64,
    reads: u64,
}

impl Sum {
    /// Adds a run.
    pub(crate) fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.runs += 1;
        if !outcome.violations.is_empty() {
            self.failed.insert(seed, outcome.violations.len());
        }
        outcome.faults.iter().for_each(|(kind, count)| *self.faults.entry(kind).or_default() += count);
        self.jobs += outcome.evidence.jobs.len() as u64;
        for job in &outcome.evidence.jobs {
            *self.ended.entry(job.row.state.as_str()).or_default() += 1;
        }
        self.retries += outcome.retries;
        self.reads += outcome.evidence.reads.len() as u64;
    }

    /// The closing line.
    pub(crate) fn line(&self, seconds: u64) -> String {
        let list = |of: &BTreeMap<&'static str, u64>| {
            of.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
        };
        format!(
            "chaos: {} seeds, {} with violations{}; {} jobs ({}); {} retries, {} reads; faults: {}; {seconds} s",
            self.runs,
            self.failed.len(),
            if self.broken.is_empty() { String::new() } else { format!(", {} could not be run", self.broken.len()) },
            self.jobs,
            list(&self.ended),
            self.retries,
            self.reads,
            list(&self.faults),
        )
    }
}

/// Keeps everything that is known of a run in `folder`.
///
/// # Errors
/// It cannot be written.
pub(crate) fn keep(folder: &Path, plan: &Plan, outcome: &Outcome) -> anyhow::Result<()> {
    let _ = fs::remove_dir_all(folder);
    stage::copy(&outcome.logs, folder)?;
    fs::write(folder.join("plan.json"), serde_json::to_vec_pretty(plan)?)?;
    fs::write(folder.join("violations.json"), serde_json::to_vec_pretty(&outcome.violations)?)?;
    let mut history = fs::File::create(folder.join("history.jsonl"))?;
    for entry in &outcome.evidence.history {
        writeln!(history, "{}", serde_json::to_string(entry)?)?;
    }
    let mut evidence = serde_json::to_value(&outcome.evidence)?;
    evidence["history"] = "in history.jsonl".into();
    fs::write(folder.join("evidence.json"), serde_json::to_vec_pretty(&evidence)?)?;
    Ok(())
}
