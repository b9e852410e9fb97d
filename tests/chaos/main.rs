//! Chaos: a real client worker and real host workers, a network between them that is not to be relied on, and every fault that a
//! seed draws. A judge decides from what was asked, heard and really done.
//!
//! ```text
//! seed ─▶ plan ─▶ run ─▶ evidence ─▶ checker ─▶ violations (none, or this is a bug)
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`dice`], [`plan`] | what happens, from the seed alone |
//! | [`stage`] | a cloud whose hosts have joined, as new for each run |
//! | [`nodes`], [`disks`], [`clocks`] | the daemons, and what is done to them |
//! | [`network`] | the cables between them |
//! | [`hypervisor`] | libvirt's in-memory driver that outlives host workers, and its witness |
//! | [`clients`] | who asks |
//! | [`history`] | what was asked, heard and seen |
//! | [`checker`] | what of it is wrong; pure |
//! | [`run`], [`report`] | one run; what is said of all |

mod checker;
mod clients;
mod clocks;
mod dice;
mod disks;
mod history;
mod hypervisor;
mod network;
mod nodes;
mod plan;
mod report;
mod run;
mod stage;

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;

use self::{
    clocks::Clock,
    disks::Disk,
    hypervisor::Hypervisor,
    plan::{HOSTS_MAX, Plan, fault::Kit},
    report::Sum,
    stage::Stage,
};

/// Runs Maglica under faults that seeds decide, and checks what came of it.
#[derive(Debug, Parser)]
struct Arguments {
    /// The seeds: from the first up to, not including, the last
    #[arg(long, value_name = "A..B", default_value = "0..10", value_parser = seeds)]
    seeds: Range<u64>,
    /// This seed only
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// So many runs side by side
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// Begins no more runs after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Where the folders of runs that failed are kept
    #[arg(long, default_value = "target/chaos")]
    keep: PathBuf,
    /// Keeps the folder of every run
    #[arg(long)]
    keep_all: bool,
    /// Prints the plan of each seed and runs nothing
    #[arg(long)]
    plan: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (first, last) = text.split_once("..").ok_or("two numbers with .. between them")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(first)?..number(last)?)
}

#[expect(clippy::print_stdout, reason = "the result is what this program is for")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.seed.map_or(arguments.seeds.clone(), |seed| seed..seed + 1);
    let kit = Kit { disks: Disk::possible(), clocks: Clock::possible() };
    if arguments.plan {
        for seed in seeds {
            println!("{:#?}", Plan::new(seed, kit));
        }
        return ExitCode::SUCCESS;
    }
    for (so, what) in
        [(kit.disks, "small and read-only disks (needs root)"), (kit.clocks, "clocks (needs libfaketime)")]
    {
        if !so {
            println!("chaos: left out: {what}");
        }
    }
    let began = Instant::now();
    let work = Work { seeds: Mutex::new(seeds), sum: Mutex::default(), arguments: &arguments, kit, began };
    let parallel = arguments.parallel.max(1);
    thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                if let Err(error) = work.take_turns() {
                    println!("chaos: {error:#}");
                    work.with(|sum| sum.broken.insert(u64::MAX, format!("{error:#}")));
                }
            });
        }
    });
    work.with(|sum| {
        println!("{}", sum.line(began.elapsed().as_secs()));
        if sum.failed.is_empty() && sum.broken.is_empty() && sum.runs > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    })
}

struct Work<'a> {
    seeds: Mutex<Range<u64>>,
    sum: Mutex<Sum>,
    arguments: &'a Arguments,
    kit: Kit,
    began: Instant,
}

impl Work<'_> {
    fn with<T>(&self, change: impl FnOnce(&mut Sum) -> T) -> T {
        change(&mut self.sum.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn next(&self) -> Option<u64> {
        let over = self.arguments.seconds.is_some_and(|seconds| self.began.elapsed() > Duration::from_secs(seconds));
        if over { None } else { self.seeds.lock().unwrap_or_else(PoisonError::into_inner).next() }
    }

    /// Runs one seed after the other, on hypervisors and stages of its own.
    fn take_turns(&self) -> anyhow::Result<()> {
        // Under /tmp whatever TMPDIR says: the path of a unix socket has 107 bytes at most.
        let folder = tempfile::Builder::new().prefix("mgv").tempdir_in("/tmp")?;
        open(folder.path())?;
        let hypervisors = (0..HOSTS_MAX)
            .map(|host| Hypervisor::start(&folder.path().join(host.to_string())).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let mut stages: HashMap<usize, Stage> = HashMap::new();
        while let Some(seed) = self.next() {
            let plan = Plan::new(seed, self.kit);
            let stage = match stages.entry(plan.hosts) {
                Entry::Occupied(stage) => stage.into_mut(),
                Entry::Vacant(place) => place.insert(Stage::make(&hypervisors, plan.hosts)?),
            };
            self.one(stage, &hypervisors, &plan);
        }
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "what failed is said at once")]
    fn one(&self, stage: &Stage, hypervisors: &[Arc<Hypervisor>], plan: &Plan) {
        let seed = plan.seed;
        // One of its own for each run: whatever a run leaves behind ends with it.
        let outcome = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(run::run(stage, hypervisors, plan)));
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                let logs = self.keep_logs(seed, stage);
                println!("chaos: seed {seed} could not be run: {error:#}{logs}");
                self.with(|sum| sum.broken.insert(seed, format!("{error:#}")));
                return;
            }
        };
        self.with(|sum| sum.add(seed, &outcome));
        if outcome.violations.is_empty() && !self.arguments.keep_all {
            return;
        }
        let folder = self.arguments.keep.join(format!("seed-{seed}"));
        let kept = match report::keep(&folder, plan, &outcome) {
            Ok(()) => format!("kept in {}", folder.display()),
            Err(error) => format!("cannot be kept: {error:#}"),
        };
        let wrong: String = outcome
            .violations
            .iter()
            .map(|violation| format!("\n  {:?}: {}", violation.rule, violation.what))
            .collect();
        println!(
            "chaos: seed {seed}: {} violations; {kept}; again: scripts/chaos --seed {seed}{wrong}",
            outcome.violations.len()
        );
    }

    fn keep_logs(&self, seed: u64, stage: &Stage) -> String {
        let folder = self.arguments.keep.join(format!("seed-{seed}"));
        match stage::copy(&stage.folder().join("logs"), &folder) {
            Ok(()) => format!("; its logs are in {}", folder.display()),
            Err(_) => String::new(),
        }
    }
}

/// libvirtd runs as somebody else.
fn open(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
