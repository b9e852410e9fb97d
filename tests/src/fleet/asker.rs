//! An operator with root's key who asks the client worker through one session, which stays open between questions.

use std::time::Duration;

use anyhow::{Context, bail};
use maglica_proto::{
    codec,
    config::{Config, keyfile},
    id::JobId,
    job::{JobEvent, JobRow, JobSpec, JobView},
    key::{PublicKey, Token},
    name::HostName,
    request::{Answer, HostRow, Invite, Request},
    seal::{Hello, PeerKind},
    transport::{DialLimits, Requester, SealedRequester},
};

/// How long one round trip may take; longer than the client worker holds back a watcher.
const LIMIT: Duration = Duration::from_secs(40);
/// How long an invitation is good for, in seconds: it is used at once.
const INVITATION_S: u32 = 600;
/// How long the client worker may hold back the answer to a watcher, in milliseconds.
const WATCH_MS: u32 = 20_000;

/// The operator.
pub struct Asker {
    conversation: SealedRequester,
    server: PublicKey,
}

impl Asker {
    /// Reads the operator's keys that the configuration names; nothing is dialled yet.
    ///
    /// # Errors
    /// A key cannot be read.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let keys = keyfile::read_private(&config.operator.key)?;
        let server = keyfile::read_public(&config.operator.server_key)?;
        let requester = Requester::new(config.client.rep_addr(), None, DialLimits::default());
        let hello = Hello::new("maglica-tests", "tests");
        Ok(Self {
            conversation: SealedRequester::new(requester, keys, server, PeerKind::Operator, hello, None),
            server,
        })
    }

    /// The client worker's key.
    #[must_use]
    pub const fn server(&self) -> PublicKey {
        self.server
    }

    /// Asks; a fault that is answered is an error.
    ///
    /// # Errors
    /// No answer, or a fault.
    pub async fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let body = codec::encode(request)?;
        let answer =
            self.conversation.call(&body, LIMIT).await.with_context(|| format!("{} has no answer", request.verb()))?;
        let answer: Answer = codec::decode(&answer)?;
        if let Answer::Fault { fault } = answer {
            return Err(fault).with_context(|| format!("{} was refused", request.verb()));
        }
        Ok(answer)
    }

    /// Invites a host, and gives the token that lets it in.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    pub async fn invite(&mut self, name: HostName) -> anyhow::Result<Token> {
        let token = Token::generate()?;
        let invite = Invite { token: token.id(), psk: token.psk(), valid_s: INVITATION_S };
        self.ask(&Request::HostInvite { name, invite }).await?;
        Ok(token)
    }

    /// All hosts.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    pub async fn hosts(&mut self) -> anyhow::Result<Vec<HostRow>> {
        let Answer::Hosts { hosts } = self.ask(&Request::HostList).await? else {
            bail!("host-list is answered by something else")
        };
        Ok(hosts)
    }

    /// Submits a new job.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    pub async fn submit(&mut self, spec: JobSpec) -> anyhow::Result<JobView> {
        let id = JobId::generate();
        let Answer::Job(view) = self.ask(&Request::Submit { id, spec }).await? else {
            bail!("submit is answered by something else")
        };
        Ok(*view)
    }

    /// The job as it is and its events from `after` on; waits for one if there is none yet.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    pub async fn watch(&mut self, id: JobId, after: u32) -> anyhow::Result<(JobRow, Vec<JobEvent>)> {
        let Answer::Watch { row, events, .. } = self.ask(&Request::JobWatch { id, after, wait_ms: WATCH_MS }).await?
        else {
            bail!("job-watch is answered by something else")
        };
        Ok((*row, events))
    }
}
