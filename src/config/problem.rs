//! One finding in the configuration: where it is, what is wrong, what to do next.
//!
//! A `Problem` never carries a value from the file or the environment that could be secret.

use std::fmt;

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// What a problem takes down with it when it is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The whole file: nothing starts.
    File,
    /// This server alone.
    Server(String),
    /// This preset alone.
    Preset(String),
    /// A setting from the file or the environment: nothing starts.
    Setting(&'static str),
    /// A setting from the command line: a usage error.
    Flag(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    /// Both count from one; columns count characters.
    pub line: usize,
    pub column: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub scope: Scope,
    /// `None` for the environment and the command line.
    pub place: Option<Place>,
    /// `mcpServers.files.args[1]`, `ONE_MCP_PORT` or `--port`; empty for a whole file.
    pub key_path: String,
    pub message: String,
    /// What to do next; may be empty.
    pub remedy: String,
}

impl Problem {
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// True when nothing may start because of it.
    pub fn is_fatal(&self) -> bool {
        let whole = matches!(self.scope, Scope::File | Scope::Setting(_) | Scope::Flag(_));
        self.is_error() && whole
    }

    /// The problem without its place, for health and for answers to clients.
    pub fn reason(&self) -> String {
        let mut text = String::new();
        for part in [&self.key_path, &self.message] {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(part);
        }
        if !self.remedy.is_empty() {
            text.push_str("; ");
            text.push_str(&self.remedy);
        }
        text
    }

    /// One JSON object on one line, for scripts.
    pub fn json_line(&self) -> String {
        let (scope, name) = self.scope_words();
        let line = Line {
            severity: self.severity,
            scope,
            name,
            file: self.place.as_ref().map(|place| place.file.as_str()),
            line: self.place.as_ref().map(|place| place.line),
            column: self.place.as_ref().map(|place| place.column),
            key_path: &self.key_path,
            message: &self.message,
            remedy: &self.remedy,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }

    fn scope_words(&self) -> (&'static str, Option<&str>) {
        match &self.scope {
            Scope::File => ("file", None),
            Scope::Server(name) => ("server", Some(name)),
            Scope::Preset(name) => ("preset", Some(name)),
            Scope::Setting(key) => ("setting", Some(key)),
            Scope::Flag(flag) => ("flag", Some(flag)),
        }
    }
}

/// The shape of `json_line`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    severity: Severity,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    key_path: &'a str,
    message: &'a str,
    remedy: &'a str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        f.write_str(&self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Problem, Scope, Severity};

    fn problem() -> Problem {
        Problem {
            severity: Severity::Warning,
            scope: Scope::Server("files".into()),
            place: Some(Place {
                file: "mcp.json".into(),
                line: 12,
                column: 7,
            }),
            key_path: "mcpServers.files.comand".into(),
            message: "unknown key".into(),
            remedy: "did you mean \"command\"?".into(),
        }
    }

    #[test]
    fn reads_like_a_compiler_message() {
        let expect = "mcp.json:12:7: mcpServers.files.comand: unknown key; \
                      did you mean \"command\"?";
        assert_eq!(problem().to_string(), expect);
        let bare = Problem {
            place: None,
            remedy: String::new(),
            ..problem()
        };
        assert_eq!(bare.to_string(), "mcpServers.files.comand: unknown key");
    }

    #[test]
    fn is_one_json_object() {
        let line = problem().json_line();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["severity"], "warning");
        assert_eq!(value["scope"], "server");
        assert_eq!(value["name"], "files");
        assert_eq!((&value["line"], &value["column"]), (&12.into(), &7.into()));
        assert_eq!(value["keyPath"], "mcpServers.files.comand");
        assert!(!line.contains('\n'));
    }
}
