//! The floor everything stands on: bounds, the operating system, threads, time, secrets.

pub mod limits;
pub mod secret;
pub mod sys;
pub mod thread;
pub mod time;
