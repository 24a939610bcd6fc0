//! Notifications of servers: to the sessions that they concern, once, and to no others.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::Stream;
use crate::support::rig::Rig;
use crate::support::servers::{everything, hostile, with};
use crate::support::session::{Session, tool_call};

const WATCHED: &str = "test://watched-resource";
const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
const UPDATED: &str = "notifications/resources/updated";

fn rig() -> Rig {
    Rig::start(json!({"ev": everything(&[])}))
}

fn whoami(session: &mut Session) -> Value {
    serde_json::from_str(&session.text("ev_1mcp_whoami", json!({}))).unwrap()
}

/// Logs a text and gives what came to the caller before the answer.
#[track_caller]
fn logged(session: &Session, level: &str, text: &str) -> Vec<Value> {
    let call = tool_call(
        &json!(1),
        "ev_1mcp_log",
        &json!({"level": level, "text": text}),
    );
    let (before, answer) = session.stream(call).answer();
    assert!(answer["result"].is_object(), "{answer}");
    before
}

#[track_caller]
fn method(stream: &mut Stream) -> String {
    stream.message()["method"].as_str().unwrap().to_owned()
}

fn subscribe(session: &mut Session, uri: &str) {
    session.get("resources/subscribe", json!({"uri": uri}));
}

#[test]
fn each_session_has_its_own_log_level() {
    let rig = rig();
    let (mut talkative, mut quiet) = (rig.session(), rig.session());
    talkative.get("logging/setLevel", json!({"level": "debug"}));
    quiet.get("logging/setLevel", json!({"level": "error"}));
    // The server must say as much as the most curious wants to hear.
    assert_eq!(whoami(&mut quiet)["logLevel"], "debug");
    let heard = logged(&talkative, "debug", "a detail");
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["method"], "notifications/message");
    assert_eq!(heard[0]["params"]["level"], "debug");
    assert_eq!(heard[0]["params"]["data"], "a detail");
    assert_eq!(heard[0]["params"]["logger"], "everything");
    assert_eq!(logged(&quiet, "warning", "x"), Vec::<Value>::new());
    assert_eq!(logged(&quiet, "error", "bad").len(), 1);
    let unknown = quiet.refused("logging/setLevel", json!({"level": "loud"}));
    assert_eq!(unknown["code"], -32602);
    assert_eq!(logged(&quiet, "warning", "x"), Vec::<Value>::new());
    rig.stop();
}

#[test]
fn what_a_call_logs_goes_to_its_caller_alone() {
    let rig = rig();
    let (mut caller, mut other) = (rig.session(), rig.session());
    caller.get("logging/setLevel", json!({"level": "debug"}));
    other.get("logging/setLevel", json!({"level": "debug"}));
    let mut listening = other.listen();
    assert_eq!(logged(&caller, "info", "mine").len(), 1);
    other.call("ev_1mcp_test_trigger_tool_change", json!({}));
    assert_eq!(method(&mut listening), TOOLS_CHANGED);
    rig.stop();
}

#[test]
fn the_level_lives_on_in_a_restarted_server() {
    let rig = rig();
    let mut session = rig.session();
    session.get("logging/setLevel", json!({"level": "critical"}));
    rig.kill("ev");
    eventually("it has the level", || {
        whoami(&mut session)["logLevel"] == "critical"
    });
    rig.stop();
}

#[test]
fn a_subscription_lives_until_its_last_session_lets_go() {
    let rig = rig();
    let (mut first, mut second, mut third) = (rig.session(), rig.session(), rig.session());
    let (mut one, mut two) = (first.listen(), second.listen());
    subscribe(&mut first, WATCHED);
    subscribe(&mut first, WATCHED);
    subscribe(&mut second, WATCHED);
    assert_eq!(whoami(&mut third)["subscriptions"], json!([WATCHED]));
    third.call("ev_1mcp_test_update_resource", json!({}));
    for stream in [&mut one, &mut two] {
        let message = stream.message();
        assert_eq!(message["method"], UPDATED);
        assert_eq!(message["params"], json!({"uri": WATCHED}));
    }
    first.get("resources/unsubscribe", json!({"uri": WATCHED}));
    assert_eq!(whoami(&mut third)["subscriptions"], json!([WATCHED]));
    third.call("ev_1mcp_test_update_resource", json!({}));
    assert_eq!(method(&mut two), UPDATED);
    // What comes next to the first is something else.
    third.call("ev_1mcp_test_trigger_tool_change", json!({}));
    assert_eq!(method(&mut one), TOOLS_CHANGED);
    assert_eq!(method(&mut two), TOOLS_CHANGED);
    second.delete();
    eventually("the server is rid of it", || {
        whoami(&mut third)["subscriptions"] == json!([])
    });
    rig.stop();
}

#[test]
fn subscriptions_to_what_nobody_has_are_refused() {
    let rig = rig();
    let mut session = rig.session();
    let error = session.refused("resources/subscribe", json!({"uri": "test://none"}));
    assert!(
        matches!(error["code"].as_i64(), Some(-32002 | -32602)),
        "{error}"
    );
    let error = session.refused("resources/subscribe", json!({}));
    assert_eq!(error["code"], -32602);
    // To let go of what one does not have is no mistake, and no harm to others.
    let mut other = rig.session();
    subscribe(&mut other, WATCHED);
    session.ask("resources/unsubscribe", json!({"uri": WATCHED}));
    assert_eq!(whoami(&mut session)["subscriptions"], json!([WATCHED]));
    rig.stop();
}

#[test]
fn a_restarted_server_is_subscribed_again() {
    let rig = rig();
    let (mut session, mut other) = (rig.session(), rig.session());
    let mut stream = session.listen();
    subscribe(&mut session, WATCHED);
    rig.kill("ev");
    eventually("it is subscribed", || {
        whoami(&mut other)["subscriptions"] == json!([WATCHED])
    });
    other.call("ev_1mcp_test_update_resource", json!({}));
    assert_eq!(method(&mut stream), UPDATED);
    rig.stop();
}

#[test]
fn a_change_is_told_to_those_who_see_it_and_once() {
    let servers = json!({
        "a": with(everything(&[]), json!({"tags": ["a"]})),
        "b": with(everything(&[]), json!({"tags": ["b"]})),
    });
    let rig = Rig::start(servers);
    let (mut all, only_b) = (rig.session(), rig.session_at("/mcp?tags=b"));
    let server_b = rig.session_at("/mcp/b");
    let mut streams = [all.listen(), only_b.listen(), server_b.listen()];
    // Five changes in a row are one piece of news.
    for name in ["t1", "t2", "t3", "t4", "t5"] {
        all.call("a_1mcp_add_tool", json!({"name": name}));
    }
    assert_eq!(method(&mut streams[0]), TOOLS_CHANGED);
    eventually("the tools are there", || {
        all.names("tools").contains(&"a_1mcp_t5".to_owned())
    });
    let mut told = 1;
    all.call("b_1mcp_test_trigger_prompt_change", json!({}));
    for stream in &mut streams[1..] {
        assert_eq!(method(stream), "notifications/prompts/list_changed");
    }
    while method(&mut streams[0]) == TOOLS_CHANGED {
        told += 1;
    }
    assert!(told < 5, "told {told} times of one burst");
    rig.stop();
}

#[test]
fn an_announcement_without_a_change_is_no_news() {
    let rig = Rig::start(json!({"ho": hostile(&[]), "ev": everything(&[])}));
    let mut session = rig.session();
    let mut stream = session.listen();
    session.call("ho_1mcp_list_changed_flood", json!({"n": 2000}));
    session.call("ev_1mcp_add_resource", json!({"name": "r"}));
    assert_eq!(method(&mut stream), "notifications/resources/list_changed");
    let uri = json!({"uri": "test://added/r"});
    assert!(session.get("resources/read", uri)["contents"].is_array());
    rig.stop();
}
