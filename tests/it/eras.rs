//! Servers of both eras behind one gateway: how each is found out, and what a stateless one
//! tells of. The small servers here are shell scripts that note what they were sent; the name
//! of their one tool is that note.

use serde_json::{Value, json};

use crate::cli_support::{Folder, Outcome, fixture, run};
use crate::support::rig::Rig;
use crate::support::servers::everything;
use crate::support::{PATIENCE, eventually};

/// Functions for the arms of a server, and the part before them. `$${` stands for `${`, which
/// the gateway would replace.
const HEAD: &str = r#"
    seen=h
    say() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
    answer() { say "\"id\":$id,$1"; }
    result() { answer "\"result\":$1"; }
    error() { answer "\"error\":{\"code\":$1,\"message\":\"no\",\"data\":$${2:-null}}"; }
    hello() { result '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}}}'; }
    discovered() {
        caps='"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}'
        result '{"supportedVersions":["2026-07-28"],"capabilities":{'"$caps"'},"ttlMs":0}'
    }
    under() { printf '"_meta":{"io.modelcontextprotocol/subscriptionId":%s}' "$id"; }
    tell() { say "\"method\":\"notifications/$1\",\"params\":{$(under)$${2:+,}$2}"; }
    while IFS= read -r line; do
        id=$${line#*'"id":'}
        id=$${id%%,*}
        case $line in
        *'"server/discover"'*) seen=$${seen}d ;;
        *'"initialize"'*) seen=$${seen}i ;;
        *'"notifications/cancelled"'*) seen=$${seen}c ;;
        *'"logging/setLevel"'*) seen=$${seen}v ;;
        *'"resources/subscribe"'*) seen=$${seen}s ;;
        *'"id":"q"'*) seen=$${seen}q ;;
        esac
        case $line in"#;

const TAIL: &str = r#"
        *'"initialize"'*) hello ;;
        *'"tools/list"'*)
            result '{"tools":[{"name":"'"$seen"'","inputSchema":{"type":"object"}}]}' ;;
        *'"resources/list"'*) result '{"resources":[{"uri":"r:1","name":"r"}]}' ;;
        *'"resources/templates/list"'*) result '{"resourceTemplates":[]}' ;;
        *'"id":"q"'*|*'"method":"notifications/'*) ;;
        *) error -32601 ;;
        esac
    done"#;

/// `first` runs before the server reads; `arms` of a `case` come before the usual ones.
fn script(first: &str, arms: &str) -> Value {
    let count = "[ -z \"$STARTS\" ] || echo >> \"$STARTS\"";
    let text = format!("{count}\n{first}\n{HEAD} {arms} {TAIL}");
    json!({"command": "sh", "args": ["-c", text]})
}

fn listed(folder: &Folder, server: &Value) -> Outcome {
    let mut server = server.clone();
    server["env"]["STARTS"] = "starts".into();
    let config = json!({"mcpServers": {"s": server}}).to_string();
    folder.write("mcp.json", &config);
    run(folder.command(&["list", "--config", "mcp.json"]), None)
}

/// What a server was sent until it was ready, and how often it was started.
#[track_caller]
fn greeting(server: &Value) -> (String, usize) {
    let folder = Folder::new();
    let outcome = listed(&folder, server);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let tools = outcome.of_kind("tool");
    assert_eq!(tools.len(), 1, "{outcome:?}");
    let starts = std::fs::read_to_string(folder.0.join("starts")).unwrap();
    (tools[0]["tool"].as_str().unwrap().to_owned(), starts.len())
}

const STATELESS: &str = "*'\"server/discover\"'*) discovered ;;";
/// Ends at once when it is sent what it does not know.
const TOUCHY: &str = "*'\"server/discover\"'*) exit 3 ;;";

#[test]
fn each_server_is_greeted_as_what_it_is() {
    let on_probe = |arm: &str| format!("*'\"server/discover\"'*) {arm} ;;");
    let cases: [(&str, String, &str, usize); 9] = [
        ("stateless", STATELESS.to_owned(), "hd", 1),
        ("an unknown method", String::new(), "hdi", 1),
        ("any other error", on_probe("error 17"), "hdi", 1),
        (
            "only sessions",
            on_probe(r#"error -32022 '{"supported":["2025-11-25"]}'"#),
            "hdi",
            1,
        ),
        (
            "a result of something else",
            on_probe(r#"result '{"supportedVersions":["2025-11-25"]}'"#),
            "hdi",
            1,
        ),
        (
            "stateless, on second thoughts",
            on_probe(
                r#"case $seen in hd) error -32022 '{"supported":["2026-07-28"]}' ;;
                *) discovered ;; esac"#,
            ),
            "hdd",
            1,
        ),
        ("an end", TOUCHY.to_owned(), "hi", 2),
        ("an end of its output", on_probe("exec 1>&-"), "hi", 2),
        (
            "poison",
            format!(
                "{} *'\"initialize\"'*) case $seen in hi) hello ;; *) error 1 ;; esac ;;",
                on_probe("error 1")
            ),
            "hi",
            2,
        ),
    ];
    for (name, arms, seen, starts) in cases {
        let (tool, started) = greeting(&script("", &arms));
        assert_eq!((tool.as_str(), started), (seen, starts), "{name}");
    }
}

/// These take their time, so they get little of it.
#[test]
fn a_server_that_is_silent_at_first_is_greeted_as_what_it_is() {
    let silent = "*'\"server/discover\"'*) late=$id ;;";
    // The answers come in the order of the questions, but late.
    let late = |first: &str, second: &str| {
        format!(
            "{silent} *'\"initialize\"'*)
                own=$id; id=$late; {first}; id=$own; {second} ;;"
        )
    };
    let cases = [
        ("silent", silent.to_owned(), "hdi", 1),
        (
            "late and of a session",
            late("error -32601", "hello"),
            "hdi",
            1,
        ),
        (
            "late and of both eras",
            late("discovered", "hello"),
            "hdi",
            1,
        ),
        (
            "late and stateless",
            late("discovered", "error -32601"),
            "hdi",
            1,
        ),
        (
            "silent ever after",
            format!("{silent} *'\"initialize\"'*) case $seen in hi) hello ;; esac ;;"),
            "hi",
            2,
        ),
    ];
    for (name, arms, seen, starts) in cases {
        let mut server = script("", &arms);
        server["connectionTimeout"] = json!(1500);
        let (tool, started) = greeting(&server);
        assert_eq!((tool.as_str(), started), (seen, starts), "{name}");
    }
}

#[test]
fn a_server_that_always_ends_is_no_session_server_but_a_failure() {
    let folder = Folder::new();
    let outcome = listed(&folder, &script("exit 3", ""));
    assert_eq!(outcome.code, Some(69), "{outcome:?}");
    let error = outcome.of_kind("server")[0]["error"].as_str().unwrap();
    assert!(error.contains("exited with code 3"), "{error}");
    let starts = std::fs::read_to_string(folder.0.join("starts")).unwrap();
    assert_eq!(starts.len(), 2);
}

#[test]
fn commands_speak_to_servers_of_both_eras() {
    let mut counts = Vec::new();
    for era in ["legacy", "dual", "modern"] {
        let folder = Folder::new();
        let server = json!({"command": fixture("everything"), "args": ["--era", era]});
        let outcome = listed(&folder, &server);
        assert_eq!(outcome.code, Some(0), "{era}: {outcome:?}");
        let line = outcome.of_kind("server")[0];
        assert_eq!(line["status"], "ready", "{era}: {line}");
        assert_eq!(line["serverInfo"]["name"], "everything", "{era}: {line}");
        counts.push(outcome.of_kind("tool").len());
        let call = [
            "call",
            "s/echo",
            "--args",
            "{\"text\":\"x\"}",
            "--config",
            "mcp.json",
        ];
        let outcome = run(folder.command(&call), None);
        assert_eq!(outcome.code, Some(0), "{era}: {outcome:?}");
        assert_eq!(outcome.line()["content"][0]["text"], "x", "{era}");
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn a_tool_that_asks_cannot_be_called_by_a_command() {
    let folder = Folder::new();
    let asks = format!(
        "{STATELESS} *'\"tools/list\"'*) result '{{\"tools\":[{{\"name\":\"t\"}}]}}' ;;
        *'\"tools/call\"'*)
            result '{{\"resultType\":\"input_required\",\"requestState\":\"x\"}}' ;;"
    );
    let config = json!({"mcpServers": {"s": script("", &asks)}}).to_string();
    folder.write("mcp.json", &config);
    let call = folder.command(&["call", "s/t", "--config", "mcp.json"]);
    let outcome = run(call, None);
    let error = &outcome.line()["error"];
    assert!(
        error["message"].as_str().unwrap().contains("question"),
        "{outcome:?}"
    );
    assert_ne!(outcome.code, Some(0));
}

/// The note of a server of this kind, once `holds` is true of it.
fn note(rig: &Rig, holds: impl Fn(&str) -> bool) -> String {
    let mut session = rig.session();
    let mut last = String::new();
    eventually("the server has that note", || {
        last = session.names("tools").concat();
        holds(last.trim_start_matches("s_1mcp_"))
    });
    last.trim_start_matches("s_1mcp_").to_owned()
}

#[test]
fn the_next_start_knows_the_era_and_hears_of_a_change() {
    // In a folder of its own: the second process is of another era than the first.
    let folder = Folder::new();
    let odd = format!(
        "cd {}; echo >> lives; lives=$(wc -l < lives)",
        folder.0.display()
    );
    let stateless_later = |from: u32| {
        format!(
            "*'\"server/discover\"'*) [ $lives -ge {from} ] && discovered || error -32601 ;;
            *'\"initialize\"'*) [ $lives -ge {from} ] && error -32601 || hello ;;"
        )
    };
    let rig = Rig::start(json!({"s": script(&odd, &stateless_later(3))}));
    assert_eq!(note(&rig, |_| true), "hdi");
    rig.kill("s");
    assert_eq!(note(&rig, |note| note != "hdi"), "hi");
    rig.kill("s");
    assert_eq!(note(&rig, |note| note != "hi"), "hid");
    rig.kill("s");
    assert_eq!(note(&rig, |note| note != "hid"), "hd");
    rig.stop();
}

const WATCHED: &str = "test://watched-resource";

#[test]
fn news_of_a_stateless_server_reach_those_who_subscribed() {
    let rig = Rig::start(json!({"ev": everything(&["--era", "modern", "--tick", "50"])}));
    let (mut session, other) = (rig.session(), rig.session());
    let (mut stream, mut quiet) = (session.listen(), other.listen());
    session.get("resources/subscribe", json!({"uri": WATCHED}));
    for _ in 0..2 {
        let message = stream.message();
        assert_eq!(message["method"], "notifications/resources/updated");
        assert_eq!(message["params"], json!({"uri": WATCHED}));
    }
    session.get("resources/unsubscribe", json!({"uri": WATCHED}));
    session.get("resources/subscribe", json!({"uri": WATCHED}));
    rig.kill("ev");
    // Some may have been on their way, so more than a few.
    for _ in 0..5 {
        assert_eq!(stream.message()["params"], json!({"uri": WATCHED}));
    }
    rig.stop();
    while let Some(event) = quiet.event(PATIENCE) {
        assert_eq!(event.message(), None);
    }
}

#[test]
fn a_change_of_a_list_is_told_and_the_list_read_again() {
    // A subscription to the resource makes the tools change, which only the listener hears.
    let arms = format!(
        "{STATELESS} *'\"subscriptions/listen\"'*)
            case $line in
            *r:1*) honoured=',\"resourceSubscriptions\":[\"r:1\"]' ;;
            *) honoured= ;;
            esac
            honoured='\"notifications\":{{\"toolsListChanged\":true'$honoured'}}'
            tell subscriptions/acknowledged \"$honoured\"
            case $line in *r:1*) seen=$${{seen}}x; tell tools/list_changed ;; esac ;;"
    );
    let rig = Rig::start(json!({"s": script("", &arms)}));
    assert_eq!(note(&rig, |_| true), "hd");
    let mut session = rig.session();
    let mut stream = session.listen();
    session.get("logging/setLevel", json!({"level": "debug"}));
    session.get("resources/subscribe", json!({"uri": "r:1"}));
    assert_eq!(
        stream.message()["method"],
        "notifications/tools/list_changed"
    );
    // The level is not its business, and a subscription is no request of its own.
    let after = note(&rig, |note| note != "hd");
    assert!(["hdx", "hdxc"].contains(&after.as_str()), "{after}");
    let unknown = session.refused("resources/subscribe", json!({"uri": "r:2"}));
    assert_eq!(unknown["code"], -32602, "{unknown}");
    rig.stop();
}

#[test]
fn a_subscription_that_ends_is_opened_again_and_the_lists_are_read_again() {
    let arms = format!(
        "{STATELESS} *'\"subscriptions/listen\"'*)
            seen=$${{seen}}l
            tell subscriptions/acknowledged '\"notifications\":{{\"toolsListChanged\":true}}'
            case $seen in hdl) result '{{\"resultType\":\"complete\"}}' ;; esac ;;"
    );
    let rig = Rig::start(json!({"s": script("", &arms)}));
    note(&rig, |note| note == "hdll");
    rig.stop();
}

#[test]
fn a_stateless_server_that_asks_gets_no_answer() {
    let arms = format!(
        "{STATELESS} *'\"resources/list\"'*)
            say '\"id\":\"q\",\"method\":\"ping\"'
            result '{{\"resources\":[]}}' ;;
        *'\"resources/templates/list\"'*)
            entry='{{\"name\":\"t\",\"uriTemplate\":\"'$seen'\"}}'
            result '{{\"resourceTemplates\":['\"$entry\"']}}' ;;"
    );
    let folder = Folder::new();
    let config = json!({"mcpServers": {"s": script("", &arms)}}).to_string();
    folder.write("mcp.json", &config);
    let outcome = run(folder.command(&["list", "s", "--config", "mcp.json"]), None);
    let templates = outcome.of_kind("template");
    let templates: Vec<&str> = templates
        .iter()
        .filter_map(|line| line["uriTemplate"].as_str())
        .collect();
    assert_eq!(templates, ["hd"], "{outcome:?}");
}
