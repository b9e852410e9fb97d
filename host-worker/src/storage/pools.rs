//! Chooses the pool in which copies are made. Pure.

use maglica_proto::{
    fault::{Code, Fault},
    placement::POOL_MARGIN,
    units::ByteSize,
};

use crate::hypervisor::PoolRow;

/// What a pool must be able to take.
#[derive(Debug, Clone)]
pub struct Need<'a> {
    /// The pool that was asked for.
    pub asked: Option<&'a str>,
    /// The pool in which the image's first disk lies.
    pub home: &'a str,
    /// How much the copies can take up.
    pub size: ByteSize,
    /// Whether all disks are raw: pools of block devices hold nothing else.
    pub raw: bool,
}

/// Why no pool can take the copies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// There is none of that name.
    #[error("there is no storage pool {name} (there are: {})", .known.join(", "))]
    NotFound {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It is not started.
    #[error("the storage pool {name} is not active")]
    Inactive {
        /// Its name.
        name: String,
    },
    /// Copies cannot be made in one of its type.
    #[error("disks of format other than raw cannot be copied into the storage pool {name} of type {kind}")]
    Unsupported {
        /// Its name.
        name: String,
        /// Its type.
        kind: String,
    },
    /// It is too full.
    #[error("the storage pool {name} has {available} free, the copy may need {need}")]
    NoRoom {
        /// Its name, or those of all.
        name: String,
        /// What is free.
        available: ByteSize,
        /// What is needed, margin included.
        need: ByteSize,
    },
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        let (code, name) = match &error {
            PoolError::NotFound { name, .. } => (Code::NotFound, name),
            PoolError::Inactive { name } => (Code::WrongState, name),
            PoolError::Unsupported { name, .. } => (Code::Unsupported, name),
            PoolError::NoRoom { name, .. } => (Code::NoRoom, name),
        };
        Self::new(code, error.to_string()).about(name.clone())
    }
}

/// The pool asked for; else the image's own if it has room; else the one of those with files that has most room.
///
/// # Errors
/// [`PoolError`]: what is wrong with the pool asked for, else with the image's own.
pub fn choose<'a>(pools: &'a [PoolRow], need: &Need<'_>) -> Result<&'a PoolRow, PoolError> {
    let named = |name: &str| {
        pools.iter().find(|pool| pool.name == name).ok_or_else(|| PoolError::NotFound {
            name: name.to_owned(),
            known: pools.iter().map(|pool| pool.name.clone()).collect(),
        })
    };
    if let Some(asked) = need.asked {
        return fits(named(asked)?, need);
    }
    let home = named(need.home).and_then(|pool| fits(pool, need));
    if home.is_ok() {
        return home;
    }
    pools
        .iter()
        .filter(|pool| pool.is_folder() && fits(pool, need).is_ok())
        .max_by(|a, b| a.available.cmp(&b.available).then(b.name.cmp(&a.name)))
        .map_or(home, Ok)
}

fn fits<'a>(pool: &'a PoolRow, need: &Need<'_>) -> Result<&'a PoolRow, PoolError> {
    let name = pool.name.clone();
    if !pool.active {
        return Err(PoolError::Inactive { name });
    }
    let takes = pool.is_folder() || (pool.kind == "logical" && need.raw);
    if !takes {
        return Err(PoolError::Unsupported { name, kind: pool.kind.clone() });
    }
    let size = need.size.plus(POOL_MARGIN);
    if pool.available < size {
        return Err(PoolError::NoRoom { name, available: pool.available, need: size });
    }
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, kind: &str, active: bool, free: u64) -> PoolRow {
        PoolRow {
            name: name.to_owned(),
            kind: kind.to_owned(),
            active,
            path: None,
            capacity: ByteSize::mib(100_000),
            available: ByteSize::mib(free),
        }
    }

    fn need(asked: Option<&str>, size: u64) -> Need<'_> {
        Need { asked, home: "home", size: ByteSize::mib(size), raw: false }
    }

    #[test]
    fn the_images_own_pool_is_taken_while_it_has_room_and_then_the_one_with_most() {
        let pools = [
            pool("home", "dir", true, 1_000),
            pool("small", "dir", true, 2_000),
            pool("large", "netfs", true, 9_000),
            pool("off", "dir", false, 50_000),
            pool("blocks", "logical", true, 50_000),
        ];
        assert_eq!(choose(&pools, &need(None, 500)).unwrap().name, "home");
        assert_eq!(choose(&pools, &need(None, 900)).unwrap().name, "large", "the margin is kept");
        let full = choose(&pools, &need(None, 20_000)).unwrap_err();
        assert!(matches!(&full, PoolError::NoRoom { name, .. } if name == "home"), "{full}");
    }

    #[test]
    fn a_pool_that_was_asked_for_is_taken_or_refused_with_its_reason() {
        let pools = [
            pool("home", "dir", true, 9_000),
            pool("off", "dir", false, 9_000),
            pool("blocks", "logical", true, 9_000),
        ];
        assert_eq!(choose(&pools, &need(Some("home"), 1)).unwrap().name, "home");
        assert!(matches!(choose(&pools, &need(Some("none"), 1)), Err(PoolError::NotFound { .. })));
        assert!(matches!(choose(&pools, &need(Some("off"), 1)), Err(PoolError::Inactive { .. })));
        assert!(matches!(choose(&pools, &need(Some("blocks"), 1)), Err(PoolError::Unsupported { .. })));
        let raw = Need { raw: true, ..need(Some("blocks"), 1) };
        assert_eq!(choose(&pools, &raw).unwrap().name, "blocks");
    }
}
