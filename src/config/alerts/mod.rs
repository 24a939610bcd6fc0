//! `gateway.alerts`: whom to tell (sinks) of what (rules). Read from its place in a file, or from
//! the text of a flag or a variable. Pure: what an expression stands for is asked of a closure.
//!
//! What is misspelt is an error like in any other setting. A value that cannot be filled in (a
//! secret that is away) costs its sink alone: it stands without target until the next reading.

mod filled;
mod read;
pub mod rule;
pub mod sink;

use crate::config::alerts::rule::{Rule, RuleSpec};
use crate::config::alerts::sink::SinkSpec;

pub use crate::config::alerts::filled::filled;
pub use crate::config::alerts::read::{Fill, check, plain, read};

/// Everything that was said of alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertSpec {
    /// In the order of the file.
    pub sinks: Vec<SinkSpec>,
    /// What differs from the defaults, by rule.
    rules: Vec<(Rule, RuleSpec)>,
}

impl AlertSpec {
    /// Nobody is to be told of anything.
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// As it was set, or its defaults.
    pub fn rule(&self, rule: Rule) -> RuleSpec {
        let set = self.rules.iter().find(|(known, _)| *known == rule);
        set.map_or_else(|| rule.row().defaults(), |(_, spec)| spec.clone())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
