//! Placement: on which host a clone is made. Pure policy: facts in, a choice with its reasons out.
//!
//! Among hosts that have the image, are up, and have the memory, the processors and a pool with room: the lowest
//! `active domains × 10 / weight`, as Maglica always did; ties go to the fewest virtual processors for each of the host's own,
//! then to the most free memory, then to the name. What can refuse a host is in [`refusal`].

mod refusal;
mod room;
#[cfg(test)]
mod tests;

use maglica_proto::{
    fault::{Code, Fault},
    job::Task,
    name::{DomainName, GroupName, HostName, PoolName},
    net::MacAddr,
    placement::{Considered, Verdict, score_text},
    request::{ImageState, Presence},
    units::ByteSize,
};

use self::refusal::{Refusal, refusal};
pub use self::room::PoolRoom;

/// What placement knows of a host.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its name.
    pub name: HostName,
    /// Whether it is there.
    pub presence: Presence,
    /// Its weight.
    pub weight: u32,
    /// Running domains, and clones on their way there.
    pub active: u32,
    /// Free memory, what is on its way taken off.
    pub memory_free: ByteSize,
    /// Logical processors; none while not known.
    pub cpus: Option<u32>,
    /// Virtual processors of its running domains.
    pub vcpus: u32,
    /// The image there.
    pub image: Option<ImageThere>,
    /// Its pools, what is on its way taken off.
    pub pools: Vec<PoolRoom>,
    /// The machines there, and on their way there, of the group that is wanted.
    pub group: Vec<DomainName>,
}

/// The image as a host has it.
#[derive(Debug, Clone)]
pub struct ImageThere {
    /// Whether it can be cloned.
    pub state: ImageState,
    /// What is wrong with its disks, if anything is.
    pub trouble: Option<String>,
    /// The memory that a clone takes.
    pub memory: ByteSize,
    /// The virtual processors that a clone has.
    pub vcpus: u32,
    /// What the disks of a clone take up at the least; none if that is not known.
    pub disk: Option<ByteSize>,
    /// The pool of its first disk.
    pub home: Option<PoolName>,
    /// Whether all its disks are raw.
    pub raw: bool,
}

/// A clone on its way to a host.
#[derive(Debug, Clone)]
pub struct Coming {
    /// To which.
    pub host: HostName,
    /// Its name.
    pub name: DomainName,
    /// The group that it is of.
    pub group: Option<GroupName>,
    /// The memory that it will take; none if it is not to be started.
    pub memory: Option<ByteSize>,
    /// What its disks will take up, and in which pool, where that is known.
    pub disk: Option<(ByteSize, Option<PoolName>)>,
    /// The addresses that it will have.
    pub macs: Vec<MacAddr>,
}

impl Coming {
    /// What a task is going to bring to its host, if it is a clone.
    #[must_use]
    pub fn of(host: &HostName, task: &Task) -> Option<Self> {
        match task {
            Task::Clone(task) => Some(Self {
                host: host.clone(),
                name: task.spec.name.clone().into(),
                group: task.spec.anti_affinity.clone(),
                memory: task.spec.start.then_some(task.memory),
                disk: task.disk.map(|disk| (disk, task.spec.pool.clone())),
                macs: task.macs.clone(),
            }),
            Task::Start(_)
            | Task::Stop { .. }
            | Task::Destroy(_)
            | Task::Remove(_)
            | Task::Change { .. }
            | Task::Snapshot { .. }
            | Task::Image(_) => None,
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The image.
    pub image: &'a DomainName,
    /// The host, if not any.
    pub on: Option<&'a HostName>,
    /// The group of which no two are to be on one host.
    pub group: Option<&'a GroupName>,
    /// The pool, if not any.
    pub pool: Option<&'a PoolName>,
    /// Whether the clone will be started, so that it needs memory.
    pub start: bool,
}

/// All hosts as they were judged: the best first, then the others that could have it, then those that cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The hosts.
    pub considered: Vec<Considered>,
    /// Why it can be on none, if so.
    pub fault: Option<Fault>,
}

impl Judgement {
    /// The host that was chosen.
    #[must_use]
    pub fn chosen(&self) -> Option<&HostName> {
        self.considered.first().filter(|first| first.verdict == Verdict::Chosen).map(|first| &first.host)
    }

    /// A line for each host: why it, or why not.
    #[must_use]
    pub fn why(&self) -> Vec<String> {
        self.considered.iter().map(line).collect()
    }
}

fn line(considered: &Considered) -> String {
    let Considered { host, verdict, score_centi, active, weight, memory_free, .. } = considered;
    let (word, score) = match verdict {
        Verdict::Refused { reason, .. } => return format!("not {host}: {reason}"),
        Verdict::Chosen => ("chosen", score_text(*score_centi)),
        Verdict::Possible => ("not", score_text(*score_centi)),
    };
    format!("{word} {host}: {active} active × 10 / weight {weight} = {score}, {memory_free} free")
}

/// A candidate's score in hundredths; the lowest wins.
fn score(candidate: &Candidate) -> u64 {
    u64::from(candidate.active) * 1000 / u64::from(candidate.weight.max(1))
}

/// Virtual processors for each of the host's own, in hundredths.
fn load(candidate: &Candidate) -> u64 {
    u64::from(candidate.vcpus) * 100 / u64::from(candidate.cpus.unwrap_or(1).max(1))
}

/// Judges all hosts.
#[must_use]
pub fn judge(candidates: &[Candidate], wish: &Wish<'_>) -> Judgement {
    let (mut fit, mut refused) = (Vec::new(), Vec::new());
    for candidate in candidates {
        match refusal(candidate, wish) {
            None => fit.push(candidate),
            Some(why) => refused.push((candidate, why)),
        }
    }
    fit.sort_by_key(|host| (score(host), load(host), std::cmp::Reverse(host.memory_free), &host.name));
    let fault = fit.is_empty().then(|| no_host(&refused, wish));
    let fits = fit.into_iter().enumerate().map(|(place, candidate)| {
        let verdict = if place == 0 { Verdict::Chosen } else { Verdict::Possible };
        considered(candidate, verdict, wish)
    });
    let refused = refused.iter().map(|(candidate, why)| {
        considered(candidate, Verdict::Refused { code: why.code(), reason: why.to_string() }, wish)
    });
    Judgement { considered: fits.chain(refused).collect(), fault }
}

fn considered(candidate: &Candidate, verdict: Verdict, wish: &Wish<'_>) -> Considered {
    let pool = candidate.image.as_ref().and_then(|image| room::choose(&candidate.pools, image, wish.pool).ok()?);
    Considered {
        host: candidate.name.clone(),
        verdict,
        presence: candidate.presence,
        score_centi: score(candidate),
        active: candidate.active,
        weight: candidate.weight,
        memory_free: candidate.memory_free,
        cpus: candidate.cpus,
        vcpus: candidate.vcpus,
        pool: pool.map(|pool| pool.name.clone()),
        pool_free: pool.map(|pool| pool.free),
    }
}

/// A fault that says for each host why it cannot be. Where all agree on the kind of reason, that is the fault's code.
fn no_host(refused: &[(&Candidate, Refusal)], wish: &Wish<'_>) -> Fault {
    // What counts is what the hosts that could have it say: those that merely lack the image only if all lack it.
    let asked = refused.iter().filter(|(candidate, _)| wish.on.is_none_or(|on| candidate.name == *on));
    let all: Vec<&(&Candidate, Refusal)> = asked.collect();
    let with_image: Vec<_> = all.iter().copied().filter(|(_, why)| !matches!(why, Refusal::NoImage { .. })).collect();
    let lacking = with_image.is_empty();
    let telling = if lacking { all } else { with_image };
    let code = match telling.split_first() {
        Some(((_, first), rest)) if rest.iter().all(|(_, why)| why.code() == first.code()) => first.code(),
        Some(_) | None => Code::NoHost,
    };
    let reasons: Vec<String> = telling.iter().map(|(candidate, why)| format!("{}: {why}", candidate.name)).collect();
    let message = match &reasons[..] {
        [] => "no host is enrolled yet".to_owned(),
        [..] if lacking => format!("no host has an image {}", wish.image),
        [one] => format!("no host can take it: {one}"),
        many => format!("no host can take it: {}", many.join("; ")),
    };
    let about = telling.iter().find_map(|(_, why)| why.object()).unwrap_or_else(|| wish.image.to_string());
    Fault::new(code, message).about(about)
}
