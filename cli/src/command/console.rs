//! `maglica vm console`: a serial console on this terminal. Two conversations with the client worker, so that what is typed never
//! waits for what is shown. Ctrl-] leaves.

use std::{
    collections::VecDeque,
    io::Read,
    pin::Pin,
    time::{Duration, Instant},
};

use clap::Args;
use maglica_proto::{
    console::{Chunk, ConsoleInput, ConsoleOutput, ConsoleView},
    fault::Code,
    job::VmRef,
    request::{Answer, Request},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use uuid::Uuid;

use super::vm::Which;
use crate::{app::App, client::Client, error::Error, exit::Exit, output::terminal::Raw};

/// Ctrl-], as telnet and virsh have it.
const LEAVE: u8 = 0x1d;
/// One long poll; the client worker's own bound is 25 s.
const POLL: Duration = Duration::from_secs(20);
/// How long the client worker may be away: a restart, an update. What is typed meanwhile is typed then.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to open it may take.
const OPENING: Duration = Duration::from_secs(15);
/// How long leaving may take. Whoever goes without a word is found to be gone later.
const LEAVING: Duration = Duration::from_secs(1);
/// The pause before it is opened again.
const AGAIN: Duration = Duration::from_millis(250);
/// The most that is said at once.
const PIECE: usize = 4096;
/// What waits of the keyboard, in reads.
const KEYS: usize = 64;

/// How to look at it.
#[derive(Debug, Args)]
pub struct Console {
    /// Which.
    #[command(flatten)]
    which: Which,
    /// Look only; several may.
    #[arg(long, conflicts_with = "force")]
    view: bool,
    /// Take the place of whoever types into it now.
    #[arg(long)]
    force: bool,
}

/// Why it is left.
enum Left {
    /// By Ctrl-], by `--timeout`, or there is nothing more to type and nobody at the terminal.
    Own,
    /// By a signal.
    Signal,
    /// It ended.
    Ended(String),
    /// The client worker or the host has forgotten it: it is to be opened anew.
    Forgotten,
}

impl Console {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let vm = self.which.vm()?;
        let deadline = app.deadline();
        let (config, out) = (app.config.clone(), app.out);
        let (mut reader, mut writer) = (Client::open(&config)?, Client::open(&config)?);
        let mut opened = open(&mut reader, &vm, self.view, self.force).await?;
        reader.take_notes().iter().for_each(|note| out.note(note));
        let view = &opened.view;
        let looks = match view.viewers {
            0 | 1 => String::new(),
            2 => ", 1 other looks at it".to_owned(),
            viewers => format!(", {} others look at it", viewers - 1),
        };
        let looking = if self.view { ", to look at" } else { "" };
        // From here on the terminal is given back on every way out, a panic included.
        let raw = Raw::take();
        out.say(&format!("console of {} on {}{looking}{looks}; Ctrl-] leaves\r", view.vm, view.host));
        let (mut keys, mut signals) = (keyboard(), Signals::new()?);
        let mut typed = Typed { waiting: VecDeque::new(), over: false, view: self.view };
        let left = loop {
            let until = crate::follow::until(deadline);
            let session = talk(app, &mut reader, &mut writer, &opened, &mut keys, &mut typed);
            let left = tokio::select! {
                left = session => left,
                () = signals.any() => Ok(Left::Signal),
                () = until => Ok(Left::Own),
            };
            match left {
                Ok(Left::Forgotten) => {
                    let anew = tokio::select! {
                        anew = open_anew(&mut reader, &vm, self.view) => anew,
                        () = signals.any() => break Ok(Left::Signal),
                    };
                    match anew {
                        Ok(anew) => opened = anew,
                        Err(error) => break Err(error),
                    }
                }
                left => break left,
            }
        };
        drop(raw);
        let request = Request::ConsoleClose { id: opened.id };
        // It is left in any case.
        let _ = reader.ask(&request, Duration::ZERO, Instant::now() + LEAVING).await;
        match left? {
            Left::Own | Left::Forgotten => {
                out.say("\nleft the console");
                Ok(Exit::Ok)
            }
            Left::Ended(why) => {
                out.say(&format!("\nthe console ended: {}", crate::output::clean(&why)));
                Ok(Exit::Ok)
            }
            Left::Signal => Ok(Exit::Interrupted),
        }
    }
}

struct Opened {
    id: Uuid,
    view: ConsoleView,
}

async fn open(client: &mut Client, vm: &VmRef, view: bool, force: bool) -> Result<Opened, Error> {
    let (id, name, host) = (Uuid::new_v4(), vm.name.clone(), vm.host.clone());
    let request =
        if view { Request::ConsoleView { id, name, host } } else { Request::ConsoleOpen { id, name, host, force } };
    let answer = client.ask(&request, OPENING, Instant::now() + OPENING).await?;
    let Answer::Console(view) = answer else { return Err(Error::Unexpected(request.verb())) };
    Ok(Opened { id, view })
}

/// Opens it again after a restart of the client worker or the host worker: both need a moment to know of one another. The place that
/// was ours is taken again.
async fn open_anew(client: &mut Client, vm: &VmRef, view: bool) -> Result<Opened, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match open(client, vm, view, true).await {
            Err(Error::Fault(fault))
                if matches!(fault.code, Code::HostDown | Code::NotFound | Code::Unavailable)
                    && Instant::now() < until =>
            {
                tokio::time::sleep(AGAIN).await;
            }
            opened => return opened,
        }
    }
}

/// What comes of the keyboard, read by a thread of its own: a terminal cannot be waited for otherwise without changing it for the
/// shell as well.
fn keyboard() -> mpsc::Receiver<Vec<u8>> {
    let (sender, keys) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        let mut buffer = [0; PIECE];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count) = stdin.read(&mut buffer) {
            if count == 0 || sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    keys
}

/// What was typed and is not said yet.
struct Typed {
    waiting: VecDeque<u8>,
    /// There will be no more.
    over: bool,
    view: bool,
}

impl Typed {
    /// Takes what was typed. Tells whether to leave.
    fn take(&mut self, keys: Option<Vec<u8>>) -> bool {
        let Some(keys) = keys else {
            self.over = true;
            return false;
        };
        let leaves = keys.iter().position(|key| *key == LEAVE);
        if !self.view {
            self.waiting.extend(&keys[..leaves.unwrap_or(keys.len())]);
        }
        leaves.is_some()
    }
}

type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answer, Error>> + 'a>>;

/// Shows and types until there is a reason to stop.
async fn talk(
    app: &App<'_>,
    reader: &mut Client,
    writer: &mut Client,
    opened: &Opened,
    keys: &mut mpsc::Receiver<Vec<u8>>,
    typed: &mut Typed,
) -> Result<Left, Error> {
    let (id, mut from, mut said) = (opened.id, opened.view.from, opened.view.typed);
    let read = |from| Request::ConsoleRead { id, from, wait_ms: u32::try_from(POLL.as_millis()).unwrap_or(u32::MAX) };
    loop {
        let request = read(from);
        let mut showing: Asking<'_> = Box::pin(reader.ask(&request, POLL, Instant::now() + PATIENCE));
        // Until something is shown, as many pieces as are typed.
        let answer = loop {
            let input = piece(typed, said);
            let write = Request::ConsoleWrite { id, input };
            let pressed = !typed.waiting.is_empty();
            let mut asking: Asking<'_> = if pressed {
                Box::pin(writer.ask(&write, Duration::ZERO, Instant::now() + PATIENCE))
            } else {
                Box::pin(std::future::pending())
            };
            let mut shown = None;
            let taken = loop {
                tokio::select! {
                    answer = &mut showing, if shown.is_none() => {
                        shown = Some(answer);
                        if !pressed {
                            break None;
                        }
                        if let Some(Ok(answer)) = &shown {
                            // What is shown does not wait for what is typed.
                            show(app, answer, &mut from)?;
                        }
                    }
                    answer = &mut asking => break Some(answer),
                    pressed_keys = keys.recv(), if !typed.over => {
                        if typed.take(pressed_keys) {
                            return Ok(Left::Own);
                        }
                        if !pressed {
                            break None;
                        }
                    }
                }
            };
            match taken {
                None => {}
                Some(Ok(Answer::ConsoleTaken { taken })) => {
                    let new = usize::try_from(taken.saturating_sub(said)).unwrap_or(usize::MAX);
                    typed.waiting.drain(..new.min(typed.waiting.len()));
                    if new == 0 {
                        // The guest takes nothing now.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    said = said.max(taken);
                }
                Some(Ok(_)) => return Err(Error::Unexpected(write.verb())),
                Some(Err(Error::Fault(fault))) if matches!(fault.code, Code::NotFound | Code::Unavailable) => {
                    return Ok(Left::Forgotten);
                }
                // The machine went off between two keys: the reading says so.
                Some(Err(Error::Fault(fault))) if fault.code == Code::WrongState => typed.waiting.clear(),
                Some(Err(error)) => return Err(error),
            }
            if let Some(answer) = shown {
                break (answer, pressed);
            }
        };
        let (answer, shown_already) = answer;
        let answer = match answer {
            Ok(answer) => answer,
            Err(Error::Fault(fault)) if matches!(fault.code, Code::NotFound | Code::Unavailable) => {
                return Ok(Left::Forgotten);
            }
            Err(error) => return Err(error),
        };
        if !shown_already {
            show(app, &answer, &mut from)?;
        }
        if let Answer::ConsoleOutput(ConsoleOutput { ended: Some(ended), .. }) = answer {
            return Ok(if ended.code == Code::Unavailable { Left::Forgotten } else { Left::Ended(ended.message) });
        }
    }
}

fn piece(typed: &Typed, from: u64) -> ConsoleInput {
    ConsoleInput { from, input: Chunk(typed.waiting.iter().take(PIECE).copied().collect()) }
}

fn show(app: &App<'_>, answer: &Answer, from: &mut u64) -> Result<(), Error> {
    let Answer::ConsoleOutput(output) = answer else { return Err(Error::Unexpected("console-read")) };
    if output.from > *from && !output.output.0.is_empty() {
        app.out.raw(format!("\r\n[{} bytes were not heard]\r\n", output.from - *from).as_bytes())?;
    }
    *from = output.from + output.output.0.len() as u64;
    app.out.raw(&output.output.0)
}

/// The signals that end a command. In a raw terminal Ctrl-C is typed, so they come from elsewhere.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self, Error> {
        let of = |kind| signal(kind).map_err(Error::Runtime);
        Ok(Self([of(SignalKind::terminate())?, of(SignalKind::hangup())?, of(SignalKind::interrupt())?]))
    }

    async fn any(&mut self) {
        let Self([terminate, hangup, interrupt]) = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_before_the_key_that_leaves_is_said_and_nothing_after_it() {
        let mut typed = Typed { waiting: VecDeque::new(), over: false, view: false };
        assert!(!typed.take(Some(b"ls\r".to_vec())));
        assert!(typed.take(Some(b"x\x1dy".to_vec())));
        assert_eq!(piece(&typed, 7), ConsoleInput { from: 7, input: Chunk(b"ls\rx".to_vec()) });
        let mut looks = Typed { waiting: VecDeque::new(), over: false, view: true };
        assert!(!looks.take(Some(b"rm -rf /\r".to_vec())) && looks.waiting.is_empty(), "one who looks types nothing");
        assert!(!looks.take(None) && looks.over);
    }
}
