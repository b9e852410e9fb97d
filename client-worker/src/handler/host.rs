//! What host workers say.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use maglica_proto::{
    console::{Chunk, ConsoleInput},
    fault::{Code, Fault},
    host::{BeatAnswer, Denial, HostAnswer, HostRequest, SEVERAL_MAX},
    key::PublicKey,
    name::HostName,
};

use super::{Handlers, said, stopping};
use crate::{
    audit::about,
    bus::refused::{Kind, Who},
    fleet::state::Taken,
    order::Order,
};

/// How much of the time in which all hosts come back after a restart is each host's: about twice the processor time that a handshake,
/// a subscription, two heartbeats and an inventory take, so that half of a processor is left for others.
const RETURN: Duration = Duration::from_millis(4);

impl Handlers {
    /// What a host says: one thing, or several after one another.
    pub(super) async fn host(
        self: &Arc<Self>,
        host: HostName,
        order: Order,
        request: HostRequest,
    ) -> Result<HostAnswer, Fault> {
        let HostRequest::Several { requests } = request else { return self.one(host, order, request).await };
        if requests.len() > SEVERAL_MAX {
            self.refused.note(Kind::Excessive, Who::Host(&host), "requests in one");
            let message = format!("{} requests in one, at most {SEVERAL_MAX} can be", requests.len());
            return Err(Fault::new(Code::InvalidInput, message));
        }
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            match self.one(host.clone(), order, request).await {
                Ok(answer) => answers.push(answer),
                Err(fault) => {
                    answers.push(HostAnswer::Fault { fault });
                    break;
                }
            }
        }
        Ok(HostAnswer::Several { answers })
    }

    async fn one(
        self: &Arc<Self>,
        host: HostName,
        order: Order,
        mut request: HostRequest,
    ) -> Result<HostAnswer, Fault> {
        match said::tidy(&mut request) {
            Ok(false) => {}
            Ok(true) => self.refused.note(Kind::Excessive, Who::Host(&host), "text that was cut or cleaned"),
            Err(fault) => {
                self.refused.note(Kind::Excessive, Who::Host(&host), "a heartbeat");
                return Err(fault);
            }
        }
        match request {
            HostRequest::Heartbeat(beat) => {
                let (name, boot, revision) = (host.clone(), beat.boot, beat.inventory);
                let known_as = name.clone();
                let (want_inventory, hosts) = self
                    .fleet
                    .with(move |fleet| {
                        let (now, wall) = (Instant::now(), SystemTime::now().into());
                        (fleet.heartbeat(&known_as, order, boot, revision, now, wall), fleet.hosts().len())
                    })
                    .await
                    .ok_or_else(stopping)?;
                let due = self.desk.heartbeat(host, order, beat).await?;
                let next_ms = u32::try_from(self.config.timing.heartbeat.as_millis()).unwrap_or(u32::MAX);
                let spread = (RETURN * u32::try_from(hosts).unwrap_or(u32::MAX)).min(self.config.timing.down / 3);
                let spread_ms = u32::try_from(spread.as_millis()).unwrap_or(u32::MAX);
                Ok(HostAnswer::Beat(Box::new(BeatAnswer {
                    offers: due.offers,
                    cancels: due.cancels,
                    settled: due.settled,
                    missing: due.missing,
                    rekey: self.trust.now().wants_rekey(&name),
                    want_inventory,
                    next_ms,
                    spread_ms,
                })))
            }
            HostRequest::Inventory { revision, part, parts, inventory } => {
                let name = host.clone();
                let taken = self
                    .fleet
                    .with(move |fleet| fleet.inventory(&name, order, revision, part, parts, *inventory, Instant::now()))
                    .await
                    .ok_or_else(stopping)?;
                match taken {
                    Taken::Yes => Ok(HostAnswer::Stored),
                    Taken::Late => Err(Fault::new(Code::Conflict, format!("host {host} has said something newer"))),
                    Taken::TooMuch => {
                        self.refused.note(Kind::Excessive, Who::Host(&host), "an inventory");
                        let message = format!("host {host} has more than the client worker keeps of one host");
                        Err(Fault::new(Code::InvalidInput, message))
                    }
                }
            }
            HostRequest::InventoryChange { from, revision, change } => {
                let taken = self
                    .fleet
                    .with(move |fleet| fleet.change(&host, order, from, revision, *change, Instant::now()))
                    .await
                    .ok_or_else(stopping)?;
                let unknown =
                    || Fault::new(Code::Conflict, format!("revision {from} of the inventory is not known here"));
                taken.then_some(HostAnswer::Stored).ok_or_else(unknown)
            }
            HostRequest::Accept { job, attempt } => match self.desk.accept(host.clone(), order, job).await? {
                Ok(()) => {
                    tracing::debug!(%job, %host, attempt, "granted");
                    Ok(HostAnswer::Granted)
                }
                Err(why) => {
                    tracing::debug!(%job, %host, ?why, "not granted");
                    self.refused.note(Kind::Denied, Who::Host(&host), "a grant");
                    Ok(HostAnswer::Denied { why })
                }
            },
            HostRequest::Refuse { job, fault } => {
                let (code, why) = (fault.code, fault.message.clone());
                let result = self.desk.refuse(host.clone(), job, fault).await?;
                if result.is_ok() {
                    tracing::info!(%job, %host, code = code.as_str(), error = why, "refused by its host");
                }
                Ok(self.stored(&host, result))
            }
            HostRequest::Progress { job, events } => {
                let result = self.desk.progress(host.clone(), job, events).await?;
                Ok(self.stored(&host, result))
            }
            HostRequest::Pong { number } => {
                self.pings.pong(host, number);
                Ok(HostAnswer::Stored)
            }
            HostRequest::Line(report) => {
                let wanted = self.consoles.report(host, report).await;
                let nothing = || ConsoleInput { from: 0, input: Chunk::default() };
                Ok(HostAnswer::Line { wanted: wanted.is_some(), input: wanted.unwrap_or_else(nothing) })
            }
            HostRequest::Log { number, result } => {
                self.logs.told(host, number, result);
                Ok(HostAnswer::Stored)
            }
            HostRequest::Report(report) => {
                let (job, ok) = (report.job, report.result.is_ok());
                let result = self.desk.report(host.clone(), *report).await?;
                if result.is_ok() {
                    tracing::info!(%job, %host, ok, "reported");
                }
                Ok(self.stored(&host, result))
            }
            HostRequest::Source { job } => self.source(&host, job).await.map(HostAnswer::Source),
            HostRequest::Vouch { job, key, role } => match self.vouch(&host, job, &key, role).await? {
                Some(vouched) => Ok(HostAnswer::Vouched(vouched)),
                None => {
                    self.refused.note(Kind::Denied, Who::Host(&host), "somebody who dialled it");
                    Ok(HostAnswer::Denied { why: Denial::NotYours })
                }
            },
            HostRequest::Rekey { key } => {
                tracing::info!(%host, next = %key.fingerprint(), "says its next key");
                self.announced(&host, key).await.map(|()| HostAnswer::Stored)
            }
            HostRequest::Several { .. } => {
                Err(Fault::new(Code::InvalidInput, "several requests in one of several requests"))
            }
        }
    }

    /// A host's next key, in the audit like every other that is let in; a repeat changes nothing and has no line.
    async fn announced(&self, host: &HostName, key: PublicKey) -> Result<(), Fault> {
        let mut after = (*self.trust.now()).clone();
        if after.announce(host, key).is_ok() && !after.differs_on_disk(&self.trust.now()) {
            return Ok(());
        }
        let present = self.trust.now().hosts().find(|(name, _)| *name == host).map(|(_, known)| known.key);
        let lines = self.audit.asked(vec![about::next_key(host, &present.unwrap_or(key), &key)]).await?;
        let changed = self.trust.change(|register| register.announce(host, key)).await;
        self.audit.ended(lines.into_iter().map(|line| (line, about::verdict(&changed)))).await;
        changed
    }

    fn stored(&self, host: &HostName, result: Result<(), Denial>) -> HostAnswer {
        match result {
            Ok(()) => HostAnswer::Stored,
            Err(why) => {
                self.refused.note(Kind::Denied, Who::Host(host), "what a host says of a job");
                HostAnswer::Denied { why }
            }
        }
    }
}
