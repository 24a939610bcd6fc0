//! The gateway as the child of its client: only messages on stdout, and an end with the client.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::{Connection, Request};
use crate::support::rig::{Plan, signal};
use crate::support::servers::{demo, everything, gateway_binary, hostile, with};
use crate::support::session::{initialize, reporting_call, request, text_of, tool_call};
use crate::support::stdio::Client;
use crate::support::{eventually, within};

const SLEEP: &str = "ev_1mcp_sleep";

fn plan() -> Plan {
    Plan::new(json!({"ev": everything(&[])}))
}

fn able() -> Value {
    json!({"elicitation": {}, "sampling": {}, "roots": {}})
}

fn client() -> Client {
    Client::open(plan(), "2025-11-25", able())
}

fn in_work(client: &mut Client) -> u64 {
    let text = client.text("ev_1mcp_whoami", json!({}));
    let known: Value = serde_json::from_str(&text).unwrap();
    known["calls"].as_u64().unwrap() - 1
}

/// Local TCP ports on which the process listens.
fn listening(pid: i32) -> Vec<u16> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| target.to_str().map(str::to_owned))
        .collect();
    let ours = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let inode = format!("socket:[{}]", fields.get(9)?);
        let is_listening = fields[3] == "0A" && sockets.contains(&inode);
        let port = fields[1].rsplit(':').next()?;
        is_listening.then(|| u16::from_str_radix(port, 16).unwrap())
    };
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let lines = tables.into_iter().flatten();
    lines
        .flat_map(|text| text.lines().filter_map(ours).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_session_revision_is_spoken() {
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = Client::open(plan(), revision, json!({}));
        assert_eq!(client.welcome["protocolVersion"], revision);
        let tools = client.get("tools/list", json!({}));
        assert!(tools["tools"].as_array().unwrap().len() > 10);
        assert_eq!(client.get("ping", json!({})), json!({}));
        assert_eq!(
            client.text("ev_1mcp_greet", json!({"name": "a\nb"})),
            "Hello, a\nb!"
        );
        assert_eq!(client.ask("nonsense", json!({}))["error"]["code"], -32601);
        client.leave();
    }
}

#[test]
fn servers_report_log_and_ask() {
    let mut client = client();
    let arguments = json!({"steps": 3, "ms": 10});
    client.send(&reporting_call(
        &json!("p"),
        "ev_1mcp_slow_progress",
        &arguments,
        &json!("t"),
    ));
    for step in 1..=3 {
        let report = client.next();
        assert_eq!(report["params"]["progressToken"], "t");
        assert_eq!(report["params"]["progress"], step);
    }
    assert_eq!(text_of(&client.next()["result"]), "Took 3 steps");
    client.get("logging/setLevel", json!({"level": "debug"}));
    client.send(&tool_call(
        &json!(2),
        "ev_1mcp_log",
        &json!({"level": "info", "text": "a word"}),
    ));
    assert_eq!(client.next()["params"]["data"], "a word");
    client.answer(&json!(2));
    client.send(&tool_call(
        &json!(3),
        "ev_1mcp_test_elicitation",
        &json!({"message": "Who?"}),
    ));
    let asked = client.expect("elicitation/create");
    client.reply(&asked["id"], json!({"action": "decline"}));
    let said = text_of(&client.answer(&json!(3))["result"]);
    assert!(said.contains("action=decline"), "{said}");
    client.leave();
}

#[test]
fn changes_and_updates_arrive() {
    let mut client = Client::open(plan(), "2025-06-18", json!({}));
    client.get(
        "resources/subscribe",
        json!({"uri": "test://watched-resource"}),
    );
    client.text("ev_1mcp_test_update_resource", json!({}));
    client.expect("notifications/resources/updated");
    client.text("ev_1mcp_add_tool", json!({"name": "added"}));
    client.expect("notifications/tools/list_changed");
    assert!(
        client
            .get("tools/list", json!({}))
            .to_string()
            .contains("ev_1mcp_added")
    );
    client.leave();
}

#[test]
fn a_call_can_be_taken_back() {
    let mut client = client();
    client.send(&tool_call(&json!("x"), SLEEP, &json!({"ms": 60_000})));
    client.notify("notifications/cancelled", json!({"requestId": "x"}));
    eventually("the call was taken back", || in_work(&mut client) == 0);
    client.leave();
}

#[test]
fn what_was_asked_before_the_end_of_the_input_is_answered() {
    let mut client = Client::start(plan());
    let lines = [
        initialize("2025-06-18", &json!({})),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string(),
        tool_call(&json!(2), SLEEP, &json!({"ms": 500})),
        tool_call(&json!(3), "ev_1mcp_greet", &json!({"name": "w"})),
    ];
    // The last line has no end.
    client.send_bytes(lines.join("\n").as_bytes());
    client.end_input();
    assert_eq!(client.next()["id"], 1);
    assert_eq!(text_of(&client.next()["result"]), "Hello, w!");
    assert_eq!(text_of(&client.next()["result"]), "Slept 500 ms");
    assert_eq!(client.try_next(), None);
    client.ended();
}

#[test]
fn no_question_outlives_the_input() {
    let servers = json!({
        "ev": everything(&[]),
        "new": everything(&["--era", "modern"]),
    });
    let mut client = Client::open(Plan::new(servers), "2025-11-25", able());
    for (id, server) in ["ev", "new"].into_iter().enumerate() {
        let name = format!("{server}_1mcp_test_elicitation");
        client.send(&tool_call(&json!(id), &name, &json!({"message": "Who?"})));
        client.expect("elicitation/create");
    }
    let message = stateless(json!({"notifications": {"toolsListChanged": true}}));
    client.send(&request(&json!("l"), "subscriptions/listen", &message));
    client.expect("notifications/subscriptions/acknowledged");
    // One whose question comes when nobody is there to be asked.
    let arguments = json!({"message": "Late?"});
    client.send(&tool_call(
        &json!(2),
        "ev_1mcp_test_elicitation",
        &arguments,
    ));
    let begun = Instant::now();
    client.end_input();
    for id in [0, 1, 2] {
        let answer = client.answer(&json!(id));
        assert!(answer["result"].is_object() || answer["error"].is_object());
    }
    client.ended();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn many_lines_at_once_are_all_answered() {
    let mut client = client();
    for id in 0..1000 {
        let name = json!({"name": id.to_string()});
        client.send(&tool_call(&json!(id), "ev_1mcp_greet", &name));
    }
    for id in 0..1000 {
        let text = text_of(&client.answer(&json!(id))["result"]);
        assert_eq!(text, format!("Hello, {id}!"));
    }
    client.leave();
}

#[test]
fn what_is_no_message_gets_an_error_and_ends_nothing() {
    let mut client = client();
    for (bad, code) in [
        ("nonsense", -32700),
        ("{\"jsonrpc\":\"2.0\",", -32700),
        ("7", -32600),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}",
            -32600,
        ),
        ("[]", -32600),
        (
            "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]",
            -32600,
        ),
    ] {
        client.send(bad);
        let error = client.next();
        assert_eq!(
            (error.get("id"), &error["error"]["code"]),
            (None, &json!(code)),
            "{bad}"
        );
    }
    client.send_bytes(b"\xff\xfe\n\n \r\n");
    assert_eq!(client.next()["error"]["code"], -32700);
    let long = "x".repeat(17 * 1024 * 1024);
    client.send(&format!(
        "{{\"jsonrpc\":\"2.0\",\"x\":\"{long}\",\"id\":77,\"method\":\"ping\"}}"
    ));
    let error = client.next();
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!(77), &json!(-32600))
    );
    assert_eq!(client.ask("initialize", json!({}))["error"]["code"], -32600);
    assert_eq!(client.get("ping", json!({})), json!({}));
    client.leave();
    let mut early = Client::start(plan());
    assert_eq!(early.ask("tools/list", json!({}))["error"]["code"], -32600);
    assert_eq!(early.get("ping", json!({})), json!({}));
    early.leave();
}

#[test]
fn batches_belong_to_the_revisions_that_have_them() {
    let mut client = Client::open(plan(), "2025-03-26", json!({}));
    let call = tool_call(&json!("b"), "ev_1mcp_greet", &json!({"name": "B"}));
    client.send(&format!(
        "[{},{call}]",
        request(&json!("a"), "ping", &json!({}))
    ));
    let answers = client.next();
    assert_eq!(answers.as_array().unwrap().len(), 2);
    client.leave();
}

#[test]
fn a_client_that_reads_late_misses_nothing() {
    let mut client = client();
    let big = json!({"name": "x".repeat(200_000)});
    for id in 0..60 {
        client.send(&tool_call(&json!(id), "ev_1mcp_greet", &big));
    }
    for id in 0..60 {
        assert_eq!(text_of(&client.answer(&json!(id))["result"]).len(), 200_008);
    }
    client.leave();
}

#[test]
fn nothing_listens_unless_a_port_is_given() {
    let set = || plan().set("port", json!(3050));
    let client = Client::open(set(), "2025-06-18", json!({}));
    assert_eq!(listening(client.rig.pid), Vec::<u16>::new());
    let name = format!(
        ".local/state/onemcp/onemcp-stdio-{}.health.sock",
        client.rig.pid
    );
    let socket = client.rig.folder().join(name);
    let mut health = UnixStream::connect(&socket).unwrap();
    health.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    health.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"status\":\"healthy\""), "{answer}");
    let mut command = std::process::Command::new(gateway_binary());
    command.env_clear().env("HOME", client.rig.folder());
    let asked = command
        .args(["health", "--transport=stdio", "--live"])
        .output();
    assert!(asked.as_ref().unwrap().status.success(), "{asked:?}");
    client.leave();
    assert!(!socket.exists());
    let with_health = set().arg("--health-listen=127.0.0.1:0");
    let client = Client::open(with_health, "2025-06-18", json!({}));
    let ports = listening(client.rig.pid);
    assert_eq!(ports.len(), 1);
    let live = Request::new("GET", "/health/live");
    assert_eq!(Connection::open(ports[0]).exchange(&live).status(), 200);
    assert_eq!(
        Connection::open(ports[0])
            .exchange(&Request::new("GET", "/mcp"))
            .status(),
        404
    );
    client.leave();
    let mut client = Client::open(set().arg("--port").arg("0"), "2025-06-18", json!({}));
    let ports = listening(client.rig.pid);
    assert_eq!(ports.len(), 1);
    client.rig.port = ports[0];
    let mut other = client.rig.session();
    assert_eq!(
        other.text("ev_1mcp_greet", json!({"name": "H"})),
        "Hello, H!"
    );
    assert_eq!(
        client.text("ev_1mcp_greet", json!({"name": "S"})),
        "Hello, S!"
    );
    client.leave();
}

#[test]
fn a_closed_output_ends_it_at_once() {
    let servers = json!({
        "ev": everything(&[]),
        "own": with(everything(&[]), json!({"instances": "session"})),
        "deaf": hostile(&["--ignore-eof"]),
    });
    let mut client = Client::open(Plan::new(servers), "2025-11-25", json!({}));
    client.text("own_1mcp_greet", json!({"name": "x"}));
    client.send(&tool_call(&json!(1), SLEEP, &json!({"ms": 60_000})));
    eventually("the call is in work", || in_work(&mut client) == 1);
    let begun = Instant::now();
    client.end_output();
    // The reader of the test notices with the next line.
    client.send_if_open(&request(&json!(2), "ping", &json!({})));
    client.send_if_open(&request(&json!(3), "ping", &json!({})));
    client.ended();
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(10), "{taken:?}");
}

fn reason(answer: &Value) -> &Value {
    &answer["error"]["data"]["onemcp"]["reason"]
}

#[test]
fn at_a_signal_calls_in_work_are_answered_and_new_ones_refused() {
    for by in [Signal::TERM, Signal::INT] {
        let mut client = client();
        client.send(&tool_call(&json!("x"), SLEEP, &json!({"ms": 2000})));
        eventually("the call is in work", || in_work(&mut client) == 1);
        signal(client.rig.pid, by);
        let late = json!({"name": "ev_1mcp_greet", "arguments": {"name": "late"}});
        eventually("new ones are refused", || {
            reason(&client.ask("tools/call", late.clone())) == "draining"
        });
        let answer = client.answer(&json!("x"));
        assert_eq!(text_of(&answer["result"]), "Slept 2000 ms");
        while client.try_next().is_some() {}
        client.ended();
    }
}

#[test]
fn calls_that_take_longer_than_the_end_may_get_an_error() {
    for ending in ["TERM", "INT", "input"] {
        let plan = plan().set("shutdownTimeout", json!(4000));
        let mut client = Client::open(plan, "2025-11-25", json!({}));
        let long = json!({"ms": 60_000});
        client.send(&tool_call(&json!("x"), SLEEP, &long));
        client.send(&stateless_call(&json!("y"), SLEEP, long));
        eventually("the calls are in work", || in_work(&mut client) == 2);
        let begun = Instant::now();
        match ending {
            "TERM" => signal(client.rig.pid, Signal::TERM),
            "INT" => signal(client.rig.pid, Signal::INT),
            _ => client.end_input(),
        }
        for id in ["x", "y"] {
            let answer = client.answer(&json!(id));
            assert_eq!(reason(&answer), "draining", "{ending}: {answer}");
        }
        // Calls have half of that time.
        assert!(begun.elapsed() >= Duration::from_secs(2));
        client.ended();
        let taken = begun.elapsed();
        assert!(taken < Duration::from_secs(5), "{ending}: {taken:?}");
    }
}

#[test]
fn who_is_held_at_the_start_keeps_no_end_waiting() {
    for ending in ["TERM", "input"] {
        let plan = Plan::new(json!({"slow": hostile(&["--slow-start", "60000"])}));
        let mut client = Client::start(plan.set("shutdownTimeout", json!(4000)));
        // The answer to the second says that both were read.
        client.send(&initialize("2025-11-25", &json!({})));
        client.get("ping", json!({}));
        let begun = Instant::now();
        match ending {
            "TERM" => signal(client.rig.pid, Signal::TERM),
            _ => client.end_input(),
        }
        let answer = client.answer(&json!(1));
        assert!(answer["error"].is_object(), "{answer}");
        client.ended();
        let taken = begun.elapsed();
        assert!(taken < Duration::from_secs(6), "{ending}: {taken:?}");
    }
}

#[test]
fn its_client_is_served_while_others_notice_that_it_ends() {
    let plan = plan().set("drainDelay", json!(1000)).arg("--port").arg("0");
    let mut client = Client::open(plan, "2025-11-25", json!({}));
    client.rig.term();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        let text = client.text("ev_1mcp_greet", json!({"name": "w"}));
        assert_eq!(text, "Hello, w!");
    }
    while client.try_next().is_some() {}
    client.ended();
}

#[test]
fn a_signal_shortens_the_wait_for_answers() {
    let mut client = client();
    client.send(&tool_call(&json!(1), SLEEP, &json!({"ms": 60_000})));
    eventually("the call is in work", || in_work(&mut client) == 1);
    client.end_input();
    eventually("it has noticed", || {
        client.rig.stderr().contains("end of input")
    });
    client.rig.term();
    assert_eq!(reason(&client.answer(&json!(1))), "draining");
    within(Duration::from_secs(10), "the end", || {
        client.rig.bearers().is_empty()
    });
    client.ended();
}

#[test]
fn a_client_that_is_killed_takes_everything_along() {
    // As long as nobody holds our output any more, nothing is waited for.
    let mut client = client();
    client.send(&tool_call(&json!(1), SLEEP, &json!({"ms": 60_000})));
    eventually("the call is in work", || in_work(&mut client) == 1);
    let begun = Instant::now();
    client.end_output();
    client.send_if_open(&request(&json!(2), "ping", &json!({})));
    client.send_if_open(&request(&json!(3), "ping", &json!({})));
    client.end_input();
    client.ended();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_filter_narrows_what_the_client_sees() {
    let servers = json!({
        "one": with(demo("clock"), json!({"tags": ["a"]})),
        "two": with(demo("notes"), json!({"tags": ["b"]})),
    });
    let plan = Plan::new(servers).arg("--filter").arg("a");
    let mut client = Client::open(plan, "2024-11-05", json!({}));
    let tools = client.get("tools/list", json!({})).to_string();
    assert!(
        tools.contains("one_1mcp_") && !tools.contains("two_1mcp_"),
        "{tools}"
    );
    client.leave();
    let servers = json!({
        "one": with(demo("clock"), json!({"tags": ["a"]})),
        "two": with(demo("notes"), json!({"tags": ["b"]})),
    });
    let mine = json!({"name": "mine", "strategy": "or", "tagQuery": {"tag": "b"}});
    let presets = json!({"version": "1.0.0", "presets": {"mine": mine}});
    let stdio = |name: &str| {
        let plan = Plan::new(servers.clone()).presets(presets.clone());
        plan.arg("--preset").arg(name)
    };
    let mut client = Client::open(stdio("mine"), "2024-11-05", json!({}));
    let tools = client.get("tools/list", json!({})).to_string();
    assert!(
        tools.contains("two_1mcp_") && !tools.contains("one_1mcp_"),
        "{tools}"
    );
    client.leave();
    let unknown = stdio("other").arg("--transport").arg("stdio");
    assert_eq!(unknown.refused().0, Some(78));
}

#[test]
fn threads_of_calls_end() {
    let mut client = client();
    client.text("ev_1mcp_greet", json!({"name": "x"}));
    let (threads, files) = (client.rig.threads(), client.rig.files());
    for round in 0..3 {
        for id in 0..100 {
            client.send(&tool_call(
                &json!(round * 100 + id),
                SLEEP,
                &json!({"ms": 50}),
            ));
        }
        for id in 0..100 {
            client.answer(&json!(round * 100 + id));
        }
    }
    eventually("the threads have ended", || client.rig.threads() <= threads);
    assert!(client.rig.files() <= files);
    client.leave();
}

/// Parameters of a stateless request.
fn stateless(params: Value) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
        "io.modelcontextprotocol/logLevel": "debug",
        "progressToken": "t",
    });
    with(params, json!({"_meta": meta}))
}

fn stateless_call(id: &Value, tool: &str, arguments: Value) -> String {
    let params = stateless(json!({"name": tool, "arguments": arguments}));
    request(id, "tools/call", &params)
}

#[test]
fn stateless_requests_need_no_session() {
    let mut client = Client::start(plan());
    let known = client.get("server/discover", stateless(json!({})));
    assert_eq!(known["supportedVersions"], json!(["2026-07-28"]));
    let tools = client.get("tools/list", stateless(json!({})));
    assert!(tools["tools"].as_array().unwrap().len() > 10 && tools["ttlMs"].is_u64());
    client.send(&stateless_call(
        &json!(1),
        "ev_1mcp_slow_progress",
        json!({"steps": 2, "ms": 5}),
    ));
    for step in 1..=2 {
        let report = client.next();
        assert_eq!(
            (
                &report["params"]["progressToken"],
                &report["params"]["progress"]
            ),
            (&json!("t"), &json!(step))
        );
    }
    let answer = client.next();
    assert_eq!(answer["result"]["resultType"], "complete");
    client.send(&stateless_call(
        &json!(2),
        "ev_1mcp_log",
        json!({"level": "info", "text": "w"}),
    ));
    assert_eq!(client.next()["params"]["data"], "w");
    client.answer(&json!(2));
    // What belongs to sessions does not exist here, and the other way round.
    for method in ["ping", "initialize", "logging/setLevel"] {
        assert_eq!(
            client.ask(method, stateless(json!({})))["error"]["code"],
            -32601,
            "{method}"
        );
    }
    assert_eq!(client.ask("tools/list", json!({}))["error"]["code"], -32600);
    client.leave();
}

#[test]
fn a_question_to_a_stateless_client_is_a_result() {
    let mut client = Client::start(plan());
    let tool = "ev_1mcp_test_elicitation";
    client.send(&stateless_call(&json!(1), tool, json!({"message": "Who?"})));
    let asked = client.answer(&json!(1))["result"].clone();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let (key, wish) = asked["inputRequests"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    assert_eq!(wish["method"], "elicitation/create");
    let params = stateless(json!({
        "name": tool,
        "arguments": {"message": "Who?"},
        "requestState": asked["requestState"],
        "inputResponses": {key: {"action": "decline"}},
    }));
    let said = text_of(&client.get("tools/call", params));
    assert!(said.contains("action=decline"), "{said}");
    client.leave();
}

#[test]
fn threads_that_have_rested_end_well() {
    for _ in 0..5 {
        let mut client = client();
        let wishes = stateless(json!({"notifications": {"toolsListChanged": true}}));
        for id in 0..20 {
            client.send(&request(&json!(id), "subscriptions/listen", &wishes));
            client.expect("notifications/subscriptions/acknowledged");
        }
        client.leave();
    }
}

#[test]
fn stateless_requests_are_taken_back_by_a_notification() {
    let mut client = Client::open(plan(), "2025-11-25", json!({}));
    client.send(&stateless_call(&json!("x"), SLEEP, json!({"ms": 60_000})));
    eventually("the call is in work", || in_work(&mut client) == 1);
    client.notify("notifications/cancelled", json!({"requestId": "x"}));
    eventually("the call was taken back", || in_work(&mut client) == 0);
    let wishes = json!({"notifications": {"toolsListChanged": true}});
    for id in [json!(7), json!("7")] {
        client.send(&request(
            &id,
            "subscriptions/listen",
            &stateless(wishes.clone()),
        ));
        let granted = client.expect("notifications/subscriptions/acknowledged");
        let key = "io.modelcontextprotocol/subscriptionId";
        assert_eq!(granted["params"]["_meta"][key], id);
    }
    client.notify("notifications/cancelled", json!({"requestId": "7"}));
    client.text("ev_1mcp_add_tool", json!({"name": "added"}));
    // One for the session, one for the subscription that is left.
    let changed = |client: &mut Client| {
        client.expect("notifications/tools/list_changed")["params"]["_meta"].to_string()
    };
    let mut heard = [changed(&mut client), changed(&mut client)];
    heard.sort();
    assert_eq!(heard[0], "null");
    assert!(heard[1].ends_with(":7}"), "{heard:?}");
    assert_eq!(client.get("ping", json!({})), json!({}));
    client.leave();
}
