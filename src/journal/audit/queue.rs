//! Events on their way to the chain: bounded in bytes. Whoever tells one never waits, and wakes
//! the thread of the chain only when that sleeps for long or has to hurry: a wake for each line
//! would cost more than the line.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::journal::audit::chain::Moment;

#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    batch: Batch,
    /// Ticks in which nothing came.
    idle: u32,
    /// The thread waits for the next event, not for its tick.
    is_asleep: bool,
    is_closed: bool,
}

/// Events in their order: times, length and text of each.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Had no room, after all that is here.
    pub lost: u64,
}

const TIMES: usize = 20;

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the share of the room that is taken, in hundredths.
    pub fn push(&self, at: Moment, body: &str) -> usize {
        let mut state = self.state();
        let batch = &mut state.batch;
        let before = batch.bytes.len();
        // After the first that is lost all are, so that the count has one place.
        if before + TIMES + body.len() > limits::AUDIT_QUEUE_BYTES || batch.lost > 0 {
            batch.lost += 1;
            return 100;
        }
        let length = u32::try_from(body.len()).unwrap_or_default();
        batch.bytes.extend_from_slice(&at.unix_ms.to_ne_bytes());
        batch.bytes.extend_from_slice(&at.mono_ms.to_ne_bytes());
        batch.bytes.extend_from_slice(&length.to_ne_bytes());
        batch.bytes.extend_from_slice(body.as_bytes());
        let after = batch.bytes.len();
        let hurries = before < limits::AUDIT_HURRY_BYTES && after >= limits::AUDIT_HURRY_BYTES;
        let wakes = std::mem::take(&mut state.is_asleep) || hurries;
        drop(state);
        if wakes {
            self.changed.notify_all();
        }
        after * 100 / limits::AUDIT_QUEUE_BYTES
    }

    /// What there is after a tick, or at the latest at `due`, in the place of the batch before:
    /// so neither has to grow again. False once it is closed and empty.
    pub fn take(&self, due: Instant, batch: &mut Batch) -> bool {
        batch.bytes.clear();
        // What a burst needed is not kept.
        batch.bytes.shrink_to(2 * limits::AUDIT_HURRY_BYTES);
        batch.lost = 0;
        let mut state = self.state();
        let mut waited = false;
        loop {
            let is_empty = state.batch.bytes.is_empty() && state.batch.lost == 0;
            if state.is_closed {
                std::mem::swap(&mut state.batch, batch);
                return !is_empty;
            }
            let left = due.saturating_duration_since(Instant::now());
            let hurries = state.batch.bytes.len() >= limits::AUDIT_HURRY_BYTES;
            if waited && !is_empty || left.is_zero() || hurries {
                state.idle = 0;
                std::mem::swap(&mut state.batch, batch);
                return true;
            }
            state.idle = if is_empty { state.idle + 1 } else { 0 };
            state.is_asleep = is_empty && state.idle > limits::AUDIT_IDLE_TICKS;
            let wait = match state.is_asleep {
                true => left,
                false => left.min(limits::AUDIT_TICK),
            };
            let was_asleep = state.is_asleep;
            state = self.pause(state, wait);
            // What woke it was the first event: those that come with it are gathered, too.
            waited = !was_asleep;
            if was_asleep {
                (state.is_asleep, state.idle) = (false, 0);
            }
        }
    }

    fn pause<'a>(&self, state: MutexGuard<'a, State>, wait: Duration) -> MutexGuard<'a, State> {
        let paused = self.changed.wait_timeout(state, wait);
        paused.unwrap_or_else(PoisonError::into_inner).0
    }

    /// What is queued is still taken.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.lost == 0
    }

    pub fn each(&self, mut take: impl FnMut(Moment, &str)) {
        let mut rest = &self.bytes[..];
        while let Some((unix, after)) = rest.split_first_chunk() {
            let Some((mono, after)) = after.split_first_chunk() else {
                return;
            };
            let Some((length, after)) = after.split_first_chunk() else {
                return;
            };
            let (body, after) = after.split_at(u32::from_ne_bytes(*length) as usize);
            let at = Moment {
                unix_ms: u64::from_ne_bytes(*unix),
                mono_ms: u64::from_ne_bytes(*mono),
            };
            // It was text when it was put in.
            take(at, std::str::from_utf8(body).unwrap_or_default());
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Batch, Queue};
    use crate::base::limits;
    use crate::journal::audit::chain::Moment;

    #[test]
    fn what_has_no_room_is_counted_and_the_rest_keeps_its_order() {
        let queue = Queue::default();
        let body = "x".repeat(limits::AUDIT_LINE_BYTES);
        let many = limits::AUDIT_QUEUE_BYTES / body.len();
        for unix_ms in 0..many as u64 + 10 {
            let at = Moment {
                unix_ms,
                mono_ms: 2 * unix_ms,
            };
            queue.push(at, &body);
        }
        let mut batch = Batch::default();
        assert!(queue.take(Instant::now(), &mut batch));
        let mut next = 0;
        batch.each(|at, text| {
            assert_eq!((at.unix_ms, at.mono_ms), (next, 2 * next));
            assert_eq!(text.len(), body.len());
            next += 1;
        });
        assert!(next > 0 && batch.lost >= 10);
        assert_eq!(next + batch.lost, many as u64 + 10);
        queue.push(
            super::Moment {
                unix_ms: 0,
                mono_ms: 0,
            },
            "last",
        );
        queue.close();
        let far = Instant::now() + Duration::from_secs(60);
        assert!(queue.take(far, &mut batch) && !batch.is_empty());
        assert!(!queue.take(far, &mut batch));
    }
}
