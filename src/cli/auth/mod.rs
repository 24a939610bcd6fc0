//! `onemcp auth`: the commands about who may come in. `password` makes the hash of one; the
//! others ask a running gateway, which does what they say (`gateway::access`).

use std::io::Write;

use serde_json::{Value, json};

use crate::base::exit::{EXIT_FALSE, EXIT_USAGE};
use crate::base::limits;
use crate::base::sys::random_bytes;
use crate::cli::args::AuthVerb;
use crate::cli::control::{Heard, Talk, Voice};
use crate::cli::outcome::Failure;
use crate::cli::say;
use crate::cli::secret::{Refused, read_value};
use crate::cli::terminal::{padded, safe, size, width};
use crate::model::password::PasswordHash;

/// Prints the hash of a password that nobody sees.
pub fn password(out: &mut dyn Write) -> u8 {
    let password = match read_value("the operator's password") {
        Ok(password) => password,
        Err(Refused(code, text)) => {
            say(&format!("onemcp: {text}"));
            return code;
        }
    };
    let least = limits::PASSWORD_CHARS_LEAST;
    if password.chars().count() < least || password.len() > limits::PASSWORD_BYTES {
        let most = limits::PASSWORD_BYTES;
        say(&format!(
            "onemcp: failed to take the password: it needs at least {least} characters, and at \
             most {most} bytes"
        ));
        return EXIT_USAGE;
    }
    let mut salt = [0; 16];
    random_bytes(&mut salt);
    let hash = PasswordHash::of(&password, salt).text();
    match writeln!(out, "{hash}").and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(_) => EXIT_FALSE,
    }
}

pub(super) fn order(verb: &AuthVerb) -> Value {
    let (name, word) = match verb {
        AuthVerb::Approve(word) => ("approve", word.as_deref()),
        AuthVerb::Clients => ("clients", None),
        AuthVerb::Tokens => ("tokens", None),
        AuthVerb::Revoke(word) => ("revoke", Some(word.as_str())),
    };
    json!({"command": "auth", "verb": name, "word": word})
}

/// Shows what the gateway answers.
pub(super) fn tell(verb: &AuthVerb, mut talk: Talk, voice: &mut Voice) -> Result<u8, Failure> {
    let mut lines = Vec::new();
    let (last, text) = loop {
        match talk.next()? {
            Heard::Line(_, text) if voice.json => voice.line(&text)?,
            Heard::Line(value, _) => lines.push(value),
            Heard::Tick => {}
            Heard::Last(last, text) => break (last, text),
        }
    };
    if last["ok"] != true {
        return Ok(voice.fail(&last));
    }
    let columns: &[(&str, &str)] = match verb {
        AuthVerb::Approve(None) => &[
            ("REQUEST", "request"),
            ("AGE (S)", "ageSeconds"),
            ("FROM", "address"),
            ("CLIENT", "client"),
        ],
        AuthVerb::Clients => &[
            ("GRANTS", "grants"),
            ("KNOWN", "origin"),
            ("NAME", "name"),
            ("ALLOWED", "allowed"),
            ("CLIENT", "client"),
        ],
        AuthVerb::Tokens => &[
            ("GRANT", "grant"),
            ("SINCE", "since"),
            ("SCOPE", "scope"),
            ("CLIENT", "client"),
        ],
        AuthVerb::Approve(Some(_)) | AuthVerb::Revoke(_) => {
            let done = if voice.json { text } else { summary(&last) };
            voice.line(&done)?;
            return Ok(0);
        }
    };
    if !voice.json {
        let (most, _) = size(&voice.out);
        for line in table(columns, &lines, most) {
            voice.line(&line)?;
        }
    }
    Ok(0)
}

/// What was done, in a sentence.
fn summary(last: &Value) -> String {
    let approved = &last["approved"];
    match approved["request"].as_str() {
        Some(request) => {
            let client = safe(approved["client"].as_str().unwrap_or_default(), 60);
            format!("request {request} for {client} is approved: continue in the browser")
        }
        None => format!("revoked; grants that ended: {}", last["revoked"]),
    }
}

/// Rows under their titles, each column as wide as it must be.
fn table(columns: &[(&str, &str)], lines: &[Value], most: usize) -> Vec<String> {
    let titles: Vec<String> = columns
        .iter()
        .map(|(title, _)| (*title).to_owned())
        .collect();
    let mut rows = vec![titles];
    for line in lines {
        let cells = columns.iter().map(|(_, key)| match &line[*key] {
            Value::String(text) if text.is_empty() => "-".to_owned(),
            Value::String(text) => safe(text, 60),
            other => other.to_string(),
        });
        rows.push(cells.collect());
    }
    let mut shown = Vec::new();
    for row in &rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let widest = rows.iter().map(|row| width(&row[at])).max();
            line.push_str(&padded(cell, widest.unwrap_or_default()));
            line.push_str("  ");
        }
        shown.push(safe(line.trim_end(), most));
    }
    shown
}
