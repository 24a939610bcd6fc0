//! One request of a client as it is measured, logged and traced: from when it was read to the end
//! of its answer. Whoever ends the request says how; it is counted when the value is dropped, on
//! whatever way out. Deliberately absent: the request at a server, which `upstream::link` measures.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use crate::front::request::Params;
use crate::front::told::{self, Told};
use crate::front::traced::{self, Traced};
use crate::journal::audit;
use crate::journal::context::Guard;
use crate::journal::metrics::meter::{Asked, Meter, of_request};
use crate::journal::metrics::outcome::Outcome;
use crate::journal::request::{self, Entry};
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
    /// Most have none.
    more: Cell<Option<Box<More>>>,
}

/// What is told of a request where somebody wants to know more than numbers.
#[derive(Default)]
struct More {
    /// For the request log, while anybody wants that.
    entry: Option<Box<Entry>>,
    /// Set for one that has a trace.
    traced: Option<Traced>,
    /// For the audit log, while there is one.
    told: Option<Told>,
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
            more: Cell::new(Entry::begin(method).map(|entry| {
                Box::new(More {
                    entry: Some(entry),
                    ..More::default()
                })
            })),
        }
    }

    /// Its parameters, for the log.
    pub fn says(&self, params: Option<&str>) {
        self.note(|entry| entry.says(params));
    }

    /// What it asks for, for the audit log.
    #[inline]
    pub fn asks(&self, params: &Params<'_>, around: told::Around<'_>) {
        if audit::is_on() {
            self.tells(params, around);
        }
    }

    fn tells(&self, params: &Params<'_>, around: told::Around<'_>) {
        let Asked::Method(method) = self.asked else {
            return;
        };
        if let Some(told) = Told::of(method, params, around) {
            let mut more = self.more.take().unwrap_or_default();
            more.told = Some(told);
            self.more.set(Some(more));
        }
    }

    /// The server that it goes to, and what it is about: as the client says it, and the server.
    pub fn goes_to(&self, server: &str, name: &str, native: &str) {
        self.note(|entry| entry.goes_to(server, name));
        self.tell(|told| told.goes_to(server, native));
    }

    fn tell<T>(&self, edit: impl FnOnce(&mut Told) -> T) -> Option<T> {
        match audit::is_on() {
            true => self.with_more(|more| more.told.as_mut().map(edit)),
            false => None,
        }
    }

    /// When something is to be told of it before its end.
    pub fn due_at(&self) -> Option<Instant> {
        self.tell(|told| told.due_at(self.began)).flatten()
    }

    /// Tells it, if it is time.
    pub fn look(&self) {
        self.tell(|told| told.look(self.began));
    }

    #[inline]
    fn note(&self, edit: impl FnOnce(&mut Entry)) {
        if request::is_on() {
            self.with_more(|more| more.entry.as_deref_mut().map(edit));
        }
    }

    #[inline]
    fn with_more<T>(&self, look: impl FnOnce(&mut More) -> Option<T>) -> Option<T> {
        let mut more = self.more.take()?;
        let seen = look(&mut more);
        self.more.set(Some(more));
        seen
    }

    /// It is about this tool or prompt.
    pub fn is_about(&self, meter: Option<Arc<Meter>>) {
        self.judge(Span::is_about_it);
        self.meter.set(meter);
    }

    /// Finds the trace that it belongs to. This thread works on it until the guard is dropped.
    pub fn trace(&self, asked: &traced::Asked<'_>) -> Option<Guard> {
        let traced = Traced::begin(asked)?;
        let mut more = self.more.take().unwrap_or_default();
        more.traced = Some(traced);
        self.more.set(Some(more));
        self.enter()
    }

    /// Works on it again.
    pub fn enter(&self) -> Option<Guard> {
        self.with_more(|more| more.traced.as_ref().map(Traced::enter))
    }

    fn judge(&self, judge: impl FnOnce(&mut Span)) {
        self.with_more(|more| more.traced.as_mut()?.span.as_mut().map(judge));
    }

    pub fn ended(&self, outcome: Outcome) {
        self.outcome.set(outcome);
        self.judge(|span| span.end(outcome));
    }

    pub fn failed(&self, error: &RpcError) {
        self.outcome.set(Outcome::of_error(error));
        self.judge(|span| span.fail_with(error));
    }

    /// It is answered with what a server said, unless something comes between.
    pub fn answered(&self, answer: &Answer) {
        self.outcome.set(answer.outcome);
        self.tell(|told| told.answered(answer));
        self.judge(|span| span.answer(&answer.line[answer.payload.clone()], answer.is_error));
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
            more: Cell::new(self.more.take()),
        }
    }

    /// It goes on for as long as its client likes: its end says nothing.
    pub fn goes_on(&self) {
        self.judge(Span::succeed);
        self.is_over.set(true);
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.is_over.get() {
            return;
        }
        let spent = self.began.elapsed();
        let _working = self.enter();
        if let Some(entry) = self.with_more(|more| more.entry.take()) {
            entry.log(spent, self.outcome.get());
        }
        if let Some(told) = self.with_more(|more| more.told.take()) {
            told.tell(self.began, spent, self.outcome.get());
        }
        let meter = self.meter.take();
        let series = meter.as_ref().and_then(|meter| meter.operation.as_ref());
        let series = series.or_else(|| of_request(self.asked));
        if let Some(series) = series {
            series.record(spent, self.outcome.get());
        }
    }
}
