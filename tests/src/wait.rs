//! Waiting for a level with a limit; a test never sleeps and hopes. Says the last thing that was seen.

use std::{
    thread,
    time::{Duration, Instant},
};

/// From look to look. A look at a daemon costs some milliseconds.
const LOOK: Duration = Duration::from_millis(25);

/// What ordinarily takes a fraction of a second may take so long on two busy cores before it counts as never.
pub const SOON: Duration = Duration::from_secs(20);

/// Looks until `look` gives something; `Err` is what was seen instead.
///
/// # Panics
/// With `what` and the last thing seen, when `limit` is over.
pub fn wait_until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + limit;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) => assert!(Instant::now() < until, "not within {limit:?}: {what}; seen last: {seen}"),
        }
        thread::sleep(LOOK);
    }
}

/// `Ok` if it is so, otherwise what was seen.
///
/// # Errors
/// `seen`, for [`wait_until`].
pub fn when(so: bool, seen: impl std::fmt::Debug) -> Result<(), String> {
    if so { Ok(()) } else { Err(format!("{seen:?}")) }
}
