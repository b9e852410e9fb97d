//! A folder of its own for a test: keys, configuration, and the command run in it.

use std::{
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
};

use maglica_proto::{config::keyfile, key::KeyPair};
use tempfile::TempDir;

/// What the command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Asserts the exit code, and shows everything if it is another.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Asserts that stderr says this.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "stderr lacks {text:?}: {self:#?}");
        self
    }
}

/// A folder with keys and a configuration that names a port.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) operator: KeyPair,
    pub(crate) server: KeyPair,
}

impl Place {
    /// With keys, and a configuration for a client worker on this port.
    pub(crate) fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (operator, server) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let place = Self { folder, operator, server };
        keyfile::write_private(&place.path("key"), &place.operator).unwrap();
        keyfile::write_public(&place.path("server.pub"), place.server.public()).unwrap();
        place.configure(port);
        place
    }

    /// The configuration for a client worker on this port.
    pub(crate) fn configure(&self, port: u16) {
        let pub_port = if port == 1 { 2 } else { 1 };
        let text = format!(
            "client: {{host: 127.0.0.1, rep_port: {port}, pub_port: {pub_port}}}\noperator: {{key: {}, server_key: {}}}\n",
            self.path("key").display(),
            self.path("server.pub").display()
        );
        self.file("maglica.conf", &text);
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into it and gives its path as text.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    /// The command with these words, ready to run.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maglica"));
        command
            .args(words)
            .env_clear()
            .env("MAGLICA_CONFIG", self.path("maglica.conf"))
            .env("HOME", self.folder.path())
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command with these words.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        ran(self.command(words).output().unwrap())
    }

    /// Runs the command with a line as its stdin.
    pub(crate) fn run_with(&self, words: &[&str], line: &str) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        ran(child.wait_with_output().unwrap())
    }
}

fn ran(output: std::process::Output) -> Ran {
    Ran {
        code: output.status.code().expect("an exit code, not a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A port on which nobody listens: taken, and let go.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
