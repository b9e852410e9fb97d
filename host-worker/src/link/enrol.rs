//! This host's key, the client worker's pinned key and address, and how a host joins.
//!
//! A host that was never enrolled joins by an invitation: given to `maglica-host-worker join`, or found where the
//! client worker of the same machine leaves one.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use maglica_proto::{
    codec::{self, CodecError},
    config::{
        Config, ConfigError,
        folder::{self, FolderError},
        keyfile::{self, KeyFileError},
        schema::ServerAddress,
    },
    fault::{Fault, chain},
    join::{InvalidInvitation, Invitation, JoinAnswer, JoinRequest, Joined},
    key::{InvalidKey, KeyPair, PublicKey},
    seal::{Hello, PeerKind},
    transport::{DialLimits, Requester, SealedError, SealedRequester},
};
use serde::{Deserialize, Serialize};

/// How long one round trip of joining may take.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// Why this host is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file.
    #[error("cannot {what} {path}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The invitation.
    #[error("the invitation is not one")]
    Invitation(#[from] InvalidInvitation),
    /// The file that says where the client worker is.
    #[error("{path} is damaged; join again")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The client worker could not be talked to.
    #[error("cannot join")]
    Sealed(#[from] SealedError),
    /// It refused.
    #[error("the client worker did not let this host in")]
    Refused(#[source] Fault),
    /// Something that it said.
    #[error("the client worker's answer is not understood")]
    Codec(#[from] CodecError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

/// Where the client worker is, as this host was told when it joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `address:port` of its asking port.
    pub rep: String,
    /// `address:port` of its publishing port.
    #[serde(rename = "pub")]
    pub publish: String,
    /// Its key.
    pub key: PublicKey,
}

/// An enrolled host.
pub struct Enrolled {
    /// Its key.
    pub keys: KeyPair,
    /// Where the client worker is.
    pub server: Server,
}

/// The folder of the host worker's own files; made if it is not there.
///
/// # Errors
/// It cannot be made.
pub fn state_dir(config: &Config) -> Result<PathBuf, EnrolError> {
    Ok(folder::private(config.state_dir.join("host-worker"))?)
}

/// The folder of sockets; made if it is not there.
///
/// # Errors
/// It cannot be made.
pub fn run_dir(config: &Config) -> Result<PathBuf, EnrolError> {
    Ok(folder::private(config.run_dir.join("host-worker"))?)
}

/// Where the client worker of this machine leaves an invitation.
#[must_use]
pub fn invitation_file(config: &Config) -> PathBuf {
    config.state_dir.join("local/invitation")
}

/// What there is of an enrolment: this host's key (made now if there is none), and the client worker if it joined.
///
/// # Errors
/// [`EnrolError`].
pub fn load(config: &Config) -> Result<(KeyPair, Option<Server>), EnrolError> {
    let folder = state_dir(config)?;
    let keys = keyfile::read_or_create_private(&folder.join("key"))?;
    let path = folder.join("server.json");
    let server: Option<Server> = match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|source| EnrolError::Damaged { path, source })?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(EnrolError::Io { what: "read", path, source }),
    };
    Ok((keys, server.map(|server| at_configured_address(server, config))))
}

/// The configuration's address, where it names one: a client worker may move. The pinned key stays.
fn at_configured_address(server: Server, config: &Config) -> Server {
    let elsewhere = match &config.client.host {
        ServerAddress::Ip(address) => !address.is_loopback(),
        ServerAddress::Name(name) => name.as_str() != "localhost",
    };
    if elsewhere {
        Server { rep: config.client.rep_addr(), publish: config.client.pub_addr(), ..server }
    } else {
        server
    }
}

/// Joins: proves to hold the invitation's token, and remembers the client worker.
///
/// # Errors
/// [`EnrolError`].
pub async fn join(config: &Config, keys: &KeyPair, invitation: &Invitation) -> Result<(Joined, Server), EnrolError> {
    let program = env!("CARGO_PKG_VERSION");
    let name = config.host.name()?;
    let requester = Requester::new(invitation.server.clone(), Some(run_dir(config)?), DialLimits::default());
    let hello = Hello::new(program, name.as_str());
    let token = Some(invitation.token.clone());
    let mut conversation = SealedRequester::new(requester, keys.clone(), invitation.key, PeerKind::Host, hello, token);
    let body = codec::encode(&JoinRequest { program: program.to_owned() })?;
    let joined = match codec::decode(&conversation.call(&body, JOIN_LIMIT).await?)? {
        JoinAnswer::Joined(joined) => joined,
        JoinAnswer::Fault { fault } => return Err(EnrolError::Refused(fault)),
    };
    let address = Invitation::address(&invitation.server)?;
    let server = Server {
        rep: invitation.server.clone(),
        publish: format!("{address}:{}", joined.pub_port),
        // A newer one than the invitation's, if the client worker is about to change it.
        key: conversation.newest_server(),
    };
    remember(config, &server)?;
    // Of an enrolment that is over; this one has not asked for a new key yet.
    let _ = std::fs::remove_file(state_dir(config)?.join("key.next"));
    Ok((joined, server))
}

/// Pins a client worker without a token: the host worker will ask to be let in, and wait for an administrator's word.
///
/// # Errors
/// [`EnrolError`].
pub fn pin(config: &Config, rep: &str, key: PublicKey) -> Result<Server, EnrolError> {
    let address = Invitation::address(rep)?;
    let server = Server { rep: rep.to_owned(), publish: format!("{address}:{}", config.client.pub_port), key };
    remember(config, &server)?;
    Ok(server)
}

/// Pins the client worker's next key in the place of the one that this host began with. Tells whether it is on the disk.
pub fn repin(config: &Config, pinned: PublicKey, next: PublicKey) -> bool {
    let done = state_dir(config).and_then(|folder| {
        let path = folder.join("server.json");
        let bytes =
            std::fs::read(&path).map_err(|source| EnrolError::Io { what: "read", path: path.clone(), source })?;
        let server: Server = serde_json::from_slice(&bytes).map_err(|source| EnrolError::Damaged { path, source })?;
        // Somebody pinned another one by hand meanwhile: the next start uses that.
        let ours = server.key == pinned || server.key == next;
        if ours {
            crate::failpoint("repin.before");
            remember(config, &Server { key: next, ..server })?;
            crate::failpoint("repin.after");
        }
        Ok(ours)
    });
    match &done {
        Ok(true) => {
            tracing::info!(fingerprint = %next.fingerprint(), "the client worker has a next key, now pinned here")
        }
        Ok(false) => tracing::warn!("another key of the client worker was pinned by hand; restart this host worker"),
        Err(error) => tracing::warn!(error = chain(error), "cannot pin the client worker's next key"),
    }
    done.unwrap_or(false)
}

fn remember(config: &Config, server: &Server) -> Result<(), EnrolError> {
    let path = state_dir(config)?.join("server.json");
    let bytes =
        serde_json::to_vec_pretty(server).map_err(|source| EnrolError::Damaged { path: path.clone(), source })?;
    Ok(keyfile::write_atomic(&path, &bytes, 0o600)?)
}

/// Reads an invitation from a file.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read_invitation(path: &Path) -> Result<Invitation, EnrolError> {
    let text = std::fs::read_to_string(path).map_err(|source| EnrolError::Io {
        what: "read the invitation",
        path: path.to_owned(),
        source,
    })?;
    Ok(text.parse()?)
}
