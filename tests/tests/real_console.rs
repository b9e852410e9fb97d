//! A real guest's serial console: seen, logged in on and typed at, through the sealed sessions only.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use maglica_tests::{
    cloud::Cloud,
    command::maglica,
    libvirt::{Rig, text, virsh},
    terminal::Terminal,
    wait::{SOON, wait_until, when},
};
use rustix::process::Signal;

const PASSWORD: &str = "serial";
/// An emulated guest's boot, on two busy cores.
const BOOT: Duration = Duration::from_secs(240);
/// What a guest that runs does.
const DONE: Duration = Duration::from_secs(60);
/// Keys whose echo is timed.
const KEYS: u32 = 40;

fn console(cloud: &Cloud, config: &Path, vm: &str, options: &[&str]) -> Terminal {
    Terminal::run(maglica(config, &cloud.path(""), &[&["vm", "console", vm], options].concat()))
}

#[test]
fn real_a_console_is_typed_at_by_one_looked_at_by_others_and_goes_on_over_restarts() {
    let rig = Rig::debian();
    let mut cloud = rig.cloud().start();
    let vm = rig.name("console");
    let password = cloud.path("password");
    fs::write(&password, PASSWORD).unwrap();
    let clone = rig.clone_of(&vm, &["--root-password-file", text(&password)]);
    cloud.cli(&clone.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    let log = log_file(&vm);
    assert!(log.ends_with(".serial.log") && Path::new(&log).exists(), "{log}");

    let mut one = console(&cloud, &cloud.config(), &vm, &[]);
    one.wait("Ctrl-] leaves", SOON);
    assert!(!one.is_as_before());
    one.wait("login: ", BOOT);
    one.keys("root\r");
    one.wait("Password: ", DONE);
    one.keys(&format!("{PASSWORD}\r"));
    one.wait("# ", DONE);
    one.keys("echo answer-$((6*7))\r");
    one.wait("answer-42", DONE);

    typed_at_speed(&mut one);

    // One who looks sees the same and types nothing; a second one who types is told who does.
    let viewer = cloud.operator("eve", "viewer");
    let mut other = console(&cloud, &viewer, &vm, &["--view"]);
    other.wait("answer-42", SOON);
    other.keys("echo not-typed\r");
    one.keys("echo both-$((1+1))\r");
    one.wait("both-2", DONE);
    other.wait("both-2", DONE);
    assert!(!one.screen().contains("not-typed"));
    cloud.cli_as(&viewer, &["vm", "console", &vm]).ended_with(10).says(&["viewer", "console-open"], &[]);
    let second = cloud.operator("bob", "operator");
    cloud.cli_as(&second, &["vm", "console", &vm]).ended_with(5).says(&["root types", &vm], &[]);
    other.keys("\x1d");
    assert!(other.ended(SOON).success() && other.is_as_before());

    // A host worker and a client worker that restart are not the end of it.
    cloud.hosts[0].restart();
    one.keys("echo host-$((2+1))\r");
    one.wait("host-3", DONE);
    cloud.client_worker.restart();
    one.keys("echo client-$((2+2))\r");
    one.wait("client-4", DONE);

    let mut ended = console(&cloud, &second, &vm, &["--force"]);
    ended.wait("Ctrl-] leaves", SOON);
    ended.signal(Signal::TERM);
    assert_eq!(ended.ended(SOON).code(), Some(130));
    assert!(ended.is_as_before(), "a signal gives the terminal back");

    let kept = cloud.cli(&["vm", "log", &vm, "-n", "5000"]).ok().stdout;
    assert!(kept.contains("login: root") && kept.contains("answer-42"), "{kept}");
    assert!(kept.contains(&format!("Debian GNU/Linux 12 {vm} ttyS0")), "from the beginning: {kept}");
    assert_eq!(cloud.cli(&["vm", "log", &vm, "-n", "1"]).ok().stdout.trim_end().lines().count(), 1);
    let mut follows = Terminal::run(maglica(&cloud.config(), &cloud.path(""), &["vm", "log", &vm, "-f", "-n", "0"]));

    let mut last = console(&cloud, &cloud.config(), &vm, &["--force"]);
    last.wait("Ctrl-] leaves", SOON);
    last.keys("\recho in-the-log\r");
    last.wait("in-the-log", DONE);
    follows.wait("in-the-log", DONE);
    follows.signal(Signal::INT);
    assert!(follows.ended(SOON).success());
    cloud.cli(&["vm", "destroy", &vm]).ok();
    assert!(last.ended(DONE).success());
    assert!(last.screen().contains("went off") && last.is_as_before(), "{}", last.screen());
    assert!(
        cloud.cli(&["vm", "log", &vm, "-n", "50"]).ok().stdout.contains("in-the-log"),
        "the log of one that is off"
    );
    cloud.cli(&["vm", "console", &vm]).ended_with(6).says(&["is off"], &[]);

    let audit = cloud.cli(&["audit", "-n", "1000", "-o", "json"]).ok().json();
    let entries = audit["entries"].as_array().unwrap();
    let of = |verb: &str, who: &str| entries.iter().any(|entry| entry["verb"] == verb && entry["who"] == who);
    assert!(of("console-open", "root") && of("console-view", "eve") && of("console-open", "bob"), "{audit:#}");
    assert!(!audit.to_string().contains("answer-"), "what is typed is not in the audit");

    cloud.cli(&["vm", "remove", &vm, "--yes"]).ok();
    assert!(!Path::new(&log).exists(), "the log goes with the machine");
}

fn log_file(vm: &str) -> String {
    let xml = virsh(&["dumpxml", vm]);
    let log = xml.split("<log file='").nth(1).unwrap_or_else(|| panic!("no log in {xml}"));
    log.split('\'').next().unwrap().to_owned()
}

/// A key's echo is there before the next one is typed: at forty keys a second nobody types faster.
fn typed_at_speed(terminal: &mut Terminal) {
    let mut took = Vec::new();
    for key in 0..KEYS {
        terminal.clear();
        let letter = char::from(b'a' + u8::try_from(key % 26).unwrap()).to_string();
        let begun = Instant::now();
        terminal.keys(&letter);
        let until = begun + SOON;
        while !terminal.screen().contains(&letter) {
            assert!(Instant::now() < until, "no echo of {letter}");
            std::thread::sleep(Duration::from_micros(200));
        }
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] < Duration::from_millis(100), "{took:?}");
    terminal.clear();
    // All that was typed is one word that nobody knows: take it back.
    terminal.keys("\x15echo quick-$((3*3))\r");
    wait_until("all keys came in their order", SOON, || when(terminal.screen().contains("quick-9"), terminal.screen()));
}
