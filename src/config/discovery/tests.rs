use serde_json::{Map, Value, json};

use crate::config::discovery::{SourceSpec, check, entry, sources};
use crate::config::document::{Lines, Node, Notes, parse};
use crate::config::problem::Scope;
use crate::config::settings::Settings;

fn problems(text: &str) -> Vec<String> {
    let lines = Lines::new("f", text);
    let mut notes = Notes::new(Scope::File);
    let value = parse(&lines, &mut notes).unwrap();
    check(&Node::root(&lines, &value), &mut notes);
    notes.problems.iter().map(ToString::to_string).collect()
}

fn specs(text: &str) -> Vec<SourceSpec> {
    assert_eq!(problems(text), Vec::<String>::new());
    let mut settings = Settings::default();
    settings.discovery = Some(text.to_owned());
    sources(&settings)
}

#[test]
fn a_source_is_named_or_typed() {
    let text = r#"{
        "directory": {"path": "d", "tags": ["A", "a"], "keepFor": 5},
        "srv": {"type": "dns", "srv": "_MCP._tcp.example.com.", "allow": ["10.1.0.0/16"]}
    }"#;
    let specs = specs(text);
    let words = specs.iter().map(|spec| spec.source.word());
    assert_eq!(words.collect::<Vec<_>>(), ["directory", "dns"]);
    assert_eq!(specs[0].tags, ["a"]);
    assert_eq!(specs[0].keep_for.as_millis(), 5);
    assert!(specs[0].allow.len() > 5 && specs[1].allow.len() == 1);
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, expect) in [
        (r#"{"a": {}}"#, "f:1:2: a: is no kind of source"),
        (r#"{"a b": {"type": "dns"}}"#, "is no name of a source"),
        (r#"{"directory": {}}"#, "has no path"),
        (
            r#"{"directory": {"path": "d", "pth": 1}}"#,
            "did you mean \"path\"?",
        ),
        (
            r#"{"directory": {"path": "d", "allow": ["*"]}}"#,
            "is no network",
        ),
        (
            r#"{"directory": {"path": "d", "keepFor": -1}}"#,
            "out of range",
        ),
        (r#"{"dns": {}}"#, "has no srv"),
        (r#"{"dns": {"srv": "a b"}}"#, "is no name of DNS"),
        (r#"{"dns": {"srv": "a..b"}}"#, "is no name of DNS"),
        (
            r#"{"dns": {"srv": "a.b", "scheme": "ftp"}}"#,
            "is no scheme",
        ),
        (r#"{"dns": {"srv": "a.b", "path": "mcp"}}"#, "is no path"),
        (
            r#"{"dns": {"srv": "a.b", "nameserver": "x"}}"#,
            "is no address",
        ),
        (r#"{"dns": {"srv": "a.b", "interval": 1}}"#, "out of range"),
        ("[]", "expected an object"),
    ] {
        let found = problems(text).join("\n");
        assert!(found.contains(expect), "{text}: {found}");
    }
}

fn judged(entry: Value) -> Result<String, String> {
    let spec = &specs(r#"{"dns": {"srv": "a.b", "tags": ["t"]}}"#)[0];
    let entry: Map<String, Value> = entry.as_object().unwrap().clone();
    let server = entry::server("n", &entry, spec)?;
    let remote = server.remote.unwrap();
    assert_eq!(remote.within.as_ref(), Some(&spec.allow));
    assert!(server.process.is_none() && remote.headers.is_empty() && !server.required);
    Ok(format!("{} {}", remote.url, server.tags.join(",")))
}

#[test]
fn a_finding_is_an_http_server_or_nothing() {
    let good = judged(json!({"url": "http://10.0.0.1:80/mcp", "tags": ["A"]}));
    assert_eq!(good.unwrap(), "http://10.0.0.1/mcp a,t");
    // A name is judged when it is connected to.
    assert!(judged(json!({"url": "https://a.b/mcp", "requestTimeout": 1000})).is_ok());
    for key in [
        "command",
        "args",
        "env",
        "cwd",
        "headers",
        "caFile",
        "proxy",
        "oauth",
        "forwardHeaders",
        "headerMap",
        "required",
        "dependsOn",
        "instructionOverride",
        "inheritParentEnv",
    ] {
        let mut entry = json!({"url": "http://10.0.0.1/mcp"});
        entry[key] = json!("x");
        let error = judged(entry).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
    for url in [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/",
        "http://8.8.8.8/",
        "http://0.0.0.0/",
        "file:///etc/passwd",
        "unix:///run/x.sock",
        "",
    ] {
        let error = judged(json!({"url": url})).unwrap_err();
        assert!(!error.contains("passwd"), "{error}");
    }
    assert!(judged(json!({"type": "stdio", "url": "http://10.0.0.1/"})).is_err());
    assert!(judged(json!({"type": "http"})).is_err());
    assert!(judged(json!({"url": ["http://10.0.0.1/"]})).is_err());
    let long = "x".repeat(20_000);
    assert!(judged(json!({"url": format!("http://10.0.0.1/{long}")})).is_err());
}
