//! `maglica image copy`: to one host, or to several at once.

use std::time::{Duration, Instant};

use clap::Args;
use maglica_proto::{
    fault::Fault,
    id::JobId,
    job::{CopySpec, HostEventKind, ImageSpec, JobRow, JobSpec, JobState, VmRef},
    name::{DomainName, HostName, PoolName},
    request::{Answer, Request, Submission},
    units::ByteSize,
};
use serde::Serialize;

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    follow,
    input::one,
    output::{Format, Paint, progress::Progress, table::Table},
    story,
};

/// From look to look at each of several jobs.
const LOOK: Duration = Duration::from_millis(250);
/// How long a client worker may be away meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);

/// Options of `image copy`.
#[derive(Debug, Args)]
pub struct Copy {
    /// The image.
    #[arg(value_name = "NAME")]
    bare: Option<DomainName>,
    /// The image, as an option.
    #[arg(long = "name", value_name = "NAME")]
    named: Option<DomainName>,
    /// The host that is to have it; several with commas between, or repeated.
    #[arg(long, value_name = "HOST", value_delimiter = ',', required = true)]
    dest: Vec<HostName>,
    /// The host to copy it from, instead of the one with the least load that has it.
    #[arg(long, visible_alias = "on", value_name = "HOST")]
    from: Option<HostName>,
    /// The storage pool to put its disks into, instead of the one of the same name or the one with most room.
    #[arg(long, value_name = "POOL")]
    pool: Option<PoolName>,
    /// How much to send in a second at the most to each host, such as 50M.
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<ByteSize>,
    /// Print the jobs' ids and do not wait.
    #[arg(long)]
    detach: bool,
}

fn rate(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error: maglica_proto::units::InvalidSize| error.to_string())?;
    if size < ByteSize::kib(64) { Err("it must be at least 64K a second".to_owned()) } else { Ok(size) }
}

impl Copy {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let name = one(self.bare, self.named, "name of the image", "--name")?;
        let mut dest = self.dest;
        dest.sort();
        dest.dedup();
        let spec = |dest: HostName| {
            let image = VmRef { name: name.clone(), host: self.from.clone() };
            JobSpec::Image(ImageSpec::Copy(CopySpec { image, dest, pool: self.pool.clone(), rate: self.rate }))
        };
        match <[HostName; 1]>::try_from(dest) {
            Ok([dest]) => follow::submit(app, spec(dest), self.detach).await,
            Err(several) => {
                let jobs: Vec<Submission> =
                    several.iter().map(|dest| Submission { id: JobId::generate(), spec: spec(dest.clone()) }).collect();
                many(several, jobs, self.detach, app).await
            }
        }
    }
}

/// One of several.
#[derive(Serialize)]
struct Target {
    dest: HostName,
    id: JobId,
    #[serde(flatten)]
    state: JobState,
    #[serde(skip)]
    at: Option<HostEventKind>,
}

impl Target {
    /// What became of it.
    fn said(&self, name: &DomainName) -> String {
        match &self.state {
            JobState::Succeeded { outcome: maglica_proto::job::Outcome::Image(outcome) } => {
                story::image::outcome(name, &self.dest, outcome)
            }
            JobState::Failed { fault } | JobState::Cancelled { fault } => fault.to_string(),
            JobState::Succeeded { .. }
            | JobState::Queued
            | JobState::Offered
            | JobState::Running
            | JobState::Cancelling
            | JobState::Lost => self.id.to_string(),
        }
    }
}

async fn many(dest: Vec<HostName>, jobs: Vec<Submission>, detach: bool, app: &mut App<'_>) -> Result<Exit, Error> {
    let name = jobs.first().map(|job| job.spec.vm()).ok_or(Error::Unexpected("submit-many"))?;
    let request = Request::SubmitMany { jobs: jobs.clone() };
    let Answer::Submitted { results } = app.ask(&request).await? else {
        return Err(Error::Unexpected(request.verb()));
    };
    let mut targets: Vec<Target> = dest
        .into_iter()
        .zip(jobs)
        .zip(results)
        .map(|((dest, job), result)| {
            let state = result.map_or_else(|fault| JobState::Failed { fault }, |row| row.state);
            Target { dest, id: job.id, state, at: None }
        })
        .collect();
    if !detach {
        let (deadline, limit) = (app.deadline(), app.timeout.unwrap_or_default());
        let id = targets.iter().find(|target| !target.state.is_final()).map(|target| target.id);
        tokio::select! {
            followed = follow_all(&name, &mut targets, app) => followed?,
            Ok(()) = tokio::signal::ctrl_c() => {
                return Err(id.map_or(Error::Declined, |id| Error::Interrupted { id }));
            }
            () = follow::until(deadline) => {
                return Err(id.map_or(Error::Declined, |id| Error::StillGoing { id, limit }));
            }
        }
    }
    let table = || {
        let mut table = Table::new(["Host", "State", "Job", "What"]);
        for target in &targets {
            let what = if target.state.is_final() { target.said(&name) } else { String::new() };
            table.row([target.dest.to_string(), target.state.as_str().to_owned(), target.id.to_string(), what]);
        }
        table.render()
    };
    app.out.show(&targets, table, || targets.iter().map(|target| target.id.to_string()).collect())?;
    Ok(exit(&targets))
}

/// All, some or none.
fn exit(targets: &[Target]) -> Exit {
    let faults: Vec<&Fault> = targets
        .iter()
        .filter_map(|target| match &target.state {
            JobState::Failed { fault } | JobState::Cancelled { fault } => Some(fault),
            JobState::Succeeded { .. }
            | JobState::Queued
            | JobState::Offered
            | JobState::Running
            | JobState::Cancelling
            | JobState::Lost => None,
        })
        .collect();
    match faults.first() {
        None => Exit::Ok,
        Some(first) if faults.len() == targets.len() => Exit::of(first.code),
        Some(_) => Exit::Partial,
    }
}

async fn follow_all(name: &DomainName, targets: &mut [Target], app: &mut App<'_>) -> Result<(), Error> {
    let mut progress = Progress::new(app.out);
    let speak = app.out.format() == Format::Table;
    while let Some(first) = targets.iter().position(|target| !target.state.is_final()) {
        for at in first..targets.len() {
            let Some(target) = targets.get_mut(at).filter(|target| !target.state.is_final()) else { continue };
            let request = Request::JobWatch { id: target.id, after: u32::MAX, wait_ms: 1 };
            let answer = app.client()?.ask(&request, LOOK, Instant::now() + PATIENCE).await?;
            let Answer::Watch { row, progress: step, .. } = answer else {
                return Err(Error::Unexpected(request.verb()));
            };
            let JobRow { state, .. } = *row;
            (target.state, target.at) = (state, step);
            if target.state.is_final() && speak {
                let done = matches!(target.state, JobState::Succeeded { .. });
                let (mark, paint) = if done { ("✔", Paint::Green) } else { ("✘", Paint::Red) };
                let line = format!("{}: {}", target.dest, target.said(name));
                progress.mark(mark, paint, &line);
            }
        }
        progress.status(targets.iter().filter_map(status).collect::<Vec<_>>().join("   "));
        progress.draw();
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// How far one of them is, in few words.
fn status(target: &Target) -> Option<String> {
    if target.state.is_final() {
        return None;
    }
    let word = match &target.at {
        Some(HostEventKind::StepProgress { done, total: Some(total), .. }) if total.as_bytes() > 0 => {
            format!("{} %", u128::from(done.as_bytes()) * 100 / u128::from(total.as_bytes()))
        }
        Some(_) | None => target.state.as_str().to_owned(),
    };
    Some(format!("{} {word}", target.dest))
}
