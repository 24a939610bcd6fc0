//! Locks of the tables that several threads share and that fixtures/loom tries under every order
//! of its threads, with locks of its own in the place of these.

pub use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
