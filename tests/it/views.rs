//! Views: which servers a session sees, by tags, expressions and presets.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{hostile, with};
use crate::support::session::{Session, initialize, request, tool_call};

fn tagged(tags: &[&str]) -> Value {
    with(hostile(&[]), json!({"tags": tags}))
}

fn plan() -> Plan {
    let either = json!({"$or": [{"tag": "web"}, {"tag": "db"}]});
    let neither = json!({"$not": {"tag": "web"}});
    let presets = json!({"version": "1.0.0", "presets": {
        "work": {"name": "work", "strategy": "or", "tagQuery": either},
        "quiet": {"name": "quiet", "strategy": "advanced", "tagQuery": neither},
    }});
    let servers = json!({
        "one": tagged(&["web", "prod"]),
        "two": tagged(&["db"]),
        "three": tagged(&["web", "test"]),
        "four": hostile(&[]),
    });
    Plan::new(servers).presets(presets)
}

/// Which servers are in the list of tools.
fn seen(names: &[String]) -> String {
    let servers: BTreeSet<&str> = names
        .iter()
        .map(|name| name.split_once("_1mcp_").unwrap().0)
        .collect();
    let order = ["one", "two", "three", "four"];
    let seen = order.into_iter().filter(|server| servers.contains(server));
    seen.collect::<Vec<_>>().join(" ")
}

/// The same for a request with its own parameters.
fn seen_at(rig: &Rig, session: &Session, target: &str) -> String {
    let list = request(&json!(1), "tools/list", &json!({}));
    let reply = rig
        .connect()
        .exchange(&session.sign(Request::post(target, list)));
    let tools = reply.messages()[0]["result"]["tools"].clone();
    let names: Vec<String> = tools
        .as_array()
        .unwrap_or_else(|| panic!("{reply:?}"))
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    seen(&names)
}

#[test]
fn tags_expressions_and_presets_choose_servers() {
    let rig = plan().start();
    let cases = [
        ("/mcp", "one two three four"),
        ("/mcp?tags=web", "one three"),
        ("/mcp?tags=web,db", "one two three"),
        ("/mcp?tags=WEB%2Cdb", "one two three"),
        ("/mcp?tags=none", ""),
        ("/mcp?tag-filter=web", "one three"),
        ("/mcp?tag-filter=web%20and%20not%20test", "one"),
        ("/mcp?tag-filter=web%2Bprod", "one"),
        ("/mcp?tag-filter=!web", "two four"),
        ("/mcp?tag-filter=(web+and+prod)+or+db", "one two"),
        ("/mcp?filter=db%7C%7Ctest", "two three"),
        ("/mcp?preset=work", "one two three"),
        ("/mcp?preset=quiet", "two four"),
        ("/mcp?unknown=1&tags=db", "two"),
    ];
    for (target, expected) in cases {
        let mut session = rig.session_at(target);
        assert_eq!(seen(&session.names("tools")), expected, "{target}");
    }
    rig.stop();
}

#[test]
fn what_a_view_does_not_show_cannot_be_used() {
    let rig = plan().start();
    let mut session = rig.session_at("/mcp?tags=web");
    let call = json!({"name": "two_1mcp_echo", "arguments": {"text": "x"}});
    assert_eq!(session.refused("tools/call", call)["code"], -32602);
    assert_eq!(session.text("one_1mcp_echo", json!({"text": "x"})), "x");
    let instructions = session.welcome["instructions"].to_string();
    assert!(!instructions.contains("two"), "{instructions}");
    rig.stop();
}

#[test]
fn two_ways_to_choose_and_bad_expressions_are_400() {
    let rig = plan().start();
    let targets = [
        "/mcp?tags=web&tag-filter=db",
        "/mcp?tags=web&preset=work",
        "/mcp?filter=web&tag-filter=web",
        "/mcp?tags=web&tags=db",
        "/mcp?tag-filter=web%20and",
        "/mcp?tag-filter=(web",
        "/mcp?filter=%28%29",
        "/mcp?preset=none",
        "/mcp?tags=%ff",
    ];
    for target in targets {
        let hello = initialize("2025-11-25", &json!({}));
        let reply = rig.connect().exchange(&Request::post(target, hello));
        assert_eq!(reply.status(), 400, "{target}: {reply:?}");
        assert_eq!(reply.json()["error"]["code"], -32602, "{target}: {reply:?}");
        assert!(reply.head.header("Mcp-Session-Id").is_none());
    }
    rig.stop();
}

#[test]
fn a_later_request_can_narrow_the_view_and_not_widen_it() {
    let rig = plan().start();
    let all = rig.session();
    assert_eq!(seen_at(&rig, &all, "/mcp?tags=web"), "one three");
    assert_eq!(seen_at(&rig, &all, "/mcp"), "one two three four");
    let web = rig.session_at("/mcp?tags=web");
    assert_eq!(seen_at(&rig, &web, "/mcp"), "one three");
    assert_eq!(seen_at(&rig, &web, "/mcp?tags=db"), "");
    assert_eq!(seen_at(&rig, &web, "/mcp?tag-filter=not%20test"), "one");
    let call = tool_call(&json!(1), "three_1mcp_echo", &json!({"text": "x"}));
    let target = "/mcp?tag-filter=not%20test";
    let reply = rig
        .connect()
        .exchange(&web.sign(Request::post(target, call)));
    assert_eq!(reply.messages()[0]["error"]["code"], -32602);
    let reply = rig.connect().exchange(&web.sign(Request::post(
        "/mcp?tag-filter=(",
        initialize("x", &json!({})),
    )));
    assert_eq!(reply.status(), 400);
    rig.stop();
}

#[test]
fn the_filter_of_the_command_line_holds_for_everybody() {
    let rig = plan().arg("--filter").arg("web").start();
    assert_eq!(seen(&rig.session().names("tools")), "one three");
    assert_eq!(
        seen(&rig.session_at("/mcp?preset=quiet").names("tools")),
        ""
    );
    // A server that is not served has nothing to offer under its own path either.
    let mut session = rig.session_at("/mcp/two");
    assert_eq!(session.names("tools"), Vec::<String>::new());
    let call = json!({"name": "echo", "arguments": {"text": "x"}});
    assert_eq!(session.refused("tools/call", call)["code"], -32602);
    rig.stop();
}
