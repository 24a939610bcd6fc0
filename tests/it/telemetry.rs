//! Traces: continued from clients to servers whatever way they come, and recorded for a receiver
//! of OTLP, which may be slow, refuse, or not be there.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::fidelity::{call, mirror};
use crate::support::eventually;
use crate::support::remote::{Script, Seen, Wire};
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, with};
use crate::support::session::{Session, tool_call};
use crate::support::sse;
use crate::support::stateless::Client;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";

/// The parameters that the mirror got, as text.
fn mirrored(session: &mut Session, params: &str, headers: &[(&str, &str)]) -> String {
    let reply = session.post_with(&call("1", params), headers);
    let text = reply.text.clone();
    let text = text.strip_prefix(r#"{"jsonrpc":"2.0","id":1,"result":"#);
    let text = text.unwrap_or_else(|| panic!("{reply:?}"));
    text.strip_suffix('}').expect("an object").to_owned()
}

const CALL: &str = r#"{"name":"mirror_1mcp_mirror","arguments":{"n":1.10}}"#;

#[test]
fn a_trace_in_headers_reaches_a_child_in_meta() {
    let rig = Rig::start(json!({"mirror": mirror()}));
    let mut session = rig.session();
    let plain = r#"{"name":"mirror","arguments":{"n":1.10}}"#;
    assert_eq!(mirrored(&mut session, CALL, &[]), plain);
    let told =
        |meta: &str| format!(r#"{{"_meta":{{{meta}}},"name":"mirror","arguments":{{"n":1.10}}}}"#);
    let headers = [
        ("Traceparent", PARENT),
        ("tracestate", "a=b,c=d"),
        ("baggage", "user=x%20y"),
    ];
    let all = format!(r#""traceparent":"{PARENT}","tracestate":"a=b,c=d","baggage":"user=x%20y""#);
    assert_eq!(mirrored(&mut session, CALL, &headers), told(&all));
    let alone = mirrored(&mut session, CALL, &headers[..1]);
    assert_eq!(alone, told(&format!(r#""traceparent":"{PARENT}""#)));
    let baggage = mirrored(&mut session, CALL, &headers[2..]);
    assert_eq!(baggage, told(r#""baggage":"user=x%20y""#));
    // What is no trace is not passed on.
    for bad in [
        vec![("traceparent", "00-1"), ("tracestate", "a=b")],
        vec![("baggage", "nonsense")],
    ] {
        assert_eq!(mirrored(&mut session, CALL, &bad), plain, "{bad:?}");
    }
    rig.stop();
}

#[test]
fn what_the_request_says_itself_counts_and_stays_as_it_is() {
    let rig = Rig::start(json!({"mirror": mirror()}));
    let mut session = rig.session();
    let said = format!(r#""_meta":{{"x":1e-400, "traceparent" : "{OTHER}" }}"#);
    let params = format!(r#"{{"name":"mirror_1mcp_mirror",{said}}}"#);
    let left = format!(r#"{{"name":"mirror",{said}}}"#);
    for headers in [vec![], vec![("traceparent", PARENT)]] {
        assert_eq!(mirrored(&mut session, &params, &headers), left);
    }
    let baggage = mirrored(&mut session, &params, &[("baggage", "a=b")]);
    let more = left.replace(r#"{"x""#, r#"{"baggage":"a=b","x""#);
    assert_eq!(baggage, more);
    rig.stop();
}

/// The last call of a tool that a scripted server saw.
fn last_call(script: &Script) -> Seen {
    let seen = script.seen();
    let call = seen.iter().rfind(|seen| seen.what() == "tools/call");
    call.expect("a call").clone()
}

#[test]
fn a_server_over_http_gets_it_in_headers_and_in_meta() {
    let script = Script::start(|_, _| false);
    let own = Script::start(|_, _| false);
    let entry = with(own.entry(), json!({"headers": {"Traceparent": OTHER}}));
    let rig = Rig::start(json!({"web": script.entry(), "own": entry}));
    let mut session = rig.session();
    session.call("web_1mcp_t", json!({}));
    let seen = last_call(&script);
    assert_eq!(seen.header("traceparent").or(seen.header("baggage")), None);
    assert!(seen.body["params"].get("_meta").is_none(), "{seen:?}");
    let body = tool_call(&json!(1), "web_1mcp_t", &json!({}));
    let headers = [("traceparent", PARENT), ("baggage", "a=b")];
    assert_eq!(session.post_with(&body, &headers).status(), 200);
    let seen = last_call(&script);
    assert_eq!(seen.header("traceparent"), Some(PARENT));
    assert_eq!(seen.header("baggage"), Some("a=b"));
    let meta = json!({"traceparent": PARENT, "baggage": "a=b"});
    assert_eq!(seen.body["params"]["_meta"], meta);
    let meta = json!({"traceparent": PARENT, "tracestate": "k=v"});
    session.get("tools/call", json!({"name": "web_1mcp_t", "_meta": meta}));
    let seen = last_call(&script);
    assert_eq!(seen.header("traceparent"), Some(PARENT));
    assert_eq!(seen.header("tracestate"), Some("k=v"));
    assert_eq!(seen.body["params"]["_meta"], meta);
    // A header that the operator wrote stands alone.
    session.get("tools/call", json!({"name": "own_1mcp_t", "_meta": meta}));
    assert_eq!(last_call(&own).header("traceparent"), Some(OTHER));
    rig.stop();
}

#[test]
fn a_stateless_request_carries_its_trace_into_a_session() {
    let rig = Rig::start(json!({"mirror": mirror()}));
    let client = Client::new(rig.port, "/mcp");
    let params = json!({"name": "mirror_1mcp_mirror", "arguments": {}});
    let request = client.request(&json!(1), "tools/call", &params);
    let seen = client.send(&request.with("traceparent", PARENT)).json();
    assert_eq!(seen["result"]["_meta"]["traceparent"], PARENT, "{seen}");
    rig.stop();
}

#[test]
fn a_message_on_a_channel_belongs_to_the_trace_of_its_own_request() {
    let script = Script::start(|_, _| false);
    let rig = Rig::start(json!({"web": script.entry()}));
    let mut client = sse::Client::open(rig.port, "/sse", "2025-06-18", json!({}));
    let body = tool_call(&json!("a"), "web_1mcp_t", &json!({}));
    client.post_with(&body, ("traceparent", PARENT));
    client.answer(&json!("a"));
    assert_eq!(last_call(&script).header("traceparent"), Some(PARENT));
    client.post(tool_call(&json!("b"), "web_1mcp_t", &json!({})));
    client.answer(&json!("b"));
    assert_eq!(last_call(&script).header("traceparent"), None);
    rig.stop();
}

/// A receiver of OTLP that a test looks into.
struct Receiver {
    script: Script,
    /// What it answers.
    status: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
}

impl Receiver {
    fn start() -> Receiver {
        let status = Arc::new(AtomicUsize::new(200));
        let hangs = Arc::new(AtomicBool::new(false));
        let (answer, hanging) = (status.clone(), hangs.clone());
        let script = Script::start(move |_, wire: &mut Wire| {
            if hanging.load(Ordering::SeqCst) {
                wire.wait_for_end();
                return true;
            }
            let status = answer.load(Ordering::SeqCst).try_into().unwrap();
            wire.json(status, "", &json!({"partialSuccess": {}}));
            true
        });
        Receiver {
            script,
            status,
            hangs,
        }
    }

    fn plan(&self, servers: Value) -> Plan {
        let otlp = json!({"endpoint": self.script.url(""), "interval": 200,
            "headers": {"X-Key": "hunter2"}});
        Plan::new(servers).set("otlp", otlp)
    }

    /// Spans by their name, as they came.
    fn spans(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for seen in self.script.seen() {
            for resource in seen.body["resourceSpans"].as_array().into_iter().flatten() {
                let scopes = resource["scopeSpans"].as_array().into_iter().flatten();
                all.extend(scopes.flat_map(|scope| scope["spans"].as_array().unwrap().clone()));
            }
        }
        all
    }

    fn named(&self, name: &str, kind: u64) -> Vec<Value> {
        let mut spans = self.spans();
        spans.retain(|span| span["name"] == name && span["kind"] == kind);
        spans
    }

    /// Waits for the one span of this name and kind.
    fn one(&self, name: &str, kind: u64) -> Value {
        eventually("the span arrives", || !self.named(name, kind).is_empty());
        let spans = self.named(name, kind);
        assert_eq!(spans.len(), 1, "{spans:?}");
        spans[0].clone()
    }
}

const SERVER: u64 = 2;
const CLIENT: u64 = 3;

fn attributes(span: &Value) -> BTreeMap<String, String> {
    let all = span["attributes"].as_array().unwrap().iter();
    let text = |value: &Value| match value.get("stringValue") {
        Some(text) => text.as_str().unwrap().to_owned(),
        None => value["intValue"].as_str().unwrap().to_owned(),
    };
    all.map(|one| (one["key"].as_str().unwrap().to_owned(), text(&one["value"])))
        .collect()
}

fn id_in(parent: &str) -> (&str, &str) {
    let mut parts = parent.split('-').skip(1);
    (parts.next().unwrap(), parts.next().unwrap())
}

#[test]
fn a_call_is_a_span_of_the_gateway_and_one_below_it() {
    let receiver = Receiver::start();
    let rig = receiver.plan(json!({"mirror": mirror()})).start();
    let mut session = rig.session();
    let params = mirrored(
        &mut session,
        CALL,
        &[("traceparent", PARENT), ("tracestate", "a=b")],
    );
    let meta = serde_json::from_str::<Value>(&params).unwrap()["_meta"].clone();
    let told = meta["traceparent"].as_str().unwrap();
    let server = receiver.one("tools/call mirror_1mcp_mirror", SERVER);
    let client = receiver.one("tools/call mirror", CLIENT);
    assert_eq!(server["traceId"], TRACE);
    assert_eq!(server["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(server["traceState"], "a=b");
    assert_eq!(client["traceId"], TRACE);
    assert_eq!(client["parentSpanId"], server["spanId"]);
    assert_eq!(id_in(told), (TRACE, client["spanId"].as_str().unwrap()));
    assert_eq!(meta["tracestate"], "a=b");
    let times = |span: &Value| -> (u64, u64) {
        let time = |key: &str| span[key].as_str().unwrap().parse().unwrap();
        (time("startTimeUnixNano"), time("endTimeUnixNano"))
    };
    let (outer, inner) = (times(&server), times(&client));
    assert!(
        outer.0 <= inner.0 && inner.0 < inner.1,
        "{outer:?} {inner:?}"
    );
    let said = attributes(&server);
    for (key, value) in [
        ("mcp.method.name", "tools/call"),
        ("gen_ai.operation.name", "execute_tool"),
        ("gen_ai.tool.name", "mirror_1mcp_mirror"),
        ("jsonrpc.request.id", "1"),
        ("mcp.protocol.version", "2025-11-25"),
        ("network.transport", "tcp"),
    ] {
        assert_eq!(said.get(key).map(String::as_str), Some(value), "{said:?}");
    }
    assert!(server.get("status").is_none(), "{server}");
    let said = attributes(&client);
    assert_eq!(said["network.transport"], "pipe");
    assert_eq!(said["gen_ai.tool.name"], "mirror");
    assert_eq!(said["onemcp.server"], "mirror");
    assert!(receiver.script.seen().iter().all(|seen| {
        seen.header("X-Key") == Some("hunter2")
            && seen.header("Content-Type") == Some("application/json")
    }));
    rig.stop();
}

#[test]
fn a_trace_begins_here_and_failures_are_told() {
    let receiver = Receiver::start();
    let rig = receiver.plan(json!({"ev": everything(&[])})).start();
    let mut session = rig.session();
    session.call("ev_1mcp_test_error_handling", json!({}));
    session.refused("tools/call", json!({"name": "none"}));
    let client = Client::new(rig.port, "/mcp");
    client.get("tools/list", &json!({}));
    let failed = receiver.one("tools/call ev_1mcp_test_error_handling", SERVER);
    assert_eq!(failed["status"]["code"], 2, "{failed}");
    assert_eq!(attributes(&failed)["error.type"], "tool_error");
    assert!(failed.get("parentSpanId").is_none(), "{failed}");
    let below = receiver.one("tools/call test_error_handling", CLIENT);
    assert_eq!(below["traceId"], failed["traceId"]);
    assert_eq!(attributes(&below)["error.type"], "tool_error");
    // What does not exist makes no names.
    let unknown = receiver.one("tools/call", SERVER);
    assert_eq!(attributes(&unknown)["gen_ai.tool.name"], "none");
    assert_eq!(attributes(&unknown)["error.type"], "-32602");
    assert_ne!(unknown["traceId"], failed["traceId"]);
    let message = unknown["status"]["message"].as_str().unwrap();
    assert!(message.contains("none"), "{unknown}");
    let list = receiver.one("tools/list", SERVER);
    assert_eq!(attributes(&list)["mcp.protocol.version"], "2026-07-28");
    receiver.one("initialize", SERVER);
    rig.stop();
}

#[test]
fn who_does_not_answer_in_time_is_told_from_who_is_not_waited_for() {
    let receiver = Receiver::start();
    let entry = with(everything(&[]), json!({"requestTimeout": 2500}));
    let rig = receiver.plan(json!({"ev": entry})).start();
    let mut session = rig.session();
    session.refused(
        "tools/call",
        json!({"name": "ev_1mcp_sleep", "arguments": {"ms": 5000}}),
    );
    let late = receiver.one("tools/call ev_1mcp_sleep", SERVER);
    assert_eq!(attributes(&late)["error.type"], "timeout");
    let below = receiver.one("tools/call sleep", CLIENT);
    assert_eq!(attributes(&below)["error.type"], "timeout");
    let client = Client::new(rig.port, "/mcp");
    let call = json!({"name": "ev_1mcp_sleep", "arguments": {"ms": 5000}});
    client.stream(&json!(1), "tools/call", &call).cut();
    eventually("it is taken back", || {
        let spans = receiver.named("tools/call sleep", CLIENT);
        spans
            .iter()
            .any(|span| attributes(span)["error.type"] == "cancelled")
    });
    rig.stop();
}

#[test]
fn who_began_a_trace_decides_whether_it_is_recorded() {
    let receiver = Receiver::start();
    let plan = receiver.plan(json!({"mirror": mirror()}));
    let rig = plan.arg("--otlp-trace-percent").arg("0").start();
    let mut session = rig.session();
    let plain = r#"{"name":"mirror","arguments":{"n":1.10}}"#;
    assert_eq!(mirrored(&mut session, CALL, &[]), plain);
    let unsampled = PARENT.replace("-01", "-00");
    let params = mirrored(&mut session, CALL, &[("traceparent", &unsampled)]);
    assert!(params.contains(&unsampled), "{params}");
    let params = mirrored(&mut session, CALL, &[("traceparent", PARENT)]);
    assert!(
        !params.contains(PARENT) && params.contains(TRACE),
        "{params}"
    );
    receiver.one("tools/call mirror", CLIENT);
    assert_eq!(receiver.spans().len(), 2);
    rig.stop();
}

#[test]
fn metrics_are_pushed_under_the_names_of_the_conventions() {
    let receiver = Receiver::start();
    let rig = receiver.plan(json!({"ev": everything(&[])})).start();
    rig.session().text("ev_1mcp_echo", json!({"text": "x"}));
    let find = |name: &str| {
        let seen = receiver.script.seen();
        let bodies = seen
            .iter()
            .rev()
            .map(|seen| &seen.body["resourceMetrics"][0]);
        let metrics = bodies.filter_map(|body| body["scopeMetrics"][0]["metrics"].as_array());
        let mut all = metrics.flatten();
        all.find(|metric| metric["name"] == name).cloned()
    };
    eventually("durations arrive", || {
        find("mcp.server.operation.duration").is_some()
    });
    let durations = find("mcp.server.operation.duration").unwrap();
    assert_eq!(durations["unit"], "s");
    assert_eq!(durations["histogram"]["aggregationTemporality"], 2);
    rig.stop();
}

#[test]
fn a_reload_switches_traces_off_and_brings_another_key() {
    let receiver = Receiver::start();
    let rig = receiver.plan(json!({"mirror": mirror()})).start();
    let mut session = rig.session();
    mirrored(&mut session, CALL, &[]);
    receiver.one("tools/call mirror", CLIENT);
    let file = rig.folder().join("mcp.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    config["gateway"]["features"]["traces"] = false.into();
    config["gateway"]["otlp"]["headers"]["X-Key"] = "another-key".into();
    fs::write(&file, config.to_string()).unwrap();
    signal(rig.pid, Signal::HUP);
    let plain = r#"{"name":"mirror","arguments":{"n":1.10}}"#;
    eventually("calls leave as they came", || {
        mirrored(&mut session, CALL, &[]) == plain
    });
    // Metrics go on, with the new key.
    eventually("the new key is used", || {
        let seen = receiver.script.seen();
        seen.iter()
            .any(|seen| seen.header("X-Key") == Some("another-key"))
    });
    let log = rig.stderr();
    assert!(
        !log.contains("hunter2") && !log.contains("another-key"),
        "{log}"
    );
    rig.stop();
}

#[test]
fn spans_that_the_receiver_refuses_are_counted() {
    let script = Script::start(|_, wire: &mut Wire| {
        let refused = json!({"rejectedSpans": "1", "errorMessage": "too old"});
        wire.json(200, "", &json!({"partialSuccess": refused}));
        true
    });
    let plan = Plan::new(json!({"ev": everything(&[])}));
    let otlp = json!({"endpoint": script.url(""), "interval": 200});
    let rig = plan.set("otlp", otlp).start();
    rig.session().text("ev_1mcp_echo", json!({"text": "x"}));
    eventually("it is counted", || {
        let text = rig.get("/metrics").text;
        let mut lines = text.lines();
        lines.any(|line| {
            line.strip_prefix("onemcp_spans_dropped_total ")
                .is_some_and(|count| count != "0")
        })
    });
    rig.stop();
}

#[test]
fn what_is_left_is_sent_at_the_end() {
    let receiver = Receiver::start();
    let plan = receiver.plan(json!({"ev": everything(&[])}));
    let rig = plan.start();
    rig.session().text("ev_1mcp_echo", json!({"text": "x"}));
    rig.stop();
    assert_eq!(receiver.named("tools/call echo", CLIENT).len(), 1);
}

#[test]
fn a_receiver_that_refuses_or_hangs_holds_nobody_up() {
    let receiver = Receiver::start();
    receiver.status.store(503, Ordering::SeqCst);
    let rig = receiver.plan(json!({"ev": everything(&[])})).start();
    let mut session = rig.session();
    session.text("ev_1mcp_echo", json!({"text": "x"}));
    eventually("it is asked", || !receiver.spans().is_empty());
    // It is tried again, with the same spans, until it takes them.
    let first = receiver.spans()[0]["spanId"].clone();
    receiver.status.store(200, Ordering::SeqCst);
    let times = || {
        receiver
            .spans()
            .iter()
            .filter(|span| span["spanId"] == first)
            .count()
    };
    eventually("it is tried again", || times() > 1);
    receiver.hangs.store(true, Ordering::SeqCst);
    let began = Instant::now();
    for _ in 0..200 {
        session.text("ev_1mcp_echo", json!({"text": "x"}));
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    let log = rig.stderr();
    assert!(!log.contains("hunter2"), "{log}");
    let ending = Instant::now();
    rig.stop();
    assert!(ending.elapsed() < Duration::from_secs(10));
}
