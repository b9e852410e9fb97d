//! A simulated fleet: hosts that speak the real bus with keys, invitations and sessions of their own, but have made-up
//! domains and do every job at once and in memory. The client worker and the command are the real ones; so what is
//! measured or tried against a fleet of fifty is theirs.
//!
//! | file | owns |
//! | --- | --- |
//! | [`asker`] | an operator who asks the client worker: invites the hosts, submits jobs, follows them |
//! | [`host`] | one simulated host: heartbeats, inventory, subscription, jobs |
//! | [`stock`] | what such a host has, and what a job changes about it; pure |
//!
//! Not here: libvirt, ledgers, disks.

pub mod asker;
pub mod host;
pub mod stock;

use std::path::Path;

use anyhow::{Context, ensure};
use maglica_proto::{config::Config, name::HostName};
use tokio::task::JoinSet;

use self::{asker::Asker, host::SimulatedHost};

/// How many images each host has beside its virtual machines.
pub const IMAGES: u32 = 2;

/// What fleet there is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Hosts in all, the dead ones among them.
    pub hosts: u32,
    /// The last so many are enrolled and say once what they have, and then nothing more.
    pub dead: u32,
    /// Virtual machines of each host, without its [`IMAGES`].
    pub domains: u32,
    /// The first label of the hosts' names, before their number.
    pub prefix: String,
}

/// A running fleet; it ends when this is dropped.
pub struct Fleet {
    /// The names of the living hosts.
    pub living: Vec<HostName>,
    /// The names of the dead ones.
    pub dead: Vec<HostName>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// Enrols every host by an invitation of its own, has each tell its inventory, and starts the living ones. When it
    /// returns, the client worker knows all of them.
    ///
    /// # Errors
    /// The client worker cannot be reached, or does not let a host in; for instance because its name is taken.
    pub async fn start(config: &Config, run_dir: &Path, plan: &Plan) -> anyhow::Result<Self> {
        ensure!(plan.dead <= plan.hosts, "{} dead hosts are more than the {} that there are", plan.dead, plan.hosts);
        let mut asker = Asker::open(config)?;
        let (mut living, mut dead, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        for number in 0..plan.hosts {
            let name = HostName::new(format!("{}{number:03}.example.jp", plan.prefix))?;
            let stock = stock::inventory(number, plan.domains, IMAGES)?;
            let mut host = SimulatedHost::join(config, &mut asker, name.clone(), stock, run_dir.to_owned())
                .await
                .with_context(|| format!("cannot enrol the simulated host {name}"))?;
            host.heartbeat().await.with_context(|| format!("{name} is not heard"))?;
            if number < plan.hosts - plan.dead {
                living.push(name);
                tasks.spawn(host.run());
            } else {
                dead.push(name);
            }
        }
        Ok(Self { living, dead, tasks })
    }

    /// Waits until a host has ended, which none does by itself: only a bug of the simulation makes this return.
    pub async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
