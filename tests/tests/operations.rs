//! How the daemons start, run and end as services.

use std::{io::Write, net::TcpStream, os::unix::net::UnixDatagram, time::Duration};

use maglica_tests::{
    cloud::{Cloud, host_name},
    command::finish,
    node::Node,
    wait::{SOON, wait_until, when},
};
use serde_json::Value;

/// More than an end that waits for nobody takes on two busy cores, less than the client worker would wait for requests under way (5 s).
const QUICK: Duration = Duration::from_secs(3);

#[test]
fn a_vm_is_started_stopped_and_switched_off_through_the_command() {
    let cloud = Cloud::builder().node(Node::new().off("vm0").running("vm1")).start();
    cloud.cli(&["vm", "start", "vm0"]).ok();
    assert_eq!(cloud.vm_state("vm0"), "running");
    cloud.cli(&["vm", "stop", "vm0"]).ok();
    assert_eq!(cloud.vm_state("vm0"), "off");
    cloud.cli(&["vm", "destroy", "vm1"]).ok();
    assert_eq!(cloud.vm_state("vm1"), "off");
}

#[test]
fn fifty_machines_are_started_on_one_host_at_once() {
    const COUNT: usize = 50;
    let node = (0..COUNT).fold(Node::new(), |node, i| node.off(&format!("m{i}")));
    let cloud = Cloud::builder().node(node).start();
    let ids: Vec<String> = (0..COUNT).map(|i| cloud.submit(&["vm", "start", &format!("m{i}")])).collect();
    for id in &ids {
        cloud.cli(&["job", "wait", id, "--timeout", "50s"]).ok();
    }
    let vms = cloud.cli(&["vm", "list", "-o", "json"]).ok().json();
    let running = vms["vms"].as_array().into_iter().flatten().filter(|row| row["state"] == "running").count();
    assert_eq!(running, COUNT);
    let jobs = cloud.cli(&["job", "list", "-n", "100", "-o", "json"]).ok().json();
    let rows = jobs["jobs"].as_array().cloned().unwrap_or_default();
    assert!(rows.len() == COUNT && rows.iter().all(|row| row["state"] == "succeeded"), "{jobs:#}");
}

#[test]
fn a_client_worker_that_is_asked_to_end_does_so_at_once_though_commands_wait() {
    let mut cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    cloud.hosts[0].stop();
    let id = cloud.submit(&["vm", "start", "vm0"]);
    // Its host is away, so all of these wait in a long poll.
    let waiting: Vec<_> = (0..5).map(|_| cloud.cli_spawn(&["job", "wait", &id, "--timeout", "40s"])).collect();
    std::thread::sleep(Duration::from_millis(500));
    let (status, took) = cloud.client_worker.stop();
    assert!(status.success() && took < QUICK, "{status}, {took:?}");
    // Who waits goes on waiting, and hears the end from the next client worker.
    cloud.client_worker.start();
    cloud.hosts[0].start();
    for command in waiting {
        finish(command).ok();
    }
}

#[test]
fn a_host_worker_that_is_asked_to_end_leaves_its_jobs_to_its_next_start() {
    let mut cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    cloud.hosts[0].kill9();
    cloud.hosts[0].start_with("start.start.before=sleep(1000)");
    cloud.wait_up(0);
    let id = cloud.submit(&["vm", "start", "vm0"]);
    cloud.wait_job(&id, "running");
    let (status, took) = cloud.hosts[0].stop();
    assert!(status.success() && took < QUICK, "{status}, {took:?}");
    assert_eq!(cloud.job(&id)["state"], "running");
    cloud.hosts[0].start();
    cloud.wait_job(&id, "succeeded");
    assert_eq!(cloud.vm_state("vm0"), "running");
}

#[test]
fn a_host_worker_that_is_not_enrolled_yet_ends_as_quickly() {
    let mut cloud = Cloud::builder().hosts(0).prepare();
    cloud.hosts[0].start();
    cloud.hosts[0].wait_log("not enrolled");
    let (status, took) = cloud.hosts[0].stop();
    assert!(status.success() && took < QUICK, "{status}, {took:?}");
}

/// What a service manager hears of one daemon.
fn heard(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    std::iter::from_fn(|| {
        socket.recv(&mut buffer).ok().map(|count| String::from_utf8_lossy(&buffer[..count]).into_owned())
    })
    .collect()
}

#[test]
fn the_service_manager_is_told_ready_alive_and_stopping() {
    let mut cloud = Cloud::builder().node(Node::new().off("vm0")).prepare();
    let mut sockets = Vec::new();
    for name in ["cw", "hw"] {
        let path = cloud.path(name);
        let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
        socket.set_nonblocking(true).expect("a socket can be set");
        let daemon = if name == "cw" { &mut cloud.client_worker } else { &mut cloud.hosts[0] };
        daemon.env("NOTIFY_SOCKET", path.to_str().expect("a path of a test"));
        daemon.env("WATCHDOG_USEC", "900000");
        sockets.push(socket);
    }
    cloud.client_worker.start();
    cloud.hosts[0].start();
    for socket in &sockets {
        let mut all = Vec::new();
        wait_until("READY and two signs of life", SOON, || {
            all.extend(heard(socket));
            let count = |word: &str| all.iter().filter(|line| line.contains(word)).count();
            when(count("READY=1") == 1 && count("WATCHDOG=1") >= 2, &all)
        });
    }
    // Ready means that it answers: one look is enough.
    cloud.cli(&["host", "list"]).ok();
    // A desk that hangs is not alive; nobody may say so for it.
    cloud.client_worker.sigstop();
    let _ = heard(&sockets[0]);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(heard(&sockets[0]), Vec::<String>::new());
    cloud.client_worker.sigcont();
    cloud.hosts[0].stop();
    cloud.client_worker.stop();
    for socket in &sockets {
        let all = heard(socket);
        assert!(all.iter().any(|line| line.contains("STOPPING=1")), "{all:?}");
    }
}

#[test]
fn the_logs_and_the_store_hold_no_secret() {
    let mut cloud = Cloud::builder()
        .hosts(2)
        .node(Node::new().off("debian12.original").off("vm0"))
        .set("/log/level", "trace")
        .start();
    let password = "correct-horse-battery";
    let file = cloud.path("password");
    std::fs::write(&file, format!("{password}\n")).expect("a file can be written");
    let line = cloud.cli(&["operator", "add", "alice"]).ok().stdout;
    let token = line.split_whitespace().last().expect("a token").to_owned();
    let _ = cloud.operator("bob", "admin");
    // It fails on the in-memory driver, which is as good: the hash went all the way.
    let file = file.to_str().expect("a path of a test");
    let clone =
        ["vm", "clone", "--image=debian12.original", "--hostname=new1", "--root-password-file", file, "-o", "json"];
    let output = cloud.cli(&clone);
    assert_ne!(output.code, 0, "{output:?}");
    cloud.cli(&["vm", "start", "vm0"]).ok();
    let jobs = cloud.cli(&["job", "list", "-o", "json"]).ok().json();
    let ids: Vec<String> =
        jobs["jobs"].as_array().into_iter().flatten().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect();
    assert_eq!(ids.len(), 2, "{jobs}");
    for id in &ids {
        let shown = cloud.cli(&["job", "show", id, "-o", "json"]).ok().stdout;
        assert!(!shown.contains("$6$") && !shown.contains(password), "{shown}");
    }
    let key = |path: &str| std::fs::read_to_string(cloud.state_dir(0).join(path)).expect("a key").trim().to_owned();
    let mut secrets = vec![
        password.to_owned(),
        "$6$".to_owned(),
        token,
        key("client-worker/key"),
        key("operator/key"),
        key("host-worker/key"),
    ];
    let invites: Value = serde_json::from_str(&key("client-worker/trust.json")).expect("JSON");
    secrets.extend(
        invites["invites"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, invite)| invite["psk"].as_str().map(str::to_owned)),
    );
    assert!(secrets.len() > 6, "the open invitation's key is among them: {invites}");
    let logs = [cloud.client_worker.log(), cloud.hosts[0].log(), cloud.hosts[1].log()];
    for secret in &secrets {
        assert!(logs.iter().all(|log| !log.contains(secret.as_str())), "a log holds {secret}");
    }
    // Once the job has ended its hash is nowhere at rest either; what SQLite has not overwritten yet goes with the end of the daemon.
    cloud.hosts[0].stop();
    cloud.client_worker.stop();
    for store in ["client-worker/jobs.db", "host-worker/ledger.db"] {
        let bytes = std::fs::read(cloud.state_dir(0).join(store)).expect("a store");
        assert!(!bytes.windows(3).any(|window| window == b"$6$"), "{store} holds a password's hash");
    }
}

#[test]
fn hosts_are_pinged_through_the_sealed_bus_and_a_silent_one_is_named_without_an_answer() {
    let mut cloud = Cloud::builder().hosts(2).start();
    let all = cloud.cli(&["host", "ping", "-c", "3", "-o", "json"]).ok().json();
    for host in 0..2 {
        let ping = &all["pings"][host];
        assert_eq!((&ping["host"], &ping["answered"]), (&host_name(host).into(), &3.into()), "{all:#}");
        assert!(
            ping["min_us"].as_u64().is_some_and(|least| least > 0 && least <= ping["max_us"].as_u64().unwrap_or(0))
        );
    }
    cloud.hosts[1].kill9();
    let output = cloud.cli(&["host", "ping", &host_name(1), "--wait", "1s", "-o", "json"]);
    assert_eq!((output.code, &output.json()["pings"][0]["answered"]), (3, &0.into()), "{output:?}");
    assert!(output.stderr.contains("did not answer"), "{output:?}");
    let unknown = cloud.cli(&["host", "ping", "host7.example.jp"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
}

#[test]
fn status_counts_hosts_jobs_commits_and_what_was_refused() {
    let cloud = Cloud::builder().node(Node::new().off("vm0")).start();
    cloud.cli(&["vm", "start", "vm0"]).ok();
    TcpStream::connect(cloud.rep_addr())
        .and_then(|mut stream| stream.write_all(b"GET / HTTP/1.1\r\n\r\n"))
        .expect("a stranger connects");
    let status = wait_until("the stranger is counted", SOON, || {
        let status = cloud.cli(&["status", "-o", "json"]).ok().json();
        let refused = status["refusals"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|row| row["at"] == "ask" && row["kind"] == "handshake");
        if refused { Ok(status) } else { Err(format!("{status:#}")) }
    });
    assert_eq!(status["hosts"]["up"], 1, "{status:#}");
    assert_eq!(status["jobs"], serde_json::json!([{"state": "succeeded", "count": 1}]));
    assert!(status["store"]["commits"].as_u64().is_some_and(|count| count >= 3), "{status:#}");
    assert!(status["store"]["commit_p50_us"].as_u64().is_some_and(|micros| micros > 0), "{status:#}");
    let shown = cloud.cli(&["status", "-v"]).ok().stdout;
    assert!(shown.contains("1 up") && shown.contains("handshake"), "{shown}");
}
