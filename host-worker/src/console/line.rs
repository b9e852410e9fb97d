//! One open console: what the guest shows is said to the client worker in numbered pieces, each until it is heard; what is typed
//! comes with the answers, and sooner by broadcast. One piece is on its way at a time, so a slow bus slows the reading, and
//! nothing grows.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use maglica_proto::{
    console::{CHUNK_MAX, Chunk, ConsoleInput, LineReport},
    fault::{Code, Fault},
    host::{HostAnswer, HostRequest},
    job::VmTask,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::tty::Tty;
use crate::link::{Link, LinkError};

/// By itself a line says something so often: then both ends know that the other is there.
const ALIVE: Duration = Duration::from_secs(5);
/// How soon it says that it took what was typed, if the guest shows nothing before.
const ACKNOWLEDGE: Duration = Duration::from_millis(10);
/// The first pause after what was said was not heard; doubles.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);
/// A client worker that is away for so long has forgotten the line.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How much may wait until the guest takes it.
const TYPING_MAX: usize = 64 << 10;

/// What is known of a line's course. Pure.
#[derive(Debug, Default)]
struct Course {
    /// What was shown and is not heard yet, and where it begins.
    shown: Vec<u8>,
    shown_from: u64,
    /// What was taken to be typed and is not typed yet, and how much was taken in all.
    typing: VecDeque<u8>,
    taken: u64,
    ended: Option<Fault>,
}

impl Course {
    /// Takes what is new of it; what does not follow on what was taken is said again later.
    fn type_in(&mut self, input: &ConsoleInput) {
        let Some(skip) = self.taken.checked_sub(input.from).and_then(|skip| usize::try_from(skip).ok()) else { return };
        let room = TYPING_MAX.saturating_sub(self.typing.len());
        let before = self.typing.len();
        self.typing.extend(input.input.0.iter().skip(skip).take(room));
        self.taken += (self.typing.len() - before) as u64;
    }

    fn report(&self, line: Uuid) -> LineReport {
        let output = Chunk(self.shown.clone());
        LineReport { line, from: self.shown_from, output, taken: self.taken, ended: self.ended.clone() }
    }

    /// So many bytes of what was shown were heard.
    fn heard(&mut self, count: usize) {
        self.shown.drain(..count.min(self.shown.len()));
        self.shown_from += count as u64;
    }
}

type Saying = Pin<Box<dyn Future<Output = Result<HostAnswer, LinkError>> + Send>>;

/// What is on its way to the client worker.
struct Said {
    saying: Saying,
    count: usize,
    end: bool,
}

/// Serves an open console until it ends, nobody looks at it any more, or `frames` is closed.
pub(super) async fn serve(line: Uuid, vm: &VmTask, tty: &Tty, link: &Link, mut frames: mpsc::Receiver<ConsoleInput>) {
    let (mut course, mut said) = (Course::default(), None::<Said>);
    let (mut due, mut pause, mut failing) = (Instant::now(), AGAIN, None::<Instant>);
    let mut buffer = vec![0; CHUNK_MAX];
    loop {
        if said.is_none() && Instant::now() >= due {
            let report = course.report(line);
            let (count, end, link) = (report.output.0.len(), report.ended.is_some(), link.clone());
            let saying = Box::pin(async move { link.call(HostRequest::Line(report)).await });
            said = Some(Said { saying, count, end });
        }
        let room = CHUNK_MAX.saturating_sub(course.shown.len());
        let typing = course.typing.make_contiguous().to_vec();
        tokio::select! {
            frame = frames.recv() => {
                let Some(input) = frame else { return };
                course.type_in(&input);
                due = due.min(Instant::now() + if failing.is_some() { pause } else { ACKNOWLEDGE });
            }
            read = tty.read(&mut buffer[..room]), if room > 0 && course.ended.is_none() => match read {
                Ok(count) if count > 0 => {
                    course.shown.extend_from_slice(&buffer[..count]);
                    if failing.is_none() {
                        due = Instant::now();
                    }
                }
                // qemu is gone, and its end of the terminal with it.
                Ok(_) | Err(_) => {
                    course.ended = Some(off(vm));
                    due = Instant::now();
                }
            },
            written = tty.write(&typing), if !typing.is_empty() && course.ended.is_none() => match written {
                Ok(count) => drop(course.typing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    course.ended = Some(off(vm));
                    due = Instant::now();
                }
            },
            (answer, count, end) = heard(&mut said), if said.is_some() => {
                said = None;
                match answer {
                    Ok(HostAnswer::Line { wanted, input }) => {
                        course.heard(count);
                        if end || !wanted {
                            return;
                        }
                        (pause, failing) = (AGAIN, None);
                        let before = course.taken;
                        course.type_in(&input);
                        // More was shown meanwhile, or is to be acknowledged.
                        let now = Instant::now();
                        due = if !course.shown.is_empty() || course.ended.is_some() {
                            now
                        } else if course.taken > before {
                            now + ACKNOWLEDGE
                        } else {
                            now + ALIVE
                        };
                    }
                    Ok(
                        HostAnswer::Beat(_)
                        | HostAnswer::Granted
                        | HostAnswer::Denied { .. }
                        | HostAnswer::Stored
                        | HostAnswer::Several { .. }
                        | HostAnswer::Source(_)
                        | HostAnswer::Vouched(_)
                        | HostAnswer::Fault { .. },
                    )
                    | Err(LinkError::Fault(_) | LinkError::Stopping) => return,
                    Err(LinkError::Sealed(_) | LinkError::Codec(_)) => {
                        if failing.get_or_insert_with(Instant::now).elapsed() >= GIVE_UP {
                            return;
                        }
                        due = Instant::now() + pause;
                        pause = (pause * 2).min(AGAIN_MAX);
                    }
                }
            }
            () = tokio::time::sleep_until(due.into()), if said.is_none() => {}
        }
    }
}

async fn heard(said: &mut Option<Said>) -> (Result<HostAnswer, LinkError>, usize, bool) {
    match said {
        Some(Said { saying, count, end }) => (saying.await, *count, *end),
        None => std::future::pending().await,
    }
}

fn off(vm: &VmTask) -> Fault {
    Fault::new(Code::WrongState, format!("the virtual machine {} went off", vm.name)).about(vm.name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(from: u64, text: &str) -> ConsoleInput {
        ConsoleInput { from, input: Chunk(text.as_bytes().to_vec()) }
    }

    #[test]
    fn each_byte_is_typed_once_and_in_its_place() {
        let mut course = Course::default();
        course.type_in(&typed(0, "ro"));
        course.type_in(&typed(0, "root"));
        course.type_in(&typed(9, "later"));
        course.type_in(&typed(2, "ot\n"));
        assert_eq!((course.typing.make_contiguous(), course.taken), (b"root\n".as_slice().to_vec().as_mut_slice(), 5));
        for _ in 0..8 {
            course.type_in(&ConsoleInput { from: course.taken, input: Chunk(vec![b'x'; CHUNK_MAX]) });
        }
        assert_eq!(course.taken, TYPING_MAX as u64, "a guest that takes nothing is not typed at without end");
    }

    #[test]
    fn what_was_heard_is_not_said_again() {
        let mut course = Course { shown: b"login: ".to_vec(), ..Course::default() };
        let report = course.report(Uuid::nil());
        course.shown.extend_from_slice(b"x");
        course.heard(report.output.0.len());
        let next = course.report(Uuid::nil());
        assert_eq!((next.from, next.output.0.as_slice()), (7, b"x".as_slice()));
    }
}
