//! Judges who asks: one principal for each request, or why there is none. Runs on the thread of
//! the connection; a token that was judged a moment ago costs one digest and one look.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::auth::api_key::{self, ApiKeys};
use crate::auth::cache::{Cache, Fingerprint};
use crate::auth::issuers::Issuer;
use crate::auth::pace::Pace;
use crate::auth::resource::{challenge, metadata, resource_path};
use crate::auth::standing::{Permit, Standing};
use crate::auth::tokens::Tokens;
use crate::base::limits;
use crate::base::time::unix_s;
use crate::config::auth::AuthSettings;
use crate::config::auth_server::AuthServerSpec;
use crate::http::{Client, Head, Reply};
use crate::journal::audit::rejects::reject;
use crate::journal::audit::{self, Event, Outcome, Reason, Record};
use crate::model::principal::{Means, Principal};
use crate::model::scope::Scopes;
use crate::wire::hex;
use crate::wire::jose::jws::{Jws, RULES};
use crate::wire::members::Members;
use crate::wire::percent;

/// Why a request may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It shows no token: told what is wanted, without an error.
    NoToken,
    /// Unknown, forged, expired, revoked, or for somebody else. Whoever asked is not told which.
    BadToken(Reason),
    /// It cannot be read in one way.
    Malformed(&'static str),
    /// Too much of one principal; more may come after so long.
    TooMany(Duration),
    /// Tokens cannot be judged: the clock of this machine is years behind.
    NotReady,
}

pub struct Gate {
    tokens: Arc<Tokens>,
    api_keys: ApiKeys,
    issuers: Vec<Issuer>,
    scope_validation: bool,
    /// What `authorization_servers` names.
    servers: Vec<String>,
    /// The clients of the configuration.
    clients: Vec<String>,
    baseline: RwLock<String>,
    cache: Cache<Known>,
    pace: Pace,
    standing: Arc<Standing>,
}

/// A token that was found good.
#[derive(Clone)]
struct Known {
    who: Arc<Principal>,
    /// The one path that it is good for; `None`: all of them.
    only: Option<Arc<[String]>>,
}

impl Gate {
    pub fn new(
        tokens: Arc<Tokens>,
        api_keys: ApiKeys,
        issuers: Vec<Issuer>,
        settings: &AuthSettings,
        server: &AuthServerSpec,
    ) -> Gate {
        let others = issuers.iter().map(|issuer| issuer.name().to_owned());
        let mut servers: Vec<String> = others.collect();
        // Where only API keys are good, it is named nevertheless: there must be one.
        if server.enabled || servers.is_empty() {
            servers.insert(0, tokens.issuer.clone());
        }
        let gate = Gate {
            tokens,
            api_keys,
            issuers,
            scope_validation: settings.scope_validation,
            servers,
            clients: server.clients.iter().map(|one| one.id.clone()).collect(),
            baseline: RwLock::default(),
            cache: Cache::default(),
            pace: Pace::new(0, MINUTE, 1),
            standing: Arc::new(Standing::new(0)),
        };
        gate.configure(settings);
        gate
    }

    pub fn configure(&self, settings: &AuthSettings) {
        let rate = settings.rate_per_minute;
        self.pace.set(rate, MINUTE, rate);
        self.standing.set(settings.concurrency);
        let mut baseline = self
            .baseline
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        settings.baseline_scopes.clone_into(&mut baseline);
    }

    /// Reads the files that changed.
    pub fn look(&self, now: Instant, now_s: u64) {
        let keys_changed = self.tokens.look(now, now_s);
        if self.api_keys.look(now) || keys_changed {
            self.cache.clear();
        }
    }

    /// Who asks.
    ///
    /// # Errors
    /// Why nobody does.
    pub fn check(&self, head: &Head<'_>, _from: &Client) -> Result<Arc<Principal>, Denied> {
        let judged = self.judge(head, Instant::now(), unix_s());
        if let Err(denied) = &judged {
            denied.note();
        }
        judged
    }

    fn judge(&self, head: &Head<'_>, now: Instant, now_s: u64) -> Result<Arc<Principal>, Denied> {
        let token = token_of(head)?.ok_or(Denied::NoToken)?;
        if now_s < limits::CLOCK_LEAST_S {
            return Err(Denied::NotReady);
        }
        self.look(now, now_s);
        if token.len() > limits::TOKEN_BYTES {
            return Err(Denied::BadToken(Reason::Malformed));
        }
        let fingerprint = api_key::fingerprint(token);
        let known = match self.cache.get(&fingerprint, now) {
            Some(known) => known,
            None => self
                .verify(token, fingerprint, now, now_s)
                .map_err(Denied::BadToken)?,
        };
        if known.who.is_over(now_s) {
            return Err(Denied::BadToken(Reason::Expired));
        }
        let path = resource_path(head.path);
        match &known.only {
            Some(paths) if !paths.iter().any(|only| is_same_path(only, path)) => {
                Err(Denied::BadToken(Reason::BadAudience))
            }
            _ => Ok(known.who),
        }
    }

    fn verify(
        &self,
        token: &str,
        fingerprint: Fingerprint,
        now: Instant,
        now_s: u64,
    ) -> Result<Known, Reason> {
        let known = match token.starts_with(api_key::PREFIX) {
            true => {
                let who = self.api_keys.verify(&fingerprint, now_s)?;
                let who = self.admit(who, &fingerprint);
                self.api_keys.watch(&who, fingerprint);
                Known { who, only: None }
            }
            false => self.verify_jwt(token, &fingerprint, now, now_s)?,
        };
        self.cache.put(fingerprint, known.clone(), now);
        note_ok(&known.who);
        Ok(known)
    }

    fn verify_jwt(
        &self,
        token: &str,
        fingerprint: &Fingerprint,
        now: Instant,
        now_s: u64,
    ) -> Result<Known, Reason> {
        let token = Jws::parse(token).ok_or(Reason::Malformed)?;
        let claims = Members::parse(&token.claims, 0, RULES).map_err(|_| Reason::BadClaims)?;
        let issuer = claims.string("iss").ok_or(Reason::BadClaims)?;
        if issuer == self.tokens.issuer {
            let claims = self.tokens.verify(&token, now_s)?;
            let only = self.only(std::slice::from_ref(&claims.audience))?;
            let (subject, client) = (&claims.subject, &claims.client);
            // A machine's own: it ends with its place in the configuration.
            if subject == client && !self.clients.contains(client) {
                return Err(Reason::BadClient);
            }
            let mut who = Principal::new(Means::OwnToken, &issuer, subject, client);
            who.scopes = Scopes::known_of(&claims.scope);
            who.expires_s = Some(claims.expires_s);
            who.family.clone_from(&claims.family);
            let who = self.admit(who, fingerprint);
            self.tokens.watch(&who, claims);
            return Ok(Known { who, only });
        }
        let named = self.issuers.iter().find(|one| one.name() == issuer);
        let accepted = named.ok_or(Reason::BadIssuer)?.verify(&token, now, now_s)?;
        let is_wanted = |audience: &String| accepted.accepts.contains(audience);
        let only = match accepted.accepts.is_empty() {
            true => self.only(&accepted.audience)?,
            false if accepted.audience.iter().any(is_wanted) => None,
            false => return Err(Reason::BadAudience),
        };
        let who = self.admit(accepted.who, fingerprint);
        Ok(Known { who, only })
    }

    fn admit(&self, mut who: Principal, fingerprint: &Fingerprint) -> Arc<Principal> {
        if !self.scope_validation {
            who.scopes = Scopes::everything();
        }
        // Not the fingerprint itself: that is what keys are known by in their file.
        let digest = ring::digest::digest(&ring::digest::SHA256, fingerprint);
        who.token = hex::encode(&digest.as_ref()[..6]);
        Arc::new(who)
    }

    /// What a token with this audience is good for. The gateway as a whole, by any of its names,
    /// is good for each server; a server is good for itself alone.
    fn only(&self, audience: &[String]) -> Result<Option<Arc<[String]>>, Reason> {
        let own = audience
            .iter()
            .filter_map(|text| text.strip_prefix(&self.tokens.issuer));
        let own: Vec<String> = own.map(str::to_owned).collect();
        if own
            .iter()
            .map(|path| path.strip_suffix('/').unwrap_or(path))
            .any(|path| ["", "/mcp", "/sse"].contains(&path))
        {
            return Ok(None);
        }
        let servers = own.into_iter().filter(|path| path.starts_with("/mcp/"));
        let servers: Arc<[String]> = servers.collect();
        match servers.is_empty() {
            true => Err(Reason::BadAudience),
            false => Ok(Some(servers)),
        }
    }

    /// Counts a request of this principal, whatever becomes of it.
    ///
    /// # Errors
    /// When it asks too often.
    pub fn count(&self, who: &Arc<Principal>) -> Result<(), Denied> {
        let paced = self.pace.take(who.key(), Instant::now());
        paced.map_err(|wait| too_many(who, wait))
    }

    /// A request of this principal is in work until the permit is dropped.
    ///
    /// # Errors
    /// When it has too much in work.
    pub fn enter(&self, who: &Arc<Principal>) -> Result<Permit, Denied> {
        let permit = self.standing.enter(who.key());
        permit.ok_or_else(|| too_many(who, limits::STANDING_RETRY))
    }

    /// The answer to who may not go on. `wanted`: the scopes of what was asked for; without any
    /// the baseline is named.
    pub fn refusal(&self, denied: &Denied, wanted: &str, path: &str) -> Reply {
        let baseline = self.baseline.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = if wanted.is_empty() {
            baseline.as_str()
        } else {
            wanted
        };
        let challenged = |status, error: &'static str, text: &'static str, is_told: bool| {
            let told = is_told.then_some((error, text));
            let header = challenge(&self.tokens.issuer, path, told, wanted);
            body(status, error, text).with("WWW-Authenticate", header)
        };
        match denied {
            Denied::NoToken => challenged(401, "unauthorized", "a token is needed", false),
            Denied::BadToken(_) => challenged(401, "invalid_token", "the token is not good", true),
            Denied::Malformed(what) => challenged(400, "invalid_request", what, true),
            Denied::TooMany(wait) => body(429, "too_many_requests", "asked too often")
                .with("Retry-After", seconds(*wait)),
            Denied::NotReady => body(503, "temporarily_unavailable", "the clock is not set")
                .with("Retry-After", seconds(limits::STANDING_RETRY)),
        }
    }

    /// The answer to who is known, but may not do this: which scopes would be enough.
    pub fn insufficient(&self, wanted: &str, path: &str) -> Reply {
        let (error, text) = ("insufficient_scope", "the token does not reach that");
        let header = challenge(&self.tokens.issuer, path, Some((error, text)), wanted);
        body(403, error, text).with("WWW-Authenticate", header)
    }

    /// RFC 9728, for everybody.
    pub fn metadata(&self, path: Option<&str>) -> Reply {
        let servers: Vec<&str> = self.servers.iter().map(String::as_str).collect();
        let baseline = self.baseline.read().unwrap_or_else(PoisonError::into_inner);
        let path = resource_path(path.unwrap_or_default());
        metadata(&self.tokens.issuer, path, &servers, &baseline)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

impl Denied {
    fn note(&self) {
        let reason = match self {
            Denied::NoToken => Reason::MissingToken,
            Denied::BadToken(reason) => *reason,
            Denied::Malformed(_) => Reason::Malformed,
            Denied::TooMany(_) => Reason::TooOften,
            Denied::NotReady => Reason::Unavailable,
        };
        reject(Record::denied(Event::AuthFail, reason));
        if let Denied::BadToken(reason) = self {
            log::debug!("token refused reason={}", reason.as_str());
        }
    }
}

fn too_many(who: &Arc<Principal>, wait: Duration) -> Denied {
    reject(Record {
        who: Some(who),
        ..Record::denied(Event::RateLimit, Reason::TooOften)
    });
    Denied::TooMany(wait)
}

fn note_ok(who: &Principal) {
    let mut record = Record::new(Event::AuthOk, Outcome::Allow);
    record.who = Some(who);
    audit::note(record);
}

fn body(status: u16, error: &str, text: &str) -> Reply {
    let body = format!("{{\"error\":\"{error}\",\"error_description\":\"{text}\"}}");
    Reply::json(status, body).with("Cache-Control", "no-store")
}

/// Rounded up, as `Retry-After` wants it.
fn seconds(wait: Duration) -> String {
    (wait.as_millis().div_ceil(1000).max(1)).to_string()
}

/// The same path may be spelt with other escapes.
fn is_same_path(one: &str, other: &str) -> bool {
    let one = one.strip_suffix('/').unwrap_or(one);
    one == other
        || percent::decode(one)
            .is_some_and(|one| percent::decode(other).is_some_and(|it| it == one))
}

/// The token that a request shows, if it shows one, where tokens may stand.
fn token_of<'h>(head: &Head<'h>) -> Result<Option<&'h str>, Denied> {
    if head.query.is_some_and(has_token) {
        return Err(Denied::Malformed("a token in the query is not taken"));
    }
    let mut values = head.header_values("authorization");
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Denied::Malformed(
            "there is more than one Authorization header",
        ));
    }
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = token.trim_start_matches(' ');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let bare = token.trim_end_matches('=');
    if bare.is_empty() || !bare.bytes().all(fits) {
        return Err(Denied::Malformed("the Authorization header holds no token"));
    }
    Ok(Some(token))
}

/// Whether a parameter of a query is a token (RFC 6750 section 2.3), however it is spelt.
fn has_token(query: &str) -> bool {
    let mut names = query.split('&').map(|pair| pair.split('=').next());
    names.any(|name| {
        let name = percent::decode_form(name.unwrap_or_default());
        name.is_some_and(|name| name.eq_ignore_ascii_case("access_token"))
    })
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
