//! What the audit log is to be: where it goes, and what happens when it cannot be written.

use std::path::PathBuf;

use crate::base::limits;

/// The words of `audit.sinks`. `auto`: the file once somebody has to authenticate, else nothing.
pub const SINKS: &[&str] = &["auto", "off", "stdout", "file", "syslog", "webhook"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSettings {
    /// Words of SINKS.
    pub sinks: Vec<String>,
    /// `None`: `audit.log` in the state directory.
    pub file: Option<PathBuf>,
    pub max_bytes: u64,
    /// Files that were put aside and are kept.
    pub max_files: usize,
    /// The secret that chains and signs; made in the state directory when none is named.
    pub key_file: Option<PathBuf>,
    /// A socket's path, or `udp://HOST:PORT`.
    pub syslog: String,
    pub webhook: Option<String>,
    /// Their values are templates.
    pub webhook_headers: Vec<(String, String)>,
    /// Whether requests are refused while what they do cannot be told.
    pub blocks: bool,
    /// `SERVER/TOOL` whose arguments are told, secrets masked; `*` for every tool of a server.
    pub arguments: Vec<String>,
}

impl Default for AuditSettings {
    fn default() -> AuditSettings {
        AuditSettings {
            sinks: vec!["auto".to_owned()],
            file: None,
            max_bytes: limits::AUDIT_FILE_BYTES,
            max_files: limits::AUDIT_FILES,
            key_file: None,
            syslog: "/dev/log".to_owned(),
            webhook: None,
            webhook_headers: Vec::new(),
            blocks: false,
            arguments: Vec::new(),
        }
    }
}

pub(super) const SINKS_REMEDY: &str =
    "write auto, off, or some of stdout, file, syslog, webhook separated by commas";
pub(super) const TOOLS_REMEDY: &str = "write SERVER/TOOL or SERVER/* separated by commas";

pub(super) fn is_sink(item: &str) -> bool {
    SINKS.contains(&item)
}

/// A server and one of its tools.
pub(super) fn is_tool(item: &str) -> bool {
    item.rsplit_once('/')
        .is_some_and(|(server, tool)| !server.is_empty() && !tool.is_empty())
}
