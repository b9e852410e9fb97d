//! How a new host or operator is let in: the invitation that a person carries over, and what is said in the joining
//! session ([`crate::seal`]), which ends there.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    fault::Fault,
    key::{InvalidKey, PublicKey, Secret, Token},
    request::Role,
};

/// The one line that lets somebody in: where the client worker listens, its whole public key, a single-use token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// `address:port` of the client worker's 5556; the publishing port is told when joined.
    pub server: String,
    /// Its key, pinned before the first contact.
    pub key: PublicKey,
    /// The token.
    pub token: Token,
}

impl Invitation {
    /// The line. It holds a secret: it goes to a terminal, a pipe or a file only its owner can read, never into argv.
    #[must_use]
    pub fn to_line(&self) -> Secret {
        Secret::new(format!("{} {} {}", self.server, self.key, self.token.to_line().expose()))
    }

    /// The address of an `address:port`, without its port.
    ///
    /// # Errors
    /// [`InvalidInvitation::Address`] if it is not one.
    pub fn address(server: &str) -> Result<&str, InvalidInvitation> {
        match server.rsplit_once(':') {
            // `parse` takes a sign as well.
            Some((host, port))
                if !host.is_empty()
                    && port.parse::<u16>().is_ok()
                    && port.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                Ok(host)
            }
            Some(_) | None => Err(InvalidInvitation::Address(server.chars().take(80).collect())),
        }
    }
}

/// The text is not an invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInvitation {
    /// Not three words.
    #[error("an invitation has three words: address:port, public key and token")]
    Words,
    /// The first word is no address with a port.
    #[error("{0:?} is not an address with its port, for example 192.168.0.1:5556")]
    Address(String),
    /// The second or third word.
    #[error("in the invitation")]
    Key(#[from] InvalidKey),
}

impl FromStr for Invitation {
    type Err = InvalidInvitation;

    fn from_str(line: &str) -> Result<Self, InvalidInvitation> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [server, key, token] = words[..] else { return Err(InvalidInvitation::Words) };
        Self::address(server)?;
        Ok(Self { server: server.to_owned(), key: key.parse()?, token: token.parse()? })
    }
}

/// What the one who joins says in its joining session: let my key in. The key is the handshake's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Its program's version, for people.
    pub program: String,
}

/// The answer to a [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum JoinAnswer {
    /// The key is enrolled, and the token used up.
    Joined(Joined),
    /// It is not.
    Fault {
        /// Why.
        fault: Fault,
    },
}

/// As what a key was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The name that it has from now on.
    pub name: String,
    /// An operator's role; none for a host.
    #[serde(default)]
    pub role: Option<Role>,
    /// The port on which the client worker publishes.
    pub pub_port: u16,
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Some(role) => write!(f, "operator {} ({})", self.name, role.as_str()),
            None => write!(f, "host {}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyPair;

    #[test]
    fn an_invitation_reads_back_from_its_line() {
        let invitation = Invitation {
            server: "[::1]:5556".into(),
            key: KeyPair::generate().unwrap().public(),
            token: Token::generate().unwrap(),
        };
        assert_eq!(invitation.to_line().expose().parse::<Invitation>().unwrap(), invitation);
        for line in ["", "a b", "host key token", "host:5556 key token"] {
            assert!(line.parse::<Invitation>().is_err(), "{line:?}");
        }
        let odd = invitation.to_line().expose().replace(":5556", ":+5556");
        assert!(odd.parse::<Invitation>().is_err(), "a port with a sign");
    }
}
