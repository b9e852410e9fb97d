//! What libvirt says of pools, volumes and its abilities, and qemu-img of a disk.
//!
//! Input: the XML (or JSON).

use maglica_host_worker::hypervisor::storage_xml::{capabilities, pool, volume};

use crate::input::text;

/// Tries them all.
pub fn check(data: &[u8]) {
    let text = text(data);
    if let Ok((kind, path)) = pool(&text) {
        assert!(kind.len() <= text.len() && path.is_none_or(|path| !path.is_empty()));
    }
    if let Ok(row) = volume("default", &text) {
        assert!(row.pool == "default" && !row.name.is_empty() && !row.path.is_empty());
    }
    if let Ok((arch, emulator)) = capabilities(&text) {
        assert!(!arch.is_empty() && emulator.is_none_or(|path| !path.as_os_str().is_empty()));
    }
}
