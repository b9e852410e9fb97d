//! Where runs take place: a cloud whose hosts have joined once, and whose stores are as new for each run. Joining takes longer than a
//! run, and is tested elsewhere.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use maglica_proto::config::keyfile;
use maglica_tests::{
    cloud::{Cloud, host_name},
    daemon::Daemon,
};
use serde_json::Value;

use crate::{
    clients::Pass,
    clocks::Clock,
    disks::Disk,
    hypervisor::Hypervisor,
    network::Cable,
    nodes::{Calm, Node},
};

/// How long a host may be silent before it counts as down, in these runs.
pub(crate) const DOWN: Duration = Duration::from_millis(1_400);

/// A place for runs with so many hosts.
pub(crate) struct Stage {
    cloud: Cloud,
    hosts: usize,
    /// In the order client worker, host 0, host 1 …
    disks: Vec<Option<Arc<Disk>>>,
}

/// The cables of one host.
#[derive(Clone)]
pub(crate) struct Cables {
    /// To 5556.
    pub(crate) rep: Cable,
    /// To 5555.
    pub(crate) publish: Cable,
}

impl Stage {
    /// Makes one: the client worker's key, an operator, and the hosts' enrolment, which are kept.
    ///
    /// # Errors
    /// Something does not come up.
    pub(crate) fn make(hypervisors: &[Arc<Hypervisor>], hosts: usize) -> anyhow::Result<Self> {
        let mut builder = Cloud::builder()
            .hosts(hosts)
            .libvirt("test+unix", "")
            .set("/timing/suspect_ms", 700)
            .set("/timing/down_ms", u64::try_from(DOWN.as_millis())?)
            .set("/timing/inventory_poll_ms", 200);
        for (index, hypervisor) in hypervisors.iter().enumerate().take(hosts) {
            builder = builder.set_of_host(index, "/libvirt/path", hypervisor.path());
        }
        let mut cloud = builder.prepare();
        let mut disks = Vec::new();
        for place in std::iter::once(cloud.state_dir(0).join("client-worker"))
            .chain((0..hosts).map(|host| cloud.state_dir(host).join("host-worker")))
        {
            disks.push(if Disk::possible() { Some(Arc::new(Disk::mount(&place)?)) } else { None });
        }
        cloud.client_worker.start();
        cloud.wait_answers();
        for host in 0..hosts {
            cloud.join(host);
        }
        cloud.client_worker.stop();
        let stage = Self { cloud, hosts, disks };
        for place in stage.states() {
            copy(&place, &stage.kept(&place))?;
        }
        Ok(stage)
    }

    /// The folders that hold what a daemon must not forget.
    fn states(&self) -> Vec<PathBuf> {
        let host_worker = |host| self.cloud.state_dir(host).join("host-worker");
        std::iter::once(self.cloud.state_dir(0).join("client-worker")).chain((0..self.hosts).map(host_worker)).collect()
    }

    fn kept(&self, state: &Path) -> PathBuf {
        let name = state.strip_prefix(self.cloud.path("")).unwrap_or(state).to_string_lossy().replace('/', "-");
        self.cloud.path("kept").join(name)
    }

    /// Everything that is not a store: logs and configurations, for the report of a run that failed.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cloud.path("")
    }

    /// Where a run writes its logs; emptied for each.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn logs(&self) -> anyhow::Result<PathBuf> {
        let logs = self.cloud.path("logs");
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs)?;
        Ok(logs)
    }

    /// Where the client worker listens.
    pub(crate) const fn ports(&self) -> (std::net::SocketAddr, std::net::SocketAddr) {
        (self.cloud.rep_addr(), self.cloud.pub_addr())
    }

    /// The address on which a run's cables listen.
    pub(crate) const fn address(&self) -> IpAddr {
        self.cloud.rep_addr().ip()
    }

    /// Root's keys.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn pass(&self) -> anyhow::Result<Pass> {
        let of = self.cloud.state_dir(0).join("operator");
        let run_dir = self.cloud.path("clients");
        fs::create_dir_all(&run_dir)?;
        Ok(Pass {
            keys: keyfile::read_private(&of.join("key"))?,
            server: keyfile::read_public(&of.join("server.pub"))?,
            run_dir,
        })
    }

    /// The daemons of a run, with stores as new, none started; each host behind its cables.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn daemons(&self, logs: &Path, cables: &[Cables], clocks: bool) -> anyhow::Result<Vec<Node>> {
        for place in self.states() {
            empty(&place)?;
            copy(&self.kept(&place), &place)?;
        }
        let mut nodes = Vec::new();
        for index in 0..=self.hosts {
            let (name, program, config, store) = match index.checked_sub(1) {
                None => {
                    let store = self.states()[0].join("jobs.db");
                    ("client-worker".to_owned(), "maglica-client-worker", self.cloud.config(), store)
                }
                Some(host) => {
                    listen_behind(&self.states()[index].join("server.json"), &cables[host])?;
                    let config = self.cloud.hosts[host].config().to_owned();
                    (host_name(host), "maglica-host-worker", config, self.states()[index].join("ledger.db"))
                }
            };
            let log = logs.join(format!("{name}.log"));
            let clock = if clocks { Some(Clock::new(logs.join(format!("{name}.clock")))?) } else { None };
            nodes.push(Node {
                daemon: Daemon::new(program, config, log.clone()),
                name,
                log,
                store,
                disk: self.disks[index].clone(),
                clock,
                calm: Calm::default(),
                disk_trouble: false,
                deaths: Vec::new(),
                peak_kib: 0,
                starts: 0,
                trapped: false,
                full: false,
                was_full: false,
            });
        }
        Ok(nodes)
    }
}

fn listen_behind(file: &Path, cables: &Cables) -> anyhow::Result<()> {
    let mut server: Value = serde_json::from_slice(&fs::read(file).context("a host's enrolment")?)?;
    server["rep"] = cables.rep.address().to_string().into();
    server["pub"] = cables.publish.address().to_string().into();
    fs::write(file, server.to_string())?;
    Ok(())
}

fn empty(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

/// Copies a folder with all below it; rights are kept.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
