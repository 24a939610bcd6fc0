//! All files at once: every problem of every entry, none of which stops the others. Texts in,
//! configuration and problems out; the settings first, because they say where the secrets are
//! that entries name.
//!
//! The overlay is a merge patch over `mcp.json`. Fragments only add: a server or a setting that
//! is there already is an error of the file that comes later.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::{Path, PathBuf};

use jsonc_parser::ast::Value;

use crate::base::secret::Secret;
use crate::base::{limits, ordered};
use crate::config::Environment;
use crate::config::alerts::{self, AlertSpec};
use crate::config::auth_server::{self, AuthServerSpec};
use crate::config::config_toml;
use crate::config::depends;
use crate::config::document::{Lines, Member, Node, Notes, REPEATED, parse};
use crate::config::dotenv;
use crate::config::entry::{Entry, read_defaults};
use crate::config::foreign::FOREIGN_FILE_KEYS;
use crate::config::lookups::Lookups;
use crate::config::near::did_you_mean;
use crate::config::otlp;
use crate::config::problem::{Place, Problem, Scope, Severity};
use crate::config::secret_sources::spec;
use crate::config::server::{ServerConfig, Surroundings, read_server};
use crate::config::settings::{FileValues, Flags, Settings, read_file, resolve};
use crate::config::shared_store;
use crate::config::sources::{Source, Sources};
use crate::net::redis::spec::Spec;
use crate::secrets::store::Store;

const KEYS: &[&str] = &[
    "$schema",
    "version",
    "serverDefaults",
    "mcpServers",
    "gateway",
];
/// What other programs call `mcpServers`.
const OTHER_SERVER_KEYS: &[&str] = &["servers", "context_servers", "mcp_servers"];

/// What the files are judged with.
pub struct Given<'g> {
    pub flags: &'g Flags,
    pub environment: &'g Environment,
    /// The folder of the configuration.
    pub folder: &'g Path,
    /// `None` when nobody needs the servers: they are not read, and no secret is asked for.
    pub secrets: Option<&'g Store>,
}

/// What the files say.
pub struct Checked {
    pub settings: Settings,
    pub servers: Vec<ServerConfig>,
    pub problems: Vec<Problem>,
    pub otlp_headers: Vec<(String, Secret)>,
    pub audit_headers: Vec<(String, Secret)>,
    pub alerts: AlertSpec,
    pub auth_server: AuthServerSpec,
    pub store: Option<Spec>,
    /// What templates read, and where secrets are.
    pub watched: Vec<PathBuf>,
}

/// Bytes of a file as text; a byte order mark is skipped.
pub fn decode<'t>(file: &str, bytes: &'t [u8]) -> Result<&'t str, Box<Problem>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let place = Lines::new(file, &before).place(before.len());
        let message = "a byte is not UTF-8".to_owned();
        Box::new(file_error(Some(place), message, "save the file as UTF-8"))
    })
}

/// An error that concerns a file as a whole.
pub fn file_error(place: Option<Place>, message: String, remedy: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        scope: Scope::File,
        place,
        key_path: String::new(),
        message,
        remedy: remedy.to_owned(),
    }
}

/// Judges the texts of a configuration.
pub fn check(sources: &Sources, given: &Given<'_>) -> Checked {
    let mut notes = Notes::new(Scope::File);
    let variables = variables(sources, given.environment, &mut notes);
    let base = sources.base.as_ref().map(lines_of);
    let overlay = sources.overlay.as_ref().map(lines_of);
    let fragments: Vec<Lines<'_>> = sources.fragments.iter().map(lines_of).collect();
    let toml = sources
        .toml
        .as_ref()
        .map(|source| (lines_of(source), source));

    let base = parsed(base.iter(), &mut notes);
    let overlay = parsed(overlay.iter(), &mut notes);
    let fragments = parsed(fragments.iter(), &mut notes);
    let mut whole = laid_together(&base, &overlay, &fragments, notes);
    if let Some((lines, source)) = &toml {
        let lower = config_toml::read(lines, &source.text, &mut whole.problems);
        whole.settings = std::mem::take(&mut whole.settings).over(lower);
    }
    whole.finish(given, &variables)
}

/// A server as the files say it, with nothing expanded.
pub struct Written {
    pub name: String,
    pub place: Place,
    pub entry: serde_json::Value,
}

/// Every server as it is written, for people: what `check` finds wrong is not told again.
pub fn written(sources: &Sources) -> Vec<Written> {
    let mut notes = Notes::new(Scope::File);
    let base = sources.base.as_ref().map(lines_of);
    let overlay = sources.overlay.as_ref().map(lines_of);
    let fragments: Vec<Lines<'_>> = sources.fragments.iter().map(lines_of).collect();
    let base = parsed(base.iter(), &mut notes);
    let overlay = parsed(overlay.iter(), &mut notes);
    let fragments = parsed(fragments.iter(), &mut notes);
    let whole = laid_together(&base, &overlay, &fragments, notes);
    let mut notes = Notes::new(Scope::File);
    let members = whole.servers.iter().flatten();
    members
        .map(|member| Written {
            name: member.name.to_owned(),
            place: member.spot.place(),
            entry: member.node.plain(&mut notes),
        })
        .collect()
}

type Parsed<'d> = (&'d Lines<'d>, Value<'d>);

fn laid_together<'d>(
    base: &'d [Parsed<'d>],
    overlay: &'d [Parsed<'d>],
    fragments: &'d [Parsed<'d>],
    notes: Notes,
) -> Whole<'d> {
    let mut whole = Whole {
        notes,
        ..Whole::default()
    };
    // Without the file that the others add to, more could only mislead.
    let Some((lines, value)) = base.first() else {
        return whole;
    };
    let mut root = Node::root(lines, value);
    for (lines, value) in overlay {
        root = root.patched(lines, value);
    }
    whole.read_root(&root);
    for (lines, value) in fragments {
        whole.read_fragment(&Node::root(lines, value));
    }
    whole.say_when_empty(&root);
    whole
}

fn lines_of(source: &Source) -> Lines<'_> {
    Lines::new(&source.file, &source.text)
}

fn parsed<'d>(all: impl Iterator<Item = &'d Lines<'d>>, notes: &mut Notes) -> Vec<Parsed<'d>> {
    all.filter_map(|lines| Some((lines, parse(lines, notes)?)))
        .collect()
}

/// What `${NAME}` may name: `.env`, over which the process wins.
fn variables(sources: &Sources, environment: &Environment, notes: &mut Notes) -> Environment {
    let mut variables = Environment::new();
    if let Some(source) = &sources.dotenv {
        variables = dotenv::read(&lines_of(source), &source.text, notes);
    }
    variables.extend(environment.clone());
    variables
}

/// All files together.
struct Whole<'d> {
    defaults: Entry<'d>,
    /// In the order of the files; `None` until one has the key.
    servers: Option<Vec<Member<'d>>>,
    /// Where the name of each server stands.
    places: HashMap<&'d str, Place>,
    settings: FileValues,
    problems: Vec<Problem>,
    notes: Notes,
}

impl Default for Whole<'_> {
    fn default() -> Self {
        Whole {
            defaults: Entry::default(),
            servers: None,
            places: HashMap::new(),
            settings: FileValues::default(),
            problems: Vec::new(),
            notes: Notes::new(Scope::File),
        }
    }
}

impl<'d> Whole<'d> {
    fn read_root(&mut self, root: &Node<'d>) {
        for member in root.members(&mut self.notes).unwrap_or_default() {
            match member.name {
                "serverDefaults" => self.defaults = read_defaults(&member.node, &mut self.notes),
                "mcpServers" => self.add_servers(&member.node),
                "gateway" => read_file(&member.node, &mut self.settings, &mut self.problems),
                known if KEYS.contains(&known) => {}
                _ => warn_of_key(&member, &mut self.notes),
            }
        }
    }

    fn read_fragment(&mut self, root: &Node<'d>) {
        for member in root.members(&mut self.notes).unwrap_or_default() {
            match member.name {
                "mcpServers" => self.add_servers(&member.node),
                "gateway" => read_file(&member.node, &mut self.settings, &mut self.problems),
                "$schema" | "version" => {}
                "serverDefaults" => {
                    let remedy = "write them in the main file, or in each server";
                    let message = "has no effect in a fragment";
                    member.spot.warn(&mut self.notes, message, remedy);
                }
                _ => warn_of_key(&member, &mut self.notes),
            }
        }
    }

    fn add_servers(&mut self, node: &Node<'d>) {
        let servers = self.servers.get_or_insert_default();
        let found = node.members_and_repeated(&mut self.notes);
        let (members, repeated) = found.unwrap_or_default();
        for member in repeated {
            note_twice(&member, REPEATED.to_owned(), &mut self.problems);
        }
        for member in members {
            match self.places.entry(member.name) {
                Slot::Occupied(first) => {
                    let Place { file, line, column } = first.get();
                    let message = format!("is given at {file}:{line}:{column} already");
                    note_twice(&member, message, &mut self.problems);
                }
                Slot::Vacant(slot) => {
                    slot.insert(member.spot.place());
                    servers.push(member);
                }
            }
        }
        if servers.len() > limits::CONFIG_SERVERS {
            let remedy = format!("at most {} are allowed", limits::CONFIG_SERVERS);
            let message = format!("{} servers", servers.len());
            node.spot.error(&mut self.notes, message, remedy);
            servers.clear();
        }
    }

    fn say_when_empty(&mut self, root: &Node<'d>) {
        if self.servers.is_none() && root.value.as_object().is_some() {
            let message = "the file has no mcpServers, so no server starts";
            let remedy = "add \"mcpServers\": {...}";
            root.spot.warn(&mut self.notes, message, remedy);
        }
    }

    fn finish(mut self, given: &Given<'_>, variables: &Environment) -> Checked {
        let settings = resolve(
            &self.settings,
            given.flags,
            given.environment,
            &mut self.problems,
        );
        let (mut servers, mut watched) = (Vec::new(), Vec::new());
        let mut otlp_headers = Vec::new();
        let mut audit_headers = Vec::new();
        let mut to_tell = AlertSpec::default();
        let mut auth_server = AuthServerSpec::default();
        let mut shared = None;
        if let Some(store) = given.secrets {
            let spec = spec(
                &settings,
                given.environment,
                variables,
                given.folder,
                &mut self.problems,
            );
            store.configure(&spec);
            let lookups = Lookups::new(variables, given.folder, store);
            let found = &mut self.problems;
            otlp_headers = otlp::headers(&settings, &lookups, found);
            let of_audit = &settings.audit.webhook_headers;
            let key = "audit.webhookHeaders";
            audit_headers = otlp::filled(key, of_audit, &settings, &lookups, found);
            to_tell = alerts::filled(&settings, &lookups, given.folder, found);
            auth_server = auth_server::filled(&settings, &lookups, found);
            shared = shared_store::filled(&settings, &lookups, found);
            watched.extend(lookups.take_used().files);
            let around = Surroundings {
                defaults: &self.defaults,
                environment: given.environment,
                lookups: &lookups,
                has_scopes: settings.auth.enabled && settings.auth.scope_validation,
                expands: settings.enable_env_substitution,
                folder: given.folder,
            };
            let mut read = Vec::new();
            for member in self.servers.iter().flatten() {
                read.extend(read_server(member, &around, &mut self.problems));
            }
            depends::check(&mut read, &mut self.problems);
            // Only now it is known which secrets are used.
            watched.extend(store.watched());
            for read in read {
                watched.extend(read.files);
                servers.push(read.server);
            }
        }
        self.problems.append(&mut self.notes.problems);
        sort(&mut self.problems);
        Checked {
            settings,
            servers,
            problems: self.problems,
            otlp_headers,
            audit_headers,
            alerts: to_tell,
            auth_server,
            store: shared,
            watched,
        }
    }
}

/// A server that is given twice stays what it was first.
fn note_twice(member: &Member<'_>, message: String, problems: &mut Vec<Problem>) {
    let mut own = Notes::new(Scope::Server(member.name.to_owned()));
    let remedy = "rename one of the two; the first one is used";
    member.spot.error(&mut own, message, remedy);
    problems.append(&mut own.problems);
}

/// A top-level key that is not ours.
fn warn_of_key(member: &Member<'_>, notes: &mut Notes) {
    let name = member.name;
    let foreign = FOREIGN_FILE_KEYS.iter().find(|(key, _)| *key == name);
    if let Some((_, missing)) = foreign {
        let message = "is known but not carried out";
        return member.spot.warn(notes, message, *missing);
    }
    let remedy = match OTHER_SERVER_KEYS.contains(&name) {
        true => "did you mean \"mcpServers\"?".to_owned(),
        false => did_you_mean(name, KEYS.iter().copied(), "remove it"),
    };
    member.spot.warn(notes, "unknown key", remedy);
}

/// First what has no place in a file, then by file, line and column.
pub fn sort(problems: &mut [Problem]) {
    ordered::sort_by(problems, |one, other| {
        let place = |problem: &Problem| {
            problem
                .place
                .as_ref()
                .map(|place| (place.file.clone(), place.line, place.column))
        };
        place(one).cmp(&place(other))
    });
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
