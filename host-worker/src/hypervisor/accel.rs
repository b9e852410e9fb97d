//! Whether guests run with KVM here or are emulated.
//!
//! `/dev/kvm` can be present and libvirt can list KVM domains, and yet a guest hangs, crawls or takes qemu down with it (nested
//! virtualization that is half there). So a guest of 512 bytes (`probe.S`) is run with KVM: it goes to long mode, touches
//! memory and counts a loop, which takes KVM well under a second. The answer is remembered for as long as the host runs the
//! same kernel and the same qemu.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use maglica_proto::inventory::Accel;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Facts;
use crate::tool::{Tool, ToolError};

/// The boot sector of `probe.S`.
const BOOT_SECTOR: &[u8; 512] = include_bytes!("probe.bin");
/// What the boot sector says when it has come to its end.
const MARKER: &str = "maglica: guest code ran";
/// The firmware does not read a disk smaller than a cylinder.
const PROBE_DISK_BYTES: u64 = 1 << 20;
/// KVM needs 0.3 s; where it needs more than this, emulation is the faster of the two.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The file in the state folder.
const REMEMBERED: &str = "accel.json";

/// What the configuration says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccelSetting {
    /// Find out by a probe.
    #[default]
    Auto,
    /// KVM works; do not probe.
    Kvm,
    /// Do not use KVM.
    Emulation,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    boot: String,
    hypervisor: String,
    emulator: PathBuf,
    answer: Accel,
}

/// How guests run here, by the setting, else by what is remembered in the folder `state`, else by a probe.
pub async fn decide(
    setting: AccelSetting,
    facts: &Facts,
    device: &Path,
    state: &Path,
    cancel: &CancellationToken,
) -> Accel {
    match setting {
        AccelSetting::Kvm => return Accel::Kvm,
        AccelSetting::Emulation => return emulation("the configuration says so"),
        AccelSetting::Auto => {}
    }
    if !device.exists() {
        return emulation(&format!("there is no {}", device.display()));
    }
    let Some(emulator) = &facts.emulator else {
        return emulation("libvirt names no emulator for this architecture");
    };
    if facts.arch != "x86_64" {
        // The boot sector is x86 code; elsewhere the device is believed.
        return Accel::Kvm;
    }
    let boot = fs::read_to_string(BOOT_ID).map(|text| text.trim().to_owned()).unwrap_or_default();
    let path = state.join(REMEMBERED);
    if let Some(known) = recall(&path)
        && known.boot == boot
        && known.hypervisor == facts.hypervisor
        && known.emulator == *emulator
    {
        return known.answer;
    }
    let answer = match probe(emulator, "kvm", PROBE_LIMIT, cancel).await {
        Probe::Ran => Accel::Kvm,
        Probe::DidNot(reason) => emulation(&reason),
        // Nothing was learnt; the next start probes again.
        Probe::Stopped => return Accel::Unknown,
    };
    tracing::info!(?answer, "probed KVM");
    let remembered = Remembered { boot, hypervisor: facts.hypervisor.clone(), emulator: emulator.clone(), answer };
    let written =
        serde_json::to_vec(&remembered).map_err(std::io::Error::other).and_then(|json| fs::write(&path, json));
    if let Err(error) = written {
        // The probe is only repeated at the next start.
        tracing::warn!(path = %path.display(), %error, "the answer of the KVM probe cannot be remembered");
    }
    remembered.answer
}

fn emulation(reason: &str) -> Accel {
    Accel::Emulation { reason: reason.to_owned() }
}

fn recall(path: &Path) -> Option<Remembered> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

enum Probe {
    Ran,
    DidNot(String),
    Stopped,
}

async fn probe(emulator: &Path, accel: &str, limit: Duration, cancel: &CancellationToken) -> Probe {
    let setting_up = || -> std::io::Result<tempfile::TempDir> {
        let folder = tempfile::Builder::new().prefix("maglica-probe-").tempdir()?;
        let disk = folder.path().join("disk");
        fs::write(&disk, BOOT_SECTOR)?;
        fs::OpenOptions::new().write(true).open(&disk)?.set_len(PROBE_DISK_BYTES)?;
        Ok(folder)
    };
    let folder = match setting_up() {
        Ok(folder) => folder,
        Err(error) => return Probe::DidNot(format!("the probe could not be set up: {error}")),
    };
    let said = folder.path().join("said");
    let ended = Tool::new(emulator.to_string_lossy())
        .args(["-machine", &format!("q35,accel={accel}"), "-cpu", "max", "-m", "64"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", &format!("file:{}", said.display())])
        .args(["-drive", &format!("file={},format=raw,if=ide,index=0", folder.path().join("disk").display())])
        .limit(limit)
        .run(cancel)
        .await;
    match ended {
        Ok(_) if fs::read_to_string(&said).unwrap_or_default().contains(MARKER) => Probe::Ran,
        Ok(_) => Probe::DidNot("a guest with KVM ended before its code was done".to_owned()),
        Err(ToolError::TimedOut { .. }) => {
            Probe::DidNot(format!("a guest with KVM did not execute a short loop within {} s", limit.as_secs()))
        }
        Err(ToolError::Cancelled { .. }) => Probe::Stopped,
        Err(error @ (ToolError::Missing { .. } | ToolError::Failed { .. } | ToolError::Io { .. })) => {
            Probe::DidNot(maglica_proto::fault::chain(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maglica_proto::units::ByteSize;

    fn facts(emulator: Option<&str>) -> Facts {
        Facts {
            cpus: 1,
            memory: ByteSize::ZERO,
            memory_free: ByteSize::ZERO,
            arch: "x86_64".to_owned(),
            hypervisor: "QEMU 7.2.22".to_owned(),
            libvirt: "9.0.0".to_owned(),
            emulator: emulator.map(PathBuf::from),
        }
    }

    #[tokio::test]
    async fn without_a_device_guests_are_emulated_and_the_setting_wins_over_the_probe() {
        let state = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let absent = state.path().join("kvm");
        let auto = decide(AccelSetting::Auto, &facts(Some("/bin/true")), &absent, state.path(), &cancel).await;
        assert!(matches!(&auto, Accel::Emulation { reason } if reason.contains("there is no")), "{auto:?}");
        let kvm = decide(AccelSetting::Kvm, &facts(None), &absent, state.path(), &cancel).await;
        assert_eq!(kvm, Accel::Kvm);
    }

    #[tokio::test]
    async fn an_emulator_that_ends_without_running_the_guest_is_no_kvm_and_is_not_asked_twice() {
        let state = tempfile::tempdir().unwrap();
        let device = state.path().join("kvm");
        fs::write(&device, "").unwrap();
        let cancel = CancellationToken::new();
        let first = decide(AccelSetting::Auto, &facts(Some("/bin/true")), &device, state.path(), &cancel).await;
        assert!(matches!(&first, Accel::Emulation { reason } if reason.contains("before its code")), "{first:?}");
        // Were it asked again, the missing program would give another reason.
        let path = state.path().join(REMEMBERED);
        let mut known = recall(&path).unwrap();
        known.emulator = PathBuf::from("/nonexistent");
        fs::write(&path, serde_json::to_vec(&known).unwrap()).unwrap();
        let again = decide(AccelSetting::Auto, &facts(Some("/nonexistent")), &device, state.path(), &cancel).await;
        assert_eq!(again, first);
        let other = decide(AccelSetting::Auto, &facts(Some("/nonexistent/qemu")), &device, state.path(), &cancel).await;
        assert!(matches!(&other, Accel::Emulation { reason } if reason.contains("not installed")), "{other:?}");
    }

    #[tokio::test]
    async fn the_boot_sector_runs_to_its_end_in_an_emulator() {
        let qemu = Path::new("/usr/bin/qemu-system-x86_64");
        assert!(qemu.exists(), "the tests need qemu: run scripts/setup");
        let limit = Duration::from_secs(60);
        let ended = probe(qemu, "tcg", limit, &CancellationToken::new()).await;
        assert!(matches!(ended, Probe::Ran));
    }
}
