//! The client worker's own key, and the next one while it changes. The files `key` and `key.next` say what is so; each step
//! is one rename, so that a crash leaves one or the other.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use maglica_proto::{
    config::keyfile::{self, KeyFileError},
    fault::{Code, Fault, chain},
    key::{KeyPair, PublicKey},
    units::Timestamp,
};
use tokio::sync::{Mutex, watch};

const KEY: &str = "key";
const NEXT: &str = "key.next";

/// The keys that are good at a moment.
#[derive(Debug)]
pub struct KeySet {
    /// The one that peers have pinned.
    pub present: KeyPair,
    /// The one that they are to pin.
    pub next: Option<KeyPair>,
}

impl KeySet {
    /// Reads what there is; a first key is made if there is none.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn load(folder: &Path) -> Result<Self, KeyFileError> {
        let present = keyfile::read_or_create_private(&folder.join(KEY))?;
        let next = match keyfile::read_private(&folder.join(NEXT)) {
            Ok(next) => Some(next),
            Err(error) if error.is_absent() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { present, next })
    }

    /// The one for new peers to pin.
    #[must_use]
    pub fn newest(&self) -> PublicKey {
        self.next.as_ref().unwrap_or(&self.present).public()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(&self, key: &PublicKey) -> bool {
        self.present.public() == *key || self.next.as_ref().is_some_and(|next| next.public() == *key)
    }
}

/// The handle to the keys.
#[derive(Clone)]
pub struct ServerKeys {
    folder: Arc<PathBuf>,
    turn: Arc<Mutex<()>>,
    set: Arc<watch::Sender<Arc<KeySet>>>,
}

impl ServerKeys {
    /// Reads them.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn open(folder: PathBuf) -> Result<Self, KeyFileError> {
        let set = KeySet::load(&folder)?;
        Ok(Self { folder: Arc::new(folder), turn: Arc::default(), set: Arc::new(watch::Sender::new(Arc::new(set))) })
    }

    /// The keys as they are now.
    #[must_use]
    pub fn now(&self) -> Arc<KeySet> {
        self.set.borrow().clone()
    }

    /// The next one, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<PublicKey> {
        self.now().next.as_ref().map(KeyPair::public)
    }

    /// Told whenever they change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<KeySet>> {
        self.set.subscribe()
    }

    /// When the file of the present key was written, for one of which nothing better is known.
    #[must_use]
    pub fn written(&self) -> Timestamp {
        let written = std::fs::metadata(self.folder.join(KEY)).and_then(|file| file.modified());
        written.unwrap_or(SystemTime::now()).into()
    }

    /// Makes the next key if there is none. It is on the disk before `note` is asked to write it down, and is good and announced
    /// when this returns.
    ///
    /// # Errors
    /// A fault: the disk, or that of `note`.
    pub async fn rotate<F: Future<Output = Result<(), Fault>>>(
        &self,
        note: impl FnOnce(PublicKey, PublicKey) -> F,
    ) -> Result<(), Fault> {
        let _turn = self.turn.lock().await;
        let folder = self.folder.clone();
        let made = on_disk(move || {
            keyfile::read_or_create_private(&folder.join(NEXT))?;
            KeySet::load(&folder)
        });
        let set = made.await?;
        crate::failpoint("rotate.made");
        note(set.present.public(), set.newest()).await?;
        crate::failpoint("rotate.noted");
        self.set.send_replace(Arc::new(set));
        Ok(())
    }

    /// Puts the next key into the place of the present one, which is good for nothing from then on.
    ///
    /// # Errors
    /// A fault: there is no next key, or the disk.
    pub async fn retire(&self) -> Result<(), Fault> {
        let _turn = self.turn.lock().await;
        if self.now().next.is_none() {
            return Err(Fault::new(Code::WrongState, "the client worker has no next key"));
        }
        crate::failpoint("retire.before");
        let folder = self.folder.clone();
        let retired = on_disk(move || {
            let io = |source| KeyFileError::Io { doing: "put into its place", path: folder.join(KEY), source };
            std::fs::rename(folder.join(NEXT), folder.join(KEY))
                .and_then(|()| std::fs::File::open(&*folder)?.sync_all())
                .map_err(io)?;
            KeySet::load(&folder)
        });
        let set = retired.await?;
        crate::failpoint("retire.after");
        self.set.send_replace(Arc::new(set));
        Ok(())
    }
}

async fn on_disk(change: impl FnOnce() -> Result<KeySet, KeyFileError> + Send + 'static) -> Result<KeySet, Fault> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Fault::new(Code::Unavailable, format!("the client worker cannot store its keys: {}", chain(error)))
    };
    tokio::task::spawn_blocking(change).await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_has_a_successor_until_that_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let open = || ServerKeys::open(folder.path().to_owned()).unwrap();
        let keys = open();
        let old = keys.now().present.public();
        assert!(keys.retire().await.is_err() && keys.now().next.is_none());
        let refused = keys.rotate(|_, _| async { Err(Fault::new(Code::Unavailable, "not now")) }).await;
        assert!(refused.is_err() && keys.now().next.is_none(), "not good before it is noted");
        keys.rotate(|_, _| async { Ok(()) }).await.unwrap();
        let next = keys.now().newest();
        assert!(next != old && keys.now().has(&old) && keys.now().has(&next));
        keys.rotate(|_, _| async { Ok(()) }).await.unwrap();
        assert_eq!((open().now().newest(), keys.now().newest()), (next, next), "one rotation at a time");
        keys.retire().await.unwrap();
        assert!(!keys.now().has(&old) && keys.now().next.is_none());
        assert_eq!(open().now().present.public(), next);
    }
}
