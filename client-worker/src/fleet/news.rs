//! What is new of a host's machines, for those who watch. Pure.

use maglica_proto::{
    change::Change,
    inventory::{Domain, DomainState, Inventory},
    name::HostName,
    news::{News, VmNews},
};

fn of(host: &HostName, domain: &Domain, change: VmNews) -> News {
    News::Vm { name: domain.name.clone(), host: host.clone(), image: domain.is_image(), change }
}

fn appeared_or_changed(host: &HostName, before: Option<DomainState>, domain: &Domain) -> Option<News> {
    match before {
        None => Some(of(host, domain, VmNews::Appeared { state: domain.state })),
        Some(from) if from != domain.state => Some(of(host, domain, VmNews::State { from, to: domain.state })),
        Some(_) => None,
    }
}

fn find<'a>(sorted: &'a [Domain], domain: &Domain) -> Option<&'a Domain> {
    sorted.binary_search_by(|known| known.name.cmp(&domain.name)).ok().map(|at| &sorted[at])
}

/// What a host's new inventory tells beside the one before; both are sorted by name.
pub(super) fn between(host: &HostName, before: &Inventory, after: &Inventory) -> Vec<News> {
    let gone = before.domains.iter().filter(|domain| find(&after.domains, domain).is_none());
    let new = after
        .domains
        .iter()
        .filter_map(|domain| appeared_or_changed(host, find(&before.domains, domain).map(|known| known.state), domain));
    gone.map(|domain| of(host, domain, VmNews::Gone)).chain(new).collect()
}

/// What a change tells that is about to be made to an inventory.
pub(super) fn of_change(host: &HostName, before: &Inventory, change: &Change) -> Vec<News> {
    let known = |name| before.domains.binary_search_by(|known| known.name.cmp(name)).ok().map(|at| &before.domains[at]);
    let gone = change.gone.iter().filter_map(known).map(|domain| of(host, domain, VmNews::Gone));
    let new = change
        .domains
        .iter()
        .filter_map(|domain| appeared_or_changed(host, known(&domain.name).map(|known| known.state), domain));
    gone.chain(new).collect()
}
