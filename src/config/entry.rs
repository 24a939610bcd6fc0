//! One entry of `mcpServers` (or `serverDefaults`) as it is written: typed, every key known,
//! nothing expanded. What it means is said in `server` and `remote`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::sorted::SortedSet;
use crate::base::{limits, ordered};
use crate::config::child::is_filter_pattern;
use crate::config::document::{Member, Node, Notes, Spot};
use crate::config::near::did_you_mean;
use crate::config::oauth::{Mapping, OauthItem, forwarded, mapped, oauth_item};
use crate::config::remote::{HeaderItem, header_items};
use crate::config::server::Instances;
use crate::model::pin::Pinning;
use crate::model::scope::is_tag;
use crate::model::visible_text::Invisible;

/// Keys of a server entry that are carried out.
pub const KEYS: &[&str] = &[
    "type",
    "command",
    "args",
    "env",
    "cwd",
    "url",
    "headers",
    "caFile",
    "proxy",
    "oauth",
    "forwardHeaders",
    "headerMap",
    "tags",
    "disabled",
    "timeout",
    "connectionTimeout",
    "requestTimeout",
    "disabledTools",
    "instructionOverride",
    "toolDescriptionOverrides",
    "toolPins",
    "stripInvisible",
    "inheritParentEnv",
    "envFilter",
    "instances",
    "maxInstances",
    "instanceIdleTimeout",
    "required",
    "discoverable",
    "dependsOn",
    "restartOnExit",
    "maxRestarts",
    "restartDelay",
];

/// Keys that are known and not carried out, with what happens instead.
pub const NOT_CARRIED_OUT: &[(&str, &str)] = &[
    ("stderr", "it is always captured for the log"),
    (
        "template",
        "server templates per client are not carried out",
    ),
];

/// These belong to servers with a `url`, and these to servers with a `command`.
const REMOTE_KEYS: &[&str] = &[
    "url",
    "headers",
    "caFile",
    "proxy",
    "oauth",
    "forwardHeaders",
    "headerMap",
];
const PROCESS_KEYS: &[&str] = &["args", "env", "cwd", "inheritParentEnv", "envFilter"];

/// Keys that `serverDefaults` may hold.
pub const DEFAULT_KEYS: &[&str] = &[
    "env",
    "timeout",
    "connectionTimeout",
    "requestTimeout",
    "inheritParentEnv",
    "envFilter",
    "headers",
    "oauth",
    "restartOnExit",
    "maxRestarts",
    "restartDelay",
];

/// A string of the entry and its place, for what is found wrong on expansion.
#[derive(Clone)]
pub struct Written<'d> {
    pub text: &'d str,
    pub spot: Spot<'d>,
}

#[derive(Clone)]
pub struct EnvItem<'d> {
    pub name: &'d str,
    /// `None` copies the variable from the gateway's environment.
    pub value: Option<&'d str>,
    pub spot: Spot<'d>,
}

/// The two forms of `env`; only objects are merged with the defaults key by key.
#[derive(Clone)]
pub struct Env<'d> {
    pub is_object: bool,
    pub items: Vec<EnvItem<'d>>,
}

#[derive(Default)]
pub struct Entry<'d> {
    pub kind: Option<Written<'d>>,
    pub command: Vec<Written<'d>>,
    pub args: Vec<Written<'d>>,
    pub env: Option<Env<'d>>,
    pub cwd: Option<Written<'d>>,
    pub url: Option<Written<'d>>,
    pub headers: Option<Vec<HeaderItem<'d>>>,
    pub ca_file: Option<Written<'d>>,
    pub proxy: Option<Written<'d>>,
    pub oauth: Option<OauthItem<'d>>,
    /// Headers of clients that go to the server.
    pub handed_on: Vec<Mapping>,
    pub tags: Vec<String>,
    /// Tags that no scope can name.
    pub odd_tags: Vec<Spot<'d>>,
    pub disabled: bool,
    pub timeout_ms: Option<u64>,
    pub connection_timeout_ms: Option<u64>,
    pub request_timeout_ms: Option<u64>,
    pub disabled_tools: BTreeSet<String>,
    pub instruction_override: Option<String>,
    pub tool_description_overrides: BTreeMap<String, String>,
    pub tool_pins: Option<Pinning>,
    pub strip_invisible: Option<Invisible>,
    pub inherit_parent_env: Option<bool>,
    pub env_filter: Vec<String>,
    pub instances: Option<Instances>,
    pub max_instances: Option<u64>,
    pub instance_idle_timeout_ms: Option<u64>,
    pub required: bool,
    pub discoverable: bool,
    pub depends_on: Vec<Written<'d>>,
    pub restart_on_exit: Option<bool>,
    pub max_restarts: Option<u64>,
    pub restart_delay_ms: Option<u64>,
    /// Given keys that only a server with a `url`, or only one with a `command` can use.
    pub remote_only: Vec<Spot<'d>>,
    pub process_only: Vec<Spot<'d>>,
}

/// Reads one entry; whatever is wrong is noted and left out.
pub fn read<'d>(node: &Node<'d>, notes: &mut Notes) -> Entry<'d> {
    let mut entry = Entry::default();
    for member in node.members(notes).unwrap_or_default() {
        read_member(&mut entry, &member, notes);
    }
    entry
}

/// Reads `serverDefaults`.
pub fn read_defaults<'d>(node: &Node<'d>, notes: &mut Notes) -> Entry<'d> {
    let mut entry = Entry::default();
    for member in node.members(notes).unwrap_or_default() {
        if DEFAULT_KEYS.contains(&member.name) {
            read_member(&mut entry, &member, notes);
        } else if KEYS.contains(&member.name) {
            let remedy = "write it in each server";
            member
                .spot
                .warn(notes, "has no effect as a default", remedy);
        } else {
            let remedy = did_you_mean(member.name, DEFAULT_KEYS.iter().copied(), "remove it");
            member.spot.warn(notes, "unknown key", remedy);
        }
    }
    entry
}

fn read_member<'d>(entry: &mut Entry<'d>, member: &Member<'d>, notes: &mut Notes) {
    let node = &member.node;
    if REMOTE_KEYS.contains(&member.name) {
        entry.remote_only.push(member.spot.clone());
    } else if PROCESS_KEYS.contains(&member.name) {
        entry.process_only.push(member.spot.clone());
    }
    match member.name {
        "type" => entry.kind = written(node, notes),
        "command" => entry.command = command(node, notes),
        "args" => entry.args = texts(node, notes),
        "env" => entry.env = env(node, notes),
        "cwd" => entry.cwd = written(node, notes),
        "url" => entry.url = written(node, notes),
        "headers" => entry.headers = header_items(node, notes),
        "caFile" => entry.ca_file = written(node, notes),
        "proxy" => entry.proxy = written(node, notes),
        "oauth" => entry.oauth = oauth_item(node, notes),
        "forwardHeaders" => entry.handed_on.extend(forwarded(node, notes)),
        "headerMap" => entry.handed_on.extend(mapped(node, notes)),
        "tags" => (entry.tags, entry.odd_tags) = tags(node, notes),
        "disabled" => entry.disabled = node.switch(notes).unwrap_or(false),
        "timeout" => {
            let remedy = "it counts milliseconds; write connectionTimeout and requestTimeout";
            member.spot.warn(notes, "is deprecated", remedy);
            entry.timeout_ms = millis(node, notes);
        }
        "connectionTimeout" => entry.connection_timeout_ms = millis(node, notes),
        "requestTimeout" => entry.request_timeout_ms = millis(node, notes),
        "disabledTools" => {
            let words = node.words(notes).unwrap_or_default();
            entry.disabled_tools = ordered::set(words.iter().map(|(word, _)| (*word).to_owned()));
        }
        "instructionOverride" => {
            entry.instruction_override = node.text(notes).map(str::to_owned);
        }
        "toolDescriptionOverrides" => {
            entry.tool_description_overrides = descriptions(node, notes);
        }
        "toolPins" => entry.tool_pins = word(node, Pinning::parse, Pinning::WORDS, notes),
        "stripInvisible" => {
            entry.strip_invisible = word(node, Invisible::parse, Invisible::WORDS, notes);
        }
        "inheritParentEnv" => entry.inherit_parent_env = node.switch(notes),
        "envFilter" => entry.env_filter = env_filter(node, notes),
        "instances" => entry.instances = instances(node, notes),
        "maxInstances" => {
            entry.max_instances = node.count(notes, 1, limits::INSTANCES_PER_SERVER as u64);
        }
        "instanceIdleTimeout" => entry.instance_idle_timeout_ms = millis(node, notes),
        "discoverable" => entry.discoverable = node.switch(notes).unwrap_or(false),
        "required" => entry.required = node.switch(notes).unwrap_or(false),
        "dependsOn" => entry.depends_on = depends_on(node, notes),
        "restartOnExit" => entry.restart_on_exit = node.switch(notes),
        "maxRestarts" => entry.max_restarts = node.count(notes, 0, u32::MAX.into()),
        "restartDelay" => entry.restart_delay_ms = node.count(notes, 0, limits::SETTING_MS),
        _ => read_other(member, notes),
    }
}

fn read_other(member: &Member<'_>, notes: &mut Notes) {
    let row = NOT_CARRIED_OUT
        .iter()
        .find(|(name, _)| *name == member.name);
    let Some((_, instead)) = row else {
        let known = KEYS.iter().copied();
        let known = known.chain(NOT_CARRIED_OUT.iter().map(|(name, _)| *name));
        let remedy = did_you_mean(member.name, known, "remove it");
        member.spot.warn(notes, "unknown key", remedy);
        return;
    };
    member
        .spot
        .warn(notes, "is known but not carried out", *instead);
}

/// One of `words`, as `parse` reads it.
fn word<T>(
    node: &Node<'_>,
    parse: fn(&str) -> Option<T>,
    words: &[&str],
    notes: &mut Notes,
) -> Option<T> {
    let found = parse(node.text(notes)?);
    if found.is_none() {
        let remedy = format!("write one of {}", words.join(", "));
        node.spot.error(notes, "is no known word", remedy);
    }
    found
}

pub fn written<'d>(node: &Node<'d>, notes: &mut Notes) -> Option<Written<'d>> {
    let text = node.text(notes)?;
    if text.trim().is_empty() {
        node.spot
            .error(notes, "is empty", "fill it in or remove the key");
        return None;
    }
    Some(Written {
        text,
        spot: node.spot.clone(),
    })
}

fn texts<'d>(node: &Node<'d>, notes: &mut Notes) -> Vec<Written<'d>> {
    let texts = node.texts(notes).unwrap_or_default();
    texts
        .into_iter()
        .map(|(text, spot)| Written { text, spot })
        .collect()
}

/// A program, or an array of the program and its first arguments.
fn command<'d>(node: &Node<'d>, notes: &mut Notes) -> Vec<Written<'d>> {
    if node.value.as_array().is_none() {
        let program: Vec<Written<'d>> = written(node, notes).into_iter().collect();
        for word in &program {
            let spaced = word.text.trim().contains(char::is_whitespace);
            if spaced && !word.text.contains(['/', '$']) {
                let remedy = "nothing splits it; write [\"program\", \"argument\"] or use args";
                word.spot.warn(notes, "contains spaces", remedy);
            }
        }
        return program;
    }
    let words = texts(node, notes);
    if words
        .first()
        .is_none_or(|program| program.text.trim().is_empty())
    {
        node.spot.error(
            notes,
            "names no program",
            "write [\"program\", \"argument\"]",
        );
    }
    words
}

fn env<'d>(node: &Node<'d>, notes: &mut Notes) -> Option<Env<'d>> {
    let is_object = node.value.as_array().is_none();
    let mut items = Vec::new();
    if is_object {
        for member in node.members(notes)? {
            let Some(value) = member.node.text(notes) else {
                continue;
            };
            let spot = member.node.spot;
            items.push(EnvItem {
                name: member.name,
                value: Some(value),
                spot,
            });
        }
    } else {
        for (text, spot) in node.texts(notes)? {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            items.push(EnvItem { name, value, spot });
        }
    }
    let mut seen = SortedSet::new();
    items.retain(|item| {
        let fits = !item.name.trim().is_empty() && !item.name.contains(['=', '\0']);
        if !fits {
            item.spot
                .error(notes, "is not a variable name", "write NAME without \"=\"");
        } else if !seen.insert(item.name) {
            item.spot
                .error(notes, "sets a variable twice", "keep one of the two");
        }
        fits
    });
    Some(Env { is_object, items })
}

/// The tags, and where those stand that no scope can name.
pub fn tags<'d>(node: &Node<'d>, notes: &mut Notes) -> (Vec<String>, Vec<Spot<'d>>) {
    let (mut tags, mut odd): (Vec<String>, Vec<Spot>) = Default::default();
    for (word, spot) in node.words(notes).unwrap_or_default() {
        let tag = word.trim().to_lowercase();
        if tag.chars().count() > limits::TAG_CHARS {
            let remedy = format!("at most {} characters are allowed", limits::TAG_CHARS);
            spot.error(notes, "the tag is too long", remedy);
        } else if !tags.contains(&tag) {
            if !is_tag(&tag) {
                odd.push(spot);
            }
            tags.push(tag);
        }
    }
    if tags.len() > limits::SERVER_TAGS {
        let message = format!("{} tags", tags.len());
        node.spot.error(
            notes,
            message,
            format!("at most {} are allowed", limits::SERVER_TAGS),
        );
        tags.truncate(limits::SERVER_TAGS);
    }
    (tags, odd)
}

/// Names of servers, each once; whether they exist is judged when all are known.
fn depends_on<'d>(node: &Node<'d>, notes: &mut Notes) -> Vec<Written<'d>> {
    let mut out: Vec<Written<'d>> = Vec::new();
    for (text, spot) in node.words(notes).unwrap_or_default() {
        if !out.iter().any(|known| known.text == text) {
            out.push(Written { text, spot });
        }
    }
    if out.len() > limits::SERVER_DEPENDENCIES {
        let remedy = format!("at most {} are allowed", limits::SERVER_DEPENDENCIES);
        let message = format!("{} servers", out.len());
        node.spot.error(notes, message, remedy);
        out.truncate(limits::SERVER_DEPENDENCIES);
    }
    out
}

fn millis(node: &Node<'_>, notes: &mut Notes) -> Option<u64> {
    node.count(notes, 1, limits::SETTING_MS)
}

fn descriptions(node: &Node<'_>, notes: &mut Notes) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for member in node.members(notes).unwrap_or_default() {
        let Some(text) = member.node.text(notes) else {
            continue;
        };
        if member.name.trim().is_empty() || text.trim().is_empty() {
            let remedy = "give a tool name and its text, or remove it";
            member.spot.error(notes, "is empty", remedy);
            continue;
        }
        out.insert(member.name.trim().to_owned(), text.to_owned());
    }
    out
}

fn env_filter(node: &Node<'_>, notes: &mut Notes) -> Vec<String> {
    let mut patterns = node.words(notes).unwrap_or_default();
    patterns.retain(|(pattern, spot)| {
        let fits = is_filter_pattern(pattern);
        if !fits {
            let remedy = "write NAME, BEGIN*, or either with ! in front";
            spot.error(notes, "is not a pattern", remedy);
        }
        fits
    });
    patterns
        .into_iter()
        .map(|(pattern, _)| pattern.to_owned())
        .collect()
}

fn instances(node: &Node<'_>, notes: &mut Notes) -> Option<Instances> {
    match node.text(notes)? {
        "auto" => Some(Instances::Auto),
        "shared" => Some(Instances::Shared),
        "session" => Some(Instances::Session),
        "principal" => Some(Instances::Principal),
        _ => {
            let remedy = "write auto, shared, session or principal";
            node.spot.error(notes, "is no known mode", remedy);
            None
        }
    }
}
