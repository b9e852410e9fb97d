//! A static address that makes sense: checked here, for a guest with a wrong one cannot be reached to put it right.

use std::net::IpAddr;

use maglica_proto::{job::Network, net::IpPrefix};

use crate::error::Error;

/// The network of `--ip`, `--gateway` and `--dns`.
///
/// # Errors
/// [`Error::Usage`] for options without `--ip`, [`Error::Input`] for addresses that do not go together.
pub fn network(ip: Option<IpPrefix>, gateway: Option<IpAddr>, dns: Vec<IpAddr>) -> Result<Network, Error> {
    let Some(address) = ip else {
        let option = if gateway.is_some() { "--gateway" } else { "--dns" };
        return if gateway.is_none() && dns.is_empty() {
            Ok(Network::Dhcp)
        } else {
            Err(Error::Usage(format!("{option} needs --ip: without an address the guest asks DHCP for everything")))
        };
    };
    let input = |what: &str, why: String| Error::Input { what: what.to_owned(), why };
    if let Some(why) = unusable(address) {
        return Err(input("--ip", format!("{address} is {why}")));
    }
    if let Some(gateway) = gateway {
        if gateway == address.address() {
            return Err(input("--gateway", format!("{gateway} is the guest's own address")));
        }
        // An IPv6 gateway is a link-local address as often as not, which is in no prefix.
        let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
        let on_link = address.contains(gateway) || (link_local && address.address().is_ipv6());
        if !on_link {
            return Err(input("--gateway", format!("{gateway} is not in the network of {address}")));
        }
    }
    if let Some(dns) = dns.iter().find(|dns| dns.is_unspecified() || dns.is_multicast()) {
        return Err(input("--dns", format!("{dns} cannot be a name server's address")));
    }
    Ok(Network::Static { address, gateway, dns })
}

fn unusable(address: IpPrefix) -> Option<&'static str> {
    let ip = address.address();
    if ip.is_unspecified() {
        return Some("no address");
    }
    if ip.is_loopback() {
        return Some("the loopback");
    }
    if ip.is_multicast() {
        return Some("a multicast address");
    }
    // With a prefix of 31 or 32 bits every address is a host's (RFC 3021).
    let (IpAddr::V4(v4), Some(mask), 0..=30) = (ip, address.netmask(), address.prefix()) else { return None };
    let host = u32::from(v4) & !u32::from(mask);
    if host == 0 {
        return Some("the address of the network itself");
    }
    (host == !u32::from(mask)).then_some("the broadcast address of its network")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ip: Option<&str>, gateway: Option<&str>, dns: &[&str]) -> Result<Network, String> {
        network(
            ip.map(|ip| ip.parse().unwrap()),
            gateway.map(|ip| ip.parse().unwrap()),
            dns.iter().map(|ip| ip.parse().unwrap()).collect(),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_that_go_together_are_taken() {
        assert_eq!(check(None, None, &[]), Ok(Network::Dhcp));
        assert!(check(Some("192.168.0.10/24"), Some("192.168.0.1"), &["10.0.0.1", "8.8.8.8"]).is_ok());
        assert!(check(Some("10.0.0.0/31"), Some("10.0.0.1"), &[]).is_ok());
        assert!(check(Some("2001:db8::10/64"), Some("fe80::1"), &[]).is_ok());
    }

    #[test]
    fn addresses_that_do_not_go_together_are_told() {
        for (ip, gateway, dns, word) in [
            (None, Some("10.0.0.1"), &[][..], "--gateway needs --ip"),
            (None, None, &["10.0.0.1"][..], "--dns needs --ip"),
            (Some("192.168.0.10/24"), Some("192.168.1.1"), &[][..], "not in the network"),
            (Some("192.168.0.10/24"), Some("192.168.0.10"), &[][..], "own address"),
            (Some("192.168.0.10/24"), Some("fe80::1"), &[][..], "not in the network"),
            (Some("192.168.0.0/24"), None, &[][..], "the network itself"),
            (Some("192.168.0.255/24"), None, &[][..], "broadcast"),
            (Some("127.0.0.1/8"), None, &[][..], "loopback"),
            (Some("192.168.0.10/24"), None, &["0.0.0.0"][..], "name server"),
        ] {
            let said = check(ip, gateway, dns).unwrap_err();
            assert!(said.contains(word), "{said}");
        }
    }
}
