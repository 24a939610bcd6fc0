//! The trace of a call as its server is told of it: in the `_meta` of the request, and over HTTP
//! in headers too. It is taken from the request that this thread works on. What the client said
//! itself in `_meta`, and what needs no change, leaves as it came.

use crate::journal::context::{self, Context};
use crate::journal::span::{self, Role, Span};
use crate::mcp::trace::{BAGGAGE, PARENT, STATE, TraceContext, baggage_is_good};
use crate::upstream::remote::Remote;
use crate::wire::json::quoted;
use crate::wire::members::{Members, edited, span_in};
use crate::wire::message::FROM_SERVER;

/// Where a request goes, as far as a span tells it.
pub struct Towards<'a> {
    pub server: &'a str,
    /// Set for a server over HTTP.
    pub remote: Option<&'a Remote>,
}

/// The line of a request as it leaves, and the span of the call if it is recorded.
#[inline]
pub fn outgoing(line: Vec<u8>, towards: &Towards<'_>) -> (Vec<u8>, Option<Span>) {
    match context::with(Context::is_traced) {
        Some(true) => told(line, towards),
        Some(false) | None => (line, None),
    }
}

#[cold]
fn told(line: Vec<u8>, towards: &Towards<'_>) -> (Vec<u8>, Option<Span>) {
    let work = context::current();
    let text = str::from_utf8(&line).ok().map(str::trim_end);
    let request = text.and_then(Request::read);
    let (Some(work), Some(text), Some(request)) = (work, text, request) else {
        return (line, None);
    };
    let recorded = work.trace.as_ref().filter(|_| span::is_on());
    let span = recorded
        .filter(|trace| trace.sampled())
        .map(|trace| request.span(trace, towards));
    let trace = span.as_ref().and_then(Span::context);
    let Some(words) = request.words(trace.or(work.trace.as_ref()), work.baggage.as_deref()) else {
        return (line, span);
    };
    let mut changed = edited(text, request.rewritten(text, &words));
    changed.push(b'\n');
    (changed, span)
}

/// A request on its way, as far as a trace is concerned.
struct Request<'a> {
    message: Members<'a>,
    params: Option<Members<'a>>,
    meta: Option<Members<'a>>,
}

/// What is said in `_meta` instead of what stands there.
struct Words {
    members: String,
    of_trace: bool,
    of_baggage: bool,
}

impl Words {
    fn replace(&self, key: &str) -> bool {
        match key {
            PARENT | STATE => self.of_trace,
            BAGGAGE => self.of_baggage,
            _ => false,
        }
    }
}

impl<'a> Request<'a> {
    fn read(text: &'a str) -> Option<Request<'a>> {
        let object = |raw: &'a str, depth| Members::parse(raw, depth, FROM_SERVER).ok();
        let message = object(text, 0)?;
        let params = message.get("params").and_then(|raw| object(raw, 1));
        let meta = params.as_ref().and_then(|params| params.get("_meta"));
        let meta = meta.and_then(|raw| object(raw, 2));
        Some(Request {
            message,
            params,
            meta,
        })
    }

    /// What must be written; `None` when the request says it already, or can say nothing.
    fn words(&self, trace: Option<&TraceContext>, baggage: Option<&str>) -> Option<Words> {
        let has_odd_meta = self.meta.is_none()
            && self
                .params
                .as_ref()
                .is_some_and(|params| params.get("_meta").is_some());
        if has_odd_meta {
            return None;
        }
        let said = self.meta.as_ref().and_then(trace_in);
        let trace = trace.filter(|trace| said.as_ref() != Some(*trace));
        let said = self.meta.as_ref().and_then(|meta| meta.string(BAGGAGE));
        let baggage = baggage.filter(|baggage| said.as_deref() != Some(*baggage));
        let mut members = Vec::new();
        let mut add = |key: &str, value: &str| {
            members.push(format!("\"{key}\":{}", quoted(value)));
        };
        if let Some(trace) = trace {
            add(PARENT, &trace.parent());
            if let Some(state) = &trace.state {
                add(STATE, state);
            }
        }
        if let Some(baggage) = baggage {
            add(BAGGAGE, baggage);
        }
        (!members.is_empty()).then(|| Words {
            members: members.join(","),
            of_trace: trace.is_some(),
            of_baggage: baggage.is_some(),
        })
    }

    fn rewritten(&self, text: &str, words: &Words) -> Vec<(std::ops::Range<usize>, String)> {
        let meta = || format!("\"_meta\":{{{}}}", words.members);
        match (&self.params, &self.meta) {
            (_, Some(meta)) => meta.rewritten(text, |key| words.replace(key), &words.members),
            (Some(params), None) => params.rewritten(text, |_| false, &meta()),
            (None, None) => {
                let params = format!("{{{}}}", meta());
                match self.message.get("params") {
                    Some(raw) => vec![(span_in(text, raw), params)],
                    None => {
                        let params = format!("\"params\":{params}");
                        self.message.rewritten(text, |_| false, &params)
                    }
                }
            }
        }
    }

    fn span(&self, parent: &TraceContext, towards: &Towards<'_>) -> Span {
        let text = |key: &str| self.params.as_ref().and_then(|params| params.string(key));
        let method = self.message.string("method").unwrap_or_default();
        let mut span = Span::begin(Role::Client, method.to_string(), Some(parent));
        span.set_request(&method, text("name").as_deref(), text("uri").as_deref());
        span.is_about_it();
        span.set("onemcp.server", towards.server);
        span.set(
            "jsonrpc.request.id",
            self.message.get("id").unwrap_or_default(),
        );
        match towards.remote.map(Remote::address) {
            None => span.set("network.transport", "pipe"),
            Some(address) => {
                span.set("network.transport", "tcp");
                span.set("network.protocol.name", "http");
                if let Some((host, port)) = address {
                    span.set("server.address", host.as_str());
                    span.set("server.port", i64::from(port));
                }
            }
        }
        span
    }
}

fn trace_in(meta: &Members<'_>) -> Option<TraceContext> {
    TraceContext::parse(&meta.string(PARENT)?, meta.string(STATE).as_deref())
}

/// The headers that repeat what a line says in its `_meta` of a trace. Most say nothing, and are
/// not read for it.
pub fn headers(line: &str) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let mentions = |name: &str| memchr::memmem::find(line.as_bytes(), name.as_bytes()).is_some();
    if !mentions(PARENT) && !mentions(BAGGAGE) {
        return headers;
    }
    let Some(meta) = Request::read(line).and_then(|request| request.meta) else {
        return headers;
    };
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
    if let Some(trace) = trace_in(&meta) {
        add(PARENT, trace.parent());
        trace.state.into_iter().for_each(|state| add(STATE, state));
    }
    let baggage = meta.string(BAGGAGE);
    if let Some(baggage) = baggage.filter(|baggage| baggage_is_good(baggage)) {
        add(BAGGAGE, baggage.into_owned());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::{Towards, headers, outgoing};
    use crate::journal::context::{self, Context};
    use crate::mcp::trace::TraceContext;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn sent(line: &str, trace: Option<(&str, Option<&str>)>, baggage: Option<&str>) -> String {
        let trace = trace.and_then(|(parent, state)| TraceContext::parse(parent, state));
        let _working = context::enter(Context {
            trace,
            baggage: baggage.map(str::to_owned),
            ..Context::next()
        });
        let towards = Towards {
            server: "s",
            remote: None,
        };
        let (line, span) = outgoing(format!("{line}\n").into_bytes(), &towards);
        assert!(span.is_none());
        let text = String::from_utf8(line).expect("text");
        let text = text.strip_suffix('\n').expect("a line").to_owned();
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        text
    }

    #[test]
    fn what_needs_no_change_leaves_as_it_came() {
        let said = format!(r#"{{"id":1, "params":{{"_meta":{{"traceparent" : "{PARENT}"}}}}}}"#);
        let unknown = said.replace("-00\"", "-f0\"");
        let odd = r#"{"id":1,"params":{"_meta":7}}"#;
        for line in [said.as_str(), &unknown, odd] {
            assert_eq!(sent(line, Some((PARENT, None)), None), line);
        }
        for line in [r#"{"id":1,"params":{}}"#, "{\"id\":1}", &said] {
            assert_eq!(sent(line, None, None), line);
        }
        let baggage = r#"{"params":{"_meta":{"baggage":"a=b"}}}"#;
        assert_eq!(sent(baggage, None, Some("a=b")), baggage);
    }

    #[test]
    fn a_trace_that_came_otherwise_is_said_in_meta() {
        let trace = Some((PARENT, Some("a=b")));
        let said = format!(r#""traceparent":"{PARENT}","tracestate":"a=b""#);
        let old = r#""traceparent":"x","tracestate":"y""#;
        for (line, left) in [
            (
                r#"{"id":1,"params":{"name":"a" }}"#.to_owned(),
                format!(r#"{{"id":1,"params":{{"_meta":{{{said}}},"name":"a" }}}}"#),
            ),
            (
                r#"{"id":1,"params":{"_meta":{"progressToken":7},"n":1.0}}"#.to_owned(),
                format!(r#"{{"id":1,"params":{{"_meta":{{{said},"progressToken":7}},"n":1.0}}}}"#),
            ),
            (
                format!(r#"{{"params":{{"_meta":{{{old}}}}}}}"#),
                format!(r#"{{"params":{{"_meta":{{{said}}}}}}}"#),
            ),
            (
                format!(r#"{{"params":{{"_meta":{{"baggage":"c=d",{old}}}}}}}"#),
                format!(r#"{{"params":{{"_meta":{{{said},"baggage":"c=d"}}}}}}"#),
            ),
            (
                r#"{"method":"ping"}"#.to_owned(),
                format!(r#"{{"params":{{"_meta":{{{said}}}}},"method":"ping"}}"#),
            ),
            (
                r#"{"params":null}"#.to_owned(),
                format!(r#"{{"params":{{"_meta":{{{said}}}}}}}"#),
            ),
        ] {
            assert_eq!(sent(&line, trace, None), left, "{line}");
        }
        let both = sent(r#"{"params":{}}"#, Some((PARENT, None)), Some("k=\"v\""));
        assert_eq!(
            both,
            format!(r#"{{"params":{{"_meta":{{"traceparent":"{PARENT}","baggage":"k=\"v\""}}}}}}"#)
        );
    }

    #[test]
    fn headers_repeat_what_is_good_in_meta() {
        let of = |meta: &str| {
            let line = format!(r#"{{"method":"tools/call","params":{{"_meta":{{{meta}}}}}}}"#);
            let headers = headers(&line).into_iter();
            let parts = headers.map(|(name, value)| format!("{name}: {value}"));
            parts.collect::<Vec<_>>().join("|")
        };
        let parent = format!(r#""traceparent":"{PARENT}""#);
        assert_eq!(of(&parent), format!("traceparent: {PARENT}"));
        assert_eq!(
            of(&format!(r#"{parent},"tracestate":"a=b","baggage":"c=d""#)),
            format!("traceparent: {PARENT}|tracestate: a=b|baggage: c=d")
        );
        assert_eq!(of(r#""baggage":"c=d","tracestate":"a=b""#), "baggage: c=d");
        for none in [
            r#""traceparent":"x""#,
            r#""traceparent":7,"baggage":"no""#,
            "\"baggage\":\"a=b\\r\\nX: y\"",
            r#""progressToken":"traceparent""#,
        ] {
            assert_eq!(of(none), "", "{none}");
        }
        assert_eq!(
            headers(r#"{"method":"traceparent","params":"baggage"}"#),
            []
        );
    }
}
