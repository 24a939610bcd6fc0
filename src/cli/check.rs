//! `onemcp config check`: every problem of a configuration, for people and for scripts.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::config::Config;
use crate::config::Environment;
use crate::config::LoadError;
use crate::config::load_named;
use crate::config::problem::{Problem, Scope, Severity};
use crate::config::server::ServerState;
use crate::config::settings::Flags;
use crate::secrets::store::Store;

/// Problems as JSON lines to `out`, and as text to `err`, which is for people: with `json` a last
/// line to `out` says what it came to instead. Gives the exit code.
pub fn run(
    file: Option<&Path>,
    json: bool,
    flags: &Flags,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut loaded = load_named(file, flags, environment, &Store::default());
    // A gateway starts without the overlay that it was told of, as it goes on when the file goes.
    // Here the question is whether what was asked for is there.
    if let Ok(config) = &mut loaded {
        let missing = |problem: &&mut Problem| problem.scope == Scope::Setting("environment");
        let problems = config.problems.iter_mut().filter(missing);
        problems.for_each(|problem| problem.severity = Severity::Error);
    }
    let problems = match &loaded {
        Ok(config) => &config.problems,
        Err(error) => error.problems(),
    };
    for problem in problems {
        writeln!(out, "{}", problem.json_line())?;
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        if !json {
            writeln!(err, "{severity}: {problem}")?;
        }
    }
    let code = match &loaded {
        Ok(_) if problems.iter().any(Problem::is_error) => 78,
        Ok(_) => 0,
        Err(error) => error.exit_code(),
    };
    if json {
        writeln!(out, "{}", last_line(&loaded, problems, code))?;
    } else {
        writeln!(err, "{}", summary(&loaded, problems))?;
    }
    out.flush()?;
    Ok(code)
}

fn summary(loaded: &Result<Config, LoadError>, problems: &[Problem]) -> String {
    let config = match loaded {
        Ok(config) => config,
        Err(error @ LoadError::NotFound { .. }) => return format!("error: {error}"),
        Err(LoadError::Rejected { .. }) => return format!("rejected: {}", counts(problems)),
    };
    let enabled = config
        .servers
        .iter()
        .filter(|server| server.state == ServerState::Enabled);
    let path = config.path.as_deref().unwrap_or(Path::new("mcp.json"));
    let (all, usable) = (config.servers.len(), enabled.count());
    let servers = plural(all, "server");
    format!(
        "{}: {servers}, {usable} of them enabled and valid, {}",
        path.display(),
        counts(problems)
    )
}

fn last_line(loaded: &Result<Config, LoadError>, problems: &[Problem], code: u8) -> Value {
    let config = loaded.as_ref().ok();
    let servers = config.map(|config| config.servers.len());
    let enabled = config.map(|config| {
        let mut servers = config.servers.iter();
        let states = servers.by_ref().map(|server| &server.state);
        states
            .filter(|state| **state == ServerState::Enabled)
            .count()
    });
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let not_found = match loaded {
        Err(error @ LoadError::NotFound { .. }) => Some(error.to_string()),
        _ => None,
    };
    json!({
        "kind": "summary",
        "ok": code == 0,
        "file": config.and_then(|config| config.path.as_ref()),
        "servers": servers,
        "enabled": enabled,
        "errors": errors,
        "warnings": problems.len() - errors,
        "message": not_found,
    })
}

fn counts(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    format!(
        "{}, {}",
        plural(errors, "error"),
        plural(warnings, "warning")
    )
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 {
        format!("1 {word}")
    } else {
        format!("{count} {word}s")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::run;
    use crate::config::Environment;
    use crate::config::settings::Flags;

    fn check(file: &str, expect_code: u8, expect_lines: usize) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/config")
            .join(file);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (flags, environment) = (Flags::default(), Environment::new());
        let code = run(Some(&path), false, &flags, &environment, &mut out, &mut err).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(code, expect_code, "{file}: {text}");
        assert_eq!(text.lines().count(), expect_lines, "{file}: {text}");
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value["keyPath"].is_string());
        }
        let err = String::from_utf8(err).unwrap();
        assert_eq!(err.lines().count(), expect_lines + 1, "{file}: {err}");
    }

    #[test]
    fn exit_codes_and_lines() {
        check("minimal.json", 0, 0);
        check("unknown-keys.json", 0, 5);
        check("one-bad-entry.json", 78, 1);
        check("broken.json", 78, 1);
        check("not-there.json", 78, 1);
    }

    #[test]
    fn an_overlay_that_was_asked_for_and_is_not_there_fails_the_check() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config");
        let of = |environment: &str| {
            let flags = ["config", "check", "--environment", environment];
            let flags = crate::cli::args::parse(flags).unwrap().flags;
            let path = folder.join("minimal.json");
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let known = Environment::new();
            let code = run(Some(&path), false, &flags, &known, &mut out, &mut err).unwrap();
            (code, String::from_utf8(out).unwrap())
        };
        let (code, out) = of("nowhere");
        assert_eq!(code, 78, "{out}");
        let missing = out.contains("minimal.nowhere.json is not there");
        assert!(missing && out.contains("\"severity\":\"error\""), "{out}");
    }

    /// Also of a flag; scripts read the last line.
    #[test]
    fn with_json_everything_is_said_in_lines_of_json() {
        let words = [
            "config",
            "check",
            "mcp.json",
            "--json",
            "--enable-sse=maybe",
        ];
        let flags = crate::cli::args::parse(words).unwrap().flags;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config/minimal.json");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(
            Some(&path),
            true,
            &flags,
            &Environment::new(),
            &mut out,
            &mut err,
        );
        assert_eq!(code.unwrap(), 64);
        assert!(err.is_empty(), "{err:?}");
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["keyPath"], "--enable-sse", "{text}");
        assert_eq!(lines[1]["kind"], "summary", "{text}");
    }
}
