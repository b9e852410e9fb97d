//! The fleet: which hosts are there, and what each of them has. Kept in memory only; the hosts say it again.
//!
//! [`state`] is the whole of it and answers every question about it (pure, `now` is given); [`view`] makes the rows
//! that operators see, `images` who stands on which image. One task owns it; the [`Fleet`] handle sends it a closure and awaits what it returns.

mod images;
mod news;
pub mod state;
pub mod view;
mod weight;

use std::time::{Duration, Instant};

use maglica_proto::name::HostName;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use state::{FleetState, Limits};

use crate::news::Feed;

/// How many questions may wait; beyond it askers wait in turn.
const QUEUE: usize = 4096;
/// How often it looks for hosts that went silent: a fraction of the time after which they count as down.
const LOOKS: u32 = 10;

type Question = Box<dyn FnOnce(&mut FleetState) + Send>;

/// The handle to the fleet.
#[derive(Clone)]
pub struct Fleet {
    questions: mpsc::Sender<Question>,
}

impl Fleet {
    /// Starts the task. Hosts that go down are told to `down`, and what happens to `feed`.
    #[must_use]
    pub fn start(state: FleetState, down: mpsc::Sender<HostName>, feed: Feed, stop: CancellationToken) -> Self {
        let (questions, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(state, receiver, down, feed, stop));
        Self { questions }
    }

    /// Asks or tells something; `None` if the client worker is stopping.
    pub async fn with<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut FleetState) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |state| {
            // An asker that went away needs no answer.
            let _ = reply.send(question(state));
        });
        self.questions.send(question).await.ok()?;
        answer.await.ok()
    }
}

async fn run(
    mut state: FleetState,
    mut questions: mpsc::Receiver<Question>,
    down: mpsc::Sender<HostName>,
    feed: Feed,
    stop: CancellationToken,
) {
    let mut look = tokio::time::interval((state.limits().down_after / LOOKS).max(Duration::from_millis(10)));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            question = questions.recv() => match question {
                Some(question) => question(&mut state),
                None => return,
            },
            _ = look.tick() => {
                state.look(Instant::now());
                for host in state.newly_down(Instant::now()) {
                    tracing::warn!(%host, "host is down");
                    // The receiver lives as long as the client worker.
                    let _ = down.send(host).await;
                }
            }
        }
        feed.tell(state.take_news());
    }
}
