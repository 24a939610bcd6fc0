//! The configuration: what was asked for, read whole, checked whole, never half applied.
//!
//! `sources` reads the files, `check` judges them together, `plan` compares two outcomes.
//! Deliberately absent: watching files, applying what changed, secret stores.

pub mod check;
pub mod child;
pub mod depends;
pub mod document;
pub mod dotenv;
pub mod entry;
pub mod expand;
pub mod fingerprint;
pub mod foreign;
pub mod locate;
pub mod near;
pub mod plan;
pub mod preset;
pub mod problem;
pub mod remote;
pub mod server;
pub mod settings;
pub mod sources;
pub mod table;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::check::{file_error, sort};
use crate::config::locate::{FILE_NAME, Location, locate};
use crate::config::preset::Preset;
use crate::config::problem::{Problem, Scope, Severity};
use crate::config::server::ServerConfig;
use crate::config::settings::{FileValues, Flags, Settings, resolve};
use crate::config::sources::Sources;

/// The variables of a process. Those that are not UTF-8 are left out.
pub type Environment = BTreeMap<String, String>;

/// The environment of this process.
pub fn process_environment() -> Environment {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `None` when it was not read from a file.
    pub path: Option<PathBuf>,
    pub settings: Settings,
    /// In the order of the file.
    pub servers: Vec<ServerConfig>,
    pub presets: BTreeMap<String, Preset>,
    /// `presets.json` is there and is no JSON: who has presets already should keep them.
    pub presets_lost: bool,
    /// Every path whose appearance, change or end could change the outcome. Never resolved:
    /// a link that is replaced is a change.
    pub watched: Vec<PathBuf>,
    /// What was found and stops nothing: warnings, and errors of single servers.
    pub problems: Vec<Problem>,
}

/// Why there is no configuration.
#[derive(Debug, PartialEq, Eq)]
pub enum LoadError {
    /// No file in any of these places.
    NotFound { searched: Vec<PathBuf> },
    /// At least one of these is fatal; the others were found on the way.
    Rejected { problems: Vec<Problem> },
}

impl LoadError {
    /// 64 when only the command line is to blame, else 78.
    pub fn exit_code(&self) -> u8 {
        let LoadError::Rejected { problems } = self else {
            return 78;
        };
        let mut fatal = problems.iter().filter(|problem| problem.is_fatal());
        let usage_only = fatal.all(|problem| matches!(problem.scope, Scope::Flag(_)));
        if usage_only { 64 } else { 78 }
    }

    pub fn problems(&self) -> &[Problem] {
        match self {
            LoadError::NotFound { .. } => &[],
            LoadError::Rejected { problems } => problems,
        }
    }
}

impl Config {
    /// In place of those of a file that is no JSON; before the comparison with `old`.
    pub fn keep_lost_presets(&mut self, old: &Config) {
        if self.presets_lost {
            self.presets.clone_from(&old.presets);
        }
    }
}

impl fmt::Display for LoadError {
    /// All fatal problems, one on each line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::NotFound { searched } => {
                f.write_str("no configuration found; searched")?;
                for (index, path) in searched.iter().enumerate() {
                    let comma = if index == 0 { " " } else { ", " };
                    write!(f, "{comma}{}", path.display())?;
                }
                if searched.is_empty() {
                    f.write_str(" nothing, because neither HOME nor XDG_CONFIG_HOME is set")?;
                }
                f.write_str("; name one with --config FILE, or try onemcp demo")
            }
            LoadError::Rejected { problems } => {
                let fatal = problems.iter().filter(|problem| problem.is_fatal());
                for (index, problem) in fatal.enumerate() {
                    let newline = if index == 0 { "" } else { "\n" };
                    write!(f, "{newline}{problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// Finds, reads and checks the configuration.
pub fn load(flags: &Flags, environment: &Environment) -> Result<Config, LoadError> {
    match locate(flags, environment, &|path| path.is_file()) {
        Location::At(path) => load_file(&path, flags, environment),
        Location::Nowhere(searched) => Err(LoadError::NotFound { searched }),
    }
}

/// Reads and checks this file, whatever the flags and the environment say about its place.
pub fn load_file(
    path: &Path,
    flags: &Flags,
    environment: &Environment,
) -> Result<Config, LoadError> {
    // A bare directory is what people with a mounted volume write.
    let path = if path.is_dir() {
        path.join(FILE_NAME)
    } else {
        path.to_path_buf()
    };
    let folder = folder_of(&path);
    let mut problems = Vec::new();
    // What is wrong with the name itself is said when all settings are resolved.
    let overlay = resolve(&FileValues::default(), flags, environment, &mut Vec::new()).environment;
    let sources = sources::read(&path, overlay.as_deref(), &mut problems);
    let checked = check::check(&sources, &folder, environment);
    problems.extend(checked.problems);
    let settings = resolve(&checked.settings, flags, environment, &mut problems);
    let presets = read_presets(&sources, &mut problems);
    warn_unread_neighbour(&folder, &mut problems);
    finish(Config {
        path: Some(path),
        settings,
        servers: checked.servers,
        presets_lost: sources.presets.is_some_and(|_| presets.is_none()) || sources.presets_unread,
        presets: presets.unwrap_or_default(),
        watched: sources.watched,
        problems,
    })
}

/// The settings alone, for commands that bring their own servers.
pub fn load_settings(flags: &Flags, environment: &Environment) -> Result<Config, LoadError> {
    let mut problems = Vec::new();
    let settings = resolve(&FileValues::default(), flags, environment, &mut problems);
    finish(Config {
        path: None,
        settings,
        servers: Vec::new(),
        presets: BTreeMap::new(),
        presets_lost: false,
        watched: Vec::new(),
        problems,
    })
}

fn finish(mut config: Config) -> Result<Config, LoadError> {
    sort(&mut config.problems);
    if config.problems.iter().any(Problem::is_fatal) {
        return Err(LoadError::Rejected {
            problems: config.problems,
        });
    }
    Ok(config)
}

/// Absolute, so that a child's `cwd` does not depend on where the gateway was started.
fn folder_of(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    absolute
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// `None` when the file is not JSON.
fn read_presets(
    sources: &Sources,
    problems: &mut Vec<Problem>,
) -> Option<BTreeMap<String, Preset>> {
    let source = sources.presets.as_ref()?;
    preset::read(&source.file, &source.text, problems)
}

/// 1MCP reads one more file from the folder; leaving it out in silence would be a trap.
fn warn_unread_neighbour(folder: &Path, problems: &mut Vec<Problem>) {
    let path = folder.join("config.toml");
    if path.is_file() {
        let message = format!("{} is not read", path.display());
        let remedy = "write its settings under \"gateway\" in mcp.json";
        problems.push(Problem {
            severity: Severity::Warning,
            ..file_error(None, message, remedy)
        });
    }
}

#[cfg(test)]
mod tests;
