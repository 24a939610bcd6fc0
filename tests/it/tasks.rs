//! Calls that go on after they were answered: in the form of either era, with ids that lead to the
//! server that has the task, and are good for whoever got them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{Reply, Stream};
use crate::support::remote::HttpFixture;
use crate::support::rig::Rig;
use crate::support::servers::everything;
use crate::support::session::{Session, request, text_of};
use crate::support::stateless::{Client, key};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const RELATED: &str = "io.modelcontextprotocol/related-task";
/// The tool of the test server that sessions may call as a task. It asks for a name.
const TOOL: &str = "test_tool_with_task";

/// Runs a test with the server on stdio, and over HTTP.
fn over_both(era: &str, test: impl Fn(&Rig)) {
    test(&Rig::start(json!({"ev": everything(&["--era", era])})));
    let remote = HttpFixture::start(&["--era", era]);
    test(&Rig::start(json!({"ev": remote.entry()})));
}

fn able(rig: &Rig, target: &str) -> Client {
    let capabilities = json!({"elicitation": {}, "extensions": {EXTENSION: {}}});
    Client::new(rig.port, target).able(capabilities)
}

fn call(tool: &str, arguments: Value) -> Value {
    json!({"name": tool, "arguments": arguments})
}

fn of(id: &str) -> Value {
    json!({"taskId": id})
}

fn id_of(task: &Value) -> String {
    let id = task["taskId"].as_str();
    id.unwrap_or_else(|| panic!("no task: {task}")).to_owned()
}

/// A task that goes on for long, and its id.
#[track_caller]
fn begin(client: &Client, tool: &str) -> String {
    let created = client.get("tools/call", &call(tool, json!({"seconds": 60})));
    assert_eq!(created["resultType"], "task", "{created}");
    assert_eq!(created["status"], "working");
    assert_eq!(created["_meta"][key("serverInfo")]["name"], "onemcp");
    id_of(&created)
}

#[track_caller]
fn status(client: &Client, id: &str) -> String {
    let task = client.get("tasks/get", &of(id));
    assert_eq!(task["resultType"], "complete", "{task}");
    assert_eq!(id_of(&task), id);
    task["status"].as_str().unwrap().to_owned()
}

/// The code with which an id is refused wherever it is used.
#[track_caller]
fn code(client: &Client, id: &str) -> i64 {
    let codes = ["tasks/get", "tasks/update", "tasks/cancel"].map(|method| {
        let answer = client.ask(method, &json!({"taskId": id, "inputResponses": {}}));
        answer["error"]["code"].as_i64().unwrap_or_default()
    });
    assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
    codes[0]
}

#[test]
fn a_task_is_followed_to_its_end() {
    over_both("modern", |rig| {
        let client = able(rig, "/mcp");
        let discovered = client.get("server/discover", &json!({}));
        assert!(discovered["capabilities"]["extensions"][EXTENSION].is_object());
        let arguments = json!({"seconds": 0.2, "label": "x"});
        let created = client.get("tools/call", &call("ev_1mcp_slow_compute", arguments));
        let id = id_of(&created);
        eventually("the task is over", || status(&client, &id) != "working");
        let task = client.get("tasks/get", &of(&id));
        assert_eq!(task["status"], "completed", "{task}");
        assert_eq!(text_of(&task["result"]), "Computed x");
        // What is over stays so.
        let done = client.get("tasks/cancel", &of(&id));
        assert_eq!(done["resultType"], "complete", "{done}");
        assert_eq!(status(&client, &id), "completed");
    });
}

#[test]
fn a_task_asks_and_is_answered_and_cancelled() {
    over_both("modern", |rig| {
        let client = able(rig, "/mcp/ev");
        let arguments = json!({"filename": "f.txt"});
        let created = client.get("tools/call", &call("confirm_delete", arguments));
        let id = id_of(&created);
        eventually("it asks", || status(&client, &id) == "input_required");
        let task = client.get("tasks/get", &of(&id));
        let asked = task["inputRequests"].as_object().unwrap();
        let (name, question) = asked.iter().next().unwrap();
        assert_eq!(question["method"], "elicitation/create");
        let accepted = json!({"action": "accept", "content": {"confirm": true}});
        let update = json!({"taskId": id, "inputResponses": {name.as_str(): accepted}});
        let done = client.get("tasks/update", &update);
        assert_eq!(done["resultType"], "complete");
        assert!(done.get("taskId").is_none(), "{done}");
        eventually("it ends", || status(&client, &id) == "completed");
        let other = begin(&client, "slow_compute");
        client.get("tasks/cancel", &of(&other));
        eventually("it is cancelled", || status(&client, &other) == "cancelled");
    });
}

#[test]
fn ids_lead_to_the_server_that_has_the_task_and_to_no_other() {
    let rig = Rig::start(json!({
        "a": everything(&["--era", "modern"]),
        "b": everything(&["--era", "modern"]),
    }));
    let client = able(&rig, "/mcp");
    let (a, b) = (
        begin(&client, "a_1mcp_slow_compute"),
        begin(&client, "b_1mcp_slow_compute"),
    );
    client.get("tasks/cancel", &of(&a));
    eventually("a is cancelled", || status(&client, &a) == "cancelled");
    assert_eq!(status(&client, &b), "working");
    // The same client anywhere, but only where the server is seen under the same view.
    assert_eq!(status(&able(&rig, "/mcp"), &b), "working");
    assert_eq!(code(&able(&rig, "/mcp/a"), &b), -32602);
    assert_eq!(code(&able(&rig, "/mcp/b"), &b), -32602);
    let mut changed = b.clone().into_bytes();
    changed[9] ^= 1;
    let changed = String::from_utf8(changed).unwrap();
    for unknown in ["t", "a", &changed, &b[1..]] {
        assert_eq!(code(&client, unknown), -32602, "{unknown:?}");
    }
    let other = Rig::start(json!({"a": everything(&["--era", "modern"])}));
    assert_eq!(code(&able(&other, "/mcp"), &a), -32602);
}

#[test]
fn a_task_that_is_gone_with_its_process_is_unknown() {
    let rig = Rig::start(json!({"ev": everything(&["--era", "modern"])}));
    let client = able(&rig, "/mcp");
    let id = begin(&client, "ev_1mcp_slow_compute");
    rig.kill("ev");
    assert_eq!(code(&client, &id), -32602);
}

fn refused(reply: &Reply) -> (u16, i64) {
    let code = reply.json()["error"]["code"].as_i64();
    (reply.status(), code.unwrap_or_default())
}

#[test]
fn who_does_not_declare_the_extension_gets_no_task() {
    over_both("modern", |rig| {
        let id = begin(&able(rig, "/mcp/ev"), "slow_compute");
        let plain = Client::new(rig.port, "/mcp/ev");
        let send = |method: &str, params: &Value| {
            let reply = plain.send(&plain.request(&json!(1), method, params));
            (refused(&reply), reply)
        };
        let update = json!({"taskId": id, "inputResponses": {}});
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let (code, reply) = send(method, &update);
            assert_eq!(code, (400, -32021), "{method}");
            let data = &reply.json()["error"]["data"];
            assert!(data["requiredCapabilities"]["extensions"][EXTENSION].is_object());
        }
        let listen = json!({"notifications": {"taskIds": [id]}});
        assert_eq!(send("subscriptions/listen", &listen).0, (400, -32021));
        let needs = call("failing_job", json!({}));
        assert_eq!(send("tools/call", &needs).0, (400, -32021));
        let result = plain.get("tools/call", &call("slow_compute", json!({"seconds": 0})));
        assert_eq!(result["resultType"], "complete", "{result}");
        for method in ["tasks/list", "tasks/result"] {
            assert_eq!(send(method, &of(&id)).0, (404, -32601), "{method}");
        }
    });
}

#[test]
fn a_task_that_was_not_wanted_is_an_error() {
    let script = r#"
        say() { printf '{"jsonrpc":"2.0","id":%s,%s}' "$id" "$1" | tr -d '\n'; echo; }
        while IFS= read -r line; do
            id=$${line#*'"id":'}
            id=$${id%%,*}
            case $line in
            *'"server/discover"'*) say '"result":{"supportedVersions":["2026-07-28"],
                "capabilities":{"tools":{}},"resultType":"complete","ttlMs":0}' ;;
            *'"tools/list"'*) say '"result":{"resultType":"complete","ttlMs":9000,
                "tools":[{"name":"t","inputSchema":{"type":"object"}}]}' ;;
            *'"tools/call"'*) say '"result":{"resultType":"task","taskId":"1"}' ;;
            esac
        done"#;
    let rig = Rig::start(json!({"odd": {"command": "sh", "args": ["-c", script]}}));
    let plain = Client::new(rig.port, "/mcp");
    let error = plain.ask("tools/call", &call("odd_1mcp_t", json!({})))["error"].clone();
    assert_eq!(error["code"], -32603, "{error}");
    assert_eq!(error["data"]["onemcp"]["reason"], "bad_upstream");
    let error = rig
        .session()
        .refused("tools/call", call("odd_1mcp_t", json!({})));
    assert_eq!(error["data"]["onemcp"]["reason"], "bad_upstream", "{error}");
    assert!(begin_any(&able(&rig, "/mcp")).len() > 20);
}

fn begin_any(client: &Client) -> String {
    id_of(&client.get("tools/call", &call("odd_1mcp_t", json!({}))))
}

/// The next message of a subscription, which must be about this task.
#[track_caller]
fn news(stream: &mut Stream, id: &str) -> Value {
    let message = stream.message();
    assert_eq!(message["method"], "notifications/tasks", "{message}");
    assert_eq!(id_of(&message["params"]), id);
    let meta = &message["params"]["_meta"];
    assert_eq!(meta[key("subscriptionId")], "sub", "{message}");
    message["params"].clone()
}

#[test]
fn a_subscription_hears_of_its_tasks_only() {
    over_both("modern", |rig| {
        let client = able(rig, "/mcp");
        let (one, two) = (
            begin(&client, "ev_1mcp_slow_compute"),
            begin(&client, "ev_1mcp_slow_compute"),
        );
        let filter = json!({"taskIds": [one, "unknown", one], "toolsListChanged": true});
        let mut first = client.listen(&json!("sub"), &filter);
        let granted = first.message()["params"]["notifications"].clone();
        assert_eq!(granted, json!({"toolsListChanged": true, "taskIds": [one]}));
        let mut second = client.listen(&json!("sub"), &json!({"taskIds": [two, one]}));
        let granted = second.message()["params"]["notifications"]["taskIds"].clone();
        assert_eq!(granted, json!([two, one]));
        client.get("tasks/cancel", &of(&two));
        assert_eq!(news(&mut second, &two)["status"], "cancelled");
        client.get("tasks/cancel", &of(&one));
        // The first one hears nothing of the other's task before that.
        assert_eq!(news(&mut first, &one)["status"], "cancelled");
        assert_eq!(news(&mut second, &one)["status"], "cancelled");
        let elsewhere = able(rig, "/mcp/ev").listen(&json!("sub"), &json!({"taskIds": [one]}));
        let mut elsewhere = elsewhere;
        let granted = elsewhere.message()["params"]["notifications"].clone();
        assert_eq!(granted, json!({}), "an id of another view");
    });
}

fn wished(tool: &str, arguments: Value) -> Value {
    json!({"name": tool, "arguments": arguments, "task": {"ttl": 60000}})
}

fn asking(rig: &Rig) -> Session {
    rig.session_with(json!({"elicitation": {}, "tasks": {"list": {}}}))
}

/// A task of a session, and its id.
#[track_caller]
fn wish(session: &mut Session, tool: &str) -> String {
    let created = session.get("tools/call", wished(tool, json!({})));
    id_of(&created["task"])
}

fn state(session: &mut Session, id: &str) -> String {
    let task = session.get("tasks/get", of(id));
    assert_eq!(id_of(&task), id);
    task["status"].as_str().unwrap().to_owned()
}

/// Answers the question of a task on the stream that waits for its end.
#[track_caller]
fn answer(session: &mut Session, stream: &mut Stream, id: &str, name: &str) -> Value {
    let question = stream.message();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    assert_eq!(question["params"]["_meta"][RELATED]["taskId"], id);
    let content = json!({"user_name": name, "name": name});
    let result = json!({"action": "accept", "content": content,
        "_meta": {RELATED: {"taskId": id}}});
    session.answer(&question["id"], result);
    let (_, answer) = stream.answer();
    assert_eq!(answer["result"]["_meta"][RELATED]["taskId"], id, "{answer}");
    answer["result"].clone()
}

#[test]
fn a_session_follows_a_task_and_answers_it() {
    over_both("legacy", |rig| {
        let tool = format!("ev_1mcp_{TOOL}");
        let (mut one, mut two) = (asking(rig), asking(rig));
        assert!(one.welcome["capabilities"]["tasks"]["requests"]["tools"]["call"].is_object());
        let (first, second) = (wish(&mut one, &tool), wish(&mut two, &tool));
        assert_ne!(first, second);
        // Both have the same number, and each waits for its own.
        let wait = |session: &Session, id: &str| {
            session.stream(request(&json!(7), "tasks/result", &of(id)))
        };
        let (mut one_waits, mut two_waits) = (wait(&one, &first), wait(&two, &second));
        let result = answer(&mut two, &mut two_waits, &second, "Two");
        assert!(text_of(&result).contains("Two"), "{result}");
        assert_eq!(state(&mut one, &first), "input_required");
        let result = answer(&mut one, &mut one_waits, &first, "One");
        assert!(text_of(&result).contains("One"), "{result}");
        assert_eq!(state(&mut one, &first), "completed");
    });
}

#[test]
fn a_session_sees_and_reaches_its_own_tasks_only() {
    let rig = Rig::start(json!({
        "a": everything(&["--era", "legacy"]),
        "b": everything(&["--era", "legacy"]),
        "c": everything(&["--era", "modern"]),
    }));
    let tools = ["a", "b"].map(|server| format!("{server}_1mcp_{TOOL}"));
    let (mut one, mut two) = (asking(&rig), asking(&rig));
    let mine = tools.each_ref().map(|tool| wish(&mut one, tool));
    let foreign = wish(&mut two, &tools[0]);
    let listed = one.get("tasks/list", json!({}));
    let ids: Vec<String> = listed["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(id_of)
        .collect();
    assert_eq!(ids, mine, "{listed}");
    let refused = |session: &mut Session, id: &str| {
        let codes = ["tasks/get", "tasks/result", "tasks/cancel"]
            .map(|method| session.refused(method, of(id))["code"].clone());
        assert_eq!(codes, [-32602, -32602, -32602], "{id}");
    };
    for id in [foreign.as_str(), "", "x"] {
        refused(&mut one, id);
    }
    assert_eq!(one.refused("tasks/update", of(&mine[0]))["code"], -32601);
    assert_eq!(
        one.refused("tasks/list", json!({"cursor": "x"}))["code"],
        -32602
    );
    let cancelled = one.get("tasks/cancel", of(&mine[0]));
    assert_eq!(id_of(&cancelled), mine[0]);
    assert_eq!(state(&mut one, &mine[0]), "cancelled");
    assert_eq!(state(&mut one, &mine[1]), "input_required");
    rig.kill("b");
    refused(&mut one, &mine[1]);
    assert_eq!(
        one.get("tasks/list", json!({}))["tasks"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn news_of_a_task_go_to_the_session_that_made_it() {
    over_both("legacy", |rig| {
        let (mut one, two) = (asking(rig), asking(rig));
        let (mut hears, mut stranger) = (one.listen(), two.listen());
        let id = wish(&mut one, &format!("ev_1mcp_{TOOL}"));
        one.get("tasks/cancel", of(&id));
        let mut last = String::new();
        while last != "cancelled" {
            let message = hears.message();
            match message["method"].as_str() {
                Some("notifications/tasks/status") => {
                    assert_eq!(id_of(&message["params"]), id, "{message}");
                    last = message["params"]["status"].as_str().unwrap().to_owned();
                }
                // It may ask before it hears that it is over.
                Some("elicitation/create") => {}
                _ => panic!("{message}"),
            }
        }
        // The next thing that the other one hears is something else.
        one.call("ev_1mcp_add_tool", json!({"name": "news"}));
        let message = stranger.message();
        assert_eq!(message["method"], "notifications/tools/list_changed");
    });
}

/// A server that makes a task of each call, tells of progress once it has said so, and notes in
/// the file `cancelled` which task is not wanted any more.
fn making_tasks() -> Value {
    let script = r#"
        result() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
        tasks='{"cancel":{},"requests":{"tools":{"call":{}}}}'
        info='"serverInfo":{"name":"s","version":"1"}'
        hello='"capabilities":{"tools":{},"tasks":'"$tasks"'},'"$info"
        at='"2025-11-25T10:30:00Z"'
        state='"status":"working","createdAt":'"$at"',"lastUpdatedAt":'"$at"
        while IFS= read -r line; do
            id=$${line#*'"id":'}
            id=$${id%%,*}
            case $line in
            *'"initialize"'*) result '{"protocolVersion":"2025-11-25",'"$hello"'}' ;;
            *'"tools/list"'*)
                tool='"name":"t","inputSchema":{"type":"object"}'
                tool=$tool',"execution":{"taskSupport":"optional"}'
                result '{"tools":[{'"$tool"'}]}' ;;
            *'"tools/call"'*)
                result '{"task":{"taskId":"t'"$id"'","ttl":null,'"$state"'}}'
                related='"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t'"$id"'"}}'
                printf '{"jsonrpc":"2.0","method":"notifications/progress",'
                printf '"params":{"progressToken":%s,"progress":1,%s}}\n' "$id" "$related" ;;
            *'"tasks/cancel"'*) echo "$line" >> "$NOTES"; result '{}' ;;
            *'"server/discover"'*)
                printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}\n' "$id" ;;
            esac
        done"#;
    json!({"command": "sh", "args": ["-c", script]})
}

#[test]
fn progress_of_a_task_goes_on_after_its_call_was_answered() {
    let rig = Rig::start(json!({"s": making_tasks()}));
    let (mut one, two) = (rig.session(), rig.session());
    let (mut hears, mut stranger) = (one.listen(), two.listen());
    let mut params = wished("s_1mcp_t", json!({}));
    params["_meta"] = json!({"progressToken": "mine"});
    let created = one.get("tools/call", params);
    let id = id_of(&created["task"]);
    let message = hears.message();
    assert_eq!(message["method"], "notifications/progress", "{message}");
    assert_eq!(message["params"]["progressToken"], "mine");
    assert_eq!(message["params"]["_meta"][RELATED]["taskId"], id);
    assert_eq!(
        stranger
            .event(Duration::from_millis(100))
            .and_then(|e| e.message()),
        None
    );
}

#[test]
fn the_end_of_a_session_ends_its_tasks_and_no_others() {
    let notes = std::env::temp_dir().join(format!("onemcp-tasks-{}", std::process::id()));
    let mut server = making_tasks();
    server["env"] = json!({"NOTES": notes});
    let rig = Rig::start(json!({"s": server}));
    let (mut one, mut two) = (rig.session(), rig.session());
    wish(&mut one, "s_1mcp_t");
    wish(&mut two, "s_1mcp_t");
    assert_eq!(one.delete().status(), 200);
    let read = || std::fs::read_to_string(&notes).unwrap_or_default();
    eventually("the server is told", || !read().is_empty());
    let told = read();
    let another = wish(&mut two, "s_1mcp_t");
    two.get("tasks/cancel", of(&another));
    eventually("it is told again", || read() != told);
    assert_eq!(read().lines().count(), 2, "{}", read());
    std::fs::remove_file(&notes).unwrap();
}

#[test]
fn older_sessions_and_the_other_era_know_nothing_of_tasks() {
    let rig = Rig::start(json!({
        "old": everything(&["--era", "legacy"]),
        "new": everything(&["--era", "modern"]),
    }));
    let support = |tools: &Value, name: &str| {
        let tools = tools["tools"].as_array().unwrap();
        let found = tools.iter().find(|tool| tool["name"] == name);
        found.unwrap()["execution"].clone()
    };
    let tool = format!("old_1mcp_{TOOL}");
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18"] {
        let mut session = rig.session_of(revision);
        assert!(session.welcome["capabilities"].get("tasks").is_none());
        let tools = session.get("tools/list", json!({}));
        assert_eq!(support(&tools, &tool), Value::Null, "{revision}");
        for method in ["tasks/get", "tasks/list", "tasks/result", "tasks/cancel"] {
            assert_eq!(session.refused(method, of("x"))["code"], -32601, "{method}");
        }
        let plain = session.get("tools/call", wished("old_1mcp_greet", json!({"name": "A"})));
        assert!(plain.get("task").is_none(), "{plain}");
    }
    let mut session = rig.session();
    let tools = session.get("tools/list", json!({}));
    assert_eq!(support(&tools, &tool), json!({"taskSupport": "optional"}));
    assert_eq!(support(&tools, &format!("new_1mcp_{TOOL}")), Value::Null);
    // A wish that its server does not know of is passed over.
    let greeted = wished("new_1mcp_greet", json!({"name": "A"}));
    assert_eq!(text_of(&session.get("tools/call", greeted)), "Hello, A!");
    let slow = wished("new_1mcp_slow_compute", json!({"seconds": 0, "label": "y"}));
    assert_eq!(text_of(&session.get("tools/call", slow)), "Computed y");
    let client = able(&rig, "/mcp");
    assert_eq!(
        support(&client.get("tools/list", &json!({})), &tool),
        Value::Null
    );
    let slow = wished("old_1mcp_slow_compute", json!({"seconds": 0, "label": "z"}));
    let result = client.get("tools/call", &slow);
    assert_eq!(result["resultType"], "complete", "{result}");
    assert_eq!(text_of(&result), "Computed z");
}
