//! The desk: one thread owns the live jobs and the store. Whatever is asked of it in one moment becomes one commit;
//! nobody is answered before that commit has returned, and when it fails everything is as it was and each asker hears so.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    thread,
    time::SystemTime,
};

use maglica_proto::{
    codec,
    fault::{Code, Fault, chain},
    host::{Denial, Heartbeat, Offer, Report},
    id::JobId,
    job::{HostEvent, HostEventKind, JobEvent, JobRow, JobSpec, JobView, Task},
    name::{DomainName, HostName},
    units::{ByteSize, Timestamp},
};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::{
    record::{JobRecord, NewJob},
    store::{Change, JobStore, StoreError},
};

/// How many commands may wait; beyond it askers wait in turn.
const QUEUE: usize = 4096;
/// How many commands one commit takes at most, so that the first of them does not wait for ever.
const BATCH: usize = 512;
/// How many jobs a heartbeat's answer offers at most: a message has a size limit, and the next heartbeat is soon.
const OFFERS: usize = 64;
/// After this many heartbeats without a job that it should have, a host has forgotten it. One could have crossed the
/// grant on its way.
const FORGOTTEN_AFTER: u8 = 2;

/// The desk does not answer any more, or its store failed.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The thread could not be started.
    #[error("cannot start the job desk's thread")]
    Thread(#[source] std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a heartbeat means for a host's jobs.
#[derive(Debug, Default)]
pub struct Due {
    /// Jobs to take.
    pub offers: Vec<Offer>,
    /// Jobs to stop.
    pub cancels: Vec<JobId>,
    /// Jobs that need no more reporting.
    pub settled: Vec<JobId>,
}

/// What a watcher hears.
pub struct Watched {
    /// The job.
    pub row: JobRow,
    /// Its events from the asked one on.
    pub events: Vec<JobEvent>,
    /// How far it is.
    pub progress: Option<HostEventKind>,
}

type Reply<T> = oneshot::Sender<Result<T, Fault>>;

enum Command {
    Submit(Box<NewJob>, Reply<JobView>),
    Known(JobId, Box<JobSpec>, Reply<Option<JobView>>),
    Cancel(JobId, String, Reply<(JobView, bool)>),
    Accept(HostName, JobId, Reply<Result<(), Denial>>),
    Refuse(HostName, JobId, Fault, Reply<Result<(), Denial>>),
    Progress(HostName, JobId, Vec<HostEvent>, Reply<Result<(), Denial>>),
    Report(HostName, Box<Report>, Reply<Result<(), Denial>>),
    Heartbeat(HostName, Heartbeat, Reply<Due>),
    Silent(HostName),
    Offered(Vec<JobId>, Reply<Vec<(HostName, Offer)>>),
    Unanswered(Reply<Vec<(JobId, HostName)>>),
    OnTheWay(Reply<Vec<(HostName, ByteSize)>>),
    Show(JobId, Reply<JobView>),
    List(u32, Reply<Vec<JobRow>>),
    Watch(JobId, u32, Reply<Watched>),
    Expire(Timestamp),
    Stop,
}

/// The handle to the desk.
#[derive(Clone)]
pub struct Desk {
    commands: mpsc::Sender<Command>,
}

macro_rules! ask {
    ($self:ident, $variant:ident $(, $argument:expr)*) => {{
        let (reply, answer) = oneshot::channel();
        let stopping = || Fault::new(Code::Unavailable, "the client worker is stopping");
        $self.commands.send(Command::$variant($($argument,)* reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }};
}

impl Desk {
    /// Loads the live jobs and starts the thread.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn start(store: Box<dyn JobStore>) -> Result<(Self, thread::JoinHandle<()>), DeskError> {
        let live: BTreeMap<JobId, JobRecord> = store.live()?.into_iter().map(|record| (record.id, record)).collect();
        let (commands, receiver) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new()
            .name("job-desk".to_owned())
            .spawn(move || {
                Owner {
                    live,
                    store,
                    watchers: Vec::new(),
                    stopping: false,
                    missed: HashMap::new(),
                    silent: HashSet::new(),
                    attempts: HashMap::new(),
                }
                .run(receiver)
            })
            .map_err(DeskError::Thread)?;
        Ok((Self { commands }, thread))
    }

    /// Stores a new job. The same id with the same request gives the job that there is.
    ///
    /// # Errors
    /// A fault: another request has the id, or another live job is about the same machine.
    pub async fn submit(&self, new: NewJob) -> Result<JobView, Fault> {
        ask!(self, Submit, Box::new(new))
    }

    /// The job that this same request made earlier, if it did.
    ///
    /// # Errors
    /// A fault: another request has the id.
    pub async fn known(&self, id: JobId, spec: JobSpec) -> Result<Option<JobView>, Fault> {
        ask!(self, Known, id, Box::new(spec))
    }

    /// Asks for a job to be stopped; tells whether its host has to be told.
    ///
    /// # Errors
    /// A fault: no such job, or it is over.
    pub async fn cancel(&self, id: JobId, by: String) -> Result<(JobView, bool), Fault> {
        ask!(self, Cancel, id, by)
    }

    /// A host asks whether it may act.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn accept(&self, host: HostName, id: JobId) -> Result<Result<(), Denial>, Fault> {
        ask!(self, Accept, host, id)
    }

    /// A host will not do a job.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn refuse(&self, host: HostName, id: JobId, fault: Fault) -> Result<Result<(), Denial>, Fault> {
        ask!(self, Refuse, host, id, fault)
    }

    /// A host tells what happened.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn progress(
        &self,
        host: HostName,
        id: JobId,
        events: Vec<HostEvent>,
    ) -> Result<Result<(), Denial>, Fault> {
        ask!(self, Progress, host, id, events)
    }

    /// A host tells how a job ended.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn report(&self, host: HostName, report: Report) -> Result<Result<(), Denial>, Fault> {
        ask!(self, Report, host, Box::new(report))
    }

    /// A host is heard of.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn heartbeat(&self, host: HostName, beat: Heartbeat) -> Result<Due, Fault> {
        ask!(self, Heartbeat, host, beat)
    }

    /// A host is down.
    pub async fn silent(&self, host: HostName) {
        // A stopping desk has no more use for it.
        let _ = self.commands.send(Command::Silent(host)).await;
    }

    /// These jobs are about to be broadcast: gives what to say, of those that still want it.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn offered(&self, jobs: Vec<JobId>) -> Result<Vec<(HostName, Offer)>, Fault> {
        ask!(self, Offered, jobs)
    }

    /// The jobs that no host has taken yet.
    ///
    /// # Errors
    /// A fault if the desk is stopping.
    pub async fn unanswered(&self) -> Result<Vec<(JobId, HostName)>, Fault> {
        ask!(self, Unanswered)
    }

    /// The clones under way that will run: their hosts, and the memory that each will take.
    ///
    /// # Errors
    /// A fault if the desk is stopping.
    pub async fn on_the_way(&self) -> Result<Vec<(HostName, ByteSize)>, Fault> {
        ask!(self, OnTheWay)
    }

    /// A job with its story.
    ///
    /// # Errors
    /// A fault: no such job.
    pub async fn show(&self, id: JobId) -> Result<JobView, Fault> {
        ask!(self, Show, id)
    }

    /// The newest jobs first.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn list(&self, limit: u32) -> Result<Vec<JobRow>, Fault> {
        ask!(self, List, limit)
    }

    /// The events of a job from `after` on; waits until there is one, or the job is over. Give up by dropping it.
    ///
    /// # Errors
    /// A fault: no such job.
    pub async fn watch(&self, id: JobId, after: u32) -> Result<Watched, Fault> {
        ask!(self, Watch, id, after)
    }

    /// The client worker is about to stop: nobody is kept waiting any more.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }

    /// Forgets jobs that were over before this moment.
    pub async fn expire(&self, before: Timestamp) {
        let _ = self.commands.send(Command::Expire(before)).await;
    }
}

struct Watcher {
    id: JobId,
    after: u32,
    progress: Option<HostEventKind>,
    reply: Reply<Watched>,
}

struct Owner {
    live: BTreeMap<JobId, JobRecord>,
    store: Box<dyn JobStore>,
    watchers: Vec<Watcher>,
    /// Watchers are answered at once, as if their time was over: they ask the next client worker.
    stopping: bool,
    /// Heartbeats in a row that lacked a job which its host should have.
    missed: HashMap<JobId, u8>,
    /// Hosts that are down: their jobs are not broadcast, and not said to be.
    silent: HashSet<HostName>,
    /// Broadcasts so far; only numbers for people and logs, so not stored.
    attempts: HashMap<JobId, u32>,
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
    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
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
                let record = self.live.get(id)?;
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
            let stored = self.store.commit(&changes);
            crate::failpoint("store.after-commit");
            stored
        };
        let fault = match stored {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(error = chain(&error), "cannot store; nothing of this batch happened");
                for (id, before) in &batch.before {
                    match before {
                        Some(before) => self.live.insert(*id, before.clone()),
                        None => self.live.remove(id),
                    };
                }
                Some(store_fault(&error))
            }
        };
        self.tell_watchers();
        for id in batch.before.keys() {
            if self.live.get(id).is_some_and(JobRecord::is_over) {
                self.live.remove(id);
                self.missed.remove(id);
                self.attempts.remove(id);
            }
        }
        for answer in batch.answers {
            answer(fault.as_ref());
        }
    }

    /// A live job to change, its present state kept in case the commit fails.
    fn touch<'a>(&'a mut self, id: JobId, batch: &mut Batch) -> Option<&'a mut JobRecord> {
        let record = self.live.get_mut(&id)?;
        batch.before.entry(id).or_insert_with(|| Some(record.clone()));
        Some(record)
    }

    fn find(&self, id: JobId) -> Result<JobRecord, Fault> {
        match self.live.get(&id) {
            Some(record) => Ok(record.clone()),
            None => self.store.job(id).map_err(|error| store_fault(&error))?.ok_or_else(|| no_such_job(id)),
        }
    }

    fn carry_out(&mut self, command: Command, now: Timestamp, batch: &mut Batch) {
        match command {
            Command::Submit(new, reply) => {
                let answer = self.submit(*new, now, batch);
                batch.answer(reply, answer);
            }
            Command::Known(id, spec, reply) => {
                let answer = self.known(id, &spec, batch);
                batch.answer(reply, answer);
            }
            Command::Cancel(id, by, reply) => {
                let answer = match self.touch(id, batch) {
                    Some(record) => record.cancel(&by, now).map(|()| (record.view(), record.wants_cancel())),
                    None => self.find(id).and_then(|mut over| over.cancel(&by, now).map(|()| (over.view(), false))),
                };
                batch.answer(reply, answer);
            }
            Command::Accept(host, id, reply) => {
                let answer = self.host_says(id, batch, |record| record.accept(&host, now));
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
            Command::Heartbeat(host, beat, reply) => {
                let due = self.heartbeat(&host, &beat, now, batch);
                batch.answer(reply, Ok(due));
            }
            Command::Silent(host) => {
                for id in self.jobs_of(&host) {
                    if let Some(record) = self.touch(id, batch) {
                        record.host_silent(now);
                    }
                }
                self.silent.insert(host);
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
            Command::OnTheWay(reply) => {
                let jobs =
                    self.live.values().filter(|record| !record.is_over()).filter_map(|record| match &record.task {
                        Task::Clone(task) if task.spec.start => Some((record.host.clone(), task.memory)),
                        Task::Clone(_) | Task::Start(_) | Task::Stop { .. } | Task::Destroy(_) | Task::Remove(_) => {
                            None
                        }
                    });
                batch.answer(reply, Ok(jobs.collect()));
            }
            Command::Show(id, reply) => {
                let answer = self.find(id).map(|record| record.view());
                batch.answer(reply, answer);
            }
            Command::List(limit, reply) => {
                let answer = self.store.recent(limit).map_err(|error| store_fault(&error));
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
            Command::Expire(before) => match self.store.expire(before) {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "forgot old jobs"),
                Err(error) => tracing::warn!(error = chain(&error), "cannot forget old jobs"),
            },
        }
    }

    fn submit(&mut self, new: NewJob, now: Timestamp, batch: &mut Batch) -> Result<JobView, Fault> {
        if let Some(view) = self.known(new.id, &new.spec, batch)? {
            return Ok(view);
        }
        let vm: DomainName = new.spec.vm();
        if let Some(other) = self.live.values().find(|record| !record.is_over() && record.spec.vm() == vm) {
            let message = format!("{vm} is being worked on by job {} ({})", other.id, other.spec.verb());
            return Err(Fault::new(Code::Conflict, message).about(vm.to_string()));
        }
        let id = new.id;
        batch.digests.insert(id, digest(&new.spec)?);
        batch.before.insert(id, None);
        let record = JobRecord::new(new, now);
        let view = record.view();
        self.live.insert(id, record);
        Ok(view)
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

    fn jobs_of(&self, host: &HostName) -> Vec<JobId> {
        self.live.values().filter(|record| record.host == *host).map(|record| record.id).collect()
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

    fn heartbeat(&mut self, host: &HostName, beat: &Heartbeat, now: Timestamp, batch: &mut Batch) -> Due {
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
        for id in self.jobs_of(host) {
            if beat.held.iter().any(|held| held.job == id) {
                self.missed.remove(&id);
                continue;
            }
            let Some(record) = self.live.get(&id) else { continue };
            if record.wants_offer() {
                if due.offers.len() < OFFERS {
                    due.offers.extend(self.offer(id, now, batch).map(|(_, offer)| offer));
                }
            } else if !record.is_over() {
                let missed = self.missed.entry(id).or_default();
                *missed += 1;
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
            match self.live.get(&watcher.id) {
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
