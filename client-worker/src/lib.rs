//! map to come

pub mod bus;
pub mod gate;
