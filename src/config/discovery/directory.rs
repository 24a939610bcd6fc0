//! `gateway.discovery` with the type `directory`: files that others write, each with one server
//! or several.

use std::path::PathBuf;

use crate::config::discovery::Parts;
use crate::config::document::Notes;

pub const KEYS: &[&str] = &["path"];

#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// As it is written; a relative one starts in the folder of the configuration.
    pub path: PathBuf,
}

/// `None` when it cannot be carried out, which was noted.
pub fn read(parts: &Parts<'_, '_>, notes: &mut Notes) -> Option<Spec> {
    let Some(path) = parts.text("path", notes) else {
        parts.missing("path", notes);
        return None;
    };
    let path = PathBuf::from(path);
    Some(Spec { path })
}
