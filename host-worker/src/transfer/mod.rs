//! Images on their way from host to host, past the client worker: whoever fetches dials whoever has it.
//!
//! | file | owns |
//! | --- | --- |
//! | this file | who may have what, as the client worker says at each connection ([`Grants`]) |
//! | [`listen`] | the port on which others fetch images from here, and its bounds |
//! | [`source`] | an image of this host as files to be given |
//! | [`dial`] | reaching the host that an image is fetched from |
//!
//! What travels, and how it is sealed, is [`maglica_proto::transfer`]'s. What becomes of what was fetched is a task's.

pub mod dial;
pub mod listen;
mod source;

use std::{future::Future, pin::Pin};

use maglica_proto::{
    fault::{Code, Fault},
    host::{Door, HostAnswer, HostRequest, Visitor, Vouched},
    id::JobId,
    key::{KeyPair, PublicKey},
};

pub(crate) use self::source::NVRAM;
use crate::link::{Link, LinkError};

/// An answer that is waited for.
pub type Asking<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who may have what. The client worker says so; tests say it themselves.
pub trait Grants: Send + Sync {
    /// The key that this host speaks with.
    fn keys(&self) -> KeyPair;

    /// Where to fetch from for this job of this host's.
    fn source(&self, job: JobId) -> Asking<'_, Result<Door, Fault>>;

    /// What somebody with this key may have for this job; none: nothing.
    fn vouch(&self, job: JobId, key: PublicKey, role: Visitor) -> Asking<'_, Result<Option<Vouched>, Fault>>;
}

impl Grants for Link {
    fn keys(&self) -> KeyPair {
        self.keys()
    }

    fn source(&self, job: JobId) -> Asking<'_, Result<Door, Fault>> {
        Box::pin(async move {
            match self.call(HostRequest::Source { job }).await {
                Ok(HostAnswer::Source(door)) => Ok(door),
                Ok(_) => Err(Fault::new(Code::Unavailable, "the client worker gave another answer")),
                Err(error) => Err(unanswered(error)),
            }
        })
    }

    fn vouch(&self, job: JobId, key: PublicKey, role: Visitor) -> Asking<'_, Result<Option<Vouched>, Fault>> {
        Box::pin(async move {
            match self.call(HostRequest::Vouch { job, key, role }).await {
                Ok(HostAnswer::Vouched(vouched)) => Ok(Some(vouched)),
                Ok(_) => Ok(None),
                Err(error) => Err(unanswered(error)),
            }
        })
    }
}

fn unanswered(error: LinkError) -> Fault {
    match error {
        LinkError::Fault(fault) => fault,
        error @ (LinkError::Sealed(_) | LinkError::Codec(_) | LinkError::Stopping) => {
            Fault::from_error(Code::Unavailable, &error)
        }
    }
}

/// Nobody may have anything: for a host that is asked by nobody.
pub struct NoGrants;

impl Grants for NoGrants {
    fn keys(&self) -> KeyPair {
        // Never spoken with, for nothing is granted.
        KeyPair::from_line("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap_or_else(|_| unreachable!("a key"))
    }

    fn source(&self, _: JobId) -> Asking<'_, Result<Door, Fault>> {
        Box::pin(async { Err(Fault::new(Code::Unavailable, "there is no client worker")) })
    }

    fn vouch(&self, _: JobId, _: PublicKey, _: Visitor) -> Asking<'_, Result<Option<Vouched>, Fault>> {
        Box::pin(async { Ok(None) })
    }
}
