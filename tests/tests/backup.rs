//! The client worker's disk is lost, and the backup of a while ago is all that there is: hosts come back by themselves, nothing that
//! ran is run a second time, and every job that was open then ends.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use maglica_proto::{
    config::keyfile,
    fault::Code,
    id::JobId,
    job::{JobSpec, VmRef},
    request::{Answer, Request},
    seal::PeerKind,
};
use maglica_tests::{
    cloud::{Builder, Cloud, host_name},
    command::{Output, run},
    node::Node,
    peer::Peer,
    wait::{SOON, wait_until, when},
};

/// Machines for what goes on meanwhile.
const MACHINES: usize = 3;

fn cloud() -> Builder {
    let node = (0..MACHINES).fold(Node::new(), |node, i| node.off(&format!("m{i}")));
    Cloud::builder().node(node.off("vm0").off("vm1").off("vm2"))
}

fn backup(cloud: &Cloud, file: &Path) -> Output {
    let mut command = cloud.client_worker.command();
    command.arg("backup").arg(file);
    run(command, "")
}

fn restore(cloud: &Cloud, file: &Path, more: &[&str]) -> Output {
    let mut command = cloud.client_worker.command();
    command.arg("restore").arg(file).args(more);
    run(command, "")
}

fn root(cloud: &Cloud) -> Peer {
    let keys = keyfile::read_private(&cloud.state_dir(0).join("operator/key")).expect("root's key");
    let server = keyfile::read_public(&cloud.state_dir(0).join("operator/server.pub")).expect("the pinned key");
    Peer::new(cloud.rep_addr(), PeerKind::Operator, keys, server)
}

fn submit(cloud: &Cloud, id: JobId, vm: &str) -> Answer {
    let spec = JobSpec::Start(VmRef { name: vm.parse().expect("a name"), host: None });
    root(cloud).ask(&Request::Submit { id, spec }).expect("an answer")
}

/// The client worker's disk is gone.
fn lose_state(cloud: &Cloud) {
    fs::remove_dir_all(cloud.state_dir(0).join("client-worker")).expect("a folder can be removed");
}

fn ran(cloud: &Cloud, id: &str) -> usize {
    cloud.hosts.iter().map(|host| host.log().matches(&format!("done job={id}")).count()).sum()
}

#[test]
fn hosts_come_back_and_jobs_end_after_a_restore_from_a_backup_made_under_load() {
    let mut cloud = cloud().hosts(2).start();
    let file = cloud.path("backup.tar");
    let first = cloud.submit(&["vm", "start", "vm0"]);
    cloud.wait_job(&first, "succeeded");
    // In the backup this one is taken by its host; afterwards it ends, and its host is told so.
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with("start.start.before=sleep(2500)");
    cloud.wait_up(0);
    let open = cloud.submit(&["vm", "start", "vm1"]);
    cloud.wait_job(&open, "running");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let jobs: Vec<String> =
                    (0..MACHINES).map(|i| cloud.submit(&["vm", "destroy", &format!("m{i}")])).collect();
                jobs.iter().for_each(|id| drop(cloud.cli(&["job", "wait", id])));
            }
        });
        let made = backup(&cloud, &file);
        stop.store(true, Ordering::SeqCst);
        load.join().expect("jobs go on meanwhile");
        made.ok();
    });
    assert_ne!(cloud.job(&open)["state"], "succeeded", "it was open when the backup was made");
    cloud.wait_job(&open, "succeeded");
    // Of this one the backup knows nothing, and its host is not done with it.
    let unknown = JobId::generate();
    assert!(matches!(submit(&cloud, unknown, "vm2"), Answer::Job(_)));
    cloud.wait_job(&unknown.to_string(), "running");
    cloud.client_worker.kill9();
    lose_state(&cloud);
    let said = restore(&cloud, &file, &[]).ok();
    assert!(said.stderr.contains("WARNING") && said.stderr.contains(&host_name(1)), "{said:?}");
    cloud.client_worker.start();
    cloud.wait_up(0);
    cloud.wait_up(1);

    assert_eq!(cloud.job(&first)["state"], "succeeded");
    let ended = cloud.wait_job(&open, "succeeded");
    assert_eq!(ended["outcome"]["outcome"], "started", "its host remembered: {ended:#}");
    // The host finds that nobody wants its report, and goes on.
    cloud.hosts[0].wait_log("does not want its report");
    cloud.wait_vm("vm2", "running");
    cloud.cli(&["job", "show", &unknown.to_string()]).ended_with(4);
    // Whoever asked for it and asks again must not have it done again.
    let again = submit(&cloud, unknown, "vm2");
    assert!(matches!(&again, Answer::Fault { fault } if fault.code == Code::InvalidInput), "{again:?}");
    for id in [first, open, unknown.to_string()] {
        assert_eq!(ran(&cloud, &id), 1, "job {id}");
    }
    // Everything else goes on as ever.
    cloud.cli(&["vm", "destroy", "vm2"]).ok();
    let jobs = cloud.cli(&["job", "list", "-n", "1000", "-o", "json"]).ok().json();
    let rows = jobs["jobs"].as_array().cloned().unwrap_or_default();
    assert!(rows.iter().all(|row| row["state"] != "lost" && row["state"] != "running"), "{jobs:#}");
}

#[test]
fn a_job_that_was_not_taken_in_the_backup_is_not_begun_after_a_restore() {
    let mut cloud = cloud().set("/timing/suspect_ms", 700).set("/timing/down_ms", 1400).start();
    let file = cloud.path("backup.tar");
    cloud.hosts[0].stop();
    cloud.wait_presence(0, "down");
    let id = cloud.submit(&["vm", "start", "vm0"]);
    backup(&cloud, &file).ok();
    // Somebody thought better of it, which the backup does not know.
    cloud.cli(&["job", "cancel", &id]).ok();
    cloud.client_worker.kill9();
    lose_state(&cloud);
    restore(&cloud, &file, &[]).ok();
    cloud.client_worker.start();
    cloud.hosts[0].start();
    let job = cloud.wait_job(&id, "failed");
    assert_eq!(job["fault"]["code"], "outcome-unknown", "{job:#}");
    cloud.wait_up(0);
    assert_eq!((cloud.vm_state("vm0"), ran(&cloud, &id)), ("off".into(), 0));
    cloud.cli(&["vm", "start", "vm0"]).ok();
}

#[test]
fn a_restore_over_a_state_keeps_that_one_aside_and_what_it_had_revoked_shut_out() {
    let mut cloud = cloud().hosts(2).start();
    let file = cloud.path("backup.tar");
    let alice = cloud.operator("alice", "admin");
    backup(&cloud, &file).ok();
    cloud.cli(&["host", "revoke", &host_name(1)]).ok();
    cloud.cli(&["operator", "revoke", "alice"]).ok();
    let refused = restore(&cloud, &file, &["--force"]).ended_with(1);
    assert!(refused.stderr.contains("another client worker is running"), "{refused:?}");
    cloud.client_worker.stop();
    let refused = restore(&cloud, &file, &[]).ended_with(1);
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    let said = restore(&cloud, &file, &["--force"]).ok();
    assert!(said.stderr.contains(&host_name(1)) && said.stderr.contains("alice"), "{said:?}");
    assert!(!said.stderr.contains("WARNING"), "{said:?}");
    let aside = fs::read_dir(cloud.state_dir(0)).expect("the state folder").flatten();
    let aside: Vec<_> = aside.filter(|entry| entry.file_name().to_string_lossy().contains("before-restore")).collect();
    assert!(aside.len() == 1 && aside[0].path().join("trust.json").exists(), "{aside:?}");
    cloud.client_worker.start();
    cloud.wait_up(0);
    cloud.cli_as(&alice, &["vm", "list"]).ended_with(9).says(&["revoked"], &[]);
    assert!(cloud.host(1).is_null());
}

#[test]
fn a_backup_goes_through_a_pipe_and_comes_back_through_one() {
    let mut cloud = cloud().start();
    let mut command = cloud.client_worker.command();
    let made = command.args(["backup", "-"]).output().expect("the client worker runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = cloud.path("piped.tar");
    fs::write(&file, &made.stdout).expect("a file can be written");
    // Whoever has tar and sha256sum can look into it.
    let folder = cloud.path("looked");
    fs::create_dir(&folder).expect("a folder can be made");
    let mut tar = std::process::Command::new("tar");
    run(
        {
            tar.arg("-C").arg(&folder).arg("-xf").arg(&file);
            tar
        },
        "",
    )
    .ok();
    let mut sums = std::process::Command::new("sha256sum");
    run(
        {
            sums.args(["-c", "--strict", "SHA256SUMS"]).current_dir(&folder);
            sums
        },
        "",
    )
    .ok();
    cloud.client_worker.kill9();
    lose_state(&cloud);
    let mut command = cloud.client_worker.command();
    command.args(["restore", "-"]).stdin(fs::File::open(&file).expect("a file can be read"));
    let restored = command.output().expect("the client worker runs");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    cloud.client_worker.start();
    cloud.wait_up(0);
}

#[test]
fn a_restore_that_is_killed_before_its_end_leaves_the_state_as_it_was() {
    let mut cloud = cloud().start();
    let file = cloud.path("backup.tar");
    backup(&cloud, &file).ok();
    let id = cloud.submit(&["vm", "start", "vm0"]);
    cloud.wait_job(&id, "succeeded");
    cloud.client_worker.stop();
    let mut command = cloud.client_worker.command();
    command.arg("restore").arg(&file).arg("--force").env("FAILPOINTS", "restore.ready=return(abort)");
    assert!(!command.output().expect("the client worker runs").status.success());
    cloud.client_worker.start();
    wait_until("the job is still known", SOON, || {
        let output = cloud.cli(&["job", "show", &id, "--timeout", "3s"]);
        when(output.code == 0, output)
    });
}
