//! When a sink may be asked again. Pure: clock and chance are passed in.

use std::time::{Duration, Instant};

use crate::base::limits;

#[derive(Debug, Default)]
pub struct Pace {
    /// In a row.
    failures: u32,
    next: Option<Instant>,
}

impl Pace {
    /// Not before then.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// It failed so often that it is left alone.
    pub fn is_broken(&self) -> bool {
        self.failures >= limits::ALERT_BREAKER
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A try begins.
    pub fn begin(&mut self, now: Instant) {
        self.next = Some(now + limits::ALERT_GAP);
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// `asked` is what the sink itself wants; `chance` is between 0 and 1.
    pub fn failed(&mut self, now: Instant, asked: Option<Duration>, chance: f64) {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let most = limits::ALERT_RETRY.saturating_mul(1 << doublings);
        let most = most.min(limits::ALERT_RETRY_MAX);
        let mut wait = most.mul_f64(chance.clamp(0.0, 1.0));
        if self.is_broken() {
            wait = wait.max(limits::ALERT_BREAKER_WAIT);
        }
        let asked = asked.unwrap_or_default().min(limits::ALERT_RETRY_MAX);
        let next = now + wait.max(asked);
        self.next = Some(self.next.map_or(next, |soonest| soonest.max(next)));
    }

    /// It is another one now, perhaps a better one. The gap stays.
    pub fn forgive(&mut self, now: Instant) {
        self.failures = 0;
        let gap = now + limits::ALERT_GAP;
        self.next = self.next.map(|next| next.min(gap));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Pace;
    use crate::base::limits;

    /// Waits after each of so many failures in a row.
    fn waits(count: usize, chance: f64, asked: Option<Duration>) -> Vec<u64> {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..count {
            pace.begin(now);
            pace.failed(now, asked, chance);
            let next = pace.next().unwrap();
            waits.push((next - now).as_secs());
            now = next;
        }
        waits
    }

    #[test]
    fn waits_grow_and_have_an_end() {
        assert_eq!(waits(4, 1.0, None), [2, 4, 8, 16]);
        assert_eq!(waits(11, 1.0, None)[4..], [60, 64, 128, 256, 512, 600, 600]);
        // However the dice fall: never sooner than the gap, and rarely once it is broken.
        assert_eq!(waits(6, 0.0, None), [1, 1, 1, 1, 60, 60]);
        let asked = Some(Duration::from_secs(30));
        assert_eq!(waits(2, 0.5, asked), [30, 30]);
        let asked = Some(Duration::from_secs(100_000));
        assert_eq!(waits(1, 0.5, asked), [limits::ALERT_RETRY_MAX.as_secs()]);
    }

    #[test]
    fn at_most_one_try_in_a_second_whatever_comes_of_it() {
        let mut pace = Pace::default();
        let began = Instant::now();
        let mut now = began;
        for round in 0..300 {
            pace.begin(now);
            match round % 3 {
                0 => pace.failed(now, None, 0.0),
                _ => pace.succeeded(),
            }
            now = pace.next().unwrap();
        }
        assert!(now - began >= Duration::from_secs(300));
    }

    #[test]
    fn who_succeeds_or_changes_begins_anew() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..10 {
            pace.failed(now, None, 1.0);
        }
        assert!(pace.is_broken());
        pace.forgive(now);
        assert!(!pace.is_broken());
        assert_eq!(pace.next(), Some(now + limits::ALERT_GAP));
        pace.failed(now, None, 1.0);
        assert_eq!(pace.failures(), 1);
        pace.succeeded();
        assert_eq!(pace.failures(), 0);
    }
}
