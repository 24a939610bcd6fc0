//! Loading from disk. Each `fixtures/config/NAME.json` has a `NAME.txt` that says what comes
//! out of it; `UPDATE=1 cargo test` rewrites them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{Config, Environment, LoadError, load, load_file, load_settings};
use crate::config::server::ServerState;
use crate::config::settings::Flags;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config")
}

fn environment() -> Environment {
    let variables = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/home/me"),
        ("API_KEY", "k3y"),
    ];
    variables
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

fn flags(pairs: &[(&'static str, &str)]) -> Flags {
    let mut flags = Flags::default();
    for (flag, text) in pairs {
        flags.set(flag, (*text).to_owned());
    }
    flags
}

/// What came out, without paths of this machine.
fn picture(loaded: &Result<Config, LoadError>) -> String {
    let mut out = String::new();
    let problems = match loaded {
        Ok(config) => {
            for server in &config.servers {
                let state = match &server.state {
                    ServerState::Enabled => "enabled".to_owned(),
                    ServerState::Disabled => "disabled".to_owned(),
                    ServerState::Invalid(reason) => format!("invalid: {reason}"),
                };
                let tags = server.tags.join(",");
                writeln!(out, "server {} [{tags}] {state}", server.name).unwrap();
                if let Some(process) = &server.process {
                    writeln!(out, "  run {} {:?}", process.program, process.args).unwrap();
                    let env = process.env.iter().map(|(name, _)| name.as_str());
                    writeln!(out, "  env {}", env.collect::<Vec<_>>().join(" ")).unwrap();
                }
                if let Some(remote) = &server.remote {
                    writeln!(out, "  ask {:?} {}", remote.kind, remote.url).unwrap();
                    let headers = remote.headers.iter().map(|(name, _)| name.as_str());
                    let headers = headers.collect::<Vec<_>>().join(" ");
                    writeln!(out, "  headers {headers} proxy {:?}", remote.proxy).unwrap();
                }
            }
            &config.problems
        }
        Err(error) => {
            writeln!(out, "exit {}", error.exit_code()).unwrap();
            error.problems()
        }
    };
    for problem in problems {
        let severity = if problem.is_error() {
            "error"
        } else {
            "warning"
        };
        writeln!(out, "{severity} {problem}").unwrap();
    }
    out.replace(&format!("{}/", fixtures().display()), "")
}

#[test]
fn every_example_loads_as_it_says() {
    let mut count = 0;
    for found in std::fs::read_dir(fixtures()).unwrap() {
        let path = found.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        count += 1;
        let loaded = load_file(&path, &Flags::default(), &environment());
        let expect_path = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expect_path, picture(&loaded)).unwrap();
        }
        let expect = std::fs::read_to_string(&expect_path).unwrap_or_default();
        assert_eq!(picture(&loaded), expect, "{}", path.display());
    }
    assert!(count >= 12, "{count} examples");
}

#[test]
fn presets_lie_beside_the_file() {
    let path = fixtures().join("with-presets/mcp.json");
    let config = load_file(&path, &Flags::default(), &environment()).unwrap();
    assert_eq!(config.presets.keys().collect::<Vec<_>>(), ["dev", "prod"]);
    assert!(
        config.presets["dev"]
            .query
            .as_ref()
            .unwrap()
            .matches(&["test".to_owned()])
    );
    assert_eq!(config.problems.len(), 1, "{:?}", config.problems);
    let folder = load_file(
        &fixtures().join("with-presets"),
        &Flags::default(),
        &environment(),
    );
    assert_eq!(folder.unwrap().presets.len(), 2);
}

#[test]
fn a_relative_path_gives_absolute_working_directories() {
    let path = Path::new("fixtures/config/process.json");
    let config = load_file(path, &Flags::default(), &environment()).unwrap();
    let cwd = config.servers[0]
        .process
        .as_ref()
        .unwrap()
        .cwd
        .clone()
        .unwrap();
    assert_eq!(cwd, fixtures().join("data"));
}

#[test]
fn exit_codes() {
    let minimal = fixtures().join("minimal.json");
    let check = |given: &[(&'static str, &str)], variables: &[(&str, &str)], expect: u8| {
        let mut environment = environment();
        environment.extend(
            variables
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
        );
        let loaded = load_file(&minimal, &flags(given), &environment);
        let code = loaded.as_ref().map_or_else(LoadError::exit_code, |_| 0);
        assert_eq!(code, expect, "{given:?} {variables:?}");
    };
    check(&[], &[], 0);
    check(&[("port", "x")], &[], 64);
    check(&[("port", "x"), ("host", "?")], &[], 64);
    check(&[], &[("ONE_MCP_PORT", "x")], 78);
    check(&[("host", "?")], &[("ONE_MCP_PORT", "x")], 78);
    check(&[], &[("ONE_MCP_NOPE", "x")], 0);
    let broken = load_file(
        &fixtures().join("broken.json"),
        &flags(&[("port", "x")]),
        &environment(),
    );
    let error = broken.unwrap_err();
    assert_eq!((error.exit_code(), error.problems().len()), (78, 2));
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let error = load(&flags(&[("config", "/nope/mcp.json")]), &environment()).unwrap_err();
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("/nope/mcp.json"), "{error}");
}

#[test]
fn without_any_file_the_places_are_named() {
    let mut environment = environment();
    environment.insert("HOME".into(), "/nope".into());
    let error = load(&Flags::default(), &environment).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit_code(), 78);
    for part in [
        "/nope/.config/onemcp/mcp.json",
        "/nope/.config/1mcp/mcp.json",
        "onemcp demo",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let bare = load(&Flags::default(), &Environment::new())
        .unwrap_err()
        .to_string();
    assert!(bare.contains("HOME"), "{bare}");
}

#[test]
fn settings_can_be_loaded_without_a_file() {
    let config = load_settings(&flags(&[("port", "0")]), &environment()).unwrap();
    assert_eq!((config.settings.port, config.path), (0, None));
    assert_eq!(
        load_settings(&flags(&[("port", "x")]), &environment())
            .unwrap_err()
            .exit_code(),
        64
    );
}
