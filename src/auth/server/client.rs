//! A client: a program that asks for tokens. Known from the configuration, registered (RFC 7591),
//! or described by a document at the URL that is its id. And how one shows that it is it.

use ring::digest::{SHA256, digest};

use crate::auth::server::redirect_uri;
use crate::auth::store::{Space, Store, StoreError};
use crate::base::limits::{UNUSED_CLIENT_LIFE, UNUSED_CLIENTS, USED_CLIENT_LIFE, USED_CLIENTS};
use crate::config::auth_server::KnownClient;
use crate::model::scope::Scopes;
use crate::wire::form::{Form, encode};
use crate::wire::hex;

/// Registered, and nobody has consented to it yet.
pub const UNUSED: Space = Space {
    name: "clients-unused",
    limit: UNUSED_CLIENTS,
};
pub const USED: Space = Space {
    name: "clients",
    limit: USED_CLIENTS,
};

/// Where we know it from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Configured,
    Registered,
    /// A document of the host in its id.
    Document,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub id: String,
    /// As it calls itself: nothing to trust.
    pub name: String,
    pub origin: Origin,
    pub redirect_uris: Vec<String>,
    /// SHA-256 in hexadecimal digits; a public client has none.
    pub secret_hash: Option<String>,
    pub may_refresh: bool,
    pub is_machine: bool,
    /// The most that it may have.
    pub most: Option<Scopes>,
    pub created_s: u64,
}

impl Client {
    /// One of the configuration; none when its scopes are no scopes.
    pub fn configured(known: &KnownClient) -> Result<Client, String> {
        let usable = |uri: &&String| !redirect_uri::is_usable(uri, redirect_uri::Author::Operator);
        if let Some(uri) = known.redirect_uris.iter().find(usable) {
            return Err(format!(
                "use the redirect URI {uri:?} of the client {}",
                known.id
            ));
        }
        let scopes = known.scopes.as_deref().map(Scopes::parse).transpose();
        let most = scopes.map_err(|_| format!("read the scopes of the client {}", known.id))?;
        let secret = known.secret.as_ref();
        Ok(Client {
            id: known.id.clone(),
            name: known.name.clone(),
            origin: Origin::Configured,
            redirect_uris: known.redirect_uris.clone(),
            secret_hash: secret.map(|secret| hash(secret.expose())),
            may_refresh: true,
            is_machine: known.is_machine,
            most,
            created_s: 0,
        })
    }

    /// Whether an answer for it may go there.
    pub fn has_redirect_uri(&self, uri: &str) -> bool {
        let mut known = self.redirect_uris.iter();
        known.any(|known| redirect_uri::is_same(known, uri))
    }

    /// As the store keeps it.
    pub fn to_text(&self) -> String {
        encode(&[
            ("id", &self.id),
            ("name", &self.name),
            ("redirect_uris", &self.redirect_uris.join(" ")),
            (
                "secret_hash",
                self.secret_hash.as_deref().unwrap_or_default(),
            ),
            ("refresh", if self.may_refresh { "1" } else { "" }),
            ("created", &self.created_s.to_string()),
        ])
    }

    /// Reads what `to_text` wrote.
    pub fn from_text(text: &str) -> Option<Client> {
        let form = Form::parse(text.as_bytes()).ok()?;
        let uris = form.get("redirect_uris")?;
        Some(Client {
            id: form.get("id")?.to_owned(),
            name: form.get("name").unwrap_or_default().to_owned(),
            origin: Origin::Registered,
            redirect_uris: uris.split(' ').map(str::to_owned).collect(),
            secret_hash: form.get("secret_hash").map(str::to_owned),
            may_refresh: form.get("refresh").is_some(),
            is_machine: false,
            most: None,
            created_s: form.get("created")?.parse().ok()?,
        })
    }
}

/// One that registered itself.
///
/// # Errors
/// Those of the store.
pub fn registered(store: &Store, id: &str) -> Result<Option<Client>, StoreError> {
    let text = match store.get(USED, id)? {
        Some(text) => Some(text),
        None => store.get(UNUSED, id)?,
    };
    Ok(text.and_then(|text| Client::from_text(&text)))
}

/// Somebody has consented to it: it is kept for longer, from now on.
///
/// # Errors
/// Those of the store.
pub fn keep(store: &Store, client: &Client) -> Result<(), StoreError> {
    if client.origin == Origin::Registered {
        store.put(USED, &client.id, &client.to_text(), USED_CLIENT_LIFE)?;
        store.take(UNUSED, &client.id)?;
    }
    Ok(())
}

/// A new one, that nobody has consented to. When there are too many, the oldest of them goes: who
/// fills the store keeps nobody out.
///
/// # Errors
/// Those of the store.
pub fn add(store: &Store, client: &Client) -> Result<(), StoreError> {
    let put = || store.put(UNUSED, &client.id, &client.to_text(), UNUSED_CLIENT_LIFE);
    match put() {
        Err(StoreError::Full(_)) => {
            let known = store.values(UNUSED)?;
            let known = known.iter().filter_map(|text| Client::from_text(text));
            if let Some(oldest) = known.min_by_key(|client| client.created_s) {
                store.take(UNUSED, &oldest.id)?;
            }
            put()
        }
        done => done,
    }
}

/// What a secret is compared by and kept as.
pub fn hash(secret: &str) -> String {
    hex::encode(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// Compares hashes in a time that does not tell where they differ.
pub fn is_same_hash(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes());
    let sum = differences.fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && sum == 0
}
