//! An image of this host, as files to be given: its disks and its firmware's variables, byte for byte.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
};

use maglica_proto::{
    fault::{Code, Fault},
    inventory::{DiskDevice, IMAGE_SUFFIX},
    job::VmTask,
    transfer::{Offer, OfferedFile},
};

use crate::hypervisor::{
    Hypervisor, VolumeRow,
    domain_xml::{self, DiskXml, Source},
};

/// What the file with the firmware's variables is called among the files.
pub(crate) const NVRAM: &str = "nvram";

/// Opens everything of an image that is given. Blocks.
pub(super) fn offer(hypervisor: &dyn Hypervisor, image: &VmTask) -> Result<Offer, Fault> {
    let name = image.name.as_str();
    let refuse = |code, why: String| Fault::new(code, format!("the image {name} {why}")).about(name);
    let row = match hypervisor.domain(image.uuid) {
        Ok(row) if row.name == name => row,
        Ok(row) => return Err(refuse(Code::Conflict, format!("is called {} now on the host that has it", row.name))),
        Err(error) if error.is_not_found() => {
            return Err(refuse(Code::NotFound, "is not there any more on the host that had it".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    if row.state.is_active() {
        return Err(refuse(Code::WrongState, format!("is {} on the host that has it", row.state.as_str())));
    }
    let xml = hypervisor.domain_xml(image.uuid)?;
    let description =
        domain_xml::read(&xml).map_err(|error| Fault::from_error(Code::Hypervisor, &error).about(name))?;
    if !description.marked_image && !description.name.ends_with(IMAGE_SUFFIX) {
        return Err(refuse(Code::WrongState, "is no image any more".to_owned()));
    }
    let (mut files, mut pool) = (Vec::new(), None);
    for disk in description.disks.iter().filter(|disk| matches!(disk.device, DiskDevice::Disk | DiskDevice::Lun)) {
        if disk.source == Source::Empty {
            continue;
        }
        let volume = volume(hypervisor, disk).map_err(|why| {
            refuse(Code::Unsupported, format!("has a disk {} that cannot be copied: {why}", disk.target))
        })?;
        files.push(open(&disk.target, &disk.format, &volume.path, name)?);
        pool.get_or_insert(volume.pool);
    }
    if files.is_empty() {
        return Err(refuse(Code::Unsupported, "has no disk to copy".to_owned()));
    }
    // Made by libvirt at the first start; an image that never ran may have none.
    if let Some(path) = description.nvram.filter(|path| std::fs::exists(path).unwrap_or(false)) {
        files.push(open(NVRAM, "raw", &path, name)?);
    }
    Ok(Offer { description: Some(xml), pool, files })
}

fn volume(hypervisor: &dyn Hypervisor, disk: &DiskXml) -> Result<VolumeRow, String> {
    if disk.device == DiskDevice::Lun {
        return Err("it is a passed-through LUN".to_owned());
    }
    if disk.readonly || disk.shareable {
        return Err("it is shared with others".to_owned());
    }
    if disk.encrypted {
        return Err("it is encrypted".to_owned());
    }
    let found = match &disk.source {
        Source::Path(path) => hypervisor.volume_by_path(path),
        Source::Volume { pool, volume } => hypervisor.volume(pool, volume),
        Source::Other(kind) => return Err(format!("it is of type {kind}, not a file in a storage pool")),
        Source::Empty => return Err("there is nothing behind it".to_owned()),
    };
    let volume = found.map_err(|error| error.to_string())?;
    match &volume.backing {
        Some(below) => Err(format!("it is an overlay on {below}")),
        None => Ok(volume),
    }
}

fn open(role: &str, format: &str, path: &str, image: &str) -> Result<OfferedFile, Fault> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        let mut fault = Fault::from_error(Code::ToolFailed, error).about(image);
        fault.message = format!("{path} cannot be read: {}", fault.message);
        fault
    };
    // A pool's volume that was replaced by a link to elsewhere is no volume.
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let follow = path.starts_with("/dev/");
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(if follow { 0 } else { nofollow })
        .open(path)
        .map_err(|error| failed(&error))?;
    OfferedFile::new(role, format, file).map_err(|error| failed(&error))
}
