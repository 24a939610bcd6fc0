//! The configuration: what was asked for, read whole, checked whole, never half applied.
//!
//! `sources` reads the files, `check` judges them together, `plan` compares two outcomes.
//! Deliberately absent: watching files, applying what changed, secret stores.

pub mod adopt;
pub mod alerts;
pub mod audit;
pub mod auth;
pub mod auth_server;
pub mod check;
pub mod child;
pub mod client_file;
pub mod config_toml;
pub mod depends;
pub mod discovery;
pub mod document;
pub mod dotenv;
pub mod entry;
pub mod expand;
pub mod fingerprint;
pub mod foreign;
pub mod locate;
pub mod lookups;
pub mod mask;
pub mod near;
pub mod oauth;
pub mod otlp;
pub mod plan;
pub mod preset;
pub mod problem;
pub mod remote;
pub mod replicas;
pub mod schema;
pub mod secret_sources;
pub mod server;
pub mod settings;
pub mod shared_store;
pub mod sources;
pub mod splice;
pub mod table;
pub mod tls;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::ordered;
use crate::base::secret::Secret;
use crate::config::alerts::AlertSpec;
use crate::config::auth_server::AuthServerSpec;
use crate::config::check::{Given, Written, sort};
use crate::config::locate::{CONFIG_JSON, FILE_NAME, Location, given, locate, named};
use crate::config::preset::Preset;
use crate::config::problem::{Problem, Scope};
use crate::config::server::ServerConfig;
use crate::config::settings::{FileValues, Flags, Settings, resolve};
use crate::config::sources::{Source, Sources};
use crate::net::redis::spec::Spec;
use crate::secrets::store::Store;

/// The variables of a process. Those that are not UTF-8 are left out.
pub type Environment = BTreeMap<String, String>;

/// The environment of this process.
pub fn process_environment() -> Environment {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    ordered::map(std::env::vars_os().filter_map(text))
}

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `None` when it was not read from a file.
    pub path: Option<PathBuf>,
    pub settings: Settings,
    /// In the order of the file.
    pub servers: Vec<ServerConfig>,
    /// Of what is pushed, their templates filled in.
    pub otlp_headers: Vec<(String, Secret)>,
    /// Of what the audit log posts, likewise.
    pub audit_headers: Vec<(String, Secret)>,
    /// Who is told of what.
    pub alerts: AlertSpec,
    /// Who may become a client of the authorization server.
    pub auth_server: AuthServerSpec,
    /// What several gateways share.
    pub store: Option<Spec>,
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

/// Finds, reads and checks the configuration. The store is told what the settings say about it.
pub fn load(flags: &Flags, environment: &Environment, store: &Store) -> Result<Config, LoadError> {
    read(&found(flags, environment)?, flags, environment, Some(store))
}

/// Reads and checks `file`, or without one what is found.
pub fn load_named(
    file: Option<&Path>,
    flags: &Flags,
    environment: &Environment,
    store: &Store,
) -> Result<Config, LoadError> {
    match file {
        Some(file) => load_file(file, flags, environment, store),
        None => load(flags, environment, store),
    }
}

/// Reads and checks this file, whatever the flags and the environment say about its place.
pub fn load_file(
    path: &Path,
    flags: &Flags,
    environment: &Environment,
    store: &Store,
) -> Result<Config, LoadError> {
    let base = Base::File(path.to_path_buf());
    read(&base, flags, environment, Some(store))
}

/// What a reload would read if `from` were in the place of the file, or of its folder.
pub fn load_instead(
    from: &Path,
    flags: &Flags,
    environment: &Environment,
    store: &Store,
) -> Result<Config, LoadError> {
    let path = match found(flags, environment)? {
        Base::File(path) => with_file_name(&path),
        Base::Text(_, beside) => {
            beside.map_or_else(|| from.to_path_buf(), |path| with_file_name(&path))
        }
        Base::InPlace { path, .. } => path,
    };
    if !from.is_dir() {
        let from = from.to_path_buf();
        return read(
            &Base::InPlace { from, path },
            flags,
            environment,
            Some(store),
        );
    }
    let same_name = from.join(path.file_name().unwrap_or_default());
    let file = if same_name.is_file() {
        same_name
    } else {
        from.join(FILE_NAME)
    };
    let mut config = read(&Base::File(file), flags, environment, Some(store))?;
    let (folder, place) = (folder_of(&from.join(FILE_NAME)), folder_of(&path));
    for server in &mut config.servers {
        server.move_paths(&folder, &place);
    }
    Ok(config)
}

/// The servers as the files say them, for people. Nothing is told of what is wrong.
pub fn load_written(file: Option<&Path>, flags: &Flags, environment: &Environment) -> Vec<Written> {
    let base = match file {
        Some(file) => Ok(Base::File(file.to_path_buf())),
        None => found(flags, environment),
    };
    let overlay = resolve(&FileValues::default(), flags, environment, &mut Vec::new()).environment;
    let sources = base.map(|base| read_sources(&base, overlay.as_deref(), &mut Vec::new()));
    sources.map_or_else(|_| Vec::new(), |(_, sources)| check::written(&sources))
}

/// The settings of the files, for commands that only want to find the gateway.
pub fn load_files_settings(
    flags: &Flags,
    environment: &Environment,
) -> Result<Settings, LoadError> {
    let base = found(flags, environment)?;
    Ok(read(&base, flags, environment, None)?.settings)
}

/// What everything else is laid over.
enum Base {
    File(PathBuf),
    /// In place of the file at this path, if one is named.
    Text(Source, Option<PathBuf>),
    /// A file that is to be judged as if it were at this path.
    InPlace {
        from: PathBuf,
        path: PathBuf,
    },
}

fn found(flags: &Flags, environment: &Environment) -> Result<Base, LoadError> {
    if let Some((name, text)) = given(CONFIG_JSON, flags, environment) {
        let source = Source {
            file: name,
            text: text.to_owned(),
        };
        return Ok(Base::Text(source, named(flags, environment)));
    }
    match locate(flags, environment, &|path| path.is_file()) {
        Location::At(path) => Ok(Base::File(path)),
        Location::Nowhere(searched) => Err(LoadError::NotFound { searched }),
    }
}

/// Without a store no server is read.
fn read(
    base: &Base,
    flags: &Flags,
    environment: &Environment,
    secrets: Option<&Store>,
) -> Result<Config, LoadError> {
    let mut problems = Vec::new();
    // What is wrong with the name itself is said when all settings are resolved.
    let overlay = resolve(&FileValues::default(), flags, environment, &mut Vec::new()).environment;
    let (path, mut sources) = read_sources(base, overlay.as_deref(), &mut problems);
    let folder = match (&path, base) {
        (Some(path), _) | (None, Base::Text(_, Some(path))) => folder_of(path),
        _ => folder_of(Path::new(FILE_NAME)),
    };
    let given = Given {
        flags,
        environment,
        folder: &folder,
        secrets,
    };
    let checked = check::check(&sources, &given);
    problems.extend(checked.problems);
    let presets = read_presets(&sources, &mut problems);
    sources.watched.extend(checked.watched);
    finish(Config {
        path,
        settings: checked.settings,
        servers: checked.servers,
        otlp_headers: checked.otlp_headers,
        audit_headers: checked.audit_headers,
        alerts: checked.alerts,
        auth_server: checked.auth_server,
        store: checked.store,
        presets_lost: sources.presets.is_some_and(|_| presets.is_none()) || sources.presets_unread,
        presets: presets.unwrap_or_default(),
        watched: sources.watched,
        problems,
    })
}

/// The files, and the path of the first one if it has one.
fn read_sources(
    base: &Base,
    overlay: Option<&str>,
    problems: &mut Vec<Problem>,
) -> (Option<PathBuf>, Sources) {
    match base {
        Base::File(path) => {
            let path = with_file_name(path);
            let sources = sources::read(&path, overlay, problems);
            (Some(path), sources)
        }
        Base::Text(text, beside) => {
            let beside = beside.as_deref().map(with_file_name);
            let text = text.clone();
            let sources = sources::read_beside(text, beside.as_deref(), overlay, problems);
            (None, sources)
        }
        Base::InPlace { from, path } => {
            let sources = sources::read_in_place(from, path, overlay, problems);
            (Some(path.clone()), sources)
        }
    }
}

/// The settings alone, for commands that bring their own servers.
pub fn load_settings(flags: &Flags, environment: &Environment) -> Result<Config, LoadError> {
    let mut problems = Vec::new();
    let settings = resolve(&FileValues::default(), flags, environment, &mut problems);
    finish(Config {
        path: None,
        settings,
        servers: Vec::new(),
        otlp_headers: Vec::new(),
        audit_headers: Vec::new(),
        alerts: AlertSpec::default(),
        auth_server: AuthServerSpec::default(),
        store: None,
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

/// A bare directory is what people with a mounted volume write.
fn with_file_name(path: &Path) -> PathBuf {
    match path.is_dir() {
        true => path.join(FILE_NAME),
        false => path.to_path_buf(),
    }
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

#[cfg(test)]
mod tests;
