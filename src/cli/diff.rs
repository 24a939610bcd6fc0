//! `onemcp config diff`: what a reload would do if another file were in the place of the one
//! that the gateway uses. Nothing is changed, and no value is shown that could be secret.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::base::exit::{EXIT_CONFIGURATION, EXIT_FALSE};
use crate::config::plan::{Change, Plan, SettingChange, hold_lacking, newly_broken, plan};
use crate::config::settings::{Flags, SETTINGS};
use crate::config::{Config, Environment, load, load_instead, mask};
use crate::secrets::store::Store;

/// The plan goes to `out`, what is wrong to `err`. Exit code 0 when nothing would change.
pub fn run(
    from: &Path,
    as_json: bool,
    flags: &Flags,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let old = load(flags, environment, &Store::default());
    let new = load_instead(from, flags, environment, &Store::default());
    let (old, mut new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(error), _) => {
            writeln!(err, "error: of what is used now: {error}")?;
            return Ok(error.exit_code());
        }
        (_, Err(error)) => {
            writeln!(err, "error: {error}; a reload would change nothing")?;
            return Ok(error.exit_code());
        }
    };
    new.keep_lost_presets(&old);
    let held = hold_lacking(&old, &mut new);
    let plan = plan(&old, &new);
    for line in lines(&plan, &old, &new) {
        match as_json {
            true => writeln!(out, "{line}")?,
            false => writeln!(out, "{}", text_of(&line))?,
        }
    }
    out.flush()?;
    let broken = newly_broken(&old, &new);
    for problem in new.problems.iter().filter(|problem| problem.is_error()) {
        writeln!(err, "error: {problem}")?;
    }
    if !broken.is_empty() {
        let names = broken.join(", ");
        writeln!(
            err,
            "error: {names}: not usable any more; a reload would change nothing"
        )?;
        return Ok(EXIT_CONFIGURATION);
    }
    for name in held {
        writeln!(err, "error: {name}: goes on as it is until that is there")?;
    }
    if plan.is_empty() {
        writeln!(err, "no difference")?;
        return Ok(0);
    }
    Ok(EXIT_FALSE)
}

/// One for each thing that changes.
fn lines(plan: &Plan, old: &Config, new: &Config) -> Vec<Value> {
    let changed = plan
        .servers
        .iter()
        .filter(|(_, change)| *change != Change::Keep);
    let mut lines: Vec<Value> = changed
        .map(|(name, change)| server_line(name, change))
        .collect();
    lines.extend(
        plan.settings
            .iter()
            .map(|change| setting_line(change, old, new)),
    );
    if plan.order {
        lines.push(json!({"kind": "order"}));
    }
    if plan.presets {
        lines.push(json!({"kind": "presets"}));
    }
    lines
}

fn server_line(name: &str, change: &Change) -> Value {
    let (word, fields): (&str, &[&str]) = match change {
        Change::Keep => ("keep", &[]),
        Change::Metadata(fields) => ("update", fields),
        Change::Replace(fields) => ("replace", fields),
        Change::Add => ("add", &[]),
        Change::Remove => ("remove", &[]),
    };
    json!({"kind": "server", "name": name, "change": word, "fields": fields})
}

fn setting_line(change: &SettingChange, old: &Config, new: &Config) -> Value {
    let row = SETTINGS.iter().find(|row| row.key == change.key);
    let value = |config: &Config| row.map(|row| mask::setting(row, &config.settings.plain(row)));
    json!({
        "kind": "setting",
        "key": change.key,
        "from": value(old),
        "to": value(new),
        "needsRestart": !change.reloadable,
    })
}

fn text_of(line: &Value) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    match text("kind") {
        "server" => {
            let (sign, word) = match text("change") {
                "add" => ('+', "added"),
                "remove" => ('-', "removed"),
                "replace" => ('!', "started anew"),
                _ => ('~', "updated, goes on running"),
            };
            let fields = line["fields"].as_array().into_iter().flatten();
            let fields: Vec<&str> = fields.filter_map(Value::as_str).collect();
            let why = match fields.as_slice() {
                [] => String::new(),
                fields => format!(" ({})", fields.join(", ")),
            };
            format!("{sign} server {}: {word}{why}", line["name"])
        }
        "setting" => {
            let restart = match line["needsRestart"] == true {
                true => "; waits for a restart of the gateway",
                false => "",
            };
            let (key, from, to) = (text("key"), &line["from"], &line["to"]);
            format!("~ setting {key}: {from} -> {to}{restart}")
        }
        "order" => "~ servers stand in another order".to_owned(),
        _ => "~ presets".to_owned(),
    }
}
