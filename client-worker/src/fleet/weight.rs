//! How much memory an inventory takes, near enough to bound it: a message may be small on the wire and large in memory. Pure.

use std::mem::size_of;

use maglica_proto::{
    change::Change,
    inventory::{Disk, Domain, Inventory, Nic, Pool, Screen, Snapshot},
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
    let screen = |screen: &Screen| size_of::<Screen>() + screen.kind.len() + screen.at.len();
    let shown = text(domain.console.as_ref()) + domain.screens.iter().map(screen).sum::<usize>();
    let snapshots: usize = domain.snapshots.iter().map(snapshot).sum();
    size_of::<Domain>() + domain.name.as_str().len() + made + disks + nics + addresses + shown + snapshots
}

fn disk(disk: &Disk) -> usize {
    let names = disk.pool.as_ref().map_or(0, |pool| pool.as_str().len())
        + disk.volume.as_ref().map_or(0, |volume| volume.as_str().len());
    let below: usize = disk.below.iter().map(|path| size_of::<String>() + path.len()).sum();
    let texts = text(disk.path.as_ref()) + text(disk.backing.as_ref()) + text(disk.trouble.as_ref()) + below;
    size_of::<Disk>() + disk.target.len() + disk.format.len() + names + texts
}

fn nic(nic: &Nic) -> usize {
    let addresses = size_of_val(nic.addresses.as_slice());
    size_of::<Nic>() + nic.kind.len() + text(nic.source.as_ref()) + text(nic.model.as_ref()) + addresses
}

fn snapshot(snapshot: &Snapshot) -> usize {
    let parent = snapshot.parent.as_ref().map_or(0, |parent| parent.as_str().len());
    let texts = snapshot.description.len() + text(snapshot.by.as_ref());
    size_of::<Snapshot>() + snapshot.name.as_str().len() + parent + texts
}

fn text(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}
