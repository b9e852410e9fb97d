//! A terminal of the test's own, for what the command does only where a person sits.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    process::{Command, ExitStatus},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Runs the command with its stdin and stderr on a terminal, on which `typed` is typed; gives what was shown there.
pub(crate) fn run(mut command: Command, typed: &str) -> (ExitStatus, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    command.stdin(terminal.try_clone().unwrap()).stderr(terminal);
    let mut master = File::from(master);
    let mut child = command.spawn().unwrap();
    // The command keeps its ends of the terminal, and with them the reading below would never end.
    drop(command);
    master.write_all(typed.as_bytes()).unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    // When the last end is closed, reading fails.
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        said.extend_from_slice(&buffer[..read]);
    }
    (child.wait().unwrap(), String::from_utf8(said).unwrap())
}

/// What is left on the screen: lines that were drawn again show only as they were last.
pub(crate) fn screen(said: &str) -> String {
    said.lines().map(|line| line.rsplit("\x1b[2K").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}
