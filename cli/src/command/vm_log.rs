//! `maglica vm log`: what a machine's serial port put out, as its host keeps it.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use clap::Args;
use maglica_proto::{
    console::{LogPart, LogPlace},
    job::VmRef,
    request::{Answer, Request},
};
use serde::Serialize;

use super::vm::Which;
use crate::{
    app::App,
    error::Error,
    exit::Exit,
    output::{Format, clean},
};

/// One long poll.
const POLL: Duration = Duration::from_secs(20);
/// How long a host has beside it.
const HOST: Duration = Duration::from_secs(10);
/// How long the client worker or the host may be away while the log is followed.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much of the end is read without `--all`, in bytes; lines are counted in it.
const TAIL: u32 = 256 << 10;
/// The most that a line of it is taken to have.
const LINE: u32 = 256;

/// What to show.
#[derive(Debug, Args)]
pub struct Log {
    /// Which.
    #[command(flatten)]
    which: Which,
    /// How many of the last lines.
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    lines: u32,
    /// Go on with what comes, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
}

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown {
    log: String,
}

impl Log {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let Self { which, lines, follow } = self;
        let vm = which.vm()?;
        let deadline = app.deadline();
        let (text, next) = end_of(app, &vm, lines).await?;
        match app.out.format() {
            Format::Json | Format::Yaml => {
                app.out.show(&Shown { log: String::from_utf8_lossy(&text).into_owned() }, String::new, Vec::new)?;
            }
            Format::Table | Format::Name => put(app, &text)?,
        }
        if !follow {
            return Ok(Exit::Ok);
        }
        tokio::select! {
            ended = on(app, &vm, next) => ended,
            Ok(()) = tokio::signal::ctrl_c() => Ok(Exit::Ok),
            () = crate::follow::until(deadline) => Ok(Exit::Ok),
        }
    }
}

fn request(vm: &VmRef, place: Option<LogPlace>, tail: u32, wait: Duration) -> Request {
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    Request::VmLog { name: vm.name.clone(), host: vm.host.clone(), place, tail, wait_ms }
}

/// The last lines, and where it goes on.
async fn end_of(app: &mut App<'_>, vm: &VmRef, lines: u32) -> Result<(Vec<u8>, LogPlace), Error> {
    let tail = lines.saturating_mul(LINE).clamp(LINE, TAIL.max(lines.min(1 << 14) * LINE));
    let (mut text, mut place) = (Vec::new(), None);
    loop {
        let part = ask(app, &request(vm, place, tail, Duration::ZERO), HOST).await?;
        let more = !part.output.0.is_empty();
        text.extend(part.output.0);
        place = Some(part.next);
        if !more {
            return Ok((last_lines(&text, lines as usize).to_vec(), part.next));
        }
    }
}

async fn on(app: &mut App<'_>, vm: &VmRef, mut place: LogPlace) -> Result<Exit, Error> {
    loop {
        let part = ask(app, &request(vm, Some(place), 0, POLL), PATIENCE).await?;
        if part.missed {
            app.out.note("a part of the log is gone");
        }
        put(app, &part.output.0)?;
        place = part.next;
    }
}

async fn ask(app: &mut App<'_>, request: &Request, patience: Duration) -> Result<LogPart, Error> {
    let until = Instant::now() + patience.max(app.timeout.unwrap_or_default());
    let answer = app.client()?.ask(request, POLL + HOST, until).await?;
    let Answer::VmLog(part) = answer else { return Err(Error::Unexpected(request.verb())) };
    Ok(part)
}

fn last_lines(text: &[u8], count: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    match count.checked_sub(1) {
        None => &[],
        Some(before) => ends.into_iter().nth(before).map_or(text, |begin| &text[begin..]),
    }
}

/// A guest may put out anything: on a terminal it is shown as text, into a pipe it goes as it is.
fn put(app: &App<'_>, bytes: &[u8]) -> Result<(), Error> {
    if !std::io::stdout().is_terminal() {
        return app.out.raw(bytes);
    }
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace(['\r', '\0'], "");
    app.out.raw(clean(&without_escapes(&text)).as_bytes())
}

/// The text without what colours it and moves the cursor.
fn without_escapes(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = match after.strip_prefix('[') {
            Some(control) => control.split_once(|c| ('@'..='~').contains(&c)).map_or("", |(_, rest)| rest),
            None => after.get(after.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default(),
        };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_counted_from_the_end_whether_or_not_the_last_one_is_over() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nlogin: ", 2), b"b\nlogin: ");
        assert_eq!(last_lines(b"a\nb\n", 9), b"a\nb\n");
        assert_eq!(last_lines(b"a\nb\n", 0), b"");
    }

    #[test]
    fn colours_and_movements_of_the_cursor_are_left_out() {
        assert_eq!(without_escapes("\x1b[0;32m OK \x1b[0m started\x1b[K\x1bM."), " OK  started.");
        assert_eq!(without_escapes("cut \x1b[3"), "cut ");
    }
}
