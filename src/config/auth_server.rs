//! `gateway.auth`, what concerns the authorization server: who may become a client, and the
//! clients that are known beforehand. Pure.
//!
//! What cannot be filled in (a secret that is away) costs its client alone.

use std::net::IpAddr;

use crate::base::limits;
use crate::base::secret::Secret;
use crate::config::document::{Lines, Node, Notes, Spot, parse};
use crate::config::expand::expand;
use crate::config::lookups::Lookups;
use crate::config::near::did_you_mean;
use crate::config::problem::{Place, Problem, Scope};
use crate::config::settings::{Origin, Settings};

/// Who may register a client (RFC 7591).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registration {
    #[default]
    Off,
    /// Who has the token.
    Token,
    Open,
}

/// As it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthServerSettings {
    pub enabled: bool,
    /// `None`: open on a loopback bind, else off.
    pub registration: Option<Registration>,
    pub registration_token: Option<String>,
    /// A table, as text.
    pub clients: Option<String>,
    /// Hosts whose documents may name clients; `*` is every one.
    pub client_metadata: Vec<String>,
    pub require_resource: bool,
}

impl Default for AuthServerSettings {
    fn default() -> AuthServerSettings {
        AuthServerSettings {
            enabled: true,
            registration: None,
            registration_token: None,
            clients: None,
            client_metadata: Vec::new(),
            require_resource: false,
        }
    }
}

/// As it can be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthServerSpec {
    pub enabled: bool,
    pub registration: Registration,
    pub registration_token: Option<Secret>,
    pub clients: Vec<KnownClient>,
    pub client_metadata: Vec<String>,
    pub require_resource: bool,
}

/// A client of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownClient {
    pub id: String,
    pub name: String,
    /// Without one it is a public client.
    pub secret: Option<Secret>,
    pub redirect_uris: Vec<String>,
    /// The most that it may have; for a machine, what it has.
    pub scopes: Option<String>,
    /// Gets tokens for itself (`client_credentials`).
    pub is_machine: bool,
}

const KEYS: &[&str] = &["name", "secret", "redirectUris", "scopes", "machine"];

type Fill<'f> = dyn Fn(&str, &Spot<'_>, &mut Notes) -> Option<Secret> + 'f;

/// For the table of settings: everything but what strings stand for.
pub fn check(node: &Node<'_>, notes: &mut Notes) {
    let plain = |text: &str, _: &Spot<'_>, _: &mut Notes| Some(Secret::new(text.to_owned()));
    read(node, &plain, notes);
}

fn read(node: &Node<'_>, fill: &Fill<'_>, notes: &mut Notes) -> Vec<KnownClient> {
    let members = node.members(notes).unwrap_or_default();
    if members.len() > limits::KNOWN_CLIENTS {
        let remedy = format!("write at most {}", limits::KNOWN_CLIENTS);
        let message = format!("{} clients", members.len());
        node.spot.error(notes, message, remedy);
    }
    let mut clients = Vec::new();
    for member in members.iter().take(limits::KNOWN_CLIENTS) {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if member.name.is_empty() || member.name.len() > 128 || !member.name.chars().all(fits) {
            let remedy = "write 1 to 128 characters of A-Z a-z 0-9 - _ .";
            member
                .spot
                .error(notes, "cannot be the id of a client", remedy);
            continue;
        }
        let mut client = KnownClient {
            id: member.name.to_owned(),
            name: member.name.to_owned(),
            ..KnownClient::default()
        };
        if read_client(&member.node, fill, &mut client, notes) {
            clients.push(client);
        }
    }
    clients
}

/// False: it cannot be used, and why was noted.
fn read_client(node: &Node<'_>, fill: &Fill<'_>, to: &mut KnownClient, notes: &mut Notes) -> bool {
    let mut is_whole = true;
    for member in node.members(notes).unwrap_or_default() {
        match member.name {
            "name" => to.name = member.node.text(notes).unwrap_or(&to.id).to_owned(),
            "secret" => {
                let text = member.node.text(notes);
                to.secret = text.and_then(|text| fill(text, &member.spot, notes));
                is_whole &= to.secret.as_ref().is_some_and(|it| !it.expose().is_empty());
            }
            "redirectUris" => {
                let texts = member.node.texts(notes).unwrap_or_default();
                to.redirect_uris = texts.iter().map(|(text, _)| (*text).to_owned()).collect();
            }
            "scopes" => to.scopes = member.node.text(notes).map(str::to_owned),
            "machine" => to.is_machine = member.node.switch(notes).unwrap_or(false),
            name => {
                let remedy = did_you_mean(name, KEYS.iter().copied(), "remove it");
                member.spot.error(notes, "unknown key", remedy);
            }
        }
    }
    if to.is_machine && (to.secret.is_none() || to.scopes.is_none()) && is_whole {
        let message = "a machine without a secret or without scopes";
        node.spot.error(notes, message, "write secret and scopes");
        return false;
    }
    if !to.is_machine && to.redirect_uris.is_empty() {
        let message = "a client that can get no token";
        let remedy = "write redirectUris, or machine: true";
        node.spot.error(notes, message, remedy);
        return false;
    }
    is_whole
}

/// What the settings say, its variables and secrets filled in. What cannot be is a warning.
pub fn filled(
    settings: &Settings,
    lookups: &Lookups<'_>,
    problems: &mut Vec<Problem>,
) -> AuthServerSpec {
    let given = &settings.auth.server;
    let usual = match is_loopback(&settings.host) {
        true => Registration::Open,
        false => Registration::Off,
    };
    let mut spec = AuthServerSpec {
        enabled: given.enabled,
        registration: given.registration.unwrap_or(usual),
        client_metadata: given.client_metadata.clone(),
        require_resource: given.require_resource,
        ..AuthServerSpec::default()
    };
    let fill = |text: &str, spot: &Spot<'_>, notes: &mut Notes| {
        if !settings.enable_env_substitution {
            return Some(Secret::known(text.to_owned()));
        }
        let out = expand(text, &|wanted| lookups.find(wanted));
        for failure in &out.failures {
            spot.warn(notes, failure.message(), failure.remedy());
        }
        out.failures.is_empty().then(|| Secret::known(out.text))
    };
    if let Some(text) = given.clients.as_deref() {
        let mut notes = Notes::new(Scope::Setting("auth.clients"));
        let lines = Lines::new("auth.clients", text);
        if let Some(value) = parse(&lines, &mut notes) {
            spec.clients = read(&Node::root(&lines, &value), &fill, &mut notes);
        }
        notes.soften();
        let place = place_of(settings, "auth.clients");
        problems.extend(notes.problems.into_iter().map(|problem| Problem {
            place: place.clone(),
            ..problem
        }));
    }
    if let Some(text) = given.registration_token.as_deref() {
        let mut notes = Notes::new(Scope::Setting("auth.registrationToken"));
        let lines = Lines::new("auth.registrationToken", text);
        spec.registration_token = fill(text, &Spot::at(&lines, 0), &mut notes);
        let place = place_of(settings, "auth.registrationToken");
        problems.extend(notes.problems.into_iter().map(|problem| Problem {
            place: place.clone(),
            ..problem
        }));
    }
    spec
}

/// Only programs of this machine reach a gateway there.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn place_of(settings: &Settings, key: &str) -> Option<Place> {
    match settings.origin(key) {
        Origin::File(place) => Some(place.clone()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "auth_server_tests.rs"]
mod tests;
