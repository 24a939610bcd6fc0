//! The calls in flight on one link, and those taken back that the server may still be at. Plain
//! data under the lock of the link: whoever removes a call answers it. Reads no clock, sends
//! nothing.

use std::collections::HashMap;
use std::time::Instant;

use crate::base::limits;
use crate::upstream::call::CallId;

/// On whose behalf a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// `session`: a number that tells sessions apart.
    Client {
        session: u64,
    },
    Gateway,
}

/// What waits for the answer of a call.
pub trait Waits {
    fn caller(&self) -> Caller;
}

/// A call that a message was found to belong to.
pub struct Attributed {
    pub call: CallId,
    /// False when another call of the same session may be meant.
    pub certain: bool,
}

/// `W`: who waits; `C`: why there will be no call any more.
pub struct Pending<W, C> {
    pub calls: HashMap<CallId, W>,
    /// Calls of clients; the gateway's own (handshake, lists) are not counted.
    client_calls: usize,
    /// Calls that were taken back but that the server may still be working on: what it asks or
    /// says meanwhile may be theirs.
    abandoned: HashMap<CallId, Abandoned>,
    /// When one was taken back that there was no room to remember.
    uncounted: Option<Instant>,
    /// Of the stateless era, whose servers say nothing more about a call that was taken back.
    pub is_stateless: bool,
    /// Set once, when the process is gone: no call may be added any more.
    pub closed: Option<C>,
}

struct Abandoned {
    since: Instant,
    session: u64,
}

impl<W, C> Default for Pending<W, C> {
    fn default() -> Pending<W, C> {
        Pending {
            calls: HashMap::new(),
            client_calls: 0,
            abandoned: HashMap::new(),
            uncounted: None,
            is_stateless: false,
            closed: None,
        }
    }
}

impl<W: Waits, C> Pending<W, C> {
    /// False when there are too many. Not for a link that is closed.
    pub fn enter(&mut self, id: CallId, waiting: W) -> bool {
        if self.calls.len() >= limits::CALLS_PER_SERVER {
            return false;
        }
        self.client_calls += usize::from(waiting.caller() != Caller::Gateway);
        self.calls.insert(id, waiting);
        true
    }

    pub fn take(&mut self, id: CallId) -> Option<W> {
        let waiting = self.calls.remove(&id)?;
        self.client_calls -= usize::from(waiting.caller() != Caller::Gateway);
        Some(waiting)
    }

    /// The server may still be at it.
    pub fn abandon(&mut self, id: CallId, now: Instant) -> Option<W> {
        let waiting = self.take(id)?;
        if let Caller::Client { session } = waiting.caller() {
            let since = now;
            self.forget_old(now);
            match self.abandoned.len() < limits::CALLS_PER_SERVER {
                true => drop(self.abandoned.insert(id, Abandoned { since, session })),
                false => self.uncounted = Some(since),
            }
        }
        Some(waiting)
    }

    /// The server has answered a call that was taken back. False when there was none.
    pub fn is_late_answer(&mut self, id: CallId) -> bool {
        self.abandoned.remove(&id).is_some()
    }

    /// All of them; whoever is too late finds why. The first reason stands.
    pub fn close(&mut self, why: C) -> HashMap<CallId, W> {
        self.closed.get_or_insert(why);
        self.client_calls = 0;
        std::mem::take(&mut self.calls)
    }

    fn forget_old(&mut self, now: Instant) {
        let limit = match self.is_stateless {
            true => limits::COOLING,
            false => limits::ABANDONED,
        };
        let is_young = |since: &Instant| now.saturating_duration_since(*since) < limit;
        self.abandoned.retain(|_, call| is_young(&call.since));
        self.uncounted = self.uncounted.filter(is_young);
    }

    /// Whether the server may be at a call of `caller` alone that was taken back, or at none.
    fn is_clear_for(&mut self, caller: Option<Caller>, now: Instant) -> bool {
        self.forget_old(now);
        let is_own = |left: &Abandoned| {
            caller
                == Some(Caller::Client {
                    session: left.session,
                })
        };
        self.uncounted.is_none() && self.abandoned.values().all(is_own)
    }

    pub fn client_calls(&self) -> usize {
        self.client_calls
    }

    pub fn clients(&self) -> impl Iterator<Item = (CallId, &W)> {
        let calls = self.calls.iter();
        let clients = calls.filter(|(_, waiting)| waiting.caller() != Caller::Gateway);
        clients.map(|(id, waiting)| (*id, waiting))
    }

    /// The oldest call of a client.
    pub fn oldest(&self) -> Option<CallId> {
        if self.client_calls == 0 {
            return None;
        }
        self.clients().map(|(id, _)| id).min()
    }

    /// No call of a client is in work here, not even one that was taken back.
    pub fn is_quiet(&mut self, now: Instant) -> bool {
        self.client_calls == 0 && self.is_clear_for(None, now)
    }

    /// The call that a message without a call's name belongs to: the only client call in
    /// flight. Anything else would be a guess, unless every call here is of one session
    /// (`one_session`): then the newest one stands for the session.
    ///
    /// While a call that another client took back may still be at work (until it is answered, or
    /// for `limits::ABANDONED`), nothing is anybody's: the wire says no more, and a process where
    /// nothing else happens is the way to be sure.
    pub fn attribute(&mut self, one_session: bool, now: Instant) -> Option<Attributed> {
        let newest = self.clients().max_by_key(|(id, _)| *id);
        let (call, caller) = newest.map(|(id, waiting)| (id, waiting.caller()))?;
        let is_alone = self.client_calls == 1;
        let certain = is_alone && self.is_clear_for(None, now);
        let is_theirs = certain || (is_alone && self.is_clear_for(Some(caller), now));
        (is_theirs || one_session).then_some(Attributed { call, certain })
    }

    /// The client's call on whose own stream a message came.
    pub fn on_stream_of(&self, call: CallId) -> Option<Attributed> {
        let waiting = self.calls.get(&call)?;
        let certain = true;
        (waiting.caller() != Caller::Gateway).then_some(Attributed { call, certain })
    }
}

#[cfg(test)]
#[path = "pending_properties.rs"]
mod properties;
