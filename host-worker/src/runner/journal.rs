//! A job's journal: its part of the ledger, and its events on their way to the client worker.
//!
//! What is about to be done is written down first, or it is not done. What has been done cannot be undone by a disk that is full: its
//! lines are kept here, in order, and written together with the next that can be, at the latest with the job's end.

use std::{
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use maglica_proto::{
    fault::{Fault, chain},
    id::JobId,
    job::{HostEventKind, Outcome, Step},
};

use super::{
    ledger::{Ledger, LedgerError, Line},
    reporter::Reporter,
};
use crate::task::{Journal, JournalError, Undo};

/// The journal of one job that runs.
pub(super) struct JobJournal {
    ledger: Ledger,
    id: JobId,
    reporter: Reporter,
    unwritten: Mutex<Vec<Line>>,
}

impl JobJournal {
    pub(super) const fn new(ledger: Ledger, id: JobId, reporter: Reporter) -> Self {
        Self { ledger, id, reporter, unwritten: Mutex::new(Vec::new()) }
    }

    /// The job has ended: with everything that is unwritten, or not at all.
    pub(super) fn end(&self, result: &Result<Outcome, Fault>) -> Result<(), LedgerError> {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        self.ledger.end(self.id, &unwritten, result)?;
        unwritten.clear();
        Ok(())
    }

    /// Something that is so, whether it can be written down now or later.
    fn add(&self, line: Line) {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.push(line);
        if let Err(error) = self.write(&mut unwritten) {
            tracing::warn!(job = %self.id, error = chain(&error), "its journal cannot be written; it is kept for later");
        }
    }

    fn write(&self, lines: &mut Vec<Line>) -> Result<(), LedgerError> {
        let events = self.ledger.write(self.id, lines)?;
        lines.clear();
        events.into_iter().for_each(|event| self.reporter.event(event));
        Ok(())
    }
}

impl Journal for JobJournal {
    fn intend(&self, undo: &Undo) -> Result<(), JournalError> {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.push(Line::Intent(undo.clone()));
        let result = self.write(&mut unwritten).map_err(|error| {
            // It will not be done.
            unwritten.pop();
            JournalError { source: Box::new(error) }
        });
        crate::failpoint("journal.intended");
        result
    }

    fn step_done(&self, step: Step) {
        self.add(Line::Done(step));
    }

    fn event(&self, what: HostEventKind) {
        if let HostEventKind::StepProgress { .. } = what {
            self.reporter.progress(what);
        } else {
            self.add(Line::Event(what, SystemTime::now().into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{
        host::Report,
        job::{Task, VmTask},
        name::DomainName,
    };

    use super::*;

    fn kinds(report: &Report) -> Vec<HostEventKind> {
        report.events.iter().map(|event| event.what.clone()).collect()
    }

    #[test]
    fn what_was_done_while_the_disk_was_full_is_in_the_ledger_as_soon_as_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.db")).unwrap();
        let id = JobId::generate();
        let vm = VmTask { name: DomainName::new("vm0").unwrap(), uuid: uuid::Uuid::nil() };
        ledger.begin(id, &Task::Start(vm)).unwrap();
        ledger.grant(id).unwrap();
        let journal = JobJournal::new(ledger.clone(), id, Reporter::unheard());
        let started = |step| HostEventKind::StepStarted { step };
        let intent = Undo::RemoveFile { path: "/nowhere".to_owned() };

        journal.event(started(Step::Check));
        ledger.refuse_writes(true);
        journal.step_done(Step::Check);
        journal.event(started(Step::Start));
        assert!(journal.intend(&intent).is_err(), "what cannot be written down is not done");
        journal.step_done(Step::Start);
        assert!(journal.end(&Ok(Outcome::Started { already: false })).is_err());
        let entry = ledger.entries().unwrap().remove(0);
        assert!(entry.done.is_empty() && entry.undo.is_empty());

        ledger.refuse_writes(false);
        journal.intend(&intent).unwrap();
        let entry = ledger.entries().unwrap().remove(0);
        assert_eq!((&entry.done[..], &entry.undo[..]), (&[Step::Check, Step::Start][..], &[intent][..]));
        ledger.refuse_writes(true);
        journal.event(started(Step::Other));
        ledger.refuse_writes(false);
        journal.end(&Ok(Outcome::Started { already: false })).unwrap();
        let report = ledger.report(id).unwrap().unwrap();
        assert_eq!(kinds(&report), [started(Step::Check), started(Step::Start), started(Step::Other)]);
        assert_eq!(report.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
