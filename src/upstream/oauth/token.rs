//! The token endpoint: one request, and tokens or the reason why there are none.

use crate::base::{limits, mask, sys, time};
use crate::config::oauth::OauthSpec;
use crate::upstream::oauth::client::{BASIC, Client, KEY, POST, why};
use crate::upstream::oauth::discovery::members;
use crate::upstream::oauth::fetch::Fetch;
use crate::wire::base64::{encode_standard, encode_url};
use crate::wire::form;
use crate::wire::jose::signing::SigningKey;
use crate::wire::json::quoted;
use crate::wire::percent;

#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
    /// Unix time; and how long it is good from the beginning.
    pub expires_s: Option<u64>,
    pub life_s: u64,
    /// `None`: what was asked for.
    pub scope: Option<String>,
}

/// Why there are no tokens.
#[derive(Debug, PartialEq, Eq)]
pub enum NoTokens {
    /// What was shown for them is not good, and will not be.
    Refused(String),
    /// The client is not known there any more.
    Stranger(String),
    /// Nothing is known: later it may go well.
    Later(String),
}

impl NoTokens {
    pub fn text(self) -> String {
        match self {
            NoTokens::Refused(text) | NoTokens::Stranger(text) | NoTokens::Later(text) => text,
        }
    }
}

/// Where tokens are to be had, and who asks.
pub struct Desk<'a> {
    pub fetch: &'a Fetch,
    pub url: &'a str,
    pub issuer: &'a str,
    pub client: &'a Client,
    pub spec: Option<&'a OauthSpec>,
}

impl Desk<'_> {
    /// Asks with `fields`, which say for what.
    pub fn ask(&self, fields: &[(&str, &str)]) -> Result<Tokens, NoTokens> {
        let Client {
            id, secret, proof, ..
        } = self.client;
        let secret = secret.as_deref().unwrap_or_default();
        let assertion = match proof == KEY {
            true => self.assertion().map_err(NoTokens::Later)?,
            false => String::new(),
        };
        let mut all = fields.to_vec();
        let mut header = None;
        match proof.as_str() {
            BASIC => header = Some(basic(id, secret)),
            POST => all.extend([("client_id", id.as_str()), ("client_secret", secret)]),
            KEY => all.extend([
                ("client_id", id.as_str()),
                ("client_assertion_type", ASSERTION),
                ("client_assertion", &assertion),
            ]),
            _ => all.push(("client_id", id)),
        }
        let kind = "application/x-www-form-urlencoded";
        let body = form::encode(&all);
        let answer = self.fetch.post(self.url, kind, &body, header.as_deref());
        let answer = answer.map_err(NoTokens::Later)?;
        match answer.status {
            200 => tokens_in(&answer.body).map_err(NoTokens::Later),
            status => Err(refusal(status, &answer.body)),
        }
    }

    /// Who we are, signed with our key (RFC 7523).
    fn assertion(&self) -> Result<String, String> {
        let key = self.spec.and_then(|spec| spec.private_key.as_ref());
        let key = key.map(|key| key.expose()).unwrap_or_default();
        let key = SigningKey::from_pem(key).or_else(|| SigningKey::from_jwk(key));
        let key = key.ok_or(
            "\"privateKey\" in its \"oauth\" is no key: write one of P-256 or Ed25519, as PEM \
             (PKCS #8) or JWK",
        )?;
        let (id, issuer) = (quoted(&self.client.id), quoted(self.issuer));
        let now = time::unix_s();
        let until = now + limits::OAUTH_ASSERTION.as_secs();
        let once = random();
        let claims = format!(
            "{{\"iss\":{id},\"sub\":{id},\"aud\":{issuer},\"jti\":\"{once}\",\"iat\":{now},\
             \"exp\":{until}}}"
        );
        key.sign("JWT", &claims)
            .ok_or_else(|| "failed to sign".to_owned())
    }
}

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// 256 bits that nobody can guess.
pub fn random() -> String {
    let mut bytes = [0; 32];
    sys::random_bytes(&mut bytes);
    encode_url(&bytes)
}

fn basic(id: &str, secret: &str) -> String {
    let text = [percent::encode(id), percent::encode(secret)].join(":");
    format!("Basic {}", encode_standard(text.as_bytes()))
}

fn tokens_in(body: &str) -> Result<Tokens, String> {
    let given = members(body, "token answer")?;
    let fits = |text: &String| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain && (1..=limits::REMOTE_HEADER_BYTES).contains(&text.len())
    };
    let text = |name: &str| given.string(name).map(|text| text.into_owned());
    let kind = text("token_type").unwrap_or_default();
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err("authorization server gave a token that is no bearer token".to_owned());
    }
    let access = text("access_token").filter(fits);
    let access = access.ok_or("authorization server gave a token that cannot be sent")?;
    let refresh = text("refresh_token").filter(fits);
    mask::learn(&access);
    refresh.iter().for_each(|refresh| mask::learn(refresh));
    let life = given.get("expires_in").map(|raw| raw.trim_matches('"'));
    let life = life.and_then(|life| life.parse::<f64>().ok());
    // Nobody can wait longer than that.
    let life = life.map(|life| life.clamp(0.0, 4_000_000_000.0) as u64);
    Ok(Tokens {
        access,
        refresh,
        expires_s: life.map(|life| time::unix_s() + life),
        life_s: life.unwrap_or_default(),
        scope: text("scope").filter(|scope| !scope.is_empty()),
    })
}

fn refusal(status: u16, body: &str) -> NoTokens {
    let error = members(body, "").ok();
    let error = error.and_then(|members| Some(members.string("error")?.into_owned()));
    let text = format!("authorization server refused: HTTP {status}{}", why(body));
    match (status, error.as_deref()) {
        (400..=499, Some("invalid_client" | "unauthorized_client")) => NoTokens::Stranger(text),
        (429, _) | (_, Some("slow_down" | "temporarily_unavailable" | "server_error")) => {
            NoTokens::Later(text)
        }
        (400..=499, Some(_)) => NoTokens::Refused(text),
        _ => NoTokens::Later(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{NoTokens, basic, refusal, tokens_in};

    #[test]
    fn only_bearer_tokens_that_can_be_sent_are_taken() {
        let good = r#"{"access_token":"a.b","token_type":"bearer","expires_in":60}"#;
        let tokens = tokens_in(good).expect(good);
        assert_eq!((tokens.access.as_str(), tokens.life_s), ("a.b", 60));
        for bad in [
            "",
            "[]",
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","token_type":"DPoP"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":"a b","token_type":"Bearer"}"#,
            r#"{"access_token":"a\r\nX: y","token_type":"Bearer"}"#,
            r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#,
            r#"{"access_token":7,"token_type":"Bearer"}"#,
        ] {
            assert!(tokens_in(bad).is_err(), "{bad}");
        }
        let odd = r#"{"access_token":"a","token_type":"Bearer","expires_in":-1e300}"#;
        assert_eq!(tokens_in(odd).map(|tokens| tokens.life_s).ok(), Some(0));
    }

    #[test]
    fn a_refusal_is_told_from_a_bad_moment() {
        let kind = |status: u16, error: &str| match refusal(status, error) {
            NoTokens::Refused(_) => 'r',
            NoTokens::Stranger(_) => 's',
            NoTokens::Later(_) => 'l',
        };
        for (status, error, expect) in [
            (400, r#"{"error":"invalid_grant"}"#, 'r'),
            (401, r#"{"error":"invalid_client"}"#, 's'),
            (400, r#"{"error":"temporarily_unavailable"}"#, 'l'),
            (404, "<html>", 'l'),
            (429, r#"{"error":"invalid_grant"}"#, 'l'),
            (500, r#"{"error":"invalid_grant"}"#, 'l'),
        ] {
            assert_eq!(kind(status, error), expect, "{status} {error}");
        }
        assert_eq!(basic("a b", "c:d"), "Basic YSUyMGI6YyUzQWQ=");
    }
}
