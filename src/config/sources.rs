//! The files of a configuration: which there are, and their bytes, each read once. The only
//! part of `config` that touches the disk, apart from looking where `mcp.json` is.
//!
//! `config.toml` of 1MCP, for settings only; over it `mcp.json`; over it `mcp.ENVIRONMENT.json`;
//! then `conf.d/*.json` in the order of their names; `.env` and `presets.json`. Paths are never
//! resolved: a link that is replaced is a change.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::{limits, ordered};
use crate::config::check::{decode, file_error};
use crate::config::problem::{Problem, Scope, Severity};

pub const FRAGMENTS: &str = "conf.d";
pub const DOTENV: &str = ".env";
pub const PRESETS: &str = "presets.json";
pub const TOML: &str = "config.toml";

/// One file as text.
#[derive(Clone)]
pub struct Source {
    /// As it is shown in problems.
    pub file: String,
    pub text: String,
}

#[derive(Default)]
pub struct Sources {
    pub base: Option<Source>,
    pub overlay: Option<Source>,
    pub fragments: Vec<Source>,
    pub dotenv: Option<Source>,
    /// `config.toml`.
    pub toml: Option<Source>,
    pub presets: Option<Source>,
    /// `presets.json` is there and could not be read.
    pub presets_unread: bool,
    /// Absolute; also of files that are not there yet.
    pub watched: Vec<PathBuf>,
}

/// Reads all files of the configuration whose `mcp.json` is at `path`.
pub fn read(path: &Path, environment: Option<&str>, problems: &mut Vec<Problem>) -> Sources {
    let mut sources = Sources::default();
    let remedy = "name a readable file with --config, or try onemcp demo";
    match sources.read_file(path, remedy) {
        Ok(base) => sources.base = Some(base),
        Err(problem) => problems.push(*problem),
    }
    sources.read_neighbours(path, environment, problems);
    sources
}

/// The file `from` as if it were at `path`, and what is beside that.
pub fn read_in_place(
    from: &Path,
    path: &Path,
    environment: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Sources {
    let mut sources = Sources::default();
    match sources.read_regular(from) {
        Ok(base) => sources.base = Some(base),
        Err(problem) => problems.push(*problem),
    }
    sources.read_neighbours(path, environment, problems);
    sources
}

/// `text` in the place of `mcp.json`, and what is beside `path`, where that would be.
pub fn read_beside(
    text: Source,
    path: Option<&Path>,
    environment: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Sources {
    let mut sources = Sources::default();
    if let Some(path) = path {
        if path.is_file() {
            let message = format!("{} is not read", path.display());
            let remedy = format!("{} takes its place; unset one of the two", text.file);
            problems.push(warning(file_error(None, message, &remedy)));
        }
        sources.read_neighbours(path, environment, problems);
    }
    sources.base = Some(text);
    sources
}

impl Sources {
    fn read_neighbours(
        &mut self,
        path: &Path,
        environment: Option<&str>,
        problems: &mut Vec<Problem>,
    ) {
        if let Some(environment) = environment {
            self.read_overlay(&overlay_path(path, environment), problems);
        }
        self.read_fragments(&path.with_file_name(FRAGMENTS), problems);
        self.dotenv = self.read_optional(&path.with_file_name(DOTENV), problems);
        self.toml = self.read_optional(&path.with_file_name(TOML), problems);
        self.read_presets(&path.with_file_name(PRESETS), problems);
    }
}

/// `mcp.json` -> `mcp.production.json`.
fn overlay_path(path: &Path, environment: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path.extension().unwrap_or_default().to_string_lossy();
    let dot = if end.is_empty() { "" } else { "." };
    path.with_file_name(format!("{stem}.{environment}{dot}{end}"))
}

impl Sources {
    fn watch(&mut self, path: &Path) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        self.watched.push(absolute);
    }

    /// Bytes read so far.
    fn size(&self) -> u64 {
        let single = [
            &self.base,
            &self.overlay,
            &self.dotenv,
            &self.toml,
            &self.presets,
        ];
        let all = single.into_iter().flatten().chain(&self.fragments);
        all.map(|source| source.text.len() as u64).sum()
    }

    fn read_file(&mut self, path: &Path, remedy: &str) -> Result<Source, Box<Problem>> {
        self.watch(path);
        let bytes = read_bytes(path, remedy)?;
        if self.size() + bytes.len() as u64 > limits::CONFIG_ALL_BYTES {
            let most = limits::CONFIG_ALL_BYTES;
            let message = format!("with {} the files exceed {most} bytes", path.display());
            return Err(Box::new(file_error(None, message, "remove some")));
        }
        let file = path.display().to_string();
        let text = decode(&file, &bytes)?.to_owned();
        Ok(Source { file, text })
    }

    fn read_overlay(&mut self, path: &Path, problems: &mut Vec<Problem>) {
        if !exists(path) {
            self.watch(path);
            let message = format!("{} is not there", path.display());
            let remedy = "write it, or choose another --environment";
            // Whoever asks whether all is well is told that it is not.
            problems.push(warning(Problem {
                scope: Scope::Setting("environment"),
                ..file_error(None, message, remedy)
            }));
            return;
        }
        match self.read_regular(path) {
            Ok(overlay) => self.overlay = Some(overlay),
            Err(problem) => problems.push(*problem),
        }
    }

    /// A pipe or a device could keep a reader waiting for ever.
    fn read_regular(&mut self, path: &Path) -> Result<Source, Box<Problem>> {
        if path.metadata().is_ok_and(|about| !about.is_file()) {
            self.watch(path);
            let message = format!("{} is not a file", path.display());
            let problem = file_error(None, message, "put a file there, or remove it");
            return Err(Box::new(problem));
        }
        self.read_file(path, "make it readable, or remove it")
    }

    fn read_fragments(&mut self, folder: &Path, problems: &mut Vec<Problem>) {
        self.watch(folder);
        if !exists(folder) {
            return;
        }
        let mut paths = match fragment_paths(folder) {
            Ok(paths) => paths,
            Err(error) => {
                let message = format!("failed to read {}: {error}", folder.display());
                let remedy = "make it a readable folder, or remove it";
                problems.push(file_error(None, message, remedy));
                return;
            }
        };
        ordered::sort(&mut paths);
        if paths.len() > limits::CONFIG_FRAGMENTS {
            let most = limits::CONFIG_FRAGMENTS;
            let message = format!("{} holds more than {most} files", folder.display());
            problems.push(file_error(None, message, "put several servers into one"));
            return;
        }
        for path in paths {
            match self.read_regular(&path) {
                Ok(fragment) => self.fragments.push(fragment),
                Err(problem) => problems.push(*problem),
            }
        }
    }

    /// A folder named `.env` is a virtual environment of Python, as a rule.
    fn read_optional(&mut self, path: &Path, problems: &mut Vec<Problem>) -> Option<Source> {
        if !exists(path) || path.is_dir() {
            self.watch(path);
            return None;
        }
        let found = self.read_regular(path);
        found.map_err(|problem| problems.push(*problem)).ok()
    }

    /// Nothing in it stops a start.
    fn read_presets(&mut self, path: &Path, problems: &mut Vec<Problem>) {
        if !exists(path) {
            return self.watch(path);
        }
        match self.read_regular(path) {
            Ok(presets) => self.presets = Some(presets),
            Err(problem) => {
                self.presets_unread = true;
                problems.push(warning(*problem));
            }
        }
    }
}

/// True for a link that leads nowhere, too: it was meant to be read.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Hidden files are an editor's, or the machinery of a mounted ConfigMap. One more than allowed
/// is enough to see that there are too many.
fn fragment_paths(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for found in folder.read_dir()? {
        let name = found?.file_name();
        let text = name.to_string_lossy();
        let is_ours = text.ends_with(".json") && !text.starts_with('.');
        if is_ours && paths.len() <= limits::CONFIG_FRAGMENTS {
            paths.push(folder.join(&name));
        }
    }
    Ok(paths)
}

fn warning(problem: Problem) -> Problem {
    Problem {
        severity: Severity::Warning,
        ..problem
    }
}

fn read_bytes(path: &Path, remedy: &str) -> Result<Vec<u8>, Box<Problem>> {
    let failed = |error: std::io::Error| {
        let message = format!("failed to read {}: {error}", path.display());
        file_error(None, message, remedy)
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limits::CONFIG_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limits::CONFIG_BYTES {
        let message = format!(
            "{} is larger than {} bytes",
            path.display(),
            limits::CONFIG_BYTES
        );
        return Err(Box::new(file_error(None, message, "split it")));
    }
    Ok(bytes)
}
