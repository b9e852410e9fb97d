//! Many hosts at one client worker: all come, each does its job once, and all come back, whatever happens to the client
//! worker. The hosts are simulated; what they are asked for in figures is in `scripts/bench fleet`.

use std::{collections::BTreeSet, time::Duration};

use maglica_proto::{
    config::Config,
    id::JobId,
    job::{JobEventKind, JobSpec, JobView, VmRef},
    name::{DomainName, HostName},
    request::{Answer, Presence, Request, Submission},
};
use maglica_tests::{
    cloud::Cloud,
    fleet::{Fleet, Plan, asker::Asker, tally::Mark},
};

const HOSTS: u32 = 80;
const DOMAINS: u32 = 3;
/// Far above what any of it takes on two busy cores.
const LIMIT: Duration = Duration::from_secs(40);

struct Stage {
    cloud: Cloud,
    fleet: Fleet,
    config: Config,
}

impl Stage {
    async fn set() -> Self {
        let cloud = Cloud::builder().hosts(0).start();
        let config = Config::load(Some(&cloud.config())).expect("the configuration can be read").config;
        let plan = Plan { hosts: HOSTS, dead: 0, domains: DOMAINS, prefix: "sim".to_owned() };
        let fleet = Fleet::start(&config, &plan, LIMIT).await.expect("all hosts come");
        Self { cloud, fleet, config }
    }

    /// A job for each host, about its machine of this number.
    fn jobs(&self, number: u32) -> Vec<Submission> {
        let job = |(host, name): (usize, &HostName)| {
            let vm = DomainName::new(format!("vm{number:03}-{host:03}.example.jp")).expect("a good name");
            let spec = JobSpec::Start(VmRef { name: vm, host: Some(name.clone()) });
            Submission { id: JobId::generate(), spec }
        };
        self.fleet.living.iter().enumerate().map(job).collect()
    }

    /// Submits them until they are acknowledged, as the command does.
    async fn submit(&self, jobs: &[Submission]) {
        let asked = async {
            loop {
                let mut asker = Asker::open(&self.config).expect("the operator has a key");
                match asker.ask(&Request::SubmitMany { jobs: jobs.to_vec() }).await {
                    Ok(Answer::Submitted { results }) => return results,
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let results = tokio::time::timeout(LIMIT, asked).await.expect("the jobs are acknowledged");
        assert_eq!(results.into_iter().filter_map(Result::err).next(), None);
    }

    async fn reached(&self, mark: Mark, count: u32) {
        self.fleet.reached(mark, count.into(), LIMIT).await.expect("in time");
    }

    async fn asker(&self) -> Asker {
        Asker::open(&self.config).expect("the operator has a key")
    }

    /// All hosts are up and have told what they have.
    async fn all_up(&self) {
        let rows = self.asker().await.hosts().await.expect("an answer");
        let up =
            rows.iter().filter(|row| row.presence == Presence::Up && row.domains == DOMAINS && row.facts.is_some());
        assert_eq!(up.count(), HOSTS as usize, "{rows:?}");
    }

    /// Each of these has succeeded, was granted once and began once; and there are no others.
    async fn done_once(&self, jobs: &[Submission]) {
        let mut asker = self.asker().await;
        for job in jobs {
            let view = shown(&mut asker, job.id).await;
            assert_eq!(view.row.state.as_str(), "succeeded", "{view:?}");
            let count =
                |wanted: fn(&JobEventKind) -> bool| view.events.iter().filter(|event| wanted(&event.what)).count();
            assert_eq!(count(|what| matches!(what, JobEventKind::Granted)), 1, "{view:?}");
            assert_eq!(count(|what| matches!(what, JobEventKind::Ended { .. })), 1, "{view:?}");
            let numbers: Vec<u32> = view.events.iter().map(|event| event.seq).collect();
            assert!(numbers.into_iter().eq(0..u32::try_from(view.events.len()).expect("a few")), "{view:?}");
        }
        let Ok(Answer::Jobs { jobs: all }) = asker.ask(&Request::JobList { limit: 1000 }).await else {
            panic!("no list of jobs")
        };
        let known: BTreeSet<JobId> = all.iter().map(|row| row.id).collect();
        assert_eq!(known, jobs.iter().map(|job| job.id).collect());
    }
}

async fn shown(asker: &mut Asker, id: JobId) -> JobView {
    match asker.ask(&Request::JobShow { id }).await {
        Ok(Answer::Job(view)) => *view,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_host_of_a_large_fleet_does_its_job_once_and_comes_back_after_each_restart() {
    let mut stage = Stage::set().await;
    stage.all_up().await;
    let mut jobs = stage.jobs(0);
    stage.submit(&jobs).await;
    stage.reached(Mark::Stored, HOSTS).await;
    stage.done_once(&jobs).await;
    for (run, kindly) in (1..).zip([false, true]) {
        if kindly {
            stage.cloud.client_worker.stop();
            stage.cloud.client_worker.start();
        } else {
            stage.cloud.client_worker.restart();
        }
        stage.reached(Mark::Ready, HOSTS * (run + 1)).await;
        stage.all_up().await;
        let more = stage.jobs(run);
        stage.submit(&more).await;
        jobs.extend(more);
        stage.reached(Mark::Stored, HOSTS * (run + 1)).await;
        stage.done_once(&jobs).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_is_lost_or_done_twice_when_the_client_worker_dies_while_all_hosts_work() {
    let mut stage = Stage::set().await;
    let jobs = stage.jobs(0);
    stage.submit(&jobs).await;
    stage.reached(Mark::Granted, HOSTS / 4).await;
    stage.cloud.client_worker.restart();
    stage.reached(Mark::Stored, HOSTS).await;
    stage.done_once(&jobs).await;
    stage.reached(Mark::Ready, HOSTS * 2).await;
    stage.all_up().await;
}
