//! upstream

pub mod process;
mod program;
