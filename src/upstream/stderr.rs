//! A server's stderr: bounded lines, the last ones kept for diagnosis, all in the server's own log
//! file if there is one, and in the log with the server's name no more than a person can read.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::base::limits;
use crate::base::mask::masked;
use crate::journal;
use crate::wire::lines::{Line, LineReader};

/// The last lines of one server, shared with whoever reports on it.
#[derive(Clone, Default)]
pub struct Tail(Arc<Shared>);

#[derive(Default)]
struct Shared {
    kept: Mutex<Kept>,
    grown: Condvar,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Logged>,
    /// Lines there have been in all.
    count: u64,
}

/// A line of stderr.
#[derive(Debug, Clone)]
pub struct Logged {
    pub at: SystemTime,
    pub text: Arc<str>,
}

/// What a reader has not seen yet.
#[derive(Debug, Default)]
pub struct News {
    /// Lines that came and went meanwhile.
    pub lost: u64,
    pub lines: Vec<Logged>,
    /// Where to go on.
    pub next: u64,
}

impl Tail {
    pub fn lines(&self) -> Vec<String> {
        let kept = self.kept();
        kept.lines
            .iter()
            .map(|line| line.text.to_string())
            .collect()
    }

    pub fn last(&self) -> Option<String> {
        self.kept().lines.back().map(|line| line.text.to_string())
    }

    /// What came after the first `seen` lines. From 0 on nothing counts as lost.
    pub fn after(&self, seen: u64) -> News {
        let kept = self.kept();
        let first = kept.count - kept.lines.len() as u64;
        let skipped = seen.saturating_sub(first).min(kept.lines.len() as u64);
        News {
            lost: match seen {
                0 => 0,
                seen => first.saturating_sub(seen),
            },
            // It is less than the number of lines, which is a usize.
            lines: kept.lines.iter().skip(skipped as usize).cloned().collect(),
            next: kept.count,
        }
    }

    /// Waits for a line after the first `seen`, at most until the deadline.
    pub fn wait(&self, seen: u64, deadline: Instant) {
        let mut kept = self.kept();
        while kept.count <= seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.grown.wait_timeout(kept, left);
            kept = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &str) {
        let mut kept = self.kept();
        if kept.lines.len() >= limits::STDERR_KEPT_LINES {
            kept.lines.pop_front();
        }
        kept.count += 1;
        kept.lines.push_back(Logged {
            at: SystemTime::now(),
            text: line.into(),
        });
        drop(kept);
        self.0.grown.notify_all();
    }
}

/// The stderr thread: until the child closes it.
/// `lines` is made by whoever starts it: the thread of a quiet server allocates nothing.
pub fn run(server: &str, mut lines: LineReader<impl Read>, tail: &Tail) {
    let mut window = Window::new(Instant::now());
    let mut target = String::new();
    loop {
        let text = match lines.next_line() {
            Ok(Some(Line::Text(bytes))) => printable(&String::from_utf8_lossy(bytes)),
            Ok(Some(Line::TooLong { bytes, .. })) => format!("(a line of {bytes} bytes)"),
            Ok(None) | Err(_) => return,
        };
        if text.is_empty() {
            continue;
        }
        if target.is_empty() {
            target = format!("{}{server}", journal::log::SERVER);
        }
        // Before anybody sees it: a server may repeat what it was given.
        let text = masked(&text);
        tail.push(&text);
        journal::log::server_line(server, &text);
        match window.admit(Instant::now()) {
            Admit::Yes => log::info!(target: &target, "{text}"),
            Admit::Last => {
                log::info!(target: &target, "{text} (more is kept but not logged)");
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
    use crate::wire::lines::LineReader;
    use std::time::Instant;

    fn lines_of(text: &str) -> LineReader<&[u8]> {
        LineReader::new(text.as_bytes(), limits::STDERR_LINE_BYTES)
    }

    #[test]
    fn keeps_the_last_lines() {
        let tail = Tail::default();
        let text: String = (0..200).map(|n| format!("line {n}\n")).collect();
        run("s", lines_of(&text), &tail);
        assert_eq!(tail.lines().len(), limits::STDERR_KEPT_LINES);
        assert_eq!(tail.last().as_deref(), Some("line 199"));
    }

    #[test]
    fn a_slow_reader_is_told_what_it_lost() {
        let tail = Tail::default();
        let feed = |text: &str| run("s", lines_of(text), &tail);
        feed("one\n");
        let first = tail.after(0);
        assert_eq!((first.lost, first.lines.len(), first.next), (0, 1, 1));
        assert!(tail.after(1).lines.is_empty());
        let many: String = (0..limits::STDERR_KEPT_LINES + 10)
            .map(|n| format!("line {n}\n"))
            .collect();
        feed(&many);
        let then = tail.after(first.next);
        assert_eq!(
            (then.lost, then.lines.len()),
            (10, limits::STDERR_KEPT_LINES)
        );
        assert_eq!(&*then.lines[0].text, "line 10");
        // Whoever comes late has lost nothing.
        assert_eq!(tail.after(0).lost, 0);
        tail.wait(first.next, Instant::now());
        let before = Instant::now();
        tail.wait(then.next, before + std::time::Duration::from_millis(20));
        assert!(before.elapsed() >= std::time::Duration::from_millis(20));
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
