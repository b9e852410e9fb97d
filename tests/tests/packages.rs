//! The Debian packages, with the real dpkg in a copy of this system: `scripts/test-packages` is the test.

use std::{path::Path, process::Command};

use maglica_tests::{command::run, programs::program};

#[test]
fn packages_are_installed_upgraded_removed_and_purged_without_losing_a_job() {
    let bin = program("maglica");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/test-packages");
    let mut command = Command::new(script);
    command.env("MAGLICA_BIN_DIR", bin.parent().expect("a program lies in a folder"));
    let output = run(command, "");
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains("ok: nothing is left"), "{}", output.stderr);
}
