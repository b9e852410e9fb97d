//! The files of Debian, Ubuntu and what is made of them.

use super::{
    CustomizeError, Identity, Tree, Want,
    network::{ifupdown, keyfile, netplan, networkd, resolver},
};

const HOSTNAME: &str = "/etc/hostname";
const MAILNAME: &str = "/etc/mailname";
const DHCLIENT: [&str; 3] = ["/etc/dhcp/dhclient.conf", "/etc/dhcp3/dhclient.conf", "/etc/dhclient.conf"];

pub(super) const WANTS: &[Want] = &[
    Want::File(HOSTNAME),
    Want::File("/etc/hosts"),
    Want::File(MAILNAME),
    Want::File(DHCLIENT[0]),
    Want::File(DHCLIENT[1]),
    Want::File(DHCLIENT[2]),
    Want::File(ifupdown::FILE),
    Want::Folder(ifupdown::FOLDER),
    Want::Folder(netplan::FOLDER),
    Want::Folder(networkd::FOLDER),
    Want::File(resolver::RESOLV_CONF),
    Want::File(resolver::RESOLVED_DROP_IN),
    Want::Presence(resolver::RESOLVED_FOLDER),
];

pub(super) fn set_name(tree: &mut Tree, new: &Identity, old_names: &[String], changed: &mut Vec<String>) {
    tree.write(HOSTNAME, &format!("{}\n", new.name));
    // The name in outgoing mail; one that is not the machine's own was chosen for the site and stays.
    let mail = tree.text(MAILNAME).map(|text| text.trim_ascii().to_ascii_lowercase());
    if mail.is_some_and(|mail| mail != new.name.as_str() && old_names.contains(&mail)) {
        tree.write(MAILNAME, &format!("{}\n", new.name));
        changed.push("mailname".to_owned());
    }
    set_dhclient(tree, changed);
}

/// A name written into the DHCP client's configuration would be the image's in every clone.
pub(super) fn set_dhclient(tree: &mut Tree, changed: &mut Vec<String>) {
    for path in DHCLIENT {
        let Some(text) = tree.text(path) else { continue };
        let edited: String = text
            .split_inclusive('\n')
            .filter_map(|line| {
                let words: Vec<&str> = line.trim_ascii().trim_end_matches(';').split_ascii_whitespace().collect();
                match words.as_slice() {
                    ["send", "host-name", value, ..] if value.starts_with('"') => {
                        Some("send host-name = gethostname();\n")
                    }
                    // So would an identifier by which the server knows the client.
                    ["send", "dhcp-client-identifier", value, ..] if *value != "=" => None,
                    _ => Some(line),
                }
            })
            .collect();
        if edited != text {
            tree.write(path, &edited);
            changed.push("dhclient".to_owned());
        }
    }
}

/// Returns whether there was a configuration to change.
pub(super) fn set_network(tree: &mut Tree, new: &Identity) -> Result<bool, CustomizeError> {
    // netplan writes the configuration of the others at boot, so it goes first; what has no interface is not in use.
    if netplan::set(tree, new)? || keyfile_only(tree, new) {
        return Ok(true);
    }
    let configured = ifupdown::set(tree, new) || networkd::set(tree, new);
    if configured {
        resolver::set(tree, new);
    }
    Ok(configured)
}

/// NetworkManager's own connections count only where ifupdown and networkd have none: it leaves theirs alone.
fn keyfile_only(tree: &mut Tree, new: &Identity) -> bool {
    let mut attempt = tree.clone();
    if ifupdown::set(&mut attempt, new) || networkd::set(&mut attempt, new) {
        return false;
    }
    keyfile::set(tree, new, None)
}
