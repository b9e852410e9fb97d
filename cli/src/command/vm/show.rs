//! `maglica vm show`: one machine with all its details.

use std::time::Duration;

use maglica_proto::{
    inventory::{Disk, Domain, Nic},
    job::VmRef,
    request::{Absence, Answer, Presence, Request, VmView},
};

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    output::{table::fields, time},
};

pub(super) async fn run(app: &mut App<'_>, vm: VmRef) -> Result<Exit, Error> {
    let view = view(app, vm).await?;
    app.out.show(&view, || details(&view), || vec![view.domain.name.to_string()])?;
    Ok(exit(app, &view))
}

/// Says if what was shown is old.
pub(in crate::command) fn exit(app: &App<'_>, view: &VmView) -> Exit {
    let absent = Absence { host: view.host.clone(), presence: view.presence, heard: None };
    if view.presence == Presence::Up { Exit::Ok } else { absent_one(app, &absent, view.age_ms) }
}

fn absent_one(app: &App<'_>, absence: &Absence, age_ms: u64) -> Exit {
    let age = time::duration(Duration::from_millis(age_ms));
    app.out.say(&format!("{}: {}, this is as last seen {age} ago", absence.host, absence.presence.as_str()));
    Exit::Partial
}

/// The machine as it is known.
pub(in crate::command) async fn view(app: &mut App<'_>, VmRef { name, host }: VmRef) -> Result<VmView, Error> {
    let request = Request::VmShow { name, host };
    let Answer::Vm(view) = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    Ok(*view)
}

/// What is asked before one is removed.
pub(super) fn question(view: &VmView) -> String {
    let disks: Vec<String> = view.domain.data_disks().map(disk_line).collect();
    let disks =
        if disks.is_empty() { "it has no disks".to_owned() } else { format!("with its disks {}", disks.join(", ")) };
    format!("Remove {} from {}, {disks}?", view.domain.name, view.host)
}

pub(in crate::command) fn disk_line(disk: &Disk) -> String {
    let place = match (&disk.pool, &disk.volume, &disk.path) {
        (Some(pool), Some(volume), _) => format!("{pool}/{volume}"),
        (_, _, Some(path)) => path.clone(),
        (_, _, None) => "empty".to_owned(),
    };
    let size = disk.capacity.map(|size| format!(", {size}")).unwrap_or_default();
    let trouble = disk.trouble.as_ref().map(|trouble| format!(", {trouble}")).unwrap_or_default();
    format!("{} ({place}{size}{trouble})", disk.target)
}

/// A disk with all that is below it, a line each.
fn disk_lines(disk: &Disk) -> String {
    let mut lines = disk_line(disk);
    if disk.path.is_some() {
        lines.push_str(&format!(" {}", disk.format));
    }
    for below in disk.backing.iter().chain(&disk.below) {
        lines.push_str(&format!("\n  on {below}"));
    }
    lines
}

pub(in crate::command) fn nic_line(nic: &Nic) -> String {
    let addresses: Vec<String> = nic.addresses.iter().map(ToString::to_string).collect();
    let source = nic.source.as_deref().unwrap_or_default();
    let line = format!("{} on {} {source}", nic.mac, nic.kind);
    format!("{} {}", line.trim_end(), addresses.join(" ")).trim_end().to_owned()
}

fn kind(domain: &Domain) -> String {
    if domain.is_image() { "image".to_owned() } else { String::new() }
}

fn schedule(domain: &Domain) -> String {
    domain.schedule.map(|schedule| crate::command::snapshot::schedule_line(&schedule)).unwrap_or_default()
}

fn details(view: &VmView) -> String {
    let domain = &view.domain;
    let lines = |lines: Vec<String>| lines.join("\n");
    let made = |(image, by, job)| format!("of {image} by {by}, job {job}");
    let screens = domain.screens.iter().map(|screen| format!("{} {}", screen.kind, screen.at)).collect();
    fields(&[
        ("Name", domain.name.to_string()),
        ("Host", view.host.to_string()),
        ("State", domain.state.as_str().to_owned()),
        ("Kind", kind(domain)),
        ("UUID", domain.uuid.to_string()),
        ("CPUs", domain.vcpus.to_string()),
        ("Memory", domain.memory.to_string()),
        ("Autostart", if domain.autostart { "yes" } else { "no" }.to_owned()),
        ("Disks", lines(domain.disks.iter().map(disk_lines).collect())),
        ("Interfaces", lines(domain.nics.iter().map(nic_line).collect())),
        ("Addresses", lines(domain.addresses.iter().map(ToString::to_string).collect())),
        ("Console", domain.console.clone().unwrap_or_default()),
        ("Screens", lines(screens)),
        ("Snapshots", lines(domain.snapshots.iter().map(|snapshot| snapshot.name.to_string()).collect())),
        ("Schedule", schedule(domain)),
        ("Made", domain.made.as_ref().map(|m| made((&m.image, &m.by, &m.job))).unwrap_or_default()),
    ])
}
