//! What the request on this thread may wait for, and why it ended if it did.
//!
//! ureq calls the transport of a pooled connection without saying for which request, but always
//! on the thread of that request. So the request leaves its terms here while it is inside ureq.

use std::cell::RefCell;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::net::error::Cause;
use crate::net::stop::Stop;

#[derive(Default)]
pub(super) struct Wait {
    pub stop: Stop,
    /// The end of all waits, if there is one.
    pub until: Option<Instant>,
    /// The longest wait for the next byte.
    pub idle: Option<Duration>,
    /// The connection served another request before.
    pub reused: bool,
    /// Something of the answer came.
    pub received: bool,
    /// The first thing that went wrong.
    pub cause: Option<Cause>,
}

thread_local! {
    static CURRENT: RefCell<Option<Wait>> = const { RefCell::new(None) };
}

/// Runs `body` on these terms and gives them back with what was found out.
pub(super) fn on<T>(wait: Wait, body: impl FnOnce() -> T) -> (T, Wait) {
    CURRENT.set(Some(wait));
    let outcome = body();
    (outcome, CURRENT.take().unwrap_or_default())
}

fn with<T>(body: impl FnOnce(&mut Wait) -> T) -> Option<T> {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(body))
}

/// Remembers the cause. The error only makes ureq give up.
pub(super) fn fail(cause: Cause) -> ureq::Error {
    with(|wait| wait.cause.get_or_insert(cause).clone());
    ureq::Error::Io(std::io::ErrorKind::ConnectionAborted.into())
}

pub(super) fn is_stopped() -> bool {
    with(|wait| wait.stop.is_stopped()).unwrap_or(false)
}

pub(super) fn stop() -> Stop {
    with(|wait| wait.stop.clone()).unwrap_or_default()
}

/// Lets the request's `Stop` shut this socket down.
pub(super) fn hold(socket: &Arc<TcpStream>) -> Result<(), ureq::Error> {
    match with(|wait| wait.stop.hold(socket)) {
        Some(false) => Err(fail(Cause::Stopped)),
        Some(true) | None => Ok(()),
    }
}

pub(super) fn note_reuse() {
    with(|wait| wait.reused = true);
}

pub(super) fn note_bytes() {
    with(|wait| wait.received = true);
}

/// When the next wait ends, and what to say then.
pub(super) fn end_of_wait() -> (Option<Instant>, Cause) {
    let found = with(|wait| {
        let idle = wait.idle.map(|idle| Instant::now() + idle);
        match (wait.until, idle) {
            (Some(until), Some(idle)) if idle < until => (Some(idle), Cause::Idle),
            (None, Some(idle)) => (Some(idle), Cause::Idle),
            (until, _) => (until, Cause::Deadline),
        }
    });
    found.unwrap_or((None, Cause::Deadline))
}
