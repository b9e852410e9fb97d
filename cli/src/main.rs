//! The command `maglica`: see the library for what is where.

use std::process::ExitCode;

fn main() -> ExitCode {
    maglica_cli::run(std::env::args_os())
}
