//! Placement: on which host a clone is made. Pure policy: facts in, a choice with its reasons out.
//!
//! Among hosts that have the image, are up and have the memory: the lowest `active domains × 10 / weight`, as Maglica
//! always did; ties go to the most free memory, then to the name.

use maglica_proto::{
    fault::{Code, Fault},
    job::Task,
    name::{DomainName, HostName},
    net::MacAddr,
    request::{ImageState, Presence},
    units::ByteSize,
};

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
    /// The image there: whether it can be cloned, and the memory that a clone of it takes.
    pub image: Option<(ImageState, ByteSize)>,
    /// What is wrong with the image's disks there, if anything is.
    pub trouble: Option<String>,
}

/// A clone on its way to a host.
#[derive(Debug, Clone)]
pub struct Coming {
    /// To which.
    pub host: HostName,
    /// The memory that it will take; none if it is not to be started.
    pub memory: Option<ByteSize>,
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
                memory: task.spec.start.then_some(task.memory),
                macs: task.macs.clone(),
            }),
            Task::Start(_) | Task::Stop { .. } | Task::Destroy(_) | Task::Remove(_) => None,
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
    /// Whether the clone will be started, so that it needs memory.
    pub start: bool,
}

/// The host that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub host: HostName,
    /// Why, and why not the others.
    pub why: Vec<String>,
}

/// A candidate's score in hundredths; the lowest wins.
fn score(candidate: &Candidate) -> u64 {
    u64::from(candidate.active) * 1000 / u64::from(candidate.weight.max(1))
}

/// Why a candidate cannot take it.
fn refusal(candidate: &Candidate, wish: &Wish<'_>) -> Option<(Code, String)> {
    let Candidate { name, presence, memory_free, image, trouble, .. } = candidate;
    if wish.on.is_some_and(|on| on != name) {
        return Some((Code::NoHost, format!("{name}: another host is asked for")));
    }
    match presence {
        Presence::Up => {}
        Presence::Suspect | Presence::Down | Presence::Pending => {
            return Some((Code::HostDown, format!("{name}: it is {}", presence.as_str())));
        }
    }
    match image {
        None => Some((Code::NotFound, format!("{name}: it has no image {}", wish.image))),
        Some((ImageState::Running, _)) => {
            Some((Code::WrongState, format!("{name}: the image {} is running there", wish.image)))
        }
        Some((ImageState::Broken, _)) => {
            let trouble = trouble.as_deref().unwrap_or("it has no disk");
            Some((Code::Unsupported, format!("{name}: the image {} cannot be cloned: {trouble}", wish.image)))
        }
        Some((ImageState::Ready, memory)) if wish.start && memory > memory_free => {
            Some((Code::NoRoom, format!("{name}: the machine needs {memory} of memory, {memory_free} are free")))
        }
        Some((ImageState::Ready, _)) => None,
    }
}

/// Chooses a host.
///
/// # Errors
/// A fault that says for each host why it cannot be. Where all agree on the kind of reason, that is the fault's code.
pub fn choose(candidates: &[Candidate], wish: &Wish<'_>) -> Result<Choice, Fault> {
    let (mut fit, mut refused) = (Vec::new(), Vec::new());
    for candidate in candidates {
        match refusal(candidate, wish) {
            None => fit.push(candidate),
            Some(reason) => refused.push((candidate, reason)),
        }
    }
    fit.sort_by_key(|candidate| (score(candidate), std::cmp::Reverse(candidate.memory_free), &candidate.name));
    let Some(best) = fit.first() else {
        return Err(no_host(&refused, wish));
    };
    let describe = |candidate: &Candidate| {
        let score = score(candidate);
        format!(
            "{}: {} active × 10 / weight {} = {}.{:02}, {} free",
            candidate.name,
            candidate.active,
            candidate.weight,
            score / 100,
            score % 100,
            candidate.memory_free
        )
    };
    let mut why = vec![format!("chosen {}", describe(best))];
    why.extend(fit.iter().skip(1).map(|candidate| format!("not {}", describe(candidate))));
    why.extend(refused.into_iter().map(|(_, (_, reason))| format!("not {reason}")));
    Ok(Choice { host: best.name.clone(), why })
}

fn no_host(refused: &[(&Candidate, (Code, String))], wish: &Wish<'_>) -> Fault {
    // What counts is what the hosts that could have it say: those that merely lack the image only if all lack it.
    let telling: Vec<_> =
        refused.iter().filter(|(candidate, _)| wish.on.is_none_or(|on| candidate.name == *on)).collect();
    let with_image: Vec<_> = telling.iter().filter(|(_, (code, _))| *code != Code::NotFound).collect();
    let all: Vec<&(Code, String)> = if with_image.is_empty() {
        telling.iter().map(|(_, reason)| reason).collect()
    } else {
        with_image.iter().map(|(_, reason)| reason).collect()
    };
    let code = match all.split_first() {
        None => Code::NoHost,
        Some((first, rest)) => {
            if rest.iter().all(|(code, _)| *code == first.0) {
                first.0
            } else {
                Code::NoHost
            }
        }
    };
    let reasons: Vec<&str> = all.iter().map(|(_, reason)| reason.as_str()).collect();
    let message = match &reasons[..] {
        [] => "no host is enrolled yet".to_owned(),
        [..] if code == Code::NotFound => format!("no host has an image {}", wish.image),
        [one] => format!("no host can take it: {one}"),
        many => format!("no host can take it: {}", many.join("; ")),
    };
    Fault::new(code, message).about(wish.image.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(name: &str, active: u32, weight: u32, free_mib: u64) -> Candidate {
        Candidate {
            name: HostName::new(name).unwrap(),
            presence: Presence::Up,
            weight,
            active,
            memory_free: ByteSize::mib(free_mib),
            image: Some((ImageState::Ready, ByteSize::mib(512))),
            trouble: None,
        }
    }

    fn image() -> DomainName {
        DomainName::new("debian.original").unwrap()
    }

    #[test]
    fn the_least_loaded_host_by_weight_is_chosen_and_the_reasons_are_told() {
        let hosts = [candidate("a", 2, 10, 8000), candidate("b", 3, 30, 4000), candidate("c", 1, 10, 100)];
        let choice = choose(&hosts, &Wish { image: &image(), on: None, start: true }).unwrap();
        assert_eq!(choice.host.as_str(), "b");
        assert_eq!(
            choice.why,
            [
                "chosen b: 3 active × 10 / weight 30 = 1.00, 3.9 GiB free",
                "not a: 2 active × 10 / weight 10 = 2.00, 7.8 GiB free",
                "not c: the machine needs 512.0 MiB of memory, 100.0 MiB are free"
            ]
        );
    }

    #[test]
    fn a_tie_goes_to_the_host_with_more_free_memory() {
        let hosts = [candidate("a", 0, 10, 1000), candidate("b", 0, 10, 2000)];
        assert_eq!(choose(&hosts, &Wish { image: &image(), on: None, start: true }).unwrap().host.as_str(), "b");
    }

    #[test]
    fn when_nobody_can_the_fault_says_why_for_each() {
        let mut hosts = [candidate("a", 0, 10, 100), candidate("b", 0, 10, 8000), candidate("c", 0, 10, 8000)];
        hosts[1].presence = Presence::Down;
        hosts[2].image = None;
        let fault = choose(&hosts, &Wish { image: &image(), on: None, start: true }).unwrap_err();
        assert_eq!(fault.code, Code::NoHost);
        assert!(fault.message.contains("a: the machine needs") && fault.message.contains("b: it is down"), "{fault}");
        hosts[0].image = None;
        hosts[1].image = None;
        hosts[1].presence = Presence::Up;
        assert_eq!(choose(&hosts, &Wish { image: &image(), on: None, start: true }).unwrap_err().code, Code::NotFound);
    }

    proptest! {
        #[test]
        fn no_fitting_host_has_a_lower_score_than_the_chosen_one(loads in proptest::collection::vec((0_u32..50, 1_u32..100, 0_u64..4000), 1..8)) {
            let hosts: Vec<_> = loads.iter().enumerate().map(|(i, &(active, weight, free))| candidate(&format!("h{i}"), active, weight, free)).collect();
            if let Ok(choice) = choose(&hosts, &Wish { image: &image(), on: None, start: true }) {
                let chosen = hosts.iter().find(|host| host.name == choice.host).unwrap();
                for host in hosts.iter().filter(|host| host.memory_free >= ByteSize::mib(512)) {
                    prop_assert!(score(chosen) <= score(host));
                }
                prop_assert!(chosen.memory_free >= ByteSize::mib(512));
            } else {
                prop_assert!(hosts.iter().all(|host| host.memory_free < ByteSize::mib(512)));
            }
        }
    }
}
