//! The table of sessions under its lock: who is in it, and how many there may be in all, of one
//! principal and from one address. A place is looked for and taken in one step. Deliberately
//! absent: what a session is, and when it ends.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::base::limits;
use crate::base::sync::{PoisonError, RwLock};

/// What the table knows of a session.
pub trait Listed: Clone {
    fn id(&self) -> &str;
    /// Whose it is; `None` where nobody has to say so.
    fn principal(&self) -> Option<&str>;
    fn address(&self) -> IpAddr;
}

/// Why there is no new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    All,
    Principal,
    Address,
}

pub struct Table<S>(RwLock<HashMap<String, S>>);

impl<S> Default for Table<S> {
    fn default() -> Table<S> {
        Table(RwLock::new(HashMap::new()))
    }
}

impl<S: Listed> Table<S> {
    /// Enters what `make` gives, which is asked only when there is room.
    pub fn open(
        &self,
        principal: Option<&str>,
        address: IpAddr,
        make: impl FnOnce() -> S,
    ) -> Result<S, Full> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= limits::SESSIONS {
            return Err(Full::All);
        }
        if principal.is_some() {
            let all = map.values();
            let mine = all.filter(|session| session.principal() == principal);
            if mine.count() >= limits::SESSIONS_PER_PRINCIPAL {
                return Err(Full::Principal);
            }
        } else if !address.is_loopback() {
            let same = map.values().filter(|session| session.address() == address);
            if same.count() >= limits::SESSIONS_PER_ADDRESS {
                return Err(Full::Address);
            }
        }
        let session = make();
        map.insert(session.id().to_owned(), session.clone());
        Ok(session)
    }

    pub fn get(&self, id: &str) -> Option<S> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.get(id).cloned()
    }

    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn all(&self) -> Vec<S> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.values().cloned().collect()
    }

    /// Whoever gets the session from this ends it.
    pub fn remove(&self, id: &str) -> Option<S> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.remove(id)
    }
}
