//! A libvirtd of a test's own, with libvirt's in-memory driver: `virsh` and a host worker see the same domains there. They are as at its
//! first start whenever nobody is connected any more, or after a restart.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};

use crate::wait::{SOON, wait_until};

/// A libvirtd; ends with this value.
#[derive(Debug)]
pub struct Libvirtd {
    folder: PathBuf,
    process: Option<Child>,
}

impl Libvirtd {
    /// Starts one in this folder, as nobody if this is root: a session libvirtd of root's would be everybody's.
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder.join("run"))?;
        if rustix::process::geteuid().is_root() {
            for place in [folder.to_owned(), folder.join("run")] {
                fs::set_permissions(&place, fs::Permissions::from_mode(0o777))?;
            }
        }
        let mut libvirtd = Self { folder: folder.to_owned(), process: None };
        libvirtd.resume()?;
        Ok(libvirtd)
    }

    /// Starts it again after [`Libvirtd::kill9`].
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let root = rustix::process::geteuid().is_root();
        let mut command = Command::new(if root { "setpriv" } else { "env" });
        if root {
            command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "env"]);
        }
        for (variable, place) in [
            ("HOME", ""),
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_CONFIG_HOME", "conf"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_DATA_HOME", "data"),
        ] {
            command.arg(format!("{variable}={}", self.folder.join(place).display()));
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("libvirtd.log"))?;
        // setpriv and env become libvirtd.
        let process = command
            .arg("libvirtd")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("libvirtd cannot be started")?;
        self.process = Some(process);
        wait_until("libvirtd answers", SOON, || self.virsh(&["version"]).map_err(|error| error.to_string()));
        Ok(())
    }

    /// Ends it as a crash does.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that has ended by itself is as good.
            let _ = (process.kill(), process.wait());
        }
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `libvirt.path` is, the driver being `test+unix`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("default?socket={}", self.folder.join("run/libvirt/libvirt-sock").display())
    }

    /// Its URI.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("test+unix:///{}", self.path())
    }

    /// Runs commands in one `virsh`; gives what it printed.
    ///
    /// # Errors
    /// What it said if it failed.
    pub fn virsh(&self, commands: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("virsh")
            .args(["-q", "-c", &self.uri()])
            .arg(commands.join("; "))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .context("virsh cannot be run")?;
        if !output.status.success() {
            bail!("virsh {commands:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        self.kill9();
    }
}
