//! One request of a client as it is measured and logged: from when it was read to the end of its
//! answer. Whoever ends the request says how; it is counted when the value is dropped, on whatever
//! way out. Deliberately absent: the request at a server, which `upstream::link` measures.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use crate::journal::metrics::meter::{Asked, Meter, of_request};
use crate::journal::metrics::outcome::Outcome;
use crate::journal::request::{self, Entry};
use crate::mcp::error::RpcError;

pub struct Operation {
    began: Instant,
    asked: Asked,
    /// Of the tool or prompt that it is about.
    meter: Cell<Option<Arc<Meter>>>,
    outcome: Cell<Outcome>,
    is_over: Cell<bool>,
    /// For the request log, while anybody wants that.
    entry: Cell<Option<Box<Entry>>>,
}

impl Operation {
    pub fn begin(method: &str) -> Operation {
        Operation {
            began: Instant::now(),
            asked: Asked::parse(method),
            meter: Cell::new(None),
            // Of what nobody ended: the client is gone.
            outcome: Cell::new(Outcome::Cancelled),
            is_over: Cell::new(false),
            entry: Cell::new(Entry::begin(method)),
        }
    }

    /// Its parameters, for the log.
    pub fn says(&self, params: Option<&str>) {
        self.note(|entry| entry.says(params));
    }

    /// The server that it goes to, and the name that the client says, for the log.
    pub fn goes_to(&self, server: &str, name: &str) {
        self.note(|entry| entry.goes_to(server, name));
    }

    #[inline]
    fn note(&self, edit: impl FnOnce(&mut Entry)) {
        if !request::is_on() {
            return;
        }
        if let Some(mut entry) = self.entry.take() {
            edit(&mut entry);
            self.entry.set(Some(entry));
        }
    }

    /// It is about this tool or prompt.
    pub fn is_about(&self, meter: Option<Arc<Meter>>) {
        self.meter.set(meter);
    }

    pub fn ended(&self, outcome: Outcome) {
        self.outcome.set(outcome);
    }

    pub fn failed(&self, error: &RpcError) {
        self.ended(Outcome::of_error(error));
    }

    /// The same request in other hands: here it is over without a word.
    pub fn hand_over(&self) -> Operation {
        self.is_over.set(true);
        Operation {
            began: self.began,
            asked: self.asked,
            meter: Cell::new(self.meter.take()),
            outcome: Cell::new(self.outcome.get()),
            is_over: Cell::new(false),
            entry: Cell::new(self.entry.take()),
        }
    }

    /// It goes on for as long as its client likes: its end says nothing.
    pub fn goes_on(&self) {
        self.is_over.set(true);
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.is_over.get() {
            return;
        }
        let spent = self.began.elapsed();
        if let Some(entry) = self.entry.take() {
            entry.log(spent, self.outcome.get());
        }
        let meter = self.meter.take();
        let series = meter.as_ref().and_then(|meter| meter.operation.as_ref());
        let series = series.or_else(|| of_request(self.asked));
        if let Some(series) = series {
            series.record(spent, self.outcome.get());
        }
    }
}
