//! The network of a guest's first interface, in each form in which guests configure it. Every file here edits in place:
//! other interfaces, unknown settings and comments stay.

pub(super) mod ifcfg;
pub(super) mod ifupdown;
mod ini;
pub(super) mod keyfile;
pub(super) mod netplan;
pub(super) mod networkd;
pub(super) mod resolver;
pub(super) mod sysconfig;

use std::net::IpAddr;

use maglica_proto::{
    job::Network,
    net::{IpPrefix, MacAddr},
};

use super::Identity;

/// A fixed address, borrowed from the wish.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fixed<'a> {
    pub(super) address: IpPrefix,
    pub(super) gateway: Option<IpAddr>,
    pub(super) dns: &'a [IpAddr],
}

impl Fixed<'_> {
    pub(super) fn is_ipv4(&self) -> bool {
        self.address.address().is_ipv4()
    }

    /// The name servers of one family or, for none, of both.
    pub(super) fn dns_text(&self, separator: &str, keep: impl Fn(&IpAddr) -> bool) -> String {
        self.dns.iter().filter(|server| keep(server)).map(ToString::to_string).collect::<Vec<_>>().join(separator)
    }
}

/// The fixed address that is wished for; none for DHCP.
pub(super) fn fixed(new: &Identity) -> Option<Fixed<'_>> {
    match &new.customization.network {
        Network::Dhcp => None,
        Network::Static { address, gateway, dns } => Some(Fixed { address: *address, gateway: *gateway, dns }),
    }
}

/// The first interface's address, if it is known.
pub(super) fn first_mac(new: &Identity) -> Option<MacAddr> {
    new.macs.first().copied()
}
