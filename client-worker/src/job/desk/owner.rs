//! The desk's thread: carries out what waits, commits once, answers; or takes everything back and says so.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant, SystemTime},
};

use maglica_proto::{
    codec,
    fault::{Code, Fault, chain},
    host::{Denial, Heartbeat, Offer},
    id::JobId,
    job::{HostEventKind, JobRow, JobSpec, JobView},
    name::HostName,
    status::StoreStatus,
    units::Timestamp,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{Command, Due, Reply, Running, Watched, commits::Commits, live::Live};
use crate::{
    job::{
        record::{JobRecord, NewJob, Phase, check_new},
        store::{Change, JobStore, StoreError},
    },
    order::Order,
    placement::Coming,
};

/// How many commands one commit takes at most, so that the first of them does not wait for ever.
const BATCH: usize = 512;
/// How many jobs a heartbeat's answer offers at most: a message has a size limit, and the next heartbeat is soon.
const OFFERS: usize = 64;
/// After this many heartbeats without a job that it should have, a host has forgotten it.
const FORGOTTEN_AFTER: u8 = 2;
/// How many old jobs are forgotten at a time: a few milliseconds of the desk's time.
const EXPIRE: u32 = 200;

/// Hears of jobs that are new or in another state.
pub(super) type Tell = Box<dyn Fn(Vec<JobRow>) + Send>;

struct Watcher {
    id: JobId,
    after: u32,
    progress: Option<HostEventKind>,
    reply: Reply<Watched>,
}

pub(super) struct Owner {
    live: Live,
    store: Box<dyn JobStore>,
    watchers: Vec<Watcher>,
    /// Watchers are answered at once, as if their time was over: they ask the next client worker.
    stopping: bool,
    /// When their hosts asked for the jobs that they were granted since the start: what a host said before that knows nothing of
    /// the grant, however late it comes.
    granted: HashMap<JobId, Order>,
    /// Heartbeats in a row that lacked a job which its host should have.
    missed: HashMap<JobId, u8>,
    /// Hosts that are down: their jobs are not broadcast, and not said to be.
    silent: HashSet<HostName>,
    /// Broadcasts so far; only numbers for people and logs, so not stored.
    attempts: HashMap<JobId, u32>,
    commits: Commits,
    tell: Tell,
    /// How long finished jobs are remembered at the least.
    keep: Duration,
    /// Jobs whose ids were made up to here may have been forgotten.
    forgotten: Timestamp,
}

/// Answers an asker, unless the commit failed.
type Answering = Box<dyn FnOnce(Option<&Fault>)>;

/// What was said in one batch: the jobs as they were, and the answers to give once it is stored.
#[derive(Default)]
struct Batch {
    before: BTreeMap<JobId, Option<JobRecord>>,
    digests: HashMap<JobId, [u8; 32]>,
    answers: Vec<Answering>,
}

impl Batch {
    fn answer<T: 'static>(&mut self, reply: Reply<T>, answer: Result<T, Fault>) {
        self.answers.push(Box::new(move |fault| {
            // An asker that went away needs no answer.
            let _ = reply.send(match fault {
                None => answer,
                Some(fault) => Err(fault.clone()),
            });
        }));
    }
}

fn digest(spec: &JobSpec) -> Result<[u8; 32], Fault> {
    let bytes = codec::encode(spec).map_err(|error| Fault::from_error(Code::Internal, &error))?;
    Ok(Sha256::digest(bytes).into())
}

fn no_such_job(id: JobId) -> Fault {
    Fault::new(Code::NotFound, format!("there is no job {id}")).about(id.to_string())
}

fn store_fault(error: &StoreError) -> Fault {
    Fault::new(Code::Unavailable, format!("the client worker's store failed: {}", chain(error)))
}

impl Owner {
    pub(super) fn new(live: Live, store: Box<dyn JobStore>, keep: Duration, tell: Tell) -> Result<Self, StoreError> {
        Ok(Self {
            forgotten: store.forgotten()?,
            keep,
            tell,
            live,
            store,
            watchers: Vec::new(),
            stopping: false,
            granted: HashMap::new(),
            missed: HashMap::new(),
            silent: HashSet::new(),
            attempts: HashMap::new(),
            commits: Commits::default(),
        })
    }

    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut waiting = Vec::with_capacity(BATCH);
        while commands.blocking_recv_many(&mut waiting, BATCH) > 0 {
            let mut batch = Batch::default();
            let now = SystemTime::now().into();
            for command in waiting.drain(..) {
                self.carry_out(command, now, &mut batch);
            }
            self.settle(batch);
        }
    }

    /// Stores what changed, then answers; or takes it all back, and says so.
    fn settle(&mut self, batch: Batch) {
        let changes: Vec<Change<'_>> = batch
            .before
            .iter()
            .filter_map(|(id, before)| {
                let record = self.live.get(*id)?;
                let stored_events = before.as_ref().map_or(0, |before| before.events.len());
                let changed = before
                    .as_ref()
                    .is_none_or(|before| before.phase != record.phase || stored_events != record.events.len());
                changed.then(|| Change { record, stored_events, digest: batch.digests.get(id).copied() })
            })
            .collect();
        let stored = if changes.is_empty() {
            Ok(())
        } else {
            crate::failpoint("store.before-commit");
            let begun = Instant::now();
            let stored = self.store.commit(&changes);
            self.commits.took(begun.elapsed(), stored.is_err());
            crate::failpoint("store.after-commit");
            stored
        };
        let fault = match stored {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(error = chain(&error), "cannot store; nothing of this batch happened");
                for (id, before) in &batch.before {
                    match before {
                        Some(before) => self.live.insert(before.clone()),
                        None => self.live.remove(*id),
                    }
                }
                Some(store_fault(&error))
            }
        };
        let new = |(id, before): (&JobId, &Option<JobRecord>)| {
            let record = self.live.get(*id)?;
            before.as_ref().is_none_or(|before| before.phase != record.phase).then(|| record.row())
        };
        let rows: Vec<JobRow> =
            if fault.is_none() { batch.before.iter().filter_map(new).collect() } else { Vec::new() };
        if !rows.is_empty() {
            (self.tell)(rows);
        }
        self.tell_watchers();
        for id in batch.before.keys() {
            if self.live.get(*id).is_some_and(JobRecord::is_over) {
                self.live.remove(*id);
                self.missed.remove(id);
                self.granted.remove(id);
                self.attempts.remove(id);
            }
        }
        for answer in batch.answers {
            answer(fault.as_ref());
        }
    }

    /// A live job to change, its present state kept in case the commit fails.
    fn touch<'a>(&'a mut self, id: JobId, batch: &mut Batch) -> Option<&'a mut JobRecord> {
        let record = self.live.get_mut(id)?;
        batch.before.entry(id).or_insert_with(|| Some(record.clone()));
        Some(record)
    }

    fn find(&self, id: JobId) -> Result<JobRecord, Fault> {
        match self.live.get(id) {
            Some(record) => Ok(record.clone()),
            None => self.store.job(id).map_err(|error| store_fault(&error))?.ok_or_else(|| no_such_job(id)),
        }
    }

    fn carry_out(&mut self, command: Command, now: Timestamp, batch: &mut Batch) {
        match command {
            Command::Submit(new, reply) => {
                let answer = new.into_iter().map(|new| self.submit(new, now, batch)).collect();
                batch.answer(reply, Ok(answer));
            }
            Command::Known(jobs, reply) => {
                let answer = jobs.iter().map(|job| self.known(job.id, &job.spec, batch).transpose()).collect();
                batch.answer(reply, Ok(answer));
            }
            Command::Cancel(id, by, reply) => {
                let answer = match self.touch(id, batch) {
                    Some(record) => record.cancel(&by, now).map(|()| (record.view(), record.wants_cancel())),
                    None => self.find(id).and_then(|mut over| over.cancel(&by, now).map(|()| (over.view(), false))),
                };
                batch.answer(reply, answer);
            }
            Command::Accept(host, order, id, reply) => {
                let answer = self.host_says(id, batch, |record| record.accept(&host, now));
                if let Ok(Ok(())) = answer {
                    self.granted.insert(id, order);
                }
                batch.answer(reply, answer);
            }
            Command::Refuse(host, id, fault, reply) => {
                let answer = self.host_says(id, batch, |record| record.refuse(&host, fault, now));
                batch.answer(reply, answer);
            }
            Command::Progress(host, id, events, reply) => {
                let answer = self.host_says(id, batch, |record| record.progress(&host, events, now));
                batch.answer(reply, answer);
            }
            Command::Report(host, report, reply) => {
                let answer = self.host_says(report.job, batch, |record| record.report(&host, *report, now));
                batch.answer(reply, answer);
            }
            Command::Heartbeat(host, order, beat, reply) => {
                let due = self.heartbeat(&host, order, &beat, now, batch);
                batch.answer(reply, Ok(due));
            }
            Command::Silent(host) => {
                for id in self.live.of_host(&host) {
                    if let Some(record) = self.touch(id, batch) {
                        record.host_silent(now);
                    }
                }
                self.silent.insert(host);
            }
            Command::Enrolled(hosts) => {
                let shut_out =
                    self.live.values().filter(|record| !hosts.contains(&record.host)).map(|record| record.id);
                for id in shut_out.collect::<Vec<_>>() {
                    if let Some(record) = self.touch(id, batch) {
                        record.host_revoked(now);
                    }
                }
            }
            Command::Offered(ids, reply) => {
                let offers = ids.into_iter().filter_map(|id| self.offer(id, now, batch)).collect();
                batch.answer(reply, Ok(offers));
            }
            Command::Unanswered(reply) => {
                let jobs = self
                    .live
                    .values()
                    .filter(|record| record.wants_offer() && !self.silent.contains(&record.host))
                    .map(|record| (record.id, record.host.clone()));
                batch.answer(reply, Ok(jobs.collect()));
            }
            Command::Coming(reply) => {
                let open = self.live.values().filter(|record| !record.is_over());
                let coming = open.filter_map(|record| Coming::of(&record.host, &record.task)).collect();
                batch.answer(reply, Ok(coming));
            }
            Command::Show(id, reply) => {
                let answer = self.find(id).map(|record| record.view());
                batch.answer(reply, answer);
            }
            Command::Running(id, reply) => {
                let running = self.live.get(id).filter(|record| record.phase == Phase::Running { cancel: false });
                let answer = running.map(|JobRecord { task, host, by, .. }| Running {
                    task: task.clone(),
                    host: host.clone(),
                    by: by.clone(),
                });
                batch.answer(reply, answer.ok_or_else(|| no_such_job(id)));
            }
            Command::List(limit, reply) => {
                let answer = self.store.recent(limit).map_err(|error| store_fault(&error));
                batch.answer(reply, answer);
            }
            Command::Status(reply) => {
                let answer = self.store.counts().map_err(|error| store_fault(&error)).map(|(jobs, size)| {
                    let store = StoreStatus { size, ..self.commits.status() };
                    (jobs, store)
                });
                batch.answer(reply, answer);
            }
            Command::Watch(id, after, reply) => match self.find(id) {
                Ok(record) => {
                    let watcher = Watcher { id, after, progress: record.progress.clone(), reply };
                    if self.stopping || record.is_over() || record.events.len() > after as usize {
                        let answer = watched(&record, after);
                        batch.answer(watcher.reply, Ok(answer));
                    } else {
                        self.watchers.push(watcher);
                    }
                }
                Err(fault) => batch.answer(reply, Err(fault)),
            },
            Command::Stop => self.stopping = true,
            Command::Expire(before, reply) => {
                let answer = self.expire(before).map_err(|error| {
                    tracing::warn!(error = chain(&error), "cannot forget old jobs");
                    store_fault(&error)
                });
                batch.answer(reply, answer);
            }
        }
    }

    fn submit(&mut self, new: NewJob, now: Timestamp, batch: &mut Batch) -> Result<JobView, Fault> {
        if let Some(view) = self.known(new.id, &new.spec, batch)? {
            return Ok(view);
        }
        check_new(new.id, self.forgotten, self.keep, now)?;
        for name in new.spec.names() {
            if let Some(other) = self.live.about(&name).find(|record| !record.is_over() && record.excludes(&new)) {
                let message = format!("{name} is being worked on by job {} ({})", other.id, other.spec.verb());
                return Err(Fault::new(Code::Conflict, message).about(name.to_string()));
            }
        }
        let id = new.id;
        batch.digests.insert(id, digest(&new.spec)?);
        batch.before.insert(id, None);
        let offered = new.reachable && !self.silent.contains(&new.host);
        let mut record = JobRecord::new(new, now);
        if offered {
            // It is about to be broadcast; storing both at once saves a commit on the way to the first step.
            record.offer(now);
        }
        let view = record.view();
        self.live.insert(record);
        Ok(view)
    }

    fn expire(&mut self, before: Timestamp) -> Result<bool, StoreError> {
        let count = self.store.expire(before, EXPIRE)?;
        self.forgotten = self.store.forgotten()?;
        if count > 0 {
            tracing::info!(count, "forgot old jobs");
        }
        Ok(count == EXPIRE)
    }

    fn known(&self, id: JobId, spec: &JobSpec, batch: &Batch) -> Result<Option<JobView>, Fault> {
        let stored = match batch.digests.get(&id) {
            Some(digest) => Some(*digest),
            None => self.store.digest(id).map_err(|error| store_fault(&error))?,
        };
        match stored {
            None => Ok(None),
            Some(stored) if stored == digest(spec)? => self.find(id).map(|record| Some(record.view())),
            Some(_) => Err(Fault::new(Code::Conflict, format!("job {id} exists and asks for something else"))
                .about(id.to_string())),
        }
    }

    fn host_says(
        &mut self,
        id: JobId,
        batch: &mut Batch,
        says: impl FnOnce(&mut JobRecord) -> Result<(), Denial>,
    ) -> Result<Result<(), Denial>, Fault> {
        if let Some(record) = self.touch(id, batch) {
            return Ok(says(record));
        }
        // It is over, or was never heard of; a copy answers the same and is not kept.
        match self.store.job(id) {
            Ok(Some(mut over)) => Ok(says(&mut over)),
            Ok(None) => Ok(Err(Denial::NoSuchJob)),
            Err(error) => Err(store_fault(&error)),
        }
    }

    fn offer(&mut self, id: JobId, now: Timestamp, batch: &mut Batch) -> Option<(HostName, Offer)> {
        let attempt = self.attempts.get(&id).copied().unwrap_or(0) + 1;
        let record = self.touch(id, batch).filter(|record| record.wants_offer())?;
        record.offer(now);
        let offer = Offer { job: id, attempt, task: record.task.clone() };
        let host = record.host.clone();
        self.attempts.insert(id, attempt);
        Some((host, offer))
    }

    fn heartbeat(&mut self, host: &HostName, order: Order, beat: &Heartbeat, now: Timestamp, batch: &mut Batch) -> Due {
        let mut due = Due::default();
        self.silent.remove(host);
        for held in &beat.held {
            match self.touch(held.job, batch) {
                Some(record) if record.host == *host => {
                    record.heard(now);
                    if held.progress.is_some() {
                        record.progress.clone_from(&held.progress);
                    }
                    if record.wants_cancel() {
                        due.cancels.push(held.job);
                    }
                }
                Some(_) | None => due.settled.push(held.job),
            }
        }
        for id in self.live.of_host(host) {
            if beat.held.iter().any(|held| held.job == id) {
                self.missed.remove(&id);
                continue;
            }
            let Some(record) = self.live.get(id) else { continue };
            if record.wants_offer() {
                if due.offers.len() < OFFERS {
                    due.offers.extend(self.offer(id, now, batch).map(|(_, offer)| offer));
                }
            } else if !record.is_over() && self.granted.get(&id).is_none_or(|granted| *granted < order) {
                let missed = self.missed.entry(id).or_default();
                *missed += 1;
                if due.missing.len() < OFFERS {
                    due.missing.push(id);
                }
                if *missed >= FORGOTTEN_AFTER
                    && let Some(record) = self.touch(id, batch)
                {
                    record.forgotten(now);
                }
            }
        }
        due
    }

    fn tell_watchers(&mut self) {
        for watcher in std::mem::take(&mut self.watchers) {
            if watcher.reply.is_closed() {
                continue;
            }
            match self.live.get(watcher.id) {
                Some(record)
                    if self.stopping
                        || record.events.len() > watcher.after as usize
                        || record.progress != watcher.progress
                        || record.is_over() =>
                {
                    let _ = watcher.reply.send(Ok(watched(record, watcher.after)));
                }
                Some(_) => self.watchers.push(watcher),
                None => {
                    let _ = watcher.reply.send(Err(no_such_job(watcher.id)));
                }
            }
        }
    }
}

fn watched(record: &JobRecord, after: u32) -> Watched {
    let events = record.events.iter().skip(after as usize).cloned().collect();
    Watched { row: record.row(), events, progress: record.progress.clone() }
}
