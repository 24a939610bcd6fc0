//! One request of a client as it is measured: from when it was read to the end of its answer.
//! Whoever ends the request says how; it is counted when the value is dropped, on whatever way
//! out. Deliberately absent: the request at a server, which `upstream::link` measures.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use crate::journal::metrics::meter::{Asked, Meter, of_request};
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::error::RpcError;

pub struct Operation {
    began: Instant,
    asked: Asked,
    /// Of the tool or prompt that it is about.
    meter: Cell<Option<Arc<Meter>>>,
    outcome: Cell<Outcome>,
    is_over: Cell<bool>,
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
        let meter = self.meter.take();
        let series = match &meter {
            Some(meter) => Some(&meter.operation),
            None => of_request(self.asked),
        };
        if let Some(series) = series {
            series.record(self.began.elapsed(), self.outcome.get());
        }
    }
}
