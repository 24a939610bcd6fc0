//! The trace of a client's request: what it carries in headers and in `_meta`, and the span that
//! we record of it while somebody takes spans (`journal::span`). What servers are told then is
//! decided where their requests leave (`upstream::traced`).
//!
//! `_meta` speaks of the request itself, headers of the HTTP request around it: the first counts,
//! the second is its parent if there is no other, and a link of its span otherwise.

use std::borrow::Cow;

use crate::front::request::Params;
use crate::http::Head;
use crate::journal::context::{self, Context, Guard};
use crate::journal::span::{self, Role, Span};
use crate::mcp::method::Method;
use crate::mcp::trace::{self, BAGGAGE, PARENT, STATE, TraceContext};
use crate::wire::json::string_value;
use crate::wire::members::Members;

/// The work on an HTTP request, with the trace that its headers carry.
pub fn work_on(head: &Head<'_>) -> Context {
    let mut work = Context::next();
    work.handed = context::handed(|name| {
        let mut values = head.header_values(name);
        // Two are none: nobody can know which is meant.
        let first = values.next();
        first.filter(|_| values.next().is_none())
    });
    if head.header(PARENT).is_none() && head.header(BAGGAGE).is_none() {
        return work;
    }
    work.trace = of_headers(head);
    let baggage: Vec<&str> = head.header_values(BAGGAGE).collect();
    let baggage = baggage.join(",");
    work.baggage = trace::baggage_is_good(&baggage).then_some(baggage);
    work
}

fn of_headers(head: &Head<'_>) -> Option<TraceContext> {
    let mut parents = head.header_values(PARENT);
    // Two are none: nobody can know which is meant.
    let (Some(parent), None) = (parents.next(), parents.next()) else {
        return None;
    };
    let states: Vec<&str> = head.header_values(STATE).collect();
    let state = (!states.is_empty()).then(|| states.join(","));
    TraceContext::parse(parent, state.as_deref())
}

/// What a request of a client is worked on as, if it has a trace or is recorded.
pub struct Traced {
    work: Context,
    pub span: Option<Span>,
}

/// What a request asks for, as far as its span tells it.
pub struct Asked<'a> {
    pub method: &'a str,
    /// Raw JSON.
    pub id: &'a str,
    pub revision: &'static str,
    /// It is the body of an HTTP request.
    pub is_http: bool,
    pub params: Option<&'a Params<'a>>,
}

impl Traced {
    /// `None` in the usual case: nothing is known of a trace that its thread does not know yet.
    pub fn begin(asked: &Asked<'_>) -> Option<Traced> {
        let meta = asked.params.and_then(Params::meta);
        let says = |key: &str| meta.is_some_and(|meta| meta.get(key).is_some());
        if !span::is_on() && !says(PARENT) && !says(BAGGAGE) {
            return None;
        }
        let around = context::current().unwrap_or_else(Context::next);
        Some(Traced::of(asked, meta, around))
    }

    #[cold]
    fn of(asked: &Asked<'_>, meta: Option<&Members<'_>>, around: Context) -> Traced {
        let own = meta.and_then(|meta| {
            let state = meta.string(STATE);
            TraceContext::parse(&meta.string(PARENT)?, state.as_deref())
        });
        let baggage = meta.and_then(|meta| meta.string(BAGGAGE));
        let baggage = baggage.filter(|baggage| trace::baggage_is_good(baggage));
        let parent = own.as_ref().or(around.trace.as_ref());
        let span = span::is_wanted(parent).then(|| {
            let mut span = asked.span(parent);
            if let (Some(_), Some(transport)) = (&own, &around.trace) {
                span.link(transport);
            }
            span
        });
        let trace = span.as_ref().and_then(Span::context).or(parent).cloned();
        let work = Context {
            request: around.request,
            trace,
            baggage: baggage.map(Cow::into_owned).or(around.baggage),
            handed: around.handed,
            who: around.who,
            from: around.from,
        };
        Traced { work, span }
    }

    /// This thread works on it until the guard is dropped.
    pub fn enter(&self) -> Guard {
        context::enter(self.work.clone())
    }
}

impl<'a> Asked<'a> {
    /// Which revision it will be is not known yet.
    pub fn initialize(id: &'a str, is_http: bool) -> Asked<'a> {
        Asked {
            method: "initialize",
            id,
            revision: "",
            is_http,
            params: None,
        }
    }

    fn span(&self, parent: Option<&TraceContext>) -> Span {
        let text = |key: &str| self.params.and_then(|params| params.string(key));
        // Any text can be asked for, and each name of a span counts at who takes it.
        let is_known = Method::parse(self.method).is_some();
        let method = if is_known { self.method } else { "_OTHER" };
        let mut span = Span::begin(Role::Server, method.to_owned(), parent);
        span.set_request(method, text("name").as_deref(), text("uri").as_deref());
        if !self.revision.is_empty() {
            span.set("mcp.protocol.version", self.revision);
        }
        let id = string_value(self.id).unwrap_or(Cow::Borrowed(self.id));
        span.set("jsonrpc.request.id", &*id);
        if self.is_http {
            span.set("network.transport", "tcp");
            span.set("network.protocol.name", "http");
        }
        span
    }
}

#[cfg(test)]
mod tests {
    use super::work_on;
    use crate::http::{Head, Parsed, no_fields};

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn told(headers: &str) -> (Option<String>, Option<String>, Option<String>) {
        let text = format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let mut fields = no_fields();
        let Parsed::Complete(head) = Head::parse(text.as_bytes(), &mut fields) else {
            panic!("{text}");
        };
        let work = work_on(&head);
        let state = work.trace.as_ref().and_then(|trace| trace.state.clone());
        let parent = work.trace.map(|trace| trace.parent());
        (parent, state, work.baggage)
    }

    #[test]
    fn headers_are_read_as_the_standards_want_it() {
        let parent = format!("TraceParent:  {PARENT} \r\n");
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(told(""), (None, None, None));
        assert_eq!(told(&parent), (text(PARENT), None, None));
        let two = format!("tracestate: a=b\r\n{parent}tracestate: c=d\r\nbaggage: x=y\r\n");
        assert_eq!(told(&two), (text(PARENT), text("a=b,c=d"), text("x=y")));
        let lists = "baggage: x=y\r\nBaggage: z=1\r\n";
        assert_eq!(told(lists), (None, None, text("x=y,z=1")));
        // Nobody can know which of two is meant.
        assert_eq!(told(&parent.repeat(2)), (None, None, None));
        assert_eq!(told("tracestate: a=b\r\n"), (None, None, None));
        assert_eq!(
            told("traceparent: 00-1\r\nbaggage: x\r\n"),
            (None, None, None)
        );
    }
}
