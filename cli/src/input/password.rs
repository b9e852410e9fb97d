//! Root's password: the first line of a file, hashed here. Only the hash leaves the machine.

use std::path::Path;

use maglica_proto::key::Secret;
use sha_crypt::{Sha512Params, sha512_simple};
use zeroize::Zeroizing;

use crate::error::Error;

/// The rounds that `crypt(3)` uses for SHA-512 unless told otherwise.
const ROUNDS: usize = 5_000;

/// Reads the password of the file and hashes it for `/etc/shadow`.
///
/// # Errors
/// [`Error::File`], or [`Error::Input`] if the first line is empty.
pub fn read(path: &Path) -> Result<Secret, Error> {
    let text = Zeroizing::new(super::read(path)?);
    let password = text.lines().next().unwrap_or_default();
    let input = |why: &str| Error::Input { what: path.display().to_string(), why: why.to_owned() };
    if password.is_empty() {
        return Err(input("its first line, the password, is empty"));
    }
    if password.chars().any(char::is_control) {
        return Err(input("the password holds a control character, which nobody could type"));
    }
    hash(password).ok_or_else(|| input("the password cannot be hashed"))
}

fn hash(password: &str) -> Option<Secret> {
    let params = Sha512Params::new(ROUNDS).ok()?;
    sha512_simple(password, &params).ok().map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_first_line_is_hashed_with_a_salt_of_its_own() {
        let file = file("correct horse\nignored\n");
        let (first, second) = (read(file.path()).unwrap(), read(file.path()).unwrap());
        assert!(first.expose().starts_with("$6$"));
        assert_ne!(first.expose(), second.expose(), "the salt is random");
        sha_crypt::sha512_check("correct horse", first.expose()).expect("the hash is of the first line");
        assert!(sha_crypt::sha512_check("ignored", first.expose()).is_err());
    }

    #[test]
    fn an_empty_password_is_refused() {
        for text in ["", "\n", "\nsecond\n", "a\tb\n"] {
            assert!(read(file(text).path()).is_err(), "{text:?}");
        }
    }
}
