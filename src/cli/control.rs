//! The commands that see and steer a running gateway: `status`, `servers`, `wait`, `logs`,
//! `restart`, `enable`, `disable`, `reload`, `drain`, `pins`. On a terminal they speak to a person,
//! otherwise in lines of JSON (`logs`: plain lines). Exit codes: docs/operations.md.

use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::process::DumpableBehavior;
use serde_json::{Value, json};
use signal_hook::consts::SIGTERM;

use crate::base::exit::EXIT_FALSE;
use crate::base::limits;
use crate::cli::args::{ControlFlags, Verb};
use crate::cli::auth;
use crate::cli::deadline::Deadline;
use crate::cli::dialogue::{Dialogue, Said, Target, reach};
use crate::cli::health;
use crate::cli::outcome::{Failure, finish};
use crate::cli::picture::Picture;
use crate::cli::pins;
use crate::cli::say;
use crate::cli::terminal::{Screen, Style, brief, safe, size, wrapped};
use crate::config::process_environment;
use crate::config::settings::{Flags, Settings};

/// How a command writes.
pub(super) struct Voice {
    pub(super) out: io::Stdout,
    pub(super) style: Style,
    /// Objects, because nobody reads along or they were asked for.
    pub(super) json: bool,
}

/// Carries out `verb` at the gateway that `flags` choose.
pub fn run(verb: &Verb, control: &ControlFlags, flags: &Flags) -> ExitCode {
    // A server of the same user must not take our connection out of this process.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let settings = match health::settings(flags, &process_environment()) {
        Ok(settings) => settings,
        Err(failure) => return ExitCode::from(finish(Err(failure), &mut io::stdout())),
    };
    let out = io::stdout();
    let mut voice = Voice {
        style: Style::of(&out),
        // Plain lines are what tools for logs read; objects come only when they are asked for.
        json: control.json || !out.is_terminal() && !matches!(verb, Verb::Logs { .. }),
        out,
    };
    let code = match carry_out(verb, control, &settings, &mut voice) {
        Ok(code) => code,
        // Whoever read the output has gone.
        Err(Failure::Output(_)) => EXIT_FALSE,
        Err(failure) => {
            let code = failure.exit_code();
            let line = json!({"ok": false, "code": code, "error": failure.to_string()});
            voice.fail(&line)
        }
    };
    ExitCode::from(code)
}

fn carry_out(
    verb: &Verb,
    flags: &ControlFlags,
    settings: &Settings,
    voice: &mut Voice,
) -> Result<u8, Failure> {
    let limit = flags.timeout.or(match verb {
        Verb::Wait(_) => Some(limits::WAIT),
        Verb::Status { watch: true } | Verb::Logs { follow: true, .. } | Verb::Drain => None,
        _ => Some(limits::CONTROL_ANSWER),
    });
    let deadline = limit.map(Deadline::after);
    let target = Target::of(flags.socket.as_deref(), settings);
    let stream = match verb {
        Verb::Wait(_) => reach_in_time(&target, settings, deadline)?,
        _ => {
            let most = Instant::now() + limits::CONTROL_ANSWER;
            let until = deadline.map_or(most, |deadline| deadline.at().min(most));
            reach(&target, settings, until)?
        }
    };
    let mut order = order(verb);
    if let (Verb::Wait(_), Some(deadline)) = (verb, deadline) {
        let left = deadline.at().saturating_duration_since(Instant::now());
        order["timeoutMs"] = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into();
    }
    let talk = Talk {
        dialogue: Dialogue::begin(stream, &order)?,
        deadline,
        // The gateway keeps the time of `wait`, and says then what was waited for.
        grace: match verb {
            Verb::Wait(_) => limits::CONTROL_LOOK,
            _ => Duration::ZERO,
        },
        has_heard: false,
    };
    match verb {
        Verb::Status { watch: false } => status(talk, voice),
        Verb::Status { watch: true } => watch(talk, voice),
        Verb::Servers => servers(talk, voice),
        Verb::Logs { .. } => logs(talk, voice),
        Verb::Auth(verb) => auth::tell(verb, talk, voice),
        Verb::PinsDiff(_) => pins_diff(talk, voice),
        _ => change(talk, verb, voice),
    }
}

fn order(verb: &Verb) -> Value {
    match verb {
        Verb::Status { watch: false } | Verb::Servers => json!({"command": "status"}),
        Verb::Status { watch: true } => json!({"command": "watch"}),
        Verb::Wait(server) => json!({"command": "wait", "server": server}),
        Verb::Logs { server, follow } => {
            json!({"command": "logs", "server": server, "follow": follow})
        }
        Verb::Restart(server) => json!({"command": "restart", "server": server}),
        Verb::Enable(server) => json!({"command": "enable", "server": server}),
        Verb::Disable(server) => json!({"command": "disable", "server": server}),
        Verb::Reload => json!({"command": "reload"}),
        Verb::Drain => json!({"command": "drain"}),
        Verb::Auth(verb) => auth::order(verb),
        Verb::PinsDiff(server) => json!({"command": "pins", "server": server}),
        Verb::PinsApprove { server, tools } => {
            json!({"command": "approve", "server": server, "tools": tools})
        }
    }
}

/// A gateway that is about to start is waited for.
fn reach_in_time(
    target: &Target,
    settings: &Settings,
    deadline: Option<Deadline>,
) -> Result<UnixStream, Failure> {
    let began = Instant::now();
    let end = deadline.map_or(began, |deadline| deadline.at());
    let mut progress = Progress::new();
    loop {
        match reach(target, settings, end) {
            Err(Failure::Unreachable(_)) if Instant::now() < end => {
                progress.show("waiting for a gateway");
                let left = end.saturating_duration_since(Instant::now());
                std::thread::sleep(left.min(limits::CONTROL_RETRY));
            }
            result => return result,
        }
    }
}

/// The lines of one order, up to a deadline.
pub(super) struct Talk {
    dialogue: Dialogue,
    deadline: Option<Deadline>,
    /// One that has said something has so much longer for its last word.
    grace: Duration,
    has_heard: bool,
}

pub(super) enum Heard {
    Line(Value, String),
    Last(Value, String),
    /// Nothing for a while: time to draw the clock anew.
    Tick,
}

impl Talk {
    pub(super) fn next(&mut self) -> Result<Heard, Failure> {
        let tick = Instant::now() + limits::CONTROL_LOOK;
        let end = self.deadline.map(|deadline| match self.has_heard {
            true => deadline.at() + self.grace,
            false => deadline.at(),
        });
        let until = end.map_or(tick, |end| end.min(tick));
        match self.dialogue.next(until)? {
            Said::Line(value, text) => {
                self.has_heard = true;
                Ok(match value["ok"].is_boolean() && value["kind"].is_null() {
                    true => Heard::Last(value, text),
                    false => Heard::Line(value, text),
                })
            }
            Said::Silence => match self.deadline {
                Some(deadline) if end.is_some_and(|end| Instant::now() >= end) => {
                    Err(deadline.passed())
                }
                _ => Ok(Heard::Tick),
            },
            Said::End => Err(Failure::Unreachable(
                "the gateway has closed the connection".into(),
            )),
        }
    }
}

impl Voice {
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        let mut out = self.out.lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Says what went wrong and gives the exit code.
    pub(super) fn fail(&mut self, last: &Value) -> u8 {
        let error = last["error"].as_str().unwrap_or("no cause is known");
        let err = io::stderr();
        let columns = match err.is_terminal() {
            true => size(&err).0,
            false => usize::MAX,
        };
        for line in error.lines() {
            let line = format!("onemcp: {}", safe(line, limits::CONTROL_LINE_BYTES));
            wrapped(&line, columns).iter().for_each(|line| say(line));
        }
        if self.json {
            // If it cannot be written, the exit code still tells.
            let _ = self.line(&last.to_string());
        }
        let code = last["code"]
            .as_u64()
            .and_then(|code| u8::try_from(code).ok());
        code.filter(|code| *code > 0).unwrap_or(EXIT_FALSE)
    }
}

/// The servers and the gateway, whole.
fn whole(
    talk: &mut Talk,
    voice: &mut Voice,
    shows: &str,
) -> Result<Result<Picture, Value>, Failure> {
    let mut picture = Picture::default();
    loop {
        match talk.next()? {
            Heard::Line(value, text) => {
                if voice.json && (shows.is_empty() || value["kind"] == shows) {
                    voice.line(&text)?;
                }
                picture.take(value);
            }
            Heard::Last(last, _) if last["ok"] == true => return Ok(Ok(picture)),
            Heard::Last(last, _) => return Ok(Err(last)),
            Heard::Tick => {}
        }
    }
}

fn status(mut talk: Talk, voice: &mut Voice) -> Result<u8, Failure> {
    let picture = match whole(&mut talk, voice, "")? {
        Ok(picture) => picture,
        Err(last) => return Ok(voice.fail(&last)),
    };
    if !voice.json {
        let (columns, _) = size(&voice.out);
        let lines = picture.lines(voice.style, columns);
        voice.line(&lines.join("\n"))?;
    }
    Ok(match picture.is_unhealthy() {
        true => EXIT_FALSE,
        false => 0,
    })
}

fn servers(mut talk: Talk, voice: &mut Voice) -> Result<u8, Failure> {
    let picture = match whole(&mut talk, voice, "server")? {
        Ok(picture) => picture,
        Err(last) => return Ok(voice.fail(&last)),
    };
    if !voice.json {
        let (columns, _) = size(&voice.out);
        let lines = picture.server_lines(voice.style, columns);
        voice.line(&lines.join("\n"))?;
    }
    Ok(0)
}

/// Draws anew whenever something changes, and each second for the clocks.
fn watch(mut talk: Talk, voice: &mut Voice) -> Result<u8, Failure> {
    let mut picture = Picture::default();
    let mut screen = Screen::new(voice.style);
    let mut is_whole = false;
    loop {
        let draw = match talk.next()? {
            Heard::Line(value, text) => {
                if voice.json {
                    voice.line(&text)?;
                }
                let is_complete = picture.take(value);
                is_whole |= is_complete;
                is_complete
            }
            // Without a cursor that moves each picture is a new one: only changes are worth it.
            Heard::Tick => is_whole && voice.style.moves,
            Heard::Last(mut last, _) => {
                if last["ok"] == true {
                    last = json!({"ok": false, "code": 69, "error": "the gateway has ended"});
                }
                return Ok(voice.fail(&last));
            }
        };
        if draw && !voice.json {
            let (columns, rows) = size(&voice.out);
            let lines = picture.lines(voice.style, columns);
            screen.draw(&mut voice.out.lock(), &lines, rows)?;
        }
    }
}

fn logs(mut talk: Talk, voice: &mut Voice) -> Result<u8, Failure> {
    loop {
        match talk.next()? {
            Heard::Line(_, text) if voice.json => voice.line(&text)?,
            Heard::Line(value, _) => match value["kind"].as_str() {
                Some("lost") => say(&format!("onemcp: {} lines are lost", value["lines"])),
                _ => {
                    let line = value["line"].as_str().unwrap_or_default();
                    let line = line.replace('\t', "    ");
                    voice.line(&safe(&line, limits::CONTROL_LINE_BYTES))?;
                }
            },
            Heard::Tick => {}
            Heard::Last(last, _) if last["ok"] == true => return Ok(0),
            Heard::Last(last, _) => return Ok(voice.fail(&last)),
        }
    }
}

fn pins_diff(mut talk: Talk, voice: &mut Voice) -> Result<u8, Failure> {
    loop {
        match talk.next()? {
            Heard::Line(_, text) if voice.json => voice.line(&text)?,
            Heard::Line(value, _) => {
                let (columns, _) = size(&voice.out);
                let lines = pins::lines(&value, voice.style, columns);
                voice.line(&lines.join("\n"))?;
            }
            Heard::Tick => {}
            Heard::Last(last, _) if last["ok"] == true => {
                let is_same = last["differences"] == 0;
                if is_same && !voice.json {
                    voice.line("every tool is as it was pinned")?;
                }
                return Ok(if is_same { 0 } else { EXIT_FALSE });
            }
            Heard::Last(last, _) => return Ok(voice.fail(&last)),
        }
    }
}

/// Orders with one answer, and those that tell how far they are.
fn change(mut talk: Talk, verb: &Verb, voice: &mut Voice) -> Result<u8, Failure> {
    let began = Instant::now();
    let mut progress = Progress::new();
    let mut told = String::new();
    let (last, text) = loop {
        match talk.next() {
            Ok(Heard::Line(value, _)) => told = progress_text(&value),
            Ok(Heard::Tick) => {}
            Ok(Heard::Last(last, text)) => break (last, text),
            // A gateway that was told to end may end before its last word.
            Err(Failure::Unreachable(_)) if *verb == Verb::Drain => {
                let last = json!({"ended": true, "ok": true});
                break (last.clone(), last.to_string());
            }
            Err(failure) => {
                progress.clear();
                return Err(failure);
            }
        }
        progress.show(&told);
    };
    progress.clear();
    if last["ok"] != true {
        return Ok(voice.fail(&last));
    }
    match voice.json {
        true => voice.line(&text)?,
        false => voice.line(&summary(verb, &last, began.elapsed()))?,
    }
    if *verb == Verb::Drain {
        wait_gone(&talk)?;
    }
    Ok(0)
}

/// The last word of a gateway comes a moment before its end. In a container that is the end of
/// everybody: then TERM comes to us too, and what we were asked for is done.
fn wait_gone(talk: &Talk) -> Result<(), Failure> {
    let is_done = Arc::new(AtomicBool::new(true));
    // Without it only the exit code is another one.
    let _ = signal_hook::flag::register_conditional_shutdown(SIGTERM, 0, is_done);
    let soon = Instant::now() + limits::CONTROL_ANSWER;
    let until = talk
        .deadline
        .map_or(soon, |deadline| deadline.at().min(soon));
    match talk.dialogue.wait_gone(until) {
        true => Ok(()),
        false => {
            let what = "the gateway has closed everything, but its process is still there";
            Err(Failure::Timeout(what.into()))
        }
    }
}

fn progress_text(line: &Value) -> String {
    match line["kind"].as_str() {
        Some("progress") => {
            let waiting = line["waiting"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let names = waiting.iter().map(|one| {
                let text = |key: &str| one[key].as_str().unwrap_or_default();
                format!("{} ({})", text("name"), text("state"))
            });
            let names = names.collect::<Vec<_>>().join(", ");
            let (ready, total) = (&line["ready"], &line["total"]);
            format!("{ready} of {total} ready, waiting for {names}")
        }
        Some("draining") => {
            let (calls, sessions) = (&line["calls"], &line["sessions"]);
            format!("draining, calls at work: {calls}, sessions: {sessions}")
        }
        _ => String::new(),
    }
}

/// What was done, in a sentence.
fn summary(verb: &Verb, last: &Value, took: Duration) -> String {
    let report = &last["report"];
    let names = |key: &str| -> Option<String> {
        let names = report[key].as_array().filter(|names| !names.is_empty())?;
        let names = names.iter().filter_map(Value::as_str);
        Some(
            names
                .map(|name| safe(name, 60))
                .collect::<Vec<_>>()
                .join(", "),
        )
    };
    match verb {
        Verb::Wait(_) => {
            let count = last["ready"].as_u64().unwrap_or_default();
            let noun = if count == 1 {
                "server is"
            } else {
                "servers are"
            };
            format!("{count} {noun} ready ({})", brief(took))
        }
        Verb::Restart(name) => format!("{} is starting anew", safe(name, 60)),
        Verb::Enable(name) => format!("{} is enabled", safe(name, 60)),
        Verb::Disable(name) => format!("{} is disabled", safe(name, 60)),
        Verb::Drain => format!("the gateway has ended ({})", brief(took)),
        Verb::PinsApprove { .. } => format!("tools approved: {}", last["approved"]),
        _ => {
            let parts = [
                ("added", "added"),
                ("removed", "removed"),
                ("replaced", "started anew"),
                ("updated", "updated"),
                ("settings", "settings"),
                ("needsRestart", "waiting for a restart of the gateway"),
                ("held", "as before, because a secret or a file is not there"),
            ];
            let parts = parts
                .iter()
                .filter_map(|(key, word)| Some(format!("{word}: {}", names(key)?)));
            let parts = parts.collect::<Vec<_>>().join("; ");
            match parts.as_str() {
                "" => format!("configuration {}: nothing has changed", report["version"]),
                parts => format!("configuration {} is in force; {parts}", report["version"]),
            }
        }
    }
}

/// One line on a terminal's stderr that is drawn again and again; nothing elsewhere.
struct Progress {
    style: Style,
    began: Instant,
    is_shown: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress {
            style: Style::of(&io::stderr()),
            began: Instant::now(),
            is_shown: false,
        }
    }

    fn show(&mut self, text: &str) {
        if !self.style.moves || text.is_empty() {
            return;
        }
        let (columns, _) = size(io::stderr());
        let time = brief(self.began.elapsed());
        let room = columns.saturating_sub(time.len() + 3);
        let line = format!("\r{}  {time}\x1b[K", safe(text, room));
        self.is_shown = true;
        self.write(&line);
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            self.write("\r\x1b[K");
        }
    }

    /// A closed stderr is no reason to fail.
    fn write(&self, text: &str) {
        let mut err = io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
