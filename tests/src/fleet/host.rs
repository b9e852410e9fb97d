//! One simulated host: its own key and session, heartbeats as often as it is told, its inventory in full whenever it
//! changed, a subscription to what is broadcast to it. It takes every job that it is offered and reports success at
//! once. Nothing is stored, so a host that loses its connection in the middle of a job has forgotten it.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use maglica_proto::{
    codec,
    config::Config,
    host::{Broadcast, Heartbeat, HostAnswer, HostRequest, Offer, Report},
    id::JobId,
    inventory::Inventory,
    job::{HostEvent, HostEventKind},
    join::{JoinAnswer, JoinRequest},
    key::KeyPair,
    name::HostName,
    seal::{Hello, Kind, PeerKind, header::BEAT_TOPIC},
    transport::{DialLimits, Requester, SealedRequester, Subscriber},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{asker::Asker, stock};

/// How long one round trip may take, as on a real host.
const LIMIT: Duration = Duration::from_secs(10);
/// The pause after something failed.
const PAUSE: Duration = Duration::from_millis(500);
/// How many domains one message of the inventory carries, as on a real host.
const PART: usize = 500;
/// What a step that does nothing took, in milliseconds.
const TOOK_MS: u64 = 0;

/// The host.
pub struct SimulatedHost {
    name: HostName,
    link: SealedRequester,
    /// `address:port` of the publishing port.
    publish: String,
    run_dir: PathBuf,
    boot: Uuid,
    inventory: Inventory,
    revision: u64,
    /// Jobs that were done; a broadcast of one that comes late is not done again.
    done: BTreeSet<JobId>,
}

impl SimulatedHost {
    /// Has `asker` invite it, and joins with a new key. Its private sockets live in `run_dir`.
    ///
    /// # Errors
    /// The client worker cannot be reached or does not let it in.
    pub async fn join(
        config: &Config,
        asker: &mut Asker,
        name: HostName,
        inventory: Inventory,
        run_dir: PathBuf,
    ) -> anyhow::Result<Self> {
        let keys = KeyPair::generate()?;
        let token = asker.invite(name.clone()).await?;
        let server = asker.server();
        let talk = |token| {
            let requester = Requester::new(config.client.rep_addr(), Some(run_dir.clone()), DialLimits::default());
            let hello = Hello::new("maglica-simulate", name.as_str());
            // In memory only, as everything of it.
            SealedRequester::new(requester, keys.clone(), server, PeerKind::Host, hello, token).pinning(|_| true)
        };
        let body = codec::encode(&JoinRequest { program: "maglica-simulate".to_owned() })?;
        match codec::decode(&talk(Some(token)).call(&body, LIMIT).await?)? {
            JoinAnswer::Joined(joined) if joined.name == name.as_str() => {}
            JoinAnswer::Joined(joined) => bail!("joined as {}", joined.name),
            JoinAnswer::Fault { fault } => return Err(fault).context("the client worker did not let it in"),
        }
        let link = talk(None);
        let (publish, boot) = (config.client.pub_addr(), Uuid::new_v4());
        Ok(Self { name, link, publish, run_dir, boot, inventory, revision: 1, done: BTreeSet::new() })
    }

    /// Speaks, listens and works until it is dropped.
    pub async fn run(mut self) {
        loop {
            // A client worker that restarts, or a new session: begin anew.
            if let Err(error) = self.serve().await {
                tracing::warn!(host = %self.name, "{error:#}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// One session: until there is a new one, or something fails.
    async fn serve(&mut self) -> anyhow::Result<()> {
        let (session, welcome) = self.link.session(LIMIT).await?;
        let topic = welcome.topic.clone().context("the session has no topic")?;
        let topics = [topic.into_bytes(), BEAT_TOPIC.as_bytes().to_vec()];
        let mut heard = Subscriber::connect(&self.publish, &topics, Some(&self.run_dir), DialLimits::default()).await?;
        // At once: what was broadcast before the subscription was missed.
        let mut beat = Instant::now();
        loop {
            tokio::select! {
                message = heard.next() => {
                    let (topic, message) = message?;
                    if topic == BEAT_TOPIC.as_bytes() {
                        continue;
                    }
                    let opened = session.open(Kind::Broadcast, &message)?;
                    match codec::decode(&opened.body)? {
                        Broadcast::Offer(offer) => self.take(offer).await?,
                        // Whatever it was, it is done already.
                        Broadcast::Cancel { .. } => {}
                        Broadcast::Ping { number } => drop(self.call(HostRequest::Pong { number }).await?),
                    }
                }
                () = tokio::time::sleep_until(beat) => beat = Instant::now() + self.heartbeat().await?,
            }
            if self.link.session(LIMIT).await?.0.id() != session.id() {
                return Ok(());
            }
        }
    }

    /// Says that it is there, does what it hears, and gives the pause until the next time.
    ///
    /// # Errors
    /// The client worker does not answer, or refuses.
    pub async fn heartbeat(&mut self) -> anyhow::Result<Duration> {
        let beat = Heartbeat { boot: self.boot, held: Vec::new(), inventory: self.revision };
        let HostAnswer::Beat(answer) = self.call(HostRequest::Heartbeat(beat)).await? else {
            bail!("the heartbeat is answered by something else")
        };
        if answer.want_inventory {
            self.tell_inventory().await?;
        }
        for offer in answer.offers {
            self.take(offer).await?;
        }
        Ok(Duration::from_millis(answer.next_ms.into()))
    }

    async fn tell_inventory(&mut self) -> anyhow::Result<()> {
        let Inventory { facts, pools, domains } = self.inventory.clone();
        let chunks: Vec<&[_]> = if domains.is_empty() { vec![&[]] } else { domains.chunks(PART).collect() };
        let parts = u32::try_from(chunks.len())?;
        for (part, domains) in (0..parts).zip(chunks) {
            let inventory = Inventory { facts: facts.clone(), pools: pools.clone(), domains: domains.to_vec() };
            let request =
                HostRequest::Inventory { revision: self.revision, part, parts, inventory: Box::new(inventory) };
            self.call(request).await?;
        }
        Ok(())
    }

    /// Asks for the job, does it, and tells as a real host does: the first step when it begins, what changed, the end.
    async fn take(&mut self, offer: Offer) -> anyhow::Result<()> {
        let Offer { job, attempt, task } = offer;
        if self.done.contains(&job) || self.call(HostRequest::Accept { job, attempt }).await? != HostAnswer::Granted {
            return Ok(());
        }
        self.done.insert(job);
        let note = String::new;
        let kinds = stock::steps(&task).into_iter().flat_map(|step| {
            [HostEventKind::StepStarted { step }, HostEventKind::StepDone { step, took_ms: TOOK_MS, note: note() }]
        });
        let at = std::time::SystemTime::now().into();
        let events: Vec<HostEvent> = (0..).zip(kinds).map(|(seq, what)| HostEvent { seq, at, what }).collect();
        self.call(HostRequest::Progress { job, events: events[..1].to_vec() }).await?;
        let outcome = stock::carry_out(&mut self.inventory, job, &task)?;
        self.revision += 1;
        self.tell_inventory().await?;
        self.call(HostRequest::Report(Box::new(Report { job, result: Ok(outcome), events }))).await?;
        Ok(())
    }

    async fn call(&mut self, request: HostRequest) -> anyhow::Result<HostAnswer> {
        match codec::decode(&self.link.call(&codec::encode(&request)?, LIMIT).await?)? {
            HostAnswer::Fault { fault } => Err(fault).context("the client worker could not serve the request"),
            answer @ (HostAnswer::Beat(_) | HostAnswer::Granted | HostAnswer::Denied { .. } | HostAnswer::Stored) => {
                Ok(answer)
            }
        }
    }
}
