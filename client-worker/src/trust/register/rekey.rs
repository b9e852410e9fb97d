//! A new key for a host: asked for by an administrator, announced by the host, in force when the host speaks with it.

use maglica_proto::{
    fault::{Code, Fault},
    key::{Fingerprint, PublicKey},
    name::HostName,
    seal::Refusal,
};

use super::Register;

impl Register {
    /// Notes that a host is to make itself a new key in the place of the one with this fingerprint. Once that key is
    /// gone, the same again changes nothing.
    ///
    /// # Errors
    /// A fault: there is no such host, or it never had that key.
    pub fn ask_rekey(&mut self, name: &HostName, fingerprint: &Fingerprint) -> Result<(), Fault> {
        let gone = self.revoked.iter().any(|key| key.fingerprint() == *fingerprint);
        let Some(host) = self.hosts.get_mut(name) else { return Err(self.no_such_host(name)) };
        if host.key.fingerprint() == *fingerprint {
            host.rekey = true;
        } else if !gone {
            let message = format!("host {name} does not have the key {fingerprint}");
            return Err(Fault::new(Code::Conflict, message).about(name.to_string()));
        }
        Ok(())
    }

    /// Whether a host is to make itself a new key.
    #[must_use]
    pub fn wants_rekey(&self, name: &HostName) -> bool {
        self.hosts.get(name).is_some_and(|host| host.rekey)
    }

    /// A host says which key it will have. The same again changes nothing; another one takes the place of one that was
    /// never used.
    ///
    /// # Errors
    /// A fault: nobody asked it to, or the key is somebody's already, was revoked, or waits at the door.
    pub fn announce(&mut self, name: &HostName, next: PublicKey) -> Result<(), Fault> {
        let Some(host) = self.hosts.get(name) else { return Err(self.no_such_host(name)) };
        if host.has(&next) {
            return Ok(());
        }
        if !host.rekey {
            return Err(Fault::new(Code::WrongState, format!("nobody asked host {name} for a new key")));
        }
        if self.lookup(&next) != Err(Refusal::UnknownKey) || self.pending.iter().any(|pending| pending.key == next) {
            return Err(Fault::new(Code::Conflict, "this key is not new: it is known here already"));
        }
        if let Some(host) = self.hosts.get_mut(name) {
            host.next = Some(next);
        }
        Ok(())
    }

    /// Whether this is the key that a host will have.
    #[must_use]
    pub fn is_next(&self, name: &HostName, key: &PublicKey) -> bool {
        self.hosts.get(name).is_some_and(|host| host.next.as_ref() == Some(key))
    }

    /// A host has spoken with its next key: from now on that is the only one, and the old one is never good again.
    pub fn promote(&mut self, name: &HostName, key: &PublicKey) {
        if let Some(host) = self.hosts.get_mut(name)
            && host.next.as_ref() == Some(key)
        {
            self.revoked.insert(std::mem::replace(&mut host.key, *key));
            (host.next, host.rekey) = (None, false);
        }
    }

    /// The hosts that are to make themselves a new key.
    #[must_use]
    pub fn rekeying(&self) -> Vec<HostName> {
        self.hosts.iter().filter(|(_, host)| host.rekey).map(|(name, _)| name.clone()).collect()
    }
}
