//! Where jobs are stored: a trait, for a store that several client workers share is to come, and SQLite behind it.
//!
//! A commit is all or nothing and durable when it returns (`synchronous=FULL`). The rows are readable with `sqlite3`:
//! `select id, verb, vm, host, state from jobs`. The file holds password hashes of jobs under way, so it is its owner's only.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use maglica_proto::{
    id::JobId,
    job::{JobEvent, JobRow},
    status::JobCount,
    units::{ByteSize, Timestamp},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::record::{AHEAD_MAX, JobRecord};

/// The store did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file lies on a network file system, where SQLite's locks and syncs cannot be relied on.
    #[error(
        "the job store {path} lies on a network file system, where a commit cannot be relied on; set state_dir to a local disk"
    )]
    NetworkFileSystem {
        /// The file.
        path: String,
    },
    /// The folder or file cannot be used.
    #[error("cannot open the job store {path}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another, newer version wrote it.
    #[error("the job store is of version {found}, this program knows {known} at most")]
    Newer {
        /// The file's version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// SQLite refused.
    #[error("cannot {what} in the job store")]
    Sqlite {
        /// What was being done.
        what: &'static str,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// A row does not read back.
    #[error("a row of the job store does not read back: job {id}")]
    Corrupt {
        /// Which.
        id: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// One job's change: the job as it is now, and those of its events that are new.
pub struct Change<'a> {
    /// The job.
    pub record: &'a JobRecord,
    /// How many of its events are stored already.
    pub stored_events: usize,
    /// The request's digest, by which a repeat is told from another request with the same id; for new jobs.
    pub digest: Option<[u8; 32]>,
}

/// Keeps jobs.
pub trait JobStore: Send {
    /// All jobs that are not over.
    ///
    /// # Errors
    /// [`StoreError`].
    fn live(&self) -> Result<Vec<JobRecord>, StoreError>;
    /// One job.
    ///
    /// # Errors
    /// [`StoreError`].
    fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError>;
    /// The digest of the request that made this job.
    ///
    /// # Errors
    /// [`StoreError`].
    fn digest(&self, id: JobId) -> Result<Option<[u8; 32]>, StoreError>;
    /// The newest jobs first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn recent(&self, limit: u32) -> Result<Vec<JobRow>, StoreError>;
    /// How many jobs there are in each state, and what the store takes on the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    fn counts(&self) -> Result<(Vec<JobCount>, ByteSize), StoreError>;
    /// Stores these changes: all or none, and for good when it returns.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was stored.
    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StoreError>;
    /// Forgets jobs that were over before this, the oldest first and at most `limit`; gives how many.
    ///
    /// # Errors
    /// [`StoreError`].
    fn expire(&mut self, before: Timestamp, limit: u32) -> Result<u32, StoreError>;
    /// Jobs whose ids were made up to this moment may have been forgotten.
    ///
    /// # Errors
    /// [`StoreError`].
    fn forgotten(&self) -> Result<Timestamp, StoreError>;
}

const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
create table if not exists jobs (
    id text primary key,
    verb text not null,
    vm text not null,
    host text not null,
    state text not null,
    asked_by text not null,
    submitted integer not null,
    updated integer not null,
    over integer not null,
    digest blob not null,
    row text not null,
    record text not null
) strict;
create index if not exists jobs_live on jobs (over) where over = 0;
create index if not exists jobs_newest on jobs (submitted desc);
create index if not exists jobs_state on jobs (state);
create index if not exists jobs_over on jobs (updated) where over = 1;
create table if not exists events (
    job text not null references jobs (id) on delete cascade,
    seq integer not null,
    at integer not null,
    event text not null,
    primary key (job, seq)
) strict, without rowid;
create table if not exists marks (name text primary key, value integer not null) strict, without rowid;
";
/// The mark that holds [`JobStore::forgotten`].
const FORGOTTEN: &str = "forgotten";
/// How long to wait for a reader with `sqlite3` that holds a lock.
const BUSY: Duration = Duration::from_secs(5);
/// `statfs` magic numbers of NFS, CIFS and SMB2.
const NETWORK_FILE_SYSTEMS: [i64; 3] = [0x6969, 0xff53_4d42, 0xfe53_4d42];

/// Jobs in an SQLite file.
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
}

fn fail(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Sqlite { what, source }
}

impl SqliteStore {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        let shown = path.display().to_string();
        let io = |source| StoreError::Open { path: path.display().to_string(), source };
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(io)?;
        let kind = rustix::fs::statfs(path).map_err(|errno| io(errno.into()))?.f_type;
        if NETWORK_FILE_SYSTEMS.contains(&kind) {
            return Err(StoreError::NetworkFileSystem { path: shown });
        }
        let connection = Connection::open(path).map_err(fail("open a file"))?;
        connection.busy_timeout(BUSY).map_err(fail("set the busy time"))?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(fail("switch to a write-ahead log"))?;
        connection.pragma_update(None, "synchronous", "full").map_err(fail("switch to full sync"))?;
        // A live job may hold a password's hash; once it is forgotten it is to be gone from the file.
        connection.pragma_update(None, "secure_delete", true).map_err(fail("switch on overwriting"))?;
        connection.pragma_update(None, "foreign_keys", true).map_err(fail("switch on foreign keys"))?;
        let found: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail("read the version"))?;
        if found > SCHEMA_VERSION {
            return Err(StoreError::Newer { found, known: SCHEMA_VERSION });
        }
        connection.execute_batch(SCHEMA).map_err(fail("make the tables"))?;
        connection.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(fail("write the version"))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Whether the file is what SQLite wrote, page by page.
    ///
    /// # Errors
    /// [`StoreError`]: it is not.
    pub fn check(&self) -> Result<(), StoreError> {
        let what = "find every page whole";
        let word: String =
            self.connection.query_row("pragma integrity_check(1)", [], |row| row.get(0)).map_err(fail(what))?;
        if word == "ok" { Ok(()) } else { Err(fail(what)(rusqlite::Error::InvalidQuery)) }
    }

    /// From now on jobs whose ids were made up to this moment may have been forgotten.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_until(&self, until: Timestamp) -> Result<(), StoreError> {
        mark_forgotten(&self.connection, until)
    }

    fn read(&self, id: &str, record: &str) -> Result<JobRecord, StoreError> {
        let corrupt = |source| StoreError::Corrupt { id: id.to_owned(), source };
        let mut record: JobRecord = serde_json::from_str(record).map_err(corrupt)?;
        let mut statement = self
            .connection
            .prepare_cached("select event from events where job = ?1 order by seq")
            .map_err(fail("read events"))?;
        let rows = statement.query_map([id], |row| row.get::<_, String>(0)).map_err(fail("read events"))?;
        for row in rows {
            let event: JobEvent = serde_json::from_str(&row.map_err(fail("read an event"))?).map_err(corrupt)?;
            record.events.push(event);
        }
        Ok(record)
    }
}

impl JobStore for SqliteStore {
    fn live(&self) -> Result<Vec<JobRecord>, StoreError> {
        let mut statement = self
            .connection
            .prepare("select id, record from jobs where over = 0 order by submitted, id")
            .map_err(fail("read live jobs"))?;
        let rows: Vec<(String, String)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(fail("read live jobs"))?;
        rows.iter().map(|(id, record)| self.read(id, record)).collect()
    }

    fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
        let id = id.to_string();
        let record: Option<String> = self
            .connection
            .prepare_cached("select record from jobs where id = ?1")
            .and_then(|mut statement| statement.query_row([&id], |row| row.get(0)).optional())
            .map_err(fail("read a job"))?;
        record.map(|record| self.read(&id, &record)).transpose()
    }

    fn digest(&self, id: JobId) -> Result<Option<[u8; 32]>, StoreError> {
        self.connection
            .prepare_cached("select digest from jobs where id = ?1")
            .and_then(|mut statement| statement.query_row([id.to_string()], |row| row.get(0)).optional())
            .map_err(fail("read a digest"))
    }

    fn recent(&self, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("select id, row from jobs order by submitted desc, id desc limit ?1")
            .map_err(fail("read recent jobs"))?;
        let rows: Vec<(String, String)> = statement
            .query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(fail("read recent jobs"))?;
        rows.iter()
            .map(|(id, row)| serde_json::from_str(row).map_err(|source| StoreError::Corrupt { id: id.clone(), source }))
            .collect()
    }

    fn counts(&self) -> Result<(Vec<JobCount>, ByteSize), StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("select state, count(*) from jobs group by state order by state")
            .map_err(fail("count jobs"))?;
        let rows = statement
            .query_map([], |row| Ok(JobCount { state: row.get(0)?, count: row.get::<_, i64>(1)?.unsigned_abs() }))
            .and_then(Iterator::collect)
            .map_err(fail("count jobs"))?;
        let files = ["", "-wal"].map(|end| {
            let mut path = self.path.clone().into_os_string();
            path.push(end);
            // The log is not there before the first commit.
            std::fs::metadata(path).map_or(0, |metadata| metadata.len())
        });
        Ok((rows, ByteSize::bytes(files.into_iter().sum())))
    }

    fn commit(&mut self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        let what = "store a job";
        let transaction = self.connection.transaction().map_err(fail(what))?;
        for Change { record, stored_events, digest } in changes {
            let id = record.id.to_string();
            let corrupt = |source| StoreError::Corrupt { id: record.id.to_string(), source };
            let row = record.row();
            let row_text = serde_json::to_string(&row).map_err(corrupt)?;
            let record_text = serde_json::to_string(record).map_err(corrupt)?;
            let updated = i64::try_from(record.updated.as_millis()).unwrap_or(i64::MAX);
            if let Some(digest) = digest {
                transaction
                    .prepare_cached(
                        "insert into jobs (id, verb, vm, host, state, asked_by, submitted, updated, over, digest, row, record)
                         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                    )
                    .and_then(|mut statement| {
                        statement.execute(params![
                            id,
                            row.verb,
                            row.vm.as_str(),
                            row.host.as_str(),
                            row.state.as_str(),
                            row.by,
                            i64::try_from(record.submitted.as_millis()).unwrap_or(i64::MAX),
                            updated,
                            record.is_over(),
                            digest,
                            row_text,
                            record_text,
                        ])
                    })
                    .map_err(fail(what))?;
            } else {
                transaction
                    .prepare_cached(
                        "update jobs set state = ?2, updated = ?3, over = ?4, row = ?5, record = ?6 where id = ?1",
                    )
                    .and_then(|mut statement| {
                        statement.execute(params![
                            id,
                            row.state.as_str(),
                            updated,
                            record.is_over(),
                            row_text,
                            record_text
                        ])
                    })
                    .map_err(fail(what))?;
            }
            let mut insert = transaction
                .prepare_cached("insert into events (job, seq, at, event) values (?1, ?2, ?3, ?4)")
                .map_err(fail(what))?;
            for event in record.events.iter().skip(*stored_events) {
                let text = serde_json::to_string(event).map_err(corrupt)?;
                let at = i64::try_from(event.at.as_millis()).unwrap_or(i64::MAX);
                insert.execute(params![id, event.seq, at, text]).map_err(fail(what))?;
            }
        }
        transaction.commit().map_err(fail(what))
    }

    fn expire(&mut self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        let what = "forget old jobs";
        let transaction = self.connection.transaction().map_err(fail(what))?;
        let moment = i64::try_from(before.as_millis()).unwrap_or(i64::MAX);
        let ids: Vec<String> = transaction
            .prepare_cached("select id from jobs where over = 1 and updated < ?1 order by updated limit ?2")
            .and_then(|mut old| old.query_map(params![moment, limit], |row| row.get(0)).and_then(Iterator::collect))
            .map_err(fail(what))?;
        let mut count = 0;
        let mut newest = Timestamp::default();
        for id in &ids {
            transaction
                .prepare_cached("delete from jobs where id = ?1")
                .and_then(|mut delete| delete.execute([id]))
                .map_err(fail(what))?;
            newest = newest.max(id.parse::<JobId>().ok().and_then(JobId::made_at).unwrap_or_default());
            count += 1;
        }
        // An id from far ahead (an older version took such) must not make all others look old.
        mark_forgotten(&transaction, newest.min(before.after(AHEAD_MAX)))?;
        transaction.commit().map_err(fail(what))?;
        Ok(count)
    }

    fn forgotten(&self) -> Result<Timestamp, StoreError> {
        let value: Option<i64> = self
            .connection
            .query_row("select value from marks where name = ?1", [FORGOTTEN], |row| row.get(0))
            .optional()
            .map_err(fail("read what was forgotten"))?;
        Ok(Timestamp::from_millis(value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default()))
    }
}

/// Writes down that jobs whose ids were made up to this moment may be gone. It never goes back.
fn mark_forgotten(connection: &Connection, until: Timestamp) -> Result<(), StoreError> {
    connection
        .execute(
            "insert into marks (name, value) values (?1, ?2)
             on conflict (name) do update set value = max(value, excluded.value)",
            params![FORGOTTEN, i64::try_from(until.as_millis()).unwrap_or(i64::MAX)],
        )
        .map(drop)
        .map_err(fail("write down what was forgotten"))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
