//! What the authorization server must remember: values under keys, each with an end.
//!
//! Keys are secrets of others (codes, refresh tokens, ids of clients), so only their hash is kept
//! anywhere; values must hold none. Every operation is one step, also between processes that
//! share a folder or a server: of many that `put_new` or `take` one key, one succeeds. Any thread
//! may call. Deliberately absent: transactions over several keys, and knowledge of what is kept.

pub mod ends;
mod file;
mod memory;
mod shared;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::auth::store::file::Files;
use crate::auth::store::memory::Memory;
use crate::base::limits::STORE_VALUE_BYTES;
use crate::base::time::unix_s;
use crate::net::redis::{Redis, Trouble};
use crate::wire::hex;

/// A kind of values, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Also the name of a folder: a-z and dashes.
    pub name: &'static str,
    pub limit: usize,
}

/// Why a value was not put, or is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// The space is full; what expires makes room.
    Full(&'static str),
    Io(String),
    /// The server that several gateways share does not do its part; it may later.
    Away(Trouble),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Full(space) => write!(f, "the store of {space} is full"),
            StoreError::Io(what) => write!(f, "the store cannot be used: {what}"),
            StoreError::Away(why) => write!(f, "the shared store is away: {why}"),
        }
    }
}

pub enum Store {
    Memory(Memory),
    Files(Files),
    /// Of several gateways.
    Shared(Arc<Redis>),
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

    /// Whether other gateways see what is put here.
    pub fn is_shared(&self) -> bool {
        matches!(self, Store::Shared(_))
    }

    /// Whether nothing can be remembered now, as far as is known.
    pub fn is_away(&self) -> bool {
        match self {
            Store::Shared(redis) => redis.trouble().is_some(),
            _ => false,
        }
    }

    /// Puts a value, in place of one that is there.
    ///
    /// # Errors
    /// When there is no room, the disk says no, or the server is away.
    pub fn put(&self, to: Space, key: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        self.set(&entry(to, key, value, life)?, false).map(drop)
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
        self.set(&entry(to, key, value, life)?, true)
    }

    fn set(&self, entry: &Entry<'_>, only_new: bool) -> Result<bool, StoreError> {
        match self {
            Store::Memory(memory) => memory.put(entry, only_new),
            Store::Files(files) => files.put(entry, only_new),
            Store::Shared(redis) => shared::put(redis, entry, only_new),
        }
    }

    /// # Errors
    /// When it is not known, because the server is away.
    pub fn get(&self, from: Space, key: &str) -> Result<Option<String>, StoreError> {
        let name = hashed(from, key);
        match self {
            Store::Memory(memory) => Ok(memory.get(from, &name, unix_s())),
            Store::Files(files) => Ok(files.get(from, &name, unix_s())),
            Store::Shared(redis) => shared::get(redis, from, &name),
        }
    }

    /// Removes a value and gives it to one caller.
    ///
    /// # Errors
    /// As `get`; it may have been removed nevertheless.
    pub fn take(&self, from: Space, key: &str) -> Result<Option<String>, StoreError> {
        let name = hashed(from, key);
        match self {
            Store::Memory(memory) => Ok(memory.take(from, &name, unix_s())),
            Store::Files(files) => Ok(files.take(from, &name, unix_s())),
            Store::Shared(redis) => shared::take(redis, from, &name),
        }
    }

    /// Takes one token of the bucket of `key`, which gains one in each `step` and is full after
    /// `full`. What has no others that take of it, or cannot ask, takes no account of them.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn pace(
        &self,
        name: &'static str,
        key: &str,
        step: Duration,
        full: Duration,
    ) -> Result<(), Duration> {
        match self {
            Store::Shared(redis) => {
                let key = hashed(Space { name, limit: 0 }, key);
                shared::pace(redis, name, &key, [step, full])
            }
            _ => Ok(()),
        }
    }

    /// All values of a space, in no order.
    ///
    /// # Errors
    /// As `get`.
    pub fn values(&self, space: Space) -> Result<Vec<String>, StoreError> {
        match self {
            Store::Memory(memory) => Ok(memory.values(space, unix_s())),
            Store::Files(files) => Ok(files.values(space, unix_s())),
            Store::Shared(redis) => shared::values(redis, space),
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
