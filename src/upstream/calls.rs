//! The calls of one link under their lock. Those who make calls, the reader that answers, the
//! deadlines and the end of the link meet here; each method is one step that nobody comes between,
//! and whoever gets a caller out of it answers that caller. Deliberately absent: what an answer
//! is, pipes, clocks.

use std::collections::HashMap;
use std::time::Instant;

use crate::base::sync::{Mutex, MutexGuard, PoisonError};
use crate::upstream::call::CallId;
use crate::upstream::pending::{Pending, Waits};

/// `W`: who waits; `C`: why there will be no call any more.
pub struct Calls<W, C>(Mutex<Pending<W, C>>);

/// To whom an answer of the server belongs.
pub enum Answered<W> {
    /// It has been delivered.
    To(W),
    /// The call was taken back.
    Late,
    /// No call has this id.
    Nobody,
}

impl<W, C> Default for Calls<W, C> {
    fn default() -> Calls<W, C> {
        Calls(Mutex::new(Pending::default()))
    }
}

impl<W: Waits, C> Calls<W, C> {
    pub fn lock(&self) -> MutexGuard<'_, Pending<W, C>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `refuse` hears why the link is closed, or `None` where there are too many calls; whoever is
    /// refused gets no other answer.
    pub fn enter<E>(
        &self,
        id: CallId,
        waiting: W,
        refuse: impl FnOnce(Option<&C>) -> E,
    ) -> Result<(), E> {
        let mut pending = self.lock();
        if let Some(why) = &pending.closed {
            return Err(refuse(Some(why)));
        }
        match pending.enter(id, waiting) {
            true => Ok(()),
            false => Err(refuse(None)),
        }
    }

    pub fn take(&self, id: CallId) -> Option<W> {
        self.lock().take(id)
    }

    /// Takes a call out that the server may still be at.
    pub fn abandon(&self, id: CallId, now: Instant) -> Option<W> {
        self.lock().abandon(id, now)
    }

    /// The same, and `fail` answers it before `redirect` can come between.
    pub fn fail(&self, id: CallId, now: Instant, fail: impl FnOnce(W)) {
        let mut pending = self.lock();
        if let Some(waiting) = pending.abandon(id, now) {
            fail(waiting);
        }
    }

    /// The server's answer; `deliver` is called before `redirect` can come between.
    pub fn answer(&self, id: CallId, deliver: impl FnOnce(&mut W)) -> Answered<W> {
        let mut pending = self.lock();
        match pending.take(id) {
            Some(mut waiting) => {
                deliver(&mut waiting);
                Answered::To(waiting)
            }
            None if pending.is_late_answer(id) => Answered::Late,
            None => Answered::Nobody,
        }
    }

    /// Changes who waits. False when the call is over: then its answer is where it was to go
    /// before.
    pub fn redirect(&self, id: CallId, change: impl FnOnce(&mut W)) -> bool {
        self.lock().calls.get_mut(&id).map(change).is_some()
    }

    /// All calls there are, of which the caller of this answers each; none comes after them. True
    /// with them for the first who closes.
    pub fn close(&self, why: C) -> (bool, HashMap<CallId, W>) {
        let mut pending = self.lock();
        let is_first = pending.closed.is_none();
        (is_first, pending.close(why))
    }
}
