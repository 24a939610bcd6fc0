//! One bad server: its callers get one clear error each, and the others notice nothing.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::Connection;
use crate::support::rig::{Rig, signal};
use crate::support::servers::{everything, hostile, with};
use crate::support::session::{Session, tool_call};

fn servers(args: &[&str], more: Value) -> Value {
    json!({"ho": with(hostile(args), more), "ev": everything(&[])})
}

#[track_caller]
fn works(session: &mut Session, server: &str) {
    let tool = format!("{server}_1mcp_echo");
    assert_eq!(session.text(&tool, json!({"text": "x"})), "x");
}

#[track_caller]
fn reason(error: &Value) -> &str {
    assert_eq!(error["code"], -32603, "{error}");
    let own = &error["data"]["onemcp"];
    assert_eq!(own["server"], "ho", "{error}");
    assert!(own["retryable"].is_boolean(), "{error}");
    own["reason"].as_str().unwrap()
}

/// The error that a call on a connection of its own ends with.
#[track_caller]
fn failure(session: &mut Session, tool: &str, arguments: Value) -> Value {
    session.refused("tools/call", json!({"name": tool, "arguments": arguments}))
}

fn is_back(rig: &Rig) -> bool {
    rig.server("ho")["status"] == "connected"
}

#[test]
fn calls_in_a_server_that_dies_get_one_error_each_and_it_comes_back() {
    let rig = Rig::start(servers(&[], json!({})));
    let pid = rig.pid_of("ho");
    let mut session = rig.session();
    let mut other = rig.session();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let mut session = rig.session();
                scope.spawn(move || {
                    let call = tool_call(&json!(1), "ho_1mcp_hang", &json!({}));
                    session.post(call).messages()
                })
            })
            .collect();
        works(&mut other, "ev");
        // All are on their way before this one, but perhaps not yet taken.
        let error = failure(&mut session, "ho_1mcp_crash", json!({}));
        assert_eq!(reason(&error), "crashed", "{error}");
        works(&mut other, "ev");
        for call in calls {
            let answers = call.join().unwrap();
            assert_eq!(answers.len(), 1, "{answers:?}");
            assert!(matches!(
                reason(&answers[0]["error"]),
                "crashed" | "restarting"
            ));
        }
    });
    eventually("it is back", || is_back(&rig));
    assert_ne!(rig.pid_of("ho"), pid);
    works(&mut session, "ho");
    assert!(rig.server("ho")["restarts"].as_u64().unwrap() >= 1);
    rig.stop();
}

#[test]
fn a_half_written_answer_is_no_answer() {
    let rig = Rig::start(servers(&[], json!({})));
    let mut session = rig.session();
    let error = failure(&mut session, "ho_1mcp_half_answer", json!({}));
    assert_eq!(reason(&error), "crashed");
    works(&mut session, "ev");
    eventually("it is back", || is_back(&rig));
    let error = failure(&mut session, "ho_1mcp_exit", json!({"code": 3}));
    assert_eq!(reason(&error), "crashed");
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("code 3"), "{said}");
    rig.stop();
}

#[test]
fn a_stopped_process_costs_only_its_own_callers_time() {
    let rig = Rig::start(servers(&[], json!({"requestTimeout": 400})));
    let pid = rig.pid_of("ho");
    let (mut stuck, mut other) = (rig.session(), rig.session());
    signal(pid, rustix::process::Signal::STOP);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| failure(&mut stuck, "ho_1mcp_echo", json!({"text": "x"})));
        while !stuck.is_finished() {
            works(&mut other, "ev");
        }
        assert_eq!(reason(&stuck.join().unwrap()), "timeout");
    });
    signal(pid, rustix::process::Signal::CONT);
    works(&mut other, "ho");
    assert_eq!(rig.pid_of("ho"), pid);
    rig.stop();
}

#[test]
fn an_answer_over_the_bound_is_an_error_and_the_server_stays() {
    let rig = Rig::start(servers(&[], json!({})));
    let pid = rig.pid_of("ho");
    let (mut session, mut other) = (rig.session(), rig.session());
    let error = std::thread::scope(|scope| {
        let large = json!({"bytes": 64 * 1024 * 1024});
        let failing = scope.spawn(|| failure(&mut session, "ho_1mcp_big_line", large));
        while !failing.is_finished() {
            works(&mut other, "ev");
        }
        failing.join().unwrap()
    });
    assert_eq!(reason(&error), "too_large");
    assert_eq!(error["data"]["onemcp"]["retryable"], false);
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("16777216"), "{said}");
    works(&mut session, "ho");
    assert_eq!(rig.pid_of("ho"), pid);
    // One that fits goes through whole.
    let text = session.text("ho_1mcp_big_line", json!({"bytes": 3_000_000}));
    assert_eq!(text.len(), 3_000_000);
    rig.stop();
}

#[test]
fn noise_on_stdout_is_counted_and_nothing_more() {
    let rig = Rig::start(servers(&[], json!({})));
    let pid = rig.pid_of("ho");
    let mut session = rig.session();
    let text = session.text("ho_1mcp_garbage", json!({"lines": 140}));
    assert_eq!(text, "after the garbage");
    let server = rig.server("ho");
    assert!(server["noiseLines"].as_u64().unwrap() >= 100, "{server}");
    assert_eq!(server["status"], "connected");
    session.text("ho_1mcp_stderr_flood", json!({"lines": 20_000}));
    session.text("ho_1mcp_flood", json!({"notifications": 20_000}));
    works(&mut session, "ho");
    assert_eq!(rig.pid_of("ho"), pid);
    let lines = rig.stderr().lines().count();
    assert!(lines < 1000, "{lines} lines in the log");
    rig.stop();
}

#[test]
fn a_server_that_stops_reading_does_not_hold_up_the_others() {
    let rig = Rig::start(servers(
        &["--stop-reading", "4"],
        json!({"requestTimeout": 500}),
    ));
    let mut other = rig.session();
    let large = "y".repeat(1_000_000);
    let calls: Vec<Connection> = (0..3)
        .map(|_| {
            let call = tool_call(&json!(1), "ho_1mcp_echo", &json!({"text": large}));
            rig.session().send(call)
        })
        .collect();
    for _ in 0..20 {
        works(&mut other, "ev");
    }
    for mut call in calls {
        assert_eq!(call.read_head().status, 200);
    }
    works(&mut other, "ev");
    rig.stop();
}

#[test]
fn a_closed_pipe_is_a_dead_server() {
    let rig = Rig::start(json!({"out": hostile(&[]), "in": hostile(&[])}));
    let closes = |server: &str, tool: &str| {
        let mut session = rig.session();
        let pid = rig.pid_of(server);
        let tool = format!("{server}_1mcp_{tool}");
        // The answer may be lost together with the pipe.
        session.ask("tools/call", json!({"name": tool, "arguments": {}}));
        let echo = format!("{server}_1mcp_echo");
        eventually("another process took its place", || {
            // Only a message makes it look at its input.
            let call = json!({"name": echo, "arguments": {"text": "x"}});
            session.ask("tools/call", call);
            let now = rig.server(server);
            now["status"] == "connected" && now["pid"] != pid
        });
        works(&mut session, server);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| closes("out", "close_stdout"));
        scope.spawn(|| closes("in", "close_stdin"));
    });
    rig.stop();
}

#[test]
fn a_server_that_keeps_dying_is_shown_so_and_leaves_the_others_alone() {
    let servers = json!({
        "dead": hostile(&["--exit-at-start", "3"]),
        "mute": with(hostile(&["--bad-handshake=silent"]), json!({"connectionTimeout": 300})),
        "odd": hostile(&["--bad-handshake"]),
        "future": hostile(&["--future-version"]),
        "old": hostile(&["--old-version", "2024-11-05"]),
        "none": {"command": "/no/such/program"},
        "ev": everything(&[]),
    });
    let rig = Rig::start(servers);
    let mut session = rig.session();
    works(&mut session, "ev");
    works(&mut session, "old");
    for name in ["dead", "mute", "odd", "future", "none"] {
        // Clients are held no longer than the start may take; what came of it may be known later.
        eventually("it is known why", || {
            rig.server(name)["lastError"].is_string()
        });
        let server = rig.server(name);
        assert_eq!(server["healthy"], false, "{server}");
    }
    assert!(
        rig.server("dead")["lastError"]
            .as_str()
            .unwrap()
            .contains("code 3")
    );
    eventually("five of seven have failed", || {
        let health = rig.get("/health");
        (health.json()["status"] == "unhealthy") && health.status() == 503
    });
    assert_eq!(rig.get("/health/live").status(), 200);
    assert_eq!(rig.get("/health/ready").status(), 200);
    let call = json!({"name": "dead_1mcp_echo", "arguments": {"text": "x"}});
    let error = session.refused("tools/call", call);
    assert!(error["code"].is_i64());
    rig.stop();
}
