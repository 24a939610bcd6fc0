//! Servers over HTTP that fail: each call gets its one answer, nothing is done twice, nothing
//! hangs, and health says what is true.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::remote::{HttpFixture, Script, Seen, Wire, text};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::with;
use crate::support::session::{Session, tool_call};
use crate::support::{eventually, within};

const TOOL: &str = "ev_1mcp_t";

/// What the gateway says of a call that failed.
#[track_caller]
fn failure(session: &mut Session, reason: &str) -> String {
    let error = session.refused("tools/call", json!({"name": TOOL, "arguments": {}}));
    assert_eq!(error["data"]["onemcp"]["reason"], reason, "{error}");
    assert_eq!(error["data"]["onemcp"]["server"], "ev");
    error["message"].as_str().unwrap().to_owned()
}

/// Answers the first `tools/call` alone.
fn once(handler: impl Fn(&Seen, &mut Wire) + Send + Sync + 'static) -> Script {
    let done = AtomicBool::new(false);
    Script::start(move |seen, wire| {
        let is_first = seen.what() == "tools/call" && !done.swap(true, Ordering::SeqCst);
        if is_first {
            handler(seen, wire);
        }
        is_first
    })
}

#[track_caller]
fn fails_once_and_goes_on(server: &Script, reason: &str) -> String {
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    let message = failure(&mut session, reason);
    assert_eq!(server.count("tools/call"), 1, "it was sent again");
    assert_eq!(session.text(TOOL, json!({})), "done");
    assert_eq!(rig.server("ev")["restarts"], 0);
    rig.stop();
    message
}

#[test]
fn a_broken_stream_ends_its_call_and_nothing_is_sent_twice() {
    let server = once(|_, wire| {
        wire.events();
        let params = json!({"level": "info", "data": 1});
        let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
        wire.event("", &log.to_string());
        wire.close();
    });
    fails_once_and_goes_on(&server, "crashed");
}

#[test]
fn a_connection_that_is_closed_instead_of_an_answer_ends_its_call() {
    let server = once(|_, wire| wire.close());
    fails_once_and_goes_on(&server, "crashed");
}

#[test]
fn an_answer_of_the_wrong_kind_is_named() {
    let server = once(|_, wire| wire.reply(200, "Content-Type: text/html\r\n", "<p>"));
    let message = fails_once_and_goes_on(&server, "bad_upstream");
    assert!(
        message.contains("200") && message.contains("text/html"),
        "{message}"
    );
}

#[test]
fn a_request_that_is_only_taken_is_not_answered() {
    let server = once(|_, wire| wire.reply(202, "", ""));
    fails_once_and_goes_on(&server, "bad_upstream");
}

#[test]
fn refused_credentials_are_told_with_their_remedy_and_are_not_ours() {
    for status in [401, 403] {
        let server = once(move |_, wire| {
            wire.reply(status, "WWW-Authenticate: Bearer\r\n", "");
        });
        let message = fails_once_and_goes_on(&server, "bad_upstream");
        assert!(message.contains("\"headers\""), "{message}");
    }
}

#[test]
fn a_json_rpc_error_in_a_refusal_is_the_answer() {
    let server = once(|seen, wire| {
        let error = json!({"code": -32099, "message": "no", "data": 7});
        let answer = json!({"jsonrpc": "2.0", "id": seen.body["id"], "error": error});
        wire.json(400, "", &answer);
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let error = rig.session().refused("tools/call", json!({"name": TOOL}));
    assert_eq!(error, json!({"code": -32099, "message": "no", "data": 7}));
    rig.stop();
}

#[test]
fn a_result_beyond_the_bound_costs_one_call() {
    for is_stream in [false, true] {
        let server = once(move |seen, wire| {
            let result = text(&"x".repeat(17 * 1024 * 1024));
            if !is_stream {
                return wire.result(seen, &result);
            }
            let answer = json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": result});
            wire.events();
            wire.event("", &answer.to_string());
            wire.close();
        });
        fails_once_and_goes_on(&server, "too_large");
    }
}

#[test]
fn a_broken_stream_with_event_ids_is_taken_up_again() {
    let asked = Arc::new(std::sync::Mutex::new(Value::Null));
    let known = asked.clone();
    let server = Script::start(move |seen, wire| {
        match seen.what() {
            "tools/call" => {
                *known.lock().unwrap() = seen.body["id"].clone();
                wire.events();
                wire.event("id: e1\nretry: 200\n", "");
                wire.close();
            }
            "GET" if seen.header("Last-Event-ID") == Some("e1") => {
                let id = known.lock().unwrap().clone();
                let answer = json!({"jsonrpc": "2.0", "id": id, "result": text("late")});
                wire.events();
                wire.event("id: e2\n", &answer.to_string());
                wire.close();
            }
            _ => return false,
        }
        true
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    let since = Instant::now();
    assert_eq!(session.text(TOOL, json!({})), "late");
    assert!(since.elapsed() >= Duration::from_millis(200));
    assert_eq!(server.count("tools/call"), 1);
    rig.stop();
}

#[test]
fn a_forgotten_session_is_renewed_once_for_all_calls() {
    let forgotten = AtomicBool::new(false);
    let sessions = AtomicUsize::new(0);
    let server = Script::start(move |seen, wire| {
        let id = |n: usize| format!("s{n}");
        let current = id(sessions.load(Ordering::SeqCst));
        match seen.what() {
            "initialize" => {
                let number = sessions.fetch_add(1, Ordering::SeqCst) + 1;
                let result = json!({
                    "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "n", "version": "1"},
                });
                let answer = json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": result});
                let header = format!("Mcp-Session-Id: {}\r\n", id(number));
                wire.json(200, &header, &answer);
            }
            "tools/call" if !forgotten.load(Ordering::SeqCst) => {
                wire.reply(404, "", "");
                forgotten.store(true, Ordering::SeqCst);
            }
            "tools/call" if seen.header("Mcp-Session-Id") != Some(&current) => {
                wire.reply(404, "", "");
            }
            _ => return false,
        }
        true
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let sessions: Vec<Session> = (0..6).map(|_| rig.session()).collect();
    std::thread::scope(|scope| {
        for mut session in sessions {
            scope.spawn(move || assert_eq!(session.text(TOOL, json!({})), "done"));
        }
    });
    assert!((2..=7).contains(&server.count("initialize")));
    assert_eq!(rig.server("ev")["restarts"], 0);
    rig.stop();
}

#[test]
fn a_server_that_is_not_up_yet_is_tried_again_and_not_called_ready() {
    let refusals = AtomicUsize::new(0);
    let server = Script::start(move |_, wire| {
        let is_down = refusals.fetch_add(1, Ordering::SeqCst) < 2;
        if is_down {
            wire.reply(503, "", "starting");
        }
        is_down
    });
    let rig = Plan::new(json!({"ev": server.entry()})).start_unready();
    eventually("it says why it is not ready", || {
        let known = rig.server("ev");
        let error = known["lastError"].as_str().unwrap_or_default().to_owned();
        known["healthy"] == false && error.contains("503")
    });
    eventually("it is ready", || rig.server("ev")["status"] == "connected");
    // 5xx says nothing about what it is.
    assert_eq!(server.count("server/discover"), 3);
    rig.stop();
}

#[test]
fn a_server_that_goes_away_is_down_and_comes_back() {
    let server = HttpFixture::start(&[]);
    let port = server.port;
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    session.text("ev_1mcp_greet", json!({"name": "x"}));
    drop(server);
    eventually("health says so", || {
        rig.server("ev")["status"] != "connected"
    });
    let error = session.refused("tools/call", json!({"name": "ev_1mcp_greet"}));
    assert!(error["data"]["onemcp"]["reason"].is_string(), "{error}");
    let server = HttpFixture::start_at(port, &[]);
    eventually("it is back", || rig.server("ev")["status"] == "connected");
    assert_eq!(
        session.text("ev_1mcp_greet", json!({"name": "x"})),
        "Hello, x!"
    );
    rig.stop();
    drop(server);
}

#[test]
fn a_server_may_change_its_era_and_its_transport_while_it_is_away() {
    let server = HttpFixture::start(&[]);
    let port = server.port;
    let rig = Rig::start(json!({"ev": server.entry()}));
    drop(server);
    for era in ["modern", "legacy"] {
        eventually("it is away", || rig.server("ev")["status"] != "connected");
        let server = HttpFixture::start_at(port, &["--era", era]);
        eventually("it is back", || rig.server("ev")["status"] == "connected");
        let mut session = rig.session();
        assert_eq!(
            session.text("ev_1mcp_greet", json!({"name": era})),
            format!("Hello, {era}!")
        );
        drop(server);
    }
    rig.stop();
}

#[test]
fn a_redirect_to_another_origin_is_not_followed() {
    let other = Script::start(|_, _| false);
    let target = format!("Location: {}\r\n", other.url("/mcp"));
    let server = Script::start(move |_, wire| {
        wire.reply(307, &target, "");
        true
    });
    let entry = with(
        server.entry(),
        json!({"headers": {"Authorization": "Bearer secret1"}}),
    );
    let rig = Plan::new(json!({"ev": entry})).start_unready();
    eventually("it is refused", || {
        let error = rig.server("ev")["lastError"].to_string();
        error.contains("redirect") && error.contains("another origin")
    });
    assert!(other.seen().is_empty());
    assert!(!rig.stderr().contains("secret1") && !rig.health().to_string().contains("secret1"));
    rig.stop();
}

#[test]
fn messages_do_not_follow_an_endpoint_of_another_origin() {
    let other = Script::start(|_, _| false);
    let elsewhere = other.url("/messages");
    let server = Script::start(move |seen, wire| {
        if seen.method != "GET" {
            return false;
        }
        wire.events();
        wire.event("event: endpoint\n", &elsewhere);
        wire.wait_for_end();
        true
    });
    let entry = with(server.entry(), json!({"type": "sse"}));
    let rig = Plan::new(json!({"ev": entry})).start_unready();
    eventually("it is refused", || {
        rig.server("ev")["lastError"]
            .to_string()
            .contains("another origin")
    });
    assert!(other.seen().is_empty());
    rig.stop();
}

#[test]
fn the_end_of_the_only_stream_is_the_end_of_the_server() {
    let server = Script::start(|seen, wire| {
        match seen.what() {
            "GET" => {
                wire.events();
                wire.event("event: endpoint\n", "/messages");
                wire.close();
            }
            _ => wire.reply(202, "", ""),
        }
        true
    });
    let entry = with(server.entry(), json!({"type": "sse"}));
    let rig = Plan::new(json!({"ev": entry})).start_unready();
    eventually("it is down", || {
        rig.server("ev")["lastError"]
            .to_string()
            .contains("event stream")
    });
    rig.stop();
}

#[test]
fn a_call_that_is_never_answered_is_taken_back_and_holds_up_no_end() {
    let left = Arc::new(AtomicUsize::new(0));
    let leaving = left.clone();
    let server = Script::start(move |seen, wire| {
        if seen.what() != "tools/call" {
            return false;
        }
        wire.wait_for_end();
        leaving.fetch_add(1, Ordering::SeqCst);
        true
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    let hanging = session.send(tool_call(&json!("a"), TOOL, &json!({})));
    eventually("the call is there", || server.count("tools/call") == 1);
    session.notify("notifications/cancelled", json!({"requestId": "a"}));
    let soon = Duration::from_secs(5);
    within(soon, "its exchange is ended", || {
        left.load(Ordering::SeqCst) == 1
    });
    within(soon, "the server is told", || {
        server.count("notifications/cancelled") == 1
    });
    drop(hanging);
    let hanging = session.send(tool_call(&json!("b"), TOOL, &json!({})));
    eventually("another call is there", || server.count("tools/call") == 2);
    drop(hanging);
    let end = session.delete();
    assert_eq!(end.status() / 100, 2);
    let since = Instant::now();
    rig.stop();
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn a_stream_that_ends_is_opened_again_where_it_ended() {
    let opened = AtomicUsize::new(0);
    let server = Script::start(move |seen, wire| {
        if seen.method != "GET" {
            return false;
        }
        wire.events();
        match opened.fetch_add(1, Ordering::SeqCst) {
            0 => {
                wire.event(
                    "id: 7\nretry: 100\n",
                    r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
                );
                wire.close();
            }
            _ => wire.wait_for_end(),
        }
        true
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    eventually("it is open again", || server.count("GET") == 2);
    let streams: Vec<Option<String>> = server
        .seen()
        .iter()
        .filter(|seen| seen.method == "GET")
        .map(|seen| seen.header("Last-Event-ID").map(str::to_owned))
        .collect();
    assert_eq!(streams, [None, Some("7".to_owned())]);
    eventually("the list was read again", || {
        server.count("tools/list") == 2
    });
    rig.stop();
}

/// A session at a server written after the examples of the official SDK, which forgot it.
fn no_session(wire: &mut Wire) {
    let error = json!({"code": -32000, "message": "Bad Request: No valid session ID"});
    wire.json(
        400,
        "",
        &json!({"jsonrpc": "2.0", "id": null, "error": error}),
    );
}

fn opened(seen: &Seen, wire: &mut Wire, number: usize) {
    let result = json!({
        "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
        "serverInfo": {"name": "n", "version": "1"},
    });
    let answer = json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": result});
    wire.json(200, &format!("Mcp-Session-Id: s{number}\r\n"), &answer);
}

#[test]
fn a_400_about_the_session_renews_it_and_sends_no_call_twice() {
    let sessions = AtomicUsize::new(0);
    let server = Script::start(move |seen, wire| {
        let is_first = seen.header("Mcp-Session-Id") == Some("s1");
        match seen.what() {
            "initialize" => opened(seen, wire, sessions.fetch_add(1, Ordering::SeqCst) + 1),
            "ping" | "tools/call" if is_first => no_session(wire),
            _ => return false,
        }
        true
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    failure(&mut session, "bad_upstream");
    assert_eq!(server.count("tools/call"), 1, "it was sent again");
    eventually("there is another session", || {
        server.count("initialize") == 2
    });
    eventually("calls go there", || {
        let answer = session.ask("tools/call", json!({"name": TOOL, "arguments": {}}));
        answer["result"] == text("done")
    });
    assert_eq!(rig.server("ev")["restarts"], 0);
    rig.stop();
}

#[test]
fn a_stream_that_no_session_has_any_more_asks_for_one_session_only() {
    let (streams, sessions) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Script::start(move |seen, wire| {
        match seen.what() {
            "initialize" => opened(seen, wire, sessions.fetch_add(1, Ordering::SeqCst) + 1),
            "GET" if streams.fetch_add(1, Ordering::SeqCst) == 0 => {
                wire.events();
                wire.event("retry: 100\n", "");
                wire.close();
            }
            "GET" => wire.reply(404, "", ""),
            _ => return false,
        }
        true
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    eventually("it was asked for in the second session", || {
        server.count("GET") >= 4
    });
    assert_eq!(server.count("initialize"), 2);
    assert_eq!(rig.session().text(TOOL, json!({})), "done");
    rig.stop();
}

#[test]
fn a_server_that_knows_no_session_is_not_asked_for_more_and_more() {
    let sessions = AtomicUsize::new(0);
    let server = Script::start(move |seen, wire| {
        match seen.what() {
            "initialize" => opened(seen, wire, sessions.fetch_add(1, Ordering::SeqCst) + 1),
            "tools/list" if seen.header("Mcp-Session-Id") == Some("s1") => return false,
            "GET" | "notifications/initialized" => return false,
            _ => wire.reply(404, "", ""),
        }
        true
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        failure_of_any_kind(&mut session);
    }
    assert!(
        server.count("initialize") < 12,
        "{}",
        server.count("initialize")
    );
    rig.stop();
}

fn failure_of_any_kind(session: &mut Session) {
    let answer = session.ask("tools/call", json!({"name": TOOL, "arguments": {}}));
    assert!(answer["error"].is_object(), "{answer}");
}

#[test]
fn a_call_is_sent_once_however_its_method_is_written() {
    let server = Script::start(|seen, wire| {
        // A kept connection that breaks: a harmless request would be sent again.
        let is_call = seen.what() == "tools/call";
        if is_call {
            wire.close();
        }
        is_call
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    let line = tool_call(&json!(1), TOOL, &json!({}));
    let body = line.replace("tools/call", "tools\\/call");
    assert_ne!(line, body);
    let answer = session.post(body).messages().pop().unwrap();
    assert!(answer["error"].is_object(), "{answer}");
    assert_eq!(server.count("tools/call"), 1, "it was sent again");
    rig.stop();
}

#[test]
fn calls_that_fail_alone_do_not_bring_a_server_down() {
    let failures = AtomicUsize::new(0);
    let server = Script::start(move |seen, wire| {
        match seen.what() {
            "GET" => wire.reply(503, "", ""),
            "tools/call" => match failures.fetch_add(1, Ordering::SeqCst) {
                0..5 => wire.reply(503, "", ""),
                5..10 => {
                    wire.events();
                    wire.close();
                }
                _ => return false,
            },
            _ => return false,
        }
        true
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    for _ in 0..5 {
        failure(&mut session, "busy");
    }
    for _ in 0..5 {
        failure(&mut session, "crashed");
    }
    assert_eq!(session.text(TOOL, json!({})), "done");
    let known = rig.server("ev");
    assert_eq!(
        (&known["restarts"], &known["status"]),
        (&json!(0), &json!("connected"))
    );
    rig.stop();
}

/// Another server takes the place of the first at once: no connection is ever refused.
#[test]
fn a_server_that_becomes_one_of_the_other_era_is_found_again() {
    let is_stateless = Arc::new(AtomicBool::new(false));
    let now = is_stateless.clone();
    let server = Script::start(move |seen, wire| {
        let has_meta =
            seen.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_string();
        if now.load(Ordering::SeqCst) {
            stateless(seen, wire, has_meta);
            return true;
        }
        let is_known = seen.header("Mcp-Session-Id") == Some("s1");
        let needs_it = !matches!(
            seen.what(),
            "initialize" | "server/discover" | "GET" | "DELETE"
        );
        if needs_it && !is_known {
            no_session(wire);
        }
        needs_it && !is_known
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    assert_eq!(session.text(TOOL, json!({})), "done");
    for (era, answer) in [(true, "stateless"), (false, "done")] {
        is_stateless.store(era, Ordering::SeqCst);
        eventually("it is what it is now", || {
            let found = session.ask("tools/call", json!({"name": TOOL, "arguments": {}}));
            found["result"]["content"][0]["text"] == answer
        });
        eventually("it is connected", || {
            rig.server("ev")["status"] == "connected"
        });
    }
    rig.stop();
}

fn stateless(seen: &Seen, wire: &mut Wire, has_meta: bool) {
    let error = |code: i32| {
        let error = json!({"code": code, "message": "missing _meta"});
        json!({"jsonrpc": "2.0", "id": seen.body["id"], "error": error})
    };
    let tool = json!({"name": "t", "inputSchema": {"type": "object"}});
    match seen.what() {
        "GET" | "DELETE" => wire.reply(405, "", ""),
        "initialize" => wire.json(404, "", &error(-32601)),
        _ if !has_meta => wire.json(400, "", &error(-32602)),
        "server/discover" => wire.result(
            seen,
            &json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}),
        ),
        "tools/list" => wire.result(
            seen,
            &json!({"resultType": "complete", "tools": [tool], "ttlMs": 0,
                "cacheScope": "public"}),
        ),
        "tools/call" => wire.result(seen, &text("stateless")),
        _ => wire.json(404, "", &error(-32601)),
    }
}

#[test]
fn what_a_server_echoes_of_its_entry_is_not_said() {
    let server = Script::start(|seen, wire| {
        let is_call = matches!(seen.what(), "tools/call" | "prompts/list");
        let echo = seen.header("Authorization").unwrap_or_default();
        let message = format!("no {echo} at /mcp?key=hidden-key1");
        if is_call {
            let error = json!({"code": -32000, "message": message});
            wire.json(
                400,
                "",
                &json!({"jsonrpc": "2.0", "id": null, "error": error}),
            );
        }
        if seen.what() == "initialize" {
            let result = json!({
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}, "prompts": {}},
                "serverInfo": {"name": "script", "version": "1"},
            });
            wire.result(seen, &result);
        }
        is_call || seen.what() == "initialize"
    });
    let entry = json!({
        "url": server.url("/mcp?key=hidden-key1"),
        "headers": {"Authorization": "Bearer hidden-token1"},
    });
    let rig = Rig::start(json!({"ev": entry}));
    let message = failure(&mut rig.session(), "bad_upstream");
    assert!(message.contains("no *** at"), "{message}");
    let all = [message, rig.health().to_string(), rig.stderr()].concat();
    assert!(!all.contains("hidden-"), "{all}");
    rig.stop();
}

#[test]
fn a_server_that_fails_at_unknown_methods_is_initialized() {
    let server = Script::start(|seen, wire| {
        let is_probe = seen.what() == "server/discover";
        if is_probe {
            wire.reply(500, "", "");
        }
        is_probe
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    assert_eq!(rig.session().text(TOOL, json!({})), "done");
    assert_eq!(server.count("server/discover"), 2);
    rig.stop();
}

#[test]
fn a_server_whose_lists_want_credentials_is_not_called_ready() {
    let server = Script::start(|seen, wire| {
        let is_list = seen.what() == "tools/list";
        if is_list {
            wire.reply(401, "", "");
        }
        is_list
    });
    let rig = Plan::new(json!({"ev": server.entry()})).start_unready();
    eventually("it says what is missing", || {
        let known = rig.server("ev");
        let error = known["lastError"].as_str().unwrap_or_default().to_owned();
        known["status"] != "connected" && error.contains("\"headers\"")
    });
    rig.stop();
}

#[test]
fn a_session_that_cannot_be_named_is_refused() {
    let server = Script::start(|seen, wire| {
        let is_opening = seen.what() == "initialize";
        if is_opening {
            let result = json!({
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "script", "version": "1"},
            });
            let answer = json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": result});
            let header = format!("Mcp-Session-Id: {}\r\n", "x".repeat(5000));
            wire.json(200, &header, &answer);
        }
        is_opening
    });
    let rig = Plan::new(json!({"ev": server.entry()})).start_unready();
    eventually("it says why", || {
        rig.server("ev")["lastError"]
            .to_string()
            .contains("session id")
    });
    rig.stop();
}

#[test]
fn a_stream_that_brings_only_ids_is_not_hammered() {
    let ids = AtomicUsize::new(0);
    let server = Script::start(move |seen, wire| {
        let is_stream = matches!(seen.what(), "tools/call" | "GET");
        if is_stream {
            wire.events();
            let id = ids.fetch_add(1, Ordering::SeqCst);
            wire.event(&format!("id: {id}\nretry: 0\n"), "");
            wire.close();
        }
        is_stream
    });
    let rig = Rig::start(json!({"ev": server.entry()}));
    let mut session = rig.session();
    let hanging = session.send(tool_call(&json!("a"), TOOL, &json!({})));
    eventually("it is asked for", || server.count("GET") >= 2);
    let (since, before) = (Instant::now(), server.count("GET"));
    eventually("some time is over", || {
        since.elapsed() > Duration::from_secs(2)
    });
    assert!(
        server.count("GET") - before < 20,
        "{}",
        server.count("GET") - before
    );
    drop(hanging);
    assert_eq!(session.delete().status() / 100, 2);
    rig.stop();
}

/// A server that answers neither calls nor pings while `hung` is set.
fn hanging(hung: &Arc<AtomicBool>) -> Script {
    let hung = hung.clone();
    Script::start(move |seen, wire| {
        let hangs = matches!(seen.what(), "tools/call" | "ping") && hung.load(Ordering::SeqCst);
        if hangs {
            wire.wait_for_end();
        }
        hangs
    })
}

#[test]
fn a_server_that_answers_nothing_is_in_doubt_until_it_does() {
    let hung = Arc::new(AtomicBool::new(true));
    let server = hanging(&hung);
    let entry = with(server.entry(), json!({"requestTimeout": 300}));
    let rig = Rig::start(json!({"ev": entry}));
    let mut session = rig.session();
    failure(&mut session, "timeout");
    eventually("it is in doubt", || rig.server("ev")["status"] == "error");
    let entry = rig.server("ev");
    assert!(
        entry["lastError"].as_str().unwrap().contains("no answer"),
        "{entry}"
    );
    assert_eq!(session.names("tools"), [TOOL]);
    hung.store(false, Ordering::SeqCst);
    eventually("it is ready", || rig.server("ev")["status"] == "connected");
    assert_eq!(session.text(TOOL, json!({})), "done");
    assert_eq!(rig.server("ev")["restarts"], 0);
    rig.stop();
}

#[test]
fn a_server_that_goes_on_answering_nothing_is_greeted_anew() {
    let hung = Arc::new(AtomicBool::new(true));
    let server = hanging(&hung);
    let quick = json!({"requestTimeout": 300, "restartDelay": 10});
    let rig = Rig::start(json!({"ev": with(server.entry(), quick)}));
    let greeted = server.count("initialize");
    failure(&mut rig.session(), "timeout");
    eventually("it is greeted anew", || {
        server.count("initialize") > greeted
    });
    hung.store(false, Ordering::SeqCst);
    eventually("it is ready", || rig.server("ev")["status"] == "connected");
    assert_eq!(rig.session().text(TOOL, json!({})), "done");
    rig.stop();
}
