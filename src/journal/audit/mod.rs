//! The audit log: who did what, and how it ended, one JSON object in each line, chained and signed
//! so that nobody can change it unseen. Apart from the ordinary log; nothing that a client sends
//! changes what is told here. docs/audit-events.md is its inventory.

pub mod event;
pub mod record;
pub mod scope;

pub use event::{Event, Outcome, Reason};
pub use record::Record;
pub use scope::{Operation, Scoped, scope_operation};

use std::sync::atomic::{AtomicBool, Ordering};

static IS_ON: AtomicBool = AtomicBool::new(false);
static MUST_BLOCK: AtomicBool = AtomicBool::new(false);

/// Whether there is an audit log. Whoever has to gather what `note` wants asks first.
#[inline]
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Whether new requests must wait until what they do can be told again: answer them 503.
#[inline]
pub fn must_block() -> bool {
    MUST_BLOCK.load(Ordering::Relaxed)
}

/// Tells what happened. Never waits; costs nothing while there is no audit log.
pub fn note(record: Record<'_>) {
    if !is_on() {
        return;
    }
    drop(record);
}
