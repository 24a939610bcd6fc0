//! How long changes of the world are gathered: for a moment until they are published, and for a
//! window until clients are told. The window opens with the first change and is not extended.
//! Plain data of the router thread; reads no clock.

use std::time::{Duration, Instant};

use crate::base::limits;

#[derive(Debug, Default)]
pub struct Gathering {
    /// Since when there are changes that are in no world yet.
    unpublished: Option<Instant>,
    /// When clients are to be told of the changes so far.
    window_ends: Option<Instant>,
}

impl Gathering {
    pub fn changed(&mut self, now: Instant) {
        self.unpublished.get_or_insert(now);
    }

    /// There are changes that are in no world yet.
    pub fn is_behind(&self) -> bool {
        self.unpublished.is_some()
    }

    /// Many servers that come up at once make one new world, not one for each. `is_calm`: nothing
    /// more is about to change.
    pub fn may_publish(&self, is_calm: bool, now: Instant) -> bool {
        let is_late = |since| now.saturating_duration_since(since) >= limits::ROUTER_UNPUBLISHED;
        is_calm || self.unpublished.is_some_and(is_late)
    }

    /// True when there is anything new: then it is published.
    pub fn take_changes(&mut self) -> bool {
        self.unpublished.take().is_some()
    }

    /// `window`: how long changes are gathered before clients are told.
    pub fn published(&mut self, window: Duration, now: Instant) {
        self.window_ends.get_or_insert(now + window);
    }

    /// True once after a window has ended: then clients are told.
    pub fn take_due(&mut self, now: Instant) -> bool {
        self.window_ends.take_if(|end| *end <= now).is_some()
    }

    /// When the window ends.
    pub fn next(&self) -> Option<Instant> {
        self.window_ends
    }
}

#[cfg(test)]
mod tests {
    use super::Gathering;
    use crate::base::limits;
    use std::time::{Duration, Instant};

    #[test]
    fn a_steady_stream_of_changes_postpones_nothing() {
        let (mut gathering, start) = (Gathering::default(), Instant::now());
        let window = Duration::from_secs(1);
        let (mut worlds, mut told) = (0_u32, Vec::new());
        for step in 0..3_000 {
            let now = start + Duration::from_millis(1) * step;
            if gathering.take_due(now) {
                told.push(step);
            }
            gathering.changed(now);
            if gathering.may_publish(false, now) && gathering.take_changes() {
                worlds += 1;
                gathering.published(window, now);
            }
        }
        let moment = u32::try_from(limits::ROUTER_UNPUBLISHED.as_millis()).expect("few");
        assert_eq!(worlds, 3_000 / (moment + 1));
        assert_eq!(told.len(), 2);
        assert_eq!(told[0], 1_000 + moment);
        assert!(gathering.next().is_some());
    }
}
