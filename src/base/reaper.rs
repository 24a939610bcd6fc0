//! The reaper: the gateway is a subreaper, so orphans of its servers become its children, and
//! somebody has to wait for them when they end.
//!
//! Children with an owner are in a register from before they can end until their owner has
//! waited for them; the reaper never touches those. Every child process of the program is
//! therefore started by [`spawn`]. Thread: "reaper". Deliberately absent: exit statuses.

use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::WaitOptions;
use signal_hook::SigId;

use crate::base::family;
use crate::base::family::Family;
use crate::base::limits;
use crate::base::sorted::SortedSet;
use crate::base::sys;
use crate::base::thread;
use crate::base::watcher;

static OWNED: Mutex<SortedSet<i32>> = Mutex::new(SortedSet::new());
static WAKE: Mutex<Option<Arc<UnixStream>>> = Mutex::new(None);

fn owned() -> MutexGuard<'static, SortedSet<i32>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The claim of an owner on its child. Let go of it only after waiting for the child.
#[derive(Debug)]
pub struct Owned {
    pid: i32,
}

impl Drop for Owned {
    fn drop(&mut self) {
        owned().remove(&self.pid);
        // Perhaps the reaper saw only this one and had to leave it.
        wake();
    }
}

/// Starts a child that the reaper leaves alone. The register is locked meanwhile, so that
/// there is no moment in which the child could be taken for an orphan.
///
/// # Errors
/// Those of `Command::spawn`.
pub fn spawn(command: &mut Command) -> io::Result<(Child, Owned)> {
    let mut owned = owned();
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).unwrap_or(0);
    owned.insert(pid);
    Ok((child, Owned { pid }))
}

pub fn is_owned(pid: i32) -> bool {
    owned().contains(&pid)
}

fn wake() {
    let wake = WAKE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(wake) = wake {
        // Full means that it is awake already.
        let _ = (&*wake).write(b"w");
    }
}

/// The running reaper.
#[derive(Debug)]
pub struct Reaper {
    wake: Arc<UnixStream>,
    stopped: Arc<AtomicBool>,
    hook: SigId,
    thread: JoinHandle<()>,
}

/// Starts the reaper; one is enough for a program.
///
/// # Errors
/// When the system refuses a socket pair, a signal handler or a thread.
pub fn start() -> io::Result<Reaper> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    writer.set_nonblocking(true)?;
    let hook = signal_hook::low_level::pipe::register(libc::SIGCHLD, writer.try_clone()?)?;
    let wake = Arc::new(writer);
    *WAKE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&wake));
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    let body = move || run(&reader, &flag);
    let thread = thread::spawn("reaper", limits::STACK_WORKER_BYTES, body)?;
    Ok(Reaper {
        wake,
        stopped,
        hook,
        thread,
    })
}

impl Reaper {
    /// Stops the thread and waits for it.
    pub fn stop(self) {
        self.stopped.store(true, Ordering::Release);
        let _ = (&*self.wake).write(b"s");
        if self.thread.join().is_err() {
            log::error!("event=thread_panicked thread=reaper");
        }
        signal_hook::low_level::unregister(self.hook);
        *WAKE.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn run(mut wake: &UnixStream, stopped: &AtomicBool) {
    let mut buffer = [0; 256];
    while !stopped.load(Ordering::Acquire) {
        let owned = owned();
        reap_orphans(|pid| owned.contains(&pid));
        drop(owned);
        family::poll_in(wake, limits::REAPER_LOOK);
        while matches!(wake.read(&mut buffer), Ok(1..)) {}
    }
}

/// Reaps every ended child that is not `ours`, in a bounded pass.
///
/// The kernel shows only the first of the ended. While that one is ours and its owner has yet
/// to wait for it, those behind it are found in the process table instead.
pub fn reap_orphans(is_ours: impl Fn(i32) -> bool) {
    for _ in 0..limits::ORPHANS {
        match sys::first_ended_child() {
            None => return,
            Some(pid) if is_ours(pid) => break,
            Some(pid) => reap(pid),
        }
    }
    let own = family::own_pid();
    for member in family::processes().iter() {
        if member.parent == own && member.dead && !is_ours(member.pid) {
            reap(member.pid);
        }
    }
}

fn reap(pid: i32) {
    if Some(pid) == watcher::pid() {
        watcher::lost();
    }
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// At the end of the gateway, when every owner has ended its own: ends what servers left behind
/// outside of their groups and what came to us as an orphan. They are asked to end, unless the
/// deadline has passed.
pub fn end_orphans(deadline: Instant) {
    // Whoever ends here may leave children of its own to us.
    for _ in 0..limits::ORPHAN_GENERATIONS {
        let mut strays = strays();
        if strays.is_empty() {
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if !strays.terminate(limits::STOP_TERM.min(left)) && !strays.kill() {
            log::error!("event=unkillable what=orphans hint=\"they sleep in the kernel\"");
            break;
        }
    }
    let owned = owned();
    reap_orphans(|pid| owned.contains(&pid));
}

/// Our children without an owner.
fn strays() -> Family {
    let own = family::own_pid();
    let watcher = watcher::pid();
    let mut strays = Family::default();
    for member in family::processes().iter() {
        let known = Some(member.pid) == watcher || is_owned(member.pid);
        if member.parent == own && !member.dead && !known {
            strays.adopt(member);
        }
    }
    strays
}
