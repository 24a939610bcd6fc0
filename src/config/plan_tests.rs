use std::path::Path;

use super::{Change, Plan, plan};
use crate::config::check::{Given, check};
use crate::config::preset;
use crate::config::settings::{Flags, SETTINGS};
use crate::config::sources::{Source, Sources};
use crate::config::{Config, Environment};
use crate::secrets::store::Store;

/// The configuration of these servers and settings.
fn config(servers: &str, gateway: &str) -> Config {
    let text = format!("{{\"mcpServers\": {{{servers}}}, \"gateway\": {{{gateway}}}}}");
    let base = Source {
        file: "mcp.json".to_owned(),
        text,
    };
    let sources = Sources {
        base: Some(base),
        ..Sources::default()
    };
    let environment = Environment::from([("TOKEN".to_owned(), "hunter2".to_owned())]);
    let given = Given {
        flags: &Flags::default(),
        environment: &environment,
        folder: Path::new("/etc/onemcp"),
        secrets: Some(&Store::default()),
    };
    let checked = check(&sources, &given);
    let mut problems = checked.problems;
    Config {
        path: None,
        settings: checked.settings,
        servers: checked.servers,
        otlp_headers: checked.otlp_headers,
        audit_headers: checked.audit_headers,
        presets: preset::read("presets.json", "{}", &mut problems).unwrap(),
        alerts: crate::config::alerts::AlertSpec::default(),
        auth_server: checked.auth_server,
        store: checked.store,
        presets_lost: false,
        watched: Vec::new(),
        problems,
    }
}

fn words(change: &Change) -> String {
    match change {
        Change::Keep => "keep".to_owned(),
        Change::Metadata(fields) => format!("metadata {}", fields.join(" ")),
        Change::Replace(fields) => format!("replace {}", fields.join(" ")),
        Change::Add => "add".to_owned(),
        Change::Remove => "remove".to_owned(),
    }
}

fn shown(plan: &Plan) -> String {
    let servers = plan.servers.iter();
    let servers = servers.map(|(name, change)| format!("{name}: {}", words(change)));
    servers.collect::<Vec<_>>().join("; ")
}

/// The change of a server `a` whose entry goes from the one text to the other.
fn check_entry(old: &str, new: &str, expect: &str) {
    let entry = |text: &str| config(&format!("\"a\": {{{text}}}"), "");
    let found = plan(&entry(old), &entry(new));
    assert_eq!(shown(&found), format!("a: {expect}"), "{old} -> {new}");
    assert_eq!(found.is_empty(), expect == "keep", "{old} -> {new}");
    assert!(found.settings.is_empty() && !found.order && !found.presets);
}

#[test]
fn what_a_process_is_started_with_replaces_it() {
    let check = |old: &str, new: &str, expect: &str| {
        let command = |more: &str| format!("\"command\": \"x\"{more}");
        check_entry(&command(old), &command(new), expect);
    };
    check("", "", "keep");
    check("", r#", "args": ["1"]"#, "replace args");
    check("", r#", "env": {"A": "1"}"#, "replace env");
    check(
        r#", "env": {"A": "1", "B": "2"}"#,
        r#", "env": {"B": "2", "A": "1"}"#,
        "keep",
    );
    check(
        r#", "env": {"A": "${TOKEN}"}"#,
        r#", "env": {"A": "hunter2"}"#,
        "keep",
    );
    check("", r#", "cwd": "w""#, "replace cwd");
    check(
        "",
        r#", "connectionTimeout": 5"#,
        "replace connectionTimeout",
    );
    check("", r#", "connectionTimeout": 60000"#, "keep");
    check("", r#", "requestTimeout": 5"#, "replace requestTimeout");
    check(
        "",
        r#", "instances": "session""#,
        "replace instances maxInstances",
    );
    check(
        "",
        r#", "instanceIdleTimeout": 5"#,
        "replace instanceIdleTimeout",
    );
    check("", r#", "restartOnExit": false"#, "replace restartOnExit");
    check("", r#", "maxRestarts": 1"#, "replace maxRestarts");
    check("", r#", "restartDelay": 99"#, "replace restartDelay");
    check("", r#", "args": ["1"], "tags": ["t"]"#, "replace args tags");
    check_entry(r#""command": "x""#, r#""command": "y""#, "replace command");
    check_entry(
        r#""command": ["x", "1"]"#,
        r#""command": "x", "args": ["1"]"#,
        "keep",
    );
    check_entry(
        r#""command": "x""#,
        r#""url": "http://h/""#,
        "replace command url",
    );
}

#[test]
fn what_a_connection_is_made_with_replaces_it() {
    let check = |old: &str, new: &str, expect: &str| {
        let url = |more: &str| format!("\"url\": \"http://h/\"{more}");
        check_entry(&url(old), &url(new), expect);
    };
    check("", "", "keep");
    check("", r#", "type": "sse""#, "replace type");
    check("", r#", "oauth": {"clientId": "x"}"#, "replace oauth");
    check(
        r#", "oauth": {"clientId": "x", "clientSecret": "1"}"#,
        r#", "oauth": {"clientId": "x", "clientSecret": "2"}"#,
        "replace oauth",
    );
    check(
        "",
        r#", "forwardHeaders": ["X-Trace"]"#,
        "replace forwardHeaders",
    );
    check(
        r#", "headerMap": {"X-A": "X-B"}"#,
        r#", "headerMap": {"X-A": "X-C"}"#,
        "replace forwardHeaders",
    );
    check("", r#", "headers": {"A": "1"}"#, "replace headers");
    check(
        r#", "headers": {"A": "1", "B": "2"}"#,
        r#", "headers": {"b": "2", "a": "1"}"#,
        "keep",
    );
    check("", r#", "caFile": "ca.pem""#, "replace caFile");
    check("", r#", "proxy": "environment""#, "replace proxy");
    check_entry(
        r#""url": "http://h/""#,
        r#""url": "http://h/x""#,
        "replace url",
    );
}

#[test]
fn metadata_leaves_the_process_alone() {
    let check = |old: &str, new: &str, expect: &str| {
        let command = |more: &str| format!("\"command\": \"x\"{more}");
        check_entry(&command(old), &command(new), expect);
    };
    check("", r#", "tags": ["t"]"#, "metadata tags");
    check(r#", "tags": ["T"]"#, r#", "tags": ["t"]"#, "keep");
    check("", r#", "disabledTools": ["t"]"#, "metadata disabledTools");
    check(
        "",
        r#", "instructionOverride": """#,
        "metadata instructionOverride",
    );
    let overrides = r#", "toolDescriptionOverrides": {"t": "d"}"#;
    check("", overrides, "metadata toolDescriptionOverrides");
    check("", r#", "required": true"#, "metadata required");
    check(
        "",
        r#", "required": true, "tags": ["t"]"#,
        "metadata tags required",
    );
}

#[test]
fn servers_come_go_and_are_switched() {
    let check = |old: &str, new: &str, order: bool, expect: &str| {
        let servers = |text: &str| {
            let entries = text
                .split_whitespace()
                .map(|word| match word.split_once('-') {
                    Some((name, "off")) => {
                        format!("\"{name}\": {{\"command\": \"x\", \"disabled\": true}}")
                    }
                    Some((name, "off2")) => {
                        format!("\"{name}\": {{\"command\": \"y\", \"disabled\": true}}")
                    }
                    Some((name, _)) => format!("\"{name}\": {{\"command\": 5}}"),
                    None => format!("\"{word}\": {{\"command\": \"x\"}}"),
                });
            config(&entries.collect::<Vec<_>>().join(","), "")
        };
        let found = plan(&servers(old), &servers(new));
        assert_eq!(shown(&found), expect, "{old} -> {new}");
        assert_eq!(found.order, order, "{old} -> {new}");
        let same = old.split(' ').eq(new.split(' '));
        assert_eq!(found.is_empty(), same, "{old} -> {new}");
    };
    check("a b", "a b", false, "a: keep; b: keep");
    check("a", "a b", false, "a: keep; b: add");
    check("a b", "b", false, "b: keep; a: remove");
    check("a b", "b a", true, "b: keep; a: keep");
    check(
        "a b c",
        "x c a",
        true,
        "x: add; c: keep; a: keep; b: remove",
    );
    check("a", "a-off", false, "a: remove");
    check("a-off", "a", false, "a: add");
    check("a-off", "a-off", false, "a: keep");
    check("a-off", "a-off2", false, "a: metadata command");
    check("a", "a-bad", false, "a: remove");
    check("a-bad", "a", false, "a: add");
    check("a-off", "a-bad", false, "a: replace disabled");
    check("", "a-off", false, "a: add");
    check("a-bad", "a-bad", false, "a: keep");
}

#[test]
fn settings_say_whether_they_wait_for_a_restart() {
    let check = |old: &str, new: &str, reloaded: &str, waiting: &str| {
        let found = plan(&config("", old), &config("", new));
        let now = found.settings.iter().filter(|change| change.reloadable);
        let now: Vec<&str> = now.map(|change| change.key).collect();
        assert_eq!(now.join(" "), reloaded, "{old} -> {new}");
        assert_eq!(found.needs_restart().join(" "), waiting, "{old} -> {new}");
        let none = reloaded.is_empty() && waiting.is_empty();
        assert_eq!(found.is_empty(), none, "{old} -> {new}");
    };
    check("", "", "", "");
    check("", r#""port": 3050"#, "", "");
    check("", r#""port": 3051"#, "", "port");
    check(r#""port": 3051"#, "", "", "port");
    check("", r#""pageSize": 5, "host": "::1""#, "pageSize", "host");
    check(
        "",
        r#""naming": {"separator": "__"}"#,
        "naming.separator",
        "",
    );
    check(
        r#""logLevel": "debug""#,
        r#""logging": {"level": "debug"}"#,
        "",
        "",
    );
    check("", r#""filter": "a""#, "filter", "");
    check(
        "",
        r#""allowUnauthenticated": true"#,
        "",
        "allowUnauthenticated",
    );
    check(r#""trustProxy": "true""#, "", "", "trustProxy");
}

#[test]
fn what_can_be_reloaded_is_this() {
    let reloadable = SETTINGS.iter().filter(|row| row.reloadable);
    let flags: Vec<&str> = reloadable.map(|row| row.flag).collect();
    let expect = "filter log-level auth-baseline-scopes auth-rate-limit \
                  auth-concurrency rate-limit-window rate-limit-max naming-separator \
                  naming-prefix naming-max-length tool-pins strip-invisible page-size \
                  health-info-level ready-policy async-batch-delay async-max-delay \
                  async-batch-notifications async-notify-on-snapshot async-notify-on-ready \
                  drain-delay shutdown-timeout config-reload-debounce log-modules enable-traces \
                  enable-otlp-metrics otlp-headers otlp-trace-percent enable-alerts alerts \
                  secrets-refresh enable-env-substitution enable-client-notifications \
                  enable-sse";
    assert_eq!(flags.join(" "), expect);
}

#[test]
fn presets_that_cannot_be_read_are_kept() {
    let (mut old, mut new) = (config("", ""), config("", ""));
    let text = r#"{"presets": {"p": {"tagQuery": {"tag": "a"}}}}"#;
    old.presets = preset::read("presets.json", text, &mut Vec::new()).unwrap();
    assert!(plan(&old, &new).presets);
    new.keep_lost_presets(&old);
    assert!(plan(&old, &new).presets);
    new.presets_lost = true;
    new.keep_lost_presets(&old);
    assert!(plan(&old, &new).is_empty());
}

#[test]
fn no_value_is_in_a_plan() {
    let entry = |secret: &str| {
        let env = format!(r#""env": {{"A": "{secret}"}}, "args": ["{secret}"]"#);
        let remote = format!(r#""url": "http://h/{secret}", "headers": {{"A": "{secret}"}}"#);
        config(
            &format!(r#""a": {{"command": "x", {env}}}, "b": {{{remote}}}"#),
            "",
        )
    };
    let found = plan(&entry("hunter1"), &entry("hunter2"));
    assert_eq!(shown(&found), "a: replace args env; b: replace url headers");
    let text = serde_json::to_string(&found).unwrap() + &format!("{found:?}");
    assert!(!text.contains("hunter"), "{text}");
    assert!(
        text.contains(r#"["a",{"change":"replace","fields":["args","env"]}]"#),
        "{text}"
    );
}
