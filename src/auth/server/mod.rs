//! The authorization server: OAuth 2.1 for people without an identity provider, and for machines.
//!
//! `metadata` says what there is, `authorize` reads what a client asks of a person, `code` takes
//! the consent to the token endpoint, `token` answers there, `refresh` rotates, `machine` is for
//! clients without people, `revoke` ends. Clients come from `registration`, from `cimd` (their
//! own documents) or from the configuration (`client`). Everything that must be remembered is in
//! `auth::store`; any thread may call. Deliberately absent: pages, logins and seals
//! (`auth::pages`), and whether a token is good (`auth::gate`).

pub mod authorize;
pub mod client;
mod grant;
pub mod redirect_uri;
pub mod resource;

use std::sync::{Arc, PoisonError, RwLock};

use crate::auth::server::authorize::Refused;
use crate::auth::server::client::Client;
use crate::auth::store::Store;
use crate::config::auth_server::AuthServerSpec;
use crate::model::scope::Scopes;

pub use crate::auth::server::authorize::Asked;

pub struct Server {
    /// Without a slash at its end, as it stands in every `iss`.
    issuer: String,
    spec: AuthServerSpec,
    /// Those of the configuration.
    clients: Vec<Client>,
    store: Arc<Store>,
    baseline: RwLock<Scopes>,
}

impl Server {
    /// # Errors
    /// When a client of the configuration cannot be used, after "failed to".
    pub fn new(issuer: String, spec: AuthServerSpec, store: Arc<Store>) -> Result<Server, String> {
        let clients = spec
            .clients
            .iter()
            .map(Client::configured)
            .collect::<Result<_, _>>()?;
        Ok(Server {
            issuer,
            spec,
            clients,
            store,
            baseline: RwLock::default(),
        })
    }

    fn baseline(&self) -> Scopes {
        self.baseline
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The client that a person is asked about.
    fn client_for_consent(&self, id: &str, _is_operator: bool) -> Result<Client, Refused> {
        let known = self.clients.iter().find(|client| client.id == id);
        let found = known
            .cloned()
            .or_else(|| client::registered(&self.store, id));
        found.ok_or_else(|| Refused::Page {
            status: 400,
            text: "client_id is not known here; the program must register again".to_owned(),
        })
    }
}
