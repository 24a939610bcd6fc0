use std::path::Path;

use super::{RemoteKind, RemoteSpec};
use crate::base::secret::Secret;
use crate::config::Environment;
use crate::config::check::{Checked, Given, check as check_sources};
use crate::config::server::ServerState;
use crate::config::settings::Flags;
use crate::config::sources::{Source, Sources};
use crate::net::proxy::ProxyChoice;
use crate::secrets::store::Store;

fn read(text: &str) -> Checked {
    let mut environment = Environment::new();
    for (name, value) in [
        ("TOKEN", "hunter2\n"),
        ("HOST", "h.example"),
        ("BAD", "a\r\nX: y"),
    ] {
        environment.insert(name.to_owned(), value.to_owned());
    }
    let base = Source {
        file: "mcp.json".to_owned(),
        text: text.to_owned(),
    };
    let sources = Sources {
        base: Some(base),
        ..Sources::default()
    };
    check_sources(
        &sources,
        &Given {
            flags: &Flags::default(),
            environment: &environment,
            folder: Path::new("/etc/onemcp"),
            secrets: Some(&Store::default()),
        },
    )
}

fn entry(text: &str) -> Checked {
    read(&format!("{{\"mcpServers\": {{\"a\": {text}}}}}"))
}

fn found(checked: &Checked) -> Vec<String> {
    checked.problems.iter().map(ToString::to_string).collect()
}

fn spec(text: &str) -> RemoteSpec {
    let mut checked = entry(text);
    assert!(checked.problems.is_empty(), "{text}: {:?}", found(&checked));
    assert_eq!(checked.servers[0].process, None);
    checked.servers[0].remote.take().expect(text)
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[test]
fn the_type_says_what_is_spoken() {
    let check = |text: &str, expect: RemoteKind| assert_eq!(spec(text).kind, expect, "{text}");
    check(r#"{"url": "http://h/mcp"}"#, RemoteKind::Auto);
    check(r#"{"url": "http://h/sse"}"#, RemoteKind::Auto);
    check(r#"{"type": "http", "url": "http://h"}"#, RemoteKind::Auto);
    for kind in ["streamableHttp", "streamable-http", "streamable_http"] {
        let text = format!(r#"{{"type": "{kind}", "url": "http://h"}}"#);
        check(&text, RemoteKind::Streamable);
    }
    check(r#"{"type": "sse", "url": "http://h"}"#, RemoteKind::Sse);
}

#[test]
fn everything_is_expanded() {
    let spec = spec(
        r#"{"url": " https://${HOST}:8443/mcp?key=${NOPE:-x}#part ", "caFile": "ca/${HOST}.pem",
            "headers": {"Authorization": "Bearer ${TOKEN}", "x-plain": ""},
            "proxy": "http://u:${NOPE:-p}@proxy:3128"}"#,
    );
    assert_eq!(spec.url, "https://h.example:8443/mcp?key=x");
    assert_eq!(
        spec.ca_file.as_deref(),
        Some(Path::new("/etc/onemcp/ca/h.example.pem"))
    );
    let headers = [
        ("Authorization".to_owned(), secret("Bearer hunter2")),
        ("x-plain".to_owned(), secret("")),
    ];
    assert_eq!(spec.headers, headers);
    assert_eq!(
        spec.proxy,
        ProxyChoice::Url(secret("http://u:p@proxy:3128"))
    );
}

#[test]
fn proxies() {
    let check = |text: &str, expect: ProxyChoice| {
        let text = format!(r#"{{"url": "http://h", "proxy": "{text}"}}"#);
        assert_eq!(spec(&text).proxy, expect, "{text}");
    };
    check("none", ProxyChoice::None);
    check("environment", ProxyChoice::Environment);
    check(
        "http://[::1]:3128",
        ProxyChoice::Url(secret("http://[::1]:3128")),
    );
    assert_eq!(spec(r#"{"url": "http://h"}"#).proxy, ProxyChoice::None);
}

#[test]
fn headers_of_the_defaults_are_replaced_whole_and_only_sent_over_http() {
    let names = |own: &str| {
        let text = format!(
            r#"{{"serverDefaults": {{"headers": {{"A": "1", "B": "2"}}}},
                "mcpServers": {{"a": {{"url": "http://h"{own}}}, "b": {{"command": "x"}}}}}}"#
        );
        let checked = read(&text);
        assert!(checked.problems.is_empty(), "{:?}", found(&checked));
        let remote = checked.servers[0].remote.clone().unwrap();
        let names = remote.headers.into_iter().map(|(name, _)| name);
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(""), "A B");
    assert_eq!(names(r#", "headers": {"C": "3"}"#), "C");
    assert_eq!(names(r#", "headers": {}"#), "");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let check = |text: &str, expect: &str| {
        let checked = entry(text);
        let errors = checked.problems.iter().filter(|problem| problem.is_error());
        let errors: Vec<String> = errors.map(ToString::to_string).collect();
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].starts_with("mcp.json:1:"), "{text}: {errors:?}");
        assert!(errors[0].contains(expect), "{text}: {errors:?}");
        let server = &checked.servers[0];
        assert!(matches!(server.state, ServerState::Invalid(_)), "{text}");
        assert_eq!((&server.process, &server.remote), (&None, &None), "{text}");
    };
    check(r#"{"type": "http"}"#, "a: has no url; add");
    check(r#"{"type": "sse", "command": "x"}"#, "a: has no url; add");
    check(r#"{"type": "http", "url": 5}"#, "a.url: expected a string");
    check(
        r#"{"url": "h/mcp"}"#,
        "a.url: is not an absolute URL; write it like",
    );
    check(r#"{"url": "ws://h/mcp"}"#, "a.url: has a scheme other than");
    check(r#"{"url": "http://me:pass@h/"}"#, "in headers instead");
    check(r#"{"url": "http://"}"#, "a.url: names no host");
    check(r#"{"url": "http://h:99999"}"#, "from 1 to 65535");
    check(
        r#"{"url": "http://${NOPE}/mcp"}"#,
        "variable NOPE is not set",
    );
    check(
        r#"{"url": "http://h", "headers": ["A: b"]}"#,
        "headers: expected an object",
    );
    check(
        r#"{"url": "http://h", "headers": {"A": 1}}"#,
        "headers.A: expected a string",
    );
    check(
        r#"{"url": "http://h", "headers": {"A B": "1"}}"#,
        "is not a header name",
    );
    check(
        r#"{"url": "http://h", "headers": {"A": "1", "a": "2"}}"#,
        "sets a header twice",
    );
    check(
        r#"{"url": "http://h", "headers": {"A": "${BAD}"}}"#,
        "holds a control character",
    );
    check(
        r#"{"url": "http://h", "headers": {"A": "é"}}"#,
        "outside ASCII",
    );
    check(
        r#"{"url": "http://h", "proxy": "socks5://p:1"}"#,
        "write none, environment",
    );
    check(
        r#"{"url": "http://h", "proxy": "http://p/path"}"#,
        "write none, environment",
    );
    check(
        r#"{"url": "http://h", "proxy": "system"}"#,
        "write none, environment",
    );
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let check = |text: &str, expect: &str| {
        let checked = entry(text);
        let found = found(&checked);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(!checked.problems[0].is_error(), "{text}: {found:?}");
        assert!(found[0].contains(expect), "{text}: {found:?}");
        assert_eq!(checked.servers[0].state, ServerState::Enabled, "{text}");
    };
    check(
        r#"{"url": "http://h", "env": {"A": "1"}}"#,
        "a.env: has no effect on a server with",
    );
    check(
        r#"{"type": "http", "url": "http://h", "command": "x"}"#,
        "a.command: has no effect on a server with a url",
    );
    check(
        r#"{"command": "x", "url": "http://h"}"#,
        "a.url: has no effect on a server with a command",
    );
    check(
        r#"{"url": "http://h", "oauth": {"clientID": "x"}}"#,
        "a.oauth.clientID: unknown key",
    );
    for name in [
        "Host",
        "content-length",
        "MCP-Session-Id",
        "Accept",
        "Mcp-Param-x",
    ] {
        let text = format!(r#"{{"url": "http://h", "headers": {{"{name}": "1"}}}}"#);
        check(&text, "is not sent; remove it");
        assert_eq!(entry(&text).servers[0].remote.as_ref().unwrap().headers, []);
    }
}

#[test]
fn secrets_stay_out_of_problems_and_debug() {
    let checked = entry(
        r#"{"url": "https://h/s3cret?key=s3cret", "proxy": "http://u:s3cret@p:1",
            "headers": {"A": "s3cret", "B": "${TOKEN}"}}"#,
    );
    let shown = format!("{:?} {:?}", checked.problems, checked.servers);
    assert!(shown.contains("https://h"), "{shown}");
    assert!(
        !shown.contains("s3cret") && !shown.contains("hunter2"),
        "{shown}"
    );
    for bad in [
        "s3cret://h",
        "http://s3cret@h",
        "http://h:s3cret",
        "http://h/ s3cret",
    ] {
        let checked = entry(&format!(
            r#"{{"url": "{bad}", "headers": {{"A": "s3cret\n!"}}}}"#
        ));
        assert!(!checked.problems.is_empty());
        assert!(!format!("{checked:?}", checked = checked.problems).contains("s3cret"));
    }
}

#[test]
fn what_cannot_be_a_login_is_refused() {
    let check = |text: &str, expect: &str| {
        let checked = entry(text);
        let found = found(&checked);
        assert!(checked.problems[0].is_error(), "{text}: {found:?}");
        assert!(found[0].contains(expect), "{text}: {found:?}");
    };
    check(
        r#"{"url": "http://h", "oauth": {"grant": "password"}}"#,
        "write authorization_code or client_credentials",
    );
    check(
        r#"{"url": "http://h", "oauth": {"scopes": ["a b"]}}"#,
        "is no scope",
    );
    check(
        r#"{"url": "http://h", "forwardHeaders": ["Authorization"]}"#,
        "never handed on",
    );
    check(
        r#"{"url": "http://h", "headerMap": {"X-User": "Cookie"}}"#,
        "never handed on",
    );
}
