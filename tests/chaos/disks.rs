//! A small disk for each daemon's state, which can be filled, freed and made read-only. Root's work: without root there are none.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// Room for a store of some hundred jobs with its write-ahead log.
const SIZE: &str = "size=12m,mode=0700";
/// What fills it.
const FILLER: &str = ".filler";

/// A mounted disk; unmounted with this value.
#[derive(Debug)]
pub(crate) struct Disk {
    place: PathBuf,
}

impl Disk {
    /// Whether this process may make one.
    pub(crate) fn possible() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Mounts one at this folder.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub(crate) fn mount(place: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(place)?;
        run(
            "mount",
            ["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), SIZE.as_ref(), "tmpfs".as_ref(), place.as_os_str()],
        )?;
        Ok(Self { place: place.to_owned() })
    }

    /// Leaves no byte free.
    ///
    /// # Errors
    /// Something else than «no space left».
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.place.join(FILLER))?;
        for size in [1 << 20, 4096, 1] {
            let block = vec![0x5a; size];
            while file.write(&block).is_ok_and(|written| written == size) {}
        }
        Ok(())
    }

    /// Frees what [`Disk::fill`] took.
    pub(crate) fn free(&self) {
        // One that is not filled has nothing to be freed.
        let _ = fs::remove_file(self.place.join(FILLER));
    }

    /// Makes it read-only, or writable again. Nobody may have a file of it open for writing.
    ///
    /// # Errors
    /// It cannot be mounted so.
    pub(crate) fn read_only(&self, yes: bool) -> anyhow::Result<()> {
        let how = if yes { "remount,ro" } else { "remount,rw" };
        run("mount", ["-o".as_ref(), how.as_ref(), self.place.as_os_str()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let lazily = ["-l".as_ref(), self.place.as_os_str()];
        let _ = run("umount", [self.place.as_os_str()]).or_else(|_| run("umount", lazily));
    }
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
