//! The conversation with `guestfish`.
//!
//! Without a terminal, guestfish reads a command a line, prints its answer at once, and ends at the first command that
//! fails, its reason on stderr. A batch of commands is sent at once and followed by `echo` of a mark; when the mark comes
//! back, all have succeeded.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    customize::CustomizeError,
    tool::{Session, Tool, ToolError},
};

/// What follows each answer; nothing that libguestfs prints by itself.
const MARK: &str = "--maglica--";
/// How long guestfish may take to end when there is nothing left to do: its appliance is down by then.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How much of a file is read at once, in bytes; a message of libguestfs holds 4 MiB.
const READ_MAX: usize = 512 * 1024;
/// What guestfish and libguestfs put before their reasons.
const PREFIXES: [&str; 2] = ["libguestfs: error: ", "guestfish: "];

/// A running guestfish.
#[derive(Debug)]
pub(super) struct Fish {
    // Dropped first: while guestfish lives it is known which folders are its own.
    sockets: Sockets,
    session: Session,
}

impl Fish {
    pub(super) async fn start(tool: &Tool) -> Result<Self, CustomizeError> {
        let session = tool.open().await?;
        Ok(Self { sockets: Sockets { process: session.id() }, session })
    }

    /// Sends commands and returns the answer of each.
    ///
    /// # Errors
    /// [`CustomizeError::Guestfs`] with an empty message if one failed; [`failure`](Self::failure) has the words.
    pub(super) async fn ask(&mut self, doing: &str, commands: &[String]) -> Result<Vec<String>, CustomizeError> {
        let mut answers = Vec::with_capacity(commands.len());
        // In parts, so that neither side waits for the other to empty its pipe.
        for part in commands.chunks(64) {
            let mut text = String::new();
            for command in part {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{command}\necho {MARK}");
            }
            self.say(doing, &text).await?;
            for _ in part {
                answers.push(self.answer(doing).await?);
            }
        }
        Ok(answers)
    }

    /// Sends commands whose answers do not matter.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) async fn run(&mut self, doing: &str, commands: &[String]) -> Result<(), CustomizeError> {
        self.ask(doing, commands).await.map(drop)
    }

    /// Reads a file of which the size is known. Not by `read-file`, which costs 150 to 300 ms however small the file is
    /// (libguestfs makes a transfer of it); this costs 10.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) async fn read(&mut self, path: &str, size: usize) -> Result<Vec<u8>, CustomizeError> {
        let doing = format!("reading {path}");
        let mut content = Vec::with_capacity(size);
        while content.len() < size {
            let count = READ_MAX.min(size - content.len());
            let command = format!("pread {} {count} {}\necho {MARK}\n", quoted(path.as_bytes()), content.len());
            self.say(&doing, &command).await?;
            content.extend(self.session.bytes(count).await.map_err(|_| unsaid(&doing))?);
            if !self.answer(&doing).await?.is_empty() {
                return Err(unsaid(&doing));
            }
        }
        Ok(content)
    }

    async fn say(&mut self, doing: &str, text: &str) -> Result<(), CustomizeError> {
        self.session.send(text).await.map_err(|_| unsaid(doing))
    }

    async fn answer(&mut self, doing: &str) -> Result<String, CustomizeError> {
        let mut answer = String::new();
        loop {
            match self.session.line().await? {
                Some(line) if line == MARK => return Ok(answer),
                Some(line) => {
                    answer.push_str(&line);
                    answer.push('\n');
                }
                None => return Err(unsaid(doing)),
            }
        }
    }

    /// Lets it end.
    pub(super) async fn end(self, cancel: &CancellationToken) -> Result<(), CustomizeError> {
        Ok(self.session.end(END_LIMIT, cancel).await?)
    }

    /// Waits for the end of a guestfish that gave up, and says why it did.
    pub(super) async fn failure(self, doing: String, cancel: &CancellationToken) -> CustomizeError {
        match self.session.end(END_LIMIT, cancel).await {
            Ok(()) => CustomizeError::Guestfs { doing, message: "guestfish ended without a word".to_owned() },
            Err(ToolError::Failed { stderr, .. }) => {
                let last = stderr.lines().next_back().unwrap_or_default();
                let reason = PREFIXES.iter().find_map(|prefix| last.split_once(prefix)).map_or(last, |(_, rest)| rest);
                CustomizeError::Guestfs { doing, message: reason.to_owned() }
            }
            Err(ToolError::Cancelled { .. }) => CustomizeError::Cancelled,
            Err(error) => error.into(),
        }
    }

    /// Ends it with its appliance.
    pub(super) async fn stop(self) {
        drop(self.sockets);
        self.session.stop().await;
    }
}

fn unsaid(doing: &str) -> CustomizeError {
    CustomizeError::Guestfs { doing: doing.to_owned(), message: String::new() }
}

/// A word of a command in guestfish's quotes. Bytes but the plainest are written as escapes, so nothing can end the
/// quotes or the line.
pub(super) fn quoted(word: &[u8]) -> String {
    let mut text = String::with_capacity(word.len() + 2);
    text.push('"');
    for byte in word {
        match byte {
            b'"' | b'\\' | 0..=31 | 127.. => {
                let _ = write!(text, "\\x{byte:02x}");
            }
            plain => text.push(char::from(*plain)),
        }
    }
    text.push('"');
    text
}

/// The folder in `/tmp` where libguestfs keeps its sockets when root uses it, whatever it is told; it stays when
/// guestfish is killed. Removed on drop.
#[derive(Debug)]
struct Sockets {
    process: Option<u32>,
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for folder in self.process.map(socket_folders).unwrap_or_default() {
            // It is gone already if guestfish ended by itself.
            drop(std::fs::remove_dir_all(folder));
        }
    }
}

/// The folders, by the sockets that the process itself has open.
fn socket_folders(process: u32) -> Vec<PathBuf> {
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    let inodes: Vec<String> = open
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let mut folders: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [.., inode, path] = words.as_slice() else { return None };
            let folder = PathBuf::from(path).parent()?.to_owned();
            let ours = folder.parent()? == std::path::Path::new("/tmp")
                && folder.file_name()?.to_str()?.starts_with("libguestfs");
            (ours && inodes.iter().any(|known| known == inode)).then_some(folder)
        })
        .collect();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_in_quotes_has_nothing_that_means_something() {
        assert_eq!(quoted(b"/etc/a b"), "\"/etc/a b\"");
        assert_eq!(quoted("\"\\\n\u{e9}".as_bytes()), "\"\\x22\\x5c\\x0a\\xc3\\xa9\"");
    }

    proptest! {
        #[test]
        fn no_bytes_end_the_quotes_or_the_line(word in proptest::collection::vec(any::<u8>(), 0..60)) {
            let text = quoted(&word);
            let inner = &text[1..text.len() - 1];
            prop_assert!(!inner.contains(['"', '\n', '\r']) && text.is_ascii());
        }
    }
}
