//! A secret from a program: its words are given one by one, never to a shell. It runs in a group
//! of its own, with an environment of its own, bounded in time and output; what it starts ends
//! with it. What it writes to stderr is thrown away: it could be the secret.

use std::fmt;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use crate::base::family::{self, Family};
use crate::base::{limits, reaper, sys};
use crate::net::stop::Stop;
use crate::secrets::answer::Answer;
use crate::secrets::directory;

/// Stands for the name of the secret in the words of a command, and in paths of a vault.
pub const NAME: &str = "{name}";

#[derive(Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    pub timeout: Duration,
}

impl fmt::Debug for CommandSpec {
    /// Arguments and variables may hold what opens the store.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSpec")
            .field("program", &self.words.first())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl CommandSpec {
    pub fn label(&self) -> String {
        let program = self.words.first().map_or("", String::as_str);
        format!("command {program}")
    }
}

/// Only from a thread that lives as long as the program runs. `stop` ends the program.
pub fn ask(spec: &CommandSpec, name: &str, stop: &Stop) -> Answer {
    run(spec, name, stop).unwrap_or_else(|trouble| trouble)
}

fn run(spec: &CommandSpec, name: &str, stop: &Stop) -> Result<Answer, Answer> {
    let deadline = Instant::now() + spec.timeout;
    let mut words = spec.words.iter().map(|word| word.replace(NAME, name));
    let mut command = Command::new(words.next().unwrap_or_default());
    let cannot = |error: std::io::Error| Answer::Away(format!("cannot be started: {error}"));
    let nothing = || sys::nothing().map_err(cannot);
    command
        .args(words)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .stdin(nothing()?)
        .stdout(Stdio::piped())
        .stderr(nothing()?)
        .process_group(0);
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (_announcement, announced) =
        rustix::pipe::pipe_with(flags).map_err(|error| cannot(error.into()))?;
    sys::prepare_child(&mut command, announced);
    // Let go of the claim only after waiting for the child.
    let (child, _owned) = reaper::spawn(&mut command).map_err(cannot)?;
    let mut running = Running::new(child, stop);
    let output = running.output(deadline);
    let status = running.end(deadline);
    let output = output?;
    match status {
        None => {
            let ms = spec.timeout.as_millis();
            Err(Answer::Away(format!("did not end within {ms} ms")))
        }
        Some(status) if !status.success() => Err(Answer::Trouble(ended(status))),
        Some(_) => match directory::value(output) {
            Ok(value) => Ok(Answer::Found(value)),
            Err(why) => Err(Answer::Trouble(format!("its output: {why}"))),
        },
    }
}

fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exited with code {code}"),
        None => "was killed".into(),
    }
}

/// The program and everybody it started.
struct Running<'s> {
    child: Child,
    family: Family,
    group: i32,
    stop: &'s Stop,
}

impl Running<'_> {
    fn new(child: Child, stop: &Stop) -> Running<'_> {
        let group = i32::try_from(child.id()).unwrap_or(0);
        Running {
            child,
            family: Family::of_group(group),
            group,
            stop,
        }
    }

    /// What is left until `deadline`; nothing when it is to be ended now.
    fn left(&self, deadline: Instant) -> Duration {
        match self.stop.is_stopped() {
            true => Duration::ZERO,
            false => deadline.saturating_duration_since(Instant::now()),
        }
    }

    /// Everything up to the end of its output.
    fn output(&mut self, deadline: Instant) -> Result<Vec<u8>, Answer> {
        let mut bytes = Vec::new();
        let Some(mut stdout) = self.child.stdout.take() else {
            return Ok(bytes);
        };
        let mut buffer = [0; 4096];
        loop {
            let left = self.left(deadline);
            if left.is_zero() {
                let why = "did not end its output in time";
                return Err(Answer::Away(why.into()));
            }
            if !family::poll_in(&stdout, left.min(limits::SECRET_LOOK)) {
                continue;
            }
            match stdout.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    let why = format!("its output cannot be read: {error}");
                    return Err(Answer::Trouble(why));
                }
            }
            // Room for the line break that is cut.
            if bytes.len() > limits::SECRET_BYTES + 2 {
                let why = format!("wrote more than {} bytes", limits::SECRET_BYTES);
                return Err(Answer::Trouble(why));
            }
        }
    }

    /// Waits for it, then ends whoever is left. `None` when it had to be killed.
    fn end(&mut self, deadline: Instant) -> Option<ExitStatus> {
        let pidfd = family::open_pidfd(self.group);
        let mut status = None;
        loop {
            let left = self.left(deadline).min(limits::SECRET_LOOK);
            if status.is_some() || left.is_zero() {
                break;
            }
            match self.child.try_wait() {
                Ok(None) => {
                    family::wait_readable(pidfd.as_ref(), Instant::now() + left);
                }
                Ok(ended) => status = ended,
                Err(_) => break,
            }
        }
        self.clear(status.is_none());
        status
    }

    fn clear(&mut self, is_running: bool) {
        if !self.family.kill() {
            log::error!("event=unkillable pgid={} what=secret_command", self.group);
        }
        if is_running {
            family::signal_group(self.group, Signal::KILL);
            let gone = Instant::now() + limits::KILL_WAIT;
            let pidfd = family::open_pidfd(self.group);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < gone {
                family::wait_readable(pidfd.as_ref(), gone);
            }
        }
        sys::unwatch_group(self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandSpec, ask};
    use crate::base::limits;
    use crate::net::stop::Stop;
    use crate::secrets::answer::Answer;
    use crate::secrets::store::testing::Folder;
    use std::time::{Duration, Instant};

    fn shell(script: &str, timeout_ms: u64) -> CommandSpec {
        CommandSpec {
            words: ["sh", "-c", script, "sh", "{name}"]
                .map(str::to_owned)
                .into(),
            env: vec![("PATH".into(), std::env::var("PATH").unwrap_or_default())],
            timeout: Duration::from_millis(timeout_ms),
        }
    }

    fn why(spec: &CommandSpec) -> String {
        let answer = ask(spec, "api-key", &Stop::default());
        answer.trouble().expect("trouble").to_owned()
    }

    #[test]
    fn the_output_is_the_secret_and_the_name_a_word() {
        let answer = ask(
            &shell("echo \"of $1\"", 20_000),
            "api-key",
            &Stop::default(),
        );
        assert_eq!(answer, Answer::Found("of api-key".into()));
    }

    #[test]
    fn what_goes_wrong_is_told_without_its_output() {
        let failed = why(&shell(
            "echo canary-out; echo canary-err >&2; exit 3",
            20_000,
        ));
        assert_eq!(failed, "exited with code 3");
        let empty = why(&shell("true", 20_000));
        assert_eq!(empty, "its output: it is empty");
        let mut none = shell("", 20_000);
        none.words[0] = "/no/such/program".into();
        assert!(why(&none).contains("cannot be started"));
    }

    #[test]
    fn the_end_of_the_gateway_ends_it() {
        for script in ["exec sleep 300", "exec >&-; exec sleep 300"] {
            let stop = Stop::default();
            let other = stop.clone();
            let began = Instant::now();
            let asked = std::thread::scope(|scope| {
                let asked = scope.spawn(|| ask(&shell(script, 60_000), "k", &stop));
                other.stop();
                asked.join().unwrap()
            });
            assert!(matches!(asked, Answer::Away(_)), "{asked:?}");
            assert!(began.elapsed() < Duration::from_secs(20), "{script}");
        }
    }

    #[test]
    fn time_and_output_are_bounded_and_nobody_is_left() {
        let folder = Folder::new("command");
        let note = folder.path("pid");
        let script = format!("sleep 300 & echo $! > {}; sleep 300", note.display());
        let began = Instant::now();
        assert!(why(&shell(&script, 700)).contains("in time"));
        let own = "yes x";
        assert!(why(&shell(own, 20_000)).contains(&limits::SECRET_BYTES.to_string()));
        assert!(began.elapsed() < Duration::from_secs(15));
        let pid: i32 = std::fs::read_to_string(&note)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let living = crate::base::family::member(pid).filter(|member| !member.dead);
        assert_eq!(living, None);
    }
}
