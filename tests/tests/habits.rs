//! What a person at the command line has beside the verbs: why, dry runs, watching, completion, versions, manual pages.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use maglica_tests::{
    cloud::Cloud,
    command::{Output, maglica, run},
    node::Node,
    programs::program,
    wait::{SOON, wait_until, when},
};
use serde_json::Value;

const IMAGE: &str = "debian12.original";

fn dry(cloud: &Cloud, options: &[&str]) -> Output {
    let words = ["vm", "clone", "--image", IMAGE, "--hostname", "vm9", "--no-customize", "--dry-run", "-o", "json"];
    cloud.cli(&[&words, options].concat())
}

fn verdicts(output: &Output) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hosts = output.json()["considered"].as_array().unwrap().clone();
    hosts
        .iter()
        .map(|host| (text(&host["host"]), text(&host["verdict"]["verdict"]), text(&host["verdict"]["reason"])))
        .collect()
}

#[test]
fn a_dry_run_tells_of_each_host_why_or_why_not_and_makes_nothing() {
    let mut cloud = Cloud::builder()
        .hosts(3)
        .node(Node::new().off(IMAGE).running("vm1").running("vm2"))
        .node(Node::new().off(IMAGE).running("vm3"))
        .node(Node::new())
        .start();
    let ran = dry(&cloud, &[]).ok();
    let hosts: Vec<String> = verdicts(&ran).into_iter().map(|(host, verdict, _)| format!("{host} {verdict}")).collect();
    assert_eq!(hosts, ["host1.example.jp chosen", "host0.example.jp possible", "host2.example.jp refused"], "{ran:?}");
    assert!(verdicts(&ran)[2].2.contains("no image"), "{ran:?}");
    // Asked for where it cannot be: the table is there, and the exit code is the reason's.
    let nowhere = dry(&cloud, &["--on", "host2.example.jp"]).ended_with(4);
    assert_eq!(verdicts(&nowhere).len(), 3);
    nowhere.says(&["no host has an image"], &[]);
    let no_pool = dry(&cloud, &["--pool", "pool9"]).ended_with(4);
    no_pool.says(&["storage pool pool9"], &["pool0"]);
    dry(&cloud, &["--on", "host1.example.jp", "--pool", "pool0"]).ok();
    cloud.cli(&["vm", "show", "vm9"]).ended_with(4);
    let taken = cloud.cli(&["vm", "clone", "--image", IMAGE, "--hostname", "vm1", "--dry-run"]).ended_with(5);
    taken.says(&["vm1 exists already on host host0.example.jp"], &[]);
    assert_eq!(cloud.cli(&["job", "list", "-o", "json"]).ok().json()["jobs"], serde_json::json!([]));
    cloud.hosts[1].stop();
    wait_until("a host that is away is no candidate", SOON, || {
        let hosts = verdicts(&dry(&cloud, &[]));
        when(hosts[0].0 == "host0.example.jp", hosts)
    });
}

#[test]
fn why_tells_where_a_machine_is_and_what_its_job_waits_for() {
    let mut cloud = Cloud::builder().node(Node::new().off("vm1")).start();
    let shown = cloud.cli(&["why", "vm1"]).ok();
    assert!(shown.stdout.contains("Maglica did not make it") && shown.stdout.contains("host0"), "{shown:?}");
    let id = cloud.cli(&["vm", "start", "vm1", "--detach", "-o", "name"]).ok().stdout.trim().to_owned();
    let of_job = cloud.cli(&["why", &id, "-o", "json"]).ok().json();
    assert_eq!(of_job["why"], serde_json::json!(["vm1 is on host0.example.jp"]), "{of_job}");
    cloud.cli(&["job", "wait", &id]).ok();
    cloud.hosts[0].stop();
    let id = cloud.cli(&["vm", "stop", "vm1", "--detach", "-o", "name"]).ok().stdout.trim().to_owned();
    wait_until("it says what it waits for", SOON, || {
        let shown = cloud.cli(&["why", &id]).ok();
        when(shown.stdout.contains("waiting"), shown)
    });
    cloud.cli(&["why", "vm2"]).ended_with(4).says(&["vm2"], &["vm1"]);
    cloud.cli(&["job", "cancel", &id]).ok();
}

/// What a command that goes on prints, line by line.
struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    fn of(cloud: &Cloud, arguments: &[&str]) -> Self {
        let mut child = cloud.cli_spawn(arguments);
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The lines until one has this in it.
    #[track_caller]
    fn until(&self, wanted: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(20)) {
                Ok(line) => seen.push(line),
                Err(why) => panic!("no {wanted:?} ({why}) in {seen:#?}"),
            }
            if seen.last().is_some_and(|line| line.contains(wanted)) {
                return seen;
            }
        }
    }

    fn interrupt(mut self) -> Output {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Output { code, stdout: String::new(), stderr }
    }
}

#[test]
fn one_who_watches_hears_of_jobs_machines_and_hosts_and_goes_on_after_a_restart() {
    let mut cloud = Cloud::builder().hosts(2).node(Node::new().off("vm1")).node(Node::new()).start();
    let watching = Lines::of(&cloud, &["watch", "-o", "json"]);
    // It has begun once it hears of something that is done again and again until then.
    wait_until("it hears", SOON, || {
        cloud.cli(&["vm", "start", "vm1"]).ok();
        cloud.cli(&["vm", "destroy", "vm1"]).ok();
        watching.lines.try_recv().map(drop).map_err(|why| why.to_string())
    });
    while watching.lines.recv_timeout(Duration::from_millis(500)).is_ok() {}
    cloud.cli(&["vm", "start", "vm1"]).ok();
    let lines = watching.until("\"succeeded\"");
    let news: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<&Value> =
        news.iter().filter(|item| item["about"] == "job").map(|item| &item["job"]["state"]).collect();
    assert_eq!(states.first().unwrap().as_str(), Some("offered"), "{lines:#?}");
    let change = news.iter().find(|item| item["about"] == "vm").unwrap();
    assert_eq!((&change["name"], &change["change"]["to"]), (&"vm1".into(), &"running".into()), "{change}");
    let (vm, end) = (news.iter().position(|item| item["about"] == "vm"), news.len() - 1);
    assert!(vm.unwrap() < end, "the effect is heard before the end");

    cloud.hosts[1].stop();
    watching.until("\"down\"");
    cloud.client_worker.restart();
    watching.until("\"missed\"");
    watching.until("\"host0.example.jp\"");
    let ended = watching.interrupt();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("error"), "{ended:?}");
}

#[test]
fn a_shell_that_asks_hears_live_names_and_silence_when_nobody_answers() {
    let mut cloud = Cloud::builder().node(Node::new().off(IMAGE).off("web1").running("web2")).start();
    let complete = |cloud: &Cloud, words: &[&str]| {
        let mut line = vec!["--", "maglica"];
        line.extend(words);
        let mut command = maglica(&cloud.config(), &cloud.path(""), &line);
        command.env("MAGLICA_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        let output = run(command, "").ok();
        assert_eq!(output.stderr, "");
        output.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&cloud, &["vm", "start", "we"]), ["web1", "web2"]);
    assert_eq!(complete(&cloud, &["vm", "clone", "--image", ""]), [IMAGE]);
    assert_eq!(complete(&cloud, &["vm", "clone", "--on=ho"]), ["--on=host0.example.jp"]);
    assert_eq!(complete(&cloud, &["host", "revoke", ""]).first().unwrap(), "host0.example.jp");
    let id = cloud.cli(&["vm", "start", "web1", "--detach", "-o", "name"]).ok().stdout.trim().to_owned();
    assert!(complete(&cloud, &["job", "show", &id[..8]]).contains(&id));
    assert!(complete(&cloud, &["vm", "sh"]).contains(&"show".to_owned()));
    cloud.client_worker.stop();
    assert_eq!(complete(&cloud, &["vm", "start", "we"]), Vec::<String>::new());
    for shell in ["bash", "zsh", "fish"] {
        let script = cloud.cli(&["completion", shell]).ok().stdout;
        assert!(script.contains("MAGLICA_COMPLETE"), "{script}");
    }
}

#[test]
fn versions_of_all_parts_are_told() {
    let mut cloud = Cloud::builder().hosts(2).node(Node::new()).node(Node::new()).start();
    let told = cloud.cli(&["version", "-o", "json"]).ok().json();
    let own = told["cli"].as_str().unwrap();
    assert_eq!(told["client_worker"].as_str(), Some(own));
    assert_eq!(told["hosts"].as_array().unwrap().iter().filter(|host| host["version"] == own).count(), 2, "{told}");
    cloud.client_worker.stop();
    let alone = cloud.cli(&["version"]).ended_with(8);
    assert!(alone.stdout.contains(own) && alone.stdout.contains("not known"), "{alone:?}");
}

#[test]
fn manual_pages_are_made_for_all_programs() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["maglica", "maglica-client-worker", "maglica-host-worker"] {
        let mut command = Command::new(program(name));
        command.arg("manual").arg(folder.path());
        run(command, "").ok();
    }
    for (page, word) in [
        ("maglica.1", "Virtual machines"),
        ("maglica-vm-clone.1", "anti\\-affinity"),
        ("maglica-client-worker.8", "check\\-config"),
        ("maglica-host-worker-join.8", "invite"),
    ] {
        let text = std::fs::read_to_string(folder.path().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.starts_with(".ie") && text.contains(word), "{page}: {text}");
    }
}
