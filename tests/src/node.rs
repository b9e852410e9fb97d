//! A host of libvirt's in-memory driver: which domains it has when its host worker starts. Each host worker that opens the file has a
//! copy of its own, which is as in the file again after a restart.

use std::{fmt::Write, fs, path::Path};

use uuid::Uuid;

/// libvirt's number for a domain that is off.
const OFF: u8 = 5;
/// And for one that runs.
const RUNNING: u8 = 1;

/// A host of the in-memory driver.
#[derive(Debug, Clone, Default)]
pub struct Node {
    domains: Vec<(String, bool)>,
}

impl Node {
    /// With the storage pool `pool0` and nothing else.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a domain that is off. One whose name ends in `.original` is an image.
    #[must_use]
    pub fn off(mut self, name: &str) -> Self {
        self.domains.push((name.to_owned(), false));
        self
    }

    /// With a domain that runs.
    #[must_use]
    pub fn running(mut self, name: &str) -> Self {
        self.domains.push((name.to_owned(), true));
        self
    }

    /// Writes the file, and the disks that its domains have.
    ///
    /// # Panics
    /// If it cannot be written.
    pub(crate) fn write(&self, folder: &Path, file: &Path) {
        let pool = folder.join("pool0");
        fs::create_dir_all(&pool).expect("a folder can be made");
        let (mut volumes, mut domains) = (String::new(), String::new());
        for (name, running) in &self.domains {
            let disk = pool.join(format!("{name}.qcow2"));
            fs::write(&disk, "a disk that nobody reads").expect("a file can be written");
            let disk = disk.display();
            let state = if *running { RUNNING } else { OFF };
            write!(
                volumes,
                "<volume><name>{name}.qcow2</name><capacity unit='MiB'>1024</capacity><allocation unit='MiB'>1</allocation>\
                 <target><path>{disk}</path><format type='qcow2'/></target></volume>"
            )
            .expect("a string takes everything");
            write!(
                domains,
                "<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>{name}</name>\
                 <uuid>{}</uuid><memory unit='KiB'>65536</memory><os><type>hvm</type></os><devices><disk type='file' device='disk'>\
                 <driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices>\
                 <test:runstate>{state}</test:runstate></domain>",
                uuid_of(name)
            )
            .expect("a string takes everything");
        }
        let pool = pool.display();
        let xml = format!(
            "<node><pool type='dir'><name>pool0</name><target><path>{pool}</path></target>{volumes}</pool>{domains}</node>"
        );
        fs::write(file, xml).expect("a file can be written");
    }
}

/// The same for the same name, so that a domain is still the same after its host worker's restart.
fn uuid_of(name: &str) -> Uuid {
    let digest = name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    uuid::Builder::from_random_bytes(digest.to_be_bytes()).into_uuid()
}
