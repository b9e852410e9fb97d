//! Changes of a domain's description, and the descriptions of single devices that are added, taken away or filled while it runs.

use maglica_proto::{job::BootDevice, units::ByteSize};
use xmltree::{Element, XMLNode};

use super::DomainXmlError;

/// libvirt's word for each kind of device in `<boot dev=…>`.
const fn boot_word(device: BootDevice) -> &'static str {
    match device {
        BootDevice::Disk => "hd",
        BootDevice::Cdrom => "cdrom",
        BootDevice::Network => "network",
    }
}

/// A description that is changed step by step.
#[derive(Debug, Clone)]
pub struct Edit {
    root: Element,
}

/// A disk or drive that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDisk<'a> {
    /// What is behind it.
    pub path: &'a str,
    /// Whether that is a block device rather than a file.
    pub block: bool,
    /// Its format.
    pub format: &'a str,
    /// Its name in the domain.
    pub target: &'a str,
    /// Its bus, such as `virtio`.
    pub bus: &'a str,
    /// Whether it is a CD drive.
    pub cdrom: bool,
}

impl NewDisk<'_> {
    fn element(&self) -> Element {
        let device = if self.cdrom { "cdrom" } else { "disk" };
        let mut disk = element("disk", &[("type", kind(self.block)), ("device", device)]);
        let source = element("source", &[(attribute(self.block), self.path)]);
        let mut children = vec![
            element("driver", &[("name", "qemu"), ("type", self.format)]),
            source,
            element("target", &[("dev", self.target), ("bus", self.bus)]),
        ];
        if self.cdrom {
            children.push(element("readonly", &[]));
        }
        disk.children.extend(children.into_iter().map(XMLNode::Element));
        disk
    }

    /// Its description alone.
    ///
    /// # Errors
    /// [`DomainXmlError`] if it cannot be written.
    pub fn xml(&self) -> Result<String, DomainXmlError> {
        write(&self.element())
    }
}

const fn kind(block: bool) -> &'static str {
    if block { "block" } else { "file" }
}

const fn attribute(block: bool) -> &'static str {
    if block { "dev" } else { "file" }
}

fn element(name: &str, attributes: &[(&str, &str)]) -> Element {
    let mut element = Element::new(name);
    for (name, value) in attributes {
        element.attributes.insert((*name).to_owned(), (*value).to_owned());
    }
    element
}

fn write(element: &Element) -> Result<String, DomainXmlError> {
    let mut out = Vec::new();
    element.write(&mut out).map_err(|error| DomainXmlError::Syntax(error.to_string()))?;
    String::from_utf8(out).map_err(|error| DomainXmlError::Syntax(error.to_string()))
}

fn target_of(disk: &Element) -> Option<&str> {
    disk.get_child("target")?.attributes.get("dev").map(String::as_str)
}

fn is_disk(node: &XMLNode, target: &str) -> bool {
    node.as_element().is_some_and(|disk| disk.name == "disk" && target_of(disk) == Some(target))
}

fn set_text(parent: &mut Element, name: &str, text: &str) {
    match parent.get_mut_child(name) {
        Some(element) => element.children = vec![XMLNode::Text(text.to_owned())],
        None => {
            let mut element = Element::new(name);
            element.children.push(XMLNode::Text(text.to_owned()));
            parent.children.push(XMLNode::Element(element));
        }
    }
}

impl Edit {
    /// Begins with this description.
    ///
    /// # Errors
    /// [`DomainXmlError`] if it is none.
    pub fn of(xml: &str) -> Result<Self, DomainXmlError> {
        super::parse(xml)?;
        let root = Element::parse(xml.as_bytes()).map_err(|error| DomainXmlError::Syntax(error.to_string()))?;
        Ok(Self { root })
    }

    /// The description as it is now.
    ///
    /// # Errors
    /// [`DomainXmlError`] if it cannot be written.
    pub fn xml(&self) -> Result<String, DomainXmlError> {
        write(&self.root)
    }

    fn devices(&mut self) -> Result<&mut Element, DomainXmlError> {
        self.root.get_mut_child("devices").ok_or(DomainXmlError::Missing("devices"))
    }

    fn disks(&self) -> impl Iterator<Item = &Element> {
        self.root
            .get_child("devices")
            .into_iter()
            .flat_map(|devices| &devices.children)
            .filter_map(XMLNode::as_element)
            .filter(|element| element.name == "disk")
    }

    fn disk(&self, target: &str) -> Option<&Element> {
        self.disks().find(|disk| target_of(disk) == Some(target))
    }

    /// The bus on which a new disk works as the first one does, for the guest has a driver for that.
    #[must_use]
    pub fn disk_bus(&self) -> &str {
        self.disks()
            .filter(|disk| disk.attributes.get("device").is_none_or(|device| device == "disk"))
            .find_map(|disk| disk.get_child("target")?.attributes.get("bus"))
            .map_or("virtio", String::as_str)
    }

    /// The bus of a CD drive that firmware and installers of this kind of machine know.
    #[must_use]
    pub fn drive_bus(&self) -> &'static str {
        let kind = self.root.get_child("os").and_then(|os| os.get_child("type"));
        let machine = kind.and_then(|kind| kind.attributes.get("machine")).map_or("", String::as_str);
        if machine.contains("q35") {
            "sata"
        } else if machine.is_empty() || machine.starts_with("pc") {
            "ide"
        } else {
            "scsi"
        }
    }

    /// A name that no disk has, on this bus.
    #[must_use]
    pub fn free_target(&self, bus: &str) -> String {
        let prefix = match bus {
            "virtio" => "vd",
            "ide" => "hd",
            "xen" => "xvd",
            _ => "sd",
        };
        let taken: Vec<&str> = self.disks().filter_map(target_of).collect();
        // One more than there are disks is always free among as many names.
        (0..=taken.len())
            .map(|number| format!("{prefix}{}", letters(number)))
            .find(|target| !taken.contains(&target.as_str()))
            .unwrap_or_else(|| prefix.to_owned())
    }

    /// Adds a disk or drive.
    ///
    /// # Errors
    /// [`DomainXmlError`] if the domain has no devices.
    pub fn add(&mut self, disk: &NewDisk<'_>) -> Result<(), DomainXmlError> {
        self.devices()?.children.push(XMLNode::Element(disk.element()));
        Ok(())
    }

    /// Takes a disk out.
    ///
    /// # Errors
    /// [`DomainXmlError`] if the domain has no devices.
    pub fn remove(&mut self, target: &str) -> Result<(), DomainXmlError> {
        self.devices()?.children.retain(|node| !is_disk(node, target));
        Ok(())
    }

    /// Puts a file into a drive, or takes what is in it out.
    ///
    /// # Errors
    /// [`DomainXmlError`] if there is no such drive.
    pub fn fill(&mut self, target: &str, path: Option<&str>) -> Result<(), DomainXmlError> {
        let disk = self.devices()?.children.iter_mut().find(|node| is_disk(node, target));
        let disk = disk.and_then(XMLNode::as_mut_element).ok_or(DomainXmlError::Missing("such drive"))?;
        fill(disk, path);
        Ok(())
    }

    /// A disk's own description.
    ///
    /// # Errors
    /// [`DomainXmlError`] if there is no such disk.
    pub fn device(&self, target: &str) -> Result<String, DomainXmlError> {
        write(self.disk(target).ok_or(DomainXmlError::Missing("such disk"))?)
    }

    /// A drive's own description, with this in it instead of what it has.
    ///
    /// # Errors
    /// [`DomainXmlError`] if there is no such drive.
    pub fn device_with(&self, target: &str, path: Option<&str>) -> Result<String, DomainXmlError> {
        let mut disk = self.disk(target).cloned().ok_or(DomainXmlError::Missing("such drive"))?;
        fill(&mut disk, path);
        write(&disk)
    }

    /// Lets it be started from this kind of device first, and from the others after it.
    ///
    /// # Errors
    /// [`DomainXmlError`] if it has no devices or no `<os>`.
    pub fn boot(&mut self, first: BootDevice) -> Result<(), DomainXmlError> {
        for node in &mut self.devices()?.children {
            if let Some(device) = node.as_mut_element() {
                // An order by device excludes one by kind.
                device.children.retain(|node| node.as_element().is_none_or(|child| child.name != "boot"));
            }
        }
        let os = self.root.get_mut_child("os").ok_or(DomainXmlError::Missing("os"))?;
        os.children.retain(|node| node.as_element().is_none_or(|child| child.name != "boot"));
        let rest = BootDevice::ALL.into_iter().filter(|device| *device != first);
        for device in std::iter::once(first).chain(rest) {
            os.children.push(XMLNode::Element(element("boot", &[("dev", boot_word(device))])));
        }
        Ok(())
    }

    /// What it is started from first, if that is said by kind.
    #[must_use]
    pub fn boots_from(&self) -> Option<BootDevice> {
        let per_device = self.root.get_child("devices").is_some_and(|devices| {
            devices.children.iter().filter_map(XMLNode::as_element).any(|device| device.get_child("boot").is_some())
        });
        let word = self.root.get_child("os")?.get_child("boot")?.attributes.get("dev")?;
        if per_device { None } else { BootDevice::ALL.into_iter().find(|device| boot_word(*device) == word) }
    }

    /// Sets the number of processors, all of which are there from the start.
    ///
    /// # Errors
    /// The description's topology as a sentence, if that many cannot be divided by it.
    pub fn vcpus(&mut self, count: u32) -> Result<(), String> {
        if let Some(topology) = self.root.get_mut_child("cpu").and_then(|cpu| cpu.get_mut_child("topology")) {
            let number =
                |name: &str| topology.attributes.get(name).and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
            let (dies, cores, threads) = (number("dies"), number("cores"), number("threads"));
            let socket = dies.saturating_mul(cores).saturating_mul(threads).max(1);
            if !count.is_multiple_of(socket) {
                return Err(format!(
                    "its sockets have {socket} processors each ({dies} dies × {cores} cores × {threads} threads), and {count} is no multiple of that"
                ));
            }
            topology.attributes.insert("sockets".to_owned(), (count / socket).to_string());
        }
        self.root.take_child("vcpus");
        set_text(&mut self.root, "vcpu", &count.to_string());
        if let Some(vcpu) = self.root.get_mut_child("vcpu") {
            vcpu.attributes.remove("current");
        }
        Ok(())
    }

    /// Sets the memory, all of which it has from the start.
    pub fn memory(&mut self, size: ByteSize) {
        let kib = size.as_bytes().div_ceil(1024).to_string();
        for name in ["memory", "currentMemory"] {
            set_text(&mut self.root, name, &kib);
            if let Some(element) = self.root.get_mut_child(name) {
                element.attributes.insert("unit".to_owned(), "KiB".to_owned());
            }
        }
    }

    /// How many processors it has, and how many it can have without a restart.
    #[must_use]
    pub fn vcpus_now(&self) -> (u32, u32) {
        let vcpu = self.root.get_child("vcpu");
        let most = vcpu.and_then(|vcpu| vcpu.get_text()?.trim().parse().ok()).unwrap_or(1);
        let now = vcpu.and_then(|vcpu| vcpu.attributes.get("current")?.parse().ok()).unwrap_or(most);
        (now, most)
    }

    /// How much memory it has, and how much it can have without a restart. libvirt always writes KiB.
    #[must_use]
    pub fn memory_now(&self) -> (ByteSize, ByteSize) {
        let kib = |name: &str| {
            self.root.get_child(name).and_then(|size| size.get_text()?.trim().parse().ok()).map(ByteSize::kib)
        };
        let most = kib("memory").unwrap_or_default();
        (kib("currentMemory").unwrap_or(most), most)
    }

    /// Whether its memory is divided into cells, which a new size would not fit.
    #[must_use]
    pub fn has_numa_cells(&self) -> bool {
        self.root.get_child("cpu").is_some_and(|cpu| cpu.get_child("numa").is_some())
    }
}

fn fill(disk: &mut Element, path: Option<&str>) {
    disk.take_child("source");
    disk.take_child("backingStore");
    disk.attributes.insert("type".to_owned(), "file".to_owned());
    if let Some(path) = path {
        disk.children.insert(0, XMLNode::Element(element("source", &[("file", path)])));
        if let Some(driver) = disk.get_mut_child("driver") {
            driver.attributes.insert("type".to_owned(), "raw".to_owned());
        }
    }
}

/// `a` … `z`, `aa` …, as the kernel counts disks.
fn letters(number: usize) -> String {
    let mut text = Vec::new();
    let mut left = number;
    loop {
        text.push(b'a' + u8::try_from(left % 26).unwrap_or(0));
        left /= 26;
        if left == 0 {
            break;
        }
        left -= 1;
    }
    text.reverse();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::domain_xml::{Source, read};

    /// Two disks on virtio, a CD drive `sda`, a network disk `vdc`, UEFI on q35.
    const IMAGE: &str = include_str!("../../recorded/domain-uefi-two-disks.xml");

    #[test]
    fn disks_are_counted_as_the_kernel_does() {
        assert_eq!([0, 25, 26, 51, 52, 701, 702].map(letters), ["a", "z", "aa", "az", "ba", "zz", "aaa"]);
    }

    #[test]
    fn a_new_disk_gets_the_bus_of_the_first_and_the_next_free_name() {
        let mut edit = Edit::of(IMAGE).unwrap();
        assert_eq!((edit.disk_bus(), edit.drive_bus()), ("virtio", "sata"));
        let (bus, target) = (edit.disk_bus().to_owned(), edit.free_target("virtio"));
        assert_eq!((target.as_str(), edit.free_target("sata").as_str()), ("vdd", "sdb"));
        let disk =
            NewDisk { path: "/p/a<b.qcow2", block: false, format: "qcow2", target: &target, bus: &bus, cdrom: false };
        edit.add(&disk).unwrap();
        let after = read(&edit.xml().unwrap()).unwrap();
        let added = after.disks.last().unwrap();
        assert_eq!((added.target.as_str(), &added.source), ("vdd", &Source::Path("/p/a<b.qcow2".to_owned())));
        assert_eq!(after.disks.len(), 5);
        edit.remove("vdd").unwrap();
        assert_eq!(read(&edit.xml().unwrap()).unwrap(), read(IMAGE).unwrap());
    }

    #[test]
    fn a_drive_is_filled_and_emptied() {
        let mut edit = Edit::of(IMAGE).unwrap();
        edit.fill("sda", Some("/iso/a.iso")).unwrap();
        let drive = |edit: &Edit| {
            let all = read(&edit.xml().unwrap()).unwrap().disks;
            all.into_iter().find(|disk| disk.target == "sda").unwrap()
        };
        assert_eq!(drive(&edit).source, Source::Path("/iso/a.iso".to_owned()));
        assert!(edit.device_with("sda", Some("/iso/b.iso")).unwrap().contains("/iso/b.iso"));
        edit.fill("sda", None).unwrap();
        assert_eq!(drive(&edit).source, Source::Empty);
        assert!(edit.fill("sdz", None).is_err() && edit.device("sdz").is_err());
    }

    #[test]
    fn the_boot_device_comes_first_and_the_others_after_it() {
        let mut edit = Edit::of(IMAGE).unwrap();
        edit.boot(BootDevice::Network).unwrap();
        let xml = edit.xml().unwrap();
        let order: Vec<_> =
            ["network", "hd", "cdrom"].map(|word| xml.find(&format!("<boot dev=\"{word}\"")).unwrap()).to_vec();
        assert!(order.is_sorted(), "{xml}");
        assert_eq!(edit.boots_from(), Some(BootDevice::Network));
        assert!(!xml.contains("<boot order"), "{xml}");
    }

    #[test]
    fn processors_fit_their_topology_or_are_refused() {
        let with = |cpu: &str| {
            Edit::of(&format!(
                "<domain type='test'><name>a</name><vcpu placement='static' current='1'>2</vcpu>{cpu}</domain>"
            ))
            .unwrap()
        };
        let mut edit = with("");
        edit.vcpus(5).unwrap();
        assert!(edit.xml().unwrap().contains(">5</vcpu>") && !edit.xml().unwrap().contains("current"));
        let mut edit = with("<cpu><topology sockets='1' cores='2' threads='1'/></cpu>");
        assert!(edit.vcpus(3).unwrap_err().contains("3 is no multiple"));
        edit.vcpus(4).unwrap();
        assert!(edit.xml().unwrap().contains("sockets=\"2\""));
    }

    #[test]
    fn memory_is_set_whole() {
        let mut edit = Edit::of(IMAGE).unwrap();
        edit.memory(ByteSize::mib(768));
        assert_eq!(read(&edit.xml().unwrap()).unwrap().memory, ByteSize::mib(768));
        assert!(!edit.has_numa_cells());
    }
}
