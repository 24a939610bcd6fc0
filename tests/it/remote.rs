//! Servers over HTTP, in every manner: what works over stdio works here too, and what only HTTP
//! can tell is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::Stream;
use crate::support::remote::{HttpFixture, Script, Seen, Wire, text};
use crate::support::rig::Rig;
use crate::support::servers::with;
use crate::support::session::{Session, reporting_call, text_of, tool_call};
use crate::support::stateless::Client;

fn able() -> Value {
    json!({"elicitation": {}, "sampling": {}, "roots": {"listChanged": true}})
}

fn call(session: &Session, tool: &str, arguments: Value) -> Stream {
    session.stream(tool_call(&json!(1), &format!("ev_1mcp_{tool}"), &arguments))
}

#[track_caller]
fn end(mut stream: Stream) -> String {
    let (before, answer) = stream.answer();
    assert_eq!(before, Vec::<Value>::new());
    text_of(&answer["result"])
}

#[track_caller]
fn asked(stream: &mut Stream, method: &str) -> Value {
    let message = stream.message();
    assert_eq!(message["method"], method, "{message}");
    message["id"].clone()
}

/// Everything that a client in a session can do with a server in one.
fn everything_works(entry: Value) {
    let rig = Rig::start(json!({"ev": entry}));
    let mut session = rig.session_with(able());
    lists_calls_and_progress(&mut session);
    questions(&mut session);
    logs(&mut session);
    news(&rig, &mut session);
    rig.stop();
}

fn lists_calls_and_progress(session: &mut Session) {
    assert!(session.names("tools").contains(&"ev_1mcp_greet".to_owned()));
    assert!(!session.names("prompts").is_empty());
    let greeting = session.text("ev_1mcp_greet", json!({"name": "x\n\"é"}));
    assert_eq!(greeting, "Hello, x\n\"é!");
    let read = session.get("resources/read", json!({"uri": "test://static-text"}));
    assert!(read["contents"][0]["text"].is_string(), "{read}");
    let big = "y".repeat(2_000_000);
    let echoed = session.text("ev_1mcp_echo", json!({"text": big}));
    assert_eq!(echoed.len(), big.len());
    let tool = "ev_1mcp_test_tool_with_progress";
    let body = reporting_call(&json!("q"), tool, &json!({}), &json!("mine"));
    let (before, answer) = session.stream(body).answer();
    let steps: Vec<&Value> = before.iter().map(|m| &m["params"]["progress"]).collect();
    assert_eq!(steps, [0, 50, 100]);
    assert!(
        before
            .iter()
            .all(|m| m["params"]["progressToken"] == "mine")
    );
    assert_eq!(answer["id"], "q");
}

fn questions(session: &mut Session) {
    let mut stream = call(session, "test_elicitation", json!({"message": "Who?"}));
    let id = asked(&mut stream, "elicitation/create");
    let content = json!({"username": "u", "email": "e"});
    session.answer(&id, json!({"action": "accept", "content": content}));
    let said = format!("User response: action=accept, content={content}");
    assert_eq!(end(stream), said);
    let mut stream = call(session, "test_sampling", json!({"prompt": "Say hi"}));
    let id = asked(&mut stream, "sampling/createMessage");
    let content = json!({"type": "text", "text": "hi"});
    session.answer(
        &id,
        json!({"role": "assistant", "content": content, "model": "m"}),
    );
    assert_eq!(end(stream), "LLM response: hi");
    let mut stream = call(session, "roots", json!({}));
    let id = asked(&mut stream, "roots/list");
    session.answer(&id, json!({"roots": [{"uri": "file:///r", "name": "r"}]}));
    assert_eq!(end(stream), r#"[{"uri":"file:///r","name":"r"}]"#);
}

fn logs(session: &mut Session) {
    session.get("logging/setLevel", json!({"level": "debug"}));
    let arguments = json!({"level": "debug", "text": "a detail"});
    let (before, _) = call(session, "log", arguments).answer();
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!(before[0]["params"]["data"], "a detail");
}

/// Calls that the server has in work. One that it has just answered may still count, so the
/// same number must be seen several times.
fn in_work(session: &mut Session) -> u64 {
    let mut look = || {
        let known = session.text("ev_1mcp_whoami", json!({}));
        let known: Value = serde_json::from_str(&known).unwrap();
        known["calls"].as_u64().unwrap() - 1
    };
    let (mut count, mut same) = (look(), 1);
    while same < 5 {
        let next = look();
        same = if next == count { same + 1 } else { 1 };
        count = next;
    }
    count
}

#[test]
fn a_call_taken_back_is_taken_back_at_the_server() {
    let server = HttpFixture::start(&[]);
    for entry in [server.entry(), server.old_entry()] {
        let rig = Rig::start(json!({"ev": entry}));
        let mut session = rig.session();
        let body = tool_call(&json!("slow"), "ev_1mcp_sleep", &json!({"ms": 60_000}));
        let running = session.send(body);
        eventually("the call is in work", || in_work(&mut session) == 1);
        session.notify("notifications/cancelled", json!({"requestId": "slow"}));
        eventually("the server was told", || in_work(&mut session) == 0);
        drop(running);
        rig.stop();
    }
}

fn news(rig: &Rig, session: &mut Session) {
    let mut listening = session.listen();
    session.call("ev_1mcp_test_trigger_tool_change", json!({}));
    let news = listening.message();
    assert_eq!(news["method"], "notifications/tools/list_changed", "{news}");
    let uri = json!({"uri": "test://watched-resource"});
    session.get("resources/subscribe", uri.clone());
    session.call("ev_1mcp_test_update_resource", json!({}));
    let news = listening.message();
    assert_eq!(news["method"], "notifications/resources/updated", "{news}");
    assert_eq!(news["params"]["uri"], uri["uri"]);
    session.get("resources/unsubscribe", uri);
    assert_eq!(rig.server("ev")["restarts"], 0);
}

#[test]
fn everything_works_over_streamable_http() {
    let server = HttpFixture::start(&[]);
    everything_works(server.entry());
}

#[test]
fn everything_works_over_http_with_sse_which_is_found_out() {
    let server = HttpFixture::start(&[]);
    everything_works(server.old_entry());
}

#[test]
fn everything_works_when_the_manner_is_configured() {
    let server = HttpFixture::start(&["--era", "dual"]);
    everything_works(with(server.old_entry(), json!({"type": "sse"})));
}

#[test]
fn everything_works_with_a_stateless_server() {
    let server = HttpFixture::start(&["--era", "modern"]);
    everything_works(server.entry());
}

#[test]
fn questions_of_calls_at_the_same_time_go_to_their_own_callers() {
    let server = HttpFixture::start(&[]);
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut sessions: Vec<Session> = (0..4).map(|_| rig.session_with(able())).collect();
    let mut streams: Vec<Stream> = (0..4)
        .map(|n| {
            let arguments = json!({"token": format!("t{n}"), "message": format!("m{n}")});
            call(&sessions[n], "ask_name", arguments)
        })
        .collect();
    let questions: Vec<Value> = streams.iter_mut().map(Stream::message).collect();
    for (n, question) in questions.iter().enumerate().rev() {
        let message = question["params"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("m{n}")), "{question}");
        let content = json!({"name": format!("n{n}")});
        sessions[n].answer(
            &question["id"],
            json!({"action": "accept", "content": content}),
        );
    }
    for (n, stream) in streams.into_iter().enumerate() {
        assert_eq!(end(stream), format!("t{n}:n{n}"));
    }
    // None of them needed a server session beside the shared one.
    assert_eq!(rig.server("ev")["restarts"], 0);
    rig.stop();
}

#[test]
fn a_server_that_forgets_its_session_is_greeted_anew_and_told_what_it_forgot() {
    let server = HttpFixture::start(&["--drop-session-after", "12"]);
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    let mut listening = session.listen();
    session.get("logging/setLevel", json!({"level": "debug"}));
    let uri = json!({"uri": "test://watched-resource"});
    session.get("resources/subscribe", uri.clone());
    for n in 0..20 {
        let greeting = session.text("ev_1mcp_greet", json!({"name": n.to_string()}));
        assert_eq!(greeting, format!("Hello, {n}!"));
    }
    eventually("the server knows the level again", || {
        let known = session.text("ev_1mcp_whoami", json!({}));
        let known: Value = serde_json::from_str(&known).unwrap();
        known["logLevel"] == "debug"
    });
    eventually("the server knows the subscription again", || {
        session.call("ev_1mcp_test_update_resource", json!({}));
        let event = listening.event(std::time::Duration::from_millis(200));
        let message = event.and_then(|event| event.message()).unwrap_or_default();
        message["params"]["uri"] == uri["uri"]
    });
    assert_eq!(rig.server("ev")["restarts"], 0);
    rig.stop();
}

#[test]
fn a_stateless_server_serves_stateless_clients() {
    let server = HttpFixture::start(&["--era", "modern", "--reject-first-headers"]);
    let rig = Rig::start(json!({"ev": server.entry()}));
    let client = Client::new(rig.port, "/mcp");
    // The first call is refused for its headers, read up on, and sent once more.
    assert_eq!(
        client.text("ev_1mcp_greet", json!({"name": "é"})),
        "Hello, é!"
    );
    let mut stream = client.listen(&json!("l"), &json!({"toolsListChanged": true}));
    let acknowledged = stream.message();
    assert_eq!(
        acknowledged["method"],
        "notifications/subscriptions/acknowledged"
    );
    client.text("ev_1mcp_test_trigger_tool_change", json!({}));
    let news = stream.message();
    assert_eq!(news["method"], "notifications/tools/list_changed", "{news}");
    stream.cut();
    let arguments = json!({"region": " eu-é ", "shard": 7});
    let request = client
        .request(
            &json!(1),
            "tools/call",
            &json!({"name": "ev_1mcp_test_custom_header", "arguments": arguments}),
        )
        .with("Mcp-Param-Region", "=?base64?IGV1LcOpIA==?=")
        .with("Mcp-Param-Shard", "7");
    let answer = client.send(&request).messages().pop().unwrap();
    assert!(answer["result"]["isError"].is_null(), "{answer}");
    assert!(text_of(&answer["result"]).contains("eu-é"), "{answer}");
    rig.stop();
}

/// Greets as a stateless server does, with these tools.
fn introduces_itself(seen: &Seen, wire: &mut Wire, tools: &Value) -> bool {
    let mut about = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "public"});
    match seen.what() {
        "server/discover" => {
            about["supportedVersions"] = json!(["2026-07-28"]);
            about["capabilities"] = json!({"tools": {}});
        }
        "tools/list" => about["tools"] = tools.clone(),
        _ => return false,
    }
    wire.result(seen, &about);
    true
}

#[test]
fn the_end_of_a_stateless_call_is_the_end_of_its_exchange() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let server = Script::start(move |seen, wire| {
        let tools = json!([{"name": "t", "inputSchema": {"type": "object"}}]);
        if seen.what() == "tools/call" {
            wire.events();
            wire.wait_for_end();
            count.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        introduces_itself(seen, wire, &tools)
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let client = Client::new(rig.port, "/mcp");
    let params = json!({"name": "ev_1mcp_t", "arguments": {}});
    let stream = client.stream(&json!(1), "tools/call", &params);
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    stream.cut();
    eventually("the exchange is over", || ended.load(Ordering::SeqCst) == 1);
    // A stateless server is told nothing beside requests.
    let told: Vec<String> = server
        .seen()
        .iter()
        .map(|seen| seen.what().to_owned())
        .collect();
    assert_eq!(told, ["server/discover", "tools/list", "tools/call"]);
    rig.stop();
}

#[test]
fn a_tool_with_forbidden_headers_is_left_out_alone() {
    let tool = |name: &str, mark: &str| {
        let region = json!({"type": "string", "x-mcp-header": mark});
        json!({"name": name, "inputSchema": {"type": "object", "properties": {"r": region}}})
    };
    let tools = json!([
        tool("good", "Region"),
        tool("bad", "a b"),
        tool("fine", "R")
    ]);
    let server = Script::start(move |seen, wire| {
        if seen.what() != "tools/call" {
            return introduces_itself(seen, wire, &tools);
        }
        let region = seen.header("Mcp-Param-Region").unwrap_or("-");
        let name = seen.header("Mcp-Name").unwrap_or("-");
        let mut result = text(&format!("{name} {region}"));
        result["resultType"] = json!("complete");
        wire.result(seen, &result);
        true
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    assert_eq!(session.names("tools"), ["ev_1mcp_good", "ev_1mcp_fine"]);
    let client = Client::new(rig.port, "/mcp");
    let params = json!({"name": "ev_1mcp_good", "arguments": {"r": "eu"}});
    let request = client.request(&json!(1), "tools/call", &params);
    let reply = client.send(&request.with("Mcp-Param-Region", "eu"));
    let answer = reply.messages().pop().unwrap();
    assert_eq!(text_of(&answer["result"]), "good eu");
    for seen in server.seen() {
        let version = seen.header("MCP-Protocol-Version");
        assert_eq!(version, Some("2026-07-28"), "{seen:?}");
        assert_eq!(seen.header("Mcp-Method"), seen.body["method"].as_str());
    }
    rig.stop();
}

#[test]
fn instances_go_by_the_list_that_the_shared_one_read() {
    let region = json!({"type": "string", "x-mcp-header": "Region"});
    let schema = json!({"type": "object", "properties": {"r": region}});
    let tools = json!([{"name": "good", "inputSchema": schema}]);
    let server = Script::start(move |seen, wire| {
        if seen.what() != "tools/call" {
            return introduces_itself(seen, wire, &tools);
        }
        let mut result = text(seen.header("Mcp-Param-Region").unwrap_or("-"));
        result["resultType"] = json!("complete");
        wire.result(seen, &result);
        true
    });
    let entry = with(server.entry(), json!({"instances": "session"}));
    let rig = Rig::start(json!({"ev": entry}));
    let mut session = rig.session();
    assert_eq!(session.text("ev_1mcp_good", json!({"r": "eu"})), "eu");
    let long = json!({"name": "ev_1mcp_good", "arguments": {"r": "x".repeat(10_000)}});
    let error = session.refused("tools/call", long);
    assert!(
        error["message"].to_string().contains("10000 bytes"),
        "{error}"
    );
    assert_eq!(server.count("tools/call"), 1);
    rig.stop();
}

#[test]
fn a_session_of_its_own_is_a_session_at_the_server() {
    let server = HttpFixture::start(&[]);
    let entry = with(server.entry(), json!({"instances": "session"}));
    let rig = Rig::start(json!({"ev": entry}));
    let (mut first, mut second) = (rig.session_with(able()), rig.session());
    let known = |session: &mut Session| -> Value {
        serde_json::from_str(&session.text("ev_1mcp_whoami", json!({}))).unwrap()
    };
    let (one, two) = (known(&mut first), known(&mut second));
    assert!(one["capabilities"]["sampling"].is_object(), "{one}");
    assert!(two["capabilities"]["sampling"].is_null(), "{two}");
    assert_eq!(two["clientInfo"]["name"], "it", "{two}");
    rig.stop();
}

#[test]
fn what_is_configured_goes_with_every_request_and_a_session_is_given_back() {
    let server = Script::start(|seen, wire| {
        if seen.method == "GET" {
            wire.events();
            wire.wait_for_end();
            return true;
        }
        false
    });
    let entry = with(server.entry(), json!({"headers": {"X-Key": "${KEY}"}}));
    let rig = crate::support::rig::Plan::new(json!({"ev": entry}))
        .env("KEY", "k1")
        .start();
    assert_eq!(rig.session().text("ev_1mcp_t", json!({})), "done");
    eventually("the stream is open", || server.count("GET") == 1);
    rig.stop();
    let seen = server.seen();
    let (first, rest) = seen.split_at(2);
    assert_eq!(first[0].what(), "server/discover");
    assert_eq!(first[1].what(), "initialize");
    assert!(first[1].header("Mcp-Session-Id").is_none());
    assert_eq!(rest[0].what(), "notifications/initialized");
    assert_eq!(rest.last().map(|seen| seen.what()), Some("DELETE"));
    for seen in rest {
        assert_eq!(seen.header("Mcp-Session-Id"), Some("s1"), "{seen:?}");
        assert_eq!(seen.header("MCP-Protocol-Version"), Some("2025-06-18"));
    }
    assert!(seen.iter().all(|seen| seen.header("X-Key") == Some("k1")));
}
