//! Fixed values of what is said about images.

use maglica_proto::{
    host::{Door, HostAnswer, HostRequest, Visitor, Vouched},
    job::{CopySpec, CopyTask, ImageOutcome, ImageSpec, ImageTask, JobSpec, Outcome, Task, VmRef},
    request::{ImageCopy, ImageState, Presence},
    units::ByteSize,
};

use super::{fixtures::*, inventory::domain};

fn copy(rate: Option<ByteSize>) -> CopySpec {
    CopySpec { image: vm_ref(), dest: name("host1.example.jp"), pool: Some(name("default")), rate }
}

pub(crate) fn host_requests() -> Vec<(&'static str, HostRequest)> {
    let vouch = |role| HostRequest::Vouch { job: job(), key: key().public(), role };
    vec![
        ("source", HostRequest::Source { job: job() }),
        ("vouch-host", vouch(Visitor::Host)),
        ("vouch-operator", vouch(Visitor::Operator)),
    ]
}

pub(crate) fn host_answers() -> Vec<(&'static str, HostAnswer)> {
    let address = "192.168.0.11:5558".parse().unwrap();
    let door = Door { host: name("host1.example.jp"), address, key: key().public() };
    vec![
        ("source", HostAnswer::Source(door)),
        ("vouched-image", HostAnswer::Vouched(Vouched::Image(vm_task()))),
        ("vouched-job", HostAnswer::Vouched(Vouched::Job)),
    ]
}

pub(crate) fn specs() -> Vec<(&'static str, JobSpec)> {
    let specs = vec![
        ("image-mark", ImageSpec::Mark(vm_ref())),
        ("image-unmark", ImageSpec::Unmark(vm_ref())),
        ("image-remove", ImageSpec::Remove(vm_ref())),
        ("image-copy", ImageSpec::Copy(copy(Some(ByteSize::mib(50))))),
        (
            "image-copy-bare",
            ImageSpec::Copy(CopySpec { image: VmRef { host: None, ..vm_ref() }, pool: None, ..copy(None) }),
        ),
    ];
    let values: Vec<_> = specs.iter().map(|(_, spec)| spec).collect();
    covers!(values, "mark" => ImageSpec::Mark(_), "unmark" => ImageSpec::Unmark(_), "remove" => ImageSpec::Remove(_),
        "copy" => ImageSpec::Copy(_));
    specs.into_iter().map(|(name, spec)| (name, JobSpec::Image(spec))).collect()
}

pub(crate) fn tasks() -> Vec<(&'static str, Task)> {
    let copy = CopyTask {
        image: vm_task(),
        from: name("host1.example.jp"),
        copy: uuid(),
        macs: vec!["52:54:00:12:34:56".parse().unwrap()],
        pool: Some(name("default")),
        rate: Some(ByteSize::mib(50)),
        by: "root".to_owned(),
    };
    let bare = CopyTask { pool: None, rate: None, ..copy.clone() };
    let tasks = vec![
        ("image-mark", ImageTask::Mark(vm_task())),
        ("image-unmark", ImageTask::Unmark(vm_task())),
        ("image-remove", ImageTask::Remove(vm_task())),
        ("image-copy", ImageTask::Copy(copy)),
        ("image-copy-bare", ImageTask::Copy(bare)),
    ];
    let values: Vec<_> = tasks.iter().map(|(_, task)| task).collect();
    covers!(values, "mark" => ImageTask::Mark(_), "unmark" => ImageTask::Unmark(_), "remove" => ImageTask::Remove(_),
        "copy" => ImageTask::Copy(_));
    tasks.into_iter().map(|(name, task)| (name, Task::Image(task))).collect()
}

pub(crate) fn outcomes() -> Vec<(&'static str, Outcome)> {
    let removed = ImageOutcome::Removed {
        volumes: vec!["default/debian12.qcow2".to_owned()],
        kept: vec!["vdb (/mnt/data.raw): it is shared".to_owned()],
    };
    let copied =
        ImageOutcome::Copied { from: name("host1.example.jp"), uuid: uuid(), size: gib(1), pool: name("default") };
    let outcomes = vec![
        ("image-marked", ImageOutcome::Marked { already: false }),
        ("image-unmarked", ImageOutcome::Unmarked { already: true }),
        ("image-removed", removed),
        ("image-copied", copied),
    ];
    let values: Vec<_> = outcomes.iter().map(|(_, outcome)| outcome).collect();
    covers!(values, "marked" => ImageOutcome::Marked { .. }, "unmarked" => ImageOutcome::Unmarked { .. },
        "removed" => ImageOutcome::Removed { .. }, "copied" => ImageOutcome::Copied { .. });
    outcomes.into_iter().map(|(name, outcome)| (name, Outcome::Image(outcome))).collect()
}

pub(crate) fn copies() -> Vec<ImageCopy> {
    let copy = |host: &str, clones: &[&str]| ImageCopy {
        host: name(host),
        presence: Presence::Up,
        age_ms: 1500,
        state: ImageState::Ready,
        domain: domain(),
        clones: clones.iter().map(|clone| name(clone)).collect(),
        clones_total: 2,
        overlays: clones.iter().map(|clone| name(clone)).collect(),
    };
    vec![copy("host0.example.jp", &["vm0.example.jp", "vm1.example.jp"]), copy("host1.example.jp", &[])]
}
