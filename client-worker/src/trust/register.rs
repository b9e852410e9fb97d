//! The register of keys as policy: who is enrolled, invited, revoked, or waits at the door. `now` is given.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use maglica_proto::{
    fault::{Code, Fault},
    key::{Fingerprint, PublicKey, Secret, TokenId},
    name::{HostName, OperatorName},
    request::{Invite, OperatorRow, Role},
    seal::Refusal,
    units::Timestamp,
};
use serde::{Deserialize, Serialize};

use self::rotation::ServerBook;
use crate::similar::similar;

mod rekey;
mod restore;
pub mod rotation;

pub use restore::Lapsed;

/// How many may wait at the door: strangers cost memory, so the oldest goes first.
const PENDING_MAX: usize = 64;
/// The longest that an invitation is good for.
const INVITE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// An enrolled host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKey {
    /// Its key.
    pub key: PublicKey,
    /// Since when it is enrolled; a new key does not change it.
    pub since: Timestamp,
    /// Whether it is to make itself a new key.
    #[serde(default)]
    pub rekey: bool,
    /// The key that it will have, once it speaks with it.
    #[serde(default)]
    pub next: Option<PublicKey>,
}

impl HostKey {
    const fn new(key: PublicKey, since: Timestamp) -> Self {
        Self { key, since, rekey: false, next: None }
    }

    fn has(&self, key: &PublicKey) -> bool {
        self.key == *key || self.next.as_ref() == Some(key)
    }
}

/// An enrolled operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorKey {
    /// Its key.
    pub key: PublicKey,
    /// What it may do.
    pub role: Role,
    /// Since when.
    pub since: Timestamp,
}

/// As what a token lets somebody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "as")]
pub enum InvitedAs {
    /// A host.
    Host {
        /// Of this name.
        name: HostName,
    },
    /// An operator.
    Operator {
        /// Of this name.
        name: OperatorName,
        /// With this role.
        role: Role,
    },
}

/// An invitation that nobody has used yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// As what.
    #[serde(flatten)]
    pub who: InvitedAs,
    /// What the token's holder proves.
    pub psk: Secret,
    /// Until when.
    pub expires: Timestamp,
}

/// A token that let a key in, kept until it expires: its answer may have been lost, and the same key asks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    key: PublicKey,
    psk: Secret,
    expires: Timestamp,
}

/// A host that knocked without a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The name that it gave.
    pub name: HostName,
    /// Its key.
    pub key: PublicKey,
    /// When it knocked last.
    pub at: Timestamp,
}

/// Who a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A host.
    Host(HostName),
    /// An operator.
    Operator(OperatorName, Role),
}

/// The register.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Register {
    hosts: BTreeMap<HostName, HostKey>,
    operators: BTreeMap<OperatorName, OperatorKey>,
    invites: BTreeMap<TokenId, Invited>,
    #[serde(default)]
    used: BTreeMap<TokenId, Used>,
    revoked: BTreeSet<PublicKey>,
    /// The client worker's own keys.
    #[serde(default)]
    server: ServerBook,
    /// In memory only: a stranger's word is not worth a write to disk.
    #[serde(skip)]
    pending: Vec<Pending>,
}

impl Register {
    /// Whether something that is stored differs.
    #[must_use]
    pub fn differs_on_disk(&self, other: &Self) -> bool {
        self.hosts != other.hosts
            || self.operators != other.operators
            || self.invites != other.invites
            || self.used != other.used
            || self.revoked != other.revoked
            || self.server != other.server
    }

    /// Who a key belongs to.
    ///
    /// # Errors
    /// The word for a stranger.
    pub fn lookup(&self, key: &PublicKey) -> Result<Known, Refusal> {
        if self.revoked.contains(key) {
            return Err(Refusal::Revoked);
        }
        if let Some((name, _)) = self.hosts.iter().find(|(_, host)| host.has(key)) {
            return Ok(Known::Host(name.clone()));
        }
        match self.operators.iter().find(|(_, operator)| operator.key == *key) {
            Some((name, operator)) => Ok(Known::Operator(name.clone(), operator.role)),
            None => Err(Refusal::UnknownKey),
        }
    }

    /// The enrolled hosts.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostName, &HostKey)> {
        self.hosts.iter()
    }

    /// The hosts that wait for an administrator's word.
    #[must_use]
    pub fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// All operators, invited ones with no fingerprint.
    #[must_use]
    pub fn operator_rows(&self) -> Vec<OperatorRow> {
        let enrolled = self.operators.iter().map(|(name, operator)| OperatorRow {
            name: name.clone(),
            role: operator.role,
            fingerprint: Some(operator.key.fingerprint()),
            since: operator.since,
        });
        let invited = self.invites.values().filter_map(|invited| match &invited.who {
            InvitedAs::Operator { name, role } => {
                Some(OperatorRow { name: name.clone(), role: *role, fingerprint: None, since: invited.expires })
            }
            InvitedAs::Host { .. } => None,
        });
        enrolled.chain(invited).collect()
    }

    /// The invitation of a token that is still good.
    #[must_use]
    pub fn invited(&self, token: &TokenId, now: Timestamp) -> Option<&Invited> {
        self.invites.get(token).filter(|invited| invited.expires > now)
    }

    /// What this key has to prove to join by a token: the token is good, or let this same key in before.
    #[must_use]
    pub fn psk(&self, token: &TokenId, key: &PublicKey, now: Timestamp) -> Option<&Secret> {
        let used = || self.used.get(token).filter(|used| used.key == *key && used.expires > now).map(|used| &used.psk);
        self.invited(token, now).map(|invited| &invited.psk).or_else(used)
    }

    /// The name under which this key would join by a token, or has.
    #[must_use]
    pub fn invited_name(&self, token: &TokenId, key: &PublicKey) -> Option<String> {
        let invited = self.invites.get(token).map(|invited| match &invited.who {
            InvitedAs::Host { name } => name.to_string(),
            InvitedAs::Operator { name, .. } => name.to_string(),
        });
        invited.or_else(|| match self.lookup(key) {
            Ok(Known::Host(name)) => Some(name.to_string()),
            Ok(Known::Operator(name, _)) => Some(name.to_string()),
            Err(_) => None,
        })
    }

    /// Forgets invitations that have expired.
    pub fn drop_expired(&mut self, now: Timestamp) {
        self.used.retain(|_, used| used.expires > now);
        self.invites.retain(|_, invited| invited.expires > now);
    }

    /// Invites somebody. A new invitation for the same name replaces an older one; the same one again changes nothing.
    ///
    /// # Errors
    /// A fault: the name is enrolled, or the time is too long.
    pub fn invite(&mut self, who: InvitedAs, invite: Invite, now: Timestamp) -> Result<(), Fault> {
        let (kind, name, taken) = match &who {
            InvitedAs::Host { name } => ("host", name.to_string(), self.hosts.contains_key(name)),
            InvitedAs::Operator { name, .. } => ("operator", name.to_string(), self.operators.contains_key(name)),
        };
        if taken {
            return Err(Fault::new(Code::Conflict, format!("{kind} {name} is enrolled; revoke it first")).about(name));
        }
        let valid = Duration::from_secs(invite.valid_s.into());
        if valid.is_zero() || valid > INVITE_MAX {
            return Err(Fault::new(
                Code::InvalidInput,
                "an invitation is good for at least a second and at most seven days",
            ));
        }
        self.invites.retain(|token, invited| *token == invite.token || !same_name(&invited.who, &who));
        self.invites.entry(invite.token).or_insert(Invited { who, psk: invite.psk, expires: now.after(valid) });
        Ok(())
    }

    /// Lets a key in by a token, and uses the token up. The same key with the same name again is told the same.
    ///
    /// # Errors
    /// A fault: the token is not good, or the key may not be enrolled.
    pub fn join(&mut self, token: &TokenId, key: PublicKey, now: Timestamp) -> Result<Known, Fault> {
        if let Ok(known) = self.lookup(&key) {
            // Its answer was lost, and it asks again.
            return Ok(known);
        }
        if self.revoked.contains(&key) {
            return Err(Fault::new(Code::Trust, "this key was revoked and is never enrolled again; make a new one"));
        }
        let Some(invited) = self.invited(token, now).cloned() else {
            return Err(Fault::new(Code::Trust, "the token is unknown, used or expired"));
        };
        self.invites.remove(token);
        self.used.insert(token.clone(), Used { key, psk: invited.psk.clone(), expires: invited.expires });
        self.pending.retain(|pending| pending.key != key);
        Ok(match invited.who {
            InvitedAs::Host { name } => {
                self.hosts.insert(name.clone(), HostKey::new(key, now));
                Known::Host(name)
            }
            InvitedAs::Operator { name, role } => {
                self.operators.insert(name.clone(), OperatorKey { key, role, since: now });
                Known::Operator(name, role)
            }
        })
    }

    /// A host without a token is at the door.
    pub fn knock(&mut self, name: HostName, key: PublicKey, now: Timestamp) {
        self.pending.retain(|pending| pending.key != key);
        if self.pending.len() >= PENDING_MAX {
            self.pending.remove(0);
        }
        self.pending.push(Pending { name, key, at: now });
    }

    /// Lets a pending host in.
    ///
    /// # Errors
    /// A fault: nobody of that name and fingerprint is pending, or the name is taken.
    pub fn accept(&mut self, name: &HostName, fingerprint: &Fingerprint, now: Timestamp) -> Result<(), Fault> {
        if let Some(host) = self.hosts.get(name) {
            if host.key.fingerprint() == *fingerprint {
                return Ok(());
            }
            return Err(Fault::new(
                Code::Conflict,
                format!("host {name} is enrolled with another key; revoke it first"),
            )
            .about(name.to_string()));
        }
        let at =
            self.pending.iter().position(|pending| pending.name == *name && pending.key.fingerprint() == *fingerprint);
        let Some(at) = at else {
            let waiting = self.pending.iter().any(|pending| pending.name == *name);
            let message = if waiting {
                format!("the host {name} that waits has another key than {fingerprint}")
            } else {
                format!("no host {name} waits to be let in")
            };
            let mut fault =
                Fault::new(if waiting { Code::Trust } else { Code::NotFound }, message).about(name.to_string());
            fault.similar = similar(name.as_str(), self.pending.iter().map(|pending| pending.name.as_str()));
            return Err(fault);
        };
        let key = self.pending.remove(at).key;
        self.hosts.insert(name.clone(), HostKey::new(key, now));
        Ok(())
    }

    /// Shuts a host out, and its key for ever.
    ///
    /// # Errors
    /// A fault: there is none of that name.
    pub fn revoke_host(&mut self, name: &HostName) -> Result<(), Fault> {
        let invited = self.uninvite(|who| matches!(who, InvitedAs::Host { name: host } if host == name));
        match self.hosts.remove(name) {
            Some(host) => {
                self.revoked.extend([Some(host.key), host.next].into_iter().flatten());
                Ok(())
            }
            None if invited => Ok(()),
            None => Err(self.no_such_host(name)),
        }
    }

    fn no_such_host(&self, name: &HostName) -> Fault {
        let mut fault = Fault::new(Code::NotFound, format!("there is no host {name}")).about(name.to_string());
        fault.similar = similar(name.as_str(), self.hosts.keys().map(HostName::as_str));
        fault
    }

    /// Shuts an operator out, and its key for ever.
    ///
    /// # Errors
    /// A fault: there is none of that name, or it is the last administrator.
    pub fn revoke_operator(&mut self, name: &OperatorName) -> Result<(), Fault> {
        let admins = self.operators.values().filter(|operator| operator.role == Role::Admin).count();
        if admins == 1 && self.operators.get(name).is_some_and(|operator| operator.role == Role::Admin) {
            return Err(Fault::new(Code::WrongState, format!("{name} is the last administrator; add another first"))
                .about(name.to_string()));
        }
        let invited =
            self.uninvite(|who| matches!(who, InvitedAs::Operator { name: operator, .. } if operator == name));
        match self.operators.remove(name) {
            Some(operator) => {
                self.revoked.insert(operator.key);
                Ok(())
            }
            None if invited => Ok(()),
            None => {
                let mut fault =
                    Fault::new(Code::NotFound, format!("there is no operator {name}")).about(name.to_string());
                fault.similar = similar(name.as_str(), self.operators.keys().map(OperatorName::as_str));
                Err(fault)
            }
        }
    }

    /// Enrols an operator's key without a token: root's own, on the client worker's machine.
    pub fn enrol_local_operator(&mut self, name: OperatorName, key: PublicKey, now: Timestamp) {
        if self.lookup(&key).is_err() && !self.revoked.contains(&key) {
            self.operators.insert(name, OperatorKey { key, role: Role::Admin, since: now });
        }
    }

    fn uninvite(&mut self, which: impl Fn(&InvitedAs) -> bool) -> bool {
        let before = self.invites.len();
        self.invites.retain(|_, invited| !which(&invited.who));
        before != self.invites.len()
    }
}

fn same_name(a: &InvitedAs, b: &InvitedAs) -> bool {
    match (a, b) {
        (InvitedAs::Host { name: a }, InvitedAs::Host { name: b }) => a == b,
        (InvitedAs::Operator { name: a, .. }, InvitedAs::Operator { name: b, .. }) => a == b,
        (InvitedAs::Host { .. }, InvitedAs::Operator { .. }) | (InvitedAs::Operator { .. }, InvitedAs::Host { .. }) => {
            false
        }
    }
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
