//! Tokens that were verified a moment ago, by their SHA-256: what is kept is never a token. Two
//! generations: when the younger is full, the older is forgotten. Owner: whoever asks, under a
//! lock that is held for one look.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::limits;

pub type Fingerprint = [u8; 32];

pub struct Cache<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    young: HashMap<Fingerprint, (Instant, T)>,
    old: HashMap<Fingerprint, (Instant, T)>,
}

impl<T> Default for Cache<T> {
    fn default() -> Cache<T> {
        let state = Mutex::new(State {
            young: HashMap::new(),
            old: HashMap::new(),
        });
        Cache { state }
    }
}

impl<T: Clone> Cache<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was put under it, unless that was too long ago.
    pub fn get(&self, token: &Fingerprint, now: Instant) -> Option<T> {
        let state = self.lock();
        let (since, value) = state.young.get(token).or_else(|| state.old.get(token))?;
        let age = now.saturating_duration_since(*since);
        (age < limits::VERIFIED_FOR).then(|| value.clone())
    }

    pub fn put(&self, token: Fingerprint, value: T, now: Instant) {
        let mut state = self.lock();
        if state.young.len() >= limits::VERIFIED_TOKENS / 2 {
            state.old = std::mem::take(&mut state.young);
        }
        state.young.insert(token, (now, value));
    }

    /// Everything has to be verified anew.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.young.clear();
        state.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Cache, Fingerprint};
    use crate::base::limits;

    fn name(number: usize) -> Fingerprint {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&number.to_le_bytes());
        name
    }

    #[test]
    fn is_bounded_and_forgets_what_is_old() {
        let (cache, now) = (Cache::default(), Instant::now());
        for number in 0..5 * limits::VERIFIED_TOKENS {
            cache.put(name(number), number, now);
            assert_eq!(cache.get(&name(number), now), Some(number));
        }
        let state = cache.lock();
        assert!(state.young.len() + state.old.len() <= limits::VERIFIED_TOKENS);
        drop(state);
        let last = name(5 * limits::VERIFIED_TOKENS - 1);
        let late = now + limits::VERIFIED_FOR;
        assert_eq!(cache.get(&last, late), None);
        assert_eq!(cache.get(&name(0), now), None);
        cache.clear();
        assert_eq!(cache.get(&last, now), None);
    }
}
