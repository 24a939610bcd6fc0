//! The settings that are tables: sinks and rules of alerts, providers of secrets, sources of
//! discovery.

use serde_json::{Map, Value};

use crate::base::limits;
use crate::base::template::{filled, fixed};
use crate::config::alerts::rule::{Knob, RULES, RuleRow, Severity};
use crate::config::alerts::sink::Kind;
use crate::config::discovery;
use crate::config::schema::{TEXT, TEXTS, TEXTS_BY_NAME, choice, number, switch};

/// The shape of the table with this key; of any other, that it is a table.
pub(super) fn shape(key: &str) -> Value {
    match key {
        "alerts" => alerts(),
        "secrets.providers" => filled(
            r#"{
                "type": ["array", "null"],
                "maxItems": "$most",
                "items": {"anyOf": [
                    {"enum": ["directories", "environment", "sealed"]},
                    "$provider"
                ]}
            }"#,
            &[
                ("most", limits::SECRET_SOURCES.into()),
                ("provider", provider()),
            ],
        ),
        "auth.clients" => filled(
            r#"{
                "type": ["object", "null"],
                "maxProperties": "$most",
                "additionalProperties": "$client"
            }"#,
            &[("most", limits::KNOWN_CLIENTS.into()), ("client", client())],
        ),
        "discovery" => filled(
            r#"{
                "type": ["object", "null"],
                "maxProperties": "$most",
                "additionalProperties": "$source"
            }"#,
            &[
                ("most", limits::DISCOVERY_SOURCES.into()),
                ("source", source()),
            ],
        ),
        _ => fixed(r#"{"type": ["object", "array", "null"]}"#),
    }
}

/// Of discovery: each kind of source has keys of its own besides the common ones.
fn source() -> Value {
    let text = r#"{"type": "$type", "tags": "$texts", "allow": "$texts", "keepFor": "$time"}"#;
    let also = [
        ("type", choice(discovery::TYPES, None)),
        ("time", number(0, limits::DISCOVERY_KEEP_MS_MAX)),
    ];
    let mut properties = with_texts(text, &also);
    for key in discovery::own_keys() {
        properties[key] = fixed("{}");
    }
    table(properties)
}

fn client() -> Value {
    let text = r#"{
        "name": "$text",
        "secret": "$text",
        "redirectUris": "$texts",
        "scopes": "$text",
        "machine": "$switch"
    }"#;
    table(with_texts(text, &[("switch", switch())]))
}

fn table(properties: Value) -> Value {
    filled(
        r#"{
            "type": ["object", "null"],
            "properties": "$properties",
            "additionalProperties": false
        }"#,
        &[("properties", properties)],
    )
}

/// The kinds of text that tables hold, and `also`.
fn with_texts(text: &str, also: &[(&str, Value)]) -> Value {
    let mut holes = vec![
        ("text", fixed(TEXT)),
        ("texts", fixed(TEXTS)),
        ("textsByName", fixed(TEXTS_BY_NAME)),
    ];
    holes.extend_from_slice(also);
    filled(text, &holes)
}

fn alerts() -> Value {
    let rules = RULES.iter().map(|row| (row.name.to_owned(), rule(row)));
    let text = r#"{
        "sinks": {
            "description": "Each under its name: who is told",
            "type": ["object", "null"],
            "maxProperties": "$most",
            "additionalProperties": "$sink"
        },
        "rules": "$rules"
    }"#;
    let holes = [
        ("most", limits::ALERT_SINKS.into()),
        ("sink", sink()),
        ("rules", table(Value::Object(rules.collect()))),
    ];
    table(filled(text, &holes))
}

fn sink() -> Value {
    let severities = Severity::ALL.map(Severity::as_str);
    let text = r#"{
        "type": "$type",
        "url": "$text",
        "secret": "$text",
        "routingKey": "$text",
        "headers": "$textsByName",
        "caFile": "$text",
        "proxy": "$text",
        "command": "$texts",
        "env": "$textsByName",
        "minSeverity": "$severity",
        "timeout": "$timeout"
    }"#;
    let also = [
        ("type", choice(&Kind::ALL.map(Kind::as_str), None)),
        ("severity", choice(&severities, None)),
        ("timeout", number(100, limits::ALERT_TIMEOUT_MS_MAX)),
    ];
    table(with_texts(text, &also))
}

/// `false` alone switches a rule off.
fn rule(row: &RuleRow) -> Value {
    let mut properties = Map::new();
    properties.insert("enabled".into(), switch());
    let severities = Severity::ALL.map(Severity::as_str);
    properties.insert("severity".into(), choice(&severities, None));
    for knob in row.knobs {
        properties.insert(knob.key().into(), of_knob(*knob));
    }
    let mut rule = table(Value::Object(properties));
    rule["type"] = fixed(r#"["object", "boolean", "null"]"#);
    rule
}

fn of_knob(knob: Knob) -> Value {
    match knob {
        Knob::Recovery => switch(),
        Knob::Sinks | Knob::Servers => fixed(TEXTS),
        Knob::Cooldown | Knob::After | Knob::Window => number(0, limits::ALERT_RULE_MS_MAX),
        Knob::Count | Knob::Days => fixed(r#"{"type": ["integer", "null"], "minimum": 0}"#),
    }
}

fn provider() -> Value {
    let kubernetes = r#"{"role": "$text", "mount": "$text", "tokenFile": "$text"}"#;
    let text = r#"{
        "directory": "$text",
        "sealed": "$text",
        "keyFile": "$text",
        "command": "$texts",
        "env": "$textsByName",
        "vault": "$text",
        "mount": "$text",
        "path": "$text",
        "field": "$text",
        "namespace": "$text",
        "tokenFile": "$text",
        "kubernetes": "$kubernetes",
        "caFile": "$text",
        "timeout": "$timeout"
    }"#;
    let also = [
        ("kubernetes", table(with_texts(kubernetes, &[]))),
        ("timeout", number(1, limits::SETTING_MS)),
    ];
    let mut provider = table(with_texts(text, &also));
    provider["type"] = "object".into();
    provider
}
