//! What the audit log tells of the gateway itself: its start, each configuration in force, and the
//! secrets that were taken into use for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::config::Config;
use crate::gateway::reload::Report;
use crate::journal::audit::{Event, Outcome, Record, is_on, note};

/// It serves.
pub fn started(config: &Config, address: Option<SocketAddr>) {
    if !is_on() {
        return;
    }
    let at = address.map_or_else(|| "stdio".to_owned(), |address| address.to_string());
    let version = env!("CARGO_PKG_VERSION");
    let servers = config.servers.len();
    note(Record {
        name: &at,
        detail: &format!("version {version}, {servers} servers"),
        ..Record::new(Event::Start, Outcome::Ok)
    });
    secrets(config, None);
}

/// Another configuration is in force.
pub fn applied(report: &Report) {
    let Report {
        version,
        added,
        removed,
        replaced,
        updated,
        settings,
        ..
    } = report;
    if !is_on() {
        return;
    }
    note(Record {
        name: &format!("version {version}"),
        detail: &format!(
            "added {added:?} removed {removed:?} replaced {replaced:?} updated {updated:?} \
             settings {settings:?}"
        ),
        ..Record::new(Event::ConfigApplied, Outcome::Ok)
    });
}

/// The secrets that `config` is made with, as far as `before` was not.
pub fn secrets(config: &Config, before: Option<&Config>) {
    if !is_on() {
        return;
    }
    let known = before.map(secrets_of).unwrap_or_default();
    for (server, name) in secrets_of(config).difference(&known) {
        note(Record {
            server,
            name,
            ..Record::new(Event::SecretRead, Outcome::Ok)
        });
    }
}

fn secrets_of(config: &Config) -> BTreeSet<(&str, &str)> {
    let pairs = config.servers.iter().flat_map(|server| {
        let names = server.secrets.iter();
        names.map(|name| (server.name.as_str(), name.as_str()))
    });
    pairs.collect()
}
