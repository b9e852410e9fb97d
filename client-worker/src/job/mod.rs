//! Jobs: the one place that decides what state a job is in.
//!
//! [`record`] is a job and its legal steps (pure); [`desk`] the one task that owns all live jobs and has each change
//! stored before anybody hears of it; [`store`] where they are stored; [`delivery`] says them to the hosts, again and
//! again, until they are taken.

pub mod delivery;
pub mod desk;
pub mod record;
pub mod store;

pub use desk::{Desk, DeskError};
pub use record::JobRecord;
