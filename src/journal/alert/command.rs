//! An alert for a program: JSON on its stdin, the most important of it in variables. It runs in a
//! group of its own, never through a shell; at its deadline it ends with everybody it started.
//! What it writes is thrown away.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use crate::base::family::{self, Family};
use crate::base::{limits, reaper, sys};
use crate::config::alerts::sink::CommandTarget;
use crate::journal::alert::body::{Speaker, variables, webhook};
use crate::journal::alert::message::Alert;
use crate::net::stop::Stop;

/// Of the gateway's own environment a program gets these.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "TZ"];

/// Only from a thread that goes on until it has ended.
///
/// # Errors
/// Why it did not do its work; the text fits behind "failed to ...".
pub fn run(
    target: &CommandTarget,
    alert: &Alert,
    speaker: &Speaker,
    timeout: Duration,
    stop: &Stop,
) -> Result<String, String> {
    let deadline = Instant::now() + timeout;
    let program = target.argv.first().map_or("", |word| word.expose());
    let file = program.rsplit('/').next().unwrap_or(program).to_owned();
    let cannot = |error: io::Error| format!("start the command {file}: {error}");
    let (child, _owned) = start(target, alert, speaker).map_err(cannot)?;
    let status = Running::new(child).end(deadline, stop);
    match status {
        None => {
            let within = crate::base::time::rounded(timeout);
            Err(format!("finish the command {file} within {within}"))
        }
        Some(status) if status.success() => Ok("exit code 0".to_owned()),
        Some(status) => match status.code() {
            Some(code) => Err(format!("have the command {file} succeed: exit code {code}")),
            None => Err(format!("have the command {file} succeed: it was killed")),
        },
    }
}

fn start(
    target: &CommandTarget,
    alert: &Alert,
    speaker: &Speaker,
) -> io::Result<(Child, reaper::Owned)> {
    let mut words = target.argv.iter().map(|word| word.expose());
    let mut command = Command::new(words.next().unwrap_or_default());
    let own = |name: &&str| -> Option<(OsString, OsString)> {
        Some(((*name).into(), std::env::var_os(name)?))
    };
    command
        .args(words)
        .env_clear()
        .envs(INHERITED.iter().filter_map(own))
        .envs(variables(alert))
        .envs(
            target
                .env
                .iter()
                .map(|(name, value)| (name, value.expose())),
        )
        .stdin(Stdio::from(letter(alert, speaker)?))
        .stdout(sys::nothing()?)
        .stderr(sys::nothing()?)
        .process_group(0);
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (_announcement, announced) = rustix::pipe::pipe_with(flags)?;
    sys::prepare_child(&mut command, announced);
    reaper::spawn(&mut command)
}

/// A file in memory: unlike a pipe it takes everything at once, read or not.
fn letter(alert: &Alert, speaker: &Speaker) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("alert", MemfdFlags::CLOEXEC)?);
    file.write_all(webhook(alert, speaker).to_string().as_bytes())?;
    file.write_all(b"\n")?;
    file.rewind()?;
    Ok(file)
}

/// The program and everybody it started.
struct Running {
    child: Child,
    family: Family,
    group: i32,
}

impl Running {
    fn new(child: Child) -> Running {
        let group = i32::try_from(child.id()).unwrap_or(0);
        Running {
            child,
            family: Family::of_group(group),
            group,
        }
    }

    /// Waits for it, then ends whoever is left. `None` when it had to be killed.
    fn end(&mut self, deadline: Instant, stop: &Stop) -> Option<ExitStatus> {
        let status = self.wait(deadline, stop);
        let all_gone = self.family.kill();
        if status.is_none() {
            family::signal_group(self.group, Signal::KILL);
            let gone = Instant::now() + limits::KILL_WAIT;
            self.wait(gone, &Stop::default());
        }
        if !all_gone {
            log::error!("event=unkillable pgid={} what=alert_command", self.group);
        }
        sys::unwatch_group(self.group);
        status
    }

    fn wait(&mut self, deadline: Instant, stop: &Stop) -> Option<ExitStatus> {
        let pidfd = family::open_pidfd(self.group);
        while !stop.is_stopped() && Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => {
                    let look = Instant::now() + limits::ALERT_COMMAND_LOOK;
                    family::wait_readable(pidfd.as_ref(), look.min(deadline));
                }
                Err(_) => return None,
            }
        }
        None
    }
}
