//! The settings that are tables: sinks and rules of alerts, providers of secrets.

use serde_json::{Map, Value, json};

use crate::base::limits;
use crate::config::alerts::rule::{Knob, RULES, RuleRow, Severity};
use crate::config::alerts::sink::Kind;
use crate::config::schema::{choice, number, reference};

/// The shape of the table with this key; of any other, that it is a table.
pub(super) fn shape(key: &str) -> Value {
    match key {
        "alerts" => alerts(),
        "secrets.providers" => json!({
            "type": ["array", "null"],
            "maxItems": limits::SECRET_SOURCES,
            "items": {"anyOf": [
                {"enum": ["directories", "environment", "sealed"]},
                provider(),
            ]},
        }),
        _ => json!({"type": ["object", "array", "null"]}),
    }
}

fn table(properties: &Value) -> Value {
    json!({
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    })
}

fn text() -> Value {
    json!({"type": ["string", "null"], "pattern": "\\S"})
}

fn texts() -> Value {
    json!({"type": ["array", "null"], "items": {"type": "string"}})
}

fn texts_by_name() -> Value {
    json!({"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}})
}

fn alerts() -> Value {
    let rules = RULES.iter().map(|row| (row.name.to_owned(), rule(row)));
    let sinks = json!({
        "description": "Each under its name: who is told",
        "type": ["object", "null"],
        "maxProperties": limits::ALERT_SINKS,
        "additionalProperties": sink(),
    });
    table(&json!({
        "sinks": sinks,
        "rules": table(&Value::Object(rules.collect())),
    }))
}

fn sink() -> Value {
    let severities = Severity::ALL.map(Severity::as_str);
    table(&json!({
        "type": choice(&Kind::ALL.map(Kind::as_str), None),
        "url": text(),
        "secret": text(),
        "routingKey": text(),
        "headers": texts_by_name(),
        "caFile": text(),
        "proxy": text(),
        "command": texts(),
        "env": texts_by_name(),
        "minSeverity": choice(&severities, None),
        "timeout": number(100, limits::ALERT_TIMEOUT_MS_MAX),
    }))
}

/// `false` alone switches a rule off.
fn rule(row: &RuleRow) -> Value {
    let mut properties = Map::new();
    properties.insert("enabled".into(), reference("switch", ""));
    let severities = Severity::ALL.map(Severity::as_str);
    properties.insert("severity".into(), choice(&severities, None));
    for knob in row.knobs {
        properties.insert(knob.key().into(), of_knob(*knob));
    }
    let mut rule = table(&Value::Object(properties));
    rule["type"] = json!(["object", "boolean", "null"]);
    rule
}

fn of_knob(knob: Knob) -> Value {
    match knob {
        Knob::Recovery => reference("switch", ""),
        Knob::Sinks | Knob::Servers => texts(),
        Knob::Cooldown | Knob::After | Knob::Window => number(0, limits::ALERT_RULE_MS_MAX),
        Knob::Count | Knob::Days => json!({"type": ["integer", "null"], "minimum": 0}),
    }
}

fn provider() -> Value {
    let kubernetes = table(&json!({"role": text(), "mount": text(), "tokenFile": text()}));
    let mut provider = table(&json!({
        "directory": text(),
        "sealed": text(),
        "keyFile": text(),
        "command": texts(),
        "env": texts_by_name(),
        "vault": text(),
        "mount": text(),
        "path": text(),
        "field": text(),
        "namespace": text(),
        "tokenFile": text(),
        "kubernetes": kubernetes,
        "caFile": text(),
        "timeout": number(1, limits::SETTING_MS),
    }));
    provider["type"] = json!("object");
    provider
}
