//! The moment at which a command gives up.

use std::time::{Duration, Instant};

use crate::cli::outcome::Failure;

/// The end of the whole command, if one was given with `--timeout`.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    pub fn after(limit: Duration) -> Deadline {
        let at = Instant::now() + limit;
        Deadline { at, limit }
    }

    pub fn at(&self) -> Instant {
        self.at
    }

    /// What is left of it; nothing is a failure.
    pub fn left(&self) -> Result<Duration, Failure> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.passed());
        }
        Ok(left)
    }

    pub fn passed(&self) -> Failure {
        Failure::Timeout(format!(
            "no answer within {} s; raise --timeout if it needs longer",
            self.limit.as_secs_f64()
        ))
    }
}
