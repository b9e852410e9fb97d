//! What operators ask.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use maglica_proto::{
    fault::Fault,
    name::{HostName, OperatorName},
    request::{Answer, HostRow, Ping, Presence, Request, SUBMIT_MAX, Submission},
};

use super::{Handlers, room, serial::Wants, stopping};
use crate::{
    bus::turns::Turn, fleet::state::HostEntry, news::Heard, serial_log::LogQuestion, trust::register::InvitedAs,
};

/// The longest that a watcher is kept waiting before it hears that nothing happened.
const WATCH_MAX: Duration = Duration::from_secs(25);
/// The longest that answers to a ping are waited for.
const PING_MAX: Duration = Duration::from_secs(10);
/// The most jobs in a list.
const JOBS_MAX: u32 = 1000;

impl Handlers {
    pub(super) async fn operator(
        self: &Arc<Self>,
        by: &OperatorName,
        request: Request,
        turn: &Turn,
    ) -> Result<Answer, Fault> {
        let now = SystemTime::now().into();
        // These are held back on purpose; new jobs wait for the hosts after a start and take their turn then.
        let waits = match request {
            Request::JobWatch { .. }
            | Request::Watch { .. }
            | Request::ConsoleOpen { .. }
            | Request::ConsoleView { .. }
            | Request::ConsoleRead { .. }
            | Request::VmLog { .. }
            | Request::HostPing { .. }
            | Request::Submit { .. }
            | Request::SubmitMany { .. } => true,
            Request::ImageList
            | Request::ImageShow { .. }
            | Request::VmList { .. }
            | Request::VmShow { .. }
            | Request::HostList
            | Request::JobList { .. }
            | Request::JobShow { .. }
            | Request::Place { .. }
            | Request::ConsoleWrite { .. }
            | Request::ConsoleClose { .. }
            | Request::JobCancel { .. }
            | Request::HostInvite { .. }
            | Request::HostAccept { .. }
            | Request::HostRevoke { .. }
            | Request::HostRekey { .. }
            | Request::OperatorAdd { .. }
            | Request::OperatorRevoke { .. }
            | Request::OperatorList
            | Request::Audit { .. }
            | Request::KeyShow
            | Request::KeyRotate { .. }
            | Request::KeyRetire { .. }
            | Request::Status => false,
        };
        let _working = if waits { None } else { turn.take().await };
        match request {
            Request::ImageList => {
                self.fleet.with(|fleet| Answer::Images(fleet.images(Instant::now()))).await.ok_or_else(stopping)
            }
            Request::ImageShow { name, host } => {
                let copies = self
                    .fleet
                    .with(move |fleet| fleet.image(&name, host.as_ref(), Instant::now()))
                    .await
                    .ok_or_else(stopping)?;
                copies.map(|mut copies| {
                    room::copies(&mut copies);
                    Answer::Image { copies }
                })
            }
            Request::VmList { after } => self
                .fleet
                .with(move |fleet| {
                    let (listing, next) = fleet.vms(after.as_ref(), Instant::now());
                    Answer::Vms { listing, next }
                })
                .await
                .ok_or_else(stopping),
            Request::VmShow { name, host } => {
                let view = self
                    .fleet
                    .with(move |fleet| fleet.vm(&name, host.as_ref(), Instant::now()))
                    .await
                    .ok_or_else(stopping)?;
                view.map(|view| Answer::Vm(Box::new(view)))
            }
            Request::HostList => self.host_list().await,
            Request::HostPing { hosts, wait_ms } => self.host_ping(hosts, wait_ms).await,
            Request::Status => Ok(Answer::Status(Box::new(self.status().await?))),
            Request::JobList { limit } => {
                let mut jobs = self.desk.list(limit.min(JOBS_MAX)).await?;
                room::jobs(&mut jobs);
                Ok(Answer::Jobs { jobs })
            }
            Request::JobShow { id } => Ok(Answer::Job(Box::new(self.desk.show(id).await?))),
            Request::JobWatch { id, after, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.into()).min(WATCH_MAX);
                match tokio::time::timeout(wait, self.desk.watch(id, after)).await {
                    Ok(watched) => {
                        let watched = watched?;
                        Ok(Answer::Watch {
                            row: Box::new(watched.row),
                            events: watched.events,
                            progress: watched.progress,
                        })
                    }
                    Err(_) => {
                        let view = self.desk.show(id).await?;
                        let events = view.events.into_iter().skip(after as usize).collect();
                        Ok(Answer::Watch { row: Box::new(view.row), events, progress: view.progress })
                    }
                }
            }
            Request::Place { spec } => self.place(spec).await,
            Request::Watch { after, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.into()).min(WATCH_MAX);
                let Heard { items, next, missed } = self.news.since(after, wait).await.ok_or_else(stopping)?;
                Ok(Answer::News { items, next, missed })
            }
            Request::ConsoleOpen { id, name, host, force } => {
                tracing::info!(operator = %by, vm = %name, force, "opens a console");
                let machine = self.running(name, host).await?;
                self.open_console(by, id, machine, Wants::Type { force }).await
            }
            Request::ConsoleView { id, name, host } => {
                tracing::info!(operator = %by, vm = %name, "looks at a console");
                let machine = self.running(name, host).await?;
                self.open_console(by, id, machine, Wants::Look).await
            }
            Request::ConsoleRead { id, from, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.into()).min(WATCH_MAX);
                self.consoles.read(by, id, from, wait).await.map(Answer::ConsoleOutput)
            }
            Request::ConsoleWrite { id, input } => {
                self.consoles.write(by, id, input).await.map(|taken| Answer::ConsoleTaken { taken })
            }
            Request::ConsoleClose { id } => {
                self.consoles.close(by, id).await;
                Ok(Answer::Done)
            }
            Request::VmLog { name, host, place, tail, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.into()).min(WATCH_MAX);
                self.log(name, host, LogQuestion { place, tail, wait }).await
            }
            Request::Submit { id, spec } => {
                tracing::info!(job = %id, operator = %by, verb = spec.verb(), vm = %spec.vm(), "submitted");
                Ok(Answer::Job(Box::new(self.submit(by, id, spec, turn).await?)))
            }
            Request::SubmitMany { jobs } => {
                for Submission { id, spec } in jobs.iter().take(SUBMIT_MAX) {
                    tracing::info!(job = %id, operator = %by, verb = spec.verb(), vm = %spec.vm(), "submitted");
                }
                let results = self.submit_many(by, jobs, turn).await?;
                Ok(Answer::Submitted { results: results.into_iter().map(|view| view.map(|view| view.row)).collect() })
            }
            Request::JobCancel { id } => {
                tracing::info!(job = %id, operator = %by, "cancel asked");
                let (view, tell_host) = self.desk.cancel(id, by.to_string()).await?;
                if tell_host {
                    self.delivery.cancel(view.row.host.clone(), id);
                }
                Ok(Answer::Job(Box::new(view)))
            }
            Request::HostInvite { name, invite } => {
                tracing::info!(operator = %by, host = %name, "invited a host");
                self.trust
                    .change(|register| register.invite(InvitedAs::Host { name }, invite, now))
                    .await
                    .map(|()| Answer::Done)
            }
            Request::HostAccept { name, fingerprint } => {
                tracing::info!(operator = %by, host = %name, accepted = %fingerprint, "accepts a host");
                self.trust.change(|register| register.accept(&name, &fingerprint, now)).await.map(|()| Answer::Done)
            }
            Request::HostRevoke { name } => {
                tracing::info!(operator = %by, host = %name, "revokes a host");
                self.trust.change(|register| register.revoke_host(&name)).await.map(|()| Answer::Done)
            }
            Request::HostRekey { name, fingerprint } => {
                tracing::info!(operator = %by, host = %name, "asks a host for a new key");
                self.trust.change(|register| register.ask_rekey(&name, &fingerprint)).await.map(|()| Answer::Done)
            }
            Request::OperatorAdd { name, role, invite } => {
                tracing::info!(operator = %by, object = %name, role = role.as_str(), "invited an operator");
                self.trust
                    .change(|register| register.invite(InvitedAs::Operator { name, role }, invite, now))
                    .await
                    .map(|()| Answer::Done)
            }
            Request::OperatorRevoke { name } => {
                tracing::info!(operator = %by, object = %name, "revokes an operator");
                self.trust.change(|register| register.revoke_operator(&name)).await.map(|()| Answer::Done)
            }
            Request::OperatorList => Ok(Answer::Operators { operators: self.trust.now().operator_rows() }),
            Request::Audit { from, back, limit } => {
                if from.is_none() {
                    tracing::info!(operator = %by, "reads the audit");
                }
                Ok(Answer::Audit(Box::new(self.audit.page(from, back, limit).await?)))
            }
            Request::KeyShow => Ok(self.keys()),
            Request::KeyRotate { fingerprint } => {
                tracing::info!(operator = %by, "rotates the client worker's key");
                self.rotate(&fingerprint).await
            }
            Request::KeyRetire { fingerprint, force } => {
                tracing::info!(operator = %by, force, "retires the client worker's old key");
                self.retire(&fingerprint, force).await
            }
        }
    }

    async fn host_ping(&self, hosts: Vec<HostName>, wait_ms: u32) -> Result<Answer, Fault> {
        let asked = self.fleet.with(move |fleet| {
            let now = Instant::now();
            let rows = |entry: &HostEntry| Ping {
                host: entry.enrolled.name.clone(),
                presence: fleet.presence(entry, now),
                took_us: None,
                heard: entry.heard,
            };
            if hosts.is_empty() {
                return Ok(fleet.hosts().map(rows).collect::<Vec<_>>());
            }
            let named: BTreeSet<HostName> = hosts.into_iter().collect();
            named.iter().map(|name| fleet.known_host(name).map(rows)).collect()
        });
        let mut pings: Vec<Ping> = asked.await.ok_or_else(stopping)??;
        let sessions = self.delivery.reachable();
        let reachable: Vec<HostName> =
            pings.iter().map(|ping| &ping.host).filter(|host| sessions.contains(*host)).cloned().collect();
        let wait = Duration::from_millis(wait_ms.into()).min(PING_MAX);
        let begun = Instant::now();
        let answers = self.pings.gather(reachable.len(), wait, |number| {
            for host in reachable {
                self.delivery.ping(host, number);
            }
        });
        let answers = answers.await;
        for ping in &mut pings {
            let took = answers.get(&ping.host).map(|at| at.saturating_duration_since(begun));
            ping.took_us = took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        Ok(Answer::Pings { pings })
    }

    async fn host_list(&self) -> Result<Answer, Fault> {
        let mut hosts = self.fleet.with(|fleet| fleet.host_rows(Instant::now())).await.ok_or_else(stopping)?;
        hosts.extend(self.trust.now().pending().iter().map(|pending| HostRow {
            name: pending.name.clone(),
            presence: Presence::Pending,
            heard: Some(pending.at),
            weight: self.config.weight(&pending.name),
            active: 0,
            domains: 0,
            fingerprint: pending.key.fingerprint(),
            facts: None,
            pools: Vec::new(),
        }));
        room::hosts(&mut hosts);
        Ok(Answer::Hosts { hosts })
    }
}
