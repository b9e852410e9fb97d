//! The last phase, if asked for: waits until the guest's agent answers and asks it who it is.

use std::time::Duration;

use maglica_proto::{
    fault::{Code, Fault},
    job::{CloneTask, GuestAnswer},
};
use tokio::time::{Instant, sleep};

use super::describe;
use crate::{
    hypervisor::{HypervisorError, LOOK_LIMIT, agent},
    task::{TaskContext, cancelled},
};

/// How long one question to the agent may take, in seconds: a busy emulated guest needs one or two.
const ANSWER_LIMIT_S: i32 = 5;
/// How often it is asked: one call of libvirt's, which the agent's absence answers at once.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Waits for at most `wait_s` seconds. A guest that stays silent is no failure; one that goes off is.
pub(super) async fn wait(task: &CloneTask, wait_s: u32, cx: &TaskContext) -> Result<(GuestAnswer, String), Fault> {
    let until = Instant::now() + Duration::from_secs(wait_s.into());
    let mut heard = None;
    loop {
        match ask(task, cx).await {
            Ok(answer) => {
                let complete = matches!(&answer, GuestAnswer::Up { addresses, .. } if !addresses.is_empty());
                heard = Some(answer);
                // The agent can be up before the network is.
                if complete {
                    break;
                }
            }
            Err(error) => {
                still_on(task, cx).await?;
                tracing::debug!(job = %cx.job, %error, "the guest's agent does not answer yet");
            }
        }
        if Instant::now() >= until {
            break;
        }
        tokio::select! {
            () = cx.cancel.cancelled() => return Err(cancelled()),
            () = sleep(ASK_EVERY) => {}
        }
    }
    let answer = heard.unwrap_or(GuestAnswer::Silent { waited_s: wait_s });
    let note = describe(&answer);
    Ok((answer, note))
}

async fn ask(task: &CloneTask, cx: &TaskContext) -> Result<GuestAnswer, HypervisorError> {
    let uuid = task.uuid;
    let (name, interfaces) = cx
        .host
        .call(format!("asking the guest {}", task.spec.name), LOOK_LIMIT, move |hypervisor| {
            let ask = |command| hypervisor.agent(uuid, command, ANSWER_LIMIT_S);
            ask(r#"{"execute":"guest-ping"}"#)?;
            Ok((ask(r#"{"execute":"guest-get-host-name"}"#)?, ask(r#"{"execute":"guest-network-get-interfaces"}"#)?))
        })
        .await?;
    agent::read(&name, &interfaces).map_err(|error| HypervisorError::Refused {
        doing: format!("reading the answer of the guest {}", task.spec.name),
        why: error.to_string(),
    })
}

async fn still_on(task: &CloneTask, cx: &TaskContext) -> Result<(), Fault> {
    let uuid = task.uuid;
    let state =
        cx.host.look(format!("looking at {}", task.spec.name), move |hypervisor| hypervisor.state(uuid)).await?;
    if state.is_active() {
        return Ok(());
    }
    Err(Fault::new(Code::WrongState, format!("{} went off while its guest was waited for", task.spec.name))
        .about(task.spec.name.as_str()))
}
