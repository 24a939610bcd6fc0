//! Exchanges that are under way at one server: so that each can be stopped from outside, and
//! all of them at the end.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::net::stop::Stop;
use crate::upstream::call::CallId;

/// One exchange, or one stream that is read.
pub struct Flight {
    /// The call that is waited for; `None` for notifications, answers and streams of their own.
    pub call: Option<CallId>,
    pub stop: Stop,
    /// What is sent later waits for this one.
    pub is_first: bool,
    number: u64,
    /// What the server is told after the exchange was stopped.
    last_words: Mutex<Option<Vec<u8>>>,
    /// Headers that go with this message beside those of the server.
    carried: Mutex<Vec<(String, String)>>,
}

impl Flight {
    pub fn carry(&self, headers: Vec<(String, String)>) {
        if !headers.is_empty() {
            *lock(&self.carried) = headers;
        }
    }

    pub fn carried(&self) -> Vec<(String, String)> {
        lock(&self.carried).clone()
    }

    pub fn take_last_words(&self) -> Option<Vec<u8>> {
        lock(&self.last_words).take()
    }
}

#[derive(Default)]
pub struct Flights {
    air: Mutex<Air>,
    /// Rings when one is over.
    left: Condvar,
}

#[derive(Default)]
struct Air {
    flights: HashMap<u64, Arc<Flight>>,
    calls: HashMap<CallId, u64>,
    next: u64,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    /// `None` once closed.
    pub fn enter(&self, call: Option<CallId>) -> Option<Arc<Flight>> {
        self.begin(call, false)
    }

    /// One that others wait for.
    pub fn enter_first(&self, call: Option<CallId>) -> Option<Arc<Flight>> {
        self.begin(call, true)
    }

    fn begin(&self, call: Option<CallId>, is_first: bool) -> Option<Arc<Flight>> {
        let mut air = lock(&self.air);
        if air.closed {
            return None;
        }
        air.next += 1;
        let number = air.next;
        let flight = Arc::new(Flight {
            call,
            stop: Stop::default(),
            is_first,
            number,
            last_words: Mutex::new(None),
            carried: Mutex::default(),
        });
        air.flights.insert(number, flight.clone());
        if let Some(call) = call {
            air.calls.insert(call, number);
        }
        Some(flight)
    }

    pub fn leave(&self, flight: &Flight) {
        let mut air = lock(&self.air);
        air.flights.remove(&flight.number);
        if let Some(call) = flight.call {
            air.calls.remove(&call);
        }
        self.left.notify_all();
    }

    /// Waits, but not for ever, until what `flight` must not overtake is over.
    pub fn wait_turn(&self, flight: &Flight, time: Duration) {
        let deadline = Instant::now() + time;
        let is_before = |other: &Arc<Flight>| other.is_first && other.number < flight.number;
        let mut air = lock(&self.air);
        while !flight.stop.is_stopped() && air.flights.values().any(is_before) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.left.wait_timeout(air, left);
            air = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether no more than `others` are under way at some moment before `time` is over.
    pub fn are_few_within(&self, others: usize, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut air = lock(&self.air);
        while air.flights.len() > others {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.left.wait_timeout(air, left);
            air = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Stops the exchange of `call`. False when there is none.
    pub fn stop(&self, call: CallId, last_words: Option<Vec<u8>>) -> bool {
        let air = lock(&self.air);
        let number = air.calls.get(&call);
        let Some(flight) = number.and_then(|number| air.flights.get(number)).cloned() else {
            return false;
        };
        *lock(&flight.last_words) = last_words;
        // Still locked: whoever waits for its turn looks before it sleeps.
        flight.stop.stop();
        self.left.notify_all();
        true
    }

    /// Stops everything, and lets nothing begin any more.
    pub fn close(&self) {
        let mut air = lock(&self.air);
        air.closed = true;
        air.flights.values().for_each(|flight| flight.stop.stop());
        self.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::Flights;

    #[test]
    fn one_is_stopped_alone_and_all_at_the_end() {
        let flights = Flights::default();
        let first = flights.enter(Some(7)).expect("open");
        let second = flights.enter(None).expect("open");
        assert!(flights.stop(7, Some(b"x".to_vec())));
        assert!(first.stop.is_stopped() && !second.stop.is_stopped());
        assert_eq!(first.take_last_words(), Some(b"x".to_vec()));
        flights.leave(&first);
        assert!(!flights.stop(7, None));
        flights.close();
        assert!(second.stop.is_stopped() && flights.enter(None).is_none());
    }
}
