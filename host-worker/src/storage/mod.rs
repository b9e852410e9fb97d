//! Disks: which pool takes a copy, volumes and their files, and the programs that copy and examine them.
//!
//! It knows libvirt only through [`crate::hypervisor::Host`]. What a job does with disks is [`crate::task`]'s.

pub mod pools;
pub mod qemu_img;
pub mod virt_clone;
pub mod volumes;
