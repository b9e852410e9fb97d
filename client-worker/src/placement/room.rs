//! Which pool of a host would take the disks of a clone: by the rule that the host itself follows when the time comes, on what
//! is known of its pools. What a copy takes is known here at the least only, so the host still has the last word.

use std::fmt;

use maglica_proto::{fault::Code, inventory::Pool, name::PoolName, placement::POOL_MARGIN, units::ByteSize};

use super::ImageThere;

/// A pool of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRoom {
    /// Its name.
    pub name: PoolName,
    /// Whether it is started.
    pub active: bool,
    /// Whether its volumes are files.
    pub folder: bool,
    /// Whether it takes raw volumes only.
    pub logical: bool,
    /// What is free, what is on its way taken off.
    pub free: ByteSize,
}

impl PoolRoom {
    /// A pool as its host told it.
    #[must_use]
    pub fn of(pool: &Pool) -> Self {
        Self {
            name: pool.name.clone(),
            active: pool.active,
            folder: matches!(pool.kind.as_str(), "dir" | "fs" | "netfs"),
            logical: pool.kind == "logical",
            free: pool.available,
        }
    }
}

/// Why no pool of a host can take the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoPool {
    /// There is none of that name.
    Missing(PoolName),
    /// It is not started.
    Inactive(PoolName),
    /// Copies cannot be made in one of its type.
    Unfit(PoolName),
    /// It is too full.
    Full { pool: PoolName, free: ByteSize, need: ByteSize },
}

impl NoPool {
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::Missing(_) => Code::NotFound,
            Self::Inactive(_) => Code::WrongState,
            Self::Unfit(_) => Code::Unsupported,
            Self::Full { .. } => Code::NoRoom,
        }
    }

    pub(super) const fn pool(&self) -> &PoolName {
        match self {
            Self::Missing(pool) | Self::Inactive(pool) | Self::Unfit(pool) | Self::Full { pool, .. } => pool,
        }
    }
}

impl fmt::Display for NoPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(pool) => write!(f, "it has no storage pool {pool}"),
            Self::Inactive(pool) => write!(f, "its storage pool {pool} is not active"),
            Self::Unfit(pool) => write!(f, "copies cannot be made in a storage pool of the type of {pool}"),
            Self::Full { pool, free, need } => {
                write!(f, "its storage pool {pool} has {free} free, the copy may need {need}")
            }
        }
    }
}

/// The pool asked for; else the image's own if it has room; else the one of those with files that has most room. None where the
/// image's own is not known: then its host decides.
pub(super) fn choose<'a>(
    pools: &'a [PoolRoom],
    image: &ImageThere,
    asked: Option<&PoolName>,
) -> Result<Option<&'a PoolRoom>, NoPool> {
    let named = |name: &PoolName| {
        let found = pools.iter().find(|pool| pool.name == *name);
        found.ok_or_else(|| NoPool::Missing(name.clone())).and_then(|pool| fits(pool, image))
    };
    if let Some(asked) = asked {
        return named(asked).map(Some);
    }
    let Some(home) = &image.home else { return Ok(None) };
    named(home).map(Some).or_else(|why| {
        let others = pools.iter().filter(|pool| pool.folder && fits(pool, image).is_ok());
        let most = others.max_by(|a, b| a.free.cmp(&b.free).then(b.name.cmp(&a.name)));
        most.map_or(Err(why), |pool| Ok(Some(pool)))
    })
}

fn fits<'a>(pool: &'a PoolRoom, image: &ImageThere) -> Result<&'a PoolRoom, NoPool> {
    let name = || pool.name.clone();
    if !pool.active {
        return Err(NoPool::Inactive(name()));
    }
    if !(pool.folder || (pool.logical && image.raw)) {
        return Err(NoPool::Unfit(name()));
    }
    match image.disk.map(|disk| disk.plus(POOL_MARGIN)) {
        Some(need) if pool.free < need => Err(NoPool::Full { pool: name(), free: pool.free, need }),
        Some(_) | None => Ok(pool),
    }
}
