//! One simulated host: its own key, address and session, heartbeats as often as it is told, its inventory in full whenever
//! it changed, a subscription to what is broadcast to it. It says what a real host worker says, in the same order and with
//! the same pauses. It takes every job that it is offered and reports success at once; what it has not been able to say
//! it says again. Its ledger is its memory.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use maglica_proto::{
    change::Change,
    codec,
    host::{Broadcast, Heartbeat, HostAnswer, HostRequest, Offer, Report},
    id::JobId,
    inventory::Inventory,
    job::{HostEvent, HostEventKind},
    join::{JoinAnswer, JoinRequest},
    key::{KeyPair, Token},
    name::{DomainName, HostName},
    seal::{Kind, header::BEAT_TOPIC},
    transport::backoff::{Backoff, scatter},
};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{
    stock,
    talk::{Channel, Route, Talk},
    tally::{Mark, Tally},
    wire::{self, Wire},
};

/// How many domains one message of the inventory carries, as on a real host.
const PART: usize = 500;
/// What a step that does nothing took, in milliseconds.
const TOOK_MS: u64 = 0;
/// Pauses as on a real host: of the heartbeat and the subscription, and of what is said about a job.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_LONGEST: Duration = Duration::from_secs(5);
const INSIST_LONGEST: Duration = Duration::from_secs(15);
/// Without a beat for this long the connection counts as dead, as on a real host at its default times.
const SILENCE: Duration = Duration::from_secs(15);
/// So much later than now that it is never.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A subscription in a session.
struct Subscription {
    wire: Wire,
    channel: Channel,
    heard: Instant,
}

/// The host.
pub(super) struct SimulatedHost {
    name: HostName,
    route: Route,
    link: Talk,
    tally: Arc<Tally>,
    boot: Uuid,
    inventory: Inventory,
    revision: u64,
    /// Jobs that were done; a broadcast of one that comes late is not done again.
    done: BTreeSet<JobId>,
    subscription: Option<Subscription>,
    /// The topic of the session in which it last tried to listen.
    tried: String,
    /// The topic of the session in which it was last found to be there.
    ready: String,
    /// Within which time it comes back after it lost the client worker.
    spread: Duration,
}

impl SimulatedHost {
    /// Joins by a token, with a new key.
    pub(super) async fn join(
        route: Route,
        name: HostName,
        token: Token,
        inventory: Inventory,
        tally: Arc<Tally>,
    ) -> anyhow::Result<Self> {
        let keys = KeyPair::generate()?;
        let body = codec::encode(&JoinRequest { program: "maglica-simulate".to_owned() })?;
        let mut joining = Talk::new(route, keys.clone(), name.clone(), Some(token));
        match codec::decode(&joining.call(&body).await?)? {
            JoinAnswer::Joined(joined) if joined.name == name.as_str() => {}
            JoinAnswer::Joined(joined) => bail!("joined as {}", joined.name),
            JoinAnswer::Fault { fault } => return Err(fault).context("the client worker did not let it in"),
        }
        Ok(Self {
            link: Talk::new(route, keys, name.clone(), None),
            name,
            route,
            tally,
            boot: Uuid::new_v4(),
            inventory,
            revision: 1,
            done: BTreeSet::new(),
            subscription: None,
            tried: String::new(),
            ready: String::new(),
            spread: Duration::ZERO,
        })
    }

    /// Speaks, listens and works until it is dropped.
    pub(super) async fn run(mut self) {
        let mut beat_at = Instant::now();
        let mut listen_at = Instant::now() + NEVER;
        let (mut beats, mut subscriptions) =
            (Backoff::new(AGAIN_FIRST, AGAIN_LONGEST), Backoff::new(AGAIN_FIRST, AGAIN_LONGEST));
        loop {
            let silent_at = self.subscription.as_ref().map_or(listen_at, |subscription| subscription.heard + SILENCE);
            tokio::select! {
                broadcast = next(&mut self.subscription) => match broadcast {
                    Ok(Some(Broadcast::Offer(offer))) => self.take(offer).await,
                    Ok(Some(Broadcast::Ping { number })) => drop(self.call(&HostRequest::Pong { number }).await),
                    // Whatever it was, it is done already.
                    Ok(
                        Some(
                            Broadcast::Cancel { .. }
                            | Broadcast::Console { .. }
                            | Broadcast::ConsoleEnd { .. }
                            | Broadcast::LogRead { .. },
                        )
                        | None,
                    ) => {}
                    Err(error) => {
                        tracing::debug!(host = %self.name, "the subscription ended: {error:#}");
                        self.subscription = None;
                        listen_at = Instant::now() + scatter(self.spread) + subscriptions.pause();
                    }
                },
                () = sleep_until(silent_at) => {
                    self.subscription = None;
                    listen_at = Instant::now() + NEVER;
                    match self.subscribe().await {
                        Ok(true) => {
                            subscriptions.reset();
                            // What was broadcast before the subscription was missed.
                            beat_at = Instant::now();
                        }
                        Ok(false) => {}
                        Err(error) => {
                            tracing::debug!(host = %self.name, "cannot subscribe: {error:#}");
                            listen_at = Instant::now() + subscriptions.pause();
                        }
                    }
                }
                () = sleep_until(beat_at) => match self.heartbeat().await {
                    Ok(next) => {
                        beats.reset();
                        beat_at = Instant::now() + next;
                    }
                    Err(error) => {
                        tracing::debug!(host = %self.name, "no answer to the heartbeat: {error:#}");
                        beat_at = Instant::now() + beats.pause();
                    }
                },
            }
            if self.in_new_session() {
                self.subscription = None;
                listen_at = Instant::now();
            }
        }
    }

    /// Whether there is a session in which it has not tried to listen.
    fn in_new_session(&self) -> bool {
        self.link.channel().is_some_and(|channel| channel.topic != self.tried)
    }

    /// Listens in the present session, if there is one.
    async fn subscribe(&mut self) -> anyhow::Result<bool> {
        let Some(channel) = self.link.channel().cloned() else { return Ok(false) };
        self.tried.clone_from(&channel.topic);
        let mut wire = Wire::dial(self.route.publish, self.route.from, wire::Kind::Sub).await?;
        wire.subscribe(channel.topic.as_bytes()).await?;
        wire.subscribe(BEAT_TOPIC.as_bytes()).await?;
        self.subscription = Some(Subscription { wire, channel, heard: Instant::now() });
        Ok(true)
    }

    /// Says that it is there, does what it hears, and gives the pause until the next time.
    ///
    /// # Errors
    /// The client worker does not answer, or refuses.
    pub(super) async fn heartbeat(&mut self) -> anyhow::Result<Duration> {
        let beat = Heartbeat { boot: self.boot, held: Vec::new(), inventory: self.revision };
        let HostAnswer::Beat(answer) = self.call(&HostRequest::Heartbeat(beat)).await? else {
            bail!("the heartbeat is answered by something else")
        };
        self.spread = Duration::from_millis(answer.spread_ms.into());
        if answer.want_inventory {
            for request in self.inventory_messages() {
                self.call(&request).await?;
            }
        }
        for offer in answer.offers {
            self.take(offer).await;
        }
        if let (Some(subscription), Some(channel)) = (&self.subscription, self.link.channel())
            && subscription.channel.topic == channel.topic
            && self.ready != channel.topic
        {
            self.ready.clone_from(&channel.topic);
            self.tally.note(Mark::Ready);
        }
        Ok(Duration::from_millis(answer.next_ms.into()))
    }

    fn inventory_messages(&self) -> Vec<HostRequest> {
        let Inventory { facts, pools, domains } = &self.inventory;
        let chunks: Vec<&[_]> = if domains.is_empty() { vec![&[]] } else { domains.chunks(PART).collect() };
        let parts = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let message = |(part, domains): (u32, &[_])| {
            let inventory = Inventory { facts: facts.clone(), pools: pools.clone(), domains: domains.to_vec() };
            HostRequest::Inventory { revision: self.revision, part, parts, inventory: Box::new(inventory) }
        };
        (0..parts).zip(chunks).map(message).collect()
    }

    /// Asks for the job, does it, and tells as a real host does of a job that is over in a moment: what changed and how it
    /// ended, in one message.
    async fn take(&mut self, offer: Offer) {
        let Offer { job, attempt, task } = offer;
        if self.done.contains(&job) {
            return;
        }
        self.tally.note(Mark::Offered);
        if self.insist(&HostRequest::Accept { job, attempt }).await != HostAnswer::Granted {
            return;
        }
        self.tally.note(Mark::Granted);
        self.done.insert(job);
        let note = String::new;
        let kinds = stock::steps(&task).into_iter().flat_map(|step| {
            [HostEventKind::StepStarted { step }, HostEventKind::StepDone { step, took_ms: TOOK_MS, note: note() }]
        });
        let at = std::time::SystemTime::now().into();
        let events: Vec<HostEvent> = (0..).zip(kinds).map(|(seq, what)| HostEvent { seq, at, what }).collect();
        let outcome = match stock::carry_out(&mut self.inventory, job, &task) {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(host = %self.name, %job, "cannot be simulated: {error}");
                return;
            }
        };
        let report = HostRequest::Report(Box::new(Report { job, result: Ok(outcome), events }));
        let requests = vec![self.change(&task.vm()), report.clone()];
        let told = match self.call(&HostRequest::Several { requests }).await {
            Ok(HostAnswer::Several { answers }) => answers == [HostAnswer::Stored, HostAnswer::Stored],
            Ok(_) | Err(_) => false,
        };
        if !told {
            // The client worker does not know what was before, or was not there: all that there is, then the report.
            for request in self.inventory_messages() {
                self.insist(&request).await;
            }
            self.insist(&report).await;
        }
        self.tally.note(Mark::Stored);
    }

    /// What became of a domain.
    fn change(&mut self, vm: &DomainName) -> HostRequest {
        let (from, mut change) = (self.revision, Change::default());
        self.revision += 1;
        match self.inventory.domains.iter().find(|domain| domain.name == *vm) {
            Some(domain) => change.domains.push(domain.clone()),
            None => change.gone.push(vm.clone()),
        }
        HostRequest::InventoryChange { from, revision: self.revision, change: Box::new(change) }
    }

    /// Says something until there is an answer.
    async fn insist(&mut self, request: &HostRequest) -> HostAnswer {
        let mut again = Backoff::new(AGAIN_FIRST, INSIST_LONGEST);
        loop {
            match self.call(request).await {
                Ok(answer) => return answer,
                Err(error) => tracing::debug!(host = %self.name, "no answer, saying it again: {error:#}"),
            }
            tokio::time::sleep(again.pause()).await;
        }
    }

    async fn call(&mut self, request: &HostRequest) -> anyhow::Result<HostAnswer> {
        match codec::decode(&self.link.call(&codec::encode(request)?).await?)? {
            HostAnswer::Fault { fault } => Err(fault).context("the client worker could not serve the request"),
            answer @ (HostAnswer::Beat(_)
            | HostAnswer::Granted
            | HostAnswer::Denied { .. }
            | HostAnswer::Source(_)
            | HostAnswer::Vouched(_)
            | HostAnswer::Stored
            | HostAnswer::Several { .. }
            | HostAnswer::Line { .. }) => Ok(answer),
        }
    }
}

/// What is broadcast next; none for the beat. Waits for ever where there is no subscription. Cancel-safe.
async fn next(subscription: &mut Option<Subscription>) -> anyhow::Result<Option<Broadcast>> {
    let Some(Subscription { wire, channel, heard }) = subscription else { return std::future::pending().await };
    let message = wire.next().await?;
    *heard = Instant::now();
    if message.frame(0) == Some(BEAT_TOPIC.as_bytes()) {
        return Ok(None);
    }
    let payload = message.frame(1).context("a broadcast without a payload")?;
    Ok(Some(codec::decode(&channel.session.open(Kind::Broadcast, payload)?.body)?))
}
