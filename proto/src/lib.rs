//! What Maglica's programs say to one another.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`name`], [`units`], [`id`], [`net`] | validated names, sizes, times, ids and addresses: checked once, at the edge |
//! | [`request`] | what an operator asks of the client worker, and the answers |
//! | [`status`] | how the client worker is, for `maglica status` and monitors |
//! | [`placement`] | where a new machine would go, and why |
//! | [`news`] | what happens, for `maglica watch` |
//! | [`console`] | what is typed into a serial console and shown by it; the log of a serial port |
//! | [`host`] | what a host worker reports and asks, and what is broadcast to it |
//! | [`job`] | a job: what it should do, its life, its events, its outcome |
//! | [`inventory`], [`change`] | what a host has: domains, images, pools, capacity; what changed of it |
//! | [`fault`] | an error as it travels: code, sentence, object |
//! | [`audit`] | who asked for what: the lines of the audit and their chain |
//! | [`text`] | which characters are fit to be shown |
//! | [`codec`] | MessagePack; the only user of `rmp-serde` |
//! | [`join`] | how a new host or operator is let in |
//! | [`key`], [`seal`] | keys, fingerprints and tokens; Noise handshakes and sealed messages |
//! | [`transport`] (feature) | dialling out through the gate's checks |
//! | [`transfer`] (feature) | moving the content of disks between two machines |
//! | [`config`] (feature) | `maglica.conf`: its schema and how it is found |
//! | [`log`] (feature) | how both daemons log |
//!
//! Nothing here does I/O except the four features, which exist so that the programs that dial or read the
//! configuration share one implementation. The bytes are described in `PROTOCOL.md`.

pub mod audit;
pub mod change;
pub mod codec;
#[cfg(feature = "config")]
pub mod config;
pub mod console;
pub mod fault;
pub mod host;
pub mod id;
pub mod inventory;
pub mod job;
pub mod join;
pub mod key;
#[cfg(feature = "log")]
pub mod log;
pub mod name;
pub mod net;
pub mod news;
pub mod placement;
pub mod request;
pub mod seal;
pub mod status;
pub mod text;
#[cfg(feature = "transfer")]
pub mod transfer;
#[cfg(feature = "transport")]
pub mod transport;
pub mod units;
