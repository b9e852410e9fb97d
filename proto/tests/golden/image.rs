//! Fixed values of what is said about images.

use maglica_proto::{
    job::{ImageOutcome, ImageSpec, ImageTask, JobSpec, Outcome, Task},
    request::{ImageCopy, ImageState, Presence},
};

use super::{fixtures::*, inventory::domain};

pub(crate) fn specs() -> Vec<(&'static str, JobSpec)> {
    let specs = vec![
        ("image-mark", ImageSpec::Mark(vm_ref())),
        ("image-unmark", ImageSpec::Unmark(vm_ref())),
        ("image-remove", ImageSpec::Remove(vm_ref())),
    ];
    let values: Vec<_> = specs.iter().map(|(_, spec)| spec).collect();
    covers!(values, "mark" => ImageSpec::Mark(_), "unmark" => ImageSpec::Unmark(_), "remove" => ImageSpec::Remove(_));
    specs.into_iter().map(|(name, spec)| (name, JobSpec::Image(spec))).collect()
}

pub(crate) fn tasks() -> Vec<(&'static str, Task)> {
    let tasks = vec![
        ("image-mark", ImageTask::Mark(vm_task())),
        ("image-unmark", ImageTask::Unmark(vm_task())),
        ("image-remove", ImageTask::Remove(vm_task())),
    ];
    let values: Vec<_> = tasks.iter().map(|(_, task)| task).collect();
    covers!(values, "mark" => ImageTask::Mark(_), "unmark" => ImageTask::Unmark(_), "remove" => ImageTask::Remove(_));
    tasks.into_iter().map(|(name, task)| (name, Task::Image(task))).collect()
}

pub(crate) fn outcomes() -> Vec<(&'static str, Outcome)> {
    let removed = ImageOutcome::Removed {
        volumes: vec!["default/debian12.qcow2".to_owned()],
        kept: vec!["vdb (/mnt/data.raw): it is shared".to_owned()],
    };
    let outcomes = vec![
        ("image-marked", ImageOutcome::Marked { already: false }),
        ("image-unmarked", ImageOutcome::Unmarked { already: true }),
        ("image-removed", removed),
    ];
    let values: Vec<_> = outcomes.iter().map(|(_, outcome)| outcome).collect();
    covers!(values, "marked" => ImageOutcome::Marked { .. }, "unmarked" => ImageOutcome::Unmarked { .. },
        "removed" => ImageOutcome::Removed { .. });
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
