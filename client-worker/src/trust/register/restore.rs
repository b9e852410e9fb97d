//! A register that comes from a backup: what must not be good again.

use std::path::Path;

use maglica_proto::{
    config::keyfile::{self, KeyFileError},
    fault::{Code, Fault},
    name::{HostName, OperatorName},
};

use super::Register;
use crate::trust::TrustError;

/// What of a restored register holds no longer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lapsed {
    /// How many open invitations: their tokens may have been used since.
    pub invitations: usize,
    /// Hosts whose keys were revoked or replaced since.
    pub hosts: Vec<HostName>,
    /// Operators whose keys were revoked since.
    pub operators: Vec<OperatorName>,
}

impl Register {
    /// Reads a register as it is stored.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let bytes = std::fs::read(path).map_err(|source| TrustError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&bytes).map_err(|source| TrustError::Damaged { path: path.to_owned(), source })
    }

    /// The register as it is stored.
    ///
    /// # Errors
    /// A fault: a bug of ours.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Fault> {
        serde_json::to_vec_pretty(self).map_err(|error| Fault::from_error(Code::Internal, &error))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn write(&self, path: &Path) -> Result<(), KeyFileError> {
        let io = |source| KeyFileError::Io { doing: "write", path: path.to_owned(), source };
        let bytes = self.to_bytes().map_err(|fault| io(std::io::Error::other(fault)))?;
        keyfile::write_atomic(path, &bytes, 0o600)
    }

    /// Makes of a register from a backup one that is good now: no token of then lets anybody in, and no key that the
    /// register of `before` the restore had revoked is good again.
    pub fn restored(&mut self, before: Option<&Self>) -> Lapsed {
        let mut lapsed = Lapsed { invitations: self.invites.len(), ..Lapsed::default() };
        self.invites.clear();
        self.used.clear();
        self.revoked.extend(before.into_iter().flat_map(|before| before.revoked.iter().copied()));
        let revoked = &self.revoked;
        self.hosts.retain(|name, host| {
            let good = !revoked.contains(&host.key);
            if !good {
                lapsed.hosts.push(name.clone());
            }
            good
        });
        self.operators.retain(|name, operator| {
            let good = !revoked.contains(&operator.key);
            if !good {
                lapsed.operators.push(name.clone());
            }
            good
        });
        lapsed
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{
        key::{KeyPair, PublicKey, Token},
        request::{Invite, Role},
        seal::Refusal,
        units::Timestamp,
    };

    use super::{super::InvitedAs, *};

    fn join(register: &mut Register, who: InvitedAs) -> PublicKey {
        let (token, key) = (Token::generate().unwrap(), KeyPair::generate().unwrap().public());
        let now = Timestamp::from_millis(0);
        register.invite(who, Invite { token: token.id(), psk: token.psk(), valid_s: 60 }, now).unwrap();
        register.join(&token.id(), key, now).unwrap();
        key
    }

    #[test]
    fn a_register_from_a_backup_lets_in_nobody_who_was_shut_out_since_and_no_token_of_then() {
        let (h1, h2) = (HostName::new("h1").unwrap(), HostName::new("h2").unwrap());
        let alice = OperatorName::new("alice").unwrap();
        let mut register = Register::default();
        let first = join(&mut register, InvitedAs::Host { name: h1.clone() });
        let second = join(&mut register, InvitedAs::Host { name: h2.clone() });
        let hers = join(&mut register, InvitedAs::Operator { name: alice.clone(), role: Role::Viewer });
        let open = Token::generate().unwrap();
        let invite = Invite { token: open.id(), psk: open.psk(), valid_s: 60 };
        let now = Timestamp::from_millis(0);
        register.invite(InvitedAs::Host { name: HostName::new("h3").unwrap() }, invite, now).unwrap();
        let mut later = register.clone();
        later.revoke_host(&h1).unwrap();
        later.revoke_operator(&alice).unwrap();

        let mut blind = register.clone();
        assert_eq!(blind.restored(None), Lapsed { invitations: 1, ..Lapsed::default() });
        assert!(blind.lookup(&first).is_ok(), "nobody knows better");
        let lapsed = register.restored(Some(&later));
        assert_eq!(lapsed, Lapsed { invitations: 1, hosts: vec![h1], operators: vec![alice] });
        for key in [first, hers] {
            assert_eq!(register.lookup(&key), Err(Refusal::Revoked));
        }
        assert!(register.lookup(&second).is_ok());
        assert!(register.psk(&open.id(), &second, now).is_none());
    }
}
