//! `onemcp config import`: the servers of another program in a file of ours. It prints what the
//! file would be, with what could be secret covered; it writes when it is told to.

pub mod defaults;
pub mod gather;
pub mod places;
pub mod target;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::base::exit::{EXIT_CONFIGURATION, EXIT_FALSE};
use crate::cli::args::{Client, ImportFlags};
use crate::cli::import::gather::{Gathered, Reader};
use crate::cli::import::places::{Around, Place, below, named, usual, with_profiles};
use crate::cli::import::target::{Merged, Target, masked};
use crate::config::Config;
use crate::config::Environment;
use crate::config::load_file;
use crate::config::locate::{Location, locate, own_place};
use crate::config::settings::{Flags, Settings};
use crate::secrets::store::Store;

/// Where the command runs.
pub struct Surroundings<'s> {
    pub flags: &'s Flags,
    pub environment: &'s Environment,
    pub here: PathBuf,
}

/// The file, or what was written as one line of JSON, to `out`; notes to `err`.
///
/// # Errors
/// That nobody reads the answer.
pub fn run(
    client: Client,
    how: &ImportFlags,
    surroundings: &Surroundings<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let Some(path) = own_place(surroundings.flags, surroundings.environment) else {
        let remedy = "name the file with --config FILE";
        writeln!(
            err,
            "onemcp: neither HOME nor XDG_CONFIG_HOME is set; {remedy}"
        )?;
        return Ok(EXIT_CONFIGURATION);
    };
    let around = around(surroundings);
    let places = with_profiles(client, places_of(client, how, &around));
    let loaded = load_file(
        &path,
        surroundings.flags,
        surroundings.environment,
        &Store::default(),
    )
    .ok();
    let settings = loaded.as_ref().map(|config| &config.settings);
    let reader = Reader {
        home: around.home.as_deref(),
        port: settings.map_or_else(|| Settings::default().port, |settings| settings.port),
        is_relative: client == Client::OneMcp,
    };
    let gathered = reader.gather(&places);
    for broken in &gathered.broken {
        writeln!(err, "onemcp: {broken}; it is left out")?;
    }
    if gathered.servers.is_empty() && gathered.settings.is_empty() {
        return say_nothing_found(&gathered, &places, err);
    }
    let located = locate(surroundings.flags, surroundings.environment, &|path| {
        path.is_file()
    });
    let import = Import {
        path: &path,
        gathered: &gathered,
        how,
        others: names_of(loaded.as_ref()),
        hidden: match located {
            Location::At(other) if other != path && !path.exists() => Some(other),
            _ => None,
        },
    };
    match import.carry_over(out, err)? {
        Ok(()) => Ok(0),
        Err(reason) => {
            writeln!(err, "onemcp: {reason}")?;
            Ok(EXIT_CONFIGURATION)
        }
    }
}

/// Servers of all files of the configuration.
fn names_of(loaded: Option<&Config>) -> Vec<String> {
    let servers = loaded.into_iter().flat_map(|config| &config.servers);
    servers.map(|server| server.name.clone()).collect()
}

fn around(surroundings: &Surroundings<'_>) -> Around {
    let absolute = |name: &str| {
        let value = surroundings.environment.get(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    let home = absolute("HOME");
    let usual = home.as_ref().map(|home| home.join(".config"));
    Around {
        config: absolute("XDG_CONFIG_HOME").or(usual),
        home,
        here: surroundings.here.clone(),
    }
}

fn places_of(client: Client, how: &ImportFlags, around: &Around) -> Vec<Place> {
    match &how.from {
        None => usual(client, around),
        Some(from) if from.is_dir() => {
            let folder = std::path::absolute(from).unwrap_or_else(|_| from.clone());
            below(client, &folder, around)
        }
        Some(from) => vec![named(from, around)],
    }
}

fn say_nothing_found(gathered: &Gathered, places: &[Place], err: &mut dyn Write) -> io::Result<u8> {
    write_notes(gathered, err)?;
    if gathered.files.is_empty() && gathered.broken.is_empty() {
        let tried: Vec<String> = places
            .iter()
            .map(|place| place.path.display().to_string())
            .collect();
        let tried = tried.join(", ");
        writeln!(
            err,
            "onemcp: no file found; searched {tried}; name one with --from FILE"
        )?;
    } else if gathered.broken.is_empty() {
        writeln!(
            err,
            "onemcp: no server found in {}",
            listed(&gathered.files)
        )?;
    }
    Ok(match gathered.broken.is_empty() {
        true => EXIT_FALSE,
        false => EXIT_CONFIGURATION,
    })
}

/// What goes where.
struct Import<'i> {
    path: &'i Path,
    gathered: &'i Gathered,
    how: &'i ImportFlags,
    /// Names of servers in the files beside it.
    others: Vec<String>,
    /// A file that is taken as long as the other one is not there.
    hidden: Option<PathBuf>,
}

impl Import<'_> {
    fn carry_over(
        &self,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<Result<(), String>> {
        let merged = Target::read(self.path).and_then(|target| {
            let merged = target.merge(self.gathered, &self.others)?;
            Ok((target, merged))
        });
        let (target, merged) = match merged {
            Ok(both) => both,
            Err(reason) => return Ok(Err(reason)),
        };
        let place = self.path.display();
        write_notes(self.gathered, err)?;
        if let Some(hidden) = &self.hidden {
            let hidden = hidden.display();
            let remedy = "import 1mcp, too, or name the file with --config";
            writeln!(
                err,
                "note: once {place} is there, {hidden} is not taken: {remedy}"
            )?;
        }
        for name in &merged.kept {
            writeln!(
                err,
                "note: {name} is in {place} or beside it already and stays as it is"
            )?;
        }
        if merged.spreads_defaults {
            let why = "those that are there already must not get them";
            writeln!(
                err,
                "note: serverDefaults are written into each server that is added: {why}"
            )?;
        }
        if self.how.write {
            return self.write_file(&target, &merged, out, err);
        }
        let shown = match self.how.show_secrets {
            true => Ok(merged.text.clone()),
            false => masked(self.path, &merged.text),
        };
        match shown {
            Ok(shown) => out.write_all(shown.as_bytes())?,
            Err(reason) => return Ok(Err(reason)),
        }
        out.flush()?;
        let files = listed(&self.gathered.files);
        writeln!(
            err,
            "{files}: {}; --write puts this into {place}",
            sum(&merged)
        )?;
        Ok(Ok(()))
    }

    fn write_file(
        &self,
        target: &Target,
        merged: &Merged,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<Result<(), String>> {
        let nothing_new = merged.added.is_empty() && merged.settings.is_empty();
        let saved = match nothing_new {
            true => None,
            false => match target.save(&merged.text) {
                Ok(saved) => Some(saved),
                Err(reason) => return Ok(Err(reason)),
            },
        };
        let line = json!({
            "written": saved.as_ref().map(|saved| &saved.path),
            "backup": saved.as_ref().and_then(|saved| saved.backup.as_ref()),
            "from": self.gathered.files,
            "added": merged.added,
            "unchanged": merged.known,
            "kept": merged.kept,
            "settings": merged.settings,
        });
        writeln!(out, "{line}")?;
        out.flush()?;
        writeln!(err, "{}: {}", listed(&self.gathered.files), sum(merged))?;
        Ok(Ok(()))
    }
}

fn write_notes(gathered: &Gathered, err: &mut dyn Write) -> io::Result<()> {
    for note in &gathered.notes {
        writeln!(err, "note: {note}")?;
    }
    Ok(())
}

fn listed(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

fn sum(merged: &Merged) -> String {
    let (added, known, kept) = (merged.added.len(), merged.known.len(), merged.kept.len());
    format!("{added} added, {known} there already, {kept} kept as they are")
}
