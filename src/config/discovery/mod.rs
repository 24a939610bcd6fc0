//! `gateway.discovery`: where servers are looked for that nobody wrote down, and what may come of
//! it. Read from its place in a file, or from the text of a flag or a variable. Pure.
//!
//! Deliberately absent: the looking (`gateway::discovery`), and whatever could make a finding do
//! more than name an HTTP server: it has no command, no header and no secret.

pub mod directory;
pub mod dns;
pub mod docker;
pub mod entry;
pub mod kubernetes;

use std::time::Duration;

use crate::base::limits;
use crate::config::document::{Lines, Member, Node, Notes, parse};
use crate::config::entry::tags;
use crate::config::near::did_you_mean;
use crate::config::problem::Scope;
use crate::config::settings::Settings;
use crate::net::egress::Allowed;

/// One place to look at, and what may come of it.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    pub name: String,
    pub source: Source,
    /// Tags that everything found there has besides its own.
    pub tags: Vec<String>,
    /// Networks and host names that servers found there may be at, and no others.
    pub allow: Vec<Allowed>,
    /// What was found stays for so long while the source fails.
    pub keep_for: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Kubernetes(kubernetes::Spec),
    Docker(docker::Spec),
    Dns(dns::Spec),
    Directory(directory::Spec),
}

impl Source {
    /// As it is written in `type`.
    pub fn word(&self) -> &'static str {
        match self {
            Source::Kubernetes(_) => "kubernetes",
            Source::Docker(_) => "docker",
            Source::Dns(_) => "dns",
            Source::Directory(_) => "directory",
        }
    }

    /// Whoever writes files here may name what is on this machine; a network may not.
    fn usual(&self) -> &'static [&'static str] {
        match self {
            Source::Directory(_) => PRIVATE,
            _ => &PRIVATE[2..],
        }
    }
}

pub const TYPES: &[&str] = &["kubernetes", "docker", "dns", "directory"];
const COMMON: &[&str] = &["type", "tags", "allow", "keepFor"];
/// Where servers of a site are; the first two are this machine.
const PRIVATE: &[&str] = &[
    "127.0.0.0/8",
    "::1",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
];

/// Those that one kind of source has, of all kinds.
pub fn own_keys() -> impl Iterator<Item = &'static str> {
    let kinds = [kubernetes::KEYS, docker::KEYS, dns::KEYS, directory::KEYS];
    kinds.into_iter().flatten().copied()
}

/// For the table of settings.
pub fn check(node: &Node<'_>, notes: &mut Notes) {
    read(node, notes);
}

/// What the settings say; it was checked with them.
pub fn sources(settings: &Settings) -> Vec<SourceSpec> {
    let Some(text) = &settings.discovery else {
        return Vec::new();
    };
    let mut notes = Notes::new(Scope::Setting("discovery"));
    let lines = Lines::new("discovery", text);
    let value = parse(&lines, &mut notes);
    let node = value.as_ref().map(|value| Node::root(&lines, value));
    node.map_or_else(Vec::new, |node| read(&node, &mut notes))
}

fn read(node: &Node<'_>, notes: &mut Notes) -> Vec<SourceSpec> {
    let members = node.members(notes).unwrap_or_default();
    if members.len() > limits::DISCOVERY_SOURCES {
        let remedy = format!("write at most {}", limits::DISCOVERY_SOURCES);
        node.spot
            .error(notes, format!("{} sources", members.len()), remedy);
    }
    let members = members.iter().take(limits::DISCOVERY_SOURCES);
    members
        .filter_map(|member| read_source(member, notes))
        .collect()
}

fn read_source(member: &Member<'_>, notes: &mut Notes) -> Option<SourceSpec> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = member.name;
    if name.is_empty() || name.len() > limits::DISCOVERY_NAME_BYTES || !name.chars().all(fits) {
        let most = limits::DISCOVERY_NAME_BYTES;
        let remedy = format!("write 1 to {most} characters of A-Z a-z 0-9 - _ .");
        member.spot.error(notes, "is no name of a source", remedy);
        return None;
    }
    let members = member.node.members(notes)?;
    let word = match get(&members, "type") {
        Some(node) => node.text(notes)?,
        None => name,
    };
    let keys = match word {
        "kubernetes" => kubernetes::KEYS,
        "docker" => docker::KEYS,
        "dns" => dns::KEYS,
        "directory" => directory::KEYS,
        _ => {
            let remedy = format!("write \"type\": one of {}", TYPES.join(", "));
            member.spot.error(notes, "is no kind of source", remedy);
            return None;
        }
    };
    for one in &members {
        let mut known = COMMON.iter().chain(keys).copied();
        if !known.any(|key| key == one.name) {
            let known = COMMON.iter().chain(keys).copied();
            let remedy = did_you_mean(one.name, known, "remove it");
            one.spot.error(notes, "unknown key", remedy);
        }
    }
    let parts = Parts {
        source: member,
        members: &members,
    };
    let source = match word {
        "kubernetes" => Source::Kubernetes(kubernetes::read(&parts, notes)?),
        "docker" => Source::Docker(docker::read(&parts, notes)?),
        "dns" => Source::Dns(dns::read(&parts, notes)?),
        _ => Source::Directory(directory::read(&parts, notes)?),
    };
    let keep_ms = parts.count("keepFor", 0, limits::DISCOVERY_KEEP_MS_MAX, notes);
    Some(SourceSpec {
        name: name.to_owned(),
        tags: parts
            .get("tags")
            .map_or_else(Vec::new, |node| tags(node, notes).0),
        allow: allow(&parts, source.usual(), notes),
        source,
        keep_for: keep_ms.map_or(limits::DISCOVERY_KEEP, Duration::from_millis),
    })
}

fn allow(parts: &Parts<'_, '_>, usual: &[&str], notes: &mut Notes) -> Vec<Allowed> {
    let Some(node) = parts.get("allow") else {
        return usual
            .iter()
            .filter_map(|text| Allowed::parse(text))
            .collect();
    };
    let mut allow = Vec::new();
    for (text, spot) in node.words(notes).unwrap_or_default() {
        match Allowed::parse(text) {
            Some(one) => allow.push(one),
            None => {
                let remedy = "write networks (10.0.0.0/8), addresses or host names";
                spot.error(notes, "is no network", remedy);
            }
        }
    }
    allow
}

fn get<'m, 'd>(members: &'m [Member<'d>], key: &str) -> Option<&'m Node<'d>> {
    let found = members.iter().find(|member| member.name == key)?;
    Some(&found.node)
}

/// The members of one source.
pub struct Parts<'m, 'd> {
    source: &'m Member<'d>,
    members: &'m [Member<'d>],
}

impl<'m, 'd> Parts<'m, 'd> {
    pub fn get(&self, key: &str) -> Option<&'m Node<'d>> {
        get(self.members, key)
    }

    /// A text that is not blank.
    pub fn text(&self, key: &str, notes: &mut Notes) -> Option<String> {
        let node = self.get(key)?;
        let text = node.text(notes)?.trim();
        if text.is_empty() {
            node.spot.error(notes, "is empty", "remove it");
            return None;
        }
        Some(text.to_owned())
    }

    /// Texts none of which is blank; none when the key is not there.
    pub fn words(&self, key: &str, notes: &mut Notes) -> Vec<String> {
        let words = self.get(key).and_then(|node| node.words(notes));
        let words = words.into_iter().flatten();
        words.map(|(word, _)| word.trim().to_owned()).collect()
    }

    pub fn count(&self, key: &str, least: u64, most: u64, notes: &mut Notes) -> Option<u64> {
        self.get(key)?.count(notes, least, most)
    }

    pub fn switch(&self, key: &str, notes: &mut Notes) -> Option<bool> {
        self.get(key)?.switch(notes)
    }

    /// Something that must be there is not.
    pub fn missing(&self, key: &str, notes: &mut Notes) {
        let remedy = format!("write \"{key}\"");
        let message = format!("has no {key}");
        self.source.spot.error(notes, message, remedy);
    }

    /// The value of `key` cannot be used.
    pub fn refuse(&self, key: &str, message: &str, remedy: &str, notes: &mut Notes) {
        let spot = self.get(key).map_or(&self.source.spot, |node| &node.spot);
        spot.error(notes, message, remedy);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
