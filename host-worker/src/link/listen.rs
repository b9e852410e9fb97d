//! Listens to what is broadcast to this host in its present session. Nothing depends on hearing it: the heartbeat
//! brings the same later. The client worker's beat tells that the connection lives; after silence a new one is made.

use std::time::{Duration, Instant};

use maglica_proto::{
    codec,
    fault::chain,
    host::Broadcast,
    seal::{Kind, header::BEAT_TOPIC},
    transport::{
        DialLimits, Subscriber,
        backoff::{Backoff, scatter},
        meter::Meter,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Channel;

/// How many beats may be missed before the connection counts as dead.
const BEATS_MISSED: u32 = 3;
/// The first pause before a subscription is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest. The heartbeat notices sooner that the client worker is back, and with a new session this one begins anew.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Where and how to listen.
pub struct Listener {
    /// `address:port` of the publishing port.
    pub addr: String,
    /// Where the private sockets of a dialled connection live.
    pub run_dir: std::path::PathBuf,
    /// From beat to beat.
    pub beat: Duration,
    /// The session to listen in.
    pub channel: watch::Receiver<Option<Channel>>,
    /// Where what is heard goes.
    pub heard: mpsc::Sender<Broadcast>,
    /// Told after each new subscription: broadcasts before it were missed.
    pub subscribed: mpsc::Sender<()>,
    /// Within which time to come back after the client worker was lost.
    pub spread: watch::Receiver<Duration>,
}

impl Listener {
    /// Listens until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut channels = self.channel.clone();
        let mut refused = Meter::new(Instant::now());
        let mut again = Backoff::new(PAUSE, PAUSE_MAX);
        loop {
            let channel = channels.borrow_and_update().clone();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = channels.changed() => if changed.is_err() { return },
                () = async {
                    match &channel {
                        Some(channel) => {
                            let (listened, ended) = self.listen(channel, &mut refused).await;
                            tracing::debug!(error = ended, "the subscription ended");
                            let mut pause = Duration::ZERO;
                            if listened {
                                // All hosts lose a client worker that restarts at the same moment.
                                again.reset();
                                pause = scatter(*self.spread.borrow());
                            }
                            tokio::time::sleep(pause + again.pause()).await;
                        }
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Listens until the subscription ends: whether there was one, and why it ended.
    async fn listen(&self, channel: &Channel, refused: &mut Meter) -> (bool, String) {
        let topics = [channel.topic.clone().into_bytes(), BEAT_TOPIC.as_bytes().to_vec()];
        let mut subscriber =
            match Subscriber::connect(&self.addr, &topics, Some(&self.run_dir), DialLimits::default()).await {
                Ok(subscriber) => subscriber,
                Err(error) => return (false, chain(&error)),
            };
        // A full queue means that a heartbeat is asked for already.
        let _ = self.subscribed.try_send(());
        loop {
            match tokio::time::timeout(self.beat * BEATS_MISSED, subscriber.next()).await {
                Err(_) => return (true, "no beat".to_owned()),
                Ok(Err(error)) => return (true, chain(&error)),
                Ok(Ok((topic, _))) if topic == BEAT_TOPIC.as_bytes() => {}
                Ok(Ok((_, message))) => match open(channel, &message) {
                    // A full queue loses it, as PUB may; the heartbeat brings it.
                    Ok(broadcast) => drop(self.heard.try_send(broadcast)),
                    Err(why) => {
                        // Whoever stands between can make any number of these.
                        if let Some(left_out) = refused.note(Instant::now()) {
                            tracing::warn!(error = why, left_out, "refused a broadcast");
                        }
                    }
                },
            }
        }
    }
}

fn open(channel: &Channel, message: &[u8]) -> Result<Broadcast, String> {
    let opened = channel.session.open(Kind::Broadcast, message).map_err(|error| chain(&error))?;
    codec::decode(&opened.body).map_err(|error| chain(&error))
}
