//! The way to one child's stdin. A caller writes straight into the pipe when it is free;
//! otherwise the line is queued and the writer thread sends what has gathered in one piece.
//! Lines leave in the order in which they were handed in: whoever holds the pipe drains the
//! queue, and nobody writes past a queue that is not empty.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::base::limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The child does not read fast enough: the queue is full.
    Busy,
    Closed,
}

pub struct Outlet {
    pipe: Mutex<Pipe>,
    queued: Queue,
    queued_bytes: AtomicUsize,
    bell: Bell,
    closed: AtomicBool,
}

/// Lines that wait. `reserve` bounds it; a channel that bounds itself takes all its memory at once,
/// for each server.
#[derive(Default)]
struct Queue {
    lines: Mutex<VecDeque<Vec<u8>>>,
    count: AtomicUsize,
}

impl Queue {
    fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn push(&self, line: Vec<u8>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        self.count.store(lines.len(), Ordering::SeqCst);
    }

    fn pop(&self) -> Option<Vec<u8>> {
        if self.len() == 0 {
            return None;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.pop_front();
        if lines.is_empty() {
            lines.shrink_to(limits::OUTLET_KEPT_LINES);
        }
        self.count.store(lines.len(), Ordering::SeqCst);
        line
    }
}

/// Wakes the writer thread, which owns nothing: a thread that allocates nothing costs little.
#[derive(Default)]
struct Bell {
    is_rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.is_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }

    /// Until it rings, or has rung since it was heard, at most for `limit`.
    fn wait(&self, limit: Duration) {
        let is_rung = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .heard
            .wait_timeout_while(is_rung, limit, |is_rung| !*is_rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

struct Pipe {
    /// Non-blocking. `None` once closed.
    stdin: Option<OwnedFd>,
    /// Bytes taken from the queue that the pipe has not taken yet.
    rest: Vec<u8>,
    sent: usize,
}

impl Outlet {
    pub fn new(stdin: OwnedFd) -> Outlet {
        let pipe = Mutex::new(Pipe {
            stdin: Some(stdin),
            rest: Vec::new(),
            sent: 0,
        });
        let (queued_bytes, closed) = (AtomicUsize::new(0), AtomicBool::new(false));
        Outlet {
            pipe,
            queued: Queue::default(),
            queued_bytes,
            bell: Bell::default(),
            closed,
        }
    }

    /// Of lines that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Sends one line (with its line end); waits for room at most until `deadline`.
    pub fn send(&self, line: Vec<u8>, deadline: Instant) -> Result<(), SendError> {
        if let Ok(mut pipe) = self.pipe.try_lock()
            && pipe.rest.is_empty()
            && self.queued.len() == 0
        {
            if pipe.stdin.is_none() {
                return Err(SendError::Closed);
            }
            pipe.rest = line;
            let taken = pipe.write_some().unwrap_or(false);
            drop(pipe);
            self.after_unlock(taken);
            return Ok(());
        }
        self.reserve(line.len(), deadline)?;
        self.queued.push(line);
        self.pump()
    }

    /// The same without waiting: for the child's own reader thread, which must never wait for
    /// the child.
    pub fn try_send(&self, line: Vec<u8>) -> Result<(), SendError> {
        let is_full = self.queued.len() >= limits::OUTLET_LINES;
        if is_full || self.queued_bytes.load(Ordering::Relaxed) > limits::OUTLET_BYTES {
            return Err(SendError::Busy);
        }
        self.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        self.queued.push(line);
        self.pump()
    }

    /// Carries queued lines to the pipe, unless somebody holds it: whoever lets go of the pipe
    /// looks at the queue once more, so no line is left behind.
    fn pump(&self) -> Result<(), SendError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(SendError::Closed);
        }
        // Pairs with the fence in `after_unlock`: either we find the pipe free, or its holder
        // finds our line.
        fence(Ordering::SeqCst);
        for _ in 0..limits::OUTLET_DIRECT_ROUNDS {
            let Ok(mut pipe) = self.pipe.try_lock() else {
                return Ok(());
            };
            self.gather(&mut pipe);
            let taken = pipe.write_some().unwrap_or(false);
            drop(pipe);
            fence(Ordering::SeqCst);
            if !taken {
                break;
            }
            if self.queued.len() == 0 {
                return Ok(());
            }
        }
        self.bell.ring();
        Ok(())
    }

    /// `taken`: the pipe took all that was written.
    fn after_unlock(&self, taken: bool) {
        fence(Ordering::SeqCst);
        if !taken {
            self.bell.ring();
        } else if self.queued.len() > 0 {
            // Closed in the meantime: the callers learn that from their pending calls.
            let _ = self.pump();
        }
    }

    /// Waits for room in short slices, because that is rare. Who waits at the same time may come
    /// in together, each with one line.
    fn reserve(&self, bytes: usize, deadline: Instant) -> Result<(), SendError> {
        const SLICE: Duration = Duration::from_millis(5);
        loop {
            if self.closed.load(Ordering::Acquire) {
                return Err(SendError::Closed);
            }
            let queued = self.queued_bytes.load(Ordering::Relaxed);
            let is_short = self.queued.len() < limits::OUTLET_LINES;
            if is_short && (queued == 0 || queued + bytes <= limits::OUTLET_BYTES) {
                self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(SendError::Busy);
            }
            std::thread::park_timeout(SLICE);
        }
    }

    /// Takes queued lines into `rest`. False when there was nothing.
    fn gather(&self, pipe: &mut Pipe) -> bool {
        while pipe.rest.len() < limits::OUTLET_BATCH_BYTES {
            let Some(line) = self.queued.pop() else {
                break;
            };
            self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            match pipe.rest.is_empty() {
                true => pipe.rest = line,
                false => pipe.rest.extend_from_slice(&line),
            }
        }
        !pipe.rest.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer thread: until the outlet is closed or the child takes nothing for
    /// `limits::OUTLET_STALL`. Returns why it ended.
    pub fn run_writer(&self) -> WriterEnd {
        loop {
            if self.closed.load(Ordering::Acquire) {
                return WriterEnd::Closed;
            }
            // A timeout only means that nothing was left to the writer for a while.
            self.bell.wait(limits::OUTLET_STALL);
            loop {
                let mut pipe = self.lock();
                if pipe.rest.is_empty() && !self.gather(&mut pipe) {
                    break;
                }
                match self.write_waiting(&mut pipe) {
                    WriterEnd::Open => {}
                    ended => return ended,
                }
            }
            fence(Ordering::SeqCst);
            if self.queued.len() > 0 {
                self.bell.ring();
            }
        }
    }

    /// Writes all of `rest`, waiting for the child to read.
    fn write_waiting(&self, pipe: &mut Pipe) -> WriterEnd {
        let mut last_progress = Instant::now();
        loop {
            let before = pipe.sent;
            match pipe.write_some() {
                Ok(true) => return WriterEnd::Open,
                Ok(false) => {}
                Err(_) => return WriterEnd::Broken,
            }
            if pipe.sent > before {
                last_progress = Instant::now();
            }
            if self.closed.load(Ordering::Acquire) {
                return WriterEnd::Closed;
            }
            if last_progress.elapsed() > limits::OUTLET_STALL {
                return WriterEnd::Stalled;
            }
            pipe.wait_writable();
        }
    }

    /// Lets go of the pipe: the child sees the end of its input.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.bell.ring();
        self.lock().stdin = None;
    }
}

/// Why the writer thread stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterEnd {
    Open,
    Closed,
    Broken,
    Stalled,
}

impl Pipe {
    /// Writes what the pipe takes now. True when nothing is left.
    fn write_some(&mut self) -> io::Result<bool> {
        let Some(stdin) = &self.stdin else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        while self.sent < self.rest.len() {
            match rustix::io::write(stdin, &self.rest[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.rest.clear();
        self.rest.shrink_to(limits::OUTLET_BATCH_BYTES);
        self.sent = 0;
        Ok(true)
    }

    /// In slices, so that closing is noticed.
    fn wait_writable(&self) {
        let slice = Timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        if let Some(stdin) = &self.stdin {
            // An interrupted or failed poll only means that the write is tried again.
            let _ = poll(&mut [PollFd::new(stdin, PollFlags::OUT)], Some(&slice));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outlet, SendError, WriterEnd};
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    fn outlet() -> (Arc<Outlet>, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let stdin = OwnedFd::from(writer);
        rustix::io::ioctl_fionbio(&stdin, true).expect("non-blocking");
        (Arc::new(Outlet::new(stdin)), reader)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn lines_of_many_senders_arrive_whole_and_in_each_senders_order() {
        let (outlet, mut reader) = outlet();
        let writer = outlet.clone();
        let writing = std::thread::spawn(move || writer.run_writer());
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                let outlet = outlet.clone();
                std::thread::spawn(move || {
                    for n in 0..500 {
                        let line = format!("{sender} {n} {}\n", "x".repeat(n * 7 % 3000));
                        outlet.send(line.into_bytes(), soon()).expect("room");
                    }
                })
            })
            .collect();
        let closer = outlet.clone();
        let closing = std::thread::spawn(move || {
            senders
                .into_iter()
                .for_each(|sender| sender.join().expect("sender"));
            while closer.queued.len() > 0 || !closer.lock().rest.is_empty() {
                std::thread::yield_now();
            }
            closer.close();
        });
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        closing.join().expect("closing");
        assert_eq!(writing.join().expect("writer"), WriterEnd::Closed);
        let mut next = [0; 8];
        for line in text.lines() {
            let mut words = line.split(' ');
            let sender: usize = words.next().and_then(|w| w.parse().ok()).expect("sender");
            let n: usize = words.next().and_then(|w| w.parse().ok()).expect("number");
            assert_eq!(n, next[sender], "order of sender {sender}");
            assert_eq!(words.next().map(str::len), Some(n * 7 % 3000));
            next[sender] += 1;
        }
        assert_eq!(next, [500; 8]);
    }

    #[test]
    fn a_child_that_does_not_read_makes_callers_busy_not_stuck() {
        let (outlet, _reader) = outlet();
        let until = Instant::now() + Duration::from_millis(100);
        let refused = (0..100).find_map(|_| outlet.send(vec![b'x'; 1 << 20], until).err());
        assert_eq!(refused, Some(SendError::Busy));
        assert_eq!(outlet.try_send(vec![b'x'; 10]).err(), None);
        outlet.close();
        assert_eq!(outlet.send(vec![1], until), Err(SendError::Closed));
    }
}
