//! A job's steps while they happen: on a terminal with one line that is drawn again and again, otherwise plain lines.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{Output, Paint, clean, table};

/// How often the line is drawn.
pub const TICK: Duration = Duration::from_millis(100);
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// To the line's beginning, and erase it.
const ERASE: &str = "\r\x1b[2K";

/// What is shown of a running job.
#[derive(Debug)]
pub struct Progress<'a> {
    out: &'a Output,
    status: String,
    tick: usize,
    drawn: bool,
}

impl<'a> Progress<'a> {
    /// Nothing yet.
    #[must_use]
    pub const fn new(out: &'a Output) -> Self {
        Self { out, status: String::new(), tick: 0, drawn: false }
    }

    /// Says a line that stays.
    pub fn line(&mut self, text: &str) {
        self.erase();
        self.out.say(text);
    }

    /// A line of something done, failed or taken back.
    pub fn mark(&mut self, mark: &str, paint: Paint, text: &str) {
        let text = format!("  {} {}", self.out.paint(paint, mark), clean(text));
        self.line(&text);
    }

    /// What happens now; shown on a terminal only.
    pub fn status(&mut self, text: String) {
        self.status = clean(&text);
    }

    /// Draws the line again.
    pub fn draw(&mut self) {
        if !self.out.live() {
            return;
        }
        if self.status.is_empty() {
            return self.erase();
        }
        self.tick += 1;
        let spinner = SPINNER[self.tick % SPINNER.len()];
        let line = format!("  {spinner} {}", self.status);
        let most = table::terminal_width(io::stderr()).unwrap_or(80).saturating_sub(1);
        let line = table::fit(&line, most.min(line.chars().count()));
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{ERASE}{line}");
        let _ = stderr.flush();
        self.drawn = true;
    }

    /// Takes the line away.
    pub fn erase(&mut self) {
        if self.drawn {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "{ERASE}");
            let _ = stderr.flush();
            self.drawn = false;
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.erase();
    }
}
