//! Staying with a job until it has ended: long polls with a cursor, over lost connections and restarts of the client
//! worker. Ctrl-C ends the staying, not the job.

use std::time::{Duration, Instant};

use maglica_proto::{
    id::JobId,
    job::{HostEventKind, JobEventKind, JobRow, JobSpec, JobState, JobView},
    request::{Answer, Request},
};

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    output::{
        Format, Paint,
        progress::{Progress, TICK},
    },
    story,
};

/// One long poll; the client worker's own bound is 25 s.
pub(crate) const POLL: Duration = Duration::from_secs(25);
/// On a terminal shorter, for how far a step is does not end a poll.
const LIVE_POLL: Duration = Duration::from_secs(1);
/// How long a client worker may be away while a job is followed: a restart, an update.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long a host may be silent before the staying ends: its worker restarts, its network comes back.
pub(crate) const LOST_PATIENCE: Duration = Duration::from_secs(120);

/// Submits a job, and stays with it unless `detach`.
///
/// # Errors
/// [`Error`]: not accepted, or not succeeded.
pub async fn submit(app: &mut App<'_>, spec: JobSpec, detach: bool) -> Result<Exit, Error> {
    let id = JobId::generate();
    let request = Request::Submit { id, spec };
    let Answer::Job(view) = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    if detach {
        app.out.show(&view, || id.to_string(), || vec![id.to_string()])?;
        return Ok(Exit::Ok);
    }
    stay(app, *view).await
}

/// Shows a job until it has ended, then what came of it.
///
/// # Errors
/// [`Error::Job`] if it did not succeed; [`Error::Interrupted`], [`Error::StillGoing`] or [`Error::Lost`] if it was left.
pub async fn stay(app: &mut App<'_>, view: JobView) -> Result<Exit, Error> {
    let id = view.row.id;
    let (out, deadline, limit) = (app.out, app.deadline(), app.timeout.unwrap_or_default());
    let mut progress = Progress::new(out);
    progress.line(&story::headline(id, &view));
    let row = tokio::select! {
        row = watch(app, view, &mut progress) => row,
        // A handler that cannot be set leaves the default, which ends the program.
        Ok(()) = tokio::signal::ctrl_c() => Err(Error::Interrupted { id }),
        () = until(deadline) => Err(Error::StillGoing { id, limit }),
    };
    drop(progress);
    ended(app, row?).await
}

/// Never, if there is no deadline.
pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn watch(app: &mut App<'_>, view: JobView, progress: &mut Progress<'_>) -> Result<JobRow, Error> {
    let JobView { row, events, progress: step, .. } = view;
    let (id, mut known) = (row.id, 0);
    let poll = if app.out.live() { LIVE_POLL } else { POLL };
    let wait_ms = u32::try_from(poll.as_millis()).unwrap_or(u32::MAX);
    let verbose = app.out.verbose();
    let mut lost_since = None;
    let (mut row, mut events, mut step) = (row, events, step);
    loop {
        for event in &events {
            show(&event.what, verbose, progress);
            known = event.seq.saturating_add(1);
        }
        match &step {
            Some(HostEventKind::StepProgress { step, done, total }) => {
                progress.status(story::progress_line(*step, *done, *total))
            }
            _ if row.state != JobState::Running => progress.status(story::waiting(&row)),
            _ => {}
        }
        if row.state.is_final() {
            return Ok(row);
        }
        if row.state == JobState::Lost {
            if Instant::now() - *lost_since.get_or_insert_with(Instant::now) >= LOST_PATIENCE {
                return Err(Error::Lost { id });
            }
        } else {
            lost_since = None;
        }
        let request = Request::JobWatch { id, after: known, wait_ms };
        let answer = drawing(app.client()?.ask(&request, poll, Instant::now() + PATIENCE), progress).await?;
        let Answer::Watch { row: now, events: more, progress: at } = answer else {
            return Err(Error::Unexpected(request.verb()));
        };
        (row, events, step) = (*now, more, at);
    }
}

/// Draws the live line while something is waited for.
pub(crate) async fn drawing<T>(work: impl Future<Output = T>, progress: &mut Progress<'_>) -> T {
    let mut tick = tokio::time::interval(TICK);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => progress.draw(),
        }
    }
}

fn show(event: &JobEventKind, verbose: bool, progress: &mut Progress<'_>) {
    let JobEventKind::Host { what } = event else {
        match event {
            JobEventKind::Placed { why, .. } if verbose => {
                why.iter().for_each(|why| progress.mark("·", Paint::Dim, why))
            }
            JobEventKind::Lost | JobEventKind::Found | JobEventKind::CancelAsked { .. } => {
                progress.mark("!", Paint::Dim, &story::event(event))
            }
            JobEventKind::Submitted { .. }
            | JobEventKind::Placed { .. }
            | JobEventKind::Offered { .. }
            | JobEventKind::Granted
            | JobEventKind::Host { .. }
            | JobEventKind::Ended { .. }
            | JobEventKind::Other => {}
        }
        return;
    };
    match what {
        HostEventKind::StepStarted { step } => progress.status(story::doing(*step).to_owned()),
        HostEventKind::StepDone { step, took_ms, note } => {
            progress.status(String::new());
            if *step != maglica_proto::job::Step::Check || verbose {
                progress.mark("✔", Paint::Green, &story::step_line(*step, *took_ms, note));
            }
        }
        // Why is the last thing said, as the error.
        HostEventKind::StepFailed { step, .. } => progress.mark("✘", Paint::Red, &format!("{} failed", step.as_str())),
        HostEventKind::Undone { .. } => progress.mark("↶", Paint::Dim, &story::event(event)),
        HostEventKind::Resumed { .. } => progress.mark("!", Paint::Dim, &story::event(event)),
        HostEventKind::StepProgress { .. } | HostEventKind::Other => {}
    }
}

/// Says what came of a job that has ended.
async fn ended(app: &mut App<'_>, row: JobRow) -> Result<Exit, Error> {
    match app.out.format() {
        Format::Json | Format::Yaml => {
            let request = Request::JobShow { id: row.id };
            let Answer::Job(view) = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
            app.out.show(&view, String::new, Vec::new)?;
        }
        Format::Table | Format::Name => {}
    }
    match row.state {
        JobState::Succeeded { ref outcome } => {
            match app.out.format() {
                Format::Table => app.out.data(&story::outcome(&row, outcome))?,
                Format::Name => app.out.data(row.vm.as_str())?,
                Format::Json | Format::Yaml => {}
            }
            Ok(Exit::Ok)
        }
        JobState::Failed { fault } => Err(Error::Job { id: row.id, state: "failed", fault: fault.into() }),
        JobState::Cancelled { fault } => Err(Error::Job { id: row.id, state: "cancelled", fault: fault.into() }),
        JobState::Queued | JobState::Offered | JobState::Running | JobState::Cancelling | JobState::Lost => {
            Err(Error::Unexpected("job-watch"))
        }
    }
}
