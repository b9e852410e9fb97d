//! New jobs: what is asked is checked against what is known and decided on ([`decide`]), before it is stored.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use maglica_proto::{
    fault::{Code, Fault},
    id::JobId,
    job::{JobSpec, JobView},
    name::{HostName, OperatorName},
    request::{Presence, SUBMIT_MAX, Submission},
};

use super::{
    Handlers,
    decide::{Decision, decide},
    stopping,
};
use crate::{bus::turns::Turn, job::record::NewJob, placement::Coming};

/// How long a host has, besides the time to its next heartbeat, to say what it has after the client worker's start.
const GATHERING: Duration = Duration::from_secs(2);
/// How many jobs are decided on and stored at a time.
const SHARE: usize = 100;
/// From look to look meanwhile.
const GATHERING_LOOK: Duration = Duration::from_millis(20);

/// What came of one of several submissions.
pub(super) type Taken = Result<JobView, Fault>;

impl Handlers {
    pub(super) async fn submit(self: &Arc<Self>, by: &OperatorName, id: JobId, spec: JobSpec, turn: &Turn) -> Taken {
        let mut results = self.submit_many(by, vec![Submission { id, spec }], turn).await?;
        results.pop().unwrap_or_else(|| Err(stopping()))
    }

    /// Several jobs at once, as if they came one after another: each is decided with those before it in mind, and is
    /// refused alone. All that are taken are stored when this returns; the first of many are on their way to their hosts while
    /// the next are decided on.
    pub(super) async fn submit_many(
        self: &Arc<Self>,
        by: &OperatorName,
        jobs: Vec<Submission>,
        turn: &Turn,
    ) -> Result<Vec<Taken>, Fault> {
        if jobs.len() > SUBMIT_MAX {
            let message = format!("{} jobs were submitted together, at most {SUBMIT_MAX} can be", jobs.len());
            return Err(Fault::new(Code::InvalidInput, message));
        }
        self.gathered(&jobs).await?;
        let _working = turn.take().await;
        let _turn = self.placing.lock().await;
        // A repeat is answered before the world is looked at: by now its own machine has the name.
        let mut results = self.desk.known(jobs.clone()).await?;
        let open: Vec<usize> = (0..jobs.len()).filter(|at| results[*at].is_none()).collect();
        let mut coming = self.desk.coming().await?;
        for share in open.chunks(SHARE) {
            match self.take(by, share, &jobs, &mut coming).await {
                Ok(taken) => {
                    for (at, taken) in share.iter().zip(taken) {
                        results[*at] = Some(taken);
                    }
                }
                // The others of them are stored, or are asked for next.
                Err(fault) => share.iter().for_each(|at| results[*at] = Some(Err(fault.clone()))),
            }
        }
        Ok(results.into_iter().map(|result| result.unwrap_or_else(|| Err(stopping()))).collect())
    }

    /// Decides on some of these jobs, and stores those that can be done.
    async fn take(
        self: &Arc<Self>,
        by: &OperatorName,
        share: &[usize],
        jobs: &[Submission],
        coming: &mut Vec<Coming>,
    ) -> Result<Vec<Taken>, Fault> {
        let wanted = share.iter().map(|at| jobs[*at].spec.clone()).collect();
        let decided = self.decide(by, wanted, coming).await?;
        let reachable = self.delivery.reachable();
        let (mut new, mut results) = (Vec::new(), Vec::with_capacity(share.len()));
        for (at, decision) in share.iter().zip(decided) {
            results.push(match decision {
                Ok(Decision { task, host, why }) => {
                    let Submission { id, spec } = jobs[*at].clone();
                    let reachable = reachable.contains(&host);
                    new.push(NewJob { id, spec, task, host, why, by: by.to_string(), reachable });
                    None
                }
                Err(fault) => Some(Err(fault)),
            });
        }
        let mut stored = self.desk.submit(new).await?.into_iter();
        self.delivery.job();
        Ok(results
            .into_iter()
            .map(|result| result.or_else(|| stored.next()).unwrap_or_else(|| Err(stopping())))
            .collect())
    }

    /// What each of these will be, and tells the desk which of their hosts are down.
    async fn decide(
        &self,
        by: &OperatorName,
        wanted: Vec<JobSpec>,
        coming: &mut Vec<Coming>,
    ) -> Result<Vec<Result<Decision, Fault>>, Fault> {
        let (mut known, asker) = (std::mem::take(coming), by.to_string());
        let deciding = self.fleet.with(move |fleet| {
            let now = Instant::now();
            let (mut decided, mut down) = (Vec::with_capacity(wanted.len()), BTreeSet::<HostName>::new());
            for spec in &wanted {
                let decision = decide(fleet, spec, &known, asker.clone(), now);
                if let Ok(Decision { task, host, .. }) = &decision {
                    known.extend(Coming::of(host, task));
                    if fleet.host(host).is_some_and(|entry| fleet.presence(entry, now) == Presence::Down) {
                        down.insert(host.clone());
                    }
                }
                decided.push(decision);
            }
            (decided, down, known)
        });
        let (decided, down, known) = deciding.await.ok_or_else(stopping)?;
        *coming = known;
        for host in down {
            // The fleet tells the desk so at its next look, which may be too late for these jobs.
            self.desk.silent(host).await;
        }
        Ok(decided)
    }

    /// After a start, waits until the hosts have said what they have, so that nothing is judged by half of it; not for
    /// ever, for one may be down, and not for repeats, which need no judging.
    async fn gathered(&self, jobs: &[Submission]) -> Result<(), Fault> {
        let grace = self.config.timing.heartbeat + GATHERING;
        let gathering =
            async || self.fleet.with(move |fleet| fleet.is_gathering(grace, Instant::now())).await.ok_or_else(stopping);
        if !gathering().await? || self.desk.known(jobs.to_vec()).await?.iter().all(Option::is_some) {
            return Ok(());
        }
        while gathering().await? {
            tokio::time::sleep(GATHERING_LOOK).await;
        }
        Ok(())
    }
}
