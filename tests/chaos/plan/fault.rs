//! What goes wrong in a run. A seed has a few kinds of trouble rather than a little of each, so that each is met alone and together.

use serde::Serialize;

use super::LENGTH_MS;
use crate::dice::Dice;

/// What this machine can do: without root there are neither small disks nor read-only ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kit {
    /// Disks can be filled and made read-only.
    pub(crate) disks: bool,
    /// Clocks can be moved.
    pub(crate) clocks: bool,
}

/// Who is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Whom {
    /// The client worker.
    ClientWorker,
    /// This host's worker.
    Host(usize),
    /// The cables of this host.
    Cable(usize),
    /// The cable of the clients.
    Clients,
}

/// A fault at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Blow {
    /// When it begins, in milliseconds.
    pub(crate) at: u64,
    /// How long it lasts.
    pub(crate) lasts: u64,
    /// Whom it hits.
    pub(crate) whom: Whom,
    /// What it is.
    pub(crate) fault: Fault,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "fault")]
pub(crate) enum Fault {
    /// Killed, and started again after a while.
    Kill,
    /// Asked to end, and started again after a while.
    Stop,
    /// Stalled (SIGSTOP) for a while.
    Freeze,
    /// Killed, and started with failure points: it dies, or is slow, at a named place.
    Trap {
        /// The failure points.
        points: String,
    },
    /// Its disk has no room.
    DiskFull,
    /// Killed; its disk is then read-only for a while, and it must refuse to start.
    DiskReadOnly,
    /// Its clock is off by so many seconds for a while.
    Clock {
        /// By how many.
        offset_s: i64,
    },
    /// Messages are lost, late, repeated, reordered, damaged.
    Weather(Weather),
    /// No connection is possible and those that are end.
    Refuse,
    /// Bytes disappear in one direction or both, connections stay.
    Hole {
        /// From the daemon to the client worker.
        up: bool,
        /// To the daemon.
        down: bool,
    },
}

/// How many in a hundred messages suffer what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Weather {
    /// Lost.
    pub(crate) drop: u64,
    /// Held up, others pass meanwhile.
    pub(crate) delay: u64,
    /// By at most so many milliseconds.
    pub(crate) delay_ms: u64,
    /// Delivered twice.
    pub(crate) repeat: u64,
    /// Questions that arrive long after the asker has gone.
    pub(crate) late: u64,
    /// Damaged.
    pub(crate) damage: u64,
}

impl Fault {
    /// The kind, for the count.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Freeze => "freeze",
            Self::Trap { .. } => "trap",
            Self::DiskFull => "disk full",
            Self::DiskReadOnly => "disk read-only",
            Self::Clock { .. } => "clock jump",
            Self::Weather(_) => "weather",
            Self::Refuse => "cut",
            Self::Hole { up: true, down: true } => "black hole",
            Self::Hole { .. } => "one-way black hole",
        }
    }
}

/// The places at which a host worker can be made to die.
const HOST_TRAPS: [&str; 14] = [
    "accept.before",
    "accept.after",
    "start.check.after",
    "start.start.before",
    "start.start.after",
    "stop.stop.before",
    "stop.stop.after",
    "destroy.stop.before",
    "destroy.stop.after",
    "remove.remove.before",
    "remove.remove.after",
    "ended.before",
    "report.before",
    "report.after",
];
/// And those at which it can be made to take its time, so that other faults and cancels meet it at work.
const HOST_DELAYS: [&str; 5] =
    ["start.start.before", "stop.stop.before", "destroy.stop.before", "remove.remove.before", "start.start.after"];
/// And those of the client worker.
const CLIENT_WORKER_TRAPS: [&str; 2] = ["store.before-commit", "store.after-commit"];
/// Clocks go wrong by that much: a second, minutes, a summer time's hour, a day, the wrong year.
const OFFSETS_S: [i64; 8] = [1, -1, 300, -300, 3_600, -3_600, 86_400, -31_536_000];

/// The faults of a seed in the order of time, and whether clocks are moved.
pub(super) fn blows(seed: u64, hosts: usize, kit: Kit) -> (bool, Vec<Blow>) {
    let mut dice = Dice::new(seed, "faults");
    let mut blows = Vec::new();
    let clocks = kit.clocks && dice.percent(20);
    for _ in 0..dice.within(2..8) {
        let blow = match dice.within(0..100) {
            0..22 => killing(&mut dice, hosts),
            22..40 => trap(&mut dice, hosts),
            40..52 => frozen(&mut dice, hosts),
            52..72 => cut(&mut dice, hosts),
            72..90 => weather(&mut dice, hosts),
            90..95 if kit.disks => disk(&mut dice, hosts, Fault::DiskReadOnly, 100..600),
            _ if kit.disks => disk(&mut dice, hosts, Fault::DiskFull, 200..1_500),
            _ => killing(&mut dice, hosts),
        };
        blows.push(blow);
    }
    // Both sides at once, as a power cut does.
    if dice.percent(10) {
        let at = moment(&mut dice);
        for whom in [Whom::ClientWorker, Whom::Host(dice.index(hosts))] {
            blows.push(Blow { at, lasts: dice.within(20..700), whom, fault: Fault::Kill });
        }
    }
    if clocks {
        for _ in 0..dice.within(1..4) {
            let fault = Fault::Clock { offset_s: *dice.pick(&OFFSETS_S) };
            blows.push(Blow {
                at: moment(&mut dice),
                lasts: dice.within(200..2_000),
                whom: daemon(&mut dice, hosts),
                fault,
            });
        }
    }
    blows.sort_by_key(|blow| blow.at);
    (clocks, blows)
}

fn moment(dice: &mut Dice) -> u64 {
    dice.within(0..LENGTH_MS - 200)
}

fn daemon(dice: &mut Dice, hosts: usize) -> Whom {
    if dice.percent(45) { Whom::ClientWorker } else { Whom::Host(dice.index(hosts)) }
}

fn cable(dice: &mut Dice, hosts: usize) -> Whom {
    if dice.percent(25) { Whom::Clients } else { Whom::Cable(dice.index(hosts)) }
}

fn killing(dice: &mut Dice, hosts: usize) -> Blow {
    let fault = if dice.percent(70) { Fault::Kill } else { Fault::Stop };
    Blow { at: moment(dice), lasts: dice.within(10..900), whom: daemon(dice, hosts), fault }
}

fn trap(dice: &mut Dice, hosts: usize) -> Blow {
    let whom = daemon(dice, hosts);
    let after = dice.within(0..6);
    let points = if whom == Whom::ClientWorker {
        format!("{}={after}*off->return(abort)", dice.pick(&CLIENT_WORKER_TRAPS))
    } else if dice.percent(65) {
        format!("{}={}*off->return(abort)", dice.pick(&HOST_TRAPS), after.min(2))
    } else {
        format!("{}=sleep({})", dice.pick(&HOST_DELAYS), dice.within(50..600))
    };
    Blow { at: moment(dice), lasts: dice.within(10..100), whom, fault: Fault::Trap { points } }
}

fn frozen(dice: &mut Dice, hosts: usize) -> Blow {
    // Sometimes for longer than a host may be silent before it counts as down.
    let lasts = if dice.percent(35) { dice.within(1_500..2_300) } else { dice.within(50..900) };
    Blow { at: moment(dice), lasts, whom: daemon(dice, hosts), fault: Fault::Freeze }
}

fn cut(dice: &mut Dice, hosts: usize) -> Blow {
    let fault = match dice.within(0..4) {
        0 => Fault::Refuse,
        1 => Fault::Hole { up: true, down: false },
        2 => Fault::Hole { up: false, down: true },
        _ => Fault::Hole { up: true, down: true },
    };
    let lasts = if dice.percent(35) { dice.within(1_500..2_300) } else { dice.within(50..900) };
    Blow { at: moment(dice), lasts, whom: cable(dice, hosts), fault }
}

fn weather(dice: &mut Dice, hosts: usize) -> Blow {
    let mut rate = |most| if dice.percent(50) { dice.within(1..most) } else { 0 };
    let weather = Weather {
        drop: rate(20),
        delay: rate(60),
        delay_ms: 20 + rate(500),
        repeat: rate(30),
        late: rate(25),
        damage: rate(10),
    };
    Blow {
        at: moment(dice),
        lasts: dice.within(500..LENGTH_MS),
        whom: cable(dice, hosts),
        fault: Fault::Weather(weather),
    }
}

fn disk(dice: &mut Dice, hosts: usize, fault: Fault, lasts: std::ops::Range<u64>) -> Blow {
    Blow { at: moment(dice), lasts: dice.within(lasts), whom: daemon(dice, hosts), fault }
}
