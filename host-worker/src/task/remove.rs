//! Remove: a machine's or an image's definition and its disks. Of a machine, disks that others use are left; an image that others
//! stand on is not removed.
//!
//! The disks go first and the definition last: the definition is what says which disks there are, so that a removal that was
//! interrupted can be begun again. Nothing is taken back; the volumes that are deleted are written down for the report.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use maglica_proto::{
    fault::{self, Code, Fault},
    inventory::{DiskDevice, IMAGE_SUFFIX},
    job::{ImageOutcome, Outcome, Step, VmTask},
};

use uuid::Uuid;

use super::{TaskContext, Undo, cancelled, find, step::step};
use crate::{
    hypervisor::{
        CALL_LIMIT, Hypervisor, HypervisorError, Nvram, VolumeRow,
        domain_xml::{self, Description, DiskXml, Source, serial},
    },
    serial_log,
    storage::{
        qemu_img,
        volumes::{self, DELETE_LIMIT, REFRESH_LIMIT},
    },
};

/// A chain of overlays longer than this is a circle.
const LONGEST_CHAIN: usize = 64;

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A virtual machine.
    Machine,
    /// An image.
    Image,
}

impl Subject {
    const fn kind(self) -> &'static str {
        match self {
            Self::Machine => "remove",
            Self::Image => "image-remove",
        }
    }

    const fn outcome(self, volumes: Vec<String>, kept: Vec<String>) -> Outcome {
        match self {
            Self::Machine => Outcome::Removed { volumes, kept },
            Self::Image => Outcome::Image(ImageOutcome::Removed { volumes, kept }),
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The volumes that can be deleted, by pool and name.
    pub(super) delete: Vec<(String, String)>,
    /// The disks that are left alone, each with the reason.
    pub(super) kept: Vec<String>,
    /// Those of `kept` that others use.
    used: Vec<String>,
}

/// What libvirt knows of all that could use a disk.
struct Seen {
    others: Vec<Description>,
    volumes: Vec<VolumeRow>,
}

/// Removes it.
pub(super) async fn run(subject: Subject, vm: &VmTask, cx: &TaskContext) -> Result<Outcome, Fault> {
    remove(subject, vm, Vec::new(), cx).await
}

/// Goes on removing it; `undo` has the volumes that the earlier run began to delete.
pub(super) async fn recover(subject: Subject, vm: &VmTask, undo: &[Undo], cx: &TaskContext) -> Result<Outcome, Fault> {
    let before: Vec<(String, String)> = undo
        .iter()
        .filter_map(
            |undo| if let Undo::Deleted { pool, volume } = undo { Some((pool.clone(), volume.clone())) } else { None },
        )
        .collect();
    match find(vm, cx).await {
        // The definition went last: with it everything is done.
        Err(fault) if fault.code == Code::NotFound => {
            Ok(subject.outcome(before.iter().map(shown).collect(), Vec::new()))
        }
        Err(fault) => Err(fault),
        Ok(_) => remove(subject, vm, before, cx).await,
    }
}

fn shown((pool, volume): &(String, String)) -> String {
    format!("{pool}/{volume}")
}

async fn remove(
    subject: Subject,
    vm: &VmTask,
    before: Vec<(String, String)>,
    cx: &TaskContext,
) -> Result<Outcome, Fault> {
    let plan =
        step(cx, subject.kind(), Step::Check, async { Ok((check(subject, vm, cx).await?, String::new())) }).await?;
    step(cx, subject.kind(), Step::Remove, async {
        let mut volumes: BTreeSet<(String, String)> = before.into_iter().collect();
        for (pool, volume) in plan.delete {
            cx.journal.intend(&Undo::Deleted { pool: pool.clone(), volume: volume.clone() })?;
            match volumes::delete(&cx.host, &pool, &volume, DELETE_LIMIT).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
            volumes.insert((pool, volume));
        }
        let uuid = vm.uuid;
        let kept = cx
            .host
            .call(format!("undefining {}", vm.name), CALL_LIMIT, move |hypervisor| {
                let kept = serial::read(&hypervisor.domain_xml(uuid)?).ok().and_then(|serial| serial.log);
                hypervisor.undefine(uuid, Nvram::Delete).map(|()| kept)
            })
            .await?;
        // Its own, as the name says; another program's log stays.
        if let Some(log) = kept.filter(|log| log.ends_with(&format!("-{uuid}.serial.log"))) {
            serial_log::remove(Path::new(&log));
        }
        let volumes: Vec<String> = volumes.iter().map(shown).collect();
        let note = volumes.join(", ");
        Ok((subject.outcome(volumes, plan.kept), note))
    })
    .await
}

async fn check(subject: Subject, vm: &VmTask, cx: &TaskContext) -> Result<Plan, Fault> {
    let row = find(vm, cx).await?;
    let refuse = |why: &str| Err(Fault::new(Code::WrongState, format!("{} {why}", vm.name)).about(vm.name.as_str()));
    if row.state.is_active() {
        return refuse(&format!("is {}; only what is off is removed", row.state.as_str()));
    }
    let uuid = vm.uuid;
    let own = cx.host.look(format!("reading {}", vm.name), move |hypervisor| read(hypervisor, uuid)).await?;
    match (subject, own.marked_image || own.name.ends_with(IMAGE_SUFFIX)) {
        (Subject::Machine, false) | (Subject::Image, true) => {}
        (Subject::Machine, true) => return refuse("is an image; it is removed by 'maglica image remove'"),
        (Subject::Image, false) => return refuse("is no image any more"),
    }
    // A machine's disk that libvirt has not seen as a volume yet (see the clone's define) would be left behind.
    let pools = cx.host.look("listing pools", |hypervisor| hypervisor.pools()).await?;
    for pool in pools.iter().filter(|pool| pool.active && pool.is_folder()) {
        let here: Vec<String> = own.disks.iter().filter_map(|disk| in_folder(disk, pool.path.as_deref())).collect();
        if here.is_empty() {
            continue;
        }
        let unseen =
            cx.host.look("looking for the disks as volumes", move |hypervisor| unseen(hypervisor, &here)).await?;
        let limit = if unseen { DELETE_LIMIT } else { REFRESH_LIMIT };
        let refreshed = tokio::select! {
            () = cx.cancel.cancelled() => return Err(cancelled()),
            refreshed = volumes::refresh(&cx.host, &pool.name, limit) => refreshed,
        };
        if let Err(error) = refreshed {
            tracing::debug!(%error, "the pool is not refreshed before the removal");
        }
    }
    let looking = format!("looking who uses the disks of {}", vm.name);
    let mut seen = cx.host.look(looking, move |hypervisor| survey(hypervisor, uuid)).await?;
    if subject == Subject::Image {
        let strays = Box::pin(strays(&seen, cx)).await;
        seen.volumes.extend(strays);
    }
    let plan = plan(&own, &seen.others, &seen.volumes);
    if subject == Subject::Image && !plan.used.is_empty() {
        return refuse(&format!("cannot be removed: {}", plan.used.join("; ")));
    }
    Ok(plan)
}

/// The files behind the disks of other domains that lie in no pool, so that libvirt does not know what they stand on.
async fn strays(seen: &Seen, cx: &TaskContext) -> Vec<VolumeRow> {
    let known: BTreeSet<&str> = seen.volumes.iter().map(|row| row.path.as_str()).collect();
    let disks = seen.others.iter().flat_map(|other| &other.disks);
    let unknown: BTreeSet<(&str, &str)> = disks
        .filter_map(|disk| path_of(disk, &seen.volumes).map(|path| (path, disk.format.as_str())))
        .filter(|(path, format)| *format != "raw" && !known.contains(path))
        .collect();
    let mut rows = Vec::new();
    for (path, format) in unknown {
        // On the heap: it holds a program's output buffers.
        match Box::pin(qemu_img::chain(&cx.tools, path, format, &cx.cancel)).await {
            Ok(chain) => {
                rows.extend(chain.into_iter().filter(|file| !known.contains(file.filename.as_str())).map(|file| {
                    VolumeRow {
                        pool: String::new(),
                        name: file.filename.clone(),
                        path: file.filename,
                        format: file.format,
                        capacity: file.virtual_size,
                        allocation: file.actual_size,
                        backing: file.full_backing_filename,
                    }
                }))
            }
            Err(error) => tracing::warn!(path, error = fault::chain(&error), "what a disk stands on cannot be read"),
        }
    }
    rows
}

/// The path of a disk that lies in this folder.
fn in_folder(disk: &DiskXml, folder: Option<&str>) -> Option<String> {
    match &disk.source {
        Source::Path(path) if path.rsplit_once('/').map(|(parent, _)| parent) == folder => Some(path.clone()),
        Source::Path(_) | Source::Empty | Source::Volume { .. } | Source::Other(_) => None,
    }
}

/// Whether one of these files is there and libvirt has no volume of it.
fn unseen(hypervisor: &dyn Hypervisor, paths: &[String]) -> Result<bool, HypervisorError> {
    for path in paths {
        match hypervisor.volume_by_path(path) {
            Ok(_) => {}
            Err(error) if error.is_not_found() && std::fs::exists(path).unwrap_or(true) => return Ok(true),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn read(hypervisor: &dyn Hypervisor, uuid: Uuid) -> Result<Description, HypervisorError> {
    domain_xml::read(&hypervisor.domain_xml(uuid)?).map_err(|error| HypervisorError::Refused {
        doing: format!("reading the description of domain {uuid}"),
        why: error.to_string(),
    })
}

/// Decides about one disk of a machine.
pub(super) fn of_one_disk(
    hypervisor: &dyn Hypervisor,
    own: &Description,
    disk: &DiskXml,
) -> Result<Plan, HypervisorError> {
    let seen = survey(hypervisor, own.uuid)?;
    Ok(plan(&Description { disks: vec![disk.clone()], ..own.clone() }, &seen.others, &seen.volumes))
}

fn survey(hypervisor: &dyn Hypervisor, own: Uuid) -> Result<Seen, HypervisorError> {
    let mut volumes = Vec::new();
    for pool in hypervisor.pools()?.iter().filter(|pool| pool.active) {
        volumes.extend(hypervisor.volumes(&pool.name)?);
    }
    let mut others = Vec::new();
    for row in hypervisor.domains()?.iter().filter(|row| row.uuid != own) {
        match read(hypervisor, row.uuid) {
            Ok(description) => others.push(description),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Seen { others, volumes })
}

/// The path behind a disk, if there is one.
fn path_of<'a>(disk: &'a DiskXml, volumes: &'a [VolumeRow]) -> Option<&'a str> {
    match &disk.source {
        Source::Path(path) => Some(path),
        Source::Volume { pool, volume } => {
            volumes.iter().find(|row| row.pool == *pool && row.name == *volume).map(|row| row.path.as_str())
        }
        Source::Empty | Source::Other(_) => None,
    }
}

/// Decides by what is known of all disks of the host; looks at the disk only for whether a file is gone already.
fn plan(own: &Description, others: &[Description], volumes: &[VolumeRow]) -> Plan {
    let by_path: BTreeMap<&str, &VolumeRow> = volumes.iter().map(|row| (row.path.as_str(), row)).collect();
    let mine: BTreeSet<&str> = own.disks.iter().filter_map(|disk| path_of(disk, volumes)).collect();
    let mut users: BTreeMap<&str, String> = BTreeMap::new();
    for other in others {
        for path in other.disks.iter().filter_map(|disk| path_of(disk, volumes)) {
            users.entry(path).or_insert_with(|| format!("{} uses it", other.name));
            for below in chain(path, &by_path) {
                users.entry(below).or_insert_with(|| format!("a disk of {} is an overlay on it", other.name));
            }
        }
    }
    // Overlays that no domain has for now are somebody's too.
    for row in volumes.iter().filter(|row| !mine.contains(row.path.as_str())) {
        for below in chain(&row.path, &by_path) {
            users.entry(below).or_insert_with(|| format!("the volume {}/{} is an overlay on it", row.pool, row.name));
        }
    }
    let mut plan = Plan::default();
    for disk in &own.disks {
        if matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy) || disk.source == Source::Empty {
            continue;
        }
        let shown = match &disk.source {
            Source::Path(path) => path.clone(),
            Source::Volume { pool, volume } => format!("{pool}/{volume}"),
            Source::Other(kind) => kind.clone(),
            Source::Empty => String::new(),
        };
        let path = path_of(disk, volumes);
        let user = path.and_then(|path| users.get(path)).cloned();
        let reason = if disk.readonly {
            Some("it is read only".to_owned())
        } else if disk.shareable {
            Some("it is shared".to_owned())
        } else {
            user.clone()
        };
        if let Some(user) = user {
            plan.used.push(format!("{} ({shown}): {user}", disk.target));
        }
        match (reason, path.and_then(|path| by_path.get(path))) {
            (Some(reason), _) => plan.kept.push(format!("{} ({shown}): {reason}", disk.target)),
            (None, Some(row)) => plan.delete.push((row.pool.clone(), row.name.clone())),
            (None, None) if path.is_some_and(|path| !std::fs::exists(path).unwrap_or(true)) => {}
            (None, None) => plan.kept.push(format!("{} ({shown}): it is not in an active storage pool", disk.target)),
        }
    }
    plan
}

/// The files below this one, of what libvirt knows of them.
fn chain<'a>(path: &str, by_path: &BTreeMap<&str, &'a VolumeRow>) -> Vec<&'a str> {
    let mut below = Vec::new();
    let mut next = by_path.get(path).and_then(|row| row.backing.as_deref());
    while let Some(path) = next.filter(|_| below.len() < LONGEST_CHAIN) {
        below.push(path);
        next = by_path.get(path).and_then(|row| row.backing.as_deref());
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;
    use maglica_proto::units::ByteSize;

    fn disk(target: &str, path: &str) -> DiskXml {
        DiskXml {
            target: target.to_owned(),
            device: DiskDevice::Disk,
            source: Source::Path(path.to_owned()),
            format: "qcow2".to_owned(),
            readonly: false,
            shareable: false,
            encrypted: false,
        }
    }

    fn domain(name: &str, disks: Vec<DiskXml>) -> Description {
        Description {
            name: name.to_owned(),
            uuid: Uuid::new_v4(),
            kind: "kvm".to_owned(),
            vcpus: 1,
            memory: ByteSize::ZERO,
            disks,
            nics: Vec::new(),
            nvram: None,
            made: None,
            marked_image: false,
            schedule: None,
        }
    }

    fn volume(name: &str, backing: Option<&str>) -> VolumeRow {
        VolumeRow {
            pool: "p".to_owned(),
            name: name.to_owned(),
            path: format!("/p/{name}"),
            format: "qcow2".to_owned(),
            capacity: ByteSize::ZERO,
            allocation: ByteSize::ZERO,
            backing: backing.map(|name| format!("/p/{name}")),
        }
    }

    #[test]
    fn only_disks_in_pools_that_nobody_else_stands_on_are_deleted() {
        let cdrom = DiskXml { device: DiskDevice::Cdrom, readonly: true, ..disk("sda", "/p/install.iso") };
        let own = domain(
            "vm0",
            vec![
                disk("vda", "/p/vm0"),
                disk("vdb", "/p/used"),
                disk("vdc", "/p/base"),
                disk("vdd", "/p/parent"),
                disk("vde", "/etc/elsewhere"),
                DiskXml { shareable: true, ..disk("vdf", "/p/shared") },
                disk("vdg", "/p/gone-already"),
                cdrom,
            ],
        );
        let others = [domain("vm1", vec![disk("vda", "/p/used"), disk("vdb", "/p/top")])];
        let volumes = [
            volume("vm0", Some("image")),
            volume("image", None),
            volume("used", None),
            volume("base", None),
            volume("middle", Some("base")),
            volume("top", Some("middle")),
            volume("parent", None),
            volume("orphan", Some("parent")),
            volume("shared", None),
            volume("install.iso", None),
        ];
        let plan = plan(&own, &others, &volumes);
        assert_eq!(plan.delete, [("p".to_owned(), "vm0".to_owned())], "the image below it stays as well");
        let kept = plan.kept.join("\n");
        for reason in [
            "vm1 uses it",
            "a disk of vm1 is an overlay on it",
            "the volume p/orphan is an overlay on it",
            "it is shared",
        ] {
            assert!(kept.contains(reason), "{reason} in {kept}");
        }
        assert_eq!((plan.kept.len(), plan.used.len()), (4, 3), "what is shared is nobody's in particular");
    }

    #[test]
    fn chains_that_run_in_circles_end() {
        let volumes = [volume("a", Some("b")), volume("b", Some("a"))];
        let own = domain("vm0", vec![disk("vda", "/p/c")]);
        assert_eq!(plan(&own, &[], &volumes).delete, []);
    }
}
