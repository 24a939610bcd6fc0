//! The gateway as an OAuth client of servers over HTTP: who it is there, and for whom. A `Login`
//! is kept for each server (and for each principal, where the entry says so); `Logins` has them
//! all, and the flows in which a person allows one in a browser.
//!
//! Any thread may come here. Deliberately absent: opening a browser, and handing on anything that
//! a client of ours showed to get in here.

pub mod client;
pub mod discovery;
pub mod fetch;
pub mod login;
pub mod store;
pub mod token;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ring::digest::{SHA256, digest};

use crate::base::limits;
use crate::config::remote::RemoteSpec;
use crate::net::egress::Allowed;
use crate::net::url::Url;
use crate::upstream::oauth::client::Client;
use crate::upstream::oauth::discovery::Found;
use crate::upstream::oauth::fetch::Fetch;
use crate::upstream::oauth::login::{Held, Login, client_key};
use crate::upstream::oauth::store::Store;
use crate::upstream::oauth::token::{Desk, NoTokens, random};
use crate::wire::base64::encode_url;
use crate::wire::form::{self, Form};
use crate::wire::percent;

#[derive(Default)]
pub struct Logins {
    store: Arc<Store>,
    known: Mutex<HashMap<(String, String), Arc<Login>>>,
    flows: Mutex<Vec<Flow>>,
    /// Where browsers and authorization servers reach this gateway: `https://host`.
    pub external: Option<String>,
    has_told: AtomicBool,
}

/// A login that a person is about to allow.
struct Flow {
    state: String,
    login: Arc<Login>,
    verifier: String,
    found: Found,
    client: Client,
    scope: String,
    began: Instant,
}

/// What a person is shown.
pub struct Begun {
    pub url: String,
    pub redirect: String,
    /// The login's number before.
    pub number: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Logins {
    pub fn new(store: Store, external: Option<String>) -> Logins {
        Logins {
            store: Arc::new(store),
            external,
            ..Logins::default()
        }
    }

    /// The login of `principal`, or of the gateway, at a server. `None` when the entry says in
    /// its headers how to get in.
    pub fn of(
        &self,
        server: &str,
        principal: Option<&str>,
        spec: &RemoteSpec,
        allow: &[Allowed],
    ) -> Option<Arc<Login>> {
        let mut names = spec.headers.iter().map(|(name, _)| name);
        if names.any(|name| name.eq_ignore_ascii_case("authorization")) {
            return None;
        }
        let key = (server.to_owned(), principal.unwrap_or_default().to_owned());
        let mut known = lock(&self.known);
        if let Some(login) = known.get(&key).filter(|login| login.is_of(spec)) {
            return Some(login.clone());
        }
        if known.len() >= limits::OAUTH_LOGINS {
            known.retain(|_, login| Arc::strong_count(login) > 1);
        }
        let login = Login::new(server, principal, spec, allow, self.store.clone());
        let login = Arc::new(login);
        known.insert(key, login.clone());
        Some(login)
    }

    /// Principals that are logged in at a server; the gateway itself is the empty one.
    pub fn principals(&self, server: &str) -> Vec<String> {
        let begin = login::key(server, None);
        let names = self.store.names(&begin).into_iter();
        names.map(|name| name[begin.len()..].to_owned()).collect()
    }

    /// Where browsers come back to, if this gateway is to catch them.
    fn callback(&self, server: &str) -> Option<String> {
        let base = self.external.as_deref()?;
        let mut url = format!("{base}/oauth/callback/");
        url.push_str(&percent::encode(server));
        Some(url)
    }

    /// Where browsers are sent back to. `caught_at`: where the command that asks for a login
    /// catches them, if need be or (true) in any case.
    fn redirect(&self, login: &Login, caught_at: (&str, bool)) -> Result<String, String> {
        let configured = login.oauth().and_then(|oauth| oauth.redirect_url.clone());
        let caught = match caught_at {
            ("", _) => None,
            (url, _) if !is_loopback(url) => {
                return Err("can be asked to send browsers to this machine only".to_owned());
            }
            (url, is_forced) => Some((url.to_owned(), is_forced)),
        };
        if let Some((url, true)) = caught {
            return Ok(url);
        }
        configured
            .or_else(|| self.callback(&login.server))
            .or(caught.map(|(url, _)| url))
            .ok_or_else(|| "does not know where to send browsers: set --external-url".to_owned())
    }

    /// Begins a login; gives the URL at which a person allows it.
    pub fn begin(&self, login: &Arc<Login>, caught_at: (&str, bool)) -> Result<Begun, String> {
        login.may_step()?;
        login.note_failure(None);
        let redirect = self.redirect(login, caught_at)?;
        let _turn = login.turn();
        let fetch = login.fetch()?;
        let found = login.discover(&fetch)?;
        let authority = &found.authority;
        if !authority.has_pkce {
            return Err("authorization server does not say that it knows PKCE (S256)".to_owned());
        }
        if authority.authorization.is_empty() {
            return Err("authorization server has no authorization_endpoint".to_owned());
        }
        let client = self.client(login, &fetch, &found, &redirect)?;
        let scope = login.scope(&found, true);
        let flow = Flow {
            state: random(),
            login: login.clone(),
            verifier: random(),
            scope,
            client,
            found,
            began: Instant::now(),
        };
        let begun = Begun {
            url: flow.url(),
            redirect,
            number: login.number(),
        };
        let mut flows = lock(&self.flows);
        flows.retain(|flow| flow.began.elapsed() < limits::OAUTH_FLOW);
        if flows.len() >= limits::OAUTH_FLOWS {
            return Err("waits for too many logins to be allowed already".to_owned());
        }
        flows.push(flow);
        Ok(begun)
    }

    fn client(
        &self,
        login: &Login,
        fetch: &Fetch,
        found: &Found,
        redirect: &str,
    ) -> Result<Client, String> {
        let authority = &found.authority;
        let oauth = login.oauth();
        let configured = oauth.and_then(|oauth| Client::configured(oauth, authority, redirect));
        if let Some(client) = configured {
            login.bind(found)?;
            return Ok(client);
        }
        if authority.takes_documents
            && let Some(document) = self.document_url(login, redirect)
        {
            return Ok(Client::described(&document, redirect));
        }
        let name = client_key(&login.server, &authority.issuer);
        let kept = self.store.get(&name);
        if let Some(client) = kept.and_then(|text| Client::kept(&text, redirect)) {
            return Ok(client);
        }
        if oauth.is_some_and(|oauth| !oauth.auto_register) {
            return Err("has \"autoRegister\": false and no \"clientId\" in its \"oauth\"".into());
        }
        let title = format!("onemcp - {}", login.server);
        let (client, text) = Client::register(fetch, authority, &title, redirect)?;
        self.store.set(&name, Some(text));
        Ok(client)
    }

    /// Where the document that describes us is: the one of the configuration, or ours.
    fn document_url(&self, login: &Login, redirect: &str) -> Option<String> {
        let configured = login
            .oauth()
            .and_then(|oauth| oauth.client_metadata.clone());
        let is_ours = Some(redirect) == self.callback(&login.server).as_deref();
        let base = self.external.as_deref().filter(|_| is_ours);
        let base = base.filter(|base| base.starts_with("https://"));
        configured.or_else(|| {
            let mut url = format!("{}/oauth/client/", base?);
            url.push_str(&percent::encode(&login.server));
            Some(url)
        })
    }

    /// The document at that URL: this gateway as the client of one server.
    pub fn document(&self, server: &str) -> Option<String> {
        let redirect = self.callback(server)?;
        let id = redirect.replacen("/oauth/callback/", "/oauth/client/", 1);
        let quoted = crate::wire::json::quoted;
        Some(format!(
            "{{\"client_id\":{},\"client_name\":{},\"client_uri\":{},\"redirect_uris\":[{}],\
             \"grant_types\":[\"authorization_code\",\"refresh_token\"],\
             \"response_types\":[\"code\"],\"token_endpoint_auth_method\":\"none\",\
             \"application_type\":\"web\"}}",
            quoted(&id),
            quoted(&format!("onemcp - {server}")),
            quoted(self.external.as_deref()?),
            quoted(&redirect)
        ))
    }

    /// A browser came back with this query. Gives the login that has begun.
    pub fn finish(&self, server: &str, query: &str) -> Result<Arc<Login>, String> {
        let form = Form::parse(query.as_bytes()).map_err(|error| error.to_string())?;
        if let Some(name) = form.repeated() {
            return Err(format!("the answer says {name:?} twice"));
        }
        let flow = self.take(server, form.get("state"))?;
        let outcome = flow.end(&form);
        flow.login.note_failure(outcome.as_ref().err());
        outcome?;
        if self.store.forgets() && !self.has_told.swap(true, Ordering::Relaxed) {
            log::warn!(
                "logins at servers are kept in memory only: give --secrets-key-file to keep them \
                 sealed in the state folder"
            );
        }
        log::info!("logged in server={:?}", flow.login.server);
        Ok(flow.login)
    }

    /// A flow is good once.
    fn take(&self, server: &str, state: Option<&str>) -> Result<Flow, String> {
        let mut flows = lock(&self.flows);
        flows.retain(|flow| flow.began.elapsed() < limits::OAUTH_FLOW);
        let place = flows
            .iter()
            .position(|flow| Some(flow.state.as_str()) == state && flow.login.server == server);
        place.map(|place| flows.swap_remove(place)).ok_or_else(|| {
            "no login waits for this answer: it was used, is too old, or belongs to another one; \
             begin anew"
                .to_owned()
        })
    }
}

impl Flow {
    fn url(&self) -> String {
        let challenge = encode_url(digest(&SHA256, self.verifier.as_bytes()).as_ref());
        let is_lasting = self.scope.split(' ').any(|word| word == "offline_access");
        let fields = [
            ("response_type", "code"),
            ("client_id", self.client.id.as_str()),
            ("redirect_uri", &self.client.redirect),
            ("scope", &self.scope),
            ("state", &self.state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("resource", &self.found.resource),
            ("prompt", if is_lasting { "consent" } else { "" }),
        ];
        let place = &self.found.authority.authorization;
        let joint = if place.contains('?') { '&' } else { '?' };
        format!("{place}{joint}{}", form::encode(&fields))
    }

    /// What the answer says.
    fn end(&self, form: &Form) -> Result<(), String> {
        let authority = &self.found.authority;
        match form.get("iss") {
            Some(issuer) if issuer != authority.issuer => {
                return Err("the answer comes from another authorization server".to_owned());
            }
            None if authority.says_issuer => {
                return Err("the answer does not say which authorization server it is of".into());
            }
            _ => {}
        }
        let Some(code) = form.get("code").filter(|_| form.get("error").is_none()) else {
            let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
            let error = form.get("error").unwrap_or("no code");
            let error: String = error.chars().filter(plain).take(100).collect();
            return Err(format!(
                "the authorization server did not allow it: {error}"
            ));
        };
        self.redeem(code)
    }

    fn redeem(&self, code: &str) -> Result<(), String> {
        let login = &self.login;
        let _turn = login.turn();
        let fetch = login.fetch()?;
        let desk = Desk {
            fetch: &fetch,
            url: &self.found.authority.token,
            issuer: &self.found.authority.issuer,
            client: &self.client,
            spec: login.oauth(),
        };
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.client.redirect),
            ("code_verifier", &self.verifier),
            ("resource", &self.found.resource),
        ];
        let mut tokens = desk.ask(&fields).map_err(NoTokens::text)?;
        tokens.scope = tokens.scope.or_else(|| Some(self.scope.clone()));
        login.hold(Held {
            tokens,
            issuer: self.found.authority.issuer.clone(),
            endpoint: self.found.authority.token.clone(),
            resource: self.found.resource.clone(),
            client: self.client.clone(),
        });
        Ok(())
    }
}

/// Whether a URL is one that browsers on this machine reach and nobody else.
pub fn is_loopback(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.is_loopback() && !url.is_https())
}
