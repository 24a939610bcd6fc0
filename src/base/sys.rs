//! The operating system, where std is not enough: fork, signal masks, process attributes,
//! random bytes. The only file with `unsafe`; what has a safe form in rustix is not here.
//!
//! [`prepare_process`] runs first in `main`, before any thread. The processes it makes live in
//! `init` and `watcher`, the thread that reaps in `reaper`.
#![expect(
    unsafe_code,
    reason = "fork, signal masks and pre_exec have no safe form"
)]

use std::cell::Cell;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SealFlags;
use rustix::process::DumpableBehavior;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use rustix::rand::GetRandomFlags;

use crate::base::brand;
use crate::base::init;
use crate::base::limits;
use crate::base::watcher;

pub use crate::base::reaper::Reaper;
pub use crate::base::reaper::end_orphans;
pub use crate::base::reaper::reap_orphans;
pub use crate::base::reaper::start as start_reaper;
pub use crate::base::watcher::finish as finish_watcher;
pub use crate::base::watcher::unwatch_group;
pub use crate::base::watcher::watch_group;

/// std gives every thread a second stack for a message about overflow, and a thread that gets
/// none ends the whole process: where memory or mappings are scarce, one connection would. It
/// does so only where it finds nobody at these signals when it starts, so this is there before.
/// An overflow still ends at the guard page, with the signal.
#[used]
#[unsafe(link_section = ".init_array")]
static NO_SECOND_STACKS: extern "C" fn() = end_by_memory_faults;

extern "C" fn end_by_memory_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: no thread exists yet; all fields may be zero; the handler does nothing, and
        // with SA_RESETHAND the instruction that is then repeated ends the process.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ignore as *const () as usize;
            action.sa_flags = libc::SA_RESETHAND;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// The limit of open files we were started with: children get it back, because programs exist
/// that walk through all possible descriptors.
static FILES_BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// What the system refused before there was a logger.
static REFUSED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Makes this process fit to own others. Called first in `main`, before any thread exists.
///
/// As PID 1 it forks: the parent becomes init, only the child returns. Otherwise it forks the
/// watcher. Where the system refuses a step the gateway runs without it;
/// [`log_refusals`] says so once there is a logger.
pub fn prepare_process() {
    reset_signals();
    brand::choose();
    if rustix::process::getpid() == Pid::INIT {
        note("fork of init", init::start());
    } else {
        note("fork of the watcher", watcher::start());
    }
    let dumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    note("PR_SET_DUMPABLE", dumpable.map_err(Into::into));
    let subreaper = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    note("PR_SET_CHILD_SUBREAPER", subreaper.map_err(Into::into));
    note("RLIMIT_NOFILE", raise_open_files());
}

fn note(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
        refused.push(format!(
            "event=system_refused what=\"{what}\" error=\"{error}\""
        ));
    }
}

/// Logs what [`prepare_process`] had to do without.
pub fn log_refusals() {
    for line in REFUSED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .drain(..)
    {
        log::warn!("{line}");
    }
}

fn raise_open_files() -> io::Result<()> {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let _ = FILES_BEFORE.set(before);
    Ok(rustix::process::setrlimit(Resource::Nofile, raised)?)
}

/// A parent may have left SIGCHLD ignored (then children vanish unwaited) or signals blocked
/// (then TERM never comes); both survive exec.
fn reset_signals() {
    // SAFETY: SIGCHLD is a valid signal and SIG_DFL a valid disposition; no handler is involved.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // A file at its largest size (`ulimit -f`) is as a full disk, and not the end. With a handler
    // the write fails; children begin without one.
    // SAFETY: SIGXFSZ is a valid signal, and a handler that does nothing is safe in it.
    unsafe { libc::signal(libc::SIGXFSZ, ignore as *const () as usize) };
    unblock_signals();
}

extern "C" fn ignore(_: libc::c_int) {}

/// Which side of a fork this is.
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// Forks, but only while this is the only thread: the copy of a second one's locks would stay
/// locked for ever.
pub(crate) fn fork() -> io::Result<Fork> {
    if fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::Error::other("there is more than one thread already"));
    }
    // SAFETY: there is one thread (checked above; the caller promises it where /proc is not
    // mounted), so the child has a consistent copy of everything.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid)
            .filter(|_| pid > 0)
            .map(Fork::Parent)
            .ok_or_else(io::Error::last_os_error),
    }
}

/// Stdin and stdout, for the one who speaks on them. From now on nobody else reads or writes
/// there: a stray line would be taken for a message.
pub fn take_stdio() -> io::Result<(OwnedFd, OwnedFd)> {
    let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = nothing()?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((input, output))
}

/// A file to read nothing from and to write into in vain: where a root has no /dev/null, an empty
/// one in memory that refuses to grow.
pub fn nothing() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(null) = rustix::fs::open("/dev/null", flags, Mode::empty()) {
        return Ok(null);
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let empty = rustix::fs::memfd_create(c"null", flags)?;
    rustix::fs::fcntl_add_seals(&empty, SealFlags::GROW | SealFlags::SEAL)?;
    Ok(empty)
}

/// Ends the process at once: no destructors, no exit handlers of the program it was forked from.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(status) }
}

/// Ends the process by SIGALRM, where not even a thread can be had to look after the time.
pub fn end_after(patience: Duration) {
    let seconds = u32::try_from(patience.as_secs()).unwrap_or(u32::MAX);
    // SAFETY: takes any number; nobody handles the signal, so it ends the process.
    unsafe { libc::alarm(seconds.max(1)) };
}

/// Turns a forked child into a quiet process of its own: own session, no terminal, no files but
/// `kept`, deaf to the signals meant for the gateway.
pub(crate) fn become_background(name: &CStr, kept: BorrowedFd<'_>) {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(name);
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = rustix::process::chdir("/");
    for signal in [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGPIPE,
    ] {
        // SAFETY: all are valid signals, SIG_IGN is a valid disposition.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    redirect_to_null();
    let kept = kept.as_raw_fd();
    close_files(3, kept - 1);
    close_files(kept + 1, i32::MAX);
}

/// Turns the parent of the gateway into init.
pub(crate) fn become_init(name: &CStr) {
    let _ = rustix::thread::set_name(name);
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    close_files(3, i32::MAX);
}

fn redirect_to_null() {
    match nothing() {
        Ok(null) => {
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(&null);
        }
        Err(_) => close_files(0, 2),
    }
}

/// Closes a range of descriptors, whoever opened them. Only for processes that never return.
fn close_files(first: i32, last: i32) {
    if first > last || close_range(first, last, 0) {
        return;
    }
    for fd in first..=last.min(limits::INHERITED_FILES) {
        // SAFETY: closing a number that is not open is refused; nobody uses these any more.
        unsafe { libc::close(fd) };
    }
}

/// False where the kernel is too old or a sandbox forbids it. Safe between fork and exec.
fn close_range(first: i32, last: i32, flags: u32) -> bool {
    // SAFETY: plain numbers; the callers answer for the descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) == 0 }
}

/// Marks everything from 3 on as not for the next program. Safe between fork and exec.
fn keep_files_from_program() {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    if close_range(3, i32::MAX, CLOSE_RANGE_CLOEXEC) {
        return;
    }
    for fd in 3..limits::INHERITED_FILES {
        // SAFETY: changes a flag of a descriptor, or is refused where there is none.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Sets up what happens in the child between fork and exec: it dies with its parent thread
/// (TERM), is branded and known to the watcher before it can fork, has the original limit of open
/// files and no descriptor but stdin, stdout and stderr. std itself resets signal mask and SIGPIPE.
///
/// The pid is also written to `announced`: when exec fails, std does not tell it.
pub fn prepare_child(command: &mut Command, announced: OwnedFd) {
    let parent = rustix::process::getpid();
    let watcher: Option<Arc<OwnedFd>> = watcher::pipe();
    let files = FILES_BEFORE.get().copied();
    let before_exec = move || {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
        // The parent may have died before the line above: then no signal will come.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let pgid = rustix::process::getpid().as_raw_pid();
        if let Some(brand) = brand::of_group(pgid) {
            brand::bear(brand);
        }
        let (line, length) = watcher::line(b'+', pgid);
        let _ = rustix::io::write(&announced, &line[..length]);
        if let Some(watcher) = &watcher {
            let (line, length) = watcher::announcement(pgid, standard_inodes());
            let _ = rustix::io::write(watcher, &line[..length]);
        }
        if let Some(files) = &files {
            let _ = rustix::process::setrlimit(Resource::Nofile, *files);
        }
        // Our allocator switches huge pages off for the process; that is inherited by programs.
        let _ = rustix::thread::disable_transparent_huge_pages(false);
        keep_files_from_program();
        Ok(())
    };
    // SAFETY: the closure makes system calls only: no allocation, no lock, no panic.
    unsafe { command.pre_exec(before_exec) };
}

/// Those of stdin, stdout and stderr that are pipes, 0 for others. Makes system calls only.
fn standard_inodes() -> [u64; 3] {
    let files = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    files.map(|file| match rustix::fs::fstat(file) {
        Ok(found) if FileType::from_raw_mode(found.st_mode).is_fifo() => found.st_ino,
        _ => 0,
    })
}

/// A set of signals.
pub(crate) struct SignalSet(libc::sigset_t);

/// A signal that was waited for, and whether the kernel sent it (a key on the terminal).
pub(crate) struct Caught {
    pub(crate) signal: i32,
    pub(crate) from_kernel: bool,
}

pub(crate) fn block_signals(signals: &[i32]) -> SignalSet {
    let mut set = empty_set();
    for &signal in signals {
        // SAFETY: `set` is initialised; an invalid number is refused.
        unsafe { libc::sigaddset(&mut set, signal) };
    }
    // SAFETY: `set` is initialised and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    SignalSet(set)
}

pub(crate) fn unblock_signals() {
    let set = empty_set();
    // SAFETY: `set` is initialised and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut()) };
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Waits for one of the blocked signals; none at the timeout.
pub(crate) fn wait_signal(set: &SignalSet, timeout: Duration) -> Option<Caught> {
    // SAFETY: all-zero is a valid timespec.
    let mut limit: libc::timespec = unsafe { std::mem::zeroed() };
    // Both are small; their C types differ between machines.
    limit.tv_sec = timeout.as_secs() as _;
    limit.tv_nsec = timeout.subsec_nanos() as _;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: set, info and limit are valid for the call; all-zero is a valid siginfo_t.
    let (signal, info) = unsafe {
        (
            libc::sigtimedwait(&set.0, info.as_mut_ptr(), &limit),
            info.assume_init(),
        )
    };
    (signal > 0).then_some(Caught {
        signal,
        from_kernel: info.si_code == libc::SI_KERNEL,
    })
}

/// Signals every process there is but this one. Only for init.
pub(crate) fn signal_all(signal: Signal) {
    // SAFETY: plain numbers. As PID 1 this reaches what lives in our own container only.
    unsafe { libc::kill(-1, signal.as_raw()) };
}

/// The first child that ended and is not reaped; it stays as it is.
pub(crate) fn first_ended_child() -> Option<i32> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: info is valid for the call; where nothing ended it stays zero, which is a valid
    // siginfo_t, and its pid is read only for a state change of a child.
    let pid = unsafe {
        if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) != 0 {
            return None;
        }
        info.assume_init().si_pid()
    };
    (pid > 0).then_some(pid)
}

/// Who connected a Unix socket, as the kernel noted it at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// 0 for a process that our process namespace does not show. rustix has no value for that.
    pub(crate) pid: i32,
    pub(crate) uid: u32,
}

pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let none = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let found = socket_option(socket, libc::SO_PEERCRED, none)?;
    Ok(Credentials {
        pid: found.pid,
        uid: found.uid,
    })
}

/// Names the peer for good, even when it has ended. None before Linux 6.5.
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    const SO_PEERPIDFD: i32 = 77;
    let fd = socket_option(socket, SO_PEERPIDFD, -1).ok()?;
    // SAFETY: the kernel has just made this descriptor for us.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn socket_option<T: Copy>(socket: BorrowedFd<'_>, name: i32, before: T) -> io::Result<T> {
    let mut value = before;
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: value has room for `length` bytes, and any bytes are a valid plain T.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &mut length,
        )
    };
    match result {
        0 if length as usize == size_of::<T>() => Ok(value),
        0 => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives back what this thread's heap does not use, for a thread that will be quiet for long.
pub fn rest_heap() {
    // Or else the allocator would be missing in programs that use another one.
    use mimalloc as _;
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: it may be called by any thread at any time, and frees only what nobody holds.
    unsafe { mi_collect(true) }
}

thread_local! {
    /// How far down the stack of this thread goes at least; 0 where nobody said.
    static STACK_END: Cell<usize> = const { Cell::new(0) };
}

/// Called first on a thread that was made with a stack of `bytes`.
pub(crate) fn enter_stack(bytes: usize) {
    let here = address_here();
    // Less than the margin stands above this call: its caller, and what the C library puts there.
    let end = here.saturating_sub(bytes) + limits::STACK_MARGIN_BYTES;
    STACK_END.set(end);
}

#[inline(never)]
fn address_here() -> usize {
    let mut here = 0_u8;
    std::hint::black_box(&raw mut here) as usize
}

/// Gives back the pages of this thread's stack that no call of now stands on. Nothing for a thread
/// that `base::thread` did not make.
pub fn rest_stack() {
    let (page, begin) = (rustix::param::page_size(), STACK_END.get());
    let begin = begin.next_multiple_of(page);
    // One page below this one is left to the calls that follow.
    let end = (address_here() & !(page - 1)).saturating_sub(page);
    if STACK_END.get() == 0 || begin >= end {
        return;
    }
    // SAFETY: the pages belong to the stack of this thread and lie below all its living calls.
    // Whoever calls next finds zeros there, and expects nothing.
    unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_DONTNEED) };
}

/// Lets go of the program's own code: what is run again comes back from the file's pages, and what
/// only the start needed stays out.
pub fn rest_code() {
    // Both are given by the linker.
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    let page = rustix::param::page_size();
    let begin = (&raw const __executable_start as usize).next_multiple_of(page);
    let end = (&raw const etext as usize) & !(page - 1);
    if begin < end {
        let begin = begin as *mut libc::c_void;
        // SAFETY: up to the end of the code nothing is written to, so each page is that of the
        // file, and reading it again finds the same.
        unsafe { libc::madvise(begin, end - begin as usize, libc::MADV_DONTNEED) };
    }
}

/// Gives freed memory back to the system at once rather than when its heap is next used: a thread
/// that sleeps after a large request would keep it.
pub fn return_freed_memory_at_once() {
    use mimalloc as _;
    use std::ffi::{c_int, c_long};
    /// `mi_option_purge_delay` of mimalloc 2 and 3.
    const PURGE_DELAY: c_int = 15;
    unsafe extern "C" {
        fn mi_option_set(option: c_int, value: c_long);
    }
    // SAFETY: it sets a number that the allocator reads; every value of it is valid.
    unsafe { mi_option_set(PURGE_DELAY, 0) }
}

/// Fills `buffer` from the kernel's generator. Ends the process rather than give weak bytes.
pub fn random_bytes(buffer: &mut [u8]) {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::rand::getrandom(&mut buffer[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                log::error!("event=no_random_bytes error=\"{error}\"");
                std::process::abort();
            }
        }
    }
}

/// What the kernel calls this machine.
pub fn host_name() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use crate::base::limits;

    #[test]
    fn a_stack_that_was_given_back_can_be_used_again() {
        fn fill(depth: u8) -> usize {
            let room = std::hint::black_box([depth; 4096]);
            let below = if depth > 0 { fill(depth - 1) } else { 0 };
            below + usize::from(room[usize::from(depth)])
        }
        let body = || {
            let before = fill(20);
            super::rest_stack();
            (before, fill(20))
        };
        let thread = crate::base::thread::spawn("stack", limits::STACK_WORKER_BYTES, body);
        let (before, after) = thread.expect("a thread").join().expect("no fault");
        assert_eq!((before, after), (210, 210));
    }

    #[test]
    fn code_that_was_let_go_runs_on() {
        super::rest_code();
        assert_eq!(super::host_name(), super::host_name());
    }

    #[test]
    fn random_bytes_fill_the_whole_buffer_and_differ() {
        let (mut one, mut two) = ([0; 64], [0; 64]);
        super::random_bytes(&mut one);
        super::random_bytes(&mut two);
        assert_ne!(one, two);
        assert!(
            one.chunks(16)
                .all(|chunk| chunk.iter().any(|byte| *byte != 0))
        );
    }
}
