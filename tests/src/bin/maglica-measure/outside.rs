//! How soon Maglica shows what somebody does on a host with `virsh`.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use maglica_proto::{
    inventory::DomainState,
    name::DomainName,
    request::{Answer, Request},
};
use maglica_tests::fleet::asker::Asker;

use crate::{WARM_UP, tell};

/// From question to question: what the figure can be wrong by, besides a round trip.
const LOOK: Duration = Duration::from_millis(1);
/// What is not shown by then is a failure and no figure.
const LIMIT: Duration = Duration::from_secs(10);

/// Suspends a virtual machine and lets it go on, in turn.
///
/// # Errors
/// virsh fails, or the change does not show.
pub(crate) async fn measure(mut asker: Asker, uri: &str, vm: DomainName, runs: usize) -> anyhow::Result<()> {
    let show = Request::VmShow { name: vm.clone(), host: None };
    let (mut commands, mut seen) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
    for round in 0..runs + WARM_UP {
        let (verb, state) =
            if round % 2 == 0 { ("suspend", DomainState::Paused) } else { ("resume", DomainState::Running) };
        let began = Instant::now();
        let mut virsh = Command::new("virsh")
            .args(["-q", "-c", uri, verb, vm.as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("virsh cannot be run")?;
        let (mut done, mut shown) = (None, None);
        while done.is_none() || shown.is_none() {
            ensure!(began.elapsed() < LIMIT, "{vm} is not shown as {} after virsh {verb}", state.as_str());
            if shown.is_none() {
                let Answer::Vm(view) = asker.ask(&show).await? else { bail!("vm-show is answered by something else") };
                shown = (view.domain.state == state).then(|| began.elapsed());
            }
            if done.is_none()
                && let Some(status) = virsh.try_wait()?
            {
                ensure!(status.success(), "virsh {verb} {vm} failed");
                done = Some(began.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
        if round >= WARM_UP {
            commands.extend(done);
            seen.extend(shown);
        }
    }
    tell("virsh", commands)?;
    tell("virsh-shown", seen)
}
