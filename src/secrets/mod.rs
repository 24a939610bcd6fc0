//! Secrets: where the values behind `${SECRET:name}` come from.
//!
//! A `Spec` says which providers are asked, in which order. The `Store` asks them, remembers what
//! slow ones said, and tells which files to watch; `Refresher` (thread `secrets`) asks the slow
//! ones again. Who uses a secret is the business of `config`, and so is what follows from a
//! change. Deliberately absent: writing to anything but our own sealed file.

pub mod answer;
pub mod command;
pub mod directory;
pub mod key;
pub mod name;
pub mod private;
pub mod refresher;
pub mod replace;
pub mod sealed;
pub mod slow;
pub mod spec;
pub mod store;
pub mod variable;
pub mod vault;
