//! Domains: their list and states, and forgetting one.

use std::collections::{HashMap, HashSet};

use maglica_proto::inventory::DomainState;
use uuid::Uuid;
use virt::{
    connect::Connect,
    domain::{Domain, DomainState as LibvirtState, DomainStateEnum},
    enumutil::Enum,
    error::{Error, ErrorNumber},
    sys,
};

use super::{DomainRow, Nvram};

pub(super) const fn state(state: DomainStateEnum) -> DomainState {
    match state {
        Enum::Known(LibvirtState::Running) => DomainState::Running,
        Enum::Known(LibvirtState::Blocked) => DomainState::Blocked,
        Enum::Known(LibvirtState::Paused) => DomainState::Paused,
        Enum::Known(LibvirtState::Shutdown) => DomainState::ShuttingDown,
        Enum::Known(LibvirtState::Shutoff) => DomainState::Off,
        Enum::Known(LibvirtState::Crashed) => DomainState::Crashed,
        Enum::Known(LibvirtState::PMSuspended) => DomainState::Suspended,
        Enum::Known(LibvirtState::NoState) | Enum::Unknown(_) => DomainState::Unknown,
    }
}

/// All domains by five calls: libvirt filters by state, so that no domain has to be asked for its own. (Its statistics
/// would take one call, but `virt` 0.5 neither reads nor frees them.)
pub(super) fn list(connection: &Connect) -> Result<Vec<DomainRow>, Error> {
    let all = connection.list_all_domains(0)?;
    let mut states: HashMap<Uuid, DomainState> = HashMap::with_capacity(all.len());
    for (flag, state) in [
        (sys::VIR_CONNECT_LIST_DOMAINS_RUNNING, DomainState::Running),
        (sys::VIR_CONNECT_LIST_DOMAINS_PAUSED, DomainState::Paused),
        (sys::VIR_CONNECT_LIST_DOMAINS_SHUTOFF, DomainState::Off),
    ] {
        for domain in connection.list_all_domains(flag)? {
            states.insert(domain.uuid()?, state);
        }
    }
    let autostarted = connection
        .list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_AUTOSTART)?
        .iter()
        .map(Domain::uuid)
        .collect::<Result<HashSet<_>, _>>()?;
    let mut rows = Vec::with_capacity(all.len());
    for domain in &all {
        let uuid = domain.uuid()?;
        let state = match states.get(&uuid) {
            Some(state) => *state,
            // A rarer state, or it changed between two of the calls.
            None => match domain.info() {
                Ok(info) => state(info.state),
                Err(error) if error.code() == Enum::Known(ErrorNumber::NoDomain) => continue,
                Err(error) => return Err(error),
            },
        };
        rows.push(DomainRow { name: domain.name()?, uuid, state, autostart: autostarted.contains(&uuid) });
    }
    Ok(rows)
}

/// Undefines with all that libvirt otherwise refuses to forget; a driver that does not know these (libvirt's own for tests)
/// is asked plainly.
pub(super) fn undefine(domain: &Domain, nvram: Nvram) -> Result<(), Error> {
    let nvram = match nvram {
        Nvram::Delete => sys::VIR_DOMAIN_UNDEFINE_NVRAM,
        Nvram::Keep => sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM,
    };
    let all = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | nvram;
    match domain.undefine_flags(all) {
        Err(error) if matches!(error.code(), Enum::Known(ErrorNumber::InvalidArg | ErrorNumber::NoSupport)) => {
            domain.undefine()
        }
        result => result,
    }
}
