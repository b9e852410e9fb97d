//! map to come
pub mod tool;
