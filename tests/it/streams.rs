//! Streams and sessions: listening, resuming after a cut, ending, and staying in one's place.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{Event, Request, Stream};
use crate::support::rig::Rig;
use crate::support::servers::everything;
use crate::support::session::{Session, reporting_call, text_of, tool_call};

const WATCHED: &str = "test://watched-resource";
const UPDATE: &str = "ev_1mcp_test_update_resource";
const UPDATED: &str = "notifications/resources/updated";

fn rig() -> Rig {
    Rig::start(json!({"ev": everything(&[])}))
}

fn subscribed(rig: &Rig) -> Session {
    let mut session = rig.session();
    session.get("resources/subscribe", json!({"uri": WATCHED}));
    session
}

#[track_caller]
fn next(stream: &mut Stream, method: &str) -> Event {
    let event = stream.next();
    assert_eq!(event.message().unwrap()["method"], method);
    event
}

fn id(event: &Event) -> String {
    event.id.clone().expect("an event without id")
}

#[test]
fn each_message_goes_to_one_of_several_streams() {
    let rig = rig();
    let mut session = subscribed(&rig);
    let (mut first, mut second) = (session.listen(), session.listen());
    session.call(UPDATE, json!({}));
    next(&mut first, UPDATED);
    // The second one is still open and has heard nothing: it takes over.
    first.cut();
    eventually("the second stream is used", || {
        session.call(UPDATE, json!({}));
        second
            .event(std::time::Duration::from_millis(50))
            .is_some_and(|event| event.message().is_some())
    });
    rig.stop();
}

#[test]
fn a_listener_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let rig = rig();
    let mut session = subscribed(&rig);
    let mut stream = session.listen();
    session.call(UPDATE, json!({}));
    let last = id(&next(&mut stream, UPDATED));
    stream.cut();
    let mut other = rig.session();
    other.call("ev_1mcp_add_tool", json!({"name": "while_away"}));
    eventually("the change is known", || {
        other
            .names("tools")
            .contains(&"ev_1mcp_while_away".to_owned())
    });
    session.call(UPDATE, json!({}));
    let mut resumed = session.listen_after(&last);
    assert_eq!(resumed.head.status, 200);
    let mut heard: Vec<Value> = (0..2)
        .map(|_| resumed.next().message().unwrap()["method"].clone())
        .collect();
    heard.sort_by_key(Value::to_string);
    assert_eq!(heard, [UPDATED, "notifications/tools/list_changed"]);
    other.call("ev_1mcp_test_trigger_prompt_change", json!({}));
    next(&mut resumed, "notifications/prompts/list_changed");
    rig.stop();
}

#[test]
fn a_call_whose_stream_was_cut_is_answered_after_the_client_resumed() {
    let rig = rig();
    let session = rig.session();
    let arguments = json!({"steps": 6, "ms": 60});
    let call = reporting_call(
        &json!("c"),
        "ev_1mcp_slow_progress",
        &arguments,
        &json!("p"),
    );
    let mut stream = session.stream(call);
    next(&mut stream, "notifications/progress");
    let second = next(&mut stream, "notifications/progress");
    assert_eq!(second.message().unwrap()["params"]["progress"], 2);
    stream.cut();
    let mut resumed = session.listen_after(&id(&second));
    assert_eq!(resumed.head.status, 200);
    let (reports, answer) = resumed.answer();
    let steps: Vec<_> = reports
        .iter()
        .map(|report| &report["params"]["progress"])
        .collect();
    assert_eq!(steps, [3, 4, 5, 6]);
    assert_eq!(answer["id"], "c");
    assert_eq!(text_of(&answer["result"]), "Took 6 steps");
    assert!(resumed.is_over());
    rig.stop();
}

#[test]
fn an_answer_that_came_while_the_client_was_away_waits_for_it() {
    let rig = rig();
    let mut session = rig.session();
    let arguments = json!({"steps": 2, "ms": 50});
    let call = reporting_call(&json!(5), "ev_1mcp_slow_progress", &arguments, &json!(1));
    let mut stream = session.stream(call);
    let first = id(&next(&mut stream, "notifications/progress"));
    stream.cut();
    eventually("the call has ended", || {
        let text = session.text("ev_1mcp_whoami", json!({}));
        serde_json::from_str::<Value>(&text).unwrap()["calls"] == 1
    });
    let mut resumed = session.listen_after(&first);
    let (reports, answer) = resumed.answer();
    assert_eq!(reports.len(), 1);
    assert_eq!(answer["id"], 5);
    assert!(resumed.is_over());
    // Replay again from the same place gives the same again, and belongs to this session.
    assert_eq!(session.listen_after(&first).answer().1["id"], 5);
    let stranger = rig.session();
    let mut elsewhere = stranger.listen_after(&first);
    if elsewhere.head.status == 200 {
        session.call("ev_1mcp_test_trigger_prompt_change", json!({}));
        next(&mut elsewhere, "notifications/prompts/list_changed");
    }
    rig.stop();
}

#[test]
fn a_call_goes_on_when_its_client_is_gone() {
    let rig = rig();
    let mut session = rig.session();
    let arguments = json!({"steps": 100, "ms": 100});
    let call = reporting_call(&json!(5), "ev_1mcp_slow_progress", &arguments, &json!(1));
    let mut stream = session.stream(call);
    next(&mut stream, "notifications/progress");
    stream.cut();
    let working = |session: &mut Session| {
        let text = session.text("ev_1mcp_whoami", json!({}));
        serde_json::from_str::<Value>(&text).unwrap()["calls"] == 2
    };
    let connections = rig.files();
    eventually("the cut was noticed", || rig.files() <= connections);
    eventually("it is still in work", || working(&mut session));
    session.notify("notifications/cancelled", json!({"requestId": 5}));
    eventually("it can still be cancelled", || !working(&mut session));
    rig.stop();
}

#[test]
fn made_up_event_ids_replay_nothing() {
    let rig = rig();
    let mut session = subscribed(&rig);
    session.call(UPDATE, json!({}));
    for made_up in [
        "x",
        "0",
        "-1",
        "99999999999999999999",
        "0-0",
        "%00",
        "\u{7f}",
    ] {
        let stream = session.listen_after(made_up);
        assert!(stream.head.status < 500, "{made_up}: {:?}", stream.head);
        if stream.head.status != 200 {
            continue;
        }
        stream.cut();
    }
    assert_eq!(session.get("ping", json!({})), json!({}));
    rig.stop();
}

#[test]
fn a_deleted_session_is_gone_with_its_streams() {
    let rig = rig();
    let (mut session, mut other) = (rig.session(), rig.session());
    let mut stream = session.listen();
    let mut running = session.send(tool_call(
        &json!(1),
        "ev_1mcp_sleep",
        &json!({"ms": 60_000}),
    ));
    eventually("the call is in work", || {
        let text = other.text("ev_1mcp_whoami", json!({}));
        serde_json::from_str::<Value>(&text).unwrap()["calls"] == 2
    });
    assert_eq!(session.delete().status() / 100, 2);
    assert!(stream.is_over());
    for request in [
        Request::post("/mcp", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
        Request::listen("/mcp"),
        Request::new("DELETE", "/mcp"),
    ] {
        let reply = rig.connect().exchange(&session.sign(request));
        assert_eq!(reply.status(), 404, "{reply:?}");
    }
    eventually("its call has ended", || {
        let text = other.text("ev_1mcp_whoami", json!({}));
        serde_json::from_str::<Value>(&text).unwrap()["calls"] == 1
    });
    running.read_head();
    rig.stop();
}

#[test]
fn a_session_is_good_for_the_path_where_it_began() {
    let rig = Rig::start(json!({"ev": everything(&[]), "other": everything(&[])}));
    let paths = ["/mcp", "/mcp/ev", "/mcp/other"];
    for home in paths {
        let session = rig.session_at(home);
        for path in paths {
            let ping = Request::post(path, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
            let reply = rig.connect().exchange(&session.sign(ping));
            let expected = if path == home { 200 } else { 404 };
            assert_eq!(reply.status(), expected, "{home} at {path}");
        }
        for path in paths.into_iter().filter(|path| *path != home) {
            let delete = session.sign(Request::new("DELETE", path));
            assert_eq!(rig.connect().exchange(&delete).status(), 404);
            let listen = session.sign(Request::listen(path));
            assert_eq!(rig.connect().exchange(&listen).status(), 404);
        }
    }
    rig.stop();
}

#[test]
fn two_hundred_sessions_leave_no_trace() {
    let rig = rig();
    rig.session().delete();
    let idle = |rig: &Rig| (rig.files(), rig.threads());
    let base = idle(&rig);
    for _ in 0..4 {
        let mut sessions: Vec<Session> = (0..50).map(|_| rig.session()).collect();
        let streams: Vec<Stream> = sessions.iter().map(Session::listen).collect();
        for session in &mut sessions {
            assert_eq!(session.text("ev_1mcp_echo", json!({"text": "x"})), "x");
        }
        for session in &mut sessions {
            assert_eq!(session.delete().status() / 100, 2);
        }
        drop((streams, sessions));
    }
    eventually("files and threads are back", || {
        let (files, threads) = idle(&rig);
        files <= base.0 && threads <= base.1
    });
    rig.stop();
}
