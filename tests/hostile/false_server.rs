//! A client worker that is none, and a man in the middle, against the real command and the real host worker: neither
//! hangs, dies, grows, or believes anything that was not made with the pinned key.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use maglica_proto::seal::{Header, Kind, Refusal, beat, header::BEAT_TOPIC, refusal};
use maglica_tests::{
    cloud::{Cloud, host_name},
    command::{Output, run},
    programs::program,
    wait::{SOON, wait_until, when},
};

use crate::{
    liar::{FalseServer, From, Lie, Middle},
    random::Random,
    raw::{claim, frame, hello, message},
    target::{Target, print, ticks, usage},
};

/// What was recorded of an honest conversation, as the answering side said it.
fn recorded(cloud: &Cloud) -> Vec<Vec<u8>> {
    let middle = Middle::start(cloud.spare_addr(1), cloud.rep_addr(), |_, bytes| bytes.to_vec());
    cli_at(cloud, cloud.spare_addr(1), "recording", &["vm", "list"]).ok();
    let bytes = middle.answers();
    let mut decoder = maglica_proto::transport::zmtp::Decoder::new(maglica_proto::transport::zmtp::Limits::default());
    decoder.feed(&bytes[64..]);
    let mut answers = Vec::new();
    while let Ok(Some(item)) = decoder.next() {
        if let maglica_proto::transport::zmtp::Item::Message(message) = item {
            answers.extend(message.frame(1).map(<[u8]>::to_vec));
        }
    }
    assert!(answers.len() >= 2, "a handshake and an answer");
    answers
}

fn lies(random: &mut Random, recorded: &[Vec<u8>]) -> Vec<(&'static str, Lie)> {
    let word = |word| message(&[b"", &refusal(word)]);
    let mut forged = recorded.to_vec();
    forged.reverse();
    vec![
        ("says nothing", Lie::Silence),
        ("garbage", Lie::Bytes(random.bytes(4_000))),
        ("HTTP", Lie::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("greets and says nothing", Lie::Greets(Vec::new())),
        ("greets and claims a tebibyte", Lie::Greets(claim(2, 1 << 40))),
        ("greets and claims a command of a tebibyte", Lie::Greets(claim(6, 1 << 40))),
        ("greets with garbage after it", Lie::Greets(random.bytes(4_000))),
        ("answers before it is asked", Lie::Greets(word(Refusal::Busy))),
        ("a byte at a time", Lie::Drips),
        ("hangs up at each question", Lie::HangsUp),
        ("frames without end", Lie::Floods(frame(true, &[7; 60_000]))),
        ("messages without end", Lie::Floods(message(&[b"", &[7; 60_000]]))),
        ("answers with garbage", Lie::Answers(vec![random.bytes(300)])),
        ("answers with a mebibyte of garbage", Lie::Answers(vec![random.bytes(1 << 20)])),
        ("answers with nothing", Lie::Answers(vec![Vec::new()])),
        ("the answers of another conversation", Lie::Answers(recorded.to_vec())),
        ("the same in another order", Lie::Answers(forged)),
        ("cannot read what was made for the pinned key", Lie::Answers(vec![refusal(Refusal::Unverified)])),
        ("says that the key was revoked", Lie::Answers(vec![refusal(Refusal::Revoked)])),
        ("a word that is none", Lie::Answers(vec![[&refusal(Refusal::Busy)[..32], b"\x1b[2Jpwned"].concat()])),
    ]
}

/// The command towards another address, with no more than 4 GiB of address space: what allocates by a claim dies of it.
fn cli_at(cloud: &Cloud, at: SocketAddr, name: &str, arguments: &[&str]) -> Output {
    let config =
        cloud.config_with(&format!("{}.conf", name.replace(' ', "-")), &[("/client/rep_port", at.port().into())]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 4194304; exec \"$@\"", "sh"]).arg(program("maglica")).args(arguments);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", cloud.path("")).env("MAGLICA_CONFIG", config).stdin(std::process::Stdio::null());
    run(command, "")
}

#[track_caller]
fn is_a_clear_error(what: &str, output: &Output) {
    assert!(output.code > 0 && output.code < 100, "{what}: {output:?}");
    assert!(output.stdout.is_empty(), "{what}: {output:?}");
    output.says(&[], &[]);
    assert!(!output.stderr.contains('\x1b'), "{what}: {output:?}");
}

#[test]
fn a_command_that_meets_a_false_client_worker_ends_in_time_with_one_clear_sentence() {
    let mut target = Target::start("false server");
    let mut random = Random::seeded("false server");
    let recorded = recorded(&target.cloud);
    let all = lies(&mut random, &recorded);
    target.case("20 lies to the command, and the pinned key with each", &[], |cloud| {
        for (what, lie) in all {
            let server = FalseServer::start(cloud.spare_addr(0), "REP", lie);
            let began = Instant::now();
            let output = cli_at(cloud, cloud.spare_addr(0), "false", &["vm", "list", "--timeout", "2s"]);
            let took = began.elapsed();
            is_a_clear_error(what, &output);
            assert!(took < Duration::from_secs(8), "{what}: {took:?}");
            assert!(server.met() > 0, "{what}: nobody came");
            print(&format!("false server: {what}: exit {} after {} ms", output.code, took.as_millis()));
        }
    });
}

#[test]
fn a_man_in_the_middle_can_stop_a_command_and_never_change_what_it_hears() {
    let mut target = Target::start("man in the middle");
    let random = Mutex::new(Random::seeded("man in the middle"));
    let honest: Vec<String> = {
        let list = target.cloud.cli(&["vm", "list", "-o", "name"]).ok().stdout;
        list.lines().map(str::to_owned).collect()
    };
    let flips = Arc::new(AtomicUsize::new(0));
    let count = flips.clone();
    let _middle = Middle::start(target.cloud.spare_addr(0), target.cloud.rep_addr(), move |from, bytes| {
        let mut random = random.lock().unwrap();
        // One in three pieces is changed: flipped, doubled, cut.
        let hit = random.below(3) == 0;
        if !hit {
            return bytes.to_vec();
        }
        count.fetch_add(1, Ordering::Relaxed);
        match (random.below(4), from) {
            (0, _) => [bytes, bytes].concat(),
            (1, From::Server) => bytes[..random.below(bytes.len()).max(1)].to_vec(),
            _ => random.flip(bytes),
        }
    });
    target.case("40 commands through somebody who flips, doubles and cuts", &[], |cloud| {
        let codes: Vec<i32> = thread::scope(|scope| {
            let runs: Vec<_> = (0..4)
                .map(|of| {
                    let honest = &honest;
                    scope.spawn(move || -> Vec<i32> {
                        (0..10)
                            .map(|at| {
                                let name = format!("middle{of}-{at}");
                                let output = cli_at(
                                    cloud,
                                    cloud.spare_addr(0),
                                    &name,
                                    &["vm", "list", "-o", "name", "--timeout", "2s"],
                                );
                                if output.code == 0 {
                                    assert_eq!(&output.stdout.lines().map(str::to_owned).collect::<Vec<_>>(), honest);
                                } else {
                                    is_a_clear_error("in the middle", &output);
                                }
                                output.code
                            })
                            .collect()
                    })
                })
                .collect();
            runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
        });
        let fine = codes.iter().filter(|code| **code == 0).count();
        print(&format!(
            "man in the middle: {} pieces changed; {fine} of 40 commands got through",
            flips.load(Ordering::Relaxed)
        ));
    });
}

/// Where a host worker listens and asks; changed while it does not run.
fn server_file(cloud: &Cloud, change: impl FnOnce(&mut serde_json::Value)) {
    let path = cloud.state_dir(0).join("host-worker/server.json");
    let mut server: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut server);
    write_private(&path, &serde_json::to_vec(&server).unwrap());
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_host_worker_that_meets_a_false_client_worker_goes_on_when_the_real_one_is_back() {
    let mut target = Target::start("false server");
    let mut random = Random::seeded("false server");
    let recorded = recorded(&target.cloud);
    let (asking, publishing) = (target.cloud.rep_addr(), target.cloud.pub_addr());
    target.cloud.client_worker.kill9();
    let host = target.cloud.hosts[0].pid();
    let (start, began, before, log) = (usage(host), Instant::now(), ticks(host), target.cloud.hosts[0].log().len());
    for (what, lie) in lies(&mut random, &recorded) {
        let server = FalseServer::start(asking, "REP", lie.clone());
        let publisher = FalseServer::start(publishing, "PUB", lie);
        wait_until("the host worker comes", SOON, || when(server.met() > 0, server.met()));
        thread::sleep(Duration::from_millis(250));
        drop((server, publisher));
        assert!(target.cloud.hosts[0].running(), "{what}: the host worker has died");
        let now = usage(host);
        assert!(now.resident < start.resident + (24 << 20), "{what}: {start:?} {now:?}");
        assert!(now.files < start.files + 20, "{what}: {start:?} {now:?}");
    }
    let share = (ticks(host) - before) as f64 / 100.0 / began.elapsed().as_secs_f64();
    let grown = target.cloud.hosts[0].log().len() - log;
    let now = usage(host);
    print(&format!(
        "| false server: 20 lies to the host worker | the host worker goes on, {:.0} % of a core and {grown} bytes of log meanwhile | {:.1} → {:.1} | {} → {} | {} ms | – | – |",
        share * 100.0,
        start.resident as f64 / 1048576.0,
        now.resident as f64 / 1048576.0,
        start.files,
        now.files,
        began.elapsed().as_millis()
    ));
    assert!(share < 0.5, "{share} of a core");
    assert!(grown < 64 << 10, "{grown} bytes of log");
    target.cloud.client_worker.start();
    target.cloud.wait_up(0);
    let mut target = target.again();
    assert_eq!(target.cloud.hosts[0].pid(), host);
    target.works("after all lies");
}

#[test]
fn a_false_publisher_can_neither_command_a_host_nor_fill_its_log() {
    let mut target = Target::start("false publisher");
    let mut random = Random::seeded("false publisher");
    let at = target.cloud.spare_addr(0);
    target.cloud.hosts[0].stop();
    server_file(&target.cloud, |server| server["pub"] = at.to_string().into());
    // What a subscriber is sent: beats, so that it stays; and on its own topic, which it said itself, all that is not for it.
    let topic: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let listener = TcpListener::bind(at).unwrap();
    let (learned, told) = (topic.clone(), Arc::new(AtomicUsize::new(0)));
    let count = told.clone();
    let garbage: Vec<Vec<u8>> = (0..50)
        .map(|at| {
            let header = Header { kind: Kind::Broadcast, session: Default::default(), counter: at };
            [&header.to_bytes()[..], &random.bytes(300)].concat()
        })
        .chain((0..50).map(|length| vec![7; length]))
        .collect();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            let _ = stream.write_all(&hello("PUB", None));
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let mut heard = Vec::new();
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                heard.extend_from_slice(&buffer[..read]);
            }
            let at = heard.windows(2).position(|two| two == b"s/").unwrap_or(0);
            let topic: Vec<u8> = heard[at..].iter().copied().take(35).collect();
            *learned.lock().unwrap() = Some(topic.clone());
            loop {
                let mut all = message(&[BEAT_TOPIC.as_bytes(), &beat()]);
                for bytes in &garbage {
                    all.extend(message(&[&topic, bytes]));
                }
                if stream.write_all(&all).is_err() {
                    break;
                }
                count.fetch_add(garbage.len(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        }
    });
    target.cloud.hosts[0].start();
    target.works("with the false publisher");
    let (host, log) = (target.cloud.hosts[0].pid(), target.cloud.hosts[0].log().len());
    let start = usage(host);
    wait_until("20,000 false broadcasts are sent", SOON, || {
        let count = told.load(Ordering::Relaxed);
        when(count > 20_000, (count, topic.lock().unwrap().clone()))
    });
    // Jobs come with the heartbeat all the same.
    target.works("a false publisher");
    let grown = target.cloud.hosts[0].log().len() - log;
    print(&format!(
        "false publisher: {} false broadcasts, {grown} bytes of log, {:?} → {:?}",
        told.load(Ordering::Relaxed),
        start,
        usage(host)
    ));
    assert!(target.cloud.hosts[0].log().contains("refused a broadcast"));
    assert!(grown < 64 << 10, "{grown} bytes of log");
    assert!(usage(host).resident < start.resident + (24 << 20));
    assert_eq!(target.cloud.host(0)["name"], host_name(0).as_str());
}
