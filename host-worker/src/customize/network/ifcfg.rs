//! `ifcfg-*` in `/etc/sysconfig/network-scripts`, read by the network scripts of Red Hat 5 to 8 and by NetworkManager.

use std::net::IpAddr;

use super::{Fixed, first_mac, fixed, sysconfig};
use crate::customize::{Identity, Tree};

pub(in crate::customize) const FOLDER: &str = "/etc/sysconfig/network-scripts";
const GLOBAL: &str = "/etc/sysconfig/network";

/// Whether a key is of the group `stem`, numbered or not: `IPADDR`, `IPADDR0`, `IPADDR1`.
fn numbered(key: &str, stem: &str) -> bool {
    key.strip_prefix(stem).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_ipv4_key(key: &str) -> bool {
    ["IPADDR", "PREFIX", "NETMASK", "GATEWAY", "BROADCAST", "NETWORK"].iter().any(|stem| numbered(key, stem))
}

fn is_ipv6_key(key: &str) -> bool {
    matches!(key, "IPV6ADDR" | "IPV6ADDR_SECONDARIES" | "IPV6_DEFAULTGW" | "IPV6_DEFAULTDEV")
}

/// Whether it is a port of a bridge, bond or team, which has no address of its own.
fn is_port(text: &str) -> bool {
    ["BRIDGE", "MASTER", "TEAM_MASTER"].iter().any(|key| sysconfig::get(text, key).is_some())
}

/// The interface's name by its file.
fn device(path: &str, text: &str) -> String {
    let by_name = || path.rsplit_once("ifcfg-").map(|(_, name)| name.to_owned()).unwrap_or_default();
    sysconfig::get(text, "DEVICE").unwrap_or_else(by_name)
}

/// Configures the first interface. Returns its name if there is one.
pub(in crate::customize) fn set(tree: &mut Tree, new: &Identity) -> Option<String> {
    let mut files: Vec<(String, String)> = tree
        .files(FOLDER, |name| {
            let backup = [".bak", ".orig", ".rpmnew", ".rpmsave", "~"].iter().any(|end| name.ends_with(end));
            name.starts_with("ifcfg-") && name != "ifcfg-lo" && !backup
        })
        .into_iter()
        .filter_map(|path| tree.text(&path).map(|text| (path, text)))
        .collect();
    let configured =
        |text: &str| ["BOOTPROTO", "IPADDR", "IPADDR0", "IPV6ADDR"].iter().any(|k| sysconfig::get(text, k).is_some());
    let first = files
        .iter()
        .position(|(_, text)| !is_port(text) && configured(text))
        .or_else(|| files.iter().position(|(_, text)| !is_port(text)))?;
    for (index, (path, text)) in files.iter_mut().enumerate() {
        let mac = if index == first { first_mac(new) } else { new.macs.get(index).copied() };
        let mut edited = forget_hardware(text, mac.map(|mac| mac.to_string()));
        if index == first {
            edited = set_first(&edited, new);
        }
        tree.write(path, &edited);
        *text = edited;
    }
    // A default route for all interfaces would win over the one of the interface.
    if let Some(text) = tree.text(GLOBAL) {
        tree.write(GLOBAL, &sysconfig::remove(&text, |key| matches!(key, "GATEWAY" | "GATEWAYDEV" | "IPV6_DEFAULTGW")));
    }
    files.get(first).map(|(path, text)| device(path, text))
}

/// The image's addresses of hardware, by which the interface would not be found any more, and its UUID, which
/// NetworkManager then makes of the file's name.
fn forget_hardware(text: &str, mac: Option<String>) -> String {
    let by_address_only = sysconfig::get(text, "DEVICE").is_none() && sysconfig::get(text, "HWADDR").is_some();
    let text = sysconfig::remove(text, |key| matches!(key, "UUID" | "MACADDR"));
    match mac {
        Some(mac) if by_address_only => sysconfig::set(&text, "HWADDR", &mac),
        Some(_) | None => sysconfig::remove(&text, |key| key == "HWADDR"),
    }
}

fn set_first(text: &str, new: &Identity) -> String {
    let fixed = fixed(new);
    let was_dhcp = sysconfig::get(text, "BOOTPROTO").is_some_and(|value| value == "dhcp");
    let old_style = sysconfig::get(text, "NETMASK").is_some();
    // Name servers that were set beside DHCP are meant to win over it; those of a fixed address went with it.
    let drop_dns = fixed.is_some() || !was_dhcp;
    let name_keys = ["DHCP_HOSTNAME", "DHCP_FQDN", "HOSTNAME"];
    let mut text = sysconfig::remove(text, |key| {
        is_ipv4_key(key) || is_ipv6_key(key) || key == "DHCP_CLIENT_ID" || drop_dns && numbered(key, "DNS")
    });
    for key in name_keys {
        if sysconfig::get(&text, key).is_some() {
            text = sysconfig::set(&text, key, new.name.as_str());
        }
    }
    text = sysconfig::set(&text, "ONBOOT", "yes");
    match fixed {
        Some(fixed) if fixed.is_ipv4() => {
            text = set_ipv4(&sysconfig::set(&text, "BOOTPROTO", "none"), fixed, old_style)
        }
        Some(fixed) => {
            text = sysconfig::set(&text, "BOOTPROTO", "dhcp");
            text = sysconfig::set(&text, "IPV6INIT", "yes");
            text = sysconfig::set(&text, "IPV6_AUTOCONF", "no");
            text = sysconfig::remove(&text, |key| key == "DHCPV6C");
            text = sysconfig::set(&text, "IPV6ADDR", &fixed.address.to_string());
            if let Some(gateway) = fixed.gateway {
                text = sysconfig::set(&text, "IPV6_DEFAULTGW", &gateway.to_string());
            }
        }
        None => text = sysconfig::set(&text, "BOOTPROTO", "dhcp"),
    }
    for (number, server) in fixed.map_or(&[] as &[IpAddr], |fixed| fixed.dns).iter().enumerate() {
        text = sysconfig::set(&text, &format!("DNS{}", number + 1), &server.to_string());
    }
    text
}

fn set_ipv4(text: &str, fixed: Fixed<'_>, old_style: bool) -> String {
    let mut text = sysconfig::set(text, "IPADDR", &fixed.address.address().to_string());
    match fixed.address.netmask() {
        Some(mask) if old_style => text = sysconfig::set(&text, "NETMASK", &mask.to_string()),
        Some(_) | None => text = sysconfig::set(&text, "PREFIX", &fixed.address.prefix().to_string()),
    }
    match fixed.gateway {
        Some(gateway) => sysconfig::set(&text, "GATEWAY", &gateway.to_string()),
        None => text,
    }
}
