//! Replacing a private file so that a reader finds the old or the new content, whole, whatever
//! ends the writer in the middle; and the lock under which writers take turns.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::base::limits;

/// Content that lies beside its place, on the disk, and is not yet there.
pub struct Prepared {
    beside: PathBuf,
    place: PathBuf,
}

impl Prepared {
    /// Writes `bytes` for this user alone. Only under the lock: the file beside has one name, so
    /// that one which a killed writer left is taken over.
    ///
    /// # Errors
    /// Those of the file system; nothing at `place` has changed.
    pub fn new(place: &Path, bytes: &[u8]) -> io::Result<Prepared> {
        let beside = sibling(place, ".new");
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private().create_new(true).write(true).open(&beside)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let prepared = Prepared {
            beside,
            place: place.to_owned(),
        };
        // What could not be written is of no use, and `prepared` takes it away.
        written.map(|()| prepared)
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// Those of the file system; what is at the place is whole.
    pub fn put(self) -> io::Result<()> {
        std::fs::rename(&self.beside, &self.place)?;
        // After this not even a power failure brings the old one back.
        File::open(parent(&self.place))?.sync_all()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Not there any more when it was put in its place.
        let _ = std::fs::remove_file(&self.beside);
    }
}

/// # Errors
/// As `Prepared::new`, `Prepared::put`.
pub fn replace(place: &Path, bytes: &[u8]) -> io::Result<()> {
    Prepared::new(place, bytes)?.put()
}

/// Where the bytes are: a link is followed, also one that leads to nothing yet, so that it stays.
pub fn followed(place: &Path) -> PathBuf {
    let mut at = place.to_owned();
    for _ in 0..limits::LINKS {
        let Ok(target) = std::fs::read_link(&at) else {
            break;
        };
        at = parent(&at).join(target);
    }
    at
}

/// Creates a file that is not there yet, for this user alone.
///
/// # Errors
/// `AlreadyExists`, and those of the file system.
pub fn create(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private().create_new(true).write(true).open(place)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(parent(place))?.sync_all()
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    options.mode(0o600).custom_flags(flags);
    options
}

/// The turn of one writer; it ends when dropped, or with the process.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held open: closing it ends the turn")] File);

impl Turn {
    /// Whether anybody ever took one.
    pub fn was_taken(place: &Path) -> bool {
        sibling(place, ".lock").exists()
    }

    /// Waits for it; the lock file stays where it is, because removing it would let two in.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, and those of the file system.
    pub fn wait(place: &Path, deadline: Instant) -> io::Result<Turn> {
        let path = sibling(place, ".lock");
        let file = private()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Turn(file)),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(left.min(limits::SECRET_LOCK_RETRY));
        }
    }
}

/// `secrets.sealed` -> `.secrets.sealed.new`, in the same folder.
fn sibling(place: &Path, end: &str) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".{name}{end}"))
}

fn parent(place: &Path) -> &Path {
    match place.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::{Prepared, Turn, create, followed, replace};
    use crate::secrets::store::testing::Folder;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, Instant};

    #[test]
    fn content_is_replaced_whole_and_private() {
        let folder = Folder::new("replace");
        let place = folder.path("file");
        replace(&place, b"one").unwrap();
        fs::write(folder.path(".file.new"), "left by a killed writer").unwrap();
        replace(&place, b"two").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"two");
        let mode = fs::metadata(&place).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(Prepared::new(&place, b"three").unwrap());
        assert_eq!(fs::read(&place).unwrap(), b"two");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
        assert!(create(&place, b"four").is_err());
    }

    #[test]
    fn links_lead_to_where_the_bytes_are() {
        let folder = Folder::new("followed");
        let check = |name: &str, expect: &str| {
            assert_eq!(followed(&folder.path(name)), folder.path(expect), "{name}");
        };
        fs::create_dir(folder.path("sub")).unwrap();
        fs::write(folder.path("file"), "").unwrap();
        symlink("sub/second", folder.path("first")).unwrap();
        check("first", "sub/second");
        symlink(folder.path("file"), folder.path("sub/second")).unwrap();
        check("first", "file");
        check("file", "file");
        check("none", "none");
        symlink("round", folder.path("round")).unwrap();
        check("round", "round");
    }

    #[test]
    fn one_writer_at_a_time() {
        let folder = Folder::new("turn");
        let place = folder.path("file");
        let soon = || Instant::now() + Duration::from_millis(20);
        let first = Turn::wait(&place, soon()).unwrap();
        let error = Turn::wait(&place, soon()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        drop(first);
        // A process that another test starts at this moment holds it until it is a program.
        let later = Instant::now() + Duration::from_secs(10);
        Turn::wait(&place, later).unwrap();
    }
}
