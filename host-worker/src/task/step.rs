//! Runs one step: told, timed, written down, and made to fail where a test wants it to.

use std::{future::Future, time::Instant};

use maglica_proto::{
    fault::Fault,
    job::{HostEventKind, Step},
};

use super::TaskContext;

/// Runs `work` as a step of a task of this kind. It gives a value and what there is to say of it.
///
/// The work itself sees to stopping when the job is cancelled: it is never dropped half way, for a call that libvirt has begun
/// ends whether it is waited for or not, and must have ended before it is taken back.
pub(super) async fn step<T>(
    cx: &TaskContext,
    kind: &str,
    step: Step,
    work: impl Future<Output = Result<(T, String), Fault>>,
) -> Result<T, Fault> {
    let began = Instant::now();
    cx.journal.event(HostEventKind::StepStarted { step });
    let result = async {
        cx.stop_if_cancelled()?;
        failpoint(cx, kind, step, "before").await?;
        // On the heap: the steps' futures hold whole programs' output buffers, and nest.
        let result = Box::pin(work).await?;
        failpoint(cx, kind, step, "after").await?;
        cx.journal.step_done(step);
        Ok(result)
    }
    .await;
    match result {
        Ok((value, note)) => {
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            cx.journal.event(HostEventKind::StepDone { step, took_ms, note });
            Ok(value)
        }
        Err(fault) => {
            cx.journal.event(HostEventKind::StepFailed { step, fault: Fault::clone(&fault) });
            Err(fault)
        }
    }
}

/// A place where a test can make a step fail, hold until it is cancelled, or end the process: `clone.volumes.before` and the like,
/// with the action `return(TEXT)`, `return(hold)` or `return(abort)`.
#[cfg(feature = "failpoints")]
async fn failpoint(cx: &TaskContext, kind: &str, step: Step, when: &str) -> Result<(), Fault> {
    use maglica_proto::fault::Code;

    let name = format!("{kind}.{}.{when}", step.as_str());
    match fail::eval(&name, |text| text.unwrap_or_default()) {
        None => Ok(()),
        Some(text) if text == "abort" => std::process::abort(),
        Some(text) if text == "hold" => {
            tracing::info!(job = %cx.job, "held at {name}");
            cx.cancel.cancelled().await;
            Err(super::cancelled())
        }
        Some(text) => Err(Fault::new(Code::Internal, text)),
    }
}

#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unused_async, reason = "the other form waits")]
async fn failpoint(_: &TaskContext, _: &str, _: Step, _: &str) -> Result<(), Fault> {
    Ok(())
}
