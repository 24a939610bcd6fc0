//! `onemcp audit verify`: whether an audit log is as the gateway wrote it. Says what is wrong on
//! stderr, or each thing as a JSON object on stdout.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
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
        [] => usual(last)?,
        files => files.iter().map(|path| (path.clone(), None)).collect(),
    };
    terms.stood = head.clone().unwrap_or_default();
    let mut judge = Judge::new(terms);
    if let Err((place, why)) = head {
        judge.wrong_at(place, why);
    }
    for (path, file) in files {
        read(&path, file, asked.open, &mut judge).map_err(|error| cannot(&path, &error))?;
    }
    Ok(judge.end())
}

fn cannot(path: &Path, error: &io::Error) -> Failed {
    let what = format!("read {}: {error}", path.display());
    (EXIT_CONFIGURATION, what)
}

fn read(path: &Path, file: Option<File>, is_open: bool, judge: &mut Judge) -> io::Result<()> {
    let file = file.map_or_else(|| File::open(path), Ok)?;
    let mut file = BufReader::new(file);
    let mut number = 0;
    loop {
        let mut line = Vec::new();
        // A longer one is none of ours, and the rest of it is no better.
        let mut part = file.by_ref().take(2 * limits::AUDIT_LINE_BYTES as u64);
        if part.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // The rest of it is being written.
        if is_open && !line.ends_with(b"\n") && file.fill_buf()?.is_empty() {
            return Ok(());
        }
        number += 1;
        judge.line(format!("{}:{number}", path.display()), &line);
    }
}

/// A file that was opened when its name stood for it.
type Opened = (PathBuf, Option<File>);

/// The file of the settings, and before it those that were put aside. Which is which changes while
/// the gateway puts one aside: then it is looked at again.
fn usual(log: &Path) -> Result<Vec<Opened>, Failed> {
    let mut found = opened(log)?;
    for _ in 0..limits::AUDIT_LOOKS {
        let again = opened(log)?;
        if found.1 && again.1 && ids(&found.0) == ids(&again.0) {
            return Ok(found.0);
        }
        std::thread::park_timeout(limits::AUDIT_LOOK_EVERY);
        found = again;
    }
    // One that was taken away is missed by its head.
    if found.0.is_empty() && !head::path(log).exists() {
        return Err(cannot(log, &io::ErrorKind::NotFound.into()));
    }
    Ok(found.0)
}

/// And whether none is on its way from one name to the next.
fn opened(log: &Path) -> Result<(Vec<Opened>, bool), Failed> {
    let open = |path: &Path| match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot(path, &error)),
    };
    let mut files = Vec::new();
    let mut is_still = false;
    if let Some(file) = open(log)? {
        files.push((log.to_owned(), Some(file)));
        is_still = true;
    }
    let mut number = 1;
    loop {
        let path = aside(log, number);
        let Some(file) = open(&path)? else { break };
        files.push((path, Some(file)));
        number += 1;
    }
    is_still &= !aside(log, number + 1).exists();
    files.reverse();
    Ok((files, is_still))
}

fn ids(files: &[Opened]) -> Vec<(u64, u64)> {
    let of = |(_, file): &Opened| file.as_ref()?.metadata().ok();
    let files = files.iter().filter_map(of);
    files.map(|file| (file.dev(), file.ino())).collect()
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

fn tell_people(verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
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

fn tell_programs(verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
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
         \"checkpoints\":{checkpoints},\"unsigned\":{unsigned},\"missing\":{missing},\
         \"wrong\":{wrong},\"head\":\"{head}\"}}",
        *wrong == 0
    )
}
