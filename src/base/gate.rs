//! A counter of permits: so many at the same time, the others wait.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

#[derive(Debug)]
pub struct Gate {
    free: Mutex<usize>,
    changed: Condvar,
}

/// One permit; given back when dropped.
#[derive(Debug)]
pub struct Permit<'a>(&'a Gate);

impl Gate {
    pub fn new(permits: usize) -> Gate {
        Gate {
            free: Mutex::new(permits),
            changed: Condvar::new(),
        }
    }

    /// Waits for a permit; `None` when there is none by `deadline`.
    pub fn enter(&self, deadline: Instant) -> Option<Permit<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            free = self
                .changed
                .wait_timeout(free, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *free -= 1;
        Some(Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;
    use std::time::{Duration, Instant};

    #[test]
    fn lets_in_so_many_and_no_more() {
        let gate = Gate::new(2);
        let soon = Instant::now() + Duration::from_millis(20);
        let first = gate.enter(soon);
        let second = gate.enter(soon);
        assert!(first.is_some() && second.is_some() && gate.enter(soon).is_none());
        drop(first);
        assert!(gate.enter(soon).is_some());
    }
}
