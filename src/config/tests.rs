//! Loading from disk. Each `fixtures/config/NAME.json` has a `NAME.txt` that says what comes
//! out of it; `UPDATE=1 cargo test` rewrites them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{Config, Environment, LoadError, load_settings};
use crate::base::limits;
use crate::config::server::ServerState;
use crate::config::settings::{Flags, Origin, SETTINGS};
use crate::secrets::store::Store;

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

fn load_file(path: &Path, flags: &Flags, environment: &Environment) -> Result<Config, LoadError> {
    super::load_file(path, flags, environment, &Store::default())
}

fn load(flags: &Flags, environment: &Environment) -> Result<Config, LoadError> {
    super::load(flags, environment, &Store::default())
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

/// `layers/NAME.txt` says what comes out of the folder `layers` in the environment NAME.
#[test]
fn layers_come_together_as_they_say() {
    let folder = fixtures().join("layers");
    for environment_name in ["none", "production", "staging"] {
        let given: &[(&'static str, &str)] = match environment_name {
            "none" => &[],
            name => &[("environment", name)],
        };
        let loaded = load_file(&folder, &flags(given), &environment());
        let mut picture = picture(&loaded);
        let settings = &loaded.as_ref().unwrap().settings;
        for row in SETTINGS {
            let origin = settings.origin(row.key);
            if *origin != Origin::Default {
                writeln!(picture, "setting {} by {origin}", row.key).unwrap();
            }
        }
        let picture = picture.replace(&format!("{}/", fixtures().display()), "");
        let expect_path = folder.join(format!("{environment_name}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expect_path, &picture).unwrap();
        }
        let expect = std::fs::read_to_string(&expect_path).unwrap_or_default();
        assert_eq!(picture, expect, "{environment_name}");
    }
}

#[test]
fn values_come_from_the_process_before_dotenv() {
    let load = |variables: &[(&str, &str)]| {
        let mut environment = environment();
        let pairs = variables.iter();
        environment.extend(pairs.map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
        let folder = fixtures().join("layers");
        let given = flags(&[("environment", "production")]);
        let config = load_file(&folder, &given, &environment).unwrap();
        let process = config.servers[0].process.clone().unwrap();
        let env = process.env.iter();
        let env = env.map(|(name, value)| format!("{name}={}", value.expose()));
        env.collect::<Vec<_>>().join(" ")
    };
    let base = "HOME=/home/me PATH=/usr/bin:/bin REGION=";
    assert_eq!(load(&[]), format!("{base}eu-west-1 TOKEN=f1les # token"));
    let found = load(&[("REGION", "us"), ("FILES_TOKEN", "")]);
    assert_eq!(found, format!("{base}us TOKEN="));
}

/// A folder for one test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Folder {
        let own = format!("onemcp-config-{name}-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(own));
        for (name, text) in files {
            let path = folder.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the way of the system's own cleaning only.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const ONE: &str = r#"{"mcpServers": {"a": {"command": "x"}}}"#;

#[test]
fn a_broken_layer_rejects_everything_and_is_named() {
    let check = |name: &str, text: &str, expect: &str| {
        let folder = Folder::new("broken", &[("mcp.json", ONE), (name, text)]);
        let given = flags(&[("environment", "prod")]);
        let error = load_file(&folder.0, &given, &environment()).unwrap_err();
        let found = error.to_string();
        let file = name.split("/x").next().unwrap().split("/b").next().unwrap();
        let path = folder.0.join(file).display().to_string();
        assert!(found.contains(&path), "{name}: {found}");
        assert!(found.contains(expect), "{name}: {found}");
        assert!(!found.contains("hunter2"), "{name}: {found}");
        assert_eq!(error.exit_code(), 78, "{name}");
    };
    check(
        "mcp.json",
        "{\"mcpServers\"",
        "mcp.json:1:14: not valid JSON",
    );
    check("mcp.prod.json", "", "mcp.prod.json:1:1: the file is empty");
    check("mcp.prod.json", "{\n  \"a\"", "mcp.prod.json:2:");
    check(
        "mcp.prod.json",
        "[]",
        "mcp.prod.json:1:1: expected an object",
    );
    check("mcp.prod.json/x", "", "mcp.prod.json is not a file");
    check("conf.d/a.json", "", "a.json:1:1: the file is empty");
    check("conf.d/a.json", "{\"mcpServers\": {}", "a.json:1:");
    check(
        "conf.d/a.json",
        "5",
        "a.json:1:1: expected an object, found a number",
    );
    check(
        "conf.d/a.json",
        "{\"mcpServers\": []}",
        "a.json:1:16: mcpServers: expected",
    );
    check(
        "conf.d/a.json",
        "{\"gateway\": {\"port\": -1}}",
        "gateway.port",
    );
    check("conf.d/a.json/b", "", "a.json is not a file");
    check("conf.d", "", "failed to read");
    check(".env", "A=1\nhunter2", ".env:2:1: is no assignment");
    check(".env", "A='hunter2", ".env:1:3: the quote is not closed");
}

#[test]
fn a_setting_stands_in_one_fragment_only() {
    let files = [
        ("mcp.json", r#"{"mcpServers": {}, "gateway": {"port": 1}}"#),
        ("conf.d/a.json", r#"{"gateway": {"pageSize": 5}}"#),
        (
            "conf.d/b.json",
            r#"{"gateway": {"pageSize": 6, "port": 2}}"#,
        ),
    ];
    let folder = Folder::new("twice", &files);
    let error = load_file(&folder.0, &Flags::default(), &environment()).unwrap_err();
    let found = error
        .to_string()
        .replace(&format!("{}/", folder.0.display()), "");
    let expect = "conf.d/b.json:1:26: gateway.pageSize: sets the same thing twice; \
                  conf.d/a.json:1:26 says it already; keep one of the two\n\
                  conf.d/b.json:1:37: gateway.port: sets the same thing twice; \
                  mcp.json:1:40 says it already; keep one of the two";
    assert_eq!(found, expect);
}

#[test]
fn what_could_change_the_outcome_is_watched() {
    let files = [
        ("mcp.json", ONE),
        ("conf.d/b.json", ONE),
        ("conf.d/a.json", "{}"),
    ];
    let folder = Folder::new("watched", &files);
    let load = |path: &Path, given: &[(&'static str, &str)]| {
        let config = load_file(path, &flags(given), &environment()).unwrap();
        let shown = config.watched.iter().map(|path| path.display().to_string());
        let shown = shown.collect::<Vec<_>>().join(" ");
        shown.replace(&format!("{}/", folder.0.display()), "")
    };
    let rest = "conf.d conf.d/a.json conf.d/b.json .env config.toml presets.json";
    assert_eq!(load(&folder.0, &[]), format!("mcp.json {rest}"));
    let given = [("environment", "prod")];
    assert_eq!(
        load(&folder.0, &given),
        format!("mcp.json mcp.prod.json {rest}")
    );
    std::os::unix::fs::symlink("mcp.json", folder.0.join("other.json")).unwrap();
    let other = load(&folder.0.join("other.json"), &given);
    assert_eq!(other, format!("other.json other.prod.json {rest}"));
}

#[test]
fn odd_neighbours_do_no_harm() {
    let check = |files: &[(&str, &str)], expect: &str| {
        let folder = Folder::new("odd", &[&[("mcp.json", ONE)], files].concat());
        let config = load_file(&folder.0, &Flags::default(), &environment()).unwrap();
        assert_eq!(config.servers.len(), 1, "{files:?}");
        let found: Vec<String> = config.problems.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), usize::from(!expect.is_empty()), "{found:?}");
        assert!(found.join("").contains(expect), "{found:?}");
        assert_eq!(config.presets_lost, expect.contains("presets"), "{files:?}");
    };
    check(&[("mcp.prod.json", "{")], "");
    check(&[(".env/bin/python", "")], "");
    check(
        &[
            ("conf.d/a.txt", "{"),
            ("conf.d/.a.json", "{"),
            ("conf.d/..data", "{"),
        ],
        "",
    );
    check(&[("presets.json", "{")], "presets.json:1:1: not valid JSON");
    check(&[("presets.json/a", "{")], "presets.json is not a file");
}

#[test]
fn a_link_that_leads_nowhere_is_an_error() {
    for name in ["conf.d/a.json", ".env"] {
        let folder = Folder::new("link", &[("mcp.json", ONE), ("conf.d/b.json", "{}")]);
        std::os::unix::fs::symlink("gone", folder.0.join(name)).unwrap();
        let error = load_file(&folder.0, &Flags::default(), &environment()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn fragments_are_bounded() {
    let names: Vec<String> = (0..=limits::CONFIG_FRAGMENTS)
        .map(|number| format!("conf.d/{number}.json"))
        .collect();
    let files = names.iter().map(|name| (name.as_str(), "{}"));
    let files: Vec<(&str, &str)> = files.chain([("mcp.json", ONE)]).collect();
    let folder = Folder::new("many", &files);
    let error = load_file(&folder.0, &Flags::default(), &environment()).unwrap_err();
    assert!(error.to_string().contains("more than 256 files"), "{error}");
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
