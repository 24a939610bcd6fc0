//! The protocol's words: methods, revisions, error codes. No IO, no state.

pub mod era;
pub mod error;
pub mod level;
pub mod list;
pub mod meta;
pub mod method;
pub mod revision;
pub mod task;
pub mod trace;
