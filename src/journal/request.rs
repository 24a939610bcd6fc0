//! The request log: one line at `debug` for each request of a client, when it has been answered.
//! Everything happens on the thread that works on the request. While nobody wants these lines,
//! each step costs one comparison.

use std::cell::RefCell;
use std::time::Instant;

use log::Level;

use crate::base::limits;
use crate::journal::log::has_arguments;
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

/// Where these lines are logged, for `--log-modules`.
pub const TARGET: &str = "request";

thread_local! {
    static AT_WORK: RefCell<Option<Entry>> = const { RefCell::new(None) };
}

struct Entry {
    began: Instant,
    method: String,
    arguments: Option<String>,
    /// What it is about: a name or URI as the client wrote it.
    name: Option<String>,
    server: Option<String>,
    outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The tool says that it failed.
    ToolError,
    /// A JSON-RPC error, with its code if that is known.
    Error(Option<i32>),
    Timeout,
    Cancelled,
    /// The client went before there was an answer.
    Gone,
    /// The client was asked something and comes back.
    Parked,
}

impl Outcome {
    /// What the answer of a server says of itself.
    pub fn of(payload: &[u8], is_error: bool) -> Outcome {
        let text = std::str::from_utf8(payload).unwrap_or_default();
        let members = Members::parse(text, 1, FROM_SERVER).ok();
        let member = |key: &str| members.as_ref().and_then(|members| members.get(key));
        match (is_error, member("isError")) {
            (true, _) => Outcome::Error(member("code").and_then(|code| code.parse().ok())),
            (false, Some("true")) => Outcome::ToolError,
            (false, _) => Outcome::Ok,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::ToolError => "tool_error",
            Outcome::Error(_) => "error",
            Outcome::Timeout => "timeout",
            Outcome::Cancelled => "cancelled",
            Outcome::Gone => "client_gone",
            Outcome::Parked => "parked",
        }
    }
}

/// Whether anybody wants these lines.
#[inline]
pub fn is_on() -> bool {
    log::log_enabled!(target: TARGET, Level::Debug)
}

/// The thread begins a request. Its line is written when the guard is dropped.
pub fn begin(method: &str, params: Option<&str>) -> Option<Guard> {
    if !is_on() {
        return None;
    }
    let entry = Entry {
        began: Instant::now(),
        method: method.to_owned(),
        arguments: params.filter(|_| has_arguments()).map(cut),
        name: None,
        server: None,
        outcome: Outcome::Ok,
    };
    AT_WORK.with_borrow_mut(|at_work| *at_work = Some(entry));
    Some(Guard(()))
}

/// The request goes to `server`.
#[inline]
pub fn goes_to(server: &str, name: &str) {
    if is_on() {
        change(|entry| {
            entry.server = Some(server.to_owned());
            entry.name = Some(cut(name));
        });
    }
}

/// What became of it; the last word counts.
#[inline]
pub fn ended(outcome: impl FnOnce() -> Outcome) {
    if is_on() {
        let outcome = outcome();
        change(|entry| entry.outcome = outcome);
    }
}

fn change(edit: impl FnOnce(&mut Entry)) {
    AT_WORK.with_borrow_mut(|at_work| {
        if let Some(entry) = at_work {
            edit(entry);
        }
    });
}

/// Text of a client, bounded.
fn cut(text: &str) -> String {
    match text.char_indices().nth(limits::LOG_ARGUMENT_CHARS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// A request at work.
#[must_use = "the request ends with its guard"]
pub struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(entry) = AT_WORK.take() {
            log::debug!(target: TARGET, "{}", entry.line());
        }
    }
}

impl Entry {
    fn line(&self) -> String {
        let mut line = format!("request done method={:?}", cut(&self.method));
        if let Some(name) = &self.name {
            line.push_str(&format!(" name={name:?}"));
        }
        if let Some(server) = &self.server {
            line.push_str(&format!(" server={server:?}"));
        }
        let ms = self.began.elapsed().as_secs_f64() * 1e3;
        line.push_str(&format!(" ms={ms:.3} outcome={}", self.outcome.as_str()));
        if let Outcome::Error(Some(code)) = self.outcome {
            line.push_str(&format!(" code={code}"));
        }
        if let Some(arguments) = &self.arguments {
            line.push_str(&format!(" params={arguments:?}"));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Entry, Outcome, begin, ended, goes_to};

    #[test]
    fn nothing_is_kept_while_nobody_wants_it() {
        assert!(begin("ping", None).is_none());
        goes_to("s", "n");
        ended(|| unreachable!("nobody asks"));
    }

    #[test]
    fn says_what_it_was_and_how_it_ended() {
        let mut entry = Entry {
            began: Instant::now(),
            method: "tools/call".to_owned(),
            arguments: None,
            name: Some("a\"b".to_owned()),
            server: Some("s".to_owned()),
            outcome: Outcome::Error(Some(-32602)),
        };
        let line = entry.line();
        let start = "request done method=\"tools/call\" name=\"a\\\"b\" server=\"s\" ms=";
        assert!(
            line.starts_with(start) && line.ends_with(" outcome=error code=-32602"),
            "{line}"
        );
        entry.arguments = Some("{\"x\":1}".to_owned());
        assert!(entry.line().ends_with(" params=\"{\\\"x\\\":1}\""));
    }
}
