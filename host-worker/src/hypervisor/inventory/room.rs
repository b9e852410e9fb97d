//! What a host has room for, as it is told: memory and storage pools.

use std::fs;

use maglica_proto::{
    inventory::{Accel, HostFacts, Pool},
    name::PoolName,
    units::ByteSize,
};

use super::{Facts, PoolRow};

/// Free memory is told in steps of this, so that it does not change the inventory at every look.
pub(super) const MEMORY_STEP: ByteSize = ByteSize::mib(64);

pub(super) fn pool(name: PoolName, row: &PoolRow) -> Pool {
    Pool {
        name,
        kind: row.kind.clone(),
        active: row.active,
        path: row.path.clone(),
        capacity: row.capacity,
        available: row.available,
    }
}

/// What the hypervisor says of the host, with the kernel's own figures of memory.
pub(crate) fn host_facts(facts: Facts, accel: Accel) -> HostFacts {
    // libvirt counts the page cache as taken, and memory that was plugged in later not at all; the kernel knows better.
    let kernel = facts.hypervisor.starts_with("QEMU").then(|| fs::read_to_string("/proc/meminfo").ok()).flatten();
    let figure = |name| kernel.as_deref().and_then(|text| meminfo(text, name));
    let free = figure("MemAvailable:").unwrap_or(facts.memory_free);
    let memory = figure("MemTotal:").unwrap_or(facts.memory);
    let step = MEMORY_STEP.as_bytes();
    HostFacts {
        cpus: facts.cpus,
        memory,
        memory_free: ByteSize::bytes(free.as_bytes() / step * step),
        arch: facts.arch,
        hypervisor: facts.hypervisor,
        libvirt: facts.libvirt,
        accel,
        worker: env!("CARGO_PKG_VERSION").to_owned(),
        transfer: None,
    }
}

pub(super) fn meminfo(text: &str, name: &str) -> Option<ByteSize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok().map(ByteSize::kib)
}
