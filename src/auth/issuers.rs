//! Tokens of other issuers: JWTs that name one of those in the configuration, are signed by one
//! of its keys with one of its algorithms, and are for us.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use crate::auth::jwks::Jwks;
use crate::base::limits;
use crate::config::auth::IssuerSpec;
use crate::journal::audit::Reason;
use crate::model::principal::{Means, Principal};
use crate::model::scope::Scopes;
use crate::net::egress::Allowed;
use crate::wire::jose::jwk::PublicKey;
use crate::wire::jose::jws::{Jws, RULES};
use crate::wire::json::{elements, string_value};
use crate::wire::members::Members;

pub struct Issuer {
    spec: IssuerSpec,
    keys: Arc<Jwks>,
}

/// Who a token speaks for, and whom it is for.
pub struct Accepted {
    pub who: Principal,
    pub audience: Vec<String>,
    /// One of these in `audience` is enough; empty: it must be one of our own URLs.
    pub accepts: Vec<String>,
}

/// `typ` of tokens that may be access tokens. Others have a purpose of their own.
const KINDS: &[&str] = &["", "jwt", "at+jwt"];

impl Issuer {
    pub fn new(spec: IssuerSpec, egress_allow: &[Allowed]) -> Issuer {
        let ca_file = spec.ca_file.clone();
        let url = spec.jwks_url.clone();
        let keys = Jwks::new(&spec.issuer, url, ca_file, egress_allow.to_vec());
        Issuer {
            spec,
            keys: Arc::new(keys),
        }
    }

    #[cfg(test)]
    pub fn learn(&self, keys: Vec<PublicKey>) {
        self.keys.learn(keys);
    }

    pub fn name(&self) -> &str {
        &self.spec.issuer
    }

    /// Judges a token that names this issuer.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn verify(&self, token: &Jws<'_>, now: Instant, now_s: u64) -> Result<Accepted, Reason> {
        if !KINDS.contains(&token.kind.as_str()) {
            return Err(Reason::BadType);
        }
        if !self.spec.algorithms.contains(&token.algorithm) {
            return Err(Reason::BadAlgorithm);
        }
        // What it says is judged before anybody waits for keys.
        let claims = Members::parse(&token.claims, 0, RULES).map_err(|_| Reason::BadClaims)?;
        let end_s = time_of_use(&claims, now_s)?;
        let accepted = self.read(&claims, end_s).ok_or(Reason::BadClaims)?;
        let kid = token.kid.as_deref();
        let keys = self.keys.keys(kid, now);
        let fits = |key: &&_| is_named(key, kid) && key.algorithm == token.algorithm;
        let mut named = keys.iter().filter(fits).take(limits::JWKS_TRIED);
        match named.any(|key| key.verifies(token)) {
            true => Ok(accepted),
            false if keys.is_empty() => Err(Reason::Unavailable),
            false => Err(Reason::BadSignature),
        }
    }

    fn read(&self, claims: &Members<'_>, end_s: u64) -> Option<Accepted> {
        let text = |name: &str| claims.string(name).map(Cow::into_owned);
        let client = match &self.spec.client_claim {
            Some(name) => text(name)?,
            None => text("client_id")
                .or_else(|| text("azp"))
                .unwrap_or_default(),
        };
        let (issuer, subject) = (text("iss")?, text("sub").filter(|text| !text.is_empty())?);
        if subject.len().max(client.len()) > limits::PRINCIPAL_BYTES {
            return None;
        }
        let mut who = Principal::new(Means::Jwt, &issuer, &subject, &client);
        who.expires_s = Some(end_s);
        who.scopes = self.scopes(claims);
        Some(Accepted {
            who,
            audience: texts(claims.get("aud")?)?,
            accepts: self.spec.audiences.clone(),
        })
    }

    /// Values without a meaning here are left out.
    fn scopes(&self, claims: &Members<'_>) -> Scopes {
        let Some(raw) = at_path(claims, &self.spec.scope_claim) else {
            return Scopes::default();
        };
        let mut values = texts(&raw).unwrap_or_default();
        // Scopes are words in one text (RFC 6749 3.3). Anything else is one name, which somebody
        // may have chosen: a group "x admins" is not "admins".
        values.extend(words_of(&self.spec.scope_claim, &raw));
        if self.spec.scopes.is_empty() {
            values.retain(|value| !value.contains(' '));
            return Scopes::known_of(&values.join(" "));
        }
        let means = |word: &str| {
            let pairs = self.spec.scopes.iter().filter(|(name, _)| name == word);
            pairs.fold(Scopes::default(), |all, (_, scopes)| {
                all.or(&Scopes::known_of(scopes))
            })
        };
        let mut meant = Scopes::default();
        for value in &values {
            meant = meant.or(&means(value));
        }
        meant
    }
}

/// The words of a claim that is made of words.
fn words_of(claim: &str, raw: &str) -> Vec<String> {
    let is_of_words = matches!(claim, "scope" | "scp");
    let text = string_value(raw)
        .filter(|_| is_of_words)
        .unwrap_or_default();
    text.split(' ').map(str::to_owned).collect()
}

fn is_named(key: &PublicKey, kid: Option<&str>) -> bool {
    kid.is_none() || key.kid.as_deref() == kid
}

/// When the token ends, by our clock.
fn time_of_use(claims: &Members<'_>, now_s: u64) -> Result<u64, Reason> {
    let time = |name: &str| claims.get(name).map(seconds);
    let bad = Reason::BadClaims;
    let end_s = time("exp").flatten().ok_or(bad)? + limits::TOKEN_LEEWAY_S;
    if end_s <= now_s {
        return Err(Reason::Expired);
    }
    let issued = time("iat").map(|time| time.ok_or(bad)).transpose()?;
    if issued.is_some_and(|issued| issued > now_s + limits::TOKEN_FUTURE_S) {
        return Err(Reason::NotYetValid);
    }
    let begin = time("nbf").map(|time| time.ok_or(bad)).transpose()?;
    match begin.is_some_and(|begin| begin > now_s + limits::TOKEN_LEEWAY_S) {
        true => Err(Reason::NotYetValid),
        false => Ok(end_s),
    }
}

/// A NumericDate, which may have a fraction.
fn seconds(raw: &str) -> Option<u64> {
    let whole = raw.split_once('.').map_or(raw, |(whole, _)| whole);
    let seconds = whole.parse::<u64>().ok()?;
    (seconds <= limits::TOKEN_END_MOST_S).then_some(seconds)
}

/// A text, or an array of texts.
fn texts(raw: &str) -> Option<Vec<String>> {
    if let Some(text) = string_value(raw) {
        return Some(vec![text.into_owned()]);
    }
    let texts = elements(raw, RULES)?.into_iter();
    texts
        .map(|text| string_value(text).map(Cow::into_owned))
        .collect()
}

/// A member by its name, or by names with dots between them.
fn at_path(claims: &Members<'_>, path: &str) -> Option<String> {
    if let Some(raw) = claims.get(path) {
        return Some(raw.to_owned());
    }
    let (name, rest) = path.split_once('.')?;
    let inner = Members::parse(claims.get(name)?, 1, RULES).ok()?;
    at_path(&inner, rest)
}
