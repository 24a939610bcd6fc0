//! The commands of the binary.

pub mod args;
pub mod check;
pub mod help;
