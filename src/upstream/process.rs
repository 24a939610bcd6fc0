//! One server process and everything it starts: spawned into a group of its own, and never
//! left behind.
//!
//! Owner: the thread that owns the server. [`Process::spawn`] must be called from it, and it
//! must live as long as the child: the death signal (PR_SET_PDEATHSIG) comes when that *thread*
//! ends, not when the program does. Deliberately absent: reading, writing, restarting.

use std::fmt;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStderr;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;

use crate::base::brand;
use crate::base::family;
use crate::base::family::Family;
use crate::base::family::Member;
use crate::base::limits;
use crate::base::reaper;
use crate::base::reaper::Owned;
use crate::base::sys;
use crate::upstream::program;

pub use crate::upstream::program::Cause;
pub use crate::upstream::program::SpawnError;

/// What to run. `env` is the whole environment: nothing of the gateway's own is added.
#[derive(Clone, Default)]
pub struct Spec {
    pub program: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<PathBuf>,
}

/// How long a stop waits: after end of input, and after TERM. Then comes KILL.
#[derive(Clone, Copy, Debug)]
pub struct Graces {
    pub eof: Duration,
    pub term: Duration,
}

impl Default for Graces {
    fn default() -> Graces {
        Graces {
            eof: limits::STOP_EOF,
            term: limits::STOP_TERM,
        }
    }
}

impl Graces {
    /// The usual ones, shortened so that both together take at most `patience`.
    pub fn within(patience: Duration) -> Graces {
        let usual = Graces::default();
        let most = usual.eof + usual.term;
        if patience >= most {
            return usual;
        }
        let eof = patience.mul_f64(usual.eof.as_secs_f64() / most.as_secs_f64());
        Graces {
            eof,
            term: patience.saturating_sub(eof),
        }
    }
}

/// How a process ended. Both are `None` when the system would not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

impl Exit {
    /// As the system calls the signal.
    pub fn signal_name(&self) -> Option<String> {
        let signal = self.signal?;
        let name = signal_name(signal).map(str::to_owned);
        Some(name.unwrap_or_else(|| format!("SIG{signal}")))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exited with code {code}"),
            (None, Some(signal)) => match signal_name(signal) {
                Some(name) => write!(f, "was killed by signal {signal} ({name})"),
                None => write!(f, "was killed by signal {signal}"),
            },
            (None, None) => f.write_str("ended in a way the system does not tell"),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [(i32, &str); 15] = [
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGSYS, "SIGSYS"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGXCPU, "SIGXCPU"),
    ];
    NAMES
        .iter()
        .find(|(number, _)| *number == signal)
        .map(|(_, name)| *name)
}

/// A started server. While it is not reaped its pid, and so its group, cannot be anyone else's.
/// Dropping it kills the whole family.
#[derive(Debug)]
pub struct Process {
    leader: Pid,
    pidfd: Option<OwnedFd>,
    family: Family,
    /// Inodes of our ends of its pipes, as `/proc` writes them: who holds the other end belongs
    /// to this server, whatever its group and parent.
    pipes: Vec<PathBuf>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    owned: Option<Owned>,
    exit: Option<Exit>,
}

impl Process {
    /// Starts `spec` in a process group of its own. Only from the thread that owns the server.
    ///
    /// # Errors
    /// A [`SpawnError`] that names the cause and the remedy.
    pub fn spawn(spec: &Spec) -> Result<Process, SpawnError> {
        start(spec).map_err(|cause| SpawnError {
            program: spec.program.clone(),
            cause,
        })
    }

    fn new(mut child: Child, owned: Owned, leader: Pid) -> Process {
        let pgid = leader.as_raw_pid();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        if let Some(Err(error)) = stdin.as_ref().map(|fd| rustix::io::ioctl_fionbio(fd, true)) {
            log::warn!("event=stdin_blocking pid={pgid} error=\"{error}\"");
        }
        let ends = [
            stdin.as_ref().map(AsFd::as_fd),
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ];
        let inodes = ends
            .into_iter()
            .flatten()
            .filter_map(|fd| rustix::fs::fstat(fd).ok());
        let pipes = inodes
            .map(|stat| format!("pipe:[{}]", stat.st_ino).into())
            .collect();
        Process {
            leader,
            pidfd: family::open_pidfd(pgid),
            family: Family::of_group(pgid),
            pipes,
            stdin,
            stdout,
            stderr,
            owned: Some(owned),
            exit: None,
        }
    }

    pub fn pid(&self) -> i32 {
        self.leader.as_raw_pid()
    }

    /// The group has the number of its leader.
    pub fn pgid(&self) -> i32 {
        self.pid()
    }

    /// Input of the server; never blocks (O_NONBLOCK). Dropping it tells the server to end.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }

    /// Looks who belongs to the server now, so that a process that left its group is found even
    /// when its parents die before it. For a timer of the owner (`limits::FAMILY_LOOK`).
    pub fn observe(&mut self) {
        if self.exit.is_none() {
            self.family.look();
        }
    }

    /// Clock ticks that it and its family have worked.
    pub fn ticks(&mut self) -> u64 {
        let living = self.family.look();
        living.iter().filter_map(|one| family::ticks(one.pid)).sum()
    }

    /// How the server ended, if it did. Does not wait for a running one; after an ended one the
    /// rest of its family is killed, then it is reaped.
    pub fn try_exit(&mut self) -> Option<Exit> {
        if self.exit.is_none() && self.has_ended() {
            return Some(self.kill_now());
        }
        self.exit
    }

    /// Like [`Process::try_exit`], but waits until the deadline.
    pub fn wait_exit(&mut self, deadline: Instant) -> Option<Exit> {
        self.wait_end(deadline);
        self.try_exit()
    }

    /// Ends the server with patience: end of input (the caller has dropped stdin), TERM for the
    /// whole family, KILL. Everyone may use the graces, not only the leader: behind `npx` the
    /// server itself is a grandchild.
    pub fn stop(&mut self, graces: Graces) -> Exit {
        self.stdin = None;
        if let Some(exit) = self.exit {
            return exit;
        }
        // Orphans may use the graces, too.
        self.adopt_strays();
        self.observe();
        if !self.wait_family(Instant::now() + graces.eof) {
            let deadline = Instant::now() + graces.term;
            let living = self.family.look();
            self.family.signal(&living, Signal::TERM);
            // A stopped process takes TERM only when it goes on.
            self.family.signal(&living, Signal::CONT);
            self.wait_family(deadline);
        }
        self.kill_now()
    }

    /// Ends the server and its family at once.
    pub fn kill_now(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        self.stdin = None;
        self.adopt_strays();
        let mut all_gone = self.family.kill();
        // Who was just being born left its parents unseen.
        if self.adopt_strays() {
            all_gone = self.family.kill();
        }
        // The leader is not reaped, so the group is ours even where `/proc` shows nothing.
        family::signal_group(self.pgid(), Signal::KILL);
        if !self.wait_end(Instant::now() + limits::KILL_WAIT) || !all_gone {
            log::error!(
                "event=unkillable pgid={} hint=\"it sleeps in the kernel\"",
                self.pgid()
            );
        }
        sys::unwatch_group(self.pgid());
        let exit = self.reap();
        self.exit = Some(exit);
        self.owned = None;
        exit
    }

    /// Waits for the leader, then for everyone else. False at the deadline.
    fn wait_family(&mut self, deadline: Instant) -> bool {
        self.wait_end(deadline) && self.family.wait_gone(deadline)
    }

    /// Waits until the leader has ended, and leaves it unreaped. False at the deadline.
    fn wait_end(&self, deadline: Instant) -> bool {
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return false;
            }
            family::wait_readable(self.pidfd.as_ref(), deadline);
        }
        true
    }

    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means that there is no such child any more.
        self.exit.is_some()
            || !matches!(
                rustix::process::waitid(WaitId::Pid(self.leader), options),
                Ok(None)
            )
    }

    fn reap(&self) -> Exit {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::Pid(self.leader), options) {
            Ok(Some(status)) => Exit {
                code: status.exit_status(),
                signal: status.terminating_signal(),
            },
            Ok(None) | Err(_) => Exit {
                code: None,
                signal: None,
            },
        }
    }

    /// Takes in orphans (they have become our children) that left the group unseen but bear its
    /// brand or still hold a pipe of this server: the reader of that pipe would wait for them.
    /// True when there is somebody.
    fn adopt_strays(&mut self) -> bool {
        let own = family::own_pid();
        let group = own_group(own);
        let brand = brand::of_group(self.pgid());
        let mut found = false;
        let is_stray =
            |member: &Member| member.parent == own && !member.dead && member.group != group;
        for member in family::processes().iter().filter(|member| is_stray(member)) {
            let elsewhere = reaper::is_owned(member.pid) || reaper::is_owned(member.group);
            let is_branded = || brand.is_some_and(|brand| brand::bears(member.pid, brand));
            if !elsewhere && (is_branded() || family::holds_any(member.pid, &self.pipes)) {
                self.family.adopt(member);
                found = true;
            }
        }
        found
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_now();
    }
}

fn own_group(own: i32) -> i32 {
    family::member(own).map_or(0, |member| member.group)
}

fn start(spec: &Spec) -> Result<Process, Cause> {
    check_strings(spec)?;
    if let Some(directory) = &spec.cwd {
        program::check_directory(directory)?;
    }
    let path = spec.env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map(|(_, value)| value.as_str());
    let file = program::find(&spec.program, path, spec.cwd.as_deref())?;
    let mut command = Command::new(&file);
    command.arg0(&spec.program).args(&spec.args).env_clear();
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = &spec.cwd {
        command.current_dir(directory);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let (announcement, announced) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|error| program::explain(&error.into(), &file))?;
    sys::prepare_child(&mut command, announced);
    match reaper::spawn(&mut command) {
        Ok((child, owned)) => {
            let Some(leader) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
                return Err(Cause::System {
                    reason: "it has no process id".to_owned(),
                });
            };
            Ok(Process::new(child, owned, leader))
        }
        Err(error) => {
            forget_failed(&announcement);
            Err(program::explain(&error, &file))
        }
    }
}

/// A child that could not become the program is gone, but has told the watcher its number,
/// which may be a stranger's one day.
fn forget_failed(announcement: &OwnedFd) {
    let mut line = [0; 16];
    let Ok(length) = rustix::io::read(announcement, &mut line) else {
        return;
    };
    let text = std::str::from_utf8(&line[..length]).unwrap_or_default();
    if let Ok(pgid) = text.trim_matches(['+', '\n']).parse() {
        sys::unwatch_group(pgid);
    }
}

fn check_strings(spec: &Spec) -> Result<(), Cause> {
    if spec.args.iter().any(|arg| arg.contains('\0')) {
        return Err(Cause::BadArgument);
    }
    let is_bad = |name: &str, value: &str| {
        name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
    };
    match spec.env.iter().find(|(name, value)| is_bad(name, value)) {
        Some((name, _)) => Err(Cause::BadVariable { name: name.clone() }),
        None => Ok(()),
    }
}
