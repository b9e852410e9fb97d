//! The client worker's own keys: shown, rotated, retired.

use std::time::SystemTime;

use maglica_proto::{
    fault::{Code, Fault},
    key::Fingerprint,
    request::{Answer, KeysView, ServerKey},
};

use super::Handlers;

/// So many names are said in a message; the others are counted.
const NAMED: usize = 10;

impl Handlers {
    pub(super) fn keys(&self) -> Answer {
        let (set, register) = (self.keys.now(), self.trust.now());
        let (since, next_since) = register.server_since();
        let (hosts, operators) = register.not_taken();
        let shown = |key: maglica_proto::key::PublicKey, since: Option<_>| ServerKey {
            key,
            fingerprint: key.fingerprint(),
            since: since.unwrap_or_default(),
        };
        Answer::Keys(Box::new(KeysView {
            present: shown(set.present.public(), since),
            next: set.next.as_ref().map(|next| shown(next.public(), next_since)),
            hosts,
            operators,
            rekeying: register.rekeying(),
        }))
    }

    /// Begins a change of the key with this fingerprint; one that is under way, or over, is left as it is.
    pub(super) async fn rotate(&self, old: &Fingerprint) -> Result<Answer, Fault> {
        let set = self.keys.now();
        if set.present.public().fingerprint() != *old {
            return self.over_already(old).await;
        }
        if set.next.is_none() {
            let written = self.keys.written();
            let note = async |present, next| {
                let now = SystemTime::now().into();
                let follow = move |register: &mut crate::trust::Register| {
                    register.follow_server(present, Some(next), written, now);
                    Ok(())
                };
                self.trust.change(follow).await
            };
            self.keys.rotate(note).await?;
            tracing::warn!(next = %self.keys.now().newest().fingerprint(), "the client worker has a next key");
        }
        Ok(self.keys())
    }

    /// Ends the key with this fingerprint.
    pub(super) async fn retire(&self, old: &Fingerprint, force: bool) -> Result<Answer, Fault> {
        let set = self.keys.now();
        if set.present.public().fingerprint() != *old {
            return self.over_already(old).await;
        }
        let (hosts, _) = self.trust.now().not_taken();
        if set.next.is_some() && !hosts.is_empty() && !force {
            let mut names: Vec<String> = hosts.iter().take(NAMED).map(ToString::to_string).collect();
            if hosts.len() > NAMED {
                names.push(format!("{} others", hosts.len() - NAMED));
            }
            let message = format!("not yet using the next key, and shut out without the old one: {}", names.join(", "));
            return Err(Fault::new(Code::WrongState, message));
        }
        self.keys.retire().await?;
        tracing::warn!(%old, "the client worker's old key is good for nothing any more");
        self.follow().await?;
        Ok(self.keys())
    }

    /// Notes in the register which keys there are.
    async fn follow(&self) -> Result<(), Fault> {
        let (present, next, written) = (self.keys.now().present.public(), self.keys.next(), self.keys.written());
        self.trust
            .change(|register| {
                register.follow_server(present, next, written, SystemTime::now().into());
                Ok(())
            })
            .await
    }

    /// The same command again, for its answer was lost.
    async fn over_already(&self, old: &Fingerprint) -> Result<Answer, Fault> {
        // It may have died, or its disk have been full, between the two.
        self.follow().await?;
        if self.trust.now().was_server(old) {
            return Ok(self.keys());
        }
        Err(Fault::new(Code::Conflict, format!("the client worker does not have the key {old}")))
    }
}
