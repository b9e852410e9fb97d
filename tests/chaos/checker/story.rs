//! The events of one job: numbered without gaps, each in its place, nothing missing, one end.

use maglica_proto::{
    fault::Code,
    job::{HostEventKind, JobEventKind, JobState, JobView, Outcome, Step},
};

use super::{Rule, Violation};

/// How far the story has come.
#[derive(Debug, Default)]
struct Course {
    granted: bool,
    offered: bool,
    lost: bool,
    ended: bool,
    /// The step that runs.
    running: Option<Step>,
    /// The steps that were done since the work began, or began again after a restart.
    done: Vec<Step>,
    failed: bool,
    cancel: bool,
}

pub(super) fn check(job: &JobView) -> Vec<Violation> {
    let id = job.row.id;
    let mut found = Vec::new();
    let mut wrong = |what: String| {
        found.push(Violation::new(Rule::Story, format!("job {id} ({} {}): {what}", job.row.verb, job.row.vm)));
    };
    let mut course = Course::default();
    for (number, event) in job.events.iter().enumerate() {
        if usize::try_from(event.seq) != Ok(number) {
            wrong(format!("event number {} stands at place {number}", event.seq));
        }
        if let Err(what) = course.step(number, &event.what) {
            wrong(format!("event {number}: {what}"));
        }
        if let JobEventKind::Ended { state } = &event.what
            && *state != job.row.state
        {
            wrong(format!("its story ends as {state:?}, it is {:?}", job.row.state));
        }
    }
    if job.row.state.is_final() != course.ended {
        wrong(format!("it is {} and its story has an end: {}", job.row.state.as_str(), course.ended));
    }
    if let Some(what) = course.missing(&job.row.state) {
        wrong(what);
    }
    found
}

impl Course {
    fn step(&mut self, number: usize, what: &JobEventKind) -> Result<(), String> {
        let fits = match what {
            JobEventKind::Submitted { .. } => number == 0,
            JobEventKind::Placed { .. } => number == 1,
            JobEventKind::Offered { .. } => !std::mem::replace(&mut self.offered, true) && !self.granted,
            JobEventKind::Granted => self.offered && !std::mem::replace(&mut self.granted, true),
            JobEventKind::CancelAsked { .. } => !std::mem::replace(&mut self.cancel, true),
            JobEventKind::Lost => self.granted && !std::mem::replace(&mut self.lost, true),
            JobEventKind::Found => std::mem::replace(&mut self.lost, false),
            JobEventKind::Host { what } => return self.host(what),
            JobEventKind::Ended { .. } => {
                let first = !std::mem::replace(&mut self.ended, true);
                return if first { Ok(()) } else { Err("a second end".to_owned()) };
            }
            JobEventKind::Other => false,
        };
        let placed = number > 1
            || matches!((number, what), (0, JobEventKind::Submitted { .. }) | (1, JobEventKind::Placed { .. }));
        if self.ended {
            Err(format!("{what:?} after the end"))
        } else if fits && placed {
            Ok(())
        } else {
            Err(format!("{what:?} is out of place"))
        }
    }

    fn host(&mut self, what: &HostEventKind) -> Result<(), String> {
        if !self.granted || self.ended {
            return Err(format!("{what:?} without a grant, or after the end"));
        }
        match what {
            HostEventKind::StepStarted { step } => {
                if let Some(running) = self.running.replace(*step) {
                    return Err(format!("{} begins and {} has not ended", step.as_str(), running.as_str()));
                }
            }
            HostEventKind::StepDone { step, .. } => {
                if self.running.take() != Some(*step) {
                    return Err(format!("{} is done and had not begun", step.as_str()));
                }
                self.done.push(*step);
            }
            HostEventKind::StepFailed { step, .. } => {
                self.failed = true;
                if self.running.take() != Some(*step) {
                    return Err(format!("{} failed and had not begun", step.as_str()));
                }
            }
            // A step may have been cut off; the work begins again.
            HostEventKind::Resumed { .. } => {
                self.running = None;
                self.done.clear();
                self.failed = false;
            }
            HostEventKind::Undone { .. } => {}
            HostEventKind::StepProgress { .. } | HostEventKind::Other => return Err(format!("{what:?} was kept")),
        }
        Ok(())
    }

    /// What an end must have before it and has not.
    fn missing(&self, state: &JobState) -> Option<String> {
        match state {
            JobState::Succeeded { outcome } => {
                if !self.granted {
                    return Some("it succeeded without a grant".to_owned());
                }
                let wanted: &[Step] = match outcome {
                    Outcome::Started { already: false } => &[Step::Check, Step::Start],
                    Outcome::Stopped { already: false } => &[Step::Check, Step::Stop],
                    Outcome::Started { already: true } | Outcome::Stopped { already: true } => &[Step::Check],
                    // One that was interrupted after its last act has nothing left to do.
                    Outcome::Removed { .. } if self.done.is_empty() => &[],
                    Outcome::Removed { .. } => &[Step::Check, Step::Remove],
                    Outcome::Cloned { .. } | Outcome::Changed { .. } | Outcome::Image(_) => return None,
                };
                let whole = self.running.is_none() && !self.failed && self.done == wanted;
                (!whole)
                    .then(|| format!("it succeeded ({outcome:?}) by the steps {:?}, wanted are {wanted:?}", self.done))
            }
            // The client worker itself ends what its host does not know any more.
            JobState::Failed { fault } if fault.code == Code::OutcomeUnknown => None,
            // One that ends after it was begun has a step that failed.
            JobState::Failed { .. } | JobState::Cancelled { .. } => {
                (self.granted && !self.failed && self.running.is_none() && !self.done.is_empty())
                    .then(|| format!("it ended as {} and no step failed", state.as_str()))
            }
            JobState::Queued | JobState::Offered | JobState::Running | JobState::Cancelling | JobState::Lost => None,
        }
    }
}
