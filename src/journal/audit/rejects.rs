//! Events that strangers can cause without end: the first of each kind are told one by one, the
//! others by their number. Bounded by the number of kinds.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::base::limits;
use crate::journal::audit::event::{Event, Reason};
use crate::journal::audit::record::Record;
use crate::journal::audit::{is_on, note};

struct Window {
    event: Event,
    reason: Option<Reason>,
    began: Instant,
    told: u64,
    /// Since the last that was told.
    untold: u64,
}

static WINDOWS: Mutex<Vec<Window>> = Mutex::new(Vec::new());

/// Tells of it, or counts it.
pub fn reject(record: Record<'_>) {
    if is_on() && may_tell(record.event, record.reason, Instant::now()) {
        note(record);
    }
}

fn may_tell(event: Event, reason: Option<Reason>, now: Instant) -> bool {
    let mut windows = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(window) = windows
        .iter_mut()
        .find(|window| (window.event, window.reason) == (event, reason))
    else {
        windows.push(Window {
            event,
            reason,
            began: now,
            told: 1,
            untold: 0,
        });
        return true;
    };
    if window.told >= limits::AUDIT_REJECTS {
        window.untold += 1;
        return false;
    }
    window.told += 1;
    true
}

/// For the thread of the chain: what was counted is told once its time is over.
pub fn settle(now: Instant) {
    let mut due: Vec<(Event, Option<Reason>, u64)> = Vec::new();
    let mut windows = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
    for window in &mut *windows {
        if now.duration_since(window.began) >= limits::AUDIT_REJECTS_EVERY {
            window.began = now;
            window.told = 0;
            let untold = std::mem::take(&mut window.untold);
            due.push((window.event, window.reason, untold));
        }
    }
    drop(windows);
    for (event, reason, count) in due.into_iter().filter(|(.., count)| *count > 0) {
        note(Record {
            reason,
            count: Some(count),
            detail: "as those before, not told one by one",
            ..Record::new(event, crate::journal::audit::Outcome::Deny)
        });
    }
}
