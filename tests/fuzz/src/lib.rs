//! Fuzz targets: whatever of Maglica reads what a stranger, a guest or a file says.
//!
//! | target | reads | demands, besides: no panic, no hang, bounded memory |
//! | --- | --- | --- |
//! | [`gate`] | a stranger's bytes on 5555 and 5556 | whole or cut anywhere, the outcome is the same; only whole messages within the limits pass |
//! | [`session`] | sealed messages, forged and changed | nothing but the untouched original opens, and that once |
//! | [`handshake`] | first messages and answers | nothing but the untouched original is believed |
//! | [`messages`] | MessagePack of every kind | what reads, writes and reads back the same |
//! | [`configuration`] | `maglica.conf` | the same text says the same |
//! | [`credentials`] | invitations, keys, tokens, fingerprints, ids | what reads, prints as it was written |
//! | [`names`] | names, addresses, sizes | what reads, prints and reads back the same; the rules of each kind hold |
//! | [`domain_xml`] | a domain's description | a description that was read can be made a clone's, which reads back as wished |
//! | [`storage_xml`] | descriptions of pools, volumes, capabilities, disk chains | |
//! | [`guest_files`] | the files of a guest that is to be customized | only files that were read are changed; doing it twice is doing it once |
//! | [`guest_agent`] | what a guest's agent answers | what is believed of it is short and shows nothing but text |
//!
//! A target is a function, so that one program can hold them all. How they are run is in `docs/testing.md`.

pub mod configuration;
pub mod credentials;
pub mod domain_xml;
pub mod gate;
pub mod guest_agent;
pub mod guest_files;
pub mod handshake;
mod input;
mod memory;
pub mod messages;
pub mod names;
pub mod session;
pub mod storage_xml;

use std::sync::OnceLock;

const MIB: usize = 1 << 20;

/// Something to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of its file, its corpus, and what scripts/fuzz calls it.
    pub name: &'static str,
    /// How much memory one input may take.
    pub memory: usize,
    /// Panics when something is not as it should be.
    pub check: fn(&[u8]),
}

impl Target {
    /// Runs the target on one input, within its memory.
    pub fn run(&self, data: &[u8]) {
        memory::within(self.memory, || (self.check)(data));
    }
}

macro_rules! targets {
    ($($constant:ident = $module:ident, $mib:literal MiB;)+) => {
        $(
            #[doc = concat!("See [`", stringify!($module), "`].")]
            pub const $constant: Target =
                Target { name: stringify!($module), memory: $mib * MIB, check: $module::check };
        )+
        /// All targets.
        pub const TARGETS: &[Target] = &[$($constant),+];
    };
}

targets! {
    GATE = gate, 1 MiB;
    SESSION = session, 4 MiB;
    HANDSHAKE = handshake, 1 MiB;
    MESSAGES = messages, 4 MiB;
    CONFIGURATION = configuration, 32 MiB;
    CREDENTIALS = credentials, 1 MiB;
    NAMES = names, 1 MiB;
    DOMAIN_XML = domain_xml, 16 MiB;
    STORAGE_XML = storage_xml, 16 MiB;
    GUEST_FILES = guest_files, 16 MiB;
    GUEST_AGENT = guest_agent, 4 MiB;
}

/// The variable that names the target in the program that holds them all.
pub const VARIABLE: &str = "MAGLICA_FUZZ_TARGET";

/// The target that [`VARIABLE`] names.
///
/// # Panics
/// If there is none of that name.
pub fn chosen() -> &'static Target {
    static CHOSEN: OnceLock<&Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var(VARIABLE).unwrap_or_default();
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        let found = TARGETS.iter().find(|target| target.name == name);
        found.unwrap_or_else(|| panic!("{VARIABLE} is {name:?}; it must be one of {}", names.join(", ")))
    })
}
