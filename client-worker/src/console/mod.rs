//! Serial consoles: one task owns the lines, tells hosts what is typed, and answers those who look ([`line`] is what one line is).
//!
//! ```text
//! CLI ─write─▶ line ─PUB─▶ host ─▶ guest      typed: kept until the host has said that it took it, said again meanwhile
//! CLI ◀─read── line ◀─REQ─ host ◀─ guest      shown: kept a while, so that each reads at his own pace
//! ```
//! Nothing is stored: a console ends with the client worker, and whoever looks opens it anew.

mod line;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use maglica_proto::{
    console::{Chunk, ConsoleInput, ConsoleOutput, ConsoleView, LineReport},
    fault::{Code, Fault},
    host::Broadcast,
    job::VmTask,
    name::{HostName, OperatorName},
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use self::line::{Line, unknown};
/// How many words to the task may wait; beyond it askers wait in turn.
const QUEUE: usize = 1024;
/// How many consoles may be open at a time.
const LINES: usize = 256;
/// How long a host may take to open one.
const OPENING: Duration = Duration::from_secs(5);
/// From look to look at what is to be said again. What is typed and was lost on its way costs so much.
const TICK: Duration = Duration::from_millis(100);
/// How long a host says nothing of a line before it is asked; by itself it says something every five seconds.
const QUIET: Duration = Duration::from_secs(8);
/// And how long before the line is given up.
const LOST: Duration = Duration::from_secs(30);
/// From sweep to sweep, for those who went away without a word.
const SWEEP: Duration = Duration::from_secs(5);

type Reply<T> = oneshot::Sender<Result<T, Fault>>;

/// Who opens what.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The asker's id for it.
    pub id: Uuid,
    /// Who.
    pub by: OperatorName,
    /// The machine's host.
    pub host: HostName,
    /// The machine.
    pub vm: VmTask,
    /// Whether to type.
    pub writes: bool,
    /// Whether to take another's place.
    pub force: bool,
}

enum Word {
    Open(Opening, Reply<ConsoleView>),
    Read(OperatorName, Uuid, u64, Duration, Reply<ConsoleOutput>),
    Write(OperatorName, Uuid, ConsoleInput, Reply<u64>),
    Close(OperatorName, Uuid),
    Report(HostName, LineReport, oneshot::Sender<Option<ConsoleInput>>),
    Stop,
}

/// The handle.
#[derive(Clone)]
pub struct Consoles {
    words: mpsc::Sender<Word>,
}

fn stopping() -> Fault {
    Fault::new(Code::Unavailable, "the client worker is stopping")
}

impl Consoles {
    /// Starts the task; it ends with the last handle. `say` broadcasts to a host; what is lost is said again.
    #[must_use]
    pub fn start(say: impl Fn(HostName, Broadcast) + Send + 'static) -> Self {
        let (words, receiver) = mpsc::channel(QUEUE);
        let desk = Desk {
            say: Box::new(say),
            lines: HashMap::new(),
            opening: Vec::new(),
            reading: Vec::new(),
            stopping: false,
        };
        tokio::spawn(desk.run(receiver));
        Self { words }
    }

    /// Opens a machine's console, or joins those who have it open.
    ///
    /// # Errors
    /// A fault: the host does not open it, or somebody else types.
    pub async fn open(&self, opening: Opening) -> Result<ConsoleView, Fault> {
        self.ask(|reply| Word::Open(opening, reply)).await
    }

    /// What it showed from a position on; waits for something.
    ///
    /// # Errors
    /// A fault: it is not open to this operator.
    pub async fn read(&self, by: &OperatorName, id: Uuid, from: u64, wait: Duration) -> Result<ConsoleOutput, Fault> {
        self.ask(|reply| Word::Read(by.clone(), id, from, wait, reply)).await
    }

    /// Types; tells how much has been taken in all.
    ///
    /// # Errors
    /// A fault: it is not open to this operator, or not to be typed into.
    pub async fn write(&self, by: &OperatorName, id: Uuid, input: ConsoleInput) -> Result<u64, Fault> {
        self.ask(|reply| Word::Write(by.clone(), id, input, reply)).await
    }

    /// Leaves it.
    pub async fn close(&self, by: &OperatorName, id: Uuid) {
        let _ = self.words.send(Word::Close(by.clone(), id)).await;
    }

    /// A host says something of a line. Gives what it is to type next; none: nobody looks at it any more.
    pub async fn report(&self, host: HostName, report: LineReport) -> Option<ConsoleInput> {
        let (reply, answer) = oneshot::channel();
        self.words.send(Word::Report(host, report, reply)).await.ok()?;
        answer.await.ok()?
    }

    /// The client worker is about to stop: nobody is kept waiting any more.
    pub async fn stop(&self) {
        let _ = self.words.send(Word::Stop).await;
    }

    async fn ask<T>(&self, word: impl FnOnce(Reply<T>) -> Word) -> Result<T, Fault> {
        let (reply, answer) = oneshot::channel();
        self.words.send(word(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

struct Awaited {
    line: Uuid,
    id: Uuid,
    until: Instant,
    reply: Reply<ConsoleView>,
}

struct Reader {
    line: Uuid,
    id: Uuid,
    from: u64,
    until: Instant,
    reply: Reply<ConsoleOutput>,
}

type Say = dyn Fn(HostName, Broadcast) + Send;

struct Desk {
    say: Box<Say>,
    /// By a number of its own, which stays.
    lines: HashMap<Uuid, Line>,
    opening: Vec<Awaited>,
    reading: Vec<Reader>,
    stopping: bool,
}

impl Desk {
    async fn run(mut self, mut words: mpsc::Receiver<Word>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            tokio::select! {
                word = words.recv() => match word {
                    Some(word) => self.carry_out(word, Instant::now()),
                    None => return,
                },
                _ = tick.tick(), if !self.lines.is_empty() => {
                    let now = Instant::now();
                    self.say_again(now);
                    self.settle(now);
                    if now.saturating_duration_since(swept) >= SWEEP {
                        swept = now;
                        self.sweep(now);
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, word: Word, now: Instant) {
        match word {
            Word::Open(opening, reply) => self.open(opening, reply, now),
            Word::Read(by, id, from, wait, reply) => {
                let Some(line) = self.line_of(&by, id, now) else { return drop(reply.send(Err(unknown(id)))) };
                self.reading.push(Reader { line, id, from, until: now + wait, reply });
                self.settle(now);
            }
            Word::Write(by, id, input, reply) => {
                let Some(number) = self.line_of(&by, id, now) else { return drop(reply.send(Err(unknown(id)))) };
                let Some(line) = self.lines.get_mut(&number) else { return };
                let answer = line.write(id, &input).map(|(taken, said)| {
                    if let Some(input) = said {
                        line.said_at = now;
                        say(&self.say, line, false, input);
                    }
                    taken
                });
                let _ = reply.send(answer);
            }
            Word::Close(by, id) => {
                if let Some(number) = self.line_of(&by, id, now)
                    && let Some(line) = self.lines.get_mut(&number)
                {
                    line.leave(id, &by);
                    self.sweep(now);
                }
            }
            Word::Report(host, report, reply) => {
                let taken = report.taken;
                let line = self.lines.values_mut().find(|line| line.number == report.line && line.host == host);
                let input = line.map(|line| {
                    line.said_at = now;
                    let restarted = report.ended.as_ref().is_some_and(|ended| ended.code == Code::Unavailable);
                    if restarted && line.heard {
                        line.begin_anew(now);
                        say(&self.say, line, true, line.input(0));
                        return ConsoleInput { from: taken, input: Chunk::default() };
                    }
                    line.report(report, now);
                    line.input(taken)
                });
                let _ = reply.send(input);
                self.settle(now);
            }
            Word::Stop => {
                self.stopping = true;
                self.settle(now);
            }
        }
    }

    fn open(&mut self, opening: Opening, reply: Reply<ConsoleView>, now: Instant) {
        let Opening { id, by, host, vm, writes, force } = opening;
        let known =
            self.lines.iter().find(|(_, line)| line.host == host && line.vm.uuid == vm.uuid && line.ended.is_none());
        let number = known.map(|(number, _)| *number);
        if number.is_none() && self.lines.len() >= LINES {
            let message = format!("{LINES} consoles are open already");
            return drop(reply.send(Err(Fault::new(Code::Unavailable, message))));
        }
        let number = number.unwrap_or_else(Uuid::new_v4);
        let line = self.lines.entry(number).or_insert_with(|| {
            let line = Line::new(host, vm, now);
            say(&self.say, &line, true, line.input(0));
            line
        });
        match line.enter(id, &by, writes, force, now) {
            Ok(()) => self.opening.push(Awaited { line: number, id, until: now + OPENING, reply }),
            Err(fault) => drop(reply.send(Err(fault))),
        }
        self.settle(now);
    }

    /// The line that this operator has open under this id.
    fn line_of(&mut self, by: &OperatorName, id: Uuid, now: Instant) -> Option<Uuid> {
        self.lines.iter_mut().find_map(|(number, line)| line.is_of(id, by, now).then_some(*number))
    }

    /// Tells hosts again what they have not said to have heard.
    fn say_again(&mut self, now: Instant) {
        for line in self.lines.values_mut() {
            let (quiet, said) =
                (now.saturating_duration_since(line.heard_at), now.saturating_duration_since(line.said_at));
            if line.ended.is_some() {
                continue;
            }
            if quiet >= LOST {
                let message = format!("host {} says nothing more of the console of {}", line.host, line.vm.name);
                line.ended = Some(Fault::new(Code::HostDown, message).about(line.host.to_string()));
            } else if said >= TICK && (!line.heard || line.has_typed() || (quiet >= QUIET && said >= QUIET / 4)) {
                line.said_at = now;
                say(&self.say, line, !line.heard, line.input(0));
            }
        }
    }

    /// Answers those who can be answered.
    fn settle(&mut self, now: Instant) {
        for awaited in std::mem::take(&mut self.opening) {
            let answer = match self.lines.get(&awaited.line) {
                None => Err(unknown(awaited.id)),
                Some(line) => match &line.ended {
                    Some(ended) => Err(ended.clone()),
                    None if line.heard => Ok(line.view(awaited.id)),
                    None if now >= awaited.until || self.stopping => {
                        let message = format!("host {} does not open the console of {}", line.host, line.vm.name);
                        Err(Fault::new(Code::HostDown, message).about(line.host.to_string()))
                    }
                    None => {
                        self.opening.push(awaited);
                        continue;
                    }
                },
            };
            if answer.is_err()
                && self.lines.get(&awaited.line).is_some_and(|line| line.ids().all(|id| *id == awaited.id))
            {
                // Nobody is left who would have to leave.
                self.lines.remove(&awaited.line);
            }
            let _ = awaited.reply.send(answer);
        }
        for reader in std::mem::take(&mut self.reading) {
            if reader.reply.is_closed() {
                continue;
            }
            let answer = match self.lines.get(&reader.line) {
                None => Err(unknown(reader.id)),
                Some(line) => match line.read(reader.from) {
                    Some(output) => Ok(output),
                    None if now >= reader.until || self.stopping => Ok(line.nothing()),
                    None => {
                        self.reading.push(reader);
                        continue;
                    }
                },
            };
            let _ = reader.reply.send(answer);
        }
    }

    /// Closes the lines that nobody looks at.
    fn sweep(&mut self, now: Instant) {
        let (reading, opening, say) = (&self.reading, &self.opening, &self.say);
        let waits =
            |id: &Uuid| reading.iter().any(|reader| reader.id == *id) || opening.iter().any(|open| open.id == *id);
        self.lines.retain(|_, line| {
            let over = line.sweep(waits, now);
            if over && line.ended.is_none() {
                say(line.host.clone(), Broadcast::ConsoleEnd { line: line.number });
            }
            !over
        });
    }
}

fn say(say: &Say, line: &Line, open: bool, input: ConsoleInput) {
    let broadcast = Broadcast::Console { line: line.number, vm: line.vm.clone(), open, input };
    say(line.host.clone(), broadcast);
}

#[cfg(test)]
mod tests;
