//! What the audit tells of a request. One `match`: a new verb does not compile until it is decided whether it changes
//! anything. Reading, the audit included, has no line unless it is refused; it is in the log. No secret is named here.

use maglica_proto::{
    audit::{Asked, Capacity, Verdict},
    fault::Fault,
    id::JobId,
    key::{Fingerprint, PublicKey, TokenId},
    name::{HostName, OperatorName},
    request::{Answer, Invite, Request, SUBMIT_MAX},
};

/// A text of a peer's is kept so far; names are shorter.
const TEXT_MAX: usize = 255;

/// A request as its lines tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Whether it changes anything, so that it has lines.
    pub changes: bool,
    /// What it is about: most requests are about one thing.
    pub things: Vec<Thing>,
}

/// One thing that a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thing {
    /// Its name.
    pub object: Option<String>,
    /// What exactly is asked.
    pub detail: Option<String>,
    /// The job.
    pub job: Option<JobId>,
}

impl Thing {
    fn named(name: &impl ToString) -> Self {
        Self { object: Some(name.to_string()), ..Self::default() }
    }

    fn with(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    fn of_job(self, job: JobId) -> Self {
        Self { job: Some(job), ..self }
    }
}

fn by_token(invite: &Invite) -> String {
    format!("token {}", invite.token)
}

impl About {
    /// What this request is about.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let reads = |thing: Thing| Self { changes: false, things: vec![thing] };
        let changes = |thing: Thing| Self { changes: true, things: vec![thing] };
        match request {
            Request::ImageList
            | Request::VmList { .. }
            | Request::HostList
            | Request::HostPing { .. }
            | Request::Status
            | Request::JobList { .. }
            | Request::OperatorList
            | Request::KeyShow
            | Request::ConsoleRead { .. }
            | Request::ConsoleWrite { .. }
            | Request::Watch { .. }
            | Request::Audit { .. } => reads(Thing::default()),
            // What is typed has no line, but that somebody may type or look has.
            Request::ConsoleOpen { name, force, .. } => {
                changes(Thing::named(name).with(if *force { "type, in another's place" } else { "type" }))
            }
            Request::ConsoleView { name, .. } => changes(Thing::named(name).with("look")),
            Request::ConsoleClose { .. } => reads(Thing::default()),
            Request::VmLog { name, .. } => reads(Thing::named(name)),
            Request::Place { spec } => reads(Thing::named(&spec.name).with("clone")),
            Request::VmShow { name, .. } | Request::ImageShow { name, .. } => reads(Thing::named(name)),
            Request::JobShow { id } | Request::JobWatch { id, .. } => reads(Thing::default().of_job(*id)),
            Request::Submit { id, spec } => changes(Thing::named(&spec.vm()).with(spec.verb()).of_job(*id)),
            Request::SubmitMany { jobs } => {
                let things = jobs.iter().map(|job| Thing::named(&job.spec.vm()).with(job.spec.verb()).of_job(job.id));
                Self { changes: true, things: things.take(SUBMIT_MAX).collect() }
            }
            Request::JobCancel { id } => changes(Thing::default().of_job(*id)),
            Request::HostInvite { name, invite } => changes(Thing::named(name).with(by_token(invite))),
            Request::HostAccept { name, fingerprint } | Request::HostRekey { name, fingerprint } => {
                changes(Thing::named(name).with(fingerprint.to_string()))
            }
            Request::HostRevoke { name } => changes(Thing::named(name)),
            Request::OperatorAdd { name, role, invite } => {
                changes(Thing::named(name).with(format!("{}, {}", role.as_str(), by_token(invite))))
            }
            Request::OperatorRevoke { name } => changes(Thing::named(name)),
            Request::KeyRotate { fingerprint } => changes(Thing::default().with(fingerprint.to_string())),
            Request::KeyRetire { fingerprint, force } => {
                let how = if *force { ", though there are hosts without the next one" } else { "" };
                changes(Thing::default().with(format!("{fingerprint}{how}")))
            }
        }
    }

    /// Its lines.
    #[must_use]
    pub fn lines(&self, who: &OperatorName, key: &PublicKey, verb: &str) -> Vec<Asked> {
        let line = |thing: &Thing| Asked {
            who: who.to_string(),
            role: Capacity::Operator,
            key: key.fingerprint(),
            verb: verb.to_owned(),
            object: thing.object.as_deref().map(clip),
            detail: thing.detail.as_deref().map(clip),
            job: thing.job,
            outcome: None,
            unlisted: 0,
        };
        self.things.iter().map(line).collect()
    }
}

/// What came of each of these lines: all the same, or with several jobs what came of each.
#[must_use]
pub fn verdicts(lines: &[u64], answer: &Result<Answer, Fault>) -> Vec<(u64, Verdict)> {
    let all = verdict(answer);
    let each: Vec<Verdict> = match answer {
        Ok(Answer::Submitted { results }) => results.iter().map(verdict).collect(),
        Ok(_) | Err(_) => Vec::new(),
    };
    lines.iter().enumerate().map(|(at, line)| (*line, each.get(at).copied().unwrap_or(all))).collect()
}

/// What came of a request.
#[must_use]
pub const fn verdict<T>(answer: &Result<T, Fault>) -> Verdict {
    match answer {
        Ok(_) => Verdict::Ok,
        Err(fault) => Verdict::Fault(fault.code),
    }
}

/// Somebody with a token asks to be let in under this name.
#[must_use]
pub fn joins(name: String, key: &PublicKey, token: &TokenId) -> Asked {
    Asked {
        who: clip(&name),
        role: Capacity::Joiner,
        key: key.fingerprint(),
        verb: "join".to_owned(),
        object: Some(clip(&name)),
        detail: Some(clip(&format!("token {token}"))),
        job: None,
        outcome: None,
        unlisted: 0,
    }
}

/// A host says which key it will use from now on.
#[must_use]
pub fn next_key(host: &HostName, key: &PublicKey, next: &PublicKey) -> Asked {
    Asked {
        who: host.to_string(),
        role: Capacity::Host,
        verb: "host-key".to_owned(),
        detail: Some(next.fingerprint().to_string()),
        ..itself(key.fingerprint(), "host-key", host, "")
    }
}

/// The client worker does something of itself, with its own key.
#[must_use]
pub fn itself(key: Fingerprint, verb: &str, object: &impl ToString, detail: &str) -> Asked {
    Asked {
        who: "client-worker".to_owned(),
        role: Capacity::Local,
        key,
        verb: verb.to_owned(),
        object: Some(clip(&object.to_string())),
        detail: Some(clip(detail)),
        job: None,
        outcome: None,
        unlisted: 0,
    }
}

fn clip(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use maglica_proto::{key::Token, request::Role};

    use super::*;

    #[test]
    fn a_line_names_the_token_by_its_id_and_holds_no_secret() {
        let token = Token::generate().unwrap();
        let invite = Invite { token: token.id(), psk: token.psk(), valid_s: 60 };
        let name = OperatorName::new("alice").unwrap();
        let request = Request::OperatorAdd { name: name.clone(), role: Role::Admin, invite };
        let about = About::of(&request);
        let key = maglica_proto::key::KeyPair::generate().unwrap().public();
        let line = serde_json::to_string(&about.lines(&name, &key, request.verb())).unwrap();
        assert!(about.changes && line.contains(&format!("admin, token {}", token.id())), "{line}");
        assert!(!line.contains(token.psk().expose()), "{line}");
    }
}
