//! How the client worker is: put together from those who own each part.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use maglica_proto::{
    fault::Fault,
    request::Presence,
    status::{AuditStatus, HostCounts, PortStatus, Refused, Status},
    units::{ByteSize, Timestamp},
};

use super::{Handlers, stopping};
use crate::gate::{GateCounters, Refusal};

/// When this process began to serve, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    wall: Timestamp,
    at: Instant,
}

impl Since {
    /// It is now.
    #[must_use]
    pub fn now() -> Self {
        Self { wall: SystemTime::now().into(), at: Instant::now() }
    }
}

/// Where a message was refused that the gate had let through.
const ABOVE: &str = "bus";

/// A port and its counters.
pub type Counted = (&'static str, Arc<GateCounters>);

impl Handlers {
    pub(super) async fn status(&self) -> Result<Status, Fault> {
        let (jobs, store) = self.desk.status().await?;
        let counts = self.fleet.with(|fleet| {
            let (now, mut counts) = (Instant::now(), HostCounts::default());
            for entry in fleet.hosts() {
                match fleet.presence(entry, now) {
                    Presence::Up => counts.up += 1,
                    Presence::Suspect => counts.suspect += 1,
                    Presence::Down => counts.down += 1,
                    Presence::Pending => counts.pending += 1,
                }
            }
            counts
        });
        let mut hosts = counts.await.ok_or_else(stopping)?;
        hosts.pending = u32::try_from(self.trust.now().pending().len()).unwrap_or(u32::MAX);
        let audit = self.audit.state().await?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint: self.keys.now().newest().fingerprint(),
            started: self.since.wall,
            uptime_ms: u64::try_from(self.since.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            memory: resident(),
            hosts,
            jobs,
            store,
            ports: self.gates.iter().map(|(port, counters)| of_port(port, counters)).collect(),
            refusals: self
                .gates
                .iter()
                .flat_map(|(port, counters)| refused(port, counters))
                .chain(
                    self.refused.snapshot().into_iter().filter(|(_, count)| *count > 0).map(|(kind, count)| Refused {
                        at: ABOVE.to_owned(),
                        kind: kind.to_owned(),
                        count,
                    }),
                )
                .collect(),
            audit: Some(AuditStatus { head: audit.head, flaw: audit.flaw, trouble: audit.trouble }),
        })
    }
}

fn of_port(port: &str, counters: &GateCounters) -> PortStatus {
    let now = counters.snapshot();
    PortStatus { port: port.to_owned(), open: now.open, accepted: now.accepted }
}

fn refused(port: &str, counters: &GateCounters) -> Vec<Refused> {
    let now = counters.snapshot();
    let kinds = Refusal::ALL.into_iter().map(|kind| (kind, now.refused(kind))).filter(|(_, count)| *count > 0);
    kinds.map(|(kind, count)| Refused { at: port.to_owned(), kind: kind.name().to_owned(), count }).collect()
}

/// What this process holds in memory; nothing where the system does not tell.
fn resident() -> ByteSize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim_end_matches("kB").trim().parse().ok());
    ByteSize::kib(kib.unwrap_or(0))
}
