//! What `maglica.conf` says, checked. How it is read, with defaults and bounds, is in `build`; the same list for people is
//! `etc/maglica.conf.example`.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use super::{ConfigError, machine};
use crate::{name::HostName, net::IpPrefix};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Hosts that the administrator says something about; others may join all the same.
    pub hosts: Vec<ConfiguredHost>,
    /// Where the client worker is found.
    pub client: Client,
    /// Where the client worker listens.
    pub listen: Listen,
    /// The hypervisor of a host.
    pub libvirt: Libvirt,
    /// What must outlive a restart: keys, job store, ledger.
    pub state_dir: PathBuf,
    /// Sockets and locks; empty after a reboot.
    pub run_dir: PathBuf,
    /// The host worker.
    pub host: Host,
    /// The CLI's keys.
    pub operator: Operator,
    /// How long things may take.
    pub timing: Timing,
    /// Finished jobs.
    pub jobs: Jobs,
    /// Logging of both daemons.
    pub log: Log,
}

/// A host and how much of the load it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredHost {
    /// Its name.
    pub name: HostName,
    /// Its weight; a host of weight 20 gets twice the domains of one of weight 10.
    pub weight: u32,
}

/// The weight of a host that is given none, as Maglica always had it.
pub const DEFAULT_WEIGHT: u32 = 10;

/// A host name or an address, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// An address.
    Ip(IpAddr),
    /// A name to resolve.
    Name(HostName),
}

impl ServerAddress {
    /// With this port, as the system's resolver and `connect` want it: IPv6 in brackets.
    #[must_use]
    pub fn with_port(&self, port: u16) -> String {
        match self {
            Self::Ip(ip) => std::net::SocketAddr::new(*ip, port).to_string(),
            Self::Name(name) => format!("{name}:{port}"),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl FromStr for ServerAddress {
    type Err = crate::name::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse().map(Self::Ip).or_else(|_| HostName::new(text).map(Self::Name))
    }
}

/// Where CLI and host workers find the client worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name or address.
    pub host: ServerAddress,
    /// Where it publishes.
    pub pub_port: u16,
    /// Where it answers.
    pub rep_port: u16,
}

impl Client {
    /// `host:port` to subscribe at.
    #[must_use]
    pub fn pub_addr(&self) -> String {
        self.host.with_port(self.pub_port)
    }

    /// `host:port` to ask at.
    #[must_use]
    pub fn rep_addr(&self) -> String {
        self.host.with_port(self.rep_port)
    }
}

/// Where the client worker listens, and to how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address; by default the one that `client.host` names.
    pub address: ServerAddress,
    /// Where it publishes; by default `client.pub_port`.
    pub pub_port: u16,
    /// Where it answers; by default `client.rep_port`.
    pub rep_port: u16,
    /// Connections to one port in all.
    pub max_connections: usize,
    /// Connections from one address to one port.
    pub max_connections_per_address: usize,
    /// Networks that may connect; empty: all.
    pub allow: Vec<IpPrefix>,
}

impl Listen {
    /// `address:port` to publish on.
    #[must_use]
    pub fn pub_addr(&self) -> String {
        self.address.with_port(self.pub_port)
    }

    /// `address:port` to answer on.
    #[must_use]
    pub fn rep_addr(&self) -> String {
        self.address.with_port(self.rep_port)
    }

    /// Whether somebody of this address may connect.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        // An IPv4 peer of a dual-stack socket shows as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        self.allow.is_empty() || self.allow.iter().any(|network| network.contains(address))
    }
}

/// How a host worker reaches its libvirt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libvirt {
    /// libvirt's driver, such as `qemu`.
    pub driver: String,
    /// Accepted as the old tool had it and without effect: each host worker talks to the libvirt of its own machine.
    pub transport: Option<String>,
    /// What follows `driver:///`.
    pub path: String,
}

impl Libvirt {
    /// The URI to connect to.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{}:///{}", self.driver, self.path.trim_start_matches('/'))
    }
}

/// How guests are to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Find out by booting something tiny.
    Auto,
    /// With KVM, unasked.
    Kvm,
    /// In software.
    Emulation,
}

/// The host worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub(super) name: Option<HostName>,
    /// How guests are to run.
    pub accel: Accel,
    /// Jobs at a time.
    pub jobs: usize,
    /// Folders in which programs are looked for before `PATH`.
    pub tool_path: Vec<PathBuf>,
    /// Its address for other hosts and operators; none: the one from which it reaches the client worker.
    pub address: Option<IpAddr>,
    /// Where it takes connections for transfers; 0: nowhere.
    pub transfer_port: u16,
}

impl Host {
    /// The name of this host: the configured one, otherwise the machine's full name.
    ///
    /// # Errors
    /// [`ConfigError::MachineName`] if nothing is configured and the machine's name is not fit.
    pub fn name(&self) -> Result<HostName, ConfigError> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => HostName::new(machine::full_name()).map_err(ConfigError::MachineName),
        }
    }
}

/// Where the CLI has its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Its private key.
    pub key: PathBuf,
    /// The client worker's public key, pinned.
    pub server_key: PathBuf,
}

impl Operator {
    /// Where root of this machine has them, for the daemon that makes them on its first start.
    #[must_use]
    pub fn of_root(state_dir: &Path) -> Self {
        Self { key: state_dir.join("operator/key"), server_key: state_dir.join("operator/server.pub") }
    }

    fn of_user(folder: &Path) -> Self {
        Self { key: folder.join("key"), server_key: folder.join("server.pub") }
    }

    pub(super) fn by_default(state_dir: &Path) -> Self {
        let own = machine::user_config(std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME"));
        match own {
            Some(folder) if !machine::is_root() => Self::of_user(&folder.join("maglica")),
            Some(_) | None => Self::of_root(state_dir),
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// From heartbeat to heartbeat of a host worker.
    pub heartbeat: Duration,
    /// Silence after which a host is suspect.
    pub suspect: Duration,
    /// Silence after which it is down.
    pub down: Duration,
    /// From beat to beat of the client worker.
    pub beat: Duration,
    /// Until an unanswered job is broadcast for the second time; doubles from there.
    pub offer_first: Duration,
    /// From look to look of a host worker at its libvirt.
    pub inventory_poll: Duration,
    /// From whole inventory to whole inventory.
    pub inventory_full: Duration,
}

/// Finished jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jobs {
    /// How long they are kept.
    pub keep: Duration,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// What is logged.
    pub level: LogLevel,
    /// How it is written.
    pub format: LogFormat,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What an administrator must act on.
    Error,
    /// And what should not be.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// And every message.
    Trace,
}

impl LogLevel {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Config {
    /// The weight of a host in placement.
    #[must_use]
    pub fn weight(&self, host: &HostName) -> u32 {
        self.hosts
            .iter()
            .find(|configured| configured.name == *host)
            .map_or(DEFAULT_WEIGHT, |configured| configured.weight)
    }
}
