//! Lines on their way to one destination: bounded in lines and bytes. Whoever logs never waits;
//! what has no room is counted, and the count stands exactly where the lines would have stood.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;

/// Lines that no destination took, in this process.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Log lines that are lost for good, of all destinations, since the start.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Counts lines that are lost beside a ring.
pub fn count_lost(lines: u64) {
    LOST.fetch_add(lines, Ordering::Relaxed);
}

#[derive(Default)]
pub struct Ring {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    batch: Batch,
    /// The reader has taken everything, and is done with it.
    is_idle: bool,
    is_closed: bool,
}

/// Whole lines, each with its end, and how many are missing after them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub text: Vec<u8>,
    pub lines: usize,
    pub lost: u64,
}

impl Ring {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `line` ends with its line break.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.state();
        let batch = &mut state.batch;
        let is_full =
            batch.lines >= limits::LOG_LINES || batch.text.len() + line.len() > limits::LOG_BYTES;
        // After the first that is lost all are, so that the count has one place.
        if is_full || batch.lost > 0 {
            batch.lost += 1;
            drop(state);
            return count_lost(1);
        }
        let was_empty = batch.lines == 0;
        batch.text.extend_from_slice(line);
        batch.lines += 1;
        drop(state);
        if was_empty {
            self.changed.notify_all();
        }
    }

    /// What is there; an empty batch when nothing came for so long. Nothing more comes after
    /// `None`.
    pub fn take(&self, wait: Duration) -> Option<Batch> {
        let deadline = Instant::now() + wait;
        let mut state = self.state();
        while state.batch.lines == 0 && state.batch.lost == 0 {
            state.is_idle = true;
            if state.is_closed {
                self.changed.notify_all();
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(Batch::default());
            }
            self.changed.notify_all();
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_idle = false;
        Some(std::mem::take(&mut state.batch))
    }

    /// A pause of whoever reads here; it ends early when the ring is closed.
    pub fn rest(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let mut state = self.state();
        while !state.is_closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// What is queued is still taken.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits until all has been written.
    pub fn wait_idle(&self, deadline: Instant) {
        let mut state = self.state();
        while !state.is_idle || state.batch.lines > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, Ring, lost};
    use crate::base::limits;
    use std::time::Duration;

    #[test]
    fn what_has_no_room_is_counted_in_its_place() {
        let (ring, before) = (Ring::default(), lost());
        (0..limits::LOG_LINES + 5).for_each(|_| ring.push(b"x\n"));
        assert!(lost() - before >= 5);
        let batch = ring.take(Duration::ZERO).expect("open");
        assert_eq!((batch.lines, batch.lost), (limits::LOG_LINES, 5));
        assert_eq!(batch.text.len(), 2 * limits::LOG_LINES);
        ring.push(b"after\n");
        let batch = ring.take(Duration::ZERO).expect("open");
        assert_eq!((batch.text.as_slice(), batch.lost), (&b"after\n"[..], 0));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let ring = Ring::default();
        let line = vec![b'x'; limits::LOG_BYTES / 2];
        (0..3).for_each(|_| ring.push(&line));
        // There is room for this one, but its place is behind one that is lost.
        ring.push(b"small\n");
        let batch = ring.take(Duration::ZERO).expect("open");
        assert_eq!((batch.lines, batch.lost), (2, 2));
    }

    #[test]
    fn a_closed_ring_gives_what_it_has() {
        let ring = Ring::default();
        assert_eq!(ring.take(Duration::ZERO), Some(Batch::default()));
        ring.push(b"last\n");
        ring.close();
        assert_eq!(ring.take(Duration::ZERO).map(|batch| batch.lines), Some(1));
        assert_eq!(ring.take(Duration::ZERO), None);
    }
}
