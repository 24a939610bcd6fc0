//! How much this process may take of the machine, and what it makes of that: fewer connections,
//! bodies and starts at once where there is little, so that the limit is met by an answer and not
//! by the kernel's killer. Measured once, at the first question.
//!
//! Absent on purpose: larger bounds than those of `limits`, and limits that change later.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit, getuid};

use crate::base::{group, limits, memory, sys};

/// What there is.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Bytes; 0: not known.
    memory: u64,
    /// Threads and processes beside those there are.
    tasks: u64,
    files: u64,
    /// Thousandths of a processor.
    cpu: Option<u64>,
}

/// What may be taken of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of clients, at the same time.
    pub connections: usize,
    /// Requests at work for channels, each a thread.
    pub calls: usize,
    /// Servers that start at the same time, unless it is configured.
    pub starts: usize,
    /// Kept for resumption by all streams together.
    pub replay_bytes: usize,
    /// Of large requests at work.
    pub bodies_bytes: usize,
}

/// Those of this process.
pub fn bounds() -> &'static Bounds {
    &measured().1
}

fn measured() -> &'static (Room, Bounds) {
    static MEASURED: OnceLock<(Room, Bounds)> = OnceLock::new();
    MEASURED.get_or_init(|| {
        let room = Room::now();
        (room, room.bounds())
    })
}

impl Room {
    fn now() -> Room {
        let tasks = group::lowest(Path::new("/"), group::TASKS);
        // What a user's other processes have of this is not known; root is exempt.
        let of_user = getrlimit(Resource::Nproc).current;
        let of_user = of_user.filter(|_| !getuid().is_root());
        Room {
            memory: memory::now().limit,
            tasks: tasks.into_iter().chain(of_user).min().unwrap_or(u64::MAX),
            files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            cpu: group::lowest(Path::new("/"), group::CPU),
        }
    }

    fn bounds(&self) -> Bounds {
        let memory = match self.memory {
            0 => u64::MAX,
            known => known,
        };
        let connections = (memory / 2 / limits::CONNECTION_ROOM_BYTES)
            .min((self.tasks / 2).saturating_sub(limits::HEALTH_CONNECTIONS as u64))
            .min(self.files / 4 * 3);
        let starts = self.cpu.map_or(u64::MAX, |cpu| (cpu * 2).div_ceil(1000));
        Bounds {
            connections: within(connections, limits::CONNECTIONS_LEAST, limits::CONNECTIONS),
            calls: within(
                self.tasks / 8,
                limits::CHANNEL_CALLS_LEAST,
                limits::CHANNEL_CALLS,
            ),
            starts: within(starts, 1, limits::CONCURRENT_STARTS),
            replay_bytes: within(
                memory / 16,
                limits::REPLAY_BYTES,
                limits::REPLAY_TOTAL_BYTES,
            ),
            bodies_bytes: within(memory / 16, limits::BODY_BYTES, limits::BODIES_BYTES),
        }
    }
}

fn within(wanted: u64, least: usize, most: usize) -> usize {
    usize::try_from(wanted).unwrap_or(most).clamp(least, most)
}

/// Bytes of large requests that all connections have at work.
static BODIES: AtomicUsize = AtomicUsize::new(0);

/// A part of `bodies_bytes`, given back when it is dropped.
#[derive(Default)]
pub struct Share(usize);

impl Share {
    /// Grows to so many bytes; false when others have the rest. Whoever is alone may take more
    /// than there is: a body that is allowed must have a chance.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.0);
        let others = BODIES.fetch_add(more, Ordering::Relaxed) - self.0;
        self.0 += more;
        others == 0 || others + self.0 <= bounds().bodies_bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Most requests are small, and have none.
        if self.0 > 0 {
            BODIES.fetch_sub(self.0, Ordering::Relaxed);
        }
    }
}

/// What to do when the system refuses a thread, a file or memory; nothing for other errors.
pub fn remedy(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => "; raise the limit of tasks (pids.max of the container, ulimit -u)",
        Some(libc::EMFILE | libc::ENFILE) => "; raise the limit of open files (ulimit -n)",
        Some(libc::ENOMEM) => "; raise the limit of memory",
        _ => "",
    }
}

/// What a program expects of its root, and what becomes of us without it.
const EXPECTED: [(&str, &str); 4] = [
    (
        "/proc/self/stat",
        "control commands are refused, memory in use reads 0, and a daemon of a server is found \
         by its group only; mount proc at /proc",
    ),
    (
        "/dev/null",
        "an empty file takes its place, and servers that open it fail; mount /dev",
    ),
    (
        "/etc/resolv.conf",
        "names are asked of 127.0.0.1 only; write it, or use addresses in URLs",
    ),
    (
        "/etc/hosts",
        "localhost is a name only if the name server knows it; write it, or use 127.0.0.1",
    ),
];

/// Says how much there is, and what is missing; where memory is scarce none is kept for later.
pub fn settle() {
    let (room, bounds) = measured();
    let shown = |number: u64| match number {
        u64::MAX => "unlimited".to_owned(),
        number => number.to_string(),
    };
    log::info!(
        "room memory_mib={} tasks={} files={} cpu_thousandths={} connections={} starts={} \
         bodies_mib={}",
        room.memory >> 20,
        shown(room.tasks),
        shown(room.files),
        shown(room.cpu.unwrap_or(u64::MAX)),
        bounds.connections,
        bounds.starts,
        bounds.bodies_bytes >> 20,
    );
    if (1..limits::MEMORY_TO_SPARE_BYTES as u64).contains(&room.memory) {
        sys::return_freed_memory_at_once();
    }
    for (path, so) in EXPECTED {
        if !Path::new(path).exists() {
            log::warn!("missing what={path} so=\"{so}\"");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Room, Share, bounds};
    use crate::base::limits;

    const MIB: u64 = 1024 * 1024;
    const FULL: Bounds = Bounds {
        connections: limits::CONNECTIONS,
        calls: limits::CHANNEL_CALLS,
        starts: limits::CONCURRENT_STARTS,
        replay_bytes: limits::REPLAY_TOTAL_BYTES,
        bodies_bytes: limits::BODIES_BYTES,
    };
    const LARGE: Room = Room {
        memory: 16_384 * MIB,
        tasks: u64::MAX,
        files: 1 << 20,
        cpu: None,
    };

    #[test]
    fn a_large_machine_has_the_documented_bounds() {
        assert_eq!(LARGE.bounds(), FULL);
        assert_eq!(Room { memory: 0, ..LARGE }.bounds(), FULL);
    }

    #[test]
    fn what_is_scarce_bounds_what_needs_it() {
        let room = Room {
            memory: 64 * MIB,
            ..LARGE
        };
        let expected = Bounds {
            connections: 512,
            replay_bytes: 4 * MIB as usize,
            bodies_bytes: 4 * MIB as usize,
            ..FULL
        };
        assert_eq!(room.bounds(), expected);
        let of_tasks = Room {
            tasks: 100,
            ..LARGE
        }
        .bounds();
        assert_eq!((of_tasks.connections, of_tasks.calls), (34, 12));
        assert_eq!(
            Room {
                files: 1024,
                ..LARGE
            }
            .bounds()
            .connections,
            768
        );
        for (cpu, starts) in [(100, 1), (500, 1), (501, 2), (1500, 3), (16_000, 5)] {
            let cpu = Some(cpu);
            assert_eq!(Room { cpu, ..LARGE }.bounds().starts, starts, "{cpu:?}");
        }
    }

    #[test]
    fn with_nothing_left_it_still_serves() {
        let nothing = Room {
            memory: 1,
            tasks: 0,
            files: 0,
            cpu: Some(0),
        };
        let bounds = nothing.bounds();
        assert_eq!(bounds.connections, limits::CONNECTIONS_LEAST);
        assert_eq!(
            (bounds.calls, bounds.starts),
            (limits::CHANNEL_CALLS_LEAST, 1)
        );
    }

    #[test]
    fn shares_are_bounded_and_given_back() {
        let all = bounds().bodies_bytes;
        let (mut one, mut other) = (Share::default(), Share::default());
        assert!(one.grow(all + 1), "who is alone may take more");
        assert!(!other.grow(1));
        drop((one, other));
        let mut third = Share::default();
        assert!(third.grow(all / 2) && third.grow(all));
    }
}
