//! As which client the gateway appears at an authorization server: the one of the configuration,
//! one that a document describes, or one that it registers. What was registered at one issuer is
//! never shown to another.

use crate::base::limits;
use crate::base::{mask, time};
use crate::config::oauth::OauthSpec;
use crate::net::url::Url;
use crate::upstream::oauth::discovery::{Authority, members};
use crate::upstream::oauth::fetch::Fetch;
use crate::upstream::oauth::store::{read, written};
use crate::wire::json::quoted;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    pub id: String,
    pub secret: Option<String>,
    /// How it says who it is: a word of RFC 7591, or `private_key_jwt`.
    pub proof: String,
    /// Where browsers are sent back to.
    pub redirect: String,
}

pub const BASIC: &str = "client_secret_basic";
pub const POST: &str = "client_secret_post";
pub const KEY: &str = "private_key_jwt";
pub const NONE: &str = "none";

impl Client {
    /// The one that the configuration names.
    pub fn configured(spec: &OauthSpec, authority: &Authority, redirect: &str) -> Option<Client> {
        let secret = spec.client_secret.as_ref();
        let proof = match (secret, &spec.private_key) {
            (_, Some(_)) => KEY,
            (Some(_), None) => with_secret(authority),
            (None, None) => NONE,
        };
        Some(Client {
            id: spec.client_id.clone()?,
            secret: secret.map(|secret| secret.expose().to_owned()),
            proof: proof.to_owned(),
            redirect: redirect.to_owned(),
        })
    }

    /// One that the document at this URL describes.
    pub fn described(url: &str, redirect: &str) -> Client {
        Client {
            id: url.to_owned(),
            secret: None,
            proof: NONE.to_owned(),
            redirect: redirect.to_owned(),
        }
    }

    /// As it is kept; `None` when it is one for another redirect, or has had its time.
    pub fn kept(text: &str, redirect: &str) -> Option<Client> {
        let get = |name: &str| read(text, name);
        let client = Client {
            id: get("id")?,
            secret: get("secret"),
            proof: get("proof")?,
            redirect: get("redirect").unwrap_or_default(),
        };
        let until = get("until").and_then(|until| until.parse::<u64>().ok());
        let is_over = until.is_some_and(|until| until <= time::unix_s());
        (client.redirect == redirect && !is_over).then_some(client)
    }

    /// Registers a new one (RFC 7591). Also gives the text under which it is kept.
    pub fn register(
        fetch: &Fetch,
        authority: &Authority,
        name: &str,
        redirect: &str,
    ) -> Result<(Client, String), String> {
        let place = authority.registration.as_deref().ok_or(
            "authorization server does not let clients register; set \"clientId\" in its \
             \"oauth\"",
        )?;
        let answer = fetch.post(
            place,
            "application/json",
            &wish(authority, name, redirect),
            None,
        )?;
        if !(200..300).contains(&answer.status) {
            let why = why(&answer.body);
            let status = answer.status;
            return Err(format!(
                "refused to register the gateway: HTTP {status}{why}"
            ));
        }
        let given = members(&answer.body, "registration")?;
        let text = |name: &str| given.string(name).map(|text| text.into_owned());
        let secret = text("client_secret").filter(|secret| !secret.is_empty());
        let proof = text("token_endpoint_auth_method");
        let client = Client {
            id: text("client_id").ok_or("registered the gateway without a client_id")?,
            proof: proof.unwrap_or_else(|| match &secret {
                Some(_) => with_secret(authority).to_owned(),
                None => NONE.to_owned(),
            }),
            secret,
            redirect: redirect.to_owned(),
        };
        if ![BASIC, POST, NONE].contains(&client.proof.as_str()) {
            return Err("registered the gateway with a way to log in that it does not know".into());
        }
        if let Some(secret) = &client.secret {
            mask::learn(secret);
        }
        // 0: for ever.
        let until = given.get("client_secret_expires_at").unwrap_or_default();
        let until = if until == "0" { "" } else { until };
        Ok((client.clone(), client.text(&[("until", until)])))
    }

    pub fn text(&self, also: &[(&str, &str)]) -> String {
        let secret = self.secret.as_deref().unwrap_or_default();
        let mut pairs = vec![
            ("id", self.id.as_str()),
            ("secret", secret),
            ("proof", &self.proof),
            ("redirect", &self.redirect),
        ];
        pairs.extend_from_slice(also);
        written(&pairs)
    }
}

/// RFC 8414: who says nothing takes `client_secret_basic`.
fn with_secret(authority: &Authority) -> &'static str {
    let knows = |proof: &str| authority.proofs.iter().any(|known| known == proof);
    match !knows(BASIC) && knows(POST) {
        true => POST,
        false => BASIC,
    }
}

fn wish(authority: &Authority, name: &str, redirect: &str) -> String {
    let knows = |proof: &str| authority.proofs.iter().any(|known| known == proof);
    let proof = match !authority.proofs.is_empty() && !knows(BASIC) && !knows(POST) {
        true => NONE,
        false => with_secret(authority),
    };
    let is_local = Url::parse(redirect).is_ok_and(|url| url.is_loopback());
    let kind = if is_local { "native" } else { "web" };
    format!(
        "{{\"client_name\":{},\"redirect_uris\":[{}],\"application_type\":\"{kind}\",\
         \"grant_types\":[\"authorization_code\",\"refresh_token\"],\
         \"response_types\":[\"code\"],\"token_endpoint_auth_method\":\"{proof}\"}}",
        quoted(name),
        quoted(redirect)
    )
}

/// The error in an answer, in words that can be shown.
pub fn why(body: &str) -> String {
    let Ok(members) = members(body, "") else {
        return String::new();
    };
    let plain = |name: &str| {
        let text = members.string(name)?;
        let chars = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
        let text: String = chars.take(limits::OAUTH_REASON_CHARS).collect();
        (!text.is_empty()).then_some(text)
    };
    match (plain("error"), plain("error_description")) {
        (Some(error), Some(more)) => format!(" ({error}: {more})"),
        (Some(text), None) | (None, Some(text)) => format!(" ({text})"),
        (None, None) => String::new(),
    }
}
