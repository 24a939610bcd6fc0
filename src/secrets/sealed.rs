//! The sealed file: secrets that `onemcp secret` keeps, encrypted (AEAD). A random key of the
//! file seals the secrets, and is itself sealed by each key that may open the file: during a
//! change of keys two can, so that no moment exists in which nobody can.
//!
//! Readers take no lock: the file is replaced as a whole. Deliberately absent: a password in
//! place of a key, and protection against somebody who puts back an older file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::base::{limits, sys, time};
use crate::model::seal::SealKey;
use crate::secrets::key::{KEY_BYTES, Key};
use crate::secrets::replace::{Prepared, Turn, followed, replace};

const FORMAT: &str = "onemcp-sealed-1";
const BOUND_SECRETS: &[u8] = b"onemcp-sealed-1 secrets";

/// As it lies on the disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: String,
    /// The oldest key first.
    keys: Vec<Wrapped>,
    secrets: String,
}

/// The key of the file, sealed by another one.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    id: String,
    key: String,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Entry {
    value: String,
    #[serde(rename = "setAt")]
    pub set_at: String,
}

impl Entry {
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// What is inside.
#[derive(Default)]
pub struct Contents {
    secrets: BTreeMap<String, Entry>,
    file_key: Option<[u8; KEY_BYTES]>,
    /// Keys that are to come after the one that opened it.
    newer: Vec<Wrapped>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contents({} secrets)", self.secrets.len())
    }
}

/// Why the file was not changed; it is as it was.
#[derive(Debug, PartialEq, Eq)]
pub enum SealedError {
    /// Somebody else changes it, for too long.
    Busy(String),
    Broken(String),
}

impl fmt::Display for SealedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealedError::Busy(text) | SealedError::Broken(text) => f.write_str(text),
        }
    }
}

impl Contents {
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.secrets.get(name)
    }

    /// In the order of their names.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let entries = self.secrets.iter();
        entries.map(|(name, entry)| (name.as_str(), entry))
    }

    /// # Errors
    /// That there are too many.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        if self.secrets.len() >= limits::SECRETS && !self.secrets.contains_key(name) {
            return Err(format!("at most {} secrets are kept", limits::SECRETS));
        }
        let set_at = time::now_rfc3339();
        self.secrets
            .insert(name.to_owned(), Entry { value, set_at });
        Ok(())
    }

    /// False when there is none of this name.
    pub fn remove(&mut self, name: &str) -> bool {
        self.secrets.remove(name).is_some()
    }

    /// The file, for `key` and those that come after it.
    pub fn seal(&self, key: &Key) -> Option<Vec<u8>> {
        // Who had the key of the file before must not have it for ever.
        let file_key = match &self.file_key {
            Some(file_key) if !self.newer.is_empty() => *file_key,
            _ => *Key::random().bytes(),
        };
        let mut keys = vec![wrap(key, &file_key)?];
        keys.extend(self.newer.iter().cloned());
        self.form(&file_key, keys)
    }

    /// The file, for both keys.
    fn seal_for_two(&self, old: &Key, new: &Key) -> Option<Vec<u8>> {
        let file_key = *Key::random().bytes();
        let keys = vec![wrap(old, &file_key)?, wrap(new, &file_key)?];
        self.form(&file_key, keys)
    }

    fn form(&self, file_key: &[u8; KEY_BYTES], keys: Vec<Wrapped>) -> Option<Vec<u8>> {
        let plain = serde_json::to_vec(&self.secrets).ok()?;
        let form = Form {
            format: FORMAT.to_owned(),
            keys,
            secrets: SealKey::new(file_key)?.seal(BOUND_SECRETS, &plain, nonce())?,
        };
        let mut text = serde_json::to_vec_pretty(&form).ok()?;
        text.push(b'\n');
        Some(text)
    }
}

fn wrap(key: &Key, file_key: &[u8; KEY_BYTES]) -> Option<Wrapped> {
    let id = key.id();
    let sealed = SealKey::new(key.bytes())?.seal(&bound_key(&id), file_key, nonce())?;
    Some(Wrapped { id, key: sealed })
}

fn bound_key(id: &str) -> Vec<u8> {
    format!("{FORMAT} key {id}").into_bytes()
}

fn nonce() -> [u8; 12] {
    let mut nonce = [0; 12];
    sys::random_bytes(&mut nonce);
    nonce
}

/// Opens the file. `None` when there is none.
///
/// # Errors
/// Why it cannot be opened, and what to do.
pub fn open(path: &Path, key: &Key) -> Result<Option<Contents>, String> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    opened(&bytes, path, key).map(Some)
}

/// The same of its bytes. `path` is named in errors.
///
/// # Errors
/// As `open`.
pub fn opened(bytes: &[u8], path: &Path, key: &Key) -> Result<Contents, String> {
    let shown = path.display();
    let broken = || format!("{shown} is no sealed file, or is damaged; take it from a backup");
    let form: Form = serde_json::from_slice(bytes).map_err(|_| broken())?;
    if form.format != FORMAT {
        return Err(format!("{shown} was written by another version of onemcp"));
    }
    let id = key.id();
    let Some(at) = form.keys.iter().position(|wrapped| wrapped.id == id) else {
        let ids: Vec<&str> = form
            .keys
            .iter()
            .map(|wrapped| wrapped.id.as_str())
            .collect();
        let ids = ids.join(" or ");
        return Err(format!(
            "{shown} was sealed by the key {ids}, and the one given is {id}; give that one"
        ));
    };
    let file_key = SealKey::new(key.bytes())
        .and_then(|seal| seal.open(&bound_key(&id), &form.keys[at].key))
        .and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok())
        .ok_or_else(broken)?;
    let plain = SealKey::new(&file_key)
        .and_then(|seal| seal.open(BOUND_SECRETS, &form.secrets))
        .ok_or_else(broken)?;
    Ok(Contents {
        secrets: serde_json::from_slice(&plain).map_err(|_| broken())?,
        file_key: Some(file_key),
        newer: form.keys[at + 1..].to_vec(),
    })
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let failed = |error: io::Error| format!("failed to read {}: {error}", path.display());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut bytes = Vec::new();
    let most = limits::SEALED_BYTES;
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(format!("{} is larger than {most} bytes", path.display()));
    }
    Ok(Some(bytes))
}

/// Changes the file under its lock; makes it when there is none. When `change` fails, nothing is
/// written.
///
/// # Errors
/// Why nothing has changed.
pub fn edit<T>(
    path: &Path,
    key: &Key,
    deadline: Instant,
    change: impl FnOnce(&mut Contents) -> Result<T, String>,
) -> Result<T, SealedError> {
    let path = &followed(path);
    let _turn = turn(path, deadline)?;
    let opened = open(path, key).map_err(SealedError::Broken)?;
    let mut contents = opened.unwrap_or_default();
    let outcome = change(&mut contents).map_err(SealedError::Broken)?;
    put(path, contents.seal(key))?;
    Ok(outcome)
}

fn turn(path: &Path, deadline: Instant) -> Result<Turn, SealedError> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.map_err(|error| {
            SealedError::Broken(format!("failed to make {}: {error}", folder.display()))
        })?;
    }
    Turn::wait(path, deadline).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => {
            SealedError::Busy(format!("somebody else is changing {}", path.display()))
        }
        _ => SealedError::Broken(format!("failed to lock {}: {error}", path.display())),
    })
}

fn put(path: &Path, bytes: Option<Vec<u8>>) -> Result<(), SealedError> {
    let bytes = fitting(path, bytes)?;
    replace(path, &bytes).map_err(|error| unwritten(path, &error))
}

fn fitting(path: &Path, bytes: Option<Vec<u8>>) -> Result<Vec<u8>, SealedError> {
    let shown = path.display();
    let broken = |text: String| SealedError::Broken(text);
    let bytes = bytes.ok_or_else(|| broken(format!("failed to seal {shown}")))?;
    match bytes.len() as u64 > limits::SEALED_BYTES {
        true => Err(broken(format!(
            "{shown} would be larger than {} bytes",
            limits::SEALED_BYTES
        ))),
        false => Ok(bytes),
    }
}

fn unwritten(path: &Path, error: &io::Error) -> SealedError {
    SealedError::Broken(format!("failed to write {}: {error}", path.display()))
}

/// Replaces the key in `key_file` by a new one, and seals the file for that one alone. Killed at
/// any moment, what is in `key_file` opens the file.
///
/// # Errors
/// What went wrong. The old key, or the one in the file, still opens the sealed file.
pub fn rotate(
    path: &Path,
    key_file: &Path,
    old: &Key,
    deadline: Instant,
) -> Result<Key, SealedError> {
    let path = &followed(path);
    let _turn = turn(path, deadline)?;
    let opened = open(path, old).map_err(SealedError::Broken)?;
    let mut contents = opened.unwrap_or_default();
    let new = Key::random();
    // First of all: where the key file cannot be replaced, nothing is begun.
    let text = format!("{}\n", new.text());
    let key_file = &followed(key_file);
    let prepared = Prepared::new(key_file, text.as_bytes());
    let prepared = prepared.map_err(|error| unwritten(key_file, &error))?;
    put(path, contents.seal_for_two(old, &new))?;
    prepared
        .put()
        .map_err(|error| unwritten(key_file, &error))?;
    contents.newer.clear();
    put(path, contents.seal(&new))?;
    Ok(new)
}

/// Seals the file for `old` and `new`: who has either can read it. The next change that is made
/// with `new` shuts `old` out.
///
/// # Errors
/// What went wrong; then the file is as it was.
pub fn admit(path: &Path, old: &Key, new: &Key, deadline: Instant) -> Result<(), SealedError> {
    let path = &followed(path);
    let _turn = turn(path, deadline)?;
    let opened = open(path, old).map_err(SealedError::Broken)?;
    put(path, opened.unwrap_or_default().seal_for_two(old, new))
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
