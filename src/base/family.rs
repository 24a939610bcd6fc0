//! A family: the processes of some groups and everything that descends from them, as `/proc`
//! shows it. A process that called `setsid` is out of reach for `kill(-pgid)`, but not out of
//! its family while the chain of parents is whole; whoever was seen once is remembered by
//! (pid, start time), which a reused pid does not match.
//!
//! Used by the owner thread of a server, and by the watcher process. Deliberately absent:
//! control groups (they need rights that an edge host does not give) and reaping.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;

use crate::base::limits;
use crate::base::sorted::{SortedMap, SortedSet};

/// One row of the process table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub pid: i32,
    /// Clock ticks since boot; with the pid it names a process for good.
    pub started: u64,
    pub parent: i32,
    pub group: i32,
    /// A zombie: it runs no more and waits for its parent.
    pub dead: bool,
}

/// The process table as it is now or a moment later; empty where `/proc` is not mounted. Who asks
/// while somebody reads it shares the next reading: a hundred servers that end together do not
/// read it a hundred times.
pub fn processes() -> Arc<Vec<Member>> {
    let mut readings = readings();
    // The one that is under way may have passed by already what the caller wants to see.
    let wanted = readings.begun + 1;
    readings.waiting += 1;
    let deadline = Instant::now() + limits::PROCESS_READING;
    while readings.is_reading && readings.done < wanted {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Whoever reads is stuck, or is gone.
            break;
        }
        let waited = READ.wait_timeout(readings, left);
        readings = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    if let (true, Some(table)) = (readings.done >= wanted, readings.table.clone()) {
        readings.leave();
        return table;
    }
    readings.begun += 1;
    readings.is_reading = true;
    let number = readings.begun;
    drop(readings);
    let table = Arc::new(read_processes());
    let mut readings = self::readings();
    if readings.done < number {
        readings.done = number;
        readings.table = Some(Arc::clone(&table));
    }
    readings.is_reading = false;
    readings.leave();
    READ.notify_all();
    table
}

/// The readings of the process table that were begun, the last one that is over, and its outcome
/// for those who wait for it.
struct Readings {
    begun: u64,
    done: u64,
    is_reading: bool,
    waiting: usize,
    table: Option<Arc<Vec<Member>>>,
}

static READINGS: Mutex<Readings> = Mutex::new(Readings {
    begun: 0,
    done: 0,
    is_reading: false,
    waiting: 0,
    table: None,
});
static READ: Condvar = Condvar::new();

fn readings() -> MutexGuard<'static, Readings> {
    READINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Readings {
    fn leave(&mut self) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.table = None;
        }
    }
}

fn read_processes() -> Vec<Member> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(member).take(limits::PROCESSES).collect()
}

/// The row of one process, if it is there.
pub fn member(pid: i32) -> Option<Member> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Clock ticks that a process has worked.
pub fn ticks(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = memchr::memrchr(b')', &stat)?;
    let text = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut times = text.split_ascii_whitespace().skip(11);
    let mut time = || times.next()?.parse::<u64>().ok();
    Some(time()? + time()?)
}

/// A process name may hold anything, `) Z 1` included: the fields begin after the last `)`.
fn parse(pid: i32, stat: &[u8]) -> Option<Member> {
    let name_end = memchr::memrchr(b')', stat)?;
    let text = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
    // A main thread that ended before the others reads `Z` too, but with threads left.
    let dead = matches!(*fields.first()?, "Z" | "X" | "x") && number(17)? <= 1;
    Some(Member {
        pid,
        parent: number(1)?.try_into().ok()?,
        group: number(2)?.try_into().ok()?,
        started: number(19)?.try_into().ok()?,
        dead,
    })
}

/// What ends together.
#[derive(Debug, Default)]
pub struct Family {
    groups: SortedSet<i32>,
    known: SortedSet<(i32, u64)>,
    /// Groups that members made after they left ours, with the start time of their leader: a
    /// child born there while its parent dies is still found. The kernel does not reuse the
    /// number while anyone is in the group; later the start time tells.
    escaped: SortedMap<i32, u64>,
}

impl Family {
    pub fn of_group(pgid: i32) -> Family {
        Family {
            groups: SortedSet::from_iter([pgid]),
            ..Family::default()
        }
    }

    pub fn add_group(&mut self, pgid: i32) {
        if pgid > 1 && self.groups.len() < limits::WATCHED_GROUPS {
            self.groups.insert(pgid);
        }
    }

    pub fn remove_group(&mut self, pgid: i32) {
        self.groups.remove(&pgid);
    }

    /// Takes in a process that is known to belong here although no chain of parents says so.
    pub fn adopt(&mut self, member: &Member) {
        self.known.insert((member.pid, member.started));
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.known.is_empty()
    }

    /// Everyone of the family who still runs. Remembers them, forgets who is gone.
    pub fn look(&mut self) -> Vec<Member> {
        let table = processes();
        let living = self.select(&table);
        self.remember(&living);
        living
    }

    fn remember(&mut self, living: &[Member]) {
        let known = living.iter();
        self.known = known.map(|member| (member.pid, member.started)).collect();
        self.escaped
            .retain(|group, _| living.iter().any(|member| member.group == *group));
        for leader in living.iter().filter(|member| member.pid == member.group) {
            if !self.groups.contains(&leader.group) {
                self.escaped.insert(leader.group, leader.started);
            }
        }
    }

    fn select(&self, table: &[Member]) -> Vec<Member> {
        let mut children: HashMap<i32, Vec<&Member>> = HashMap::new();
        for member in table {
            children.entry(member.parent).or_default().push(member);
        }
        let own = own_pid();
        let reused = |member: &&Member| {
            self.escaped
                .get(&member.pid)
                .is_some_and(|started| *started != member.started)
        };
        let reused = table.iter().filter(reused);
        let reused: SortedSet<i32> = reused.map(|member| member.pid).collect();
        let is_root = |member: &&Member| {
            self.groups.contains(&member.group)
                || self.known.contains(&(member.pid, member.started))
                || self.escaped.contains_key(&member.group) && !reused.contains(&member.group)
        };
        let mut chosen = SortedSet::new();
        let mut living = Vec::new();
        let mut open: Vec<&Member> = table.iter().filter(is_root).collect();
        while let Some(member) = open.pop() {
            if member.pid <= 1 || member.pid == own || !chosen.insert(member.pid) {
                continue;
            }
            open.extend(children.get(&member.pid).into_iter().flatten());
            if !member.dead {
                living.push(*member);
            }
        }
        living
    }

    /// Signals the groups that `living` shows to be there, and one by one who left them.
    pub fn signal(&self, living: &[Member], signal: Signal) {
        for &group in self.groups.iter() {
            if living.iter().any(|member| member.group == group) {
                signal_group(group, signal);
            }
        }
        for member in living
            .iter()
            .filter(|member| !self.groups.contains(&member.group))
        {
            signal_member(member, signal);
        }
    }

    /// Asks everyone to end and waits. True when nobody is left.
    pub fn terminate(&mut self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        let living = self.look();
        self.signal(&living, Signal::TERM);
        // A stopped process takes TERM only when it goes on.
        self.signal(&living, Signal::CONT);
        self.wait_gone(deadline)
    }

    /// Kills everyone, also those who are born meanwhile. True when nobody is left.
    pub fn kill(&mut self) -> bool {
        let deadline = Instant::now() + limits::KILL_WAIT;
        self.freeze(deadline);
        loop {
            let living = self.look();
            let Some(first) = living.first() else {
                return true;
            };
            if Instant::now() >= deadline {
                return false;
            }
            self.signal(&living, Signal::KILL);
            wait_member(first, deadline);
        }
    }

    /// Stops everyone, until a look shows nobody new: from then on nobody forks, and no child
    /// can lose its parent, and with it its place in the family, before it was seen.
    fn freeze(&mut self, deadline: Instant) {
        let mut frozen = SortedSet::new();
        while Instant::now() < deadline {
            let mut living = self.look();
            living.retain(|member| frozen.insert((member.pid, member.started)));
            if living.is_empty() {
                return;
            }
            self.signal(&living, Signal::STOP);
        }
    }

    /// Waits until nobody of the family runs; false at the deadline.
    pub fn wait_gone(&mut self, deadline: Instant) -> bool {
        loop {
            let living = self.look();
            let Some(first) = living.first() else {
                return true;
            };
            if Instant::now() >= deadline {
                return false;
            }
            wait_member(first, deadline);
        }
    }
}

/// Signals a whole group; that it is gone already is fine.
pub fn signal_group(pgid: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(pgid).filter(|group| group.as_raw_nonzero().get() > 1) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// The pid may be somebody else's by now: the start time is compared while a pidfd pins it.
fn signal_member(expected: &Member, signal: Signal) {
    let Some(pid) = Pid::from_raw(expected.pid) else {
        return;
    };
    let pinned = open_pidfd(expected.pid);
    if member(expected.pid).is_none_or(|found| found.started != expected.started) {
        return;
    }
    let _ = match pinned {
        Some(pidfd) => rustix::process::pidfd_send_signal(pidfd, signal),
        None => rustix::process::kill_process(pid, signal),
    };
}

/// Waits for the end of one process, not beyond the deadline. May return early.
fn wait_member(expected: &Member, deadline: Instant) {
    let pidfd = open_pidfd(expected.pid);
    if member(expected.pid).is_none_or(|found| found.started != expected.started || found.dead) {
        return;
    }
    wait_readable(pidfd.as_ref(), deadline);
}

/// None where the kernel is too old (before 5.3), a sandbox forbids it, or the process is gone.
pub fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Waits until `pidfd` reports an end; without one, for a short while. True on an event.
pub fn wait_readable(pidfd: Option<&OwnedFd>, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    match pidfd {
        Some(pidfd) => poll_in(pidfd, left),
        None => {
            std::thread::sleep(left.min(limits::PROCESS_POLL));
            false
        }
    }
}

/// One bounded `poll` for input or end of file; false on timeout or interruption.
pub fn poll_in(fd: impl AsFd, timeout: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, Some(&timeout)), Ok(1..))
}

/// The pipes in the place of stdin, stdout and stderr, as `/proc` writes them. Empty when the
/// process is gone or may not be looked at.
pub fn standard_pipes(pid: i32) -> Vec<PathBuf> {
    let link = |file| fs::read_link(format!("/proc/{pid}/fd/{file}")).ok();
    let is_pipe = |target: &PathBuf| target.to_str().is_some_and(|t| t.starts_with("pipe:"));
    (0..3).filter_map(link).filter(is_pipe).collect()
}

/// Whether a process has one of these pipes open.
pub fn holds_any(pid: i32, pipes: &[PathBuf]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .flatten()
        .take(limits::FOREIGN_FILES)
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| pipes.contains(&target))
}

pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use super::Family;
    use super::Member;
    use super::parse;

    fn row(pid: i32, parent: i32, group: i32) -> Member {
        Member {
            pid,
            parent,
            group,
            started: pid as u64 * 10,
            dead: false,
        }
    }

    fn pids(family: &Family, table: &[Member]) -> Vec<i32> {
        let mut pids: Vec<i32> = family
            .select(table)
            .iter()
            .map(|member| member.pid)
            .collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn reads_a_name_that_imitates_fields() {
        let stat = b"77 (x) Z 1 2 (y)) S 70 60 60 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let expected = Member {
            pid: 77,
            started: 4711,
            parent: 70,
            group: 60,
            dead: false,
        };
        assert_eq!(parse(77, stat), Some(expected));
    }

    #[test]
    fn work_is_counted() {
        let ticks = || super::ticks(super::own_pid()).expect("our own row");
        let before = ticks();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while ticks() == before {
            assert!(std::time::Instant::now() < deadline, "no tick in so long");
        }
        assert_eq!(super::ticks(-1), None);
    }

    #[test]
    fn a_main_thread_that_ended_first_is_no_zombie() {
        let stat = |threads: &str| {
            format!("7 (x) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 1 0").into_bytes()
        };
        assert!(parse(7, &stat("1")).unwrap().dead);
        assert!(!parse(7, &stat("2")).unwrap().dead);
    }

    #[test]
    fn finds_the_group_and_who_left_it() {
        let table = [
            row(10, 5, 10),
            row(11, 10, 10),
            row(12, 11, 12),
            row(13, 12, 13),
        ];
        let strangers = [row(20, 5, 20), row(21, 20, 20)];
        let all: Vec<Member> = table.iter().chain(&strangers).copied().collect();
        assert_eq!(pids(&Family::of_group(10), &all), [10, 11, 12, 13]);
    }

    #[test]
    fn remembers_by_start_time() {
        let mut family = Family::of_group(10);
        let escaped = row(12, 1, 12);
        family.adopt(&escaped);
        assert_eq!(pids(&family, &[escaped]), [12]);
        assert!(
            pids(
                &family,
                &[Member {
                    started: 9,
                    ..escaped
                }]
            )
            .is_empty()
        );
    }

    #[test]
    fn a_group_made_by_a_member_outlives_it_but_not_the_reuse_of_its_number() {
        let mut family = Family::of_group(10);
        let (leader, newborn) = (row(12, 10, 12), row(15, 1, 12));
        family.remember(&family.select(&[row(10, 5, 10), leader]));
        assert_eq!(pids(&family, &[newborn]), [15]);
        family.remember(&[newborn]);
        assert_eq!(pids(&family, &[newborn]), [15]);
        let stranger = Member {
            started: 9,
            ..leader
        };
        assert!(pids(&family, &[stranger, row(16, 12, 12)]).is_empty());
    }

    #[test]
    fn a_living_child_of_a_dead_member_counts_but_the_dead_does_not() {
        let table = [
            Member {
                dead: true,
                ..row(10, 5, 10)
            },
            row(11, 10, 10),
        ];
        assert_eq!(pids(&Family::of_group(10), &table), [11]);
    }
}
