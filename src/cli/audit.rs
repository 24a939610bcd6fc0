//! `onemcp audit verify`: whether an audit log is as the gateway wrote it. Says what is wrong on
//! stderr, or each thing as a JSON object on stdout.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::exit::{EXIT_CONFIGURATION, EXIT_FALSE, EXIT_USAGE};
use crate::base::limits;
use crate::cli::args::AuditFlags;
use crate::cli::say;
use crate::config::settings::{Flags, Settings};
use crate::config::{load_settings, process_environment, secret_sources};
use crate::journal::audit::head::{self, Head};
use crate::journal::audit::verify::{Judge, Terms, Verdict};
use crate::journal::audit::{key, run as log};
use crate::journal::file::aside;
use crate::wire::hex;
use crate::wire::json::quoted;

/// Gives the exit code.
pub fn run(asked: &AuditFlags, flags: &Flags, out: &mut dyn Write) -> u8 {
    let verdict = match judged(asked, flags) {
        Ok(verdict) => verdict,
        Err((code, why)) => {
            say(&format!("onemcp: failed to {why}"));
            return code;
        }
    };
    let told = match asked.json {
        true => tell_programs(&verdict, out),
        false => tell_people(&verdict, out),
    };
    match (told, verdict.wrong) {
        (Ok(()), 0) => 0,
        _ => EXIT_FALSE,
    }
}

type Failed = (u8, String);

fn judged(asked: &AuditFlags, flags: &Flags) -> Result<Verdict, Failed> {
    let environment = process_environment();
    let config = load_settings(flags, &environment)
        .map_err(|error| (error.exit_code(), format!("read the settings: {error}")))?;
    let settings = &config.settings;
    let state = secret_sources::state_folder(settings, &environment);
    let own = settings.audit.file.clone();
    let own = own.or_else(|| Some(state.as_deref()?.join(log::FILE)));
    let Some(last) = asked.files.last().or(own.as_ref()) else {
        return Err((EXIT_USAGE, "find the log: name its files".to_owned()));
    };
    let mut terms = terms(asked, settings, state.as_deref())?;
    // Before the log, which may go on meanwhile.
    let must = own.as_ref() == Some(last) && !asked.mixed;
    let head = stood(last, must, &terms);
    let files = match asked.files.as_slice() {
        [] => usual(last, settings.audit.max_files),
        files => files.to_vec(),
    };
    terms.stood = head.clone().unwrap_or_default();
    let mut judge = Judge::new(terms);
    if let Err((place, why)) = head {
        judge.wrong_at(place, why);
    }
    for path in &files {
        let shown = path.display();
        let cannot = |error| (EXIT_CONFIGURATION, format!("read {shown}: {error}"));
        let mut file = BufReader::new(File::open(path).map_err(cannot)?);
        let mut number = 0;
        loop {
            let mut line = Vec::new();
            // A longer one is none of ours, and the rest of it is no better.
            let mut part = file.by_ref().take(2 * limits::AUDIT_LINE_BYTES as u64);
            if part.read_until(b'\n', &mut line).map_err(cannot)? == 0 {
                break;
            }
            number += 1;
            judge.line(format!("{shown}:{number}"), &line);
        }
    }
    Ok(judge.end())
}

/// The file of the settings, and before it those that were put aside.
fn usual(log: &Path, max_files: usize) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = (1..=max_files)
        .map(|number| aside(log, number))
        .take_while(|path| path.exists())
        .collect();
    files.reverse();
    // One that was taken away is missed by its head.
    if log.exists() || !head::path(log).exists() {
        files.push(log.to_owned());
    }
    files
}

/// How far the log went, as the head beside its last file tells, if there is or must be one. Else
/// where what is wrong.
fn stood(log: &Path, must: bool, terms: &Terms) -> Result<Option<Head>, (String, String)> {
    let place = head::path(log).display().to_string();
    match head::read(log, terms.public.as_deref().unwrap_or_default()) {
        Ok(None) if must => Err((place, "is missing, so the log's end may be".to_owned())),
        found => found.map_err(|why| (place, why)),
    }
}

fn terms(asked: &AuditFlags, settings: &Settings, state: Option<&Path>) -> Result<Terms, Failed> {
    let mut terms = Terms {
        is_partial: asked.partial,
        is_open: asked.open,
        is_mixed: asked.mixed,
        head: asked.head.clone(),
        ..Terms::default()
    };
    if let Some(text) = &asked.public_key {
        let what = || {
            (
                EXIT_USAGE,
                "read --public-key: write its 64 hex digits".to_owned(),
            )
        };
        let public = hex::decode(text).filter(|key| key.len() == limits::AUDIT_KEY_BYTES);
        terms.public = Some(public.ok_or_else(what)?);
        return Ok(terms);
    }
    let own = settings.audit.key_file.clone();
    let path = own.or_else(|| Some(state?.join(key::FILE)));
    let none = || {
        let what = "find the key: give --audit-key-file, or --public-key";
        (EXIT_CONFIGURATION, what.to_owned())
    };
    let keys = key::read(&path.ok_or_else(none)?);
    let keys = keys.map_err(|why| (EXIT_CONFIGURATION, format!("read the key: {why}")))?;
    terms.public = hex::decode(&keys.public());
    terms.keys = Some(Arc::new(keys));
    Ok(terms)
}

fn tell_people(verdict: &Verdict, out: &mut dyn Write) -> std::io::Result<()> {
    for finding in &verdict.findings {
        say(&format!("onemcp: {}: {}", finding.place, finding.what));
    }
    let more = verdict.wrong - verdict.findings.len() as u64;
    if more > 0 {
        say(&format!("onemcp: and {more} more"));
    }
    let word = if verdict.wrong == 0 { "good" } else { "BAD" };
    let Verdict {
        lines,
        runs,
        killed,
        checkpoints,
        unsigned,
        missing,
        head,
        ..
    } = verdict;
    writeln!(
        out,
        "{word}: {lines} lines in {runs} runs, {checkpoints} signed; killed: {killed}; \
         not signed yet: {unsigned}; lost and said so: {missing}; head {head}"
    )
}

fn tell_programs(verdict: &Verdict, out: &mut dyn Write) -> std::io::Result<()> {
    for finding in &verdict.findings {
        let (place, what) = (quoted(&finding.place), quoted(&finding.what));
        writeln!(out, "{{\"place\":{place},\"wrong\":{what}}}")?;
    }
    let Verdict {
        lines,
        runs,
        killed,
        checkpoints,
        unsigned,
        missing,
        head,
        wrong,
        ..
    } = verdict;
    writeln!(
        out,
        "{{\"ok\":{},\"lines\":{lines},\"runs\":{runs},\"killed\":{killed},\
         \"checkpoints\":{checkpoints},\"unsigned\":{unsigned},\"missing\":{missing},\"wrong\":{wrong},\"head\":\"{head}\"}}",
        *wrong == 0
    )
}
