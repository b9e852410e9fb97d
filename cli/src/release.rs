//! Versions of Maglica's parts: which of them fit one another. Parts of one minor version do; others may, and a person should know
//! before something odd happens. Pure.

use std::fmt::Display;

use maglica_proto::name::HostName;

/// This command's version.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// A version's first two numbers, which is what has to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    major: u32,
    minor: u32,
}

impl Release {
    /// Reads `0.1.0`, also after a program's name as in `maglica 0.1.0`; none if it is no version.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let version = text.split_whitespace().last()?;
        let mut numbers = version.split(['.', '-', '+']).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
        Some(Self { major, minor })
    }
}

/// What to say if the client worker is of another version than this command.
#[must_use]
pub fn server_differs(server: &str) -> Option<String> {
    let (own, other) = (Release::read(OWN)?, Release::read(server)?);
    let older = if own < other { "this command" } else { "the client worker" };
    let note = || {
        let server = server.split_whitespace().last().unwrap_or_default();
        format!(
            "this command is version {OWN}, the client worker {server}: update {older}, or some things will not work"
        )
    };
    (own != other).then(note)
}

/// What to say if a host's worker is of another version than the client worker.
#[must_use]
pub fn differs(host: &HostName, worker: &str, server: &str) -> Option<String> {
    let (own, other) = (Release::read(worker)?, Release::read(server)?);
    let note = |host: &dyn Display| {
        format!("the host worker on {host} is version {worker}, the client worker {server}: update the older one")
    };
    (own != other).then(|| note(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_minor_fit_and_others_are_told_with_the_older_one_named() {
        let own = Release::read(OWN).unwrap();
        assert_eq!(server_differs(&format!("{}.{}.99", own.major, own.minor)), None);
        let newer = server_differs(&format!("{}.{}.0", own.major, own.minor + 1)).unwrap();
        assert!(newer.contains("update this command"), "{newer}");
        assert_eq!(server_differs("test"), None, "what is no version says nothing");
        let host = HostName::new("h1").unwrap();
        assert_eq!(differs(&host, "0.1.7", "0.1.0"), None);
        assert!(differs(&host, "0.0.9", "0.1.0").unwrap().contains("on h1 is version 0.0.9, the client worker 0.1.0"));
    }

    #[test]
    fn a_version_is_read_with_what_may_stand_around_it() {
        let read = |text| Release::read(text).map(|release| (release.major, release.minor));
        assert_eq!(read("maglica 1.12.3"), Some((1, 12)));
        assert_eq!(read("0.2.0-rc.1+build"), Some((0, 2)));
        assert_eq!([read(""), read("1"), read("x.y")], [None; 3]);
    }
}
