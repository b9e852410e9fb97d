//! The host worker: runs jobs on its host with libvirt, virt-clone, qemu-img and libguestfs, and tells the client
//! worker what the host has.
//!
//! ```text
//! PUB 5555 ─▶ link::listen ─┐            ┌─▶ task ─▶ hypervisor (libvirt) │ storage (virt-clone, qemu-img)
//! REP 5556 ◀▶ link ◀─ heartbeat ─▶ runner┤            │ customize (libguestfs)      all programs through tool
//!                  ◀─ inventory ◀────────┴─ ledger (SQLite)
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`link`] | the sealed conversation with the client worker, the subscription, the heartbeat |
//! | [`runner`] | which jobs run, the ledger that survives a crash, reports |
//! | [`task`] | what is done for each kind of job: check, steps, undo |
//! | [`hypervisor`] | libvirt behind one trait; domain XML; the KVM probe |
//! | [`storage`] | pools, volumes, virt-clone, qemu-img |
//! | [`customize`] | what is rewritten inside a guest |
//! | [`console`] | serial consoles that somebody looks at |
//! | [`serial_log`] | what serial ports put out, as libvirt keeps it |
//! | [`tool`] | running external programs |
//! | [`keeper`] | snapshots that schedules want, and that expire |
//! | [`guests`] | which addresses guests' agents tell |
//! | [`transfer`] | taking connections of those who fetch images from here |
//! | [`inventory`] | telling what the host has |
//! | [`app`] | puts it together, and takes it down in order |

pub mod app;
pub mod console;
pub mod customize;
pub mod guests;
pub mod hypervisor;
pub mod inventory;
pub mod keeper;
pub mod link;
pub mod runner;
pub mod serial_log;
pub mod storage;
pub mod task;
pub mod tool;
pub mod transfer;

/// A place where tests make the process die (the `fail` crate; nothing without the feature `failpoints`).
pub(crate) fn failpoint(name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |action| {
        if action.as_deref() == Some("abort") {
            std::process::abort();
        }
    });
    let _ = name;
}
