//! `gateway.secrets`: what the settings say about secrets, as the store wants it. The list of
//! providers is checked where it is written and filled in when the store is configured; values
//! may name variables, and no secrets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::limits;
use crate::base::secret::Secret;
use crate::config::Environment;
use crate::config::child::inherited;
use crate::config::document::{Lines, Member, Node, Notes, Spot, parse};
use crate::config::expand::{Lack, Wanted, expand};
use crate::config::near::did_you_mean;
use crate::config::problem::{Problem, Scope};
use crate::config::server::note_expanded;
use crate::config::settings::{Origin, Settings};
use crate::net::url::Url;
use crate::secrets::command::CommandSpec;
use crate::secrets::key::{self, KeySource};
use crate::secrets::spec::{Source, Spec, folders};
use crate::secrets::vault::{Login, VaultSpec};

const WORDS: &str = "\"directories\", \"environment\", \"sealed\"";
const DIRECTORY: &[&str] = &["directory"];
const SEALED: &[&str] = &["sealed", "keyFile"];
const COMMAND: &[&str] = &["command", "env", "timeout"];
const VAULT: &[&str] = &[
    "vault",
    "mount",
    "path",
    "field",
    "namespace",
    "tokenFile",
    "kubernetes",
    "caFile",
    "timeout",
];
const KUBERNETES: &[&str] = &["role", "mount", "tokenFile"];
/// Where a pod finds the token of its account.
const ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// What the settings say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSettings {
    /// JSON as its reader in SETTINGS accepted it; none is the default order.
    pub providers: Option<String>,
    pub directory: Option<PathBuf>,
    /// The sealed file, when it is not in the state directory.
    pub file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// How often slow stores are asked again.
    pub refresh: Duration,
}

impl Default for SecretSettings {
    fn default() -> SecretSettings {
        SecretSettings {
            providers: None,
            directory: None,
            file: None,
            key_file: None,
            refresh: limits::SECRETS_REFRESH,
        }
    }
}

/// What providers are made from.
struct Around<'a> {
    settings: &'a Settings,
    /// Of the process: what commands inherit, and where keys are.
    environment: &'a Environment,
    /// Those, and `.env`.
    variables: &'a Environment,
    folder: &'a Path,
    /// False while the list is only checked: then nothing is filled in or looked for.
    fills: bool,
}

/// Checks a list of providers; the reader of its row in SETTINGS.
pub fn check(node: &Node<'_>, notes: &mut Notes) {
    let around = Around {
        settings: &Settings::default(),
        environment: &Environment::new(),
        variables: &Environment::new(),
        folder: Path::new(""),
        fills: false,
    };
    read(node, &around, notes);
}

/// The providers in their order; what cannot be filled in is a problem of the setting.
pub fn spec(
    settings: &Settings,
    environment: &Environment,
    variables: &Environment,
    folder: &Path,
    problems: &mut Vec<Problem>,
) -> Spec {
    let around = Around {
        settings,
        environment,
        variables,
        folder,
        fills: true,
    };
    let sources = match &settings.secrets.providers {
        None => around.usual(),
        Some(text) => {
            let lines = Lines::new("secrets.providers", text);
            let mut notes = Notes::new(Scope::Setting("secrets.providers"));
            let value = parse(&lines, &mut notes);
            let node = value.as_ref().map(|value| Node::root(&lines, value));
            let sources = node.map(|node| read(&node, &around, &mut notes));
            problems.append(&mut notes.problems);
            sources.unwrap_or_default()
        }
    };
    Spec {
        sources,
        variables: variables.clone(),
        folder: folder.to_owned(),
    }
}

/// The sealed file that `onemcp secret` writes, and its key. `None` when no folder is known.
pub fn sealed(settings: &Settings, environment: &Environment) -> Option<(PathBuf, KeySource)> {
    let file = match &settings.secrets.file {
        Some(file) => placed(settings, "secrets.file", file),
        None => state_folder(settings, environment)?.join("secrets.sealed"),
    };
    let key = KeySource::new(key_file(settings), environment);
    Some((file, key))
}

fn key_file(settings: &Settings) -> Option<PathBuf> {
    let file = settings.secrets.key_file.as_deref()?;
    Some(placed(settings, "secrets.keyFile", file))
}

/// A relative path begins at the folder of the file that says it, as those of providers do; one
/// of a flag or a variable where the gateway was started.
pub fn placed(settings: &Settings, key: &str, path: &Path) -> PathBuf {
    let said_in = match settings.origin(key) {
        Origin::File(place) => Path::new(&place.file).parent(),
        _ => None,
    };
    let path = said_in.map_or_else(|| path.to_owned(), |folder| folder.join(path));
    // What is not there is told with its whole path.
    std::path::absolute(&path).unwrap_or(path)
}

/// The first that is known, whether it is there or not: what is written must be found again.
pub fn state_folder(settings: &Settings, environment: &Environment) -> Option<PathBuf> {
    let variable = |name: &str| environment.get(name).filter(|text| !text.is_empty());
    let first = |text: &String| PathBuf::from(text.split(':').next().unwrap_or_default());
    settings
        .state_dir
        .clone()
        .or_else(|| variable("STATE_DIRECTORY").map(first))
        .or_else(|| variable("XDG_STATE_HOME").map(|home| Path::new(home).join("onemcp")))
        .or_else(|| variable("HOME").map(|home| Path::new(home).join(".local/state/onemcp")))
}

impl Around<'_> {
    fn usual(&self) -> Vec<Source> {
        let mut sources = self.directories();
        sources.push(Source::Environment);
        sources.extend(self.sealed());
        sources
    }

    fn directories(&self) -> Vec<Source> {
        let own = self.settings.secrets.directory.as_deref();
        let own = own.map(|path| placed(self.settings, "secrets.directory", path));
        folders(self.environment, own.as_deref())
    }

    fn sealed(&self) -> Option<Source> {
        let (file, key) = sealed(self.settings, self.environment)?;
        Some(Source::Sealed { file, key })
    }

    fn fill(&self, text: &str, spot: &Spot<'_>, notes: &mut Notes) -> String {
        if !self.fills {
            return text.to_owned();
        }
        let lookup = |wanted: Wanted<'_>| match wanted {
            Wanted::Variable(name) => {
                let value = self.variables.get(name).filter(|_| name != key::VARIABLE);
                value.cloned().ok_or(Lack::Absent("is not set".into()))
            }
            _ => Err(Lack::Absent("a provider may name variables only".into())),
        };
        note_expanded(expand(text, &lookup), spot, true, notes)
    }

    fn text(&self, node: &Node<'_>, notes: &mut Notes) -> Option<String> {
        let text = self.fill(node.text(notes)?, &node.spot, notes);
        let is_blank = text.trim().is_empty();
        if is_blank {
            node.spot
                .error(notes, "is empty", "write a value, or remove it");
        }
        (!is_blank).then_some(text)
    }

    fn path(&self, node: &Node<'_>, notes: &mut Notes) -> Option<PathBuf> {
        self.text(node, notes).map(|text| self.folder.join(text))
    }
}

fn read(node: &Node<'_>, around: &Around<'_>, notes: &mut Notes) -> Vec<Source> {
    let elements = node.elements(notes).unwrap_or_default();
    if elements.len() > limits::SECRET_SOURCES {
        let message = format!("more than {} providers", limits::SECRET_SOURCES);
        node.spot.error(notes, message, "remove some");
        return Vec::new();
    }
    let mut sources = Vec::new();
    for element in &elements {
        match element.value.as_object() {
            Some(_) => sources.extend(provider(element, around, notes)),
            None => sources.extend(word(element, around, notes)),
        }
    }
    sources
}

/// One of those that are usually asked.
fn word(node: &Node<'_>, around: &Around<'_>, notes: &mut Notes) -> Vec<Source> {
    match node.text(notes) {
        Some("directories") => around.directories(),
        Some("environment") => vec![Source::Environment],
        Some("sealed") => around.sealed().into_iter().collect(),
        Some(_) => {
            let remedy = format!("write {WORDS}, or an object with directory, command or vault");
            node.spot.error(notes, "is no provider of secrets", remedy);
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn provider(node: &Node<'_>, around: &Around<'_>, notes: &mut Notes) -> Option<Source> {
    let members = node.members(notes)?;
    let names: Vec<&str> = members.iter().map(|member| member.name).collect();
    let kinds = [DIRECTORY, SEALED, COMMAND, VAULT];
    let found: Vec<&&[&str]> = kinds
        .iter()
        .filter(|keys| names.contains(&keys[0]))
        .collect();
    let [keys] = found.as_slice() else {
        let remedy = "write one of directory, sealed, command and vault";
        node.spot
            .error(notes, "does not say what kind of provider it is", remedy);
        return None;
    };
    warn_unknown(&members, keys, notes);
    match keys[0] {
        "directory" => {
            let path = around.path(&get(&members, "directory")?.node, notes)?;
            Some(Source::Directory(path))
        }
        "sealed" => sealed_source(&members, around, notes),
        "command" => command(&members, around, notes).map(Source::Command),
        _ => vault(&members, around, notes).map(Source::Vault),
    }
}

fn warn_unknown(members: &[Member<'_>], keys: &[&'static str], notes: &mut Notes) {
    for member in members.iter().filter(|member| !keys.contains(&member.name)) {
        let remedy = did_you_mean(member.name, keys.iter().copied(), "remove it");
        member.spot.error(notes, "unknown key", remedy);
    }
}

fn get<'m, 'd>(members: &'m [Member<'d>], name: &str) -> Option<&'m Member<'d>> {
    members.iter().find(|member| member.name == name)
}

fn sealed_source(members: &[Member<'_>], around: &Around<'_>, notes: &mut Notes) -> Option<Source> {
    let file = around.path(&get(members, "sealed")?.node, notes)?;
    let key_file = match get(members, "keyFile") {
        Some(member) => Some(around.path(&member.node, notes)?),
        None => key_file(around.settings),
    };
    let key = KeySource::new(key_file, around.environment);
    Some(Source::Sealed { file, key })
}

fn command(members: &[Member<'_>], around: &Around<'_>, notes: &mut Notes) -> Option<CommandSpec> {
    let member = get(members, "command")?;
    let words = member.node.texts(notes)?;
    if words.is_empty() || words.len() > limits::SECRET_COMMAND_WORDS {
        let message = format!("holds {} words", words.len());
        let remedy = "write [\"program\", \"argument\", ...]";
        member.spot.error(notes, message, remedy);
        return None;
    }
    let words = words
        .iter()
        .map(|(word, spot)| around.fill(word, spot, notes));
    let mut words: Vec<String> = words.collect();
    // A bare name is found on the PATH; any other path begins where those of the file do.
    if let Some(program) = words.first_mut().filter(|program| program.contains('/')) {
        *program = around.folder.join(&*program).display().to_string();
    }
    let mut env = inherited(around.environment, false, &[]);
    if let Some(member) = get(members, "env") {
        let given = member.node.members(notes).unwrap_or_default();
        if given.len() > limits::SECRET_COMMAND_VARIABLES {
            member
                .spot
                .error(notes, "holds too many variables", "remove some");
        }
        for one in &given {
            let text = one.node.text(notes)?;
            let value = around.fill(text, &one.node.spot, notes);
            env.insert(one.name.to_owned(), value);
        }
    }
    Some(CommandSpec {
        words,
        env: env.into_iter().collect(),
        timeout: timeout(members, limits::SECRET_COMMAND, notes)?,
    })
}

fn timeout(members: &[Member<'_>], usual: Duration, notes: &mut Notes) -> Option<Duration> {
    match get(members, "timeout") {
        None => Some(usual),
        Some(member) => {
            let ms = member.node.count(notes, 1, limits::SECRET_TIMEOUT_MS)?;
            Some(Duration::from_millis(ms))
        }
    }
}

fn vault(members: &[Member<'_>], around: &Around<'_>, notes: &mut Notes) -> Option<VaultSpec> {
    let url = vault_url(get(members, "vault")?, around, notes)?;
    let mut text = |name: &str, usual: &str| match get(members, name) {
        Some(member) => around.text(&member.node, notes),
        None => Some(usual.to_owned()),
    };
    let (mount, path) = (text("mount", "secret")?, text("path", "onemcp/{name}")?);
    let (field, namespace) = (text("field", "value")?, text("namespace", "")?);
    let ca_file = match get(members, "caFile") {
        Some(member) => Some(around.path(&member.node, notes)?),
        None => None,
    };
    Some(VaultSpec {
        url,
        mount,
        path,
        field,
        namespace: Some(namespace).filter(|text| !text.is_empty()),
        login: login(members, around, notes)?,
        ca_file,
        timeout: timeout(members, limits::SECRET_VAULT, notes)?,
        egress_allow: around.settings.egress_allow.clone(),
    })
}

/// The address, perhaps with a path before `/v1`.
fn vault_url(member: &Member<'_>, around: &Around<'_>, notes: &mut Notes) -> Option<String> {
    let spot = &member.node.spot;
    let text = around.text(&member.node, notes)?;
    if !around.fills && text.contains('$') {
        return Some(text);
    }
    match Url::parse(&text) {
        Err(error) => {
            spot.error(notes, error.to_string(), "write it like https://vault:8200");
            None
        }
        Ok(url) if url.query().is_some() => {
            spot.error(notes, "has a query", "remove what follows the ?");
            None
        }
        Ok(url) => {
            if !url.is_https() && !url.is_loopback() {
                let message = "sends the token and secrets in the clear";
                spot.warn(notes, message, "write https://");
            }
            Some(url.whole().trim_end_matches('/').to_owned())
        }
    }
}

fn login(members: &[Member<'_>], around: &Around<'_>, notes: &mut Notes) -> Option<Login> {
    if let Some(member) = get(members, "kubernetes") {
        let inner = member.node.members(notes)?;
        warn_unknown(&inner, KUBERNETES, notes);
        let Some(role) = get(&inner, "role") else {
            member
                .spot
                .error(notes, "has no role", "add \"role\": \"onemcp\"");
            return None;
        };
        let mount = match get(&inner, "mount") {
            Some(member) => around.text(&member.node, notes)?,
            None => "kubernetes".to_owned(),
        };
        let token_file = match get(&inner, "tokenFile") {
            Some(member) => around.path(&member.node, notes)?,
            None => PathBuf::from(ACCOUNT_TOKEN),
        };
        return Some(Login::Kubernetes {
            role: around.text(&role.node, notes)?,
            mount,
            token_file,
        });
    }
    if let Some(member) = get(members, "tokenFile") {
        return around.path(&member.node, notes).map(Login::TokenFile);
    }
    let variable = |name: &str| around.variables.get(name).filter(|text| !text.is_empty());
    match (variable("VAULT_TOKEN"), variable("HOME")) {
        (Some(token), _) => Some(Login::Token(Secret::new(token.clone()))),
        (None, Some(home)) => Some(Login::TokenFile(Path::new(home).join(".vault-token"))),
        (None, None) if !around.fills => Some(Login::TokenFile(PathBuf::new())),
        (None, None) => {
            let member = get(members, "vault")?;
            let remedy = "add tokenFile or kubernetes, or set VAULT_TOKEN";
            member.spot.error(notes, "has no token", remedy);
            None
        }
    }
}

#[cfg(test)]
#[path = "secret_sources_tests.rs"]
mod tests;
