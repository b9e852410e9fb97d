//! The built command, from outside: its stdout, stderr and exit code.
//!
//! | file | what |
//! | --- | --- |
//! | `place` | a folder with keys and configuration, and running the command in it |
//! | `worker` | something that speaks as the client worker does, over real sockets and real sealing, with answers of the test's own |
//! | `terminal` | a terminal of the test's own |
//! | `usage` | what is refused before anything is sent |
//! | `listing`, `jobs`, `trust`, `audit` | what is shown of the answers |

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

mod audit;
mod jobs;
mod listing;
mod place;
mod terminal;
mod trust;
mod usage;
mod worker;
