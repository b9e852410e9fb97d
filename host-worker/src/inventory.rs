//! Tells the client worker what this host has: whenever a look finds it changed, and in full now and then.
//!
//! One task looks, compares and sends; the [`InventoryHandle`] tells it that a job changed a domain, and waits until the
//! client worker has heard, so that the job's end is never known before its effect.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use maglica_proto::{
    change::Change,
    fault::chain,
    host::HostRequest,
    inventory::{Accel, Inventory},
    name::DomainName,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    hypervisor::{
        Host,
        inventory::{Depth, Scanner},
    },
    link::{Link, LinkError},
};

/// How many domains one message carries: 500 of some 700 bytes stay well under its limit.
const PART: usize = 500;
/// How long a job's end waits for its effect to be told. A client worker that is away hears both later.
const TELL_LIMIT: Duration = Duration::from_secs(5);

/// How long a job waits for the KVM probe, which takes five seconds at most once libvirt answers.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

enum Message {
    Changed(DomainName, oneshot::Sender<()>),
    Resend,
}

/// The handle.
#[derive(Clone)]
pub struct InventoryHandle {
    messages: mpsc::UnboundedSender<Message>,
    revision: Arc<AtomicU64>,
    accel: watch::Receiver<Accel>,
}

impl InventoryHandle {
    /// The revision that was sent last and heard; 0 for none.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// How guests run here; waits a while for the probe, for a machine must not be made for a KVM that does not work.
    pub async fn accel(&self) -> Accel {
        let mut accel = self.accel.clone();
        let decided = accel.wait_for(|accel| *accel != Accel::Unknown);
        match tokio::time::timeout(PROBE_LIMIT, decided).await {
            Ok(Ok(accel)) => accel.clone(),
            Ok(Err(_)) | Err(_) => Accel::Unknown,
        }
    }

    /// The client worker does not have what was sent.
    pub fn resend(&self) {
        let _ = self.messages.send(Message::Resend);
    }

    /// A job changed this domain: returns when the client worker has heard of it, or after a few seconds.
    pub async fn changed(&self, domain: DomainName) {
        let (done, heard) = oneshot::channel();
        let _ = self.messages.send(Message::Changed(domain, done));
        let _ = tokio::time::timeout(TELL_LIMIT, heard).await;
    }
}

/// How often it looks.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From look to look.
    pub poll: Duration,
    /// From whole look to whole look.
    pub full: Duration,
}

/// Starts the task.
#[must_use]
pub fn start(
    host: Host,
    link: Link,
    accel: watch::Receiver<Accel>,
    pace: Pace,
    stop: CancellationToken,
) -> InventoryHandle {
    // Unbounded, for the senders must not wait; a message comes once a job or heartbeat.
    let (messages, receiver) = mpsc::unbounded_channel();
    let revision = Arc::new(AtomicU64::new(0));
    let handle = InventoryHandle { messages, revision: revision.clone(), accel: accel.clone() };
    let looker =
        Looker { host, link, accel, scanner: Scanner::new(), sent: None, revision, next_revision: 1, troubled: None };
    tokio::spawn(looker.run(receiver, pace, stop));
    handle
}

struct Looker {
    host: Host,
    link: Link,
    accel: watch::Receiver<Accel>,
    scanner: Scanner,
    /// What the client worker has, if it has anything.
    sent: Option<Inventory>,
    revision: Arc<AtomicU64>,
    next_revision: u64,
    troubled: Option<String>,
}

impl Looker {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>, pace: Pace, stop: CancellationToken) {
        let mut next_full = Instant::now();
        let mut next_poll = Instant::now();
        loop {
            let (mut changed, mut waiting) = (HashSet::new(), Vec::new());
            let mut sort = |message, sent: &mut Option<Inventory>| match message {
                Message::Changed(domain, done) => {
                    changed.insert(domain);
                    waiting.push(done);
                }
                Message::Resend => *sent = None,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(next_poll) => {}
                accel = self.accel.changed() => if accel.is_err() { return },
                message = messages.recv() => match message {
                    Some(message) => sort(message, &mut self.sent),
                    None => return,
                },
            }
            while let Ok(message) = messages.try_recv() {
                sort(message, &mut self.sent);
            }
            let full = Instant::now() >= next_full;
            let depth = if full { Depth::Full } else { Depth::Poll { changed } };
            match self.look(depth).await {
                Ok(()) => {
                    if full {
                        next_full = Instant::now() + pace.full;
                    }
                    if self.troubled.take().is_some() {
                        tracing::info!("the inventory is told again");
                    }
                }
                Err(why) => {
                    if self.troubled.as_ref() != Some(&why) {
                        tracing::warn!(error = why, "the inventory cannot be told");
                        self.troubled = Some(why);
                    }
                    // What changed while it could not be seen is looked for in full.
                    next_full = Instant::now();
                }
            }
            next_poll = Instant::now() + pace.poll;
            for done in waiting {
                let _ = done.send(());
            }
        }
    }

    async fn look(&mut self, depth: Depth) -> Result<(), String> {
        let accel = self.accel.borrow_and_update().clone();
        let inventory = self.scanner.scan(&self.host, accel, depth).await.map_err(|error| chain(&error))?;
        if self.sent.as_ref() == Some(&inventory) {
            return Ok(());
        }
        let revision = self.next_revision;
        self.next_revision += 1;
        if self.tell_change(&inventory, revision).await? {
            self.revision.store(revision, Ordering::Relaxed);
            self.sent = Some(inventory);
            return Ok(());
        }
        for (part, parts, share) in shares(&inventory) {
            let request = HostRequest::Inventory { revision, part, parts, inventory: Box::new(share) };
            self.link.call(request).await.map_err(|error| chain(&error))?;
        }
        self.revision.store(revision, Ordering::Relaxed);
        self.sent = Some(inventory);
        Ok(())
    }
}

impl Looker {
    /// Tells what changed since what was sent last. False: all is to be told.
    async fn tell_change(&self, inventory: &Inventory, revision: u64) -> Result<bool, String> {
        let Some(sent) = &self.sent else { return Ok(false) };
        let change = Change::between(sent, inventory);
        if change.domains.len() > PART {
            return Ok(false);
        }
        let from = self.revision.load(Ordering::Relaxed);
        match self.link.call(HostRequest::InventoryChange { from, revision, change: Box::new(change) }).await {
            Ok(_) => Ok(true),
            // It has another revision, or is too old to understand.
            Err(LinkError::Fault(_)) => Ok(false),
            Err(error) => Err(chain(&error)),
        }
    }
}

/// The inventory in parts that fit a message; the facts and pools in each, for they are small.
fn shares(inventory: &Inventory) -> Vec<(u32, u32, Inventory)> {
    let chunks: Vec<&[_]> =
        if inventory.domains.is_empty() { vec![&[]] } else { inventory.domains.chunks(PART).collect() };
    let parts = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    (0..parts)
        .zip(chunks)
        .map(|(part, domains)| {
            let share =
                Inventory { facts: inventory.facts.clone(), pools: inventory.pools.clone(), domains: domains.to_vec() };
            (part, parts, share)
        })
        .collect()
}
