//! Who may come in: tokens of ours and of others, API keys, and what is said to who has none.
//! `gate` judges each request; `keys` sign and verify our own tokens; the rest is what it asks.
//! Decisions and replies only. Deliberately absent: messages of MCP, sessions, what a scope
//! reaches (`model::scope`).

pub mod api_key;
pub mod cache;
pub mod gate;
pub mod issuers;
pub mod jwks;
pub mod keys;
pub mod operator;
pub mod own_token;
pub mod pace;
pub mod pages;
pub mod people;
pub mod resource;
pub mod revoked;
pub mod server;
pub mod shared_desk;
pub mod standing;
pub mod store;
pub mod tokens;
pub mod watched;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::api_key::ApiKeys;
use crate::auth::gate::Gate;
use crate::auth::issuers::Issuer;
use crate::auth::keys::KeySet;
use crate::auth::pace::Pace;
use crate::auth::people::People;
use crate::auth::resource::METADATA_CACHE;
use crate::auth::revoked::Revoked;
use crate::auth::server::fault::Fault;
use crate::auth::server::{Parts, Server};
use crate::auth::store::Store;
use crate::auth::tokens::Tokens;
use crate::base::time::unix_s;
use crate::config::Environment;
use crate::config::auth::{AuthSettings, issuers};
use crate::config::auth_server::AuthServerSpec;
use crate::config::secret_sources::{placed, state_folder};
use crate::config::settings::Settings;
use crate::http::{Client, Head, Reply};
use crate::journal::audit::rejects::reject;
use crate::journal::audit::{Event, Reason, Record};
use crate::model::scope::Scopes;
use crate::net::redis::Redis;

/// What of `auth` a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OauthPath {
    /// The path that follows, such as `/mcp`; without one it is the gateway as a whole.
    ProtectedResource(Option<String>),
    AuthorizationServer,
    Jwks,
    Authorize,
    Token,
    Register,
    Revoke,
    Login,
    Consent,
    UpstreamCallback(String),
}

pub struct Auth {
    pub gate: Gate,
    /// Our own tokens: signed here, verified here, revoked here.
    pub tokens: Arc<Tokens>,
    /// Of the OAuth endpoints, by address.
    pub pace: Pace,
    /// What the authorization server remembers.
    pub store: Arc<Store>,
    /// `None`: tokens come from others alone.
    pub server: Option<Server>,
    /// Pages for people, which lead to `server`.
    pub people: People,
}

impl Auth {
    /// `issuer`: the URL of this gateway, without a slash at its end. `shared`: what is remembered
    /// there, other gateways know, too.
    ///
    /// # Errors
    /// When keys cannot be used, after "failed to".
    pub fn open(
        settings: &Settings,
        environment: &Environment,
        issuer: &str,
        spec: &AuthServerSpec,
        shared: Option<Arc<Redis>>,
    ) -> Result<Arc<Auth>, String> {
        let auth = &settings.auth;
        let state = state_folder(settings, environment);
        let beside = |name: &str| state.as_ref().map(|folder| folder.join(name));
        let keys = match &auth.keys {
            Some(path) => Some(placed(settings, "auth.keys", path)),
            None => beside("signing-keys.json"),
        };
        let keys = KeySet::open(keys.as_deref(), auth.keys.is_none())?;
        let revoked = Revoked::open(beside("revoked-tokens"), shared.clone(), unix_s())?;
        let api_keys = ApiKeys::open(api_key_file(settings, environment))?;
        let tokens = Arc::new(Tokens::new(issuer, keys, revoked));
        let mut specs = issuers(auth);
        for spec in &mut specs {
            let file = spec.ca_file.take();
            spec.ca_file = file.map(|file| placed(settings, "auth.issuers", &file));
        }
        let issuers = specs.into_iter();
        let issuers = issuers.map(|spec| Issuer::new(spec, &settings.egress_allow));
        let gate = Gate::new(tokens.clone(), api_keys, issuers.collect(), auth, spec);
        let (window, count) = window(auth);
        let store = Arc::new(match (shared, beside("auth")) {
            (Some(redis), _) => Store::Shared(redis),
            (None, Some(folder)) => Store::open(&folder)?,
            (None, None) => Store::memory(),
        });
        let server = Server::new(Parts {
            spec: spec.clone(),
            store: store.clone(),
            tokens: tokens.clone(),
            life: Duration::from_secs(auth.session_ttl_minutes.saturating_mul(60)),
            egress_allow: settings.egress_allow.clone(),
        })?;
        server.set_baseline(Scopes::known_of(&auth.baseline_scopes));
        let people = People::new(settings, &tokens, store.clone());
        Ok(Arc::new(Auth {
            gate,
            tokens,
            pace: Pace::new(count, window, count).sharing(&store, "asking"),
            store,
            server: spec.enabled.then_some(server),
            people,
        }))
    }

    /// Takes over what may change while the gateway runs.
    pub fn configure(&self, settings: &AuthSettings) {
        let (window, count) = window(settings);
        self.pace.set(count, window, count);
        self.gate.configure(settings);
        if let Some(server) = &self.server {
            server.set_baseline(Scopes::known_of(&settings.baseline_scopes));
        }
    }

    /// Looks at the files of keys and revocations: now and then, so that streams end, too, whose
    /// clients send nothing.
    pub fn look(&self) {
        self.gate.look(Instant::now(), unix_s());
    }

    /// Answers at a path of ours. The parts behind it have their own rules for `body`.
    pub fn answer(&self, at: &OauthPath, head: &Head<'_>, from: &Client, body: &[u8]) -> Reply {
        let server = match at {
            OauthPath::ProtectedResource(path) => return self.gate.metadata(path.as_deref()),
            OauthPath::Jwks => {
                let keys = Reply::json(200, self.tokens.keys.jwks());
                return keys.with("Cache-Control", METADATA_CACHE);
            }
            _ => self.server.as_ref(),
        };
        let Some(server) = server else {
            return Fault::absent().reply();
        };
        if *at != OauthPath::AuthorizationServer
            && let Err(wait) = self.pace.take(&network(from.address), Instant::now())
        {
            reject(Record::denied(Event::RateLimit, Reason::TooOften));
            return match at {
                OauthPath::Authorize | OauthPath::Login | OauthPath::Consent => {
                    self.people.too_often(wait)
                }
                _ => Fault::too_often(wait).reply(),
            };
        }
        match at {
            OauthPath::AuthorizationServer => server.metadata(),
            OauthPath::Token => server.token(head, from, body),
            OauthPath::Register => server.register(head, from, body),
            OauthPath::Revoke => server.revoke(head, from, body),
            _ => {
                let page = self.people.answer(server, at, head, from, body);
                page.unwrap_or_else(|| Fault::absent().reply())
            }
        }
    }
}

/// Who is counted as one: an address, and of IPv6 the network that one customer has.
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{:x?}", &address.segments()[..4]),
    }
}

/// Where the API keys are; `None` when no folder is known.
pub fn api_key_file(settings: &Settings, environment: &Environment) -> Option<PathBuf> {
    match &settings.auth.api_key_file {
        Some(path) => Some(placed(settings, "auth.apiKeyFile", path)),
        None => Some(state_folder(settings, environment)?.join("api-keys.json")),
    }
}

fn window(settings: &AuthSettings) -> (Duration, u64) {
    let window = Duration::from_secs(settings.window_minutes.saturating_mul(60));
    (window, settings.window_requests)
}
