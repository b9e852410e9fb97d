//! Images of the real libvirt: marked, unmarked, removed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;

use maglica_host_worker::task;
use maglica_proto::{
    fault::Code,
    job::{ImageOutcome, ImageTask, Outcome, Step, Task},
};
use rig::{Rig, program, virsh};

#[tokio::test(flavor = "multi_thread")]
async fn real_a_machine_becomes_an_image_and_a_machine_again_and_nothing_else_of_it_changes() {
    let rig = Rig::new(1);
    let name = format!("{}-vm", rig.pool);
    let disk = rig.at("vm.qcow2");
    program("qemu-img", &["create", "-q", "-f", "qcow2", &disk, "1G"]);
    rig.define(&name, &[("vda", "qcow2", &disk)]);
    let vm = rig.task(&name);
    let before = virsh(&["dumpxml", "--inactive", &name]);
    let run = async |task: &ImageTask| task::run(&Task::Image(task.clone()), &rig.context().0).await;
    let (mark, unmark) = (ImageTask::Mark(vm.clone()), ImageTask::Unmark(vm.clone()));
    for already in [false, true] {
        assert_eq!(run(&mark).await.unwrap(), Outcome::Image(ImageOutcome::Marked { already }));
    }
    let marked = virsh(&["dumpxml", "--inactive", &name]);
    assert!(marked.contains("<maglica:role>image</maglica:role>"), "{marked}");
    // As a crash between the definition and its being written down leaves it; and a cancel comes too late.
    let (cx, _) = rig.context();
    cx.cancel.cancel();
    let again = task::recover(&Task::Image(mark), &[Step::Check], &[], &cx).await.unwrap();
    assert_eq!(again, Outcome::Image(ImageOutcome::Marked { already: true }));
    let refused = task::run(&Task::Remove(vm.clone()), &rig.context().0).await.unwrap_err();
    assert!(refused.code == Code::WrongState && refused.message.contains("image remove"), "{refused:?}");
    for already in [false, true] {
        assert_eq!(run(&unmark).await.unwrap(), Outcome::Image(ImageOutcome::Unmarked { already }));
    }
    let left = virsh(&["dumpxml", "--inactive", &name]);
    let without_metadata = |xml: &str| xml.replace("  <metadata/>\n", "");
    assert_eq!(without_metadata(&left), without_metadata(&before));
    let refused = run(&ImageTask::Remove(vm.clone())).await.unwrap_err();
    assert_eq!(refused.code, Code::WrongState, "{refused:?}");
    virsh(&["autostart", &name]);
    let refused = run(&ImageTask::Mark(vm)).await.unwrap_err();
    assert!(refused.code == Code::WrongState && refused.message.contains("autostart"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_an_image_is_not_removed_while_anything_stands_on_it() {
    let rig = Rig::new(1);
    let (base, elsewhere) = (rig.at("base.qcow2"), tempfile::tempdir().unwrap());
    let overlay = |path: &str, below: &str| {
        program("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, path]);
    };
    let remove = ImageTask::Remove(rig.task(&rig.image));
    let run = async || task::run(&Task::Image(remove.clone()), &rig.context().0).await;
    let expect_refused = async |by: &str| {
        let before = rig.state();
        let fault = run().await.unwrap_err();
        assert!(fault.code == Code::WrongState && fault.message.contains(by), "{by}: {fault:?}");
        assert_eq!(rig.state(), before);
    };
    // A volume that no domain has; libvirt has not seen it yet.
    overlay(&rig.at("orphan.qcow2"), &base);
    virsh(&["pool-refresh", &rig.pool]);
    expect_refused("orphan.qcow2").await;
    std::fs::remove_file(rig.at("orphan.qcow2")).unwrap();
    virsh(&["pool-refresh", &rig.pool]);
    // A machine whose disk is an overlay on an overlay, in no pool.
    let at = |name: &str| elsewhere.path().join(name).to_str().unwrap().to_owned();
    overlay(&at("middle"), &base);
    overlay(&at("top"), &at("middle"));
    let name = format!("{}-vm", rig.pool);
    rig.define(&name, &[("vda", "qcow2", &at("top"))]);
    expect_refused(&format!("a disk of {name} is an overlay on it")).await;
    virsh(&["undefine", &name]);

    let outcome = run().await.unwrap();
    let Outcome::Image(ImageOutcome::Removed { volumes, kept }) = &outcome else { panic!("{outcome:?}") };
    assert_eq!((volumes.as_slice(), kept.len()), ([format!("{}/base.qcow2", rig.pool)].as_slice(), 0));
    assert_eq!(rig.state().into_iter().collect::<Vec<_>>(), Vec::<String>::new());
}
