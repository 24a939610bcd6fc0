//! What was found, as a server. A finding is the word of a stranger: it may be an HTTP server with
//! a few harmless keys, nothing in it stands for anything else, and no default of ours goes there.

use std::path::Path;

use serde_json::{Map, Value};

use crate::base::limits;
use crate::config::Environment;
use crate::config::discovery::SourceSpec;
use crate::config::document::{Lines, Node, Notes, parse};
use crate::config::entry::Entry;
use crate::config::lookups::Lookups;
use crate::config::problem::Scope;
use crate::config::server::{ServerConfig, ServerState, Surroundings, read_server};
use crate::net::url::Url;
use crate::secrets::store::Store;

/// All that a finding may say. Anything else, and it is not taken.
pub const KEYS: &[&str] = &[
    "url",
    "type",
    "tags",
    "disabled",
    "disabledTools",
    "timeout",
    "connectionTimeout",
    "requestTimeout",
    "discoverable",
];

/// The server that was found under `name`.
///
/// # Errors
/// Why it is not taken. Its URL is never quoted.
pub fn server(
    name: &str,
    entry: &Map<String, Value>,
    spec: &SourceSpec,
) -> Result<ServerConfig, String> {
    if let Some(key) = entry.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("{key:?} is a key that nothing found may have"));
    }
    let whole = Value::Object(Map::from_iter([(
        name.to_owned(),
        Value::Object(entry.clone()),
    )]));
    let text = whole.to_string();
    if text.len() > limits::DISCOVERY_ENTRY_BYTES {
        return Err(format!(
            "it is longer than {} bytes",
            limits::DISCOVERY_ENTRY_BYTES
        ));
    }
    let mut server = judged(name, &text)?;
    let Some(remote) = &mut server.remote else {
        return Err("it is no HTTP server".to_owned());
    };
    check_host(&remote.url, spec)?;
    remote.within = Some(spec.allow.clone());
    for tag in &spec.tags {
        if !server.tags.contains(tag) && server.tags.len() < limits::SERVER_TAGS {
            server.tags.push(tag.clone());
        }
    }
    Ok(server)
}

/// As an entry of a file would be, in a world without variables, secrets and defaults.
fn judged(name: &str, text: &str) -> Result<ServerConfig, String> {
    let scope = Scope::Server(name.to_owned());
    let lines = Lines::new("discovery", text);
    let mut notes = Notes::new(scope);
    let value = parse(&lines, &mut notes);
    let (environment, store) = (Environment::new(), Store::default());
    let folder = Path::new("/");
    let lookups = Lookups::new(&environment, folder, &store);
    let around = Surroundings {
        defaults: &Entry::default(),
        environment: &environment,
        lookups: &lookups,
        expands: false,
        has_scopes: false,
        folder,
    };
    let mut problems = Vec::new();
    let node = value.as_ref().map(|value| Node::root(&lines, value));
    let members = node.and_then(|node| node.members(&mut notes));
    let read = members
        .iter()
        .flatten()
        .find_map(|member| read_server(member, &around, &mut problems));
    problems.append(&mut notes.problems);
    if let Some(problem) = problems.iter().find(|problem| problem.is_error()) {
        return Err(problem.reason());
    }
    match read {
        Some(read) if !matches!(read.server.state, ServerState::Invalid(_)) => Ok(read.server),
        _ => Err("it is no server".to_owned()),
    }
}

/// What can be said before a name is looked up; the address is judged whenever it is connected to.
fn check_host(url: &str, spec: &SourceSpec) -> Result<(), String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let Some(address) = url.address() else {
        return Ok(());
    };
    let address = address.to_canonical();
    match spec.allow.iter().any(|one| one.covers(url.host(), address)) {
        true => Ok(()),
        false => Err(format!(
            "{address} is in no network of gateway.discovery.{}.allow",
            spec.name
        )),
    }
}
