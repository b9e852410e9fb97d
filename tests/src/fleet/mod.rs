//! A simulated fleet: hosts that speak the real bus with keys, invitations, sessions and addresses of their own, but have
//! made-up domains and do every job at once and in memory. The client worker and the command are the real ones; so what
//! is measured or tried against a fleet of a thousand is theirs.
//!
//! | file | owns |
//! | --- | --- |
//! | [`asker`] | an operator who asks the client worker: invites the hosts, submits jobs, follows them |
//! | `host` | one simulated host: heartbeats, inventory, subscription, jobs |
//! | `talk`, `wire` | its sealed conversation, and the connections under it |
//! | [`stock`] | what such a host has, and what a job changes about it; pure |
//! | [`tally`] | what happened in the fleet, counted |
//!
//! Not here: libvirt, ledgers, disks.

pub mod asker;
mod host;
pub mod stock;
mod talk;
pub mod tally;
mod wire;

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use maglica_proto::{config::Config, name::HostName, transport::backoff::scatter};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{task::JoinSet, time::Instant};

use self::{
    asker::Asker,
    host::SimulatedHost,
    talk::Route,
    tally::{Mark, Tally},
};

/// How many images each host has beside its virtual machines.
pub const IMAGES: u32 = 2;
/// How many hosts join at a time.
const JOINING: usize = 32;
/// From look to look at what the hosts have counted.
const LOOK: Duration = Duration::from_millis(2);

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

/// A fleet that was let in; it ends when this is dropped.
pub struct Fleet {
    /// The names of the living hosts.
    pub living: Vec<HostName>,
    /// The names of the dead ones.
    pub dead: Vec<HostName>,
    /// What happened so far.
    pub tally: Arc<Tally>,
    asleep: Vec<SimulatedHost>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// Enrols every host by an invitation of its own. The dead ones tell what they have; the living ones say nothing yet.
    ///
    /// # Errors
    /// The client worker cannot be reached, or does not let a host in; for instance because its name is taken.
    pub async fn enrol(config: &Config, plan: &Plan) -> anyhow::Result<Self> {
        ensure!(plan.dead <= plan.hosts, "{} dead hosts are more than the {} that there are", plan.dead, plan.hosts);
        raise_file_limit().context("cannot raise the limit of open files")?;
        let mut asker = Asker::open(config)?;
        let rep = talk::resolve(&config.client.rep_addr()).await?;
        let publish = talk::resolve(&config.client.pub_addr()).await?;
        let (tally, mut joining) = (Arc::new(Tally::default()), JoinSet::new());
        let mut hosts = Vec::new();
        for number in 0..plan.hosts {
            let name = HostName::new(format!("{}{number:03}.example.jp", plan.prefix))?;
            let stock = stock::inventory(number, plan.domains, IMAGES)?;
            let route = Route { rep, publish, from: wire::address_of(number, rep), server: asker.server() };
            let token = asker.invite(name.clone()).await?;
            if joining.len() >= JOINING {
                hosts.extend(joining.join_next().await.transpose()?.transpose()?);
            }
            let tally = tally.clone();
            joining.spawn(async move {
                let host = SimulatedHost::join(route, name.clone(), token, stock, tally).await;
                anyhow::Ok((number, host.with_context(|| format!("cannot enrol the simulated host {name}"))?, name))
            });
        }
        while let Some(host) = joining.join_next().await {
            hosts.push(host??);
        }
        hosts.sort_by_key(|(number, ..)| *number);
        let mut fleet = Self { living: Vec::new(), dead: Vec::new(), tally, asleep: Vec::new(), tasks: JoinSet::new() };
        for (number, mut host, name) in hosts {
            if number < plan.hosts - plan.dead {
                fleet.asleep.push(host);
                fleet.living.push(name);
            } else {
                host.heartbeat().await.with_context(|| format!("{name} is not heard"))?;
                fleet.dead.push(name);
            }
        }
        Ok(fleet)
    }

    /// Starts the living hosts, each at a random moment within this time.
    pub fn wake(&mut self, within: Duration) {
        for host in self.asleep.drain(..) {
            let pause = scatter(within);
            self.tasks.spawn(async move {
                tokio::time::sleep(pause).await;
                host.run().await;
            });
        }
    }

    /// Enrols and starts a fleet. When it returns, the client worker knows all of them.
    ///
    /// # Errors
    /// As [`Fleet::enrol`], or not all are there after a while.
    pub async fn start(config: &Config, plan: &Plan, within: Duration) -> anyhow::Result<Self> {
        let mut fleet = Self::enrol(config, plan).await?;
        let living = fleet.living.len() as u64;
        fleet.wake(Duration::ZERO);
        fleet.reached(Mark::Ready, living, within).await?;
        Ok(fleet)
    }

    /// Waits until something happened so often in all.
    ///
    /// # Errors
    /// It did not within this time.
    pub async fn reached(&self, mark: Mark, count: u64, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        while self.tally.count(mark) < count {
            let seen = self.tally.count(mark);
            ensure!(Instant::now() < until, "{mark:?}: {seen} of {count} within {within:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until a host has ended, which none does by itself: only a bug of the simulation makes this return.
    pub async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Two connections a host need more files than a process ordinarily may open.
fn raise_file_limit() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
