//! The JSON Schema (2020-12) of `mcp.json`, for editors: made from SETTINGS and from the keys of
//! an entry, so that it cannot say anything else than the gateway does. Pure.
//!
//! It is as strict as `config check` with its warnings: what is unknown is not allowed, what is
//! known and not carried out is deprecated. Deliberately absent: what one key means for another.

mod tables;

use serde_json::{Map, Value, json};

use crate::base::limits;
use crate::config::entry::{DEFAULT_KEYS, NOT_CARRIED_OUT};
use crate::config::foreign::{FOREIGN, FOREIGN_FILE_KEYS};
use crate::config::settings::{Kind, SETTINGS, Setting};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// How the value of a key of an entry is written.
#[derive(Clone, Copy)]
enum Shape {
    Switch,
    Text,
    /// May be empty.
    AnyText,
    Texts,
    /// No element may be blank.
    Words,
    /// A program, or one with its first arguments.
    Command,
    Env,
    ObjectOfTexts,
    Choice(&'static [&'static str]),
    /// A whole number, both ends included.
    Number(u64, u64),
}

const MILLIS: Shape = Shape::Number(1, limits::SETTING_MS);

/// Keys of an entry, with what an editor says of them.
const ENTRY: &[(&str, Shape, &str)] = &[
    (
        "type",
        Shape::Choice(&[
            "stdio",
            "http",
            "streamableHttp",
            "streamable-http",
            "streamable_http",
            "sse",
        ]),
        "May be left out: a command means stdio, a url means http",
    ),
    (
        "command",
        Shape::Command,
        "The program; an array holds its first arguments, too. No shell reads it",
    ),
    ("args", Shape::Texts, "Its arguments"),
    (
        "env",
        Shape::Env,
        "Variables of the server; \"NAME\" in an array copies one from the gateway",
    ),
    (
        "cwd",
        Shape::Text,
        "Its working directory; a relative one starts at the folder of the file",
    ),
    ("url", Shape::Text, "The address of a server over HTTP"),
    (
        "headers",
        Shape::ObjectOfTexts,
        "Sent to a server over HTTP with every request",
    ),
    (
        "caFile",
        Shape::Text,
        "Certificates (PEM) to trust instead of the usual ones",
    ),
    (
        "proxy",
        Shape::Text,
        "The proxy to ask: none, environment or a URL",
    ),
    ("tags", Shape::Words, "For views and filters"),
    ("disabled", Shape::Switch, "It is not started, but counted"),
    (
        "timeout",
        MILLIS,
        "Deprecated: write connectionTimeout and requestTimeout",
    ),
    (
        "connectionTimeout",
        MILLIS,
        "Milliseconds from its start until its lists are read",
    ),
    (
        "requestTimeout",
        MILLIS,
        "Milliseconds for one call; progress extends it",
    ),
    (
        "disabledTools",
        Shape::Words,
        "Tools that are neither listed nor called",
    ),
    (
        "instructionOverride",
        Shape::AnyText,
        "Replaces its instructions; empty suppresses them",
    ),
    (
        "toolDescriptionOverrides",
        Shape::ObjectOfTexts,
        "Descriptions of tools by name",
    ),
    (
        "inheritParentEnv",
        Shape::Switch,
        "It gets all variables of the gateway",
    ),
    (
        "envFilter",
        Shape::Words,
        "Inherited variables that pass: NAME, BEGIN*, !NAME, !BEGIN*",
    ),
    (
        "instances",
        Shape::Choice(&["auto", "shared", "session", "principal"]),
        "Who shares a process or a connection",
    ),
    (
        "maxInstances",
        Shape::Number(1, limits::INSTANCES_PER_SERVER as u64),
        "Instances beside the shared one",
    ),
    (
        "instanceIdleTimeout",
        MILLIS,
        "Milliseconds for which an instance is kept that nobody uses",
    ),
    (
        "required",
        Shape::Switch,
        "The gateway is not ready without it",
    ),
    ("dependsOn", Shape::Words, "Servers that start before it"),
    (
        "restartOnExit",
        Shape::Switch,
        "Whether it is started again when it ends",
    ),
    (
        "maxRestarts",
        Shape::Number(0, u32::MAX as u64),
        "After so many it is given up; 0 means never",
    ),
    (
        "restartDelay",
        Shape::Number(0, limits::SETTING_MS),
        "Milliseconds from its end to the next start",
    ),
];

/// The whole schema as text that ends with a line break.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// The whole schema.
pub fn schema() -> Value {
    json!({
        "$schema": DIALECT,
        "title": "mcp.json of onemcp",
        "description": "MCP servers, and the gateway in front of them",
        "type": "object",
        "properties": root(),
        "additionalProperties": false,
        "$defs": {
            "server": {
                "type": ["object", "null"],
                "properties": entry(|_| true),
                "additionalProperties": false,
            },
            "defaults": {
                "type": ["object", "null"],
                "properties": entry(|key| DEFAULT_KEYS.contains(&key)),
                "additionalProperties": false,
            },
            "gateway": gateway(),
            "switch": {
                "enum": [
                    true, false, "true", "false", "yes", "no", "on", "off", "1", "0", "", null
                ],
            },
        },
    })
}

fn root() -> Map<String, Value> {
    let names = json!({"minLength": 1, "maxLength": limits::SERVER_NAME_BYTES});
    let servers = json!({
        "description": "Each server under its name",
        "type": ["object", "null"],
        "propertyNames": names,
        "maxProperties": limits::CONFIG_SERVERS,
        "additionalProperties": reference("server", ""),
    });
    let mut all = Map::new();
    all.insert("$schema".into(), json!({"type": ["string", "null"]}));
    all.insert(
        "version".into(),
        json!({"description": "Of the file, for people"}),
    );
    let defaults = reference("defaults", "What all servers of the file share");
    all.insert("serverDefaults".into(), defaults);
    all.insert("mcpServers".into(), servers);
    all.insert(
        "gateway".into(),
        reference("gateway", "Settings of the gateway itself"),
    );
    for (key, missing) in FOREIGN_FILE_KEYS {
        all.insert((*key).into(), not_carried_out(missing));
    }
    all
}

fn reference(name: &str, description: &str) -> Value {
    let target = format!("#/$defs/{name}");
    match description {
        "" => json!({"$ref": target}),
        _ => json!({"description": description, "$ref": target}),
    }
}

fn not_carried_out(missing: &str) -> Value {
    let description = format!("Known but not carried out: {missing}");
    json!({"description": description, "deprecated": true})
}

fn entry(is_known: impl Fn(&str) -> bool) -> Map<String, Value> {
    let mut all = Map::new();
    for (key, shape, description) in ENTRY.iter().filter(|(key, ..)| is_known(key)) {
        let mut value = shape.schema();
        value["description"] = json!(description);
        if *key == "timeout" {
            value["deprecated"] = json!(true);
        }
        all.insert((*key).into(), value);
    }
    for (key, instead) in NOT_CARRIED_OUT.iter().filter(|(key, _)| is_known(key)) {
        all.insert((*key).into(), not_carried_out(instead));
    }
    all
}

impl Shape {
    /// `null` means "not given" everywhere.
    fn schema(self) -> Value {
        let text = json!({"type": "string"});
        let filled = json!({"type": "string", "pattern": "\\S"});
        match self {
            Shape::Switch => reference("switch", ""),
            Shape::Text => json!({"type": ["string", "null"], "pattern": "\\S"}),
            Shape::AnyText => json!({"type": ["string", "null"]}),
            Shape::Texts => json!({"type": ["array", "null"], "items": text}),
            Shape::Words => json!({"type": ["array", "null"], "items": filled}),
            Shape::Command => json!({
                "type": ["string", "array", "null"],
                "pattern": "\\S",
                "items": text,
                "minItems": 1,
            }),
            Shape::Env => json!({
                "type": ["object", "array", "null"],
                "additionalProperties": {"type": ["string", "null"]},
                "items": text,
            }),
            Shape::ObjectOfTexts => json!({
                "type": ["object", "null"],
                "additionalProperties": {"type": ["string", "null"]},
            }),
            Shape::Choice(words) => choice(words, None),
            Shape::Number(least, most) => number(least, most),
        }
    }
}

fn number(least: u64, most: u64) -> Value {
    json!({"type": ["integer", "null"], "minimum": least, "maximum": most})
}

fn choice(words: &[&str], also: Option<&str>) -> Value {
    let words = words.iter().copied().chain(also).map(Value::from);
    json!({"enum": words.chain([Value::Null]).collect::<Vec<_>>()})
}

/// The tree of keys that SETTINGS has.
fn gateway() -> Value {
    let mut root = table();
    for row in SETTINGS.iter().filter(|row| row.in_file) {
        insert(&mut root, row.key, setting(row));
        for alias in row.aliases {
            let mut other = setting(row);
            other["description"] = json!(format!("{}; better write {}", row.help, row.key));
            other["deprecated"] = json!(true);
            insert(&mut root, alias, other);
        }
    }
    for row in FOREIGN {
        for key in row.keys {
            insert(&mut root, key, not_carried_out(row.missing));
        }
    }
    root
}

fn table() -> Value {
    json!({"type": ["object", "null"], "properties": {}, "additionalProperties": false})
}

/// What is there already stays.
fn insert(root: &mut Value, key: &str, schema: Value) {
    let (mut place, mut rest) = (root, key);
    while let Some((first, after)) = rest.split_once('.') {
        let Some(properties) = place["properties"].as_object_mut() else {
            return;
        };
        place = properties.entry(first).or_insert_with(table);
        rest = after;
    }
    if let Some(properties) = place["properties"].as_object_mut() {
        properties.entry(rest).or_insert(schema);
    }
}

fn setting(row: &Setting) -> Value {
    let mut schema = of_kind(row);
    schema["description"] = json!(row.help);
    if let Some(default) = row.default {
        schema["default"] = plain_default(row.kind, default);
    }
    schema
}

fn of_kind(row: &Setting) -> Value {
    let text = json!({"type": "string", "pattern": "\\S"});
    match row.kind {
        Kind::Switch => reference("switch", ""),
        Kind::Number(least, most) | Kind::Millis(least, most) => number(least, most),
        Kind::Choice(words) => choice(words, row.deprecated.map(|(word, _)| word)),
        Kind::Size(least, most) => json!({
            "type": ["integer", "string", "null"],
            "minimum": least,
            "maximum": most,
            "pattern": "^\\s*[0-9]+\\s*([kKmMgG][bB]?)?\\s*$",
        }),
        Kind::Hosts | Kind::Origins | Kind::Proxies | Kind::Egress | Kind::Roots => {
            json!({"type": ["array", "string", "null"], "items": text})
        }
        Kind::Levels => json!({
            "type": ["object", "string", "null"],
            "additionalProperties": choice(&["off", "error", "warn", "info", "debug"], None),
        }),
        Kind::Headers => json!({
            "type": ["object", "string", "null"],
            "additionalProperties": {"type": ["string", "null"]},
        }),
        Kind::Table(_) => tables::shape(row.key),
        Kind::Path
        | Kind::PathOr(_)
        | Kind::Host
        | Kind::Address
        | Kind::Word
        | Kind::Document
        | Kind::Filter
        | Kind::Preset
        | Kind::Separator
        | Kind::Url => json!({"type": ["string", "null"], "pattern": "\\S"}),
    }
}

/// The default as it would stand in the file.
fn plain_default(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Switch => json!(text == "true"),
        Kind::Number(..) | Kind::Millis(..) => text.parse::<u64>().map_or(Value::Null, Value::from),
        _ => json!(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{ENTRY, schema};
    use crate::config::entry::KEYS;
    use crate::config::settings::SETTINGS;

    #[test]
    fn every_key_and_every_setting_is_in_it() {
        let rows: Vec<&str> = ENTRY.iter().map(|(key, ..)| *key).collect();
        assert_eq!(rows, KEYS);
        let schema = schema();
        for row in SETTINGS.iter().filter(|row| row.in_file) {
            for key in row.aliases.iter().chain([&row.key]) {
                let mut place = &schema["$defs"]["gateway"];
                for name in key.split('.') {
                    place = &place["properties"][name];
                }
                assert!(place["description"].is_string(), "{key}");
            }
        }
    }
}
