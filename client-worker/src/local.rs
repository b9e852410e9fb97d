//! What makes Maglica work on one machine without being set up: the client worker's own key, an operator's key that
//! only root can read, and an invitation that this machine's host worker finds.

use std::{path::PathBuf, time::SystemTime};

use anyhow::Context;
use maglica_proto::{
    config::{Config, folder, keyfile, schema::Operator},
    join::Invitation,
    key::{PublicKey, Token},
    name::{HostName, OperatorName},
    request::Invite,
};

use crate::{
    audit::{Audit, about},
    trust::{Register, ServerKeys, Trust, register::InvitedAs},
};

/// How long this machine's host worker has to pick up its invitation; a restart makes a new one.
const INVITE_S: u32 = 24 * 3600;

/// The folder of the client worker's own files.
#[must_use]
pub fn state_dir(config: &Config) -> PathBuf {
    config.state_dir.join("client-worker")
}

/// Where this machine's host worker looks for its invitation.
#[must_use]
pub fn invitation_file(config: &Config) -> PathBuf {
    config.state_dir.join("local/invitation")
}

/// The client worker's keys; the first is made on the first start.
///
/// # Errors
/// A file cannot be read or written, or others can read it.
pub fn server_keys(config: &Config) -> anyhow::Result<ServerKeys> {
    Ok(ServerKeys::open(folder::private(state_dir(config))?)?)
}

/// Root's operator key and the pinned key beside it, made and enrolled if they are not yet.
///
/// # Errors
/// The files cannot be written, or the register cannot be stored.
pub async fn enrol_root(config: &Config, newest: PublicKey, trust: &Trust, audit: &Audit) -> anyhow::Result<()> {
    let files = Operator::of_root(&config.state_dir);
    if let Some(folder) = files.key.parent() {
        folder::private(folder.to_owned())?;
    }
    let root = keyfile::read_or_create_private(&files.key)?;
    if keyfile::read_public(&files.server_key).ok() != Some(newest) {
        keyfile::write_public(&files.server_key, newest)?;
    }
    let name = OperatorName::new("root")?;
    let change = |register: &mut Register| {
        register.enrol_local_operator(name.clone(), root.public(), SystemTime::now().into());
        Ok(())
    };
    let mut after = (*trust.now()).clone();
    change(&mut after)?;
    if after.differs_on_disk(&trust.now()) {
        let detail = format!("admin, {}", root.public().fingerprint());
        let asked = about::itself(newest.fingerprint(), "operator-add", &name, &detail);
        let lines = audit.asked(vec![asked]).await?;
        let changed = trust.change(change).await;
        audit.ended(lines.into_iter().map(|line| (line, about::verdict(&changed)))).await;
        changed?;
    }
    Ok(())
}

/// An invitation for the host worker of this machine, unless it is enrolled.
///
/// # Errors
/// The file cannot be written, or the register cannot be stored.
pub async fn invite_local_host(
    config: &Config,
    key: PublicKey,
    trust: &Trust,
    audit: &Audit,
    server: String,
) -> anyhow::Result<()> {
    let file = invitation_file(config);
    let name: HostName = config.host.name()?;
    if trust.now().hosts().any(|(enrolled, _)| *enrolled == name) {
        // Used up; a token that lets nobody in is only a riddle for whoever finds it.
        return match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", file.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        };
    }
    if let Some(folder) = file.parent() {
        folder::private(folder.to_owned())?;
    }
    let token = Token::generate()?;
    let invite = Invite { token: token.id(), psk: token.psk(), valid_s: INVITE_S };
    let asked = about::itself(key.fingerprint(), "host-invite", &name, &format!("token {}", invite.token));
    let lines = audit.asked(vec![asked]).await?;
    let invited =
        trust.change(|register| register.invite(InvitedAs::Host { name }, invite, SystemTime::now().into())).await;
    audit.ended(lines.into_iter().map(|line| (line, about::verdict(&invited)))).await;
    invited?;
    let line = Invitation { server, key, token }.to_line();
    keyfile::write_atomic(&file, format!("{}\n", line.expose()).as_bytes(), 0o600)?;
    Ok(())
}
