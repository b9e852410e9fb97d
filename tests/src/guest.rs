//! A running guest, asked by its own agent: no packet is sent to it.

use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::{libvirt::virsh, wait::wait_until};

/// How long a program in an emulated guest may take that shares two cores with another.
const LIMIT: Duration = Duration::from_secs(60);

/// A guest.
#[derive(Debug)]
pub struct Guest<'a> {
    domain: &'a str,
}

impl<'a> Guest<'a> {
    /// That of this domain.
    #[must_use]
    pub const fn of(domain: &'a str) -> Self {
        Self { domain }
    }

    fn ask(&self, command: &Value) -> Value {
        let answer = virsh(&["qemu-agent-command", "--timeout", "30", self.domain, &command.to_string()]);
        let answer: Value = serde_json::from_str(&answer).expect("the agent answers in JSON");
        answer["return"].clone()
    }

    /// The name that the running system has.
    ///
    /// # Panics
    /// If the agent does not answer.
    #[must_use]
    pub fn host_name(&self) -> String {
        self.ask(&json!({"execute": "guest-get-host-name"}))["host-name"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs a program in the guest; gives its exit code and stdout.
    ///
    /// # Panics
    /// If it cannot be run or does not end.
    #[must_use]
    pub fn try_run(&self, program: &str, arguments: &[&str]) -> (i64, String) {
        let started = self.ask(&json!({
            "execute": "guest-exec",
            "arguments": {"path": program, "arg": arguments, "capture-output": true},
        }));
        let question = json!({"execute": "guest-exec-status", "arguments": {"pid": started["pid"]}});
        let ended = wait_until(&format!("{program} ends in {}", self.domain), LIMIT, || {
            let status = self.ask(&question);
            if status["exited"] == true { Ok(status) } else { Err(status.to_string()) }
        });
        let output =
            BASE64.decode(ended["out-data"].as_str().unwrap_or_default().as_bytes()).expect("the agent writes base64");
        (ended["exitcode"].as_i64().unwrap_or(-1), String::from_utf8_lossy(&output).into_owned())
    }

    /// Runs a program in the guest and gives its stdout.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let (code, output) = self.try_run(program, arguments);
        assert_eq!(code, 0, "{program} {arguments:?} in {}: {output}", self.domain);
        output
    }

    /// A file of the guest's.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn file(&self, path: &str) -> String {
        self.run("/bin/cat", &[path])
    }

    /// Waits until a program in the guest succeeds; gives its stdout. For what the guest still does after its agent answers.
    pub fn wait_run(&self, program: &str, arguments: &[&str]) -> String {
        let until = Instant::now() + LIMIT;
        loop {
            match self.try_run(program, arguments) {
                (0, output) => return output,
                (code, output) => {
                    assert!(
                        Instant::now() < until,
                        "{program} {arguments:?} in {} goes on failing: {code} {output}",
                        self.domain
                    );
                }
            }
        }
    }
}
