//! What is done to images: domains that are off and kept to be cloned.
//!
//! | file | does |
//! | --- | --- |
//! | [`copy`] | fetches an image from another host |
//! | [`mark`] | says in a domain's metadata that it is an image, or is none any more |
//!
//! Removing one is [`super::remove`]'s, as of a machine, but that nobody may stand on its disks.

mod copy;
mod mark;

use maglica_proto::{
    fault::Fault,
    job::{ImageTask, Outcome, Step},
};

use super::{
    TaskContext, Undo,
    remove::{self, Subject},
};

/// Does it from the beginning.
pub(super) async fn run(task: &ImageTask, cx: &TaskContext) -> Result<Outcome, Fault> {
    match task {
        ImageTask::Mark(vm) => mark::run(vm, true, cx).await,
        ImageTask::Unmark(vm) => mark::run(vm, false, cx).await,
        ImageTask::Remove(vm) => remove::run(Subject::Image, vm, cx).await,
        ImageTask::Copy(task) => Box::pin(copy::run(task, cx)).await,
    }
}

/// Ends what a crash interrupted.
pub(super) async fn recover(
    task: &ImageTask,
    done: &[Step],
    undo: &[Undo],
    cx: &TaskContext,
    decide: impl Fn(&str),
) -> Result<Outcome, Fault> {
    match task {
        ImageTask::Mark(vm) => {
            decide("go on");
            mark::recover(vm, true, cx).await
        }
        ImageTask::Unmark(vm) => {
            decide("go on");
            mark::recover(vm, false, cx).await
        }
        ImageTask::Remove(vm) => {
            decide("go on");
            remove::recover(Subject::Image, vm, undo, cx).await
        }
        ImageTask::Copy(task) => Box::pin(copy::recover(task, done, undo, cx, decide)).await,
    }
}
