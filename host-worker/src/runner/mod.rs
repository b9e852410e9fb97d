//! The runner: takes offered jobs, asks for the grant, runs them in bounded number and one a domain, and reports.
//!
//! ```text
//! offer ─▶ asking (in the ledger) ─▶ granted ─▶ waiting ─▶ running ─▶ ended ─▶ reported ─▶ acknowledged
//!            └─ denied: forgotten      after a restart: recovered, then as running
//! ```
//! [`ledger`] is what survives a crash, [`journal`] a job's part of it, [`claim`] keeps jobs from a machine; [`reporter`] says what happens. One task owns who runs; the [`Runner`] handle
//! tells it things and never waits.

mod claim;
mod journal;
pub mod ledger;
mod reporter;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use maglica_proto::{
    fault::{Code, Fault, chain},
    host::{Denial, Held, HostAnswer, HostRequest, Offer, Report},
    id::JobId,
    inventory::Accel,
    job::{HostEventKind, ImageTask, Outcome, Task},
    name::DomainName,
    transport::backoff::Backoff,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

pub use self::claim::Claim;
use self::{
    journal::JobJournal,
    ledger::{Entry, Ledger, Stage},
    reporter::Reporter,
};
use crate::{
    customize::Customizer,
    hypervisor::Host,
    inventory::InventoryHandle,
    link::Link,
    task::{self, TaskContext},
    tool::ToolPaths,
};

/// The first pause before something is said again to a client worker that did not answer; doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(15);

#[derive(Debug)]
enum Message {
    Offer(Box<Offer>),
    Cancel(JobId),
    Settled(JobId),
    Missing(JobId),
    Held(oneshot::Sender<Vec<Held>>),
    Granted(JobId),
    Forgotten(JobId),
    Ended(JobId),
    Acknowledged(JobId),
    Claim(DomainName, oneshot::Sender<JobId>),
    Release(JobId),
}

/// The handle.
#[derive(Clone)]
pub struct Runner {
    messages: mpsc::UnboundedSender<Message>,
}

/// What jobs are run with.
#[derive(Clone)]
pub struct Means {
    /// To the client worker.
    pub link: Link,
    /// The ledger.
    pub ledger: Ledger,
    /// The hypervisor.
    pub host: Host,
    /// Rewrites guests.
    pub customizer: Arc<dyn Customizer>,
    /// Where programs are.
    pub tools: ToolPaths,
    /// What this host has; told before a job's report, so that no name looks free that is taken.
    pub inventory: InventoryHandle,
}

impl Runner {
    /// Starts the task, which first brings to an end what the ledger holds. `at_once` jobs run at a time. After `stop`
    /// nothing new begins; jobs that run are stopped where they are and recovered at the next start.
    #[must_use]
    pub fn start(means: Means, entries: Vec<Entry>, at_once: usize, stop: CancellationToken) -> Self {
        // Unbounded, for the senders must not wait; what comes in is bounded by the client worker's own offers, and
        // each is a few hundred bytes.
        let (messages, receiver) = mpsc::unbounded_channel();
        let runner = Self { messages };
        let mut owner = Owner {
            means,
            runner: runner.clone(),
            at_once,
            jobs: BTreeMap::new(),
            waiting: VecDeque::new(),
            busy: HashMap::new(),
            tracker: TaskTracker::new(),
            stop,
        };
        for entry in entries {
            owner.restore(entry);
        }
        tokio::spawn(owner.run(receiver));
        runner
    }

    /// A job is offered.
    pub fn offer(&self, offer: Offer) {
        self.tell(Message::Offer(Box::new(offer)));
    }

    /// A job is to be stopped.
    pub fn cancel(&self, job: JobId) {
        self.tell(Message::Cancel(job));
    }

    /// A job has ended for the client worker.
    pub fn settled(&self, job: JobId) {
        self.tell(Message::Settled(job));
    }

    /// The client worker misses a job that this host should hold.
    pub fn missing(&self, job: JobId) {
        self.tell(Message::Missing(job));
    }

    /// The jobs that are not acknowledged.
    pub async fn held(&self) -> Vec<Held> {
        let (reply, answer) = oneshot::channel();
        self.tell(Message::Held(reply));
        answer.await.unwrap_or_default()
    }

    fn tell(&self, message: Message) {
        // The task ends only with the host worker.
        let _ = self.messages.send(message);
    }
}

/// What the ledger held when a job is begun again.
struct Interrupted {
    done: Vec<maglica_proto::job::Step>,
    undo: Vec<task::Undo>,
}

struct Job {
    task: Task,
    stage: Stage,
    cancel: CancellationToken,
    progress: Option<watch::Receiver<Option<HostEventKind>>>,
    interrupted: Option<Interrupted>,
}

struct Owner {
    means: Means,
    runner: Runner,
    at_once: usize,
    jobs: BTreeMap<JobId, Job>,
    waiting: VecDeque<JobId>,
    /// The domains that are worked on, and by which job.
    busy: HashMap<DomainName, JobId>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Owner {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        self.start_waiting();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                message = messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
            }
        }
    }

    fn restore(&mut self, entry: Entry) {
        let Entry { id, task, stage, done, undo } = entry;
        let interrupted = matches!(stage, Stage::Granted).then_some(Interrupted { done, undo });
        let job = Job { task, stage, cancel: CancellationToken::new(), progress: None, interrupted };
        tracing::info!(job = %id, ?stage, "found in the ledger");
        self.jobs.insert(id, job);
        match stage {
            Stage::Asking => self.ask(id, 0),
            Stage::Granted => self.waiting.push_back(id),
            Stage::Ended => self.report(id, None),
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Offer(offer) => self.offer(*offer),
            Message::Cancel(id) => {
                if let Some(job) = self.jobs.get(&id) {
                    tracing::info!(job = %id, "is to be stopped");
                    job.cancel.cancel();
                }
            }
            Message::Settled(id) => match self.jobs.get(&id).map(|job| job.stage) {
                // Cancelled before it was granted, or its report is stored though the answer was lost.
                Some(Stage::Asking | Stage::Ended) => self.forget(id),
                // It runs, whatever the client worker thinks: it goes on and reports.
                Some(Stage::Granted) | None => {}
            },
            // On its way, or ended here: then it is told again.
            Message::Missing(id) if !self.jobs.contains_key(&id) => self.tell_again(id, false),
            Message::Missing(_) => {}
            Message::Held(reply) => {
                let held = self.jobs.iter().map(|(id, job)| Held {
                    job: *id,
                    progress: job.progress.as_ref().and_then(|progress| progress.borrow().clone()),
                });
                let _ = reply.send(held.collect());
            }
            Message::Granted(id) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.stage = Stage::Granted;
                    self.waiting.push_back(id);
                    self.start_waiting();
                }
            }
            Message::Forgotten(id) => self.forget(id),
            Message::Ended(id) => {
                self.busy.retain(|_, job| *job != id);
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.stage = Stage::Ended;
                    job.progress = None;
                    let vm = job.task.vm();
                    self.report(id, Some(vm));
                }
                self.start_waiting();
            }
            Message::Acknowledged(id) => {
                self.jobs.remove(&id);
            }
            // No answer is a no; a claim that nobody waits for any more is none.
            Message::Claim(vm, reply) if !self.busy.contains_key(&vm) => {
                let id = JobId::generate();
                if reply.send(id).is_ok() {
                    self.busy.insert(vm, id);
                }
            }
            Message::Claim(..) => {}
            Message::Release(id) => {
                self.busy.retain(|_, by| *by != id);
                self.start_waiting();
            }
        }
    }

    fn offer(&mut self, offer: Offer) {
        let Offer { job: id, attempt, task } = offer;
        if self.jobs.contains_key(&id) {
            return;
        }
        match self.means.ledger.begin(id, &task) {
            Ok(true) => {}
            // Settled before: a broadcast that was long under way, or a client worker with the store of yesterday.
            Ok(false) => return self.tell_again(id, true),
            Err(error) => {
                tracing::error!(job = %id, error = chain(&error), "cannot be written into the ledger; it will be offered again");
                return;
            }
        }
        tracing::info!(job = %id, attempt, vm = %task.vm(), "offered");
        let job =
            Job { task, stage: Stage::Asking, cancel: CancellationToken::new(), progress: None, interrupted: None };
        self.jobs.insert(id, job);
        self.ask(id, attempt);
    }

    /// Says how a job ended that was settled here, to a client worker that does not know so (any more).
    /// It is never begun again, whatever the client worker thinks.
    fn tell_again(&self, id: JobId, offered: bool) {
        let (link, ledger) = (self.means.link.clone(), self.means.ledger.clone());
        self.spawn(id, async move {
            let request = match ledger.report(id) {
                Ok(Some(report)) => HostRequest::Report(Box::new(report)),
                Ok(None) if offered => {
                    let message = "this host was offered the job before, and it was settled without being run here";
                    HostRequest::Refuse { job: id, fault: Fault::new(Code::OutcomeUnknown, message) }
                }
                // Never heard of: the client worker ends it by itself.
                Ok(None) => return,
                Err(error) => {
                    return tracing::error!(job = %id, error = chain(&error), "its end cannot be read from the ledger");
                }
            };
            tracing::info!(job = %id, "telling again how it ended");
            // Once: the client worker asks again for as long as it wants to know.
            if let Err(error) = link.call(request).await {
                tracing::debug!(job = %id, error = chain(&error), "not heard");
            }
        });
    }

    /// Runs this beside the others; everything that is logged on the way has the job's id.
    fn spawn(&self, id: JobId, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(work.instrument(tracing::info_span!("job", job = %id)));
    }

    /// Asks for the grant until there is an answer.
    fn ask(&self, id: JobId, attempt: u32) {
        let (link, ledger, runner, stop) =
            (self.means.link.clone(), self.means.ledger.clone(), self.runner.clone(), self.stop.clone());
        self.spawn(id, async move {
            crate::failpoint("accept.before");
            let Some(answer) = insist(&link, &stop, || HostRequest::Accept { job: id, attempt }).await else { return };
            crate::failpoint("accept.after");
            match answer {
                HostAnswer::Granted => match ledger.grant(id) {
                    Ok(()) => runner.tell(Message::Granted(id)),
                    Err(error) => {
                        tracing::error!(job = %id, error = chain(&error), "the grant cannot be written into the ledger");
                        let fault = Fault::from_error(Code::Internal, &error);
                        let report = Report { job: id, result: Err(fault), events: Vec::new() };
                        let _ = insist(&link, &stop, || HostRequest::Report(Box::new(report.clone()))).await;
                        runner.tell(Message::Forgotten(id));
                    }
                },
                HostAnswer::Denied { why } => {
                    tracing::info!(job = %id, ?why, "not granted");
                    runner.tell(Message::Forgotten(id));
                }
                HostAnswer::Beat(_)
                | HostAnswer::Stored
                | HostAnswer::Source(_)
                | HostAnswer::Vouched(_)
                | HostAnswer::Several { .. }
                | HostAnswer::Line { .. }
                | HostAnswer::Fault { .. } => runner.tell(Message::Forgotten(id)),
            }
        });
    }

    fn forget(&mut self, id: JobId) {
        self.jobs.remove(&id);
        if let Err(error) = self.means.ledger.acknowledge(id) {
            tracing::warn!(job = %id, error = chain(&error), "cannot be marked as settled in the ledger");
        }
    }

    /// Starts what waits, in order, as far as there is room and its domain is free.
    fn start_waiting(&mut self) {
        let mut kept = VecDeque::new();
        while let Some(id) = self.waiting.pop_front() {
            let Some(job) = self.jobs.get(&id) else { continue };
            let vm = job.task.vm();
            if self.busy.len() >= self.at_once || self.busy.contains_key(&vm) {
                kept.push_back(id);
            } else {
                self.busy.insert(vm, id);
                self.start(id);
            }
        }
        self.waiting = kept;
    }

    fn start(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (reporter, progress) = Reporter::start(id, self.means.link.clone());
        job.progress = Some(progress);
        let journal = Arc::new(JobJournal::new(self.means.ledger.clone(), id, reporter));
        let cancel = job.cancel.clone();
        let (task, interrupted, means, runner, stop) =
            (job.task.clone(), job.interrupted.take(), self.means.clone(), self.runner.clone(), self.stop.clone());
        self.spawn(id, async move {
            let work = async {
                // Only what makes a machine needs to know, and a libvirt that is away would be waited for.
                let accel = match &task {
                    Task::Clone(_) | Task::Image(ImageTask::Copy(_)) => means.inventory.accel().await,
                    Task::Start(_)
                    | Task::Stop { .. }
                    | Task::Destroy(_)
                    | Task::Remove(_)
                    | Task::Change { .. }
                    | Task::Snapshot { .. }
                    | Task::Image(_) => Accel::Unknown,
                };
                let context = TaskContext {
                    job: id,
                    host: means.host.clone(),
                    accel,
                    tools: means.tools.clone(),
                    customizer: means.customizer.clone(),
                    journal: journal.clone(),
                    grants: Arc::new(means.link.clone()),
                    cancel,
                };
                match &interrupted {
                    Some(Interrupted { done, undo }) => task::recover(&task, done, undo, &context).await,
                    None => task::run(&task, &context).await,
                }
            };
            let result = tokio::select! {
                // Stopping is not cancelling: the ledger has it, and the next start recovers it.
                () = stop.cancelled() => return,
                result = work => result,
            };
            // A call that was cut off by the stop looks like one that failed; it is no result.
            if stop.is_cancelled() {
                return;
            }
            crate::failpoint("ended.before");
            end(id, &result, &journal).await;
            // All that it had to say on the way is in its report now.
            drop(journal);
            runner.tell(Message::Ended(id));
        });
    }

    /// Reports until it is stored; what the job changed is shown before anybody hears that it ended.
    fn report(&self, id: JobId, changed: Option<DomainName>) {
        let (link, ledger, runner, stop) =
            (self.means.link.clone(), self.means.ledger.clone(), self.runner.clone(), self.stop.clone());
        let inventory = self.means.inventory.clone();
        self.spawn(id, async move {
            let report = match ledger.report(id) {
                Ok(Some(report)) => report,
                Ok(None) => return runner.tell(Message::Acknowledged(id)),
                Err(error) => {
                    tracing::error!(job = %id, error = chain(&error), "its report cannot be read from the ledger");
                    return;
                }
            };
            crate::failpoint("report.before");
            let request = || HostRequest::Report(Box::new(report.clone()));
            let told = match changed {
                Some(vm) => inventory.changed(vm, request()).await,
                None => None,
            };
            let answer = match told {
                Some(answer) => answer,
                None => match insist(&link, &stop, request).await {
                    Some(answer) => answer,
                    None => return,
                },
            };
            crate::failpoint("report.after");
            if let HostAnswer::Denied { why: why @ (Denial::NotYours | Denial::NoSuchJob | Denial::Other) } = answer {
                tracing::warn!(job = %id, ?why, "the client worker does not want its report");
            }
            match ledger.acknowledge(id) {
                Ok(()) => runner.tell(Message::Acknowledged(id)),
                // Stays held; a heartbeat's answer settles it.
                Err(error) => {
                    tracing::error!(job = %id, error = chain(&error), "cannot be marked as acknowledged in the ledger")
                }
            }
        });
    }
}

/// Writes down how it ended.
async fn end(id: JobId, result: &Result<Outcome, Fault>, journal: &JobJournal) {
    match result {
        Ok(_) => tracing::info!(job = %id, "done"),
        Err(fault) => tracing::warn!(job = %id, error = %fault, left = ?fault.left, "not done"),
    }
    let mut pause = PAUSE_FIRST;
    while let Err(error) = journal.end(result) {
        // The disk is full, say. What was done is done: it must be told, so this does not give up.
        tracing::error!(job = %id, error = chain(&error), "its end cannot be written into the ledger; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Says something until there is an answer; none if the host worker stops.
async fn insist(link: &Link, stop: &CancellationToken, request: impl Fn() -> HostRequest) -> Option<HostAnswer> {
    let mut again = Backoff::new(PAUSE_FIRST, PAUSE_MAX);
    loop {
        tokio::select! {
            () = stop.cancelled() => return None,
            answer = link.call(request()) => match answer {
                Ok(answer) => return Some(answer),
                Err(error) => tracing::debug!(error = chain(&error), "no answer; saying it again"),
            },
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(again.pause()) => {}
        }
    }
}
