//! A program that is talked to by its stdin and stdout, line by line, while it runs.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{ChildStdin, ChildStdout},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{STDERR_KEPT, Tail, Tool, ToolError, process::Process};

/// How long a line that the program prints may be, in bytes: one that never ends must not fill the memory.
const LINE_MAX: u64 = 64 * 1024;

/// A running program with open pipes. Dropping it kills the program and all that it started.
#[derive(Debug)]
pub struct Session {
    tool: Tool,
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<Tail>>,
    reader: JoinHandle<()>,
}

impl Session {
    pub(super) fn new(tool: Tool, mut process: Process) -> Self {
        let stdin = process.take_input();
        let (stdout, stderr) = process.take_output();
        let kept = Arc::new(Mutex::new(Tail::new(STDERR_KEPT)));
        let into = Arc::clone(&kept);
        // Ends with the program, whose end closes the pipe.
        let reader = tokio::spawn(async move {
            let Some(mut stderr) = stderr else { return };
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(chunk.get(..count).unwrap_or_default());
            }
        });
        Self { tool, process, stdin, stdout: stdout.map(BufReader::new), stderr: kept, reader }
    }

    /// Writes to the program's stdin.
    ///
    /// # Errors
    /// [`ToolError::Io`] if it does not read any more; [`end`](Self::end) then says why.
    pub async fn send(&mut self, text: &str) -> Result<(), ToolError> {
        let written = match &mut self.stdin {
            Some(stdin) => {
                async {
                    stdin.write_all(text.as_bytes()).await?;
                    stdin.flush().await
                }
                .await
            }
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|source| self.tool.io("writing to", source))
    }

    /// The next line of the program's stdout without its end; none if it closed it.
    ///
    /// # Errors
    /// [`ToolError::Io`] if it cannot be read or is longer than 64 KiB.
    pub async fn line(&mut self) -> Result<Option<String>, ToolError> {
        let Some(stdout) = &mut self.stdout else { return Ok(None) };
        let mut line = Vec::new();
        let read = stdout.take(LINE_MAX).read_until(b'\n', &mut line).await;
        if read.map_err(|source| self.tool.io("reading from", source))? == 0 {
            return Ok(None);
        }
        if line.pop_if(|last| *last == b'\n').is_none() && u64::try_from(line.len()).is_ok_and(|len| len >= LINE_MAX) {
            return Err(self.tool.io("reading from", io::Error::other("a line is too long")));
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    /// So many bytes of the program's stdout.
    ///
    /// # Errors
    /// [`ToolError::Io`] if it closes it before.
    pub async fn bytes(&mut self, count: usize) -> Result<Vec<u8>, ToolError> {
        let mut bytes = vec![0; count];
        let read = match &mut self.stdout {
            Some(stdout) => stdout.read_exact(&mut bytes).await.map(drop),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        read.map_err(|source| self.tool.io("reading from", source))?;
        Ok(bytes)
    }

    /// Its process id, while it is not known to have ended.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Closes its stdin and waits for its end.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub async fn end(mut self, limit: Duration, cancel: &CancellationToken) -> Result<(), ToolError> {
        drop(self.stdin.take());
        let stdout = self.stdout.take();
        let reader = &mut self.reader;
        let drain = async {
            Tail::new(0).fill(stdout).await;
            drop(reader.await);
        };
        let ended = self.process.finish(drain, limit, cancel).await;
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        self.tool.check(ended, &stderr)
    }

    /// Stops it: SIGTERM to its process group, SIGKILL five seconds later.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}
