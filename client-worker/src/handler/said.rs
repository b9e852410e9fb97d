//! What a host may say: as long as it is useful, and fit to be shown. A host that was let in may still lie, and what it says
//! reaches people's terminals, the log and the store. Pure.
//!
//! Names are checked when a message is read. Everything else that is text is cut and cleaned here, once.

use maglica_proto::{
    change::Change,
    fault::{Code, Fault},
    host::{Heartbeat, HostRequest},
    inventory::{Accel, Disk, Domain, HostFacts, Inventory, Nic, Pool, Screen, Snapshot},
    job::{GuestAnswer, HostEvent, HostEventKind, ImageOutcome, Outcome},
    text::{REPLACEMENT, is_unfit},
};

/// How many jobs a heartbeat may name. A host takes 64 at a time and works on a few.
const HELD_MAX: usize = 4096;
/// A word, such as a disk's format or a version, in characters.
const WORD: usize = 128;
/// A path, or a sentence about one thing.
const LINE: usize = 1024;
/// What a step has to say, such as the list of what was customized.
const NOTE: usize = 4096;
/// A fault's sentence, with the last lines of a program that failed.
const MESSAGE: usize = 8192;
/// Lines that a fault or an outcome may have.
const LINES: usize = 64;
/// Names that look like another.
const SIMILAR: usize = 8;
/// Disks, interfaces or addresses of a domain.
const PER_DOMAIN: usize = 64;
/// Storage pools of a host.
const POOLS: usize = 256;

/// Cuts and cleans what a host says. Tells whether there was anything to cut or clean.
///
/// # Errors
/// A fault: it says more than can be cut.
pub(super) fn tidy(request: &mut HostRequest) -> Result<bool, Fault> {
    Ok(match request {
        HostRequest::Heartbeat(Heartbeat { held, .. }) => {
            if held.len() > HELD_MAX {
                let message = format!("a heartbeat names {} jobs, at most {HELD_MAX} can be", held.len());
                return Err(Fault::new(Code::InvalidInput, message));
            }
            let mut changed = false;
            for held in held {
                // How far a step is, and nothing else, is not kept for the record.
                if !matches!(held.progress, None | Some(HostEventKind::StepProgress { .. })) {
                    (held.progress, changed) = (None, true);
                }
            }
            changed
        }
        HostRequest::Inventory { inventory: whole, .. } => inventory(whole),
        HostRequest::InventoryChange { change, .. } => changed(change),
        HostRequest::Refuse { fault: why, .. } => fault(why),
        HostRequest::Progress { events, .. } => all(events, event),
        HostRequest::Report(report) => {
            let result = match &mut report.result {
                Ok(end) => outcome(end),
                Err(why) => fault(why),
            };
            all(&mut report.events, event) | result
        }
        HostRequest::Line(report) => report.ended.as_mut().is_some_and(fault),
        // A piece has its bound; what a guest shows is its own, and goes to a terminal as it is.
        HostRequest::Log { result, .. } => result.as_mut().err().is_some_and(fault),
        HostRequest::Accept { .. }
        | HostRequest::Several { .. }
        | HostRequest::Pong { .. }
        | HostRequest::Rekey { .. }
        | HostRequest::Source { .. }
        | HostRequest::Vouch { .. } => false,
    })
}

fn all<T>(items: &mut [T], tidy: impl Fn(&mut T) -> bool) -> bool {
    items.iter_mut().fold(false, |changed, item| tidy(item) | changed)
}

fn at_most<T>(items: &mut Vec<T>, most: usize) -> bool {
    let changed = items.len() > most;
    items.truncate(most);
    if changed {
        items.shrink_to_fit();
    }
    changed
}

/// One line of at most so many characters.
fn line(text: &mut String, most: usize) -> bool {
    cut(text, most, |c| !is_unfit(c))
}

/// Several lines of at most so many characters in all.
fn lines(text: &mut String, most: usize) -> bool {
    cut(text, most, |c| c == '\n' || !is_unfit(c))
}

fn cut(text: &mut String, most: usize, fit: impl Fn(char) -> bool) -> bool {
    if text.len() <= most && text.chars().all(&fit) {
        return false;
    }
    let whole = text.chars().nth(most).is_none();
    let kept = if whole { most } else { most - 1 };
    let mut new: String = text.chars().take(kept).map(|c| if fit(c) { c } else { REPLACEMENT }).collect();
    if !whole {
        new.push('…');
    }
    let changed = *text != new;
    *text = new;
    changed
}

fn perhaps(text: &mut Option<String>, most: usize) -> bool {
    text.as_mut().is_some_and(|text| line(text, most))
}

fn inventory(Inventory { facts: about, pools, domains }: &mut Inventory) -> bool {
    facts(about) | all_pools(pools) | all(domains, domain)
}

fn changed(Change { facts: about, pools, domains, gone: _ }: &mut Change) -> bool {
    about.as_mut().is_some_and(facts) | pools.as_mut().is_some_and(all_pools) | all(domains, domain)
}

fn all_pools(pools: &mut Vec<Pool>) -> bool {
    let pool = |Pool { name: _, kind, active: _, path, capacity: _, available: _ }: &mut Pool| {
        line(kind, WORD) | perhaps(path, LINE)
    };
    at_most(pools, POOLS) | all(pools, pool)
}

fn facts(facts: &mut HostFacts) -> bool {
    let HostFacts { cpus: _, memory: _, memory_free: _, arch, hypervisor, libvirt, accel, worker, transfer: _ } = facts;
    let reason = match accel {
        Accel::Emulation { reason } => line(reason, LINE),
        Accel::Kvm | Accel::Unknown => false,
    };
    let words = line(arch, WORD) | line(hypervisor, WORD) | line(libvirt, WORD) | line(worker, WORD);
    reason | words
}

fn domain(domain: &mut Domain) -> bool {
    let disk = |disk: &mut Disk| {
        line(&mut disk.target, WORD)
            | line(&mut disk.format, WORD)
            | perhaps(&mut disk.path, LINE)
            | perhaps(&mut disk.backing, LINE)
            | at_most(&mut disk.below, PER_DOMAIN)
            | all(&mut disk.below, |path| line(path, LINE))
            | perhaps(&mut disk.trouble, LINE)
    };
    let nic = |nic: &mut Nic| {
        line(&mut nic.kind, WORD)
            | perhaps(&mut nic.source, WORD)
            | perhaps(&mut nic.model, WORD)
            | at_most(&mut nic.addresses, PER_DOMAIN)
    };
    let screen = |screen: &mut Screen| line(&mut screen.kind, WORD) | line(&mut screen.at, LINE);
    let snapshot = |snapshot: &mut Snapshot| lines(&mut snapshot.description, NOTE) | perhaps(&mut snapshot.by, WORD);
    at_most(&mut domain.disks, PER_DOMAIN)
        | at_most(&mut domain.nics, PER_DOMAIN)
        | at_most(&mut domain.addresses, PER_DOMAIN)
        | all(&mut domain.disks, disk)
        | all(&mut domain.nics, nic)
        | perhaps(&mut domain.console, LINE)
        | at_most(&mut domain.screens, PER_DOMAIN)
        | all(&mut domain.screens, screen)
        | at_most(&mut domain.snapshots, PER_DOMAIN)
        | all(&mut domain.snapshots, snapshot)
        | domain.made.as_mut().is_some_and(|made| line(&mut made.by, WORD))
}

fn fault(Fault { code: _, message, object, similar, left }: &mut Fault) -> bool {
    lines(message, MESSAGE)
        | perhaps(object, LINE)
        | at_most(similar, SIMILAR)
        | all(similar, |name| line(name, LINE))
        | at_most(left, LINES)
        | all(left, |left| line(left, LINE))
}

fn event(HostEvent { what, .. }: &mut HostEvent) -> bool {
    match what {
        HostEventKind::StepDone { note, .. } => lines(note, NOTE),
        HostEventKind::StepFailed { fault: why, .. } => fault(why),
        HostEventKind::Undone { what, error } => {
            lines(what, NOTE) | error.as_mut().is_some_and(|error| lines(error, NOTE))
        }
        HostEventKind::Resumed { decision } => lines(decision, NOTE),
        HostEventKind::StepStarted { .. } | HostEventKind::StepProgress { .. } | HostEventKind::Other => false,
    }
}

fn outcome(outcome: &mut Outcome) -> bool {
    match outcome {
        Outcome::Cloned { guest: Some(GuestAnswer::Up { hostname, addresses }), .. } => {
            line(hostname, WORD * 2) | at_most(addresses, PER_DOMAIN)
        }
        Outcome::Removed { volumes, kept } | Outcome::Image(ImageOutcome::Removed { volumes, kept }) => {
            at_most(volumes, LINES)
                | all(volumes, |volume| line(volume, LINE))
                | at_most(kept, LINES)
                | all(kept, |disk| line(disk, LINE))
        }
        Outcome::Changed { applied: _, note, why } => {
            lines(note, NOTE) | why.as_mut().is_some_and(|why| lines(why, NOTE))
        }
        Outcome::Cloned { .. }
        | Outcome::Started { .. }
        | Outcome::Stopped { .. }
        | Outcome::Image(ImageOutcome::Marked { .. } | ImageOutcome::Unmarked { .. } | ImageOutcome::Copied { .. }) => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::{host::Held, id::JobId, units::Timestamp};
    use uuid::Uuid;

    use super::*;

    fn refuse(message: &str) -> HostRequest {
        HostRequest::Refuse { job: JobId::generate(), fault: Fault::new(Code::ToolFailed, message) }
    }

    #[test]
    fn what_an_honest_host_says_is_left_as_it_is() {
        for message in ["virt-clone failed (1):\nERROR  größe is in use", "", &"x".repeat(MESSAGE)] {
            let (mut said, before) = (refuse(message), refuse(message));
            assert_eq!(tidy(&mut said), Ok(false));
            let (HostRequest::Refuse { fault: said, .. }, HostRequest::Refuse { fault: before, .. }) = (said, before)
            else {
                panic!("a refusal")
            };
            assert_eq!(said, before);
        }
    }

    #[test]
    fn escapes_are_replaced_and_what_is_too_long_is_cut_with_a_mark() {
        let mut said = refuse(&format!("a\x1b[2J\u{202e}\nb{}", "é".repeat(2 * MESSAGE)));
        assert_eq!(tidy(&mut said), Ok(true));
        let HostRequest::Refuse { fault, .. } = said else { panic!("a refusal") };
        assert!(fault.message.starts_with("a\u{fffd}[2J\u{fffd}\nbé"));
        assert!(fault.message.ends_with("é…") && fault.message.chars().count() == MESSAGE);
    }

    #[test]
    fn a_heartbeat_carries_how_far_steps_are_and_no_stories() {
        let held = |progress| Held { job: JobId::generate(), progress };
        let story = HostEventKind::Resumed { decision: "x".into() };
        let beat = |held| HostRequest::Heartbeat(Heartbeat { boot: Uuid::nil(), held, inventory: 0 });
        let mut said = beat(vec![held(None), held(Some(story))]);
        assert_eq!(tidy(&mut said), Ok(true));
        assert!(matches!(&said, HostRequest::Heartbeat(beat) if beat.held.iter().all(|held| held.progress.is_none())));
        assert!(tidy(&mut beat((0..=HELD_MAX).map(|_| held(None)).collect())).is_err());
    }

    #[test]
    fn each_text_of_an_event_is_cut() {
        let long = || "x".repeat(1 << 20);
        let kinds = [
            HostEventKind::StepDone { step: maglica_proto::job::Step::Check, took_ms: 0, note: long() },
            HostEventKind::Undone { what: long(), error: Some(long()) },
            HostEventKind::Resumed { decision: long() },
        ];
        for what in kinds {
            let mut host_event = HostEvent { seq: 0, at: Timestamp::from_millis(0), what };
            assert!(event(&mut host_event));
            assert!(format!("{host_event:?}").len() < 3 * NOTE, "{host_event:?}");
        }
    }
}
