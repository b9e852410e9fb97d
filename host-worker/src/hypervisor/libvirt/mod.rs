//! [`Hypervisor`] over libvirt, by the `virt` crate; only this folder names it.
//!
//! One connection is kept. libvirtd may be restarted at any time: a question that finds the connection broken is asked once
//! more on a new one. A change is sent only over a connection that has just answered, and never twice.

mod change;
mod connection;
mod definitions;
mod domains;
mod pools;
mod snapshots;

use std::net::IpAddr;

use maglica_proto::{inventory::DomainState, units::ByteSize};
use uuid::Uuid;
use virt::sys;

pub use self::connection::Libvirt;
use super::{
    DomainRow, Facts, Hypervisor, HypervisorError, Nvram, PoolRow, VolumeRow,
    domain_xml::guest_address,
    happenings::{self, Happenings},
    storage_xml,
};

/// The libvirt URI that the old configuration's keys `driver`, `transport` and `path` stand for: `qemu` and `system` give
/// `qemu:///system`, with transport `tcp` `qemu+tcp:///system`; a path that is a file (`test` driver) keeps its slashes.
#[must_use]
pub fn uri(driver: &str, transport: Option<&str>, path: &str) -> String {
    let transport = transport.filter(|transport| !transport.is_empty());
    let scheme = transport.map_or_else(|| driver.to_owned(), |transport| format!("{driver}+{transport}"));
    format!("{scheme}:///{}", path.trim_start_matches('/'))
}

/// The version `major × 1,000,000 + minor × 1,000 + release` as text.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

impl Hypervisor for Libvirt {
    fn uri(&self) -> &str {
        self.name()
    }

    fn listen(&self, happenings: Happenings) {
        self.tell(happenings);
    }

    fn facts(&self) -> Result<Facts, HypervisorError> {
        let doing = "asking libvirt what this host is";
        let (node, hypervisor, hypervisor_version, libvirt, capabilities, free) = self.look(doing, |connection| {
            Ok((
                connection.node_info()?,
                connection.driver_type()?,
                connection.hyp_version()?,
                connection.lib_version()?,
                connection.capabilities()?,
                // 0 means both «none» and «not known», which the crate takes for an error.
                connection.free_memory().ok(),
            ))
        })?;
        let (arch, emulator) = storage_xml::capabilities(&capabilities)
            .map_err(|error| HypervisorError::Refused { doing: doing.to_owned(), why: error.to_string() })?;
        Ok(Facts {
            cpus: node.cpus,
            memory: ByteSize::kib(node.memory),
            memory_free: free.map_or(ByteSize::kib(node.memory), ByteSize::bytes),
            arch,
            hypervisor: format!("{hypervisor} {}", version(hypervisor_version)),
            libvirt: version(libvirt),
            emulator,
        })
    }

    fn domains(&self) -> Result<Vec<DomainRow>, HypervisorError> {
        self.look("listing domains", domains::list)
    }

    fn domain_by_name(&self, name: &str) -> Result<Uuid, HypervisorError> {
        self.look(&format!("looking for domain {name}"), |connection| connection.lookup_domain_by_name(name)?.uuid())
    }

    fn domain(&self, uuid: Uuid) -> Result<DomainRow, HypervisorError> {
        self.look(&format!("looking for domain {uuid}"), |connection| {
            let domain = connection.lookup_domain_by_uuid(uuid)?;
            Ok(DomainRow {
                name: domain.name()?,
                uuid,
                state: domains::state(domain.info()?.state),
                autostart: domain.autostart()?,
            })
        })
    }

    fn domain_xml(&self, uuid: Uuid) -> Result<String, HypervisorError> {
        // Secure: the description is written back for a clone, and its graphics passwords are part of it.
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        self.look(&format!("reading the description of domain {uuid}"), |connection| {
            connection.lookup_domain_by_uuid(uuid)?.xml_desc(flags)
        })
    }

    fn live_xml(&self, uuid: Uuid) -> Result<String, HypervisorError> {
        self.look(&format!("reading how domain {uuid} runs"), |connection| {
            connection.lookup_domain_by_uuid(uuid)?.xml_desc(0)
        })
    }

    fn state(&self, uuid: Uuid) -> Result<DomainState, HypervisorError> {
        self.look(&format!("asking for the state of domain {uuid}"), |connection| {
            Ok(domains::state(connection.lookup_domain_by_uuid(uuid)?.info()?.state))
        })
    }

    fn define(&self, xml: &str) -> Result<Uuid, HypervisorError> {
        self.act("defining a domain", |connection| connection.define_domain_xml(xml)?.uuid())
    }

    fn undefine(&self, uuid: Uuid, nvram: Nvram) -> Result<(), HypervisorError> {
        self.act(&format!("undefining domain {uuid}"), |connection| {
            domains::undefine(&connection.lookup_domain_by_uuid(uuid)?, nvram)
        })
    }

    fn start(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.act(&format!("starting domain {uuid}"), |connection| connection.lookup_domain_by_uuid(uuid)?.create())
    }

    fn shutdown(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.act(&format!("shutting down domain {uuid}"), |connection| {
            connection.lookup_domain_by_uuid(uuid)?.shutdown()
        })
    }

    fn destroy(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.act(&format!("switching off domain {uuid}"), |connection| {
            connection.lookup_domain_by_uuid(uuid)?.destroy()
        })
    }

    fn agent(&self, uuid: Uuid, command: &str, limit_s: i32) -> Result<String, HypervisorError> {
        // Not a change, but not repeated on a new connection either: it takes seconds where the guest is silent.
        self.act(&format!("asking the guest agent of domain {uuid}"), |connection| {
            connection.lookup_domain_by_uuid(uuid)?.qemu_agent_command(command, limit_s, 0)
        })
    }

    fn lease_addresses(&self, uuid: Uuid) -> Result<Vec<(String, IpAddr)>, HypervisorError> {
        // `virt` 0.5 does not free the list's entries, about 100 bytes each; callers ask once a start, not once a poll.
        let interfaces = self.look(&format!("asking for the addresses of domain {uuid}"), |connection| {
            connection
                .lookup_domain_by_uuid(uuid)?
                .interface_addresses(sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, 0)
        })?;
        Ok(interfaces
            .iter()
            .flat_map(|interface| interface.addrs.iter().map(move |address| (interface, address)))
            .filter_map(|(interface, address)| {
                Some((interface.hwaddr.clone().unwrap_or_default(), guest_address(&address.addr)?))
            })
            .collect())
    }

    fn pools(&self) -> Result<Vec<PoolRow>, HypervisorError> {
        let doing = "listing storage pools";
        let found = self.look(doing, |connection| {
            let pools = connection.list_all_storage_pools(0)?;
            // One that was undefined meanwhile is left out, as it would be a moment later.
            Ok(pools.iter().filter_map(|pool| pools::read(pool).ok()).collect::<Vec<_>>())
        })?;
        found.into_iter().map(|raw| raw.row(doing)).collect()
    }

    fn pool(&self, name: &str) -> Result<PoolRow, HypervisorError> {
        let doing = format!("looking for storage pool {name}");
        self.look(&doing, |connection| pools::read(&connection.lookup_storage_pool_by_name(name)?))?.row(&doing)
    }

    fn refresh_pool(&self, name: &str) -> Result<(), HypervisorError> {
        self.act(&format!("refreshing storage pool {name}"), |connection| {
            connection.lookup_storage_pool_by_name(name)?.refresh(0)
        })
        .map_err(pools::pool_busy)
    }

    fn volumes(&self, pool: &str) -> Result<Vec<VolumeRow>, HypervisorError> {
        let doing = format!("listing the volumes of storage pool {pool}");
        let descriptions = self.look(&doing, |connection| {
            let volumes = connection.lookup_storage_pool_by_name(pool)?.list_all_volumes(0)?;
            Ok(volumes.iter().filter_map(|volume| volume.xml_desc(0).ok()).collect::<Vec<_>>())
        })?;
        descriptions.iter().map(|xml| pools::volume_row(pool, xml, &doing)).collect()
    }

    fn volume(&self, pool: &str, name: &str) -> Result<VolumeRow, HypervisorError> {
        let doing = format!("looking for volume {name} in storage pool {pool}");
        let xml = self.look(&doing, |connection| {
            connection.lookup_storage_pool_by_name(pool)?.lookup_storage_vol_by_name(name)?.xml_desc(0)
        })?;
        pools::volume_row(pool, &xml, &doing)
    }

    fn volume_by_path(&self, path: &str) -> Result<VolumeRow, HypervisorError> {
        let doing = format!("looking for the volume of {path}");
        let (pool, xml) = self.look(&doing, |connection| {
            let volume = connection.lookup_storage_vol_by_path(path)?;
            Ok((volume.lookup_storage_pool()?.name()?, volume.xml_desc(0)?))
        })?;
        pools::volume_row(&pool, &xml, &doing)
    }

    fn delete_volume(&self, pool: &str, name: &str) -> Result<(), HypervisorError> {
        self.act(&format!("deleting volume {name} of storage pool {pool}"), |connection| {
            connection.lookup_storage_pool_by_name(pool)?.lookup_storage_vol_by_name(name)?.delete(0)
        })
        .map_err(pools::volume_busy)
    }

    fn resize_volume(&self, pool: &str, name: &str, capacity: ByteSize) -> Result<(), HypervisorError> {
        self.act(&format!("resizing volume {name} of storage pool {pool}"), |connection| {
            connection
                .lookup_storage_pool_by_name(pool)?
                .lookup_storage_vol_by_name(name)?
                .resize(capacity.as_bytes(), 0)
        })
    }
}

#[cfg(test)]
mod tests;
