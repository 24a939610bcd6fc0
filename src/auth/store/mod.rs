//! What the authorization server must remember: values under keys, each with an end.
//!
//! Keys are secrets of others (codes, refresh tokens, ids of clients), so only their hash is kept
//! anywhere; values must hold none. Every operation is one step, also between processes that
//! share a folder: of many that `put_new` or `take` one key, one succeeds. Any thread may call.
//! Deliberately absent: transactions over several keys, and knowledge of what is kept.

mod file;
mod memory;

use std::path::Path;
use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::auth::store::file::Files;
use crate::auth::store::memory::Memory;
use crate::base::limits::STORE_VALUE_BYTES;
use crate::base::time::unix_s;
use crate::wire::hex;

/// A kind of values, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Also the name of a folder: a-z and dashes.
    pub name: &'static str,
    pub limit: usize,
}

/// Why a value was not put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// The space is full; what expires makes room.
    Full(&'static str),
    Io(String),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Full(space) => write!(f, "the store of {space} is full"),
            StoreError::Io(what) => write!(f, "the store cannot be used: {what}"),
        }
    }
}

pub enum Store {
    Memory(Memory),
    Files(Files),
}

impl Store {
    pub fn memory() -> Store {
        Store::Memory(Memory::default())
    }

    /// One that survives the process, in a folder for this user alone.
    ///
    /// # Errors
    /// When the folder cannot be made or others may read it, after "failed to".
    pub fn open(folder: &Path) -> Result<Store, String> {
        Ok(Store::Files(Files::open(folder)?))
    }

    /// Puts a value, in place of one that is there.
    ///
    /// # Errors
    /// When there is no room, or the disk says no.
    pub fn put(&self, to: Space, key: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        let entry = entry(to, key, value, life)?;
        match self {
            Store::Memory(memory) => memory.put(&entry, false).map(|_| ()),
            Store::Files(files) => files.put(&entry, false).map(|_| ()),
        }
    }

    /// Puts a value unless one is there; whether it was put. One that has ended may be in the way
    /// for a while.
    ///
    /// # Errors
    /// As `put`.
    pub fn put_new(
        &self,
        to: Space,
        key: &str,
        value: &str,
        life: Duration,
    ) -> Result<bool, StoreError> {
        let entry = entry(to, key, value, life)?;
        match self {
            Store::Memory(memory) => memory.put(&entry, true),
            Store::Files(files) => files.put(&entry, true),
        }
    }

    pub fn get(&self, from: Space, key: &str) -> Option<String> {
        let name = hashed(from, key);
        match self {
            Store::Memory(memory) => memory.get(from, &name, unix_s()),
            Store::Files(files) => files.get(from, &name, unix_s()),
        }
    }

    /// Removes a value and gives it to one caller.
    pub fn take(&self, from: Space, key: &str) -> Option<String> {
        let name = hashed(from, key);
        match self {
            Store::Memory(memory) => memory.take(from, &name, unix_s()),
            Store::Files(files) => files.take(from, &name, unix_s()),
        }
    }

    /// How many values a space holds; some of them may have ended.
    pub fn count(&self, space: Space) -> usize {
        match self {
            Store::Memory(memory) => memory.count(space),
            Store::Files(files) => files.count(space),
        }
    }

    /// All values of a space, in no order.
    pub fn values(&self, space: Space) -> Vec<String> {
        match self {
            Store::Memory(memory) => memory.values(space, unix_s()),
            Store::Files(files) => files.values(space, unix_s()),
        }
    }
}

/// One value on its way in.
struct Entry<'e> {
    space: Space,
    /// The hash of the key.
    name: String,
    value: &'e str,
    /// Unix seconds.
    end_s: u64,
    now_s: u64,
}

fn entry<'e>(
    space: Space,
    key: &str,
    value: &'e str,
    life: Duration,
) -> Result<Entry<'e>, StoreError> {
    if value.len() > STORE_VALUE_BYTES {
        return Err(StoreError::Io("a value is too large".to_owned()));
    }
    let now_s = unix_s();
    Ok(Entry {
        space,
        name: hashed(space, key),
        value,
        end_s: now_s.saturating_add(life.as_secs()),
        now_s,
    })
}

/// What a key is kept as.
fn hashed(space: Space, key: &str) -> String {
    hex::encode(digest(&SHA256, format!("{}\n{key}", space.name).as_bytes()).as_ref())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
