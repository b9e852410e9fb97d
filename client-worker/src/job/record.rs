//! A job's life as policy: which step may follow which. No clock, no store, no socket; `now` is given.
//!
//! ```text
//! Queued ──offer──▶ Offered ──accept──▶ Running ⇄ Lost
//!    │                 │                  │  (cancel is a wish kept with Running and Lost)
//!    └──── cancel, refuse ────▶ Ended ◀── report, forgotten by its host
//! ```
//! `Ended` never changes. A step that is said twice is answered as the first time and changes nothing.

use std::time::Duration;

use maglica_proto::{
    fault::{Code, Fault},
    host::{Denial, Report},
    id::JobId,
    job::{HostEvent, HostEventKind, JobEvent, JobEventKind, JobRow, JobSpec, JobState, JobView, Task},
    name::HostName,
    units::Timestamp,
};
use serde::{Deserialize, Serialize};

/// How many events a job may have. A clone has about fifteen; the bound is against a host gone mad.
const EVENTS_MAX: usize = 1000;
/// How much text of its host a job's story may hold, in bytes; what comes after it is left out. A clone has some 3 KB; a whole story
/// has to fit into one message.
const STORY_MAX: usize = 256 << 10;

/// How far ahead of the client worker's clock an id may have been made. Less than the least time for which jobs are kept,
/// so that no job is forgotten whose id is from the future.
pub const AHEAD_MAX: Duration = Duration::from_secs(3600);

/// Where a job is, with what is true there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// Stored, its host not told.
    Queued,
    /// Its host was told at least once.
    Offered,
    /// Its host may act.
    Running {
        /// Somebody wants it stopped.
        cancel: bool,
    },
    /// Its host may act and is silent.
    Lost {
        /// Somebody wants it stopped.
        cancel: bool,
    },
    /// It is over.
    Ended {
        /// How; one of the final states.
        end: JobState,
    },
}

/// A job as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// What was asked; its secrets are forgotten when it ends.
    pub spec: JobSpec,
    /// What its host is told.
    pub task: Task,
    /// Its host.
    pub host: HostName,
    /// Who asked.
    pub by: String,
    /// When it was stored.
    pub submitted: Timestamp,
    /// When something last happened.
    pub updated: Timestamp,
    /// Where it is.
    pub phase: Phase,
    /// How many of its host's events are among `events`: the number of the next one.
    pub host_events: u32,
    /// How far the running step is; not stored, for it is old at once.
    #[serde(skip)]
    pub progress: Option<HostEventKind>,
    /// What happened; stored apart, a row each.
    #[serde(skip)]
    pub events: Vec<JobEvent>,
}

/// What a new job is made of.
pub struct NewJob {
    /// Its id, from the asker.
    pub id: JobId,
    /// What was asked.
    pub spec: JobSpec,
    /// What its host will be told.
    pub task: Task,
    /// Its host.
    pub host: HostName,
    /// Why that host.
    pub why: Vec<String>,
    /// Who asked.
    pub by: String,
    /// Whether the host has a session, so that the job can be broadcast as soon as it is stored.
    pub reachable: bool,
}

/// Whether a job of this id can be new: one whose id is older than what is remembered may have run already, and been
/// forgotten. `forgotten` is the newest moment of an id that was.
///
/// # Errors
/// A fault: it may not.
pub fn check_new(id: JobId, forgotten: Timestamp, keep: Duration, now: Timestamp) -> Result<(), Fault> {
    let refuse = |why: String| Err(Fault::new(Code::InvalidInput, why).about(id.to_string()));
    let Some(made) = id.made_at() else { return refuse(format!("{id} is no id for a job: it is not a UUIDv7")) };
    if made > now.after(AHEAD_MAX) {
        let ahead = made.since(now).as_secs();
        return refuse(format!("the id of job {id} was made {ahead} s in the future; is the asker's clock right?"));
    }
    if made <= forgotten || made < now.before(keep) {
        let age = now.since(made).as_secs();
        return refuse(format!(
            "the id of job {id} was made {age} s ago, and jobs of that time have been forgotten: it may have run already"
        ));
    }
    Ok(())
}

impl JobRecord {
    /// A new job.
    #[must_use]
    pub fn new(new: NewJob, now: Timestamp) -> Self {
        let NewJob { id, spec, task, host, why, by, reachable: _ } = new;
        let mut record = Self {
            id,
            spec,
            task,
            host: host.clone(),
            by: by.clone(),
            submitted: now,
            updated: now,
            phase: Phase::Queued,
            host_events: 0,
            progress: None,
            events: Vec::new(),
        };
        record.note(now, JobEventKind::Submitted { by });
        record.note(now, JobEventKind::Placed { host, why });
        record
    }

    /// Whether a new job about something of the same name has to wait for this one. Virtual machines have names of their own;
    /// images do not, and a job about one is about that of its host.
    #[must_use]
    pub fn excludes(&self, new: &NewJob) -> bool {
        let of_images = matches!((&self.spec, &new.spec), (JobSpec::Image(_), JobSpec::Image(_)));
        !of_images || self.host == new.host
    }

    /// Whether it is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Whether its host should be told of it.
    #[must_use]
    pub const fn wants_offer(&self) -> bool {
        matches!(self.phase, Phase::Queued | Phase::Offered)
    }

    /// Whether its host should be told to stop.
    #[must_use]
    pub const fn wants_cancel(&self) -> bool {
        matches!(self.phase, Phase::Running { cancel: true } | Phase::Lost { cancel: true })
    }

    /// It is about to be broadcast for the first time.
    pub fn offer(&mut self, now: Timestamp) {
        if self.phase == Phase::Queued {
            self.phase = Phase::Offered;
            self.note(now, JobEventKind::Offered { attempt: 1 });
        }
    }

    /// A host asks whether it may act.
    ///
    /// # Errors
    /// Why it may not.
    pub fn accept(&mut self, host: &HostName, now: Timestamp) -> Result<(), Denial> {
        if self.host != *host {
            return Err(Denial::NotYours);
        }
        match &self.phase {
            Phase::Queued | Phase::Offered => {
                self.phase = Phase::Running { cancel: false };
                self.note(now, JobEventKind::Granted);
                Ok(())
            }
            // The answer was lost, and it asks again.
            Phase::Running { .. } | Phase::Lost { .. } => Ok(()),
            Phase::Ended { end: JobState::Cancelled { .. } } => Err(Denial::Cancelled),
            Phase::Ended { .. } => Err(Denial::Ended),
        }
    }

    /// Its host will not do it.
    ///
    /// # Errors
    /// The host is not its own.
    pub fn refuse(&mut self, host: &HostName, fault: Fault, now: Timestamp) -> Result<(), Denial> {
        if self.host != *host {
            return Err(Denial::NotYours);
        }
        if self.wants_offer() {
            self.end(JobState::Failed { fault }, now);
        }
        Ok(())
    }

    /// Its host tells what happened. Events that are known already are passed over.
    ///
    /// # Errors
    /// The host is not its own.
    pub fn progress(&mut self, host: &HostName, events: Vec<HostEvent>, now: Timestamp) -> Result<(), Denial> {
        if self.host != *host {
            return Err(Denial::NotYours);
        }
        if !self.is_over() {
            self.heard(now);
            self.merge(events, now);
        }
        Ok(())
    }

    /// Its host tells how it ended.
    ///
    /// # Errors
    /// The host is not its own.
    pub fn report(&mut self, host: &HostName, report: Report, now: Timestamp) -> Result<(), Denial> {
        if self.host != *host {
            return Err(Denial::NotYours);
        }
        if self.is_over() {
            return Ok(());
        }
        self.heard(now);
        self.merge(report.events, now);
        let state = match report.result {
            Ok(outcome) => JobState::Succeeded { outcome },
            Err(fault) if fault.code == Code::Cancelled => JobState::Cancelled { fault },
            Err(fault) => JobState::Failed { fault },
        };
        self.end(state, now);
        Ok(())
    }

    /// Somebody wants it stopped.
    ///
    /// # Errors
    /// It is over.
    pub fn cancel(&mut self, by: &str, now: Timestamp) -> Result<(), Fault> {
        match &mut self.phase {
            Phase::Queued | Phase::Offered => {
                self.note(now, JobEventKind::CancelAsked { by: by.to_owned() });
                let fault = Fault::new(Code::Cancelled, format!("cancelled by {by} before it began"));
                self.end(JobState::Cancelled { fault }, now);
                Ok(())
            }
            Phase::Running { cancel } | Phase::Lost { cancel } => {
                if !std::mem::replace(cancel, true) {
                    self.note(now, JobEventKind::CancelAsked { by: by.to_owned() });
                }
                Ok(())
            }
            Phase::Ended { end } => {
                Err(Fault::new(Code::WrongState, format!("job {} has ended already: it {}", self.id, end.as_str()))
                    .about(self.id.to_string()))
            }
        }
    }

    /// Its host fell silent.
    pub fn host_silent(&mut self, now: Timestamp) {
        if let Phase::Running { cancel } = self.phase {
            self.phase = Phase::Lost { cancel };
            self.note(now, JobEventKind::Lost);
        }
    }

    /// It is from a backup: what became of it since is for its host to say, and it is not begun again.
    pub fn restored(&mut self, now: Timestamp) {
        let cancel = self.wants_cancel();
        if !self.is_over() {
            self.phase = Phase::Lost { cancel };
            self.note(now, JobEventKind::Lost);
        }
    }

    /// Its host is heard of, and has the job.
    pub fn heard(&mut self, now: Timestamp) {
        if let Phase::Lost { cancel } = self.phase {
            self.phase = Phase::Running { cancel };
            self.note(now, JobEventKind::Found);
        }
    }

    /// Its host is heard of, and does not know the job though it may act.
    pub fn forgotten(&mut self, now: Timestamp) {
        if matches!(self.phase, Phase::Running { .. } | Phase::Lost { .. }) {
            let message = format!(
                "host {} no longer knows the job (or never did): what became of {} is not known",
                self.host,
                self.spec.vm()
            );
            self.end(JobState::Failed { fault: Fault::new(Code::OutcomeUnknown, message) }, now);
        }
    }

    /// Its host was shut out and will never speak again: an administrator's word that ends it.
    pub fn host_revoked(&mut self, now: Timestamp) {
        let vm = self.spec.vm();
        let fault = match self.phase {
            Phase::Queued | Phase::Offered => {
                Fault::new(Code::HostDown, format!("host {} was revoked before it took the job", self.host))
            }
            Phase::Running { .. } | Phase::Lost { .. } => Fault::new(
                Code::OutcomeUnknown,
                format!("host {} was revoked while it had the job: what became of {vm} is not known", self.host),
            ),
            Phase::Ended { .. } => return,
        };
        self.end(JobState::Failed { fault: fault.about(vm.to_string()) }, now);
    }

    fn merge(&mut self, events: Vec<HostEvent>, now: Timestamp) {
        let host = |event: &JobEvent| match &event.what {
            JobEventKind::Host { what } => text_of(what),
            JobEventKind::Submitted { .. }
            | JobEventKind::Placed { .. }
            | JobEventKind::Offered { .. }
            | JobEventKind::Granted
            | JobEventKind::CancelAsked { .. }
            | JobEventKind::Lost
            | JobEventKind::Found
            | JobEventKind::Ended { .. }
            | JobEventKind::Other => 0,
        };
        let mut story: usize = self.events.iter().map(host).sum();
        for event in events {
            if let HostEventKind::StepProgress { .. } = event.what {
                self.progress = Some(event.what);
            } else if event.seq == self.host_events {
                self.host_events += 1;
                self.progress = None;
                story += text_of(&event.what);
                if story <= STORY_MAX {
                    self.note(now, JobEventKind::Host { what: event.what });
                }
            }
            // A number below is known already; one above means that an earlier one is still to come: the report has all.
        }
    }

    fn end(&mut self, state: JobState, now: Timestamp) {
        self.note(now, JobEventKind::Ended { state: state.clone() });
        self.phase = Phase::Ended { end: state };
        self.progress = None;
        forget_secrets(&mut self.spec);
        if let Task::Clone(task) = &mut self.task
            && let Some(customization) = &mut task.spec.customize
        {
            customization.root_password_hash = None;
        }
    }

    fn note(&mut self, at: Timestamp, what: JobEventKind) {
        // A clock that was set back must not make the job look old: old ones are forgotten.
        let at = at.max(self.updated);
        self.updated = at;
        if self.events.len() < EVENTS_MAX || matches!(what, JobEventKind::Ended { .. }) {
            let seq = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
            self.events.push(JobEvent { seq, at, what });
        }
    }

    /// Its state as it is shown.
    #[must_use]
    pub fn state(&self) -> JobState {
        match &self.phase {
            Phase::Queued => JobState::Queued,
            Phase::Offered => JobState::Offered,
            Phase::Running { cancel: false } => JobState::Running,
            Phase::Running { cancel: true } => JobState::Cancelling,
            Phase::Lost { .. } => JobState::Lost,
            Phase::Ended { end } => end.clone(),
        }
    }

    /// The line of a list.
    #[must_use]
    pub fn row(&self) -> JobRow {
        JobRow {
            id: self.id,
            verb: self.spec.verb().to_owned(),
            vm: self.spec.vm(),
            host: self.host.clone(),
            state: self.state(),
            by: self.by.clone(),
            submitted: self.submitted,
            updated: self.updated,
        }
    }

    /// The whole story, without secrets.
    #[must_use]
    pub fn view(&self) -> JobView {
        let mut spec = self.spec.clone();
        forget_secrets(&mut spec);
        JobView { row: self.row(), spec, events: self.events.clone(), progress: self.progress.clone() }
    }
}

/// How much text an event carries.
fn text_of(what: &HostEventKind) -> usize {
    match what {
        HostEventKind::StepDone { note, .. } => note.len(),
        HostEventKind::StepFailed { fault, .. } => {
            fault.message.len() + fault.similar.iter().chain(&fault.left).map(String::len).sum::<usize>()
        }
        HostEventKind::Undone { what, error } => what.len() + error.as_ref().map_or(0, String::len),
        HostEventKind::Resumed { decision } => decision.len(),
        HostEventKind::StepStarted { .. } | HostEventKind::StepProgress { .. } | HostEventKind::Other => 0,
    }
}

fn forget_secrets(spec: &mut JobSpec) {
    match spec {
        JobSpec::Clone(clone) => {
            if let Some(customization) = &mut clone.customize {
                customization.root_password_hash = None;
            }
        }
        JobSpec::Start(_)
        | JobSpec::Stop { .. }
        | JobSpec::Destroy(_)
        | JobSpec::Remove(_)
        | JobSpec::Change { .. }
        | JobSpec::Snapshot { .. }
        | JobSpec::Image(_) => {}
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
