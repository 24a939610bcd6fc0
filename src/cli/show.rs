//! `onemcp config show`: the settings in force with who decided them, and what each server's
//! entry became. What could be secret is covered, and so is what came from a variable or a
//! secret: of a template its own text is shown, not what it stands for.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::terminal::padded;
use crate::config::check::Written;
use crate::config::problem::Place;
use crate::config::server::{Instances, ServerConfig, ServerState};
use crate::config::settings::{Flags, Origin, SETTINGS, Setting};
use crate::config::{Config, Environment, load_named, load_written, mask};
use crate::secrets::store::Store;

#[derive(Clone, Copy)]
pub struct How {
    /// Text says where each value comes from; JSON always does.
    pub origin: bool,
    pub json: bool,
}

/// What is wrong goes to `err`. Gives the exit code.
pub fn run(
    file: Option<&Path>,
    how: How,
    flags: &Flags,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let loaded = load_named(file, flags, environment, &Store::default());
    let config = match loaded {
        Ok(config) => config,
        Err(error) => {
            writeln!(err, "error: {error}")?;
            return Ok(error.exit_code());
        }
    };
    let written = load_written(file, flags, environment);
    if how.json {
        write_json(&config, &written, out)?;
    } else {
        write_text(&config, &written, how.origin, out)?;
    }
    out.flush()?;
    for problem in &config.problems {
        let severity = if problem.is_error() {
            "error"
        } else {
            "warning"
        };
        writeln!(err, "{severity}: {problem}")?;
    }
    Ok(0)
}

fn write_json(config: &Config, written: &[Written], out: &mut dyn Write) -> io::Result<()> {
    for row in SETTINGS {
        let origin = config.settings.origin(row.key);
        let mut line = json!({
            "kind": "setting",
            "key": row.key,
            "value": value(config, row),
            "origin": origin_word(origin),
            "by": origin.to_string(),
        });
        if let Origin::File(place) = origin {
            add_place(&mut line, place);
        }
        writeln!(out, "{line}")?;
    }
    for server in &config.servers {
        let known = written.iter().find(|one| one.name == server.name);
        let (state, reason) = state(server);
        let mut line = json!({
            "kind": "server",
            "name": server.name,
            "state": state,
            "reason": reason,
            "entry": known.map(|written| mask::entry(&written.entry)),
            "effective": effective(server, known),
        });
        if let Some(written) = known {
            add_place(&mut line, &written.place);
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn add_place(line: &mut Value, place: &Place) {
    line["file"] = json!(place.file);
    line["line"] = json!(place.line);
    line["column"] = json!(place.column);
}

fn write_text(
    config: &Config,
    written: &[Written],
    with_origin: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let path = config
        .path
        .as_deref()
        .map(|path| path.display().to_string());
    writeln!(out, "# {}", path.as_deref().unwrap_or("no file"))?;
    let widest = SETTINGS.iter().map(|row| row.key.len()).max().unwrap_or(0);
    for row in SETTINGS {
        let shown = match value(config, row) {
            Value::Null => "-".to_owned(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        let origin = match with_origin {
            true => format!("  ({})", config.settings.origin(row.key)),
            false => String::new(),
        };
        writeln!(out, "{} {shown}{origin}", padded(row.key, widest))?;
    }
    for server in &config.servers {
        write_server(server, written, with_origin, out)?;
    }
    Ok(())
}

fn write_server(
    server: &ServerConfig,
    written: &[Written],
    with_origin: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let known = written.iter().find(|one| one.name == server.name);
    let (state, reason) = state(server);
    let place = known
        .filter(|_| with_origin)
        .map_or_else(String::new, |written| {
            let Place { file, line, column } = &written.place;
            format!("  ({file}:{line}:{column})")
        });
    writeln!(
        out,
        "\nserver {}: {state}{place}",
        Value::from(server.name.as_str())
    )?;
    if let Some(reason) = reason {
        writeln!(out, "  {reason}")?;
    }
    if let Some(Value::Object(entry)) = known.map(|written| mask::entry(&written.entry)) {
        write_members(&entry, out)?;
    }
    let Value::Object(mut effective) = effective(server, known) else {
        return Ok(());
    };
    effective.retain(|_, value| !value.is_null() && *value != json!([]));
    writeln!(out, "  in effect:")?;
    for (key, value) in &effective {
        writeln!(out, "    {key}: {value}")?;
    }
    Ok(())
}

fn write_members(entry: &Map<String, Value>, out: &mut dyn Write) -> io::Result<()> {
    for (key, value) in entry {
        writeln!(out, "  {key}: {value}")?;
    }
    Ok(())
}

fn value(config: &Config, row: &Setting) -> Value {
    mask::setting(row, &config.settings.plain(row))
}

/// Who decided, for scripts.
fn origin_word(origin: &Origin) -> &'static str {
    match origin {
        Origin::Default => "default",
        Origin::File(_) => "file",
        Origin::Flag(_) => "flag",
        Origin::Environment(_) => "environment",
    }
}

fn state(server: &ServerConfig) -> (&'static str, Option<&str>) {
    match &server.state {
        ServerState::Enabled => ("enabled", None),
        ServerState::Disabled => ("disabled", None),
        ServerState::Invalid(reason) => ("invalid", Some(reason)),
    }
}

/// What holds for the server once the defaults and the rest of the file are taken in. Of its
/// environment and headers only the names.
fn effective(server: &ServerConfig, written: Option<&Written>) -> Value {
    let names =
        |pairs: &mut dyn Iterator<Item = &String>| -> Vec<String> { pairs.cloned().collect() };
    let process = server.process.as_ref();
    let remote = server.remote.as_ref();
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let environment = process.map(|spec| names(&mut spec.env.iter().map(|(name, _)| name)));
    json!({
        "transport": match (process, remote) {
            (Some(_), _) => Some("stdio"),
            (None, Some(spec)) => Some(spec.kind.word()),
            (None, None) => None,
        },
        "cwd": process.and_then(|spec| spec.cwd.as_ref()).filter(|_| is_plain(written, "cwd")),
        "environment": environment,
        "headers": remote.map(|spec| names(&mut spec.headers.iter().map(|(name, _)| name))),
        "secrets": server.secrets,
        "tags": server.tags,
        "dependsOn": server.depends_on,
        "connectionTimeout": millis(server.connection_timeout),
        "requestTimeout": millis(server.request_timeout),
        "instances": instances_word(server.instances),
        "maxInstances": server.max_instances,
        "instanceIdleTimeout": millis(server.instance_idle),
        "required": server.required,
        "restartOnExit": server.restart.on_exit,
        "maxRestarts": server.restart.max,
        "restartDelay": server.restart.delay.map(millis),
    })
}

/// True when the member stands there without anything to be filled in.
fn is_plain(written: Option<&Written>, key: &str) -> bool {
    let value = written.and_then(|written| written.entry.get(key)?.as_str());
    value.is_some_and(|text| !text.contains('$'))
}

fn instances_word(instances: Instances) -> &'static str {
    match instances {
        Instances::Auto => "auto",
        Instances::Shared => "shared",
        Instances::Session => "session",
        Instances::Principal => "principal",
    }
}
