//! `maglica vm …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use maglica_proto::{
    inventory::{Disk, Nic},
    job::{JobSpec, VmRef},
    name::{DomainName, HostName},
    request::{Absence, Answer, Presence, Request, VmRow, VmView},
};
use serde::Serialize;

use super::clone::Clone;
use crate::{
    app::App,
    error::Error,
    exit::Exit,
    follow,
    input::{one, seconds},
    output::{
        table::{Table, fields},
        time,
    },
};

/// How long a guest may take to shut down unless `--timeout` says otherwise.
const STOP_LIMIT: Duration = Duration::from_secs(180);

/// Commands about virtual machines.
#[derive(Debug, Subcommand)]
pub enum Vm {
    /// List the virtual machines of all hosts.
    #[command(visible_alias = "ls")]
    List {
        /// Only those of this host.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
    },
    /// Show one with all its details.
    Show(Which),
    /// Make a new one of an image.
    Clone(Box<Clone>),
    /// Delete its definition and its disks. It must be off.
    #[command(visible_alias = "rm")]
    Remove {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// Print the job's id and do not wait.
        #[arg(long)]
        detach: bool,
    },
    /// Start it.
    Start(Act),
    /// Shut it down by ACPI. --timeout says how long the guest has for it (3 minutes by default).
    Stop(Act),
    /// Switch it off at once, as if by pulling the plug. Its disks stay.
    Destroy(Act),
    /// Its serial console on this terminal. Ctrl-] leaves.
    Console(super::console::Console),
    /// What its serial port put out, as its host keeps it.
    Log(super::vm_log::Log),
}

/// Which virtual machine.
#[derive(Debug, Args)]
pub struct Which {
    /// Its name.
    #[arg(value_name = "NAME")]
    bare: Option<DomainName>,
    /// Its name, as an option.
    #[arg(long = "name", value_name = "NAME")]
    named: Option<DomainName>,
    /// Its host, where two have one of that name.
    #[arg(long, value_name = "HOST")]
    on: Option<HostName>,
}

impl Which {
    pub(super) fn vm(self) -> Result<VmRef, Error> {
        let name = one(self.bare, self.named, "name of the virtual machine", "--name")?;
        Ok(VmRef { name, host: self.on })
    }
}

/// Something to do with one.
#[derive(Debug, Args)]
pub struct Act {
    /// Which.
    #[command(flatten)]
    which: Which,
    /// Print the job's id and do not wait.
    #[arg(long)]
    detach: bool,
}

/// What `-o json` and `-o yaml` show of a list.
#[derive(Serialize)]
struct Shown<'a> {
    vms: &'a [VmRow],
    absent: &'a [Absence],
}

impl Vm {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        match self {
            Self::List { on } => list(app, on).await,
            Self::Show(which) => {
                let view = view(app, which.vm()?).await?;
                app.out.show(&view, || details(&view), || vec![view.domain.name.to_string()])?;
                let absent = Absence { host: view.host.clone(), presence: view.presence, heard: None };
                Ok(if view.presence == Presence::Up { Exit::Ok } else { absent_one(app, &absent, view.age_ms) })
            }
            Self::Clone(clone) => {
                let detach = clone.detach;
                let dry_run = clone.dry_run;
                let spec = clone.spec()?;
                if dry_run {
                    return super::why::dry_run(app, spec).await;
                }
                follow::submit(app, JobSpec::Clone(spec), detach).await
            }
            Self::Remove { which, yes, detach } => {
                let mut vm = which.vm()?;
                if !yes {
                    let view = view(app, vm.clone()).await?;
                    if !app.out.confirm(&question(&view))? {
                        return Err(Error::Declined);
                    }
                    // What was shown is what goes.
                    vm.host = Some(view.host);
                }
                follow::submit(app, JobSpec::Remove(vm), detach).await
            }
            Self::Start(Act { which, detach }) => follow::submit(app, JobSpec::Start(which.vm()?), detach).await,
            Self::Stop(Act { which, detach }) => {
                let vm = which.vm()?;
                // The limit is the guest's here, and the job keeps it; the command waits as long as the job takes.
                let timeout_s = seconds(app.timeout.take().unwrap_or(STOP_LIMIT));
                follow::submit(app, JobSpec::Stop { vm, timeout_s }, detach).await
            }
            Self::Console(console) => console.run(app).await,
            Self::Log(log) => log.run(app).await,
            Self::Destroy(Act { which, detach }) => follow::submit(app, JobSpec::Destroy(which.vm()?), detach).await,
        }
    }
}

fn absent_one(app: &App<'_>, absence: &Absence, age_ms: u64) -> Exit {
    let age = time::duration(Duration::from_millis(age_ms));
    app.out.say(&format!("{}: {}, this is as last seen {age} ago", absence.host, absence.presence.as_str()));
    Exit::Partial
}

async fn view(app: &mut App<'_>, VmRef { name, host }: VmRef) -> Result<VmView, Error> {
    let request = Request::VmShow { name, host };
    let Answer::Vm(view) = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    Ok(*view)
}

fn question(view: &VmView) -> String {
    let disks: Vec<String> = view.domain.data_disks().map(disk_line).collect();
    let disks =
        if disks.is_empty() { "it has no disks".to_owned() } else { format!("with its disks {}", disks.join(", ")) };
    format!("Remove {} from {}, {disks}?", view.domain.name, view.host)
}

async fn list(app: &mut App<'_>, on: Option<HostName>) -> Result<Exit, Error> {
    let (mut rows, mut after) = (Vec::new(), None);
    let mut absent = loop {
        let request = Request::VmList { after: after.clone() };
        let Answer::Vms { listing, next } = app.ask(&request).await? else {
            return Err(Error::Unexpected(request.verb()));
        };
        rows.extend(listing.rows);
        // A page that leads to itself would never end.
        if next.is_none() || next <= after {
            break listing.absent;
        }
        after = next;
    };
    if let Some(on) = on {
        rows.retain(|row| row.host == on);
        absent.retain(|absence| absence.host == on);
    }
    app.out.show(
        &Shown { vms: &rows, absent: &absent },
        || table(&rows),
        || rows.iter().map(|row| row.name.to_string()).collect(),
    )?;
    Ok(app.out.absent(&absent, "machines", |absence| rows.iter().filter(|row| row.host == absence.host).count()))
}

fn table(rows: &[VmRow]) -> String {
    let mut table = Table::new(["Name", "Host", "State", "CPUs", "Memory", "Disk", "Addresses"]);
    for row in rows {
        table.row([
            row.name.to_string(),
            row.host.to_string(),
            row.state.as_str().to_owned(),
            row.vcpus.to_string(),
            row.memory.to_string(),
            row.disk.map(|size| size.to_string()).unwrap_or_default(),
            row.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        ]);
    }
    table.render()
}

pub(super) fn disk_line(disk: &Disk) -> String {
    let place = match (&disk.pool, &disk.volume, &disk.path) {
        (Some(pool), Some(volume), _) => format!("{pool}/{volume}"),
        (_, _, Some(path)) => path.clone(),
        (_, _, None) => "empty".to_owned(),
    };
    let size = disk.capacity.map(|size| format!(", {size}")).unwrap_or_default();
    let trouble = disk.trouble.as_ref().map(|trouble| format!(", {trouble}")).unwrap_or_default();
    format!("{} ({place}{size}{trouble})", disk.target)
}

pub(super) fn nic_line(nic: &Nic) -> String {
    format!("{} on {} {}", nic.mac, nic.kind, nic.source.as_deref().unwrap_or_default()).trim_end().to_owned()
}

fn details(view: &VmView) -> String {
    let domain = &view.domain;
    let lines = |lines: Vec<String>| lines.join("\n");
    fields(&[
        ("Name", domain.name.to_string()),
        ("Host", view.host.to_string()),
        ("State", domain.state.as_str().to_owned()),
        ("Kind", if domain.is_image() { "image".to_owned() } else { String::new() }),
        ("UUID", domain.uuid.to_string()),
        ("CPUs", domain.vcpus.to_string()),
        ("Memory", domain.memory.to_string()),
        ("Autostart", if domain.autostart { "yes" } else { "no" }.to_owned()),
        ("Disks", lines(domain.disks.iter().map(disk_line).collect())),
        ("Interfaces", lines(domain.nics.iter().map(nic_line).collect())),
        ("Addresses", lines(domain.addresses.iter().map(ToString::to_string).collect())),
        (
            "Made",
            domain
                .made
                .as_ref()
                .map(|made| format!("of {} by {}, job {}", made.image, made.by, made.job))
                .unwrap_or_default(),
        ),
    ])
}
