//! This host's key, and the next one while it changes. The files: `key`, and `key.next` until it has taken its place.
//!
//! ```text
//! key ──asked for a new one──▶ key.next is made ──said, and stored there──▶ the next key speaks ──answered──▶ key
//! ```
//! Whatever dies in between, one of the two is good: the old one until the client worker has heard the next one speak,
//! and the next one from then on. So a host that finds both speaks with the old one, and with the other as soon as the
//! one is refused. The other way round it would, with a key that it has not said yet, look like a stranger.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use maglica_proto::{
    config::keyfile::{self, KeyFileError},
    fault::chain,
    key::{KeyPair, PublicKey},
};

/// The key, and the next one if there is one.
pub struct Identity {
    folder: PathBuf,
    key: KeyPair,
    next: Option<KeyPair>,
    speaks_next: bool,
}

impl Identity {
    /// Reads them from the host worker's folder; a first key is made if there is none.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn load(folder: PathBuf) -> Result<Self, KeyFileError> {
        let key = keyfile::read_or_create_private(&folder.join("key"))?;
        let next = match keyfile::read_private(&folder.join("key.next")) {
            Ok(next) => Some(next),
            Err(error) if error.is_absent() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { folder, key, next, speaks_next: false })
    }

    /// The one that it speaks with.
    #[must_use]
    pub fn speaking(&self) -> &KeyPair {
        self.next.as_ref().filter(|_| self.speaks_next).unwrap_or(&self.key)
    }

    /// Whether it speaks with its next key already.
    #[must_use]
    pub const fn speaks_next(&self) -> bool {
        self.speaks_next
    }

    /// The next key; made, and on the disk, if there is none.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn make_next(&mut self) -> Result<PublicKey, KeyFileError> {
        let next = match self.next.take() {
            Some(next) => next,
            None => keyfile::read_or_create_private(&self.folder.join("key.next"))?,
        };
        Ok(self.next.insert(next).public())
    }

    /// The client worker knows the next key: it speaks with that one from now on.
    pub const fn change(&mut self) {
        self.speaks_next = self.next.is_some();
    }

    /// The one that it speaks with was refused: it speaks with the other one, if there are two. Tells whether.
    pub const fn turn(&mut self) -> bool {
        self.speaks_next = self.next.is_some() && !self.speaks_next;
        self.next.is_some()
    }

    /// The client worker will not have the next key: another one has to be made.
    pub fn discard(&mut self) {
        (self.next, self.speaks_next) = (None, false);
        if let Err(error) = fs::remove_file(self.folder.join("key.next")) {
            tracing::warn!(error = chain(&error), "cannot remove a key that is not wanted");
        }
    }

    /// It was answered in a session of the one that it speaks with. If that is the next one, the old one has gone.
    pub fn answered(&mut self) {
        if !self.speaks_next {
            return;
        }
        crate::failpoint("rekey.answered");
        let renamed = fs::rename(self.folder.join("key.next"), self.folder.join("key"))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if let Err(error) = renamed {
            // It goes on with both files, and so would the next start.
            tracing::error!(error = chain(&error), "cannot put the new key into its place; trying again");
            return;
        }
        if let Some(next) = self.next.take() {
            tracing::info!(fingerprint = %next.public().fingerprint(), "this host has a new key");
            self.key = next;
        }
        self.speaks_next = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_speaks_with_its_old_key_until_that_is_refused_or_the_next_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Identity::load(folder.path().to_owned()).unwrap();
        let mut identity = load();
        let old = identity.speaking().public();
        assert!(!identity.turn(), "there is one only");
        let next = identity.make_next().unwrap();
        assert_eq!((identity.make_next().unwrap(), identity.speaking().public()), (next, old));
        // Killed here: the next key is found again, and not used before it is wanted.
        let mut identity = load();
        assert_eq!((identity.make_next().unwrap(), identity.speaking().public()), (next, old));
        identity.answered();
        assert!(folder.path().join("key.next").exists(), "the old key was answered");
        assert!(identity.turn());
        assert_eq!(identity.speaking().public(), next);
        assert!(identity.turn());
        assert_eq!(identity.speaking().public(), old);
        identity.change();
        assert_eq!(identity.speaking().public(), next);
        identity.answered();
        assert_eq!((identity.speaking().public(), identity.speaks_next()), (next, false));
        assert!(!folder.path().join("key.next").exists());
        assert_eq!(load().speaking().public(), next);
    }

    #[test]
    fn a_key_that_the_client_worker_will_not_have_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut identity = Identity::load(folder.path().to_owned()).unwrap();
        let (old, first) = (identity.speaking().public(), identity.make_next().unwrap());
        identity.change();
        identity.discard();
        assert_eq!(identity.speaking().public(), old);
        assert_ne!(identity.make_next().unwrap(), first);
    }
}
