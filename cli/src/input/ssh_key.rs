//! Public keys in the form of `authorized_keys`. A private key given by mistake must not leave the machine.

use std::path::Path;

use data_encoding::BASE64;

use crate::error::Error;

/// The key types of OpenSSH that are still accepted by its servers.
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Reads the public keys of a file.
///
/// # Errors
/// [`Error::File`], or [`Error::Input`] naming the line that is no public key.
pub fn read(path: &Path) -> Result<Vec<String>, Error> {
    let text = super::read(path)?;
    keys(&text).map_err(|why| Error::Input { what: path.display().to_string(), why })
}

fn keys(text: &str) -> Result<Vec<String>, String> {
    if text.contains("PRIVATE KEY-----") || text.starts_with("PuTTY-User-Key-File") {
        return Err(
            "this is a private key; give the public one (usually the file of the same name with .pub)".to_owned()
        );
    }
    let mut keys = Vec::new();
    for (at, line) in
        text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        if !is_key(line) {
            return Err(format!("line {} is not an ssh public key (such as: ssh-ed25519 AAAA… name)", at + 1));
        }
        keys.push(line.to_owned());
    }
    if keys.is_empty() { Err("there is no public key in it".to_owned()) } else { Ok(keys) }
}

/// Options may stand before the type, as sshd allows. The key itself names its type once more inside.
fn is_key(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let Some(kind) = words.find(|word| TYPES.contains(word)) else { return false };
    let Some(Ok(blob)) = words.next().map(|blob| BASE64.decode(blob.as_bytes())) else { return false };
    let Some((length, rest)) = blob.split_first_chunk::<4>() else { return false };
    let length = u32::from_be_bytes(*length) as usize;
    rest.len() > length && rest.get(..length) == Some(kind.as_bytes()) && !line.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@home";

    #[test]
    fn public_keys_are_read_with_and_without_options_and_comments() {
        let text = format!("# mine\n\n{ED25519}\nfrom=\"10.0.0.1\" {ED25519}\n");
        assert_eq!(keys(&text).unwrap().len(), 2);
    }

    #[test]
    fn a_private_key_is_recognised_and_told() {
        for text in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n",
            "-----BEGIN RSA PRIVATE KEY-----\n",
            "PuTTY-User-Key-File-3: x\n",
        ] {
            assert!(keys(text).unwrap_err().contains("private key"));
        }
    }

    #[test]
    fn what_is_no_key_is_told_with_its_line() {
        for text in [
            "hello",
            "ssh-ed25519",
            "ssh-ed25519 !!!",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        ] {
            assert!(keys(text).unwrap_err().starts_with("line 1 "), "{text}");
        }
        assert!(keys(&format!("{ED25519}\nrubbish")).unwrap_err().starts_with("line 2 "));
        assert!(keys("# nothing\n").is_err());
    }
}
