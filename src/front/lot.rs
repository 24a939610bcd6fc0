//! What waits for its client to come back, each under a name that is good once and until a moment.
//! Bounded. Plain data under the lock of `parking`; reads no clock.

use std::collections::HashMap;
use std::time::Instant;

use crate::base::limits;

/// Names one parked call; never leaves the gateway unsealed.
pub type Token = [u8; 16];

pub struct Lot<T>(HashMap<Token, (Instant, T)>);

impl<T> Default for Lot<T> {
    fn default() -> Lot<T> {
        Lot(HashMap::new())
    }
}

impl<T> Lot<T> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.0.len() >= limits::PARKED_CALLS
    }

    /// Not for a lot that is full.
    pub fn enter(&mut self, token: Token, until: Instant, one: T) {
        self.0.insert(token, (until, one));
    }

    pub fn get(&self, token: &Token) -> Option<&T> {
        self.0.get(token).map(|(_, one)| one)
    }

    /// It is no longer here: a second look finds nothing.
    pub fn leave(&mut self, token: &Token) -> Option<T> {
        self.0.remove(token).map(|(_, one)| one)
    }

    /// When the next one is given up.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|(until, _)| *until).min()
    }

    /// Takes out those whose client has not come back in time.
    pub fn take_late(&mut self, now: Instant) -> Vec<T> {
        let is_over = |(_, (until, _)): &(&Token, &(Instant, T))| *until <= now;
        let over: Vec<Token> = self.0.iter().filter(is_over).map(|(t, _)| *t).collect();
        over.iter().filter_map(|token| self.leave(token)).collect()
    }

    pub fn take_all(&mut self) -> Vec<T> {
        self.0.drain().map(|(_, (_, one))| one).collect()
    }
}
