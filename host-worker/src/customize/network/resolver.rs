//! Name servers for guests whose network configuration does not carry them to the resolver by itself.

use super::fixed;
use crate::customize::{Entry, Identity, Tree};

pub(in crate::customize) const RESOLV_CONF: &str = "/etc/resolv.conf";
pub(in crate::customize) const RESOLVED_DROP_IN: &str = "/etc/systemd/resolved.conf.d/maglica.conf";
pub(in crate::customize) const RESOLVED_FOLDER: &str = "/etc/systemd/resolved.conf.d";

/// Sets the name servers of a fixed address, where the guest looks for them.
pub(in crate::customize) fn set(tree: &mut Tree, new: &Identity) {
    tree.remove(RESOLVED_DROP_IN);
    let Some(fixed) = fixed(new).filter(|fixed| !fixed.dns.is_empty()) else { return };
    match tree.get(RESOLV_CONF) {
        Some(Entry::Link(target)) if target.contains("systemd/resolve") => {
            tree.folder(RESOLVED_FOLDER, 0o755);
            let text = format!("# Written by Maglica.\n[Resolve]\nDNS={}\n", fixed.dns_text(" ", |_| true));
            tree.write(RESOLVED_DROP_IN, &text);
        }
        // resolvconf and NetworkManager write the file that this leads to.
        Some(Entry::Link(_) | Entry::Unread | Entry::Folder) => {}
        Some(Entry::File(_)) | None => {
            let old = tree.text(RESOLV_CONF).unwrap_or_default();
            let servers: String = fixed.dns.iter().map(|server| format!("nameserver {server}\n")).collect();
            let kept = |line: &&str| line.split_ascii_whitespace().next() != Some("nameserver");
            let mut text: String = old.split_inclusive('\n').filter(kept).collect();
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            tree.write(RESOLV_CONF, &format!("{text}{servers}"));
        }
    }
}
