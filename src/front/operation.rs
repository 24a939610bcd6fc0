//! One request of a client as it is measured and traced: from when it was read to the end of its
//! answer. Whoever ends the request says how; it is counted when the value is dropped, on whatever way
//! out. Deliberately absent: the request at a server, which `upstream::link` measures.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use crate::front::traced::{self, Traced};
use crate::journal::context::Guard;
use crate::journal::metrics::meter::{Asked, Meter, of_request};
use crate::journal::metrics::outcome::Outcome;
use crate::journal::span::Span;
use crate::mcp::error::RpcError;
use crate::upstream::call::Answer;

pub struct Operation {
    began: Instant,
    asked: Asked,
    /// Of the tool or prompt that it is about.
    meter: Cell<Option<Arc<Meter>>>,
    outcome: Cell<Outcome>,
    is_over: Cell<bool>,
    /// Set for one that has a trace.
    traced: RefCell<Option<Box<Traced>>>,
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
            traced: RefCell::new(None),
        }
    }

    /// It is about this tool or prompt.
    pub fn is_about(&self, meter: Option<Arc<Meter>>) {
        self.meter.set(meter);
    }

    /// Finds the trace that it belongs to. This thread works on it until the guard is dropped.
    pub fn trace(&self, asked: &traced::Asked<'_>) -> Option<Guard> {
        *self.traced.borrow_mut() = Traced::begin(asked);
        self.enter()
    }

    /// Works on it again.
    pub fn enter(&self) -> Option<Guard> {
        self.traced.borrow().as_ref().map(|traced| traced.enter())
    }

    fn span(&self, judge: impl FnOnce(&mut Span)) {
        let mut traced = self.traced.borrow_mut();
        let span = traced.as_mut().and_then(|traced| traced.span.as_mut());
        if let Some(span) = span {
            judge(span);
        }
    }

    pub fn ended(&self, outcome: Outcome) {
        self.outcome.set(outcome);
        self.span(|span| span.end(outcome));
    }

    pub fn failed(&self, error: &RpcError) {
        self.outcome.set(Outcome::of_error(error));
        self.span(|span| span.fail_with(error));
    }

    /// It is answered with what a server said, unless something comes between.
    pub fn answered(&self, answer: &Answer) {
        self.outcome.set(answer.outcome);
        self.span(|span| span.answer(&answer.line[answer.payload.clone()], answer.is_error));
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
            traced: RefCell::new(self.traced.take()),
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
