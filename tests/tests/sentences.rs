//! What goes wrong for people is said in one clear sentence, with a hint what to do and an exit code of its own kind.

use std::fs;

use maglica_tests::{
    cloud::{Cloud, host_name},
    command::{Output, run},
    daemon::Daemon,
    node::Node,
    wait::{SOON, wait_until},
};
use serde_json::json;

const IMAGE: &str = "debian12.original";

fn cloud() -> Cloud {
    Cloud::builder().node(Node::new().off(IMAGE).running("busy.original").off("web1").running("web2")).start()
}

fn clone(cloud: &Cloud, image: &str, name: &str, more: &[&str]) -> Output {
    let mut arguments = vec!["vm", "clone", "--image", image, "--hostname", name];
    arguments.extend(more);
    cloud.cli(&arguments)
}

/// Nothing came of any of them.
fn assert_no_job(cloud: &Cloud) {
    let jobs = cloud.cli(&["job", "list", "-o", "json"]).ok().json();
    assert_eq!(jobs["jobs"], json!([]));
}

#[test]
fn a_name_that_was_mistyped_is_answered_with_the_one_that_was_meant() {
    let cloud = cloud();
    clone(&cloud, "debian21.original", "new1", &[])
        .ended_with(4)
        .says(&["debian21.original"], &["did you mean debian12.original"]);
    cloud
        .cli(&["vm", "start", "wbe1"])
        .ended_with(4)
        .says(&["there is no virtual machine wbe1"], &["did you mean web1"]);
    cloud.cli(&["vm", "show", "web3"]).ended_with(4).says(&["web3"], &["did you mean"]);
    clone(&cloud, IMAGE, "new1", &["--on", "hots0.example.jp"])
        .ended_with(4)
        .says(&["there is no host hots0.example.jp"], &["did you mean host0.example.jp"]);
    clone(&cloud, IMAGE, "new1", &["--pool", "polo0"])
        .ended_with(4)
        .says(&["polo0", "host0.example.jp"], &["did you mean pool0"]);
    cloud
        .cli(&["host", "revoke", "host9.example.jp"])
        .ended_with(4)
        .says(&["host9.example.jp"], &["did you mean host0.example.jp"]);
    cloud.cli(&["operator", "revoke", "rot"]).ended_with(4).says(&["rot"], &["did you mean root"]);
    assert_no_job(&cloud);
}

#[test]
fn what_is_like_nothing_is_said_not_to_be_there_and_where_to_look() {
    let cloud = cloud();
    clone(&cloud, "windows", "new1", &[]).ended_with(4).says(&["windows"], &["maglica image list"]);
    cloud.cli(&["vm", "stop", "quite-another"]).ended_with(4).says(&["quite-another"], &["maglica vm list"]);
    let id = "0193e0a5-7f3e-7c1a-9d3b-2f6c1a0b4d5e";
    cloud.cli(&["job", "show", id]).ended_with(4).says(&["there is no job", id], &["maglica job list"]);
    cloud.cli(&["job", "cancel", id]).ended_with(4).says(&["there is no job"], &[]);
    assert_no_job(&cloud);
}

#[test]
fn a_name_that_is_taken_and_an_image_that_runs_are_refused() {
    let cloud = cloud();
    clone(&cloud, IMAGE, "web1", &[])
        .ended_with(5)
        .says(&["web1", "exists already", &host_name(0)], &["maglica vm show web1"]);
    clone(&cloud, "busy.original", "new1", &[])
        .ended_with(6)
        .says(&["busy.original", "running"], &["maglica vm show busy.original"]);
    cloud.cli(&["vm", "remove", "web2", "--yes"]).ended_with(6).says(&["web2", "running"], &["maglica vm show web2"]);
    assert_no_job(&cloud);
}

#[test]
fn a_name_that_is_none_is_refused_before_anybody_is_asked() {
    let cloud = Cloud::builder().hosts(0).start();
    let long = "a".repeat(300);
    for name in ["-x", "a..b", "../../etc/passwd", "x;reboot", "$(reboot)", "a b", "", "ü.example.jp", &long] {
        let output =
            cloud.cli(&["vm", "clone", &format!("--image={IMAGE}"), &format!("--hostname={name}")]).ended_with(2);
        assert!(output.stderr.contains("error: ") && output.stdout.is_empty(), "{name:?}: {output:?}");
    }
    assert_no_job(&cloud);
}

#[test]
fn a_host_that_is_down_is_named() {
    let mut cloud = Cloud::builder()
        .node(Node::new().off(IMAGE).off("web1"))
        .set("/timing/suspect_ms", 700)
        .set("/timing/down_ms", 1400)
        .start();
    cloud.hosts[0].stop();
    cloud.wait_presence(0, "down");
    clone(&cloud, IMAGE, "new1", &[])
        .ended_with(8)
        .says(&[&host_name(0), "down"], &["maglica-host-worker running there"]);
    let list = cloud.cli(&["image", "list"]).ended_with(3);
    assert!(list.stdout.contains(IMAGE), "{list:?}");
    assert!(list.stderr.contains(&host_name(0)) && list.stderr.contains("down since"), "{list:?}");
    assert_no_job(&cloud);
    // After a restart the client worker does not say of what it has not heard of that there is none.
    cloud.client_worker.restart();
    cloud.wait_answers();
    cloud
        .cli(&["vm", "start", "web1"])
        .ended_with(8)
        .says(&["web1", "not heard of yet", &host_name(0)], &["maglica host list"]);
}

#[test]
fn a_client_worker_that_does_not_run_is_said_not_to() {
    let mut cloud = cloud();
    cloud.client_worker.stop();
    let addr = cloud.rep_addr().to_string();
    cloud
        .cli(&["image", "list"])
        .ended_with(8)
        .says(&["no answer from the client worker", &addr], &["is maglica-client-worker running there"]);
    // Nor with a machine on which it never ran, so that there is no key either.
    let fresh = Cloud::builder().hosts(0).prepare();
    fresh
        .cli(&["image", "list"])
        .ended_with(8)
        .says(&["no answer from the client worker"], &["is maglica-client-worker running there"]);
    // One that hangs is waited for no longer than was said.
    cloud.client_worker.start();
    cloud.wait_up(0);
    cloud.client_worker.sigstop();
    cloud.cli(&["image", "list", "--timeout", "1s"]).ended_with(8).says(&["no answer", &addr], &["client.host"]);
    cloud.client_worker.sigcont();
    cloud.wait_answers();
}

#[test]
fn a_libvirt_that_does_not_answer_is_named_by_the_job() {
    let mut cloud = cloud();
    let node = cloud.path("node0.xml");
    let away = cloud.path("away.xml");
    cloud.hosts[0].kill9();
    fs::rename(&node, &away).expect("a file can be moved");
    cloud.hosts[0].start();
    cloud.hosts[0].wait_log("libvirt does not answer");
    // What was known is still shown, and what is asked meanwhile is refused with the reason.
    let output = cloud.cli(&["vm", "start", "web1"]).ended_with(1);
    output.says(&["libvirt"], &["is libvirtd running on the host", "maglica job show"]);
    fs::rename(&away, &node).expect("a file can be moved");
    cloud.cli(&["vm", "start", "web1"]).ok();
}

fn conclusion(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    let errors: Vec<&str> =
        output.stderr.lines().filter(|line| !line.is_empty() && !line.starts_with("hint: ")).collect();
    assert_eq!(errors.len(), 1, "one sentence: {output:?}");
    for word in words {
        assert!(errors[0].contains(word), "{word:?}: {output:?}");
    }
}

#[test]
fn a_malformed_configuration_is_named_with_file_key_and_what_is_allowed() {
    let cloud = Cloud::builder().hosts(0).prepare();
    let file = cloud.config().display().to_string();
    let cases = [
        ("{\"client\": {\"rep_prot\": 1}}", vec!["client.rep_prot"]),
        ("{\"client\": {\"rep_port\": \"many\"}}", vec!["client.rep_port", "from 1 to 65535"]),
        ("{\"client\": {\"rep_port\": 5555}}", vec!["client.rep_port", "client.pub_port"]),
        ("{\"host\": {\"name\": \"-x\"}}", vec!["host.name"]),
        ("{\"host\": {\"accel\": \"fast\"}}", vec!["host.accel", "auto, kvm or emulation"]),
        ("{\"state_dir\": \"relative\"}", vec!["state_dir", "absolute"]),
        ("{\"timing\": {\"down_ms\": 1}}", vec!["timing.down_ms"]),
        ("client: [unclosed", vec!["YAML"]),
        ("- a\n- list\n", vec![]),
    ];
    for (text, mut words) in cases {
        fs::write(cloud.config(), text).expect("a file can be written");
        words.push(&file);
        let daemons: [&Daemon; 2] = [&cloud.client_worker, &cloud.hosts[0]];
        for daemon in daemons {
            let mut check = daemon.command();
            check.arg("--check-config");
            conclusion(&run(check, ""), 1, &words);
            conclusion(&run(daemon.command(), ""), 1, &words);
        }
        conclusion(&cloud.cli(&["image", "list"]), 13, &words);
    }
    fs::remove_file(cloud.config()).expect("a file can be removed");
    conclusion(&run(cloud.client_worker.command(), ""), 1, &["cannot read the configuration", &file]);
    conclusion(&cloud.cli(&["image", "list"]), 13, &["cannot read the configuration", &file]);
}

#[test]
fn a_good_configuration_is_said_to_be_good_and_nothing_is_started_or_made() {
    let cloud = Cloud::builder().hosts(0).prepare();
    for daemon in [&cloud.client_worker, &cloud.hosts[0]] {
        let mut check = daemon.command();
        check.arg("--check-config");
        let output = run(check, "").ok();
        assert!(output.stdout.contains("the configuration is good"), "{output:?}");
    }
    assert!(!cloud.state_dir(0).exists());
}

#[test]
fn a_second_daemon_on_the_same_state_folder_is_refused_and_harms_nothing() {
    let cloud = cloud();
    conclusion(&run(cloud.client_worker.command(), ""), 1, &["another client worker is running on"]);
    conclusion(&run(cloud.hosts[0].command(), ""), 1, &["another host worker is running on"]);
    cloud.cli(&["vm", "start", "web1"]).ok();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let cloud = cloud();
    let addr = cloud.rep_addr().to_string();
    let state = json!(cloud.path("other"));
    let config = cloud.config_with("other.conf", &[("/state_dir", state), ("/run_dir", json!(cloud.path("ro")))]);
    let other = Daemon::new("maglica-client-worker", config, cloud.path("other.log"));
    let output = run(other.command(), "");
    assert_eq!(output.code, 1);
    let last = output.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("cannot listen on") && last.contains(&addr) && last.contains("in use"), "{output:?}");
    cloud.cli(&["vm", "start", "web1"]).ok();
}

#[test]
fn a_host_that_cannot_join_says_why() {
    let cloud = cloud();
    let config = cloud.config_with(
        "h5.conf",
        &[
            ("/state_dir", json!(cloud.path("s5"))),
            ("/run_dir", json!(cloud.path("r5"))),
            ("/host/name", json!("h5.example.jp")),
        ],
    );
    let worker = Daemon::new("maglica-host-worker", config, cloud.path("h5.log"));
    let join = |line: &str| {
        let mut command = worker.command();
        command.arg("join");
        run(command, line)
    };
    conclusion(&join("not an invitation at all"), 1, &["invitation"]);
    let line = cloud.cli(&["host", "invite", "h5.example.jp"]).ok().stdout;
    join(&line).ok();
    conclusion(&join(&line.replace("127.", "127.0.0.1:9 127.")), 1, &["invitation"]);
    let unreachable = line.replace(&cloud.rep_addr().to_string(), &cloud.spare_addr(0).to_string());
    conclusion(&join(&unreachable), 1, &["cannot join", &cloud.spare_addr(0).to_string()]);
    // A second host with the same, used line.
    let config = cloud.config_with(
        "h6.conf",
        &[
            ("/state_dir", json!(cloud.path("s6"))),
            ("/run_dir", json!(cloud.path("r6"))),
            ("/host/name", json!("h6.example.jp")),
        ],
    );
    let other = Daemon::new("maglica-host-worker", config, cloud.path("h6.log"));
    let mut command = other.command();
    command.arg("join");
    conclusion(&run(command, &line), 1, &["cannot join"]);
    wait_until("only one is there", SOON, || if cloud.host(0).is_null() { Err("none".to_owned()) } else { Ok(()) });
}
