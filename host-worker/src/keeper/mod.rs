//! Takes the snapshots that schedules want, and deletes those whose time is over: by itself, also while the client worker is away.
//!
//! What there is it knows from the inventory's looks; what is to be done is [`policy`]'s. One machine at a time, and none that a job
//! works on.

pub mod policy;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use maglica_proto::{
    fault::Fault,
    id::JobId,
    inventory::{Accel, Domain, Inventory},
    job::{HostEventKind, Outcome, Step, VmTask},
    name::SnapshotName,
    units::Timestamp,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::policy::{Plan, plan};
use crate::{
    runner::{Means, Runner},
    task::{self, Journal, JournalError, TaskContext, Undo},
};

/// How often it is looked whether something is due, besides each time that the inventory changed.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// After a failure the machine is left alone for so long.
const LEFT_ALONE: Duration = Duration::from_secs(600);

/// Keeps the snapshots until `stop`.
pub async fn run(
    means: Means,
    runner: Runner,
    mut seen: watch::Receiver<Option<Arc<Inventory>>>,
    stop: CancellationToken,
) {
    let mut failed: HashMap<Uuid, Instant> = HashMap::new();
    loop {
        let inventory = seen.borrow_and_update().clone();
        for domain in inventory.iter().flat_map(|inventory| &inventory.domains) {
            let plan = plan(domain, SystemTime::now().into());
            let alone = failed.get(&domain.uuid).is_some_and(|until| Instant::now() < *until);
            if plan.is_empty() || alone || stop.is_cancelled() {
                continue;
            }
            // A job that works on it changes it: it is looked at again afterwards.
            let Some(_claim) = runner.claim(domain.name.clone()).await else { continue };
            match keep(domain, plan, &means, &stop).await {
                Ok(()) => drop(failed.remove(&domain.uuid)),
                Err(fault) => {
                    tracing::warn!(vm = %domain.name, error = %fault, "its snapshots are not as its schedule wants them");
                    failed.insert(domain.uuid, Instant::now() + LEFT_ALONE);
                }
            }
            means.inventory.look_at(domain.name.clone());
        }
        failed.retain(|_, until| Instant::now() < *until);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = seen.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn keep(domain: &Domain, plan: Plan, means: &Means, stop: &CancellationToken) -> Result<(), Fault> {
    let vm = VmTask { name: domain.name.clone(), uuid: domain.uuid };
    let cx = TaskContext {
        job: JobId::generate(),
        host: means.host.clone(),
        accel: Accel::Unknown,
        tools: means.tools.clone(),
        customizer: means.customizer.clone(),
        journal: Arc::new(Unwritten),
        grants: Arc::new(means.link.clone()),
        cancel: stop.clone(),
    };
    for name in &plan.delete {
        delete(&vm, name, &cx).await?;
    }
    if let Some(memory) = plan.take {
        let now: Timestamp = SystemTime::now().into();
        let name = format!("auto-{}", now.as_millis() / 1000);
        done(&vm, task::scheduled_snapshot(&vm, &name, memory, &cx).await?);
        for name in &plan.then_delete {
            delete(&vm, name, &cx).await?;
        }
    }
    Ok(())
}

async fn delete(vm: &VmTask, name: &SnapshotName, cx: &TaskContext) -> Result<(), Fault> {
    task::delete_snapshot(vm, name, cx).await.map(|outcome| done(vm, outcome))
}

fn done(vm: &VmTask, outcome: Outcome) {
    if let Outcome::Changed { note, .. } = outcome {
        tracing::info!(vm = %vm.name, "{note}");
    }
}

/// What the host does by itself is in no ledger: each act is one call of libvirt's, and a look tells whether it was done.
struct Unwritten;

impl Journal for Unwritten {
    fn intend(&self, _: &Undo) -> Result<(), JournalError> {
        Ok(())
    }

    fn step_done(&self, _: Step) {}

    fn event(&self, what: HostEventKind) {
        tracing::debug!(?what, "of a schedule");
    }
}
