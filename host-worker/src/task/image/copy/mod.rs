//! Copy: an image of another host's, fetched from there.
//!
//! ```text
//! check ─▶ transfer ─▶ define
//!  ask     fetch,       rename, define
//!          partial names
//! ```
//! Until *define* everything that exists has the job's id in its name. What breaks goes on where it was: the connection within the
//! job, the host worker after its next start. A crash within *define* is taken back, one after it finds the image there.

mod define;
mod fetch;
mod plan;

use maglica_proto::{
    fault::{Code, Fault},
    job::{CopyTask, ImageOutcome, Outcome, Step},
    name::PoolName,
    units::ByteSize,
};

use self::plan::Plan;
use crate::task::{TaskContext, Trail, Undo, step::step};

const KIND: &str = "image-copy";

/// Copies from the beginning.
pub(super) async fn run(task: &CopyTask, cx: &TaskContext) -> Result<Outcome, Fault> {
    finish(task, cx, Trail::new(cx), None).await
}

/// Ends what a crash interrupted.
pub(super) async fn recover(
    task: &CopyTask,
    done: &[Step],
    undo: &[Undo],
    cx: &TaskContext,
    decide: impl Fn(&str),
) -> Result<Outcome, Fault> {
    let trail = Trail::found(cx, undo);
    let defined = undo.iter().find_map(|undo| match undo {
        Undo::DeleteVolume { pool, file: Some(_), .. } => Some(pool.clone()),
        Undo::DeleteVolume { file: None, .. }
        | Undo::UndefinePartial { .. }
        | Undo::UndefineDomain { .. }
        | Undo::DestroyDomain { .. }
        | Undo::RemoveFile { .. }
        | Undo::DeleteUnattached { .. }
        | Undo::Deleted { .. } => None,
    });
    let Some(pool) = defined else {
        decide("go on with what is here");
        return finish(task, cx, trail, plan::earlier(undo)).await;
    };
    if done.contains(&Step::Define)
        && let Some(size) = define::size_of(task, cx).await?
    {
        decide("the image was defined: it is there");
        return outcome(task, size, &pool);
    }
    decide("the image was not finished: take everything back");
    let left = trail.take_back().await;
    let back = if left.is_empty() { "everything was taken back" } else { "not everything could be taken back" };
    let message = format!("the host worker was interrupted during the step {}; {back}", Step::Define.as_str());
    Err(Fault { left, ..Fault::new(Code::Unavailable, message).about(task.image.name.as_str()) })
}

async fn finish(
    task: &CopyTask,
    cx: &TaskContext,
    mut trail: Trail<'_>,
    earlier: Option<String>,
) -> Result<Outcome, Fault> {
    match make(task, cx, &mut trail, earlier).await {
        Ok(plan) => outcome(task, plan.total, &plan.pool.name),
        Err(mut fault) => {
            fault.left.extend(trail.take_back().await);
            Err(fault)
        }
    }
}

fn outcome(task: &CopyTask, size: ByteSize, pool: &str) -> Result<Outcome, Fault> {
    let pool = PoolName::new(pool).map_err(|error| Fault::from_error(Code::Hypervisor, &error))?;
    Ok(Outcome::Image(ImageOutcome::Copied { from: task.from.clone(), uuid: task.copy, size, pool }))
}

async fn make(
    task: &CopyTask,
    cx: &TaskContext,
    trail: &mut Trail<'_>,
    earlier: Option<String>,
) -> Result<Plan, Fault> {
    let plan = step(cx, KIND, Step::Check, async {
        let listed = fetch::list(cx).await?;
        let plan = plan::make(task, cx, listed, earlier).await?;
        let note = format!("{} from {} into pool {}", plan.total, task.from, plan.pool.name);
        Ok((plan, note))
    })
    .await?;
    step(cx, KIND, Step::Transfer, async {
        for file in &plan.files {
            trail.intend(Undo::RemoveFile { path: file.partial.to_string_lossy().into_owned() })?;
        }
        let took = fetch::fetch(task, cx, &plan).await?;
        Ok(((), format!("{} from {}{took}", plan.total, task.from)))
    })
    .await?;
    step(cx, KIND, Step::Define, async { Ok(((), define::define(task, cx, &plan, trail).await?)) }).await?;
    Ok(plan)
}
