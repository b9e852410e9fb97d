//! What a host does for a job: one module a kind, four phases each.
//!
//! 1. *check*: everything is looked at, nothing is changed;
//! 2. *do*: steps, each of which writes down how it is taken back before it acts;
//! 3. *undo*, on failure or cancel: in reverse, going on past its own failures and listing what is left;
//! 4. *report*: an [`Outcome`] or a [`Fault`].
//!
//! Who grants jobs, keeps the ledger and reports is the runner; it hands in a [`Journal`]. Every task can be begun again after
//! a crash by [`recover`], which asks libvirt what is so rather than trusting what was meant.

mod change;
mod clone;
mod image;
mod power;
mod remove;
mod snapshot;
mod step;
mod trail;
mod undo;

use std::{path::PathBuf, sync::Arc};

use maglica_proto::{
    fault::{Code, Fault},
    id::JobId,
    inventory::Accel,
    job::{HostEventKind, Outcome, Step, Task, VmTask},
    name::SnapshotName,
};
use tokio_util::sync::CancellationToken;

pub use self::undo::Undo;
use self::{remove::Subject, trail::Trail};
use crate::{
    customize::Customizer,
    hypervisor::{DomainRow, Host, snapshot_xml::Mark},
    tool::{ToolError, ToolPaths},
    transfer::Grants,
};

/// The journal could not be written; nothing may be done that is not in it.
#[derive(Debug, thiserror::Error)]
#[error("the job's journal cannot be written")]
pub struct JournalError {
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Where a job's course is written down. What is intended is on disk when the call returns; what is done is there by the job's end.
pub trait Journal: Send + Sync {
    /// How to take back what is about to be done.
    ///
    /// # Errors
    /// [`JournalError`]; the thing must then not be done.
    fn intend(&self, undo: &Undo) -> Result<(), JournalError>;

    /// A step is done. Whether it can be written down or not, it is.
    fn step_done(&self, step: Step);

    /// Something happened that is stored and reported; progress is reported only.
    fn event(&self, what: HostEventKind);
}

/// What a task works with.
#[derive(Clone)]
pub struct TaskContext {
    /// The job.
    pub job: JobId,
    /// The hypervisor.
    pub host: Host,
    /// How guests run here.
    pub accel: Accel,
    /// Where programs are.
    pub tools: ToolPaths,
    /// Rewrites guests.
    pub customizer: Arc<dyn Customizer>,
    /// Where the course is written down.
    pub journal: Arc<dyn Journal>,
    /// Who may have what of other hosts.
    pub grants: Arc<dyn Grants>,
    /// Fires when the job is to be stopped.
    pub cancel: CancellationToken,
}

impl TaskContext {
    /// The fault of a job that was stopped on request, if it was.
    fn stop_if_cancelled(&self) -> Result<(), Fault> {
        if self.cancel.is_cancelled() { Err(cancelled()) } else { Ok(()) }
    }
}

fn cancelled() -> Fault {
    Fault::new(Code::Cancelled, "the job was cancelled")
}

/// Runs a task from its beginning.
///
/// # Errors
/// [`Fault`] why it was not done; code `cancelled` if `cx.cancel` fired. What it did is then taken back but for what `left` lists.
pub async fn run(task: &Task, cx: &TaskContext) -> Result<Outcome, Fault> {
    match task {
        // On the heap, for the future is large.
        Task::Clone(task) => Box::pin(clone::run(task, cx)).await,
        Task::Start(vm) => power::start(vm, cx).await,
        Task::Stop { vm, timeout_s } => power::stop(vm, *timeout_s, cx).await,
        Task::Destroy(vm) => power::destroy(vm, cx).await,
        Task::Remove(vm) => remove::run(Subject::Machine, vm, cx).await,
        Task::Image(task) => Box::pin(image::run(task, cx)).await,
        Task::Change { vm, change } => Box::pin(change::run(vm, change, &[], cx)).await,
        Task::Snapshot { vm, snapshot, by } => Box::pin(snapshot::run(vm, snapshot, by, cx)).await,
    }
}

/// Takes a snapshot by the machine's own schedule.
///
/// # Errors
/// As [`run`].
pub async fn scheduled_snapshot(vm: &VmTask, name: &str, memory: bool, cx: &TaskContext) -> Result<Outcome, Fault> {
    let mark = Mark { scheduled: true, ..Mark::default() };
    Box::pin(snapshot::create(vm, &snapshot::New { name, description: "", memory, mark }, cx)).await
}

/// Deletes a snapshot whose time is over.
///
/// # Errors
/// As [`run`].
pub async fn delete_snapshot(vm: &VmTask, name: &SnapshotName, cx: &TaskContext) -> Result<Outcome, Fault> {
    Box::pin(snapshot::delete(vm, name, cx)).await
}

/// Brings a task to an end that was interrupted: `done` are the steps that were finished, `undo` what was written down, in order.
/// A clone that was defined goes on; one that was not is taken back. The other tasks look at the world and go on.
///
/// # Errors
/// As [`run`].
pub async fn recover(task: &Task, done: &[Step], undo: &[Undo], cx: &TaskContext) -> Result<Outcome, Fault> {
    let decide = |decision: &str| cx.journal.event(HostEventKind::Resumed { decision: decision.to_owned() });
    match task {
        Task::Clone(task) => Box::pin(clone::recover(task, done, undo, cx, decide)).await,
        Task::Remove(vm) => {
            decide("go on");
            remove::recover(Subject::Machine, vm, undo, cx).await
        }
        Task::Image(task) => Box::pin(image::recover(task, done, undo, cx, decide)).await,
        Task::Start(vm) => go_on(task, vm, true, cx, decide).await,
        Task::Stop { vm, .. } | Task::Destroy(vm) => go_on(task, vm, false, cx, decide).await,
        Task::Change { vm, change } => {
            decide("look how far it came, and go on");
            Box::pin(change::recover(vm, change, done, undo, cx)).await
        }
        Task::Snapshot { vm, snapshot, by } => {
            decide("look how far it came, and go on");
            Box::pin(snapshot::recover(vm, snapshot, by, done, cx)).await
        }
    }
}

/// Goes on switching a machine on or off. What was done before the crash is done, and a cancel that comes now is too late: it would
/// say that nothing was.
async fn go_on(task: &Task, vm: &VmTask, on: bool, cx: &TaskContext, decide: impl Fn(&str)) -> Result<Outcome, Fault> {
    decide("go on");
    let done = find(vm, cx).await.is_ok_and(|row| row.state.is_active() == on);
    let cancel = if done { CancellationToken::new() } else { cx.cancel.clone() };
    Box::pin(run(task, &TaskContext { cancel, ..cx.clone() })).await
}

/// The domain that a task is about, if it is still the one that the operator saw.
async fn find(vm: &VmTask, cx: &TaskContext) -> Result<DomainRow, Fault> {
    let uuid = vm.uuid;
    let found = cx.host.look(format!("looking for {}", vm.name), move |hypervisor| hypervisor.domain(uuid)).await;
    match found {
        Ok(row) if row.name == vm.name.as_str() => Ok(row),
        Ok(row) => {
            Err(Fault::new(Code::Conflict, format!("the virtual machine {} is called {} now", vm.name, row.name))
                .about(vm.name.as_str()))
        }
        Err(error) if error.is_not_found() => {
            Err(Fault::new(Code::NotFound, format!("there is no virtual machine {} on this host", vm.name))
                .about(vm.name.as_str()))
        }
        Err(error) => Err(error.into()),
    }
}

fn tool_fault(error: &(dyn std::error::Error + 'static), tool: Option<&ToolError>) -> Fault {
    let code = match tool {
        Some(ToolError::Missing { .. }) => Code::ToolMissing,
        Some(ToolError::TimedOut { .. }) => Code::Timeout,
        Some(ToolError::Cancelled { .. }) => return cancelled(),
        Some(ToolError::Failed { .. } | ToolError::Io { .. }) | None => Code::ToolFailed,
    };
    Fault::from_error(code, error)
}

/// A folder pool's volume as a file.
fn file_in(folder: &str, name: &str) -> PathBuf {
    PathBuf::from(folder).join(name)
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        Self::from_error(Code::Internal, &error)
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::name::DomainName;

    use super::*;
    use crate::{customize::guestfs::Guestfs, hypervisor::Libvirt, transfer::NoGrants};

    /// Remembers nothing.
    struct Deaf;

    impl Journal for Deaf {
        fn intend(&self, _: &Undo) -> Result<(), JournalError> {
            Ok(())
        }

        fn step_done(&self, _: Step) {}

        fn event(&self, _: HostEventKind) {}
    }

    #[tokio::test]
    async fn a_cancel_after_a_restart_does_not_deny_what_was_done_before_it() {
        let host = Host::new(Arc::new(Libvirt::new("test:///default")));
        // The driver's own machine, which runs.
        let uuid = host.look("looking", |hypervisor| hypervisor.domain_by_name("test")).await.unwrap();
        let vm = VmTask { name: DomainName::new("test").unwrap(), uuid };
        let tools = ToolPaths::with_first(Vec::<PathBuf>::new());
        let cx = TaskContext {
            job: JobId::generate(),
            host,
            accel: Accel::Unknown,
            customizer: Arc::new(Guestfs::new(tools.clone(), PathBuf::new())),
            tools,
            journal: Arc::new(Deaf),
            grants: Arc::new(NoGrants),
            cancel: CancellationToken::new(),
        };
        cx.cancel.cancel();
        let started = recover(&Task::Start(vm.clone()), &[], &[], &cx).await;
        assert_eq!(started, Ok(Outcome::Started { already: true }));
        // What was not done is not done any more.
        assert_eq!(recover(&Task::Destroy(vm.clone()), &[], &[], &cx).await.unwrap_err().code, Code::Cancelled);
        assert_eq!(run(&Task::Start(vm), &cx).await.unwrap_err().code, Code::Cancelled);
    }
}
