//! Keys that are exchanged while they are in use: the first seals, all of them open. A value
//! behind a lock that is held for a moment. Deliberately absent: where keys come from.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ring::hmac;

/// What all keys of one generation are made from.
pub type Master = [u8; 32];

/// A key for one purpose: who knows it knows nothing of its master or of the other purposes.
pub fn derived(master: &Master, purpose: &[u8]) -> Master {
    let master = hmac::Key::new(hmac::HMAC_SHA256, master);
    let mut key = Master::default();
    key.copy_from_slice(hmac::sign(&master, purpose).as_ref());
    key
}

pub struct Rotating<T>(RwLock<Arc<Vec<T>>>);

impl<T> Rotating<T> {
    pub fn new(keys: Vec<T>) -> Rotating<T> {
        Rotating(RwLock::new(Arc::new(keys)))
    }

    pub fn all(&self) -> Arc<Vec<T>> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    pub fn replace(&self, keys: Vec<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

impl<T> fmt::Debug for Rotating<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rotating(***)")
    }
}
