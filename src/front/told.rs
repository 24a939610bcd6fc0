//! What the audit log tells of one request: gathered while it is at work, told when it has ended,
//! and before that when it takes long.

use std::time::{Duration, Instant};

use crate::base::limits;
use crate::front::request::Params;
use crate::journal::arguments::shown;
use crate::journal::audit::{self, Call, Event, Reason};
use crate::journal::metrics::outcome::Outcome;
use crate::mcp::method::Method;
use crate::upstream::call::Answer;

pub struct Told {
    call: Call,
    /// As the client wrote them, where some are shown.
    arguments: Option<Box<str>>,
    /// When it was on its way to the server.
    sent: Option<Instant>,
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
        let others = [around.revision, around.transport, method.as_str()];
        let name = params.string(key).unwrap_or_default();
        let keeps = audit::shows_any() && event == Event::ToolCall;
        Some(Told {
            call: Call::new(event, (around.session, others), &name, arguments),
            arguments: arguments.filter(|_| keeps).map(Box::from),
            sent: None,
            is_long: false,
        })
    }

    /// `name`: what the server calls it.
    pub fn goes_to(&mut self, server: &str, name: &str) {
        let arguments = self.arguments.as_deref();
        let arguments = arguments.filter(|_| audit::shows(server, name));
        let shown = arguments.map(shown);
        self.call.goes_to(server, &shown.unwrap_or_default());
        self.sent = Some(Instant::now());
    }

    pub fn answered(&mut self, answer: &Answer) {
        self.call.facts.result_bytes = Some(answer.payload.len() as u64);
        self.call.facts.upstream = self.sent.map(|sent| sent.elapsed());
    }

    /// When it is to be told that it takes long.
    pub fn due_at(&self, began: Instant) -> Option<Instant> {
        let is_tool = self.call.facts.event == Event::ToolCall;
        (is_tool && !self.is_long).then(|| began + limits::AUDIT_LONG_CALL)
    }

    pub fn look(&mut self, began: Instant) {
        let now = Instant::now();
        if self.due_at(began).is_none_or(|due| due > now) {
            return;
        }
        self.is_long = true;
        let facts = &mut self.call.facts;
        let ends_as = *facts;
        (facts.event, facts.outcome) = (Event::ToolBegin, audit::Outcome::Ok);
        facts.spent = now.saturating_duration_since(began);
        self.call.tell(now);
        self.call.facts = ends_as;
    }

    /// It began, took so long, and ended.
    pub fn tell(mut self, began: Instant, spent: Duration, outcome: Outcome) {
        let facts = &mut self.call.facts;
        facts.spent = spent;
        match outcome {
            Outcome::Success => facts.outcome = audit::Outcome::Ok,
            Outcome::ToolError => facts.is_error = Some(true),
            Outcome::Error(code) => {
                let by_server = facts.result_bytes.is_some();
                facts.reason = Some(match by_server {
                    true => Reason::Upstream,
                    false => Reason::BadRequest,
                });
                facts.code = Some(i64::from(code));
            }
            Outcome::Failed(reason) => {
                facts.reason = Some(Reason::Unavailable);
                facts.detail = reason.as_str();
            }
            Outcome::Cancelled => facts.reason = Some(Reason::Cancelled),
        }
        self.call.tell(began + spent);
    }
}
