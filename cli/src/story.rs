//! What a job's steps, events and outcomes are called. Pure: text from data.

pub(crate) mod image;

use std::time::Duration;

use maglica_proto::{
    id::JobId,
    job::{
        Applied, GuestAnswer, HostEventKind, JobEvent, JobEventKind, JobRow, JobSpec, JobState, JobView, Outcome, Step,
        VmRef,
    },
    name::{DomainName, HostName},
    units::ByteSize,
};

use crate::output::{
    table::{fields, fit},
    time,
};

/// Where a step's duration begins, and how wide it is, so that the durations stand below one another.
const LABEL: usize = 18;
const TOOK: usize = 8;

/// What a step that is done is called.
#[must_use]
pub const fn done(step: Step) -> &'static str {
    match step {
        Step::Check => "checked",
        Step::Volumes => "volume copied",
        Step::Customize => "guest customized",
        Step::Define => "domain defined",
        Step::Start => "started",
        Step::Guest => "guest answered",
        Step::Stop => "stopped",
        Step::Remove => "removed",
        Step::Mark => "metadata written",
        Step::Power => "switched",
        Step::Change => "changed",
        Step::Snapshot => "snapshot done",
        Step::Transfer => "disks transferred",
        Step::Other => "done",
    }
}

/// What a step that goes on is called.
#[must_use]
pub const fn doing(step: Step) -> &'static str {
    match step {
        Step::Check => "checking",
        Step::Volumes => "copying volume",
        Step::Customize => "customizing guest",
        Step::Define => "defining domain",
        Step::Start => "starting",
        Step::Guest => "waiting for the guest",
        Step::Stop => "stopping",
        Step::Remove => "removing",
        Step::Mark => "writing metadata",
        Step::Power => "switching",
        Step::Change => "changing",
        Step::Snapshot => "working on snapshots",
        Step::Transfer => "transferring disks",
        Step::Other => "working",
    }
}

/// The line of a step that is done: name, duration, note.
#[must_use]
pub fn step_line(step: Step, took_ms: u64, note: &str) -> String {
    let took = time::took(took_ms);
    let line = format!("{}{took:>TOOK$}   {note}", fit(done(step), LABEL));
    line.trim_end().to_owned()
}

/// How far a step is.
#[must_use]
pub fn progress_line(step: Step, done: ByteSize, total: Option<ByteSize>) -> String {
    match total.filter(|total| total.as_bytes() > 0) {
        None => format!("{}   {done}", fit(doing(step), LABEL)),
        Some(total) => {
            let percent = (u128::from(done.as_bytes()) * 100 / u128::from(total.as_bytes())).min(100);
            format!("{}{percent:>3} %   {done} of {total}", fit(doing(step), LABEL))
        }
    }
}

/// What a job does, such as `clone debian12.original → vm0.example.jp on host0.example.jp`.
#[must_use]
pub fn title(view: &JobView) -> String {
    let host = &view.row.host;
    match &view.spec {
        JobSpec::Clone(spec) => format!("clone {} → {} on {host}", spec.image, spec.name),
        JobSpec::Start(vm) | JobSpec::Stop { vm, .. } | JobSpec::Destroy(vm) | JobSpec::Remove(vm) => {
            format!("{} {} on {host}", view.spec.verb(), vm.name)
        }
        JobSpec::Image(spec) => image::title(spec, host),
        JobSpec::Change { vm, change } => about(change.verb(), vm, &change.detail(), host),
        JobSpec::Snapshot { vm, snapshot } => about(snapshot.verb(), vm, &snapshot.detail(), host),
    }
}

fn about(verb: &str, vm: &VmRef, detail: &str, host: &HostName) -> String {
    if detail.is_empty() {
        format!("{verb} {} on {host}", vm.name)
    } else {
        format!("{verb} {} on {host}: {detail}", vm.name)
    }
}

/// What came of a job that succeeded.
#[must_use]
pub fn outcome(row: &JobRow, outcome: &Outcome) -> String {
    let (vm, host) = (&row.vm, &row.host);
    match outcome {
        Outcome::Cloned { started: false, .. } => format!("{vm} is made on {host}, and off"),
        Outcome::Cloned { guest: None, .. } => format!("{vm} is running on {host}"),
        Outcome::Cloned { guest: Some(GuestAnswer::Silent { waited_s }), .. } => {
            format!("{vm} is running on {host}; its guest agent has not answered within {waited_s} s")
        }
        Outcome::Cloned { guest: Some(GuestAnswer::Up { addresses, .. }), .. } => {
            let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            if addresses.is_empty() {
                format!("{vm} is running on {host}, without an address yet")
            } else {
                format!("{vm} is running on {host}, at {addresses}")
            }
        }
        Outcome::Started { already: true } => format!("{vm} was running already on {host}"),
        Outcome::Started { already: false } => format!("{vm} is running on {host}"),
        Outcome::Stopped { already: true } => format!("{vm} was off already on {host}"),
        Outcome::Stopped { already: false } => format!("{vm} on {host} is off"),
        Outcome::Changed { applied: Applied::Already, note, .. } => {
            format!("{vm} on {host}: {note}, as it was already")
        }
        Outcome::Changed { applied: Applied::AtNextStart, note, why } => {
            let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("{vm} on {host}: {note}. This holds only after it was switched off and started again{why}")
        }
        Outcome::Changed { applied: Applied::Live | Applied::Defined | Applied::Other, note, .. } => {
            format!("{vm} on {host}: {note}")
        }
        Outcome::Image(outcome) => image::outcome(vm, host, outcome),
        Outcome::Removed { volumes, kept } => removed(vm, host, volumes, kept),
    }
}

fn removed(vm: &DomainName, host: &HostName, volumes: &[String], kept: &[String]) -> String {
    let mut text = format!("{vm} is removed from {host}");
    match volumes {
        [] => {}
        [one] => text.push_str(&format!(", with its volume {one}")),
        many => text.push_str(&format!(", with its volumes {}", many.join(", "))),
    }
    for disk in kept {
        text.push_str(&format!("\nleft alone: {disk}"));
    }
    text
}

/// A job's state in a word or, where there is more to say, a sentence.
#[must_use]
pub fn state(row: &JobRow) -> String {
    match &row.state {
        JobState::Succeeded { outcome: done } => format!("succeeded: {}", outcome(row, done)),
        JobState::Failed { fault } => format!("failed: {fault}"),
        JobState::Cancelled { fault } => format!("cancelled: {fault}"),
        JobState::Lost => format!("lost: {} is silent, what became of the job is not known yet", row.host),
        JobState::Queued | JobState::Offered | JobState::Running | JobState::Cancelling => {
            row.state.as_str().to_owned()
        }
    }
}

/// What a running job waits for, for its status line.
#[must_use]
pub fn waiting(row: &JobRow) -> String {
    match row.state {
        JobState::Queued => format!("waiting until {} is up", row.host),
        JobState::Offered => format!("waiting for {}", row.host),
        JobState::Running => "working".to_owned(),
        JobState::Cancelling => "stopping, and taking everything back".to_owned(),
        JobState::Lost => format!("{} is silent; waiting for it", row.host),
        JobState::Succeeded { .. } | JobState::Failed { .. } | JobState::Cancelled { .. } => String::new(),
    }
}

/// One event of the story.
#[must_use]
pub fn event(kind: &JobEventKind) -> String {
    match kind {
        JobEventKind::Submitted { by } => format!("submitted by {by}"),
        JobEventKind::Placed { host, why } => format!("placed on {host}\n{}", why.join("\n")).trim_end().to_owned(),
        JobEventKind::Offered { attempt: 1 } => "offered to its host".to_owned(),
        JobEventKind::Offered { attempt } => format!("offered again (attempt {attempt})"),
        JobEventKind::Granted => "taken by its host".to_owned(),
        JobEventKind::Host { what } => host_event(what),
        JobEventKind::CancelAsked { by } => format!("{by} wants it stopped"),
        JobEventKind::Lost => "its host fell silent".to_owned(),
        JobEventKind::Found => "its host is back, and has it".to_owned(),
        JobEventKind::Ended { state } => match state {
            JobState::Failed { fault } => format!("failed: {fault}"),
            JobState::Cancelled { fault } => format!("cancelled: {fault}"),
            JobState::Succeeded { .. }
            | JobState::Queued
            | JobState::Offered
            | JobState::Running
            | JobState::Cancelling
            | JobState::Lost => state.as_str().to_owned(),
        },
        JobEventKind::Other => "(something that this version does not know)".to_owned(),
    }
}

fn host_event(kind: &HostEventKind) -> String {
    match kind {
        HostEventKind::StepStarted { step } => format!("{} …", doing(*step)),
        HostEventKind::StepProgress { step, done, total } => progress_line(*step, *done, *total),
        HostEventKind::StepDone { step, took_ms, note } => step_line(*step, *took_ms, note),
        HostEventKind::StepFailed { step, fault } => format!("{} failed: {fault}", step.as_str()),
        HostEventKind::Undone { what, error: None } => format!("taken back: {what}"),
        HostEventKind::Undone { what, error: Some(error) } => format!("could not be taken back: {what}: {error}"),
        HostEventKind::Resumed { decision } => format!("the host worker started again: {decision}"),
        HostEventKind::Other => "(something that this version does not know)".to_owned(),
    }
}

/// The whole story, as `job show` has it.
#[must_use]
pub fn whole(view: &JobView) -> String {
    let row = &view.row;
    let mut state = state(row);
    if let (JobState::Running | JobState::Cancelling, Some(HostEventKind::StepProgress { step, done, total })) =
        (&row.state, &view.progress)
    {
        state = format!("{state}: {}", progress_line(*step, *done, *total));
    }
    let took = row.updated.since(row.submitted);
    let mut text = fields(&[
        ("Job", row.id.to_string()),
        ("What", title(view)),
        ("State", state),
        ("By", row.by.clone()),
        ("Submitted", time::moment(row.submitted)),
        ("Took", if row.state.is_final() { time::duration(took) } else { String::new() }),
        ("Left", left(&row.state).join("\n")),
    ]);
    text.push('\n');
    for JobEvent { at, what, .. } in &view.events {
        let said = event(what).replace('\n', &format!("\n{}", " ".repeat(16)));
        text.push_str(&format!("{}  {}\n", time::clock(*at), crate::output::clean(&said)));
    }
    text
}

fn left(state: &JobState) -> &[String] {
    if let JobState::Failed { fault } | JobState::Cancelled { fault } = state { &fault.left } else { &[] }
}

/// How long a job has been in its state, for lists.
#[must_use]
pub fn took(row: &JobRow, now: maglica_proto::units::Timestamp) -> String {
    let until = if row.state.is_final() { row.updated } else { now };
    let took: Duration = until.since(row.submitted);
    time::duration(took)
}

/// The first line of a job that was submitted.
#[must_use]
pub fn headline(id: JobId, view: &JobView) -> String {
    format!("job {id}  {}", title(view))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stand_below_one_another_with_their_durations_aligned() {
        assert_eq!(step_line(Step::Volumes, 1_430, ""), "volume copied        1.4 s");
        assert_eq!(
            step_line(Step::Customize, 17_900, "hostname, hosts, network (dhcp), machine-id, ssh host keys"),
            "guest customized    17.9 s   hostname, hosts, network (dhcp), machine-id, ssh host keys"
        );
        assert_eq!(step_line(Step::Define, 12, ""), "domain defined");
        assert_eq!(step_line(Step::Start, 99, ""), "started");
    }

    #[test]
    fn progress_is_said_in_percent_and_never_above_a_hundred() {
        let (half, whole) = (ByteSize::mib(512), ByteSize::mib(1024));
        assert_eq!(progress_line(Step::Volumes, half, Some(whole)), "copying volume     50 %   512.0 MiB of 1.0 GiB");
        assert!(progress_line(Step::Volumes, whole, Some(half)).contains("100 %"));
        assert!(progress_line(Step::Volumes, half, Some(ByteSize::ZERO)).ends_with("512.0 MiB"));
    }

    fn running(verb: &str) -> JobRow {
        JobRow {
            id: JobId::generate(),
            verb: verb.into(),
            vm: "vm0".parse().unwrap(),
            host: "host0".parse().unwrap(),
            state: JobState::Running,
            by: "root".into(),
            submitted: Default::default(),
            updated: Default::default(),
        }
    }

    #[test]
    fn a_change_says_from_when_it_holds() {
        let row = running("set-vcpus");
        let said = |applied, why: Option<&str>| {
            outcome(&row, &Outcome::Changed { applied, note: "4 processors".into(), why: why.map(str::to_owned) })
        };
        assert_eq!(said(Applied::Live, None), "vm0 on host0: 4 processors");
        assert_eq!(said(Applied::Already, None), "vm0 on host0: 4 processors, as it was already");
        assert_eq!(
            said(Applied::AtNextStart, Some("it was started with at most 2")),
            "vm0 on host0: 4 processors. This holds only after it was switched off and started again (it was started with at most 2)"
        );
    }

    #[test]
    fn a_removed_machine_names_what_was_deleted_and_what_was_left_alone() {
        let row = running("remove");
        let said = outcome(
            &row,
            &Outcome::Removed {
                volumes: vec!["default/vm0.qcow2".into()],
                kept: vec!["shared.qcow2: vm1 uses it".into()],
            },
        );
        assert_eq!(
            said,
            "vm0 is removed from host0, with its volume default/vm0.qcow2\nleft alone: shared.qcow2: vm1 uses it"
        );
    }
}
