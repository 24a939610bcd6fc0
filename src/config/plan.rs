//! What lies between two configurations: pure, without a value of either, so that it may be
//! shown to anybody.
//!
//! A server that is disabled or invalid has no process: becoming one of these is `Remove`,
//! although its name stays, and leaving them is `Add`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::ordered;
use crate::base::sorted::SortedMap;
use crate::config::Config;
use crate::config::remote::RemoteSpec;
use crate::config::server::{ProcessSpec, ServerConfig, ServerState};
use crate::config::settings::SETTINGS;

/// What happens to one server. The fields are keys of its entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", content = "fields", rename_all = "lowercase")]
pub enum Change {
    Keep,
    /// What runs goes on; lists, views or health change.
    Metadata(Vec<&'static str>),
    /// Another process or connection takes over.
    Replace(Vec<&'static str>),
    Add,
    Remove,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingChange {
    pub key: &'static str,
    /// False when it waits for a restart of the gateway.
    pub reloadable: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Every server of the new configuration in its order, then those that are gone.
    pub servers: Vec<(String, Change)>,
    pub settings: Vec<SettingChange>,
    /// Servers that stay stand in another order.
    pub order: bool,
    pub presets: bool,
    /// Alerts, also when only a secret in them is another one.
    pub alerts: bool,
}

impl Plan {
    /// True when applying it would change nothing.
    pub fn is_empty(&self) -> bool {
        let kept = self
            .servers
            .iter()
            .all(|(_, change)| *change == Change::Keep);
        kept && self.settings.is_empty() && !self.order && !self.presets && !self.alerts
    }

    pub fn change_of(&self, name: &str) -> Option<&Change> {
        let mut servers = self.servers.iter();
        let found = servers.find(|(known, _)| known == name);
        found.map(|(_, change)| change)
    }

    /// Keys of settings that wait for a restart.
    pub fn needs_restart(&self) -> Vec<&'static str> {
        let waiting = self.settings.iter().filter(|change| !change.reloadable);
        waiting.map(|change| change.key).collect()
    }
}

/// How to get from `old` to `new`.
pub fn plan(old: &Config, new: &Config) -> Plan {
    let before: SortedMap<&str, &ServerConfig> = by_name(old);
    let after: SortedMap<&str, &ServerConfig> = by_name(new);
    let stays = new.servers.iter().map(|server| {
        let change = match before.get(server.name.as_str()) {
            Some(old) => change(old, server),
            None => Change::Add,
        };
        (server.name.clone(), change)
    });
    let is_gone = |server: &&ServerConfig| !after.contains_key(server.name.as_str());
    let gone = old.servers.iter().filter(is_gone);
    let gone = gone.map(|server| (server.name.clone(), Change::Remove));
    let common = |config: &'_ Config| -> Vec<String> {
        let names = config.servers.iter().map(|server| server.name.clone());
        names
            .filter(|name| before.contains_key(name.as_str()) && after.contains_key(name.as_str()))
            .collect()
    };
    Plan {
        servers: stays.chain(gone).collect(),
        settings: settings(old, new),
        order: common(old) != common(new),
        presets: old.presets != new.presets,
        alerts: old.alerts != new.alerts,
    }
}

/// Servers that `new` cannot use and `old` did not have like that: a reload refuses them.
pub fn newly_broken<'c>(old: &Config, new: &'c Config) -> Vec<&'c str> {
    let is_invalid = |server: &ServerConfig| matches!(server.state, ServerState::Invalid(_));
    let is_broken = |server: &&ServerConfig| is_invalid(server) && !server.is_lacking;
    let was_broken = |name: &str| {
        let mut before = old.servers.iter().filter(is_broken);
        before.any(|server| server.name == name)
    };
    let broken = new.servers.iter().filter(is_broken);
    let names = broken.map(|server| server.name.as_str());
    names.filter(|name| !was_broken(name)).collect()
}

/// An entry that lacks a secret or a file and ran before goes on as it was: what is missing
/// stops no other change. Gives the names of those.
pub fn hold_lacking(old: &Config, new: &mut Config) -> Vec<String> {
    let mut held = Vec::new();
    for server in new.servers.iter_mut().filter(|server| server.is_lacking) {
        let mut before = old.servers.iter();
        let before = before.find(|old| old.name == server.name);
        if let Some(before) = before.filter(|old| old.state == ServerState::Enabled) {
            held.push(server.name.clone());
            *server = before.clone();
        }
    }
    held
}

fn by_name(config: &Config) -> SortedMap<&str, &ServerConfig> {
    let pairs = config.servers.iter();
    pairs.map(|server| (server.name.as_str(), server)).collect()
}

fn settings(old: &Config, new: &Config) -> Vec<SettingChange> {
    let mut changed = old.settings.differing(&new.settings);
    // Written alike, but a secret in them may be another one.
    if old.otlp_headers != new.otlp_headers {
        changed.push("otlp.headers");
    }
    let rows = SETTINGS.iter().filter(|row| changed.contains(&row.key));
    rows.map(|row| SettingChange {
        key: row.key,
        reloadable: row.reloadable && !row.security,
    })
    .collect()
}

fn change(old: &ServerConfig, new: &ServerConfig) -> Change {
    let runs = |server: &ServerConfig| server.state == ServerState::Enabled;
    let metadata = metadata(old, new);
    let process = process(old, new);
    match (runs(old), runs(new)) {
        (false, true) => Change::Add,
        (true, false) => Change::Remove,
        (true, true) if !process.is_empty() => Change::Replace([process, metadata].concat()),
        (true, true) if metadata.is_empty() => Change::Keep,
        (true, true) => Change::Metadata(metadata),
        // What is shown of it changes with the reason why it does not run.
        (false, false) if old.state != new.state => Change::Replace(vec!["disabled"]),
        (false, false) => match [process, metadata].concat() {
            fields if fields.is_empty() => Change::Keep,
            fields => Change::Metadata(fields),
        },
    }
}

/// Fields that are looked up for each request.
fn metadata(old: &ServerConfig, new: &ServerConfig) -> Vec<&'static str> {
    let overrides = old.tool_description_overrides != new.tool_description_overrides;
    differing(&[
        ("tags", old.tags != new.tags),
        ("disabledTools", old.disabled_tools != new.disabled_tools),
        (
            "instructionOverride",
            old.instruction_override != new.instruction_override,
        ),
        ("toolDescriptionOverrides", overrides),
        ("toolPins", old.tool_pins != new.tool_pins),
        ("stripInvisible", old.strip_invisible != new.strip_invisible),
        ("required", old.required != new.required),
        ("discoverable", old.discoverable != new.discoverable),
    ])
}

/// Fields that a server is started with.
fn process(old: &ServerConfig, new: &ServerConfig) -> Vec<&'static str> {
    let mut fields = Vec::new();
    match (&old.process, &new.process) {
        (Some(old), Some(new)) => fields.extend(spawned(old, new)),
        (None, None) => {}
        _ => fields.push("command"),
    }
    match (&old.remote, &new.remote) {
        (Some(old), Some(new)) => fields.extend(asked(old, new)),
        (None, None) => {}
        _ => fields.push("url"),
    }
    let (one, other) = (&old.restart, &new.restart);
    fields.extend(differing(&[
        (
            "connectionTimeout",
            old.connection_timeout != new.connection_timeout,
        ),
        ("requestTimeout", old.request_timeout != new.request_timeout),
        ("instances", old.instances != new.instances),
        ("maxInstances", old.max_instances != new.max_instances),
        (
            "instanceIdleTimeout",
            old.instance_idle != new.instance_idle,
        ),
        ("dependsOn", old.depends_on != new.depends_on),
        ("restartOnExit", one.on_exit != other.on_exit),
        ("maxRestarts", one.max != other.max),
        ("restartDelay", one.delay != other.delay),
    ]));
    fields
}

fn spawned(old: &ProcessSpec, new: &ProcessSpec) -> Vec<&'static str> {
    differing(&[
        ("command", old.program != new.program),
        ("args", old.args != new.args),
        ("env", old.env != new.env),
        ("cwd", old.cwd != new.cwd),
    ])
}

/// The order of headers means nothing.
fn asked(old: &RemoteSpec, new: &RemoteSpec) -> Vec<&'static str> {
    let headers = |spec: &RemoteSpec| -> BTreeMap<String, String> {
        let pairs = spec.headers.iter();
        ordered::map(
            pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.expose().to_owned())),
        )
    };
    differing(&[
        ("type", old.kind != new.kind),
        ("url", old.url != new.url),
        ("headers", headers(old) != headers(new)),
        ("caFile", old.ca_file != new.ca_file),
        ("proxy", old.proxy != new.proxy),
        ("oauth", old.oauth != new.oauth),
        ("forwardHeaders", old.handed_on != new.handed_on),
        ("allow", old.within != new.within),
    ])
}

fn differing(fields: &[(&'static str, bool)]) -> Vec<&'static str> {
    let changed = fields.iter().filter(|(_, differs)| *differs);
    changed.map(|(field, _)| *field).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
