//! Tells the client worker what this host has: what changed as soon as the hypervisor says so, and everything now and then.
//!
//! One task looks, compares and sends. It looks where the hypervisor tells of a change, a moment after the first of several; and when the
//! [`InventoryHandle`] tells it that a job changed a domain; the job's report is then said right after the change, in the same message, so
//! that its end is never known before its effect. What nobody tells (leases, a change that was missed) is found by looking now and then: in
//! small portions, so that what is told meanwhile need not wait for thousands of domains.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use maglica_proto::{
    change::Change,
    fault::chain,
    host::{HostAnswer, HostRequest},
    inventory::{Accel, Inventory},
    name::DomainName,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    hypervisor::{
        Host,
        agent::Heard,
        happenings::{Happened, Happenings},
        inventory::{Depth, Named, Scanner},
    },
    link::{Link, LinkError},
};

/// How many domains one message carries: 500 of some 700 bytes stay well under its limit.
const PART: usize = 500;
/// How long a job's report waits for the look at its effect. A libvirt that is away is told of later.
const TELL_LIMIT: Duration = Duration::from_secs(5);
/// With so many changed domains a change has a message of its own, for reports are long too.
const BESIDE: usize = 50;
/// How many reports one message carries.
const REPORTS: usize = 8;

/// What is told comes in groups: a start is three events within two milliseconds.
const SETTLE: Duration = Duration::from_millis(10);
/// At most so often is looked at what is told: a storm of events costs a twentieth of this host's attention, and one look each.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// How many domains are read anew at a time when nobody told of them.
const PORTION: usize = 16;
/// How soon a hypervisor that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// How long a job waits for the KVM probe, which takes five seconds at most once libvirt answers.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

/// Something that is to be said after a change, and who wants the answer.
struct After {
    request: HostRequest,
    answer: oneshot::Sender<HostAnswer>,
}

enum Message {
    Changed(DomainName, After),
    Look(DomainName),
    Resend,
}

/// The handle.
#[derive(Clone)]
pub struct InventoryHandle {
    messages: mpsc::UnboundedSender<Message>,
    revision: Arc<AtomicU64>,
    accel: watch::Receiver<Accel>,
    seen: watch::Receiver<Option<Arc<Inventory>>>,
    scanner: Scanner,
}

impl InventoryHandle {
    /// What a guest's agent says of its addresses; whether that is new.
    #[must_use]
    pub fn heard(&self, domain: Uuid, addresses: Heard) -> bool {
        self.scanner.heard(domain, addresses)
    }

    /// This domain is to be looked at anew, soon.
    pub fn look_at(&self, domain: DomainName) {
        let _ = self.messages.send(Message::Look(domain));
    }

    /// What the last look saw; changes when that does.
    #[must_use]
    pub fn seen(&self) -> watch::Receiver<Option<Arc<Inventory>>> {
        self.seen.clone()
    }

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

    /// A job changed this domain: has it told what became of it, and `request` right after. None: the request may not
    /// have been heard, and is to be said again.
    pub async fn changed(&self, domain: DomainName, request: HostRequest) -> Option<HostAnswer> {
        let (answer, heard) = oneshot::channel();
        let _ = self.messages.send(Message::Changed(domain, After { request, answer }));
        tokio::time::timeout(TELL_LIMIT, heard).await.ok()?.ok()
    }
}

/// How often it looks without being told.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// For what nobody tells.
    pub poll: Duration,
    /// At everything.
    pub full: Duration,
}

/// Starts the task.
#[must_use]
pub fn start(
    host: Host,
    link: Link,
    accel: watch::Receiver<Accel>,
    transfer: watch::Receiver<Option<SocketAddr>>,
    pace: Pace,
    stop: CancellationToken,
) -> InventoryHandle {
    // Unbounded, for the senders must not wait; a message comes once a job or heartbeat.
    let (messages, receiver) = mpsc::unbounded_channel();
    let revision = Arc::new(AtomicU64::new(0));
    let (see, seen) = watch::channel(None);
    let scanner = Scanner::new();
    let handle =
        InventoryHandle { messages, revision: revision.clone(), accel: accel.clone(), seen, scanner: scanner.clone() };
    let happenings = Happenings::new();
    host.listen(happenings.clone());
    let looker = Looker {
        host,
        link,
        accel,
        transfer,
        happenings,
        scanner,
        unsure: true,
        repair: VecDeque::new(),
        sent: None,
        revision,
        next_revision: 1,
        troubled: None,
        see,
    };
    tokio::spawn(looker.run(receiver, pace, stop));
    handle
}

struct Looker {
    host: Host,
    link: Link,
    accel: watch::Receiver<Accel>,
    /// Where transfers are taken.
    transfer: watch::Receiver<Option<SocketAddr>>,
    happenings: Happenings,
    scanner: Scanner,
    /// Anything may have changed since the last look.
    unsure: bool,
    /// The domains that are to be read anew though nobody told of them.
    repair: VecDeque<Uuid>,
    /// What the client worker has, if it has anything.
    sent: Option<Inventory>,
    revision: Arc<AtomicU64>,
    next_revision: u64,
    troubled: Option<String>,
    /// For this host's own use, whether the client worker has heard it or not.
    see: watch::Sender<Option<Arc<Inventory>>>,
}

/// What one look is to do besides what the hypervisor told of, and what is to be said after it.
#[derive(Default)]
struct Wish {
    named: Named,
    after: Vec<After>,
}

impl Looker {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>, pace: Pace, stop: CancellationToken) {
        let (mut next_poll, mut next_full) = (Instant::now(), Instant::now() + pace.full);
        let (mut told, mut looked): (Option<Instant>, Instant) = (None, Instant::now());
        loop {
            let mut wish = Wish::default();
            let next_portion = (!self.repair.is_empty()).then(|| looked + SETTLE);
            let next = [told, next_portion].into_iter().flatten().fold(next_poll.min(next_full), Instant::min);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.happenings.some(), if told.is_none() => {
                    told = Some((Instant::now() + SETTLE).max(looked + BETWEEN_LOOKS));
                    continue;
                }
                () = tokio::time::sleep_until(next) => {}
                accel = self.accel.changed() => if accel.is_err() { return },
                Ok(()) = self.transfer.changed() => {}
                message = messages.recv() => match message {
                    Some(message) => self.sort(message, &mut wish),
                    None => return,
                },
            }
            while let Ok(message) = messages.try_recv() {
                self.sort(message, &mut wish);
            }
            // Whatever woke it: what was told by now is looked at, too.
            told = None;
            let now = Instant::now();
            let poll = now >= next_poll;
            let list = now >= next_full || (poll && !self.happenings.are_told());
            let depth = self.depth(&mut wish.named, poll, list);
            match self.look(depth, wish.after).await {
                Ok(()) => {
                    self.unsure = false;
                    if now >= next_full {
                        next_full = Instant::now() + pace.full;
                        self.repair =
                            self.sent.iter().flat_map(|sent| &sent.domains).map(|domain| domain.uuid).collect();
                    }
                    if self.troubled.take().is_some() {
                        tracing::info!("the inventory is told again");
                    }
                    if poll {
                        next_poll = Instant::now() + pace.poll;
                    }
                }
                Err(why) => {
                    if self.troubled.as_ref() != Some(&why) {
                        tracing::warn!(error = why, "the inventory cannot be told");
                        self.troubled = Some(why);
                    }
                    // What changed while it could not be seen is looked for in full.
                    self.unsure = true;
                    next_poll = Instant::now() + RETRY.min(pace.poll);
                    next_full = next_full.max(next_poll);
                }
            }
            looked = Instant::now();
        }
    }

    fn sort(&mut self, message: Message, wish: &mut Wish) {
        match message {
            Message::Changed(domain, after) => {
                wish.named.names.insert(domain);
                wish.after.push(after);
            }
            Message::Look(domain) => {
                wish.named.names.insert(domain);
            }
            Message::Resend => self.sent = None,
        }
    }

    /// How much to look at: what was told and wished for, a portion of what is repaired; everything if anything may have changed.
    fn depth(&mut self, named: &mut Named, poll: bool, list: bool) -> Depth {
        let Happened { domains, names, pools, networks, everything } = self.happenings.take();
        if everything || self.unsure {
            self.unsure = true;
            self.repair.clear();
            return Depth::Full;
        }
        let mut named = std::mem::take(named);
        named.names.extend(names);
        named.domains.extend(domains);
        named.domains.extend(self.repair.drain(..PORTION.min(self.repair.len())));
        named.pools |= pools || poll;
        named.no_address |= poll;
        named.addresses |= networks;
        if list { Depth::Poll(named) } else { Depth::Named(named) }
    }

    /// Looks, and tells what changed and what is to be said after it. What cannot be said is dropped, and whoever wanted
    /// it said hears so.
    async fn look(&mut self, depth: Depth, mut after: Vec<After>) -> Result<(), String> {
        let accel = self.accel.borrow_and_update().clone();
        let mut inventory = self.scanner.scan(&self.host, accel, depth).await.map_err(|error| chain(&error))?;
        inventory.facts.transfer = *self.transfer.borrow_and_update();
        self.see.send_if_modified(|seen| {
            let modified = seen.as_deref() != Some(&inventory);
            if modified {
                *seen = Some(Arc::new(inventory.clone()));
            }
            modified
        });
        if self.sent.as_ref() != Some(&inventory) {
            let revision = self.next_revision;
            self.next_revision += 1;
            if !self.tell_change(&inventory, revision, &mut after).await? {
                for (part, parts, share) in shares(&inventory) {
                    let request = HostRequest::Inventory { revision, part, parts, inventory: Box::new(share) };
                    self.link.call(request).await.map_err(|error| chain(&error))?;
                }
            }
            self.revision.store(revision, Ordering::Relaxed);
            self.sent = Some(inventory);
        }
        while !after.is_empty() {
            self.tell(Vec::new(), &mut after).await.map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    /// Tells what changed since what was sent last, with the first of what comes after it. False: all is to be told.
    async fn tell_change(&self, inventory: &Inventory, revision: u64, after: &mut Vec<After>) -> Result<bool, String> {
        let Some(sent) = &self.sent else { return Ok(false) };
        let change = Change::between(sent, inventory);
        if change.domains.len() > PART {
            return Ok(false);
        }
        tracing::debug!(revision, domains = change.domains.len(), gone = change.gone.len(), "telling what changed");
        let beside = change.domains.len() <= BESIDE;
        let from = self.revision.load(Ordering::Relaxed);
        let request = HostRequest::InventoryChange { from, revision, change: Box::new(change) };
        let told =
            if beside { self.tell(vec![request], after).await } else { self.link.call(request).await.map(|_| true) };
        match told {
            Ok(told) => Ok(told),
            // It has another revision, or is too old to understand.
            Err(LinkError::Fault(_)) => Ok(false),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Says `first`, and some of what comes after it, in one message. False: `first` ended in a fault, and nothing after
    /// it was looked at.
    async fn tell(&self, first: Vec<HostRequest>, after: &mut Vec<After>) -> Result<bool, LinkError> {
        let rest = after.split_off(REPORTS.min(after.len()));
        let now = std::mem::replace(after, rest);
        let requests = first.iter().cloned().chain(now.iter().map(|after| after.request.clone())).collect();
        let mut answers = self.link.call_all(requests).await?.into_iter();
        let good = answers.by_ref().take(first.len()).filter(|answer| !matches!(answer, HostAnswer::Fault { .. }));
        if good.count() < first.len() {
            after.splice(..0, now);
            return Ok(false);
        }
        for (After { answer, .. }, said) in now.into_iter().zip(answers) {
            // A fault is no answer: it is said again.
            if !matches!(said, HostAnswer::Fault { .. }) {
                let _ = answer.send(said);
            }
        }
        Ok(true)
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
