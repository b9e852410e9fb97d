//! The network between the daemons, as bad as the plan wants it: each cable is a relay that knows ZMTP's frames, so that it can lose,
//! delay, repeat and damage whole messages, and cut or swallow the stream.
//!
//! ```text
//! host worker or client ─▶ Cable (a port of its own) ─▶ client worker       one for each port and peer
//! ```
//! What happens to a message is drawn from the seed, the cable and the message's number on it.

mod carry;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{dice::Dice, plan::fault::Weather};

/// What a cable does at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mood {
    /// What happens to messages.
    pub(crate) weather: Weather,
    /// What the daemon says disappears.
    pub(crate) hole_up: bool,
    /// What is said to the daemon disappears.
    pub(crate) hole_down: bool,
    /// Nobody is let through.
    pub(crate) refuse: bool,
    /// Counts up when all connections are to end.
    pub(crate) resets: u64,
}

/// Which port is behind a cable: where one lost message is made good by the next, and where the peer waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// 5556.
    Rep,
    /// 5555.
    Pub,
}

/// A cable.
#[derive(Clone)]
pub(crate) struct Cable {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    seed: u64,
    port: Port,
    address: SocketAddr,
    to: SocketAddr,
    mood: watch::Sender<Mood>,
    connections: AtomicU64,
    injected: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Cable {
    /// Begins to relay from a port of `at` to `to`.
    ///
    /// # Errors
    /// It cannot listen.
    pub(crate) async fn start(name: String, seed: u64, port: Port, at: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((at, 0)).await?;
        let inner = Inner {
            name,
            seed,
            port,
            address: listener.local_addr()?,
            to,
            mood: watch::Sender::new(Mood::default()),
            connections: AtomicU64::new(0),
            injected: Arc::default(),
        };
        let cable = Self { inner: Arc::new(inner) };
        tokio::spawn(cable.clone().accept(listener));
        Ok(cable)
    }

    /// Where to connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Changes what it does. One that swallowed bytes and stops doing so ends its connections, which are of no more use.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Mood)) {
        self.inner.mood.send_modify(|mood| {
            let before = *mood;
            change(mood);
            let opened = (before.hole_up && !mood.hole_up) || (before.hole_down && !mood.hole_down);
            if opened || (mood.refuse && !before.refuse) {
                mood.resets += 1;
            }
        });
    }

    /// From now on everything passes.
    pub(crate) fn calm(&self) {
        self.change(|mood| *mood = Mood { resets: mood.resets, ..Mood::default() });
    }

    /// How often it did what.
    pub(crate) fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.inner.injected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn accept(self, listener: TcpListener) {
        // Ends with the runtime of the run.
        while let Ok((near, _)) = listener.accept().await {
            if self.inner.mood.borrow().refuse {
                continue;
            }
            let Ok(far) = TcpStream::connect(self.inner.to).await else { continue };
            let number = self.inner.connections.fetch_add(1, Ordering::Relaxed);
            let dice = |side: &str| Dice::new(self.inner.seed, &format!("{} {number} {side}", self.inner.name));
            carry::carry(near, far, &self, dice("up"), dice("down"));
        }
    }

    fn count(&self, what: &'static str) {
        *self.inner.injected.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }
}
