//! What people have to do with who may come in: the pages on which the operator lets clients in,
//! and the account of who has access, for whoever runs the gateway. Any thread may call.
//! Deliberately absent: tokens of others and API keys, which nobody consents to here (`gate`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::auth::operator::Operator;
use crate::auth::pages::{Pages, Visit};
use crate::auth::revoked::Kind;
use crate::auth::server::Server;
use crate::auth::store::{Store, StoreError};
use crate::auth::tokens::Tokens;
use crate::auth::{OauthPath, server::client::Client};
use crate::base::time::unix_s;
use crate::config::settings::Settings;
use crate::http::{self, Head, Reply};
use crate::model::scope::Scopes;
use crate::relay::world::Hub;

pub struct People {
    pub operator: Arc<Operator>,
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
    pub fn new(settings: &Settings, tokens: &Arc<Tokens>, store: Arc<Store>) -> People {
        let password = settings.auth.operator_password.clone();
        let operator =
            Arc::new(Operator::new(password, settings.auth.login_code).sharing(&store, tokens));
        People {
            pages: Pages::new(&tokens.issuer, operator.clone(), store),
            operator,
            tokens: tokens.clone(),
            hub: OnceLock::new(),
        }
    }

    /// Where the servers are found.
    pub fn attach(&self, hub: Arc<Hub>) {
        // A second one would be the same.
        let _ = self.hub.set(hub);
    }

    /// Answers at a path with a page; `None` is not one.
    pub fn answer(
        &self,
        server: &Server,
        at: &OauthPath,
        head: &Head<'_>,
        from: &http::Client,
        body: &[u8],
    ) -> Option<Reply> {
        if let (OauthPath::Authorize | OauthPath::Login | OauthPath::Consent, Some(away)) =
            (at, self.pages.is_away())
        {
            return Some(away);
        }
        let servers = || self.servers();
        let visit = Visit::new(head, from, body, &servers);
        Some(match at {
            OauthPath::Authorize => self.pages.authorize(server, &visit),
            OauthPath::Login => self.pages.login(server, &visit),
            OauthPath::Consent => self.pages.consent(server, visit),
            _ => return None,
        })
    }

    /// The page for a browser that asks too often.
    pub fn too_often(&self, wait: Duration) -> Reply {
        self.pages.waits(wait)
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
    ///
    /// # Errors
    /// Those of the store.
    pub fn clients(&self, server: &Server) -> Result<Vec<Known>, StoreError> {
        let families = server.families()?;
        let mut known = Vec::new();
        for client in server.known_clients(&families)? {
            known.push(Known {
                allowed: self.pages.allowed(&client.id).unwrap_or_default(),
                grants: families
                    .iter()
                    .filter(|one| one.client == client.id)
                    .count(),
                client,
            });
        }
        Ok(known)
    }

    /// Takes back one consent, everything of a client, or `all`: how many consents that were, if
    /// there was anything.
    ///
    /// # Errors
    /// When it could not be written, after "failed to"; here they have ended nevertheless.
    pub fn revoke(&self, server: &Server, word: &str) -> Result<Option<usize>, String> {
        let read = server.families().and_then(|families| {
            let known = server.known_clients(&families)?;
            Ok((families, known))
        });
        let (families, known) = read.map_err(|error| self.revoke_unread(word, &error))?;
        let is_client = known.iter().any(|client| client.id == word);
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
                if !server.end_family(&family.id) {
                    return Err(format!("keep the end of the grant {}", family.id));
                }
            }
        }
        if let Some((kind, value)) = kind {
            let forgotten = server.forget_client(value);
            self.pages.forget(value);
            self.tokens.revoke(kind, value, unix_s())?;
            forgotten.map_err(|error| format!("forget the client {value}: {error}"))?;
        }
        if word == "all" {
            let ended = self.operator.sign_all_out(std::time::Instant::now());
            ended.map_err(|error| format!("sign the operator out everywhere: {error}"))?;
        }
        Ok((ended > 0 || kind.is_some()).then_some(ended))
    }

    /// The store is away: access tokens that may be meant are over here at once, and at other
    /// gateways when it is back. What it holds is not.
    fn revoke_unread(&self, word: &str, error: &StoreError) -> String {
        let kinds: &[(Kind, &str)] = match word {
            "all" => &[(Kind::All, "")],
            word => &[(Kind::Client, word), (Kind::Family, word)],
        };
        for (kind, value) in kinds {
            if let Err(error) = self.tokens.revoke(*kind, value, unix_s()) {
                log::error!("revocation not kept error=\"failed to {error}\"");
            }
        }
        format!(
            "read who has access: {error}; tokens are over, and do it once more when the store is \
             back, for what would renew them"
        )
    }
}
