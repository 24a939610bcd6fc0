//! What one session waits for: requests of its client that servers work on, and questions that
//! the client has been asked. Plain data under the lock of the session; sends nothing.

use std::collections::HashMap;

use crate::base::limits;
use crate::upstream::call::CallId;

/// A question; it may belong to a call.
pub trait OfCall {
    fn is_of(&self, call: CallId) -> bool;
}

/// `W`: the way to the server of a call and to its connection; `A`: who waits for an answer.
pub struct InFlight<W, A> {
    calls: Vec<Flight<W>>,
    asks: HashMap<u64, A>,
    /// The client answers no more, and is asked nothing.
    is_mute: bool,
    is_closed: bool,
}

/// A request of the client that a server works on.
struct Flight<W> {
    client_id: String,
    call: CallId,
    way: W,
    /// The client wants no answer any more.
    taken_back: bool,
}

impl<W, A> Default for InFlight<W, A> {
    fn default() -> InFlight<W, A> {
        InFlight {
            calls: Vec::new(),
            asks: HashMap::new(),
            is_mute: false,
            is_closed: false,
        }
    }
}

impl<W: Clone, A: OfCall> InFlight<W, A> {
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// No call is in flight.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// `client_id` is canonical. False when there are too many, or after the end.
    pub fn begin(&mut self, client_id: String, call: CallId, way: W) -> bool {
        if self.is_closed || self.calls.len() >= limits::SESSION_CALLS {
            return false;
        }
        self.calls.push(Flight {
            client_id,
            call,
            way,
            taken_back: false,
        });
        true
    }

    /// A call has gone to its server again, as call `next`. False when the client has taken its
    /// request back meanwhile, or has ended the session.
    pub fn goes_on(&mut self, call: CallId, next: CallId, change: impl FnOnce(&mut W)) -> bool {
        let flight = self.calls.iter_mut().find(|flight| flight.call == call);
        let Some(flight) = flight.filter(|flight| !flight.taken_back) else {
            return false;
        };
        flight.call = next;
        change(&mut flight.way);
        true
    }

    /// A call is over: forgets it and its open questions, which it gives.
    pub fn end(&mut self, call: CallId) -> Vec<(u64, A)> {
        if let Some(at) = self.calls.iter().position(|flight| flight.call == call) {
            self.calls.swap_remove(at);
        }
        if self.asks.is_empty() {
            return Vec::new();
        }
        let asks = self.asks.iter().filter(|(_, ask)| ask.is_of(call));
        let open: Vec<u64> = asks.map(|(id, _)| *id).collect();
        open.iter()
            .filter_map(|id| self.asks.remove_entry(id))
            .collect()
    }

    /// The client takes a request back.
    pub fn take_back(&mut self, client_id: &str) -> Option<(CallId, W)> {
        let mut calls = self.calls.iter_mut();
        let flight = calls.find(|flight| flight.client_id == client_id)?;
        flight.taken_back = true;
        Some((flight.call, flight.way.clone()))
    }

    /// The error says why it cannot be asked.
    pub fn ask(&mut self, id: u64, ask: A) -> Result<(), &'static str> {
        if self.is_closed || self.is_mute {
            return Err("the client answers no more");
        }
        if self.asks.len() >= limits::SESSION_CALLS {
            return Err("the session has too many questions open");
        }
        self.asks.insert(id, ask);
        Ok(())
    }

    /// The client has said its last word: gives the questions that it has left open.
    pub fn mute(&mut self) -> Vec<u64> {
        self.is_mute = true;
        self.asks.keys().copied().collect()
    }

    pub fn asks(&self) -> &HashMap<u64, A> {
        &self.asks
    }

    pub fn take_ask(&mut self, id: u64) -> Option<A> {
        self.asks.remove(&id)
    }

    pub fn close(&mut self) -> (Vec<(CallId, W)>, HashMap<u64, A>) {
        self.is_closed = true;
        let calls = std::mem::take(&mut self.calls).into_iter();
        let calls = calls.map(|flight| (flight.call, flight.way)).collect();
        (calls, std::mem::take(&mut self.asks))
    }
}
