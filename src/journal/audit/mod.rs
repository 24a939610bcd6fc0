//! The audit log: who did what, and how it ended, one JSON object in each line, chained and signed
//! so that nobody can change it unseen. Apart from the ordinary log; nothing that a client sends
//! changes what is told here. docs/audit-events.md is its inventory.
//!
//! `note` makes the members of a line and puts them into a `queue`; a `call` goes there as it is.
//! The thread `audit` chains (`chain`) and hands whole lines to the sinks (`outlet`), which have a
//! thread each.

pub mod call;
pub mod chain;
pub mod event;
pub mod facts;
pub mod head;
pub mod key;
pub mod line;
pub mod outlet;
pub mod queue;
pub mod record;
pub mod rejects;
pub mod run;
pub mod scope;
pub mod target;
pub mod verify;

pub use call::Call;
pub use event::{Event, Outcome, Reason};
pub use record::Record;
pub use scope::{Operation, Scoped, scope_operation};

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use ring::hmac;

use crate::base::limits;

use crate::journal::audit::call::Facts;
use crate::journal::audit::queue::Queue;

/// What `note` needs of the log that runs.
struct Desk {
    mark: hmac::Key,
    began: Instant,
    /// Whether new requests wait while lines cannot be written.
    blocks: bool,
    /// Servers and tools whose arguments are shown.
    shown: Vec<(String, String)>,
}

thread_local! {
    /// Room for a line.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

static QUEUE: Queue = Queue::closed();
static DESK: RwLock<Option<Arc<Desk>>> = RwLock::new(None);
static IS_ON: AtomicBool = AtomicBool::new(false);
static MUST_BLOCK: AtomicBool = AtomicBool::new(false);
/// Arguments of some tool are shown.
static SHOWS: AtomicBool = AtomicBool::new(false);
/// Sinks that take nothing now.
static FAILING: AtomicUsize = AtomicUsize::new(0);
/// The queue is nearly full.
static IS_FULL: AtomicBool = AtomicBool::new(false);
/// Events that had no room, since the start.
static LOST: AtomicU64 = AtomicU64::new(0);

/// In hundredths of the queue: here new requests are refused, if they are at all.
const NEARLY_FULL: usize = 75;

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

/// Events that are in no sink because there was no room for them.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Tells what happened. Never waits; costs nothing while there is no audit log.
#[inline]
pub fn note(record: Record<'_>) {
    if is_on() {
        tell(&record);
    }
}

#[inline(never)]
fn tell(record: &Record<'_>) {
    let make = |body: &mut Vec<u8>| line::body(record, &mark, body);
    push(Instant::now(), None, make, &[]);
}

/// Tells of a request.
fn note_call(call: &Call, at: Instant) {
    if is_on() {
        push(at, Some(call.facts), line::around, &call.texts);
    }
}

/// An event with what `make` says, and more.
fn push(at: Instant, facts: Option<Facts>, make: impl FnOnce(&mut Vec<u8>), more: &[u8]) {
    let mut text = LINE.try_with(Cell::take).unwrap_or_default();
    text.clear();
    make(&mut text);
    let facts = facts.map(|mut facts| {
        facts.lengths.around = text.len();
        facts
    });
    let filled = QUEUE.push(at, facts, [&text, more]);
    if text.capacity() <= limits::AUDIT_TEXT_BYTES {
        // On a thread that is ending there is no place for it.
        let _ = LINE.try_with(|line| line.set(text));
    }
    if filled >= NEARLY_FULL {
        IS_FULL.store(true, Ordering::Relaxed);
        judge(blocks());
    }
}

/// What the id of a session is known by.
fn mark(session: &str) -> [u8; 6] {
    let desk = DESK.read().unwrap_or_else(PoisonError::into_inner);
    let desk = desk.as_ref();
    desk.map_or([0; 6], |desk| chain::mark(&desk.mark, session))
}

/// Whether there is a tool whose arguments are shown.
pub fn shows_any() -> bool {
    SHOWS.load(Ordering::Relaxed)
}

/// Whether the arguments of this one are.
pub fn shows(server: &str, tool: &str) -> bool {
    let desk = DESK.read().unwrap_or_else(PoisonError::into_inner);
    let fits = |(of, name): &(String, String)| of == server && (name == "*" || name == tool);
    desk.as_ref()
        .is_some_and(|desk| desk.shown.iter().any(fits))
}

fn blocks() -> bool {
    let desk = DESK.read().unwrap_or_else(PoisonError::into_inner);
    desk.as_ref().is_some_and(|desk| desk.blocks)
}

fn judge(blocks: bool) {
    let is_short = FAILING.load(Ordering::Relaxed) > 0 || IS_FULL.load(Ordering::Relaxed);
    MUST_BLOCK.store(blocks && is_short, Ordering::Relaxed);
}

/// A sink takes nothing any more, or takes lines again.
fn failing(begins: bool) {
    match begins {
        true => FAILING.fetch_add(1, Ordering::Relaxed),
        false => FAILING.fetch_sub(1, Ordering::Relaxed),
    };
    judge(blocks());
}
