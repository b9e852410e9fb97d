//! From a guest's files and its new identity to the edits that make it so. Pure: knows no libguestfs.

use maglica_proto::job::Network;

use super::{CustomizeError, Edit, Identity, Tree, Want, debian, hosts, identity, redhat};

/// A family of distributions that keep their configuration in the same places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian, Ubuntu and what is made of them.
    Debian,
    /// Red Hat Enterprise Linux, Fedora and what is made of them.
    RedHat,
}

impl Family {
    /// The family by what libguestfs says of the system.
    ///
    /// `distro` is what `inspect-get-distro` says, `packages` what `inspect-get-package-management` does: a
    /// distribution that this libguestfs does not know by name yet is known by its package tool.
    #[must_use]
    pub fn of(kind: &str, distro: &str, packages: &str) -> Option<Self> {
        if kind != "linux" {
            return None;
        }
        match (distro, packages) {
            ("debian" | "ubuntu" | "linuxmint" | "kalilinux", _) | (_, "apt") => Some(Self::Debian),
            (
                "rhel" | "centos" | "fedora" | "rocky" | "almalinux" | "circle" | "oraclelinux" | "scientificlinux"
                | "redhat-based",
                _,
            )
            | (_, "yum" | "dnf") => Some(Self::RedHat),
            _ => None,
        }
    }
}

/// What is to be done to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The edits, in their order.
    pub edits: Vec<Edit>,
    /// What they bring about, in words. Name, network and identity are always named, for they are seen to even if the
    /// guest had them right; the rest only if there was something to do.
    pub changed: Vec<String>,
}

/// What has to be read of a guest before [`plan`] can judge it.
#[must_use]
pub fn wants(new: &Identity) -> Vec<Want> {
    let mut all = identity::WANTS.to_vec();
    all.extend_from_slice(debian::WANTS);
    all.extend_from_slice(redhat::WANTS);
    if new.customization.root_password_hash.is_some() {
        all.push(Want::File(identity::SHADOW));
    }
    all
}

/// Plans what makes the guest with these files into `new`.
///
/// # Errors
/// [`CustomizeError::Unsupported`] if something was asked for that cannot be done to this guest.
pub fn plan(family: Family, before: &Tree, new: &Identity) -> Result<Plan, CustomizeError> {
    let mut tree = before.clone();
    let mut changed = Vec::new();

    let old_names = hosts::old_names(&tree);
    match family {
        Family::Debian => debian::set_name(&mut tree, new, &old_names, &mut changed),
        Family::RedHat => redhat::set_name(&mut tree, new, &mut changed),
    }
    hosts::set_name(&mut tree, new, &old_names);
    changed.extend(["hostname".to_owned(), "hosts".to_owned()]);

    let configured = match family {
        Family::Debian => debian::set_network(&mut tree, new)?,
        Family::RedHat => redhat::set_network(&mut tree, new)?,
    };
    changed.push(match (&new.customization.network, configured) {
        (Network::Dhcp, true) => "network (dhcp)".to_owned(),
        (Network::Dhcp, false) => "network (left as it was)".to_owned(),
        (Network::Static { address, .. }, true) => format!("network ({address})"),
        (Network::Static { .. }, false) => {
            let why = "none of the configurations that Maglica knows (ifupdown, netplan, systemd-networkd, \
                       NetworkManager, ifcfg) has an interface to give the address to";
            return Err(CustomizeError::Unsupported { what: "static address", why: why.to_owned() });
        }
    });

    identity::reset(&mut tree, family, new, &mut changed)?;
    Ok(Plan { edits: tree.edits_since(before), changed })
}
