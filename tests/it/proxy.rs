//! A client of pipes in front of a gateway that runs.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{demo, everything, with};
use crate::support::session::{reporting_call, request, text_of, tool_call};
use crate::support::stdio::Client;

const SLEEP: &str = "ev_1mcp_sleep";
const WATCHED: &str = "test://watched-resource";

fn gateway() -> Rig {
    Rig::start(json!({"ev": everything(&[])}))
}

fn url(rig: &Rig) -> String {
    format!("http://127.0.0.1:{}", rig.port)
}

fn able() -> Value {
    json!({"elicitation": {}, "sampling": {}, "roots": {}})
}

fn client(rig: &Rig) -> Client {
    let mut client = Client::proxy(&url(rig), &[]);
    client.open_session("2025-11-25", able());
    client
}

fn in_work(client: &mut Client) -> u64 {
    let text = client.text("ev_1mcp_whoami", json!({}));
    let known: Value = serde_json::from_str(&text).unwrap();
    known["calls"].as_u64().unwrap() - 1
}

fn stateless(params: Value) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    with(params, json!({"_meta": meta}))
}

#[test]
fn a_session_goes_through_as_it_is() {
    let rig = gateway();
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = Client::proxy(&url(&rig), &[]);
        client.open_session(revision, able());
        assert_eq!(client.welcome["protocolVersion"], revision);
        assert!(
            client.get("tools/list", json!({}))["tools"]
                .as_array()
                .unwrap()
                .len()
                > 10
        );
        assert_eq!(
            client.text("ev_1mcp_greet", json!({"name": "a\nb"})),
            "Hello, a\nb!"
        );
        assert_eq!(client.ask("nonsense", json!({}))["error"]["code"], -32601);
        client.leave();
    }
    let mut client = client(&rig);
    let arguments = json!({"steps": 2, "ms": 10});
    client.send(&reporting_call(
        &json!("p"),
        "ev_1mcp_slow_progress",
        &arguments,
        &json!("t"),
    ));
    for step in 1..=2 {
        assert_eq!(client.next()["params"]["progress"], step);
    }
    assert_eq!(
        text_of(&client.answer(&json!("p"))["result"]),
        "Took 2 steps"
    );
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
    rig.stop();
}

#[test]
fn what_belongs_to_no_request_arrives_too() {
    let rig = gateway();
    let mut client = client(&rig);
    client.get("resources/subscribe", json!({"uri": WATCHED}));
    client.text("ev_1mcp_test_update_resource", json!({}));
    client.expect("notifications/resources/updated");
    rig.session()
        .call("ev_1mcp_add_tool", json!({"name": "added"}));
    client.expect("notifications/tools/list_changed");
    client.leave();
    rig.stop();
}

#[test]
fn many_requests_run_side_by_side() {
    let rig = gateway();
    let mut client = client(&rig);
    for id in 0..50 {
        client.send(&tool_call(&json!(id), SLEEP, &json!({"ms": 200})));
    }
    for id in 0..50 {
        assert_eq!(
            text_of(&client.answer(&json!(id))["result"]),
            "Slept 200 ms"
        );
    }
    client.leave();
    rig.stop();
}

#[test]
fn stateless_requests_get_the_headers_that_http_wants() {
    let rig = gateway();
    let mut client = Client::proxy(&url(&rig), &[]);
    let known = client.get("server/discover", stateless(json!({})));
    assert_eq!(known["supportedVersions"], json!(["2026-07-28"]));
    // A header of its arguments, which the proxy has not heard of yet.
    let call = json!({"name": "ev_1mcp_test_custom_header", "arguments": {"region": "eü"}});
    assert_eq!(
        text_of(&client.get("tools/call", stateless(call.clone()))),
        "Region: eü"
    );
    client.get("tools/list", stateless(json!({})));
    assert_eq!(
        text_of(&client.get("tools/call", stateless(call))),
        "Region: eü"
    );
    // A name that no header can say as it is.
    let unknown = client.ask("resources/read", stateless(json!({"uri": "test://ü"})));
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    client.leave();
    rig.stop();
}

#[test]
fn requests_of_both_eras_are_taken_back() {
    let rig = gateway();
    let mut client = client(&rig);
    client.send(&tool_call(&json!("x"), SLEEP, &json!({"ms": 60_000})));
    let call = stateless(json!({"name": SLEEP, "arguments": {"ms": 60_000}}));
    client.send(&request(&json!("y"), "tools/call", &call));
    eventually("both are in work", || in_work(&mut client) == 2);
    for id in ["x", "y"] {
        client.notify("notifications/cancelled", json!({"requestId": id}));
    }
    eventually("both were taken back", || in_work(&mut client) == 0);
    // At once after it, too.
    client.send(&tool_call(&json!("z"), SLEEP, &json!({"ms": 60_000})));
    client.notify("notifications/cancelled", json!({"requestId": "z"}));
    eventually("nothing is in work", || in_work(&mut client) == 0);
    client.leave();
    rig.stop();
}

#[test]
fn a_subscription_lasts_until_it_is_taken_back() {
    let rig = gateway();
    let mut client = Client::proxy(&url(&rig), &[]);
    let wishes = json!({"notifications": {"toolsListChanged": true}});
    client.send(&request(
        &json!("s"),
        "subscriptions/listen",
        &stateless(wishes),
    ));
    client.expect("notifications/subscriptions/acknowledged");
    let mut other = rig.session();
    other.call("ev_1mcp_add_tool", json!({"name": "one"}));
    client.expect("notifications/tools/list_changed");
    client.leave();
    rig.stop();
}

#[test]
fn at_the_end_of_the_input_calls_are_answered_and_the_session_is_given_back() {
    let servers = json!({
        "ev": everything(&[]),
        "own": with(everything(&[]), json!({"instances": "session"})),
    });
    let rig = Rig::start(servers);
    let before = rig.bearers().len();
    let mut client = client(&rig);
    client.text("own_1mcp_greet", json!({"name": "x"}));
    assert_eq!(rig.bearers().len(), before + 1);
    client.send(&tool_call(&json!(1), SLEEP, &json!({"ms": 300})));
    client.end_input();
    assert_eq!(text_of(&client.answer(&json!(1))["result"]), "Slept 300 ms");
    assert_eq!(client.try_next(), None);
    client.ended();
    eventually("the session has ended", || rig.bearers().len() == before);
    rig.stop();
}

#[test]
fn a_session_that_was_forgotten_is_opened_again() {
    let rig = gateway();
    let port = rig.port.to_string();
    let mut client = client(&rig);
    client.get("resources/subscribe", json!({"uri": WATCHED}));
    client.get("logging/setLevel", json!({"level": "debug"}));
    rig.stop();
    let away = client.ask("tools/list", json!({}));
    assert_eq!(away["error"]["code"], -32603, "{away}");
    let servers = json!({"ev": everything(&[])});
    let rig = Plan::new(servers).arg("--port").arg(&port).start();
    assert_eq!(
        client.text("ev_1mcp_greet", json!({"name": "again"})),
        "Hello, again!"
    );
    client.text("ev_1mcp_log", json!({"level": "debug", "text": "a detail"}));
    client.expect("notifications/message");
    client.text("ev_1mcp_test_update_resource", json!({}));
    client.expect("notifications/resources/updated");
    client.leave();
    rig.stop();
}

#[test]
fn without_a_gateway_each_request_has_its_error_and_the_exit_code_says_so() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut client = Client::proxy(&format!("http://{free}/mcp"), &[]);
    for id in [json!(1), json!("b")] {
        client.send(&request(
            &id,
            "initialize",
            &json!({"protocolVersion": "2025-11-25"}),
        ));
        assert_eq!(client.answer(&id)["error"]["code"], -32603);
    }
    client.send("nonsense");
    assert_eq!(client.next()["error"]["code"], -32700);
    client.end_input();
    assert_eq!(client.try_next(), None);
    assert_eq!(client.rig.exit_code(crate::support::PATIENCE), Some(69));
}

/// Answers one request with what is given, and gives its head.
fn answer_once(listener: &TcpListener, status: &str, body: &str) -> String {
    let (mut socket, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let count = socket.read(&mut buffer).unwrap();
        head.extend_from_slice(&buffer[..count]);
    }
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    socket.write_all(answer.as_bytes()).unwrap();
    String::from_utf8_lossy(&head).into_owned()
}

#[test]
fn headers_and_filters_of_the_command_line_go_along() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let header = "Authorization: Bearer ${TOKEN:-from-default}";
    let args = [
        "--header",
        header,
        "--header",
        "X-More:1",
        "--tag-filter",
        "a+b",
    ];
    let mut client = Client::proxy(&format!("http://{address}/x/mcp?k=v"), &args);
    client.send(&request(
        &json!(1),
        "initialize",
        &json!({"protocolVersion": "2025-11-25"}),
    ));
    let head = answer_once(&listener, "401 Unauthorized", "{\"error\":\"who are you\"}");
    assert!(
        head.starts_with("POST /x/mcp?k=v&tag-filter=a%2Bb HTTP/1.1\r\n"),
        "{head}"
    );
    let lower = head.to_ascii_lowercase();
    assert!(
        lower.contains("\r\nauthorization: bearer from-default\r\n"),
        "{head}"
    );
    assert!(lower.contains("\r\nx-more: 1\r\n"), "{head}");
    let error = client.answer(&json!(1))["error"]["message"].to_string();
    assert!(
        error.contains("401") && error.contains("who are you"),
        "{error}"
    );
    // The endpoint's own error keeps its code, whoever it is addressed to.
    client.send(&request(&json!(2), "ping", &json!({})));
    let own = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-7,"message":"no"}}"#;
    answer_once(&listener, "400 Bad Request", own);
    assert_eq!(client.answer(&json!(2))["error"]["code"], -7);
    client.leave();
}

#[test]
fn a_filter_narrows_what_the_client_sees() {
    let servers = json!({
        "one": with(demo("clock"), json!({"tags": ["a"]})),
        "two": with(demo("notes"), json!({"tags": ["b"]})),
    });
    let rig = Rig::start(servers);
    let mut client = Client::proxy(&url(&rig), &["--tags", "a"]);
    client.open_session("2025-06-18", json!({}));
    let tools = client.get("tools/list", json!({})).to_string();
    assert!(
        tools.contains("one_1mcp_") && !tools.contains("two_1mcp_"),
        "{tools}"
    );
    client.leave();
    rig.stop();
}

#[test]
fn a_batch_without_a_request_is_refused_with_a_word() {
    let rig = gateway();
    let mut client = client(&rig);
    for bad in ["[1,2,3]", "[]", "[{\"jsonrpc\":\"2.0\"}", "[[]]"] {
        client.send(bad);
        let answer = client.next();
        assert!(answer["error"]["code"].as_i64() < Some(-32599), "{answer}");
        assert!(answer.get("id").is_none(), "{answer}");
    }
    let batch = json!([{"jsonrpc": "2.0", "id": 7, "method": "ping"}]);
    client.send(&batch.to_string());
    assert_eq!(client.answer(&json!(7))["error"]["code"], -32600);
}

#[test]
fn what_cannot_be_carried_out_is_refused_at_once() {
    for args in [
        &["proxy"] as &[&str],
        &["proxy", "--url", "ftp://x"],
        &["proxy", "--url", "http://x", "--header", "no colon"],
        &[
            "proxy",
            "--url",
            "http://x",
            "--header",
            "Mcp-Session-Id: y",
        ],
        &[
            "proxy",
            "--url",
            "http://x",
            "--header",
            "A: ${NOT_SET_ANYWHERE}",
        ],
        &["proxy", "--url", "http://x", "--tags", "a", "--preset", "b"],
        &["serve", "--header", "a:b"],
    ] {
        let plan = args
            .iter()
            .fold(Plan::new(json!({})), |plan, arg| plan.arg(arg));
        assert_eq!(plan.refused().0, Some(64), "{args:?}");
    }
}
