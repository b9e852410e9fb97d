//! A whole Maglica for one test: a client worker, host workers, the command, all real programs in a folder of its own.
//!
//! Each cloud listens on a loopback address of its own (made of the test's process id), so that tests run side by side.
//! What runs is ended with this value; a test that fails shows the end of each log.

use std::{
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    command::{Output, maglica, run},
    daemon::Daemon,
    node::Node,
    wait::{SOON, wait_until},
};

/// Ports are counted from here for each cloud of this process: below the range that outgoing connections take theirs from.
const FIRST_PORT: u16 = 20_000;
/// The two ports of a cloud and two for a test's proxies.
const PORTS: u16 = 4;
static CLOUDS: AtomicU16 = AtomicU16::new(0);

/// How a cloud is to be.
#[derive(Debug, Clone)]
pub struct Builder {
    hosts: usize,
    nodes: Vec<Node>,
    settings: Vec<(String, Value)>,
    host_settings: Vec<(usize, String, Value)>,
    failpoints: String,
    test_driver: bool,
    wait: bool,
}

/// A running cloud.
#[derive(Debug)]
pub struct Cloud {
    folder: TempDir,
    address: IpAddr,
    port: u16,
    settings: Value,
    /// The client worker.
    pub client_worker: Daemon,
    /// The host workers; the first one is on the client worker's machine.
    pub hosts: Vec<Daemon>,
}

impl Builder {
    /// How many hosts; one unless said otherwise.
    #[must_use]
    pub const fn hosts(mut self, count: usize) -> Self {
        self.hosts = count;
        self
    }

    /// The domains of the next host of libvirt's in-memory driver.
    #[must_use]
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// Sets a key of every configuration file, such as `/timing/heartbeat_ms`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// Sets a key of one host's configuration file. The first host shares the client worker's.
    #[must_use]
    pub fn set_of_host(mut self, host: usize, key: &str, value: impl Into<Value>) -> Self {
        self.host_settings.push((host, key.to_owned(), value.into()));
        self
    }

    /// Uses this libvirt on all hosts instead of the in-memory driver: `qemu`, `system` is `qemu:///system`.
    #[must_use]
    pub fn libvirt(mut self, driver: &str, path: &str) -> Self {
        self.test_driver = false;
        self.set("/libvirt", json!({"driver": driver, "path": path}))
    }

    /// The client worker's failure points at its first start.
    #[must_use]
    pub fn failpoints(mut self, failpoints: &str) -> Self {
        failpoints.clone_into(&mut self.failpoints);
        self
    }

    /// Does not wait until the hosts have told what they have.
    #[must_use]
    pub const fn without_waiting(mut self) -> Self {
        self.wait = false;
        self
    }

    /// Starts the client worker, then the hosts: the first joins by the invitation on its own machine, the others by one that
    /// `maglica host invite` makes.
    ///
    /// # Panics
    /// If anything does not come up.
    #[must_use]
    pub fn start(self) -> Cloud {
        let mut cloud = self.prepare();
        cloud.client_worker.start_with(&self.failpoints);
        cloud.wait_answers();
        for index in 0..self.hosts {
            if index > 0 {
                cloud.join(index);
            }
            cloud.hosts[index].start();
        }
        if self.wait {
            for index in 0..self.hosts {
                cloud.wait_up(index);
            }
        }
        cloud
    }

    /// Writes all files and starts nothing.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    pub fn prepare(&self) -> Cloud {
        // Under /tmp whatever TMPDIR says: the path of a unix socket has 107 bytes at most.
        let folder = tempfile::Builder::new().prefix("mgl").tempdir_in("/tmp").expect("a folder can be made in /tmp");
        let (address, port) = free_ports();
        let mut settings = json!({
            "client": {"host": address.to_string(), "pub_port": port, "rep_port": port + 1},
            "host": {"accel": "emulation", "jobs": 4},
            "timing": {
                "heartbeat_ms": 200, "suspect_ms": 4000, "down_ms": 8000, "beat_ms": 200, "offer_first_ms": 50,
                "inventory_poll_ms": 100, "inventory_full_ms": 2000,
            },
            "log": {"level": "debug"},
        });
        for (key, value) in &self.settings {
            set(&mut settings, key, value.clone());
        }
        let log = |name: &str| folder.path().join(format!("{name}.log"));
        let config = folder.path().join("maglica.conf");
        let client_worker = Daemon::new("maglica-client-worker", config, log("client-worker"));
        let mut cloud = Cloud { address, port, settings, client_worker, hosts: Vec::new(), folder };
        for index in 0..self.hosts.max(1) {
            let mut settings = cloud.settings.clone();
            let state = cloud.state_dir(index);
            set(&mut settings, "/host/name", host_name(index).into());
            set(&mut settings, "/state_dir", path_value(&state));
            set(&mut settings, "/run_dir", path_value(&cloud.folder.path().join(format!("r{index}"))));
            if self.test_driver && settings.pointer("/libvirt").is_none() {
                let node = cloud.path(&format!("node{index}.xml"));
                let domains = self.nodes.get(index).cloned().unwrap_or_default();
                domains.write(&cloud.path(&format!("node{index}")), &node);
                set(&mut settings, "/libvirt", json!({"driver": "test", "path": node}));
            }
            // Whoever runs the tests: the operator is the one that the client worker makes at its first start.
            set(&mut settings, "/operator/key", path_value(&cloud.state_dir(0).join("operator/key")));
            set(&mut settings, "/operator/server_key", path_value(&cloud.state_dir(0).join("operator/server.pub")));
            for (_, key, value) in self.host_settings.iter().filter(|(host, ..)| *host == index) {
                set(&mut settings, key, value.clone());
            }
            let config = if index == 0 { cloud.config() } else { cloud.path(&format!("host{index}.conf")) };
            write_config(&config, &settings);
            let log = cloud.path(&format!("host{index}.log"));
            cloud.hosts.push(Daemon::new("maglica-host-worker", config, log));
        }
        cloud
    }
}

impl Cloud {
    /// One with a client worker, one host without domains, and short times.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            hosts: 1,
            nodes: Vec::new(),
            settings: Vec::new(),
            host_settings: Vec::new(),
            failpoints: String::new(),
            test_driver: true,
            wait: true,
        }
    }

    /// A path in the cloud's own folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration of client worker, first host and command.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path("maglica.conf")
    }

    /// The state folder of a host; the first one's is the client worker's, too.
    #[must_use]
    pub fn state_dir(&self, host: usize) -> PathBuf {
        self.path(&format!("s{host}"))
    }

    /// Where the client worker publishes.
    #[must_use]
    pub const fn pub_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Where it answers.
    #[must_use]
    pub const fn rep_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port + 1)
    }

    /// A port that this cloud has for the test's own use, number 0 or 1.
    #[must_use]
    pub const fn spare_addr(&self, number: u16) -> SocketAddr {
        SocketAddr::new(self.address, self.port + 2 + number)
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_as(&self.config(), arguments)
    }

    /// Runs the command with another configuration, such as [`Cloud::operator`] gives.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn cli_as(&self, config: &Path, arguments: &[&str]) -> Output {
        run(maglica(config, self.folder.path(), arguments), "")
    }

    /// Starts the command and goes on; `finish` waits for it.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn cli_spawn(&self, arguments: &[&str]) -> Child {
        let mut command = maglica(&self.config(), self.folder.path(), arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command can be run")
    }

    /// Writes another configuration: the client worker's file with these keys set. Gives its path.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn config_with(&self, name: &str, keys: &[(&str, Value)]) -> PathBuf {
        let text = fs::read(self.config()).expect("the configuration can be read");
        let mut settings: Value = serde_json::from_slice(&text).expect("the configuration is written as JSON");
        for (key, value) in keys {
            set(&mut settings, key, value.clone());
        }
        let path = self.path(name);
        write_config(&path, &settings);
        path
    }

    /// Lets an operator in with a role, by `operator add` and `operator join`; gives its configuration for [`Cloud::cli_as`].
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn operator(&self, name: &str, role: &str) -> PathBuf {
        let line = self.cli(&["operator", "add", name, "--role", role]).ok().stdout;
        let config = self.operator_config(name);
        run(maglica(&config, self.folder.path(), &["operator", "join"]), &line).ok();
        config
    }

    /// A configuration with keys of its own that nobody has made yet.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn operator_config(&self, name: &str) -> PathBuf {
        let keys = self.path(&format!("keys-{name}"));
        self.config_with(
            &format!("{name}.conf"),
            &[
                ("/operator/key", path_value(&keys.join("key"))),
                ("/operator/server_key", path_value(&keys.join("server.pub"))),
            ],
        )
    }

    /// Lets a host join: `maglica host invite` here, `maglica-host-worker join` there.
    ///
    /// # Panics
    /// If that fails.
    pub fn join(&self, host: usize) {
        let line = self.cli(&["host", "invite", &host_name(host)]).ok().stdout;
        let mut command = self.hosts[host].command();
        command.arg("join");
        run(command, &line).ok();
    }

    /// Waits until the client worker answers.
    pub fn wait_answers(&self) {
        wait_until("the client worker answers", SOON, || {
            let output = self.cli(&["host", "list", "-o", "json", "--timeout", "5s"]);
            if output.code == 0 { Ok(()) } else { Err(format!("{output:?}")) }
        });
    }

    /// What `maglica host list` says of a host; null if it is not there, or the client worker is away.
    #[must_use]
    pub fn host(&self, host: usize) -> Value {
        let output = self.cli(&["host", "list", "-o", "json", "--timeout", "5s"]);
        let hosts = if output.code == 0 { output.json() } else { Value::Null };
        let rows = hosts["hosts"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["name"] == host_name(host)).unwrap_or_default()
    }

    /// Waits until a host is up and has told what it has.
    pub fn wait_up(&self, host: usize) {
        wait_until(&format!("host {host} is up"), SOON, || {
            let row = self.host(host);
            let up = row["presence"] == "up" && !row["facts"].is_null();
            if up { Ok(()) } else { Err(row.to_string()) }
        });
    }

    /// Waits until a host has this presence.
    pub fn wait_presence(&self, host: usize, presence: &str) {
        wait_until(&format!("host {host} is {presence}"), SOON, || {
            let row = self.host(host);
            if row["presence"] == presence { Ok(()) } else { Err(row.to_string()) }
        });
    }

    /// Submits a job by a command with `--detach`; gives its id.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn submit(&self, arguments: &[&str]) -> String {
        let all: Vec<&str> = arguments.iter().copied().chain(["--detach", "-o", "name"]).collect();
        self.cli(&all).ok().stdout.trim().to_owned()
    }

    /// A job as `maglica job show` has it.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn job(&self, id: &str) -> Value {
        self.cli(&["job", "show", id, "-o", "json"]).ok().json()
    }

    /// Waits until a job has this state; gives it.
    pub fn wait_job(&self, id: &str, state: &str) -> Value {
        wait_until(&format!("job {id} is {state}"), SOON, || {
            let output = self.cli(&["job", "show", id, "-o", "json", "--timeout", "3s"]);
            if output.code != 0 {
                return Err(format!("{output:?}"));
            }
            let job = output.json();
            if job["state"] == state { Ok(job) } else { Err(job.to_string()) }
        })
    }

    /// The state of a virtual machine as `maglica vm list` has it; null if it is not there.
    #[must_use]
    pub fn vm_state(&self, name: &str) -> Value {
        let vms = self.cli(&["vm", "list", "-o", "json"]).json();
        let rows = vms["vms"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["name"] == name).map_or(Value::Null, |row| row["state"].clone())
    }

    /// Waits until a virtual machine is shown in this state. Right after a host's restart what is shown may be as before it.
    pub fn wait_vm(&self, name: &str, state: &str) {
        wait_until(&format!("{name} is {state}"), SOON, || {
            let seen = self.vm_state(name);
            if seen == state { Ok(()) } else { Err(seen.to_string()) }
        });
    }

    /// Everything that an attack must not change: jobs, hosts and operators, without what changes by itself.
    ///
    /// # Panics
    /// If the client worker does not answer.
    #[must_use]
    pub fn facts(&self) -> Value {
        let jobs = self.cli(&["job", "list", "-o", "json"]).ok().json();
        let operators = self.cli(&["operator", "list", "-o", "json"]).ok().json();
        let hosts = self.cli(&["host", "list", "-o", "json"]).ok().json();
        let hosts: Vec<Value> = hosts["hosts"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| json!([row["name"], row["presence"], row["fingerprint"], row["domains"], row["active"]]))
            .collect();
        json!({"jobs": jobs, "operators": operators, "hosts": hosts})
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let daemons = std::iter::once(&self.client_worker).chain(&self.hosts);
        let words: String = daemons.map(Daemon::last_words).collect();
        // The test has failed already; where this goes is only for people.
        let _ = std::io::stderr().write_all(words.as_bytes());
    }
}

/// The name of a host.
#[must_use]
pub fn host_name(index: usize) -> String {
    format!("host{index}.example.jp")
}

/// From heartbeat to heartbeat, unless a test sets another.
pub const HEARTBEAT: Duration = Duration::from_millis(200);

fn path_value(path: &Path) -> Value {
    path.to_str().expect("the paths of tests are UTF-8").into()
}

/// JSON is YAML.
fn write_config(path: &Path, settings: &Value) {
    fs::write(path, format!("{settings:#}")).expect("a configuration can be written");
}

/// Sets `/a/b` and makes the maps on the way.
fn set(settings: &mut Value, key: &str, value: Value) {
    let mut place = settings;
    for part in key.split('/').skip(1) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = value;
}

/// A loopback address of this process and ports on it of this cloud. Free unless somebody listens on all addresses.
fn free_ports() -> (IpAddr, u16) {
    let [high, middle, low] = {
        let bytes = std::process::id().to_be_bytes();
        // Process ids have 22 bits at most, so this fits into 127.1.0.0 to 127.64.255.255.
        [1 + (bytes[1] & 0x3f), bytes[2], bytes[3]]
    };
    let address = IpAddr::V4(Ipv4Addr::new(127, high, middle, low));
    loop {
        let port = FIRST_PORT + PORTS * (CLOUDS.fetch_add(1, Ordering::Relaxed) % 2500);
        if (0..PORTS).all(|offset| TcpListener::bind((address, port + offset)).is_ok()) {
            return (address, port);
        }
    }
}
