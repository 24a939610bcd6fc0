//! The file that servers are imported into: what it says already, how it reads with more in it,
//! and its replacement, which leaves the old or the new file, whole, and a copy of the old one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::base::limits;
use crate::cli::import::defaults::with_defaults;
use crate::cli::import::gather::Gathered;
use crate::config::check::decode;
use crate::config::document::{Lines, Node, Notes, parse};
use crate::config::mask;
use crate::config::problem::Scope;
use crate::config::splice;

const EMPTY: &str = "{\n}\n";

pub struct Target {
    /// Where the bytes are: a link is followed, and stays.
    path: PathBuf,
    /// `None` when there is no file yet.
    old: Option<String>,
    root: Value,
}

/// The file with more in it.
#[derive(Debug, Default)]
pub struct Merged {
    pub text: String,
    pub added: Vec<String>,
    /// There already, and the same.
    pub known: Vec<String>,
    /// There already, and something else: left as they are.
    pub kept: Vec<String>,
    pub settings: Vec<String>,
    /// The defaults stand in each added server.
    pub spreads_defaults: bool,
}

/// What was written.
pub struct Saved {
    pub path: PathBuf,
    pub backup: Option<PathBuf>,
}

impl Target {
    /// # Errors
    /// When it is there and is no configuration.
    pub fn read(path: &Path) -> Result<Target, String> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let old = match std::fs::read(&path) {
            Ok(bytes) if bytes.len() as u64 > limits::CONFIG_BYTES => {
                let most = limits::CONFIG_BYTES;
                return Err(format!("{} is larger than {most} bytes", path.display()));
            }
            Ok(bytes) => {
                let name = path.display().to_string();
                let text = decode(&name, &bytes).map_err(|problem| problem.to_string())?;
                Some(text.to_owned())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(format!("failed to read {}: {error}", path.display())),
        };
        let root = parsed(&path, old.as_deref().unwrap_or(EMPTY))?;
        Ok(Target { path, old, root })
    }

    fn has(&self, key: &str, name: &str) -> Option<&Value> {
        self.root.get(key)?.get(name)
    }

    fn has_servers(&self) -> bool {
        let servers = self.root.get("mcpServers").and_then(Value::as_object);
        servers.is_some_and(|servers| !servers.is_empty())
    }

    /// `others` are servers of the files beside this one.
    ///
    /// # Errors
    /// When nothing can be put into the file.
    pub fn merge(&self, gathered: &Gathered, others: &[String]) -> Result<Merged, String> {
        let mut merged = Merged::default();
        let mut servers = Map::new();
        let mut defaults = self.missing("serverDefaults", &gathered.defaults);
        let is_shared = !others.is_empty() || self.has_servers();
        for (name, entry) in &gathered.servers {
            let whole = match is_shared {
                true => with_defaults(entry, &defaults),
                false => entry.clone(),
            };
            match self.has("mcpServers", name) {
                Some(known) if *known == *entry || *known == whole => {
                    merged.known.push(name.clone());
                }
                Some(_) => merged.kept.push(name.clone()),
                None if others.contains(name) => merged.kept.push(name.clone()),
                None => {
                    merged.spreads_defaults |= whole != *entry;
                    merged.added.push(name.clone());
                    servers.insert(name.clone(), whole);
                }
            }
        }
        if is_shared {
            defaults.clear();
        }
        let settings = self.missing("gateway", &gathered.settings);
        merged
            .settings
            .extend(defaults.keys().map(|key| format!("serverDefaults.{key}")));
        merged
            .settings
            .extend(settings.keys().map(|key| format!("gateway.{key}")));
        let mut text = self.old.clone().unwrap_or_else(|| EMPTY.to_owned());
        let parts = [
            ("serverDefaults", defaults),
            ("mcpServers", servers),
            ("gateway", settings),
        ];
        for (key, members) in parts.iter().filter(|(_, members)| !members.is_empty()) {
            text = splice::add(&text, key, members)
                .map_err(|error| format!("failed to add to {}: {error}", self.path.display()))?;
        }
        merged.text = text;
        Ok(merged)
    }

    fn missing(&self, key: &str, given: &Map<String, Value>) -> Map<String, Value> {
        let missing = given
            .iter()
            .filter(|(name, _)| self.has(key, name).is_none());
        missing
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Writes a text in the place of what was read, and keeps that beside it.
    ///
    /// # Errors
    /// When it has changed since, and those of the file system; then it is as it was.
    pub fn save(&self, text: &str) -> Result<Saved, String> {
        let failed = |error: io::Error| format!("failed to write {}: {error}", self.path.display());
        let now = match std::fs::read(&self.path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let without_mark = |bytes: &[u8]| {
            bytes
                .strip_prefix(b"\xef\xbb\xbf")
                .unwrap_or(bytes)
                .to_vec()
        };
        if now.as_deref().map(without_mark) != self.old.clone().map(String::into_bytes) {
            let path = self.path.display();
            return Err(format!(
                "{path} has changed in the meantime; nothing is written"
            ));
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let backup = now
            .map(|bytes| self.back_up(&bytes))
            .transpose()
            .map_err(failed)?;
        self.replace(text).map_err(failed)?;
        Ok(Saved {
            path: self.path.clone(),
            backup,
        })
    }

    /// `mcp.json.bak`, or with a number where that is taken: an earlier one stays, too.
    fn back_up(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let beside = |end: &str| {
            let name = self.path.file_name().unwrap_or_default().to_string_lossy();
            self.path.with_file_name(format!("{name}.bak{end}"))
        };
        let ends =
            std::iter::once(String::new()).chain((1..limits::BACKUPS).map(|n| n.to_string()));
        for path in ends.map(|end| beside(&end)) {
            match create(&path, bytes, 0o600) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(path),
            }
        }
        Err(io::Error::other(
            "there are too many copies of it already; remove some .bak files",
        ))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!(".{name}.{}.new", std::process::id());
        let beside = self.path.with_file_name(name);
        // Somebody else may read the file that is there; one that is made is for its owner.
        let mode = match std::fs::metadata(&self.path) {
            Ok(about) if !holds_secrets(&self.path, text) => about.permissions().mode() & 0o777,
            _ => 0o600,
        };
        let put = create(&beside, text.as_bytes(), mode)
            .and_then(|()| std::fs::rename(&beside, &self.path))
            .and_then(|()| match self.path.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            });
        if put.is_err() {
            // What could not be put is of no use; it may not even be there.
            let _ = std::fs::remove_file(&beside);
        }
        put
    }
}

fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// True when there is something that would be covered where others look on.
fn holds_secrets(path: &Path, text: &str) -> bool {
    masked(path, text).is_ok_and(|shown| shown != text)
}

/// The text as it may be shown.
///
/// # Errors
/// When it is no JSON.
pub fn masked(path: &Path, text: &str) -> Result<String, String> {
    let name = path.display().to_string();
    let lines = Lines::new(&name, text);
    let mut notes = Notes::new(Scope::File);
    let Some(root) = parse(&lines, &mut notes) else {
        return Err(notes
            .first_error()
            .map_or_else(String::new, ToString::to_string));
    };
    Ok(mask::document(text, &root))
}

fn parsed(path: &Path, text: &str) -> Result<Value, String> {
    let name = path.display().to_string();
    let lines = Lines::new(&name, text);
    let mut notes = Notes::new(Scope::File);
    let root = parse(&lines, &mut notes);
    let plain = root.map(|value| Node::root(&lines, &value).plain(&mut notes));
    match (plain, notes.first_error()) {
        (Some(plain), None) => Ok(plain),
        (_, error) => Err(error.map_or_else(String::new, ToString::to_string)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::Target;
    use crate::cli::import::gather::Gathered;

    fn target(root: Value) -> Target {
        Target {
            path: PathBuf::new(),
            old: Some(root.to_string()),
            root,
        }
    }

    #[test]
    fn defaults_of_others_do_not_reach_servers_that_are_there() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let mut gathered = Gathered::default();
        gathered.servers = map(json!({"own": {"url": "https://own"}}));
        gathered.defaults = map(json!({"headers": {"Authorization": "x"}}));
        let whole = json!({"url": "https://own", "headers": {"Authorization": "x"}});
        let check = |root: Value, others: &[String], expect: Value| {
            let merged = target(root).merge(&gathered, others).unwrap();
            let written: Value = serde_json::from_str(&merged.text).unwrap();
            assert_eq!(written, expect);
            // Once more changes nothing.
            let again = target(written).merge(&gathered, others).unwrap();
            assert_eq!(
                (again.added.len(), again.known),
                (0, vec!["own".to_owned()])
            );
        };
        check(
            json!({}),
            &[],
            json!({"serverDefaults": gathered.defaults, "mcpServers": gathered.servers}),
        );
        let there = json!({"url": "https://there"});
        check(
            json!({"mcpServers": {"there": there}}),
            &[],
            json!({"mcpServers": {"there": there, "own": whole}}),
        );
        check(
            json!({}),
            &["beside".to_owned()],
            json!({"mcpServers": {"own": whole}}),
        );
    }
}
