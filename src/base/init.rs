//! PID 1 of a container. The gateway itself never is: init forks it, hands signals on, reaps
//! whatever the kernel gives to PID 1, and leaves with the gateway's status.
//!
//! One thread, no open file but stdin, stdout and stderr. Deliberately absent: restarting the
//! gateway, which is the container engine's business.

use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::process::WaitStatus;

use crate::base::limits;
use crate::base::sys;

/// Signals that mean the gateway.
const FORWARDED: [i32; 6] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Forks the gateway and stays behind as init; only the gateway returns.
pub(crate) fn start() -> std::io::Result<()> {
    let mut awaited = FORWARDED.to_vec();
    awaited.push(libc::SIGCHLD);
    // Blocked before the fork: a signal that comes in between waits instead of being lost.
    let signals = sys::block_signals(&awaited);
    match sys::fork() {
        Ok(sys::Fork::Child) => {
            sys::unblock_signals();
            Ok(())
        }
        Ok(sys::Fork::Parent(gateway)) => serve(gateway, &signals),
        Err(error) => {
            sys::unblock_signals();
            Err(error)
        }
    }
}

fn serve(gateway: Pid, signals: &sys::SignalSet) -> ! {
    sys::become_init(c"onemcp-init");
    loop {
        let caught = sys::wait_signal(signals, limits::REAPER_LOOK);
        if let Some(status) = reap(gateway).status {
            end_the_rest(signals);
            sys::exit_now(status);
        }
        if let Some(caught) = caught {
            forward(gateway, &caught);
        }
    }
}

/// A key on the terminal has already reached the gateway: it is in the same group.
fn forward(gateway: Pid, caught: &sys::Caught) {
    if caught.from_kernel || !FORWARDED.contains(&caught.signal) {
        return;
    }
    if let Some(signal) = Signal::from_named_raw(caught.signal) {
        let _ = rustix::process::kill_process(gateway, signal);
    }
}

struct Reaped {
    status: Option<i32>,
    childless: bool,
}

/// Reaps all who ended; the status is the gateway's, as a shell would give it.
fn reap(gateway: Pid) -> Reaped {
    let mut status = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, ended))) if pid == gateway => status = Some(exit_status(ended)),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => {
                return Reaped {
                    status,
                    childless: false,
                };
            }
            Err(_) => {
                return Reaped {
                    status,
                    childless: true,
                };
            }
        }
    }
}

fn exit_status(ended: WaitStatus) -> i32 {
    match (ended.exit_status(), ended.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    }
}

fn end_the_rest(signals: &sys::SignalSet) {
    sys::signal_all(Signal::TERM);
    sys::signal_all(Signal::CONT);
    if !await_childless(signals, limits::INIT_TERM) {
        sys::signal_all(Signal::KILL);
        await_childless(signals, limits::INIT_KILL);
    }
}

fn await_childless(signals: &sys::SignalSet, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    // The gateway is reaped: no pid is asked for, and its number may be an orphan's by now.
    loop {
        if reap(Pid::INIT).childless {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sys::wait_signal(signals, left);
    }
}
