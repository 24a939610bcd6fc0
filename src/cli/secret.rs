//! `onemcp secret`: the secrets in the sealed file, and its key. Values come from stdin, never
//! from the command line, which every process can read. What a running gateway uses of them it
//! notices by itself.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::DumpableBehavior;
use rustix::termios::{LocalModes, OptionalActions, Termios};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::base::exit::{EXIT_CONFIGURATION, EXIT_FALSE, EXIT_TIMEOUT, EXIT_USAGE};
use crate::base::{family, limits};
use crate::cli::args::{SecretFlags, SecretVerb};
use crate::cli::outcome::Failure;
use crate::cli::say;
use crate::config::secret_sources::sealed;
use crate::config::settings::{Flags, Settings};
use crate::config::{
    Environment, LoadError, load_files_settings, load_settings, process_environment,
};
use crate::secrets::directory;
use crate::secrets::key::{Key, KeySource};
use crate::secrets::name;
use crate::secrets::replace;
use crate::secrets::sealed::{Contents, SealedError, admit, edit, open, rotate};

/// Why a command did not do what it was asked to do, and its exit code.
pub(super) struct Refused(pub(super) u8, pub(super) String);

impl From<SealedError> for Refused {
    fn from(error: SealedError) -> Refused {
        match error {
            SealedError::Busy(text) => Refused(EXIT_TIMEOUT, text),
            SealedError::Broken(text) => broken(text),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused(EXIT_FALSE, Failure::Output(error).to_string())
    }
}

fn broken(text: impl Into<String>) -> Refused {
    Refused(EXIT_CONFIGURATION, text.into())
}

/// What was given, on the command line or as the value, is none.
fn misused(text: String) -> Refused {
    Refused(EXIT_USAGE, text)
}

fn not_there(name: &str, place: &Place) -> Refused {
    let file = place.file.display();
    Refused(EXIT_FALSE, format!("there is no secret {name} in {file}"))
}

pub fn run(asked: &SecretFlags, flags: &Flags) -> ExitCode {
    // A server of the same user must not read the value out of this process.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    match carry_out(asked, flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refused(code, text)) => {
            say(&format!("onemcp: {text}"));
            ExitCode::from(code)
        }
    }
}

/// The sealed file and where its key comes from.
struct Place {
    file: PathBuf,
    key: KeySource,
}

impl Place {
    fn key(&self) -> Result<Key, Refused> {
        self.key.read().map_err(broken)
    }

    fn contents(&self) -> Result<Contents, Refused> {
        let opened = open(&self.file, &self.key()?).map_err(broken)?;
        Ok(opened.unwrap_or_default())
    }
}

fn carry_out(asked: &SecretFlags, flags: &Flags) -> Result<(), Refused> {
    if let SecretVerb::Key(file) = &asked.verb {
        return new_key(file.as_deref());
    }
    let environment = process_environment();
    let settings = settings(flags, &environment)
        .map_err(|error| Refused(error.exit_code(), error.to_string()))?;
    let Some((file, key)) = sealed(&settings, &environment) else {
        return Err(broken(
            "no folder for the sealed file is known; name one: --secrets-file",
        ));
    };
    let place = Place { file, key };
    let deadline = Instant::now() + limits::SECRET_LOCK;
    match &asked.verb {
        SecretVerb::Set(name) => set(name, &place),
        SecretVerb::Get(name) => get(name, &place),
        SecretVerb::List => list(&place, asked.json),
        SecretVerb::Remove(name) => {
            let removed = edit(&place.file, &place.key()?, deadline, |contents| {
                Ok(contents.remove(name))
            })?;
            removed.then_some(()).ok_or_else(|| not_there(name, &place))
        }
        SecretVerb::Rotate => change_key(&place, asked.new_key_file.as_deref(), deadline),
        SecretVerb::Key(_) => Ok(()),
    }
}

/// Of the files, if there are any. What is wrong with them may hide where secrets are kept.
pub fn settings(flags: &Flags, environment: &Environment) -> Result<Settings, LoadError> {
    match load_files_settings(flags, environment) {
        Err(LoadError::NotFound { .. }) => Ok(load_settings(flags, environment)?.settings),
        other => other,
    }
}

fn set(name: &str, place: &Place) -> Result<(), Refused> {
    name::check(name).map_err(|right| misused(format!("a name is {right}")))?;
    // Before anybody types a value in vain.
    let key = place.key()?;
    open(&place.file, &key).map_err(broken)?;
    let value = read_value(&format!("value of {name}"))?;
    let deadline = Instant::now() + limits::SECRET_LOCK;
    edit(&place.file, &key, deadline, |contents| {
        contents.set(name, value)
    })?;
    say(&format!(
        "secret {name} is kept in {}",
        place.file.display()
    ));
    Ok(())
}

fn get(name: &str, place: &Place) -> Result<(), Refused> {
    let contents = place.contents()?;
    let entry = contents.get(name).ok_or_else(|| not_there(name, place))?;
    print(&format!("{}\n", entry.value()))
}

fn list(place: &Place, as_json: bool) -> Result<(), Refused> {
    let contents = place.contents()?;
    let lines = contents.entries().map(|(name, entry)| match as_json {
        true => format!("{}\n", json!({"name": name, "setAt": entry.set_at})),
        false => format!("{}  {name}\n", entry.set_at),
    });
    print(&lines.collect::<String>())
}

fn print(text: &str) -> Result<(), Refused> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A new key on stdout, or in a file that is not there yet.
fn new_key(file: Option<&Path>) -> Result<(), Refused> {
    let key = Key::random();
    let text = format!("{}\n", key.text());
    let Some(file) = file else {
        return print(&text);
    };
    let shown = file.display();
    replace::create(file, text.as_bytes())
        .map_err(|error| broken(format!("failed to create {shown}: {error}")))?;
    say(&format!(
        "key {} is in {shown}; keep a copy where the sealed file is not",
        key.id()
    ));
    Ok(())
}

fn change_key(place: &Place, new: Option<&Path>, deadline: Instant) -> Result<(), Refused> {
    let old = place.key()?;
    if let Some(path) = new {
        let source = KeySource {
            file: Some(path.to_owned()),
            ..KeySource::default()
        };
        let new = source.read().map_err(broken)?;
        admit(&place.file, &old, &new, deadline)?;
        say(&format!(
            "both keys open {}; the next change with {} shuts {} out",
            place.file.display(),
            new.id(),
            old.id()
        ));
        return Ok(());
    }
    let Some(key_file) = &place.key.file else {
        return Err(broken(
            "only a key in a file of --secrets-key-file can be replaced in place; make another \
             with onemcp secret key FILE, then onemcp secret rotate --new-key-file FILE",
        ));
    };
    let new = rotate(&place.file, key_file, &old, deadline)?;
    let shown = key_file.display();
    say(&format!(
        "key {} in {shown} has replaced {}",
        new.id(),
        old.id()
    ));
    Ok(())
}

/// From stdin; `what` is told to a person at a terminal.
pub(super) fn read_value(what: &str) -> Result<String, Refused> {
    let stdin = io::stdin();
    let bytes = match stdin.is_terminal() {
        true => prompt(what)?,
        false => {
            let mut bytes = Vec::new();
            let most = limits::SECRET_BYTES as u64 + 3;
            let read = stdin.lock().take(most).read_to_end(&mut bytes);
            read.map_err(|error| broken(format!("failed to read stdin: {error}")))?;
            bytes
        }
    };
    directory::value(bytes).map_err(|why| misused(format!("failed to take the value: {why}")))
}

/// One line from the terminal, which does not show it.
fn prompt(what: &str) -> Result<Vec<u8>, Refused> {
    let failed = |error: io::Error| broken(format!("failed to read the terminal: {error}"));
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, interrupted.clone()).map_err(failed)?;
    }
    let quiet = Quiet::new().map_err(failed)?;
    let mut err = io::stderr().lock();
    // A closed stderr is no reason to fail.
    let _ = write!(err, "{what}: ").and_then(|()| err.flush());
    let stdin = io::stdin();
    while !family::poll_in(&stdin, Duration::from_millis(200)) {
        if interrupted.load(Ordering::Relaxed) {
            let _ = writeln!(err);
            drop(quiet);
            return Err(Refused(EXIT_FALSE, "nothing was set".into()));
        }
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line).map_err(failed);
    let _ = writeln!(err);
    read.map(|_| line.into_bytes())
}

/// A terminal without echo; as it was when dropped.
struct Quiet(Termios);

impl Quiet {
    fn new() -> io::Result<Quiet> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let stdin = rustix::stdio::stdin();
        let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, &self.0);
    }
}
