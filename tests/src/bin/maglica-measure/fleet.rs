//! The figures of a large fleet: enrolment, cold start, rest, lists, jobs for all, restarts. Owns the client worker that
//! is measured; the hosts are simulated in this process.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use maglica_proto::{
    config::Config,
    id::JobId,
    job::{JobSpec, VmRef},
    name::{DomainName, HostName},
    request::{Answer, Presence, Request, Submission},
};
use maglica_tests::fleet::{Fleet, Plan, asker::Asker, tally::Mark};
use tokio::time::sleep;

use crate::{
    NEXT,
    honest::{Honest, after_restart},
    process::{Process, processor_time},
    tell, whole_commands,
};

/// How long anything that should take seconds may take before it counts as never.
const LIMIT: Duration = Duration::from_secs(120);
/// After a burst, until what it left has settled.
const SETTLE: Duration = Duration::from_secs(6);
/// From a job for all to the next one.
const BETWEEN: Duration = Duration::from_secs(1);
/// How often each command is run, and how many hosts are pinged.
const COMMANDS: usize = 30;
const PINGED: usize = 100;
/// From question to question while something is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// What is to be measured, and with what.
pub(crate) struct Task {
    pub(crate) config: PathBuf,
    pub(crate) programs: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) runs: u32,
    pub(crate) rest: Duration,
}

/// One figure that is no time: KiB, parts of a thousand, jobs.
fn tell_number(name: &str, value: u64) -> anyhow::Result<()> {
    tell(name, vec![Duration::from_micros(value)])
}

fn tell_time(name: &str, time: Duration) -> anyhow::Result<()> {
    tell(name, vec![time])
}

/// Figures of which there are several, told in the end.
type Samples = BTreeMap<&'static str, Vec<Duration>>;

struct Measured {
    samples: Samples,
    task: Task,
    server: Process,
    asker: Asker,
    fleet: Fleet,
    hosts: u64,
}

/// Measures all of it.
pub(crate) async fn measure(task: Task) -> anyhow::Result<()> {
    let log = task.config.with_extension("client-worker.log");
    let server = Process::start(task.programs.join("maglica-client-worker"), task.config.clone(), log)?;
    let config = Config::load(Some(&task.config))?.config;
    let mut asker = answering(&config).await?;
    asker.hosts().await?;
    tell_number("empty-resident", server.resident()?.0)?;
    let began = Instant::now();
    let fleet = Fleet::enrol(&config, &task.plan).await?;
    tell_time("enrol", began.elapsed())?;
    let hosts = fleet.living.len() as u64;
    let mut all = Measured { samples: Samples::new(), task, server, asker, fleet, hosts };
    all.cold_start().await?;
    all.rest("rest").await?;
    all.commands()?;
    for run in 0..all.task.runs {
        all.jobs(run).await?;
    }
    std::mem::take(&mut all.samples).into_iter().try_for_each(|(name, samples)| tell(name, samples))?;
    all.restart(false).await?;
    all.restart(true).await?;
    all.rest("end").await
}

/// An asker whose first question was answered.
async fn answering(config: &Config) -> anyhow::Result<Asker> {
    let until = Instant::now() + LIMIT;
    loop {
        if let Ok(mut asker) = Asker::open(config)
            && asker.hosts().await.is_ok()
        {
            return Ok(asker);
        }
        ensure!(Instant::now() < until, "the client worker does not answer");
        sleep(LOOK).await;
    }
}

impl Measured {
    fn honest(&self) -> Honest {
        Honest::start(self.task.programs.join("maglica"), self.task.config.clone())
    }

    /// All hosts at one moment, as after a power cut that the client worker has survived.
    async fn cold_start(&mut self) -> anyhow::Result<()> {
        let (spent, honest, began) = (self.server.spent()?, self.honest(), Instant::now());
        self.fleet.wake(Duration::ZERO);
        self.fleet.reached(Mark::Ready, self.hosts, LIMIT).await?;
        let spent = self.server.spent()? - spent;
        tell_time("cold", self.fleet.tally.last(Mark::Ready) - began)?;
        self.all_up().await?;
        let (asked, late) = honest.end()?;
        let worst = asked.iter().map(|asked| asked.took).max().unwrap_or_default();
        ensure!(asked.iter().all(|asked| asked.answered), "an honest command was not answered");
        tell_time("cold-cli", worst)?;
        tell_time("cold-late", late)?;
        tell_time("cold-cpu", spent.all)?;
        Ok(())
    }

    /// Nothing but heartbeats.
    async fn rest(&self, name: &str) -> anyhow::Result<()> {
        sleep(SETTLE).await;
        let (spent, began) = (self.server.spent()?, Instant::now());
        sleep(self.task.rest).await;
        let share = (self.server.spent()? - spent).all.as_secs_f64() / began.elapsed().as_secs_f64();
        let (resident, most) = self.server.resident()?;
        tell(&format!("{name}-share"), vec![Duration::from_secs_f64(share / 1000.0)])?;
        tell_number(&format!("{name}-resident"), resident)?;
        tell_number(&format!("{name}-most"), most)
    }

    /// Whole commands: lists over all that there is, and a ping of some hosts.
    fn commands(&self) -> anyhow::Result<()> {
        let maglica = self.task.programs.join("maglica").display().to_string();
        let base = [maglica, "--config".to_owned(), self.task.config.display().to_string()];
        let mut words = Vec::new();
        let mut add = |name: &str, arguments: &[&str]| {
            words.extend((!words.is_empty()).then(|| NEXT.to_owned()));
            words.push(name.to_owned());
            words.extend(base.iter().cloned().chain(arguments.iter().map(|&word| word.to_owned())));
        };
        let pinged: Vec<&str> = self.fleet.living.iter().take(PINGED).map(HostName::as_str).collect();
        add("ping", &[&["host", "ping"], pinged.as_slice()].concat());
        add("hosts", &["host", "list"]);
        add("vms", &["vm", "list"]);
        whole_commands(COMMANDS, 2, &[0], &words)
    }

    /// One job for every host: from before it is sent until the last host has heard that its report is stored.
    async fn jobs(&mut self, run: u32) -> anyhow::Result<()> {
        let number = run % self.task.plan.domains;
        let mut jobs: Vec<Submission> = Vec::new();
        for (host, name) in self.fleet.living.iter().enumerate() {
            let vm = DomainName::new(format!("vm{number:03}-{host:03}.example.jp"))?;
            let spec = JobSpec::Start(VmRef { name: vm, host: Some(name.clone()) });
            jobs.push(Submission { id: JobId::generate(), spec });
        }
        let before = Mark::ALL.map(|mark| self.fleet.tally.count(mark));
        let (spent, own) = (self.server.spent()?, processor_time(Path::new("/proc/self"))?);
        let began = Instant::now();
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let Answer::Submitted { results } = self.asker.ask(&Request::SubmitMany { jobs }).await? else {
            bail!("submit-many is answered by something else")
        };
        let submitted = began.elapsed();
        for result in results {
            result.context("a job was refused")?;
        }
        self.fleet.reached(Mark::Stored, before[Mark::Stored as usize] + self.hosts, LIMIT).await?;
        let spent = self.server.spent()? - spent;
        let own = processor_time(Path::new("/proc/self"))?.saturating_sub(own);
        let last = |mark| self.fleet.tally.last(mark) - began;
        let figures = [
            ("jobs", last(Mark::Stored)),
            ("jobs-submitted", submitted),
            ("jobs-offered", last(Mark::Offered)),
            ("jobs-granted", last(Mark::Granted)),
            ("jobs-cpu", spent.all),
            ("jobs-cpu-desk", spent.desk),
            ("jobs-cpu-hosts", own),
        ];
        let mut lost = 0;
        for id in ids {
            let Answer::Job(view) = self.asker.ask(&Request::JobShow { id }).await? else { continue };
            lost += u64::from(view.row.state.as_str() != "succeeded");
        }
        for (name, time) in figures.into_iter().chain([("jobs-lost", Duration::from_micros(lost))]) {
            self.samples.entry(name).or_default().push(time);
        }
        // Each job for all begins with nothing left of the one before.
        sleep(BETWEEN).await;
        Ok(())
    }

    /// The client worker dies, or is stopped, and starts again, with all hosts connected.
    async fn restart(&mut self, kindly: bool) -> anyhow::Result<()> {
        let name = if kindly { "stop" } else { "kill" };
        sleep(SETTLE).await;
        let ready = self.fleet.tally.count(Mark::Ready);
        let honest = self.honest();
        self.server.restart(kindly)?;
        let began = Instant::now();
        self.fleet.reached(Mark::Ready, ready + self.hosts, LIMIT).await?;
        let back = self.fleet.tally.last(Mark::Ready) - began;
        let spent = self.server.spent()?;
        self.all_up().await?;
        let up = began.elapsed();
        // The answers to those who asked while the last hosts came back count as well.
        sleep(Duration::from_secs(1)).await;
        let (asked, late) = honest.end()?;
        let (first, worst, all) = after_restart(&asked, began)?;
        ensure!(all, "an honest command was refused after the first answer");
        for (figure, time) in
            [("back", back), ("up", up), ("first", first), ("cli", worst), ("late", late), ("cpu", spent.all)]
        {
            tell_time(&format!("{name}-{figure}"), time)?;
        }
        tell_number(&format!("{name}-most"), self.server.resident()?.1)
    }

    /// Waits until the client worker shows all hosts as up, with what they have.
    async fn all_up(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + LIMIT;
        loop {
            let rows = self.asker.hosts().await?;
            let up = rows.iter().filter(|row| row.presence == Presence::Up && row.facts.is_some()).count();
            if up as u64 == self.hosts {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{up} of {} hosts are up", self.hosts);
            sleep(LOOK).await;
        }
    }
}
