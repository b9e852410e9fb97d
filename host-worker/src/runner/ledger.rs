//! The ledger: what this host has promised and done, job by job, so that a crash at any moment is survived. In SQLite,
//! durable when a call returns; readable with `sqlite3`.
//!
//! A job that was acknowledged stays for a while with its result alone: should an old broadcast of it turn up, or a client
//! worker that was restored from a backup ask for it, it is not run again, and its result is told once more.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use maglica_proto::{
    fault::Fault,
    host::Report,
    id::JobId,
    job::{HostEvent, HostEventKind, Outcome, Step, Task},
    units::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::task::Undo;

/// How long an acknowledged job is remembered: longer than any message can be under way.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many are forgotten in one commit, so that no job waits long for the ledger.
const FORGET: u32 = 200;
const SCHEMA: &str = "
create table if not exists jobs (
    id text primary key,
    stage text not null check (stage in ('asking', 'granted', 'ended', 'acknowledged')),
    task text,
    result text,
    changed integer not null
) strict;
create table if not exists steps (job text not null references jobs (id) on delete cascade, step text not null) strict;
create table if not exists undo (job text not null references jobs (id) on delete cascade, undo text not null) strict;
create table if not exists events (
    job text not null references jobs (id) on delete cascade,
    seq integer not null,
    event text not null,
    primary key (job, seq)
) strict, without rowid;
";

/// The ledger did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file.
    #[error("cannot open the ledger {path}")]
    Open {
        /// Which.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// SQLite.
    #[error("cannot {what} in the ledger")]
    Sqlite {
        /// What was being done.
        what: &'static str,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// A row does not read back, or a value cannot be written.
    #[error("an entry of the ledger is damaged")]
    Damaged(#[from] serde_json::Error),
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The grant is asked for.
    Asking,
    /// It may run, and perhaps did in part.
    Granted,
    /// It has ended and is being reported.
    Ended,
}

/// A job that is not acknowledged, as it is found at a start.
pub struct Entry {
    /// Its id.
    pub id: JobId,
    /// What it is to do.
    pub task: Task,
    /// How far it is.
    pub stage: Stage,
    /// The steps that are done.
    pub done: Vec<Step>,
    /// How to take back what was begun, in the order in which it was begun.
    pub undo: Vec<Undo>,
}

/// The handle. The connection is used by one at a time; a commit takes a fraction of a millisecond.
#[derive(Clone)]
pub struct Ledger {
    connection: Arc<Mutex<Connection>>,
}

fn fail(what: &'static str) -> impl Fn(rusqlite::Error) -> LedgerError {
    move |source| LedgerError::Sqlite { what, source }
}

fn now() -> i64 {
    i64::try_from(Timestamp::from(SystemTime::now()).as_millis()).unwrap_or(i64::MAX)
}

/// The text that ids made at this moment (milliseconds since 1970) begin with: a UUIDv7's first 48 bits are its time.
fn first_id_of(moment: i64) -> String {
    let time = format!("{:012x}", moment.max(0));
    let (high, low) = time.split_at(8);
    format!("{high}-{low}")
}

impl Ledger {
    /// Opens the file, or makes it, readable by its owner only: tasks may hold a password's hash.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        use std::os::unix::fs::OpenOptionsExt;
        let io = |source| LedgerError::Open { path: path.display().to_string(), source };
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(io)?;
        let connection = Connection::open(path).map_err(fail("open a file"))?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(fail("set the busy time"))?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(fail("switch to a write-ahead log"))?;
        connection.pragma_update(None, "synchronous", "full").map_err(fail("switch to full sync"))?;
        // A task may hold a password's hash; once it is deleted it is to be gone from the file.
        connection.pragma_update(None, "secure_delete", true).map_err(fail("switch on overwriting"))?;
        connection.pragma_update(None, "foreign_keys", true).map_err(fail("switch on foreign keys"))?;
        connection.execute_batch(SCHEMA).map_err(fail("make the tables"))?;
        let ledger = Self { connection: Arc::new(Mutex::new(connection)) };
        ledger.forget_old()?;
        Ok(ledger)
    }

    /// Forgets acknowledged jobs that are old, a portion at a time; gives how many there were. Blocks for as long.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn forget_old(&self) -> Result<usize, LedgerError> {
        let before = now() - i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX);
        // Its id tells when it was asked for: one that ended while this clock was wrong is no older than that.
        let made_before = first_id_of(before);
        let mut all = 0;
        loop {
            let count = self
                .lock()
                .execute(
                    "delete from jobs where id in
                     (select id from jobs where stage = 'acknowledged' and changed < ?1 and id < ?3 limit ?2)",
                    params![before, FORGET, made_before],
                )
                .map_err(fail("forget old jobs"))?;
            all += count;
            if count == 0 {
                return Ok(all);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held left no transaction open: each call is one.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs that are not acknowledged, oldest first.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn entries(&self) -> Result<Vec<Entry>, LedgerError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("select id, stage, task from jobs where stage != 'acknowledged' order by id")
            .map_err(fail("read the jobs"))?;
        let rows: Vec<(String, String, String)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .and_then(Iterator::collect)
            .map_err(fail("read the jobs"))?;
        let mut entries = Vec::with_capacity(rows.len());
        for (id, stage, task) in rows {
            let stage = match stage.as_str() {
                "asking" => Stage::Asking,
                "granted" => Stage::Granted,
                _ => Stage::Ended,
            };
            let steps = column(&connection, "select step from steps where job = ?1 order by rowid", &id)?;
            let undo = column(&connection, "select undo from undo where job = ?1 order by rowid", &id)?;
            entries.push(Entry {
                stage,
                task: serde_json::from_str(&task)?,
                done: steps.iter().map(|step| serde_json::from_str(step)).collect::<Result<_, _>>()?,
                undo: undo.iter().map(|undo| serde_json::from_str(undo)).collect::<Result<_, _>>()?,
                id: serde_json::from_value(serde_json::Value::String(id))?,
            });
        }
        Ok(entries)
    }

    /// A job was offered. False if it was seen before.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn begin(&self, id: JobId, task: &Task) -> Result<bool, LedgerError> {
        let task = serde_json::to_string(task)?;
        let changed = self
            .lock()
            .execute(
                "insert into jobs (id, stage, task, changed) values (?1, 'asking', ?2, ?3) on conflict do nothing",
                params![id.to_string(), task, now()],
            )
            .map_err(fail("write a job"))?;
        Ok(changed == 1)
    }

    /// It may run.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn grant(&self, id: JobId) -> Result<(), LedgerError> {
        self.lock()
            .execute("update jobs set stage = 'granted', changed = ?2 where id = ?1", params![id.to_string(), now()])
            .map(drop)
            .map_err(fail("write a grant"))
    }

    /// It has ended, after these last lines of its journal: all of it is written, or nothing.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(super) fn end(&self, id: JobId, lines: &[Line], result: &Result<Outcome, Fault>) -> Result<(), LedgerError> {
        let result = serde_json::to_string(result)?;
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(fail("write an end"))?;
        insert(&transaction, id, lines)?;
        transaction
            .execute(
                "update jobs set stage = 'ended', result = ?2, changed = ?3 where id = ?1",
                params![id.to_string(), result, now()],
            )
            .map_err(fail("write an end"))?;
        transaction.commit().map_err(fail("write an end"))
    }

    /// The client worker has its report, or does not want it: only the id and the result are kept.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn acknowledge(&self, id: JobId) -> Result<(), LedgerError> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(fail("settle a job"))?;
        let id = id.to_string();
        transaction
            .execute(
                "update jobs set stage = 'acknowledged', task = null, changed = ?2 where id = ?1",
                params![id, now()],
            )
            .map_err(fail("settle a job"))?;
        for sql in
            ["delete from steps where job = ?1", "delete from undo where job = ?1", "delete from events where job = ?1"]
        {
            transaction.execute(sql, [&id]).map_err(fail("settle a job"))?;
        }
        transaction.commit().map_err(fail("settle a job"))
    }

    /// How it ended, with all its events (none once it is settled); none if it has not ended here.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn report(&self, id: JobId) -> Result<Option<Report>, LedgerError> {
        let connection = self.lock();
        let result: Option<Option<String>> = connection
            .query_row("select result from jobs where id = ?1", [id.to_string()], |row| row.get(0))
            .optional()
            .map_err(fail("read a result"))?;
        let Some(result) = result.flatten() else { return Ok(None) };
        let events = column(&connection, "select event from events where job = ?1 order by seq", &id.to_string())?;
        Ok(Some(Report {
            job: id,
            result: serde_json::from_str(&result)?,
            events: events.iter().map(|event| serde_json::from_str(event)).collect::<Result<_, _>>()?,
        }))
    }

    /// Adds these lines to a job's journal: all of them or none. Gives the events among them, with their numbers.
    ///
    /// # Errors
    /// [`LedgerError`]; then nothing was written.
    pub(super) fn write(&self, id: JobId, lines: &[Line]) -> Result<Vec<HostEvent>, LedgerError> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(fail("write a journal"))?;
        let events = insert(&transaction, id, lines)?;
        transaction.commit().map_err(fail("write a journal"))?;
        Ok(events)
    }
}

#[cfg(test)]
impl Ledger {
    /// Makes all writes fail, as a full disk does, or no longer.
    pub(super) fn refuse_writes(&self, yes: bool) {
        self.lock().pragma_update(None, "query_only", yes).expect("SQLite takes this");
    }
}

/// A line of a job's journal.
#[derive(Debug, Clone)]
pub(super) enum Line {
    /// How to take back what is about to be done.
    Intent(Undo),
    /// A step is done.
    Done(Step),
    /// Something happened at this moment.
    Event(HostEventKind, Timestamp),
}

fn insert(transaction: &Transaction<'_>, id: JobId, lines: &[Line]) -> Result<Vec<HostEvent>, LedgerError> {
    let id = id.to_string();
    let add = |sql: &'static str, value: String| {
        transaction.execute(sql, [&id, &value]).map(drop).map_err(fail("write a journal"))
    };
    let mut events = Vec::new();
    for line in lines {
        match line {
            Line::Intent(undo) => add("insert into undo (job, undo) values (?1, ?2)", serde_json::to_string(undo)?)?,
            Line::Done(step) => add("insert into steps (job, step) values (?1, ?2)", serde_json::to_string(step)?)?,
            Line::Event(what, at) => {
                let seq: u32 = transaction
                    .query_row("select coalesce(max(seq) + 1, 0) from events where job = ?1", [&id], |row| row.get(0))
                    .map_err(fail("number an event"))?;
                let event = HostEvent { seq, at: *at, what: what.clone() };
                transaction
                    .execute(
                        "insert into events (job, seq, event) values (?1, ?2, ?3)",
                        params![id, seq, serde_json::to_string(&event)?],
                    )
                    .map_err(fail("write an event"))?;
                events.push(event);
            }
        }
    }
    Ok(events)
}

fn column(connection: &Connection, sql: &'static str, id: &str) -> Result<Vec<String>, LedgerError> {
    let mut statement = connection.prepare_cached(sql).map_err(fail("read a journal"))?;
    statement.query_map([id], |row| row.get(0)).and_then(Iterator::collect).map_err(fail("read a journal"))
}

#[cfg(test)]
mod tests {
    use maglica_proto::{job::VmTask, name::DomainName};

    use super::*;

    fn task() -> Task {
        Task::Start(VmTask { name: DomainName::new("vm0").unwrap(), uuid: uuid::Uuid::nil() })
    }

    #[test]
    fn a_job_is_found_after_a_restart_as_far_as_it_came_and_never_begun_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (path, id) = (folder.path().join("ledger.db"), JobId::generate());
        let ledger = Ledger::open(&path).unwrap();
        assert!(ledger.begin(id, &task()).unwrap());
        assert!(!ledger.begin(id, &task()).unwrap());
        ledger.grant(id).unwrap();
        let started = HostEventKind::StepStarted { step: Step::Check };
        let events = ledger.write(id, &[Line::Event(started, Timestamp::default()), Line::Done(Step::Check)]).unwrap();
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [0]);
        drop(ledger);

        let ledger = Ledger::open(&path).unwrap();
        let entries = ledger.entries().unwrap();
        assert_eq!((entries.len(), entries[0].stage, &entries[0].done[..]), (1, Stage::Granted, &[Step::Check][..]));
        assert_eq!(entries[0].task, task());
        ledger.end(id, &[], &Ok(Outcome::Started { already: false })).unwrap();
        let report = ledger.report(id).unwrap().unwrap();
        assert_eq!((report.events.len(), report.result), (1, Ok(Outcome::Started { already: false })));
        ledger.acknowledge(id).unwrap();
        assert!(ledger.entries().unwrap().is_empty());
        assert!(!ledger.begin(id, &task()).unwrap(), "an old broadcast does not run it again");
        let again = ledger.report(id).unwrap().unwrap();
        assert_eq!((again.events.len(), again.result), (0, Ok(Outcome::Started { already: false })));
    }

    #[test]
    fn acknowledged_jobs_are_forgotten_when_they_are_old_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.db")).unwrap();
        let long_ago = now() - i64::try_from(REMEMBERED.as_millis()).unwrap() - 1;
        let old = |number: u8| -> JobId {
            let made = u64::try_from(long_ago).unwrap();
            uuid::Builder::from_unix_timestamp_millis(made, &[number; 10]).into_uuid().into()
        };
        let ids: Vec<JobId> = (0..250).map(old).collect();
        let (open, recent, young) = (old(251), old(252), JobId::generate());
        for id in ids.iter().chain([&open, &recent, &young]) {
            ledger.begin(*id, &task()).unwrap();
        }
        ids.iter().chain([&recent, &young]).for_each(|id| ledger.acknowledge(*id).unwrap());
        // A clock that was wrong when the young one ended makes it no older.
        ledger
            .lock()
            .execute("update jobs set changed = ?1 where id != ?2", params![long_ago, recent.to_string()])
            .unwrap();
        assert_eq!(ledger.forget_old().unwrap(), ids.len());
        assert!(ledger.begin(ids[0], &task()).unwrap(), "forgotten");
        for id in [recent, open, young] {
            assert!(!ledger.begin(id, &task()).unwrap(), "{id} is remembered");
        }
    }

    #[test]
    fn the_ledger_is_its_owners_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        Ledger::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
