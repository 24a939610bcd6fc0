//! Clients of the stateless revision, over servers of both eras.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::{Connection, Reply, Request, Stream};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{everything, hostile};
use crate::support::session::text_of;
use crate::support::stateless::{Client, REVISION, key};
use crate::support::{PATIENCE, eventually};

const ERAS: [&str; 2] = ["legacy", "modern"];

fn everything_of(era: &str) -> Value {
    everything(&["--era", era])
}

fn rig(era: &str) -> (Rig, Client) {
    let rig = Rig::start(json!({"ev": everything_of(era)}));
    let client = Client::new(rig.port, "/mcp/ev");
    (rig, client)
}

fn code(reply: &Reply) -> i64 {
    reply.json()["error"]["code"].as_i64().unwrap_or_default()
}

fn call(tool: &str, arguments: Value) -> Value {
    json!({"name": tool, "arguments": arguments})
}

/// Asserts what a request is refused with, under its own id.
#[track_caller]
fn refused(client: &Client, request: &Request, id: &Value, status: u16, expected: i64) -> Value {
    let reply = client.send(request);
    assert_eq!(
        (reply.status(), code(&reply)),
        (status, expected),
        "{reply:?}"
    );
    assert_eq!(reply.json()["id"], *id, "{reply:?}");
    reply.json()["error"].clone()
}

#[test]
fn what_a_request_must_say_is_checked_in_its_order() {
    let (rig, client) = rig("legacy");
    let id = json!("n");
    let good = || client.request(&id, "tools/list", &json!({}));
    assert_eq!(client.send(&good()).status(), 200);
    let refused = |request: &Request, status, code| refused(&client, request, &id, status, code);
    let without = |name: &str| {
        let mut body = client.body(&id, "tools/list", &json!({}));
        body["params"]["_meta"]
            .as_object_mut()
            .unwrap()
            .remove(name);
        client.post(&body)
    };
    refused(&good().with("MCP-Protocol-Version", ""), 400, -32020);
    refused(&without(&key("protocolVersion")), 400, -32602);
    refused(&without(&key("clientCapabilities")), 400, -32602);
    let bare = json!({"jsonrpc": "2.0", "id": "n", "method": "tools/list"});
    refused(&client.post(&bare), 400, -32602);
    let odd = client.able(json!([]));
    refused(&odd.request(&id, "tools/list", &json!({})), 400, -32602);
    refused(
        &good().with("MCP-Protocol-Version", "2025-11-25"),
        400,
        -32020,
    );
    refused(&good().with("Mcp-Method", ""), 400, -32020);
    refused(&good().with("Mcp-Method", "Tools/list"), 400, -32020);
    let future = client.with(&key("protocolVersion"), json!("2099-01-01"));
    let future = future.request(&id, "nonsense", &json!({}));
    let error = refused(
        &future.with("MCP-Protocol-Version", "2099-01-01"),
        400,
        -32022,
    );
    let expected = json!({"supported": [REVISION], "requested": "2099-01-01"});
    assert_eq!(error["data"], expected);
    let level = client.with(&key("logLevel"), json!("loud"));
    refused(&level.request(&id, "tools/list", &json!({})), 400, -32602);
    let nobody = client.with(&key("clientInfo"), json!("it"));
    refused(&nobody.request(&id, "tools/list", &json!({})), 400, -32602);
    rig.stop();
}

#[test]
fn capabilities_say_each_thing_once() {
    let (rig, client) = rig("legacy");
    let declaring = |capabilities: &str| {
        let marked = client.able(json!({"here": 1}));
        let body = marked
            .body(&json!("n"), "tools/list", &json!({}))
            .to_string();
        let body = body.replace("{\"here\":1}", capabilities);
        let request = Request::post("/mcp/ev", body)
            .with("MCP-Protocol-Version", REVISION)
            .with("Mcp-Method", "tools/list");
        client.send(&request)
    };
    assert_eq!(declaring("{\"elicitation\":{\"url\":{}}}").status(), 200);
    for twice in [
        "{\"roots\":{},\"roots\":{}}",
        "{\"elicitation\":{\"url\":{},\"\\u0075rl\":{}}}",
    ] {
        let reply = declaring(twice);
        assert_eq!((reply.status(), code(&reply)), (400, -32602), "{reply:?}");
        assert_eq!(reply.json()["id"], "n");
    }
    rig.stop();
}

#[test]
fn a_resource_of_no_server_is_what_this_era_calls_it() {
    let rig = Rig::start(json!({"a": everything(&[]), "b": everything(&[])}));
    let client = Client::new(rig.port, "/mcp");
    let uri = "nobody://has-it";
    let answer = client.ask("resources/read", &json!({"uri": uri}));
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert_eq!(answer["error"]["data"]["uri"], uri, "{answer}");
    let mut session = rig.session();
    let answer = session.ask("resources/read", json!({"uri": uri}));
    assert_eq!(answer["error"]["code"], -32002, "{answer}");
    rig.stop();
}

#[test]
fn what_is_no_request_of_this_era_is_refused_at_the_edge() {
    let (rig, client) = rig("legacy");
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "nonsense",
    ] {
        let request = client.request(&json!(3), method, &json!({"uri": "x"}));
        refused(&client, &request, &json!(3), 404, -32601);
    }
    let notice = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {}});
    let reply = client.send(&client.post(&notice));
    assert_eq!((reply.status(), reply.text.as_str()), (202, ""));
    let response = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    assert_eq!(client.send(&client.post(&response)).status(), 400);
    let batch = json!([client.body(&json!(1), "tools/list", &json!({}))]);
    let reply = client.send(&client.post(&batch));
    assert_eq!((reply.status(), code(&reply)), (400, -32600));
    for method in ["GET", "DELETE"] {
        let request = Request::new(method, "/mcp/ev")
            .with("Accept", "text/event-stream")
            .with("MCP-Protocol-Version", REVISION);
        let reply = client.send(&request);
        assert_eq!(reply.status(), 405, "{reply:?}");
    }
    let lost = Client::new(rig.port, "/mcp/nobody");
    let request = lost.request(&json!(1), "tools/list", &json!({}));
    refused(&lost, &request, &json!(1), 404, -32602);
    rig.stop();
}

#[test]
fn session_headers_mean_nothing_and_no_session_is_made() {
    let (rig, client) = rig("legacy");
    let request = client
        .request(&json!(1), "tools/list", &json!({}))
        .with("Mcp-Session-Id", "stream-unknown")
        .with("Last-Event-ID", "1-1");
    let reply = client.send(&request);
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.head.header("Mcp-Session-Id"), None);
    let mut session = rig.session_at("/mcp/ev");
    let revision = session.get("tools/list", json!({}));
    assert!(revision.get("resultType").is_none());
    // A header of this era alone makes a request that lacks the rest of it.
    let body = json!({"jsonrpc": "2.0", "id": 4, "method": "tools/list"}).to_string();
    let request = session.sign(Request::post("/mcp/ev", body));
    let request = request.with("MCP-Protocol-Version", REVISION);
    refused(&client, &request, &json!(4), 400, -32602);
    rig.stop();
}

#[test]
fn names_in_headers_are_those_of_the_body() {
    let (rig, client) = rig("legacy");
    let params = call("echo", json!({"text": "x"}));
    let with = |name: &str| {
        let request = client.request(&json!(1), "tools/call", &params);
        client.send(&request.with("Mcp-Name", name))
    };
    assert_eq!(text_of(&with("echo").json()["result"]), "x");
    assert_eq!(text_of(&with("  echo ").json()["result"]), "x");
    assert_eq!(text_of(&with("=?base64?ZWNobw==?=").json()["result"]), "x");
    for wrong in [
        "",
        "Echo",
        "=?base64?ZWNobw=?=",
        "=?base64?ZWN*bw==?=",
        "ZWNobw==",
    ] {
        let reply = with(wrong);
        assert_eq!((reply.status(), code(&reply)), (400, -32020), "{wrong}");
    }
    rig.stop();
}

#[test]
fn arguments_with_a_header_are_those_of_the_body() {
    for era in ERAS {
        let (rig, client) = rig(era);
        let with = |region: Value, header: &str| {
            let params = call("test_custom_header", json!({"region": region}));
            let request = client.request(&json!(1), "tools/call", &params);
            client.send(&request.with("Mcp-Param-Region", header))
        };
        assert_eq!(with(json!("Hello"), "=?base64?SGVsbG8=?=").status(), 200);
        assert_eq!(with(json!("SGVsbG8="), "SGVsbG8=").status(), 200);
        let literal = "=?base64?SGVsbG8=";
        assert_eq!(with(json!(literal), literal).status(), 200);
        for (value, header) in [
            (json!("Hello"), ""),
            (json!("Hello"), "hello"),
            (json!("Hello"), "=?base64?SGVsbG8?="),
            (json!("Hello"), "=?base64?SGVs!!!bG8=?="),
            (json!(null), "Hello"),
        ] {
            let reply = with(value.clone(), header);
            assert_eq!(
                (reply.status(), code(&reply)),
                (400, -32020),
                "{value} {header}"
            );
        }
        rig.stop();
    }
}

#[track_caller]
fn is_complete(result: &Value) {
    assert_eq!(result["resultType"], "complete", "{result}");
    let info = &result["_meta"][key("serverInfo")];
    assert_eq!(info["name"], "onemcp", "{result}");
}

#[track_caller]
fn is_cacheable(result: &Value) {
    is_complete(result);
    assert!(result["ttlMs"].is_u64(), "{result}");
    let scope = result["cacheScope"].as_str();
    assert!(matches!(scope, Some("public" | "private")), "{result}");
}

#[test]
fn discovery_and_lists_are_those_of_the_era() {
    for era in ERAS {
        let (rig, client) = rig(era);
        let found = client.get("server/discover", &json!({}));
        is_cacheable(&found);
        assert_eq!(found["supportedVersions"], json!([REVISION]));
        assert!(found["instructions"].is_string());
        let capabilities = json!({
            "completions": {},
                "extensions": {"io.modelcontextprotocol/tasks": {}},
            "logging": {},
            "prompts": {"listChanged": true},
            "resources": {"listChanged": true, "subscribe": true},
            "tools": {"listChanged": true},
        });
        assert_eq!(found["capabilities"], capabilities);
        for (kind, member) in [
            ("tools", "tools"),
            ("prompts", "prompts"),
            ("resources", "resources"),
            ("resources/templates", "resourceTemplates"),
        ] {
            let page = client.get(&format!("{kind}/list"), &json!({}));
            is_cacheable(&page);
            let entries = page[member].as_array().unwrap();
            assert!(!entries.is_empty(), "{page}");
            let tasks = entries
                .iter()
                .find(|e| e["execution"].get("taskSupport").is_some());
            assert_eq!(tasks, None);
        }
        let request = client.request(&json!(1), "tools/list", &json!({"cursor": "x"}));
        refused(&client, &request, &json!(1), 200, -32602);
        rig.stop();
    }
}

#[test]
fn calls_reach_servers_of_both_eras() {
    for era in ERAS {
        let (rig, client) = rig(era);
        let result = client.get("tools/call", &call("echo", json!({"text": "hi"})));
        is_complete(&result);
        assert_eq!(text_of(&result), "hi");
        let read = client.get("resources/read", &json!({"uri": "test://static-text"}));
        is_cacheable(&read);
        assert!(read["contents"][0]["text"].is_string());
        is_complete(&client.get("prompts/get", &json!({"name": "test_simple_prompt"})));
        let reference = json!({"type": "ref/prompt", "name": "test_prompt_with_arguments"});
        let argument = json!({"name": "arg1", "value": ""});
        let params = json!({"ref": reference, "argument": argument});
        let found = client.get("completion/complete", &params);
        is_complete(&found);
        assert!(found["completion"]["values"].is_array());
        for uri in ["test://nonexistent-thing", "x:/\"1"] {
            let answer = client.ask("resources/read", &json!({"uri": uri}));
            assert_eq!(answer["error"]["code"], -32602, "{era}: {answer}");
            assert_eq!(answer["error"]["data"]["uri"], uri, "{era}: {answer}");
        }
        let answer = client.ask("tools/call", &call("nobody", json!({})));
        assert_eq!(answer["error"]["code"], -32602);
        rig.stop();
    }
}

#[test]
fn servers_hear_what_their_era_knows() {
    for era in ERAS {
        let (rig, client) = rig(era);
        let client = client.with("traceparent", json!("00-1-2-01"));
        let mut params = call("raw_params", json!({"n": 1}));
        params["inputResponses"] = json!({"k": {"action": "cancel"}});
        params["x"] = json!(1.5);
        let text = text_of(&client.get("tools/call", &params));
        let heard: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(heard["x"], 1.5);
        assert_eq!(heard["_meta"]["traceparent"], "00-1-2-01");
        let is_modern = era == "modern";
        assert_eq!(heard.get("inputResponses").is_some(), is_modern, "{heard}");
        let version = heard["_meta"].get(key("protocolVersion"));
        assert_eq!(version.is_some(), is_modern, "{heard}");
        rig.stop();
    }
}

#[test]
fn one_list_holds_servers_of_both_eras() {
    let servers = json!({"old": everything_of("legacy"), "new": everything_of("modern")});
    let rig = Rig::start(servers);
    let client = Client::new(rig.port, "/mcp");
    let mut session = rig.session();
    for server in ["old", "new"] {
        let tool = format!("{server}_1mcp_echo");
        assert_eq!(client.text(&tool, json!({"text": server})), server);
    }
    assert_eq!(session.text("old_1mcp_echo", json!({"text": "s"})), "s");
    let mut names: Vec<String> = Vec::new();
    let mut params = json!({});
    loop {
        let page = client.get("tools/list", &params);
        let tools = page["tools"].as_array().unwrap().iter();
        names.extend(tools.map(|tool| tool["name"].as_str().unwrap().to_owned()));
        match page.get("nextCursor") {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => break,
        }
    }
    assert_eq!(names, session.names("tools"));
    rig.stop();
}

/// The methods of all messages before the answer, and the answer.
fn told(mut stream: Stream) -> (Vec<Value>, Value) {
    let mut before = Vec::new();
    loop {
        let event = stream.next();
        assert_eq!((event.id.as_deref(), event.retry), (None, None));
        let message = event.message().unwrap();
        if message.get("method").is_none() {
            assert!(stream.is_over());
            return (before, message);
        }
        before.push(message);
    }
}

#[test]
fn progress_opens_a_stream_that_cannot_be_resumed() {
    for era in ERAS {
        let (rig, client) = rig(era);
        let client = client.with("progressToken", json!("7"));
        let params = call("slow_progress", json!({"steps": 3, "ms": 5}));
        let stream = client.stream(&json!(9), "tools/call", &params);
        assert_eq!(stream.head.header("X-Accel-Buffering"), Some("no"));
        let (before, answer) = told(stream);
        assert!(!before.is_empty());
        for message in before {
            assert_eq!(message["params"]["progressToken"], "7", "{message}");
        }
        assert_eq!(answer["id"], 9);
        is_complete(&answer["result"]);
        let json_only = client
            .request(&json!(1), "tools/call", &params)
            .with("Accept", "application/json");
        is_complete(&client.send(&json_only).json()["result"]);
        rig.stop();
    }
}

#[test]
fn log_messages_come_only_to_who_asks_and_from_their_level_on() {
    for era in ERAS {
        let (rig, client) = rig(era);
        let log = |client: &Client, level: &str| -> usize {
            let params = call("log", json!({"level": level, "text": "x"}));
            let reply = client.send(&client.request(&json!(1), "tools/call", &params));
            let messages = reply.messages();
            is_complete(&messages.last().unwrap()["result"]);
            messages.len() - 1
        };
        let debug = client.with(&key("logLevel"), json!("debug"));
        let error = client.with(&key("logLevel"), json!("error"));
        assert_eq!(log(&client, "emergency"), 0);
        assert_eq!(log(&debug, "debug"), 1, "{era}");
        assert_eq!(log(&error, "warning"), 0);
        assert_eq!(log(&error, "critical"), 1);
        assert_eq!(log(&client, "emergency"), 0);
        rig.stop();
    }
}

fn in_work(client: &Client) -> u64 {
    let known: Value = serde_json::from_str(&client.text("whoami", json!({}))).unwrap();
    known["calls"].as_u64().unwrap() - 1
}

#[test]
fn a_client_that_goes_takes_its_request_back() {
    let (rig, client) = rig("legacy");
    let sleep = call("sleep", json!({"ms": 60_000}));
    let request = client.request(&json!(1), "tools/call", &sleep);
    let mut waiting = Connection::open(rig.port);
    waiting.send_only(&request);
    eventually("the call is in work", || in_work(&client) == 1);
    waiting.cut();
    eventually("it has ended", || in_work(&client) == 0);
    // And one whose stream is open already: it opens after a second of silence.
    let mut stream = client.stream(&json!(1), "tools/call", &sleep);
    assert!(stream.event(Duration::from_secs(5)).unwrap().comment);
    assert_eq!(in_work(&client), 1);
    stream.cut();
    eventually("it has ended too", || in_work(&client) == 0);
    rig.stop();
}

#[test]
fn a_client_that_only_ends_its_sending_gets_its_answer() {
    let (rig, client) = rig("legacy");
    let sleep = |ms: u64| {
        let params = call("sleep", json!({"ms": ms}));
        client.request(&json!(1), "tools/call", &params)
    };
    let mut half = Connection::open(rig.port);
    half.send_only(&sleep(400));
    half.end_sending();
    let mut stream = half.streamed();
    assert_eq!(stream.head.status, 200);
    assert!(stream.event(PATIENCE).unwrap().comment);
    assert_eq!(text_of(&stream.message()["result"]), "Slept 400 ms");
    // Nothing can be sent to find out whether this one still listens.
    let mut plain = Connection::open(rig.port);
    plain.send_only(&sleep(60_000).with("Accept", "application/json"));
    eventually("the call is in work", || in_work(&client) == 1);
    plain.end_sending();
    assert!(plain.is_closed_by_peer());
    eventually("it has ended", || in_work(&client) == 0);
    // Whoever goes is no error of ours.
    let mut gone = Connection::open(rig.port);
    gone.send_only(&sleep(60_000));
    eventually("the next call is in work", || in_work(&client) == 1);
    gone.cut();
    eventually("it has ended too", || in_work(&client) == 0);
    assert!(!rig.stderr().contains(" ERROR "), "{}", rig.stderr());
    rig.stop();
}

#[test]
fn a_server_without_an_answer_costs_its_time_only() {
    let mut server = hostile(&[]);
    server["requestTimeout"] = json!(300);
    let rig = Rig::start(json!({"ho": server}));
    let client = Client::new(rig.port, "/mcp/ho");
    let answer = client.ask("tools/call", &call("hang", json!({})));
    assert_eq!(answer["error"]["data"]["onemcp"]["reason"], "timeout");
    let answer = client.ask("tools/call", &call("crash", json!({})));
    assert_eq!(answer["error"]["data"]["onemcp"]["reason"], "crashed");
    rig.stop();
}

#[test]
fn a_question_for_what_is_not_declared_becomes_a_missing_capability() {
    let (rig, client) = rig("legacy");
    let params = call("test_sampling", json!({"prompt": "p"}));
    let reply = client.send(&client.request(&json!(1), "tools/call", &params));
    assert_eq!((reply.status(), code(&reply)), (400, -32021), "{reply:?}");
    let required = &reply.json()["error"]["data"]["requiredCapabilities"];
    assert_eq!(*required, json!({"sampling": {}}));
    rig.stop();
}

#[track_caller]
fn acknowledged(stream: &mut Stream, id: &Value, granted: &Value) {
    let message = stream.message();
    assert_eq!(
        message["method"],
        "notifications/subscriptions/acknowledged"
    );
    assert_eq!(message["params"]["notifications"], *granted, "{message}");
    assert_eq!(message["params"]["_meta"][key("subscriptionId")], *id);
}

fn trigger(client: &Client, tool: &str) {
    client.get("tools/call", &call(tool, json!({})));
}

#[test]
fn a_subscription_hears_what_it_asked_for_under_its_own_id() {
    let (mut rig, client) = rig("legacy");
    let tools_only = json!({"toolsListChanged": true});
    let prompts_only = json!({"promptsListChanged": true, "toolsListChanged": false});
    let mut tools = client.listen(&json!(1), &tools_only);
    acknowledged(&mut tools, &json!(1), &tools_only);
    let mut prompts = client.listen(&json!("1"), &prompts_only);
    acknowledged(
        &mut prompts,
        &json!("1"),
        &json!({"promptsListChanged": true}),
    );
    trigger(&client, "test_trigger_tool_change");
    let message = tools.message();
    assert_eq!(message["method"], "notifications/tools/list_changed");
    assert_eq!(message["params"]["_meta"][key("subscriptionId")], 1);
    trigger(&client, "test_trigger_prompt_change");
    let message = prompts.message();
    assert_eq!(message["method"], "notifications/prompts/list_changed");
    assert_eq!(message["params"]["_meta"][key("subscriptionId")], "1");
    rig.term();
    for (mut stream, id) in [(tools, json!(1)), (prompts, json!("1"))] {
        let message = stream.message();
        assert_eq!(message["id"], id);
        is_complete(&message["result"]);
        assert_eq!(message["result"]["_meta"][key("subscriptionId")], id);
        assert!(stream.is_over());
    }
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
}

#[test]
fn a_subscription_hears_of_its_resources_until_it_ends() {
    let (rig, client) = rig("legacy");
    let watched = "test://watched-resource";
    let filter = json!({"resourceSubscriptions": [watched, "test://nobody-has-it"]});
    let mut stream = client.listen(&json!(1), &filter);
    let granted = stream.message()["params"]["notifications"].clone();
    let granted = granted["resourceSubscriptions"].as_array().unwrap().clone();
    assert!(granted.contains(&json!(watched)), "{granted:?}");
    let subscribed = |client: &Client| -> usize {
        let known: Value = serde_json::from_str(&client.text("whoami", json!({}))).unwrap();
        let all = known["subscriptions"].as_array().unwrap();
        all.iter().filter(|uri| **uri == watched).count()
    };
    assert_eq!(subscribed(&client), 1);
    let mut second = client.listen(&json!(2), &json!({"resourceSubscriptions": [watched]}));
    second.message();
    trigger(&client, "test_update_resource");
    for (stream, id) in [(&mut stream, 1), (&mut second, 2)] {
        let message = stream.message();
        assert_eq!(message["method"], "notifications/resources/updated");
        assert_eq!(message["params"]["uri"], watched);
        assert_eq!(message["params"]["_meta"][key("subscriptionId")], id);
    }
    stream.cut();
    trigger(&client, "test_update_resource");
    assert_eq!(second.message()["params"]["uri"], watched);
    second.cut();
    eventually("the server is told", || subscribed(&client) == 0);
    rig.stop();
}

#[test]
fn a_subscription_that_makes_no_sense_is_refused() {
    let (rig, client) = rig("legacy");
    for params in [
        json!({}),
        json!({"notifications": []}),
        json!({"notifications": {"toolsListChanged": 1}}),
        json!({"notifications": {"resourceSubscriptions": "x"}}),
        json!({"notifications": {"resourceSubscriptions": [1]}}),
    ] {
        let request = client.request(&json!(5), "subscriptions/listen", &params);
        refused(&client, &request, &json!(5), 200, -32602);
    }
    let request = client
        .request(
            &json!(5),
            "subscriptions/listen",
            &json!({"notifications": {}}),
        )
        .with("Accept", "application/json");
    refused(&client, &request, &json!(5), 406, -32600);
    rig.stop();
}

#[test]
fn while_servers_start_lists_are_held_and_not_to_be_kept() {
    let servers = json!({"slow": hostile(&["--slow-start", "400"])});
    let rig = Plan::new(servers).start_unready();
    let client = Client::new(rig.port, "/mcp");
    let page = client.get("tools/list", &json!({}));
    assert!(!page["tools"].as_array().unwrap().is_empty());
    rig.stop();
}

#[test]
fn what_a_client_does_not_know_is_an_error_not_a_result() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/odd-stateless.sh");
    let rig = Rig::start(json!({"odd": {"command": "sh", "args": [script]}}));
    let plain = Client::new(rig.port, "/mcp/odd");
    let able = plain.able(json!({"elicitation": {}}));
    let bad = |client: &Client, tool: &str| {
        let answer = client.ask("tools/call", &call(tool, json!({})));
        assert_eq!(answer["error"]["code"], -32603, "{tool}: {answer}");
        assert_eq!(answer["error"]["data"]["onemcp"]["reason"], "bad_upstream");
    };
    for tool in ["insatiable", "task", "unknown_question", "nothing_asked"] {
        bad(&plain, tool);
    }
    // Declared are forms, not pages to visit.
    for tool in ["visits", "task", "unknown_question"] {
        bad(&able, tool);
    }
    let asked = able.get("tools/call", &call("insatiable", json!({})));
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(asked["inputRequests"]["f"]["method"], "elicitation/create");
    rig.stop();
}
