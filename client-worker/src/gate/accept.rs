//! The accept loop: one task owns the table of connections and is told of each one's end.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use maglica_proto::transport::budget::Share;
use maglica_proto::transport::forward::{ForwardError, Identity, Shared, admit, forward, fresh_identity};
use maglica_proto::transport::meter::{Meter, WINDOW};
use maglica_proto::transport::zmtp::Decoder;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::addresses::{Addresses, site};
use super::places::Places;
use super::trunk::Trunk;
use super::{Gate, GateLimits, PortKind, Refusal, Word};

/// Without descriptors `accept` fails at once and again: wait for connections to end instead of turning in circles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many displaced connections may still be ending: each holds files until it has.
const LEAVING: usize = 32;

type Ended = Result<(Id, Result<(), ForwardError>), JoinError>;

struct Live {
    peer: SocketAddr,
    identity: Identity,
    abort: AbortHandle,
}

pub(super) struct Loop {
    gate: Gate,
    trunk: Arc<Trunk>,
    addresses: Addresses,
    tasks: JoinSet<Result<(), ForwardError>>,
    live: HashMap<Id, Live>,
    identities: HashMap<Identity, Id>,
    places: Places,
    leaving: HashSet<Id>,
    /// Strangers must not fill the log.
    log: [Meter; Refusal::ALL.len()],
    pause: Option<Instant>,
}

impl Loop {
    pub(super) fn new(gate: Gate) -> Self {
        Self {
            gate,
            trunk: Arc::default(),
            addresses: Addresses::default(),
            tasks: JoinSet::new(),
            live: HashMap::new(),
            identities: HashMap::new(),
            places: Places::default(),
            leaving: HashSet::new(),
            log: [Meter::new(Instant::now()); Refusal::ALL.len()],
            pause: None,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (trunk, inner, limits, kind) =
            (self.trunk.clone(), self.gate.inner.clone(), self.gate.limits.clone(), self.gate.kind);
        let stopping = stop.clone();
        let carrying = AbortOnDrop(tokio::spawn(async move {
            trunk.run(&inner, kind.role(), &limits.forward, stopping).await;
        }));
        let mut rests = tokio::time::interval(WINDOW);
        loop {
            let pause = self.pause;
            // Ends come first, so that their places are free again for those who wait.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                Some(word) = self.gate.words.1.recv() => self.told(word),
                () = until(pause), if pause.is_some() => self.pause = None,
                _ = rests.tick() => self.say_rest(),
                accepted = self.gate.listener.accept(), if pause.is_none() => self.accepted(accepted),
            }
        }
        drop(carrying);
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
    }

    fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // These concern the one connection that was to be accepted.
                if !matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                ) {
                    self.pause = Some(Instant::now() + ACCEPT_PAUSE);
                }
                self.refused(Refusal::AcceptFailed, None, &error);
                return;
            }
        };
        let limits = self.gate.limits.clone();
        let identity = match fresh_identity() {
            Ok(identity) => identity,
            Err(error) => return self.refused(Refusal::Inner, Some(peer), &error),
        };
        let mut entered = self.addresses.enter(peer.ip(), &limits, Instant::now());
        if let Err(refusal) = entered
            && self.make_room(refusal, peer.ip())
        {
            entered = self.addresses.enter(peer.ip(), &limits, Instant::now());
        }
        let address_rate = match entered {
            Ok(rate) => rate,
            Err(refusal) => return self.refused(refusal, Some(peer), &"not let in"),
        };
        let shared = Shared { memory: Some(Share::new(self.gate.memory.clone())), address_rate };
        self.gate.counters.opened();
        let abort = self.tasks.spawn(serve(stream, self.gate.kind, self.trunk.clone(), identity, limits, shared));
        let live = Live { peer, identity, abort };
        let id = live.abort.id();
        self.places.enter(id, site(peer.ip()));
        self.identities.insert(identity, id);
        self.live.insert(id, live);
    }

    /// Ends the oldest connection that has proven nothing, so that a newcomer has its place. False if there is none.
    fn make_room(&mut self, refusal: Refusal, newcomer: IpAddr) -> bool {
        let of = (refusal == Refusal::AddressLimit).then(|| site(newcomer));
        let full = matches!(refusal, Refusal::AddressLimit | Refusal::TotalLimit);
        if !full || !self.gate.limits.displace || self.leaving.len() >= LEAVING {
            return false;
        }
        let Some(id) = self.places.displace(of) else { return false };
        let Some(live) = self.forget(id) else { return false };
        live.abort.abort();
        self.leaving.insert(id);
        self.refused(Refusal::Displaced, Some(live.peer), &"a newcomer took its place");
        true
    }

    fn forget(&mut self, id: Id) -> Option<Live> {
        let live = self.live.remove(&id)?;
        self.places.leave(id);
        self.identities.remove(&live.identity);
        self.addresses.leave(live.peer.ip());
        self.gate.counters.gone();
        Some(live)
    }

    fn ended(&mut self, ended: Ended) {
        let (id, end) = match ended {
            Ok((id, end)) => (id, Some(end)),
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a connection's task panicked");
                }
                (error.id(), None)
            }
        };
        self.leaving.remove(&id);
        let Some(live) = self.forget(id) else {
            return;
        };
        match end {
            None => {}
            Some(Ok(())) => self.gate.counters.closed(),
            Some(Err(error)) => self.refused((&error).into(), Some(live.peer), &error),
        }
    }

    fn told(&mut self, word: Word) {
        let of = |identity: &Identity| self.identities.get(identity).copied();
        match word {
            Word::Kick(identity) => {
                if let Some(live) = of(&identity).and_then(|id| self.live.get(&id)) {
                    live.abort.abort();
                    let peer = live.peer;
                    self.refused(Refusal::Kicked, Some(peer), &"dropped");
                }
            }
            Word::Vouch(identity, owner) => {
                if let Some(id) = of(&identity) {
                    self.places.vouch(id, owner);
                }
            }
        }
    }

    fn refused(&mut self, refusal: Refusal, peer: Option<SocketAddr>, why: &dyn std::fmt::Display) {
        self.gate.counters.refused(refusal);
        let Some(left_out) = self.log[refusal as usize].note(Instant::now()) else { return };
        let (port, kind) = (self.gate.kind, refusal.name());
        let peer = peer.map(|peer| tracing::field::display(peer.ip()));
        if refusal.is_ordinary() {
            tracing::debug!(?port, kind, peer, left_out, error = %why, "gate refused a peer");
        } else {
            tracing::info!(?port, kind, peer, left_out, error = %why, "gate refused a peer");
        }
    }

    fn say_rest(&mut self) {
        let (port, now) = (self.gate.kind, Instant::now());
        for refusal in Refusal::ALL {
            if let Some(left_out) = self.log[refusal as usize].rest(now) {
                tracing::info!(?port, kind = refusal.name(), left_out, "gate refused more of the same kind");
            }
        }
    }
}

/// One connection from its first byte to its end.
async fn serve(
    stream: TcpStream,
    kind: PortKind,
    trunk: Arc<Trunk>,
    identity: Identity,
    limits: Arc<GateLimits>,
    shared: Shared,
) -> Result<(), ForwardError> {
    let admitted = admit(stream, kind.role(), &limits.forward).await?;
    // Only now does a stranger cost our own socket anything.
    let lane = trunk.lane(identity, limits.forward.handshake).await?;
    let name = lane.name();
    forward(admitted, lane, Decoder::new(limits.forward.zmtp), name, &limits.forward, shared).await
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// Ends a task with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
