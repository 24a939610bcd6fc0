//! Another configuration while the gateway serves: what is new comes, what is gone goes, what
//! is untouched notices nothing, and what is wrong changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, hostile, with};
use crate::support::session::tool_call;

/// A gateway that looks at its files every moment, and does not wait long for them to rest.
fn plan(servers: Value) -> Plan {
    Plan::new(servers).set("configReload", json!({"debounce": 20}))
}

fn file(rig: &Rig) -> PathBuf {
    rig.folder().join("mcp.json")
}

/// With the mark that the rig gives every server.
fn text(rig: &Rig, mut servers: Value) -> String {
    let mark = rig.folder().file_name().unwrap().to_str().unwrap();
    for entry in servers.as_object_mut().unwrap().values_mut() {
        entry["env"]["MARK"] = mark.into();
    }
    let settings = json!({"asyncLoading": {"batchDelay": 50}, "configReload": {"debounce": 20}});
    json!({"mcpServers": servers, "gateway": settings}).to_string()
}

fn rewrite(rig: &Rig, servers: Value) {
    fs::write(file(rig), text(rig, servers)).unwrap();
}

fn reload(rig: &Rig) {
    signal(rig.pid, Signal::HUP);
}

fn names(rig: &Rig) -> Vec<String> {
    let health = rig.health();
    let details = health["servers"]["details"].as_array().unwrap().clone();
    let name = |server: &Value| server["name"].as_str().unwrap().to_owned();
    details.iter().map(name).collect()
}

fn tools(session: &mut crate::support::session::Session) -> usize {
    let list = session.get("tools/list", json!({}));
    list["tools"].as_array().unwrap().len()
}

#[test]
fn a_server_that_is_added_comes_and_one_that_is_removed_goes() {
    let rig = plan(json!({"a": everything(&[])})).start();
    let mut session = rig.session();
    let mut stream = session.listen();
    let one = tools(&mut session);
    let pid = rig.pid_of("a");
    rewrite(&rig, json!({"a": everything(&[]), "b": everything(&[])}));
    assert_eq!(
        stream.message()["method"],
        "notifications/tools/list_changed"
    );
    eventually("both are listed", || tools(&mut session) == 2 * one);
    assert_eq!(names(&rig), ["a", "b"]);
    assert_eq!(session.text("b_1mcp_echo", json!({"text": "x"})), "x");
    rewrite(&rig, json!({"b": everything(&[])}));
    eventually("one is listed", || {
        names(&rig) == ["b"] && tools(&mut session) == one
    });
    eventually("its process is gone", || !alive(pid));
    rig.stop();
}

fn alive(pid: i32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

#[test]
fn a_changed_entry_is_started_before_the_old_one_goes() {
    let rig = plan(json!({"a": everything(&[]), "b": everything(&[])})).start();
    let mut session = rig.session();
    let (a, b) = (rig.pid_of("a"), rig.pid_of("b"));
    let count = tools(&mut session);
    // A call of the old process, and one of a server that nobody changes.
    let long = |id: i32, name: &str| {
        tool_call(
            &json!(id),
            &format!("{name}_1mcp_sleep"),
            &json!({"ms": 1500}),
        )
    };
    let (old, other) = (session.stream(long(71, "a")), session.stream(long(72, "b")));
    let changed = with(everything(&[]), json!({"env": {"COLOUR": "red"}}));
    rewrite(&rig, json!({"a": changed, "b": everything(&[])}));
    reload(&rig);
    eventually("another process serves", || {
        let server = rig.server("a");
        assert_eq!(tools(&mut session), count, "a list without a gap");
        server["status"] == "connected" && server["pid"] != a
    });
    assert_eq!(rig.pid_of("b"), b);
    for mut stream in [old, other] {
        let (_, answer) = stream.answer();
        assert!(answer["result"].is_object(), "{answer}");
    }
    eventually("the old process is gone", || !alive(a));
    rig.stop();
}

#[test]
fn what_needs_no_new_process_gets_none() {
    let rig = plan(json!({"a": with(everything(&[]), json!({"tags": ["one"]}))})).start();
    let pid = rig.pid_of("a");
    let mut narrow = rig.session_at("/mcp?tags=two");
    assert_eq!(tools(&mut narrow), 0);
    let mut stream = narrow.listen();
    let entry = json!({"tags": ["two"], "disabledTools": ["echo"]});
    rewrite(&rig, json!({"a": with(everything(&[]), entry)}));
    reload(&rig);
    assert_eq!(
        stream.message()["method"],
        "notifications/tools/list_changed"
    );
    let list = narrow.get("tools/list", json!({})).to_string();
    assert!(list.contains("a_1mcp_sleep") && !list.contains("a_1mcp_echo"));
    assert_eq!(rig.pid_of("a"), pid);
    rig.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_is_told() {
    let rig = plan(json!({"a": everything(&[])})).start();
    let pid = rig.pid_of("a");
    let good = fs::read_to_string(file(&rig)).unwrap();
    let broken = [
        good[..good.len() - 3].to_owned(),
        String::new(),
        "[]".to_owned(),
        text(&rig, json!({"a": {"command": 7}})),
        text(&rig, json!({"a": everything(&[]), "b": {"nothing": true}})),
    ];
    for text in broken {
        fs::write(file(&rig), &text).unwrap();
        reload(&rig);
        eventually("the bad file is told", || {
            let last = rig.health()["configuration"]["lastReload"].clone();
            last["ok"] == false
        });
        assert_eq!(
            (names(&rig), rig.pid_of("a")),
            (vec!["a".to_owned()], pid),
            "{text}"
        );
        fs::write(file(&rig), &good).unwrap();
        reload(&rig);
        eventually("the good file is told", || {
            rig.health()["configuration"]["lastReload"]["ok"] == true
        });
    }
    assert_eq!(rig.pid_of("a"), pid);
    rig.stop();
}

#[test]
fn a_swapped_symlink_of_a_config_map_is_seen() {
    let rig = plan(json!({"a": everything(&[])})).start();
    let folder = rig.folder();
    for (version, servers) in [
        ("..1", json!({"a": everything(&[])})),
        ("..2", json!({"a": everything(&[]), "b": everything(&[])})),
    ] {
        fs::create_dir(folder.join(version)).unwrap();
        fs::write(folder.join(version).join("mcp.json"), text(&rig, servers)).unwrap();
    }
    symlink("..1", folder.join("..data")).unwrap();
    symlink("..data/mcp.json", folder.join("new")).unwrap();
    fs::rename(folder.join("new"), file(&rig)).unwrap();
    symlink("..2", folder.join("..swap")).unwrap();
    fs::rename(folder.join("..swap"), folder.join("..data")).unwrap();
    eventually("the second version is in force", || {
        names(&rig) == ["a", "b"]
    });
    rig.stop();
}

#[test]
fn subscriptions_and_levels_go_over_to_the_new_process() {
    const WATCHED: &str = "test://watched-resource";
    let rig = plan(json!({"a": everything(&[])})).start();
    let mut session = rig.session();
    let mut stream = session.listen();
    session.get("resources/subscribe", json!({"uri": WATCHED}));
    session.get("logging/setLevel", json!({"level": "debug"}));
    let before = rig.pid_of("a");
    rewrite(
        &rig,
        json!({"a": with(everything(&[]), json!({"env": {"COLOUR": "red"}}))}),
    );
    reload(&rig);
    eventually("another process serves", || {
        let server = rig.server("a");
        server["status"] == "connected" && server["pid"] != before
    });
    let whoami: Value = serde_json::from_str(&session.text("a_1mcp_whoami", json!({}))).unwrap();
    assert_eq!(whoami["logLevel"], "debug", "{whoami}");
    session.call("a_1mcp_test_update_resource", json!({}));
    loop {
        let message = stream.message();
        if message["method"] == "notifications/resources/updated" {
            break assert_eq!(message["params"]["uri"], WATCHED);
        }
    }
    rig.stop();
}

#[test]
fn of_many_servers_that_come_at_once_none_is_missed() {
    let rig = plan(json!({"a": everything(&[])})).start();
    let mut session = rig.session();
    for round in 0..3 {
        let mut servers = json!({"a": everything(&[])});
        for number in 0..12 {
            servers[format!("s{round}-{number}")] = hostile(&[]);
        }
        rewrite(&rig, servers);
        reload(&rig);
        let mut listed = Vec::new();
        eventually("all are listed", || {
            let names = session.names("tools");
            let new = format!("s{round}-");
            let echoes = names.iter().filter(|name| name.ends_with("_1mcp_echo"));
            listed = echoes
                .filter(|name| name.starts_with(&new))
                .cloned()
                .collect();
            listed.len() == 12
        });
    }
    rig.stop();
}

#[test]
fn what_needs_a_restart_is_said_and_does_not_count() {
    let servers = || json!({"a": everything(&[])});
    let rig = plan(servers()).set("trustProxy", json!("false")).start();
    let spoofed = || {
        let request = crate::support::http::Request::new("GET", "/health");
        let request = request.with("X-Forwarded-For", "127.0.0.1");
        rig.connect().exchange(&request).json()
    };
    let shown = |health: &Value| !health["servers"]["details"].as_array().unwrap().is_empty();
    assert!(!shown(&spoofed()));
    let settings = json!({
        "asyncLoading": {"batchDelay": 50}, "configReload": {"debounce": 20},
        "trustProxy": "true", "pageSize": 2,
    });
    let mark = rig.folder().file_name().unwrap().to_str().unwrap();
    let servers = json!({"a": with(everything(&[]), json!({"env": {"MARK": mark}}))});
    let text = json!({"mcpServers": servers, "gateway": settings}).to_string();
    fs::write(file(&rig), text).unwrap();
    reload(&rig);
    let configuration = || rig.health()["configuration"].clone();
    eventually("it is said", || {
        configuration()["needsRestart"] == json!(["trustProxy"])
    });
    assert!(
        !shown(&spoofed()),
        "who may see more is not changed by a reload"
    );
    let page = rig.session().get("tools/list", json!({}));
    assert_eq!(page["tools"].as_array().unwrap().len(), 2);
    rig.stop();
}

/// The same entry with something new in it, so that another process takes its place.
fn other(entry: Value) -> Value {
    with(entry, json!({"env": {"COLOUR": "red"}}))
}

#[track_caller]
fn replaced(rig: &Rig, name: &str, before: i32) {
    eventually("another process serves", || {
        let server = rig.server(name);
        server["status"] == "connected" && server["pid"] != before
    });
}

#[test]
fn a_call_that_waits_for_its_client_keeps_the_old_process() {
    let tools = [
        ("legacy", "a_1mcp_test_elicitation"),
        ("modern", "a_1mcp_test_input_required_result_elicitation"),
    ];
    for (era, tool) in tools {
        let entry = || everything(&["--era", era]);
        let rig = plan(json!({"a": entry()})).start();
        let mut session = rig.session_with(json!({"elicitation": {}}));
        let arguments = json!({"message": "Who?"});
        let call = tool_call(&json!(1), tool, &arguments);
        let mut stream = session.stream(call);
        let asked = stream.message();
        assert_eq!(asked["method"], "elicitation/create", "{era}");
        let before = rig.pid_of("a");
        rewrite(&rig, json!({"a": other(entry())}));
        reload(&rig);
        replaced(&rig, "a", before);
        let content = json!({"username": "x", "email": "y", "name": "Ann"});
        session.answer(
            &asked["id"],
            json!({"action": "accept", "content": content}),
        );
        let (_, answer) = stream.answer();
        assert!(answer["result"].is_object(), "{era}: {answer}");
        rig.stop();
    }
}

#[test]
fn subscriptions_outlive_that_their_server_was_away() {
    const WATCHED: &str = "test://watched-resource";
    let servers = |with_a: bool| match with_a {
        true => json!({"a": everything(&[]), "b": everything(&[])}),
        false => json!({"b": everything(&[])}),
    };
    let rig = plan(servers(true)).start();
    let mut session = rig.session();
    let mut stream = session.listen();
    session.get("resources/subscribe", json!({"uri": WATCHED}));
    rewrite(&rig, servers(false));
    reload(&rig);
    eventually("it is away", || names(&rig) == ["b"]);
    rewrite(&rig, servers(true));
    reload(&rig);
    eventually("it is back", || {
        names(&rig).len() == 2 && rig.server("a")["status"] == "connected"
    });
    session.call("a_1mcp_test_update_resource", json!({}));
    while stream.message()["method"] != "notifications/resources/updated" {}
    rig.stop();
}

#[test]
fn a_silent_successor_takes_its_place_in_time_and_costs_nothing() {
    let rig = plan(json!({"a": everything(&[])})).start();
    let silent = with(
        hostile(&["--slow-start", "60000"]),
        json!({"connectionTimeout": 700}),
    );
    rewrite(&rig, json!({"a": silent}));
    reload(&rig);
    eventually("the new one is what there is", || {
        rig.server("a")["status"] != "connected"
    });
    let used = rig.cpu_ms();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let used = rig.cpu_ms() - used;
    assert!(used < 250, "{used} ms of 500 ms at work for nothing");
    rig.stop();
}

#[test]
fn a_call_that_waits_for_a_start_is_served_by_it() {
    let slow = |ms: &str| hostile(&["--slow-start", ms]);
    let rig = plan(json!({"a": slow("900")}))
        .arg("--enable-async-loading")
        .start_unready();
    let session = rig.session();
    let call = tool_call(&json!(1), "a_1mcp_echo", &json!({"text": "x"}));
    let mut stream = session.stream(call);
    eventually("it starts", || rig.server("a")["pid"].is_i64());
    rewrite(&rig, json!({"a": other(slow("100"))}));
    reload(&rig);
    let (_, answer) = stream.answer();
    assert!(answer["result"].is_object(), "{answer}");
    rig.stop();
}

#[test]
fn other_names_are_news_only_to_those_who_see_them() {
    let rig = plan(json!({"a": everything(&[])})).start();
    let whole = rig.session();
    let mut alone = rig.session_at("/mcp/a");
    let (mut listening, mut other) = (whole.listen(), alone.listen());
    let settings = json!({
        "asyncLoading": {"batchDelay": 50}, "configReload": {"debounce": 20},
        "naming": {"separator": "__"},
    });
    let config: Value = serde_json::from_str(&text(&rig, json!({"a": everything(&[])}))).unwrap();
    let config = json!({"mcpServers": config["mcpServers"], "gateway": settings});
    fs::write(file(&rig), config.to_string()).unwrap();
    reload(&rig);
    let mut heard = vec![
        listening.message()["method"].clone(),
        listening.message()["method"].clone(),
    ];
    heard.sort_by_key(Value::to_string);
    assert_eq!(
        heard,
        [
            "notifications/prompts/list_changed",
            "notifications/tools/list_changed"
        ]
    );
    alone.call("test_trigger_prompt_change", json!({}));
    assert_eq!(
        other.message()["method"],
        "notifications/prompts/list_changed"
    );
    rig.stop();
}
