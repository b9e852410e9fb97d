//! What host workers say.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use maglica_proto::{
    fault::Fault,
    host::{BeatAnswer, Denial, HostAnswer, HostRequest},
    name::HostName,
};

use super::{Handlers, stopping};

impl Handlers {
    pub(super) async fn host(self: &Arc<Self>, host: HostName, request: HostRequest) -> Result<HostAnswer, Fault> {
        match request {
            HostRequest::Heartbeat(beat) => {
                let (name, boot, revision) = (host.clone(), beat.boot, beat.inventory);
                let want_inventory = self
                    .fleet
                    .with(move |fleet| fleet.heartbeat(&name, boot, revision, Instant::now(), SystemTime::now().into()))
                    .await
                    .ok_or_else(stopping)?;
                let due = self.desk.heartbeat(host, beat).await?;
                let next_ms = u32::try_from(self.config.timing.heartbeat.as_millis()).unwrap_or(u32::MAX);
                Ok(HostAnswer::Beat(Box::new(BeatAnswer {
                    offers: due.offers,
                    cancels: due.cancels,
                    settled: due.settled,
                    want_inventory,
                    next_ms,
                })))
            }
            HostRequest::Inventory { revision, part, parts, inventory } => {
                self.fleet
                    .with(move |fleet| fleet.inventory(&host, revision, part, parts, *inventory, Instant::now()))
                    .await
                    .ok_or_else(stopping)?;
                Ok(HostAnswer::Stored)
            }
            HostRequest::Accept { job, attempt } => match self.desk.accept(host.clone(), job).await? {
                Ok(()) => {
                    tracing::info!(%job, %host, attempt, "granted");
                    Ok(HostAnswer::Granted)
                }
                Err(why) => {
                    tracing::info!(%job, %host, ?why, "not granted");
                    Ok(HostAnswer::Denied { why })
                }
            },
            HostRequest::Refuse { job, fault } => {
                tracing::info!(%job, %host, %fault, "refused by its host");
                self.desk.refuse(host, job, fault).await.map(stored)
            }
            HostRequest::Progress { job, events } => self.desk.progress(host, job, events).await.map(stored),
            HostRequest::Pong { number } => {
                self.pings.pong(host, number);
                Ok(HostAnswer::Stored)
            }
            HostRequest::Report(report) => {
                let job = report.job;
                tracing::info!(%job, %host, ok = report.result.is_ok(), "reported");
                self.desk.report(host, *report).await.map(stored)
            }
        }
    }
}

fn stored(result: Result<(), Denial>) -> HostAnswer {
    match result {
        Ok(()) => HostAnswer::Stored,
        Err(why) => HostAnswer::Denied { why },
    }
}
