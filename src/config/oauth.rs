//! How the gateway gets in at a server over HTTP: as which OAuth client, for whom, and which
//! headers of its own clients it hands on. Nothing is handed on that is not listed here.

use std::collections::BTreeSet;

use crate::base::secret::Secret;
use crate::base::{limits, mask};
use crate::config::document::{Node, Notes, Spot};
use crate::config::entry::{Written, written};
use crate::config::near::did_you_mean;
use crate::config::remote::is_token;
use crate::net::url::Url;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Grant {
    /// A person allows it in a browser, once.
    #[default]
    AuthorizationCode,
    /// The gateway itself is known at the authorization server.
    ClientCredentials,
}

/// Who the gateway is at the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tokens {
    /// One and the same for all clients.
    #[default]
    Server,
    /// Each principal is somebody else there.
    Principal,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OauthSpec {
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    /// PEM; says who we are instead of a secret.
    pub private_key: Option<Secret>,
    /// A document elsewhere that describes this gateway as a client.
    pub client_metadata: Option<String>,
    /// Asked for at least.
    pub scopes: Vec<String>,
    pub redirect_url: Option<String>,
    /// Whether the gateway may register itself.
    pub auto_register: bool,
    pub grant: Grant,
    pub tokens: Tokens,
    /// The only authorization server that is trusted.
    pub issuer: Option<String>,
}

/// `oauth` as it is written.
#[derive(Clone, Default)]
pub struct OauthItem<'d> {
    texts: Vec<(&'d str, Written<'d>)>,
    scopes: Vec<String>,
    auto_register: Option<bool>,
}

impl OauthItem<'_> {
    pub fn is_per_principal(&self) -> bool {
        let mut texts = self.texts.iter();
        texts.any(|(name, word)| *name == "tokens" && word.text == "principal")
    }
}

const TEXTS: &[&str] = &[
    "clientId",
    "clientSecret",
    "privateKey",
    "clientMetadataUrl",
    "redirectUrl",
    "grant",
    "tokens",
    "issuer",
];

pub fn oauth_item<'d>(node: &Node<'d>, notes: &mut Notes) -> Option<OauthItem<'d>> {
    let mut item = OauthItem::default();
    for member in node.members(notes)? {
        match member.name {
            "scopes" => item.scopes = scopes(&member.node, notes),
            "autoRegister" => item.auto_register = member.node.switch(notes),
            name if TEXTS.contains(&name) => {
                let word = written(&member.node, notes);
                item.texts.extend(word.map(|word| (name, word)));
            }
            name => {
                let known = TEXTS.iter().copied().chain(["scopes", "autoRegister"]);
                let remedy = did_you_mean(name, known, "remove it");
                member.spot.warn(notes, "unknown key", remedy);
            }
        }
    }
    Some(item)
}

fn scopes(node: &Node<'_>, notes: &mut Notes) -> Vec<String> {
    let fits = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    let mut scopes = Vec::new();
    for (word, spot) in node.words(notes).unwrap_or_default() {
        match word.chars().all(fits) {
            true => scopes.push(word.to_owned()),
            false => spot.error(notes, "is no scope", "write one scope in each text"),
        }
    }
    scopes.truncate(limits::OAUTH_SCOPES);
    scopes
}

/// What it means, with its templates filled in by `expand`.
pub fn oauth<'d>(
    item: &OauthItem<'d>,
    expand: &dyn Fn(&Written<'d>, &mut Notes) -> String,
    notes: &mut Notes,
) -> OauthSpec {
    let mut spec = OauthSpec {
        scopes: item.scopes.clone(),
        auto_register: item.auto_register.unwrap_or(true),
        ..OauthSpec::default()
    };
    for (name, word) in &item.texts {
        let text = expand(word, notes);
        let spot = &word.spot;
        match *name {
            "clientId" => spec.client_id = Some(text),
            "clientSecret" => spec.client_secret = secret(text),
            "privateKey" => spec.private_key = secret(text),
            "clientMetadataUrl" => spec.client_metadata = url(text, spot, notes),
            "redirectUrl" => spec.redirect_url = url(text, spot, notes),
            "issuer" => spec.issuer = url(text, spot, notes),
            "grant" => spec.grant = choice(&text, GRANTS, spot, notes),
            _ => spec.tokens = choice(&text, TOKENS, spot, notes),
        }
    }
    spec
}

const GRANTS: &[(&str, Grant)] = &[
    ("authorization_code", Grant::AuthorizationCode),
    ("client_credentials", Grant::ClientCredentials),
];
const TOKENS: &[(&str, Tokens)] = &[("server", Tokens::Server), ("principal", Tokens::Principal)];

fn choice<T: Copy + Default>(
    text: &str,
    rows: &[(&str, T)],
    spot: &Spot<'_>,
    notes: &mut Notes,
) -> T {
    if let Some((_, value)) = rows.iter().find(|(word, _)| *word == text) {
        return *value;
    }
    let words: Vec<&str> = rows.iter().map(|(word, _)| *word).collect();
    let remedy = format!("write {}", words.join(" or "));
    spot.error(notes, "is no known word", remedy);
    T::default()
}

fn secret(text: String) -> Option<Secret> {
    mask::learn(&text);
    Some(Secret::new(text))
}

/// As it is written: authorization servers compare it letter by letter.
fn url(text: String, spot: &Spot<'_>, notes: &mut Notes) -> Option<String> {
    match Url::parse(&text) {
        Ok(_) => Some(text),
        Err(error) => {
            spot.error(notes, error.to_string(), error.remedy());
            None
        }
    }
}

/// A header of a client that goes to the server, under this name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// In lower case.
    pub from: String,
    pub to: String,
}

/// These never go from a client to a server: they are meant for us, or frame a message.
const NEVER: &[&str] = &[
    "authorization",
    "cookie",
    "cookie2",
    "set-cookie",
    "forwarded",
    "user-agent",
    "origin",
    "content-encoding",
    "accept-encoding",
    "x-api-key",
];

pub fn may_be_handed_on(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let begins = ["mcp-", "proxy-", "x-forwarded-", "sec-", "access-control-"];
    is_token(name)
        && !NEVER.contains(&lower.as_str())
        && !begins.iter().any(|begin| lower.starts_with(begin))
        && !crate::config::remote::is_ours(&lower)
}

/// `forwardHeaders`: names that stay as they are.
pub fn forwarded(node: &Node<'_>, notes: &mut Notes) -> Vec<Mapping> {
    let words = node.words(notes).unwrap_or_default();
    let pairs = words.into_iter().map(|(word, spot)| (word, word, spot));
    mappings(pairs.collect(), notes)
}

/// `headerMap`: the name that a client writes, and the one that the server gets.
pub fn mapped(node: &Node<'_>, notes: &mut Notes) -> Vec<Mapping> {
    let mut pairs = Vec::new();
    for member in node.members(notes).unwrap_or_default() {
        if let Some(to) = member.node.text(notes) {
            pairs.push((member.name, to, member.spot));
        }
    }
    mappings(pairs, notes)
}

fn mappings(pairs: Vec<(&str, &str, Spot<'_>)>, notes: &mut Notes) -> Vec<Mapping> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for (from, to, spot) in pairs {
        if !may_be_handed_on(from) || !may_be_handed_on(to) {
            let remedy = "remove it: what is meant for the gateway stays with it";
            spot.error(notes, "is a header that is never handed on", remedy);
        } else if out.len() == limits::REMOTE_HEADERS || !seen.insert(to.to_ascii_lowercase()) {
            spot.error(notes, "is one too many, or given twice", "remove it");
        } else {
            out.push(Mapping {
                from: from.to_ascii_lowercase(),
                to: to.to_owned(),
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::may_be_handed_on;

    #[test]
    fn what_is_meant_for_the_gateway_stays_with_it() {
        for name in [
            "Authorization",
            "cookie",
            "Mcp-Session-Id",
            "Proxy-Authorization",
            "Host",
            "Content-Length",
            "X-Forwarded-For",
            "a b",
            "",
        ] {
            assert!(!may_be_handed_on(name), "{name}");
        }
        for name in ["X-Tenant", "Accept-Language", "X-Request-Id"] {
            assert!(may_be_handed_on(name), "{name}");
        }
    }
}
