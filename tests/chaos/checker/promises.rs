//! What clients were promised and have seen, against what there is at the end.

use std::collections::{BTreeMap, BTreeSet};

use maglica_proto::{
    id::JobId,
    job::{JobRow, JobSpec, JobView},
};

use super::{Rule, Violation};
use crate::history::{Evidence, What};

pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut jobs: BTreeMap<JobId, &JobView> = BTreeMap::new();
    for job in &evidence.jobs {
        if jobs.insert(job.row.id, job).is_some() {
            found.push(Violation::new(Rule::StrangeJob, format!("job {} is there twice", job.row.id)));
        }
    }
    let asked: BTreeMap<JobId, &JobSpec> = evidence
        .history
        .iter()
        .filter_map(|entry| if let What::Submits { id, spec } = &entry.what { Some((*id, spec)) } else { None })
        .collect();
    for (id, job) in &jobs {
        match asked.get(id) {
            None => found.push(Violation::new(Rule::StrangeJob, format!("nobody asked for job {id}"))),
            Some(spec) if **spec != job.spec => {
                found.push(Violation::new(Rule::StrangeJob, format!("job {id} is {:?}, asked was {spec:?}", job.spec)));
            }
            Some(_) => {}
        }
        if !job.row.state.is_final() {
            found.push(Violation::new(Rule::Open, format!("job {id} is still {}", job.row.state.as_str())));
        }
    }
    found.extend(seen(evidence, &jobs));
    found
}

/// Goes through what was seen: each sight must fit what there is at the end.
fn seen(evidence: &Evidence, jobs: &BTreeMap<JobId, &JobView>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut lost = BTreeSet::new();
    for entry in &evidence.history {
        let (row, view) = match &entry.what {
            What::Saw { view, .. } => (&view.row, Some(view.as_ref())),
            What::Listed { row } => (row, None),
            What::Submits { .. } | What::Cancels { .. } | What::Refused { .. } | What::Silence { .. } => continue,
        };
        let Some(job) = jobs.get(&row.id) else {
            if lost.insert(row.id) {
                let what = format!("job {} was seen at {} ms as {} and is gone", row.id, entry.at, row.state.as_str());
                found.push(Violation::new(Rule::LostJob, what));
            }
            continue;
        };
        if let Some(what) = other(row, &job.row) {
            found.push(Violation::new(Rule::OtherAnswer, format!("at {} ms: {what}", entry.at)));
        }
        if row.state.is_final() && row.state != job.row.state {
            let what = format!("job {} was {:?} at {} ms and is {:?}", row.id, row.state, entry.at, job.row.state);
            found.push(Violation::new(Rule::FinalChanged, what));
        }
        if let Some(view) = view
            && !job.events.starts_with(&view.events)
        {
            let what = format!(
                "job {} at {} ms had events that are not among its first ones now: {:?}, now {:?}",
                row.id, entry.at, view.events, job.events
            );
            found.push(Violation::new(Rule::HistoryRewritten, what));
        }
    }
    found
}

/// What is not as at the end though it never changes.
fn other(seen: &JobRow, end: &JobRow) -> Option<String> {
    let same = seen.verb == end.verb
        && seen.vm == end.vm
        && seen.host == end.host
        && seen.by == end.by
        && seen.submitted == end.submitted;
    (!same).then(|| format!("the job was {seen:?} and is {end:?}"))
}
