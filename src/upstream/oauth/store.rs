//! What outlives the gateway: tokens and registrations, in one sealed file of the state folder.
//! Without a key, or a folder, they live in memory only; that is said once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::{limits, ordered};
use crate::secrets::key::{Key, KeySource};
use crate::secrets::sealed;
use crate::wire::json::quoted;
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

#[derive(Default)]
pub struct Store {
    place: Option<(PathBuf, Key)>,
    kept: Mutex<HashMap<String, String>>,
}

impl Store {
    /// `place`: the file, and where its key comes from.
    pub fn open(place: Option<(PathBuf, KeySource)>) -> Store {
        let Some((path, source)) = place else {
            return Store::default();
        };
        let opened = source.read().and_then(|key| {
            let contents = sealed::open(&path, &key)?;
            Ok((key, contents))
        });
        match opened {
            Ok((key, contents)) => {
                let contents = contents.unwrap_or_default();
                let entries = contents.entries();
                let kept = entries.map(|(name, entry)| (name.to_owned(), entry.value().to_owned()));
                Store {
                    kept: Mutex::new(kept.collect()),
                    place: Some((path, key)),
                }
            }
            Err(why) => {
                // A file that is there and does not open is not written over.
                match path.exists() {
                    true => log::error!("logins at servers not read: {why}"),
                    false => log::debug!("logins at servers kept in memory only: {why}"),
                }
                Store::default()
            }
        }
    }

    /// What is set goes with this process.
    pub fn forgets(&self) -> bool {
        self.place.is_none()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, name: &str) -> Option<String> {
        self.kept().get(name).cloned()
    }

    /// In order, those that begin with this.
    pub fn names(&self, begin: &str) -> Vec<String> {
        let kept = self.kept();
        let names = kept.keys().filter(|name| name.starts_with(begin));
        ordered::set(names.cloned()).into_iter().collect()
    }

    /// `None` removes it.
    pub fn set(&self, name: &str, value: Option<String>) {
        let is_change = match &value {
            Some(value) => {
                self.kept().insert(name.to_owned(), value.clone()) != Some(value.clone())
            }
            None => self.kept().remove(name).is_some(),
        };
        let (Some((path, key)), true) = (&self.place, is_change) else {
            return;
        };
        let deadline = Instant::now() + limits::OAUTH_LOCK;
        let edited = sealed::edit(path, key, deadline, |contents| match value {
            Some(value) => contents.set(name, value),
            None => {
                contents.remove(name);
                Ok(())
            }
        });
        if let Err(error) = edited {
            log::error!("login at a server not kept for the next start: {error}");
        }
    }
}

/// Texts by name as one JSON object, without those that are empty.
pub fn written(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    let pairs = pairs.map(|(name, value)| [quoted(name), quoted(value)].join(":"));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

/// One of them.
pub fn read(text: &str, name: &str) -> Option<String> {
    let members = Members::parse(text, 0, FROM_SERVER).ok()?;
    Some(members.string(name)?.into_owned())
}
