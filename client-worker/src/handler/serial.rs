//! Serial consoles and the logs of serial ports: which machine is meant, and whether its host can be asked.

use std::{sync::Arc, time::Instant};

use maglica_proto::{
    fault::{Code, Fault},
    job::VmTask,
    name::{DomainName, HostName, OperatorName},
    request::{Answer, Presence},
};
use uuid::Uuid;

use super::{Handlers, stopping};
use crate::{console::Opening, serial_log::LogQuestion};

/// What somebody wants of a console.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wants {
    /// To look.
    Look,
    /// To type.
    Type {
        /// Even if another does.
        force: bool,
    },
}

impl Handlers {
    /// The machine that is meant, on a host that is up, whether it runs or not.
    async fn reachable(&self, name: DomainName, host: Option<HostName>) -> Result<(HostName, VmTask, bool), Fault> {
        let found = self.fleet.with(move |fleet| {
            let (entry, domain) = fleet.find(&name, host.as_ref())?;
            let (host, presence) = (entry.enrolled.name.clone(), fleet.presence(entry, Instant::now()));
            let vm = VmTask { name: domain.name.clone(), uuid: domain.uuid };
            match presence {
                Presence::Up => Ok((host, vm, domain.state.is_active())),
                Presence::Suspect | Presence::Down | Presence::Pending => {
                    let message = format!("{name} is on host {host}, which is {}", presence.as_str());
                    Err(Fault::new(Code::HostDown, message).about(host.to_string()))
                }
            }
        });
        found.await.ok_or_else(stopping)?
    }

    pub(super) async fn running(&self, name: DomainName, host: Option<HostName>) -> Result<(HostName, VmTask), Fault> {
        let (host, vm, active) = self.reachable(name, host).await?;
        if active {
            return Ok((host, vm));
        }
        let message = format!("{} is off, and has no console to look at", vm.name);
        Err(Fault::new(Code::WrongState, message).about(vm.name.to_string()))
    }

    pub(super) async fn open_console(
        self: &Arc<Self>,
        by: &OperatorName,
        id: Uuid,
        (host, vm): (HostName, VmTask),
        wants: Wants,
    ) -> Result<Answer, Fault> {
        let (writes, force) = match wants {
            Wants::Look => (false, false),
            Wants::Type { force } => (true, force),
        };
        let opening = Opening { id, by: by.clone(), host, vm, writes, force };
        self.consoles.open(opening).await.map(Answer::Console)
    }

    pub(super) async fn log(
        &self,
        name: DomainName,
        host: Option<HostName>,
        question: LogQuestion,
    ) -> Result<Answer, Fault> {
        let (host, vm, _) = self.reachable(name, host).await?;
        self.logs.ask(host, vm, question).await.map(Answer::VmLog)
    }
}
