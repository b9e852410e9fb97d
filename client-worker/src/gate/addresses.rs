//! Who has how many connections. Pure; the accept loop owns the one table of its gate.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use maglica_proto::transport::bucket::SharedBucket;

use super::{GateLimits, Refusal};

/// What one machine is given at least: its addresses count as one.
const IPV6_SITE: u32 = 64;

/// Connections per address and in all.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    total: usize,
    entries: HashMap<IpAddr, Entry>,
}

#[derive(Debug)]
struct Entry {
    connections: usize,
    rate: Option<Arc<SharedBucket>>,
}

impl Addresses {
    /// Lets one connection of `ip` in, and gives the bucket that the address's connections share.
    pub(super) fn enter(
        &mut self,
        ip: IpAddr,
        limits: &GateLimits,
        now: Instant,
    ) -> Result<Option<Arc<SharedBucket>>, Refusal> {
        let ip = ip.to_canonical();
        if !limits.allow.is_empty() && !limits.allow.iter().any(|net| net.contains(ip)) {
            return Err(Refusal::NotAllowed);
        }
        if self.total >= limits.max_connections {
            return Err(Refusal::TotalLimit);
        }
        let most = if ip.is_loopback() { limits.max_per_loopback } else { limits.max_per_address };
        let entry = self.entries.entry(site(ip)).or_insert_with(|| Entry {
            connections: 0,
            rate: (!ip.is_loopback()).then(|| Arc::new(SharedBucket::new(limits.address_rate, now))),
        });
        if entry.connections >= most {
            return Err(Refusal::AddressLimit);
        }
        entry.connections += 1;
        self.total += 1;
        Ok(entry.rate.clone())
    }

    /// One connection of `ip` has ended.
    pub(super) fn leave(&mut self, ip: IpAddr) {
        let site = site(ip);
        if let Some(entry) = self.entries.get_mut(&site) {
            self.total -= 1;
            entry.connections -= 1;
            if entry.connections == 0 {
                self.entries.remove(&site);
            }
        }
    }
}

/// The addresses that count as one.
pub(super) fn site(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) if v6.is_loopback() => v6.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << IPV6_SITE)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> GateLimits {
        GateLimits { max_connections: 4, max_per_address: 2, max_per_loopback: 3, ..GateLimits::default() }
    }

    fn enter(table: &mut Addresses, ip: &str, limits: &GateLimits) -> Result<(), Refusal> {
        table.enter(ip.parse().unwrap(), limits, Instant::now()).map(drop)
    }

    #[test]
    fn caps_hold_per_address_and_in_all_and_open_again_when_one_leaves() {
        let (mut table, limits) = (Addresses::default(), limits());
        for _ in 0..2 {
            assert_eq!(enter(&mut table, "192.0.2.1", &limits), Ok(()));
        }
        assert_eq!(enter(&mut table, "192.0.2.1", &limits), Err(Refusal::AddressLimit));
        assert_eq!(enter(&mut table, "::ffff:192.0.2.1", &limits), Err(Refusal::AddressLimit), "the same machine");
        for _ in 0..2 {
            assert_eq!(enter(&mut table, "127.0.0.1", &limits), Ok(()));
        }
        assert_eq!(enter(&mut table, "127.0.0.1", &limits), Err(Refusal::TotalLimit));
        table.leave("192.0.2.1".parse().unwrap());
        assert_eq!(enter(&mut table, "127.0.0.1", &limits), Ok(()));
        for _ in 0..3 {
            table.leave("127.0.0.1".parse().unwrap());
        }
        table.leave("192.0.2.1".parse().unwrap());
        assert!(table.entries.is_empty() && table.total == 0);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let (mut table, limits) = (Addresses::default(), limits());
        assert_eq!(enter(&mut table, "2001:db8::1", &limits), Ok(()));
        assert_eq!(enter(&mut table, "2001:db8::2", &limits), Ok(()));
        assert_eq!(enter(&mut table, "2001:db8::3", &limits), Err(Refusal::AddressLimit));
        assert_eq!(enter(&mut table, "2001:db8:0:1::1", &limits), Ok(()));
    }

    #[test]
    fn an_allow_list_keeps_everybody_else_out() {
        let limits = GateLimits { allow: vec!["192.0.2.0/24".parse().unwrap()], ..limits() };
        let mut table = Addresses::default();
        assert_eq!(enter(&mut table, "192.0.2.9", &limits), Ok(()));
        assert_eq!(enter(&mut table, "::ffff:192.0.2.9", &limits), Ok(()));
        for other in ["198.51.100.1", "127.0.0.1", "::1"] {
            assert_eq!(enter(&mut table, other, &limits), Err(Refusal::NotAllowed), "{other}");
        }
    }
}
