//! The heartbeat: says that this host is there and what it holds, and carries out what it hears in answer. It alone
//! makes delivery certain, even if no broadcast ever arrives.

use std::time::Duration;

use maglica_proto::{
    fault::chain,
    host::{BeatAnswer, Heartbeat, HostAnswer, HostRequest},
    seal::Refusal,
    transport::backoff::Backoff,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Link, LinkError};
use crate::{inventory::InventoryHandle, runner::Runner};

/// The first pause after a heartbeat that failed; doubles up to the regular one.
const RETRY: Duration = Duration::from_millis(250);

/// What the heartbeat speaks for.
pub struct Pulse {
    /// To whom.
    pub link: Link,
    /// The jobs.
    pub runner: Runner,
    /// What this host has.
    pub inventory: InventoryHandle,
    /// From heartbeat to heartbeat, until the client worker says otherwise.
    pub every: Duration,
    /// Asks for a heartbeat at once.
    pub poke: mpsc::Receiver<()>,
    /// Tells within which time to come back after the client worker was lost.
    pub spread: watch::Sender<Duration>,
}

impl Pulse {
    /// Beats until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let boot = Uuid::new_v4();
        let (mut pause, mut troubled) = (Duration::ZERO, None);
        let mut again = Backoff::new(RETRY, self.every);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                poke = self.poke.recv() => if poke.is_none() { return },
            }
            match self.beat(boot).await {
                Ok(next) => {
                    if troubled.take().is_some() {
                        tracing::info!("the client worker answers again");
                    }
                    again.reset();
                    pause = next;
                }
                Err(error) => {
                    let why = match &error {
                        LinkError::Sealed(sealed) if sealed.refusal() == Some(Refusal::Pending) => {
                            "this host waits to be let in: maglica host accept".to_owned()
                        }
                        LinkError::Sealed(sealed) if sealed.refusal() == Some(Refusal::Unverified) => format!(
                            "{}; if the client worker's key was renewed while this host was away, pin the new one: \
                             maglica-host-worker join --server=ADDRESS:PORT --key=KEY",
                            chain(&error)
                        ),
                        LinkError::Sealed(_) | LinkError::Codec(_) | LinkError::Fault(_) | LinkError::Stopping => {
                            chain(&error)
                        }
                    };
                    // Said once, not at every beat of a night without the client worker.
                    if troubled.as_ref() != Some(&why) {
                        tracing::warn!(error = why, "no answer to the heartbeat");
                        troubled = Some(why);
                    }
                    pause = again.pause();
                }
            }
        }
    }

    async fn beat(&self, boot: Uuid) -> Result<Duration, LinkError> {
        let held = self.runner.held().await;
        let beat = Heartbeat { boot, held, inventory: self.inventory.revision() };
        match self.link.call(HostRequest::Heartbeat(beat)).await? {
            HostAnswer::Beat(answer) => Ok(self.obey(*answer)),
            HostAnswer::Granted
            | HostAnswer::Denied { .. }
            | HostAnswer::Stored
            | HostAnswer::Several { .. }
            | HostAnswer::Line { .. }
            | HostAnswer::Source(_)
            | HostAnswer::Vouched(_)
            | HostAnswer::Fault { .. } => Ok(self.every),
        }
    }

    fn obey(&self, answer: BeatAnswer) -> Duration {
        let BeatAnswer { offers, cancels, settled, want_inventory, next_ms, missing, rekey, spread_ms } = answer;
        self.spread.send_replace(Duration::from_millis(spread_ms.into()));
        offers.into_iter().for_each(|offer| self.runner.offer(offer));
        cancels.into_iter().for_each(|job| self.runner.cancel(job));
        settled.into_iter().for_each(|job| self.runner.settled(job));
        missing.into_iter().for_each(|job| self.runner.missing(job));
        if rekey {
            self.link.rekey();
        }
        if want_inventory {
            self.inventory.resend();
        }
        Duration::from_millis(next_ms.into()).clamp(Duration::from_millis(50), self.every.max(Duration::from_secs(60)))
    }
}
