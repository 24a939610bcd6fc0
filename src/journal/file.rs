//! A log file: appended to, put aside when it is large, opened again when somebody has moved it.
//! Used by one thread, which may wait here and nowhere else. What is no regular file (a pipe, a
//! device) is written to and never put aside.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::base::limits;

/// When a file is put aside, and how many there are then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// 0: never.
    pub max_bytes: u64,
    /// Old ones, beside the one that is written.
    pub max_files: usize,
}

pub struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<Open>,
    /// When to look again whether the file is still the one at the path.
    look_at: Instant,
    /// After a file could not be put aside, it is not tried again before this.
    rotate_at: Instant,
    /// Of the open.
    flags: OFlags,
}

struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    is_regular: bool,
    bytes: u64,
    /// Bytes of a line that is not complete yet.
    torn: u64,
}

impl LogFile {
    pub fn new(path: PathBuf, rotation: Rotation) -> LogFile {
        let now = Instant::now();
        LogFile {
            path,
            rotation,
            open: None,
            look_at: now,
            rotate_at: now,
            // A pipe that nobody reads must not hold up the open.
            flags: OFlags::NONBLOCK | OFlags::NOCTTY,
        }
    }

    /// A link at the path leads nowhere.
    pub fn refuse_links(&mut self) {
        self.flags |= OFlags::NOFOLLOW;
    }

    /// Whether it can be written now.
    pub fn is_good(&mut self) -> bool {
        self.look().is_ok()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file at the path is looked for before the next line.
    pub fn reopen(&mut self) {
        self.look_at = Instant::now();
    }

    /// Writes a part of `text`, which is whole lines or what is left of them. Gives the number of
    /// bytes that were taken; none when a pipe is full, after waiting for it.
    ///
    /// # Errors
    /// As the system says. A line that was only begun is taken out of the file again: it is to be
    /// written from its start.
    pub fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.look()?;
        let first_line = line_end(text, 0);
        self.make_room(first_line as u64);
        let rotation = self.rotation;
        let open = self.open.as_mut().ok_or(ErrorKind::NotFound)?;
        let room = match open.is_regular && rotation.max_bytes > 0 {
            true => rotation.max_bytes.saturating_sub(open.bytes),
            false => u64::MAX,
        };
        let part = &text[..whole_lines(text, room)];
        match open.file.write(part) {
            Ok(taken) => {
                open.took(&part[..taken]);
                Ok(taken)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_writable(&open.file);
                Ok(0)
            }
            Err(error) => {
                let is_clean = open.take_back();
                if !is_clean || !open.is_regular {
                    // A pipe without a reader gets one again only when it is opened anew.
                    self.open = None;
                }
                Err(error)
            }
        }
    }

    /// # Errors
    /// As the system says.
    pub fn sync(&self) -> io::Result<()> {
        let regular = self.open.as_ref().filter(|open| open.is_regular);
        regular.map_or(Ok(()), |open| open.file.sync_data())
    }

    /// Now and then: whether the file is still at its path. It is not opened while a line in it
    /// is incomplete.
    fn look(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if let Some(open) = &mut self.open {
            if now < self.look_at || open.torn > 0 {
                return Ok(());
            }
            self.look_at = now + limits::LOG_LOOK;
            match fs::metadata(&self.path) {
                Ok(there) if (there.dev(), there.ino()) == open.id => {
                    // Somebody may have cut it.
                    open.bytes = there.len();
                    return Ok(());
                }
                _ => self.open = None,
            }
        }
        self.open = Some(Open::at(&self.path, self.flags)?);
        self.look_at = now + limits::LOG_LOOK;
        Ok(())
    }

    /// Puts the file aside when the next line does not fit.
    fn make_room(&mut self, line: u64) {
        let Some(open) = &self.open else { return };
        let Rotation { max_bytes, .. } = self.rotation;
        let fits = open.bytes == 0 || open.bytes + line <= max_bytes;
        if fits || max_bytes == 0 || !open.is_regular || open.torn > 0 {
            return;
        }
        let now = Instant::now();
        if now < self.rotate_at {
            return;
        }
        let put_aside = self
            .put_aside()
            .and_then(|()| Open::at(&self.path, self.flags));
        match put_aside {
            Ok(open) => self.open = Some(open),
            // Better too large than lost. It is said rarely, because it would be said often.
            Err(error) => {
                self.rotate_at = now + limits::LOG_ROTATE_RETRY;
                log::warn!("log file not put aside path={:?}: {error}", self.path);
            }
        }
    }

    /// `log` becomes `log.1`, `log.1` becomes `log.2`; the last one goes.
    ///
    /// # Errors
    /// As the system says.
    pub fn put_aside(&self) -> io::Result<()> {
        let last = self.rotation.max_files;
        if last == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..last).rev() {
            match fs::rename(aside(&self.path, number), aside(&self.path, number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, aside(&self.path, 1))
    }
}

impl Open {
    fn at(path: &Path, flags: OFlags) -> io::Result<Open> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let there = file.metadata()?;
        let mut open = Open {
            id: (there.dev(), there.ino()),
            is_regular: there.is_file(),
            bytes: there.len(),
            torn: 0,
            file,
        };
        if open.is_regular && open.bytes > 0 && !ends_with_a_line(path) {
            // Whoever wrote it was killed within a line.
            open.bytes += open.file.write(b"\n")? as u64;
        }
        Ok(open)
    }

    fn took(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        match text.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => self.torn = (text.len() - at - 1) as u64,
            None => self.torn += text.len() as u64,
        }
    }

    /// Takes the beginning of a line out of the file. False when that is not possible.
    fn take_back(&mut self) -> bool {
        if self.torn == 0 {
            return true;
        }
        let is_ours = self
            .file
            .metadata()
            .is_ok_and(|there| there.len() == self.bytes);
        let is_cut = is_ours && self.file.set_len(self.bytes - self.torn).is_ok();
        if is_cut {
            self.bytes -= self.torn;
            self.torn = 0;
        }
        is_cut
    }
}

fn ends_with_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    // What may not be read is taken for good.
    last().map_or(true, |last| last == b'\n')
}

pub fn aside(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Where the line that stands at `from` ends, its line break included.
fn line_end(text: &[u8], from: usize) -> usize {
    let found = memchr::memchr(b'\n', &text[from..]);
    found.map_or(text.len(), |at| from + at + 1)
}

/// As many lines as fit into `room` and into one write, but one at least.
fn whole_lines(text: &[u8], room: u64) -> usize {
    let room = usize::try_from(room)
        .unwrap_or(usize::MAX)
        .min(limits::LOG_BATCH_BYTES);
    if text.len() <= room {
        return text.len();
    }
    match text[..room].iter().rposition(|byte| *byte == b'\n') {
        Some(at) => at + 1,
        None => line_end(text, 0),
    }
}

/// Waits a moment until a pipe takes something. False when it does not; whoever calls asks again
/// anyway.
pub fn wait_writable(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::OUT)];
    let wait = Timespec::try_from(limits::LOG_PIPE_WAIT).ok();
    match poll(&mut fds, wait.as_ref()) {
        Ok(ready) => ready > 0,
        Err(_) => {
            std::thread::park_timeout(Duration::from_millis(10));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use super::{LogFile, Rotation, aside};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("onemcp-log-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).expect("a folder");
            Folder(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write_all(log: &mut LogFile, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let taken = log.write(rest).expect("a good disk");
            rest = &rest[taken..];
        }
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn large_files_are_put_aside_whole_lines_each() {
        let folder = Folder::new("rotate");
        let path = folder.0.join("log");
        let rotation = Rotation {
            max_bytes: 10,
            max_files: 2,
        };
        let mut log = LogFile::new(path.clone(), rotation);
        write_all(&mut log, "1aaa\n2bbb\n3ccc\n");
        write_all(&mut log, "4 is longer than a file may be\n5eee\n");
        assert_eq!(read(&path), "5eee\n");
        assert_eq!(read(&aside(&path, 1)), "4 is longer than a file may be\n");
        assert_eq!(read(&aside(&path, 2)), "3ccc\n");
        assert!(!aside(&path, 3).exists());
    }

    #[test]
    fn one_file_is_begun_anew() {
        let folder = Folder::new("one");
        let path = folder.0.join("log");
        let mut log = LogFile::new(
            path.clone(),
            Rotation {
                max_bytes: 10,
                max_files: 0,
            },
        );
        write_all(&mut log, "1aaa\n2bbb\n3ccc\n");
        assert_eq!(read(&path), "3ccc\n");
        assert!(!aside(&path, 1).exists());
    }

    #[test]
    fn a_moved_file_is_left_alone_and_a_broken_line_is_ended() {
        let folder = Folder::new("moved");
        let path = folder.0.join("log");
        fs::write(&path, "torn").expect("written");
        let mut log = LogFile::new(
            path.clone(),
            Rotation {
                max_bytes: 0,
                max_files: 5,
            },
        );
        write_all(&mut log, "one\n");
        fs::rename(&path, folder.0.join("old")).expect("moved");
        log.reopen();
        write_all(&mut log, "two\n");
        assert_eq!(read(&folder.0.join("old")), "torn\none\n");
        assert_eq!(read(&path), "two\n");
    }

    #[test]
    fn what_cannot_be_opened_is_an_error_and_later_not() {
        let folder = Folder::new("missing");
        let path = folder.0.join("not/yet/log");
        let mut log = LogFile::new(
            path.clone(),
            Rotation {
                max_bytes: 0,
                max_files: 5,
            },
        );
        assert!(log.write(b"x\n").is_err());
        fs::create_dir_all(folder.0.join("not/yet")).expect("a folder");
        write_all(&mut log, "x\n");
        assert_eq!(read(&path), "x\n");
    }

    #[test]
    fn a_line_that_was_only_begun_is_taken_back() {
        let folder = Folder::new("torn");
        let path = folder.0.join("log");
        let mut log = LogFile::new(
            path.clone(),
            Rotation {
                max_bytes: 0,
                max_files: 5,
            },
        );
        write_all(&mut log, "whole\nbeg");
        let open = log.open.as_mut().expect("open");
        assert!(open.take_back());
        assert_eq!(read(&path), "whole\n");
        write_all(&mut log, "beg");
        // Another writer: nothing is taken from it.
        let mut other = fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("open");
        other.write_all(b"x").expect("written");
        assert!(!log.open.as_mut().expect("open").take_back());
        assert_eq!(read(&path), "whole\nbegx");
    }
}
