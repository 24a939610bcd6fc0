//! What a `Store` is told: which providers there are.

use std::collections::BTreeMap;

#[derive(Clone, Default)]
pub struct Spec {
    /// The variables of the process.
    pub environment: BTreeMap<String, String>,
}
