//! Who is at the other end of a local socket, and whether that may be an operator. Servers run
//! as the same user as the gateway, so the file mode of a socket does not keep them out: whoever
//! descends from this process is refused.
//!
//! As a subreaper this process stays an ancestor of everything its servers start, double forks
//! and new sessions included. What this cannot see is a process that somebody else starts for a
//! server (a service manager, cron): a server that must not reach that runs as another user.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::base::family;
use crate::base::family::Member;
use crate::base::limits;
use crate::base::reaper;
use crate::base::sys;
use crate::base::sys::Credentials;

/// Why a peer is not listened to.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    OtherUser,
    /// One of our servers, or something that one of them started.
    Descendant,
    /// It ended before it could be looked at.
    Gone,
    /// The system does not show where it comes from.
    Unseen(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OtherUser => f.write_str("it runs as another user than the gateway"),
            Refusal::Descendant => f.write_str("it was started by a server of the gateway"),
            Refusal::Gone => f.write_str("it ended before it was looked at"),
            Refusal::Unseen(why) => write!(f, "nobody can tell who started it: {why}"),
        }
    }
}

/// Who connected.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub pid: i32,
    pub uid: u32,
}

/// Judges the peer of a connection that was accepted at `accepted` (see [`boot_ticks`]).
///
/// # Errors
/// When the system does not say who connected; the inner one says why the peer is refused.
pub fn examine(socket: &UnixStream, accepted: u64) -> io::Result<(Peer, Result<(), Refusal>)> {
    let Credentials { pid, uid } = sys::peer_credentials(socket.as_fd())?;
    let peer = Peer { pid, uid };
    let is_ours = uid == 0 || uid == rustix::process::geteuid().as_raw();
    if !is_ours {
        return Ok((peer, Err(Refusal::OtherUser)));
    }
    if pid <= 0 {
        let why = "its process is outside of our process namespace";
        return Ok((peer, Err(Refusal::Unseen(why))));
    }
    let pinned = sys::peer_pidfd(socket.as_fd());
    let pinned = pinned.or_else(|| family::open_pidfd(pid));
    Ok((peer, judge(pid, pinned.as_ref(), accepted)))
}

/// A process that was named for good, to wait for its end.
pub struct Pinned {
    pidfd: Option<OwnedFd>,
    /// For kernels without pidfds: its number and when it started.
    member: Option<Member>,
}

impl Pinned {
    /// The process at the other end of a connection.
    pub fn peer_of(socket: &UnixStream) -> Pinned {
        let pid = sys::peer_credentials(socket.as_fd()).map(|peer| peer.pid);
        // 0: it is in another process namespace.
        let pid = pid.ok().filter(|pid| *pid > 0);
        let pidfd = sys::peer_pidfd(socket.as_fd());
        Pinned {
            pidfd: pidfd.or_else(|| family::open_pidfd(pid?)),
            member: pid.and_then(family::member),
        }
    }

    /// Waits for its end; false at the deadline. One of which the system tells nothing counts as
    /// gone.
    pub fn wait_gone(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let is_gone = match (&self.pidfd, &self.member) {
                (Some(pidfd), _) => family::poll_in(pidfd, left),
                (None, Some(then)) => family::member(then.pid)
                    .is_none_or(|now| now.dead || now.started != then.started),
                (None, None) => true,
            };
            if is_gone || left.is_zero() {
                return is_gone;
            }
            if self.pidfd.is_none() {
                std::thread::sleep(left.min(limits::PROCESS_POLL));
            }
        }
    }
}

/// Now in the unit of `Member::started`; all that `/proc` knows of a moment.
pub fn boot_ticks() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split(' ').next().and_then(|text| text.parse().ok());
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let Some(seconds) = seconds.filter(|seconds: &f64| seconds.is_finite()) else {
        return u64::MAX;
    };
    // Rounded up: nobody who was there may seem to have started later.
    ((seconds * ticks).ceil() as u64).saturating_add(1)
}

fn judge(pid: i32, pinned: Option<&OwnedFd>, accepted: u64) -> Result<(), Refusal> {
    if !rustix::process::child_subreaper().is_ok_and(|reaper| reaper.is_some()) {
        let why = "this system does not let the gateway adopt the orphans of its servers";
        return Err(Refusal::Unseen(why));
    }
    if family::member(family::own_pid()).is_none() {
        return Err(Refusal::Unseen("there is no /proc here; mount it"));
    }
    let line = steady_line(pid)?;
    let first = &line[0];
    // A zombie speaks no more, and the number of a process that ended may be a stranger's.
    let has_ended = pinned.is_some_and(|pidfd| family::poll_in(pidfd, Duration::ZERO));
    if first.dead || has_ended || first.started > accepted {
        return Err(Refusal::Gone);
    }
    let own = family::own_pid();
    let is_ours = |member: &Member| {
        member.pid == own || reaper::is_owned(member.pid) || reaper::is_owned(member.group)
    };
    match line.iter().any(is_ours) {
        true => Err(Refusal::Descendant),
        false => Ok(()),
    }
}

/// The process and its ancestors, seen twice alike: while somebody in between ends, his children
/// move to another parent.
fn steady_line(pid: i32) -> Result<Vec<Member>, Refusal> {
    let own = family::own_pid();
    let mut before = line(pid, own, family::member)?;
    for _ in 0..limits::PEER_LOOKS {
        let now = line(pid, own, family::member)?;
        if !now.is_empty() && now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(Refusal::Unseen("its ancestors keep changing"))
}

/// From `pid` up to `own`, or to the one without a parent. Empty when it changed meanwhile.
fn line(pid: i32, own: i32, look: impl Fn(i32) -> Option<Member>) -> Result<Vec<Member>, Refusal> {
    let mut line = vec![look(pid).ok_or(Refusal::Gone)?];
    while line.len() <= limits::PEER_ANCESTORS {
        let last = line[line.len() - 1];
        if last.pid == own || last.parent == 0 {
            return Ok(line);
        }
        let Some(parent) = look(last.parent) else {
            return match look(last.pid).is_some_and(|again| again == last) {
                true => Err(Refusal::Unseen(
                    "/proc hides one of its ancestors (hidepid)",
                )),
                false => Ok(Vec::new()),
            };
        };
        // Parents are older: this is somebody else under a number that was used again.
        if parent.started > last.started {
            return Ok(Vec::new());
        }
        line.push(parent);
    }
    Err(Refusal::Unseen("it has too many ancestors"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{Pinned, Refusal, boot_ticks, examine, line};
    use crate::base::family::{Member, member, open_pidfd, own_pid};
    use crate::base::limits;

    fn row(pid: i32, parent: i32, started: u64) -> Member {
        Member {
            pid,
            started,
            parent,
            group: pid,
            dead: false,
        }
    }

    fn pids(table: &[Member], pid: i32) -> Result<Vec<i32>, Refusal> {
        let look = |pid| table.iter().find(|row| row.pid == pid).copied();
        let line = line(pid, 5, look)?;
        Ok(line.iter().map(|member| member.pid).collect())
    }

    #[test]
    fn goes_up_to_the_gateway_or_to_the_first_process() {
        let table = [row(1, 0, 0), row(5, 1, 10), row(7, 5, 20), row(9, 1, 30)];
        assert_eq!(pids(&table, 7), Ok(vec![7, 5]));
        assert_eq!(pids(&table, 9), Ok(vec![9, 1]));
        assert_eq!(pids(&table, 8), Err(Refusal::Gone));
    }

    #[test]
    fn a_parent_that_is_younger_is_somebody_else() {
        let table = [row(1, 0, 0), row(6, 1, 50), row(7, 6, 20)];
        assert_eq!(pids(&table, 7), Ok(vec![]));
    }

    #[test]
    fn an_ancestor_that_nobody_shows_is_not_trusted() {
        let hidden = pids(&[row(7, 6, 20)], 7);
        assert!(matches!(hidden, Err(Refusal::Unseen(_))), "{hidden:?}");
        let count = limits::PEER_ANCESTORS as i32 + 20;
        let deep: Vec<Member> = (0..count).map(|n| row(n + 10, n + 9, n as u64)).collect();
        let deep = pids(&deep, count + 9);
        assert!(matches!(deep, Err(Refusal::Unseen(_))), "{deep:?}");
    }

    #[test]
    fn a_process_that_is_its_own_peer_descends_from_itself() {
        let (one, _other) = UnixStream::pair().unwrap();
        let (peer, verdict) = examine(&one, boot_ticks()).unwrap();
        assert_eq!(peer.pid, own_pid());
        assert!(verdict.is_err(), "{verdict:?}");
    }

    #[test]
    fn the_end_of_a_process_is_seen_with_a_pidfd_and_without() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pinned = [
            (open_pidfd(pid), None),
            (None, member(pid)),
            (open_pidfd(pid), member(pid)),
        ];
        let pinned = pinned.map(|(pidfd, member)| Pinned { pidfd, member });
        let soon = || Instant::now() + Duration::from_millis(10);
        assert!(!pinned.iter().any(|one| one.wait_gone(soon())));
        child.kill().unwrap();
        let late = Instant::now() + Duration::from_secs(20);
        assert!(pinned.iter().all(|one| one.wait_gone(late)));
        child.wait().unwrap();
        assert!(pinned.iter().all(|one| one.wait_gone(Instant::now())));
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(!Pinned::peer_of(&one).wait_gone(soon()));
    }

    #[test]
    fn ticks_are_those_of_the_process_table() {
        let own = member(own_pid()).unwrap();
        let now = boot_ticks();
        assert!(own.started <= now && now - own.started < 1_000_000, "{now}");
    }
}
