//! The hypervisor against the jobs. A host works on a domain for one job at a time and the next is accepted only when the one
//! before has ended, so what must have been done to a domain follows from its jobs, in the order in which they were stored.

use std::collections::BTreeMap;

use maglica_proto::{
    fault::{Code, Fault},
    job::{HostEventKind, JobEventKind, JobState, JobView, Outcome},
};

use super::{Rule, Violation};
use crate::history::{Deed, Evidence, Vm};

/// A domain as it must be after the jobs so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    Off,
    Running,
    Gone,
}

/// What may be so: the deeds that were done, and the state that they led to. Several only where an outcome is unknown.
type Branches = Vec<(Vec<Deed>, Model)>;

pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for (host, vms) in &evidence.before {
        let after = evidence.after.get(host).cloned().unwrap_or_default();
        let mut deeds: BTreeMap<&str, Vec<Deed>> = BTreeMap::new();
        for seen in evidence.witness.get(host).into_iter().flatten() {
            deeds.entry(seen.vm.as_str()).or_default().push(seen.deed);
        }
        for (name, vm) in vms {
            let jobs = evidence
                .jobs
                .iter()
                .filter(|job| job.row.host.as_str() == host.as_str() && job.row.vm.as_str() == name);
            let done = deeds.remove(name.as_str()).unwrap_or_default();
            let domain = Domain { host, name, vm: *vm, forgetful: evidence.forgetful.contains(host) };
            found.extend(domain.judge(jobs, &done, after.get(name)));
        }
        for (name, done) in deeds {
            found.push(Violation::new(Rule::Deeds, format!("{name} on {host} is nobody's, and was {done:?}")));
        }
        for name in after.keys().filter(|name| !vms.contains_key(*name)) {
            found.push(Violation::new(Rule::World, format!("{name} on {host} was made by nobody")));
        }
    }
    for job in evidence.jobs.iter().filter(|job| {
        !evidence.before.get(job.row.host.as_str()).is_some_and(|vms| vms.contains_key(job.row.vm.as_str()))
    }) {
        let what = format!("job {} is about {} on {}, where there is none", job.row.id, job.row.vm, job.row.host);
        found.push(Violation::new(Rule::StrangeJob, what));
    }
    found.extend(inventory(evidence));
    found
}

struct Domain<'a> {
    host: &'a str,
    name: &'a str,
    vm: Vm,
    forgetful: bool,
}

impl Domain<'_> {
    fn judge<'a>(&self, jobs: impl Iterator<Item = &'a JobView>, done: &[Deed], after: Option<&Vm>) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut branches: Branches = vec![(Vec::new(), if self.vm.running { Model::Running } else { Model::Off })];
        let mut said = Vec::new();
        for job in jobs {
            said.push(format!("{} {:?}", job.row.verb, job.row.state));
            let mut next = Branches::new();
            let mut refused = None;
            for (deeds, model) in &branches {
                match self.after(job, *model) {
                    Ok(ends) => next.extend(ends.into_iter().map(|(new, end)| ([&deeds[..], &new].concat(), end))),
                    Err(violation) => refused = Some(violation),
                }
            }
            if next.is_empty() {
                // Whatever is wrong with this job, what follows is judged from what really happened.
                found.extend(refused);
                next = branches;
            }
            branches = next;
        }
        let here = after.map(|vm| if vm.running { Model::Running } else { Model::Off }).unwrap_or(Model::Gone);
        let where_ = format!("{} on {}", self.name, self.host);
        if !branches.iter().any(|(deeds, _)| deeds == done) {
            let wanted: Vec<_> = branches.iter().map(|(deeds, _)| deeds).collect();
            let what = format!("{where_} was {done:?}; by its jobs {said:?} it must have been {wanted:?}");
            found.push(Violation::new(Rule::Deeds, what));
        } else if !branches.iter().any(|(deeds, model)| deeds == done && *model == here) {
            found.push(Violation::new(
                Rule::World,
                format!("{where_} is {here:?}; by its jobs it is one of {branches:?}"),
            ));
        }
        if let Some(after) = after
            && after.uuid != self.vm.uuid
        {
            found.push(Violation::new(Rule::World, format!("{where_} is another one: {after:?}, was {:?}", self.vm)));
        }
        found
    }

    /// What a job did to the domain by what it says of itself.
    fn after(&self, job: &JobView, model: Model) -> Result<Branches, Violation> {
        let wrong = |rule: Rule, what: &str| {
            let row = &job.row;
            let what = format!("job {} ({} {}): {what}; it says {:?}", row.id, row.verb, row.vm, row.state);
            Err(Violation::new(rule, format!("{what}, the domain was {model:?}")))
        };
        // One that was begun again may find its own work done.
        let resumed = job
            .events
            .iter()
            .any(|event| matches!(&event.what, JobEventKind::Host { what: HostEventKind::Resumed { .. } }));
        match &job.row.state {
            JobState::Succeeded { outcome: Outcome::Started { already } } => match model {
                Model::Gone => wrong(Rule::WrongOutcome, "what is gone cannot be started"),
                Model::Running if !already => wrong(Rule::WrongOutcome, "it ran already"),
                Model::Off if *already && !resumed => wrong(Rule::WrongOutcome, "it did not run before"),
                Model::Running => Ok(vec![(vec![], Model::Running)]),
                Model::Off => Ok(vec![(vec![Deed::Started], Model::Running)]),
            },
            JobState::Succeeded { outcome: Outcome::Stopped { already } } => match model {
                Model::Gone => wrong(Rule::WrongOutcome, "what is gone cannot be stopped"),
                Model::Off if !already => wrong(Rule::WrongOutcome, "it was off already"),
                Model::Running if *already && !resumed => wrong(Rule::WrongOutcome, "it was not off before"),
                Model::Off => Ok(vec![(vec![], Model::Off)]),
                Model::Running => Ok(vec![(vec![Deed::Stopped], Model::Off)]),
            },
            JobState::Succeeded { outcome: Outcome::Removed { .. } } => match model {
                Model::Off => Ok(vec![(vec![Deed::Undefined], Model::Gone)]),
                Model::Running | Model::Gone => wrong(Rule::WrongOutcome, "only what is off can be removed"),
            },
            JobState::Succeeded { outcome: Outcome::Cloned { .. } } => wrong(Rule::WrongOutcome, "it was there before"),
            JobState::Succeeded { outcome: Outcome::Image(_) } => wrong(Rule::WrongOutcome, "it is no image"),
            JobState::Succeeded { outcome: Outcome::Changed { .. } } => {
                wrong(Rule::WrongOutcome, "nobody asked for a change")
            }
            JobState::Failed { fault } => self.failed(job, fault, model, wrong),
            // Cancelled is taken back; what is open is another rule's matter.
            JobState::Cancelled { .. }
            | JobState::Queued
            | JobState::Offered
            | JobState::Running
            | JobState::Cancelling
            | JobState::Lost => Ok(vec![(vec![], model)]),
        }
    }

    fn failed(
        &self,
        job: &JobView,
        fault: &Fault,
        model: Model,
        wrong: impl Fn(Rule, &str) -> Result<Branches, Violation>,
    ) -> Result<Branches, Violation> {
        let nothing = vec![(vec![], model)];
        if fault.code == Code::OutcomeUnknown {
            if !self.forgetful {
                return wrong(Rule::NeedlessUnknown, "its host lost nothing");
            }
            let mut either = nothing;
            either.extend(match (job.row.verb.as_str(), model) {
                ("start", Model::Off) => Some((vec![Deed::Started], Model::Running)),
                ("stop" | "destroy", Model::Running) => Some((vec![Deed::Stopped], Model::Off)),
                ("remove", Model::Off) => Some((vec![Deed::Undefined], Model::Gone)),
                _ => None,
            });
            return Ok(either);
        }
        let so = (fault.code == Code::NotFound && model == Model::Gone)
            || (fault.code == Code::WrongState && job.row.verb == "remove" && model == Model::Running)
            // The ledger could not be written: nothing may have been done then.
            || fault.code == Code::Internal
            || (fault.code == Code::HostDown && self.forgetful);
        if so { Ok(nothing) } else { wrong(Rule::WrongFault, "there was no reason for that") }
    }
}

/// What is shown must be what is.
fn inventory(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for host in &evidence.absent {
        found.push(Violation::new(Rule::Inventory, format!("{host} is up and vm list does not speak for it")));
    }
    let there: std::collections::BTreeSet<(String, String, bool)> = evidence
        .after
        .iter()
        .flat_map(|(host, vms)| vms.iter().map(|(name, vm)| (host.clone(), name.clone(), vm.running)))
        .collect();
    for row in there.symmetric_difference(&evidence.listed) {
        let side = if there.contains(row) { "is so and not shown" } else { "is shown and not so" };
        found.push(Violation::new(Rule::Inventory, format!("{row:?} {side}")));
    }
    found
}
