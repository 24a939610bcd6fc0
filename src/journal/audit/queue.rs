//! Events on their way to the chain: bounded in bytes. Whoever tells one never waits, and wakes
//! the thread of the chain only when that sleeps for long or has to hurry: a wake for each line
//! would cost more than the line.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::journal::audit::call::Facts;

pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    batch: Batch,
    /// When the log began: `None` before that.
    began: Option<Instant>,
    /// Ticks in which nothing came.
    idle: u32,
    /// The thread waits for the next event, not for its tick.
    is_asleep: bool,
    is_closed: bool,
}

/// Events in their order: what has no length of its own, and their bytes.
pub struct Batch {
    events: Vec<Event>,
    bytes: Vec<u8>,
    /// Had no room, after all that is here.
    pub lost: u64,
}

struct Event {
    /// Since the log began.
    mono_ms: u64,
    length: usize,
    /// Of a call.
    facts: Option<Facts>,
}

/// What an event is on its way.
pub enum Queued<'a> {
    /// Members that are ready.
    Body(&'a [u8]),
    Call(&'a Facts, &'a [u8]),
}

impl Queue {
    pub const fn closed() -> Queue {
        Queue {
            state: Mutex::new(State {
                batch: Batch::empty(),
                began: None,
                idle: 0,
                is_asleep: false,
                is_closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on events are taken.
    pub fn open(&self, began: Instant) {
        let mut state = self.state();
        state.batch = Batch::empty();
        (state.began, state.idle, state.is_closed) = (Some(began), 0, false);
    }

    /// An event whose bytes are those of `parts`. Gives the share of the room that is taken, in
    /// hundredths.
    pub fn push(&self, at: Instant, facts: Option<Facts>, parts: [&[u8]; 2]) -> usize {
        let mut state = self.state();
        let Some(began) = state.began.filter(|_| !state.is_closed) else {
            return 0;
        };
        let batch = &mut state.batch;
        let before = batch.size();
        let length = parts[0].len() + parts[1].len();
        // After the first that is lost all are, so that the count has one place.
        if before + EVENT + length > limits::AUDIT_QUEUE_BYTES || batch.lost > 0 {
            batch.lost += 1;
            return 100;
        }
        let since = at.saturating_duration_since(began).as_millis();
        batch.events.push(Event {
            mono_ms: u64::try_from(since).unwrap_or(u64::MAX),
            length,
            facts,
        });
        batch.bytes.extend_from_slice(parts[0]);
        batch.bytes.extend_from_slice(parts[1]);
        let after = before + EVENT + length;
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
        batch.clear();
        let mut state = self.state();
        let mut waited = false;
        loop {
            let is_empty = state.batch.is_empty();
            if state.is_closed {
                std::mem::swap(&mut state.batch, batch);
                return !is_empty;
            }
            let left = due.saturating_duration_since(Instant::now());
            let hurries = state.batch.size() >= limits::AUDIT_HURRY_BYTES;
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

/// What an event takes beside its bytes.
const EVENT: usize = size_of::<Event>();

impl Batch {
    pub const fn empty() -> Batch {
        Batch {
            events: Vec::new(),
            bytes: Vec::new(),
            lost: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.lost == 0
    }

    fn size(&self) -> usize {
        self.events.len() * EVENT + self.bytes.len()
    }

    fn clear(&mut self) {
        self.events.clear();
        self.bytes.clear();
        // What a burst needed is not kept.
        self.events.shrink_to(2 * limits::AUDIT_HURRY_BYTES / EVENT);
        self.bytes.shrink_to(2 * limits::AUDIT_HURRY_BYTES);
        self.lost = 0;
    }

    /// With the time since the log began, in milliseconds.
    pub fn each(&self, mut take: impl FnMut(u64, Queued<'_>)) {
        let mut rest = &self.bytes[..];
        for event in &self.events {
            let (bytes, after) = rest.split_at(event.length);
            let queued = match &event.facts {
                Some(facts) => Queued::Call(facts, bytes),
                None => Queued::Body(bytes),
            };
            take(event.mono_ms, queued);
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Batch, Queue, Queued};
    use crate::base::limits;

    #[test]
    fn what_has_no_room_is_counted_and_the_rest_keeps_its_order() {
        let queue = Queue::closed();
        let began = Instant::now();
        queue.push(began, None, [b"before it was opened", b""]);
        queue.open(began);
        let text = "x".repeat(limits::AUDIT_LINE_BYTES);
        let many = limits::AUDIT_QUEUE_BYTES / text.len();
        for ms in 0..many as u64 + 10 {
            let at = began + Duration::from_millis(ms);
            queue.push(at, None, [&text.as_bytes()[..7], &text.as_bytes()[7..]]);
        }
        let mut batch = Batch::empty();
        assert!(queue.take(Instant::now(), &mut batch));
        let mut next = 0;
        batch.each(|ms, event| {
            assert_eq!(ms, next);
            assert!(matches!(event, Queued::Body(bytes) if bytes == text.as_bytes()));
            next += 1;
        });
        assert!(next > 0 && batch.lost >= 10);
        assert_eq!(next + batch.lost, many as u64 + 10);
        queue.push(began, None, [b"last", b""]);
        queue.close();
        queue.push(began, None, [b"after the last", b""]);
        let far = Instant::now() + Duration::from_secs(60);
        assert!(queue.take(far, &mut batch) && !batch.is_empty());
        assert!(!queue.take(far, &mut batch));
    }
}
