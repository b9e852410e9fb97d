//! The host's end of a guest's serial port: a pseudo-terminal that qemu made. Opened directly: libvirt's own stream would need its
//! event loop for what is read and typed at the same time.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
};

use rustix::fs::OFlags;
use tokio::io::unix::AsyncFd;

/// An open pseudo-terminal.
pub(super) struct Tty(AsyncFd<File>);

impl Tty {
    /// Opens the one of this path, if it is the path of one.
    ///
    /// # Errors
    /// It is none, or cannot be opened.
    pub(super) fn open(path: &str) -> io::Result<Self> {
        let number = path.strip_prefix("/dev/pts/").filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        if number.is_none_or(str::is_empty) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is no pseudo-terminal")));
        }
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        #[expect(deprecated, reason = "it is unsound for types that lie about their descriptor; a File does not")]
        AsyncFd::new(file).map(Self)
    }

    /// Reads what there is; waits for something. 0, or an error: the other end is closed.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(read) = ready.try_io(|file| file.get_ref().read(buffer)) {
                return read;
            }
        }
    }

    /// Types as much as the guest takes; waits until it takes something.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            if let Ok(written) = ready.try_io(|file| file.get_ref().write(bytes)) {
                return written;
            }
        }
    }
}
