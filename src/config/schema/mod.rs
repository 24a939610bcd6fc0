//! The JSON Schema (2020-12) of `mcp.json`, for editors: made from SETTINGS and from the keys of
//! an entry, so that it cannot say anything else than the gateway does. Pure.
//!
//! It is as strict as `config check` with its warnings: what is unknown is not allowed, what is
//! known and not carried out is deprecated. Deliberately absent: what one key means for another.

mod tables;

use serde_json::{Map, Value};

use crate::base::limits;
use crate::base::template::{filled, fixed};
use crate::config::entry::{DEFAULT_KEYS, NOT_CARRIED_OUT};
use crate::config::foreign::{FOREIGN, FOREIGN_FILE_KEYS};
use crate::config::settings::{Kind, SETTINGS, Setting};
use crate::model::pin::Pinning;
use crate::model::visible_text::Invisible;

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
    Oauth,
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
    (
        "oauth",
        Shape::Oauth,
        "How the gateway gets in at a server over HTTP that wants a login",
    ),
    (
        "forwardHeaders",
        Shape::Words,
        "Headers of clients that go to the server as they are",
    ),
    (
        "headerMap",
        Shape::ObjectOfTexts,
        "Headers of clients that go to the server under another name",
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
        "toolPins",
        Shape::Choice(Pinning::WORDS),
        "What happens to tools that changed since they were first seen",
    ),
    (
        "stripInvisible",
        Shape::Choice(Invisible::WORDS),
        "What happens to invisible characters in what it offers",
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
    (
        "discoverable",
        Shape::Switch,
        "Clients may know of it although their tokens do not reach it",
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
    let text = r#"{
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mcp.json of onemcp",
        "description": "MCP servers, and the gateway in front of them",
        "type": "object",
        "properties": "$root",
        "additionalProperties": false,
        "$defs": {
            "server": {
                "type": ["object", "null"],
                "properties": "$server",
                "additionalProperties": false
            },
            "defaults": {
                "type": ["object", "null"],
                "properties": "$defaults",
                "additionalProperties": false
            },
            "gateway": "$gateway",
            "switch": {
                "enum": [
                    true, false, "true", "false", "yes", "no", "on", "off", "1", "0", "", null
                ]
            }
        }
    }"#;
    let holes = [
        ("root", root().into()),
        ("server", entry(&|_| true).into()),
        ("defaults", entry(&|key| DEFAULT_KEYS.contains(&key)).into()),
        ("gateway", gateway()),
    ];
    filled(text, &holes)
}

fn root() -> Map<String, Value> {
    let text = r##"{
        "$schema": {"type": ["string", "null"]},
        "version": {"description": "Of the file, for people"},
        "serverDefaults": {
            "description": "What all servers of the file share",
            "$ref": "#/$defs/defaults"
        },
        "mcpServers": {
            "description": "Each server under its name",
            "type": ["object", "null"],
            "propertyNames": {"minLength": 1, "maxLength": "$name"},
            "maxProperties": "$servers",
            "additionalProperties": {"$ref": "#/$defs/server"}
        },
        "gateway": {
            "description": "Settings of the gateway itself",
            "$ref": "#/$defs/gateway"
        }
    }"##;
    let holes = [
        ("name", limits::SERVER_NAME_BYTES.into()),
        ("servers", limits::CONFIG_SERVERS.into()),
    ];
    let mut all = match filled(text, &holes) {
        Value::Object(all) => all,
        _ => Map::new(),
    };
    for (key, missing) in FOREIGN_FILE_KEYS {
        all.insert((*key).into(), not_carried_out(missing));
    }
    all
}

fn switch() -> Value {
    fixed(r##"{"$ref": "#/$defs/switch"}"##)
}

fn not_carried_out(missing: &str) -> Value {
    let description = format!("Known but not carried out: {missing}");
    filled(
        r#"{"description": "$description", "deprecated": true}"#,
        &[("description", description.into())],
    )
}

fn entry(is_known: &dyn Fn(&str) -> bool) -> Map<String, Value> {
    let mut all = Map::new();
    for (key, shape, description) in ENTRY.iter().filter(|(key, ..)| is_known(key)) {
        let mut value = shape.schema();
        value["description"] = (*description).into();
        if *key == "timeout" {
            value["deprecated"] = true.into();
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
        fixed(match self {
            Shape::Switch => return switch(),
            Shape::Choice(words) => return choice(words, None),
            Shape::Number(least, most) => return number(least, most),
            Shape::Text => TEXT,
            Shape::AnyText => r#"{"type": ["string", "null"]}"#,
            Shape::Texts => TEXTS,
            Shape::Words => {
                r#"{"type": ["array", "null"], "items": {"type": "string", "pattern": "\\S"}}"#
            }
            Shape::Command => {
                r#"{
                    "type": ["string", "array", "null"],
                    "pattern": "\\S",
                    "items": {"type": "string"},
                    "minItems": 1
                }"#
            }
            Shape::Env => {
                r#"{
                    "type": ["object", "array", "null"],
                    "additionalProperties": {"type": ["string", "null"]},
                    "items": {"type": "string"}
                }"#
            }
            Shape::ObjectOfTexts => TEXTS_BY_NAME,
            Shape::Oauth => {
                r##"{
                    "type": ["object", "null"],
                    "properties": {
                        "clientId": {"type": ["string", "null"]},
                        "clientSecret": {"type": ["string", "null"]},
                        "privateKey": {"type": ["string", "null"]},
                        "clientMetadataUrl": {"type": ["string", "null"]},
                        "redirectUrl": {"type": ["string", "null"]},
                        "issuer": {"type": ["string", "null"]},
                        "grant": {"enum": ["authorization_code", "client_credentials", null]},
                        "tokens": {"enum": ["server", "principal", null]},
                        "scopes": {"type": ["array", "null"], "items": {"type": "string"}},
                        "autoRegister": {"$ref": "#/$defs/switch"}
                    }
                }"##
            }
        })
    }
}

const TEXT: &str = r#"{"type": ["string", "null"], "pattern": "\\S"}"#;
const TEXTS: &str = r#"{"type": ["array", "null"], "items": {"type": "string"}}"#;
const TEXTS_BY_NAME: &str =
    r#"{"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}}"#;

fn number(least: u64, most: u64) -> Value {
    filled(
        r#"{"type": ["integer", "null"], "minimum": "$least", "maximum": "$most"}"#,
        &[("least", least.into()), ("most", most.into())],
    )
}

fn choice(words: &[&str], also: Option<&str>) -> Value {
    let words = words.iter().copied().chain(also).map(Value::from);
    let words = Value::Array(words.chain([Value::Null]).collect());
    filled(r#"{"enum": "$words"}"#, &[("words", words)])
}

/// The tree of keys that SETTINGS has.
fn gateway() -> Value {
    let mut root = table();
    for row in SETTINGS.iter().filter(|row| row.in_file) {
        insert(&mut root, row.key, setting(row));
        for alias in row.aliases {
            let mut other = setting(row);
            other["description"] = format!("{}; better write {}", row.help, row.key).into();
            other["deprecated"] = true.into();
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
    fixed(r#"{"type": ["object", "null"], "properties": {}, "additionalProperties": false}"#)
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
    schema["description"] = row.help.into();
    if let Some(default) = row.default {
        schema["default"] = plain_default(row.kind, default);
    }
    schema
}

fn of_kind(row: &Setting) -> Value {
    match row.kind {
        Kind::Switch => switch(),
        Kind::Number(least, most) | Kind::Millis(least, most) => number(least, most),
        Kind::Choice(words) => choice(words, row.deprecated.map(|(word, _)| word)),
        Kind::Size(least, most) => filled(
            r#"{
                "type": ["integer", "string", "null"],
                "minimum": "$least",
                "maximum": "$most",
                "pattern": "^\\s*[0-9]+\\s*([kKmMgG][bB]?)?\\s*$"
            }"#,
            &[("least", least.into()), ("most", most.into())],
        ),
        list if list.is_list() => fixed(
            r#"{
                "type": ["array", "string", "null"],
                "items": {"type": "string", "pattern": "\\S"}
            }"#,
        ),
        Kind::Levels => fixed(
            r#"{
                "type": ["object", "string", "null"],
                "additionalProperties": {"enum": ["off", "error", "warn", "info", "debug", null]}
            }"#,
        ),
        Kind::Headers => fixed(
            r#"{
                "type": ["object", "string", "null"],
                "additionalProperties": {"type": ["string", "null"]}
            }"#,
        ),
        Kind::Table(_) => tables::shape(row.key),
        Kind::Path
        | Kind::PathOr(_)
        | Kind::Host
        | Kind::Address
        | Kind::Word
        | Kind::Text
        | Kind::Document
        | Kind::Filter
        | Kind::Preset
        | Kind::Separator
        | Kind::Scopes
        | Kind::Site
        | Kind::PasswordHash
        | Kind::Url => fixed(TEXT),
        _ => fixed(TEXT),
    }
}

/// The default as it would stand in the file.
fn plain_default(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Switch => (text == "true").into(),
        Kind::Number(..) | Kind::Millis(..) => text.parse::<u64>().map_or(Value::Null, Value::from),
        _ => text.into(),
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
