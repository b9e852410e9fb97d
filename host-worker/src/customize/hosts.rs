//! `/etc/hosts` and the names that a guest had.

use maglica_proto::job::Network;

use super::{Identity, Tree, network::sysconfig};

const HOSTS: &str = "/etc/hosts";
/// The address by which a machine without a fixed one knows itself (Debian Reference, 5.1.1).
const SELF: &str = "127.0.1.1";
/// Names of the loopback that stay where they are, even if the image was called so.
const LOOPBACK_NAMES: [&str; 6] =
    ["localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"];

/// The names by which the guest calls itself so far: full and short, without those of the loopback.
pub(super) fn old_names(tree: &Tree) -> Vec<String> {
    let mut names = Vec::new();
    let file = tree.text("/etc/hostname").unwrap_or_default();
    let from_file = file.lines().map(str::trim_ascii).find(|line| !line.is_empty() && !line.starts_with('#'));
    let sysconfig = tree.text("/etc/sysconfig/network").unwrap_or_default();
    let from_sysconfig = sysconfig::get(&sysconfig, "HOSTNAME");
    for name in from_file.map(str::to_owned).into_iter().chain(from_sysconfig) {
        let short = name.split('.').next().unwrap_or_default().to_owned();
        for name in [name, short] {
            let name = name.to_ascii_lowercase();
            if !name.is_empty() && !LOOPBACK_NAMES.contains(&name.as_str()) && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Takes the old names out of `/etc/hosts` and enters the new one; all other lines stay byte by byte.
pub(super) fn set_name(tree: &mut Tree, new: &Identity, old_names: &[String]) {
    let name = new.name.as_str();
    let short = new.name.short();
    let address = match &new.customization.network {
        Network::Dhcp => SELF.to_owned(),
        Network::Static { address, .. } => address.address().to_string(),
    };
    let entry = if name == short { format!("{address}\t{name}\n") } else { format!("{address}\t{name}\t{short}\n") };

    let Some(text) = tree.text(HOSTS) else {
        tree.write(HOSTS, &format!("127.0.0.1\tlocalhost\n{entry}::1\tlocalhost ip6-localhost ip6-loopback\n"));
        return;
    };
    let ours = |word: &str| {
        let word = word.to_ascii_lowercase();
        word == name || word == short || old_names.contains(&word)
    };
    let mut lines: Vec<String> = Vec::new();
    let mut place = None;
    for line in text.split_inclusive('\n') {
        let (data, comment) = line.find('#').map_or((line, ""), |at| line.split_at(at));
        let mut words = data.split_ascii_whitespace();
        let Some(host) = words.next() else {
            lines.push(line.to_owned());
            continue;
        };
        let names: Vec<&str> = words.collect();
        let kept: Vec<&str> = names.iter().copied().filter(|word| !ours(word)).collect();
        // A line for 127.0.1.1 is the machine's own, whatever name is in it.
        if host == SELF || kept.is_empty() && !names.is_empty() {
            place.get_or_insert(lines.len());
        } else if kept.len() < names.len() {
            let comment = if comment.is_empty() { "\n".to_owned() } else { format!("\t{comment}") };
            lines.push(format!("{host}\t{}{comment}", kept.join(" ")));
        } else {
            lines.push(line.to_owned());
        }
    }
    let loopback = lines.iter().position(|line| line.split_ascii_whitespace().next() == Some("127.0.0.1"));
    let place = place.or_else(|| loopback.map(|at| at + 1)).unwrap_or(0).min(lines.len());
    if let Some(last) = place.checked_sub(1).and_then(|at| lines.get_mut(at))
        && !last.ends_with('\n')
    {
        last.push('\n');
    }
    lines.insert(place, entry);
    tree.write(HOSTS, &lines.concat());
}
