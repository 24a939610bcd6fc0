//! HTTP+SSE: old clients get everything that sessions give, on the one stream that they have.

use serde_json::{Value, json};

use crate::support::http::{Connection, Request};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{demo, everything, with};
use crate::support::session::{initialize, reporting_call, request, text_of, tool_call};
use crate::support::sse::Client;
use crate::support::{PATIENCE, eventually};

const SLEEP: &str = "ev_1mcp_sleep";

fn rig() -> Rig {
    Rig::start(json!({"ev": everything(&[])}))
}

fn able() -> Value {
    json!({"elicitation": {}, "sampling": {}, "roots": {}})
}

fn client(rig: &Rig) -> Client {
    Client::open(rig.port, "/sse", "2024-11-05", able())
}

fn in_work(client: &mut Client) -> u64 {
    let text = client.text("ev_1mcp_whoami", json!({}));
    let known: Value = serde_json::from_str(&text).unwrap();
    known["calls"].as_u64().unwrap() - 1
}

#[test]
fn lists_calls_and_errors_travel_on_the_stream() {
    let rig = rig();
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = Client::open(rig.port, "/sse", revision, json!({}));
        assert_eq!(client.welcome["protocolVersion"], revision);
        let tools = client.get("tools/list", json!({}));
        assert!(tools["tools"].as_array().unwrap().len() > 10);
        assert_eq!(client.get("ping", json!({})), json!({}));
        assert_eq!(
            client.text("ev_1mcp_greet", json!({"name": "a\nb"})),
            "Hello, a\nb!"
        );
        assert_eq!(client.ask("nonsense", json!({}))["error"]["code"], -32601);
        let unknown = client.ask("tools/call", json!({"name": "nope", "arguments": {}}));
        assert_eq!(unknown["error"]["code"], -32602);
    }
    rig.stop();
}

#[test]
fn progress_logs_and_questions_use_the_same_stream() {
    let rig = rig();
    let mut client = client(&rig);
    let arguments = json!({"steps": 3, "ms": 10});
    client.post(reporting_call(
        &json!("p"),
        "ev_1mcp_slow_progress",
        &arguments,
        &json!("t"),
    ));
    for step in 1..=3 {
        let report = client.next();
        assert_eq!(report["method"], "notifications/progress");
        assert_eq!(report["params"]["progressToken"], "t");
        assert_eq!(report["params"]["progress"], step);
    }
    assert_eq!(text_of(&client.next()["result"]), "Took 3 steps");
    client.get("logging/setLevel", json!({"level": "debug"}));
    let call = json!({"level": "info", "text": "a word"});
    client.post(tool_call(&json!(2), "ev_1mcp_log", &call));
    assert_eq!(client.next()["params"]["data"], "a word");
    client.answer(&json!(2));
    client.post(tool_call(
        &json!(3),
        "ev_1mcp_test_elicitation",
        &json!({"message": "Who?"}),
    ));
    let asked = client.expect("elicitation/create");
    client.reply(&asked["id"], json!({"action": "decline"}));
    let said = text_of(&client.answer(&json!(3))["result"]);
    assert!(said.contains("action=decline"), "{said}");
    client.post(tool_call(
        &json!(4),
        "ev_1mcp_test_sampling",
        &json!({"prompt": "Hi"}),
    ));
    let asked = client.expect("sampling/createMessage");
    let content = json!({"type": "text", "text": "hi"});
    client.reply(
        &asked["id"],
        json!({"role": "assistant", "content": content, "model": "m"}),
    );
    assert_eq!(
        text_of(&client.answer(&json!(4))["result"]),
        "LLM response: hi"
    );
    rig.stop();
}

#[test]
fn a_call_can_be_taken_back_while_it_runs() {
    let rig = rig();
    let mut client = client(&rig);
    client.post(tool_call(&json!("x"), SLEEP, &json!({"ms": 60_000})));
    eventually("the call is in work", || in_work(&mut client) == 1);
    client.notify("notifications/cancelled", json!({"requestId": "x"}));
    eventually("the call was taken back", || in_work(&mut client) == 0);
    // At once after it, too: the request is placed before its cancellation is looked at.
    client.post(tool_call(&json!("y"), SLEEP, &json!({"ms": 60_000})));
    client.notify("notifications/cancelled", json!({"requestId": "y"}));
    eventually("nothing is in work", || in_work(&mut client) == 0);
    rig.stop();
}

#[test]
fn changes_reach_every_stream_and_updates_those_who_asked() {
    let rig = rig();
    let (mut subscriber, mut other) = (client(&rig), client(&rig));
    let uri = json!({"uri": "test://watched-resource"});
    subscriber.get("resources/subscribe", uri.clone());
    other.text("ev_1mcp_test_update_resource", json!({}));
    let update = subscriber.expect("notifications/resources/updated");
    assert_eq!(update["params"]["uri"], uri["uri"]);
    subscriber.text("ev_1mcp_add_tool", json!({"name": "added"}));
    for client in [&mut subscriber, &mut other] {
        client.expect("notifications/tools/list_changed");
        let tools = client.get("tools/list", json!({}))["tools"].to_string();
        assert!(tools.contains("ev_1mcp_added"));
    }
    subscriber.get("resources/unsubscribe", uri);
    other.text("ev_1mcp_test_update_resource", json!({}));
    other.text("ev_1mcp_test_trigger_prompt_change", json!({}));
    assert_eq!(
        subscriber.next()["method"],
        "notifications/prompts/list_changed"
    );
    rig.stop();
}

#[test]
fn sessions_with_equal_ids_stay_apart() {
    let rig = rig();
    let mut clients: Vec<Client> = (0..8).map(|_| client(&rig)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let name = json!({"name": number.to_string()});
        client.post(tool_call(&json!(7), "ev_1mcp_greet", &name));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let text = text_of(&client.answer(&json!(7))["result"]);
        assert_eq!(text, format!("Hello, {number}!"));
    }
    rig.stop();
}

#[test]
fn requests_are_placed_in_the_order_in_which_they_came() {
    let rig = Rig::start(json!({"notes": demo("notes")}));
    let mut client = client(&rig);
    for id in 0..100 {
        let note = json!({"title": format!("n{id}"), "text": "x"});
        client.post(tool_call(&json!(id), "notes_1mcp_add_note", &note));
    }
    let found = client.text("notes_1mcp_search_notes", json!({"query": "n99"}));
    assert!(found.contains("n99"), "{found}");
    rig.stop();
}

#[test]
fn batches_belong_to_the_revisions_that_have_them() {
    let rig = rig();
    let batch = format!(
        "[{},{},{}]",
        request(&json!("a"), "ping", &json!({})),
        tool_call(&json!("b"), "ev_1mcp_greet", &json!({"name": "B"})),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
    );
    let mut client = Client::open(rig.port, "/sse", "2025-03-26", json!({}));
    client.post(batch.clone());
    let answers = client.next();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(text_of(&answers[1]["result"]), "Hello, B!");
    let mut client = Client::open(rig.port, "/sse", "2025-06-18", json!({}));
    client.post(batch);
    let refused = client.next();
    assert_eq!(
        (refused.get("id"), &refused["error"]["code"]),
        (None, &json!(-32600))
    );
    rig.stop();
}

#[test]
fn the_end_of_the_stream_ends_the_session_and_its_calls() {
    let servers = json!({
        "ev": everything(&[]),
        "own": with(everything(&[]), json!({"instances": "session"})),
    });
    let rig = Rig::start(servers);
    // The thread that accepts has such a name too.
    let is_quiet = || rig.threads_named("http-") == 1 && rig.threads_named("call") == 0;
    eventually("nobody is connected", is_quiet);
    let files = rig.files();
    let mut watching = client(&rig);
    let mut leaving = client(&rig);
    leaving.text("own_1mcp_greet", json!({"name": "x"}));
    for id in 0..5 {
        leaving.post(tool_call(&json!(id), SLEEP, &json!({"ms": 60_000})));
    }
    eventually("the calls are in work", || in_work(&mut watching) == 5);
    let endpoint = leaving.endpoint.clone();
    drop(leaving);
    eventually("the calls were taken back", || in_work(&mut watching) == 0);
    let late = rig.connect().exchange(&Request::post(
        &endpoint,
        request(&json!(1), "ping", &json!({})),
    ));
    assert_eq!(late.status(), 404);
    drop(watching);
    eventually("threads and files are given back", || {
        is_quiet() && rig.files() <= files
    });
    rig.stop();
}

#[test]
fn a_client_that_does_not_read_hurts_nobody_else() {
    let rig = rig();
    let mut slow = client(&rig);
    let mut quick = client(&rig);
    let big = json!({"name": "x".repeat(500_000)});
    for id in 0..64 {
        slow.post(tool_call(&json!(id), "ev_1mcp_greet", &big));
    }
    for _ in 0..20 {
        assert_eq!(
            quick.text("ev_1mcp_greet", json!({"name": "q"})),
            "Hello, q!"
        );
    }
    // It was only slow: everything is there once it reads.
    for id in 0..64 {
        assert!(slow.answer(&json!(id))["result"].is_object());
    }
    rig.stop();
}

#[test]
fn each_mistake_has_its_status() {
    let rig = rig();
    let mut client = client(&rig);
    let ping = request(&json!(1), "ping", &json!({}));
    let post = |target: &str, body: &str| {
        rig.connect()
            .exchange(&Request::post(target, body.to_owned()))
            .status()
    };
    assert_eq!(post("/messages", &ping), 400);
    assert_eq!(post("/messages?sessionId=", &ping), 400);
    assert_eq!(post("/messages?sessionId=x&sessionId=x", &ping), 400);
    let unknown = rig
        .connect()
        .exchange(&Request::post("/messages?sessionId=x", ping.clone()));
    assert_eq!(
        (unknown.status(), unknown.text.as_str()),
        (404, r#"{"error":"Transport not found"}"#)
    );
    for bad in ["{", "7", r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#] {
        let reply = client.exchange(bad);
        assert_eq!(reply.status(), 400, "{bad}");
        assert!(reply.json()["error"]["code"].is_i64());
    }
    let plain = Request::post(&client.endpoint, ping.clone()).with("Content-Type", "text/plain");
    assert_eq!(rig.connect().exchange(&plain).status(), 415);
    // Old clients accept nothing in particular.
    let bare = Request::post(&client.endpoint, ping.clone()).with("Accept", "");
    assert_eq!(rig.connect().exchange(&bare).status(), 202);
    assert_eq!(client.next()["id"], 1);
    assert_eq!(rig.get("/messages").status(), 405);
    assert_eq!(
        rig.connect()
            .exchange(&Request::post("/sse", ping.clone()))
            .status(),
        405
    );
    let json_only = Request::new("GET", "/sse").with("Accept", "application/json");
    assert_eq!(rig.connect().exchange(&json_only).status(), 406);
    for (name, value) in [("Host", "evil.example"), ("Origin", "http://evil.example")] {
        let stream = Request::listen("/sse").with(name, value);
        assert_eq!(rig.connect().exchange(&stream).status(), 403);
        let message = Request::post(&client.endpoint, ping.clone()).with(name, value);
        assert_eq!(rig.connect().exchange(&message).status(), 403);
    }
    let two = Request::listen("/sse?tags=a&preset=b");
    assert_eq!(rig.connect().exchange(&two).status(), 400);
    // Before and after `initialize`.
    let mut early = Client::connect(rig.port, &Request::listen("/sse"));
    assert_eq!(early.ask("tools/list", json!({}))["error"]["code"], -32600);
    let again = client.ask("initialize", json!({"protocolVersion": "2024-11-05"}));
    assert_eq!(again["error"]["code"], -32600);
    // The session's own id opens nothing elsewhere.
    let id = client.endpoint.rsplit('=').next().unwrap();
    let stray = Request::post("/mcp", ping).with("Mcp-Session-Id", id);
    assert_eq!(rig.connect().exchange(&stray).status(), 404);
    rig.stop();
}

#[test]
fn the_endpoint_stands_behind_the_prefix_of_a_proxy() {
    let rig = rig();
    let endpoint = |prefix: &str| {
        let request = Request::listen("/sse").with("X-Forwarded-Prefix", prefix);
        Client::connect(rig.port, &request).endpoint
    };
    assert!(endpoint("").starts_with("/messages?sessionId="));
    assert!(endpoint("/tools/").starts_with("/tools/messages?sessionId="));
    for foreign in ["//evil.example", "http://evil.example", "/a/../b", "/a?b"] {
        assert!(endpoint(foreign).starts_with("/messages?"), "{foreign}");
    }
    rig.stop();
}

#[test]
fn a_filter_in_the_url_narrows_the_stream() {
    let servers = json!({
        "one": with(demo("clock"), json!({"tags": ["a"]})),
        "two": with(demo("notes"), json!({"tags": ["b"]})),
    });
    let rig = Rig::start(servers);
    let mut client = Client::open(rig.port, "/sse?tags=a", "2024-11-05", json!({}));
    let tools = client.get("tools/list", json!({})).to_string();
    assert!(
        tools.contains("one_1mcp_") && !tools.contains("two_1mcp_"),
        "{tools}"
    );
    rig.stop();
}

#[test]
fn at_the_end_of_the_gateway_calls_are_answered_and_streams_end() {
    let mut rig = rig();
    let mut client = client(&rig);
    let mut idle = Connection::open(rig.port).stream(&Request::listen("/sse"));
    client.post(tool_call(&json!(1), SLEEP, &json!({"ms": 700})));
    eventually("the call is in work", || in_work(&mut client) == 1);
    rig.term();
    assert_eq!(text_of(&client.answer(&json!(1))["result"]), "Slept 700 ms");
    assert!(client.stream.is_over());
    while idle.event(PATIENCE).is_some() {}
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    assert!(rig.bearers().is_empty());
}

#[test]
fn initialize_is_held_and_what_follows_waits_for_it() {
    let rig = Plan::new(json!({
        "ev": everything(&[]),
        "slow": {"command": "sh", "args": ["-c", "sleep 1; exec cat"]},
    }))
    .set("syncStartTimeout", json!(4000))
    .start_unready();
    let mut client = Client::connect(rig.port, &Request::listen("/sse"));
    client.post(initialize("2024-11-05", &json!({})));
    // Nobody waits for the answer: the order holds all the same, and a ping is answered at once.
    let ping = client.elsewhere(request(&json!("p"), "ping", &json!({})));
    assert_eq!(ping.status(), 202);
    assert_eq!(client.next()["id"], "p");
    client.post(request(&json!(2), "tools/list", &json!({})));
    assert_eq!(client.next()["id"], 1);
    let tools = client.answer(&json!(2));
    assert!(tools.to_string().contains("ev_1mcp_greet"), "{tools}");
    rig.stop();
}
