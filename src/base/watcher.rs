//! The watcher: a small process that outlives a killed gateway for as long as it takes to end
//! what the gateway had started.
//!
//! The gateway tells it over a pipe, in lines: `+pgid` when a group starts, with the inodes of its
//! leader's three standard files, `-pgid` when it is gone, `.` when all has ended in order. When
//! the pipe ends, the gateway has ended, however that came about, SIGKILL included: the groups
//! still listed get TERM, then KILL, with everyone who left them, by `setsid` or for good: whoever
//! bears the gateway's brand or holds one of its pipes.
//! One thread, own session, no open file but the pipe. Deliberately absent: restarting a
//! watcher that dies (a second fork from a program with threads is not safe).

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use rustix::process::WaitOptions;

use crate::base::brand;
use crate::base::family;
use crate::base::family::Family;
use crate::base::limits;
use crate::base::sorted::SortedMap;
use crate::base::sys;

struct Watcher {
    pid: Pid,
    pipe: Arc<OwnedFd>,
}

static WATCHER: Mutex<Option<Watcher>> = Mutex::new(None);

/// Forks the watcher. Only for a process that has no second thread yet.
pub(crate) fn start() -> io::Result<()> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    match sys::fork()? {
        sys::Fork::Child => {
            drop(writer);
            watch(&reader)
        }
        sys::Fork::Parent(pid) => {
            rustix::io::ioctl_fionbio(&writer, true)?;
            let watcher = Watcher {
                pid,
                pipe: Arc::new(writer),
            };
            *WATCHER.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
            Ok(())
        }
    }
}

/// From now on this group does not outlive the gateway.
pub fn watch_group(pgid: i32) {
    tell(b'+', pgid);
}

/// The group is gone, or about to be: call it before its leader is reaped.
pub fn unwatch_group(pgid: i32) {
    tell(b'-', pgid);
}

fn tell(sign: u8, pgid: i32) {
    let Some(pipe) = pipe() else { return };
    let (line, length) = line(sign, pgid);
    if let Err(error) = rustix::io::write(&*pipe, &line[..length]) {
        log::warn!("event=watcher_unreachable pgid={pgid} error=\"{error}\"");
    }
}

/// The pipe to the watcher, for the child that announces itself before it becomes a program.
pub(crate) fn pipe() -> Option<Arc<OwnedFd>> {
    let watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
    watcher.as_ref().map(|watcher| Arc::clone(&watcher.pipe))
}

pub(crate) fn pid() -> Option<i32> {
    let watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
    watcher
        .as_ref()
        .map(|watcher| watcher.pid.as_raw_nonzero().get())
}

/// `+4711\n`, made without memory from the heap: a forked child may not allocate.
pub(crate) fn line(sign: u8, pgid: i32) -> ([u8; 12], usize) {
    let mut line = [0; 12];
    line[0] = sign;
    let end = write_number(&mut line, 1, pgid.unsigned_abs().into());
    line[end] = b'\n';
    (line, end + 1)
}

/// The longest line: a sign, a group, three inodes, what separates and ends them.
const ANNOUNCEMENT_BYTES: usize = 1 + 10 + 3 * (1 + 20) + 1;

/// `+4711 21 22 23\n`: a group whose leader has these standard files. The leader says so itself,
/// because it may be gone before the watcher can look at it.
pub(crate) fn announcement(pgid: i32, inodes: [u64; 3]) -> ([u8; ANNOUNCEMENT_BYTES], usize) {
    let mut line = [0; ANNOUNCEMENT_BYTES];
    line[0] = b'+';
    let mut end = write_number(&mut line, 1, pgid.unsigned_abs().into());
    for inode in inodes {
        line[end] = b' ';
        end = write_number(&mut line, end + 1, inode);
    }
    line[end] = b'\n';
    (line, end + 1)
}

/// Gives the place behind it.
fn write_number(line: &mut [u8], from: usize, number: u64) -> usize {
    let mut digits = [0; 20];
    let mut count = 0;
    let mut rest = number;
    while count == 0 || rest > 0 {
        digits[count] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        count += 1;
    }
    for (place, digit) in line[from..].iter_mut().zip(digits[..count].iter().rev()) {
        *place = *digit;
    }
    from + count
}

/// The reaper found the watcher dead: somebody killed it. There cannot be another one.
pub(crate) fn lost() {
    *WATCHER.lock().unwrap_or_else(PoisonError::into_inner) = None;
    log::warn!(
        "event=watcher_lost hint=\"servers may survive if the gateway is killed; restart it\""
    );
}

/// At the end of the gateway: sends the watcher home and reaps it, so that not even it is left.
pub fn finish() {
    let taken = WATCHER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(Watcher { pid, pipe }) = taken else {
        return;
    };
    // Without it the watcher looks for strays all the same, which takes its time.
    let _ = rustix::io::write(&*pipe, ORDERLY);
    drop(pipe);
    let deadline = Instant::now() + limits::WATCHER_EXIT;
    let pidfd = family::open_pidfd(pid.as_raw_nonzero().get());
    while Instant::now() < deadline {
        match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) => _ = family::wait_readable(pidfd.as_ref(), deadline),
            // Reaped now, or by the reaper before.
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

/// The gateway has ended its servers and their orphans itself.
const ORDERLY: &[u8] = b".\n";

/// What the watcher knows.
#[derive(Default)]
struct Watch {
    family: Family,
    /// The pipes of each group's leader. Who holds one belongs to the group, even if it left
    /// it and its parent ended together with the gateway, before anybody saw the two.
    pipes: SortedMap<i32, Vec<PathBuf>>,
    next_look: Option<Instant>,
    /// There was a group: somebody may be left of it, even if it is gone itself.
    had_group: bool,
}

impl Watch {
    fn apply(&mut self, line: &[u8]) {
        let Some((sign, digits)) = line.split_first() else {
            return;
        };
        let text = std::str::from_utf8(digits).unwrap_or_default();
        let mut numbers = text.split(' ');
        let pgid = numbers.next().and_then(|digits| digits.parse().ok());
        match (sign, pgid) {
            (b'+', Some(pgid)) => {
                self.had_group = true;
                self.family.add_group(pgid);
                let told: Vec<PathBuf> = numbers.filter_map(pipe_path).collect();
                let pipes = match told.is_empty() {
                    true => family::standard_pipes(pgid),
                    false => told,
                };
                self.pipes.insert(pgid, pipes);
                let soon = Instant::now() + limits::FAMILY_FIRST_LOOK;
                self.next_look = Some(self.next_look.map_or(soon, |at| at.min(soon)));
            }
            (b'-', Some(pgid)) => {
                self.family.remove_group(pgid);
                self.pipes.remove(&pgid);
            }
            (b'.', None) => self.had_group = false,
            _ => {}
        }
    }

    /// Remembers who belongs to the groups, while the chain of parents shows it.
    fn look(&mut self) {
        self.learn_pipes();
        self.next_look = match self.family.is_empty() {
            true => None,
            false => {
                self.family.look();
                Some(Instant::now() + limits::FAMILY_LOOK)
            }
        };
    }

    /// Before its `exec` a leader may not let itself be looked at.
    fn learn_pipes(&mut self) {
        for (pgid, pipes) in self.pipes.iter_mut().filter(|(_, pipes)| pipes.is_empty()) {
            *pipes = family::standard_pipes(*pgid);
        }
    }

    /// The gateway is gone.
    fn end(&mut self) {
        if !self.had_group && self.family.is_empty() {
            return;
        }
        self.learn_pipes();
        let pipes: Vec<PathBuf> = self.pipes.values().flatten().cloned().collect();
        self.adopt_strays(&pipes);
        for _ in 0..limits::WATCHER_ROUNDS {
            if !self.family.terminate(limits::STOP_TERM) {
                self.family.kill();
            }
            // A leader that was just starting somebody when it was told to end leaves a child
            // that nobody has seen.
            if !self.adopt_strays(&pipes) {
                return;
            }
        }
    }

    /// Takes in whoever bears the brand or holds one of these pipes. True when there is somebody.
    fn adopt_strays(&mut self, pipes: &[PathBuf]) -> bool {
        let own = family::own_pid();
        let mut found = false;
        for member in family::processes().iter() {
            let other = member.pid > 1 && member.pid != own && !member.dead;
            if other && (brand::is_ours(member.pid) || family::holds_any(member.pid, pipes)) {
                self.family.adopt(member);
                found = true;
            }
        }
        found
    }
}

/// As `/proc` writes it; nothing for 0, which stands for a file that is no pipe.
fn pipe_path(inode: &str) -> Option<PathBuf> {
    let inode: u64 = inode.parse().ok().filter(|inode| *inode > 0)?;
    Some(format!("pipe:[{inode}]").into())
}

/// The life of the watcher process.
fn watch(pipe: &OwnedFd) -> ! {
    sys::become_background(c"onemcp-watch", pipe.as_fd());
    let mut watch = Watch::default();
    let mut pending = Vec::new();
    while !read_lines(pipe, &mut pending, &mut watch) {
        if watch.next_look.is_some_and(|at| at <= Instant::now()) {
            watch.look();
        }
    }
    watch.end();
    sys::exit_now(0)
}

/// Takes in what the gateway says. True when it says nothing any more.
fn read_lines(pipe: &OwnedFd, pending: &mut Vec<u8>, watch: &mut Watch) -> bool {
    // With nothing to look after it sleeps long: an idle gateway costs no wake-ups.
    let wait = watch.next_look.map_or(Duration::from_secs(3600), |at| {
        at.saturating_duration_since(Instant::now())
    });
    if !family::poll_in(pipe, wait) {
        return false;
    }
    let mut buffer = [0; 4096];
    match rustix::io::read(pipe, &mut buffer) {
        Ok(0) => return true,
        Ok(count) => pending.extend_from_slice(&buffer[..count]),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return false,
        Err(_) => return true,
    }
    while let Some(end) = memchr::memchr(b'\n', pending) {
        watch.apply(&pending[..end]);
        pending.drain(..=end);
    }
    // No line is so long: whatever this is, it did not come from `tell`.
    pending.truncate(ANNOUNCEMENT_BYTES);
    false
}

#[cfg(test)]
mod tests {
    use super::{Watch, announcement, line};

    #[test]
    fn writes_lines_of_every_length() {
        for pgid in [0, 7, 4711, i32::MAX] {
            let (bytes, length) = line(b'+', pgid);
            assert_eq!(bytes[..length], *format!("+{pgid}\n").as_bytes());
        }
    }

    #[test]
    fn pipes_are_known_without_a_look_at_their_holder() {
        let (bytes, length) = announcement(i32::MAX, [u64::MAX, 0, 7]);
        let expected = format!("+{} {} 0 7\n", i32::MAX, u64::MAX);
        assert_eq!(bytes[..length], *expected.as_bytes());
        let mut watch = Watch::default();
        watch.apply(&bytes[..length - 1]);
        let pipes = watch.pipes.get(&i32::MAX).unwrap();
        let pipes: Vec<_> = pipes.iter().map(|p| p.to_str()).collect();
        let first = format!("pipe:[{}]", u64::MAX);
        assert_eq!(pipes, [Some(first.as_str()), Some("pipe:[7]")]);
    }
}
