use std::path::Path;
use std::time::Duration;

use super::{Checked, Given, check as check_sources, decode};
use crate::base::limits;
use crate::config::Environment;
use crate::config::server::{Instances, ServerConfig, ServerState};
use crate::config::settings::Flags;
use crate::config::sources::{Source, Sources};
use crate::model::backoff::RestartPolicy;
use crate::secrets::store::Store;

fn environment() -> Environment {
    let variables = [
        ("PATH", "/bin"),
        ("HOME", "/home/me"),
        ("TOKEN", "hunter2"),
        ("AWS_KEY", "k"),
        ("ONE_MCP_PORT", "1"),
    ];
    variables
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

fn source(file: &str, text: &str) -> Source {
    Source {
        file: file.to_owned(),
        text: text.to_owned(),
    }
}

fn alone(text: &str) -> Sources {
    Sources {
        base: Some(source("mcp.json", text)),
        ..Sources::default()
    }
}

fn judged(sources: &Sources) -> Checked {
    let given = Given {
        flags: &Flags::default(),
        environment: &environment(),
        folder: Path::new("/etc/onemcp"),
        secrets: Some(&Store::default()),
    };
    check_sources(sources, &given)
}

fn read(text: &str) -> Checked {
    judged(&alone(text))
}

/// One server `a` with this entry.
fn entry(text: &str) -> Checked {
    read(&format!("{{\"mcpServers\": {{\"a\": {text}}}}}"))
}

fn server(text: &str) -> ServerConfig {
    let checked = entry(text);
    assert!(
        checked.problems.is_empty(),
        "{text}: {:?}",
        checked.problems
    );
    checked.servers.into_iter().next().unwrap()
}

/// `program arg arg` of the process.
fn command_line(server: &ServerConfig) -> String {
    let process = server.process.as_ref().unwrap();
    let mut words = vec![process.program.clone()];
    words.extend(process.args.iter().cloned());
    words.join(" ")
}

/// `NAME=value NAME=value` of the process, in the order of the names.
fn env_line(server: &ServerConfig) -> String {
    let process = server.process.as_ref().unwrap();
    let env = process
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", value.expose()));
    env.collect::<Vec<_>>().join(" ")
}

fn texts(checked: &Checked) -> Vec<String> {
    checked.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn commands_and_arguments() {
    let check =
        |text: &str, expect: &str| assert_eq!(command_line(&server(text)), expect, "{text}");
    check(r#"{"command": "npx"}"#, "npx");
    check(r#"{"command": "npx", "args": ["-y", "x"]}"#, "npx -y x");
    check(r#"{"command": ["npx", "-y"], "args": ["x"]}"#, "npx -y x");
    check(r#"{"command": ["npx"]}"#, "npx");
    check(r#"{"type": "stdio", "command": "npx"}"#, "npx");
    check(r#"{"command": "npx", "args": []}"#, "npx");
    check(r#"{"command": "npx", "args": null}"#, "npx");
    check(r#"{"command": "/opt/my app/run"}"#, "/opt/my app/run");
    check(
        r#"{"command": "$HOME/bin/x", "args": ["${HOME}", "$${HOME}"]}"#,
        "/home/me/bin/x /home/me ${HOME}",
    );
    check(
        r#"{"command": "x", "args": ["${NOPE:-d}", "${env:HOME}"]}"#,
        "x d /home/me",
    );
    check(
        r#"{"command": "x", "args": ["$(rm -rf /)", "`id`", ";"]}"#,
        "x $(rm -rf /) `id` ;",
    );
    check(
        r#"{"command": "x", "args": ["--root=${ROOT}"], "env": {"ROOT": "/r"}}"#,
        "x --root=/r",
    );
}

#[test]
fn environments() {
    let check = |text: &str, expect: &str| assert_eq!(env_line(&server(text)), expect, "{text}");
    check(r#"{"command": "x"}"#, "HOME=/home/me PATH=/bin");
    check(
        r#"{"command": "x", "env": {"A": "1"}}"#,
        "A=1 HOME=/home/me PATH=/bin",
    );
    check(
        r#"{"command": "x", "env": {"PATH": "/my:${PATH}"}}"#,
        "HOME=/home/me PATH=/my:/bin",
    );
    check(
        r#"{"command": "x", "env": {"A": "1", "B": "${A}2", "C": "${B}3"}}"#,
        "A=1 B=12 C=123 HOME=/home/me PATH=/bin",
    );
    check(
        r#"{"command": "x", "env": ["A=1", "TOKEN", "B=x=y"]}"#,
        "A=1 B=x=y HOME=/home/me PATH=/bin TOKEN=hunter2",
    );
    check(
        r#"{"command": "x", "env": ["ONE_MCP_PORT"], "envFilter": ["PATH"]}"#,
        "ONE_MCP_PORT=1 PATH=/bin",
    );
    check(
        r#"{"command": "x", "inheritParentEnv": true}"#,
        "AWS_KEY=k HOME=/home/me PATH=/bin TOKEN=hunter2",
    );
    check(
        r#"{"command": "x", "inheritParentEnv": true, "envFilter": ["AWS_*", "!HOME"]}"#,
        "AWS_KEY=k",
    );
    check(
        r#"{"command": "x", "env": {"KEY": "${AWS_KEY}"}, "envFilter": ["!*"]}"#,
        "KEY=k",
    );
    check(r#"{"command": "x", "env": {}}"#, "HOME=/home/me PATH=/bin");
}

#[test]
fn other_fields() {
    let one = server(
        r#"{"command": "x", "tags": ["Web", "web", "DB"], "disabledTools": ["t", "u", "t"],
            "instructionOverride": "", "toolDescriptionOverrides": {" t ": "text"},
            "connectionTimeout": 5, "requestTimeout": 6, "instances": "session",
            "restartOnExit": true, "cwd": "sub/${env:TOKEN}"}"#,
    );
    assert_eq!(one.tags, ["web", "db"]);
    assert_eq!(one.disabled_tools.iter().collect::<Vec<_>>(), ["t", "u"]);
    assert_eq!(one.instruction_override.as_deref(), Some(""));
    assert_eq!(one.tool_description_overrides["t"], "text");
    assert_eq!(one.connection_timeout.as_millis(), 5);
    assert_eq!(one.request_timeout.as_millis(), 6);
    assert_eq!(one.instances, Instances::Session);
    let process = one.process.unwrap();
    assert_eq!(
        process.cwd.as_deref(),
        Some(Path::new("/etc/onemcp/sub/hunter2"))
    );
    let plain = server(r#"{"command": "x", "cwd": "/abs"}"#);
    assert_eq!(
        plain.process.unwrap().cwd.as_deref(),
        Some(Path::new("/abs"))
    );
    assert_eq!(plain.connection_timeout, limits::HANDSHAKE_DEADLINE);
    assert_eq!(plain.request_timeout, limits::CALL_DEADLINE);
    assert_eq!(plain.instances, Instances::Auto);
    assert_eq!(plain.max_instances, limits::INSTANCES_PER_POOL);
    assert_eq!(plain.instance_idle, limits::INSTANCE_IDLE);
    assert_eq!(one.max_instances, limits::INSTANCES_PER_SERVER);
    let own = server(
        r#"{"command": "x", "instances": "principal", "maxInstances": 3,
            "instanceIdleTimeout": 7}"#,
    );
    assert_eq!(
        (own.instances, own.max_instances),
        (Instances::Principal, 3)
    );
    assert_eq!(own.instance_idle.as_millis(), 7);
    assert_eq!(plain.state, ServerState::Enabled);
}

#[test]
fn disabled_servers_are_quiet() {
    let check = |value: &str, expect: bool| {
        let text = format!(r#"{{"command": "x", "disabled": {value}}}"#);
        let disabled = server(&text).state == ServerState::Disabled;
        assert_eq!(disabled, expect, "{value}");
    };
    check("true", true);
    check("\"true\"", true);
    check("\"1\"", true);
    check("\"Yes\"", true);
    check("false", false);
    check("\"no\"", false);
    check("\"\"", false);
    check("null", false);
    // What is wrong with it is told, but is no error.
    let broken = entry(r#"{"command": "${NOPE}", "disabled": true}"#);
    assert_eq!(broken.servers[0].state, ServerState::Disabled);
    assert!(!broken.problems[0].is_error());
}

#[test]
fn timeouts_fall_back() {
    let check = |defaults: &str, own: &str, connection: u128, request: u128| {
        let text = format!(
            r#"{{"serverDefaults": {{{defaults}}},
                "mcpServers": {{"a": {{"command": "x"{own}}}}}}}"#
        );
        let checked = read(&text);
        assert!(
            checked.problems.iter().all(|problem| !problem.is_error()),
            "{text}"
        );
        let one = &checked.servers[0];
        let found = (
            one.connection_timeout.as_millis(),
            one.request_timeout.as_millis(),
        );
        assert_eq!(found, (connection, request), "{text}");
    };
    check("", "", 60_000, 60_000);
    check("", r#", "timeout": 5"#, 5, 5);
    check("", r#", "timeout": 5, "requestTimeout": 7"#, 5, 7);
    check(r#""timeout": 3"#, "", 3, 3);
    check(r#""timeout": 3"#, r#", "timeout": 5"#, 5, 5);
    check(r#""requestTimeout": 3"#, "", 60_000, 3);
    check(
        r#""requestTimeout": 3"#,
        r#", "requestTimeout": 4"#,
        60_000,
        4,
    );
    check(r#""requestTimeout": 3"#, r#", "timeout": 5"#, 5, 5);
    check(r#""connectionTimeout": 2, "timeout": 9"#, "", 2, 9);
}

#[test]
fn defaults_are_merged() {
    let check = |defaults: &str, own: &str, expect: &str| {
        let text = format!(
            r#"{{"mcpServers": {{"a": {{"command": "x", {own}}}}},
                "serverDefaults": {{{defaults}}}}}"#
        );
        let checked = read(&text);
        assert!(
            checked.problems.is_empty(),
            "{text}: {:?}",
            checked.problems
        );
        assert_eq!(env_line(&checked.servers[0]), expect, "{text}");
    };
    let none = r#""envFilter": ["!*"]"#;
    check(none, r#""env": {"A": "1"}"#, "A=1");
    check(
        r#""envFilter": ["!*"], "env": {"A": "0", "B": "0"}"#,
        r#""env": {"A": "1"}"#,
        "A=1 B=0",
    );
    check(
        r#""envFilter": ["!*"], "env": {"A": "0"}"#,
        r#""env": {"B": "${A}!"}"#,
        "A=0 B=0!",
    );
    check(
        r#""envFilter": ["!*"], "env": {"A": "0"}"#,
        r#""env": ["B=1"]"#,
        "B=1",
    );
    check(
        r#""envFilter": ["!*"], "env": ["A=0"]"#,
        r#""env": {"B": "1"}"#,
        "B=1",
    );
    check(
        r#""envFilter": ["!*"], "env": ["A=0"]"#,
        r#""tags": []"#,
        "A=0",
    );
    check(
        r#""inheritParentEnv": true, "envFilter": ["!TOKEN"]"#,
        r#""envFilter": ["!PATH"]"#,
        "AWS_KEY=k HOME=/home/me",
    );
    check(
        r#""inheritParentEnv": true"#,
        r#""inheritParentEnv": false"#,
        "HOME=/home/me PATH=/bin",
    );
}

#[test]
fn bad_entries_are_invalid_and_named() {
    let check = |text: &str, expect: &str| {
        let checked = entry(text);
        let found = texts(&checked);
        let errors = checked
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .count();
        assert_eq!(errors, 1, "{text}: {found:?}");
        assert!(checked.problems.iter().all(|problem| !problem.is_fatal()));
        assert!(
            found.iter().any(|one| one.contains(expect)),
            "{text}: {found:?}"
        );
        let one = &checked.servers[0];
        assert!(
            matches!(&one.state, ServerState::Invalid(reason) if !reason.is_empty()),
            "{text}"
        );
        assert_eq!((one.name.as_str(), &one.process), ("a", &None), "{text}");
    };
    check(
        "{}",
        "mcp.json:1:17: mcpServers.a: has neither a command nor a url; add",
    );
    check("[]", "mcpServers.a: expected an object, found an array");
    check("\"npx\"", "expected an object, found a string");
    check(
        r#"{"command": 5}"#,
        "mcpServers.a.command: expected a string, found a number",
    );
    check(r#"{"command": ""}"#, "mcpServers.a.command: is empty");
    check(
        r#"{"command": []}"#,
        "mcpServers.a.command: names no program",
    );
    check(
        r#"{"command": ["x", 1]}"#,
        "command[1]: expected a string, found a number; put it in quotes",
    );
    check(r#"{"command": "${EMPTY:-}"}"#, "the command is empty");
    check(
        r#"{"command": "x", "args": "y"}"#,
        "args: expected an array, found a string",
    );
    check(
        r#"{"command": "x", "args": ["y", 3050]}"#,
        "mcpServers.a.args[1]: expected a string",
    );
    check(
        r#"{"command": "x", "args": ["y", null]}"#,
        "args[1]: expected a string, found null",
    );
    check(
        r#"{"command": "x", "args": ["\u0000"]}"#,
        "args[0]: contains a NUL",
    );
    check(
        r#"{"command": "x", "args": ["${NOPE}"]}"#,
        "args[0]: environment variable NOPE is not set",
    );
    check(
        r#"{"command": "x", "args": ["${input:key}"]}"#,
        "write ${KEY}",
    );
    check(
        r#"{"command": "x", "cwd": "${workspaceFolder}"}"#,
        "cwd: ${workspaceFolder} is known to editors",
    );
    check(r#"{"command": "x", "cwd": ""}"#, "cwd: is empty");
    check(
        r#"{"command": "x", "env": {"A": 1}}"#,
        "env.A: expected a string, found a number",
    );
    check(
        r#"{"command": "x", "env": {"A": "${NOPE}"}}"#,
        "env.A: environment variable NOPE",
    );
    check(
        r#"{"command": "x", "env": {"A": "${SECRET:k}"}}"#,
        "secret \"k\" is not there",
    );
    check(
        r#"{"command": "x", "env": {"": "1"}}"#,
        "env[\"\"]: is not a variable name",
    );
    check(
        r#"{"command": "x", "env": {"A=B": "1"}}"#,
        "is not a variable name",
    );
    check(
        r#"{"command": "x", "env": ["=1"]}"#,
        "env[0]: is not a variable name",
    );
    check(
        r#"{"command": "x", "env": ["A=1", "A=2"]}"#,
        "env[1]: sets a variable twice",
    );
    check(
        r#"{"command": "x", "env": {"A": "1", "A": "2"}}"#,
        "env.A: given twice",
    );
    check(
        r#"{"command": "x", "env": "A=1"}"#,
        "env: expected an object",
    );
    check(
        r#"{"command": "x", "command": "y"}"#,
        "mcpServers.a.command: given twice",
    );
    check(
        r#"{"command": "x", "tags": "web"}"#,
        "tags: expected an array",
    );
    check(r#"{"command": "x", "tags": [" "]}"#, "tags[0]: is empty");
    check(
        r#"{"command": "x", "disabled": "maybe"}"#,
        "disabled: expected true or false",
    );
    check(
        r#"{"command": "x", "disabled": "{{a.b}}"}"#,
        "disabled: expected true or false",
    );
    check(
        r#"{"command": "x", "requestTimeout": 0}"#,
        "requestTimeout: 0 is out of range",
    );
    check(
        r#"{"command": "x", "requestTimeout": -1}"#,
        "-1 is out of range",
    );
    check(
        r#"{"command": "x", "requestTimeout": 1e9}"#,
        "1e9 is out of range",
    );
    check(
        r#"{"command": "x", "connectionTimeout": "5"}"#,
        "write it without quotes",
    );
    check(
        r#"{"command": "x", "disabledTools": [""]}"#,
        "disabledTools[0]: is empty",
    );
    check(
        r#"{"command": "x", "disabledTools": {}}"#,
        "disabledTools: expected an array",
    );
    check(
        r#"{"command": "x", "instructionOverride": 1}"#,
        "instructionOverride: expected a string",
    );
    check(
        r#"{"command": "x", "toolDescriptionOverrides": {"t": " "}}"#,
        "toolDescriptionOverrides.t: is empty",
    );
    check(
        r#"{"command": "x", "inheritParentEnv": 1}"#,
        "inheritParentEnv: expected true or false",
    );
    check(
        r#"{"command": "x", "envFilter": ["A*B"]}"#,
        "envFilter[0]: is not a pattern",
    );
    check(
        r#"{"command": "x", "instances": "many"}"#,
        "write auto, shared, session or principal",
    );
    check(
        r#"{"command": "x", "maxInstances": 65}"#,
        "a whole number from 1 to 64",
    );
    check(
        r#"{"command": "x", "type": "pipe"}"#,
        "type: is no known type",
    );
    check(
        r#"{"type": "stdio", "url": "http://h/mcp"}"#,
        "has no command",
    );
}

#[test]
fn bad_keys_and_odd_values_are_warnings() {
    let check = |text: &str, expect: &str| {
        let checked = entry(text);
        let found = texts(&checked);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(!checked.problems[0].is_error(), "{text}: {found:?}");
        assert!(found[0].contains(expect), "{text}: {found:?}");
        assert_eq!(checked.servers[0].state, ServerState::Enabled, "{text}");
    };
    check(
        r#"{"command": "x", "arg": []}"#,
        "a.arg: unknown key; did you mean \"args\"?",
    );
    check(r#"{"command": "x", "Args": []}"#, "did you mean \"args\"?");
    check(
        r#"{"command": "x", "connectiontimeout": 5}"#,
        "did you mean \"connectionTimeout\"?",
    );
    check(
        r#"{"command": "x", "autoApprove": []}"#,
        "a.autoApprove: unknown key; remove it",
    );
    check(
        r#"{"command": "x", "timeout": 5}"#,
        "a.timeout: is deprecated",
    );
    check(
        r#"{"command": "x", "stderr": "inherit"}"#,
        "captured for the log",
    );
    check(
        r#"{"command": "x", "url": "http://h"}"#,
        "a.url: has no effect on a server with",
    );
    check(
        r#"{"command": "x", "headers": {}}"#,
        "a.headers: has no effect",
    );
    check(
        r#"{"command": "npx -y server"}"#,
        "contains spaces; nothing splits it",
    );
    check(
        r#"{"command": "x", "args": ["$NOPE"]}"#,
        "args[0]: $NOPE is not set and stays",
    );
    check(
        r#"{"command": "x", "env": ["NOPE"]}"#,
        "env[0]: NOPE is not set and cannot be copied",
    );
    check(
        r#"{"command": "x", "env": {"P": "pa$word"}}"#,
        "\"$\" before a name",
    );
}

#[test]
fn secrets_stay_out_of_problems_and_debug() {
    let checked = entry(
        r#"{"command": "x", "args": ["${TOKEN}"], "env": {"P": "s3$cret", "Q": "${TOKEN}"}}"#,
    );
    let shown = format!(
        "{:?} {:?} {:?}",
        checked.problems,
        texts(&checked),
        checked.servers
    );
    assert!(
        !shown.contains("hunter2") && !shown.contains("cret\""),
        "{shown}"
    );
    assert!(!texts(&checked).join(" ").contains("cret"), "{shown}");
}

#[test]
fn whole_files() {
    let check = |text: &str, fatal: bool, expect: &str| {
        let checked = read(text);
        let found = texts(&checked);
        assert_eq!(
            found.len(),
            usize::from(!expect.is_empty()),
            "{text}: {found:?}"
        );
        assert!(
            found.iter().all(|one| one.contains(expect)),
            "{text}: {found:?}"
        );
        assert_eq!(
            checked.problems.iter().any(|one| one.is_fatal()),
            fatal,
            "{text}: {found:?}"
        );
    };
    check(r#"{"mcpServers": {}}"#, false, "");
    check("// c\n{\"mcpServers\": {/* none */},}", false, "");
    check(
        r#"{"$schema": "x", "version": "1", "mcpServers": {}, "serverDefaults": {}}"#,
        false,
        "",
    );
    check("", true, "mcp.json:1:1: the file is empty");
    check("// only a comment", true, "the file is empty");
    check(
        "{\n  \"mcpServers\": {\n",
        true,
        "mcp.json:2:17: not valid JSON: unterminated object",
    );
    check(
        "[]",
        true,
        "mcp.json:1:1: expected an object, found an array",
    );
    check(
        "{\"mcpServers\": []}",
        true,
        "mcp.json:1:16: mcpServers: expected an object",
    );
    check(
        r#"{"mcpServers": {}, "mcpServers": {}}"#,
        true,
        "mcpServers: given twice",
    );
    check("{}", false, "no mcpServers");
    check(r#"{"mcpServers": null}"#, false, "no mcpServers");
    check(
        r#"{"mcpServers": {}, "mcpServer": {}}"#,
        false,
        "did you mean \"mcpServers\"?",
    );
    check(
        r#"{"mcpServers": {}, "servers": {}}"#,
        false,
        "did you mean \"mcpServers\"?",
    );
    check(
        r#"{"mcpServers": {}, "mcpTemplates": {}}"#,
        false,
        "mcpTemplates: is known",
    );
    check(
        r#"{"mcpServers": {}, "app": {}}"#,
        false,
        "under \"gateway\"",
    );
    check(
        r#"{"mcpServers": {}, "gateway": {"prot": 1}}"#,
        false,
        "gateway.prot: unknown key",
    );
    check(
        r#"{"mcpServers": {}, "gateway": {"port": "x"}}"#,
        true,
        "gateway.port: expected a number",
    );
    check(
        r#"{"mcpServers": {}, "gateway": []}"#,
        true,
        "gateway: expected an object",
    );
    check(
        r#"{"mcpServers": {}, "serverDefaults": {"env": 1}}"#,
        true,
        "serverDefaults.env: expected",
    );
    check(
        r#"{"mcpServers": {}, "serverDefaults": {"evn": {}}}"#,
        false,
        "did you mean \"env\"?",
    );
    check(
        r#"{"mcpServers": {}, "serverDefaults": {"tags": []}}"#,
        false,
        "no effect as a default",
    );
    check(
        r#"{"mcpServers": {"": {"command": "x"}}}"#,
        false,
        "the server has no name",
    );
    check(
        r#"{"mcpServers": {"a\nb": {"command": "x"}}}"#,
        false,
        "control characters",
    );
}

#[test]
fn names() {
    let check = |name: &str, usable: bool| {
        let text = format!("{{\"mcpServers\": {{{name:?}: {{\"command\": \"x\"}}}}}}");
        let checked = read(&text);
        assert_eq!(!checked.servers.is_empty(), usable, "{name}");
        assert_eq!(checked.problems.is_empty(), usable, "{name}");
    };
    check("files", true);
    check("github.com/x/y", true);
    check("Sequential Thinking", true);
    check("日本語", true);
    check(&"n".repeat(128), true);
    check(&"n".repeat(129), false);
    check("", false);
    check("  ", false);
}

#[test]
fn the_first_of_two_equal_names_stays() {
    let checked = read(
        r#"{"mcpServers": {"a": {"command": "x"}, "b": {"command": "y"}, "a": {"command": "z"}}}"#,
    );
    let lines: Vec<String> = checked.servers.iter().map(command_line).collect();
    assert_eq!(lines, ["x", "y"]);
    assert_eq!(checked.problems.len(), 1);
    assert!(checked.problems[0].is_error() && !checked.problems[0].is_fatal());
    assert!(texts(&checked)[0].starts_with("mcp.json:1:63: mcpServers.a: given twice"));
}

#[test]
fn one_bad_entry_stops_no_other_and_all_are_told_in_order() {
    let checked = read(
        "{\n  \"mcpServers\": {\n    \"a\": {\"command\": 1, \"args\": 2, \"x\": 3},\n    \
         \"b\": {\"command\": \"x\"},\n    \"c\": {\"comand\": \"x\"}\n  },\n  \"zz\": 1\n}",
    );
    let states: Vec<bool> = checked
        .servers
        .iter()
        .map(|one| one.state == ServerState::Enabled)
        .collect();
    assert_eq!(states, [false, true, false]);
    let places: Vec<(usize, usize)> = checked
        .problems
        .iter()
        .filter_map(|problem| {
            problem
                .place
                .as_ref()
                .map(|place| (place.line, place.column))
        })
        .collect();
    assert_eq!(places, [(3, 22), (3, 33), (3, 36), (5, 5), (5, 11), (7, 3)]);
}

#[test]
fn the_number_of_servers_is_bounded() {
    let text = |count: usize| {
        let entries: Vec<String> = (0..count)
            .map(|index| format!("\"s{index}\": {{\"command\": \"x\"}}"))
            .collect();
        format!("{{\"mcpServers\": {{{}}}}}", entries.join(","))
    };
    assert_eq!(
        read(&text(limits::CONFIG_SERVERS)).servers.len(),
        limits::CONFIG_SERVERS
    );
    let over = read(&text(limits::CONFIG_SERVERS + 1));
    assert!(over.servers.is_empty() && over.problems[0].is_fatal());
}

#[test]
fn tags_are_bounded() {
    let many: Vec<String> = (0..51).map(|index| format!("\"t{index}\"")).collect();
    let text = format!(r#"{{"command": "x", "tags": [{}]}}"#, many.join(","));
    assert!(texts(&entry(&text))[0].contains("51 tags"));
    let long = format!(r#"{{"command": "x", "tags": ["{}"]}}"#, "t".repeat(101));
    assert!(texts(&entry(&long))[0].contains("too long"));
}

#[test]
fn bytes_become_text() {
    assert_eq!(decode("f", b"\xef\xbb\xbf{}"), Ok("{}"));
    let problem = decode("f", b"{\n  \"a\": \"\xff\"}").unwrap_err();
    assert!(
        problem
            .to_string()
            .starts_with("f:2:9: a byte is not UTF-8")
    );
    assert!(problem.is_fatal());
}

#[test]
fn restarts() {
    let check = |defaults: &str, own: &str, on_exit: bool, max: Option<u32>, delay: Option<u64>| {
        let text = format!(
            "{{\"serverDefaults\": {{{defaults}}}, \"mcpServers\": \
             {{\"a\": {{\"command\": \"x\"{own}}}}}}}"
        );
        let checked = read(&text);
        assert!(checked.problems.is_empty(), "{text}: {:?}", texts(&checked));
        let delay = delay.map(Duration::from_millis);
        let expect = RestartPolicy {
            on_exit,
            max,
            delay,
        };
        assert_eq!(checked.servers[0].restart, expect, "{text}");
    };
    check("", "", true, None, None);
    check("", r#", "restartOnExit": false"#, false, None, None);
    check(r#""restartOnExit": false"#, "", false, None, None);
    check(
        r#""maxRestarts": 3"#,
        r#", "maxRestarts": 0"#,
        true,
        Some(0),
        None,
    );
    check(
        r#""restartDelay": 50"#,
        r#", "maxRestarts": 9"#,
        true,
        Some(9),
        Some(50),
    );
    check("", r#", "restartDelay": 0"#, true, None, Some(10));
    // Defaults for processes say nothing of connections.
    let text = r#"{"serverDefaults": {"restartOnExit": false},
        "mcpServers": {"a": {"url": "http://127.0.0.1:1/mcp"}}}"#;
    assert_eq!(read(text).servers[0].restart, RestartPolicy::default());
}

#[test]
fn dependencies() {
    let check = |servers: &str, expect: &[&str], invalid: &str| {
        let text = format!("{{\"mcpServers\": {{{servers}}}}}");
        let checked = read(&text);
        let found = texts(&checked);
        assert_eq!(found.len(), expect.len(), "{text}: {found:?}");
        for (found, expect) in found.iter().zip(expect) {
            assert!(found.contains(expect), "{text}: {found}");
        }
        let is_invalid = |server: &&ServerConfig| matches!(server.state, ServerState::Invalid(_));
        let names: Vec<&str> = checked
            .servers
            .iter()
            .filter(is_invalid)
            .inspect(|server| assert!(server.process.is_none()))
            .map(|server| server.name.as_str())
            .collect();
        assert_eq!(names.join(" "), invalid, "{text}");
    };
    let a = |list: &str| format!(r#""a": {{"command": "x", "dependsOn": {list}}}"#);
    let b = |list: &str| format!(r#""b": {{"command": "x", "dependsOn": {list}}}"#);
    let c = |list: &str| format!(r#""c": {{"command": "x", "dependsOn": {list}}}"#);
    let off = r#""b": {"command": "x", "disabled": true, "dependsOn": ["a"]}"#;
    let back = "leads back to this server";
    check(&[a(r#"["b", "b"]"#), b("[]")].join(","), &[], "");
    check(
        &a(r#"["b"]"#),
        &["a.dependsOn[0]: no server has this name; name a"],
        "a",
    );
    check(
        &[a(r#"["bb"]"#), b("[]")].join(","),
        &["no server has this name; did you mean \"b\"?"],
        "a",
    );
    check(&a(r#"["a"]"#), &[back], "a");
    check(
        &[a(r#"["b"]"#), b(r#"["a"]"#)].join(","),
        &[back, back],
        "a b",
    );
    check(
        &[a(r#"["b"]"#), b(r#"["c"]"#), c(r#"["b"]"#)].join(","),
        &[back, back],
        "b c",
    );
    check(
        &[a(r#"["b"]"#), off.to_owned()].join(","),
        &[back, back],
        "a",
    );
    check(&a("[1]"), &["a.dependsOn[0]: expected a string"], "a");
    check(&a("\"b\""), &["a.dependsOn: expected an array"], "a");
    let server = server(r#"{"command": "x", "required": true}"#);
    assert!(server.required && server.depends_on.is_empty());
}
