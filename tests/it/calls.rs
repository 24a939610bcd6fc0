//! One call among others: progress to its owner, cancellation, time, and a client that leaves.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{everything, hostile, with};
use crate::support::session::{Session, reporting_call, text_of, tool_call};

const SLEEP: &str = "ev_1mcp_sleep";

fn rig() -> Rig {
    Rig::start(json!({"ev": everything(&[])}))
}

/// How many calls the server has in work, besides the one that asks.
fn in_work(session: &mut Session) -> u64 {
    let text = session.text("ev_1mcp_whoami", json!({}));
    let known: Value = serde_json::from_str(&text).unwrap();
    known["calls"].as_u64().unwrap() - 1
}

#[test]
fn progress_goes_to_its_call_with_the_token_as_it_was() {
    let rig = rig();
    let tokens = [
        json!(1),
        json!("1"),
        json!(0),
        json!(""),
        json!(-5),
        json!("\u{e9}\""),
    ];
    let arguments = json!({"steps": 3, "ms": 10});
    let calls: Vec<_> = tokens
        .iter()
        .map(|token| {
            let session = rig.session();
            let call = reporting_call(&json!(1), "ev_1mcp_slow_progress", &arguments, token);
            (token, session.stream(call))
        })
        .collect();
    for (token, mut stream) in calls {
        let (reports, answer) = stream.answer();
        let steps: Vec<_> = reports
            .iter()
            .map(|report| {
                assert_eq!(report["method"], "notifications/progress");
                assert_eq!(&report["params"]["progressToken"], token);
                assert_eq!(report["params"]["total"], 3);
                report["params"]["progress"].as_u64().unwrap()
            })
            .collect();
        assert_eq!(steps, [1, 2, 3]);
        assert_eq!(answer["id"], 1);
        assert_eq!(text_of(&answer["result"]), "Took 3 steps");
    }
    rig.stop();
}

#[test]
fn progress_that_nobody_asked_for_goes_nowhere() {
    let rig = Rig::start(json!({"ho": hostile(&[])}));
    let session = rig.session();
    let call = reporting_call(
        &json!(1),
        "ho_1mcp_foreign_progress",
        &json!({}),
        &json!("mine"),
    );
    let (reports, answer) = session.stream(call).answer();
    assert!(answer["result"].is_object(), "{answer}");
    assert!(reports.is_empty(), "{reports:?}");
    rig.stop();
}

#[test]
fn many_reports_do_not_hold_up_the_answer() {
    let rig = Rig::start(json!({"ho": hostile(&[])}));
    let session = rig.session();
    let arguments = json!({"notifications": 5000});
    let call = reporting_call(&json!(1), "ho_1mcp_progress_flood", &arguments, &json!(1));
    let (reports, answer) = session.stream(call).answer();
    assert_eq!(text_of(&answer["result"]), "after the flood");
    let steps: Vec<_> = reports
        .iter()
        .map(|report| report["params"]["progress"].as_u64().unwrap())
        .collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "progress goes back");
    rig.stop();
}

#[test]
fn a_client_that_takes_json_only_gets_the_answer_alone() {
    let rig = rig();
    let session = rig.session();
    let arguments = json!({"steps": 2, "ms": 5});
    let call = reporting_call(&json!(1), "ev_1mcp_slow_progress", &arguments, &json!(1));
    let request = crate::support::http::Request::post("/mcp", call);
    let request = session.sign(request.with("Accept", "application/json"));
    let reply = rig.connect().exchange(&request);
    assert_eq!(reply.status(), 200);
    assert_eq!(text_of(&reply.json()["result"]), "Took 2 steps");
    rig.stop();
}

#[test]
fn a_quick_answer_is_json_and_a_slow_one_a_stream() {
    let rig = rig();
    let mut session = rig.session();
    let quick = session.post(tool_call(&json!(1), "ev_1mcp_echo", &json!({"text": "x"})));
    assert!(!quick.head.is_events());
    let slow = session.post(tool_call(&json!(2), SLEEP, &json!({"ms": 1300})));
    assert!(slow.head.is_events());
    assert_eq!(slow.messages().pop().unwrap()["id"], 2);
    rig.stop();
}

#[test]
fn a_cancelled_call_ends_at_the_server_and_nobody_elses_does() {
    let rig = rig();
    let (mut first, mut second) = (rig.session(), rig.session());
    let call = tool_call(&json!("x"), SLEEP, &json!({"ms": 60_000}));
    let mut cancelled = std::thread::scope(|scope| {
        let cancelled = scope.spawn(|| first.stream(call.clone()));
        let going_on = scope.spawn(|| second.stream(call.clone()));
        let mut watcher = rig.session();
        eventually("both calls are in work", || in_work(&mut watcher) == 2);
        (cancelled.join().unwrap(), going_on.join().unwrap())
    });
    let cancel = json!({"requestId": "x", "reason": "enough"});
    first.notify("notifications/cancelled", cancel.clone());
    let mut watcher = rig.session();
    eventually("one call has ended", || in_work(&mut watcher) == 1);
    assert!(cancelled.0.is_over());
    assert_eq!(first.text("ev_1mcp_echo", json!({"text": "on"})), "on");
    // The same id may not be in flight twice, but may be used for another request now.
    let reply = first.post(tool_call(
        &json!("x"),
        "ev_1mcp_echo",
        &json!({"text": "again"}),
    ));
    assert_eq!(text_of(&reply.messages()[0]["result"]), "again");
    eventually("only that one is left", || in_work(&mut watcher) == 1);
    second.notify("notifications/cancelled", cancel);
    eventually("no call is in work", || in_work(&mut watcher) == 0);
    assert!(cancelled.1.is_over());
    rig.stop();
}

#[test]
fn a_cancellation_means_the_id_with_its_type_and_the_own_session() {
    let rig = rig();
    let (mut owner, mut other) = (rig.session(), rig.session());
    let mut stream = std::thread::scope(|scope| {
        let call = tool_call(&json!(1), SLEEP, &json!({"ms": 60_000}));
        let stream = scope.spawn(|| owner.stream(call));
        eventually("the call is in work", || in_work(&mut other) == 1);
        stream.join().unwrap()
    });
    other.notify("notifications/cancelled", json!({"requestId": 1}));
    owner.notify("notifications/cancelled", json!({"requestId": "1"}));
    eventually("it is still in work", || in_work(&mut other) == 1);
    owner.notify("notifications/cancelled", json!({"requestId": 1}));
    eventually("the call has ended", || in_work(&mut other) == 0);
    assert!(stream.is_over());
    rig.stop();
}

#[test]
fn a_late_answer_to_a_cancelled_call_reaches_nobody() {
    let rig = Rig::start(json!({"ho": hostile(&[])}));
    let mut session = rig.session();
    let late = tool_call(&json!(7), "ho_1mcp_late_answer", &json!({"ms": 300}));
    let mut connection = session.send(late);
    session.notify("notifications/cancelled", json!({"requestId": 7}));
    // It answers whatever was said; one with the same id must not get that answer.
    let body = tool_call(&json!(7), "ho_1mcp_sleep", &json!({"ms": 500}));
    let answers = session.post(body).messages();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0]["id"], 7);
    assert_eq!(text_of(&answers[0]["result"]), "late");
    assert_eq!(session.text("ho_1mcp_echo", json!({"text": "x"})), "x");
    drop(connection.read_head());
    rig.stop();
}

#[test]
fn a_server_without_an_answer_costs_only_its_callers_their_time() {
    let servers = json!({
        "ho": with(hostile(&[]), json!({"requestTimeout": 300})),
        "ev": everything(&[]),
    });
    let rig = Rig::start(servers);
    let session = rig.session();
    let mut stuck = session.send(tool_call(&json!(1), "ho_1mcp_hang", &json!({})));
    let mut other = rig.session();
    assert_eq!(other.text("ev_1mcp_echo", json!({"text": "x"})), "x");
    let head = stuck.read_head();
    assert_eq!(head.status, 200);
    let mut same = rig.session();
    let error = same.refused(
        "tools/call",
        json!({"name": "ho_1mcp_hang", "arguments": {}}),
    );
    assert_eq!(error["code"], -32603);
    assert_eq!(error["data"]["onemcp"]["reason"], "timeout", "{error}");
    assert_eq!(error["data"]["onemcp"]["server"], "ho");
    assert!(error["data"]["onemcp"]["retryable"].is_boolean());
    assert_eq!(same.text("ho_1mcp_echo", json!({"text": "y"})), "y");
    rig.stop();
}

#[test]
fn progress_extends_the_time_of_a_call() {
    let servers = json!({"ev": with(everything(&[]), json!({"requestTimeout": 400}))});
    let rig = Rig::start(servers);
    let session = rig.session();
    let arguments = json!({"steps": 8, "ms": 100});
    let call = reporting_call(&json!(1), "ev_1mcp_slow_progress", &arguments, &json!(1));
    let (_, answer) = session.stream(call).answer();
    assert_eq!(text_of(&answer["result"]), "Took 8 steps");
    // A call that timed out is withdrawn at the server.
    let mut watcher = rig.session();
    let error = watcher.refused(
        "tools/call",
        json!({"name": SLEEP, "arguments": {"ms": 60_000}}),
    );
    assert_eq!(error["data"]["onemcp"]["reason"], "timeout");
    eventually("the server saw the cancellation", || {
        in_work(&mut watcher) == 0
    });
    rig.stop();
}

#[test]
fn answers_that_are_none_become_one_clear_error() {
    let servers = json!({"ho": with(hostile(&[]), json!({"requestTimeout": 500}))});
    let rig = Plan::new(servers).start();
    let mut session = rig.session();
    let pid = rig.pid_of("ho");
    let kinds = [
        "bad_utf8",
        "both",
        "bare_error",
        "carriage_return",
        "duplicate_id",
        "neither",
        "no_version",
        "not_an_object",
        "null_result",
        "string_id",
        "truncated",
    ];
    // Those which never come to an answer take their time side by side.
    std::thread::scope(|scope| {
        for kind in kinds {
            let mut session = rig.session();
            scope.spawn(move || {
                let arguments = json!({"kind": kind});
                let call = json!({"name": "ho_1mcp_malformed", "arguments": arguments});
                let answer = session.ask("tools/call", call);
                let error = &answer["error"];
                let fine = answer["result"].is_object() && error.is_null();
                assert!(fine || error["code"] == -32603, "{kind}: {answer}");
                let hopeless = ["bad_utf8", "both", "bare_error", "neither", "not_an_object"];
                if hopeless.contains(&kind) {
                    assert_eq!(
                        error["data"]["onemcp"]["reason"], "bad_upstream",
                        "{answer}"
                    );
                }
            });
        }
    });
    let answer = session.ask(
        "tools/call",
        json!({"name": "ho_1mcp_batch", "arguments": {}}),
    );
    assert!(answer["result"].is_object() || answer["error"]["code"] == -32603);
    let twice = session.post(tool_call(&json!(3), "ho_1mcp_double_answer", &json!({})));
    assert_eq!(text_of(&twice.messages()[0]["result"]), "first");
    let wrong = json!({"name": "ho_1mcp_wrong_id", "arguments": {}});
    assert_eq!(
        session.refused("tools/call", wrong)["data"]["onemcp"]["reason"],
        "timeout"
    );
    let deep = json!({"name": "ho_1mcp_deep_json", "arguments": {"depth": 100_000}});
    let error = session.refused("tools/call", deep);
    assert_eq!(error["data"]["onemcp"]["reason"], "bad_upstream", "{error}");
    assert_eq!(session.text("ho_1mcp_echo", json!({"text": "x"})), "x");
    assert_eq!(rig.pid_of("ho"), pid, "it was restarted");
    rig.stop();
}
