//! Serial consoles of this host's machines: one task knows which are open, and starts one for each ([`line`]).

mod line;
mod tty;

use std::collections::HashMap;

use maglica_proto::{
    console::{Chunk, ConsoleInput, LineReport},
    fault::{Code, Fault},
    host::HostRequest,
    job::VmTask,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use self::tty::Tty;
use crate::{
    hypervisor::{Host, domain_xml::serial},
    link::Link,
};

/// How many consoles may be open here.
const LINES: usize = 64;
/// How many words to the task, and pieces to a line, may wait. What finds no room is said again.
const QUEUE: usize = 256;
/// How often a refusal is said until it is heard; the client worker asks again anyway.
const TRIES: u32 = 3;

enum Word {
    Input { line: Uuid, vm: VmTask, open: bool, input: ConsoleInput },
    End(Uuid),
}

/// An open line: whose, and where what is typed goes. It ends when this is dropped.
struct Open {
    vm: Uuid,
    frames: mpsc::Sender<ConsoleInput>,
}

/// The handle.
#[derive(Clone)]
pub struct Consoles {
    words: mpsc::Sender<Word>,
}

impl Consoles {
    /// Starts the task; it ends with the last handle.
    #[must_use]
    pub fn start(host: Host, link: Link) -> Self {
        let (words, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(run(host, link, receiver));
        Self { words }
    }

    /// A console is to be open, and this to be typed into it. Never waits.
    pub fn input(&self, line: Uuid, vm: VmTask, open: bool, input: ConsoleInput) {
        let _ = self.words.try_send(Word::Input { line, vm, open, input });
    }

    /// Nobody looks at a console any more.
    pub fn end(&self, line: Uuid) {
        let _ = self.words.try_send(Word::End(line));
    }
}

async fn run(host: Host, link: Link, mut words: mpsc::Receiver<Word>) {
    let mut lines: HashMap<Uuid, Open> = HashMap::new();
    while let Some(word) = words.recv().await {
        lines.retain(|_, open| !open.frames.is_closed());
        match word {
            Word::End(line) => drop(lines.remove(&line)),
            Word::Input { line, vm, open, input } => {
                if let Some(open) = lines.get(&line) {
                    let _ = open.frames.try_send(input);
                } else if !open {
                    let message = format!("the console of {} is not open here any more", vm.name);
                    tokio::spawn(refuse(link.clone(), line, Fault::new(Code::Unavailable, message)));
                } else if lines.len() >= LINES {
                    let message = format!("{LINES} consoles are open on this host already");
                    tokio::spawn(refuse(link.clone(), line, Fault::new(Code::Unavailable, message)));
                } else {
                    // One that the client worker has forgotten would take half of what is shown.
                    lines.retain(|_, open| open.vm != vm.uuid);
                    let (frames, receiver) = mpsc::channel(QUEUE);
                    let _ = frames.try_send(input);
                    lines.insert(line, Open { vm: vm.uuid, frames });
                    tokio::spawn(open_and_serve(line, vm, host.clone(), link.clone(), receiver));
                }
            }
        }
    }
}

async fn open_and_serve(line: Uuid, vm: VmTask, host: Host, link: Link, frames: mpsc::Receiver<ConsoleInput>) {
    match open(&vm, &host).await {
        Ok(tty) => {
            tracing::info!(vm = %vm.name, "its console is open");
            line::serve(line, &vm, &tty, &link, frames).await;
            tracing::info!(vm = %vm.name, "its console is closed");
        }
        Err(fault) => {
            tracing::info!(vm = %vm.name, error = %fault, "its console cannot be opened");
            refuse(link, line, fault).await;
        }
    }
}

async fn open(vm: &VmTask, host: &Host) -> Result<Tty, Fault> {
    let uuid = vm.uuid;
    let xml = host
        .look(format!("looking for the console of {}", vm.name), move |hypervisor| {
            Ok(if hypervisor.state(uuid)?.is_active() { Some(hypervisor.live_xml(uuid)?) } else { None })
        })
        .await?;
    let about = |code, message: String| Fault::new(code, message).about(vm.name.to_string());
    let Some(xml) = xml else {
        return Err(about(Code::WrongState, format!("{} is off, and has no console to look at", vm.name)));
    };
    let serial = serial::read(&xml).map_err(|error| Fault::from_error(Code::Hypervisor, &error))?;
    let Some(path) = serial.tty else {
        return Err(about(Code::Unsupported, format!("{} has no serial port that ends in a pseudo-terminal", vm.name)));
    };
    Tty::open(&path).map_err(|error| {
        about(Code::Hypervisor, format!("the console of {} cannot be opened: {path}: {error}", vm.name))
    })
}

async fn refuse(link: Link, line: Uuid, fault: Fault) {
    for _ in 0..TRIES {
        let ended = Some(fault.clone());
        let report = LineReport { line, from: 0, output: Chunk::default(), taken: 0, ended };
        if link.call(HostRequest::Line(report)).await.is_ok() {
            return;
        }
    }
}
