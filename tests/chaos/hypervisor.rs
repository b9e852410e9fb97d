//! A hypervisor for each host: libvirt's in-memory driver in a libvirtd of its own, so that its domains outlive the host worker, and
//! a witness that sees everything that is really done to them.
//!
//! The driver forgets its domains with its last connection. The witness's connection keeps them for one run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use maglica_tests::libvirtd::Libvirtd;
use uuid::Uuid;

use crate::{
    history::{Deed, Seen, Vm, Vms},
    plan::Machine,
};

/// How long libvirtd may take to be up on two busy cores.
const UP: Duration = Duration::from_secs(20);
/// From look to look.
const LOOK: Duration = Duration::from_millis(20);

/// A libvirtd.
pub(crate) struct Hypervisor {
    libvirtd: Libvirtd,
}

/// Watches one run.
pub(crate) struct Witness {
    virsh: Child,
    file: PathBuf,
    from: usize,
}

impl Hypervisor {
    /// Starts one in this folder.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { libvirtd: Libvirtd::start(folder)? })
    }

    /// What `libvirt.path` is, the driver being `test+unix`.
    pub(crate) fn path(&self) -> String {
        self.libvirtd.path()
    }

    fn virsh(&self, commands: &[&str]) -> anyhow::Result<String> {
        self.libvirtd.virsh(commands)
    }

    /// Makes the machines of a run and begins to watch.
    ///
    /// # Errors
    /// libvirt refuses.
    pub(crate) fn prepare<'a>(
        &self,
        machines: impl Iterator<Item = &'a Machine>,
        file: PathBuf,
    ) -> anyhow::Result<Witness> {
        let events = fs::File::create(&file)?;
        let virsh = Command::new("virsh")
            .args(["-c", &self.libvirtd.uri(), "event", "--all", "--loop"])
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(events.try_clone()?)
            .stderr(events)
            .spawn()
            .context("virsh cannot be started")?;
        let mut witness = Witness { virsh, file, from: 0 };
        // Whatever it sees first shows that it is there, and that the domains stay.
        let until = Instant::now() + UP;
        while witness.lines().is_empty() {
            let _ = self.virsh(&["destroy test", "start test"]);
            if Instant::now() > until {
                bail!("the witness sees nothing");
            }
            std::thread::sleep(LOOK);
        }
        let mut commands = vec!["destroy test".to_owned()];
        for machine in machines {
            let xml = self.libvirtd.folder().join(format!("{}.xml", machine.name));
            let description = format!(
                "<domain type='test'><name>{}</name><uuid>{}</uuid><memory unit='KiB'>65536</memory>\
                 <os><type>hvm</type></os></domain>",
                machine.name, machine.uuid
            );
            fs::write(&xml, description)?;
            commands.push(format!("define {}", xml.display()));
            if machine.running {
                commands.push(format!("start {}", machine.name));
            }
        }
        commands.push("undefine test".to_owned());
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        self.virsh(&commands)?;
        // The last of it: everything before has been seen then.
        let until = Instant::now() + UP;
        let marked = |lines: &[String]| lines.iter().rposition(|line| line.contains("for domain 'test': Undefined"));
        loop {
            let lines = witness.lines();
            if let Some(place) = marked(&lines) {
                witness.from = place + 1;
                return Ok(witness);
            }
            if Instant::now() > until {
                bail!("the witness has not seen how the machines were made: {lines:?}");
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The domains that there are.
    ///
    /// # Errors
    /// libvirt does not say.
    pub(crate) fn vms(&self) -> anyhow::Result<Vms> {
        let running = self.virsh(&["list --state-running --name"])?;
        let all = self.virsh(&["list --all --uuid --name"])?;
        let running: Vec<&str> = running.split_whitespace().collect();
        let mut vms = Vms::new();
        for line in all.lines().filter(|line| !line.trim().is_empty()) {
            let (uuid, name) = line.trim().split_once(char::is_whitespace).context("no uuid and name")?;
            let name = name.trim();
            let vm = Vm { uuid: Uuid::parse_str(uuid)?, running: running.contains(&name) };
            vms.insert(name.to_owned(), vm);
        }
        Ok(vms)
    }
}

impl Witness {
    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.file).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// What was done since the machines were made.
    ///
    /// # Errors
    /// It saw something that it cannot name, or ended.
    pub(crate) fn seen(&mut self) -> anyhow::Result<Vec<Seen>> {
        if let Some(status) = self.virsh.try_wait()? {
            bail!("the witness ended: {status}: {:?}", self.lines().last());
        }
        let mut seen = Vec::new();
        for line in self.lines().into_iter().skip(self.from) {
            let Some((_, rest)) = line.split_once("event 'lifecycle' for domain '") else { continue };
            let (vm, what) = rest.split_once("': ").with_context(|| format!("no event: {line}"))?;
            let deed = match what.split_whitespace().next() {
                Some("Defined") => Deed::Defined,
                Some("Started") => Deed::Started,
                Some("Stopped") => Deed::Stopped,
                Some("Undefined") => Deed::Undefined,
                _ => bail!("an unknown event: {line}"),
            };
            seen.push(Seen { vm: vm.to_owned(), deed });
        }
        Ok(seen)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = (self.virsh.kill(), self.virsh.wait());
    }
}
