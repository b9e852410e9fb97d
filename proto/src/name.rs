//! Names, each checked once against its grammar when it arrives; inside, a name is known to be good.
//!
//! A name of ours ([`GuestName`], [`HostName`], [`OperatorName`]) is strict. A name that libvirt already holds
//! ([`DomainName`], [`PoolName`], [`VolumeName`], [`SnapshotName`]) may be anything that is safe to show and to hand to libvirt,
//! for what an administrator made with other tools is to be seen and used as well.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::is_unfit;

/// Why a text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {why}")]
pub struct InvalidName {
    /// The text, cut to 80 characters.
    pub text: String,
    /// What it was to be the name of.
    pub kind: &'static str,
    /// The rule it breaks.
    pub why: &'static str,
}

/// Linux refuses host names longer than this (`HOST_NAME_MAX`).
const LINUX_HOST_NAME_MAX: usize = 64;
/// RFC 1123: the length of a whole DNS name.
const DNS_NAME_MAX: usize = 253;
/// RFC 1123: the length of one label.
const DNS_LABEL_MAX: usize = 63;
/// A file name's limit on Linux; libvirt makes files of domain, pool and volume names.
const FILE_NAME_MAX: usize = 255;
/// Ours: an operator's or a group's name fits a column.
const WORD_MAX: usize = 64;

fn check_dns(text: &str, max: usize, too_long: &'static str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') {
        return Err("only letters a-z, digits, '-' and '.' are allowed");
    }
    if text.len() > max {
        return Err(too_long);
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Err("it begins or ends with '.', or has two in a row");
        }
        if label.len() > DNS_LABEL_MAX {
            return Err("a part between dots is longer than 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a part between dots begins or ends with '-'");
        }
    }
    if text.split('.').all(|label| label.bytes().all(|b| b.is_ascii_digit())) {
        return Err("it has digits only, as an address");
    }
    Ok(())
}

fn check_guest(text: &str) -> Result<(), &'static str> {
    check_dns(text, LINUX_HOST_NAME_MAX, "it is longer than the 64 characters that Linux allows a host name")
}

fn check_host(text: &str) -> Result<(), &'static str> {
    check_dns(text, DNS_NAME_MAX, "it is longer than 253 characters")
}

fn check_libvirt(text: &str) -> Result<(), &'static str> {
    if text.trim().is_empty() {
        return Err("it is empty");
    }
    if text.len() > FILE_NAME_MAX {
        return Err("it is longer than 255 bytes");
    }
    if text.contains('/') || text == "." || text == ".." {
        return Err("it would name a path");
    }
    if text.chars().any(is_unfit) {
        return Err("it holds a control character or an invisible one");
    }
    Ok(())
}

fn check_word(text: &str) -> Result<(), &'static str> {
    let first = text.bytes().next().ok_or("it is empty")?;
    if !first.is_ascii_alphanumeric() {
        return Err("it does not begin with a letter or digit");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b)) {
        return Err("only letters a-z, digits and - _ . @ are allowed");
    }
    if text.len() > WORD_MAX {
        return Err("it is longer than 64 characters");
    }
    Ok(())
}

/// Linux: a path's limit, the final NUL included.
const PATH_MAX: usize = 4096;
/// Ours: libvirt's longest, `xvdzzz`, is far shorter.
const TARGET_MAX: usize = 16;

fn check_path(text: &str) -> Result<(), &'static str> {
    if !text.starts_with('/') {
        return Err("it does not begin with '/'");
    }
    if text.len() >= PATH_MAX {
        return Err("it is longer than 4095 bytes");
    }
    if text.split('/').any(|part| part == "..") {
        return Err("it has a part '..'");
    }
    if text.chars().any(is_unfit) {
        return Err("it holds a control character or an invisible one");
    }
    Ok(())
}

fn check_target(text: &str) -> Result<(), &'static str> {
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err("a disk is named by its device in the machine, such as vda or sdb");
    }
    if text.len() > TARGET_MAX {
        return Err("it is longer than 16 characters");
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path, lowercase: $lower:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// [`InvalidName`] with the rule that the text breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                match $check(&text) {
                    Ok(()) if $lower => Ok(Self(text.to_ascii_lowercase())),
                    Ok(()) => Ok(Self(text)),
                    Err(why) => Err(InvalidName { text: text.chars().take(80).collect(), kind: $kind, why }),
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type! {
    /// The name of a domain that exists in libvirt, ours or not.
    DomainName, "domain name", check_libvirt, lowercase: false
}
name_type! {
    /// The name of a virtual machine to be made: a host name (RFC 1123) that Linux accepts, in lower case. It becomes
    /// the domain's name and the guest's own.
    GuestName, "host name", check_guest, lowercase: true
}
name_type! {
    /// The name under which a hypervisor host is enrolled, in lower case.
    HostName, "name of a host", check_host, lowercase: true
}
name_type! {
    /// The name of a libvirt storage pool.
    PoolName, "pool name", check_libvirt, lowercase: false
}
name_type! {
    /// The name of a volume in a storage pool.
    VolumeName, "volume name", check_libvirt, lowercase: false
}
name_type! {
    /// The name of a person or program that holds an operator's key.
    OperatorName, "operator name", check_word, lowercase: false
}
name_type! {
    /// The name of a group of virtual machines of which no two are to be on one host.
    GroupName, "group name", check_word, lowercase: false
}

name_type! {
    /// The name of a snapshot of a domain.
    SnapshotName, "name of a snapshot", check_libvirt, lowercase: false
}
name_type! {
    /// The name of a disk in its domain, such as `vda`.
    DiskTarget, "name of a disk", check_target, lowercase: false
}
name_type! {
    /// The absolute path of a file on a host.
    HostPath, "path on a host", check_path, lowercase: false
}

impl From<GuestName> for DomainName {
    /// Every host name is a domain name too.
    fn from(name: GuestName) -> Self {
        Self(name.0)
    }
}

impl GuestName {
    /// The first label, which is what `/etc/hosts` gives as the alias.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.split('.').next().unwrap_or(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn host_names_that_would_do_harm_are_refused_with_the_rule_they_break() {
        let long = "a".repeat(300);
        for (text, word) in [
            ("", "empty"),
            ("-x", "begins or ends with '-'"),
            ("a..b", "two in a row"),
            ("../../etc/passwd", "only letters"),
            ("x;reboot", "only letters"),
            ("vm 0", "only letters"),
            ("größe.example", "only letters"),
            ("10.0.0.1", "digits only"),
            ("a.", "two in a row"),
            (long.as_str(), "64 characters"),
        ] {
            let error = GuestName::new(text).expect_err(text).to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_guest_name_is_kept_in_lower_case_and_knows_its_first_label() {
        let name = GuestName::new("VM0.Example.jp").unwrap();
        assert_eq!((name.as_str(), name.short()), ("vm0.example.jp", "vm0"));
    }

    #[test]
    fn domains_made_by_others_keep_their_names() {
        for text in ["debian12-x86_64.original", "my old vm", "-x", "Größe"] {
            assert_eq!(DomainName::new(text).unwrap().as_str(), text);
        }
        for text in ["", " ", "a/b", "..", "a\nb", "a\u{202e}b", "a\u{200b}b"] {
            assert!(DomainName::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_path_is_absolute_and_climbs_nowhere_and_a_disk_is_a_device() {
        assert!(HostPath::new("/srv/iso/debian 12.iso").is_ok() && DiskTarget::new("vdb").is_ok());
        for text in ["", "iso", "/srv/../etc/shadow", "/a\nb", &format!("/{}", "a".repeat(4096))] {
            assert!(HostPath::new(text).is_err(), "{text:?}");
        }
        for text in ["", "/dev/vda", "vd a", "1a", "-f", "vda,vdb"] {
            assert!(DiskTarget::new(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_accepted_guest_name_can_leave_a_folder_or_look_like_an_option(text in "\\PC{0,80}") {
            if let Ok(name) = GuestName::new(text) {
                prop_assert!(!name.as_str().starts_with(['-', '.', '/']));
                prop_assert!(!name.as_str().contains(".."));
                prop_assert!(name.as_str().len() <= 64);
                prop_assert_eq!(&GuestName::new(name.as_str()).unwrap(), &name);
            }
        }
    }
}
