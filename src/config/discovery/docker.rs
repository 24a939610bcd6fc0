//! `gateway.discovery` with the type `docker`.

use crate::config::discovery::Parts;
use crate::config::document::Notes;

pub const KEYS: &[&str] = &[];

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spec {}

/// `None` when it cannot be carried out, which was noted.
pub fn read(_parts: &Parts<'_, '_>, _notes: &mut Notes) -> Option<Spec> {
    Some(Spec {})
}
