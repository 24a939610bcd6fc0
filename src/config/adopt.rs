//! One server of another program as an entry of ours. Pure: files are read by a closure.
//!
//! What the other program asks its user for (`${input:token}`) becomes a variable, what belongs
//! to its folder becomes a path. What cannot be carried over is left out and told; an entry that
//! would not work without it is kept, disabled. Notes never hold a value.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::client_file::Written;
use crate::config::entry::{KEYS, NOT_CARRIED_OUT};
use crate::config::expand::variable_for;

/// Reads the pairs of a file of variables; `None` when it cannot be read.
type ReadPairs<'r> = &'r dyn Fn(&Path) -> Option<Vec<(String, String)>>;

/// What lies outside the document.
pub struct Outside<'o> {
    pub home: Option<&'o Path>,
    pub read: ReadPairs<'o>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Adopted {
    pub entry: Map<String, Value>,
    pub notes: Vec<String>,
}

/// Keys with the same meaning under another name.
const RENAMED: &[(&str, &str)] = &[
    ("serverUrl", "url"),
    ("httpUrl", "url"),
    ("environment", "env"),
    ("requestInit", "headers"),
];

/// Keys that say nothing about how a server is reached: left out without a word.
const IDLE: &[&str] = &[
    "alwaysAllow",
    "autoApprove",
    "autoAllow",
    "description",
    "dev",
    "displayName",
    "enabled",
    "gallery",
    "icon",
    "iconPath",
    "metadata",
    "name",
    "trust",
    "version",
];

/// Reads one server; the error says why nothing can be made of it.
///
/// # Errors
/// When it is no object, or names neither a program nor an address.
pub fn adopt(written: &Written<'_>, outside: &Outside<'_>) -> Result<Adopted, String> {
    let Some(given) = written.entry.as_object() else {
        return Err("is no object".into());
    };
    let mut work = Work {
        written,
        entry: Map::new(),
        notes: Vec::new(),
        asked: Vec::new(),
        is_broken: false,
    };
    for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        work.take(key, value);
    }
    if !work.entry.contains_key("command") && !work.entry.contains_key("url") {
        return Err("has neither a command nor a url".into());
    }
    work.take_variables(given.get("envFile"), outside);
    work.place();
    let off = given.get("enabled") == Some(&Value::Bool(false));
    if written.disabled || off || work.is_broken {
        work.entry.insert("disabled".into(), Value::Bool(true));
    }
    work.say_what_is_asked();
    let Work { entry, notes, .. } = work;
    Ok(Adopted { entry, notes })
}

struct Work<'w> {
    written: &'w Written<'w>,
    entry: Map<String, Value>,
    notes: Vec<String>,
    /// Inputs that became variables without a default.
    asked: Vec<String>,
    /// Something in it can be known to an editor only.
    is_broken: bool,
}

impl Work<'_> {
    fn take(&mut self, key: &str, value: &Value) {
        let renamed = RENAMED.iter().find(|(theirs, _)| *theirs == key);
        let (key, value) = match (renamed, value.get("headers")) {
            (Some((_, "headers")), Some(inner)) => ("headers", inner),
            (Some((_, "headers")), None) => return,
            (Some((_, own)), _) => (*own, value),
            (None, _) => (key, value),
        };
        match key {
            "type" | "transport" | "transportType" => self.take_type(value),
            "command" | "args" => {
                let value = self.texts(value);
                self.entry.insert(key.into(), value);
            }
            "env" | "headers" => self.take_texts_by_name(key, value),
            "url" | "cwd" => {
                let value = self.texts(value);
                self.entry.insert(key.into(), value);
            }
            "timeout" => self.take_timeout(value),
            "envFile" => {}
            _ if KEYS.contains(&key) => {
                self.entry.insert(key.into(), value.clone());
            }
            _ if IDLE.contains(&key) => {}
            _ => {
                let known = NOT_CARRIED_OUT.iter().find(|(name, _)| *name == key);
                let why = known.map_or_else(String::new, |(_, why)| format!(": {why}"));
                self.notes.push(format!("\"{key}\" is left out{why}"));
            }
        }
    }

    fn take_type(&mut self, value: &Value) {
        let word = match value.as_str().unwrap_or_default() {
            "stdio" | "local" => "stdio",
            "http" | "remote" => "http",
            "streamable-http" | "streamableHttp" | "streamable_http" => "streamableHttp",
            "sse" => "sse",
            _ => {
                self.notes.push("its type is not known and left out".into());
                return;
            }
        };
        self.entry.insert("type".into(), json!(word));
    }

    /// Milliseconds; a small number can only mean seconds, as some programs count.
    fn take_timeout(&mut self, value: &Value) {
        let Some(number) = value.as_u64().filter(|number| *number > 0) else {
            return self
                .notes
                .push("its timeout is no number and left out".into());
        };
        let number = if number < 1000 { number * 1000 } else { number };
        for key in ["connectionTimeout", "requestTimeout"] {
            if self.written.entry.get(key).is_none() {
                self.entry.insert(key.into(), json!(number));
            }
        }
    }

    /// Numbers and switches are what people mean by them; null means "not set".
    fn take_texts_by_name(&mut self, key: &str, value: &Value) {
        let Some(object) = value.as_object() else {
            // `env` may be an array.
            let value = self.texts(value);
            self.entry.insert(key.into(), value);
            return;
        };
        let mut all = Map::new();
        for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            all.insert(name.clone(), self.texts(value));
        }
        if !all.is_empty() {
            self.entry.insert(key.into(), Value::Object(all));
        }
    }

    /// Texts with what only an editor knows replaced.
    fn texts(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Number(number) => Value::String(number.to_string()),
            Value::Bool(on) => Value::String(on.to_string()),
            Value::Array(list) => {
                let texts = list.iter().filter(|value| !value.is_null());
                texts.map(|value| self.texts(value)).collect()
            }
            Value::Null | Value::Object(_) => value.clone(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((inside, next)) = after.split_once('}') else {
                out.push_str("${");
                rest = after;
                continue;
            };
            let (name, next) = whole_expression(inside, next);
            match self.expression(&name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("${{{name}}}")),
            }
            rest = next;
        }
        out.push_str(rest);
        out
    }

    /// What stands for an expression of an editor; `None` leaves it as it is.
    fn expression(&mut self, inside: &str) -> Option<String> {
        let (name, argument) = inside.split_once(':').unwrap_or((inside, ""));
        let folder = self.written.folder.as_deref();
        match name.trim() {
            "input" => Some(self.input(argument.trim())),
            "userHome" => Some("${HOME}".into()),
            "pathSeparator" | "/" => Some("/".into()),
            "workspaceFolder" | "workspaceRoot" | "CLAUDE_PROJECT_DIR" | "cwd"
                if folder.is_some() =>
            {
                folder.map(|folder| folder.display().to_string())
            }
            "workspaceFolderBasename" if folder.is_some() => {
                let name = folder.and_then(Path::file_name);
                name.map(|name| name.to_string_lossy().into_owned())
            }
            "workspaceFolder"
            | "workspaceRoot"
            | "workspaceFolderBasename"
            | "config"
            | "command"
            | "file"
            | "fileDirname"
            | "selectedText"
            | "cwd"
            | "CLAUDE_PLUGIN_ROOT" => {
                let form = if argument.is_empty() {
                    name.trim()
                } else {
                    inside.trim()
                };
                let note = format!("${{{form}}} is known to an editor only: it is disabled");
                self.is_broken = true;
                self.note_once(note);
                None
            }
            _ => None,
        }
    }

    /// A variable, with what an editor would offer as the default.
    fn input(&mut self, id: &str) -> String {
        let named = |input: &&Value| input.get("id").and_then(Value::as_str) == Some(id);
        let input = self.written.inputs.iter().find(named);
        let variable = variable_for(id);
        let is_private = input.and_then(|input| input.get("password")) == Some(&Value::Bool(true));
        let default = input.and_then(|input| input.get("default")?.as_str());
        if let Some(default) = default.filter(|text| !is_private && !text.contains(['$', '{', '}']))
        {
            return format!("${{{variable}:-{default}}}");
        }
        let text = format!("${{{variable}}}");
        if !self.asked.contains(&variable) {
            self.asked.push(variable);
        }
        text
    }

    fn note_once(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The variables of its file become its own; what the entry says itself wins.
    fn take_variables(&mut self, file: Option<&Value>, outside: &Outside<'_>) {
        let Some(file) = file.and_then(Value::as_str) else {
            return;
        };
        let file = self.text(file);
        let path = absolute(&file, self.written.folder.as_deref(), outside.home);
        let Some(pairs) = path.as_deref().and_then(outside.read) else {
            let note = "the file of variables that it names is not there: write them in env";
            return self.notes.push(note.into());
        };
        let env = self.entry.entry("env").or_insert_with(|| json!({}));
        let Some(env) = env.as_object_mut() else {
            return;
        };
        self.notes.push(format!(
            "{} variables of its envFile are copied into env",
            pairs.len()
        ));
        for (name, value) in pairs {
            // A file of variables holds no expressions.
            env.entry(name)
                .or_insert_with(|| json!(value.replace("${", "$${")));
        }
    }

    /// A program of one folder runs there, as it does with the other program.
    fn place(&mut self) {
        let Some(folder) = &self.written.folder else {
            return;
        };
        if !self.entry.contains_key("command") {
            return;
        }
        let own = self.entry.get("cwd").and_then(Value::as_str);
        let starts_elsewhere = |own: &str| own.starts_with(['/', '$', '~']);
        let place = match own {
            Some(own) if starts_elsewhere(own) => return,
            Some(own) => folder.join(own),
            None => folder.clone(),
        };
        self.entry
            .insert("cwd".into(), json!(place.display().to_string()));
    }

    fn say_what_is_asked(&mut self) {
        for variable in std::mem::take(&mut self.asked) {
            self.notes.push(format!(
                "{variable} is needed in the environment or in .env"
            ));
        }
    }
}

/// `None` when nobody knows where a relative path starts.
fn absolute(text: &str, folder: Option<&Path>, home: Option<&Path>) -> Option<PathBuf> {
    let in_home = ["${HOME}/", "~/"]
        .iter()
        .find_map(|start| text.strip_prefix(start));
    match (in_home, Path::new(text).is_absolute()) {
        (Some(rest), _) => home.map(|home| home.join(rest)),
        (None, true) => Some(PathBuf::from(text)),
        (None, false) => folder.map(|folder| folder.join(text)),
    }
}

/// An expression whose default holds further ones ends at its own brace.
fn whole_expression<'t>(inside: &str, next: &'t str) -> (String, &'t str) {
    let (mut whole, mut rest) = (inside.to_owned(), next);
    while whole.matches("${").count() > whole.matches('}').count() {
        let Some((more, after)) = rest.split_once('}') else {
            break;
        };
        whole.push('}');
        whole.push_str(more);
        rest = after;
    }
    (whole, rest)
}

#[cfg(test)]
#[path = "adopt_tests.rs"]
mod tests;
