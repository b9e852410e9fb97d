//! One run: sets the stage, lets the plan happen, mends everything, waits until it is quiet, and gathers the evidence.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use maglica_proto::{
    id::JobId,
    job::JobView,
    request::{Answer, Presence, Request},
    units::Timestamp,
};
use maglica_tests::cloud::host_name;
use rusqlite::{Connection, OpenFlags};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use crate::{
    checker::{self, READ_MS, Violation},
    clients::{Client, Operator, Pass},
    dice::Dice,
    history::{Evidence, History, Read, Remains, Vm, What},
    hypervisor::{Hypervisor, Witness},
    network::{Cable, Port},
    nodes::{Calm, Node, Phase},
    plan::{
        LENGTH_MS, Plan,
        fault::{Blow, Fault, Whom},
    },
    stage::{Cables, Stage},
};

/// How long everything may take to be up at the beginning, and to settle at the end: a host's pauses between attempts reach 15 s.
const SETTLE: Duration = Duration::from_secs(40);
/// From look to look.
const LOOK: Duration = Duration::from_millis(100);
/// From read to read.
const READ_EVERY: Duration = Duration::from_millis(150);
/// The client worker must have been left alone for so long before its answers are judged by the clock.
const CALM: Duration = Duration::from_millis(1_500);
/// How many answered submissions are said once more when everything is over.
const SAID_AGAIN: usize = 5;

/// What came of a run.
pub(crate) struct Outcome {
    /// What is known of it.
    pub(crate) evidence: Evidence,
    /// What is wrong.
    pub(crate) violations: Vec<Violation>,
    /// How many faults of each kind there were.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// How often clients had to ask again.
    pub(crate) retries: u64,
    /// The logs and events.
    pub(crate) logs: PathBuf,
}

/// Runs a plan.
///
/// # Errors
/// The stage does not stand; nothing is said about Maglica then.
pub(crate) async fn run(stage: &Stage, hypervisors: &[Arc<Hypervisor>], plan: &Plan) -> anyhow::Result<Outcome> {
    let logs = stage.logs()?;
    let mut witnesses = Vec::new();
    let mut evidence = Evidence::default();
    for (host, hypervisor) in hypervisors.iter().enumerate().take(plan.hosts) {
        let machines = || plan.machines.iter().filter(move |machine| machine.host == host);
        witnesses.push(hypervisor.prepare(machines(), logs.join(format!("witness{host}")))?);
        let vm = |uuid, running| Vm { uuid, running };
        let vms = machines().map(|machine| (machine.name.clone(), vm(machine.uuid, machine.running))).collect();
        evidence.before.insert(host_name(host), vms);
    }
    let (rep, publish) = stage.ports();
    let cable = |name: String, port, to| Cable::start(name, plan.seed, port, stage.address(), to);
    let mut cables = Vec::new();
    for host in 0..plan.hosts {
        cables.push(Cables {
            rep: cable(format!("host {host} rep"), Port::Rep, rep).await?,
            publish: cable(format!("host {host} pub"), Port::Pub, publish).await?,
        });
    }
    let clients = cable("clients".to_owned(), Port::Rep, rep).await?;
    let mut nodes = stage.daemons(&logs, &cables, plan.clocks)?;
    let calm = nodes[0].calm.clone();
    for node in &mut nodes {
        node.start("");
    }
    let pass = stage.pass()?;
    let mut operator = Operator::new(&pass, rep);
    all_up(&mut operator, plan.hosts).await?;

    let (phase, phases) = watch::channel(Phase::Trouble);
    let (history, began) = (History::begin(), Instant::now());
    let began_ms = Timestamp::from(SystemTime::now()).as_millis();
    let mut living = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let whom = index.checked_sub(1).map_or(Whom::ClientWorker, Whom::Host);
        living.push(tokio::spawn(node.live(blows_of(plan, whom), began, phases.clone())));
    }
    let mut storms = vec![tokio::spawn(storm(vec![clients.clone()], blows_of(plan, Whom::Clients), began))];
    for (host, Cables { rep, publish }) in cables.iter().enumerate() {
        let both = vec![rep.clone(), publish.clone()];
        storms.push(tokio::spawn(storm(both, blows_of(plan, Whom::Cable(host)), began)));
    }
    let until = began + Duration::from_millis(LENGTH_MS) + SETTLE / 2;
    let asking: Vec<JoinHandle<u64>> = (0..)
        .zip(&plan.clients)
        .map(|(number, wishes)| {
            let dice = Dice::new(plan.seed, &format!("pauses of client {number}"));
            let (wishes, pass, history, at) = (wishes.clone(), pass.clone(), history.clone(), clients.address());
            tokio::spawn(Client { number, wishes, pass, at, history, dice, began, began_ms, until }.run())
        })
        .collect();
    let reading = tokio::spawn(read(pass.clone(), rep, calm, history.clone(), phases.clone()));

    sleep((began + Duration::from_millis(LENGTH_MS)).saturating_duration_since(Instant::now())).await;
    for storm in storms {
        storm.await?;
    }
    cables.iter().flat_map(|both| [&both.rep, &both.publish]).chain([&clients]).for_each(Cable::calm);
    phase.send_replace(Phase::Healed);
    let mut retries = 0;
    for client in asking {
        retries += client.await?;
    }
    let scene = Scene { hypervisors, witnesses, plan, history: history.clone() };
    scene.settle(&mut operator, &mut evidence).await;
    phase.send_replace(Phase::Over);
    evidence.reads = reading.await?;
    let mut nodes = Vec::new();
    for node in living {
        nodes.push(node.await?);
    }
    scene.gather(&mut evidence, &nodes)?;
    let mut faults: BTreeMap<&'static str, u64> = BTreeMap::new();
    plan.blows.iter().for_each(|blow| *faults.entry(blow.fault.kind()).or_default() += 1);
    for cable in cables.iter().flat_map(|both| [&both.rep, &both.publish]).chain([&clients]) {
        cable.injected().into_iter().for_each(|(kind, count)| *faults.entry(kind).or_default() += count);
    }
    // A run in which nothing was done shows nothing. (With a wrong clock the client worker takes no job: their ids look odd.)
    anyhow::ensure!(plan.clocks || !evidence.jobs.is_empty(), "no job was promised");
    let violations = checker::check(&evidence);
    Ok(Outcome { evidence, violations, faults, retries, logs })
}

fn blows_of(plan: &Plan, whom: Whom) -> Vec<Blow> {
    plan.blows.iter().filter(|blow| blow.whom == whom).cloned().collect()
}

/// What happens to cables.
async fn storm(cables: Vec<Cable>, blows: Vec<Blow>, began: Instant) {
    let mut moments: Vec<(u64, bool, Fault)> = Vec::new();
    for Blow { at, lasts, fault, .. } in blows {
        moments.push((at, true, fault.clone()));
        moments.push(((at + lasts).min(LENGTH_MS), false, fault));
    }
    moments.sort_by_key(|(at, ..)| *at);
    for (at, begins, fault) in moments {
        sleep((began + Duration::from_millis(at)).saturating_duration_since(Instant::now())).await;
        for cable in &cables {
            cable.change(|mood| match &fault {
                Fault::Weather(weather) => mood.weather = if begins { *weather } else { Default::default() },
                Fault::Refuse => mood.refuse = begins,
                Fault::Hole { up, down } => {
                    mood.hole_up = *up && begins;
                    mood.hole_down = *down && begins;
                }
                Fault::Kill
                | Fault::Stop
                | Fault::Freeze
                | Fault::Trap { .. }
                | Fault::DiskFull
                | Fault::DiskReadOnly
                | Fault::Clock { .. } => {}
            });
        }
    }
}

async fn all_up(operator: &mut Operator, hosts: usize) -> anyhow::Result<()> {
    let until = Instant::now() + SETTLE;
    loop {
        let answer = operator.ask(&Request::HostList, Duration::from_secs(5)).await;
        if let Ok(Answer::Hosts { hosts: rows }) = &answer {
            let up = rows.iter().filter(|row| row.presence == Presence::Up && row.facts.is_some());
            if up.count() == hosts {
                return Ok(());
            }
        }
        anyhow::ensure!(Instant::now() < until, "not all hosts come up: {answer:?}");
        sleep(LOOK).await;
    }
}

/// Asks again and again, past the faulty network.
async fn read(
    pass: Pass,
    at: std::net::SocketAddr,
    calm: Calm,
    history: History,
    phase: watch::Receiver<Phase>,
) -> Vec<Read> {
    let mut reads = Vec::new();
    let mut operator = Operator::new(&pass, at);
    while *phase.borrow() != Phase::Over {
        for request in [Request::VmList { after: None }, Request::JobList { limit: 1000 }] {
            let (before, began, moment) = (calm.since(CALM), Instant::now(), history.now());
            // Twice the limit, to see a late answer as such.
            let answer = operator.ask(&request, Duration::from_millis(READ_MS * 2)).await;
            let took = began.elapsed();
            let fair = before.is_some() && calm.since(Duration::ZERO) == before;
            if let Ok(Answer::Jobs { jobs }) = &answer {
                jobs.iter().for_each(|row| history.note(usize::MAX, What::Listed { row: row.clone() }));
            }
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            reads.push(Read { at: moment, took_ms, failed: answer.err(), fair });
        }
        sleep(READ_EVERY).await;
    }
    reads
}

/// What is looked at in the end.
struct Scene<'a> {
    hypervisors: &'a [Arc<Hypervisor>],
    witnesses: Vec<Witness>,
    plan: &'a Plan,
    history: History,
}

impl Scene<'_> {
    /// Waits until nothing is open and what is shown is so; writes down what there is then.
    async fn settle(&self, operator: &mut Operator, evidence: &mut Evidence) {
        let until = Instant::now() + SETTLE;
        loop {
            let open = self.open(operator, evidence).await;
            evidence.unsettled = open.err();
            if evidence.unsettled.is_none() || Instant::now() > until {
                break;
            }
            sleep(LOOK).await;
        }
        self.say_again(operator).await;
    }

    /// What is open, if anything.
    async fn open(&self, operator: &mut Operator, evidence: &mut Evidence) -> Result<(), String> {
        let limit = Duration::from_secs(5);
        let Answer::Jobs { jobs } = operator.ask(&Request::JobList { limit: 1000 }, limit).await? else {
            return Err("no job list".to_owned());
        };
        evidence.jobs.clear();
        for row in &jobs {
            let answer = operator.ask(&Request::JobShow { id: row.id }, limit).await?;
            let Answer::Job(view) = answer else {
                return Err(format!("job {} cannot be shown: {answer:?}", row.id));
            };
            evidence.jobs.push(*view);
        }
        let open: Vec<String> = jobs
            .iter()
            .filter(|row| !row.state.is_final())
            .map(|row| format!("{} {} {}", row.id, row.verb, row.state.as_str()))
            .collect();
        if !open.is_empty() {
            return Err(format!("jobs are open: {open:?}"));
        }
        for (host, hypervisor) in self.hypervisors.iter().enumerate().take(self.plan.hosts) {
            let hypervisor = Arc::clone(hypervisor);
            // Not here: the cables are relayed by this thread, and hosts that cannot speak would be suspect.
            let vms = tokio::task::spawn_blocking(move || hypervisor.vms()).await;
            let vms = vms.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            evidence.after.insert(host_name(host), vms);
        }
        let Answer::Vms { listing, .. } = operator.ask(&Request::VmList { after: None }, limit).await? else {
            return Err("no list of machines".to_owned());
        };
        let row =
            |row: maglica_proto::request::VmRow| (row.host.to_string(), row.name.to_string(), row.state.is_active());
        evidence.listed = listing.rows.into_iter().map(row).collect();
        evidence.absent = listing.absent.iter().map(|absence| absence.host.to_string()).collect();
        let there: BTreeSet<_> = evidence
            .after
            .iter()
            .flat_map(|(host, vms)| vms.iter().map(|(name, vm)| (host.clone(), name.clone(), vm.running)))
            .collect();
        if !evidence.absent.is_empty() || there != evidence.listed {
            let wrong: Vec<_> = there.symmetric_difference(&evidence.listed).collect();
            return Err(format!("what is shown is not so: {wrong:?}, absent: {:?}", evidence.absent));
        }
        Ok(())
    }

    /// Says some of the answered submissions once more: each is still the same job.
    async fn say_again(&self, operator: &mut Operator) {
        let asked: BTreeMap<JobId, _> = self
            .history
            .entries()
            .into_iter()
            .filter_map(|entry| {
                if let What::Saw { promise: true, view } = entry.what { Some((view.row.id, view.spec)) } else { None }
            })
            .collect();
        for (id, spec) in asked.into_iter().take(SAID_AGAIN) {
            match operator.ask(&Request::Submit { id, spec }, Duration::from_secs(5)).await {
                Ok(Answer::Job(view)) => self.history.note(usize::MAX, What::Saw { promise: true, view }),
                Ok(Answer::Fault { fault }) => self.history.note(usize::MAX, What::Refused { id, fault }),
                Ok(other) => self.history.note(usize::MAX, What::Silence { id, why: format!("{other:?}") }),
                Err(why) => self.history.note(usize::MAX, What::Silence { id, why }),
            }
        }
    }

    /// All the rest, when every daemon has ended.
    fn gather(mut self, evidence: &mut Evidence, nodes: &[Node]) -> anyhow::Result<()> {
        for (host, witness) in self.witnesses.iter_mut().enumerate() {
            evidence.witness.insert(host_name(host), witness.seen()?);
            // Whatever was done after the last look counts as well.
            evidence.after.insert(host_name(host), self.hypervisors[host].vms()?);
        }
        evidence.history = self.history.entries();
        let order = order(&nodes[0].store)?;
        let mut views: BTreeMap<JobId, JobView> = evidence.jobs.drain(..).map(|view| (view.row.id, view)).collect();
        evidence.jobs = order.iter().filter_map(|id| views.remove(id)).collect();
        // Shown and not in the store: the judge finds them strange or lost.
        evidence.jobs.extend(views.into_values());
        for node in nodes {
            evidence.remains.push(Remains {
                daemon: node.name.clone(),
                integrity: integrity(&node.store).unwrap_or_else(|error| format!("{error:#}")),
                worrying: worrying(&node.log),
                disk_trouble: node.disk_trouble,
                deaths: node.deaths.clone(),
                peak_kib: node.peak_kib,
            });
        }
        Ok(())
    }
}

fn open(store: &Path) -> anyhow::Result<Connection> {
    Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_WRITE).with_context(|| store.display().to_string())
}

/// The ids of the jobs in the order in which they were stored.
fn order(store: &Path) -> anyhow::Result<Vec<JobId>> {
    let connection = open(store)?;
    let mut statement = connection.prepare("select id from jobs order by rowid")?;
    let ids = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    ids.iter().map(|id| Ok(id.parse()?)).collect()
}

fn integrity(store: &Path) -> anyhow::Result<String> {
    Ok(open(store)?.pragma_query_value(None, "integrity_check", |row| row.get(0))?)
}

/// The lines that an administrator would be worried by.
fn worrying(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked")).map(str::to_owned).collect()
}
