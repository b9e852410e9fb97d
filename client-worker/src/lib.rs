//! The client worker: takes requests, keeps the jobs, decides where they run and broadcasts them to the hosts.
//!
//! ```text
//! TCP 5556 ─▶ gate ─▶ bus ─▶ handler ─▶ job::desk ─▶ store        one owner for each piece of state:
//! TCP 5555 ◀─ gate ◀─ bus ◀─ job::delivery │ fleet │ trust        sessions, live jobs, fleet, register
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`gate`] | what a stranger can reach: whole, bounded, well-formed messages pass |
//! | [`bus`] | sockets and sessions: whose key asks, sealed both ways |
//! | [`handler`] | which role may ask what, and the answers |
//! | [`job`] | the jobs: their life, store and delivery |
//! | [`fleet`] | which hosts are there, and what they have |
//! | [`console`] | serial consoles that somebody looks at |
//! | [`serial_log`] | questions for the logs of serial ports |
//! | [`news`] | what happened lately, for those who watch |
//! | [`placement`] | on which host a clone is made |
//! | [`trust`] | the register of keys |
//! | [`audit`] | who asked for what, on the disk before it is done |
//! | [`meter`] | how often what strangers cause is said in the log |
//! | [`backup`] | backup and restore of the state folder |
//! | [`order`] | in which order a host said things |
//! | [`local`] | what makes it work on one machine without being set up |
//! | [`app`] | puts it together, and takes it down in order |

pub mod app;
pub mod audit;
pub mod backup;
pub mod bus;
pub mod console;
pub mod fleet;
pub mod gate;
pub mod handler;
pub mod job;
pub mod local;
pub mod news;
pub mod order;
pub mod ping;
pub mod placement;
pub mod serial_log;
pub mod similar;
pub mod trust;

/// A place where tests make the process die or fail (the `fail` crate; nothing without the feature `failpoints`).
pub(crate) fn failpoint(name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |action| {
        if action.as_deref() == Some("abort") {
            std::process::abort();
        }
    });
    let _ = name;
}
