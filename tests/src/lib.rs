//! What Maglica's end-to-end tests are made of: the real programs, in a cloud of their own for each test.
//!
//! | module | owns |
//! | --- | --- |
//! | [`cloud`] | one client worker, its host workers and the command, in a folder and on an address of their own |
//! | [`daemon`] | one daemon: start, stop, kill, stall, failure points, log |
//! | [`command`] | running `maglica`, and what came of it |
//! | [`fleet`] | many host workers that have no hypervisor, for figures
//! | [`guest`] | a running guest of the real hypervisor, asked by its agent |
//! | [`lab`] | complete libvirt hosts on this machine, by `scripts/lab` |
//! | [`libvirt`] | the real libvirt of this machine: an image, a pool, and what is left behind |
//! | [`libvirtd`] | a libvirtd of a test's own, with libvirt's in-memory driver |
//! | [`node`] | hosts of libvirt's in-memory driver |
//! | [`peer`] | a peer that the test plays itself, honest or not |
//! | [`relay`] | a connection that the test can cut |
//! | [`wait`] | waiting for a level, with a limit |
//! | [`programs`] | where the built programs are |

pub mod cloud;
pub mod command;
pub mod daemon;
pub mod fleet;
pub mod guest;
pub mod lab;
pub mod libvirt;
pub mod libvirtd;
pub mod node;
pub mod peer;
pub mod programs;
pub mod relay;
pub mod terminal;
pub mod wait;
