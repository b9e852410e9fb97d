//! The desk: one thread owns the live jobs and the store. Whatever is asked of it in one moment becomes one commit;
//! nobody is answered before that commit has returned, and when it fails everything is as it was and each asker hears so.

mod commits;
mod live;
mod owner;

use std::{collections::BTreeSet, thread, time::Duration};

use maglica_proto::{
    fault::{Code, Fault},
    host::{Denial, Heartbeat, Offer, Report},
    id::JobId,
    job::{HostEvent, HostEventKind, JobEvent, JobRow, JobView, Task},
    name::HostName,
    request::Submission,
    status::{JobCount, StoreStatus},
    units::Timestamp,
};
use tokio::sync::{mpsc, oneshot};

use self::{live::Live, owner::Owner};
use super::{
    record::NewJob,
    store::{JobStore, StoreError},
};
use crate::{order::Order, placement::Coming};

/// How many commands may wait; beyond it askers wait in turn.
const QUEUE: usize = 4096;

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
    /// Jobs that it should hold and does not.
    pub missing: Vec<JobId>,
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

/// A job that its host works on.
#[derive(Debug, Clone)]
pub struct Running {
    /// What its host was told.
    pub task: Task,
    /// Its host.
    pub host: HostName,
    /// Who asked for it.
    pub by: String,
}

type Reply<T> = oneshot::Sender<Result<T, Fault>>;

enum Command {
    Submit(Vec<NewJob>, Reply<Vec<Result<JobView, Fault>>>),
    Known(Vec<Submission>, Reply<Vec<Option<Result<JobView, Fault>>>>),
    Cancel(JobId, String, Reply<(JobView, bool)>),
    Accept(HostName, Order, JobId, Reply<Result<(), Denial>>),
    Refuse(HostName, JobId, Fault, Reply<Result<(), Denial>>),
    Progress(HostName, JobId, Vec<HostEvent>, Reply<Result<(), Denial>>),
    Report(HostName, Box<Report>, Reply<Result<(), Denial>>),
    Heartbeat(HostName, Order, Heartbeat, Reply<Due>),
    Silent(HostName),
    Enrolled(BTreeSet<HostName>),
    Offered(Vec<JobId>, Reply<Vec<(HostName, Offer)>>),
    Unanswered(Reply<Vec<(JobId, HostName)>>),
    Coming(Reply<Vec<Coming>>),
    Show(JobId, Reply<JobView>),
    Running(JobId, Reply<Running>),
    List(u32, Reply<Vec<JobRow>>),
    Status(Reply<(Vec<JobCount>, StoreStatus)>),
    Watch(JobId, u32, Reply<Watched>),
    Expire(Timestamp, Reply<bool>),
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
    /// Loads the live jobs and starts the thread. `keep` is how long finished jobs are remembered at the least; `tell` hears of
    /// each job that is new or in another state, once that is stored, and must not wait.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn start(
        store: Box<dyn JobStore>,
        keep: Duration,
        tell: impl Fn(Vec<JobRow>) + Send + 'static,
    ) -> Result<(Self, thread::JoinHandle<()>), DeskError> {
        let live = Live::new(store.live()?);
        let owner = Owner::new(live, store, keep, Box::new(tell))?;
        let (commands, receiver) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new()
            .name("job-desk".to_owned())
            .spawn(move || owner.run(receiver))
            .map_err(DeskError::Thread)?;
        Ok((Self { commands }, thread))
    }

    /// Stores new jobs, each as if alone: the same id with the same request gives the job that there is; a fault if
    /// another request has the id, or another live job is about the same machine.
    ///
    /// # Errors
    /// A fault of the store: none of them is stored.
    pub async fn submit(&self, new: Vec<NewJob>) -> Result<Vec<Result<JobView, Fault>>, Fault> {
        ask!(self, Submit, new)
    }

    /// For each, the job that this same request made earlier, if it did; a fault if another request has the id.
    ///
    /// # Errors
    /// A fault if the desk is stopping.
    pub async fn known(&self, jobs: Vec<Submission>) -> Result<Vec<Option<Result<JobView, Fault>>>, Fault> {
        ask!(self, Known, jobs)
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
    pub async fn accept(&self, host: HostName, order: Order, id: JobId) -> Result<Result<(), Denial>, Fault> {
        ask!(self, Accept, host, order, id)
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
    pub async fn heartbeat(&self, host: HostName, order: Order, beat: Heartbeat) -> Result<Due, Fault> {
        ask!(self, Heartbeat, host, order, beat)
    }

    /// A job that its host works on.
    ///
    /// # Errors
    /// A fault: there is none of this id that runs.
    pub async fn running(&self, id: JobId) -> Result<Running, Fault> {
        ask!(self, Running, id)
    }

    /// A host is down.
    pub async fn silent(&self, host: HostName) {
        // A stopping desk has no more use for it.
        let _ = self.commands.send(Command::Silent(host)).await;
    }

    /// These are the hosts that are let in: jobs of others end, for nobody will ever speak of them.
    pub async fn enrolled(&self, hosts: BTreeSet<HostName>) {
        // A stopping desk hears it at the next start.
        let _ = self.commands.send(Command::Enrolled(hosts)).await;
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

    /// The clones under way.
    ///
    /// # Errors
    /// A fault if the desk is stopping.
    pub async fn coming(&self) -> Result<Vec<Coming>, Fault> {
        ask!(self, Coming)
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

    /// How many jobs there are in each state, and how the store is.
    ///
    /// # Errors
    /// A fault of the store.
    pub async fn status(&self) -> Result<(Vec<JobCount>, StoreStatus), Fault> {
        ask!(self, Status)
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

    /// Forgets some of the jobs that were over before this moment: few enough that nobody waits for it. Tells whether
    /// there are more.
    ///
    /// # Errors
    /// A fault of the store, or the desk is stopping.
    pub async fn expire(&self, before: Timestamp) -> Result<bool, Fault> {
        ask!(self, Expire, before)
    }
}

#[cfg(test)]
mod tests;
