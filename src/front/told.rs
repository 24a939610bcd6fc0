//! What the audit log tells of one request: gathered while it is at work, told when it has ended,
//! and before that when it takes long.

use std::time::{Duration, Instant};

use crate::base::limits;
use crate::front::request::Params;
use crate::journal::arguments::shown;
use crate::journal::audit::{self, Event, Reason, Record};
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::method::Method;
use crate::upstream::call::Answer;

pub struct Told {
    event: Event,
    /// Members of its line, as far as they are known.
    asked: String,
    /// As the client wrote them, where some are shown.
    arguments: Option<Box<str>>,
    shown: String,
    /// When it was on its way to the server, and for how long.
    sent: Option<Instant>,
    upstream: Option<Duration>,
    result_bytes: Option<u64>,
    is_long: bool,
}

/// Where a request was read.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Empty where there are no sessions.
    pub session: &'a str,
    pub revision: &'static str,
    pub transport: &'static str,
}

impl Told {
    /// `None` for what is not told.
    pub fn of(method: Method, params: &Params<'_>, around: Around<'_>) -> Option<Told> {
        let (event, key) = match method {
            Method::ToolsCall => (Event::ToolCall, "name"),
            Method::PromptsGet => (Event::PromptGet, "name"),
            Method::ResourcesRead => (Event::ResourceRead, "uri"),
            _ => return None,
        };
        let arguments = params.get("arguments");
        let asked = audit::asked(&Record {
            session: around.session,
            protocol: around.revision,
            transport: around.transport,
            method: method.as_str(),
            name: &params.string(key).unwrap_or_default(),
            arguments,
            ..Record::new(event, audit::Outcome::Ok)
        });
        let keeps = audit::shows_any() && event == Event::ToolCall;
        Some(Told {
            event,
            asked,
            arguments: arguments.filter(|_| keeps).map(Box::from),
            shown: String::new(),
            sent: None,
            upstream: None,
            result_bytes: None,
            is_long: false,
        })
    }

    /// `name`: what the server calls it.
    pub fn goes_to(&mut self, server: &str, name: &str) {
        audit::line::goes_to(&mut self.asked, server);
        self.sent = Some(Instant::now());
        if let Some(arguments) = self.arguments.take()
            && audit::shows(server, name)
        {
            self.shown = shown(&arguments);
        }
    }

    pub fn answered(&mut self, answer: &Answer) {
        self.result_bytes = Some(answer.payload.len() as u64);
        self.upstream = self.sent.map(|sent| sent.elapsed());
    }

    /// When it is to be told that it takes long.
    pub fn due_at(&self, began: Instant) -> Option<Instant> {
        let is_tool = self.event == Event::ToolCall;
        (is_tool && !self.is_long).then(|| began + limits::AUDIT_LONG_CALL)
    }

    pub fn look(&mut self, began: Instant) {
        if self.due_at(began).is_some_and(|due| due <= Instant::now()) {
            self.is_long = true;
            audit::note(Record {
                asked: &self.asked,
                shown: &self.shown,
                spent: Some(began.elapsed()),
                ..Record::new(Event::ToolBegin, audit::Outcome::Ok)
            });
        }
    }

    pub fn tell(&self, spent: Duration, outcome: Outcome) {
        let mut record = Record {
            asked: &self.asked,
            shown: &self.shown,
            result_bytes: self.result_bytes,
            spent: Some(spent),
            upstream: self.upstream,
            ..Record::new(self.event, audit::Outcome::Error)
        };
        match outcome {
            Outcome::Success => record.outcome = audit::Outcome::Ok,
            Outcome::ToolError => record.is_error = Some(true),
            Outcome::Error(code) => {
                let by_server = self.result_bytes.is_some();
                record.reason = Some(match by_server {
                    true => Reason::Upstream,
                    false => Reason::BadRequest,
                });
                record.code = Some(i64::from(code));
            }
            Outcome::Failed(reason) => {
                record.reason = Some(Reason::Unavailable);
                record.detail = reason.as_str();
            }
            Outcome::Cancelled => record.reason = Some(Reason::Cancelled),
        }
        audit::note(record);
    }
}
