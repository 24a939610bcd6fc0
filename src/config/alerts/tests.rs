use std::time::Duration;

use super::rule::{Rule, Severity};
use super::sink::{Kind, Shape, Target};
use super::{AlertSpec, plain, read};
use crate::base::secret::Secret;
use crate::config::document::{Lines, Node, Notes, Spot, parse};
use crate::config::problem::Scope;

fn read_text(text: &str) -> (AlertSpec, Vec<String>) {
    let lines = Lines::new("f", text);
    let mut notes = Notes::new(Scope::Setting("alerts"));
    let value = parse(&lines, &mut notes).unwrap();
    let spec = read(&Node::root(&lines, &value), &plain, &mut notes);
    let problems = notes.problems.iter().map(ToString::to_string).collect();
    (spec, problems)
}

#[test]
fn every_kind_of_sink_is_read() {
    let (spec, problems) = read_text(
        r#"{"sinks": {
            "ops": {"type": "webhook", "url": "https://a.example/x?k=1", "secret": "${SECRET:k}",
                    "headers": {"X-Team": "core"}, "minSeverity": "error", "timeout": 500},
            "chat": {"type": "slack", "url": "http://10.0.0.1/services/T/B/X"},
            "cards": {"type": "teams", "url": "${SECRET:teams}"},
            "pager": {"type": "pagerduty", "routingKey": "R"},
            "script": {"type": "command", "command": ["/bin/x", "-a"], "env": {"A": "b"}},
            "notes": {"type": "log"}
        }}"#,
    );
    assert!(problems.is_empty(), "{problems:?}");
    let kinds: Vec<Kind> = spec.sinks.iter().map(|sink| sink.kind).collect();
    assert_eq!(kinds, Kind::ALL);
    let ops = &spec.sinks[0];
    assert_eq!(ops.min_severity, Severity::Error);
    assert_eq!(ops.timeout, Duration::from_millis(500));
    let Some(Target::Http(http)) = &ops.target else {
        panic!("{ops:?}");
    };
    let key = Some(Secret::new("${SECRET:k}".into()));
    assert_eq!(http.shape, Shape::Webhook { key });
    assert_eq!(http.headers.len(), 1);
    let shown = format!("{spec:?}");
    assert!(
        !shown.contains("k=1") && !shown.contains("SECRET"),
        "{shown}"
    );
}

#[test]
fn mistakes_have_their_place() {
    let check = |text: &str, expect: &[&str]| {
        let (_, problems) = read_text(text);
        assert_eq!(problems.len(), expect.len(), "{text}: {problems:?}");
        for (problem, expect) in problems.iter().zip(expect) {
            assert!(problem.starts_with(expect), "{problem}");
        }
    };
    check(
        "{\n \"sink\": {}}",
        &["f:2:2: sink: unknown key; did you mean \"sinks\"?"],
    );
    check(
        r#"{"sinks": []}"#,
        &["f:1:11: sinks: expected an object, found an array"],
    );
    check(
        r#"{"sinks": {"a": {}}}"#,
        &["f:1:12: sinks.a: has no \"type\""],
    );
    check(
        r#"{"sinks": {"a": {"type": "slak"}}}"#,
        &["f:1:26: sinks.a.type: \"slak\" is no type of a sink; did you mean \"slack\"?"],
    );
    check(
        r#"{"sinks": {"a": {"type": "slack"}}}"#,
        &["f:1:12: sinks.a: has no \"url\""],
    );
    check(
        r#"{"sinks": {"a": {"type": "slack", "url": "nowhere", "secret": "x"}}}"#,
        &[
            "f:1:53: sinks.a.secret: means nothing for a sink of type slack",
            "f:1:42: sinks.a.url: is not an absolute URL",
        ],
    );
    check(
        r#"{"sinks": {"a b": {"type": "log"}}}"#,
        &["f:1:12: sinks[\"a b\"]: is not a name for a sink"],
    );
    check(
        r#"{"sinks": {"a": {"type": "command", "command": []}}}"#,
        &["f:1:48: sinks.a.command: names no program"],
    );
    check(
        r#"{"sinks": {"a": {"type": "webhook", "url": "http://h/",
                "headers": {"Onemcp-Id": ""}}}}"#,
        &["f:2:42: sinks.a.headers.Onemcp-Id: is a header of ours"],
    );
    check(
        r#"{"rules": {"serverUp": {}, "drops": {"count": 0, "days": 1}}}"#,
        &[
            "f:1:12: rules.serverUp: unknown rule",
            "f:1:47: rules.drops.count: 0 is out of range",
            "f:1:50: rules.drops.days: unknown key",
        ],
    );
    check(
        r#"{"sinks": {"ops": {"type": "log"}}, "rules": {"drops": {"sinks": ["opp"]}}}"#,
        &["f:1:1: rule drops names a sink \"opp\"; did you mean \"ops\"?"],
    );
}

#[test]
fn rules_have_defaults() {
    let (spec, problems) = read_text(
        r#"{"rules": {"serverDown": {"after": 0, "severity": "critical", "servers": ["a"]},
                      "toolsChanged": false, "gatewayStopping": true}}"#,
    );
    assert!(problems.is_empty(), "{problems:?}");
    let down = spec.rule(Rule::ServerDown);
    assert_eq!(
        (down.after, down.severity),
        (Duration::ZERO, Severity::Critical)
    );
    assert_eq!(down.servers, Some(vec!["a".to_owned()]));
    assert!(!spec.rule(Rule::ToolsChanged).enabled);
    assert!(spec.rule(Rule::GatewayStopping).enabled);
    assert!(!AlertSpec::default().rule(Rule::GatewayStopping).enabled);
    assert_eq!(AlertSpec::default().rule(Rule::AuthFailures).count, 20);
}

#[test]
fn what_cannot_be_filled_in_costs_its_sink_alone() {
    let text = r#"{"sinks": {"a": {"type": "webhook", "url": "http://h/", "secret": "gone"},
                             "b": {"type": "command", "command": ["x", "gone"]},
                             "c": {"type": "webhook", "url": "http://h/", "secret": "here"}}}"#;
    let lines = Lines::new("f", text);
    let mut notes = Notes::new(Scope::Setting("alerts"));
    let value = parse(&lines, &mut notes).unwrap();
    let fill = |text: &str, spot: &Spot<'_>, notes: &mut Notes| match text {
        "gone" => {
            spot.warn(notes, "is away", "");
            None
        }
        text => Some(Secret::new(text.to_owned())),
    };
    let spec = read(&Node::root(&lines, &value), &fill, &mut notes);
    let usable: Vec<bool> = spec
        .sinks
        .iter()
        .map(|sink| sink.target.is_some())
        .collect();
    assert_eq!(usable, [false, false, true]);
    assert_eq!(notes.problems.len(), 2);
    assert!(notes.first_error().is_none());
}
