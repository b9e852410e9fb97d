//! systemd-networkd's `.network` and `.link` files in `/etc/systemd/network`.

use super::{first_mac, fixed, ini::Ini};
use crate::customize::{Identity, Tree};

pub(in crate::customize) const FOLDER: &str = "/etc/systemd/network";

/// Configures the first interface. Returns whether there is one.
pub(in crate::customize) fn set(tree: &mut Tree, new: &Identity) -> bool {
    let files: Vec<(String, Ini)> = tree
        .files(FOLDER, |name| name.ends_with(".network"))
        .into_iter()
        .filter_map(|path| tree.text(&path).map(|text| (path, Ini::parse(&text))))
        .filter(|(_, ini)| ini.get("Match", "Name") != Some("lo") && ini.has_section("Match"))
        .collect();
    let configured = |ini: &Ini| {
        ini.has_section("Address") || ["DHCP", "Address"].iter().any(|key| ini.get("Network", key).is_some())
    };
    let chosen = files.iter().position(|(_, ini)| configured(ini)).or(if files.is_empty() { None } else { Some(0) });
    let Some((path, mut ini)) = chosen.and_then(|at| files.into_iter().nth(at)) else { return false };
    set_match(&mut ini, new);
    set_first(&mut ini, new);
    tree.write(&path, &ini.render());

    let links: Vec<(String, Ini)> = tree
        .files(FOLDER, |name| name.ends_with(".link"))
        .into_iter()
        .filter_map(|path| tree.text(&path).map(|text| (path, Ini::parse(&text))))
        .filter(|(_, ini)| ini.get("Match", "MACAddress").is_some())
        .collect();
    // With several there is no telling which interface is which.
    if let ([(path, ini)], Some(mac)) = (links.as_slice(), first_mac(new)) {
        let mut ini = ini.clone();
        ini.set("Match", "MACAddress", &mac.to_string());
        tree.write(path, &ini.render());
    }
    true
}

fn set_match(ini: &mut Ini, new: &Identity) {
    for key in ["MACAddress", "PermanentMACAddress"] {
        if ini.get("Match", key).is_some() {
            match first_mac(new) {
                Some(mac) => ini.set("Match", key, &mac.to_string()),
                None => ini.remove("Match", |found| found == key),
            }
        }
    }
    ini.remove("Link", |key| key == "MACAddress");
}

fn set_first(ini: &mut Ini, new: &Identity) {
    let fixed = fixed(new);
    let dhcp = ini.get("Network", "DHCP").unwrap_or_default().to_ascii_lowercase();
    let was_dhcp = ["yes", "true", "1", "on", "both", "v4", "v6", "ipv4", "ipv6"].contains(&dhcp.as_str());
    ini.remove_sections(|section| {
        section.name() == "Address"
            || section.name() == "Route" && section.get("Gateway").is_some() && section.get("Destination").is_none()
    });
    for section in ["DHCP", "DHCPv4", "DHCPv6"] {
        ini.remove(section, |key| matches!(key, "Hostname" | "ClientIdentifier" | "DUIDRawData"));
    }
    let mut set = |key: &str, value: String| {
        if value.is_empty() {
            ini.remove("Network", |found| found == key);
        } else {
            ini.set("Network", key, &value);
        }
    };
    match fixed {
        Some(fixed) => {
            // The other family stays automatic if it was.
            let other = if !was_dhcp {
                "no"
            } else if fixed.is_ipv4() {
                "ipv6"
            } else {
                "ipv4"
            };
            set("DHCP", other.to_owned());
            set("Address", fixed.address.to_string());
            set("Gateway", fixed.gateway.map(|gateway| gateway.to_string()).unwrap_or_default());
            set("DNS", fixed.dns_text(" ", |_| true));
        }
        None => {
            let (address, gateway) = (String::new(), String::new());
            set("Address", address);
            set("Gateway", gateway);
            if !was_dhcp {
                set("DHCP", "yes".to_owned());
                set("DNS", String::new());
            }
        }
    }
}
