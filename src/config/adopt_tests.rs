//! What becomes of entries of other programs.

use std::path::Path;

use serde_json::{Value, json};

use super::{Outside, adopt};
use crate::config::client_file::servers;

/// The entry and the notes, of the one server of a document in the folder `/w`.
fn adopted(document: &Value) -> (Value, Vec<String>) {
    let found = servers(document, Some(Path::new("/w")));
    let read = |path: &Path| {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let known = path == Path::new("/w/.env") || path == Path::new("/home/me/vars");
        known.then(|| vec![pair("FROM_FILE", "a${b}"), pair("OWN", "file")])
    };
    let outside = Outside {
        home: Some(Path::new("/home/me")),
        read: &read,
    };
    let adopted = adopt(&found[0], &outside).unwrap();
    (Value::Object(adopted.entry), adopted.notes)
}

fn check(entry: Value, expect: Value, notes: &[&str]) {
    let (got, told) = adopted(&json!({"servers": {"x": entry}}));
    assert_eq!(got, expect);
    assert_eq!(told, notes);
}

#[test]
fn what_is_the_same_stays_the_same() {
    let entry = json!({
        "type": "stdio", "command": "npx", "args": ["-y", "pkg"], "cwd": "/srv",
        "env": {"A": "${A:-${B}}", "C": "${env:C}"}, "tags": ["web"], "disabledTools": ["t"],
    });
    check(entry.clone(), entry, &[]);
    let entry = json!({"type": "http", "url": "https://h/mcp", "headers": {"X": "${env:X}"}});
    check(entry.clone(), entry, &[]);
}

#[test]
fn other_words_for_the_same() {
    check(
        json!({"serverUrl": "https://h/mcp", "transport": "streamable-http", "enabled": false}),
        json!({"url": "https://h/mcp", "type": "streamableHttp", "disabled": true}),
        &[],
    );
    check(
        json!({
            "command": "c", "env": {"N": 8, "B": true, "G": null}, "args": [1, "a"], "cwd": "/",
        }),
        json!({"command": "c", "env": {"N": "8", "B": "true"}, "args": ["1", "a"], "cwd": "/"}),
        &[],
    );
    check(
        json!({"command": "c", "cwd": "/", "timeout": 60, "requestTimeout": 5000}),
        json!({"command": "c", "cwd": "/", "connectionTimeout": 60_000, "requestTimeout": 5000}),
        &[],
    );
}

#[test]
fn what_cannot_be_carried_over_is_told() {
    check(
        json!({"url": "https://h", "oauth": {"clientId": "s"}, "sandbox": {}, "icon": "x"}),
        json!({"url": "https://h", "oauth": {"clientId": "s"}}),
        &["\"sandbox\" is left out"],
    );
    check(
        json!({"command": "${config:tool.path}", "cwd": "/"}),
        json!({"command": "${config:tool.path}", "cwd": "/", "disabled": true}),
        &["${config:tool.path} is known to an editor only: it is disabled"],
    );
}

#[test]
fn a_program_of_a_folder_runs_there() {
    let runs_in = |entry: Value, expect: &str| {
        let (got, _) = adopted(&json!({"mcpServers": {"x": entry}}));
        assert_eq!(got["cwd"], expect);
    };
    runs_in(json!({"command": "c"}), "/w");
    runs_in(json!({"command": "c", "cwd": "sub"}), "/w/sub");
    runs_in(
        json!({"command": "c", "cwd": "${workspaceFolder}/sub"}),
        "/w/sub",
    );
    runs_in(json!({"command": "c", "cwd": "${userHome}"}), "${HOME}");
    check(
        json!({"command": "${workspaceFolder}/bin${/}run", "args": ["${workspaceFolderBasename}"]}),
        json!({"command": "/w/bin/run", "args": ["w"], "cwd": "/w"}),
        &[],
    );
}

#[test]
fn questions_become_variables() {
    let document = json!({
        "inputs": [
            {"type": "promptString", "id": "api-key", "password": true, "default": "never"},
            {"type": "pickString", "id": "region", "options": ["eu", "us"], "default": "eu"},
        ],
        "servers": {"x": {
            "command": "c", "cwd": "/",
            "env": {"KEY": "${input:api-key}", "ALSO": "${input:api-key}"},
            "args": ["--region=${input:region}", "${input:unknown}"],
        }},
    });
    let (entry, notes) = adopted(&document);
    assert_eq!(
        entry["env"],
        json!({"KEY": "${API_KEY}", "ALSO": "${API_KEY}"})
    );
    assert_eq!(
        entry["args"],
        json!(["--region=${REGION:-eu}", "${UNKNOWN}"])
    );
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("API_KEY is needed"))
    );
}

#[test]
fn files_of_variables_are_copied() {
    let copied = "2 variables of its envFile are copied into env";
    for file in [
        "${workspaceFolder}/.env",
        ".env",
        "~/vars",
        "${userHome}/vars",
    ] {
        check(
            json!({"command": "c", "cwd": "/", "env": {"OWN": "mine"}, "envFile": file}),
            json!({"command": "c", "cwd": "/", "env": {"OWN": "mine", "FROM_FILE": "a$${b}"}}),
            &[copied],
        );
    }
    check(
        json!({"command": "c", "cwd": "/", "envFile": "none"}),
        json!({"command": "c", "cwd": "/"}),
        &["the file of variables that it names is not there: write them in env"],
    );
}

#[test]
fn nothing_can_be_made_of_these() {
    for entry in [json!(1), json!({}), json!({"type": "stdio", "args": []})] {
        let document = json!({"mcpServers": {"x": entry}});
        let outside = Outside {
            home: None,
            read: &|_| None,
        };
        assert!(
            adopt(&servers(&document, None)[0], &outside).is_err(),
            "{document}"
        );
    }
}
