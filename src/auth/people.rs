//! What lets people and their clients in: the authorization server with its pages, and the
//! account of who has access, for whoever runs the gateway. Any thread may call. Deliberately
//! absent: tokens of others and API keys, which nobody consents to here (`gate`).

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::auth::now_s;
use crate::auth::operator::Operator;
use crate::auth::pages::{Pages, Visit};
use crate::auth::revoked::Kind;
use crate::auth::server::refresh::Family;
use crate::auth::server::{Parts, Server};
use crate::auth::store::Store;
use crate::auth::tokens::Tokens;
use crate::auth::{OauthPath, server::client::Client};
use crate::config::auth_server::AuthServerSpec;
use crate::config::settings::Settings;
use crate::http::{self, Head, Reply};
use crate::model::scope::Scopes;
use crate::relay::world::Hub;

pub struct People {
    pub operator: Arc<Operator>,
    pub server: Server,
    pages: Pages,
    tokens: Arc<Tokens>,
    /// Known once the servers are.
    hub: OnceLock<Arc<Hub>>,
}

/// A client that is known, and what it may.
pub struct Known {
    pub client: Client,
    /// What it was allowed last, whether or not that still lives.
    pub allowed: Scopes,
    /// Consents that live.
    pub grants: usize,
}

impl People {
    /// `state` is a folder of ours; without one everything is forgotten at the end.
    ///
    /// # Errors
    /// When the state or a client of the configuration cannot be used, after "failed to".
    pub fn open(
        settings: &Settings,
        spec: &AuthServerSpec,
        tokens: &Arc<Tokens>,
        state: Option<&Path>,
    ) -> Result<People, String> {
        let store = match state {
            Some(folder) => Store::open(&folder.join("oauth"))?,
            None => Store::memory(),
        };
        let store = Arc::new(store);
        let password = settings.operator_password.clone();
        let operator = Arc::new(Operator::new(password, settings.login_code));
        let minutes = settings.auth.session_ttl_minutes;
        let server = Server::new(Parts {
            spec: spec.clone(),
            store: store.clone(),
            tokens: tokens.clone(),
            life: Duration::from_secs(minutes.saturating_mul(60)),
            egress_allow: settings.egress_allow.clone(),
        })?;
        let people = People {
            pages: Pages::new(&tokens.issuer, operator.clone(), store),
            operator,
            server,
            tokens: tokens.clone(),
            hub: OnceLock::new(),
        };
        people.configure(&settings.auth.baseline_scopes);
        Ok(people)
    }

    /// What is offered to who asks for nothing.
    pub fn configure(&self, baseline: &str) {
        self.server.set_baseline(Scopes::known_of(baseline));
    }

    /// Where the servers are found.
    pub fn attach(&self, hub: Arc<Hub>) {
        // A second one would be the same.
        let _ = self.hub.set(hub);
    }

    /// Answers at a path of ours; `None` is not one.
    pub fn answer(
        &self,
        at: &OauthPath,
        head: &Head<'_>,
        from: &http::Client,
        body: &[u8],
    ) -> Option<Reply> {
        let servers = || self.servers();
        let visit = Visit::new(head, from, body, &servers);
        Some(match at {
            OauthPath::AuthorizationServer => self.server.metadata(),
            OauthPath::Authorize => self.pages.authorize(&self.server, &visit),
            OauthPath::Login => self.pages.login(&self.server, &visit),
            OauthPath::Consent => self.pages.consent(&self.server, visit),
            OauthPath::Token => self.server.token(head, from, body),
            OauthPath::Register => self.server.register(head, from, body),
            OauthPath::Revoke => self.server.revoke(head, from, body),
            _ => return None,
        })
    }

    /// The servers with the tags that scopes know them by.
    fn servers(&self) -> Vec<(String, Vec<String>)> {
        let Some(hub) = self.hub.get() else {
            return Vec::new();
        };
        let world = hub.world();
        let untagged = world.fixed.settings.auth.untagged_tag.as_slice();
        let mut servers = Vec::new();
        for (server, entry) in world.servers().iter().zip(&world.fixed.entries) {
            let tags = match entry.tags.is_empty() {
                true => untagged,
                false => &entry.tags,
            };
            servers.push((server.name().to_owned(), tags.to_vec()));
        }
        servers
    }

    /// Every client that is known: of the configuration, registered, or with a consent that
    /// lives.
    pub fn clients(&self) -> Vec<Known> {
        let families = self.server.families();
        let mut known = Vec::new();
        for client in self.server.known_clients(&families) {
            known.push(Known {
                allowed: self.pages.allowed(&client.id).unwrap_or_default(),
                grants: families
                    .iter()
                    .filter(|one| one.client == client.id)
                    .count(),
                client,
            });
        }
        known
    }

    /// Every consent that lives.
    pub fn grants(&self) -> Vec<Family> {
        self.server.families()
    }

    /// Takes back one consent, everything of a client, or `all`: how many consents that were, if
    /// there was anything.
    ///
    /// # Errors
    /// When it could not be written, after "failed to"; here they have ended nevertheless.
    pub fn revoke(&self, word: &str) -> Result<Option<usize>, String> {
        let families = self.server.families();
        let is_client = self
            .server
            .known_clients(&families)
            .iter()
            .any(|client| client.id == word);
        let kind = match word {
            "all" => Some((Kind::All, "")),
            client if is_client => Some((Kind::Client, client)),
            _ => None,
        };
        let mut ended = 0;
        for family in &families {
            let is_meant = word == "all" || family.client == word || family.id == word;
            if is_meant {
                ended += 1;
                if !self.server.end_family(&family.id) {
                    return Err(format!("keep the end of the grant {}", family.id));
                }
            }
        }
        if let Some((kind, value)) = kind {
            self.server.forget_client(value);
            self.pages.forget(value);
            self.tokens.revoke(kind, value, now_s())?;
        }
        if word == "all" {
            self.operator.sign_all_out(std::time::Instant::now());
        }
        Ok((ended > 0 || kind.is_some()).then_some(ended))
    }
}
