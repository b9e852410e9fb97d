//! Questions to hosts for what serial ports put out: said again until they are answered. One task knows who waits for which number.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use maglica_proto::{
    console::{LogPart, LogPlace},
    fault::{Code, Fault},
    host::Broadcast,
    job::VmTask,
    name::HostName,
};
use tokio::sync::{mpsc, oneshot};

/// How many words to the task may wait.
const QUEUE: usize = 1024;
/// How many questions may be under way.
const UNDER_WAY: usize = 1024;
/// The first pause before a question is said again; doubles.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a host may take beside what it is asked to wait.
const LIMIT: Duration = Duration::from_secs(5);

type Answer = Result<LogPart, Fault>;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct LogQuestion {
    /// From where on.
    pub place: Option<LogPlace>,
    /// Without a place: how much of the end.
    pub tail: u32,
    /// How long to wait for more.
    pub wait: Duration,
}

enum Word {
    Begin(u64, HostName, oneshot::Sender<Answer>),
    End(u64),
    Told(HostName, u64, Answer),
}

/// The handle.
#[derive(Clone)]
pub struct Logs {
    words: mpsc::Sender<Word>,
    say: Arc<dyn Fn(HostName, Broadcast) + Send + Sync>,
}

impl Logs {
    /// Starts the task; it ends with the last handle. `say` broadcasts to a host.
    #[must_use]
    pub fn start(say: impl Fn(HostName, Broadcast) + Send + Sync + 'static) -> Self {
        let (words, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(receiver));
        Self { words, say: Arc::new(say) }
    }

    /// A host answers. One that finds no room is lost; the question is said again.
    pub fn told(&self, host: HostName, number: u64, answer: Answer) {
        let _ = self.words.try_send(Word::Told(host, number, answer));
    }

    /// Asks a host for a piece of a machine's log.
    ///
    /// # Errors
    /// A fault of the host, or it does not answer.
    pub async fn ask(&self, host: HostName, vm: VmTask, question: LogQuestion) -> Answer {
        let unanswered = || {
            Fault::new(Code::HostDown, format!("host {host} does not tell the log of {}", vm.name))
                .about(host.to_string())
        };
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|_| Fault::new(Code::Unavailable, "the system's random source failed"))?;
        let number = u64::from_be_bytes(bytes);
        let (reply, mut answer) = oneshot::channel();
        self.words.send(Word::Begin(number, host.clone(), reply)).await.map_err(|_| unanswered())?;
        let (until, mut pause) = (Instant::now() + question.wait + LIMIT, AGAIN);
        let LogQuestion { place, tail, wait } = question;
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let answer = loop {
            (self.say)(host.clone(), Broadcast::LogRead { number, vm: vm.clone(), place, tail, wait_ms });
            let left = until.saturating_duration_since(Instant::now());
            match tokio::time::timeout(pause.min(left), &mut answer).await {
                Ok(answer) => break answer.map_err(|_| unanswered())?,
                Err(_) if left <= pause => break Err(unanswered()),
                Err(_) => pause *= 2,
            }
        };
        let _ = self.words.try_send(Word::End(number));
        answer
    }
}

async fn run(mut words: mpsc::Receiver<Word>) {
    let mut under_way: HashMap<u64, (HostName, oneshot::Sender<Answer>)> = HashMap::new();
    while let Some(word) = words.recv().await {
        match word {
            Word::Begin(number, host, reply) => {
                under_way.retain(|_, (_, reply)| !reply.is_closed());
                // One that finds no room hears that nobody answers.
                if under_way.len() < UNDER_WAY {
                    under_way.insert(number, (host, reply));
                }
            }
            Word::End(number) => drop(under_way.remove(&number)),
            Word::Told(host, number, answer) => {
                if under_way.get(&number).is_some_and(|(asked, _)| *asked == host)
                    && let Some((_, reply)) = under_way.remove(&number)
                {
                    let _ = reply.send(answer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use maglica_proto::console::Chunk;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_question_is_said_again_until_its_host_answers_and_nobody_else_can() {
        let said: Arc<Mutex<Vec<u64>>> = Arc::default();
        let numbers = said.clone();
        let logs = Logs::start(move |_, broadcast| {
            let Broadcast::LogRead { number, .. } = broadcast else { panic!("{broadcast:?}") };
            numbers.lock().unwrap().push(number);
        });
        let (host, vm): (HostName, _) =
            ("h1".parse().unwrap(), VmTask { name: "vm0".parse().unwrap(), uuid: Uuid::nil() });
        let question = LogQuestion { place: None, tail: 10, wait: Duration::from_secs(20) };
        let asking = {
            let (logs, host) = (logs.clone(), host.clone());
            tokio::spawn(async move { logs.ask(host, vm, question).await })
        };
        let until = Instant::now() + Duration::from_secs(20);
        while said.lock().unwrap().len() < 2 {
            assert!(Instant::now() < until, "it is not said again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let number = said.lock().unwrap()[0];
        assert!(said.lock().unwrap().iter().all(|other| *other == number));
        let part =
            |text: &str| LogPart { output: Chunk(text.into()), next: LogPlace { file: 1, offset: 4 }, missed: false };
        logs.told("h2".parse().unwrap(), number, Ok(part("evil")));
        logs.told(host, number, Ok(part("good")));
        assert_eq!(asking.await.unwrap().unwrap().output.0, b"good");
    }
}
