//! Reading the files of another program: every server as an entry of ours, each under one name.
//! What could not be carried over is gathered as notes; none of them holds a value.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::base::limits;
use crate::cli::import::places::Place;
use crate::config::adopt::{Adopted, Outside, adopt};
use crate::config::check::decode;
use crate::config::client_file::{Written, disabled_in_project, servers};
use crate::config::config_toml;
use crate::config::document::{Lines, Node, Notes, parse};
use crate::config::dotenv;
use crate::config::foreign::FOREIGN_FILE_KEYS;
use crate::config::problem::Scope;

/// What the files of a program hold.
#[derive(Debug, Default)]
pub struct Gathered {
    pub servers: Map<String, Value>,
    pub defaults: Map<String, Value>,
    /// Settings of the gateway itself, which only 1MCP has.
    pub settings: Map<String, Value>,
    pub notes: Vec<String>,
    /// Files that were read.
    pub files: Vec<PathBuf>,
    /// Files that are there and cannot be used, with the reason.
    pub broken: Vec<String>,
    /// From all files: servers of a folder's own file that are switched off elsewhere.
    states: Vec<Value>,
}

/// Who reads, for whom.
pub struct Reader<'r> {
    pub home: Option<&'r Path>,
    /// Of the gateway; an entry that leads there would lead in a circle.
    pub port: u16,
    /// The files are 1MCP's: what they say beside the servers counts here, too.
    pub is_relative: bool,
}

impl Reader<'_> {
    pub fn gather(&self, places: &[Place]) -> Gathered {
        let mut gathered = Gathered::default();
        let mut seen = BTreeSet::new();
        for place in places {
            let path = place
                .path
                .canonicalize()
                .unwrap_or_else(|_| place.path.clone());
            if seen.insert(path) {
                self.read(place, &mut gathered);
            }
        }
        gathered
    }

    fn read(&self, place: &Place, gathered: &mut Gathered) {
        let document = match read_document(&place.path) {
            Ok(Some(document)) => document,
            Ok(None) => return,
            Err(reason) => return gathered.broken.push(reason),
        };
        gathered.files.push(place.path.clone());
        let off = gathered.switched_off(place.folder.as_deref());
        for mut written in servers(&document, place.folder.as_deref()) {
            written.disabled |= off.iter().any(|name| name == written.name);
            self.take(&written, place, gathered);
        }
        if self.is_relative {
            take_surroundings(&document, place, gathered);
        }
        gathered.states.push(document);
    }

    fn take(&self, written: &Written<'_>, place: &Place, gathered: &mut Gathered) {
        let about = |note: &str| format!("{}: {}: {note}", place.path.display(), written.name);
        let read = |path: &Path| read_variables(path);
        let outside = Outside {
            home: self.home,
            read: &read,
        };
        let Adopted { entry, notes } = match adopt(written, &outside) {
            Ok(adopted) => adopted,
            Err(reason) => return gathered.notes.push(about(&format!("{reason}; left out"))),
        };
        if leads_here(&entry, self.port) {
            let note = "leads to this gateway or to 1MCP itself; left out";
            return gathered.notes.push(about(note));
        }
        gathered.notes.extend(notes.iter().map(|note| about(note)));
        let entry = Value::Object(entry);
        let name = match free_name(&gathered.servers, written, &entry) {
            Name::Known => return,
            Name::Free(name) => name,
        };
        if name != written.name {
            let note = format!("is called {name} here: another one has its name");
            gathered.notes.push(about(&note));
        }
        gathered.servers.insert(name, entry);
    }
}

impl Gathered {
    fn switched_off(&self, folder: Option<&Path>) -> Vec<String> {
        let Some(folder) = folder else {
            return Vec::new();
        };
        let states = self.states.iter();
        let names = states.flat_map(|state| disabled_in_project(state, folder));
        names.map(str::to_owned).collect()
    }
}

enum Name {
    /// The same entry is there.
    Known,
    Free(String),
}

/// Its own name; else with that of its folder, or a number.
fn free_name(taken: &Map<String, Value>, written: &Written<'_>, entry: &Value) -> Name {
    let own = written.name;
    let folder = written.folder.as_deref().and_then(Path::file_name);
    let of_folder = folder.map(|folder| format!("{own}-{}", folder.to_string_lossy()));
    let numbered = (2..).map(|number| format!("{own}-{number}"));
    let names = std::iter::once(own.to_owned())
        .chain(of_folder)
        .chain(numbered);
    for name in names {
        match taken.get(&name) {
            None => return Name::Free(name),
            Some(known) if known == entry => return Name::Known,
            Some(_) => {}
        }
    }
    Name::Known
}

/// True for an entry that starts or calls a gateway.
fn leads_here(entry: &Map<String, Value>, port: u16) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = ["command", "args"].iter().filter_map(|key| entry.get(*key));
    let words = words.flat_map(|value| match value {
        Value::Array(list) => list.iter().map(text).collect(),
        other => vec![text(other)],
    });
    let is_gateway = |word: &String| {
        let name = word.rsplit('/').next().unwrap_or_default();
        matches!(name, "onemcp" | "1mcp") || word.starts_with("@1mcp/agent")
    };
    let words: Vec<String> = words.collect();
    let url = entry.get("url").map(text).unwrap_or_default();
    let hosts = ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"];
    let is_here = |url: &String| {
        let schemes = ["http", "https"].iter();
        let mut starts = schemes.flat_map(|scheme| {
            let start = hosts.iter();
            start.map(move |host| format!("{scheme}://{host}:{port}"))
        });
        starts.any(|start| {
            let rest = url.strip_prefix(&start);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    words.iter().any(is_gateway) || words.iter().chain([&url]).any(is_here)
}

/// What 1MCP says beside the servers, and in the files beside its own.
fn take_surroundings(document: &Value, place: &Place, gathered: &mut Gathered) {
    if let Some(defaults) = document.get("serverDefaults").and_then(Value::as_object) {
        gathered.defaults.extend(defaults.clone());
    }
    for (key, missing) in FOREIGN_FILE_KEYS {
        let is_filled = |value: &Value| value.as_object().is_none_or(|object| !object.is_empty());
        if document.get(*key).is_some_and(is_filled) {
            let note = format!("{}: \"{key}\" is left out: {missing}", place.path.display());
            gathered.notes.push(note);
        }
    }
    let beside = place.path.with_file_name("config.toml");
    match read_text(&beside) {
        Ok(None) => {}
        Ok(Some(text)) => match config_toml::plain(&Lines::new("", &text), &text) {
            Ok(settings) => {
                let members = settings.as_object().cloned().unwrap_or_default();
                gathered.settings.extend(members);
                gathered.files.push(beside);
            }
            Err(why) => gathered.broken.push(format!("{}: {why}", beside.display())),
        },
        Err(reason) => gathered.broken.push(reason),
    }
    for name in [".env", "presets.json"] {
        let beside = place.path.with_file_name(name);
        if beside.is_file() {
            let note = format!("{} is not copied: put it beside the file", beside.display());
            gathered.notes.push(note);
        }
    }
}

/// `None` when there is no such file.
fn read_text(path: &Path) -> Result<Option<String>, String> {
    let failed = |error: std::io::Error| format!("failed to read {}: {error}", path.display());
    // A pipe or a device could keep a reader waiting for ever.
    match path.metadata() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
        Ok(about) if !about.is_file() => return Err(format!("{} is not a file", path.display())),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limits::IMPORT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limits::IMPORT_BYTES {
        let most = limits::IMPORT_BYTES;
        return Err(format!("{} is larger than {most} bytes", path.display()));
    }
    let name = path.display().to_string();
    match decode(&name, &bytes) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(problem) => Err(problem.to_string()),
    }
}

fn read_document(path: &Path) -> Result<Option<Value>, String> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    // Some programs leave an empty file.
    if text.trim().is_empty() {
        return Ok(Some(Value::Null));
    }
    let name = path.display().to_string();
    let lines = Lines::new(&name, &text);
    let mut notes = Notes::new(Scope::File);
    match parse(&lines, &mut notes) {
        Some(value) => Ok(Some(Node::root(&lines, &value).plain(&mut notes))),
        None => Err(notes
            .first_error()
            .map_or_else(String::new, ToString::to_string)),
    }
}

fn read_variables(path: &Path) -> Option<Vec<(String, String)>> {
    let text = read_text(path).ok()??;
    let name = path.display().to_string();
    let lines = Lines::new(&name, &text);
    let read: BTreeMap<String, String> = dotenv::read(&lines, &text, &mut Notes::new(Scope::File));
    Some(read.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{Name, free_name, leads_here};
    use crate::config::client_file::servers;

    #[test]
    fn entries_that_lead_to_a_gateway() {
        let check = |entry: Value, expect: bool| {
            assert_eq!(
                leads_here(entry.as_object().unwrap(), 3050),
                expect,
                "{entry}"
            );
        };
        check(json!({"url": "http://127.0.0.1:3050/mcp?app=cursor"}), true);
        check(json!({"url": "http://localhost:3050/sse"}), true);
        check(json!({"url": "http://localhost:30500/sse"}), false);
        check(json!({"url": "https://example.com:3050/mcp"}), false);
        check(
            json!({"command": "/usr/local/bin/onemcp", "args": ["proxy"]}),
            true,
        );
        check(
            json!({"command": "npx", "args": ["-y", "@1mcp/agent@latest"]}),
            true,
        );
        check(
            json!({"command": "npx", "args": ["-y", "onemcp-notes"]}),
            false,
        );
        let bridge = |url: &str| json!({"command": "npx", "args": ["mcp-remote", url]});
        check(bridge("http://localhost:3050/mcp"), true);
        check(bridge("http://localhost:3051/mcp"), false);
    }

    #[test]
    fn names_are_found_once() {
        let document = json!({"projects": {"/w/app": {"mcpServers": {"a": {}}}}});
        let written = &servers(&document, None)[0];
        let mut taken = Map::new();
        let entries = [
            json!({"command": "1"}),
            json!({"command": "2"}),
            json!({"command": "3"}),
        ];
        for (entry, expect) in entries.iter().zip(["a", "a-app", "a-2"]) {
            let Name::Free(name) = free_name(&taken, written, entry) else {
                panic!("{expect}")
            };
            assert_eq!(name, expect);
            taken.insert(name, entry.clone());
        }
        for entry in &entries {
            assert!(matches!(free_name(&taken, written, entry), Name::Known));
        }
    }
}
