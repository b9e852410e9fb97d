//! What a person gives, checked before anything is sent.
//!
//! | file | owns |
//! | --- | --- |
//! | `mod` | a name that is given bare or by option; durations |
//! | [`pattern`] | patterns for names |
//! | [`ssh_key`] | public keys, and that none of them is a private one |
//! | [`password`] | root's password: read from a file, hashed, never sent |
//! | [`network`] | a static address that makes sense |

use std::{fmt::Display, fs::File, io::Read, path::Path, time::Duration};

use crate::error::Error;

pub mod network;
pub mod password;
pub mod pattern;
pub mod ssh_key;

/// A key file or password file is far smaller; the bound keeps a wrong file (an image, a device) from being read.
const MAX_FILE: u64 = 64 * 1024;

/// The one name that a command is about: bare, or by its option.
///
/// # Errors
/// [`Error::Usage`] if there is none, or there are two and they differ.
pub fn one<T: PartialEq + Display>(bare: Option<T>, named: Option<T>, what: &str, option: &str) -> Result<T, Error> {
    match (bare, named) {
        (Some(bare), Some(named)) if bare != named => {
            Err(Error::Usage(format!("two different names are given: {bare} and {option}={named}")))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(Error::Usage(format!("the {what} is missing: give it bare or as {option}=…"))),
    }
}

/// Reads a duration: seconds, or a number with s, m, h or d.
///
/// # Errors
/// A sentence for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || "write seconds, or a number with s, m, h or d, for example 90 or 5m".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u32 = digits.parse().map_err(|_| invalid())?;
    let unit: u64 = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(invalid()),
    };
    match u64::from(number) * unit {
        0 => Err("it must be longer than nothing".to_owned()),
        seconds if seconds > LONGEST.as_secs() => Err("it must not be longer than 365d".to_owned()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

/// Longer is a mistake, and would overflow the clock's arithmetic somewhere.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Whole seconds as they travel; [`duration`] keeps them in range.
#[must_use]
pub fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// Reads a small text file.
fn read(path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::File { path: path.to_owned(), source })?;
    let input = |why: &str| Error::Input { what: path.display().to_string(), why: why.to_owned() };
    if bytes.len() as u64 > MAX_FILE {
        return Err(input("the file is larger than 64 KiB; is it the right one?"));
    }
    String::from_utf8(bytes).map_err(|_| input("it is not a text file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_given_bare_or_by_option_but_not_as_two_different_ones() {
        assert_eq!(one(Some("a"), None, "name", "--name").unwrap(), "a");
        assert_eq!(one(None, Some("a"), "name", "--name").unwrap(), "a");
        assert_eq!(one(Some("a"), Some("a"), "name", "--name").unwrap(), "a");
        for (bare, named) in [(Some("a"), Some("b")), (None, None)] {
            assert_eq!(one(bare, named, "name", "--name").unwrap_err().exit(), crate::exit::Exit::Usage);
        }
    }

    #[test]
    fn durations_are_seconds_unless_they_have_a_unit() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "0", "-1", "1.5h", "5x", "99999999999", "1 h", "400d"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
