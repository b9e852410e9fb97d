//! map to come
pub mod tool;
pub mod hypervisor;
pub mod storage;
pub mod task;
