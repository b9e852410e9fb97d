//! Output of a program, of which the last part is kept.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How many lines of stderr an error carries: a Python traceback's end or a libvirt error with its context.
const LINES_SHOWN: usize = 8;
/// How long a line of stderr an error carries, in bytes: programs print whole command lines.
const LINE_SHOWN: usize = 400;
/// How much is read at once, in bytes.
const CHUNK: usize = 8 * 1024;

/// The last `limit` bytes of what was read.
#[derive(Debug)]
pub(super) struct Tail {
    kept: Vec<u8>,
    limit: usize,
    cut: bool,
}

impl Tail {
    pub(super) const fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), limit, cut: false }
    }

    /// Reads until the other end closes. A failed read ends it as well: the pipe is the program's, which tells of
    /// itself by its status.
    pub(super) async fn fill(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut chunk = [0; CHUNK];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            self.push(chunk.get(..count).unwrap_or_default());
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        // Twice the limit before cutting, so that the bytes are moved seldom.
        if self.kept.len() > self.limit.saturating_mul(2) {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let surplus = self.kept.len().saturating_sub(self.limit);
        if surplus > 0 {
            self.kept.drain(..surplus);
            self.cut = true;
        }
    }

    pub(super) const fn was_cut(&self) -> bool {
        self.cut || self.kept.len() > self.limit
    }

    pub(super) fn into_text(mut self) -> String {
        self.trim();
        String::from_utf8(self.kept).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// The last lines that are not empty, without control characters, each cut to a bearable length.
    pub(super) fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let mut lines: Vec<String> = text
            .split(['\n', '\r'])
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .rev()
            .take(LINES_SHOWN)
            .map(|line| line.chars().filter(|c| !c.is_control()).take(LINE_SHOWN).collect())
            .collect();
        lines.reverse();
        lines.join("\n")
    }
}
