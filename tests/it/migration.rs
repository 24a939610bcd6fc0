//! Coming from 1MCP by replacing the command: the files of a home as 1MCP has them
//! (fixtures/migration), its variables and its flags.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cli_support::{Folder, Gateway, Outcome, PATIENCE, binary, eventually, run};
use crate::repo::{read, root};
use crate::support::http::{Connection, Request};

/// As its start scripts have them, but for the port.
const VARIABLES: &[(&str, &str)] = &[
    ("ONE_MCP_PORT", "0"),
    ("ONE_MCP_LOG_LEVEL", "info"),
    ("ONE_MCP_ENABLE_ASYNC_LOADING", "true"),
    ("ONE_MCP_ENABLE_AUTH", "false"),
    ("ONE_MCP_HEALTH_INFO_LEVEL", "full"),
    ("ONE_MCP_SESSION_TTL", "1440"),
    ("ONE_MCP_SESSION_STORAGE_PATH", "/var/lib/1mcp"),
    ("ONE_MCP_ADMIN_USERNAME", "admin"),
];
const FLAGS: &[&str] = &[
    "serve",
    "--transport",
    "http",
    "--host",
    "127.0.0.1",
    "--pagination",
    "--enable-client-notifications",
    "--enable-internal-tools=false",
    "--lazy-mode=full",
    "--rate-limit-window=15",
    "--trust-proxy=loopback",
];

/// A home with these files, and stand-ins for the programs that they start.
fn home() -> Folder {
    let folder = Folder::new();
    let (from, to) = (
        root().join("fixtures/migration/.config/1mcp"),
        folder.0.join(".config/1mcp"),
    );
    std::fs::create_dir_all(&to).unwrap();
    for name in ["mcp.json", "config.toml", "presets.json", ".env"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    std::fs::create_dir(folder.0.join("bin")).unwrap();
    for name in ["npx", "node"] {
        let text = format!("#!/bin/sh\nexec {} demo-server notes\n", binary());
        let path = folder.write(&format!("bin/{name}"), &text);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

fn command(folder: &Folder, words: &[&str]) -> Command {
    let mut command = folder.command(words);
    let path = format!("{}:/usr/bin:/bin", folder.0.join("bin").display());
    command.env("PATH", path).env("LANG", "C.UTF-8");
    command
}

fn started(folder: &Folder) -> Gateway {
    let mut command = command(folder, FLAGS);
    command.envs(VARIABLES.iter().copied());
    Gateway::start(command)
}

fn listed(gateway: &Gateway, folder: &Folder, query: &str) -> Outcome {
    let url = format!("{}{query}", gateway.url);
    run(command(folder, &["list", "--url", &url]), None)
}

fn health(gateway: &Gateway) -> Value {
    let port = u16::try_from(gateway.port).unwrap();
    let request = Request::new("GET", "/health");
    Connection::open(port).exchange(&request).json()
}

fn strings<'v>(values: &[&'v Value], key: &str) -> Vec<&'v str> {
    let texts = values.iter().filter_map(|value| value[key].as_str());
    texts.collect()
}

#[test]
fn the_files_are_found_and_nothing_in_them_is_an_error() {
    let folder = home();
    let outcome = run(command(&folder, &["config", "check"]), None);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!outcome.lines.is_empty(), "what is left out is told");
    let page = read("docs/migration.md");
    for problem in &outcome.lines {
        assert_eq!(problem["severity"], "warning", "{problem}");
        assert_eq!(problem["message"], "is known but not carried out");
        let path = problem["keyPath"].as_str().unwrap();
        let key = path.rsplit('.').next().unwrap();
        let told = page.contains(&format!("`{key}`")) || page.contains(&format!("{path}`"));
        assert!(told, "docs/migration.md does not name {path}");
    }
}

#[test]
fn the_same_start_gives_the_same_gateway() {
    let folder = home();
    let gateway = started(&folder);
    let all_ready = || health(&gateway)["servers"]["healthy"] == json!(3);
    assert!(eventually(PATIENCE, all_ready), "{}", health(&gateway));
    let health = health(&gateway);
    let member = |name: &str| health[name].is_object();
    for name in ["system", "servers", "configuration"] {
        assert!(member(name), "{name}: {health}");
    }
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["configuration"]["disabledCount"], 1);

    let outcome = listed(&gateway, &folder, "");
    let tools = outcome.of_kind("tool");
    let names = strings(&tools, "name");
    for name in ["files_1mcp_add_note", "tables_1mcp_add_note"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.contains(&"code_1mcp_add_note"), "disabledTools");
    let described = strings(&tools, "description");
    assert!(described.contains(&"Searches what was written down"));
    let (code, _) = gateway.end(Signal::TERM);
    assert_eq!(code, Some(0));
}

#[test]
fn filters_and_presets_show_the_same_part() {
    let folder = home();
    let gateway = started(&folder);
    let all_ready = || health(&gateway)["servers"]["healthy"] == json!(3);
    assert!(eventually(PATIENCE, all_ready), "{}", health(&gateway));
    for (query, expect) in [
        ("?tags=files", &["files"][..]),
        ("?tag-filter=team+not%20database", &["code"]),
        ("?preset=team", &["code"]),
        ("?tags=files,database", &["files", "tables"]),
    ] {
        let outcome = listed(&gateway, &folder, query);
        let tools = outcome.of_kind("tool");
        let mut servers: Vec<&str> = strings(&tools, "name")
            .into_iter()
            .filter_map(|name| name.split("_1mcp_").next())
            .collect();
        servers.dedup();
        assert_eq!(servers, expect, "{query}: {outcome:?}");
    }
}

/// What 1MCP would have put beside the files, or would do with them, does not happen.
#[test]
fn nothing_is_written_beside_the_files() {
    let folder = home();
    let names = |path: &Path| -> Vec<_> {
        let files = path.read_dir().unwrap().flatten();
        let mut names: Vec<_> = files.map(|file| file.file_name()).collect();
        names.sort();
        names
    };
    let place = folder.0.join(".config/1mcp");
    let before = names(&place);
    let gateway = started(&folder);
    let all_ready = || health(&gateway)["servers"]["healthy"] == json!(3);
    assert!(eventually(PATIENCE, all_ready), "{}", health(&gateway));
    let (code, _) = gateway.end(Signal::TERM);
    assert_eq!(code, Some(0));
    assert_eq!(names(&place), before);
    assert!(!folder.0.join(".config/onemcp").exists());
}
