//! Says jobs to their hosts until they are taken: at once, then after 0.25, 0.5, 1 … 15 seconds with jitter, while
//! the host has a session. A lost broadcast costs no more than that; a host that is away hears of its jobs in the
//! answer to its first heartbeat, which goes past this file.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use maglica_proto::{host::Broadcast, id::JobId, name::HostName};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Desk;
use crate::bus::Publisher;

/// The longest pause between two broadcasts of a job: a heartbeat's answer offers it sooner anyway.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// The shortest pause between two looks at what is due.
const TOGETHER: Duration = Duration::from_millis(10);
/// How many pokes may wait. They are merged, so a full queue loses nothing.
const POKES: usize = 1024;

/// The handle: says that there is something new to broadcast.
#[derive(Clone)]
pub struct Delivery {
    pokes: mpsc::Sender<Poke>,
    publisher: Publisher,
}

enum Poke {
    Job,
    Cancel(HostName, JobId),
}

impl Delivery {
    /// Starts the task.
    #[must_use]
    pub fn start(desk: Desk, publisher: Publisher, first_pause: Duration, stop: CancellationToken) -> Self {
        let (pokes, receiver) = mpsc::channel(POKES);
        let publishing = publisher.clone();
        tokio::spawn(Loop { desk, publisher: publishing, first_pause, plan: HashMap::new() }.run(receiver, stop));
        Self { pokes, publisher }
    }

    /// The hosts that have a session, in which they can be told of a job.
    #[must_use]
    pub fn reachable(&self) -> Arc<BTreeSet<HostName>> {
        self.publisher.reachable()
    }

    /// There is a new job.
    pub fn job(&self) {
        // When the queue is full the loop is about to look at everything anyway.
        let _ = self.pokes.try_send(Poke::Job);
    }

    /// Says a ping. One that finds no room in the queue is lost, and shows as unanswered.
    pub fn ping(&self, host: HostName, number: u64) {
        self.publisher.publish(host, Broadcast::Ping { number });
    }

    /// A job that runs on this host is to be stopped.
    pub fn cancel(&self, host: HostName, id: JobId) {
        let _ = self.pokes.try_send(Poke::Cancel(host, id));
    }
}

/// When a job is said next, and after which pause again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    at: Instant,
    pause: Duration,
}

impl Turn {
    /// The turn after one at `now`. `jitter` is from 0 to 255 and adds up to a quarter, so that jobs of one moment part.
    fn next(self, now: Instant, jitter: u8) -> Self {
        let pause = self.pause.min(PAUSE_MAX);
        Self { at: now + pause + pause * u32::from(jitter) / 1024, pause: (pause * 2).min(PAUSE_MAX) }
    }
}

struct Loop {
    desk: Desk,
    publisher: Publisher,
    first_pause: Duration,
    plan: HashMap<JobId, Turn>,
}

impl Loop {
    async fn run(mut self, mut pokes: mpsc::Receiver<Poke>, stop: CancellationToken) {
        loop {
            // A pause of at most a second, so that a job whose poke was lost is found; and of some, so that the jobs whose turns
            // come one by one are said together.
            let wake = self
                .plan
                .values()
                .map(|turn| turn.at)
                .min()
                .map_or(Duration::from_secs(1), |at| at.saturating_duration_since(Instant::now()).max(TOGETHER));
            tokio::select! {
                () = stop.cancelled() => return,
                poke = pokes.recv() => {
                    let Some(poke) = poke else { return };
                    self.sort(poke);
                    while let Ok(poke) = pokes.try_recv() {
                        self.sort(poke);
                    }
                }
                () = tokio::time::sleep(wake.min(Duration::from_secs(1))) => {}
            }
            if self.round().await.is_err() {
                return;
            }
        }
    }

    fn sort(&self, poke: Poke) {
        match poke {
            // What is not in the plan yet is due now.
            Poke::Job => {}
            Poke::Cancel(host, job) => self.publisher.publish(host, Broadcast::Cancel { job }),
        }
    }

    /// Says what is due. An error means that the desk is gone.
    async fn round(&mut self) -> Result<(), ()> {
        let unanswered = self.desk.unanswered().await.map_err(|_| ())?;
        let now = Instant::now();
        let still: BTreeSet<JobId> = unanswered.iter().map(|(id, _)| *id).collect();
        self.plan.retain(|id, _| still.contains(id));
        for (id, _) in &unanswered {
            self.plan.entry(*id).or_insert(Turn { at: now, pause: self.first_pause });
        }
        let reachable = self.publisher.reachable();
        let due: Vec<JobId> = unanswered
            .into_iter()
            .filter(|(id, host)| self.plan[id].at <= now && reachable.contains(host))
            .map(|(id, _)| id)
            .collect();
        if due.is_empty() {
            // Jobs whose host is away: look again in a second, not at once.
            let later = now + Duration::from_secs(1);
            self.plan.values_mut().filter(|turn| turn.at <= now).for_each(|turn| turn.at = later);
            return Ok(());
        }
        for id in &due {
            let now = Instant::now();
            let turn = self.plan.get(id).copied().unwrap_or(Turn { at: now, pause: self.first_pause });
            let mut jitter = [0];
            // Without randomness the pauses are merely even.
            let _ = getrandom::fill(&mut jitter);
            self.plan.insert(*id, turn.next(now, jitter[0]));
        }
        // A store that fails now is asked again at each job's next turn.
        for (host, offer) in self.desk.offered(due).await.unwrap_or_default() {
            tracing::debug!(job = %offer.job, %host, attempt = offer.attempt, "broadcast");
            self.publisher.publish(host, Broadcast::Offer(offer));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_minute() {
        let start = Instant::now();
        let mut turn = Turn { at: start, pause: Duration::from_millis(250) };
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let next = turn.next(turn.at, 0);
            pauses.push((next.at - turn.at).as_millis());
            turn = next;
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
        assert_eq!((turn.next(start, 255).at - start).as_millis(), 18735);
    }
}
