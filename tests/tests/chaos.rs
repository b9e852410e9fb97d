//! A bounded number of the runs that `scripts/chaos` makes: the same seeds each time, as many as fit into the time.

use std::process::Command;

/// More than two cores can do in that time.
const SEEDS: &str = "0..200";
/// After so many seconds no further run begins.
const SECONDS: &str = "60";

#[test]
fn seeded_runs_under_fault_lose_nothing_and_double_nothing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maglica-chaos"));
    command.args(["--seeds", SEEDS, "--seconds", SECONDS, "--parallel", "3", "--keep"]).arg(kept());
    let output = command.output().expect("chaos can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let ran: u64 = said
        .lines()
        .find_map(|line| line.strip_prefix("chaos: ")?.split_once(" seeds, ")?.0.parse().ok())
        .unwrap_or_else(|| panic!("no closing line: {said}"));
    assert!(ran >= 5, "too few runs to mean anything: {said}");
}

/// Where the folder of a run that failed is found afterwards.
fn kept() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos")
}
