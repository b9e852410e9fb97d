//! What happened lately: one task keeps the last of it in a ring and answers those who watch. Whoever changes something tells it
//! without waiting; what finds no room is lost, and everybody who watches hears that something is missing.
//!
//! Nothing is decided by it: it is told of what has been stored or heard already.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use maglica_proto::news::{News, NewsCursor, NewsItem};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// How many words to the task may wait.
const QUEUE: usize = 4096;
/// How much of the past is kept: minutes of a busy cloud. An item has some 500 bytes.
const KEPT: usize = 8192;
/// How many items one answer has at the most: a job, cut to a sentence, has some KB.
const PAGE: usize = 90;
/// How many may watch at a time; beyond it the one who has waited longest hears that nothing happened, and asks again.
const WATCHERS: usize = 1024;

/// What one who watches hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What happened, in order.
    pub items: Vec<NewsItem>,
    /// How much is known with it.
    pub next: NewsCursor,
    /// Something between is missing.
    pub missed: bool,
}

enum Word {
    Tell(Vec<News>),
    Since(Option<NewsCursor>, Duration, oneshot::Sender<Heard>),
    Stop,
}

/// The handle.
#[derive(Clone)]
pub struct Feed {
    words: mpsc::Sender<Word>,
    lost: Arc<AtomicU64>,
}

impl Feed {
    /// Starts the task; it ends with the last handle.
    #[must_use]
    pub fn start() -> Self {
        let (words, receiver) = mpsc::channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        tokio::spawn(run(Ring::new(Uuid::new_v4()), receiver, lost.clone()));
        Self { words, lost }
    }

    /// Something happened. Never waits.
    pub fn tell(&self, news: Vec<News>) {
        let count = news.len();
        if count > 0 && self.words.try_send(Word::Tell(news)).is_err() {
            self.lost.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// The client worker is about to stop: nobody is kept waiting any more.
    pub async fn stop(&self) {
        let _ = self.words.send(Word::Stop).await;
    }

    /// What happened since; waits for something. `None` if the client worker is stopping.
    pub async fn since(&self, after: Option<NewsCursor>, wait: Duration) -> Option<Heard> {
        let (reply, answer) = oneshot::channel();
        self.words.send(Word::Since(after, wait, reply)).await.ok()?;
        answer.await.ok()
    }
}

struct Watcher {
    from: u64,
    until: tokio::time::Instant,
    reply: oneshot::Sender<Heard>,
}

async fn run(mut ring: Ring, mut words: mpsc::Receiver<Word>, lost: Arc<AtomicU64>) {
    let (mut watchers, mut stopping) = (VecDeque::<Watcher>::new(), false);
    loop {
        let soonest = watchers.iter().map(|watcher| watcher.until).min();
        let word = tokio::select! {
            word = words.recv() => word,
            () = sleep_until(soonest), if soonest.is_some() => {
                let now = tokio::time::Instant::now();
                let (over, waiting) = watchers.drain(..).partition::<VecDeque<_>, _>(|watcher| watcher.until <= now);
                watchers = waiting;
                over.into_iter().for_each(|watcher| answer(&ring, watcher));
                continue;
            }
        };
        match word {
            None => return,
            Some(Word::Stop) => {
                stopping = true;
                watchers.drain(..).for_each(|watcher| answer(&ring, watcher));
            }
            Some(Word::Tell(news)) => {
                ring.lose(lost.swap(0, Ordering::Relaxed));
                news.into_iter().for_each(|news| ring.push(news));
                watchers.drain(..).for_each(|watcher| answer(&ring, watcher));
            }
            Some(Word::Since(after, wait, reply)) => {
                let until = tokio::time::Instant::now() + wait;
                let from = ring.place(after);
                let watcher = Watcher { from: from.unwrap_or(0), until, reply };
                // Nobody is kept waiting who has missed something.
                if from.is_none() || ring.has_since(watcher.from) || stopping {
                    answer(&ring, watcher);
                    continue;
                }
                if watchers.len() >= WATCHERS
                    && let Some(oldest) = watchers.pop_front()
                {
                    answer(&ring, oldest);
                }
                watchers.push_back(watcher);
            }
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn answer(ring: &Ring, watcher: Watcher) {
    // One who went away needs no answer.
    let _ = watcher.reply.send(ring.since(watcher.from));
}

/// The last of what happened, each with its number. Pure.
#[derive(Debug)]
struct Ring {
    feed: Uuid,
    /// The number of the first that is kept; 0 is never one, so that it stands for a cursor that is not ours.
    first: u64,
    items: VecDeque<NewsItem>,
}

impl Ring {
    const fn new(feed: Uuid) -> Self {
        Self { feed, first: 1, items: VecDeque::new() }
    }

    fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    fn push(&mut self, news: News) {
        if self.items.len() == KEPT {
            self.items.pop_front();
            self.first += 1;
        }
        self.items.push_back(NewsItem { at: SystemTime::now().into(), news });
    }

    /// So many were never heard here: all before is given up, so that everybody who is behind hears of the gap.
    fn lose(&mut self, count: u64) {
        if count > 0 {
            self.first = self.next() + count;
            self.items.clear();
        }
    }

    /// Where one goes on who knows so much; none if what comes next is not kept, or was counted by another client worker.
    fn place(&self, after: Option<NewsCursor>) -> Option<u64> {
        match after {
            None => Some(self.next()),
            Some(cursor) if cursor.feed == self.feed && (self.first..=self.next()).contains(&cursor.next) => {
                Some(cursor.next)
            }
            Some(_) => None,
        }
    }

    fn has_since(&self, from: u64) -> bool {
        from < self.next()
    }

    fn since(&self, from: u64) -> Heard {
        let missed = from < self.first;
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let items: Vec<NewsItem> = self.items.iter().skip(skip).take(PAGE).cloned().collect();
        let next = from.max(self.first) + items.len() as u64;
        Heard { items, next: NewsCursor { feed: self.feed, next }, missed }
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{name::HostName, news::HostNews};

    use super::*;

    fn joined(number: usize) -> News {
        News::Host { host: HostName::new(format!("h{number}")).unwrap(), change: HostNews::Joined }
    }

    fn hosts(heard: &Heard) -> Vec<String> {
        let name = |item: &NewsItem| match &item.news {
            News::Host { host, .. } => host.to_string(),
            News::Job { .. } | News::Vm { .. } => panic!("a host"),
        };
        heard.items.iter().map(name).collect()
    }

    #[tokio::test]
    async fn one_who_waits_hears_what_happens_next_and_nothing_of_the_past() {
        let feed = Feed::start();
        feed.tell(vec![joined(0)]);
        let first = feed.since(None, Duration::ZERO).await.unwrap();
        assert!(first.items.is_empty() && !first.missed);
        let (waiting, told) = (feed.clone(), feed.clone());
        let waiting = tokio::spawn(async move { waiting.since(Some(first.next), Duration::from_secs(20)).await });
        told.tell(vec![joined(1), joined(2)]);
        let heard = waiting.await.unwrap().unwrap();
        assert_eq!((hosts(&heard), heard.missed), (vec!["h1".to_owned(), "h2".to_owned()], false));
        let nothing = feed.since(Some(heard.next), Duration::from_millis(20)).await.unwrap();
        assert_eq!((nothing.items.len(), nothing.next), (0, heard.next));
    }

    #[test]
    fn one_who_is_too_late_or_knows_another_client_worker_hears_that_something_is_missing() {
        let mut ring = Ring::new(Uuid::new_v4());
        let start = ring.since(ring.place(None).unwrap()).next;
        for number in 0..KEPT + 3 {
            ring.push(joined(number));
        }
        assert_eq!(ring.items.len(), KEPT);
        assert_eq!(ring.place(Some(start)), None);
        let late = ring.since(0);
        assert!(late.missed && hosts(&late)[0] == "h3", "{late:?}");
        assert_eq!(ring.place(Some(late.next)), Some(late.next.next), "and then goes on without a gap");
        assert_eq!(ring.place(Some(NewsCursor { feed: Uuid::nil(), ..late.next })), None);
    }

    #[test]
    fn what_found_no_room_shows_as_a_gap_to_everybody() {
        let mut ring = Ring::new(Uuid::new_v4());
        ring.push(joined(0));
        let known = NewsCursor { feed: ring.feed, next: ring.next() };
        ring.lose(2);
        ring.push(joined(3));
        assert_eq!(ring.place(Some(known)), None);
        let heard = ring.since(0);
        assert!(heard.missed && hosts(&heard) == ["h3"]);
        assert_eq!(ring.place(Some(heard.next)), Some(ring.next()));
    }

    #[test]
    fn pages_follow_one_another_without_a_gap() {
        let mut ring = Ring::new(Uuid::new_v4());
        (0..PAGE + 5).for_each(|number| ring.push(joined(number)));
        let first = ring.since(1);
        let second = ring.since(ring.place(Some(first.next)).unwrap());
        assert_eq!((first.items.len(), second.items.len()), (PAGE, 5));
        assert!(!first.missed && !second.missed && hosts(&second)[0] == format!("h{PAGE}"));
    }
}
