//! `maglica job …`.

use std::time::SystemTime;

use clap::{Args, Subcommand};
use maglica_proto::{
    id::JobId,
    job::{JobRow, JobState, JobView},
    request::{Answer, Request},
    units::Timestamp,
};
use serde::Serialize;

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    follow,
    input::one,
    output::{table::Table, time},
    story,
};

/// Commands about jobs.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// List the last jobs, newest first.
    #[command(visible_alias = "ls")]
    List(Last),
    /// Show one with its whole story.
    Show(Which),
    /// Stay with one until it has ended.
    Wait(Which),
    /// Stop one, and take back what it did.
    Cancel(Which),
}

/// How many.
#[derive(Debug, Args)]
pub struct Last {
    /// How many at the most.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Which job.
#[derive(Debug, Args)]
pub struct Which {
    /// Its id.
    #[arg(value_name = "ID")]
    bare: Option<JobId>,
    /// Its id, as an option.
    #[arg(long = "id", value_name = "ID")]
    named: Option<JobId>,
}

impl Which {
    fn job(self) -> Result<JobId, Error> {
        one(self.bare, self.named, "id of the job", "--id")
    }
}

/// What `-o json` and `-o yaml` show of a list.
#[derive(Serialize)]
struct Shown<'a> {
    jobs: &'a [JobRow],
}

impl Job {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        match self {
            Self::List(last) => list(app, &last).await,
            Self::Show(which) => show(app, which).await,
            Self::Wait(which) => {
                let view = ask(app, &Request::JobShow { id: which.job()? }).await?;
                follow::stay(app, view).await
            }
            Self::Cancel(which) => cancel(app, which.job()?).await,
        }
    }
}

async fn ask(app: &mut App<'_>, request: &Request) -> Result<JobView, Error> {
    let Answer::Job(view) = app.ask(request).await? else { return Err(Error::Unexpected(request.verb())) };
    Ok(*view)
}

pub(super) async fn show(app: &mut App<'_>, which: Which) -> Result<Exit, Error> {
    let view = ask(app, &Request::JobShow { id: which.job()? }).await?;
    app.out.show(&view, || story::whole(&view), || vec![view.row.id.to_string()])?;
    Ok(Exit::Ok)
}

async fn cancel(app: &mut App<'_>, id: JobId) -> Result<Exit, Error> {
    let view = ask(app, &Request::JobCancel { id }).await?;
    app.out.show(&view, || said_of_cancel(&view), || vec![id.to_string()])?;
    Ok(Exit::Ok)
}

fn said_of_cancel(view: &JobView) -> String {
    let id = view.row.id;
    match &view.row.state {
        JobState::Cancelled { .. } => format!("job {id} is cancelled"),
        JobState::Succeeded { .. } | JobState::Failed { .. } => {
            format!("job {id} had ended already: {}", story::state(&view.row))
        }
        JobState::Queued | JobState::Offered | JobState::Running | JobState::Cancelling | JobState::Lost => {
            format!("job {id} is to stop; to stay with it: maglica job wait {id}")
        }
    }
}

pub(super) async fn list(app: &mut App<'_>, last: &Last) -> Result<Exit, Error> {
    let request = Request::JobList { limit: last.limit };
    let Answer::Jobs { jobs } = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    let now = Timestamp::from(SystemTime::now());
    let table = || {
        let mut table = Table::new(["Job", "What", "Machine", "Host", "State", "By", "Submitted", "Took"]);
        for row in &jobs {
            table.row([
                row.id.to_string(),
                row.verb.clone(),
                row.vm.to_string(),
                row.host.to_string(),
                row.state.as_str().to_owned(),
                row.by.clone(),
                time::moment(row.submitted),
                story::took(row, now),
            ]);
        }
        table.render()
    };
    app.out.show(&Shown { jobs: &jobs }, table, || jobs.iter().map(|row| row.id.to_string()).collect())?;
    Ok(Exit::Ok)
}
