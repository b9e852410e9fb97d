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
    tool::{Tool, ToolError, ToolPaths},
};

/// The program.
pub const PROGRAM: &str = "virt-clone";
/// A terabyte over a slow network share; a bound for what hangs, no more.
const LIMIT: Duration = Duration::from_secs(12 * 60 * 60);
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

/// Copies, telling `progress` how much is there.
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
    let mut tool = Tool::new(PROGRAM)
        .paths(tools)
        .arg(format!("--connect={}", host.uri()))
        .arg(format!("--original={}", what.original))
        .arg(format!("--name={}", what.name))
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
