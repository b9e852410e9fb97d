//! Changes of domains by libvirt.

use maglica_proto::units::ByteSize;
use uuid::Uuid;
use virt::{domain::Domain, error::Error, storage_vol::StorageVol, sys};

use super::{Libvirt, VolumeRow, pools};
use crate::hypervisor::{Change, HypervisorError, storage_xml};

/// libvirt's KiB.
const fn kib(size: ByteSize) -> u64 {
    size.as_bytes().div_ceil(1024)
}

impl Libvirt {
    fn change(
        &self,
        doing: &str,
        uuid: Uuid,
        call: impl FnOnce(&Domain) -> Result<(), Error>,
    ) -> Result<(), HypervisorError> {
        self.act(&format!("{doing} domain {uuid}"), |connection| call(&connection.lookup_domain_by_uuid(uuid)?))
    }
}

impl Change for Libvirt {
    fn reboot(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.change("rebooting", uuid, |domain| domain.reboot(sys::VIR_DOMAIN_REBOOT_DEFAULT))
    }

    fn reset(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.change("resetting", uuid, |domain| domain.reset())
    }

    fn suspend(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.change("suspending", uuid, |domain| domain.suspend())
    }

    fn resume(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.change("resuming", uuid, |domain| domain.resume())
    }

    fn rename(&self, uuid: Uuid, name: &str) -> Result<(), HypervisorError> {
        self.change("renaming", uuid, |domain| domain.rename(name, 0))
    }

    fn set_autostart(&self, uuid: Uuid, on: bool) -> Result<(), HypervisorError> {
        self.change("setting the autostart of", uuid, |domain| domain.set_autostart(on))
    }

    fn attach_live(&self, uuid: Uuid, device: &str) -> Result<(), HypervisorError> {
        self.change("adding a device to", uuid, |domain| {
            domain.attach_device_flags(device, sys::VIR_DOMAIN_AFFECT_LIVE)
        })
    }

    fn detach_live(&self, uuid: Uuid, device: &str) -> Result<(), HypervisorError> {
        self.change("taking a device from", uuid, |domain| {
            domain.detach_device_flags(device, sys::VIR_DOMAIN_AFFECT_LIVE)
        })
    }

    fn update_live(&self, uuid: Uuid, device: &str) -> Result<(), HypervisorError> {
        self.change("changing a device of", uuid, |domain| {
            domain.update_device_flags(device, sys::VIR_DOMAIN_AFFECT_LIVE)
        })
    }

    fn set_vcpus_live(&self, uuid: Uuid, count: u32) -> Result<(), HypervisorError> {
        self.change("setting the processors of", uuid, |domain| {
            domain.set_vcpus_flags(count, sys::VIR_DOMAIN_VCPU_LIVE)
        })
    }

    fn set_memory_live(&self, uuid: Uuid, size: ByteSize) -> Result<(), HypervisorError> {
        self.change("setting the memory of", uuid, |domain| {
            domain.set_memory_flags(kib(size), sys::VIR_DOMAIN_MEM_LIVE)
        })
    }

    fn resize_live(&self, uuid: Uuid, target: &str, size: ByteSize) -> Result<(), HypervisorError> {
        self.change(&format!("resizing the disk {target} of"), uuid, |domain| {
            domain.block_resize(target, size.as_bytes(), sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        })
    }

    fn create_volume(
        &self,
        pool: &str,
        name: &str,
        format: &str,
        size: ByteSize,
    ) -> Result<VolumeRow, HypervisorError> {
        let doing = format!("making volume {name} in storage pool {pool}");
        let description = storage_xml::new_volume(name, format, size);
        let xml = self
            .act(&doing, |connection| {
                StorageVol::create_xml(&connection.lookup_storage_pool_by_name(pool)?, &description, 0)?.xml_desc(0)
            })
            .map_err(pools::volume_busy)?;
        pools::volume_row(pool, &xml, &doing)
    }
}
