//! Answers: one file for each kind of asker, and one for what takes more than a look-up.
//!
//! | file | answers |
//! | --- | --- |
//! | [`operator`] | operators: lists and shows, cancel, invite, revoke |
//! | [`serial`] | serial consoles, and the logs of serial ports |
//! | [`keys`] | the client worker's own keys |
//! | [`status`] | how the client worker is |
//! | [`submit`] | an operator's new jobs: from asked to stored |
//! | [`decide`] | what a new job will be: which machine, which host, what the host will be told |
//! | [`place`] | what placement has to know, looked up; dry runs |
//! | [`said`] | what a host may say, cut and cleaned |
//! | [`room`] | lists that fit into a message |
//! | [`host`] | host workers: heartbeats, inventory, grants, progress, reports |
//! | `transfer` | who may fetch what from whom |
//!
//! Which role may ask what is checked here and nowhere else, before anything is looked at.

mod decide;
mod host;
mod keys;
mod operator;
mod place;
pub(crate) mod room;
mod said;
mod serial;
pub mod status;
mod submit;
mod transfer;

use std::{sync::Arc, time::SystemTime};

use maglica_proto::{
    audit::{Asked, Verdict},
    codec,
    config::Config,
    fault::{Code, Fault, chain},
    host::{HostAnswer, HostRequest},
    join::{JoinAnswer, JoinRequest, Joined},
    key::{PublicKey, TokenId},
    name::OperatorName,
    request::{Answer, Request, Role},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use self::status::{Counted, Since};
use crate::{
    audit::{
        Audit,
        about::{self, About, verdicts},
    },
    bus::{
        Answerer, Asker,
        refused::{Kind, Refused, Who},
        turns::Turn,
    },
    console::Consoles,
    fleet::Fleet,
    job::{Desk, delivery::Delivery},
    news::Feed,
    ping::Pings,
    serial_log::Logs,
    trust::{Known, ServerKeys, Trust},
};

/// How much is said of why a request cannot be read, in characters.
const QUOTED: usize = 500;

/// What the answers are made of.
pub struct Handlers {
    /// The jobs.
    pub desk: Desk,
    /// Says new jobs to their hosts.
    pub delivery: Delivery,
    /// The hosts.
    pub fleet: Fleet,
    /// The keys.
    pub trust: Trust,
    /// Who asked for what.
    pub audit: Audit,
    /// Weights, times and ports.
    pub config: Config,
    /// What happened lately.
    pub news: Feed,
    /// Open consoles.
    pub consoles: Consoles,
    /// Questions for logs under way.
    pub logs: Logs,
    /// Pings under way.
    pub pings: Pings,
    /// What the gates let in and refused.
    pub gates: Vec<Counted>,
    /// The client worker's keys.
    pub keys: ServerKeys,
    /// When it started.
    pub since: Since,
    /// One placement at a time, so that each sees the ones before it.
    pub placing: Mutex<()>,
    /// What is refused.
    pub refused: Arc<Refused>,
}

impl Answerer for Handlers {
    async fn answer(self: Arc<Self>, asker: Asker, turn: &Turn, body: Vec<u8>) -> Vec<u8> {
        match asker {
            Asker::Operator(name, role, key) => {
                let answer = match self.read::<Request>(Who::Operator(&name), &body) {
                    Ok(request) => self.audited(&name, role, &key, request, turn).await,
                    Err(fault) => Err(fault),
                };
                write(&answer.unwrap_or_else(|fault| Answer::Fault { fault }))
            }
            Asker::Host(name, order) => {
                let _turn = turn.take().await;
                let answer = match self.read::<HostRequest>(Who::Host(&name), &body) {
                    Ok(request) => self.host(name, order, request).await,
                    Err(fault) => Err(fault),
                };
                write(&answer.unwrap_or_else(|fault| HostAnswer::Fault { fault }))
            }
            Asker::Joiner(key, token) => {
                let _turn = turn.take().await;
                let answer = match self.read::<JoinRequest>(Who::Key(&key), &body) {
                    Ok(_) => self.join(key, token).await,
                    Err(fault) => Err(fault),
                };
                write(&answer.unwrap_or_else(|fault| JoinAnswer::Fault { fault }))
            }
        }
    }
}

impl Handlers {
    /// Checks the role, and has what changes anything written into the audit before it is done.
    async fn audited(
        self: Arc<Self>,
        name: &OperatorName,
        role: Role,
        key: &PublicKey,
        request: Request,
        turn: &Turn,
    ) -> Result<Answer, Fault> {
        let (verb, wanted, about) = (request.verb(), request.role(), About::of(&request));
        let lines = about.lines(name, key, verb);
        if role < wanted {
            self.refused.note(Kind::Forbidden, Who::Operator(name), verb);
            for line in lines {
                self.audit.refused(Asked { outcome: Some(Verdict::Fault(Code::Forbidden)), ..line }).await;
            }
            let message = format!("operator {name} has the role {}; {verb} takes {}", role.as_str(), wanted.as_str());
            return Err(Fault::new(Code::Forbidden, message));
        }
        if !about.changes {
            return self.operator(name, request, turn).await;
        }
        let lines = self.audit.asked(lines).await?;
        let answer = self.operator(name, request, turn).await;
        self.audit.ended(verdicts(&lines, &answer)).await;
        answer
    }

    async fn join(&self, key: PublicKey, token: TokenId) -> Result<JoinAnswer, Fault> {
        let name = self.trust.now().invited_name(&token, &key).unwrap_or_default();
        let lines = self.audit.asked(vec![about::joins(name, &key, &token)]).await?;
        let known = self.trust.change(|register| register.join(&token, key, SystemTime::now().into())).await;
        self.audit.ended(lines.into_iter().map(|line| (line, about::verdict(&known)))).await;
        let known = known?;
        let (name, role) = match known {
            Known::Host(name) => {
                tracing::info!(host = %name, "enrolled a host");
                (name.to_string(), None)
            }
            Known::Operator(name, role) => {
                tracing::info!(operator = %name, "enrolled an operator");
                (name.to_string(), Some(role))
            }
        };
        Ok(JoinAnswer::Joined(Joined { name, role, pub_port: self.config.listen.pub_port }))
    }

    fn read<T: DeserializeOwned>(&self, who: Who<'_>, body: &[u8]) -> Result<T, Fault> {
        // A verb of a newer version ends here too: to the one who asked, that is a matter of versions.
        codec::decode(body).map_err(|error| {
            self.refused.note(Kind::Unreadable, who, "a request");
            // It may quote the request, all of it.
            let why: String = chain(&error).chars().take(QUOTED).collect();
            let message = format!(
                "the client worker (version {}) does not understand the request: {why}",
                env!("CARGO_PKG_VERSION")
            );
            Fault::new(Code::Version, message)
        })
    }
}

fn stopping() -> Fault {
    Fault::new(Code::Unavailable, "the client worker is stopping")
}

fn write<T: Serialize>(answer: &T) -> Vec<u8> {
    codec::encode(answer).unwrap_or_else(|error| {
        tracing::error!(error = chain(&error), "an answer cannot be written");
        Vec::new()
    })
}
