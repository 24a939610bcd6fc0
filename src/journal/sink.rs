//! A destination of the log: a ring that everybody fills, and one thread that writes. Only that
//! thread waits for the destination. While it refuses, lines are kept as far as the ring goes and
//! tried again; what is beyond is lost and counted.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::base::{limits, thread, time};
use crate::journal::fact::{Fact, note};
use crate::journal::file::{LogFile, wait_writable};
use crate::journal::line::{Line, Look};
use crate::journal::ring::Ring;
use crate::journal::server_files::ServerFiles;

/// How often the files were to be opened again.
static REOPENED: AtomicU64 = AtomicU64::new(0);

/// Files are opened again before the next line. Returns at once.
pub fn reopen() {
    REOPENED.fetch_add(1, Ordering::Relaxed);
}

/// How often that was asked for.
pub fn reopened() -> u64 {
    REOPENED.load(Ordering::Relaxed)
}

pub enum Destination {
    Stderr,
    File(LogFile),
    /// The streams of the servers, each into its own file.
    Servers(ServerFiles),
}

pub struct Sink {
    pub ring: Arc<Ring>,
    pub look: Look,
    thread: JoinHandle<()>,
}

/// What the thread works with.
struct Writer {
    ring: Arc<Ring>,
    look: Look,
    destination: Destination,
    reopened: u64,
    /// Lines that wait, and how much of them has been written.
    text: Vec<u8>,
    done: usize,
    is_failing: bool,
}

impl Sink {
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(name: &str, destination: Destination, look: Look) -> io::Result<Sink> {
        let ring = Arc::<Ring>::default();
        let writer = Writer {
            ring: ring.clone(),
            look,
            destination,
            reopened: REOPENED.load(Ordering::Relaxed),
            text: Vec::new(),
            done: 0,
            is_failing: false,
        };
        let thread = thread::spawn(name, limits::STACK_WORKER_BYTES, move || writer.run())?;
        Ok(Sink { ring, look, thread })
    }

    /// After the ring was closed: waits until all is written, at most until `deadline`.
    pub fn finish(self, deadline: Instant) {
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::park_timeout(limits::LOG_FINISH_LOOK);
        }
        if self.thread.is_finished() {
            // A panic of this thread has nowhere to be told.
            let _ = self.thread.join();
        }
    }
}

impl Writer {
    fn run(mut self) {
        loop {
            if self.done == self.text.len() && !self.next() {
                return;
            }
            let reopened = REOPENED.load(Ordering::Relaxed);
            if reopened != self.reopened {
                self.reopened = reopened;
                self.destination.reopen();
            }
            match self.destination.write(&self.text[self.done..]) {
                Ok(taken) => {
                    self.done += taken;
                    // A pipe that is full when the gateway ends has had its time.
                    if self.is_failing && taken > 0 {
                        self.recovered();
                    }
                }
                Err(error) => self.failed(&error),
            }
            if self.is_failing && self.ring.is_closed() {
                return;
            }
        }
    }

    /// Takes what is queued. False at the end.
    fn next(&mut self) -> bool {
        let Some(batch) = self.ring.take(limits::LOG_LOOK) else {
            return false;
        };
        (self.text, self.done) = (batch.text, 0);
        if batch.lost > 0 {
            self.text.extend(self.notice(batch.lost).bytes());
        }
        true
    }

    /// Stands where the lines would have stood.
    fn notice(&self, lost: u64) -> String {
        let line = Line {
            now: &time::now_rfc3339(),
            level: log::Level::Warn,
            target: module_path!(),
            text: &format!("log lines lost count={lost}"),
            request: None,
            trace: None,
        };
        match self.destination {
            Destination::Servers(_) => ServerFiles::packed("", &line.render(self.look)),
            _ => line.render(self.look),
        }
    }

    /// Said once; all other destinations hear of it now, this one when it works again.
    fn failed(&mut self, error: &io::Error) {
        if self.destination.begins_lines_anew() {
            let written = &self.text[..self.done];
            self.done = written
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
        }
        if !self.is_failing {
            self.is_failing = true;
            log::warn!("log not written to={}: {error}", self.destination);
            self.report(Some(error.to_string()));
        }
        self.ring.rest(limits::LOG_RETRY);
    }

    fn recovered(&mut self) {
        self.is_failing = false;
        log::info!("log is written again to={}", self.destination);
        self.report(None);
    }

    fn report(&self, failing: Option<String>) {
        let name = format!("log to {}", self.destination);
        note(Fact::Sink { name, failing });
    }
}

impl Destination {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self {
            Destination::Stderr => write_stderr(text),
            Destination::File(file) => file.write(text),
            Destination::Servers(files) => Ok(files.write(text)),
        }
    }

    fn reopen(&mut self) {
        match self {
            Destination::Stderr => {}
            Destination::File(file) => file.reopen(),
            Destination::Servers(files) => files.reopen(),
        }
    }

    /// After an error nothing of an incomplete line is left there.
    fn begins_lines_anew(&self) -> bool {
        !matches!(self, Destination::Stderr)
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Stderr => f.write_str("stderr"),
            Destination::File(file) => write!(f, "{:?}", file.path()),
            Destination::Servers(files) => write!(f, "{:?}", files.folder()),
        }
    }
}

/// Others write there too (a panic, the watcher), so each write is lines that arrive together.
fn write_stderr(text: &[u8]) -> io::Result<usize> {
    let part = match text.len() {
        all if all <= limits::LOG_STDERR_BYTES => all,
        all => {
            let fitting = memchr::memrchr(b'\n', &text[..limits::LOG_STDERR_BYTES]);
            let first = || memchr::memchr(b'\n', text);
            fitting.or_else(first).map_or(all, |at| at + 1)
        }
    };
    let mut stderr = io::stderr();
    match stderr.write(&text[..part]) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
        // Somebody shares it and does not want to wait.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            wait_writable(&stderr);
            Ok(0)
        }
        other => other,
    }
}

/// How lines on stderr look when they are for people.
pub fn stderr_look() -> Look {
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_dumb = given("TERM").is_none_or(|term| term == "dumb");
    Look::Text {
        colour: io::stderr().is_terminal() && !is_dumb && given("NO_COLOR").is_none(),
    }
}
