//! Pings under way: who waits for the answers to which number. One task owns them; the moments of both ends are taken
//! by whoever says and whoever hears, so a busy task lengthens nothing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use maglica_proto::name::HostName;
use tokio::sync::mpsc;

/// How many words to the task may wait. One that finds no room is lost, as the ping itself may be.
const QUEUE: usize = 4096;
/// How many pings may be under way; beyond it the oldest is given up.
const UNDER_WAY: usize = 1024;

/// A host's answer, and when it came.
pub type Answered = (HostName, Instant);

enum Word {
    Begin(u64, mpsc::Sender<Answered>),
    End(u64),
    Pong(u64, HostName, Instant),
}

/// The handle.
#[derive(Clone)]
pub struct Pings {
    words: mpsc::Sender<Word>,
}

impl Pings {
    /// Starts the task; it ends with the last handle.
    #[must_use]
    pub fn start() -> Self {
        let (words, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(receiver));
        Self { words }
    }

    /// A host answered.
    pub fn pong(&self, host: HostName, number: u64) {
        let _ = self.words.try_send(Word::Pong(number, host, Instant::now()));
    }

    /// Has `say` ask `hosts` hosts by a number that nobody can guess, and gathers their answers for `wait` at most.
    pub async fn gather(&self, hosts: usize, wait: Duration, say: impl FnOnce(u64)) -> HashMap<HostName, Instant> {
        let mut bytes = [0; 8];
        // Without randomness the number is merely guessable, and only an enrolled host could lie about its own speed.
        let _ = getrandom::fill(&mut bytes);
        let number = u64::from_be_bytes(bytes);
        let (sender, mut answers) = mpsc::channel(hosts.max(1));
        let mut heard = HashMap::with_capacity(hosts);
        if hosts == 0 || self.words.send(Word::Begin(number, sender)).await.is_err() {
            return heard;
        }
        say(number);
        let gathering = async {
            while heard.len() < hosts {
                let Some((host, at)) = answers.recv().await else { return };
                heard.entry(host).or_insert(at);
            }
        };
        // What came until then counts.
        let _ = tokio::time::timeout(wait, gathering).await;
        let _ = self.words.try_send(Word::End(number));
        heard
    }
}

async fn run(mut words: mpsc::Receiver<Word>) {
    let mut under_way: HashMap<u64, mpsc::Sender<Answered>> = HashMap::new();
    while let Some(word) = words.recv().await {
        match word {
            Word::Begin(number, sender) => {
                if under_way.len() >= UNDER_WAY {
                    under_way.retain(|_, sender| !sender.is_closed());
                }
                if under_way.len() < UNDER_WAY {
                    under_way.insert(number, sender);
                }
            }
            Word::End(number) => drop(under_way.remove(&number)),
            Word::Pong(number, host, at) => {
                if let Some(sender) = under_way.get(&number) {
                    // Room for one answer of each host; a host that answers twice finds none.
                    let _ = sender.try_send((host, at));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostName {
        HostName::new(name).unwrap()
    }

    #[tokio::test]
    async fn all_answers_end_the_wait_and_a_strange_number_is_nobodys() {
        let pings = Pings::start();
        let answering = pings.clone();
        let heard = pings
            .gather(2, Duration::from_secs(20), move |number| {
                answering.pong(host("h1"), number.wrapping_add(1));
                answering.pong(host("h1"), number);
                answering.pong(host("h2"), number);
            })
            .await;
        assert_eq!(heard.len(), 2);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_missing_after_the_wait() {
        let pings = Pings::start();
        let answering = pings.clone();
        let heard = pings
            .gather(2, Duration::from_millis(50), move |number| {
                answering.pong(host("h1"), number);
                answering.pong(host("h1"), number);
            })
            .await;
        assert_eq!(heard.keys().map(HostName::as_str).collect::<Vec<_>>(), ["h1"]);
    }
}
