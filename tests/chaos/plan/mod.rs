//! What happens in a run, worked out from its seed before anything is started: machines, jobs and faults on one time-line.
//!
//! Pure: the same seed is the same plan, whatever the machine. What the daemons make of it differs from run to run in the order of
//! milliseconds, so a seed that failed is run again with the same faults at the same moments.
//!
//! | file | owns |
//! | --- | --- |
//! | this file | the plan, and what is asked for |
//! | [`fault`] | what goes wrong, and when |

pub(crate) mod fault;
#[cfg(test)]
mod tests;

use maglica_proto::{
    id::JobId,
    job::{JobSpec, VmRef},
};
use serde::Serialize;
use uuid::Uuid;

use self::fault::{Blow, Kit};
use crate::dice::Dice;

/// From the first job to the end of the last fault, in milliseconds.
pub(crate) const LENGTH_MS: u64 = 3_000;
/// At most so many hosts.
pub(crate) const HOSTS_MAX: usize = 4;

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    /// Where it is from.
    pub(crate) seed: u64,
    /// How many hosts.
    pub(crate) hosts: usize,
    /// Whether the daemons' clocks can be moved.
    pub(crate) clocks: bool,
    /// The machines.
    pub(crate) machines: Vec<Machine>,
    /// What each client asks, in order.
    pub(crate) clients: Vec<Vec<Wish>>,
    /// What goes wrong, in order.
    pub(crate) blows: Vec<Blow>,
}

/// A machine that is there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Machine {
    /// Its name.
    pub(crate) name: String,
    /// Its UUID.
    pub(crate) uuid: Uuid,
    /// Its host.
    pub(crate) host: usize,
    /// Whether it runs.
    pub(crate) running: bool,
}

/// Something that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Wish {
    /// Not before this moment.
    pub(crate) at: u64,
    /// The random part of its id; the other part is the time at which the run begins, for old ids are refused.
    pub(crate) random: [u8; 10],
    /// What.
    pub(crate) spec: JobSpec,
    /// Over two connections at the same time.
    pub(crate) twice: bool,
    /// Again so many milliseconds after it was answered.
    pub(crate) again: Option<u64>,
    /// Cancelled so many milliseconds after it was answered.
    pub(crate) cancel: Option<u64>,
    /// Looked at so many milliseconds after all that.
    pub(crate) look: Option<u64>,
}

impl Wish {
    /// The id of the job, in a run that begins at this moment (milliseconds since 1970).
    pub(crate) fn id(&self, began_ms: u64) -> JobId {
        uuid::Builder::from_unix_timestamp_millis(began_ms + self.at, &self.random).into_uuid().into()
    }
}

impl Plan {
    /// The plan of a seed, with the faults that this machine can make.
    pub(crate) fn new(seed: u64, kit: Kit) -> Self {
        let mut dice = Dice::new(seed, "world");
        let hosts = dice.index(HOSTS_MAX - 1) + 2;
        let machines = machines(&mut dice, hosts);
        let clients = clients(seed, &machines);
        let (clocks, blows) = fault::blows(seed, hosts, kit);
        Self { seed, hosts, clocks, machines, clients, blows }
    }
}

fn uuid(dice: &mut Dice) -> Uuid {
    let bytes = (u128::from(dice.roll()) << 64 | u128::from(dice.roll())).to_be_bytes();
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn machines(dice: &mut Dice, hosts: usize) -> Vec<Machine> {
    let mut machines = Vec::new();
    for host in 0..hosts {
        for number in 0..dice.within(4..11) {
            let name = format!("h{host}m{number}");
            machines.push(Machine { name, uuid: uuid(dice), host, running: dice.percent(40) });
        }
    }
    machines
}

fn clients(seed: u64, machines: &[Machine]) -> Vec<Vec<Wish>> {
    let count = Dice::new(seed, "clients").within(3..6);
    (0..count)
        .map(|client| {
            let mut dice = Dice::new(seed, &format!("client {client}"));
            let mut wishes: Vec<Wish> = (0..dice.within(4..12)).map(|_| wish(&mut dice, machines)).collect();
            wishes.sort_by_key(|wish| wish.at);
            wishes
        })
        .collect()
}

fn wish(dice: &mut Dice, machines: &[Machine]) -> Wish {
    let machine = dice.pick(machines);
    let vm =
        VmRef { name: machine.name.parse().unwrap_or_else(|_| unreachable!("names of plans are good")), host: None };
    let spec = match dice.within(0..100) {
        0..40 => JobSpec::Start(vm),
        40..60 => JobSpec::Stop { vm, timeout_s: 20 },
        60..85 => JobSpec::Destroy(vm),
        _ => JobSpec::Remove(vm),
    };
    let some = |dice: &mut Dice, chance, most| dice.percent(chance).then(|| dice.within(0..most));
    let at = dice.within(0..LENGTH_MS);
    let random: [u8; 10] = std::array::from_fn(|_| dice.roll().to_be_bytes()[0]);
    Wish {
        at,
        random,
        spec,
        twice: dice.percent(15),
        again: some(dice, 25, 800),
        cancel: some(dice, 15, 250),
        look: some(dice, 50, 600),
    }
}
