//! Who is let in: the register of keys, and the one task that owns and stores it.
//!
//! [`register`] is the policy (pure); this file keeps it in `trust.json` (written whole, to a new file that is renamed,
//! before anybody hears of the change) and hands out a snapshot that the bus looks keys up in without asking. [`server`]
//! has the client worker's own key.

pub mod register;
pub mod server;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::SystemTime,
};

use maglica_proto::{
    config::keyfile,
    fault::{Code, Fault, chain},
    key::PublicKey,
    seal::Refusal,
};
use tokio::sync::{Mutex, watch};

pub use register::{Known, Register};
pub use server::{KeySet, ServerKeys};

/// The register cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It cannot be read.
    #[error("cannot read the register of keys {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("the register of keys {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The handle to the register.
#[derive(Clone)]
pub struct Trust {
    path: Arc<PathBuf>,
    // One writer at a time, through the write to disk; readers use the snapshot and never wait.
    turn: Arc<Mutex<()>>,
    register: Arc<watch::Sender<Arc<Register>>>,
    found: Arc<std::sync::Mutex<Found>>,
}

/// The keys that were found in this very register: of a thousand, a search at every message would cost more than the
/// message. Only found ones, so strangers add nothing.
#[derive(Default)]
struct Found {
    of: Arc<Register>,
    keys: HashMap<PublicKey, Known>,
}

impl Trust {
    /// Reads the register; there is none on the first start.
    ///
    /// # Errors
    /// [`TrustError`]. A damaged register is never replaced by an empty one.
    pub fn open(path: PathBuf) -> Result<Self, TrustError> {
        let register = match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| TrustError::Damaged { path: path.clone(), source })?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Register::default(),
            Err(source) => return Err(TrustError::Read { path, source }),
        };
        Ok(Self {
            path: Arc::new(path),
            turn: Arc::default(),
            register: Arc::new(watch::Sender::new(Arc::new(register))),
            found: Arc::default(),
        })
    }

    /// Who a key belongs to, by the register as it is now.
    ///
    /// # Errors
    /// The word for a stranger.
    pub fn lookup(&self, key: &PublicKey) -> Result<Known, Refusal> {
        let now = self.now();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&found.of, &now) {
            *found = Found { of: now, keys: HashMap::new() };
        }
        if let Some(known) = found.keys.get(key) {
            return Ok(known.clone());
        }
        let known = found.of.lookup(key)?;
        found.keys.insert(*key, known.clone());
        Ok(known)
    }

    /// The register as it is now.
    #[must_use]
    pub fn now(&self) -> Arc<Register> {
        self.register.borrow().clone()
    }

    /// Told whenever the register changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<Register>> {
        self.register.subscribe()
    }

    /// Changes the register. It is stored before this returns, and unchanged after an error.
    ///
    /// # Errors
    /// The fault of `change`, or of the disk.
    pub async fn change<T>(&self, change: impl FnOnce(&mut Register) -> Result<T, Fault>) -> Result<T, Fault> {
        let _turn = self.turn.lock().await;
        let before = self.now();
        let mut register = (*before).clone();
        register.drop_expired(SystemTime::now().into());
        let result = change(&mut register)?;
        if register.differs_on_disk(&before) {
            let bytes =
                serde_json::to_vec_pretty(&register).map_err(|error| Fault::from_error(Code::Internal, &error))?;
            let path = self.path.clone();
            let write = move || keyfile::write_atomic(&path, &bytes, 0o600);
            let failed = |error: &(dyn std::error::Error + 'static)| {
                Fault::new(
                    Code::Unavailable,
                    format!("the client worker cannot store its register of keys: {}", chain(error)),
                )
            };
            crate::failpoint("trust.before-write");
            let written = tokio::task::spawn_blocking(write).await;
            written.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
            crate::failpoint("trust.after-write");
        }
        self.register.send_replace(Arc::new(register));
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{
        key::{KeyPair, Token},
        name::HostName,
        request::Invite,
    };

    use super::{register::InvitedAs, *};

    #[tokio::test]
    async fn a_key_that_was_found_before_is_not_found_after_it_was_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::open(folder.path().join("trust.json")).unwrap();
        let (key, token, name) =
            (KeyPair::generate().unwrap().public(), Token::generate().unwrap(), HostName::new("h1").unwrap());
        assert_eq!(trust.lookup(&key), Err(Refusal::UnknownKey));
        let (who, now) = (InvitedAs::Host { name: name.clone() }, SystemTime::now().into());
        let invite = Invite { token: token.id(), psk: token.psk(), valid_s: 60 };
        trust.change(|register| register.invite(who, invite, now)).await.unwrap();
        trust.change(|register| register.join(&token.id(), key, now)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(trust.lookup(&key), Ok(Known::Host(name.clone())));
        }
        trust.change(|register| register.revoke_host(&name)).await.unwrap();
        assert_eq!(trust.lookup(&key), Err(Refusal::Revoked));
    }
}
