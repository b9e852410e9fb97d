//! Names, addresses and sizes.
//!
//! Input: the text.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use maglica_proto::{
    config::ServerAddress,
    name::{DomainName, GuestName, HostName, OperatorName, PoolName, VolumeName},
    net::{IpPrefix, MacAddr},
    units::{ByteSize, Timestamp},
};

use crate::input::text;

/// Tries them all.
pub fn check(data: &[u8]) {
    let text = text(data);
    if let Some(name) = reads_back::<GuestName>(&text) {
        assert_eq!(name.as_str(), text.to_ascii_lowercase());
        assert!(is_host_name(name.as_str()) && name.as_str().len() <= 64);
        assert!(name.as_str().starts_with(name.short()) && !name.short().contains('.'));
        assert_eq!(DomainName::from(name.clone()).as_str(), name.as_str());
        assert_eq!(DomainName::new(name.as_str()).as_ref(), Ok(&name.clone().into()));
        assert!(HostName::new(name.as_str()).is_ok(), "a guest's name could not be a host's");
    }
    if let Some(name) = reads_back::<HostName>(&text) {
        assert!(is_host_name(name.as_str()) && name.as_str().len() <= 253);
        assert_eq!(HostName::new(text.to_ascii_uppercase()), Ok(name), "two ways to write a name are two names");
    }
    for name in [
        reads_back::<DomainName>(&text).map(String::from),
        reads_back::<PoolName>(&text).map(String::from),
        reads_back::<VolumeName>(&text).map(String::from),
    ]
    .into_iter()
    .flatten()
    {
        assert_eq!(name, text, "a name of libvirt's was changed");
        assert!(!name.contains(['/', '\n', '\u{1b}', '\0']) && name != ".." && name.len() <= 255);
    }
    if let Some(name) = reads_back::<OperatorName>(&text) {
        assert!(name.as_str().is_ascii() && !name.as_str().starts_with('-') && !name.as_str().contains([' ', '/']));
    }
    if let Some(mac) = reads_back::<MacAddr>(&text) {
        assert_eq!(mac.to_string(), text.to_ascii_lowercase());
    }
    if let Some(network) = reads_back::<IpPrefix>(&text) {
        assert!(network.contains(network.address()));
        assert!(text.ends_with(&format!("/{}", network.prefix())), "the prefix is written in an odd way");
        assert_eq!(network.netmask().is_some(), network.address().is_ipv4());
    }
    if let Some(address) = reads_back::<ServerAddress>(&text) {
        assert!(address.with_port(5556).ends_with(":5556"));
    }
    if let Ok(size) = text.parse::<ByteSize>() {
        assert_eq!(size.as_bytes().to_string().parse(), Ok(size));
        assert_eq!(ByteSize::kib(size.as_bytes() / 1024).plus(ByteSize::bytes(size.as_bytes() % 1024)), size);
        assert!(size.to_string().len() <= 24);
        let moment = Timestamp::from_millis(size.as_bytes());
        assert!(moment.after(moment.since(Timestamp::default())) >= moment);
    }
}

/// RFC 1123, said in another way than the product says it.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.split('.').all(label) && text.parse::<std::net::IpAddr>().is_err()
}

/// What reads, prints, and reads back the same. What does not is refused in a bounded number of words.
fn reads_back<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug,
{
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            match shown.parse::<T>() {
                Ok(again) => assert_eq!(again, value),
                Err(error) => panic!("{shown:?} was shown and is refused: {error}"),
            }
            Some(value)
        }
        Err(error) => {
            assert!(error.to_string().len() < 2000, "an error as long as the text");
            None
        }
    }
}
