//! The authorization server: OAuth 2.1 for people without an identity provider, and for machines.
//!
//! `metadata` says what there is, `authorize` reads what a client asks of a person, `code` takes
//! the consent to the token endpoint, `token` answers there, `refresh` rotates, `machine` is for
//! clients without people, `revoke` ends. Clients come from `registration`, from `cimd` (their
//! own documents) or from the configuration (`client`). Everything that must be remembered is in
//! `auth::store`; any thread may call. Deliberately absent: pages, logins and seals
//! (`auth::pages`), and whether a token is good (`auth::gate`).

pub mod authorize;
pub mod cimd;
pub mod client;
mod code;
pub mod fault;
mod grant;
mod ledger;
mod machine;
mod metadata;
pub mod redirect_uri;
pub mod refresh;
mod registration;
pub mod resource;
mod revoke;
mod token;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::auth::pace::Pace;
use crate::auth::server::authorize::Refused;
use crate::auth::server::cimd::Documents;
use crate::auth::server::client::Client;
use crate::auth::store::Store;
use crate::auth::tokens::Tokens;
use crate::base::limits::{CLIENT_SECRETS_PER_MINUTE, REGISTRATIONS_PER_MINUTE};
use crate::config::auth_server::AuthServerSpec;
use crate::journal::audit::Reason;
use crate::model::scope::Scopes;
use crate::net::egress::Allowed;

pub use crate::auth::server::authorize::Asked;

const MINUTE: Duration = Duration::from_secs(60);

/// What a server is made of.
pub struct Parts {
    pub spec: AuthServerSpec,
    pub store: Arc<Store>,
    /// They know the issuer, too.
    pub tokens: Arc<Tokens>,
    /// Of an access token.
    pub life: Duration,
    /// What may be reached although documents of clients are learned from strangers.
    pub egress_allow: Vec<Allowed>,
}

pub struct Server {
    /// Without a slash at its end, as it stands in every `iss`.
    issuer: String,
    spec: AuthServerSpec,
    /// Those of the configuration.
    clients: Vec<Client>,
    documents: Documents,
    store: Arc<Store>,
    tokens: Arc<Tokens>,
    life: Duration,
    /// What is asked for by who asks for nothing.
    baseline: RwLock<Scopes>,
    registrations_pace: Pace,
    /// By the program of this machine that says it asks for others.
    local_pace: Pace,
    secrets_pace: Pace,
}

impl Server {
    /// # Errors
    /// When a client of the configuration cannot be used, after "failed to".
    pub fn new(parts: Parts) -> Result<Server, String> {
        let mut clients = Vec::new();
        for known in &parts.spec.clients {
            clients.push(Client::configured(known)?);
        }
        let registrations = u64::from(REGISTRATIONS_PER_MINUTE);
        let secrets = u64::from(CLIENT_SECRETS_PER_MINUTE);
        let registering = Pace::new(registrations, MINUTE, registrations);
        let proving = Pace::new(secrets, MINUTE, secrets);
        Ok(Server {
            registrations_pace: registering.sharing(&parts.store, "registering"),
            secrets_pace: proving.sharing(&parts.store, "proving"),
            documents: Documents::new(&parts.spec.client_metadata, parts.egress_allow),
            issuer: parts.tokens.issuer.clone(),
            spec: parts.spec,
            clients,
            store: parts.store,
            tokens: parts.tokens,
            life: parts.life,
            baseline: RwLock::default(),
            local_pace: Pace::new(10 * registrations, MINUTE, 10 * registrations),
        })
    }

    /// From now on this is asked for by who asks for nothing.
    pub fn set_baseline(&self, baseline: Scopes) {
        *self
            .baseline
            .write()
            .unwrap_or_else(PoisonError::into_inner) = baseline;
    }

    fn baseline(&self) -> Scopes {
        self.baseline
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The client that a person is asked about.
    fn client_for_consent(&self, id: &str, is_operator: bool) -> Result<Client, Refused> {
        let page = |text: String| Refused::Page {
            status: 400,
            text,
            reason: Reason::BadClient,
        };
        let unknown = "client_id is not known here; the program must register again";
        let known = self.clients.iter().find(|client| client.id == id);
        if let Some(known) = known {
            return Ok(known.clone());
        }
        let Some(place) = cimd::place(id) else {
            let found = client::registered(&self.store, id).map_err(|error| {
                log::error!("client not looked up error=\"{error}\"");
                Refused::Page {
                    status: 503,
                    text: "what is known of clients cannot be read now; try again".to_owned(),
                    reason: Reason::Unavailable,
                }
            })?;
            return found.ok_or_else(|| page(unknown.to_owned()));
        };
        if !self.documents.allows(&place) {
            return Err(page(unknown.to_owned()));
        }
        if !is_operator && self.documents.known(id).is_none() {
            return Err(Refused::LoginFirst);
        }
        let found = self.documents.get(id);
        found.map_err(|why| page(format!("the client cannot be used: {why}")))
    }
}

#[cfg(test)]
mod tests;
