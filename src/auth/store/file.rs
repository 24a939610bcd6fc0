//! The store in a folder, also one that several gateways share: a file for each value, named by
//! the hash of its key, its first line the end in Unix seconds. What the file system does in one
//! step decides: `link` makes a name once, `rename` takes a file away once.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::auth::store::{Entry, Space, StoreError};
use crate::base::limits::{STORE_SWEEP, STORE_VALUE_BYTES};
use crate::base::sys::random_bytes;
use crate::wire::hex;

/// Of a file that is being written or was taken; the sweep removes those of the dead.
const PASSING: &str = "tmp-";

pub struct Files {
    folder: PathBuf,
    /// Makes names of passing files unlike those of other processes and threads.
    prefix: String,
    next: AtomicU64,
    /// When each space was last swept, and how many it had then, counted on since.
    spaces: Mutex<HashMap<&'static str, Known>>,
}

#[derive(Clone, Copy)]
struct Known {
    swept_s: u64,
    count: usize,
}

impl Files {
    pub(super) fn open(folder: &Path) -> Result<Files, String> {
        let failed = |what: String| format!("use {}: {what}", folder.display());
        make(folder).map_err(|error| failed(error.to_string()))?;
        let found = fs::symlink_metadata(folder).map_err(|error| failed(error.to_string()))?;
        if !found.is_dir() {
            return Err(failed("it is no folder".to_owned()));
        }
        if found.mode() & 0o077 != 0 || found.uid() != rustix::process::geteuid().as_raw() {
            let remedy = "others may look into it; it must be this user's with mode 0700";
            return Err(failed(remedy.to_owned()));
        }
        let mut random = [0; 8];
        random_bytes(&mut random);
        Ok(Files {
            folder: folder.to_owned(),
            prefix: format!("{PASSING}{}", hex::encode(&random)),
            next: AtomicU64::new(0),
            spaces: Mutex::default(),
        })
    }

    pub(super) fn put(&self, entry: &Entry<'_>, only_new: bool) -> Result<bool, StoreError> {
        let is_new = !self.place(entry.space, &entry.name).exists();
        self.make_room(entry.space, is_new, entry.now_s)?;
        self.write(entry, only_new, is_new).map_err(|error| {
            log::warn!(
                "authorization store failed space={} error=\"{error}\"",
                entry.space.name
            );
            StoreError::Io(error.to_string())
        })
    }

    fn write(&self, entry: &Entry<'_>, only_new: bool, is_new: bool) -> io::Result<bool> {
        let place = self.place(entry.space, &entry.name);
        let passing = self.passing(entry.space);
        let text = format!("{}\n{}", entry.end_s, entry.value);
        let mut file = private().create_new(true).write(true).open(&passing)?;
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_data());
        let put = written.and_then(|()| match only_new {
            false => fs::rename(&passing, &place).map(|()| true),
            // One that has ended is in the way until the next sweep: to take it away here could
            // take away what another process has just put there.
            true => match fs::hard_link(&passing, &place) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
                linked => linked.map(|()| true),
            },
        });
        // Not there any more when it was renamed.
        let _ = fs::remove_file(&passing);
        if put? {
            File::open(self.space(entry.space))?.sync_all()?;
            self.counted(entry.space, isize::from(is_new));
            return Ok(true);
        }
        Ok(false)
    }

    pub(super) fn get(&self, from: Space, name: &str, now_s: u64) -> Option<String> {
        let (end_s, value) = read(&self.place(from, name)).ok()?;
        (end_s > now_s).then_some(value)
    }

    pub(super) fn take(&self, from: Space, name: &str, now_s: u64) -> Option<String> {
        let (end_s, value) = self.remove(from, &self.place(from, name))?;
        (end_s > now_s).then_some(value)
    }

    /// Takes a file away; of many callers one has its content.
    fn remove(&self, from: Space, place: &Path) -> Option<(u64, String)> {
        let passing = self.passing(from);
        fs::rename(place, &passing).ok()?;
        let found = read(&passing);
        let _ = fs::remove_file(&passing);
        self.counted(from, -1);
        found.ok()
    }

    pub(super) fn values(&self, space: Space, now_s: u64) -> Vec<String> {
        let mut values = Vec::new();
        for entry in self.entries(space) {
            if let Ok((end_s, value)) = read(&entry.path())
                && end_s > now_s
            {
                values.push(value);
            }
        }
        values
    }

    fn entries(&self, space: Space) -> impl Iterator<Item = DirEntry> {
        let found = fs::read_dir(self.space(space)).into_iter().flatten();
        let found = found.filter_map(Result::ok);
        found.filter(|entry| !is_passing(entry))
    }

    fn space(&self, space: Space) -> PathBuf {
        self.folder.join(space.name)
    }

    fn place(&self, space: Space, name: &str) -> PathBuf {
        self.space(space).join(name)
    }

    fn passing(&self, space: Space) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.space(space).join(format!("{}-{number}", self.prefix))
    }

    fn counted(&self, space: Space, more: isize) {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = spaces.get_mut(space.name) {
            known.count = known.count.saturating_add_signed(more);
        }
    }

    /// Sweeps a space now and then. What replaces a value needs no room.
    fn make_room(&self, space: Space, is_new: bool, now_s: u64) -> Result<(), StoreError> {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let known = spaces.get(space.name).copied();
        let is_due = |known: &Known| now_s.abs_diff(known.swept_s) >= STORE_SWEEP.as_secs();
        let known = match known {
            Some(known) if !is_due(&known) => known,
            _ => {
                let failed = |error: io::Error| StoreError::Io(error.to_string());
                make(&self.space(space)).map_err(failed)?;
                let count = self.sweep(space, now_s);
                let known = Known {
                    swept_s: now_s,
                    count,
                };
                spaces.insert(space.name, known);
                known
            }
        };
        match known.count < space.limit || !is_new {
            true => Ok(()),
            false => Err(StoreError::Full(space.name)),
        }
    }

    /// Removes what has ended; how many are left.
    fn sweep(&self, space: Space, now_s: u64) -> usize {
        let mut left = 0;
        for entry in fs::read_dir(self.space(space))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let ended = match is_passing(&entry) {
                true => is_old(&entry, now_s),
                false => end_of(&path).is_some_and(|end_s| end_s <= now_s),
            };
            if ended {
                // Another gateway may have removed it.
                let _ = fs::remove_file(&path);
            } else {
                left += 1;
            }
        }
        left
    }
}

fn is_passing(entry: &DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with(PASSING)
}

/// Written longer ago than any write takes.
fn is_old(entry: &DirEntry, now_s: u64) -> bool {
    let written_s = entry.metadata().map_or(0, |found| found.mtime());
    now_s.abs_diff(u64::try_from(written_s).unwrap_or(0)) > STORE_SWEEP.as_secs()
}

/// What cannot be read as a value of ours has ended, but what cannot be opened has not.
fn end_of(path: &Path) -> Option<u64> {
    match read(path) {
        Ok((end_s, _)) => Some(end_s),
        Err(error) if error.kind() == ErrorKind::InvalidData => Some(0),
        Err(_) => None,
    }
}

fn read(path: &Path) -> io::Result<(u64, String)> {
    let file = private().read(true).open(path)?;
    let mut text = String::new();
    let most = STORE_VALUE_BYTES as u64 + 32;
    file.take(most).read_to_string(&mut text)?;
    let parts = text.split_once('\n');
    let found = parts.and_then(|(end, value)| Some((end.parse().ok()?, value.to_owned())));
    found.ok_or_else(|| ErrorKind::InvalidData.into())
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    options.mode(0o600).custom_flags(flags);
    options
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
