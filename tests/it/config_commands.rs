//! The commands for files: what they print, what they write, and that they are true.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use onemcp::config::settings::{Flags, Kind, SETTINGS, Setting};
use onemcp::config::{Environment, load_file, schema};
use onemcp::secrets::store::Store;
use serde_json::{Value, json};

use crate::cli_support::{Folder, Gateway, Outcome, binary, run};
use crate::json_schema::mistakes;
use crate::repo::{read, root};

const SCHEMA_FILE: &str = "docs/schema/mcp.schema.json";

fn fails(outcome: &Outcome, code: i32) {
    assert_eq!(outcome.code, Some(code), "{}\n{}", outcome.out, outcome.err);
}

// The schema.

#[test]
fn the_schema_in_the_documentation_is_current() {
    let path = root().join(SCHEMA_FILE);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, schema::text()).unwrap();
    }
    let outcome = run(Folder::new().command(&["config", "schema"]), None);
    fails(&outcome, 0);
    assert!(
        outcome.out == read(SCHEMA_FILE),
        "run UPDATE=1 cargo test config_commands"
    );
}

/// JSON with comments and trailing commas as a value; `None` for what is no JSON.
fn plain(text: &str) -> Option<Value> {
    use onemcp::config::document::{Lines, Node, Notes, parse};
    let lines = Lines::new("", text);
    let mut notes = Notes::new(onemcp::config::problem::Scope::File);
    let value = parse(&lines, &mut notes)?;
    Some(Node::root(&lines, &value).plain(&mut notes))
}

#[test]
fn good_examples_satisfy_the_schema_and_unknown_keys_do_not() {
    let schema = schema::schema();
    let environment: Environment = [("HOME", "/"), ("PATH", "/"), ("API_KEY", "k")]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
    let (mut good, mut bad) = (0, 0);
    for entry in root().join("fixtures/config").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let loaded = load_file(&path, &Flags::default(), &environment, &Store::default());
        let Some(document) = plain(&std::fs::read_to_string(&path).unwrap()) else {
            continue;
        };
        let problems = match &loaded {
            Ok(config) => &config.problems,
            Err(error) => error.problems(),
        };
        let found = mistakes(&schema, &document);
        let is_unknown = |text: &str| text.contains("unknown key") || text.contains("expected a");
        if problems.is_empty() {
            assert!(found.is_empty(), "{}: {found:?}", path.display());
            good += 1;
        } else if problems.iter().any(|problem| is_unknown(&problem.message)) {
            assert!(!found.is_empty(), "{}: {problems:?}", path.display());
            bad += 1;
        }
    }
    assert!(good > 5 && bad > 2, "{good} {bad}");
}

#[test]
fn examples_of_the_documentation_satisfy_the_schema() {
    let schema = schema::schema();
    let mut seen = 0;
    for file in crate::repo::files() {
        let is_page = file.path.ends_with(".md") && !file.path.starts_with("fixtures/");
        for block in file
            .text
            .split("\n```json mcp.json\n")
            .skip(1)
            .filter(|_| is_page)
        {
            let text = block.split("\n```").next().unwrap();
            let found = mistakes(&schema, &plain(text).unwrap());
            assert!(found.is_empty(), "{}: {found:?}\n{text}", file.path);
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen}");
}

/// Values of every type.
fn samples() -> Vec<Value> {
    vec![
        json!(true),
        json!("true"),
        json!("off"),
        json!(0),
        json!(1),
        json!(5000),
        json!(-1),
        json!(1.5),
        json!("x"),
        json!(" "),
        json!("10m"),
        json!([]),
        json!(["x"]),
        json!([" "]),
        json!([1]),
        json!({}),
        json!({"a": "x"}),
        json!({"a": 1}),
        json!(null),
    ]
}

/// The types of values are judged alike; what texts must look like only the gateway knows.
#[test]
fn the_schema_says_what_the_gateway_says() {
    let schema = schema::schema();
    let folder = Folder::new();
    let check = |document: &Value, about: &str, value: &Value| {
        let path = folder.write("mcp.json", &document.to_string());
        let environment = Environment::new();
        let loaded = load_file(
            Path::new(&path),
            &Flags::default(),
            &environment,
            &Store::default(),
        );
        let problems = match &loaded {
            Ok(config) => &config.problems,
            Err(error) => error.problems(),
        };
        let found = mistakes(&schema, document);
        // The gateway trims words; an editor should not suggest that.
        let is_blank = value.as_str().is_some_and(|text| text.trim().is_empty());
        if problems.iter().all(|problem| !problem.is_error()) && !is_blank {
            assert!(found.is_empty(), "{about} {value}: {found:?}");
        } else if !value.is_string() && !value.is_array() && !value.is_null() {
            assert!(!found.is_empty(), "{about} {value}: {problems:?}");
        }
    };
    for key in onemcp::config::entry::KEYS {
        for value in samples() {
            // An address alone is no error of its type.
            let mut entry = json!({"command": "x", "url": "https://example.com"});
            if ["headers", "caFile", "proxy", "url"].contains(key) {
                entry = json!({"url": "https://example.com"});
            }
            if *key == "type" {
                entry = json!({"command": "x"});
            }
            entry[key] = value.clone();
            check(&json!({"mcpServers": {"a": entry}}), key, &value);
        }
    }
    let is_simple = |row: &&Setting| row.in_file && !matches!(row.kind, Kind::Table(_));
    for row in SETTINGS.iter().filter(is_simple) {
        for value in samples() {
            let gateway = row
                .key
                .rsplit('.')
                .fold(value.clone(), |inner, name| json!({name: inner}));
            let document = json!({"mcpServers": {}, "gateway": gateway});
            check(&document, row.key, &value);
        }
    }
}

#[test]
fn tables_are_judged_alike() {
    let schema = schema::schema();
    let folder = Folder::new();
    let check = |gateway: Value, is_good: bool| {
        let document = json!({"mcpServers": {}, "gateway": gateway});
        let path = folder.write("mcp.json", &document.to_string());
        let loaded = load_file(
            Path::new(&path),
            &Flags::default(),
            &Environment::new(),
            &Store::default(),
        );
        let found = mistakes(&schema, &document);
        assert_eq!(loaded.is_ok(), is_good, "{document}: {loaded:?}");
        assert_eq!(found.is_empty(), is_good, "{document}: {found:?}");
    };
    let alerts = json!({
        "sinks": {
            "hook": {"type": "webhook", "url": "https://example.com/x", "secret": "s",
                "headers": {"X-Team": "a"}, "minSeverity": "error", "timeout": 5000},
            "chat": {"type": "slack", "url": "https://example.com/y", "proxy": "environment"},
            "page": {"type": "pagerduty", "routingKey": "k"},
            "run": {"type": "command", "command": ["tell", "me"], "env": {"A": "b"}},
            "log": {"type": "log"},
        },
        "rules": {
            "serverDown": {"severity": "critical", "cooldown": 60_000, "servers": ["a"]},
            "drops": false,
        },
    });
    check(json!({"alerts": alerts}), true);
    for (at, value) in [
        ("/sinks/hook/type", json!("smoke")),
        ("/sinks/hook/timeout", json!(1)),
        ("/sinks/hook/headers", json!([])),
        ("/sinks/run/command", json!("tell me")),
        ("/rules/serverDown", json!({"severty": "error"})),
        ("/rules/serverDown/severity", json!("loud")),
        ("/rules/drops", json!(1)),
    ] {
        let mut alerts = alerts.clone();
        *alerts.pointer_mut(at).unwrap() = value;
        check(json!({"alerts": alerts}), false);
    }
    let kubernetes = json!({"role": "onemcp"});
    let providers = json!([
        "directories", "environment", "sealed", {"directory": "/etc/keys"},
        {"sealed": "keys.sealed", "keyFile": "/etc/onemcp/key"},
        {"command": ["op", "read", "op://vault/{name}"], "env": {"A": "b"}, "timeout": 5000},
        {"vault": "https://vault:8200", "mount": "kv", "kubernetes": kubernetes},
    ]);
    check(json!({"secrets": {"providers": providers}}), true);
    check(json!({"secrets": {"providers": 1}}), false);
}

// What is in force.

const CANARIES: usize = 9;

/// A configuration with a canary in every place where a secret may be, and the variables.
fn guarded(folder: &Folder) -> Vec<(&'static str, &'static str)> {
    let text = json!({
        "serverDefaults": {"env": {"SHARED": "canary-1"}},
        "mcpServers": {
            "tool": {
                "command": "tool",
                "args": ["--token", "canary-2", "--api-key=canary-3", "${FROM_OUTSIDE}", "plain"],
                "env": {"KEY": "canary-4", "OTHER": "${FROM_OUTSIDE}"},
                "cwd": "${FROM_OUTSIDE}/work",
                "tags": ["one"],
            },
            "web": {
                "url": "https://example.com/mcp?key=canary-5",
                "headers": {"Authorization": "Bearer canary-6", "X": "Bearer ${FROM_OUTSIDE}"},
            },
            "odd": {"command": ["x"], "env": ["LIST=canary-7"], "disabled": true},
        },
        "gateway": {
            "port": 4000,
            "otlp": {"headers": {"authorization": "canary-8"}},
            "alerts": {"sinks": {
                "chat": {"type": "slack", "url": "https://x/canary-9"},
                "hook": {"type": "webhook", "url": "https://x", "secret": "canary-9"},
                "page": {"type": "pagerduty", "routingKey": "canary-9"},
                "run": {"type": "command", "command": ["tell", "--token", "canary-9"]},
            }},
        },
    });
    folder.write("mcp.json", &text.to_string());
    vec![("FROM_OUTSIDE", "canary-0")]
}

fn check_no_canary(text: &str) {
    for number in 0..=CANARIES {
        let canary = format!("canary-{number}");
        assert!(!text.contains(&canary), "{canary} in {text}");
    }
}

#[test]
fn show_covers_whatever_could_be_secret() {
    let folder = Folder::new();
    let variables = guarded(&folder);
    for words in [
        &["config", "show"][..],
        &["config", "show", "--origin"],
        &["config", "show", "--json"],
    ] {
        let mut command = folder.command(words);
        command.args(["-c", "mcp.json"]).envs(variables.clone());
        let outcome = run(command, None);
        fails(&outcome, 0);
        check_no_canary(&outcome.out);
        check_no_canary(&outcome.err);
        for shown in [
            "${FROM_OUTSIDE}",
            "--api-key=********",
            "plain",
            "LIST=********",
        ] {
            assert!(outcome.out.contains(shown), "{shown}: {}", outcome.out);
        }
    }
}

#[test]
fn show_says_who_decided() {
    let folder = Folder::new();
    let variables = guarded(&folder);
    let mut command = folder.command(&["config", "show", "--json", "mcp.json", "--page-size", "7"]);
    command.envs(variables).env("ONE_MCP_LOG_LEVEL", "debug");
    let outcome = run(command, None);
    fails(&outcome, 0);
    let settings: BTreeMap<&str, &Value> = outcome
        .of_kind("setting")
        .into_iter()
        .map(|line| (line["key"].as_str().unwrap(), line))
        .collect();
    assert_eq!(settings.len(), SETTINGS.len());
    let check = |key: &str, value: Value, origin: &str, by: &str| {
        let line = settings[key];
        assert_eq!(
            (&line["value"], &line["origin"]),
            (&value, &json!(origin)),
            "{line}"
        );
        assert!(line["by"].as_str().unwrap().starts_with(by), "{line}");
    };
    check("port", json!(4000), "file", "mcp.json:1:");
    check("pageSize", json!(7), "flag", "--page-size");
    check(
        "logging.level",
        json!("debug"),
        "environment",
        "ONE_MCP_LOG_LEVEL",
    );
    check("host", json!("127.0.0.1"), "default", "default");
    assert_eq!(settings["port"]["line"], 1);

    let servers = outcome.of_kind("server");
    let names: Vec<&Value> = servers.iter().map(|server| &server["name"]).collect();
    assert_eq!(names, ["tool", "web", "odd"]);
    let tool = &servers[0]["effective"];
    assert_eq!(
        (&tool["transport"], &tool["requestTimeout"]),
        (&json!("stdio"), &json!(60_000))
    );
    let names = tool["environment"].as_array().unwrap();
    assert!(
        names.contains(&json!("SHARED")) && names.contains(&json!("KEY")),
        "{names:?}"
    );
    assert_eq!(tool["cwd"], Value::Null, "it came from a variable");
    assert_eq!(
        servers[1]["effective"]["headers"],
        json!(["Authorization", "X"])
    );
    assert_eq!(servers[2]["state"], "disabled");
}

#[test]
fn show_takes_all_files_together() {
    let folder = Folder::new();
    folder.write(
        "mcp.json",
        r#"{"mcpServers": {"a": {"command": "x", "args": ["1"]}}}"#,
    );
    folder.write(
        "mcp.test.json",
        r#"{"mcpServers": {"a": {"args": ["2"]}}, "gateway": {"pageSize": 5}}"#,
    );
    std::fs::create_dir_all(folder.0.join("conf.d")).unwrap();
    folder.write(
        "conf.d/b.json",
        r#"{"mcpServers": {"b": {"command": "y"}}}"#,
    );
    folder.write("config.toml", "port = 3055\n[logging]\nlevel = \"error\"\n");
    folder.write(".env", "UNUSED=canary-1\n");
    let words = [
        "config",
        "show",
        "--json",
        "-c",
        "mcp.json",
        "--environment",
        "test",
    ];
    let outcome = run(folder.command(&words), None);
    fails(&outcome, 0);
    let servers = outcome.of_kind("server");
    assert_eq!(servers[0]["entry"], json!({"command": "x", "args": ["2"]}));
    assert_eq!(servers[1]["file"], "conf.d/b.json");
    let by = |key: &str| -> String {
        let lines = outcome.of_kind("setting");
        let line = lines.iter().find(|line| line["key"] == key).unwrap();
        line["by"].as_str().unwrap().to_owned()
    };
    assert!(
        by("pageSize").starts_with("mcp.test.json:1:"),
        "{}",
        by("pageSize")
    );
    assert!(by("port").starts_with("config.toml:1:"), "{}", by("port"));
    assert!(
        by("logging.level").starts_with("config.toml:3:"),
        "{}",
        by("logging.level")
    );
    check_no_canary(&outcome.out);
}

#[test]
fn a_broken_file_is_told_by_every_command() {
    let folder = Folder::new();
    folder.write(
        "bad.json",
        "{\"mcpServers\": {}, \"gateway\": {\"port\": \"x\"}}",
    );
    folder.write("good.json", "{\"mcpServers\": {}}");
    for line in [
        "config check bad.json",
        "config check bad.json --json",
        "config show bad.json",
        "config diff bad.json -c good.json",
        "config diff good.json -c bad.json",
        "config check none.json",
        "config show none.json",
        "config diff none.json -c good.json",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let outcome = run(folder.command(&words), None);
        fails(&outcome, 78);
    }
    let outcome = run(
        folder.command(&["config", "check", "bad.json", "--json"]),
        None,
    );
    assert!(outcome.err.is_empty(), "{}", outcome.err);
    let summary = outcome.of_kind("summary");
    assert_eq!(
        (&summary[0]["ok"], &summary[0]["errors"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(outcome.lines.len(), 2);
    let outcome = run(
        folder.command(&["config", "check", "good.json", "--json"]),
        None,
    );
    fails(&outcome, 0);
    assert_eq!(outcome.line()["servers"], 0);
}

// What would change.

fn demo(kind: &str) -> Value {
    json!({"command": binary(), "args": ["demo-server", kind]})
}

/// Two files, the second with a change of every kind.
fn before_and_after(folder: &Folder) -> (Value, Value) {
    let with = |mut entry: Value, key: &str, value: Value| {
        entry[key] = value;
        entry
    };
    let before = json!({
        "mcpServers": {
            "stays": demo("clock"),
            "tagged": demo("clock"),
            "other": with(demo("clock"), "env", json!({"A": "canary-1"})),
            "goes": demo("notes"),
            "off": with(demo("notes"), "disabled", json!(true)),
            "placed": with(demo("notes"), "cwd", json!("sub")),
        },
        "gateway": {"port": 0, "logging": {"level": "warn"}},
    });
    let after = json!({
        "mcpServers": {
            "stays": demo("clock"),
            "tagged": with(demo("clock"), "tags", json!(["new"])),
            "other": with(demo("clock"), "env", json!({"A": "canary-2"})),
            "comes": demo("notes"),
            "off": demo("notes"),
            "placed": with(demo("notes"), "cwd", json!("sub")),
        },
        "gateway": {"port": 0, "logging": {"level": "info"}, "pageSize": 9, "maxBodyBytes": 2048},
    });
    for name in ["sub", "next", "next/sub"] {
        std::fs::create_dir_all(folder.0.join(name)).unwrap();
    }
    folder.write("mcp.json", &before.to_string());
    folder.write("next/mcp.json", &after.to_string());
    (before, after)
}

#[test]
fn diff_is_what_a_reload_does() {
    let folder = Folder::new();
    let (_, after) = before_and_after(&folder);
    let diff = |words: &[&str]| {
        let mut all = vec!["config", "diff", "-c", "mcp.json"];
        all.extend(words);
        run(folder.command(&all), None)
    };
    let of_file = diff(&["next/mcp.json", "--json"]);
    fails(&of_file, 1);
    let of_folder = diff(&["next", "--json"]);
    assert_eq!(
        of_file.lines, of_folder.lines,
        "relative paths are those of the place"
    );
    check_no_canary(&of_file.out);
    let text = diff(&["next"]);
    fails(&text, 1);
    assert!(
        text.out.contains("! server \"other\": started anew (env)"),
        "{}",
        text.out
    );
    check_no_canary(&text.out);

    let changed = |change: &str| -> Value {
        let lines = of_file.of_kind("server").into_iter();
        let lines = lines.filter(|line| line["change"] == change);
        lines.map(|line| line["name"].clone()).collect()
    };
    let settings = |waits: bool| -> Value {
        let lines = of_file.of_kind("setting").into_iter();
        let lines = lines.filter(|line| line["needsRestart"] == waits);
        lines.map(|line| line["key"].clone()).collect()
    };
    let mut gateway = Gateway::start(folder.command(&["-c", "mcp.json"]));
    folder.write("mcp.json", &after.to_string());
    let port = gateway.port.to_string();
    let outcome = run(folder.command(&["reload", "--json", "--port", &port]), None);
    fails(&outcome, 0);
    let report = &outcome.line()["report"];
    for (key, expect) in [
        ("added", changed("add")),
        ("removed", changed("remove")),
        ("replaced", changed("replace")),
        ("updated", changed("update")),
        ("needsRestart", settings(true)),
    ] {
        assert_eq!(report[key], expect, "{key}: {report}");
    }
    assert_eq!(changed("add"), json!(["comes", "off"]));
    let _ = gateway.child.kill();
    let _ = gateway.child.wait();
}

#[test]
fn diff_without_a_difference_and_with_a_refusal() {
    let folder = Folder::new();
    let (before, mut after) = before_and_after(&folder);
    folder.write("same.json", &serde_json::to_string_pretty(&before).unwrap());
    let outcome = run(
        folder.command(&["config", "diff", "same.json", "-c", "mcp.json"]),
        None,
    );
    fails(&outcome, 0);
    assert_eq!(outcome.out, "");
    after["mcpServers"]["stays"] = json!({"command": "${NOT_SET_ANYWHERE}"});
    folder.write("next/mcp.json", &after.to_string());
    let outcome = run(
        folder.command(&["config", "diff", "next", "-c", "mcp.json"]),
        None,
    );
    fails(&outcome, 78);
    assert!(outcome.err.contains("NOT_SET_ANYWHERE"), "{}", outcome.err);
}

// Import.

/// A home with the files of a program, as fixtures/import has them.
fn home(name: &str) -> Folder {
    let folder = Folder::new();
    copy(
        &root().join("fixtures/import").join(name),
        &folder.0,
        &folder.0,
    );
    folder
}

fn copy(from: &Path, to: &Path, home: &Path) {
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let place = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&place).unwrap();
            copy(&path, &place, home);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(place, text.replace("/home/me", home.to_str().unwrap())).unwrap();
        }
    }
}

/// Program, folder in which the command runs.
const PROGRAMS: &[(&str, &str)] = &[
    ("claude", "work/app"),
    ("cursor", "work/shop"),
    ("vscode", "work/site"),
    ("1mcp", "."),
];

fn import(folder: &Folder, place: &str, words: &[&str]) -> Outcome {
    let mut all = vec!["config", "import"];
    all.extend(words);
    let mut command = folder.command(&all);
    command.current_dir(folder.0.join(place));
    run(command, None)
}

/// `fixtures/import/NAME.txt` says what becomes of the files; `UPDATE=1` rewrites it.
#[test]
fn the_files_of_each_program_become_entries() {
    for (name, place) in PROGRAMS {
        let folder = home(name);
        let outcome = import(&folder, place, &[name]);
        fails(&outcome, 0);
        let picture = format!("{}\n{}", outcome.out, outcome.err);
        let picture = picture.replace(folder.0.to_str().unwrap(), "~");
        let path = root().join(format!("fixtures/import/{name}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &picture).unwrap();
        }
        let expect = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            picture == expect,
            "{name}: run UPDATE=1 cargo test config_commands\n{picture}"
        );
        assert!(!picture.contains("CANARY"), "{name}: {picture}");
        let own = folder.0.join(".config/onemcp");
        assert!(!own.exists(), "{name}: nothing is written without --write");

        let shown = import(&folder, place, &[name, "--show-secrets"]);
        assert!(
            shown.out.contains("CANARY") || *name == "vscode",
            "{name}: {}",
            shown.out
        );
        assert!(!shown.err.contains("CANARY"), "{name}: {}", shown.err);
    }
}

#[test]
fn what_was_imported_is_a_good_configuration() {
    let needed = [
        "SEARCH_TOKEN",
        "SUPABASE_PROJECT",
        "SUPABASE_TOKEN",
        "GITHUB_TOKEN",
    ];
    let needed = needed
        .into_iter()
        .chain(["PERPLEXITY_KEY", "DB_PASSWORD", "API_KEY"]);
    let variables: Vec<(&str, &str)> = needed.map(|name| (name, "value")).collect();
    for (name, place) in PROGRAMS {
        let folder = home(name);
        let outcome = import(&folder, place, &[name, "--write"]);
        fails(&outcome, 0);
        let line = outcome.line();
        let path = PathBuf::from(line["written"].as_str().unwrap());
        assert_eq!(path, folder.0.join(".config/onemcp/mcp.json"));
        assert_eq!(line["backup"], Value::Null);
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
        let text = std::fs::read_to_string(&path).unwrap();
        let found = mistakes(&schema::schema(), &plain(&text).unwrap());
        assert!(found.is_empty(), "{name}: {found:?}");
        let mut command = folder.command(&["config", "check", "--json"]);
        command.envs(variables.clone());
        let outcome = run(command, None);
        fails(&outcome, 0);

        // Once more: everything is there.
        let again = import(&folder, place, &[name, "--write"]);
        fails(&again, 0);
        assert_eq!(
            again.line()["written"],
            Value::Null,
            "{name}: {}",
            again.out
        );
        assert_eq!(again.line()["added"], json!([]), "{name}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name}");
    }
}

#[test]
fn what_people_wrote_stays() {
    let folder = home("cursor");
    let own = r#"{
  // mine
  "mcpServers": {
    "figma": { "command": "mine" }, // kept
    "last": { "command": "x", "env": { "K": "CANARYown" } }
  }
}
"#;
    std::fs::create_dir_all(folder.0.join("real")).unwrap();
    let real = folder.write("real/mcp.json", own);
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink(&real, folder.0.join("link.json")).unwrap();
    std::fs::create_dir_all(folder.0.join("real/conf.d")).unwrap();
    folder.write(
        "real/conf.d/a.json",
        "{\"mcpServers\": {\"shop\": {\"command\": \"y\"}}}",
    );

    let link = folder.0.join("real/mcp.json");
    let link = link.to_str().unwrap();
    let shown = import(&folder, "work/shop", &["cursor", "-c", link]);
    fails(&shown, 0);
    assert!(!shown.out.contains("CANARY"), "{}", shown.out);
    let linked = folder.0.join("link.json");
    let outcome = import(
        &folder,
        ".",
        &["cursor", "--write", "-c", linked.to_str().unwrap()],
    );
    fails(&outcome, 0);
    assert!(linked.is_symlink(), "the link stays");
    let line = outcome.line();
    assert_eq!(line["kept"], json!(["figma"]), "{line}");
    let text = std::fs::read_to_string(&real).unwrap();
    assert!(
        text.starts_with(own.trim_end_matches("\n  }\n}\n")),
        "{text}"
    );
    assert!(text.contains("\"brave-search\""), "{text}");
    let backup = line["backup"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(backup).unwrap(), own);
    for path in [real.as_str(), backup] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{path} holds secrets");
    }

    let outcome = import(&folder, "work/shop", &["cursor", "--write", "-c", link]);
    fails(&outcome, 0);
    let line = outcome.line();
    assert_eq!(line["kept"], json!(["figma", "shop"]), "a fragment has it");
    assert!(
        line["backup"].as_str().unwrap().ends_with(".bak1"),
        "{line}"
    );
}

#[test]
fn files_and_folders_can_be_named() {
    let folder = home("vscode");
    let site = folder.0.join("work/site");
    let site = site.to_str().unwrap();
    let file = format!("{site}/.vscode/mcp.json");
    for from in [site, &file] {
        let outcome = import(&folder, ".", &["vscode", "--from", from]);
        fails(&outcome, 0);
        assert!(
            outcome.out.contains(&format!("{site}/bin/db-mcp")),
            "{}",
            outcome.out
        );
        assert!(!outcome.out.contains("perplexity"), "{}", outcome.out);
    }
    let other = Folder::new();
    let home = folder.0.to_str().unwrap();
    let outcome = import(&other, ".", &["vscode", "--from", home]);
    fails(&outcome, 0);
    assert!(
        outcome.out.contains("perplexity") && outcome.out.contains("memory"),
        "{}",
        outcome.out
    );
}

#[test]
fn nothing_to_import() {
    let folder = Folder::new();
    for (name, _) in PROGRAMS {
        let outcome = import(&folder, ".", &[name]);
        fails(&outcome, 1);
        assert!(
            outcome.out.is_empty() && outcome.err.contains("--from"),
            "{}",
            outcome.err
        );
    }
    folder.write("empty.json", "");
    folder.write("none.json", "{\"mcpServers\": {}}");
    folder.write("bad.json", "{\"mcpServers\": {\"a\": ");
    let from = |file: &str| import(&folder, ".", &["claude", "--from", file]);
    fails(&from("empty.json"), 1);
    fails(&from("none.json"), 1);
    let outcome = from("bad.json");
    fails(&outcome, 78);
    assert!(outcome.err.contains("bad.json:1:"), "{}", outcome.err);

    folder.write(
        "good.json",
        "{\"mcpServers\": {\"a\": {\"command\": \"x\"}}}",
    );
    folder.write("mine.json", "[]");
    let outcome = import(
        &folder,
        ".",
        &["claude", "--from", "good.json", "-c", "mine.json"],
    );
    fails(&outcome, 78);
    let folder_is_file = import(
        &folder,
        ".",
        &[
            "claude",
            "--from",
            "good.json",
            "-c",
            "mine.json/x",
            "--write",
        ],
    );
    fails(&folder_is_file, 78);
}
