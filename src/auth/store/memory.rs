//! The store of a gateway without a state directory: it ends with the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::auth::store::{Entry, Space, StoreError};

#[derive(Default)]
pub struct Memory {
    spaces: Mutex<HashMap<&'static str, Values>>,
}

/// By the hash of the key: the end in Unix seconds, and the value.
type Values = HashMap<String, (u64, String)>;

impl Memory {
    fn spaces(&self) -> MutexGuard<'_, HashMap<&'static str, Values>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, entry: &Entry<'_>, only_new: bool) -> Result<bool, StoreError> {
        let mut spaces = self.spaces();
        let values = spaces.entry(entry.space.name).or_default();
        let known = values.get(&entry.name);
        let is_there = known.is_some_and(|(end_s, _)| *end_s > entry.now_s);
        if is_there && only_new {
            return Ok(false);
        }
        if known.is_none() && values.len() >= entry.space.limit {
            values.retain(|_, (end_s, _)| *end_s > entry.now_s);
            if values.len() >= entry.space.limit {
                return Err(StoreError::Full(entry.space.name));
            }
        }
        let value = (entry.end_s, entry.value.to_owned());
        values.insert(entry.name.clone(), value);
        Ok(true)
    }

    pub(super) fn get(&self, from: Space, name: &str, now_s: u64) -> Option<String> {
        let spaces = self.spaces();
        let (end_s, value) = spaces.get(from.name)?.get(name)?;
        (*end_s > now_s).then(|| value.clone())
    }

    pub(super) fn take(&self, from: Space, name: &str, now_s: u64) -> Option<String> {
        let mut spaces = self.spaces();
        let (end_s, value) = spaces.get_mut(from.name)?.remove(name)?;
        (end_s > now_s).then_some(value)
    }

    pub(super) fn values(&self, space: Space, now_s: u64) -> Vec<String> {
        let spaces = self.spaces();
        let values = spaces.get(space.name).into_iter().flat_map(HashMap::values);
        let living = values.filter(|(end_s, _)| *end_s > now_s);
        living.map(|(_, value)| value.clone()).collect()
    }
}
