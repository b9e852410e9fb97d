//! ifupdown's `/etc/network/interfaces` and `interfaces.d`.

use super::{Fixed, fixed};
use crate::customize::{Identity, Tree};

pub(in crate::customize) const FILE: &str = "/etc/network/interfaces";
pub(in crate::customize) const FOLDER: &str = "/etc/network/interfaces.d";
/// What a stanza says of addresses; the rest of it (scripts, MTU, search domains …) stays.
const ADDRESS_OPTIONS: [&str; 10] = [
    "address",
    "netmask",
    "broadcast",
    "network",
    "gateway",
    "dns-nameservers",
    "dns-nameserver",
    "hwaddress",
    "hostname",
    "client",
];

/// A stanza `iface NAME FAMILY METHOD` with the lines that belong to it, or lines that are none.
#[derive(Debug, Clone)]
struct Part {
    iface: Option<Iface>,
    lines: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Iface {
    name: String,
    family: String,
    method: String,
}

fn parse(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut continued = false;
    for line in text.split_inclusive('\n') {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let word = if continued { "" } else { words.first().copied().unwrap_or_default() };
        continued = line.trim_end_matches(['\n', '\r']).ends_with('\\') && !word.starts_with('#');
        let iface = match words.as_slice() {
            ["iface", name, family, method, ..] if word == "iface" => {
                Some(Iface { name: (*name).to_owned(), family: (*family).to_owned(), method: (*method).to_owned() })
            }
            _ => None,
        };
        let begins =
            matches!(word, "iface" | "auto" | "mapping" | "source" | "source-directory" | "template" | "rename")
                || word.starts_with("allow-")
                || word.starts_with("no-auto-down")
                || word.starts_with("no-scripts");
        match parts.last_mut() {
            Some(part) if !begins => part.lines.push(line.to_owned()),
            Some(_) | None => parts.push(Part { iface, lines: vec![line.to_owned()] }),
        }
    }
    parts
}

/// Configures the first interface. Returns whether there is one.
pub(in crate::customize) fn set(tree: &mut Tree, new: &Identity) -> bool {
    // run-parts' rule for the names of files, by which ifupdown reads the folder.
    let read = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let mut files: Vec<(String, Vec<Part>)> = std::iter::once(FILE.to_owned())
        .chain(tree.files(FOLDER, |name| read(name) || name.ends_with(".cfg")))
        .filter_map(|path| tree.text(&path).map(|text| (path, parse(&text))))
        .collect();
    let stanzas = || files.iter().flat_map(|(_, parts)| parts).filter_map(|part| part.iface.as_ref());
    let real = |iface: &&Iface| iface.name != "lo" && iface.method != "loopback" && !iface.name.contains(':');
    // A port of a bridge is `manual`; the bridge has the address.
    let first = stanzas().filter(real).find(|iface| iface.method != "manual").or_else(|| stanzas().find(real));
    let Some(name) = first.map(|iface| iface.name.clone()) else { return false };

    let fixed = fixed(new);
    let mut seen: Vec<String> = Vec::new();
    for (_, parts) in &mut files {
        parts.retain_mut(|part| rewrite(part, &name, fixed, &mut seen));
    }
    let family = fixed.map_or("inet", |fixed| if fixed.is_ipv4() { "inet" } else { "inet6" });
    if fixed.is_some() && !seen.iter().any(|had| had == family) {
        add_stanza(&mut files, &name, family, fixed);
    }
    for (path, parts) in &files {
        tree.write(path, &parts.iter().flat_map(|part| &part.lines).map(String::as_str).collect::<String>());
    }
    true
}

fn options(fixed: Option<Fixed<'_>>) -> Vec<String> {
    let Some(fixed) = fixed else { return Vec::new() };
    let mut lines = vec![format!("    address {}\n", fixed.address)];
    if let Some(gateway) = fixed.gateway {
        lines.push(format!("    gateway {gateway}\n"));
    }
    if !fixed.dns.is_empty() {
        lines.push(format!("    dns-nameservers {}\n", fixed.dns_text(" ", |_| true)));
    }
    lines
}

/// Rewrites a stanza of the interface; returns false if it is one too many.
fn rewrite(part: &mut Part, name: &str, fixed: Option<Fixed<'_>>, seen: &mut Vec<String>) -> bool {
    let Some(iface) = part.iface.as_ref().filter(|iface| iface.name == name) else { return true };
    let is_ipv4 = match iface.family.as_str() {
        "inet" => true,
        "inet6" => false,
        _ => return true,
    };
    let mine = fixed.filter(|fixed| fixed.is_ipv4() == is_ipv4);
    if seen.contains(&iface.family) {
        // A second stanza of the family is a further fixed address, which the image keeps for itself.
        return iface.method != "static";
    }
    seen.push(iface.family.clone());
    let method = match (mine, is_ipv4) {
        (Some(_), _) => "static",
        (None, true) if fixed.is_none() || iface.method == "static" => "dhcp",
        (None, false) if iface.method == "static" => "auto",
        (None, _) => iface.method.as_str(),
    };
    let head = if method == iface.method {
        part.lines.first().cloned().unwrap_or_default()
    } else {
        format!("iface {name} {} {method}\n", iface.family)
    };
    let mut lines = vec![if head.ends_with('\n') { head } else { format!("{head}\n") }];
    lines.extend(options(mine));
    let mut dropping = false;
    for line in part.lines.iter().skip(1) {
        let word = line.split_ascii_whitespace().next().unwrap_or_default();
        // A dropped line's continuation goes with it.
        let drop = dropping || ADDRESS_OPTIONS.contains(&word);
        dropping = drop && line.trim_end_matches(['\n', '\r']).ends_with('\\');
        if !drop {
            lines.push(line.clone());
        }
    }
    part.lines = lines;
    true
}

fn add_stanza(files: &mut [(String, Vec<Part>)], name: &str, family: &str, fixed: Option<Fixed<'_>>) {
    let holds = |parts: &[Part]| parts.iter().any(|p| p.iface.as_ref().is_some_and(|iface| iface.name == name));
    let Some((_, parts)) = files.iter_mut().find(|(_, parts)| holds(parts)) else { return };
    if let Some(last) = parts.last_mut().and_then(|part| part.lines.last_mut())
        && !last.ends_with('\n')
    {
        last.push('\n');
    }
    let mut lines = vec![format!("iface {name} {family} static\n")];
    lines.extend(options(fixed));
    parts.push(Part { iface: None, lines });
}
