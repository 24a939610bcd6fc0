//! Files that may change while the gateway runs: looked at by whoever asks, at most once a
//! second, by one thread at a time. Deliberately absent: a thread of its own.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::base::limits;
use crate::base::ordered;
use crate::secrets::private;

/// A file, or a folder with files.
pub struct Watched {
    pub path: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    stamp: u64,
    looked: Option<Instant>,
}

impl Watched {
    pub fn new(path: PathBuf) -> Watched {
        Watched {
            path,
            seen: Mutex::new(Seen {
                stamp: 0,
                looked: None,
            }),
        }
    }

    /// Whether there is something new to read; the first look always says so. False for all
    /// who ask while another looks.
    pub fn changed(&self, now: Instant) -> bool {
        let Ok(mut seen) = self.seen.try_lock() else {
            return false;
        };
        let is_due = |looked: Instant| now.saturating_duration_since(looked) >= limits::AUTH_LOOK;
        if !seen.looked.is_none_or(is_due) {
            return false;
        }
        let stamp = stamp(&self.path);
        let changed = seen.looked.is_none() || stamp != seen.stamp;
        (seen.stamp, seen.looked) = (stamp, Some(now));
        changed
    }

    /// What was just written by ourselves is looked at when it is next asked for.
    pub fn forget(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.looked = None;
    }
}

/// Changes with what is at the path.
fn stamp(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files(path) {
        let Ok(found) = std::fs::metadata(&file) else {
            continue;
        };
        let parts = (found.dev(), found.ino(), found.len());
        (file, parts, found.mtime(), found.mtime_nsec()).hash(&mut hasher);
    }
    hasher.finish()
}

/// The file, or what is in the folder by name; hidden files are no content.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return vec![path.to_owned()];
    };
    let shown = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| !name.starts_with('.'))
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let paths = paths.filter(shown).take(limits::SIGNING_KEYS);
    let mut paths: Vec<PathBuf> = paths.collect();
    ordered::sort_by_key(&mut paths, Clone::clone);
    paths
}

/// A file that holds a secret. `Ok(None)`: there is none.
///
/// # Errors
/// When it cannot be read, is too long, or everybody on this machine may read it.
pub fn read(path: &Path, limit_bytes: u64) -> Result<Option<String>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("read {shown}: {error}");
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    private::check(&file, path).map_err(|why| format!("use {shown}: {why}"))?;
    let mut text = String::new();
    let read = file.take(limit_bytes + 1).read_to_string(&mut text);
    read.map_err(failed)?;
    if text.len() as u64 > limit_bytes {
        return Err(format!(
            "read {shown}: it has more than {limit_bytes} bytes"
        ));
    }
    Ok(Some(text))
}

/// Makes the folder of a file that is about to be written, for this user alone.
///
/// # Errors
/// Those of the file system, after "failed to".
pub fn prepare_folder(path: &Path) -> Result<(), String> {
    let Some(folder) = path.parent().filter(|folder| !folder.exists()) else {
        return Ok(());
    };
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.map_err(|error| format!("create {}: {error}", folder.display()))
}
