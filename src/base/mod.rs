//! The floor everything stands on: bounds, the operating system, threads, time, secrets.

pub mod brand;
pub mod calendar;
pub mod exit;
pub mod family;
pub mod fields;
pub mod gate;
pub mod group;
pub mod init;
#[cfg(test)]
pub(crate) mod laws;
pub mod limits;
pub mod mask;
pub mod memory;
pub mod notify;
pub mod ordered;
pub mod peer;
pub mod process;
pub mod reaper;
pub mod room;
pub mod secret;
pub mod sorted;
pub mod sync;
pub mod sys;
pub mod template;
pub mod thread;
pub mod time;
pub mod watcher;
