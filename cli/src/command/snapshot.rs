//! `maglica snapshot …`.

use std::time::Duration;

use clap::Subcommand;
use maglica_proto::{
    inventory::{Schedule, Snapshot as Taken},
    job::{JobSpec, SnapshotChange, VmRef},
    name::{DomainName, HostName, SnapshotName},
    request::VmView,
};
use serde::Serialize;

use super::vm::{Stay, show};
use crate::{
    app::App,
    error::Error,
    exit::Exit,
    follow,
    input::{self, seconds},
    output::{
        table::{Table, fields},
        time,
    },
};

/// How much a person may say of a snapshot, in bytes.
const DESCRIPTION_MAX: usize = 1024;

/// Commands about snapshots.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Take one. Of a machine that runs, its disks are taken as a power cut would leave them, or with --memory all of it.
    Create {
        /// Of which machine.
        vm: DomainName,
        /// The snapshot's name; by default the present moment.
        #[arg(value_name = "SNAPSHOT")]
        name: Option<SnapshotName>,
        /// With the memory of the running machine, so that going back to it finds the machine running.
        #[arg(long)]
        memory: bool,
        /// What there is to say of it.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Let the host delete it after this time, such as 7d.
        #[arg(long, value_name = "TIME", value_parser = input::duration)]
        expires: Option<Duration>,
        /// The machine's host, where two have one of that name.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// List those of a machine, oldest first.
    #[command(visible_alias = "ls")]
    List {
        /// Of which machine.
        vm: DomainName,
        /// The machine's host, where two have one of that name.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
    },
    /// Show one.
    Show {
        /// Of which machine.
        vm: DomainName,
        /// Which.
        #[arg(value_name = "SNAPSHOT")]
        name: SnapshotName,
        /// The machine's host, where two have one of that name.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
    },
    /// Bring a machine back to one. What it has done since is lost.
    Revert {
        /// Which machine.
        vm: DomainName,
        /// To which snapshot.
        #[arg(value_name = "SNAPSHOT")]
        name: SnapshotName,
        /// Start it afterwards, where the snapshot has no memory.
        #[arg(long)]
        start: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// The machine's host, where two have one of that name.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// Delete one. The machine, and the snapshots after it, stay as they are.
    #[command(visible_alias = "rm")]
    Delete {
        /// Of which machine.
        vm: DomainName,
        /// Which.
        #[arg(value_name = "SNAPSHOT")]
        name: SnapshotName,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// The machine's host, where two have one of that name.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// Let the host take one now and again, and delete the oldest of those.
    Schedule {
        /// Of which machine.
        vm: DomainName,
        /// From one to the next, such as 1d or 6h.
        #[arg(long, value_name = "TIME", value_parser = input::duration)]
        every: Duration,
        /// How many are kept.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..64))]
        keep: u32,
        /// With the memory, while it runs.
        #[arg(long)]
        memory: bool,
        /// The machine's host, where two have one of that name.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// Let the host take none any more. Those that there are stay.
    Unschedule {
        /// Of which machine.
        vm: DomainName,
        /// The machine's host, where two have one of that name.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
}

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown<'a> {
    vm: &'a DomainName,
    host: &'a HostName,
    schedule: Option<Schedule>,
    snapshots: &'a [Taken],
}

impl Snapshot {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let (vm, snapshot, stay) = match self {
            Self::Create { vm, name, memory, description, expires, on, stay } => {
                let description = description.unwrap_or_default();
                if description.len() > DESCRIPTION_MAX {
                    return Err(Error::Usage(format!("the description is longer than {DESCRIPTION_MAX} bytes")));
                }
                let snapshot = name.map_or_else(now, Ok)?;
                let expires_s = expires.map(seconds);
                (
                    VmRef { name: vm, host: on },
                    SnapshotChange::Create { snapshot, memory, description, expires_s },
                    stay,
                )
            }
            Self::List { vm, on } => return list(app, VmRef { name: vm, host: on }).await,
            Self::Show { vm, name, on } => return show_one(app, VmRef { name: vm, host: on }, &name).await,
            Self::Revert { vm, name, start, yes, on, stay } => {
                let vm = VmRef { name: vm, host: on };
                let question = format!("Bring {} back to {name}? What it has done since is lost.", vm.name);
                let change = SnapshotChange::Revert { snapshot: name, start };
                (certain(app, vm, &question, yes)?, change, stay)
            }
            Self::Delete { vm, name, yes, on, stay } => {
                let vm = VmRef { name: vm, host: on };
                let question = format!("Delete the snapshot {name} of {}?", vm.name);
                (certain(app, vm, &question, yes)?, SnapshotChange::Delete { snapshot: name }, stay)
            }
            Self::Schedule { vm, every, keep, memory, on, stay } => {
                let change = SnapshotChange::Schedule { every_s: seconds(every), keep, memory };
                (VmRef { name: vm, host: on }, change, stay)
            }
            Self::Unschedule { vm, on, stay } => (VmRef { name: vm, host: on }, SnapshotChange::Unschedule, stay),
        };
        follow::submit(app, JobSpec::Snapshot { vm, snapshot }, stay.detach).await
    }
}

fn certain(app: &App<'_>, vm: VmRef, question: &str, yes: bool) -> Result<VmRef, Error> {
    if yes || app.out.confirm(question)? { Ok(vm) } else { Err(Error::Declined) }
}

/// A name for a snapshot that was given none.
fn now() -> Result<SnapshotName, Error> {
    let name = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    SnapshotName::new(name).map_err(|error| Error::Usage(error.to_string()))
}

async fn list(app: &mut App<'_>, vm: VmRef) -> Result<Exit, Error> {
    let view = show::view(app, vm).await?;
    let VmView { host, domain, .. } = &view;
    let shown = Shown { vm: &domain.name, host, schedule: domain.schedule, snapshots: &domain.snapshots };
    let names = || domain.snapshots.iter().map(|snapshot| snapshot.name.to_string()).collect();
    app.out.show(&shown, || table(&domain.snapshots), names)?;
    if let Some(schedule) = &domain.schedule {
        app.out.say(&format!("schedule: {}", schedule_line(schedule)));
    }
    Ok(show::exit(app, &view))
}

async fn show_one(app: &mut App<'_>, vm: VmRef, name: &SnapshotName) -> Result<Exit, Error> {
    let view = show::view(app, vm).await?;
    let found = view.domain.snapshots.iter().find(|snapshot| snapshot.name == *name);
    let Some(found) = found else {
        return Err(Error::NoSnapshot { vm: view.domain.name.clone(), name: name.clone() });
    };
    app.out.show(found, || details(found), || vec![name.to_string()])?;
    Ok(show::exit(app, &view))
}

/// What a schedule says.
pub(super) fn schedule_line(Schedule { every_s, keep, memory }: &Schedule) -> String {
    let every = time::duration(Duration::from_secs((*every_s).into()));
    let memory = if *memory { ", with the memory" } else { "" };
    format!("every {every}, the last {keep} are kept{memory}")
}

const fn what(snapshot: &Taken) -> &'static str {
    if snapshot.memory { "disks, memory" } else { "disks" }
}

fn by(snapshot: &Taken) -> String {
    match (&snapshot.by, snapshot.scheduled) {
        (_, true) => "schedule".to_owned(),
        (Some(by), false) => by.clone(),
        (None, false) => String::new(),
    }
}

fn table(snapshots: &[Taken]) -> String {
    let mut table = Table::new(["Name", "Taken", "Of", "By", "Expires", "Current", "Description"]);
    for snapshot in snapshots {
        table.row([
            snapshot.name.to_string(),
            time::moment(snapshot.created),
            what(snapshot).to_owned(),
            by(snapshot),
            snapshot.expires.map(time::moment).unwrap_or_default(),
            if snapshot.current { "yes" } else { "" }.to_owned(),
            snapshot.description.clone(),
        ]);
    }
    table.render()
}

fn details(snapshot: &Taken) -> String {
    fields(&[
        ("Name", snapshot.name.to_string()),
        ("Taken", time::moment(snapshot.created)),
        ("Of", what(snapshot).to_owned()),
        ("By", by(snapshot)),
        ("After", snapshot.parent.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("Current", if snapshot.current { "yes" } else { "no" }.to_owned()),
        ("Expires", snapshot.expires.map(time::moment).unwrap_or_default()),
        ("Description", snapshot.description.clone()),
    ])
}
