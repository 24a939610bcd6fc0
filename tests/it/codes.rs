//! Status codes of the endpoint, and the JSON-RPC body that comes with each refusal.

use serde_json::{Value, json};

use crate::support::http::{Reply, Request};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::everything;
use crate::support::session::{initialize, request};

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;

fn rig() -> Rig {
    Rig::start(json!({"ev": everything(&[])}))
}

#[track_caller]
fn code(reply: &Reply) -> i64 {
    let body = reply.json();
    assert_eq!(body["jsonrpc"], "2.0", "{reply:?}");
    assert!(body["error"]["message"].is_string(), "{reply:?}");
    body["error"]["code"].as_i64().unwrap()
}

fn ping() -> String {
    request(&json!(5), "ping", &json!({}))
}

#[test]
fn a_request_without_session_is_400_and_with_an_unknown_one_404() {
    let rig = rig();
    let mut client = rig.connect();
    let list = request(&json!("one"), "tools/list", &json!({}));
    let reply = client.exchange(&Request::post("/mcp", list.clone()));
    assert_eq!(reply.status(), 400, "{reply:?}");
    code(&reply);
    for id in [
        "no-such-session",
        "stream-00000000-0000-0000-0000-000000000000",
    ] {
        let stranger = |request: Request| request.with("Mcp-Session-Id", id);
        let reply = client.exchange(&stranger(Request::post("/mcp", list.clone())));
        assert_eq!(reply.status(), 404, "{reply:?}");
        code(&reply);
        assert_eq!(
            client.exchange(&stranger(Request::listen("/mcp"))).status(),
            404
        );
        let delete = stranger(Request::new("DELETE", "/mcp"));
        assert_eq!(client.exchange(&delete).status(), 404);
    }
    assert_eq!(client.exchange(&Request::listen("/mcp")).status(), 400);
    assert_eq!(
        client.exchange(&Request::new("DELETE", "/mcp")).status(),
        400
    );
    rig.stop();
}

#[test]
fn unknown_paths_are_404() {
    let rig = rig();
    for path in ["/", "/mcp/nobody", "/mcp/ev/more", "/mcpx", "/sse/x"] {
        let hello = initialize("2025-11-25", &json!({}));
        let reply = rig.connect().exchange(&Request::post(path, hello));
        assert_eq!(reply.status(), 404, "{path}: {reply:?}");
    }
    rig.stop();
}

#[test]
fn other_methods_are_405_and_name_what_is_allowed() {
    let rig = rig();
    let mut client = rig.connect();
    for method in ["PUT", "PATCH"] {
        let reply = client.exchange(&Request::new(method, "/mcp"));
        assert_eq!(reply.status(), 405, "{method}");
        let allowed = reply.head.header("Allow").unwrap();
        for known in ["GET", "POST", "DELETE"] {
            assert!(allowed.contains(known), "{allowed}");
        }
    }
    rig.stop();
}

#[test]
fn a_client_that_takes_neither_form_is_406() {
    let rig = rig();
    let mut session = rig.session();
    for accept in ["text/html", "application/xml, image/*"] {
        let request = session.sign(Request::post("/mcp", ping()).with("Accept", accept));
        let reply = rig.connect().exchange(&request);
        assert_eq!(reply.status(), 406, "{accept}");
        code(&reply);
    }
    for accept in ["application/json", "text/html"] {
        let request = session.sign(Request::listen("/mcp").with("Accept", accept));
        assert_eq!(
            rig.connect().exchange(&request).status(),
            406,
            "GET {accept}"
        );
    }
    for accept in [
        "*/*",
        "application/*, text/*",
        "TEXT/Event-Stream;q=0.5, application/json",
    ] {
        let request = session.sign(Request::post("/mcp", ping()).with("Accept", accept));
        assert_eq!(rig.connect().exchange(&request).status(), 200, "{accept}");
    }
    session.get("ping", json!({}));
    rig.stop();
}

#[test]
fn another_content_type_is_415() {
    let rig = rig();
    let session = rig.session();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
    ] {
        let request = session.sign(Request::post("/mcp", ping()).with("Content-Type", kind));
        let reply = rig.connect().exchange(&request);
        assert_eq!(reply.status(), 415, "{kind}");
        code(&reply);
    }
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        let request = session.sign(Request::post("/mcp", ping()).with("Content-Type", kind));
        assert_eq!(rig.connect().exchange(&request).status(), 200, "{kind}");
    }
    rig.stop();
}

#[test]
fn a_body_over_the_cap_is_413_and_the_next_one_is_served() {
    let servers = json!({"ev": everything(&[])});
    let rig = Plan::new(servers)
        .set("maxBodyBytes", json!(10_000))
        .start();
    let mut session = rig.session();
    let large = request(&json!(7), "ping", &json!({"x": "y".repeat(20_000)}));
    let reply = rig
        .connect()
        .exchange(&session.sign(Request::post("/mcp", large)));
    assert_eq!(reply.status(), 413);
    assert_eq!(session.get("ping", json!({})), json!({}));
    rig.stop();
}

#[test]
fn what_is_no_message_is_400_with_the_code_of_the_mistake() {
    let rig = rig();
    let mut session = rig.session();
    let cases = [
        ("", PARSE_ERROR),
        ("{", PARSE_ERROR),
        ("nonsense", PARSE_ERROR),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} x",
            PARSE_ERROR,
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",}",
            PARSE_ERROR,
        ),
        (
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
            PARSE_ERROR,
        ),
        ("7", INVALID_REQUEST),
        ("\"ping\"", INVALID_REQUEST),
        ("null", INVALID_REQUEST),
        ("{}", INVALID_REQUEST),
        ("{\"id\":1,\"method\":\"ping\"}", INVALID_REQUEST),
        (
            "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}",
            INVALID_REQUEST,
        ),
        ("{\"jsonrpc\":\"2.0\",\"id\":1}", INVALID_REQUEST),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}",
            INVALID_REQUEST,
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}",
            INVALID_REQUEST,
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"ping\"}",
            INVALID_REQUEST,
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}",
            INVALID_REQUEST,
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":[1],\"method\":\"ping\"}",
            INVALID_REQUEST,
        ),
    ];
    for (body, expected) in cases {
        let reply = session.post(body);
        assert_eq!(
            (reply.status(), code(&reply)),
            (400, expected),
            "{body}: {reply:?}"
        );
    }
    let broken = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec();
    let reply = session.post(broken);
    assert_eq!((reply.status(), code(&reply)), (400, PARSE_ERROR));
    assert_eq!(session.get("ping", json!({})), json!({}));
    rig.stop();
}

#[test]
fn the_members_of_an_envelope_must_not_stand_twice() {
    let rig = rig();
    let mut session = rig.session();
    let bodies = [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{}}"#,
    ];
    for body in bodies {
        let reply = session.post(body);
        assert_eq!(reply.status(), 400, "{body}: {reply:?}");
        code(&reply);
    }
    let arguments = r#""arguments":{"text":"x"}"#;
    let call = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
    };
    let bodies = [
        call(&format!(
            r#"{{"name":"ev_1mcp_echo","name":"ev_1mcp_crash",{arguments}}}"#
        )),
        call(&format!(
            r#"{{"name":"ev_1mcp_echo","n\u0061me":"ev_1mcp_crash",{arguments}}}"#
        )),
        call(&format!(
            r#"{{"name":"ev_1mcp_echo",{arguments},"_meta":{{}},"_meta":{{}}}}"#
        )),
    ];
    for body in bodies {
        let reply = session.post(body.clone());
        assert!(matches!(reply.status(), 200 | 400), "{reply:?}");
        assert!(matches!(code(&reply), -32602 | -32600), "{body}: {reply:?}");
    }
    rig.stop();
}

#[test]
fn nesting_has_a_bound_and_costs_nothing() {
    let rig = rig();
    let mut session = rig.session();
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let params =
            format!(r#"{{"name":"ev_1mcp_raw_params","arguments":{{"x":{open}{close}}}}}"#);
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
    };
    let reply = session.post(nested(100));
    assert!(reply.messages()[0]["result"].is_object(), "{reply:?}");
    for depth in [200, 1_000_000] {
        let reply = session.post(nested(depth));
        assert_eq!(reply.status(), 400);
        code(&reply);
    }
    assert_eq!(session.get("ping", json!({})), json!({}));
    rig.stop();
}

#[test]
fn an_unsupported_revision_in_the_header_is_400() {
    let rig = rig();
    let session = rig.session();
    for revision in ["1999-01-01", "latest", "2025-11-25x"] {
        let request = session
            .sign(Request::post("/mcp", ping()))
            .with("MCP-Protocol-Version", revision);
        let reply = rig.connect().exchange(&request);
        assert_eq!(reply.status(), 400, "{revision}");
        code(&reply);
    }
    rig.stop();
}

#[test]
fn unknown_methods_and_tools_are_protocol_errors() {
    let rig = rig();
    let mut session = rig.session();
    assert_eq!(session.refused("no/such", json!({}))["code"], -32601);
    assert_eq!(
        session.refused("server/discover", json!({}))["code"],
        -32601
    );
    let unknown = session.refused(
        "tools/call",
        json!({"name": "ev_1mcp_none", "arguments": {}}),
    );
    assert_eq!(unknown["code"], -32602, "{unknown}");
    let bare = session.refused("tools/call", json!({"name": "echo", "arguments": {}}));
    assert_eq!(bare["code"], -32602, "{bare}");
    let prompt = session.refused("prompts/get", json!({"name": "ev_1mcp_none"}));
    assert_eq!(prompt["code"], -32602, "{prompt}");
    let nameless = session.refused("tools/call", json!({"arguments": {}}));
    assert_eq!(nameless["code"], -32602, "{nameless}");
    rig.stop();
}

#[test]
fn notifications_and_stray_answers_get_no_body() {
    let rig = rig();
    let mut session = rig.session();
    session.notify("notifications/whatever", json!({"x": 1}));
    session.notify("notifications/cancelled", json!({"requestId": 4711}));
    session.notify("notifications/cancelled", json!({"requestId": "4711"}));
    let stray = json!({"jsonrpc": "2.0", "id": 99, "result": {}}).to_string();
    let reply = session.post(stray);
    assert!((202..500).contains(&reply.status()), "{reply:?}");
    assert_eq!(session.get("ping", json!({})), json!({}));
    rig.stop();
}

#[test]
fn initialize_takes_no_session_and_gives_a_long_unguessable_one() {
    let rig = rig();
    let ids: Vec<String> = (0..20).map(|_| rig.session().id).collect();
    for id in &ids {
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
        let digits = id.bytes().filter(u8::is_ascii_hexdigit).count();
        assert!(digits >= 32, "fewer than 128 bits: {id}");
    }
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    rig.stop();
}

#[test]
fn a_session_id_of_the_clients_choice_is_not_taken() {
    let rig = rig();
    let hello = initialize("2025-11-25", &json!({}));
    let request = Request::post("/mcp", hello).with("Mcp-Session-Id", "chosen");
    let reply = rig.connect().exchange(&request);
    assert_ne!(reply.head.header("Mcp-Session-Id"), Some("chosen"));
    let list = Request::post("/mcp", ping()).with("Mcp-Session-Id", "chosen");
    assert_eq!(rig.connect().exchange(&list).status(), 404);
    rig.stop();
}

#[test]
fn initialize_offers_a_revision_it_speaks() {
    let rig = rig();
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        assert_eq!(rig.session_of(revision).revision, revision);
    }
    for revision in ["2026-07-28", "1999-01-01", "x"] {
        assert_eq!(
            rig.session_of(revision).revision,
            "2025-11-25",
            "{revision}"
        );
    }
    let welcome: Value = rig.session().welcome;
    let instructions = welcome["instructions"].as_str().unwrap();
    assert!(instructions.contains("ev"), "{instructions}");
    for capability in ["tools", "prompts", "resources", "logging", "completions"] {
        assert!(welcome["capabilities"][capability].is_object(), "{welcome}");
    }
    rig.stop();
}
