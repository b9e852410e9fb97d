//! A terminal of the test's own, on which a command runs and a test types as a person does.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

use crate::wait::{wait_until, when};

/// A command on a terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    /// The command's end, kept open so that its modes can be looked at after the command.
    end: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs the command with stdin, stdout and stderr on it.
    ///
    /// # Panics
    /// If there is no terminal to be had, or the command cannot be run.
    #[must_use]
    pub fn run(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there is a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it can be opened");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let name = name.to_str().expect("of letters");
        let end = OpenOptions::new().read(true).write(true).open(name).expect("it can be opened");
        let another = || end.try_clone().expect("a file can be opened twice");
        command.stdin(another()).stdout(another()).stderr(another());
        let child = command.spawn().expect("the command can be run");
        let keyboard = File::from(master);
        let mut shown = keyboard.try_clone().expect("a file can be opened twice");
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let written = screen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = shown.read(&mut buffer) {
                written.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
            }
        });
        Self { child, keyboard, end, screen }
    }

    /// All that was shown so far.
    #[must_use]
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Types.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn keys(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until this was shown.
    ///
    /// # Panics
    /// If it is not within the limit.
    #[track_caller]
    pub fn wait(&self, text: &str, limit: Duration) {
        wait_until(&format!("{text:?} on the terminal"), limit, || {
            let screen = self.screen();
            when(screen.contains(text), screen)
        });
    }

    /// Forgets what was shown.
    pub fn clear(&self) {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether the terminal shows what is typed and waits for the end of lines, as a shell leaves it.
    ///
    /// # Panics
    /// If the terminal is gone.
    #[must_use]
    pub fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.end).expect("a terminal has modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Sends the command a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for the command's end.
    ///
    /// # Panics
    /// If it does not end within the limit.
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let screen = self.screen.clone();
        wait_until("the command ends", limit, || {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            let shown = || String::from_utf8_lossy(&screen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
            ended.ok_or_else(shown)
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
