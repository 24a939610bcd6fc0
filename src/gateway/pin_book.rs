//! The pins of all servers as they lie in the state directory: one private file, replaced as a
//! whole, read strictly. Gateways that share the directory take turns.
//!
//! A book that was there and is not, or cannot be read, is lost: whoever blocks changes must not
//! take everything for good then. The file of the lock, which stays, says that there was one.

use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::base::sorted::SortedMap;
use crate::base::{limits, time};
use crate::model::pin;
use crate::secrets::replace::{Turn, followed, replace};
use crate::wire::json::quoted;

const FORMAT: &str = "onemcp-pins-1";

/// What is known of one tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Of the canonical form of its definition.
    pub hash: String,
    /// RFC 3339: when it was pinned or approved.
    pub at: String,
    /// The form itself, unless it is too long to be kept.
    pub definition: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    /// By the names of servers and tools.
    pub servers: SortedMap<String, SortedMap<String, Known>>,
    /// Since when servers that are not in it are no longer taken as they come.
    pub lost: Option<String>,
    pins: usize,
    text_bytes: usize,
}

impl Book {
    /// Whether a tool has no pin and could have one.
    pub fn lacks(&self, server: &str, tool: &str) -> bool {
        let tools = self.servers.get(server);
        let fits = self.pins < limits::PINS && tool.len() <= limits::PIN_NAME_BYTES;
        fits && tools.is_none_or(|tools| !tools.contains_key(tool))
    }

    /// Pins a tool; false when there is no room for it.
    pub fn pin(&mut self, server: &str, tool: &str, canonical: &str) -> bool {
        let known = self.servers.get(server);
        let is_known = known.is_some_and(|tools| tools.contains_key(tool));
        if !is_known && !self.lacks(server, tool) {
            return false;
        }
        let fits = canonical.len() <= limits::PIN_TEXT_BYTES
            && self.text_bytes + canonical.len() <= limits::PIN_TEXTS_BYTES;
        let known = Known {
            hash: pin::hash(canonical),
            at: time::now_rfc3339(),
            definition: fits.then(|| canonical.to_owned()),
        };
        self.put(server, tool, known);
        true
    }

    fn put(&mut self, server: &str, tool: &str, known: Known) {
        let text = |known: &Known| known.definition.as_ref().map_or(0, String::len);
        self.text_bytes += text(&known);
        self.pins += 1;
        let tools = self.of(server);
        if let Some(before) = tools.insert(tool.to_owned(), known) {
            self.text_bytes -= text(&before);
            self.pins -= 1;
        }
    }

    /// The pins of a server, which is known from then on.
    pub fn of(&mut self, server: &str) -> &mut SortedMap<String, Known> {
        let nothing = SortedMap::default;
        self.servers.get_or_insert_with(server.to_owned(), nothing)
    }

    /// Forgets tools of a server.
    pub fn retain(&mut self, server: &str, stays: impl Fn(&str) -> bool) {
        let Some(tools) = self.servers.get_mut(server) else {
            return;
        };
        let (mut pins, mut text_bytes) = (0, 0);
        tools.retain(|tool, known| {
            let stays = stays(tool);
            if !stays {
                pins += 1;
                text_bytes += known.definition.as_ref().map_or(0, String::len);
            }
            stays
        });
        self.pins -= pins;
        self.text_bytes -= text_bytes;
    }

    /// `None` when it is not exactly what `text` writes.
    fn parse(text: &str) -> Option<Book> {
        let whole: Value = serde_json::from_str(text).ok()?;
        if whole["format"] != FORMAT {
            return None;
        }
        let mut book = Book {
            lost: whole["lost"].as_str().map(str::to_owned),
            ..Book::default()
        };
        for (server, tools) in whole["servers"].as_object()? {
            book.of(server);
            for (tool, pinned) in tools.as_object()? {
                let member = |key: &str| pinned[key].as_str().map(str::to_owned);
                let known = Known {
                    hash: member("sha256").filter(|hash| is_hash(hash))?,
                    at: member("at")?,
                    definition: member("definition"),
                };
                let text = known.definition.as_deref();
                if text.is_some_and(|text| pin::hash(text) != known.hash) {
                    return None;
                }
                book.put(server, tool, known);
            }
        }
        Some(book)
    }

    fn text(&self) -> String {
        let or_null = |text: Option<&str>| text.map_or("null".to_owned(), quoted);
        let mut out = format!("{{\"format\":\"{FORMAT}\",\"lost\":");
        out.push_str(&or_null(self.lost.as_deref()));
        out.push_str(",\"servers\":{");
        let mut comma = "\n";
        for (server, tools) in self.servers.iter() {
            out.push_str(&format!("{comma}{}:{{", quoted(server)));
            comma = "\n";
            for (tool, known) in tools.iter() {
                let (hash, at) = (&known.hash, quoted(&known.at));
                let definition = or_null(known.definition.as_deref());
                out.push_str(&format!(
                    "{comma}{}:{{\"sha256\":\"{hash}\",\"at\":{at},\"definition\":{definition}}}",
                    quoted(tool)
                ));
                comma = ",\n";
            }
            out.push('}');
            comma = ",\n";
        }
        out.push_str("\n}}\n");
        out
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What is at the place of a book.
pub enum Found {
    Book(Book),
    /// There never was one.
    Nothing,
    /// There was one; why it is of no use.
    Lost(String),
}

/// Looks without changing anything, except that what cannot be read is put aside.
///
/// # Errors
/// Those of the file system.
pub fn read(path: &Path) -> Result<Found, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("failed to read {shown}: {error}");
    let bytes = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(match Turn::was_taken(path) {
                true => Found::Lost(format!("{shown} is gone")),
                false => Found::Nothing,
            });
        }
        Err(error) => return Err(failed(error)),
        Ok(found) if found.len() > limits::PINS_FILE_BYTES => Vec::new(),
        Ok(_) => std::fs::read(path).map_err(failed)?,
    };
    let text = std::str::from_utf8(&bytes).ok();
    if let Some(book) = text.and_then(Book::parse) {
        return Ok(Found::Book(book));
    }
    let aside = aside(path);
    std::fs::rename(path, &aside).map_err(failed)?;
    let aside = aside.display();
    Ok(Found::Lost(format!(
        "{shown} is damaged and was put aside as {aside}"
    )))
}

/// The newest damaged one is kept, so that a file that is damaged again and again fills nothing.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.damaged"))
}

/// The turn to change the book at `path`.
///
/// # Errors
/// When others hold it for too long, and those of the file system.
pub fn turn(path: &Path) -> Result<Turn, String> {
    let failed = |error: std::io::Error| format!("failed to lock {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.map_err(failed)?;
    }
    Turn::wait(path, Instant::now() + limits::PINS_LOCK).map_err(failed)
}

/// Writes the book; only who has the turn may.
///
/// # Errors
/// Those of the file system; what is at the place is whole.
pub fn write(path: &Path, book: &Book) -> Result<(), String> {
    let path = followed(path);
    let written = replace(&path, book.text().as_bytes());
    written.map_err(|error| format!("failed to write {}: {error}", path.display()))
}
