//! What is listed under which name, page by page, and that all of it can be used.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{demo, everything, hostile, with};
use crate::support::session::Session;

fn has(session: &mut Session, tool: &str) -> bool {
    session.names("tools").iter().any(|name| name == tool)
}

#[test]
fn entries_of_all_servers_come_in_the_order_of_the_file() {
    let servers =
        json!({"zz": demo("clock"), "ev": everything(&["--page", "7"]), "aa": hostile(&[])});
    let rig = Rig::start(servers);
    let mut session = rig.session();
    let names = session.names("tools");
    let mut own = Vec::new();
    for server in ["zz", "ev", "aa"] {
        let of_server = rig.session_at(&format!("/mcp/{server}")).names("tools");
        own.extend(of_server.iter().map(|name| format!("{server}_1mcp_{name}")));
    }
    assert_eq!(names, own);
    assert_eq!(
        session.names("prompts").len(),
        rig.session_at("/mcp/ev").names("prompts").len()
            + rig.session_at("/mcp/zz").names("prompts").len()
    );
    assert!(
        names.contains(&"ev_1mcp_add".to_owned()) && names.contains(&"aa_1mcp_echo".to_owned())
    );
    assert_eq!(rig.session().names("tools"), names);
    rig.stop();
}

#[test]
fn prompts_resources_templates_and_completions_work() {
    let rig = Rig::start(json!({"ho": hostile(&[]), "ev": everything(&[])}));
    let mut session = rig.session();
    let arguments = json!({"arg1": "x", "arg2": "y"});
    let name = "ev_1mcp_test_prompt_with_arguments";
    let prompt = session.get("prompts/get", json!({"name": name, "arguments": arguments}));
    let text = "Prompt with arguments: arg1='x', arg2='y'";
    assert_eq!(prompt["messages"][0]["content"]["text"], text);
    assert!(
        session
            .names("resources")
            .contains(&"test://static-text".to_owned())
    );
    let templates = session.get("resources/templates/list", json!({}));
    let template = "test://template/{id}/data";
    assert_eq!(templates["resourceTemplates"][0]["uriTemplate"], template);
    let read = session.get("resources/read", json!({"uri": "test://template/42/data"}));
    assert!(read["contents"][0]["text"].as_str().unwrap().contains("42"));
    let read = session.get("resources/read", json!({"uri": "test://static-binary"}));
    assert!(read["contents"][0]["blob"].is_string());
    let error = session.refused("resources/read", json!({"uri": "test://none"}));
    assert_eq!(error["code"], -32002, "{error}");
    let argument = json!({"name": "arg1", "value": "par"});
    let reference = json!({"type": "ref/prompt", "name": name});
    let params = json!({"ref": reference, "argument": argument});
    let completed = session.get("completion/complete", params);
    assert_eq!(
        completed["completion"]["values"],
        json!(["paris", "park", "party"])
    );
    let reference = json!({"type": "ref/resource", "uri": template});
    let argument = json!({"name": "id", "value": "12"});
    let params = json!({"ref": reference, "argument": argument});
    let completed = session.get("completion/complete", params);
    assert_eq!(completed["completion"]["values"], json!(["12", "123"]));
    let reference = json!({"type": "ref/prompt", "name": "none"});
    let params = json!({"ref": reference, "argument": {"name": "a", "value": ""}});
    assert_eq!(
        session.refused("completion/complete", params)["code"],
        -32602
    );
    rig.stop();
}

#[test]
fn a_server_is_found_under_its_name_and_under_the_form_it_has_in_tools() {
    let servers = json!({
        "github.com/x/y": everything(&[]),
        "Sequential Thinking": everything(&[]),
        "\u{5de5}\u{5177}": everything(&[]),
    });
    let rig = Rig::start(servers);
    let paths = [
        "/mcp/github.com%2Fx%2Fy",
        "/mcp/github%2ecom%2fx%2fy",
        "/mcp/github_com_x_y",
        "/mcp/Sequential%20Thinking",
        "/mcp/Sequential_Thinking",
        "/mcp/%E5%B7%A5%E5%85%B7",
    ];
    for path in paths {
        let mut session = rig.session_at(path);
        assert_eq!(session.text("echo", json!({"text": path})), path);
    }
    let mut session = rig.session();
    for tool in ["github_com_x_y_1mcp_echo", "Sequential_Thinking_1mcp_echo"] {
        assert_eq!(session.text(tool, json!({"text": "x"})), "x");
    }
    let names = session.names("tools");
    let plain = |name: &String| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    assert!(names.iter().all(plain), "{names:?}");
    rig.stop();
}

#[test]
fn long_and_odd_names_are_shortened_the_same_way_each_time_and_lead_home() {
    let servers = json!({"ho": hostile(&["--tool-names-hostile"])});
    let rig = Rig::start(servers.clone());
    let mut session = rig.session();
    let names = session.names("tools");
    let distinct: BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "a name is listed twice");
    for name in &names {
        assert!(name.len() <= 64, "{name}");
        assert!(name.starts_with("ho_1mcp_"), "{name}");
    }
    let long: Vec<_> = names
        .iter()
        .filter(|name| name.contains("xxxxxxxx"))
        .collect();
    assert_eq!(long.len(), 2, "{names:?}");
    let mut own = rig.session_at("/mcp/ho");
    let unchanged = own.names("tools");
    assert!(
        unchanged.contains(&"with space".to_owned()),
        "{unchanged:?}"
    );
    for name in long {
        assert_eq!(session.text(name, json!({})).len(), 200, "{name}");
    }
    for name in [
        "with space",
        "a_1mcp_b",
        "\u{5de5}\u{5177}",
        "quote\"and\\backslash",
    ] {
        assert_eq!(own.text(name, json!({})), name);
    }
    rig.stop();
    let again = Rig::start(servers);
    assert_eq!(again.session().names("tools"), names);
    again.stop();
}

#[test]
fn of_two_entries_with_one_name_the_first_of_the_file_is_kept() {
    let servers =
        json!({"a b": everything(&[]), "a_b": everything(&["--page", "3"]), "c": hostile(&[])});
    let rig = Rig::start(servers);
    let mut session = rig.session();
    let names = session.names("tools");
    assert_eq!(
        names.iter().filter(|name| *name == "a_b_1mcp_echo").count(),
        1
    );
    let clashes = rig.health()["configuration"]["nameClashes"].clone();
    let named = clashes.to_string();
    assert!(
        named.contains("a_b_1mcp_echo") && named.contains("a b"),
        "{named}"
    );
    let whoami: Value = serde_json::from_str(&session.text("a_b_1mcp_whoami", json!({}))).unwrap();
    assert_eq!(whoami["pid"], rig.pid_of("a b"));
    let uris = session.names("resources");
    assert_eq!(
        uris.iter()
            .filter(|uri| *uri == "test://static-text")
            .count(),
        1
    );
    rig.stop();
}

#[test]
fn bad_entries_do_not_hide_good_ones() {
    let rig = Rig::start(json!({"ho": hostile(&["--bad-tools", "--duplicate-tools"])}));
    let mut session = rig.session();
    let names = session.names("tools");
    assert_eq!(
        names.iter().filter(|name| *name == "ho_1mcp_echo").count(),
        1
    );
    assert_eq!(session.text("ho_1mcp_echo", json!({"text": "x"})), "x");
    rig.stop();
}

#[test]
fn a_list_nested_too_deep_is_refused_at_once() {
    let rig = Rig::start(json!({"ho": hostile(&["--deep-json"]), "ev": everything(&[])}));
    let mut session = rig.session();
    assert!(!has(&mut session, "ho_1mcp_deep_schema"));
    assert_eq!(session.text("ev_1mcp_echo", json!({"text": "x"})), "x");
    rig.stop();
}

#[test]
fn a_list_without_end_does_not_keep_a_server_from_work() {
    let servers = json!({
        "same": hostile(&["--cursor-loop=same"]),
        "fresh": hostile(&["--cursor-loop"]),
        "ev": everything(&[]),
    });
    let rig = Plan::new(servers).start_unready();
    let mut session = rig.session_at("/mcp/ev");
    assert_eq!(session.text("echo", json!({"text": "x"})), "x");
    assert!(has(&mut rig.session(), "ev_1mcp_echo"));
    rig.stop();
}

#[test]
fn names_and_descriptions_follow_the_settings() {
    let entry = with(
        everything(&[]),
        json!({
            "disabledTools": ["sleep", "add"],
            "toolDescriptionOverrides": {"echo": "Says it again."},
            "instructionOverride": "Ours instead.",
        }),
    );
    let plan = Plan::new(json!({"ev": entry})).set("naming", json!({"separator": "__"}));
    let rig = plan.start();
    let mut session = rig.session();
    let tools = session.get("tools/list", json!({}))["tools"].clone();
    let tool = |name: &str| {
        tools
            .as_array()
            .unwrap()
            .iter()
            .find(|tool| tool["name"] == name)
    };
    assert_eq!(tool("ev__echo").unwrap()["description"], "Says it again.");
    assert!(tool("ev__sleep").is_none() && tool("ev__add").is_none());
    let call = json!({"name": "ev__sleep", "arguments": {"ms": 1}});
    assert_eq!(session.refused("tools/call", call)["code"], -32602);
    let mut own = rig.session_at("/mcp/ev");
    let call = json!({"name": "sleep", "arguments": {"ms": 1}});
    assert_eq!(own.refused("tools/call", call)["code"], -32602);
    let instructions = session.welcome["instructions"].as_str().unwrap();
    assert!(instructions.contains("Ours instead.") && !instructions.contains("A test server"));
    rig.stop();
    let servers = json!({"ev": everything(&[]), "ho": hostile(&[])});
    let rig = Plan::new(servers)
        .set("naming", json!({"prefix": "never"}))
        .start();
    let mut session = rig.session();
    let names = session.names("tools");
    assert_eq!(names.iter().filter(|name| *name == "echo").count(), 1);
    assert!(!session.text("whoami", json!({})).contains("holder"));
    assert_eq!(
        session.text("stderr_flood", json!({"lines": 1})),
        "after the flood"
    );
    rig.stop();
}

#[test]
fn pages_keep_their_place_while_entries_come_and_go() {
    let rig = Plan::new(json!({"ev": everything(&[])})).start();
    let own = rig.session().names("tools").len();
    rig.stop();
    let rig = Plan::new(json!({"ev": everything(&[])}))
        .env("ONE_MCP_PAGE_SIZE", &(own + 2).to_string())
        .start();
    let (mut session, mut editor) = (rig.session_at("/mcp/ev"), rig.session_at("/mcp/ev"));
    for name in ["t1", "t2", "t3", "t4", "t5"] {
        editor.call("add_tool", json!({"name": name}));
    }
    eventually("they are listed", || has(&mut editor, "t5"));
    let first = session.get("tools/list", json!({}));
    let listed = first["tools"].as_array().unwrap();
    let last = &listed[listed.len() - 1];
    assert_eq!((listed.len(), &last["name"]), (own + 2, &json!("t2")));
    // The one that the cursor names, one before it and one after it vanish; one comes.
    for name in ["t1", "t2", "t3"] {
        editor.call("remove_tool", json!({"name": name}));
    }
    editor.call("add_tool", json!({"name": "t6"}));
    eventually("the change is there", || {
        let names = editor.names("tools");
        names.contains(&"t6".to_owned()) && !names.contains(&"t3".to_owned())
    });
    let second = session.get("tools/list", json!({"cursor": first["nextCursor"]}));
    let names: Vec<_> = second["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["name"])
        .collect();
    assert_eq!(names, ["t4", "t5", "t6"]);
    assert!(second.get("nextCursor").is_none());
    rig.stop();
}

#[test]
fn a_cursor_is_good_for_its_own_list_and_nothing_else() {
    let rig = Plan::new(json!({"ev": everything(&[]), "ho": hostile(&[])}))
        .set("pageSize", json!(2))
        .start();
    let mut session = rig.session();
    let cursor = session.get("tools/list", json!({}))["nextCursor"].clone();
    let text = cursor.as_str().unwrap();
    let mut flipped = text.as_bytes().to_vec();
    flipped[text.len() / 2] ^= 1;
    let flipped = String::from_utf8_lossy(&flipped).into_owned();
    let forged = [
        json!(""),
        json!("x"),
        json!(flipped),
        json!(text.repeat(2)),
        json!("Mg=="),
    ];
    for cursor in forged {
        let error = session.refused("tools/list", json!({"cursor": cursor}));
        assert_eq!(error["code"], -32602, "{cursor}");
    }
    for cursor in [json!(7), json!({}), json!(["x"])] {
        let error = session.refused("tools/list", json!({"cursor": cursor}));
        assert_eq!(error["code"], -32602, "{cursor}");
    }
    let foreign = json!({"cursor": cursor});
    assert_eq!(
        session.refused("prompts/list", foreign.clone())["code"],
        -32602
    );
    let error = rig
        .session_at("/mcp/ev")
        .refused("tools/list", foreign.clone());
    assert_eq!(error["code"], -32602);
    // Of another session with the same view it is as good.
    assert!(rig.session().get("tools/list", foreign)["tools"].is_array());
    let names = session.names("tools");
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    rig.stop();
}
