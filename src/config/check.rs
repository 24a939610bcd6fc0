//! The whole file at once: every problem of every entry, none of which stops the others.
//! Pure: text in, configuration and problems out.

use std::path::Path;

use crate::base::limits;
use crate::config::Environment;
use crate::config::depends;
use crate::config::document::{Lines, Node, Notes, REPEATED, parse};
use crate::config::entry::{Entry, read_defaults};
use crate::config::foreign::FOREIGN_FILE_KEYS;
use crate::config::near::did_you_mean;
use crate::config::problem::{Place, Problem, Scope, Severity};
use crate::config::server::{ServerConfig, Surroundings, read_server};
use crate::config::settings::{FileValues, read_file};

const KEYS: &[&str] = &[
    "$schema",
    "version",
    "serverDefaults",
    "mcpServers",
    "gateway",
];
/// What other programs call `mcpServers`.
const OTHER_SERVER_KEYS: &[&str] = &["servers", "context_servers", "mcp_servers"];

/// What one `mcp.json` says.
#[derive(Default)]
pub struct Checked {
    pub servers: Vec<ServerConfig>,
    pub settings: FileValues,
    pub problems: Vec<Problem>,
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

/// Reads the text of an `mcp.json` that lies in `folder`.
pub fn check(file: &str, text: &str, folder: &Path, environment: &Environment) -> Checked {
    let lines = Lines::new(file, text);
    let mut checked = Checked::default();
    let mut notes = Notes::new(Scope::File);
    if let Some(value) = parse(&lines, &mut notes) {
        let root = Node::root(&lines, &value);
        read_root(&root, folder, environment, &mut checked, &mut notes);
    }
    checked.problems.append(&mut notes.problems);
    sort(&mut checked.problems);
    checked
}

/// First what has no place in a file, then by file, line and column.
pub fn sort(problems: &mut [Problem]) {
    problems.sort_by(|one, other| {
        let place = |problem: &Problem| {
            problem
                .place
                .as_ref()
                .map(|place| (place.file.clone(), place.line, place.column))
        };
        place(one).cmp(&place(other))
    });
}

fn read_root(
    root: &Node<'_>,
    folder: &Path,
    environment: &Environment,
    checked: &mut Checked,
    notes: &mut Notes,
) {
    let Some(members) = root.members(notes) else {
        return;
    };
    let mut defaults = Entry::default();
    let mut servers = None;
    for member in &members {
        match member.name {
            "serverDefaults" => defaults = read_defaults(&member.node, notes),
            "mcpServers" => servers = Some(&member.node),
            "gateway" => checked.settings = read_file(&member.node, &mut checked.problems),
            known if KEYS.contains(&known) => {}
            name => match FOREIGN_FILE_KEYS
                .iter()
                .find(|(foreign, _)| *foreign == name)
            {
                Some((_, missing)) => {
                    member
                        .spot
                        .warn(notes, "is known but not carried out", *missing);
                }
                None if OTHER_SERVER_KEYS.contains(&name) => {
                    member
                        .spot
                        .warn(notes, "unknown key", "did you mean \"mcpServers\"?");
                }
                None => {
                    let remedy = did_you_mean(name, KEYS.iter().copied(), "remove it");
                    member.spot.warn(notes, "unknown key", remedy);
                }
            },
        }
    }
    let Some(servers) = servers else {
        let remedy = "add \"mcpServers\": {...}";
        root.spot.warn(
            notes,
            "the file has no mcpServers, so no server starts",
            remedy,
        );
        return;
    };
    let around = Surroundings {
        defaults: &defaults,
        environment,
        folder,
    };
    read_servers(servers, &around, checked, notes);
}

fn read_servers<'d>(
    node: &Node<'d>,
    around: &Surroundings<'_, 'd>,
    checked: &mut Checked,
    notes: &mut Notes,
) {
    let (members, repeated) = node.members_and_repeated(notes).unwrap_or_default();
    for member in repeated {
        let mut own = Notes::new(Scope::Server(member.name.to_owned()));
        member.spot.error(
            &mut own,
            REPEATED,
            "rename one of the two; the first one is used",
        );
        checked.problems.append(&mut own.problems);
    }
    if members.len() > limits::CONFIG_SERVERS {
        let remedy = format!("at most {} are allowed", limits::CONFIG_SERVERS);
        node.spot
            .error(notes, format!("{} servers", members.len()), remedy);
        return;
    }
    let mut read = Vec::new();
    for member in &members {
        read.extend(read_server(member, around, &mut checked.problems));
    }
    depends::check(&mut read, &mut checked.problems);
    checked.servers = read.into_iter().map(|read| read.server).collect();
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
