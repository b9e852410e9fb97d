//! `maglica image show`: one image on each host that has it.

use maglica_proto::{
    job::VmRef,
    name::DomainName,
    request::{Absence, Answer, ImageCopy, Presence, Request},
};
use serde::Serialize;

use crate::{app::App, command::vm, error::Error, exit::Exit, output::table::fields};

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown<'a> {
    copies: &'a [ImageCopy],
}

pub(super) async fn run(VmRef { name, host }: VmRef, app: &mut App<'_>) -> Result<Exit, Error> {
    let copies = copies(VmRef { name, host }, app).await?;
    let table = || copies.iter().map(details).collect::<Vec<_>>().join("\n\n");
    app.out.show(&Shown { copies: &copies }, table, || copies.iter().map(|copy| copy.host.to_string()).collect())?;
    let absent: Vec<Absence> = copies
        .iter()
        .filter(|copy| copy.presence != Presence::Up)
        .map(|copy| Absence { host: copy.host.clone(), presence: copy.presence, heard: None })
        .collect();
    Ok(app.out.absent(&absent, "images", |_| 1))
}

/// The image as each host has it.
pub(super) async fn copies(VmRef { name, host }: VmRef, app: &mut App<'_>) -> Result<Vec<ImageCopy>, Error> {
    let request = Request::ImageShow { name, host };
    let Answer::Image { copies } = app.ask(&request).await? else { return Err(Error::Unexpected(request.verb())) };
    Ok(copies)
}

fn names(names: &[DomainName], total: usize) -> String {
    let mut text = names.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    if total > names.len() {
        text.push_str(&format!("\nand {} more", total - names.len()));
    }
    text
}

fn details(copy: &ImageCopy) -> String {
    let domain = &copy.domain;
    let lines = |lines: Vec<String>| lines.join("\n");
    let why = if domain.marked_image { "by mark" } else { "by name" };
    let total = usize::try_from(copy.clones_total).unwrap_or(usize::MAX);
    fields(&[
        ("Name", domain.name.to_string()),
        ("Host", copy.host.to_string()),
        ("State", copy.state.as_str().to_owned()),
        ("Image", why.to_owned()),
        ("UUID", domain.uuid.to_string()),
        ("CPUs", domain.vcpus.to_string()),
        ("Memory", domain.memory.to_string()),
        ("Disks", lines(domain.disks.iter().map(disk_line).collect())),
        ("Interfaces", lines(domain.nics.iter().map(vm::nic_line).collect())),
        ("Clones", names(&copy.clones, total)),
        ("Overlays", names(&copy.overlays, copy.overlays.len())),
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

fn disk_line(disk: &maglica_proto::inventory::Disk) -> String {
    let taken = disk.allocation.map(|size| format!(", {} {size} on disk", disk.format)).unwrap_or_default();
    let backing = disk.backing.as_ref().map(|path| format!(", an overlay on {path}")).unwrap_or_default();
    format!("{}{taken}{backing}", vm::disk_line(disk))
}
