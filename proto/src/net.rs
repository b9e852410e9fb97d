//! Addresses of virtual machines: MAC addresses, and an IP address with its prefix length.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The text is not an address of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Not six hexadecimal pairs.
    #[error("{0:?} is not a MAC address, for example 52:54:00:12:34:56")]
    Mac(String),
    /// Not `address/prefix`.
    #[error("{0:?} is not an address with its prefix length, for example 192.168.0.10/24 or 2001:db8::10/64")]
    Prefix(String),
}

/// A network interface's hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// An address of qemu's and KVM's own range, 52:54:00, with these three last bytes.
    #[must_use]
    pub const fn kvm(tail: [u8; 3]) -> Self {
        Self([0x52, 0x54, 0x00, tail[0], tail[1], tail[2]])
    }
}

impl FromStr for MacAddr {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress::Mac(text.chars().take(40).collect());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            // `from_str_radix` takes a sign as well.
            let pair = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let part = parts.next().filter(pair).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        parts.next().is_none().then_some(Self(bytes)).ok_or_else(invalid)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for MacAddr {
    type Error = InvalidAddress;
    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

/// An address and the length of its network's prefix, such as `192.168.0.10/24`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpPrefix {
    address: IpAddr,
    prefix: u8,
}

impl IpPrefix {
    /// The address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The netmask in dotted form, which old configuration files want; none for IPv6.
    #[must_use]
    pub fn netmask(self) -> Option<std::net::Ipv4Addr> {
        let host_bits = 32_u32.checked_sub(u32::from(self.prefix)).filter(|_| self.address.is_ipv4())?;
        Some(u32::MAX.checked_shl(host_bits).unwrap_or(0).into())
    }

    /// Whether `other` is an address of the same network.
    #[must_use]
    pub fn contains(self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(a) & mask == u32::from(b) & mask
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(a) & mask == u128::from(b) & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for IpPrefix {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress::Prefix(text.chars().take(60).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        // `parse` takes a sign and zeros in front as well; whoever compares texts would see two networks.
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit()) && !prefix.starts_with('0');
        let prefix: u8 = prefix.parse().ok().filter(|_| digits).ok_or_else(invalid)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix >= 1 && prefix <= longest).then_some(Self { address, prefix }).ok_or_else(invalid)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for IpPrefix {
    type Error = InvalidAddress;
    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<IpPrefix> for String {
    fn from(address: IpPrefix) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_reads_back_as_it_shows() {
        let mac: MacAddr = "52:54:00:AB:cd:ef".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
        for text in
            ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "52-54-00-12-34-56", "5:4:0:1:2:3", "+2:54:00:12:34:56"]
        {
            assert!(text.parse::<MacAddr>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_with_its_prefix_knows_its_network() {
        let net: IpPrefix = "192.168.0.10/24".parse().unwrap();
        assert_eq!(net.netmask().unwrap().to_string(), "255.255.255.0");
        assert_eq!("2001:db8::10/64".parse::<IpPrefix>().unwrap().netmask(), None);
        assert!(net.contains("192.168.0.1".parse().unwrap()));
        assert!(!net.contains("192.168.1.1".parse().unwrap()));
        for text in [
            "192.168.0.10",
            "192.168.0.10/33",
            "192.168.0.10/0",
            "2001:db8::1/129",
            "x/24",
            "10.0.0.1/+24",
            "10.0.0.1/024",
        ] {
            assert!(text.parse::<IpPrefix>().is_err(), "{text:?}");
        }
    }
}
