//! What a restored state must not do: believe what has changed since. Jobs that were open are not begun again, ids of before are
//! taken by no new job, invitations of before let nobody in, and keys that the state of before had revoked stay so.

use std::path::Path;

use maglica_proto::{name::HostName, units::Timestamp};

use super::{BackupError, JOBS, TRUST};
use crate::{
    job::store::{Change, JobStore, SqliteStore},
    trust::{Register, Trust, register::Lapsed},
};

/// What the restored state is, beside being older.
#[derive(Debug)]
pub struct Settled {
    /// Jobs that were open in it; their hosts say how they ended.
    pub open_jobs: usize,
    /// What of the register holds no longer.
    pub lapsed: Lapsed,
    /// Whether the state of before could be asked which keys were revoked since.
    pub knows_revoked: bool,
    /// The hosts that are enrolled in it.
    pub hosts: Vec<HostName>,
}

/// Settles the state in `stage`; `before` is the one that it takes the place of, if there is one.
pub(super) fn settle(stage: &Path, before: Option<&Path>, now: Timestamp) -> Result<Settled, BackupError> {
    let mut store = SqliteStore::open(&stage.join(JOBS))?;
    let mut open = store.live()?;
    let stored: Vec<usize> = open.iter().map(|record| record.events.len()).collect();
    open.iter_mut().for_each(|record| record.restored(now));
    let changes: Vec<Change<'_>> =
        open.iter().zip(stored).map(|(record, stored_events)| Change { record, stored_events, digest: None }).collect();
    store.commit(&changes)?;
    store.forget_until(now)?;
    drop(store);
    let revoked = before.and_then(|before| Register::read(&before.join(TRUST)).ok());
    let trust = Trust::open(stage.join(TRUST))?;
    let mut register = (*trust.now()).clone();
    let lapsed = register.restored(revoked.as_ref());
    register.write(&stage.join(TRUST))?;
    let hosts = register.hosts().map(|(name, _)| name.clone()).collect();
    Ok(Settled { open_jobs: open.len(), lapsed, knows_revoked: revoked.is_some(), hosts })
}
