//! Nothing that was promised is lost, and nothing is done twice: every point of the delivery at which a daemon can die, and the ways
//! in which the two can fail to hear one another.

use std::{fs, time::Duration};

use maglica_proto::{
    config::keyfile,
    fault::Code,
    id::JobId,
    job::{JobSpec, VmRef},
    request::{Answer, Request, SUBMIT_MAX, Submission},
    seal::PeerKind,
};
use maglica_tests::{
    cloud::{Builder, Cloud, host_name},
    command::finish,
    node::Node,
    peer::Peer,
    relay::Relay,
    wait::{SOON, wait_until, when},
};
use serde_json::{Value, json};

const VM: &str = "vm0";

fn cloud() -> Builder {
    Cloud::builder().node(Node::new().off(VM).off("vm1"))
}

/// Hosts are given up soon, for tests in which one is away.
fn impatient() -> Builder {
    cloud().set("/timing/suspect_ms", 700).set("/timing/down_ms", 1400)
}

fn events<'a>(job: &'a Value, event: &str) -> Vec<&'a Value> {
    job["events"].as_array().into_iter().flatten().filter(|row| row["what"]["event"] == event).collect()
}

/// There is one job, it succeeded, and was said to have ended once.
#[track_caller]
fn assert_done_once(cloud: &Cloud) {
    let jobs = cloud.cli(&["job", "list", "-o", "json"]).ok().json();
    let rows = jobs["jobs"].as_array().expect("a list of jobs");
    assert_eq!(rows.len(), 1, "{jobs}");
    let job = cloud.wait_job(rows[0]["id"].as_str().expect("an id"), "succeeded");
    assert_eq!((events(&job, "ended").len(), events(&job, "granted").len()), (1, 1), "{job:#}");
}

/// The client worker dies at a store; the command that waits does not notice.
fn client_worker_dies(failpoints: &str) {
    let mut cloud = cloud().start();
    cloud.client_worker.kill9();
    cloud.client_worker.start_with(failpoints);
    cloud.wait_up(0);
    let command = cloud.cli_spawn(&["vm", "start", VM, "-o", "json"]);
    let end = cloud.client_worker.wait_end(SOON);
    assert!(!end.success(), "{end}");
    cloud.client_worker.start();
    let output = finish(command).ok();
    assert_eq!(output.json()["outcome"], json!({"outcome": "started", "already": false}), "{output:?}");
    assert_done_once(&cloud);
    cloud.wait_vm(VM, "running");
}

#[test]
fn the_client_worker_dies_before_a_job_and_its_offer_are_stored() {
    client_worker_dies("store.before-commit=return(abort)");
}

#[test]
fn the_client_worker_dies_after_a_job_and_its_offer_are_stored() {
    client_worker_dies("store.after-commit=return(abort)");
}

#[test]
fn the_client_worker_dies_before_the_grant_is_stored() {
    client_worker_dies("store.before-commit=1*off->return(abort)");
}

#[test]
fn the_client_worker_dies_after_the_grant_is_stored() {
    client_worker_dies("store.after-commit=1*off->return(abort)");
}

#[test]
fn the_client_worker_dies_before_the_first_step_is_stored() {
    client_worker_dies("store.before-commit=2*off->return(abort)");
}

#[test]
fn the_client_worker_dies_after_the_first_step_is_stored() {
    client_worker_dies("store.after-commit=2*off->return(abort)");
}

/// The only thing left to store is the result: the host died just before it said it.
fn client_worker_dies_at_the_result(failpoints: &str) {
    let mut cloud = cloud().start();
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with("report.before=return(abort)");
    cloud.wait_up(0);
    let id = cloud.submit(&["vm", "start", VM]);
    cloud.hosts[0].wait_end(SOON);
    cloud.client_worker.kill9();
    cloud.client_worker.start_with(failpoints);
    cloud.hosts[0].start();
    cloud.client_worker.wait_end(SOON);
    cloud.client_worker.start();
    cloud.wait_job(&id, "succeeded");
    assert_done_once(&cloud);
}

#[test]
fn the_client_worker_dies_before_the_result_is_stored() {
    client_worker_dies_at_the_result("store.before-commit=return(abort)");
}

#[test]
fn the_client_worker_dies_after_the_result_is_stored() {
    client_worker_dies_at_the_result("store.after-commit=return(abort)");
}

/// The host worker dies and comes back.
fn host_worker_dies(failpoint: &str) -> Cloud {
    let mut cloud = cloud().start();
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with(&format!("{failpoint}=return(abort)"));
    cloud.wait_up(0);
    let id = cloud.submit(&["vm", "start", VM]);
    let end = cloud.hosts[0].wait_end(SOON);
    assert!(!end.success(), "{end}");
    cloud.hosts[0].start();
    cloud.wait_job(&id, "succeeded");
    assert_done_once(&cloud);
    cloud
}

#[test]
fn the_host_worker_dies_before_it_asks_for_the_grant() {
    let cloud = host_worker_dies("accept.before");
    cloud.wait_vm(VM, "running");
}

#[test]
fn the_host_worker_dies_with_the_grant_in_its_hand() {
    let cloud = host_worker_dies("accept.after");
    cloud.wait_vm(VM, "running");
}

#[test]
fn the_host_worker_dies_before_the_first_step() {
    let cloud = host_worker_dies("start.start.before");
    cloud.wait_vm(VM, "running");
}

#[test]
fn the_host_worker_dies_before_it_writes_down_the_end() {
    let cloud = host_worker_dies("ended.before");
    // The in-memory driver has forgotten the first start, so this is the second.
    cloud.wait_vm(VM, "running");
}

/// The in-memory driver came back as it is in its file, and was left so.
fn assert_not_again(cloud: &Cloud) {
    cloud.wait_vm(VM, "off");
    assert_eq!(cloud.hosts[0].log().matches("done job=").count(), 1);
}

#[test]
fn the_host_worker_dies_before_it_reports() {
    let cloud = host_worker_dies("report.before");
    assert_not_again(&cloud);
}

#[test]
fn the_host_worker_dies_before_it_hears_that_its_report_is_stored() {
    let cloud = host_worker_dies("report.after");
    assert_not_again(&cloud);
}

fn root(cloud: &Cloud) -> Peer {
    let keys = keyfile::read_private(&cloud.state_dir(0).join("operator/key")).expect("root's key");
    let server = keyfile::read_public(&cloud.state_dir(0).join("operator/server.pub")).expect("the pinned key");
    Peer::new(cloud.rep_addr(), PeerKind::Operator, keys, server)
}

fn start(vm: &str) -> JobSpec {
    JobSpec::Start(VmRef { name: vm.parse().expect("a name"), host: None })
}

#[test]
fn a_job_that_is_submitted_again_is_the_same_job_and_with_another_body_a_conflict() {
    let cloud = cloud().start();
    let id = JobId::generate();
    let submit = |spec: JobSpec| {
        let answer = root(&cloud).ask(&Request::Submit { id, spec }).expect("an answer");
        if let Answer::Fault { fault } = answer {
            return Err(fault.code);
        }
        let Answer::Job(view) = answer else { panic!("{answer:?}") };
        Ok(view.row.id)
    };
    // At once from several places, as after a lost answer, and later again.
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..8).map(|_| scope.spawn(|| submit(start(VM)))).collect();
        for asker in askers {
            assert_eq!(asker.join().expect("no panic"), Ok(id));
        }
    });
    cloud.wait_job(&id.to_string(), "succeeded");
    assert_eq!(submit(start(VM)), Ok(id));
    assert_eq!(submit(start("vm1")), Err(Code::Conflict));
    assert_done_once(&cloud);
    assert_eq!((cloud.vm_state(VM), cloud.vm_state("vm1")), (json!("running"), json!("off")));
}

/// Makes a host listen elsewhere than the client worker publishes.
fn listen_at(cloud: &Cloud, addr: &str) {
    let file = cloud.state_dir(0).join("host-worker/server.json");
    let mut server: Value = serde_json::from_slice(&fs::read(&file).expect("the enrolment")).expect("JSON");
    server["pub"] = addr.into();
    fs::write(&file, server.to_string()).expect("a file can be written");
}

/// From the job's submission to the moment at which its host may act, by the client worker's clock.
fn until_granted(job: &Value) -> Duration {
    let at = |event: &str| events(job, event)[0]["at"].as_u64().expect("a moment");
    Duration::from_millis(at("granted") - at("submitted"))
}

/// What may pass on two busy cores besides the heartbeat itself.
const SLACK: Duration = Duration::from_millis(1500);

fn jobs_run_without_broadcasts(addr: impl FnOnce(&Cloud) -> String) -> Cloud {
    const BEAT: Duration = Duration::from_secs(2);
    let mut cloud =
        cloud().set("/timing/heartbeat_ms", 2000).set("/timing/suspect_ms", 9000).set("/timing/down_ms", 18000).start();
    cloud.hosts[0].kill9();
    listen_at(&cloud, &addr(&cloud));
    cloud.hosts[0].start();
    cloud.wait_up(0);
    for (verb, state) in [("start", "running"), ("stop", "off")] {
        let id = cloud.submit(&["vm", verb, VM]);
        let job = cloud.wait_job(&id, "succeeded");
        assert!(until_granted(&job) < BEAT + SLACK, "{:?}: {job:#}", until_granted(&job));
        // Told before the job's end is.
        assert_eq!(cloud.vm_state(VM), state);
    }
    cloud
}

#[test]
fn jobs_run_within_a_heartbeat_when_nobody_answers_at_the_publishing_port() {
    let _ = jobs_run_without_broadcasts(|cloud| cloud.spare_addr(0).to_string());
}

#[test]
fn jobs_run_within_a_heartbeat_when_the_publishing_port_swallows_everything() {
    let mut relay = None;
    let cloud = jobs_run_without_broadcasts(|cloud| {
        let new = Relay::start(cloud.spare_addr(0), cloud.pub_addr());
        new.cut();
        relay = Some(new);
        cloud.spare_addr(0).to_string()
    });
    assert_eq!(relay.expect("it was started").passed(), 0, "nothing came through at {}", cloud.pub_addr());
}

#[test]
fn a_subscription_that_fell_silent_is_made_anew() {
    let mut cloud = cloud()
        .set("/timing/heartbeat_ms", 8000)
        .set("/timing/suspect_ms", 20000)
        .set("/timing/down_ms", 40000)
        .start();
    cloud.hosts[0].kill9();
    let relay = Relay::start(cloud.spare_addr(0), cloud.pub_addr());
    listen_at(&cloud, &cloud.spare_addr(0).to_string());
    cloud.hosts[0].start();
    let beats = |relay: &Relay, before: u64| {
        wait_until("beats come through", SOON, || when(relay.passed() > before + 1000, relay.passed()));
    };
    beats(&relay, 0);
    relay.cut();
    // Three beats are missed, and the dead connection is given up.
    cloud.hosts[0].wait_log("no beat");
    relay.mend();
    beats(&relay, relay.passed());
    let id = cloud.submit(&["vm", "start", VM]);
    let job = cloud.wait_job(&id, "succeeded");
    assert!(until_granted(&job) < SLACK, "it came by broadcast: {job:#}");
}

#[test]
fn a_job_of_a_host_that_is_down_waits_and_runs_when_it_is_back() {
    let mut cloud = impatient().start();
    cloud.hosts[0].stop();
    cloud.wait_presence(0, "down");
    let id = cloud.submit(&["vm", "start", VM]);
    assert_eq!(cloud.job(&id)["state"], "queued");
    // Rows are as last seen, and said to be so.
    let list = cloud.cli(&["vm", "list"]).ended_with(3);
    assert!(list.stdout.contains(VM) && list.stderr.contains("down since"), "{list:?}");
    let row = cloud.cli(&["job", "list"]).ok();
    assert!(row.stdout.contains("queued"), "{row:?}");
    cloud.client_worker.restart();
    cloud.wait_answers();
    assert_eq!(cloud.job(&id)["state"], "queued");
    cloud.hosts[0].start();
    cloud.wait_job(&id, "succeeded");
    cloud.wait_vm(VM, "running");
}

#[test]
fn a_job_of_a_host_that_is_down_can_be_cancelled_and_does_not_run_when_it_is_back() {
    let mut cloud = impatient().start();
    cloud.hosts[0].stop();
    cloud.wait_presence(0, "down");
    let id = cloud.submit(&["vm", "start", VM]);
    cloud.cli(&["job", "cancel", &id]).ok();
    assert_eq!(cloud.job(&id)["state"], "cancelled");
    cloud.hosts[0].start();
    cloud.wait_up(0);
    // A second job of the same host would come after it.
    cloud.cli(&["vm", "start", "vm1"]).ok();
    assert_eq!((cloud.vm_state(VM), cloud.vm_state("vm1")), (json!("off"), json!("running")));
    assert_eq!(cloud.job(&id)["state"], "cancelled");
    cloud.cli(&["job", "wait", &id]).ended_with(12).says(&["cancelled"], &[]);
}

#[test]
fn a_job_that_ends_while_the_client_worker_is_away_is_reported_later() {
    let mut cloud = cloud().start();
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with("start.start.before=sleep(700)");
    cloud.wait_up(0);
    let id = cloud.submit(&["vm", "start", VM]);
    cloud.wait_job(&id, "running");
    cloud.client_worker.kill9();
    cloud.hosts[0].wait_log("done");
    cloud.client_worker.start();
    let job = cloud.wait_job(&id, "succeeded");
    assert_eq!(events(&job, "ended").len(), 1, "{job:#}");
    cloud.wait_vm(VM, "running");
}

#[test]
fn a_job_whose_host_falls_silent_is_lost_and_found_again() {
    let mut cloud = impatient().start();
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with("start.start.before=sleep(1500)");
    cloud.wait_up(0);
    let id = cloud.submit(&["vm", "start", VM]);
    cloud.wait_job(&id, "running");
    cloud.hosts[0].sigstop();
    cloud.wait_job(&id, "lost");
    cloud.wait_presence(0, "down");
    cloud.hosts[0].sigcont();
    let job = cloud.wait_job(&id, "succeeded");
    assert_eq!(
        (events(&job, "lost").len(), events(&job, "found").len(), events(&job, "ended").len()),
        (1, 1, 1),
        "{job:#}"
    );
}

#[test]
fn the_jobs_of_a_host_that_is_revoked_end_and_say_that_nothing_is_known() {
    let mut cloud = impatient().start();
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with("start.start.before=return(abort)");
    cloud.wait_up(0);
    let id = cloud.submit(&["vm", "start", VM]);
    cloud.hosts[0].wait_end(SOON);
    cloud.wait_job(&id, "lost");
    cloud.cli(&["host", "revoke", &host_name(0)]).ok();
    let job = cloud.wait_job(&id, "failed");
    assert_eq!(job["fault"]["code"], "outcome-unknown", "{job:#}");
    // It stays so over a restart.
    cloud.client_worker.restart();
    cloud.wait_answers();
    assert_eq!(cloud.job(&id)["state"], "failed");
}

#[test]
fn a_host_that_lost_its_ledger_leaves_the_outcome_unknown_and_says_so() {
    let mut cloud = cloud().start();
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with("start.start.after=return(abort)");
    cloud.wait_up(0);
    let id = cloud.submit(&["vm", "start", VM]);
    cloud.hosts[0].wait_end(SOON);
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        // The last two are there only if SQLite had use for them.
        let _ = fs::remove_file(cloud.state_dir(0).join("host-worker").join(file));
    }
    cloud.hosts[0].start();
    let job = cloud.wait_job(&id, "failed");
    assert_eq!(job["fault"]["code"], "outcome-unknown", "{job:#}");
    cloud.cli(&["job", "wait", &id]).ended_with(14).says(&["no longer knows"], &["maglica vm list"]);
    // The machine can be worked on again.
    cloud.cli(&["vm", "start", VM]).ok();
}

#[test]
fn a_client_worker_that_is_killed_over_and_over_loses_no_job_and_doubles_none() {
    const JOBS: usize = 12;
    let node = (0..JOBS).fold(Node::new(), |node, i| node.off(&format!("m{i}")));
    let mut cloud = Cloud::builder().node(node).start();
    cloud.client_worker.kill9();
    let askers: Vec<_> = (0..JOBS)
        .map(|i| {
            let mut peer = root(&cloud);
            std::thread::spawn(move || {
                let request = Request::Submit { id: JobId::generate(), spec: start(&format!("m{i}")) };
                wait_until("the job is taken", 2 * SOON, || match peer.ask(&request) {
                    Ok(Answer::Job(view)) => Ok(view.row.id),
                    other => {
                        // Whatever it was: a new session, and the same question again.
                        peer.forget();
                        Err(format!("{other:?}"))
                    }
                })
            })
        })
        .collect();
    // Each life ends a few stores later than the one before; some forty are needed in all.
    for stores in [1, 3, 2, 5, 4, 8] {
        cloud.client_worker.start_with(&format!("store.after-commit={stores}*off->return(abort)"));
        cloud.client_worker.wait_end(SOON);
    }
    cloud.client_worker.start();
    for asker in askers {
        let id = asker.join().expect("it was taken").to_string();
        let job = cloud.wait_job(&id, "succeeded");
        assert_eq!((events(&job, "granted").len(), events(&job, "ended").len()), (1, 1), "{job:#}");
        assert_eq!(cloud.hosts[0].log().matches(&format!("done job={id}")).count(), 1);
    }
    let jobs = cloud.cli(&["job", "list", "-o", "json"]).ok().json();
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(JOBS), "{jobs:#}");
}

#[test]
fn several_jobs_are_submitted_at_once_and_each_is_taken_or_refused_by_itself() {
    let cloud = cloud().start();
    let ids: Vec<JobId> = (0..4).map(|_| JobId::generate()).collect();
    let jobs: Vec<Submission> =
        ids.iter().zip([VM, "vm1", VM, "vm7"]).map(|(id, vm)| Submission { id: *id, spec: start(vm) }).collect();
    let ask = |jobs: &[Submission]| {
        let answer = root(&cloud).ask(&Request::SubmitMany { jobs: jobs.to_vec() }).expect("an answer");
        let Answer::Submitted { results } = answer else { panic!("{answer:?}") };
        results.into_iter().map(|result| result.map(|row| row.id).map_err(|fault| fault.code)).collect::<Vec<_>>()
    };
    let first = ask(&jobs);
    assert_eq!(first, [Ok(ids[0]), Ok(ids[1]), Err(Code::Conflict), Err(Code::NotFound)]);
    for id in &ids[..2] {
        cloud.wait_job(&id.to_string(), "succeeded");
    }
    // The same again is the same jobs; what was refused is judged anew, and now the machine is free.
    assert_eq!(ask(&jobs)[..3], [Ok(ids[0]), Ok(ids[1]), Ok(ids[2])]);
    let third = cloud.wait_job(&ids[2].to_string(), "succeeded");
    assert_eq!(third["outcome"], json!({"outcome": "started", "already": true}));
    let too_many = vec![jobs[0].clone(); SUBMIT_MAX + 1];
    let answer = root(&cloud).ask(&Request::SubmitMany { jobs: too_many }).expect("an answer");
    assert!(matches!(&answer, Answer::Fault { fault } if fault.code == Code::InvalidInput), "{answer:?}");
}
