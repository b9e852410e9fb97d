//! What is attacked, and what has to hold after each case: the same process lives, a command and a real job work and
//! answer in time, memory, processor and file descriptors are back, and a counter and the log say what was refused.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use maglica_proto::{
    config::keyfile,
    key::{KeyPair, PublicKey},
    seal::PeerKind,
};
use maglica_tests::{
    cloud::{Builder, Cloud},
    node::Node,
    peer::Peer,
    wait::{SOON, wait_until, when},
};

/// The machine that the real job starts and switches off.
pub(crate) const VM: &str = "vm0";
/// How long an honest command may take after a case; on two busy cores and unoptimized, most of it is its start.
const ANSWERED: Duration = Duration::from_secs(4);
/// How long a real job may.
const WORKED: Duration = Duration::from_secs(8);
/// The share of one core that the daemon may use at rest, with heartbeats every 200 ms and unoptimized.
const IDLE: f64 = 0.25;
/// The time over which that is looked at.
const WINDOW: Duration = Duration::from_millis(400);
/// How many more file descriptors than before a case there may be: three for each peer that it leaves connected.
const FILES: usize = 24;
/// By how much memory may have grown after a case, unless it says otherwise. What the allocator keeps counts as well.
pub(crate) const GROWTH: u64 = 32 << 20;

/// What is refused where: the gate of a port, or `bus` above it.
pub(crate) type Refused<'a> = (&'a str, &'a str, u64);

/// A cloud under attack.
pub(crate) struct Target {
    pub(crate) cloud: Cloud,
    family: &'static str,
    pid: u32,
    running: bool,
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Bytes in memory.
    pub(crate) resident: u64,
    /// The most since it was last reset.
    pub(crate) peak: u64,
    /// Open files.
    pub(crate) files: usize,
}

impl Target {
    /// One client worker and one host with a machine, as they are by default but for short times.
    pub(crate) fn start(family: &'static str) -> Self {
        Self::of(family, builder())
    }

    /// The same of another cloud.
    pub(crate) fn of(family: &'static str, builder: Builder) -> Self {
        Self::running(family, builder.start())
    }

    /// One that runs already.
    pub(crate) fn running(family: &'static str, cloud: Cloud) -> Self {
        let pid = cloud.client_worker.pid();
        let mut target = Self { cloud, family, pid, running: false };
        // What is made once, at the first use, is not an attack's doing.
        for _ in 0..3 {
            target.works("warm");
        }
        target
    }

    /// The same after a restart of the client worker that the test made: another process.
    pub(crate) fn again(mut self) -> Self {
        self.pid = self.cloud.client_worker.pid();
        self
    }

    /// The client worker's key.
    pub(crate) fn server_key(&self) -> PublicKey {
        keyfile::read_public(&self.cloud.state_dir(0).join("operator/server.pub")).unwrap()
    }

    /// A peer of this kind with these keys.
    pub(crate) fn peer(&self, kind: PeerKind, keys: KeyPair) -> Peer {
        Peer::new(self.cloud.rep_addr(), kind, keys, self.server_key())
    }

    /// Root, played by the test.
    pub(crate) fn root(&self) -> Peer {
        self.peer(PeerKind::Operator, keys(&self.cloud.state_dir(0).join("operator/key")))
    }

    /// A new operator, let in with this role and played by the test.
    pub(crate) fn operator(&self, name: &str, role: &str) -> Peer {
        self.peer(PeerKind::Operator, self.operator_keys(name, role))
    }

    /// The keys of a new operator.
    pub(crate) fn operator_keys(&self, name: &str, role: &str) -> KeyPair {
        let _ = self.cloud.operator(name, role);
        keys(&self.cloud.path(&format!("keys-{name}/key")))
    }

    /// The keys of a host.
    pub(crate) fn host_keys(&self, host: usize) -> KeyPair {
        keys(&self.cloud.state_dir(host).join("host-worker/key"))
    }

    /// What was refused until now, by place and kind.
    pub(crate) fn refusals(&self) -> BTreeMap<(String, String), u64> {
        let status = self.cloud.cli(&["status", "-o", "json"]).ok().json();
        let rows = status["refusals"].as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        rows.iter().map(|row| ((text(&row["at"]), text(&row["kind"])), row["count"].as_u64().unwrap())).collect()
    }

    /// Runs a case and checks everything after it. `refused` is what has to be counted, at the least.
    pub(crate) fn case(&mut self, name: &str, refused: &[Refused<'_>], attack: impl FnOnce(&Cloud)) {
        self.case_within(name, refused, GROWTH, attack);
    }

    /// The same with another bound on what memory may grow by.
    pub(crate) fn case_within(
        &mut self,
        name: &str,
        refused: &[Refused<'_>],
        growth: u64,
        attack: impl FnOnce(&Cloud),
    ) {
        let before = self.refusals();
        self.settle(usize::MAX);
        let (start, log_before) = (usage(self.pid), self.cloud.client_worker.log().len());
        reset_peak(self.pid);
        let began = Instant::now();
        attack(&self.cloud);
        let took = began.elapsed();
        assert!(self.cloud.client_worker.running(), "{name}: the client worker has died");
        assert_eq!(self.cloud.client_worker.pid(), self.pid, "{name}: it is another process");
        let (command, job) = self.works(name);
        let files = self.settle(start.files + FILES);
        let end = wait_until(&format!("{name}: memory is back"), SOON, || {
            let now = usage(self.pid);
            when(now.resident <= start.resident + growth, now).map(|()| now)
        });
        let after = wait_until(&format!("{name}: {refused:?} are counted"), SOON, || {
            let now = self.refusals();
            let all = refused.iter().all(|(at, kind, least)| {
                let key = ((*at).to_owned(), (*kind).to_owned());
                let count = |counts: &BTreeMap<_, u64>| counts.get(&key).copied().unwrap_or(0);
                count(&now) >= count(&before) + least
            });
            when(all, (&before, &now)).map(|()| now)
        });
        let log = self.cloud.client_worker.log();
        for (_, kind, _) in refused {
            let said = [format!("kind=\"{kind}\""), format!("kind={kind} ")];
            assert!(said.iter().any(|said| log.contains(said)), "{name}: the log does not say {kind}");
        }
        assert!(log.len() - log_before < 64 << 10, "{name}: the log grew by {} bytes", log.len() - log_before);
        let counted: Vec<String> = after
            .iter()
            .filter_map(|(key, count)| {
                let more = count - before.get(key).copied().unwrap_or(0);
                (more > 0).then(|| format!("{more} × {}/{}", key.0, key.1))
            })
            .collect();
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        print(&format!(
            "| {}: {name} | {} | {} → {} (peak {}) | {} → {files} | {} | {} | {} |",
            self.family,
            if counted.is_empty() { "nothing to refuse".to_owned() } else { counted.join(", ") },
            mib(start.resident),
            mib(end.resident),
            mib(end.peak),
            start.files,
            millis(took),
            millis(command),
            millis(job),
        ));
    }

    /// An honest command and a real job: how long each took.
    #[track_caller]
    pub(crate) fn works(&mut self, name: &str) -> (Duration, Duration) {
        let began = Instant::now();
        listed(&self.cloud);
        let command = began.elapsed();
        assert!(command < ANSWERED, "{name}: an honest command took {command:?}");
        let began = Instant::now();
        self.cloud.cli(&["vm", if self.running { "destroy" } else { "start" }, VM]).ok();
        let job = began.elapsed();
        self.running = !self.running;
        assert!(job < WORKED, "{name}: a real job took {job:?}");
        (command, job)
    }

    /// Waits until the daemon is at rest and has at most so many files open; gives how many.
    fn settle(&self, files: usize) -> usize {
        wait_until("at rest again", SOON, || {
            let before = ticks(self.pid);
            std::thread::sleep(WINDOW);
            let share = (ticks(self.pid) - before) as f64 / 100.0 / WINDOW.as_secs_f64();
            let now = usage(self.pid);
            when(share < IDLE && now.files <= files, (share, now)).map(|()| now.files)
        })
    }
}

/// A list that was answered in full, or said which host is away.
#[track_caller]
pub(crate) fn listed(cloud: &Cloud) {
    let output = cloud.cli(&["vm", "list"]);
    assert!(matches!(output.code, 0 | 3), "{output:?}");
}

/// The cloud of [`Target::start`].
pub(crate) fn builder() -> Builder {
    Cloud::builder().node(Node::new().off(VM)).set("/log/level", "info")
}

/// A private key of a file.
pub(crate) fn keys(file: &Path) -> KeyPair {
    keyfile::read_private(file).unwrap()
}

/// A key that nobody has let in.
pub(crate) fn new_keys() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// Says a line of the table.
pub(crate) fn print(line: &str) {
    // Where it goes is only for people.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// What a process holds now.
pub(crate) fn usage(pid: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_end_matches("kB").trim().parse().unwrap_or(0)
    };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    Usage { resident: kib("VmRSS:") * 1024, peak: kib("VmHWM:") * 1024, files }
}

/// From now on the peak is counted anew.
pub(crate) fn reset_peak(pid: u32) {
    // Where the kernel does not allow it, the peak is that of the whole run.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Processor time in hundredths of a second.
pub(crate) fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may hold anything, in parentheses.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    field(11) + field(12)
}

/// May open many files: a peer of two thousand connections is one process here.
pub(crate) fn many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
