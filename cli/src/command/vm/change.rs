//! `maglica vm attach-disk …`: the resources of one machine. Each takes its two words bare or, as the old tool had it, as options.

use clap::{Args, Subcommand};
use maglica_proto::{
    job::{BootDevice, IsoSource, JobSpec, VmChange, VmRef},
    name::{DiskTarget, DomainName, HostName, HostPath, PoolName, VolumeName},
    units::ByteSize,
};

use super::{Stay, Which};
use crate::{app::App, error::Error, exit::Exit, follow};

/// Commands about the resources of one machine.
#[derive(Debug, Subcommand)]
pub enum Change {
    /// Make a new, empty disk for it.
    #[command(alias = "attach_disk")]
    AttachDisk {
        /// Which machine.
        #[command(flatten)]
        which: Which,
        /// The disk's size: a number with K, M, G or T (powers of 1024), such as 20G.
        #[arg(long, value_name = "SIZE")]
        size: ByteSize,
        /// The storage pool, if not that of its first disk.
        #[arg(long, value_name = "POOL")]
        pool: Option<PoolName>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// Take a disk from it. Its volume stays, unless --delete.
    #[command(alias = "detach_disk")]
    DetachDisk {
        /// The machine, and the disk, such as vdb.
        #[command(flatten)]
        words: Words,
        /// The disk, as an option.
        #[arg(long, value_name = "DISK")]
        target: Option<String>,
        /// Delete the volume behind it as well.
        #[arg(long)]
        delete: bool,
        /// Keep the volume behind it, as is done anyway.
        #[arg(long, conflicts_with = "delete")]
        keep: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// Make a disk larger; it is never made smaller.
    #[command(alias = "resize_disk")]
    ResizeDisk {
        /// The machine.
        name: DomainName,
        /// The disk, such as vdb.
        #[arg(value_name = "DISK")]
        target: DiskTarget,
        /// Its new size: a number with K, M, G or T (powers of 1024), such as 40G.
        size: ByteSize,
        /// Its host, where two have one of that name.
        #[arg(long, value_name = "HOST")]
        on: Option<HostName>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// Put an ISO image into its CD drive, which is added if it has none.
    #[command(alias = "attach_iso")]
    AttachIso {
        /// The machine, and the image: a path on its host, or POOL/VOLUME.
        #[command(flatten)]
        words: Words,
        /// The image, as an option.
        #[arg(long, value_name = "ISO")]
        iso: Option<String>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// Take what is in its CD drive out.
    #[command(alias = "eject_iso")]
    EjectIso {
        /// Which machine.
        #[command(flatten)]
        which: Which,
        /// Which drive, such as sda, where several hold something.
        #[arg(long, value_name = "DRIVE")]
        target: Option<DiskTarget>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// What it is started from first: disk (or hd), cdrom or network.
    #[command(alias = "set_boot_device")]
    SetBootDevice {
        /// The machine, and the device.
        #[command(flatten)]
        words: Words,
        /// The device, as an option.
        #[arg(long, alias = "device", value_name = "DEVICE")]
        dev: Option<String>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// The number of its virtual processors; its host has to have as many.
    #[command(alias = "set_vcpus")]
    SetVcpus {
        /// The machine, and the number.
        #[command(flatten)]
        words: Words,
        /// The number, as an option.
        #[arg(long, value_name = "COUNT")]
        vcpus: Option<String>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
    /// Its memory: a number with M or G (powers of 1024), such as 2G; its host has to have as much.
    #[command(alias = "set_memory")]
    SetMemory {
        /// The machine, and the size.
        #[command(flatten)]
        words: Words,
        /// The size, as an option.
        #[arg(long, value_name = "SIZE")]
        size: Option<String>,
        /// How to wait.
        #[command(flatten)]
        stay: Stay,
    },
}

/// A machine and a word about it.
#[derive(Debug, Args)]
pub struct Words {
    /// The machine, then what is said of it.
    #[arg(value_name = "NAME", num_args = 0..=2)]
    bare: Vec<String>,
    /// The machine, as an option.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its host, where two have one of that name.
    #[arg(long, value_name = "HOST")]
    on: Option<HostName>,
}

impl Words {
    fn pair<T: std::str::FromStr<Err: std::fmt::Display>>(
        self,
        value: Option<String>,
        what: &str,
    ) -> Result<(VmRef, T), Error> {
        let mut bare = self.bare.into_iter();
        let missing = |what: &str| Error::Usage(format!("the {what} is missing"));
        let name = self.name.or_else(|| bare.next()).ok_or_else(|| missing("name of the virtual machine"))?;
        let value = value.or_else(|| bare.next()).ok_or_else(|| missing(what))?;
        if let Some(more) = bare.next() {
            return Err(Error::Usage(format!("{more:?} is one word too many")));
        }
        let name = DomainName::new(name).map_err(|error| Error::Usage(error.to_string()))?;
        let value = value.parse().map_err(|error: T::Err| Error::Usage(format!("the {what}: {error}")))?;
        Ok((VmRef { name, host: self.on }, value))
    }
}

/// An ISO image as it is written.
struct Iso(IsoSource);

impl std::str::FromStr for Iso {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            let path = HostPath::new(text).map_err(|error| error.to_string())?;
            return Ok(Self(IsoSource::Path { path }));
        }
        let Some((pool, volume)) = text.split_once('/') else {
            return Err(format!("{text:?} is neither a path on the host, which begins with '/', nor POOL/VOLUME"));
        };
        let pool = PoolName::new(pool).map_err(|error| error.to_string())?;
        let volume = VolumeName::new(volume).map_err(|error| error.to_string())?;
        Ok(Self(IsoSource::Volume { pool, volume }))
    }
}

/// A boot device as it is written.
struct Boot(BootDevice);

impl std::str::FromStr for Boot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "disk" | "hd" => Ok(Self(BootDevice::Disk)),
            "cdrom" | "cd" => Ok(Self(BootDevice::Cdrom)),
            "network" | "net" => Ok(Self(BootDevice::Network)),
            _ => Err(format!("{text:?} is none; write disk, cdrom or network")),
        }
    }
}

impl Change {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let (vm, change, stay) = match self {
            Self::AttachDisk { which, size, pool, stay } => (which.vm()?, VmChange::AttachDisk { size, pool }, stay),
            Self::DetachDisk { words, target, delete, keep: _, yes, stay } => {
                let (vm, target): (VmRef, DiskTarget) = words.pair(target, "disk")?;
                if delete && !yes && !app.out.confirm(&format!("Delete the disk {target} of {}?", vm.name))? {
                    return Err(Error::Declined);
                }
                (vm, VmChange::DetachDisk { target, delete }, stay)
            }
            Self::ResizeDisk { name, target, size, on, stay } => {
                (VmRef { name, host: on }, VmChange::ResizeDisk { target, size }, stay)
            }
            Self::AttachIso { words, iso, stay } => {
                let (vm, Iso(iso)) = words.pair(iso, "ISO image")?;
                (vm, VmChange::AttachIso { iso }, stay)
            }
            Self::EjectIso { which, target, stay } => (which.vm()?, VmChange::EjectIso { target }, stay),
            Self::SetBootDevice { words, dev, stay } => {
                let (vm, Boot(device)) = words.pair(dev, "boot device")?;
                (vm, VmChange::BootDevice { device }, stay)
            }
            Self::SetVcpus { words, vcpus, stay } => {
                let (vm, count) = words.pair(vcpus, "number of processors")?;
                (vm, VmChange::Vcpus { count }, stay)
            }
            Self::SetMemory { words, size, stay } => {
                let (vm, size) = words.pair(size, "size of the memory")?;
                (vm, VmChange::Memory { size }, stay)
            }
        };
        follow::submit(app, JobSpec::Change { vm, change }, stay.detach).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bare: &[&str], name: Option<&str>) -> Words {
        Words { bare: bare.iter().map(|&word| word.to_owned()).collect(), name: name.map(str::to_owned), on: None }
    }

    #[test]
    fn two_words_are_given_bare_or_by_option() {
        let read = |words: Words, value: Option<&str>| {
            words.pair::<ByteSize>(value.map(str::to_owned), "size").map(|(vm, size)| (vm.name.to_string(), size))
        };
        let wanted = ("vm0".to_owned(), ByteSize::mib(512));
        for (given, value) in [
            (words(&["vm0", "512M"], None), None),
            (words(&["vm0"], None), Some("512M")),
            (words(&["512M"], Some("vm0")), None),
            (words(&[], Some("vm0")), Some("512M")),
        ] {
            assert_eq!(read(given, value).unwrap(), wanted);
        }
        for (given, value) in [
            (words(&["vm0"], None), None),
            (words(&["vm0", "512M"], None), Some("1G")),
            (words(&["vm0", "lots"], None), None),
            (words(&[], None), Some("1G")),
        ] {
            assert!(matches!(read(given, value), Err(Error::Usage(_))));
        }
    }

    #[test]
    fn an_iso_is_a_path_or_a_volume() {
        let iso = |text: &str| text.parse::<Iso>().map(|iso| iso.0);
        assert!(matches!(iso("/srv/a.iso"), Ok(IsoSource::Path { .. })));
        assert!(matches!(iso("iso/a.iso"), Ok(IsoSource::Volume { .. })));
        for text in ["a.iso", "", "a/b/c", "/../x"] {
            assert!(iso(text).is_err(), "{text}");
        }
    }
}
