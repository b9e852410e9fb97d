//! `maglica-measure`: the clock of `scripts/bench`. Takes many samples of one kind of thing and prints a line of
//! tab-separated figures for each: name, samples, then p50, p95, p99, smallest and largest in microseconds. Of a fleet
//! ([`fleet`]) it prints one figure a line.

mod fleet;
mod honest;
mod outside;
mod process;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use maglica_proto::{
    config::Config,
    inventory::DomainState,
    job::{HostEventKind, JobEvent, JobEventKind, JobSpec, VmRef},
    name::{DomainName, HostName},
    request::{Answer, Request},
};
use maglica_tests::fleet::{Plan, asker::Asker};
use tokio::signal::unix::{SignalKind, signal};

/// What stands between two commands that are measured in turn.
const NEXT: &str = ",";

/// How long a host may take to answer a ping, in milliseconds.
const PING_MS: u32 = 5000;
/// Pings before those that count.
const WARM_UP: usize = 10;

/// Measures.
#[derive(Parser)]
#[command(name = "maglica-measure", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Whole commands, from before the fork until after the wait: one of each in turn, so that what else the machine
    /// does meets all of them alike
    Commands {
        /// Samples of each
        #[arg(long, default_value_t = 200)]
        runs: usize,
        /// Runs of each before these
        #[arg(long, default_value_t = 10)]
        warmup: usize,
        /// Exit codes that are as they should be
        #[arg(long, value_delimiter = ',', default_value = "0")]
        accept: Vec<i32>,
        /// `NAME PROGRAM ARGUMENT… , NAME PROGRAM ARGUMENT…`
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        commands: Vec<String>,
    },
    /// `host list` through one open session: seal, two ports, gate, answer from memory
    Roundtrip {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Samples
        #[arg(long, default_value_t = 2000)]
        runs: usize,
    },
    /// `host ping` of one host through one open session: as the client worker measures it, and as the asker sees it
    Ping {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The host
        #[arg(long)]
        host: HostName,
        /// Samples
        #[arg(long, default_value_t = 200)]
        runs: usize,
    },
    /// A commit's floor: writes 4 KiB into a file and waits until they are on the disk
    Disk {
        /// Where
        #[arg(long, value_name = "FOLDER")]
        folder: PathBuf,
        /// Samples
        #[arg(long, default_value_t = 500)]
        runs: usize,
    },
    /// From submitting a job to its first step on its host; starts and switches off a virtual machine in turn
    Submit {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Its host
        #[arg(long)]
        host: HostName,
        /// The virtual machine
        #[arg(long)]
        vm: DomainName,
        /// Samples
        #[arg(long, default_value_t = 200)]
        runs: usize,
    },
    /// From the start of a `virsh` that changes a virtual machine until Maglica shows the change
    Virsh {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The host's libvirt
        #[arg(long)]
        uri: String,
        /// The virtual machine, which runs
        #[arg(long)]
        vm: DomainName,
        /// Samples
        #[arg(long, default_value_t = 200)]
        runs: usize,
    },
    /// A client worker of its own with a simulated fleet: cold start, rest, a job for each host, restarts
    Fleet {
        /// The client worker's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where the programs are
        #[arg(long, value_name = "FOLDER")]
        programs: PathBuf,
        /// Hosts
        #[arg(long, default_value_t = 1000)]
        hosts: u32,
        /// Virtual machines of each
        #[arg(long, default_value_t = 20)]
        domains: u32,
        /// How often every host gets a job
        #[arg(long, default_value_t = 10)]
        runs: u32,
        /// How long rest is measured, in seconds
        #[arg(long, default_value_t = 30)]
        rest: u64,
    },
}

#[expect(clippy::print_stderr, reason = "an error must reach the terminal")]
fn main() -> ExitCode {
    match run(Arguments::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maglica-measure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> anyhow::Result<()> {
    if let What::Fleet { config, programs, hosts, domains, runs, rest } = what {
        let plan = Plan { hosts, dead: 0, domains, prefix: "sim".to_owned() };
        let task = fleet::Task { config, programs, plan, runs, rest: Duration::from_secs(rest) };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        return runtime.block_on(async {
            let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            tokio::select! {
                done = fleet::measure(task) => done,
                // Dropped, and with it the client worker.
                _ = terminate.recv() => bail!("terminated"),
                _ = interrupt.recv() => bail!("interrupted"),
            }
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let open = |config: PathBuf| anyhow::Ok(Asker::open(&Config::load(Some(&config))?.config)?);
    match what {
        What::Commands { runs, warmup, accept, commands } => whole_commands(runs, warmup, &accept, &commands),
        What::Roundtrip { config, runs } => runtime.block_on(roundtrip(open(config)?, runs)),
        What::Ping { config, host, runs } => runtime.block_on(ping(open(config)?, host, runs)),
        What::Disk { folder, runs } => disk(&folder, runs),
        What::Fleet { .. } => Ok(()),
        What::Virsh { config, uri, vm, runs } => runtime.block_on(outside::measure(open(config)?, &uri, vm, runs)),
        What::Submit { config, host, vm, runs } => runtime.block_on(submit(open(config)?, &host, &vm, runs)),
    }
}

/// The figures of a series of samples, in one line on stdout.
#[expect(clippy::print_stdout, reason = "the figures that a script reads")]
fn tell(name: &str, mut samples: Vec<Duration>) -> anyhow::Result<()> {
    ensure!(!samples.is_empty(), "{name} has no samples");
    samples.sort_unstable();
    // The nearest rank: the smallest sample that so many per cent of all do not exceed.
    let rank = |percent: usize| samples[(samples.len() * percent).div_ceil(100).max(1) - 1].as_micros();
    println!("{name}\t{}\t{}\t{}\t{}\t{}\t{}", samples.len(), rank(50), rank(95), rank(99), rank(0), rank(100));
    Ok(())
}

fn whole_commands(runs: usize, warmup: usize, accept: &[i32], words: &[String]) -> anyhow::Result<()> {
    let commands: Vec<(&String, &[String])> = words
        .split(|word| word == NEXT)
        .map(|words| {
            words
                .split_first()
                .filter(|(_, words)| !words.is_empty())
                .context("a command is a name, a program and its arguments")
        })
        .collect::<anyhow::Result<_>>()?;
    let mut samples: Vec<Vec<Duration>> = vec![Vec::with_capacity(runs); commands.len()];
    for run in 0..warmup + runs {
        for ((name, words), samples) in commands.iter().zip(&mut samples) {
            let began = Instant::now();
            let status = Command::new(&words[0])
                .args(&words[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .with_context(|| format!("cannot run {name}: {}", words[0]))?;
            let took = began.elapsed();
            ensure!(
                status.code().is_some_and(|code| accept.contains(&code)),
                "{name} failed: {} ({status})",
                words.join(" ")
            );
            if run >= warmup {
                samples.push(took);
            }
        }
    }
    commands.iter().zip(samples).try_for_each(|((name, _), samples)| tell(name, samples))
}

fn disk(folder: &Path, runs: usize) -> anyhow::Result<()> {
    let mut file = tempfile::tempfile_in(folder).context("cannot make a file")?;
    let mut samples = Vec::with_capacity(runs);
    for _ in 0..runs {
        let began = Instant::now();
        file.write_all(&[0x55; 4096]).and_then(|()| file.sync_data()).context("cannot write")?;
        samples.push(began.elapsed());
    }
    tell("disk", samples)
}

async fn ping(mut asker: Asker, host: HostName, runs: usize) -> anyhow::Result<()> {
    let request = Request::HostPing { hosts: vec![host], wait_ms: PING_MS };
    let (mut measured, mut seen) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
    for round in 0..runs + WARM_UP {
        let begun = Instant::now();
        let answer = asker.ask(&request).await?;
        let took = begun.elapsed();
        let Answer::Pings { pings } = answer else { bail!("host-ping is answered by something else") };
        let micros = pings.first().and_then(|ping| ping.took_us).context("the host did not answer")?;
        if round >= WARM_UP {
            measured.push(Duration::from_micros(micros));
            seen.push(took);
        }
    }
    tell("ping", measured)?;
    tell("ping-asked", seen)
}

async fn roundtrip(mut asker: Asker, runs: usize) -> anyhow::Result<()> {
    // The first asks for the session as well.
    asker.hosts().await?;
    let mut samples = Vec::with_capacity(runs);
    for _ in 0..runs {
        let began = Instant::now();
        asker.hosts().await?;
        samples.push(began.elapsed());
    }
    tell("roundtrip", samples)
}

async fn submit(mut asker: Asker, host: &HostName, vm: &DomainName, runs: usize) -> anyhow::Result<()> {
    let show = Request::VmShow { name: vm.clone(), host: Some(host.clone()) };
    let Answer::Vm(view) = asker.ask(&show).await? else { bail!("vm-show is answered by something else") };
    let mut running = match view.domain.state {
        DomainState::Running => true,
        DomainState::Off => false,
        state @ (DomainState::Blocked
        | DomainState::Paused
        | DomainState::ShuttingDown
        | DomainState::Crashed
        | DomainState::Suspended
        | DomainState::Unknown) => bail!("{vm} is {}", state.as_str()),
    };
    let (mut stored, mut recorded, mut seen, mut whole) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let vm = VmRef { name: vm.clone(), host: Some(host.clone()) };
        let spec = if running { JobSpec::Destroy(vm) } else { JobSpec::Start(vm) };
        running = !running;
        let began = Instant::now();
        let job = asker.submit(spec).await?.row.id;
        stored.push(began.elapsed());
        let (mut events, mut first): (Vec<JobEvent>, Option<Duration>) = (Vec::new(), None);
        loop {
            let (row, more) = asker.watch(job, u32::try_from(events.len())?).await?;
            events.extend(more);
            if first.is_none() && step(&events).is_some() {
                first = Some(began.elapsed());
            }
            if row.state.is_final() {
                ensure!(row.state.as_str() == "succeeded", "job {job} {}", row.state.as_str());
                break;
            }
        }
        whole.push(began.elapsed());
        seen.push(first.context("a job without a step")?);
        let began = events.first().context("a job without events")?;
        recorded.push(step(&events).context("a job without a step")?.at.since(began.at));
    }
    tell("submit-stored", stored)?;
    tell("submit-step-recorded", recorded)?;
    tell("submit-step-seen", seen)?;
    tell("submit-done", whole)
}

fn step(events: &[JobEvent]) -> Option<&JobEvent> {
    events.iter().find(|event| matches!(event.what, JobEventKind::Host { what: HostEventKind::StepStarted { .. } }))
}
