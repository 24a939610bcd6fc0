//! Which providers there are, in which order. A value: made by `config`, carried out by `store`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::secrets::command::CommandSpec;
use crate::secrets::key::KeySource;
use crate::secrets::vault::VaultSpec;

/// Where Docker and Podman mount secrets.
pub const RUN_SECRETS: &str = "/run/secrets";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Directory(PathBuf),
    Environment,
    Sealed { file: PathBuf, key: KeySource },
    Command(CommandSpec),
    Vault(VaultSpec),
}

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// In the order in which they are asked.
    pub sources: Vec<Source>,
    /// What `Source::Environment` looks in.
    pub variables: BTreeMap<String, String>,
    /// Where relative paths in variables begin.
    pub folder: PathBuf,
}

impl Spec {
    /// The usual order: folders, the environment, the sealed file.
    pub fn usual(
        variables: BTreeMap<String, String>,
        folder: &Path,
        own_folder: Option<&Path>,
        sealed: Option<(PathBuf, KeySource)>,
    ) -> Spec {
        let mut sources = folders(&variables, own_folder);
        sources.push(Source::Environment);
        sources.extend(sealed.map(|(file, key)| Source::Sealed { file, key }));
        Spec {
            sources,
            variables,
            folder: folder.to_owned(),
        }
    }
}

/// The folders that secrets are mounted in: our own first, then what systemd says, then Docker's.
pub fn folders(variables: &BTreeMap<String, String>, own: Option<&Path>) -> Vec<Source> {
    let credentials = variables.get("CREDENTIALS_DIRECTORY");
    let credentials = credentials
        .filter(|text| !text.is_empty())
        .map(PathBuf::from);
    let run = PathBuf::from(RUN_SECRETS);
    let all = [own.map(Path::to_owned), credentials, Some(run)];
    all.into_iter().flatten().map(Source::Directory).collect()
}
