//! netplan's YAML files in `/etc/netplan`.
//!
//! netplan merges its files, and lists in them add up: a file of our own could add an address but not take the image's
//! away. So the file that has the interface is changed. Its settings stay but those of the address; comments inside
//! it are lost, for YAML is read and written as data, those at its top stay.

use serde_norway::{Mapping, Value};

use super::{Fixed, first_mac, fixed};
use crate::customize::{CustomizeError, Identity, Tree};

pub(in crate::customize) const FOLDER: &str = "/etc/netplan";
/// Kinds of interfaces that can have the machine's address, in the order in which they are looked through.
const KINDS: [&str; 4] = ["ethernets", "bonds", "bridges", "vlans"];
/// What an interface says of its addresses.
const ADDRESS_KEYS: [&str; 7] =
    ["addresses", "gateway4", "gateway6", "nameservers", "macaddress", "dhcp-identifier", "dhcp6"];

fn is_set(settings: &Mapping, key: &str) -> bool {
    match settings.get(key) {
        Some(Value::Sequence(list)) => !list.is_empty(),
        Some(Value::Bool(on)) => *on,
        Some(Value::String(_)) => true,
        Some(Value::Null | Value::Number(_) | Value::Mapping(_) | Value::Tagged(_)) | None => false,
    }
}

/// The first interface with an address, else the first Ethernet: its kind and its name.
fn first(yaml: &Value, with_address: bool) -> Option<(&'static str, String)> {
    KINDS.into_iter().find_map(|kind| {
        let found = yaml.get("network")?.get(kind)?.as_mapping()?;
        found.iter().find_map(|(name, settings)| {
            let has =
                settings.as_mapping().is_some_and(|s| ["dhcp4", "dhcp6", "addresses"].iter().any(|k| is_set(s, k)));
            (has || !with_address && kind == "ethernets").then(|| name.as_str().map(|name| (kind, name.to_owned())))?
        })
    })
}

/// Configures the first interface. Returns whether there is one.
///
/// # Errors
/// [`CustomizeError::Unsupported`] if a file is not YAML.
pub(in crate::customize) fn set(tree: &mut Tree, new: &Identity) -> Result<bool, CustomizeError> {
    let mut files = Vec::new();
    for path in tree.files(FOLDER, |name| name.ends_with(".yaml")) {
        let Some(bytes) = tree.bytes(&path) else { continue };
        let yaml: Value = serde_norway::from_slice(bytes).map_err(|error| CustomizeError::Unsupported {
            what: "network",
            why: format!("{path} cannot be read: {error}"),
        })?;
        files.push((path, yaml));
    }
    let chosen = |with_address| files.iter().find_map(|(_, yaml)| first(yaml, with_address));
    let Some((kind, name)) = chosen(true).or_else(|| chosen(false)) else { return Ok(false) };
    let mut placed = false;
    for (path, yaml) in files {
        let mut edited = yaml.clone();
        let settings = edited.get_mut("network").and_then(|n| n.get_mut(kind)).and_then(|k| k.get_mut(name.as_str()));
        let Some(settings) = settings else { continue };
        if settings.is_null() {
            *settings = Value::Mapping(Mapping::new());
        }
        let Some(settings) = settings.as_mapping_mut() else { continue };
        // Another file that speaks of it too only loses what it says of addresses.
        set_first(settings, new, placed);
        placed = true;
        if edited != yaml {
            write(tree, &path, &edited)?;
        }
    }
    Ok(placed)
}

fn write(tree: &mut Tree, path: &str, yaml: &Value) -> Result<(), CustomizeError> {
    let body = serde_norway::to_string(yaml).map_err(|error| CustomizeError::Unsupported {
        what: "network",
        why: format!("{path} cannot be written: {error}"),
    })?;
    let text = tree.text(path).unwrap_or_default();
    let comments = text.split_inclusive('\n').take_while(|line| line.starts_with('#') || line.trim_ascii().is_empty());
    let head: String = comments.collect();
    tree.write(path, &format!("{head}{}", crate::customize::tree::as_read(&body)));
    Ok(())
}

fn strings(values: impl IntoIterator<Item = String>) -> Value {
    Value::Sequence(values.into_iter().map(Value::String).collect())
}

fn is_default(route: &Value) -> bool {
    matches!(route.get("to").and_then(Value::as_str), Some("default" | "0.0.0.0/0" | "::/0"))
}

fn set_first(settings: &mut Mapping, new: &Identity, only_clear: bool) {
    let fixed = fixed(new);
    let was_dhcp = is_set(settings, "dhcp4") || is_set(settings, "dhcp6");
    let had_dhcp6 = is_set(settings, "dhcp6");
    let servers = settings.get("nameservers").cloned();
    for key in ADDRESS_KEYS {
        settings.shift_remove(key);
    }
    if let Some(routes) = settings.get_mut("routes").and_then(Value::as_sequence_mut) {
        routes.retain(|route| !is_default(route));
        if routes.is_empty() {
            settings.shift_remove("routes");
        }
    }
    for key in ["dhcp4-overrides", "dhcp6-overrides"] {
        if let Some(overrides) = settings.get_mut(key).and_then(Value::as_mapping_mut) {
            overrides.shift_remove("hostname");
        }
    }
    set_match(settings, new);
    if only_clear {
        settings.shift_remove("dhcp4");
        return;
    }
    match fixed {
        Some(fixed) => set_fixed(settings, fixed, was_dhcp),
        None => {
            settings.insert("dhcp4".into(), true.into());
            // Name servers and IPv6 that were set beside DHCP stay; those of a fixed address went with it.
            if let Some(servers) = servers.filter(|_| was_dhcp) {
                settings.insert("nameservers".into(), servers);
            }
            if had_dhcp6 {
                settings.insert("dhcp6".into(), true.into());
            }
        }
    }
}

fn set_match(settings: &mut Mapping, new: &Identity) {
    let Some(matched) = settings.get_mut("match").and_then(Value::as_mapping_mut) else { return };
    if matched.contains_key("macaddress") {
        match first_mac(new) {
            Some(mac) => drop(matched.insert("macaddress".into(), mac.to_string().into())),
            None => drop(matched.shift_remove("macaddress")),
        }
    }
    // An empty one would match every interface.
    if matched.is_empty() {
        settings.shift_remove("match");
        settings.shift_remove("set-name");
    }
}

fn set_fixed(settings: &mut Mapping, fixed: Fixed<'_>, was_dhcp: bool) {
    // The other family stays automatic if it was.
    let dhcp4 = was_dhcp && !fixed.is_ipv4();
    settings.insert("dhcp4".into(), dhcp4.into());
    settings.insert("addresses".into(), strings([fixed.address.to_string()]));
    if let Some(gateway) = fixed.gateway {
        // In CIDR form: netplan before 0.103 does not know the word `default`.
        let to = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let mut route = Mapping::new();
        route.insert("to".into(), to.into());
        route.insert("via".into(), gateway.to_string().into());
        match settings.get_mut("routes").and_then(Value::as_sequence_mut) {
            Some(routes) => routes.push(Value::Mapping(route)),
            None => drop(settings.insert("routes".into(), Value::Sequence(vec![Value::Mapping(route)]))),
        }
    }
    if !fixed.dns.is_empty() {
        let mut servers = Mapping::new();
        servers.insert("addresses".into(), strings(fixed.dns.iter().map(ToString::to_string)));
        settings.insert("nameservers".into(), Value::Mapping(servers));
    }
}
