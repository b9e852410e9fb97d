//! How much memory an inventory takes, near enough to bound it: a message may be small on the wire and large in memory. Pure.

use std::mem::size_of;

use maglica_proto::{
    change::Change,
    inventory::{Disk, Domain, Inventory, Nic, Pool},
};

/// How much one host's inventory may take: some 30,000 ordinary domains. While a new one comes in, the old one is there too.
pub(super) const MOST: usize = 32 << 20;

/// What an inventory takes, in bytes.
pub(super) fn of(inventory: &Inventory) -> usize {
    size_of::<Inventory>() + pools(&inventory.pools) + domains(&inventory.domains)
}

/// What a change may add, in bytes: as if all that it names were new.
pub(super) fn of_change(change: &Change) -> usize {
    change.pools.as_deref().map_or(0, pools) + domains(&change.domains)
}

fn pools(pools: &[Pool]) -> usize {
    let pool = |pool: &Pool| size_of::<Pool>() + pool.name.as_str().len() + pool.kind.len() + text(pool.path.as_ref());
    pools.iter().map(pool).sum()
}

/// What these domains take, in bytes.
pub(super) fn domains(domains: &[Domain]) -> usize {
    domains.iter().map(domain).sum()
}

fn domain(domain: &Domain) -> usize {
    let made = domain.made.as_ref().map_or(0, |made| made.image.as_str().len() + made.by.len());
    let disks: usize = domain.disks.iter().map(disk).sum();
    let nics: usize = domain.nics.iter().map(nic).sum();
    let addresses = size_of_val(domain.addresses.as_slice());
    size_of::<Domain>() + domain.name.as_str().len() + made + disks + nics + addresses
}

fn disk(disk: &Disk) -> usize {
    let names = disk.pool.as_ref().map_or(0, |pool| pool.as_str().len())
        + disk.volume.as_ref().map_or(0, |volume| volume.as_str().len());
    let texts = text(disk.path.as_ref()) + text(disk.backing.as_ref()) + text(disk.trouble.as_ref());
    size_of::<Disk>() + disk.target.len() + disk.format.len() + names + texts
}

fn nic(nic: &Nic) -> usize {
    size_of::<Nic>() + nic.kind.len() + text(nic.source.as_ref()) + text(nic.model.as_ref())
}

fn text(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}
