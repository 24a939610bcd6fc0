//! Clients with a session at stateless servers: what those want to know becomes questions on the
//! stream of the call, and nothing of the other era is seen.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{Request, Stream};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::everything;
use crate::support::session::{Session, reporting_call, request, text_of, tool_call};
use crate::support::{sse, stdio};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

fn able() -> Value {
    json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {"listChanged": true}})
}

fn rig() -> Rig {
    Rig::start(json!({"ev": everything(&["--era", "modern"])}))
}

fn odd() -> Rig {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/odd-stateless.sh");
    Rig::start(json!({"odd": {"command": "sh", "args": [script]}}))
}

fn call(session: &Session, tool: &str, arguments: Value) -> Stream {
    session.stream(tool_call(&json!(1), tool, &arguments))
}

#[track_caller]
fn question(stream: &mut Stream, method: &str) -> Value {
    let message = stream.message();
    assert_eq!(message["method"], method, "{message}");
    assert_eq!(message["jsonrpc"], "2.0");
    assert!(!message["id"].is_null());
    message
}

/// The last message of a stream that has nothing else to say.
#[track_caller]
fn answer(stream: &mut Stream) -> Value {
    let (before, answer) = stream.answer();
    assert_eq!(before, Vec::<Value>::new());
    assert_eq!(answer["id"], 1);
    assert!(stream.is_over());
    answer
}

#[track_caller]
fn end(stream: &mut Stream) -> String {
    let answer = answer(stream);
    check_result(&answer["result"]);
    text_of(&answer["result"])
}

/// Nothing of the other era is left in a result.
#[track_caller]
fn check_result(result: &Value) {
    let members = result
        .as_object()
        .unwrap_or_else(|| panic!("no result: {result}"));
    for name in [
        "resultType",
        "ttlMs",
        "cacheScope",
        "_meta",
        "requestState",
        "inputRequests",
    ] {
        assert!(!members.contains_key(name), "{result}");
    }
}

fn accepted(content: Value) -> Value {
    json!({"action": "accept", "content": content})
}

fn sampled(text: &str) -> Value {
    json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": text}})
}

#[track_caller]
fn refuse(session: &mut Session, question: &Value) {
    let no = json!({"jsonrpc": "2.0", "id": question["id"],
        "error": {"code": -1, "message": "the user said no"}});
    assert_eq!(session.post(no.to_string()).status(), 202);
}

#[test]
fn results_lists_and_prompts_are_those_of_a_session() {
    let rig = rig();
    for revision in REVISIONS {
        let mut session = rig.session_of(revision);
        let result = session.call("ev_1mcp_echo", json!({"text": revision}));
        check_result(&result);
        assert_eq!(text_of(&result), revision);
        for kind in ["tools", "prompts", "resources"] {
            check_result(&session.get(&format!("{kind}/list"), json!({})));
        }
        let params = json!({"uri": "test://static-text"});
        let result = session.get("resources/read", params);
        check_result(&result);
        assert_eq!(result["contents"][0]["uri"], "test://static-text");
        check_result(&session.get("prompts/get", json!({"name": "ev_1mcp_test_simple_prompt"})));
        let reference = json!({"type": "ref/prompt", "name": "ev_1mcp_test_prompt_with_arguments"});
        let argument = json!({"name": "arg1", "value": "a"});
        let params = json!({"ref": reference, "argument": argument});
        check_result(&session.get("completion/complete", params));
    }
    rig.stop();
}

#[test]
fn a_server_learns_who_asks() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let raw = |session: &mut Session, params: Value| -> Value {
        let result = session.get("tools/call", params);
        serde_json::from_str(&text_of(&result)).unwrap()
    };
    let mine = json!({"io.modelcontextprotocol/clientInfo": {"name": "liar"}, "trace": 1.5});
    let params = json!({"name": "ev_1mcp_raw_params", "arguments": {"n": 1}, "_meta": mine,
        "task": {"ttl": 1}, "inputResponses": {"x": {}}, "requestState": "mine"});
    let seen = raw(&mut session, params);
    let meta = &seen["_meta"];
    assert_eq!(
        meta["io.modelcontextprotocol/protocolVersion"],
        "2026-07-28"
    );
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "it");
    assert_eq!(meta["io.modelcontextprotocol/logLevel"], "info");
    assert_eq!(meta["trace"], 1.5);
    let declared = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}});
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], declared);
    for name in ["task", "inputResponses", "requestState"] {
        assert!(seen[name].is_null(), "{seen}");
    }
    let mut older = Session::open(rig.port, "/mcp", "2025-06-18", able());
    older.get("logging/setLevel", json!({"level": "error"}));
    let seen = raw(&mut older, json!({"name": "ev_1mcp_raw_params"}));
    let meta = &seen["_meta"];
    let forms = json!({"form": {}});
    assert_eq!(
        meta["io.modelcontextprotocol/clientCapabilities"]["elicitation"],
        forms
    );
    assert_eq!(meta["io.modelcontextprotocol/logLevel"], "error");
    rig.stop();
}

#[test]
fn forms_samples_and_roots_are_asked_on_the_stream_of_the_call() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let mut stream = call(
        &session,
        "ev_1mcp_test_elicitation",
        json!({"message": "Who?"}),
    );
    let asked = question(&mut stream, "elicitation/create");
    assert_eq!(asked["params"]["message"], "Who?");
    assert!(asked["params"]["requestedSchema"]["properties"]["email"].is_object());
    let content = json!({"username": "u", "email": "e"});
    session.answer(&asked["id"], accepted(content.clone()));
    assert_eq!(
        end(&mut stream),
        format!("User response: action=accept, content={content}")
    );

    let mut stream = call(
        &session,
        "ev_1mcp_test_sampling",
        json!({"prompt": "Say hi"}),
    );
    let asked = question(&mut stream, "sampling/createMessage");
    assert_eq!(asked["params"]["messages"][0]["content"]["text"], "Say hi");
    session.answer(&asked["id"], sampled("hi"));
    assert_eq!(end(&mut stream), "LLM response: hi");

    let mut stream = call(&session, "ev_1mcp_roots", json!({}));
    let asked = question(&mut stream, "roots/list");
    let roots = json!([{"uri": "file:///r", "name": "r"}]);
    session.answer(&asked["id"], json!({"roots": roots}));
    let told: Value = serde_json::from_str(&end(&mut stream)).unwrap();
    assert_eq!(told, roots);
    rig.stop();
}

#[test]
fn several_questions_and_several_rounds_belong_to_one_call() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let tool = "ev_1mcp_test_input_required_result_multiple_inputs";
    let mut stream = call(&session, tool, json!({}));
    let asked: Vec<Value> = (0..3).map(|_| stream.message()).collect();
    for question in asked.iter().rev() {
        let result = match question["method"].as_str().unwrap() {
            "elicitation/create" => accepted(json!({"name": "Ann"})),
            "roots/list" => json!({"roots": []}),
            _ => sampled("Hello"),
        };
        session.answer(&question["id"], result);
    }
    assert_eq!(end(&mut stream), "Hello Ann has the roots []");

    let tool = "ev_1mcp_test_input_required_result_multi_round";
    let mut stream = call(&session, tool, json!({}));
    let first = question(&mut stream, "elicitation/create");
    session.answer(&first["id"], accepted(json!({"name": "Ann"})));
    let second = question(&mut stream, "elicitation/create");
    assert_ne!(first["id"], second["id"]);
    session.answer(&second["id"], accepted(json!({"color": "red"})));
    assert_eq!(end(&mut stream), "Ann likes red");

    let name = "ev_1mcp_test_input_required_result_prompt";
    let mut stream = session.stream(request(&json!(1), "prompts/get", &json!({"name": name})));
    let asked = question(&mut stream, "elicitation/create");
    session.answer(&asked["id"], accepted(json!({"context": "rain"})));
    let answer = answer(&mut stream);
    check_result(&answer["result"]);
    assert!(
        answer.to_string().contains("Use this context: rain"),
        "{answer}"
    );
    rig.stop();
}

#[test]
fn an_answer_that_is_none_counts_as_a_refusal() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let form = json!({"message": "?"});
    let mut stream = call(&session, "ev_1mcp_test_elicitation", form);
    let asked = question(&mut stream, "elicitation/create");
    session.answer(&asked["id"], accepted(json!(5)));
    assert_eq!(end(&mut stream), "User response: action=cancel, content={}");

    let mut stream = call(&session, "ev_1mcp_test_sampling", json!({"prompt": "?"}));
    let asked = question(&mut stream, "sampling/createMessage");
    let mut odd = sampled("Paris");
    odd["role"] = json!("system");
    session.answer(&asked["id"], odd);
    assert_eq!(answer(&mut stream)["error"]["code"], -32603);
    rig.stop();
}

#[test]
fn a_refusal_is_an_answer_to_a_form_and_the_end_of_any_other_question() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let mut stream = call(
        &session,
        "ev_1mcp_test_elicitation",
        json!({"message": "?"}),
    );
    let asked = question(&mut stream, "elicitation/create");
    refuse(&mut session, &asked);
    assert_eq!(end(&mut stream), "User response: action=cancel, content={}");

    let mut stream = call(&session, "ev_1mcp_test_sampling", json!({"prompt": "?"}));
    let asked = question(&mut stream, "sampling/createMessage");
    refuse(&mut session, &asked);
    let error = answer(&mut stream)["error"].clone();
    assert_eq!(error["code"], -32603);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("the user said no"),
        "{error}"
    );

    let tool = "ev_1mcp_test_input_required_result_multiple_inputs";
    let mut stream = call(&session, tool, json!({}));
    let asked: Vec<Value> = (0..3).map(|_| stream.message()).collect();
    let is_sampling = |asked: &&Value| asked["method"] == "sampling/createMessage";
    refuse(&mut session, asked.iter().find(is_sampling).unwrap());
    let (before, answer) = stream.answer();
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    let withdrawn: Vec<&Value> = before
        .iter()
        .inspect(|message| assert_eq!(message["method"], "notifications/cancelled"))
        .map(|message| &message["params"]["requestId"])
        .collect();
    let open = asked.iter().filter(|asked| !is_sampling(asked));
    let mut open: Vec<u64> = open.map(|asked| asked["id"].as_u64().unwrap()).collect();
    let mut withdrawn: Vec<u64> = withdrawn.iter().map(|id| id.as_u64().unwrap()).collect();
    open.sort_unstable();
    withdrawn.sort_unstable();
    assert_eq!(withdrawn, open);
    // Answers that come too late are taken and lead to nothing.
    session.answer(&asked[0]["id"], json!({}));
    assert_eq!(session.text("ev_1mcp_echo", json!({"text": "x"})), "x");
    rig.stop();
}

#[test]
fn a_client_that_cannot_be_asked_gets_an_error() {
    let rig = rig();
    let mut session = rig.session();
    for (tool, arguments) in [
        ("ev_1mcp_test_elicitation", json!({"message": "?"})),
        ("ev_1mcp_test_sampling", json!({"prompt": "?"})),
        ("ev_1mcp_roots", json!({})),
        ("ev_1mcp_test_missing_capability", json!({})),
    ] {
        let answer = session.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        assert_eq!(answer["error"]["code"], -32603, "{answer}");
        assert_eq!(
            answer["error"]["data"]["onemcp"]["server"], "ev",
            "{answer}"
        );
    }
    let session = rig.session_with(able());
    let body = tool_call(&json!(1), "ev_1mcp_roots", &json!({}));
    let post = session
        .sign(Request::post("/mcp", body))
        .with("Accept", "application/json");
    let answer = &rig.connect().exchange(&post).messages()[0];
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    rig.stop();
}

#[test]
fn a_call_that_is_taken_back_while_it_asks_is_over() {
    let rig = odd();
    let mut session = rig.session_with(able());
    let mut stream = call(&session, "odd_1mcp_visits", json!({}));
    let asked = question(&mut stream, "elicitation/create");
    session.notify("notifications/cancelled", json!({"requestId": 1}));
    assert!(stream.is_over());
    session.answer(&asked["id"], accepted(json!({})));
    assert_eq!(session.text("odd_1mcp_seen", json!({"of": "visits"})), "1");
    // The end of a session ends what it was asked too.
    let other = rig.session_with(able());
    let mut stream = call(&other, "odd_1mcp_visits", json!({}));
    question(&mut stream, "elicitation/create");
    let mut other = other;
    assert_eq!(other.delete().status() / 100, 2);
    assert!(stream.is_over());
    assert_eq!(session.text("odd_1mcp_seen", json!({"of": "visits"})), "2");
    rig.stop();
}

#[test]
fn what_is_answered_in_a_browser_gets_an_id() {
    let rig = odd();
    let mut session = rig.session_with(able());
    let mut stream = call(&session, "odd_1mcp_visits", json!({}));
    let asked = question(&mut stream, "elicitation/create");
    assert_eq!(asked["params"]["url"], "https://a.example/");
    assert!(
        !asked["params"]["elicitationId"]
            .as_str()
            .unwrap()
            .is_empty()
    );
    session.answer(&asked["id"], json!({"action": "accept"}));
    assert_eq!(end(&mut stream), "visited");
    // Older revisions do not know it, whatever their client declares.
    let mut older = Session::open(rig.port, "/mcp", "2025-06-18", able());
    let answer = older.ask("tools/call", json!({"name": "odd_1mcp_visits"}));
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    rig.stop();
}

#[test]
fn a_server_that_asks_for_patience_is_asked_again_but_not_for_ever() {
    let rig = odd();
    let mut session = rig.session_with(able());
    assert_eq!(session.text("odd_1mcp_polls", json!({})), "polled");
    assert_eq!(session.text("odd_1mcp_seen", json!({"of": "polls"})), "4");
    let mut stream = call(&session, "odd_1mcp_insatiable", json!({}));
    let mut rounds = 0;
    let answer = loop {
        let message = stream.message();
        if message.get("method").is_none() {
            break message;
        }
        rounds += 1;
        session.answer(&message["id"], accepted(json!({})));
    };
    assert_eq!(rounds, 10);
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    rig.stop();
}

#[test]
fn what_a_session_does_not_know_is_translated() {
    let rig = odd();
    let mut session = rig.session_with(able());
    for tool in [
        "task",
        "unknown_question",
        "nothing_asked",
        "lacks",
        "version",
        "header",
    ] {
        let name = format!("odd_1mcp_{tool}");
        let answer = session.ask("tools/call", json!({"name": name}));
        assert_eq!(answer["error"]["code"], -32603, "{tool}: {answer}");
        assert_eq!(answer["error"]["data"]["onemcp"]["reason"], "bad_upstream");
    }
    let result = session.call("odd_1mcp_list", json!({}));
    check_result(&result);
    assert!(result.get("structuredContent").is_none(), "{result}");
    let tools = session.get("tools/list", json!({}));
    let tools = tools["tools"].as_array().unwrap();
    let list = tools
        .iter()
        .find(|tool| tool["name"] == "odd_1mcp_list")
        .unwrap();
    assert!(list.get("outputSchema").is_none(), "{list}");
    assert_eq!(list["annotations"]["readOnlyHint"], true);
    for (revision, kinds) in [
        ("2024-11-05", ["text", "text"]),
        ("2025-03-26", ["text", "audio"]),
        ("2025-06-18", ["resource_link", "audio"]),
    ] {
        let result = rig.session_of(revision).call("odd_1mcp_kinds", json!({}));
        let content = result["content"].as_array().unwrap();
        let types: Vec<&str> = content
            .iter()
            .map(|c| c["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, kinds, "{revision}");
        assert!(content[0].to_string().contains("x:/1"), "{result}");
    }
    rig.stop();
}

#[test]
fn servers_with_sessions_show_old_clients_only_what_these_know() {
    let rig = Rig::start(json!({"ev": everything(&[])}));
    for (revision, kind) in [("2024-11-05", "text"), ("2025-03-26", "audio")] {
        let result = rig
            .session_of(revision)
            .call("ev_1mcp_test_audio_content", json!({}));
        assert_eq!(result["content"][0]["type"], kind, "{revision}");
    }
    rig.stop();
}

#[test]
fn an_unknown_resource_has_the_code_of_a_session() {
    let rig = rig();
    let mut session = rig.session_at("/mcp/ev");
    let error = session.refused("resources/read", json!({"uri": "test://nothing/here"}));
    assert_eq!(error["code"], -32002, "{error}");
    assert_eq!(error["data"]["uri"], "test://nothing/here");
    let error = session.refused("tools/call", json!({"name": "no_such_tool"}));
    assert_eq!(error["code"], -32602);
    rig.stop();
}

#[test]
fn log_messages_follow_the_level_of_the_session() {
    let rig = rig();
    let mut session = rig.session();
    let logged = |session: &Session, level: &str| {
        let arguments = json!({"level": level, "text": "t"});
        let mut stream = call(session, "ev_1mcp_log", arguments);
        stream.answer().0.len()
    };
    assert_eq!(logged(&session, "debug"), 0);
    assert_eq!(logged(&session, "info"), 1);
    session.get("logging/setLevel", json!({"level": "debug"}));
    assert_eq!(logged(&session, "debug"), 1);
    session.get("logging/setLevel", json!({"level": "error"}));
    assert_eq!(logged(&session, "warning"), 0);
    assert_eq!(logged(&session, "critical"), 1);
    rig.stop();
}

#[test]
fn progress_keeps_its_token_and_grows_over_all_rounds() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let token = json!("t\"1");
    let tool = "ev_1mcp_test_streaming_elicitation";
    let mut stream = session.stream(reporting_call(&json!(1), tool, &json!({}), &token));
    let mut told = Vec::new();
    let asked = loop {
        let message = stream.message();
        if message["method"] == "elicitation/create" {
            break message;
        }
        told.push(message);
    };
    session.answer(&asked["id"], accepted(json!({"name": "Ann"})));
    let (after, answer) = stream.answer();
    assert!(answer["result"].is_object(), "{answer}");
    told.extend(after);
    let is_progress = |message: &&Value| message["method"] == "notifications/progress";
    let progress: Vec<&Value> = told.iter().filter(is_progress).collect();
    assert!(
        progress
            .iter()
            .all(|message| message["params"]["progressToken"] == token)
    );
    let steps: Vec<f64> = progress
        .iter()
        .map(|message| message["params"]["progress"].as_f64().unwrap())
        .collect();
    assert_eq!(steps, [0.0, 1.0]);
    rig.stop();
}

#[test]
fn calls_of_a_batch_are_asked_for_one_by_one() {
    let rig = rig();
    let mut session = Session::open(rig.port, "/mcp", "2025-03-26", able());
    let tool = "ev_1mcp_ask_name";
    let calls: Vec<Value> = ["a", "b"]
        .iter()
        .map(|token| {
            let text = tool_call(&json!(token), tool, &json!({"token": token}));
            serde_json::from_str(&text).unwrap()
        })
        .chain([json!({"jsonrpc": "2.0", "id": "p", "method": "ping"})])
        .collect();
    let mut stream = session.stream(Value::from(calls).to_string());
    let mut answers = Vec::new();
    let mut asked = 0;
    while answers.len() < 3 {
        let message = stream.message();
        if message.get("method").is_some() {
            asked += 1;
            session.answer(&message["id"], accepted(json!({"name": "Ann"})));
        } else {
            answers.push(message);
        }
    }
    assert_eq!(asked, 2);
    let text = |id: &str| {
        let answer = answers.iter().find(|answer| answer["id"] == id).unwrap();
        text_of(&answer["result"])
    };
    assert_eq!((text("a"), text("b")), ("a:Ann".into(), "b:Ann".into()));
    assert!(stream.is_over());
    rig.stop();
}

#[test]
fn a_call_whose_server_dies_while_it_asks_goes_to_the_next_process() {
    let rig = rig();
    let mut session = rig.session_with(able());
    let known: Value = serde_json::from_str(&session.text("ev_1mcp_whoami", json!({}))).unwrap();
    let tool = "ev_1mcp_test_input_required_result_elicitation";
    let mut stream = call(&session, tool, json!({}));
    let asked = question(&mut stream, "elicitation/create");
    let pid = i32::try_from(known["pid"].as_u64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("the next process answers", || {
        let params = json!({"name": "ev_1mcp_echo", "arguments": {"text": "x"}});
        session.ask("tools/call", params)["result"].is_object()
    });
    session.answer(&asked["id"], accepted(json!({"name": "Ann"})));
    assert_eq!(end(&mut stream), "Hello, Ann!");
    rig.stop();
}

#[test]
fn clients_on_one_channel_are_asked_there() {
    let tool = "ev_1mcp_test_input_required_result_elicitation";
    let servers = json!({"ev": everything(&["--era", "modern"])});
    let (ask, again) = (
        tool_call(&json!("a"), tool, &json!({})),
        tool_call(&json!("b"), tool, &json!({})),
    );
    let rig = Rig::start(servers.clone());
    let mut client = sse::Client::open(rig.port, "/sse", "2024-11-05", able());
    client.post(ask.clone());
    let asked = client.expect("elicitation/create");
    client.reply(&asked["id"], accepted(json!({"name": "Ann"})));
    assert_eq!(
        text_of(&client.answer(&json!("a"))["result"]),
        "Hello, Ann!"
    );
    client.post(again.clone());
    client.expect("elicitation/create");
    client.notify("notifications/cancelled", json!({"requestId": "b"}));
    assert_eq!(client.text("ev_1mcp_echo", json!({"text": "x"})), "x");
    rig.stop();

    let mut client = stdio::Client::open(Plan::new(servers), "2025-11-25", able());
    client.send(&ask);
    let asked = client.expect("elicitation/create");
    client.reply(&asked["id"], accepted(json!({"name": "Bob"})));
    assert_eq!(
        text_of(&client.answer(&json!("a"))["result"]),
        "Hello, Bob!"
    );
    client.send(&again);
    client.expect("elicitation/create");
    client.notify("notifications/cancelled", json!({"requestId": "b"}));
    client.leave();
}
