//! `virt-clone`: makes a second domain of an image, with its own disks, addresses and UUID.
//!
//! The copying itself is done by libvirtd, which virt-clone asks for it: when virt-clone is killed, libvirtd goes on until the
//! copy is complete, and refuses to delete it before. Whoever takes a copy back has to wait for that.

use std::time::Duration;

use maglica_proto::{net::MacAddr, units::ByteSize};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    hypervisor::Host,
    storage::volumes,
    tool::{Tool, ToolError, ToolPaths},
};

/// The program.
pub const PROGRAM: &str = "virt-clone";
/// A terabyte over a slow network share; a bound for what hangs, no more.
const LIMIT: Duration = Duration::from_secs(12 * 60 * 60);
/// What virt-clone writes before the reason why it gives up.
const REASON: &str = "ERROR    ";
/// How often the growing copies are looked at: a person sees it move, libvirtd does not notice.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What is copied to what.
#[derive(Debug, Clone)]
pub struct Copy<'a> {
    /// The image.
    pub original: &'a str,
    /// The name of the domain that virt-clone makes.
    pub name: &'a str,
    /// The pool that the copies are made in.
    pub pool: &'a str,
    /// Each copy: the volume's name and its path, in the order of the image's disks.
    pub volumes: &'a [(String, String)],
    /// The disks and drives that are not copied, by target.
    pub skipped: &'a [String],
    /// The addresses of its interfaces.
    pub macs: &'a [MacAddr],
    /// Where the firmware's variables are copied to, if the image has any.
    pub nvram: Option<&'a str>,
}

/// Copies, telling `progress` how much is there. Waits as long as something else is copied into the pool.
///
/// # Errors
/// [`ToolError`]; the domain and copies made until then are there, see above.
pub async fn copy(
    host: &Host,
    tools: &ToolPaths,
    what: &Copy<'_>,
    progress: impl Fn(ByteSize) + Send,
    cancel: &CancellationToken,
) -> Result<(), ToolError> {
    loop {
        match copy_now(host, tools, what, &progress, cancel).await {
            Err(error) if pool_busy(&error) => {
                tracing::debug!(pool = what.pool, "something else is copied into the pool; waiting")
            }
            ended => return ended.map_err(without_warnings),
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(ToolError::Cancelled { program: PROGRAM.to_owned() }),
            // Fails for other reasons than a busy pool as well; what they are, the next attempt tells.
            _ = volumes::refresh(host, what.pool, LIMIT) => {}
        }
    }
}

/// Whether virt-clone gave up before it began: it has libvirt refresh the pool, which libvirt refuses as long as any volume is made
/// in it.
fn pool_busy(error: &ToolError) -> bool {
    matches!(error, ToolError::Failed { stderr, .. } if stderr.contains("Cannot use storage") && stderr.contains("asynchronous jobs"))
}

/// The failure without what virt-clone had said before it, and found worth a warning only.
fn without_warnings(error: ToolError) -> ToolError {
    match error {
        ToolError::Failed { program, arguments, status, stderr } => {
            let reason = stderr.rsplit_once(REASON).map_or(stderr.as_str(), |(_, reason)| reason).trim().to_owned();
            ToolError::Failed { program, arguments, status, stderr: reason }
        }
        other @ (ToolError::Missing { .. }
        | ToolError::TimedOut { .. }
        | ToolError::Cancelled { .. }
        | ToolError::Io { .. }) => other,
    }
}

async fn copy_now(
    host: &Host,
    tools: &ToolPaths,
    what: &Copy<'_>,
    progress: &(impl Fn(ByteSize) + Send),
    cancel: &CancellationToken,
) -> Result<(), ToolError> {
    let mut tool = Tool::new(PROGRAM)
        .paths(tools)
        .arg(format!("--connect={}", host.uri()))
        .arg(format!("--original={}", what.original))
        .arg(format!("--name={}", what.name))
        // It would ask for as much room as the disks can ever take up. How much a copy takes has been checked before.
        .arg("--check=disk_size=off")
        .args(what.volumes.iter().map(|(_, path)| format!("--file={path}")))
        .args(what.skipped.iter().map(|target| format!("--skip-copy={target}")))
        .args(what.macs.iter().map(|mac| format!("--mac={mac}")))
        .limit(LIMIT);
    if let Some(nvram) = what.nvram {
        tool = tool.arg(format!("--nvram={nvram}"));
    }
    let mut running = Box::pin(tool.run(cancel));
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut running => return ended.map(|_| ()),
            _ = tick.tick() => {}
        }
        // The look runs beside the program, so that its end is noticed even while libvirt is slow to answer.
        tokio::select! {
            ended = &mut running => return ended.map(|_| ()),
            done = allocated(host, what) => progress(done),
        }
    }
}

/// What the copies take up so far; those that libvirt does not have yet count nothing.
async fn allocated(host: &Host, what: &Copy<'_>) -> ByteSize {
    let pool = what.pool.to_owned();
    let names: Vec<String> = what.volumes.iter().map(|(name, _)| name.clone()).collect();
    host.look("measuring the copies", move |hypervisor| {
        Ok(names.iter().filter_map(|name| hypervisor.volume(&pool, name).ok()).map(|volume| volume.allocation).sum())
    })
    .await
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn failed(stderr: &str) -> ToolError {
        ToolError::Failed {
            program: PROGRAM.to_owned(),
            arguments: String::new(),
            status: std::process::ExitStatus::from_raw(1 << 8),
            stderr: stderr.to_owned(),
        }
    }

    #[test]
    fn of_what_virt_clone_says_only_the_reason_is_kept() {
        let said = "WARNING  The requested volume capacity will exceed the pool's.\nERROR    Couldn't create storage volume 'a'\n";
        assert!(
            matches!(without_warnings(failed(said)), ToolError::Failed { stderr, .. } if stderr == "Couldn't create storage volume 'a'")
        );
        assert!(
            matches!(without_warnings(failed("Traceback")), ToolError::Failed { stderr, .. } if stderr == "Traceback")
        );
    }

    #[test]
    fn only_a_pool_that_was_busy_before_anything_was_made_is_waited_for() {
        // As virt-clone 4.1 with libvirt 9.0 of Debian 12 says it.
        assert!(pool_busy(&failed(
            "ERROR    Could not use path '/p/a.partial' for cloning: Cannot use storage /p/a.partial: internal error: pool 'p' has \
             asynchronous jobs running."
        )));
        assert!(!pool_busy(&failed("ERROR    Could not use path '/p/a.partial' for cloning: no space left on device")));
        assert!(!pool_busy(&failed("ERROR    internal error: pool 'p' has asynchronous jobs running.")));
        assert!(!pool_busy(&ToolError::Cancelled { program: PROGRAM.to_owned() }));
    }
}
