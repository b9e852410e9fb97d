//! The two sockets of the client worker, and who speaks through them.
//!
//! | file | owns |
//! | --- | --- |
//! | [`port`] | the raw `zeromq` sockets behind the gate: opaque frames in and out |

pub mod port;
