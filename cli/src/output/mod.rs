//! The only place that prints. stdout carries data in the form that `-o` names; stderr carries everything said beside it.
//!
//! | file | owns |
//! | --- | --- |
//! | `mod` | what goes to which stream, formats, errors and hints |
//! | [`table`] | columns |
//! | [`time`] | moments and durations for people |
//! | `terminal` | the terminal while it is a console |
//! | [`progress`] | a job's steps while they happen |

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use maglica_proto::{
    fault,
    request::{Absence, Presence},
    text::{REPLACEMENT, is_unfit},
};
use serde::Serialize;

use crate::{command::Globals, error::Error, exit::Exit};

pub mod progress;
pub mod table;
pub(crate) mod terminal;
pub mod time;

/// The form of what is printed on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, for people.
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names only, one a line.
    Name,
}

/// When there is colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A colour.
#[derive(Debug, Clone, Copy)]
pub enum Paint {
    /// Done.
    Green,
    /// Failed.
    Red,
    /// Beside the point.
    Dim,
    /// Advice.
    Cyan,
}

/// Where everything is shown.
#[derive(Debug)]
pub struct Output {
    format: Format,
    color: bool,
    live: bool,
    verbose: u8,
}

impl Output {
    /// As the options say and the terminal allows.
    #[must_use]
    pub fn new(globals: &Globals) -> Self {
        let terminal = io::stderr().is_terminal();
        let color = match globals.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let live = terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { format: globals.output, color, live, verbose: globals.verbose }
    }

    /// The form of the data.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether details are wanted.
    #[must_use]
    pub const fn verbose(&self) -> bool {
        self.verbose > 0
    }

    /// Whether stderr is a terminal on which a line can be drawn again.
    #[must_use]
    pub const fn live(&self) -> bool {
        self.live
    }

    /// The text in this colour, where there is colour.
    #[must_use]
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Green => 32,
            Paint::Red => 31,
            Paint::Dim => 2,
            Paint::Cyan => 36,
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Shows data in the form that is wanted.
    ///
    /// # Errors
    /// [`Error::Output`] if stdout is closed.
    pub fn show<T: Serialize>(
        &self,
        value: &T,
        table: impl FnOnce() -> String,
        names: impl FnOnce() -> Vec<String>,
    ) -> Result<(), Error> {
        match self.format {
            Format::Table => self.data(&table()),
            Format::Json => {
                let text =
                    serde_json::to_string_pretty(value).map_err(|error| Error::Format("JSON", error.to_string()))?;
                self.data(&escaped(&text))
            }
            Format::Yaml => {
                let text = serde_norway::to_string(value).map_err(|error| Error::Format("YAML", error.to_string()))?;
                self.data(&text)
            }
            Format::Name => self.data(&names().join("\n")),
        }
    }

    /// Shows one of many that come one by one: a line of text, of JSON, or a name, or a document of YAML.
    ///
    /// # Errors
    /// [`Error::Output`] if stdout is closed.
    pub fn item<T: Serialize>(
        &self,
        value: &T,
        line: impl FnOnce() -> String,
        name: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        match self.format {
            Format::Table => self.data(&line()),
            Format::Json => {
                let text = serde_json::to_string(value).map_err(|error| Error::Format("JSON", error.to_string()))?;
                self.data(&escaped(&text))
            }
            Format::Yaml => {
                let text = serde_norway::to_string(value).map_err(|error| Error::Format("YAML", error.to_string()))?;
                self.data(&format!("---\n{text}"))
            }
            Format::Name => self.data(&name()),
        }
    }

    /// Prints text on stdout as it is, with a line's end.
    ///
    /// # Errors
    /// [`Error::Output`] if stdout is closed.
    pub fn data(&self, text: &str) -> Result<(), Error> {
        let text = text.trim_end_matches('\n');
        if text.is_empty() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.write_all(b"\n"))
            .and_then(|()| stdout.flush())
            .map_err(Error::Output)
    }

    /// Puts bytes on stdout as they are.
    ///
    /// # Errors
    /// [`Error::Output`] if stdout is closed.
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Error::Output)
    }

    /// Says something beside the data.
    pub fn say(&self, text: &str) {
        // There is nowhere left to complain to when stderr is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Says something that the reader should not miss.
    pub fn note(&self, text: &str) {
        self.say(&format!("{} {}", self.paint(Paint::Cyan, "note:"), clean(text)));
    }

    /// Asks on the terminal; anything but yes is no.
    ///
    /// # Errors
    /// [`Error::Usage`] without a terminal: then the answer has to be an option.
    pub fn confirm(&self, question: &str) -> Result<bool, Error> {
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Error::Usage("this needs a yes: without a terminal to ask on, give --yes".into()));
        }
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{} [y/N] ", clean(question));
        let _ = stderr.flush();
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(Error::Output)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Says what went wrong, what is left behind, and what can be done.
    pub fn error(&self, error: &Error) {
        let mut text = format!("{} {}", self.paint(Paint::Red, "error:"), clean(&fault::chain(error)));
        for left in error.left() {
            let _ = write!(text, "\n  left behind: {}", clean(left));
        }
        for hint in error.hints() {
            let _ = write!(text, "\n{} {}", self.paint(Paint::Cyan, "hint:"), clean(&hint));
        }
        self.say(&text);
    }

    /// Says which hosts' rows are old or missing. `rows` counts a host's rows, `noun` is what they are.
    #[must_use]
    pub fn absent(&self, absent: &[Absence], noun: &str, rows: impl Fn(&Absence) -> usize) -> Exit {
        for absence in absent {
            self.say(&absence_line(absence, noun, rows(absence), jiff::Timestamp::now()));
        }
        if absent.is_empty() { Exit::Ok } else { Exit::Partial }
    }
}

fn absence_line(absence: &Absence, noun: &str, rows: usize, now: jiff::Timestamp) -> String {
    let since = match (absence.presence, absence.heard) {
        (Presence::Pending, _) => "waits to be accepted".to_owned(),
        (_, None) => format!("{}, not heard of since the client worker started", absence.presence.as_str()),
        (presence, Some(heard)) => format!("{} since {}", presence.as_str(), time::moment_near(heard, now)),
    };
    let what = match rows {
        0 => format!("no {noun} of it are known"),
        1 => format!("its 1 {} is as last seen", noun.strip_suffix('s').unwrap_or(noun)),
        many => format!("its {many} {noun} are as last seen"),
    };
    format!("{}: {since}, {what}", absence.host)
}

/// The text without control characters but line ends, nor others that hide or turn text round: what a tool or another program said
/// must not steer the terminal.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_unfit(c) && c != '\n' { REPLACEMENT } else { c }).collect()
}

/// The same JSON with what a terminal could be steered by written as `\\uXXXX`; JSON itself demands that of a few characters only.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        // Between its strings JSON has no such character but line ends.
        if is_unfit(c) && c != '\n' {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

/// Prints what clap has to say: help and version on stdout, errors on stderr.
pub(crate) fn usage(error: &clap::Error) -> Exit {
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Ok }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maglica_proto::units::Timestamp;

    fn absence(presence: Presence, heard: Option<u64>) -> Absence {
        Absence { host: "host2.example.jp".parse().unwrap(), presence, heard: heard.map(Timestamp::from_millis) }
    }

    #[test]
    fn an_absent_host_is_told_with_since_when_and_what_is_old() {
        let now = jiff::Timestamp::from_second(1_000_000).unwrap();
        let line = absence_line(&absence(Presence::Down, Some(999_990_000)), "machines", 12, now);
        let clock = time::moment_near(Timestamp::from_millis(999_990_000), now);
        assert_eq!(line, format!("host2.example.jp: down since {clock}, its 12 machines are as last seen"));
        assert_eq!(
            absence_line(&absence(Presence::Down, None), "images", 0, now),
            "host2.example.jp: down, not heard of since the client worker started, no images of it are known"
        );
        assert!(
            absence_line(&absence(Presence::Suspect, None), "images", 1, now).ends_with("its 1 image is as last seen")
        );
    }

    #[test]
    fn json_says_the_same_without_characters_that_steer_a_terminal() {
        let value = "a\u{9b}2J\u{202e}b\x1b\nc";
        let text = escaped(&serde_json::to_string_pretty(&[value]).unwrap());
        assert!(!text.chars().any(|c| is_unfit(c) && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&text).unwrap(), [value]);
    }

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\rc\nd"), "a\u{fffd}[2Jb\u{fffd}c\nd");
    }
}
