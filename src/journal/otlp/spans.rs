//! Finished spans as the body of a request to `/v1/traces`. Pure.

use serde::Serialize;

use crate::journal::otlp::json::{Attribute, Resource, SCOPE, Scope};
use crate::journal::span::{Record, Role};
use crate::mcp::trace::Hex;

/// Flags beside those of the trace: it is known where the parent is, and it is elsewhere.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: &'a Resource,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Span<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    flags: u32,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    trace_id: String,
    span_id: String,
    flags: u32,
}

#[derive(Serialize)]
struct Status<'a> {
    message: &'a str,
    code: u8,
}

const FAILED: u8 = 2;

pub fn body(resource: &Resource, records: &[Record]) -> Vec<u8> {
    let body = Body {
        resource_spans: [ResourceSpans {
            resource,
            scope_spans: [ScopeSpans {
                scope: SCOPE,
                spans: records.iter().map(span).collect(),
            }],
        }],
    };
    // Texts and numbers only: there is nothing in it that cannot be written.
    serde_json::to_vec(&body).unwrap_or_default()
}

fn span(record: &Record) -> Span<'_> {
    let context = &record.context;
    let is_remote = record.role == Role::Server && record.parent.is_some();
    let attributes = record.attributes.iter();
    Span {
        trace_id: context.trace_text(),
        span_id: context.span_text(),
        trace_state: context.state.as_deref(),
        parent_span_id: record.parent.map(|id| Hex(&id).to_string()),
        flags: u32::from(context.flags) | KNOWN | if is_remote { REMOTE } else { 0 },
        name: &record.name,
        kind: match record.role {
            Role::Server => 2,
            Role::Client => 3,
        },
        start_time_unix_nano: record.start_ns.to_string(),
        end_time_unix_nano: record.end_ns.to_string(),
        attributes: attributes
            .map(|(key, value)| Attribute::new(key, value))
            .collect(),
        links: record.link.iter().map(link).collect(),
        status: record.error.as_deref().map(|message| Status {
            message,
            code: FAILED,
        }),
    }
}

fn link((trace, span): &([u8; 16], [u8; 8])) -> Link {
    Link {
        trace_id: Hex(trace).to_string(),
        span_id: Hex(span).to_string(),
        flags: KNOWN | REMOTE,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::body;
    use crate::journal::otlp::json::{Attribute, Resource};
    use crate::journal::span::{Record, Role, Value};
    use crate::mcp::trace::TraceContext;

    #[test]
    fn a_span_has_the_form_of_the_protocol() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = TraceContext::parse(parent, Some("a=b")).expect("a context");
        let record = Record {
            parent: Some([1; 8]),
            link: Some(([2; 16], [3; 8])),
            role: Role::Server,
            name: "tools/call \"x\"".to_owned(),
            start_ns: 1_700_000_000_000_000_000,
            end_ns: 1_700_000_000_000_000_001,
            attributes: vec![
                ("mcp.method.name", Value::Text("tools/call".to_owned())),
                ("server.port", Value::Number(443)),
            ],
            error: Some("no".to_owned()),
            context,
        };
        let resource = Resource {
            attributes: vec![Attribute::text("service.name", "onemcp")],
        };
        let read = |record| -> Json {
            let body = body(&resource, &[record]);
            serde_json::from_slice(&body).expect("JSON")
        };
        let whole = read(record);
        let spans = &whole["resourceSpans"][0];
        assert_eq!(
            spans["resource"]["attributes"],
            json!([{"key": "service.name", "value": {"stringValue": "onemcp"}}])
        );
        assert_eq!(spans["scopeSpans"][0]["scope"]["name"], "onemcp");
        assert_eq!(
            spans["scopeSpans"][0]["spans"][0],
            json!({
                "traceId": "0af7651916cd43dd8448eb211c80319c",
                "spanId": "b7ad6b7169203331",
                "traceState": "a=b",
                "parentSpanId": "0101010101010101",
                "flags": 0x301,
                "name": "tools/call \"x\"",
                "kind": 2,
                "startTimeUnixNano": "1700000000000000000",
                "endTimeUnixNano": "1700000000000000001",
                "attributes": [
                    {"key": "mcp.method.name", "value": {"stringValue": "tools/call"}},
                    {"key": "server.port", "value": {"intValue": "443"}},
                ],
                "links": [{
                    "traceId": "02020202020202020202020202020202",
                    "spanId": "0303030303030303",
                    "flags": 0x300,
                }],
                "status": {"message": "no", "code": 2},
            })
        );
    }
}
