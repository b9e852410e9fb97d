//! Where the built programs are: `$MAGLICA_BIN_DIR`, otherwise the folder that the test itself was built into.
//!
//! Tests that make a daemon die at a chosen moment need daemons built with the feature `failpoints`; `scripts/test` does.

use std::path::{Path, PathBuf};

/// The variable that names the folder.
const VARIABLE: &str = "MAGLICA_BIN_DIR";

/// The path of a built program.
///
/// # Panics
/// If it is not there, with the command that builds it.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os(VARIABLE).map_or_else(beside_this_test, PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.is_file(),
        "there is no {}; build it: cargo build --workspace --features \
         maglica-client-worker/failpoints,maglica-host-worker/failpoints",
        path.display()
    );
    path
}

/// `target/debug/deps/test-0123` is two below `target/debug`, a program of the tests' own is in it.
fn beside_this_test() -> PathBuf {
    let own = std::env::current_exe().expect("a running test has a path");
    let folder = own.parent().expect("a test is in a folder");
    let built = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    built.map(Path::to_owned).expect("a test is in a folder of the target folder")
}
