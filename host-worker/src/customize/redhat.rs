//! The files of Red Hat Enterprise Linux, Fedora and what is made of them.

use super::{
    CustomizeError, Identity, Tree, Want, debian,
    network::{ifcfg, keyfile, networkd, sysconfig},
};

const HOSTNAME: &str = "/etc/hostname";
const SYSCONFIG: &str = "/etc/sysconfig/network";

pub(super) const WANTS: &[Want] = &[Want::File(SYSCONFIG), Want::Folder(ifcfg::FOLDER), Want::Folder(keyfile::FOLDER)];

pub(super) fn set_name(tree: &mut Tree, new: &Identity, changed: &mut Vec<String>) {
    // Since version 7 the name is in its own file; a line in the old one still works and must not say otherwise.
    let has_file = tree.has_systemd() || tree.exists(HOSTNAME);
    if has_file {
        tree.write(HOSTNAME, &format!("{}\n", new.name));
    }
    let text = tree.text(SYSCONFIG);
    if !has_file || text.as_deref().is_some_and(|text| sysconfig::get(text, "HOSTNAME").is_some()) {
        tree.write(SYSCONFIG, &sysconfig::set(&text.unwrap_or_default(), "HOSTNAME", new.name.as_str()));
    }
    debian::set_dhclient(tree, changed);
}

/// Returns whether there was a configuration to change.
#[expect(clippy::unnecessary_wraps, reason = "the same form for each family")]
pub(super) fn set_network(tree: &mut Tree, new: &Identity) -> Result<bool, CustomizeError> {
    // NetworkManager reads both and takes either, so both say the same of one interface.
    let device = ifcfg::set(tree, new);
    let by_keyfile = keyfile::set(tree, new, device.as_deref());
    Ok(device.is_some() || by_keyfile || networkd::set(tree, new))
}
