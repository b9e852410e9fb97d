//! What operators ask.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use maglica_proto::{
    fault::Fault,
    name::OperatorName,
    request::{Answer, HostRow, Presence, Request},
};

use super::{Handlers, stopping};
use crate::trust::register::InvitedAs;

/// The longest that a watcher is kept waiting before it hears that nothing happened.
const WATCH_MAX: Duration = Duration::from_secs(25);
/// The most jobs in a list.
const JOBS_MAX: u32 = 1000;

impl Handlers {
    pub(super) async fn operator(self: &Arc<Self>, by: &OperatorName, request: Request) -> Result<Answer, Fault> {
        let now = SystemTime::now().into();
        match request {
            Request::ImageList => {
                self.fleet.with(|fleet| Answer::Images(fleet.images(Instant::now()))).await.ok_or_else(stopping)
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
            Request::JobList { limit } => Ok(Answer::Jobs { jobs: self.desk.list(limit.min(JOBS_MAX)).await? }),
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
            Request::Submit { id, spec } => {
                tracing::info!(job = %id, operator = %by, verb = spec.verb(), vm = %spec.vm(), "submitted");
                Ok(Answer::Job(Box::new(self.submit(by, id, spec).await?)))
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
                tracing::info!(operator = %by, host = %name, %fingerprint, "accepts a host");
                self.trust.change(|register| register.accept(&name, &fingerprint, now)).await.map(|()| Answer::Done)
            }
            Request::HostRevoke { name } => {
                tracing::info!(operator = %by, host = %name, "revokes a host");
                self.trust.change(|register| register.revoke_host(&name)).await.map(|()| Answer::Done)
            }
            Request::OperatorAdd { name, role, invite } => {
                tracing::info!(operator = %by, new = %name, role = role.as_str(), "invited an operator");
                self.trust
                    .change(|register| register.invite(InvitedAs::Operator { name, role }, invite, now))
                    .await
                    .map(|()| Answer::Done)
            }
            Request::OperatorRevoke { name } => {
                tracing::info!(operator = %by, old = %name, "revokes an operator");
                self.trust.change(|register| register.revoke_operator(&name)).await.map(|()| Answer::Done)
            }
            Request::OperatorList => Ok(Answer::Operators { operators: self.trust.now().operator_rows() }),
        }
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
        Ok(Answer::Hosts { hosts })
    }
}
