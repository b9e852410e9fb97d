//! The admission gate: the only thing of the client worker that listens on TCP.
//!
//! ```text
//! stranger ═TCP═ [allow list · caps] ═ [handshake · whole bounded messages · rates] ═ trunk ═unix═ zeromq socket
//! ```
//!
//! What it is there to stop, each of which ends, blocks or fills a bare `zeromq` socket and needs no key:
//!
//! | | a peer … |
//! | --- | --- |
//! | T1 | claims a frame of a terabyte |
//! | T3, T4 | asks and never reads the answers |
//! | T3b | leaves in the middle of a frame |
//! | T7, T7b | opens connections and says nothing; opens more than there are file descriptors |
//! | T8 | announces the identity of another peer |
//! | T9, T10 | subscribes without end; sends a message without end |
//! | T11 | subscribes to everything and stops reading |
//!
//! Owns who may connect, how many, and the counts of what was refused and why. What one connection may do is in
//! [`maglica_proto::transport`]; sealing, and with it every question of trust, begins behind the gate.

mod accept;
mod addresses;
mod counters;
mod places;
mod trunk;

pub use counters::{GateCounters, GateSnapshot, Refusal};

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maglica_proto::net::IpPrefix;
use maglica_proto::transport::bucket::Rate;
use maglica_proto::transport::budget::Budget;
use maglica_proto::transport::forward::{ForwardLimits, Identity};
use maglica_proto::transport::rules::Role;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Which of the two ports a gate serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// 5556: REQ peers ask, the router behind answers.
    Rep,
    /// 5555: SUB peers listen.
    Pub,
}

impl PortKind {
    fn role(self) -> Role {
        match self {
            Self::Rep => Role::Requester,
            Self::Pub => Role::Subscriber,
        }
    }
}

/// Bounds of one gate.
#[derive(Debug, Clone)]
pub struct GateLimits {
    /// Connections in all. Lowered at bind when the process may not open that many files.
    pub max_connections: usize,
    /// Connections per address (IPv6: per /64, which is what one machine is given).
    pub max_per_address: usize,
    /// The same for loopback, where a whole simulated fleet or many commands come from one address.
    pub max_per_loopback: usize,
    /// Networks that may connect; empty means all. Loopback is not excepted.
    pub allow: Vec<IpPrefix>,
    /// Messages per address; loopback is not limited.
    pub address_rate: Rate,
    /// Bytes of messages under way, all connections together.
    pub max_memory: usize,
    /// Whether a newcomer for whom there is no room takes the place of the oldest connection that nobody vouches for,
    /// rather than being turned away: so connections that prove nothing cannot keep others out.
    pub displace: bool,
    /// Bounds of each connection.
    pub forward: ForwardLimits,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_per_address: 64,
            max_per_loopback: 1024,
            allow: Vec::new(),
            address_rate: Rate { per_second: 20_000.0, burst: 20_000.0 },
            max_memory: 256 << 20,
            displace: false,
            forward: ForwardLimits::default(),
        }
    }
}

/// Both ports share the process.
const GATES_PER_PROCESS: usize = 2;
/// Files the rest of the daemon needs: store, logs, listeners, tools. Without these left, `zeromq`'s own accept loop would spin.
const FILES_RESERVED: usize = 160;
/// Connections that may wait to be taken; the system may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;
/// Words about connections that wait to be carried out.
const WORD_QUEUE: usize = 1024;

/// A bound, not yet running gate.
#[derive(Debug)]
pub struct Gate {
    listener: TcpListener,
    kind: PortKind,
    inner: Arc<PathBuf>,
    limits: Arc<GateLimits>,
    counters: Arc<GateCounters>,
    memory: Arc<Budget>,
    words: (mpsc::Sender<Word>, mpsc::Receiver<Word>),
}

/// On whose behalf a connection is vouched for: a key's bytes, which mean nothing here.
pub type Owner = [u8; 32];

/// What the bus has to say of a connection that our socket knows by its identity.
#[derive(Debug)]
enum Word {
    Kick(Identity),
    Vouch(Identity, Owner),
}

/// Says something of single connections of a running gate.
#[derive(Debug, Clone)]
pub struct GateHandle {
    words: mpsc::Sender<Word>,
}

impl GateHandle {
    /// Closes the connection that our socket knows by `identity`; nothing happens when it is gone already.
    pub async fn kick(&self, identity: Identity) {
        // A gate that has ended has no connections left.
        let _ = self.words.send(Word::Kick(identity)).await;
    }

    /// Who is behind this connection has proven to be `owner`, who is enrolled: it is not displaced.
    pub fn vouch(&self, identity: &[u8], owner: Owner) {
        if let Ok(identity) = Identity::try_from(identity) {
            // A word that is lost leaves the connection as it was, and is said again with the next one.
            let _ = self.words.try_send(Word::Vouch(identity, owner));
        }
    }
}

impl Gate {
    /// Listens on `addr` for the `zeromq` socket that is bound at `inner`.
    ///
    /// # Errors
    /// Those of listening, for instance an address in use.
    pub async fn bind(addr: SocketAddr, kind: PortKind, inner: &Path, mut limits: GateLimits) -> io::Result<Self> {
        let listener = listen(addr)?;
        let affordable = affordable_connections();
        if affordable < limits.max_connections {
            tracing::warn!(
                %addr, wanted = limits.max_connections, affordable,
                "the limit of open files allows fewer connections than configured"
            );
            limits.max_connections = affordable;
        }
        Ok(Self {
            listener,
            kind,
            inner: Arc::new(inner.to_owned()),
            memory: Budget::new(limits.max_memory),
            limits: Arc::new(limits),
            counters: Arc::default(),
            words: mpsc::channel(WORD_QUEUE),
        })
    }

    /// Where the gate listens.
    ///
    /// # Errors
    /// That of the system call.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What was let in and what was refused, also while the gate runs.
    #[must_use]
    pub fn counters(&self) -> Arc<GateCounters> {
        self.counters.clone()
    }

    /// To drop single connections while the gate runs.
    #[must_use]
    pub fn handle(&self) -> GateHandle {
        GateHandle { words: self.words.0.clone() }
    }

    /// Lets peers in until `stop`; then all connections are closed before this returns.
    pub async fn run(self, stop: CancellationToken) {
        accept::Loop::new(self).run(stop).await;
    }
}

/// Raises the process's own limit of open files, within what the system allows, to what two gates with `connections` each need.
/// To be called once before the first [`Gate::bind`]; a limit that stays too low is said there.
///
/// # Errors
/// That of the system call.
pub fn raise_file_limit(connections: usize) -> io::Result<()> {
    let resource = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(resource);
    let wanted = FILES_RESERVED + connections * GATES_PER_PROCESS;
    let wanted = limit.maximum.map_or(wanted as u64, |most| most.min(wanted as u64));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        rustix::process::setrlimit(resource, limit)?;
    }
    Ok(())
}

/// Listens with room for a burst of connections, so that an honest one in it is not told to come again in a second.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As after a restart, while old connections are still dying.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// How many connections the limit of open files leaves room for, at least one.
fn affordable_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    (files.saturating_sub(FILES_RESERVED) / GATES_PER_PROCESS).max(1)
}
