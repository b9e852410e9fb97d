//! libguestfs: opens the disks in an appliance of its own, finds the operating system, reads the files that a plan
//! needs and carries the plan out.
//!
//! libguestfs is reached through one `guestfish` that reads commands from a pipe (see [`fish`]): its crash is not ours,
//! and it ends with its job. The guest's file systems are only ever mounted inside the appliance, never on the host.
//!
//! Time is spent on three things, and each is cut: the appliance's start (two processors, little memory, a silent
//! console: 7.4 s instead of 9.2 under emulation), the search for the operating system (see [`inspect`]), and round
//! trips (commands are sent in batches).

mod fish;
mod inspect;
mod read;
mod write;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use self::fish::Fish;
use super::{
    CustomizeError, Customized, Customizer, Customizing, Disk, Identity,
    plan::{self, Family},
};
use crate::tool::{Tool, ToolError, ToolPaths};

/// The program by which libguestfs is used.
const GUESTFISH: &str = "guestfish";
/// What the appliance needs; libguestfs's own default is 1280 MiB, which the host may not have to spare.
const MEMORY_MIB: u32 = 512;
/// More processors than this do not make it faster.
const PROCESSORS_MAX: usize = 2;
const LAUNCHING: &str = "starting its appliance";
/// How long all of it may take. It is 10 s under emulation on an idle host; many at once on a busy one take minutes, and
/// then something is wrong.
const LIMIT: Duration = Duration::from_secs(900);
/// How long the appliance may take to start: 30 s the first time under emulation, when it is built as well. One that
/// was given a broken KVM never starts.
const LAUNCH_LIMIT: Duration = Duration::from_secs(300);

/// Rewrites guests by libguestfs.
#[derive(Debug, Clone)]
pub struct Guestfs {
    paths: ToolPaths,
    scratch: PathBuf,
}

impl Guestfs {
    /// Uses the tools in `paths`, and a folder in `scratch` for libguestfs's own temporary files.
    #[must_use]
    pub const fn new(paths: ToolPaths, scratch: PathBuf) -> Self {
        Self { paths, scratch }
    }

    fn tool(&self, disks: &[Disk], force_tcg: bool, temporary: &Path) -> Tool {
        let mut tool = Tool::new(GUESTFISH)
            .paths(&self.paths)
            .limit(LIMIT)
            .env("LIBGUESTFS_BACKEND", "direct")
            .env("LIBGUESTFS_TMPDIR", temporary);
        if force_tcg {
            tool = tool.env("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg");
        }
        for disk in disks {
            // In this order: the format is that of the disks after it.
            tool = tool.arg(format!("--format={}", disk.format)).arg("-a").arg(&disk.path);
        }
        tool
    }

    async fn run(
        &self,
        disks: &[Disk],
        new: &Identity,
        cancel: &CancellationToken,
    ) -> Result<Customized, CustomizeError> {
        let temporary = tempfile::Builder::new().prefix("guestfs-").tempdir_in(&self.scratch).map_err(|source| {
            CustomizeError::Io { doing: "making a temporary folder in", path: self.scratch.clone(), source }
        })?;
        let tool = self.tool(disks, new.force_tcg, temporary.path());
        let mut fish = Fish::start(&tool).await?;
        let worked = tokio::select! {
            worked = work(&mut fish, new) => worked,
            () = cancel.cancelled() => Err(CustomizeError::Cancelled),
            () = tokio::time::sleep(LIMIT) => Err(too_long("customizing the guest", LIMIT)),
        };
        match worked {
            Ok(customized) => {
                fish.end(cancel).await?;
                Ok(customized)
            }
            Err(CustomizeError::Guestfs { doing, message }) if message.is_empty() => {
                Err(fish.failure(doing, cancel).await)
            }
            Err(error) => {
                fish.stop().await;
                Err(error)
            }
        }
    }
}

fn too_long(doing: &str, limit: Duration) -> CustomizeError {
    let message = format!("it did not end within {} s", limit.as_secs());
    CustomizeError::Guestfs { doing: doing.to_owned(), message }
}

/// Everything up to the appliance's shutdown. An error of libguestfs has an empty message, for its words are on
/// stderr.
async fn work(fish: &mut Fish, new: &Identity) -> Result<Customized, CustomizeError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from).min(PROCESSORS_MAX);
    let launch = [
        "set-append quiet".to_owned(),
        format!("set-memsize {MEMORY_MIB}"),
        format!("set-smp {processors}"),
        "run".to_owned(),
    ];
    let began = std::time::Instant::now();
    let launching = fish.run(LAUNCHING, &launch);
    tokio::time::timeout(LAUNCH_LIMIT, launching).await.unwrap_or_else(|_| Err(too_long(LAUNCHING, LAUNCH_LIMIT)))?;
    let launched = began.elapsed();
    let system = inspect::find(fish).await?;
    let inspected = began.elapsed();
    let Some(family) = Family::of(&system.kind, &system.distro, &system.packages) else {
        return Err(CustomizeError::UnsupportedSystem { system: system.name });
    };
    let tree = read::read(fish, &plan::wants(new)).await?;
    let plan = plan::plan(family, &tree, new)?;
    write::write(fish, &plan.edits).await?;
    let written = began.elapsed();
    // By this the guest's disks are as they shall be; whatever cannot be written fails here.
    fish.run("closing the guest's disks", &["umount-all".to_owned(), "shutdown".to_owned()]).await?;
    tracing::info!(
        guest = %new.name, system = %system.name, edits = plan.edits.len(),
        ?launched, ?inspected, ?written, closed = ?began.elapsed(), "customized a guest"
    );
    Ok(Customized { os: system.name, changed: plan.changed })
}

impl Customizer for Guestfs {
    fn customize<'a>(
        &'a self,
        disks: &'a [Disk],
        identity: &'a Identity,
        cancel: &'a CancellationToken,
    ) -> Customizing<'a> {
        Box::pin(self.run(disks, identity, cancel))
    }

    fn check_tools(&self) -> Result<(), CustomizeError> {
        // supermin builds the appliance and fails late and in many words if it is not there.
        for program in [GUESTFISH, "supermin"] {
            if !self.paths.present(program) {
                return Err(ToolError::Missing { program: program.to_owned() }.into());
            }
        }
        Ok(())
    }
}
