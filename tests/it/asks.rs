//! Questions of servers to clients: to the very session that caused them, or refused.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::Stream;
use crate::support::rig::Rig;
use crate::support::servers::{everything, hostile, with};
use crate::support::session::{Session, text_of, tool_call};

const ABLE: &str = r#"{"elicitation":{},"sampling":{},"roots":{"listChanged":true}}"#;

fn able() -> Value {
    serde_json::from_str(ABLE).unwrap()
}

fn rig() -> Rig {
    Rig::start(json!({"ev": everything(&[])}))
}

#[track_caller]
fn question(stream: &mut Stream, method: &str) -> Value {
    let message = stream.message();
    assert_eq!(message["method"], method, "{message}");
    assert!(!message["id"].is_null());
    message
}

fn call(session: &Session, tool: &str, arguments: Value) -> Stream {
    session.stream(tool_call(&json!(1), tool, &arguments))
}

#[track_caller]
fn end(stream: &mut Stream) -> String {
    let (before, answer) = stream.answer();
    assert_eq!(before, Vec::<Value>::new());
    assert_eq!(answer["id"], 1);
    assert!(stream.is_over());
    text_of(&answer["result"])
}

fn pid(session: &mut Session, tool: &str) -> u64 {
    let known: Value = serde_json::from_str(&session.text(tool, json!({}))).unwrap();
    known["pid"].as_u64().unwrap()
}

#[test]
fn a_form_goes_to_the_stream_of_its_call_and_back() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let bystander = rig.session_with(able());
    let mut elsewhere = bystander.listen();
    let mut listening = session.listen();
    let mut stream = call(
        &session,
        "ev_1mcp_test_elicitation",
        json!({"message": "Who?"}),
    );
    let asked = question(&mut stream, "elicitation/create");
    assert!(
        asked["params"]["message"]
            .as_str()
            .unwrap()
            .contains("Who?"),
        "{asked}"
    );
    assert!(asked["params"]["requestedSchema"]["properties"]["email"].is_object());
    let content = json!({"username": "u", "email": "e"});
    session.answer(
        &asked["id"],
        json!({"action": "accept", "content": content}),
    );
    assert_eq!(
        end(&mut stream),
        format!("User response: action=accept, content={content}")
    );
    // The next thing on the other streams is something else.
    let mut someone = rig.session();
    someone.call("ev_1mcp_test_trigger_tool_change", json!({}));
    for other in [&mut elsewhere, &mut listening] {
        assert_eq!(
            other.message()["method"],
            "notifications/tools/list_changed"
        );
    }
    rig.stop();
}

#[test]
fn sampling_and_roots_go_the_same_way() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let mut stream = call(
        &session,
        "ev_1mcp_test_sampling",
        json!({"prompt": "Say hi"}),
    );
    let asked = question(&mut stream, "sampling/createMessage");
    assert_eq!(asked["params"]["messages"][0]["content"]["text"], "Say hi");
    let content = json!({"type": "text", "text": "hi"});
    let result = json!({"role": "assistant", "content": content, "model": "m"});
    session.answer(&asked["id"], result);
    assert_eq!(end(&mut stream), "LLM response: hi");
    let mut stream = call(&session, "ev_1mcp_roots", json!({}));
    let asked = question(&mut stream, "roots/list");
    session.answer(
        &asked["id"],
        json!({"roots": [{"uri": "file:///r", "name": "r"}]}),
    );
    assert_eq!(end(&mut stream), r#"[{"uri":"file:///r","name":"r"}]"#);
    rig.stop();
}

#[test]
fn several_questions_of_one_call_have_several_ids() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let tool = "ev_1mcp_test_input_required_result_multiple_inputs";
    let mut stream = call(&session, tool, json!({}));
    let asked: Vec<Value> = (0..3).map(|_| stream.message()).collect();
    assert!(asked[0]["id"] != asked[1]["id"] && asked[1]["id"] != asked[2]["id"]);
    for question in asked.iter().rev() {
        let result = match question["method"].as_str().unwrap() {
            "elicitation/create" => json!({"action": "accept", "content": {"name": "Ann"}}),
            "roots/list" => json!({"roots": []}),
            _ => json!({"role": "assistant", "model": "m",
                "content": {"type": "text", "text": "Hello"}}),
        };
        session.answer(&question["id"], result);
    }
    assert_eq!(end(&mut stream), "Hello Ann has the roots []");
    rig.stop();
}

#[test]
fn a_refusal_of_the_client_reaches_the_server_and_the_other_questions_are_withdrawn() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let tool = "ev_1mcp_test_input_required_result_multiple_inputs";
    let mut stream = call(&session, tool, json!({}));
    let asked: Vec<Value> = (0..3).map(|_| stream.message()).collect();
    let no = json!({"jsonrpc": "2.0", "id": asked[0]["id"],
        "error": {"code": -1, "message": "the user said no"}});
    assert_eq!(session.post(no.to_string()).status(), 202);
    let (before, answer) = stream.answer();
    assert_eq!(answer["result"]["isError"], true);
    assert!(text_of(&answer["result"]).contains("the user said no"));
    let withdrawn: Vec<&Value> = before
        .iter()
        .inspect(|message| assert_eq!(message["method"], "notifications/cancelled"))
        .map(|message| &message["params"]["requestId"])
        .collect();
    assert_eq!(withdrawn, [&asked[1]["id"], &asked[2]["id"]]);
    // Answers that come too late are taken and lead to nothing.
    session.answer(&asked[1]["id"], json!({}));
    assert_eq!(session.text("ev_1mcp_echo", json!({"text": "x"})), "x");
    rig.stop();
}

#[test]
fn a_client_that_did_not_say_it_can_is_not_asked() {
    let rig = rig();
    let cases = [
        ("ev_1mcp_test_elicitation", json!({"message": "?"})),
        ("ev_1mcp_test_sampling", json!({"prompt": "?"})),
        ("ev_1mcp_roots", json!({})),
    ];
    for (tool, arguments) in cases {
        let mut session = rig.session();
        let answers = session
            .post(tool_call(&json!(1), tool, &arguments))
            .messages();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["result"]["isError"], true, "{answers:?}");
    }
    // Forms are all that an empty capability means.
    let mut session = rig.session_with(json!({"elicitation": {}}));
    let mut stream = call(&session, "ev_1mcp_greet", json!({"name": "x"}));
    assert_eq!(end(&mut stream), "Hello, x!");
    let reply = session.post(tool_call(
        &json!(1),
        "ev_1mcp_test_sampling",
        &json!({"prompt": "?"}),
    ));
    assert_eq!(reply.messages()[0]["result"]["isError"], true);
    rig.stop();
}

#[test]
fn a_question_that_could_be_of_two_calls_is_refused() {
    let rig = rig();
    let mut asked = rig.session_with(able());
    let mut other = rig.session_with(able());
    let running = other.send(tool_call(
        &json!(9),
        "ev_1mcp_sleep",
        &json!({"ms": 60_000}),
    ));
    let mut watcher = rig.session();
    eventually("the other call is in work", || {
        let text = watcher.text("ev_1mcp_whoami", json!({}));
        serde_json::from_str::<Value>(&text).unwrap()["calls"] == 2
    });
    let body = tool_call(
        &json!(1),
        "ev_1mcp_test_elicitation",
        &json!({"message": "?"}),
    );
    let answers = asked.post(body.clone()).messages();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0]["result"]["isError"], true, "{answers:?}");
    other.notify("notifications/cancelled", json!({"requestId": 9}));
    drop(running);
    eventually("it is alone again", || {
        let text = watcher.text("ev_1mcp_whoami", json!({}));
        serde_json::from_str::<Value>(&text).unwrap()["calls"] == 1
    });
    // For a while a question may still be that of the call that was taken back: refused, not
    // shown to somebody else.
    let mut passed_on = None;
    eventually("the call that was taken back is forgotten", || {
        let mut stream = asked.stream(body.clone());
        let message = stream.message();
        let is_question = message["method"] == "elicitation/create";
        if is_question {
            passed_on = Some((stream, message));
        }
        is_question
    });
    let (mut stream, question) = passed_on.unwrap();
    asked.answer(&question["id"], json!({"action": "decline"}));
    assert_eq!(
        end(&mut stream),
        "User response: action=decline, content={}"
    );
    rig.stop();
}

#[test]
fn an_answer_from_another_session_is_not_taken() {
    let rig = rig();
    let mut owner = rig.session_with(able());
    let mut thief = rig.session_with(able());
    let mut stream = call(&owner, "ev_1mcp_greet", json!({"name": "x"}));
    assert_eq!(end(&mut stream), "Hello, x!");
    let tool = "ev_1mcp_test_input_required_result_elicitation";
    let mut stream = call(&owner, tool, json!({}));
    let asked = question(&mut stream, "elicitation/create");
    let stolen = json!({"jsonrpc": "2.0", "id": asked["id"],
        "result": {"action": "accept", "content": {"name": "thief"}}});
    thief.post(stolen.to_string());
    owner.answer(
        &asked["id"],
        json!({"action": "accept", "content": {"name": "owner"}}),
    );
    assert_eq!(end(&mut stream), "Hello, owner!");
    rig.stop();
}

#[test]
fn a_question_of_a_call_that_was_taken_back_reaches_nobody_else() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/late-asker.sh");
    let rig = Rig::start(json!({"sh": {"command": "sh", "args": [script]}}));
    let mut first = rig.session_with(able());
    let second = rig.session_with(able());
    let mut running = first.stream(tool_call(&json!(9), "sh_1mcp_t", &json!({"who": "FIRST"})));
    assert_eq!(running.message()["params"]["data"], "begun");
    first.notify("notifications/cancelled", json!({"requestId": 9}));
    assert!(running.is_over());
    let mut stream = second.stream(tool_call(&json!(1), "sh_1mcp_t", &json!({"who": "SECOND"})));
    let (before, answer) = stream.answer();
    assert_eq!(before, Vec::<Value>::new(), "another client's question");
    assert_eq!(answer["id"], 1);
    rig.stop();
}

#[test]
fn questions_without_a_call_are_refused_on_a_shared_server() {
    let shared = with(hostile(&[]), json!({"instances": "shared"}));
    let rig = Rig::start(json!({"ho": shared}));
    let mut session = rig.session_with(able());
    let mut listening = session.listen();
    assert_eq!(
        session.text("ho_1mcp_ask_unsolicited", json!({})),
        "asking later"
    );
    let mut answers = Vec::new();
    eventually("the server got its answers", || {
        answers = serde_json::from_str(&session.text("ho_1mcp_answers", json!({}))).unwrap();
        answers.len() == 2
    });
    let answers: Vec<Value> = answers;
    assert!(
        answers
            .iter()
            .all(|answer| answer["error"]["code"].is_i64()),
        "{answers:?}"
    );
    rig.term();
    assert!(listening.is_over());
}

#[test]
fn a_server_with_state_gets_a_process_for_each_session() {
    let entry = with(everything(&[]), json!({"instances": "session"}));
    let rig = Rig::start(json!({"own": entry, "ev": everything(&[])}));
    let (mut first, mut second) = (rig.session_with(able()), rig.session());
    let tool = "own_1mcp_whoami";
    let pids = [pid(&mut first, tool), pid(&mut second, tool)];
    assert_ne!(pids[0], pids[1]);
    assert_eq!(pid(&mut first, tool), pids[0]);
    let shared = "ev_1mcp_whoami";
    assert_eq!(pid(&mut first, shared), pid(&mut second, shared));
    // It sees its own client: what that can do, and who it is.
    let known: Value = serde_json::from_str(&second.text(tool, json!({}))).unwrap();
    assert!(known["capabilities"]["elicitation"].is_null(), "{known}");
    assert_eq!(known["clientInfo"]["name"], "it", "{known}");
    let known: Value = serde_json::from_str(&first.text(tool, json!({}))).unwrap();
    assert!(known["capabilities"]["sampling"].is_object(), "{known}");
    // Its questions are certain although another call is in work.
    let running = second.send(tool_call(
        &json!(9),
        "own_1mcp_sleep",
        &json!({"ms": 60_000}),
    ));
    let mut stream = call(&first, "own_1mcp_test_elicitation", json!({"message": "?"}));
    let asked = question(&mut stream, "elicitation/create");
    first.answer(&asked["id"], json!({"action": "cancel"}));
    assert_eq!(end(&mut stream), "User response: action=cancel, content={}");
    assert_eq!(first.delete().status() / 100, 2);
    let alive = |pid: u64| std::path::Path::new(&format!("/proc/{pid}")).exists();
    eventually("the process of the session has ended", || !alive(pids[0]));
    assert!(alive(pids[1]));
    second.notify("notifications/cancelled", json!({"requestId": 9}));
    drop(running);
    rig.stop();
}
