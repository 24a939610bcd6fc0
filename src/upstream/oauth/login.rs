//! The login of the gateway, or of one of its principals, at one server: the token that goes with
//! each request, renewed before its end by one thread at a time, and what is to be done when the
//! server refuses it. Every thread that sends comes here; only who renews waits for the network.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use crate::base::{limits, mask, time};
use crate::config::oauth::{Grant, OauthSpec};
use crate::config::remote::RemoteSpec;
use crate::journal::audit::{self, Event, Outcome, Record};
use crate::net::egress::Allowed;
use crate::net::url::Url;
use crate::upstream::oauth::client::{Client, NONE};
use crate::upstream::oauth::discovery::{Found, discover};
use crate::upstream::oauth::fetch::Fetch;
use crate::upstream::oauth::store::{Store, read, written};
use crate::upstream::oauth::token::{Desk, NoTokens, Tokens};
use crate::wire::challenge::Challenge;

pub struct Login {
    pub server: String,
    pub principal: Option<String>,
    pub(super) spec: RemoteSpec,
    allow: Vec<Allowed>,
    store: Arc<Store>,
    state: Mutex<State>,
    /// Held by whoever asks for tokens.
    turn: Mutex<()>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// Counts the tokens that were held.
    number: u64,
    /// What the server asked for when it refused last.
    challenge: Option<Challenge>,
    /// Scopes to be asked for beside those of the configuration.
    wanted: Vec<String>,
    /// Tokens in a row that were refused for want of a scope that had been asked for.
    steps: u32,
    stepped: u64,
    /// When there were no tokens to be had, and why.
    failed: Option<(Instant, String)>,
    /// Why the last login by a person came to nothing.
    failure: Option<String>,
}

/// Tokens, and where others are to be had for them.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) tokens: Tokens,
    pub(super) issuer: String,
    pub(super) endpoint: String,
    pub(super) resource: String,
    pub(super) client: Client,
}

/// What goes with a request.
pub struct Bearer {
    pub number: u64,
    pub header: String,
}

/// What became of a refusal.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// There is another token: the request may be sent again.
    Again,
    /// A person has to log in.
    Login,
    /// It cannot be told now, or not be helped, for this reason.
    Failed(String),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Login {
    pub(super) fn new(
        server: &str,
        principal: Option<&str>,
        spec: &RemoteSpec,
        allow: &[Allowed],
        store: Arc<Store>,
    ) -> Login {
        let login = Login {
            server: server.to_owned(),
            principal: principal.map(str::to_owned),
            spec: spec.clone(),
            allow: allow.to_vec(),
            store,
            state: Mutex::default(),
            turn: Mutex::default(),
        };
        let held = login.store.get(&login.key());
        let held = held.and_then(|text| Held::of(&text, &login.spec.url));
        lock(&login.state).held = held;
        login
    }

    fn key(&self) -> String {
        key(&self.server, self.principal.as_deref())
    }

    pub(super) fn is_of(&self, spec: &RemoteSpec) -> bool {
        self.spec == *spec
    }

    pub(super) fn oauth(&self) -> Option<&OauthSpec> {
        self.spec.oauth.as_ref()
    }

    /// Whether the gateway gets in by itself.
    fn is_own(&self) -> bool {
        let grant = self.oauth().map(|oauth| oauth.grant);
        grant == Some(Grant::ClientCredentials)
    }

    /// A refusal without a challenge is one for want of a login, too.
    pub fn is_expected(&self) -> bool {
        self.oauth().is_some() || lock(&self.state).held.is_some()
    }

    /// Counts the tokens: another number is another token.
    pub fn number(&self) -> u64 {
        lock(&self.state).number
    }

    /// The token to be sent now, renewed if its end is near. `None`: there is none.
    ///
    /// # Errors
    /// Why there is none now, although there was one.
    pub fn bearer(&self) -> Result<Option<Bearer>, String> {
        if let Some((is_over, number)) = self.is_ending() {
            let turn = match (self.turn.try_lock(), is_over) {
                (Ok(turn), _) => Some(turn),
                (Err(TryLockError::Poisoned(broken)), _) => Some(broken.into_inner()),
                // Somebody renews it already, and it is still good.
                (Err(TryLockError::WouldBlock), false) => None,
                (Err(TryLockError::WouldBlock), true) => Some(lock(&self.turn)),
            };
            if turn.is_some() && self.number() == number {
                match self.renew() {
                    Next::Failed(why) if is_over => return Err(why),
                    _ => {}
                }
            }
        }
        let state = lock(&self.state);
        Ok(state.held.as_ref().map(|held| Bearer {
            number: state.number,
            header: format!("Bearer {}", held.tokens.access),
        }))
    }

    /// Whether the token is to be renewed now: whether it is over, and its number.
    fn is_ending(&self) -> Option<(bool, u64)> {
        let state = lock(&self.state);
        let held = state.held.as_ref()?;
        let expires_s = held.tokens.expires_s?;
        let now_s = time::unix_s();
        let ahead_s = limits::OAUTH_AHEAD_S.min(held.tokens.life_s / 5);
        let can = held.tokens.refresh.is_some() || self.is_own();
        let is_over = expires_s <= now_s;
        let rests = state.resting().is_some();
        (can && now_s + ahead_s >= expires_s && (is_over || !rests))
            .then_some((is_over, state.number))
    }

    /// The server answered 401 to a request with token `used`, or to one without.
    pub fn refused(&self, used: Option<u64>, challenge: Option<Challenge>) -> Next {
        let turn = lock(&self.turn);
        {
            let mut state = lock(&self.state);
            if let Some(challenge) = challenge {
                state.challenge = Some(challenge);
            }
            let is_new = state.held.is_some() && used != Some(state.number);
            if is_new {
                return Next::Again;
            }
        }
        let next = self.renew();
        drop(turn);
        next
    }

    /// The server answered 403 to a request with token `used`: it is not good for that.
    pub fn lacks_scope(&self, used: Option<u64>, challenge: Challenge) -> Next {
        let turn = lock(&self.turn);
        {
            let mut state = lock(&self.state);
            if state.held.is_some() && used != Some(state.number) {
                return Next::Again;
            }
            state.step(&challenge);
            state.challenge = Some(challenge);
            if state.steps >= limits::OAUTH_STEPS {
                return Next::Failed(format!(
                    "asks for more scopes again and again (after {} logins)",
                    limits::OAUTH_STEPS
                ));
            }
        }
        let next = match self.is_own() {
            true => self.enter(),
            false => Next::Login,
        };
        drop(turn);
        next
    }

    /// Another token for the one that is held. Whoever calls has the turn.
    fn renew(&self) -> Next {
        let held = lock(&self.state).held.clone();
        let Some((held, refresh)) = held.and_then(|held| {
            let refresh = held.tokens.refresh.clone()?;
            Some((held, refresh))
        }) else {
            return match self.is_own() {
                true => self.enter(),
                false => Next::Login,
            };
        };
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &refresh),
            ("resource", &held.resource),
        ];
        match self.asked(&held, &fields) {
            Ok(mut tokens) => {
                // Who gives no other one means this one.
                tokens.refresh = tokens.refresh.or(Some(refresh));
                tokens.scope = tokens.scope.or(held.tokens.scope.clone());
                self.hold(Held { tokens, ..held });
                log::debug!("token renewed server={:?}", self.server);
                Next::Again
            }
            Err(NoTokens::Later(why)) => {
                self.failed(format!("wants a new token, and there is none now: {why}"))
            }
            Err(NoTokens::Stranger(why)) => {
                // It has forgotten us: another registration is made with the next login.
                self.store
                    .set(&client_key(&self.server, &held.issuer), None);
                self.lost(&why)
            }
            Err(NoTokens::Refused(why)) => self.lost(&why),
        }
    }

    fn asked(&self, held: &Held, fields: &[(&str, &str)]) -> Result<Tokens, NoTokens> {
        let fetch = self.fetch().map_err(NoTokens::Later)?;
        let desk = Desk {
            fetch: &fetch,
            url: &held.endpoint,
            issuer: &held.issuer,
            client: &held.client,
            spec: self.oauth(),
        };
        desk.ask(fields)
    }

    fn lost(&self, why: &str) -> Next {
        log::warn!("login at a server is over server={:?}: {why}", self.server);
        self.tell(Outcome::Error, "", why);
        self.forget();
        match self.is_own() {
            true => self.enter(),
            false => Next::Login,
        }
    }

    /// As the gateway itself (`client_credentials`).
    fn enter(&self) -> Next {
        if let Some(why) = lock(&self.state).resting() {
            return Next::Failed(why);
        }
        match self.try_to_enter() {
            Ok(held) => {
                self.hold(held);
                Next::Again
            }
            Err(why) => self.failed(format!("gives no token: {why}")),
        }
    }

    fn failed(&self, why: String) -> Next {
        lock(&self.state).failed = Some((Instant::now(), why.clone()));
        Next::Failed(why)
    }

    fn try_to_enter(&self) -> Result<Held, String> {
        let fetch = self.fetch()?;
        let found = self.discover(&fetch)?;
        let scope = self.scope(&found, false);
        let client = self
            .oauth()
            .and_then(|oauth| Client::configured(oauth, &found.authority, ""))
            .filter(|client| client.proof != NONE)
            .ok_or("set \"clientId\" with \"clientSecret\" or \"privateKey\" in its \"oauth\"")?;
        self.bind(&found)?;
        let held = Held {
            tokens: Tokens::none(),
            issuer: found.authority.issuer,
            endpoint: found.authority.token,
            resource: found.resource,
            client,
        };
        let fields = [
            ("grant_type", "client_credentials"),
            ("scope", &scope),
            ("resource", &held.resource),
        ];
        let mut tokens = self.asked(&held, &fields).map_err(NoTokens::text)?;
        tokens.scope = tokens.scope.or(Some(scope));
        Ok(Held { tokens, ..held })
    }

    pub(super) fn fetch(&self) -> Result<Fetch, String> {
        Fetch::new(&self.spec, &self.allow)
    }

    pub(super) fn discover(&self, fetch: &Fetch) -> Result<Found, String> {
        let server = Url::parse(&self.spec.url).map_err(|error| error.to_string())?;
        let challenge = lock(&self.state).challenge.clone().unwrap_or_default();
        let pinned = self.oauth().and_then(|oauth| oauth.issuer.as_deref());
        discover(fetch, &server, challenge.resource_metadata(), pinned)
    }

    /// A client of the configuration belongs to the issuer that it was shown to first.
    pub(super) fn bind(&self, found: &Found) -> Result<(), String> {
        let Some(oauth) = self.oauth() else {
            return Ok(());
        };
        let (issuer, id) = (&found.authority.issuer, oauth.client_id.as_deref());
        let (None, Some(id)) = (&oauth.issuer, id) else {
            return Ok(());
        };
        let name = format!("issuer {} {id}", self.server);
        match self.store.get(&name) {
            Some(known) if known != *issuer => Err(format!(
                "sends its \"clientId\" to another authorization server ({issuer}) than before; \
                 set \"issuer\" in its \"oauth\" if that is right"
            )),
            _ => {
                self.store.set(&name, Some(issuer.clone()));
                Ok(())
            }
        }
    }

    /// What is asked for: that of the configuration, that of the challenge or else all that the
    /// server knows, and whatever was had or was missing before.
    pub(super) fn scope(&self, found: &Found, is_lasting: bool) -> String {
        let state = lock(&self.state);
        let challenged = state.challenge.as_ref().and_then(Challenge::scope);
        let mut words: Vec<&str> = Vec::new();
        let configured = self.oauth().map(|oauth| oauth.scopes.as_slice());
        let configured = configured.unwrap_or_default();
        words.extend(configured.iter().map(String::as_str));
        words.extend(challenged.unwrap_or_default().split_ascii_whitespace());
        if words.is_empty() {
            words.extend(found.scopes.iter().map(String::as_str));
        }
        words.extend(state.wanted.iter().map(String::as_str));
        if is_lasting && found.authority.scopes.iter().any(|scope| scope == OFFLINE) {
            words.push(OFFLINE);
        }
        let mut once: Vec<&str> = Vec::new();
        for word in words {
            if !once.contains(&word) && once.len() < limits::OAUTH_SCOPES {
                once.push(word);
            }
        }
        once.join(" ")
    }

    fn tell(&self, outcome: Outcome, issuer: &str, detail: &str) {
        audit::note(Record {
            server: &self.server,
            name: self.principal.as_deref().unwrap_or_default(),
            issuer,
            detail,
            ..Record::new(Event::UpstreamAuth, outcome)
        });
    }

    /// From now on these tokens count.
    pub(super) fn hold(&self, held: Held) {
        self.tell(Outcome::Ok, &held.issuer, "token held");
        self.store.set(&self.key(), Some(held.text(&self.spec.url)));
        let mut state = lock(&self.state);
        state.held = Some(held);
        state.number += 1;
        state.failed = None;
    }

    fn forget(&self) {
        self.store.set(&self.key(), None);
        let mut state = lock(&self.state);
        state.held = None;
        state.number += 1;
    }

    /// Ends the login, if there is one.
    pub fn log_out(&self) -> bool {
        let _turn = lock(&self.turn);
        let was_in = lock(&self.state).held.is_some();
        self.forget();
        let mut state = lock(&self.state);
        (state.steps, state.wanted) = (0, Vec::new());
        was_in
    }

    pub(super) fn note_failure(&self, why: Option<&String>) {
        lock(&self.state).failure = why.cloned();
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// Nobody is asked again and again for what changes nothing.
    pub(super) fn may_step(&self) -> Result<(), String> {
        match lock(&self.state).steps >= limits::OAUTH_STEPS {
            false => Ok(()),
            true => Err(format!(
                "has refused {} logins in a row for want of scopes; log out first to begin anew",
                limits::OAUTH_STEPS
            )),
        }
    }

    /// Issuer, scopes and end of the token that is held; and scopes that are missing.
    pub fn view(&self) -> View {
        let state = lock(&self.state);
        let held = state.held.as_ref();
        View {
            issuer: held.map(|held| held.issuer.clone()),
            scope: held.and_then(|held| held.tokens.scope.clone()),
            expires_s: held.and_then(|held| held.tokens.expires_s),
            is_lasting: held.is_some_and(|held| held.tokens.refresh.is_some()),
            wanted: state.wanted.join(" "),
            failure: state.failure.clone(),
        }
    }
}

const OFFLINE: &str = "offline_access";

/// A login as it is shown: nothing in it is secret.
pub struct View {
    pub issuer: Option<String>,
    pub scope: Option<String>,
    pub expires_s: Option<u64>,
    pub is_lasting: bool,
    pub wanted: String,
    pub failure: Option<String>,
}

impl State {
    /// Why there were no tokens a moment ago: it is not asked again yet.
    fn resting(&self) -> Option<String> {
        let (at, why) = self.failed.as_ref()?;
        (at.elapsed() < limits::OAUTH_RETRY).then(|| why.clone())
    }

    /// Takes in what a refusal says is missing.
    fn step(&mut self, challenge: &Challenge) {
        let asked = challenge.scope().unwrap_or_default();
        let held = self
            .held
            .as_ref()
            .and_then(|held| held.tokens.scope.as_deref());
        let held = held.unwrap_or_default();
        let words = held.split_ascii_whitespace();
        let mut is_new = false;
        for word in words.chain(asked.split_ascii_whitespace()) {
            let is_known = self.wanted.iter().any(|known| known == word);
            if !is_known && self.wanted.len() < limits::OAUTH_SCOPES {
                self.wanted.push(word.to_owned());
                is_new = true;
            }
        }
        // One refusal counts for each token.
        if is_new {
            self.steps = 1;
        } else if self.stepped != self.number {
            self.steps += 1;
        }
        self.stepped = self.number;
    }
}

impl Tokens {
    fn none() -> Tokens {
        Tokens {
            access: String::new(),
            refresh: None,
            expires_s: None,
            life_s: 0,
            scope: None,
        }
    }
}

impl Held {
    /// As it is kept.
    fn text(&self, url: &str) -> String {
        let Tokens {
            access,
            refresh,
            expires_s,
            life_s,
            scope,
        } = &self.tokens;
        let expires_s = expires_s.map_or_else(String::new, |at| at.to_string());
        let pairs = [
            ("url", url),
            ("issuer", self.issuer.as_str()),
            ("endpoint", &self.endpoint),
            ("resource", &self.resource),
            ("client", &self.client.text(&[])),
            ("access", access),
            ("refresh", refresh.as_deref().unwrap_or_default()),
            ("expires", &expires_s),
            ("life", &life_s.to_string()),
            ("scope", scope.as_deref().unwrap_or_default()),
        ];
        written(&pairs)
    }

    /// `None` when it belongs to a server at another URL.
    fn of(text: &str, url: &str) -> Option<Held> {
        let get = |name: &str| read(text, name);
        if get("url")? != url {
            return None;
        }
        let client = get("client")?;
        let redirect = read(&client, "redirect").unwrap_or_default();
        let number = |name: &str| get(name).and_then(|text| text.parse().ok());
        let tokens = Tokens {
            access: get("access")?,
            refresh: get("refresh"),
            expires_s: number("expires"),
            life_s: number("life").unwrap_or_default(),
            scope: get("scope"),
        };
        mask::learn(&tokens.access);
        tokens
            .refresh
            .iter()
            .for_each(|refresh| mask::learn(refresh));
        Some(Held {
            tokens,
            issuer: get("issuer")?,
            endpoint: get("endpoint")?,
            resource: get("resource")?,
            client: Client::kept(&client, &redirect)?,
        })
    }
}

/// The name under which tokens are kept.
pub(super) fn key(server: &str, principal: Option<&str>) -> String {
    format!("login {server}\n{}", principal.unwrap_or_default())
}

pub(super) fn client_key(server: &str, issuer: &str) -> String {
    format!("client {server}\n{issuer}")
}
