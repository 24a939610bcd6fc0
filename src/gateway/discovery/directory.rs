//! The source `directory`: each `*.json` file holds one server, named as the file, or several under
//! `mcpServers`. It is looked at again and again, as the files of the configuration are.
//!
//! A file that is no JSON is perhaps written just now. It is read again; until it is good, what it
//! said before stays. Whoever writes there may write much: what is kept of all files has one bound.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::base::sorted::SortedMap;
use crate::base::{limits, ordered};
use crate::config::discovery::directory::Spec;
use crate::config::document::{Lines, Node, Notes, parse};
use crate::config::problem::Scope;
use crate::gateway::discovery::{Found, Sink, Stop};

pub fn run(spec: &Spec, sink: &Sink, stop: &Stop) {
    let mut folder = Folder::new(sink.folder.join(&spec.path));
    loop {
        match folder.look() {
            Ok(true) => sink.publish_with(folder.found(), folder.complaints()),
            Ok(false) => {}
            Err(error) => sink.fail(format!("read {}: {error}", folder.path.display())),
        }
        if stop.wait(limits::DISCOVERY_LOOK) {
            return;
        }
    }
}

struct Folder {
    path: PathBuf,
    files: SortedMap<PathBuf, Kept>,
    /// What was left after the last look.
    room: Room,
    /// There are more files than may be read: those that are known are, and no others.
    is_crowded: bool,
}

/// What may still be kept of the files of a folder.
#[derive(Clone, Copy)]
struct Room {
    bytes: u64,
    servers: usize,
}

impl Room {
    const WHOLE: Room = Room {
        bytes: limits::DISCOVERY_FOLDER_BYTES,
        servers: limits::DISCOVERY_FOUND,
    };

    fn without(self, kept: &Kept) -> Room {
        Room {
            bytes: self.bytes.saturating_sub(kept.bytes),
            servers: self.servers.saturating_sub(kept.found.len()),
        }
    }
}

/// What is known of one file.
#[derive(Default)]
struct Kept {
    mark: Option<Mark>,
    /// Of the text that says what was found.
    bytes: u64,
    found: Vec<Found>,
    /// Why it cannot be read, and since when it is not good.
    bad: Option<(String, Instant)>,
    is_told: bool,
}

/// Device, inode, size, and when content and inode were changed.
type Mark = (u64, u64, u64, i64, i64, i64, i64);

impl Folder {
    fn new(path: PathBuf) -> Folder {
        Folder {
            path,
            files: SortedMap::new(),
            room: Room::WHOLE,
            is_crowded: false,
        }
    }

    /// True when there is something to tell, and so after each failure.
    fn look(&mut self) -> std::io::Result<bool> {
        let was_crowded = self.is_crowded;
        let paths = match self.paths() {
            Ok(paths) => paths,
            Err(error) => {
                // All is told anew when it is back.
                self.files.values_mut().for_each(|kept| kept.mark = None);
                return Err(error);
            }
        };
        let before = self.files.len();
        self.files.retain(|path, _| paths.contains(path));
        let mut is_other = self.files.len() != before || self.is_crowded != was_crowded;
        let is_first = before == 0 && paths.is_empty();
        let mut room = self.files.values().fold(Room::WHOLE, Room::without);
        for path in paths {
            let kept = self.files.get_or_insert_with(path.clone(), Kept::default);
            room.bytes += kept.bytes;
            room.servers += kept.found.len();
            is_other |= kept.look(&path, room);
            room = room.without(kept);
        }
        if room.bytes > self.room.bytes || room.servers > self.room.servers {
            // What had no place before may have one now.
            let bad = self.files.values_mut().filter(|kept| kept.bad.is_some());
            bad.for_each(|kept| kept.mark = None);
        }
        self.room = room;
        Ok(is_other || is_first)
    }

    /// Hidden files are an editor's, or the machinery of a mounted ConfigMap.
    fn paths(&mut self) -> std::io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        self.is_crowded = false;
        for entry in self.path.read_dir()? {
            let name = entry?.file_name();
            let text = name.to_string_lossy();
            if text.ends_with(".json") && !text.starts_with('.') {
                paths.push(self.path.join(&name));
            }
            if paths.len() > limits::DISCOVERY_FILES {
                let known = self.files.keys().filter(|path| path.exists());
                paths = known.cloned().collect();
                if paths.is_empty() {
                    return Err(std::io::Error::other(crowded()));
                }
                self.is_crowded = true;
                break;
            }
        }
        ordered::sort(&mut paths);
        Ok(paths)
    }

    fn found(&self) -> Vec<Found> {
        let files = self.files.values();
        files.flat_map(|kept| kept.found.iter().cloned()).collect()
    }

    fn complaints(&self) -> Vec<String> {
        let told = self.files.values().filter(|kept| kept.is_told);
        let told = told.filter_map(|kept| Some(kept.bad.as_ref()?.0.clone()));
        let others = || format!("{}: {}; no others are read", self.path.display(), crowded());
        told.chain(self.is_crowded.then(others)).collect()
    }
}

impl Kept {
    /// True when it says something else than before.
    fn look(&mut self, path: &Path, room: Room) -> bool {
        let now = Instant::now();
        if let Some((_, since)) = &self.bad
            && !self.is_told
            && now.duration_since(*since) >= limits::DISCOVERY_HALF_WRITTEN
        {
            self.is_told = true;
            return true;
        }
        let mark = std::fs::metadata(path).ok().map(|about| mark(&about));
        if mark.is_some() && mark == self.mark {
            return false;
        }
        match read(path, room) {
            Ok((bytes, found)) => {
                self.bad = None;
                self.is_told = false;
                (self.bytes, self.found) = (bytes, found);
                self.mark = mark;
                true
            }
            Err(error) => {
                let since = self.bad.take().map_or(now, |(_, since)| since);
                let is_other_word = self.is_told;
                self.bad = Some((error, since));
                self.mark = mark;
                is_other_word
            }
        }
    }
}

fn crowded() -> String {
    let most = limits::DISCOVERY_FILES;
    format!("it holds more than {most} files; put several servers into one")
}

fn mark(about: &Metadata) -> Mark {
    (
        about.dev(),
        about.ino(),
        about.size(),
        about.mtime(),
        about.mtime_nsec(),
        about.ctime(),
        about.ctime_nsec(),
    )
}

/// With its size in bytes.
fn read(path: &Path, room: Room) -> Result<(u64, Vec<Found>), String> {
    let failed = |error: std::io::Error| format!("failed to read {}: {error}", path.display());
    let mut options = std::fs::File::options();
    // A pipe would keep us waiting for ever.
    let file = options
        .read(true)
        .custom_flags(NO_WAIT)
        .open(path)
        .map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut bytes = Vec::new();
    let most = limits::DISCOVERY_FILE_BYTES;
    file.take(most.min(room.bytes) + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let count = bytes.len() as u64;
    if count > most {
        return Err(format!("{} is larger than {most} bytes", path.display()));
    }
    if count > room.bytes {
        let most = limits::DISCOVERY_FOLDER_BYTES;
        return Err(too_much(path, most, "bytes"));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| format!("{}: a byte is not UTF-8", path.display()))?;
    let found = servers(path, &text)?;
    if found.len() > room.servers {
        let most = limits::DISCOVERY_FOUND as u64;
        return Err(too_much(path, most, "servers"));
    }
    Ok((count, found))
}

fn too_much(path: &Path, most: u64, of_what: &str) -> String {
    let path = path.display();
    format!("{path}: with it, all files here hold more than {most} {of_what}; remove some")
}

/// Of one file.
fn servers(path: &Path, text: &str) -> Result<Vec<Found>, String> {
    let place = path.display().to_string();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines::new(&place, text);
    let mut notes = Notes::new(Scope::File);
    let value = parse(&lines, &mut notes);
    let plain = value.map(|value| Node::root(&lines, &value).plain(&mut notes));
    if let Some(problem) = notes.first_error() {
        return Err(problem.to_string());
    }
    let Some(Value::Object(mut object)) = plain else {
        return Err(format!("{place}: expected an object with a server"));
    };
    let all = match object.remove("mcpServers") {
        None => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            return Ok(vec![server(&place, &stem, Value::Object(object))?]);
        }
        Some(Value::Object(all)) => all.into_iter(),
        Some(_) => return Err(format!("{place}: mcpServers: expected an object")),
    };
    all.map(|(name, entry)| server(&place, &name, entry))
        .collect()
}

fn server(place: &str, name: &str, entry: Value) -> Result<Found, String> {
    let most = limits::DISCOVERY_ENTRY_BYTES;
    if name.len() + entry.to_string().len() > most {
        return Err(format!("{place}: a server is longer than {most} bytes"));
    }
    match entry {
        Value::Object(entry) => Ok(Found {
            name: name.to_owned(),
            entry,
            place: place.to_owned(),
        }),
        _ => Err(format!("{place}: mcpServers: {name:?}: expected an object")),
    }
}

const NO_WAIT: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Folder, servers};
    use crate::base::limits;

    #[test]
    fn a_file_holds_one_server_or_several() {
        let names = |text: &str| {
            let found = servers(Path::new("/d/one.json"), text);
            found.map(|found| {
                let found = found.into_iter();
                found.map(|found| found.name).collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(names(r#"{"url": "http://10.0.0.1/mcp"}"#).unwrap(), "one");
        let several = r#"{"mcpServers": {"b": {"url": "u"}, "a": {}}, "version": 1}"#;
        let found = names(several).unwrap();
        assert!(found == "b a" || found == "a b", "{found}");
        for bad in [
            "",
            "{",
            "[]",
            "1",
            r#"{"mcpServers": []}"#,
            r#"{"mcpServers": {"a": 1}}"#,
        ] {
            let error = names(bad).unwrap_err();
            assert!(error.starts_with("/d/one.json"), "{error}");
        }
        // Who is checked by the first must not be served by the last.
        assert!(names(r#"{"url": "a", "url": "b"}"#).is_err());
    }
    #[test]
    fn a_server_has_a_bound() {
        let of = |count| format!(r#"{{"url": "{}"}}"#, "a".repeat(count));
        let path = Path::new("/d/one.json");
        assert!(servers(path, &of(1000)).is_ok());
        let error = servers(path, &of(limits::DISCOVERY_ENTRY_BYTES)).unwrap_err();
        assert!(error.starts_with("/d/one.json"), "{error}");
    }

    #[test]
    fn too_many_files_push_out_nobody_who_is_served() {
        let place = std::env::temp_dir().join(format!("onemcp-crowd-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let mut folder = Folder::new(place.clone());
        let put = |name: &str| std::fs::write(place.join(name), r#"{"url": "u"}"#).unwrap();
        let remove = |name: &str| std::fs::remove_file(place.join(name)).unwrap();
        put("z.json");
        assert!(folder.look().unwrap());
        let names: Vec<String> = (0..limits::DISCOVERY_FILES)
            .map(|index| format!("{index}.json"))
            .collect();
        names.iter().for_each(|name| put(name));
        assert!(folder.look().unwrap() && !folder.look().unwrap());
        assert_eq!((folder.found().len(), folder.complaints().len()), (1, 1));
        // Nobody who is known is left to be served.
        remove("z.json");
        put("y.json");
        assert!(folder.look().is_err());
        names[1..].iter().for_each(|name| remove(name));
        assert!(folder.look().unwrap());
        assert_eq!((folder.found().len(), folder.complaints().len()), (2, 0));
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn all_files_together_have_a_bound() {
        let name = format!("onemcp-directory-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&place).unwrap();
        let mut folder = Folder::new(place.clone());
        let put = |name: &str, text: &str| std::fs::write(place.join(name), text).unwrap();
        let remove = |name: &str| std::fs::remove_file(place.join(name)).unwrap();
        let server = |count: usize| format!(r#"{{"url": "{}"}}"#, "a".repeat(count));
        let many = |count: usize, bytes| {
            let servers = (0..count).map(|index| format!(r#""{index}": {}"#, server(bytes)));
            let servers: Vec<String> = servers.collect();
            format!(r#"{{"mcpServers": {{{}}}}}"#, servers.join(","))
        };
        // 16 files of 255 KiB fit into 4 MiB, and one of them more does not.
        let large = many(17, 15_330);
        assert!(large.len() > 250 * 1024 && large.len() < 256 * 1024);
        for index in 10..30 {
            put(&format!("{index}.json"), &large);
        }
        assert!(folder.look().unwrap());
        assert_eq!(folder.found().len(), 16 * 17);
        assert!(folder.room.bytes < large.len() as u64);
        // One goes: the next look but one takes another one in its place.
        remove("10.json");
        assert!(folder.look().unwrap());
        folder.look().unwrap();
        assert_eq!(folder.found().len(), 16 * 17);
        for index in 11..30 {
            remove(&format!("{index}.json"));
        }
        let most = limits::DISCOVERY_FOUND;
        put("a.json", &many(most - 1, 9));
        put("b.json", &many(2, 9));
        put("c.json", &server(9));
        assert!(folder.look().unwrap());
        assert_eq!(folder.found().len(), most);
        assert!(folder.files.values().nth(1).unwrap().bad.is_some());
        std::fs::remove_dir_all(&place).unwrap();
    }
}
