//! Storage pools and volumes.

use maglica_proto::units::ByteSize;
use virt::{error::Error, storage_pool::StoragePool};

use super::{HypervisorError, PoolRow, VolumeRow, storage_xml};

/// What libvirt says of a pool, not read yet.
pub(super) struct RawPool {
    name: String,
    xml: String,
    active: bool,
    capacity: u64,
    available: u64,
}

pub(super) fn read(pool: &StoragePool) -> Result<RawPool, Error> {
    let info = pool.info()?;
    Ok(RawPool {
        name: pool.name()?,
        xml: pool.xml_desc(0)?,
        active: pool.is_active()?,
        capacity: info.capacity,
        available: info.available,
    })
}

impl RawPool {
    pub(super) fn row(self, doing: &str) -> Result<PoolRow, HypervisorError> {
        let (kind, path) = storage_xml::pool(&self.xml)
            .map_err(|error| HypervisorError::Refused { doing: doing.to_owned(), why: error.to_string() })?;
        Ok(PoolRow {
            name: self.name,
            kind,
            active: self.active,
            path,
            capacity: ByteSize::bytes(self.capacity),
            available: ByteSize::bytes(self.available),
        })
    }
}

pub(super) fn volume_row(pool: &str, xml: &str, doing: &str) -> Result<VolumeRow, HypervisorError> {
    storage_xml::volume(pool, xml)
        .map_err(|error| HypervisorError::Refused { doing: doing.to_owned(), why: error.to_string() })
}

/// A refusal to delete a volume is for now: libvirt refuses while it is made or copied from. It has no error code of its own
/// for it, and its words depend on the daemon's language.
pub(super) fn volume_busy(error: HypervisorError) -> HypervisorError {
    if let HypervisorError::WrongState { doing, why } = error { HypervisorError::Busy { doing, why } } else { error }
}

/// A refusal to refresh a pool is for now too; libvirt calls it an internal error while a volume is made in it.
pub(super) fn pool_busy(error: HypervisorError) -> HypervisorError {
    if let HypervisorError::WrongState { doing, why } | HypervisorError::Refused { doing, why } = error {
        HypervisorError::Busy { doing, why }
    } else {
        error
    }
}
