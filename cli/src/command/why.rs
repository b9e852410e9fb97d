//! Placement made visible: `maglica why`, and what `vm clone --dry-run` says.

use clap::Args;
use maglica_proto::{
    fault::{Code, Fault},
    id::JobId,
    inventory::Provenance,
    job::{CloneSpec, JobEventKind, JobRow, JobView},
    name::{DomainName, HostName},
    placement::{Considered, Placement, Verdict, score_text},
    request::{Answer, Request},
    units::Timestamp,
};
use serde::Serialize;

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    output::{
        table::{Table, fields},
        time,
    },
    story,
};

/// How many of the last jobs are looked through for one of a machine.
const JOBS: u32 = 1000;

/// What to explain.
#[derive(Debug, Args)]
pub struct Why {
    /// A job's id or a virtual machine's name.
    #[arg(value_name = "JOB|VM")]
    what: String,
    /// The machine's host, where two have one of that name.
    #[arg(long, value_name = "HOST")]
    on: Option<HostName>,
}

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown<'a> {
    vm: &'a DomainName,
    host: &'a HostName,
    /// The job that was placed there; none if Maglica did not make the machine, or has forgotten the job.
    job: Option<&'a JobRow>,
    made: Option<&'a Provenance>,
    placed: Option<Timestamp>,
    why: &'a [String],
    waits: Option<String>,
}

impl Why {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        if let Ok(id) = self.what.parse::<JobId>() {
            let view = job(app, id).await?;
            return show(app, &view.row.vm, &view.row.host, None, Some(&view));
        }
        let name = DomainName::new(self.what).map_err(|error| Error::Usage(error.to_string()))?;
        let request = Request::VmShow { name: name.clone(), host: self.on };
        let machine = match app.ask(&request).await {
            Ok(Answer::Vm(view)) => Ok(view),
            Ok(_) => return Err(Error::Unexpected(request.verb())),
            // It may be on its way still, or its making have failed.
            Err(Error::Fault(fault)) if matches!(fault.code, Code::NotFound | Code::HostDown) => Err(fault),
            Err(error) => return Err(error),
        };
        match machine {
            Ok(machine) => {
                let made = machine.domain.made.as_ref();
                let view = match made.map(|made| made.job) {
                    Some(id) => known_job(app, id).await?,
                    None => None,
                };
                show(app, &name, &machine.host, made, view.as_ref())
            }
            Err(fault) => match last_job(app, &name).await? {
                Some(id) => {
                    let view = job(app, id).await?;
                    show(app, &name, &view.row.host, None, Some(&view))
                }
                None => Err(Error::Fault(fault)),
            },
        }
    }
}

async fn job(app: &mut App<'_>, id: JobId) -> Result<JobView, Error> {
    let request = Request::JobShow { id };
    let Answer::Job(view) = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    Ok(*view)
}

/// The job, unless it was forgotten.
async fn known_job(app: &mut App<'_>, id: JobId) -> Result<Option<JobView>, Error> {
    match job(app, id).await {
        Ok(view) => Ok(Some(view)),
        Err(Error::Fault(fault)) if fault.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn last_job(app: &mut App<'_>, name: &DomainName) -> Result<Option<JobId>, Error> {
    let request = Request::JobList { limit: JOBS };
    let Answer::Jobs { jobs } = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    Ok(jobs.into_iter().find(|job| job.vm == *name).map(|job| job.id))
}

fn show(
    app: &App<'_>,
    vm: &DomainName,
    host: &HostName,
    made: Option<&Provenance>,
    view: Option<&JobView>,
) -> Result<Exit, Error> {
    let placed = view.iter().flat_map(|view| &view.events).find_map(|event| match &event.what {
        JobEventKind::Placed { why, .. } => Some((event.at, why.as_slice())),
        JobEventKind::Submitted { .. }
        | JobEventKind::Offered { .. }
        | JobEventKind::Granted
        | JobEventKind::Host { .. }
        | JobEventKind::CancelAsked { .. }
        | JobEventKind::Lost
        | JobEventKind::Found
        | JobEventKind::Ended { .. }
        | JobEventKind::Other => None,
    });
    let job = view.map(|view| &view.row);
    let waits = job.map(story::waiting).filter(|waits| !waits.is_empty());
    let why = placed.map_or(&[][..], |(_, why)| why);
    let shown = Shown { vm, host, job, made, placed: placed.map(|(at, _)| at), why, waits: waits.clone() };
    let text = || {
        let reasons = match (view, made) {
            (None, None) => "Maglica did not make it: it is where libvirt has it".to_owned(),
            (None, Some(_)) => "the job that made it has been forgotten".to_owned(),
            (Some(_), _) if why.is_empty() => "nothing was written down".to_owned(),
            (Some(_), _) => crate::output::clean(&why.join("\n")),
        };
        fields(&[
            ("Machine", vm.to_string()),
            ("Host", host.to_string()),
            ("Job", view.map(|view| format!("{}  {}", view.row.id, story::title(view))).unwrap_or_default()),
            ("Made", made.filter(|_| view.is_none()).map(|made| format!("by job {}", made.job)).unwrap_or_default()),
            ("Placed", placed.map(|(at, _)| time::moment(at)).unwrap_or_default()),
            ("Why", reasons),
            ("Now", waits.unwrap_or_else(|| job.map(story::state).unwrap_or_default())),
        ])
    };
    app.out.show(&shown, text, || vec![host.to_string()])?;
    Ok(Exit::Ok)
}

/// Says where a clone would be made; makes nothing.
pub(super) async fn dry_run(app: &mut App<'_>, spec: CloneSpec) -> Result<Exit, Error> {
    // What happens inside the guest decides nothing here, and holds a secret.
    let request = Request::Place { spec: CloneSpec { customize: None, ..spec } };
    let Answer::Placement(placement) = app.ask(&request).await? else {
        return Err(Error::Unexpected(request.verb()));
    };
    let Placement { considered, unlisted, fault } = &*placement;
    let chosen = || considered.iter().filter(|host| host.verdict == Verdict::Chosen);
    app.out.show(&placement, || table(considered), || chosen().map(|host| host.host.to_string()).collect())?;
    if *unlisted > 0 {
        app.out.note(&format!("{unlisted} more hosts are not listed"));
    }
    match fault {
        Some(fault) => Err(Error::Fault(Box::new(Fault::clone(fault)))),
        None => Ok(Exit::Ok),
    }
}

fn table(considered: &[Considered]) -> String {
    let mut table = Table::new([
        "Host",
        "Verdict",
        "Score",
        "Active",
        "Weight",
        "Memory free",
        "CPUs",
        "Pool",
        "Pool free",
        "Why not",
    ]);
    for host in considered {
        let why = match &host.verdict {
            Verdict::Refused { reason, .. } => reason.clone(),
            Verdict::Chosen | Verdict::Possible => String::new(),
        };
        table.row([
            host.host.to_string(),
            host.verdict.as_str().to_owned(),
            score_text(host.score_centi),
            host.active.to_string(),
            host.weight.to_string(),
            host.memory_free.to_string(),
            host.cpus.map(|cpus| format!("{} of {cpus}", host.vcpus)).unwrap_or_default(),
            host.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
            host.pool_free.map(|free| free.to_string()).unwrap_or_default(),
            why,
        ]);
    }
    table.render()
}
