//! NetworkManager's keyfiles in `/etc/NetworkManager/system-connections`.

use super::{Fixed, first_mac, fixed, ini::Ini};
use crate::customize::{Identity, Tree};

pub(in crate::customize) const FOLDER: &str = "/etc/NetworkManager/system-connections";
/// Both names of the section of an Ethernet's hardware.
const HARDWARE: [&str; 2] = ["ethernet", "802-3-ethernet"];

fn kind(ini: &Ini) -> Option<&str> {
    ini.get("connection", "type")
}

fn is_wired(ini: &Ini) -> bool {
    matches!(kind(ini), Some("ethernet" | "802-3-ethernet"))
}

fn is_port(ini: &Ini) -> bool {
    ["master", "controller"].iter().any(|key| ini.get("connection", key).is_some())
}

/// Configures the first interface, or the one called `device` if another form of configuration has named it already.
/// Returns whether there is one.
pub(in crate::customize) fn set(tree: &mut Tree, new: &Identity, device: Option<&str>) -> bool {
    let mut files: Vec<(String, Ini)> = tree
        .files(FOLDER, |name| !name.starts_with('.') && !name.ends_with('~'))
        .into_iter()
        .filter_map(|path| tree.text(&path).map(|text| (path, Ini::parse(&text))))
        .collect();
    let has_address = |ini: &Ini| is_wired(ini) || matches!(kind(ini), Some("bridge" | "bond" | "team" | "vlan"));
    let named = |ini: &Ini| device.is_none_or(|d| ini.get("connection", "interface-name").is_none_or(|n| n == d));
    // A wired connection that is a port has its address on the bridge or bond above it.
    let first = files
        .iter()
        .position(|(_, ini)| is_wired(ini) && !is_port(ini) && named(ini))
        .or_else(|| files.iter().position(|(_, ini)| has_address(ini) && !is_port(ini) && named(ini)));
    for (index, (_, ini)) in files.iter_mut().enumerate() {
        if is_wired(ini) {
            forget_hardware(ini, first.is_none_or(|first| first == index), new);
        }
        if first == Some(index) {
            set_first(ini, new);
        }
    }
    write_with_new_uuids(tree, new, &files);
    first.is_some()
}

/// Gives the wired connections UUIDs of this guest's own, also where another connection refers to them. Two that had the same get one
/// each, and a reference means the first.
fn write_with_new_uuids(tree: &mut Tree, new: &Identity, files: &[(String, Ini)]) {
    // An empty or short one would be found everywhere.
    let old = |ini: &Ini| {
        let uuid = ini.get("connection", "uuid").filter(|uuid| uuid.len() == uuid::fmt::Hyphenated::LENGTH);
        uuid.filter(|_| is_wired(ini)).map(str::to_owned)
    };
    let fresh = |path: &str| uuid_of(new.name.as_str(), path);
    let changes: Vec<(String, String)> =
        files.iter().filter_map(|(path, ini)| Some((old(ini)?, fresh(path)))).collect();
    for (path, ini) in files {
        let text = changes.iter().fold(ini.render(), |text, (old, fresh)| text.replace(old, fresh));
        let mut changed = Ini::parse(&text);
        if old(ini).is_some() {
            changed.set("connection", "uuid", &fresh(path));
        }
        tree.write(path, &changed.render());
    }
}

fn forget_hardware(ini: &mut Ini, is_first: bool, new: &Identity) {
    for section in HARDWARE {
        if ini.get(section, "mac-address").is_some() {
            match first_mac(new) {
                Some(mac) if is_first => ini.set(section, "mac-address", &mac.to_string().to_ascii_uppercase()),
                Some(_) | None => ini.remove(section, |key| key == "mac-address"),
            }
        }
        if ini.get(section, "cloned-mac-address").is_some_and(|value| value.contains([':', '-'])) {
            ini.remove(section, |key| key == "cloned-mac-address");
        }
    }
}

fn is_address(key: &str) -> bool {
    key == "gateway" || key == "addresses" || key.strip_prefix("address").is_some_and(|n| n.parse::<u16>().is_ok())
}

fn set_first(ini: &mut Ini, new: &Identity) {
    let fixed = fixed(new);
    for (section, is_ipv4) in [("ipv4", true), ("ipv6", false)] {
        ini.remove(section, |key| matches!(key, "dhcp-hostname" | "dhcp-fqdn" | "dhcp-client-id" | "dhcp-duid"));
        match fixed.filter(|fixed| fixed.is_ipv4() == is_ipv4) {
            Some(fixed) => set_fixed(ini, section, fixed),
            None if ini.get(section, "method") == Some("manual") => set_auto(ini, section),
            // Asked for DHCP: not a family that was off, which is IPv6 if any.
            None if fixed.is_none() && is_ipv4 && ini.get(section, "method") != Some("auto") => set_auto(ini, section),
            None => ini.remove(section, is_address),
        }
        let servers = fixed.map(|fixed| fixed.dns_text(";", |server| server.is_ipv4() == is_ipv4));
        match servers {
            Some(servers) if !servers.is_empty() => ini.set(section, "dns", &format!("{servers};")),
            Some(_) => ini.remove(section, |key| key == "dns"),
            None => {}
        }
    }
}

fn set_auto(ini: &mut Ini, section: &str) {
    ini.remove(section, |key| is_address(key) || key == "dns");
    ini.set(section, "method", "auto");
}

fn set_fixed(ini: &mut Ini, section: &str, fixed: Fixed<'_>) {
    // The order of the lines is that of the removed ones, so that a second run finds nothing to do.
    let mut address = fixed.address.to_string();
    if let Some(gateway) = fixed.gateway {
        address = format!("{address},{gateway}");
    }
    ini.remove(section, |key| is_address(key) && key != "address1");
    ini.set(section, "method", "manual");
    ini.set(section, "address1", &address);
}

/// A UUID (of version 8) that differs from clone to clone and is the same each time it is made for the same one.
fn uuid_of(name: &str, path: &str) -> String {
    // FNV-1a of 128 bits: it only has to be spread, nobody attacks it.
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let step = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    let hash = name.bytes().chain([0]).chain(path.bytes()).fold(BASIS, step);
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid().to_string()
}
