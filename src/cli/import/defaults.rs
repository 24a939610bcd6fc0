//! The `serverDefaults` of 1MCP, written into the entries that they are meant for: where other
//! servers are there already, a default would reach those, too, with its headers and variables.
//! Pure.

use serde_json::{Map, Value};

/// Keys that a server with a `url` has no use for, and one that a server with a `command` has not.
const OF_PROCESSES: &[&str] = &[
    "env",
    "inheritParentEnv",
    "envFilter",
    "restartOnExit",
    "maxRestarts",
    "restartDelay",
];
const OF_REMOTES: &[&str] = &["headers", "oauth"];

/// `entry` as it is with `defaults`.
pub fn with_defaults(entry: &Value, defaults: &Map<String, Value>) -> Value {
    let Some(own) = entry.as_object() else {
        return entry.clone();
    };
    let mut whole = own.clone();
    let of_others = match own.contains_key("url") {
        true => OF_PROCESSES,
        false => OF_REMOTES,
    };
    for (key, default) in defaults {
        if of_others.contains(&key.as_str()) {
            continue;
        }
        let value = match own.get(key) {
            None => default.clone(),
            Some(own) => joined(key, own, default),
        };
        whole.insert(key.clone(), value);
    }
    Value::Object(whole)
}

/// What counts when both say something.
fn joined(key: &str, own: &Value, default: &Value) -> Value {
    match (key, own, default) {
        ("env", Value::Object(own), Value::Object(default)) => {
            let mut all = default.clone();
            all.extend(own.clone());
            Value::Object(all)
        }
        ("envFilter", Value::Array(own), Value::Array(default)) => {
            let mut all = default.clone();
            all.extend(own.iter().filter(|word| !default.contains(word)).cloned());
            Value::Array(all)
        }
        _ => own.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::with_defaults;
    use serde_json::json;

    #[test]
    fn each_server_gets_what_it_would_have_had() {
        let defaults = json!({
            "env": {"A": "default", "B": "default"}, "envFilter": ["X_*"], "timeout": 5,
            "headers": {"Authorization": "hunter2"}, "inheritParentEnv": true,
        });
        let defaults = defaults.as_object().unwrap();
        for (entry, expect) in [
            (
                json!({"command": "c", "env": {"B": "own"}, "envFilter": ["Y"], "timeout": 7}),
                json!({"command": "c", "env": {"A": "default", "B": "own"}, "timeout": 7,
                    "envFilter": ["X_*", "Y"], "inheritParentEnv": true}),
            ),
            (
                json!({"command": "c", "env": ["A"]}),
                json!({"command": "c", "env": ["A"], "envFilter": ["X_*"], "timeout": 5,
                    "inheritParentEnv": true}),
            ),
            (
                json!({"url": "http://h"}),
                json!({"url": "http://h", "timeout": 5, "headers": {"Authorization": "hunter2"}}),
            ),
            (
                json!({"url": "http://h", "headers": {}}),
                json!({"url": "http://h", "timeout": 5, "headers": {}}),
            ),
        ] {
            assert_eq!(with_defaults(&entry, defaults), expect);
        }
    }
}
