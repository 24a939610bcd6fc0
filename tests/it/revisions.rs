//! What differs between the three revisions with sessions: batches, and how streams begin.

use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::rig::Rig;
use crate::support::servers::everything;
use crate::support::session::{Session, initialize, reporting_call, request, tool_call};

const BATCHES: &str = "2025-03-26";

fn rig() -> Rig {
    Rig::start(json!({"ev": everything(&[])}))
}

fn notification(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": method})
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The answers of a batch by id, whatever their order.
#[track_caller]
fn batch(session: &mut Session, messages: &Value) -> Vec<Value> {
    let reply = session.post(messages.to_string());
    assert_eq!(reply.status(), 200, "{reply:?}");
    let mut answers = reply.messages();
    answers.retain(|message| message.get("method").is_none());
    answers.sort_by_key(|answer| answer["id"].to_string());
    answers
}

#[test]
fn a_batch_is_answered_message_by_message() {
    let rig = rig();
    let mut session = rig.session_of(BATCHES);
    let messages = json!([
        parsed(&request(&json!(1), "ping", &json!({}))),
        notification("notifications/whatever"),
        parsed(&tool_call(
            &json!("1"),
            "ev_1mcp_echo",
            &json!({"text": "one"})
        )),
        parsed(&tool_call(
            &json!(2),
            "ev_1mcp_echo",
            &json!({"text": "two"})
        )),
        parsed(&request(&json!(3), "no/such", &json!({}))),
        parsed(&request(&json!(4), "tools/list", &json!({}))),
    ]);
    let answers = batch(&mut session, &messages);
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer["id"]).collect();
    assert_eq!(
        ids,
        [&json!("1"), &json!(1), &json!(2), &json!(3), &json!(4)]
    );
    assert_eq!(answers[0]["result"]["content"][0]["text"], "one");
    assert_eq!(answers[1]["result"], json!({}));
    assert_eq!(answers[2]["result"]["content"][0]["text"], "two");
    assert_eq!(answers[3]["error"]["code"], -32601);
    assert!(answers[4]["result"]["tools"].is_array());
    rig.stop();
}

#[test]
fn calls_of_one_batch_run_at_the_same_time_and_report_each_for_itself() {
    let rig = rig();
    let session = rig.session_of(BATCHES);
    let arguments = json!({"steps": 2, "ms": 20});
    let call = |id: Value, token: Value| {
        parsed(&reporting_call(
            &id,
            "ev_1mcp_slow_progress",
            &arguments,
            &token,
        ))
    };
    let messages = json!([call(json!(1), json!("t")), call(json!(2), json!(7))]);
    let mut stream = session.stream(messages.to_string());
    let mut reports = Vec::new();
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let message = stream.message();
        match message.get("method") {
            Some(_) => reports.push(message["params"]["progressToken"].clone()),
            None => answers.push(message["id"].clone()),
        }
    }
    for token in [json!("t"), json!(7)] {
        assert_eq!(
            reports.iter().filter(|seen| **seen == token).count(),
            2,
            "{reports:?}"
        );
    }
    assert!(stream.is_over());
    rig.stop();
}

#[test]
fn a_batch_without_requests_is_202() {
    let rig = rig();
    let mut session = rig.session_of(BATCHES);
    let messages = json!([
        notification("notifications/one"),
        notification("notifications/two"),
    ]);
    let reply = session.post(messages.to_string());
    assert_eq!((reply.status(), reply.text.as_str()), (202, ""));
    rig.stop();
}

#[test]
fn an_empty_batch_and_one_that_is_too_long_are_refused() {
    let rig = rig();
    let mut session = rig.session_of(BATCHES);
    let reply = session.post("[]");
    assert_eq!(reply.status(), 400);
    assert_eq!(reply.json()["error"]["code"], -32600);
    let many: Vec<Value> = (0..1000).map(|_| notification("notifications/x")).collect();
    let reply = session.post(Value::from(many).to_string());
    assert_eq!(reply.status(), 400);
    assert_eq!(session.get("ping", json!({})), json!({}));
    rig.stop();
}

#[test]
fn what_is_no_message_in_a_batch_does_not_harm_the_others() {
    let rig = rig();
    let mut session = rig.session_of(BATCHES);
    let messages = json!([7, parsed(&request(&json!(1), "ping", &json!({})))]);
    let reply = session.post(messages.to_string());
    let answers = reply.messages();
    match reply.status() {
        // One bad message may spoil the whole, but then nothing of it is carried out.
        400 => assert_eq!(answers[0]["error"]["code"], -32600),
        _ => {
            let codes: Vec<_> = answers
                .iter()
                .filter_map(|a| a["error"]["code"].as_i64())
                .collect();
            assert_eq!(codes, [-32600]);
            assert!(
                answers
                    .iter()
                    .any(|a| a["id"] == 1 && a["result"].is_object())
            );
        }
    }
    rig.stop();
}

#[test]
fn initialize_must_not_stand_in_a_batch() {
    let rig = rig();
    let hello = parsed(&initialize(BATCHES, &json!({})));
    let ping = parsed(&request(&json!(2), "ping", &json!({})));
    for messages in [json!([hello]), json!([hello, ping])] {
        let reply = rig
            .connect()
            .exchange(&Request::post("/mcp", messages.to_string()));
        assert!(reply.head.header("Mcp-Session-Id").is_none());
        assert_eq!(reply.status(), 400, "{reply:?}");
        let mut session = rig.session_of(BATCHES);
        let reply = session.post(messages.to_string());
        for answer in reply.messages() {
            assert!(answer["id"] != 1 || answer["error"].is_object(), "{answer}");
        }
    }
    rig.stop();
}

#[test]
fn later_revisions_have_no_batches() {
    let rig = rig();
    for revision in ["2025-06-18", "2025-11-25"] {
        let mut session = rig.session_of(revision);
        for messages in [
            json!([]),
            json!([parsed(&request(&json!(1), "ping", &json!({})))]),
        ] {
            let reply = session.post(messages.to_string());
            assert_eq!(reply.status(), 400, "{revision}");
            assert_eq!(reply.json()["error"]["code"], -32600, "{revision}");
        }
    }
    rig.stop();
}

#[test]
fn only_the_newest_session_revision_primes_its_streams() {
    let rig = rig();
    let arguments = json!({"steps": 1, "ms": 1});
    let call = reporting_call(&json!(1), "ev_1mcp_slow_progress", &arguments, &json!(1));
    let patience = crate::support::PATIENCE;
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let session = rig.session_of(revision);
        let mut stream = session.stream(call.clone());
        let first = stream.event(patience).unwrap();
        if revision == "2025-11-25" {
            assert_eq!(first.data.as_deref(), Some(""), "{first:?}");
            assert!(first.id.is_some_and(|id| !id.is_empty()));
            assert!(first.retry.is_some());
            assert_eq!(stream.message()["method"], "notifications/progress");
        } else {
            assert_eq!(first.message().unwrap()["method"], "notifications/progress");
        }
        assert_eq!(
            stream.answer().1["result"]["content"][0]["text"],
            "Took 1 steps"
        );
        assert!(stream.is_over());
    }
    rig.stop();
}
