//! One sink of the audit log: a bounded backlog of whole lines, and the thread that writes them.
//! Only that thread waits for its destination, and tries again until it takes them. Lines for
//! which there is no room are lost to this sink; it says so, in the log itself, when it is well.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::{limits, thread};
use crate::journal::audit::event::{Event, Outcome, Reason};
use crate::journal::audit::record::Record;
use crate::journal::audit::target::Target;
use crate::journal::audit::{failing, note};
use crate::journal::fact::{self, Fact};
use crate::journal::sink;
use crate::net::stop::Stop;

pub struct Outlet {
    name: &'static str,
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
}

struct Desk {
    state: Mutex<State>,
    changed: Condvar,
    /// The end has no more time: what is under way is given up.
    stop: Stop,
    is_late: AtomicBool,
}

#[derive(Default)]
struct State {
    text: Vec<u8>,
    /// A checkpoint is among it: what is kept beside the log then.
    head: Option<String>,
    /// First and last number of the lines that had no room, and how many.
    lost: Option<(u64, u64)>,
    /// Since when nothing has been taken of the lines that are here or being written, if any are.
    waits: Option<Instant>,
    is_failing: bool,
    is_closed: bool,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The sink takes nothing, or takes lines again. Said when it changes, in that order.
    fn turn(&mut self, name: &str, trouble: Option<&str>) {
        let was = std::mem::replace(&mut self.is_failing, trouble.is_some());
        if was == trouble.is_some() {
            return;
        }
        failing(!was);
        match trouble {
            Some(why) => log::error!("audit lines not written sink={name}: {why}"),
            None => log::info!("audit lines are written again sink={name}"),
        }
        let failing = trouble.map(str::to_owned);
        let name = format!("audit log to {name}");
        fact::note(Fact::Sink { name, failing });
    }

    /// Whether it has stood still for long.
    fn look(&mut self, name: &str) {
        // An answer takes its time.
        let most = match name {
            "webhook" => limits::AUDIT_WEBHOOK_TIMEOUT,
            _ => limits::AUDIT_STALL,
        };
        if self.waits.is_some_and(|since| since.elapsed() >= most) {
            self.turn(name, Some("it takes nothing"));
        }
    }
}

impl Outlet {
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(name: &'static str, target: Target) -> io::Result<Outlet> {
        let desk = Arc::new(Desk {
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: Stop::default(),
            is_late: AtomicBool::new(false),
        });
        let writer = Writer {
            name,
            target,
            desk: desk.clone(),
            reopened: sink::reopened(),
            failed: 0,
            text: Vec::new(),
            owed: None,
            synced: Instant::now(),
        };
        let run = move || writer.run();
        let thread = thread::spawn(&format!("audit-{name}"), limits::STACK_REMOTE_BYTES, run)?;
        Ok(Outlet { name, desk, thread })
    }

    /// Whole lines, those numbered from `first` to `last`.
    pub fn push(&self, text: &[u8], numbers: (u64, u64), head: Option<&str>) {
        self.add(text.len(), numbers, head, |all| all.extend_from_slice(text));
    }

    /// The same without a copy, if nothing waits here: then `text` is other room.
    pub fn take(&self, text: &mut Vec<u8>, numbers: (u64, u64), head: Option<&str>) {
        self.add(text.len(), numbers, head, |all| match all.is_empty() {
            true => std::mem::swap(all, text),
            false => all.extend_from_slice(text),
        });
    }

    fn add(
        &self,
        bytes: usize,
        (first, last): (u64, u64),
        head: Option<&str>,
        add: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut state = self.desk.state();
        // Who hangs in the system cannot say so.
        state.look(self.name);
        // After the first that is lost all are, so that those that are missing stand side by side.
        let is_full = state.text.len() + bytes > limits::AUDIT_BACKLOG_BYTES;
        if is_full || state.lost.is_some() {
            let from = state.lost.map_or(first, |(from, _)| from);
            state.lost = Some((from, last));
            return;
        }
        add(&mut state.text);
        state.waits = state.waits.or_else(|| Some(Instant::now()));
        if let Some(head) = head {
            state.head = Some(head.to_owned());
        }
        drop(state);
        self.desk.changed.notify_all();
    }

    pub fn close(&self) {
        self.desk.state().is_closed = true;
        self.desk.changed.notify_all();
    }

    /// After it was closed: waits until all is written, at most until `deadline`.
    pub fn finish(self, deadline: Instant) {
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::park_timeout(limits::LOG_FINISH_LOOK);
        }
        self.desk.is_late.store(true, Ordering::Relaxed);
        self.desk.stop.stop();
        self.desk.changed.notify_all();
        // A pipe that nobody reads cannot be left: then the process ends around the thread.
        let last = Instant::now() + limits::LOG_PIPE_WAIT * 2;
        while !self.thread.is_finished() && Instant::now() < last {
            std::thread::park_timeout(limits::LOG_FINISH_LOOK);
        }
        if self.thread.is_finished() && self.thread.join().is_err() {
            log::error!("thread of an audit sink panicked");
        }
    }
}

/// The thread.
struct Writer {
    name: &'static str,
    target: Target,
    desk: Arc<Desk>,
    reopened: u64,
    /// Tries in a row that failed.
    failed: u32,
    /// What is being written; in the end its room is the backlog's.
    text: Vec<u8>,
    /// Of a checkpoint that is not on the disk for certain.
    owed: Option<String>,
    synced: Instant,
}

impl Writer {
    fn run(mut self) {
        while self.next() {
            if !self.write() {
                break;
            }
        }
        self.sync();
        // Whoever ends is not failing any more.
        if std::mem::take(&mut self.desk.state().is_failing) {
            failing(false);
        }
    }

    /// Waits for lines. False at the end.
    fn next(&mut self) -> bool {
        let desk = self.desk.clone();
        let mut state = desk.state();
        loop {
            if !state.text.is_empty() {
                self.text.clear();
                std::mem::swap(&mut self.text, &mut state.text);
                self.owed = state.head.take().or(self.owed.take());
                return true;
            }
            if state.is_closed {
                return false;
            }
            if let Some(lost) = state.lost.take() {
                drop(state);
                self.tell_lost(lost);
                state = desk.state();
                continue;
            }
            let due = self.synced + limits::AUDIT_SYNC_EVERY;
            let left = due.saturating_duration_since(Instant::now());
            if self.owed.is_some() && left.is_zero() {
                drop(state);
                self.sync();
                state = desk.state();
                continue;
            }
            let wait = match self.owed {
                Some(_) => left,
                None => limits::AUDIT_CHECKPOINT_EVERY,
            };
            let waited = desk.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// False when it is given up, at the end.
    fn write(&mut self) -> bool {
        let text = std::mem::take(&mut self.text);
        let mut done = 0;
        while done < text.len() {
            if self.desk.is_late.load(Ordering::Relaxed) {
                log::error!("audit lines not written sink={}", self.name);
                // It would tell of lines that are not there.
                self.owed = None;
                return false;
            }
            let reopened = sink::reopened();
            if reopened != self.reopened {
                self.reopened = reopened;
                self.target.reopen();
            }
            match self.target.write(&text[done..], &self.desk.stop) {
                Ok(0) => self.desk.state().look(self.name),
                Ok(taken) => {
                    done += taken;
                    self.took(done == text.len());
                }
                Err(error) => {
                    if self.target.begins_lines_anew() {
                        done = memchr::memrchr(b'\n', &text[..done]).map_or(0, |at| at + 1);
                    }
                    self.failed(&error);
                }
            }
        }
        self.text = text;
        self.text.clear();
        // What a burst needed is not kept.
        self.text.shrink_to(4 * limits::AUDIT_HURRY_BYTES);
        if self.synced.elapsed() >= limits::AUDIT_SYNC_EVERY {
            self.sync();
        }
        true
    }

    /// Brings a checkpoint to the disk, if there is one that is not there.
    fn sync(&mut self) {
        if let Some(head) = self.owed.take() {
            self.synced = Instant::now();
            if let Err(error) = self.target.sync(&head) {
                log::warn!("audit log not brought to the disk: {error}");
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.failed = self.failed.saturating_add(1);
        let why = error.to_string();
        self.desk.state().turn(self.name, Some(&why));
        let wait = limits::LOG_RETRY * 2u32.pow(self.failed.min(6) - 1);
        self.rest(wait.min(self.target.retry_most()));
    }

    /// A pause that the end of the gateway cuts short once.
    fn rest(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.desk.state();
        while !state.is_closed || !self.desk.is_late.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.desk.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn took(&mut self, all: bool) {
        self.failed = 0;
        let mut state = self.desk.state();
        let waits = !all || !state.text.is_empty();
        state.waits = waits.then(Instant::now);
        state.turn(self.name, None);
    }

    /// Those lines are in other sinks, or nowhere: their place here is told.
    fn tell_lost(&self, (first, last): (u64, u64)) {
        let (what, count) = (format!("audit log to {}", self.name), last - first + 1);
        fact::note(Fact::Lost { what, count });
        note(Record {
            reason: Some(Reason::Sink),
            name: self.name,
            count: Some(count),
            detail: &format!("lines {first} to {last}"),
            ..Record::new(Event::AuditGap, Outcome::Error)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::{Condvar, Desk, Mutex, Outlet, Stop};
    use crate::base::limits;

    #[test]
    fn lines_that_are_lost_stand_side_by_side() {
        let desk = Arc::new(Desk {
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: Stop::default(),
            is_late: AtomicBool::new(false),
        });
        let outlet = Outlet {
            name: "stdout",
            desk: desk.clone(),
            thread: std::thread::spawn(|| {}),
        };
        let large = vec![b'x'; limits::AUDIT_BACKLOG_BYTES - 10];
        outlet.push(&large, (1, 2), None);
        outlet.push(&large, (3, 4), None);
        // There is room for this one, but lines before it are missing.
        outlet.push(b"x\n", (5, 5), None);
        let state = desk.state();
        assert_eq!((state.lost, state.text.len()), (Some((3, 5)), large.len()));
    }
}
