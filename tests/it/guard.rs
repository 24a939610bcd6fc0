//! Host and Origin: web pages and rebound names do not get in.

use serde_json::json;

use crate::support::http::Request;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::everything;
use crate::support::session::initialize;

fn hello() -> Request {
    Request::post("/mcp", initialize("2025-11-25", &json!({})))
}

fn status(rig: &Rig, request: &Request) -> u16 {
    rig.connect().exchange(request).status()
}

#[test]
fn only_known_hosts_pass() {
    let servers = json!({"ev": everything(&[])});
    let rig = Plan::new(servers)
        .arg("--allowed-hosts=gateway.example")
        .start();
    for host in [
        "localhost",
        "LOCALHOST:80",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:3050",
        "gateway.example",
        "Gateway.Example:8443",
    ] {
        assert_eq!(status(&rig, &hello().with("Host", host)), 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:3050",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "gateway.example.evil.example",
        "notgateway.example",
    ] {
        let request = hello().with("Host", host);
        assert_eq!(status(&rig, &request), 403, "{host}");
        let listen = Request::listen("/mcp").with("Host", host);
        assert_eq!(status(&rig, &listen), 403, "{host}");
        let probe = Request::new("GET", "/health/live").with("Host", host);
        assert_eq!(status(&rig, &probe), 200, "{host}");
    }
    // A probe under a foreign name learns nothing but the state.
    let health = Request::new("GET", "/health").with("Host", "evil.example");
    let text = rig.connect().exchange(&health).text;
    assert!(!text.contains("\"ev\""), "{text}");
    rig.stop();
}

#[test]
fn only_known_origins_pass_and_are_told_so() {
    let servers = json!({"ev": everything(&[])});
    let rig = Plan::new(servers)
        .arg("--allowed-origins=https://app.example")
        .start();
    for origin in [
        "https://app.example",
        "http://localhost:5173",
        "http://127.0.0.1",
        "http://[::1]:9",
    ] {
        let reply = rig.connect().exchange(&hello().with("Origin", origin));
        assert_eq!(reply.status(), 200, "{origin}");
        assert_eq!(
            reply.head.header("Access-Control-Allow-Origin"),
            Some(origin)
        );
        let exposed = reply.head.header("Access-Control-Expose-Headers").unwrap();
        assert!(
            exposed.to_ascii_lowercase().contains("mcp-session-id"),
            "{exposed}"
        );
    }
    for origin in [
        "null",
        "https://evil.example",
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil.example",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "https://app.example, https://evil.example",
        "file://",
    ] {
        let reply = rig.connect().exchange(&hello().with("Origin", origin));
        assert_eq!(reply.status(), 403, "{origin}");
        assert_eq!(
            reply.head.header("Access-Control-Allow-Origin"),
            None,
            "{origin}"
        );
        assert_eq!(reply.head.header("Mcp-Session-Id"), None);
        let listen = Request::listen("/mcp").with("Origin", origin);
        assert_eq!(status(&rig, &listen), 403, "{origin}");
    }
    rig.stop();
}

#[test]
fn a_page_that_asks_first_is_answered() {
    let rig = Rig::start(json!({"ev": everything(&[])}));
    let preflight = Request::new("OPTIONS", "/mcp")
        .with("Origin", "http://localhost:5173")
        .with("Access-Control-Request-Method", "POST")
        .with(
            "Access-Control-Request-Headers",
            "content-type,mcp-session-id",
        );
    let reply = rig.connect().exchange(&preflight);
    assert_eq!(reply.status() / 100, 2);
    let allowed = reply
        .head
        .header("Access-Control-Allow-Headers")
        .unwrap()
        .to_ascii_lowercase();
    for header in [
        "content-type",
        "mcp-session-id",
        "mcp-protocol-version",
        "last-event-id",
    ] {
        assert!(allowed.contains(header), "{allowed}");
    }
    let foreign = preflight.with("Origin", "https://evil.example");
    let reply = rig.connect().exchange(&foreign);
    assert_eq!(reply.head.header("Access-Control-Allow-Origin"), None);
    rig.stop();
}
