//! Processors, memory, and what it is started from. The limits are the host's own.

use maglica_proto::{
    fault::{Code, Fault},
    inventory::{Accel, DiskDevice},
    job::{Applied, BootDevice, Outcome, Step, VmTask},
    units::ByteSize,
};

use super::{Live, apply, changed, fault, said, see, see_live, unreadable};
use crate::{
    hypervisor::{domain_xml, inventory::host_facts},
    task::{TaskContext, step::step},
};

/// What it is started from first.
pub(super) async fn boot(vm: &VmTask, device: BootDevice, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = "set-boot-device";
    let mut seen = step(cx, kind, Step::Check, async {
        let seen = see(vm, cx).await?;
        let disks = &seen.description.disks;
        let lacks = match device {
            BootDevice::Disk => !disks.iter().any(|disk| matches!(disk.device, DiskDevice::Disk | DiskDevice::Lun)),
            BootDevice::Cdrom => !disks.iter().any(|disk| disk.device == DiskDevice::Cdrom),
            BootDevice::Network => seen.description.nics.is_empty(),
        };
        if lacks {
            let message = format!("{} has no {} to be started from", vm.name, word(device));
            return Err(fault(Code::WrongState, vm, message));
        }
        Ok((seen, String::new()))
    })
    .await?;
    let note = format!("it starts from its {} first", word(device));
    if seen.edit.boots_from() == Some(device) {
        return Ok(changed(Applied::Already, note));
    }
    step(cx, kind, Step::Change, async {
        seen.edit.boot(device).map_err(|error| unreadable(vm, &error))?;
        let live = seen.active().then(|| Live::Never("the order is read when a machine is started".to_owned()));
        let outcome = apply(vm, cx, &seen.edit, live, note).await?;
        let note = said(&outcome);
        Ok((outcome, note))
    })
    .await
}

const fn word(device: BootDevice) -> &'static str {
    match device {
        BootDevice::Disk => "disk",
        BootDevice::Cdrom => "CD drive",
        BootDevice::Network => "network",
    }
}

/// The number of processors.
pub(super) async fn vcpus(vm: &VmTask, count: u32, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = "set-vcpus";
    let (mut seen, running) = step(cx, kind, Step::Check, async {
        let facts = cx.host.look("asking how many processors the host has", |hypervisor| hypervisor.facts()).await?;
        if count == 0 {
            return Err(fault(Code::InvalidInput, vm, "a machine has one processor at the least"));
        }
        if count > facts.cpus {
            let message = format!("{count} processors for {}: its host has {}", vm.name, facts.cpus);
            return Err(fault(Code::NoRoom, vm, message));
        }
        let seen = see(vm, cx).await?;
        let running = see_live(vm, cx).await?;
        Ok(((seen, running), String::new()))
    })
    .await?;
    let note = format!("{count} {}", if count == 1 { "processor" } else { "processors" });
    let now = running.as_ref().map(|live| live.vcpus_now());
    let defined = seen.edit.vcpus_now();
    if defined == (count, count) && now.is_none_or(|(now, _)| now == count) {
        return Ok(changed(Applied::Already, note));
    }
    step(cx, kind, Step::Change, async {
        seen.edit.vcpus(count).map_err(|why| fault(Code::Unsupported, vm, format!("{}: {why}", vm.name)))?;
        let uuid = vm.uuid;
        let live = now.map(|(_, most)| {
            if count > most {
                Live::Never(format!("it was started with at most {most}"))
            } else {
                Live::by(move |hypervisor| hypervisor.set_vcpus_live(uuid, count))
            }
        });
        let outcome = apply(vm, cx, &seen.edit, live, note).await?;
        let note = said(&outcome);
        Ok((outcome, note))
    })
    .await
}

/// The memory.
pub(super) async fn memory(vm: &VmTask, size: ByteSize, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = "set-memory";
    let (mut seen, running) = step(cx, kind, Step::Check, async {
        let facts = cx.host.look("asking how much memory the host has", |hypervisor| hypervisor.facts()).await?;
        let facts = host_facts(facts, Accel::Unknown);
        if size < ByteSize::mib(1) {
            return Err(fault(
                Code::InvalidInput,
                vm,
                format!("{size} is no memory for a machine; is the unit missing?"),
            ));
        }
        if size > facts.memory {
            let message = format!("{size} of memory for {}: its host has {} in all", vm.name, facts.memory);
            return Err(fault(Code::NoRoom, vm, message));
        }
        let seen = see(vm, cx).await?;
        let running = see_live(vm, cx).await?;
        if seen.edit.has_numa_cells() {
            let message = format!("the memory of {} is divided into NUMA cells; change it with virsh edit", vm.name);
            return Err(fault(Code::Unsupported, vm, message));
        }
        let now = running.as_ref().map(|live| live.memory_now().0);
        if let Some(more) = now.map(|now| size.minus(now)).filter(|more| *more > facts.memory_free) {
            let message =
                format!("{} is to have {more} more than now, and its host has {} free", vm.name, facts.memory_free);
            return Err(fault(Code::NoRoom, vm, message));
        }
        Ok(((seen, running), String::new()))
    })
    .await?;
    let note = format!("{size} of memory");
    let now = running.as_ref().map(domain_xml::change::Edit::memory_now);
    if seen.edit.memory_now() == (size, size) && now.is_none_or(|(now, _)| now == size) {
        return Ok(changed(Applied::Already, note));
    }
    step(cx, kind, Step::Change, async {
        seen.edit.memory(size);
        let uuid = vm.uuid;
        let live = now.map(|(_, most)| {
            if size > most {
                Live::Never(format!("it was started with at most {most}"))
            } else {
                Live::by(move |hypervisor| hypervisor.set_memory_live(uuid, size))
            }
        });
        let outcome = apply(vm, cx, &seen.edit, live, note).await?;
        let note = said(&outcome);
        Ok((outcome, note))
    })
    .await
}
