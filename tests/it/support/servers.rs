//! Entries of `mcpServers` that start our fixtures.

use std::path::PathBuf;

use serde_json::{Value, json};

pub(crate) fn gateway_binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_onemcp"))
}

pub(crate) fn example(name: &str) -> PathBuf {
    let file = gateway_binary()
        .parent()
        .unwrap()
        .join("examples")
        .join(name);
    let hint = "build it first: cargo build --examples";
    assert!(file.exists(), "{hint} ({})", file.display());
    file
}

/// An entry with further members, such as tags.
pub(crate) fn with(mut entry: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("not an object: {more}");
    };
    entry.as_object_mut().unwrap().extend(more);
    entry
}

pub(crate) fn everything(args: &[&str]) -> Value {
    json!({"command": example("everything"), "args": args})
}

pub(crate) fn hostile(args: &[&str]) -> Value {
    json!({"command": example("hostile"), "args": args})
}

/// A server of the gateway's own binary: `clock` or `notes`.
pub(crate) fn demo(name: &str) -> Value {
    json!({"command": gateway_binary(), "args": ["demo-server", name]})
}
