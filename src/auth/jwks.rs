//! The keys of another issuer: fetched when they are first needed, kept, and fetched anew when
//! they are old or a token names one that is not known. An issuer that cannot be reached is
//! believed by its old keys for a day. Owner: the threads of requests, one of which fetches at a
//! time; keys that are still good are renewed on a thread `jwks`, so that nobody waits for them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::{limits, thread};
use crate::net::client::{Client, ClientOptions, Method, Request, Response};
use crate::net::egress::{Allowed, Egress};
use crate::net::stop::Stop;
use crate::net::url::Url;
use crate::wire::jose::jwk::{PublicKey, read_set};
use crate::wire::jose::jws::RULES;
use crate::wire::members::Members;

/// Where the keys of an issuer come from.
pub struct Jwks {
    pub issuer: String,
    /// None is asked of the issuer's metadata.
    pub url: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub egress_allow: Vec<Allowed>,
    state: Mutex<State>,
    /// The turn of whoever fetches.
    turn: Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Arc<Vec<PublicKey>>,
    fetched: Option<Instant>,
    /// For so long nobody asks again.
    fresh: Duration,
    tried: Option<Instant>,
    renewal: Option<JoinHandle<()>>,
}

impl Jwks {
    pub fn new(
        issuer: &str,
        url: Option<String>,
        ca_file: Option<PathBuf>,
        egress_allow: Vec<Allowed>,
    ) -> Jwks {
        Jwks {
            issuer: issuer.to_owned(),
            url,
            ca_file,
            egress_allow,
            state: Mutex::default(),
            turn: Mutex::new(()),
        }
    }

    /// The keys as far as they are known, with `kid` among them if the issuer has it. May wait
    /// for the issuer once in a while, at most for `JWKS_FETCH` twice.
    pub fn keys(self: &Arc<Self>, kid: Option<&str>, now: Instant) -> Arc<Vec<PublicKey>> {
        if let Some(keys) = self.known(kid, now) {
            return keys;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waited for its turn may have what it wants by now.
        if let Some(keys) = self.known(kid, now) {
            return keys;
        }
        self.fetch();
        let state = self.lock();
        match state.is_within(limits::JWKS_GRACE, Instant::now()) {
            true => state.keys.clone(),
            false => Arc::default(),
        }
    }

    /// As if they had just been fetched.
    #[cfg(test)]
    pub fn learn(&self, keys: Vec<PublicKey>) {
        let mut state = self.lock();
        state.keys = Arc::new(keys);
        state.fetched = Some(Instant::now());
        state.tried = state.fetched;
        state.fresh = limits::JWKS_FRESH;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: the issuer must be asked now.
    fn known(self: &Arc<Self>, kid: Option<&str>, now: Instant) -> Option<Arc<Vec<PublicKey>>> {
        let mut state = self.lock();
        let may_try = state.tried.is_none_or(|tried| {
            // One that was tried while we waited for our turn was tried after `now`.
            now.saturating_duration_since(tried) >= limits::JWKS_RETRY
        });
        let has = |key: &PublicKey| kid.is_none() || key.kid.as_deref() == kid;
        let good = state.is_within(limits::JWKS_GRACE, now) && state.keys.iter().any(has);
        if !good && may_try {
            return None;
        }
        if good && may_try && !state.is_within(state.fresh, now) {
            self.renew(&mut state, now);
        }
        match state.is_within(limits::JWKS_GRACE, now) {
            true => Some(state.keys.clone()),
            false => Some(Arc::default()),
        }
    }

    /// Asks for them while the old ones still serve.
    fn renew(self: &Arc<Self>, state: &mut State, now: Instant) {
        if state.renewal.as_ref().is_some_and(|one| !one.is_finished()) {
            return;
        }
        state.tried = Some(now);
        let own = self.clone();
        let renew = move || {
            let _turn = own.turn.lock().unwrap_or_else(PoisonError::into_inner);
            own.fetch();
        };
        let earlier = match thread::spawn("jwks", limits::STACK_REMOTE_BYTES, renew) {
            Ok(handle) => state.renewal.replace(handle),
            // The next token tries again.
            Err(_) => None,
        };
        // It has finished, so this does not wait.
        drop(earlier.map(JoinHandle::join));
    }

    fn fetch(&self) {
        self.lock().tried = Some(Instant::now());
        let fetched = self.ask();
        let mut state = self.lock();
        let now = Instant::now();
        match fetched {
            Ok((keys, fresh)) => {
                log::info!("keys fetched issuer={:?} count={}", self.issuer, keys.len());
                state.keys = Arc::new(keys);
                (state.fetched, state.fresh) = (Some(now), fresh);
            }
            Err(error) => {
                let issuer = &self.issuer;
                log::warn!("keys not fetched issuer={issuer:?} error=\"failed to {error}\"");
            }
        }
        state.tried = Some(now);
    }

    fn ask(&self) -> Result<(Vec<PublicKey>, Duration), String> {
        let until = Instant::now() + limits::JWKS_FETCH;
        let operator = Egress::operator(self.egress_allow.clone());
        if let Some(url) = &self.url {
            return keys_at(&self.client(operator)?, url, until);
        }
        let client = self.client(operator)?;
        let metadata = self.metadata(&client, until)?;
        let home = Url::parse(&self.issuer).ok();
        let peer = Egress::peer(self.egress_allow.clone(), home);
        keys_at(&self.client(peer)?, &metadata, until)
    }

    fn client(&self, egress: Egress) -> Result<Client, String> {
        let options = ClientOptions {
            ca_file: self.ca_file.clone(),
            egress,
            ..ClientOptions::default()
        };
        let client = Client::new(&options).map_err(|error| error.to_string())?;
        Ok(client.keeping_redirects())
    }

    /// Where the issuer says that its keys are: OpenID Connect Discovery, then RFC 8414.
    fn metadata(&self, client: &Client, until: Instant) -> Result<String, String> {
        let base = self.issuer.trim_end_matches('/');
        let path_at = base.find("://").map_or(0, |at| at + 3);
        let path_at = base[path_at..].find('/').map(|at| path_at + at);
        let (host, path) = base.split_at(path_at.unwrap_or(base.len()));
        let places = [
            format!("{base}/.well-known/openid-configuration"),
            format!("{host}/.well-known/oauth-authorization-server{path}"),
        ];
        let mut why = String::new();
        for place in &places {
            match get(client, place, until) {
                Ok((text, _)) => return self.keys_url(&text),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn keys_url(&self, text: &str) -> Result<String, String> {
        let found = Members::parse(text, 0, RULES)
            .map_err(|error| format!("read the metadata of the issuer: {error}"))?;
        if found.string("issuer").as_deref() != Some(&self.issuer) {
            return Err("use the metadata of the issuer: it names another issuer".into());
        }
        let url = found.string("jwks_uri");
        let url = url.ok_or("find jwks_uri in the metadata of the issuer")?;
        Ok(url.into_owned())
    }
}

impl State {
    fn is_within(&self, time: Duration, now: Instant) -> bool {
        self.fetched
            .is_some_and(|then| now.saturating_duration_since(then) < time)
    }
}

fn keys_at(
    client: &Client,
    url: &str,
    until: Instant,
) -> Result<(Vec<PublicKey>, Duration), String> {
    let (text, fresh) = get(client, url, until)?;
    let keys = read_set(&text).ok_or_else(|| "read the keys: they are no JWK set".to_owned())?;
    Ok((keys, fresh))
}

/// The body of a 200, and for how long it is good.
fn get(client: &Client, url: &str, until: Instant) -> Result<(String, Duration), String> {
    let left = until.saturating_duration_since(Instant::now());
    let request = Request {
        method: Method::Get,
        url,
        headers: &[("Accept", "application/json")],
        body: &[],
        head_timeout: left,
        idle_timeout: None,
    };
    let mut response = client
        .send(&request, &Stop::default())
        .map_err(|error| error.to_string())?;
    if response.status() != 200 {
        let origin = response.url().origin();
        return Err(format!("ask {origin}: status {}", response.status()));
    }
    let fresh = freshness(&response);
    response.set_deadline(Some(until));
    let body = response.read_to_end(limits::JWKS_BYTES);
    let body = body.map_err(|error| error.to_string())?;
    let text = String::from_utf8(body).map_err(|_| "read the answer: it is not UTF-8")?;
    Ok((text, fresh))
}

fn freshness(response: &Response) -> Duration {
    let said = response.header("cache-control").unwrap_or_default();
    let age = said
        .split(',')
        .find_map(|word| word.trim().strip_prefix("max-age="));
    let age = age
        .and_then(|age| age.parse().ok())
        .map(Duration::from_secs);
    let age = age.unwrap_or(limits::JWKS_FRESH);
    age.clamp(limits::JWKS_FRESH_LEAST, limits::JWKS_FRESH)
}
