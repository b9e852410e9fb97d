//! What a guest's agent answers. Pure. The guest may be anybody's: what it says of itself is shown and stored, so it is
//! cut to what a sane guest says, and holds nothing that a terminal would obey.

use std::net::IpAddr;

use maglica_proto::{job::GuestAnswer, net::MacAddr};
use serde::Deserialize;

use super::domain_xml::guest_address;

/// The most characters of a host name that are believed: DNS has no longer ones.
pub const HOST_NAME_MAX: usize = 253;
/// The most addresses that are believed. A report that lists a million would not fit into a message.
pub const ADDRESSES_MAX: usize = 64;

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    value: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct HostNameAnswer {
    host_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct InterfaceAnswer {
    #[serde(default)]
    hardware_address: Option<String>,
    #[serde(default)]
    ip_addresses: Vec<AddressAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AddressAnswer {
    ip_address: String,
}

/// Reads the answers to `guest-get-host-name` and `guest-network-get-interfaces`.
///
/// # Errors
/// If one of them is something else.
pub fn read(name: &str, interfaces: &str) -> Result<GuestAnswer, serde_json::Error> {
    let name: Answer<HostNameAnswer> = serde_json::from_str(name)?;
    let interfaces: Answer<Vec<InterfaceAnswer>> = serde_json::from_str(interfaces)?;
    let addresses: Vec<IpAddr> = interfaces
        .value
        .iter()
        .flat_map(|interface| &interface.ip_addresses)
        .filter_map(|address| guest_address(&address.ip_address))
        .take(ADDRESSES_MAX)
        .collect();
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let hostname = name.value.host_name.chars().take(HOST_NAME_MAX).map(plain).collect();
    Ok(GuestAnswer::Up { hostname, addresses })
}

/// The addresses of a guest's interfaces as it has them, by the interface's own address.
pub type Heard = Vec<(MacAddr, Vec<IpAddr>)>;

/// Reads the answer to `guest-network-get-interfaces`.
///
/// # Errors
/// If it is something else.
pub fn interfaces(text: &str) -> Result<Heard, serde_json::Error> {
    let interfaces: Answer<Vec<InterfaceAnswer>> = serde_json::from_str(text)?;
    let mut left = ADDRESSES_MAX;
    let heard = interfaces.value.iter().filter_map(|interface| {
        let mac = interface.hardware_address.as_ref()?.parse().ok()?;
        let addresses = interface.ip_addresses.iter().filter_map(|address| guest_address(&address.ip_address));
        let addresses: Vec<IpAddr> = addresses.take(left).collect();
        left -= addresses.len();
        (!addresses.is_empty()).then_some((mac, addresses))
    });
    Ok(heard.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_make_a_report_too_long_or_speak_to_a_terminal() {
        let name = format!(r#"{{"return":{{"host-name":"\u001b[2J{}"}}}}"#, "x".repeat(1 << 20));
        let one = r#"{"ip-address":"10.0.0.1"},"#.repeat(10_000);
        let interfaces = format!(r#"{{"return":[{{"ip-addresses":[{one}{{"ip-address":"10.0.0.2"}}]}}]}}"#);
        let GuestAnswer::Up { hostname, addresses } = read(&name, &interfaces).unwrap() else { panic!("it answered") };
        assert!(hostname.starts_with("?[2Jxx") && hostname.len() == HOST_NAME_MAX, "{hostname}");
        assert_eq!(addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn the_agents_answers_are_read_without_loopback_and_link_local_addresses() {
        // As qemu-guest-agent 7.2 of Debian 12 gives them.
        let name = r#"{"return":{"host-name":"vm0.example.jp"}}"#;
        let interfaces = r#"{"return":[
            {"name":"lo","ip-addresses":[{"ip-address-type":"ipv4","ip-address":"127.0.0.1","prefix":8}],
             "hardware-address":"00:00:00:00:00:00"},
            {"name":"enp1s0","ip-addresses":[
               {"ip-address-type":"ipv4","ip-address":"192.168.122.50","prefix":24},
               {"ip-address-type":"ipv6","ip-address":"fe80::5054:ff:fe6b:3c58","prefix":64}],
             "hardware-address":"52:54:00:6b:3c:58"},
            {"name":"enp2s0","hardware-address":"52:54:00:6b:3c:59"}]}"#;
        assert_eq!(
            read(name, interfaces).unwrap(),
            GuestAnswer::Up {
                hostname: "vm0.example.jp".to_owned(),
                addresses: vec!["192.168.122.50".parse().unwrap()],
            }
        );
        assert!(read("{}", interfaces).is_err());
        let heard = vec![("52:54:00:6b:3c:58".parse().unwrap(), vec!["192.168.122.50".parse().unwrap()])];
        assert_eq!(super::interfaces(interfaces).unwrap(), heard, "by interface, and none without an address");
    }
}
