//! How often somebody may do something: one bucket of tokens for each key (an address, an
//! account, a principal). Bounded: when there are too many keys, those that are full again go,
//! and if none is, newcomers wait. Owner: whoever asks, under a lock that is held for one look.
//! Where gateways share a store, it counts as well, for what asks that store anyway.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::store::Store;
use crate::base::limits;

pub struct Pace {
    state: Mutex<State>,
    /// Where others count, and what this is called there.
    shared: Option<(Arc<Store>, &'static str)>,
}

struct State {
    /// Time in which a bucket gains one token; zero: nothing is counted.
    step: Duration,
    /// What an empty bucket needs to be full.
    full: Duration,
    /// When each bucket will be full again.
    buckets: HashMap<String, Instant>,
}

impl Pace {
    /// `burst` at once, and `count` in each `window`. A count of 0 is any number.
    pub fn new(count: u64, window: Duration, burst: u64) -> Pace {
        let mut state = State {
            step: Duration::ZERO,
            full: Duration::ZERO,
            buckets: HashMap::new(),
        };
        state.set(count, window, burst);
        Pace {
            state: Mutex::new(state),
            shared: None,
        }
    }

    /// What is taken at one gateway is taken at all that share the store, while it is there.
    #[must_use]
    pub fn sharing(self, store: &Arc<Store>, name: &'static str) -> Pace {
        let shared = Some((store.clone(), name));
        Pace { shared, ..self }
    }

    /// From now on so often; who was counted stays counted.
    pub fn set(&self, count: u64, window: Duration, burst: u64) {
        self.lock().set(count, window, burst);
    }

    /// Takes one token of `key`.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, key: &str, now: Instant) -> Result<(), Duration> {
        let (step, full) = self.rhythm();
        if step.is_zero() {
            return Ok(());
        }
        // Here first: that bounds what is kept in the store, too.
        self.take_here(key, (step, full), now)?;
        let shared = self.shared.as_ref();
        shared.map_or(Ok(()), |(store, name)| store.pace(name, key, step, full))
    }

    fn rhythm(&self) -> (Duration, Duration) {
        let state = self.lock();
        (state.step, state.full)
    }

    fn take_here(
        &self,
        key: &str,
        (step, full): (Duration, Duration),
        now: Instant,
    ) -> Result<(), Duration> {
        let mut state = self.lock();
        if let Some(until) = state.buckets.get_mut(key) {
            let next = (*until).max(now) + step;
            let excess = next.saturating_duration_since(now + full);
            if excess.is_zero() {
                *until = next;
                return Ok(());
            }
            return Err(excess);
        }
        if state.buckets.len() >= limits::PACED {
            state.buckets.retain(|_, until| *until > now);
            if state.buckets.len() >= limits::PACED {
                return Err(step);
            }
        }
        state.buckets.insert(key.to_owned(), now + step);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set(&mut self, count: u64, window: Duration, burst: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let burst = u32::try_from(burst.max(1)).unwrap_or(u32::MAX);
        self.step = window.checked_div(count).unwrap_or_default();
        self.full = self.step.saturating_mul(burst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Pace;
    use crate::base::limits;

    #[test]
    fn a_burst_then_the_pace_and_each_key_by_itself() {
        let (pace, now) = (Pace::new(60, Duration::from_secs(60), 3), Instant::now());
        for _ in 0..3 {
            assert_eq!(pace.take("a", now), Ok(()));
        }
        assert_eq!(pace.take("a", now), Err(Duration::from_secs(1)));
        assert_eq!(pace.take("b", now), Ok(()));
        let soon = now + Duration::from_millis(600);
        assert_eq!(pace.take("a", soon), Err(Duration::from_millis(400)));
        let later = now + Duration::from_secs(1);
        assert_eq!(pace.take("a", later), Ok(()));
        assert_eq!(pace.take("a", later), Err(Duration::from_secs(1)));
        pace.set(0, Duration::from_secs(60), 3);
        assert_eq!(pace.take("a", later), Ok(()));
    }

    #[test]
    fn there_are_never_more_buckets_than_allowed() {
        let (pace, now) = (Pace::new(60, Duration::from_secs(60), 3), Instant::now());
        for key in 0..limits::PACED {
            assert_eq!(pace.take(&key.to_string(), now), Ok(()));
        }
        assert_eq!(pace.take("new", now), Err(Duration::from_secs(1)));
        assert_eq!(pace.take("0", now), Ok(()), "who is known is served");
        let later = now + Duration::from_secs(10);
        assert_eq!(pace.take("new", later), Ok(()));
        assert_eq!(pace.lock().buckets.len(), 1);
    }
}
