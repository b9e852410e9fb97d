//! Several jobs at once: submitted together, stayed with until all have ended, told as a table.
//!
//! How many run at a time is up to the hosts; here is only waiting. One job after another is waited for: those that have ended
//! meanwhile are answered at once, so that the whole takes as long as the longest.

use std::time::Instant;

use maglica_proto::{
    fault::Fault,
    id::JobId,
    job::{JobRow, JobSpec, JobState, VmRef},
    name::HostName,
    request::{Answer, Request, SUBMIT_MAX, Submission},
};
use serde::Serialize;

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    follow::{LOST_PATIENCE, PATIENCE, POLL, drawing},
    output::{progress::Progress, table::Table},
    story,
};

/// What came of one.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The machine.
    pub vm: String,
    /// Its host, if known.
    pub host: Option<HostName>,
    /// The job, if one was submitted.
    pub job: Option<JobId>,
    /// `succeeded`, `failed`, `cancelled`, `refused`, `submitted`, `left-out`, `lost` or `unknown`.
    pub result: &'static str,
    /// What there is to say of it.
    pub message: String,
    /// What came of it, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    #[serde(skip)]
    exit: Exit,
}

impl Row {
    fn refused(vm: &VmRef, fault: &Fault) -> Self {
        Self {
            vm: vm.name.to_string(),
            host: vm.host.clone(),
            job: None,
            result: "refused",
            message: fault.to_string(),
            state: None,
            exit: Exit::of(fault.code),
        }
    }

    fn of(row: &JobRow) -> Self {
        let (result, message, exit) = match &row.state {
            JobState::Succeeded { outcome } => ("succeeded", story::outcome(row, outcome), Exit::Ok),
            JobState::Failed { fault } => ("failed", fault.to_string(), Exit::of(fault.code)),
            JobState::Cancelled { fault } => ("cancelled", fault.to_string(), Exit::Cancelled),
            JobState::Lost => ("lost", story::state(row), Exit::OutcomeUnknown),
            JobState::Queued | JobState::Offered | JobState::Running | JobState::Cancelling => {
                ("submitted", story::waiting(row), Exit::Ok)
            }
        };
        Self {
            vm: row.vm.to_string(),
            host: Some(row.host.clone()),
            job: Some(row.id),
            result,
            message,
            state: Some(row.state.clone()),
            exit,
        }
    }
}

/// Submits a job for each machine, and stays with all of them unless `detach`. `away` are left out, for their host is not up.
///
/// # Errors
/// [`Error`] if not all could be asked for, or were not waited for; what came of each is no error but the table and the exit code.
pub async fn submit(
    app: &mut App<'_>,
    jobs: Vec<(VmRef, JobSpec)>,
    away: &[VmRef],
    detach: bool,
) -> Result<Exit, Error> {
    let mut taken = Vec::with_capacity(jobs.len());
    for chunk in jobs.chunks(SUBMIT_MAX) {
        let submissions =
            chunk.iter().map(|(_, spec)| Submission { id: JobId::generate(), spec: spec.clone() }).collect();
        let request = Request::SubmitMany { jobs: submissions };
        let Answer::Submitted { results } = app.ask(&request).await? else {
            return Err(Error::Unexpected(request.verb()));
        };
        taken.extend(chunk.iter().map(|(vm, _)| vm.clone()).zip(results));
    }
    if !detach {
        stay(app, &mut taken).await?;
    }
    let mut rows: Vec<Row> = taken
        .iter()
        .map(|(vm, result)| match result {
            Ok(row) => Row::of(row),
            Err(fault) => Row::refused(vm, fault),
        })
        .collect();
    rows.extend(away.iter().map(|vm| Row {
        vm: vm.name.to_string(),
        host: vm.host.clone(),
        job: None,
        result: "left-out",
        message: "its host is not up; name it to have it done when the host is back".to_owned(),
        state: None,
        exit: Exit::Unreachable,
    }));
    app.out.show(&rows, || table(&rows), || names(&rows, detach))?;
    let exits: Vec<Exit> = rows.iter().map(|row| row.exit).collect();
    Ok(Exit::together(&exits))
}

/// With `-o name`: what a script goes on with.
fn names(rows: &[Row], detach: bool) -> Vec<String> {
    let done = rows.iter().filter(|row| row.exit == Exit::Ok);
    done.filter_map(|row| if detach { row.job.map(|job| job.to_string()) } else { Some(row.vm.clone()) }).collect()
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(["Name", "Host", "Result", "What"]);
    for row in rows {
        table.row([
            row.vm.clone(),
            row.host.as_ref().map(ToString::to_string).unwrap_or_default(),
            row.result.to_owned(),
            row.message.clone(),
        ]);
    }
    table.render()
}

type Taken = (VmRef, Result<JobRow, Fault>);

async fn stay(app: &mut App<'_>, taken: &mut [Taken]) -> Result<(), Error> {
    let (out, deadline) = (app.out, app.deadline());
    let mut progress = Progress::new(out);
    let all = taken.len();
    let mut ended = 0;
    let watching = async {
        for (_, result) in taken.iter_mut() {
            if let Ok(row) = result {
                watch(app, row, (ended, all), &mut progress).await?;
            }
            ended += 1;
        }
        Ok(())
    };
    let expired = async {
        match deadline {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    let interrupted = tokio::select! {
        done = watching => return done,
        // A handler that cannot be set leaves the default, which ends the program.
        Ok(()) = tokio::signal::ctrl_c() => true,
        () = expired => false,
    };
    Err(Error::Left { ended, all, interrupted })
}

/// Waits until this one has ended, or its host has been silent for too long.
async fn watch(
    app: &mut App<'_>,
    row: &mut JobRow,
    (ended, all): (usize, usize),
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let mut lost_since = None;
    let mut after = 0;
    while !row.state.is_final() {
        progress.status(format!("{ended} of {all} done; {}: {}", row.vm, story::waiting(row)));
        if row.state == JobState::Lost {
            if lost_since.get_or_insert_with(Instant::now).elapsed() >= LOST_PATIENCE {
                return Ok(());
            }
        } else {
            lost_since = None;
        }
        let wait_ms = u32::try_from(POLL.as_millis()).unwrap_or(u32::MAX);
        let request = Request::JobWatch { id: row.id, after, wait_ms };
        let until = Instant::now() + PATIENCE;
        let answer = drawing(app.client()?.ask(&request, POLL, until), progress).await?;
        let Answer::Watch { row: now, events, .. } = answer else { return Err(Error::Unexpected(request.verb())) };
        after = events.last().map_or(after, |event| event.seq.saturating_add(1));
        *row = *now;
    }
    Ok(())
}
