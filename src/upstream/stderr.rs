//! A server's stderr: bounded lines, the last ones kept for diagnosis, logged with the server's
//! name, and no more of them than a person can read.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::base::limits;
use crate::wire::lines::{Line, LineReader};

/// The last lines of one server, shared with whoever reports on it.
#[derive(Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    pub fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    pub fn last(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .back()
            .cloned()
    }

    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= limits::STDERR_KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }
}

/// The stderr thread: until the child closes it.
pub fn run(server: &str, stderr: impl Read, tail: &Tail) {
    let mut lines = LineReader::new(stderr, limits::STDERR_LINE_BYTES);
    let mut window = Window::new(Instant::now());
    loop {
        let text = match lines.next_line() {
            Ok(Some(Line::Text(bytes))) => printable(&String::from_utf8_lossy(bytes)),
            Ok(Some(Line::TooLong { bytes, .. })) => format!("(a line of {bytes} bytes)"),
            Ok(None) | Err(_) => return,
        };
        if text.is_empty() {
            continue;
        }
        tail.push(&text);
        match window.admit(Instant::now()) {
            Admit::Yes => log::info!("stderr server={server:?}: {text}"),
            Admit::Last => {
                log::info!("stderr server={server:?}: {text} (more is kept but not logged)");
            }
            Admit::No => {}
        }
    }
}

/// Control characters could move a terminal's cursor or forge a log line.
fn printable(text: &str) -> String {
    text.trim_end()
        .chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Admit {
    Yes,
    Last,
    No,
}

/// Lets so many lines pass in each window of time.
struct Window {
    opened: Instant,
    lines: usize,
}

impl Window {
    fn new(now: Instant) -> Window {
        Window {
            opened: now,
            lines: 0,
        }
    }

    fn admit(&mut self, now: Instant) -> Admit {
        if now.duration_since(self.opened) >= limits::STDERR_WINDOW {
            *self = Window::new(now);
        }
        self.lines += 1;
        match self.lines.cmp(&limits::STDERR_WINDOW_LINES) {
            std::cmp::Ordering::Less => Admit::Yes,
            std::cmp::Ordering::Equal => Admit::Last,
            std::cmp::Ordering::Greater => Admit::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Admit, Tail, Window, printable, run};
    use crate::base::limits;
    use std::time::Instant;

    #[test]
    fn keeps_the_last_lines() {
        let tail = Tail::default();
        let text: String = (0..200).map(|n| format!("line {n}\n")).collect();
        run("s", text.as_bytes(), &tail);
        assert_eq!(tail.lines().len(), limits::STDERR_KEPT_LINES);
        assert_eq!(tail.last().as_deref(), Some("line 199"));
    }

    #[test]
    fn limits_lines_per_window() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let mut admitted = |at: Instant| (0..100).filter(|_| window.admit(at) != Admit::No).count();
        assert_eq!(admitted(start), limits::STDERR_WINDOW_LINES);
        assert_eq!(admitted(start), 0);
        assert_eq!(
            admitted(start + limits::STDERR_WINDOW),
            limits::STDERR_WINDOW_LINES
        );
    }

    #[test]
    fn defuses_terminal_escapes() {
        assert_eq!(printable("a\u{1b}[31mb\r"), "a\u{fffd}[31mb");
    }
}
