//! Hostile peers against the real daemons and the real command: over raw TCP, over ZMTP, and with keys of their own.
//!
//! | module | attacks |
//! | --- | --- |
//! | [`wire`] | below and at ZMTP: what a stranger can send without knowing what Maglica is |
//! | [`handshake`] | the handshake between keys: garbage, floods, replays, strangers |
//! | [`body`] | sealed by an enrolled key, and nonsense inside |
//! | [`roles`] | verbs of others, jobs of others, keys and tokens that are no longer good |
//! | [`replay`] | messages that were recorded |
//! | [`floods`] | too many connections, too few files, more questions than anybody needs |
//! | [`enrolled`] | a host that was let in and lies: too much, too often, of others |
//! | [`words`] | the same in words: lists, stories, logs |
//! | [`false_server`] | a client worker that is none, towards command and host worker; a man in the middle |
//!
//! [`target`] is what is attacked, and what has to hold after each case; [`raw`] says byte for byte what a case wants, [`liar`]
//! the same to those who dial;
//! [`random`] is repeatable. Everything is on loopback, and bounded in number and time. `scripts/hostile` prints what was
//! measured as the table that is in `docs/security.md`.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod body;
mod enrolled;
mod false_server;
mod floods;
mod handshake;
mod liar;
mod random;
mod raw;
mod replay;
mod roles;
mod target;
mod wire;
mod words;
