//! `gateway.auth`: who may come in, and whose tokens are taken. Values only; the issuers are read
//! from their place in a file, or from the text of a flag or a variable. Pure. Deliberately
//! absent: keys and tokens themselves (`auth`), and the authorization server's settings.

use std::path::PathBuf;

use crate::base::limits;
use crate::config::auth_server::AuthServerSettings;
use crate::config::document::{Lines, Node, Notes, parse};
use crate::config::near::did_you_mean;
use crate::config::problem::Scope;
use crate::model::password::PasswordHash;
use crate::model::scope::Scopes;
use crate::net::url::Url;
use crate::wire::jose::Algorithm;

/// As SETTINGS fills it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthSettings {
    pub enabled: bool,
    /// Whether scopes limit what a token reaches.
    pub scope_validation: bool,
    /// JSON as `check_issuers` accepted it.
    pub issuers: Option<String>,
    /// Named to who asks for no scopes; separated by spaces.
    pub baseline_scopes: String,
    /// The tag that servers without tags are taken to have.
    pub untagged_tag: Option<String>,
    /// A file or a folder; none is a file in the state directory.
    pub keys: Option<PathBuf>,
    /// None is a file in the state directory.
    pub api_key_file: Option<PathBuf>,
    /// Life of an access token of ours.
    pub session_ttl_minutes: u64,
    /// Requests of one principal; 0 is any number.
    pub rate_per_minute: u64,
    /// Requests of one principal in work; 0 is any number.
    pub concurrency: usize,
    /// OAuth endpoints: so many requests of one address within the window.
    pub window_requests: u64,
    pub window_minutes: u64,
    /// Hash of what lets the operator in to consent.
    pub operator_password: Option<PasswordHash>,
    /// A code from the log lets the operator in, too.
    pub login_code: bool,
    /// The authorization server.
    pub server: AuthServerSettings,
}

/// Somebody else whose JWTs are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSpec {
    /// As in `iss`, byte for byte.
    pub issuer: String,
    /// Where its keys are; none is asked of its metadata.
    pub jwks_url: Option<String>,
    /// What `aud` may be instead of our own URL.
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    /// The claim that says what may be reached; dots lead into objects.
    pub scope_claim: String,
    /// What values of that claim stand for; without any they are scopes themselves.
    pub scopes: Vec<(String, String)>,
    pub client_claim: Option<String>,
    /// Certificates (PEM) to trust instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
}

const KEYS: &[&str] = &[
    "issuer",
    "jwksUri",
    "audiences",
    "algorithms",
    "scopeClaim",
    "scopes",
    "clientClaim",
    "caFile",
];

/// For the table of settings.
pub fn check_issuers(node: &Node<'_>, notes: &mut Notes) {
    read(node, notes);
}

/// The issuers of a text that `check_issuers` accepted.
pub fn issuers(settings: &AuthSettings) -> Vec<IssuerSpec> {
    let Some(text) = &settings.issuers else {
        return Vec::new();
    };
    let lines = Lines::new("auth.issuers", text);
    let mut notes = Notes::new(Scope::Setting("auth.issuers"));
    let value = parse(&lines, &mut notes);
    let node = value.as_ref().map(|value| Node::root(&lines, value));
    node.map_or_else(Vec::new, |node| read(&node, &mut notes))
}

fn read(node: &Node<'_>, notes: &mut Notes) -> Vec<IssuerSpec> {
    let elements = node.elements(notes).unwrap_or_default();
    if elements.len() > limits::ISSUERS {
        let message = format!("more than {} issuers", limits::ISSUERS);
        node.spot.error(notes, message, "remove some");
        return Vec::new();
    }
    let mut specs: Vec<IssuerSpec> = Vec::new();
    for element in &elements {
        let Some(spec) = read_one(element, notes) else {
            continue;
        };
        if specs.iter().any(|known| known.issuer == spec.issuer) {
            let remedy = "write each issuer once";
            element
                .spot
                .error(notes, "names an issuer a second time", remedy);
            continue;
        }
        specs.push(spec);
    }
    specs
}

fn read_one(node: &Node<'_>, notes: &mut Notes) -> Option<IssuerSpec> {
    let mut spec = IssuerSpec {
        issuer: String::new(),
        jwks_url: None,
        audiences: Vec::new(),
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
        scope_claim: "scope".into(),
        scopes: Vec::new(),
        client_claim: None,
        ca_file: None,
    };
    for member in node.members(notes)? {
        let value = &member.node;
        match member.name {
            "issuer" => spec.issuer = url(value, notes)?,
            "jwksUri" => spec.jwks_url = Some(url(value, notes)?),
            "audiences" => spec.audiences = words(value, notes)?,
            "algorithms" => spec.algorithms = algorithms(value, notes)?,
            "scopeClaim" => value.text(notes)?.clone_into(&mut spec.scope_claim),
            "scopes" => {
                for pair in value.members(notes)? {
                    let scopes = pair.node.text(notes)?;
                    if let Err(bad) = Scopes::parse(scopes) {
                        let bad = format!("cannot be used: {bad}");
                        pair.spot.error(notes, bad, "correct it");
                    }
                    spec.scopes.push((pair.name.to_owned(), scopes.to_owned()));
                }
            }
            "clientClaim" => spec.client_claim = Some(value.text(notes)?.to_owned()),
            "caFile" => spec.ca_file = Some(PathBuf::from(value.text(notes)?)),
            name => {
                let remedy = did_you_mean(name, KEYS.iter().copied(), "remove it");
                member.spot.error(notes, "unknown key", remedy);
            }
        }
    }
    if spec.issuer.is_empty() {
        let remedy = "write the URL that its tokens have as iss";
        node.spot
            .error(notes, "an issuer without \"issuer\"", remedy);
        return None;
    }
    Some(spec)
}

fn words(node: &Node<'_>, notes: &mut Notes) -> Option<Vec<String>> {
    let words = node.texts(notes)?;
    Some(words.iter().map(|(word, _)| (*word).to_owned()).collect())
}

/// Keys and what they vouch for must not be changed on their way to us.
fn url(node: &Node<'_>, notes: &mut Notes) -> Option<String> {
    let text = node.text(notes)?;
    match Url::parse(text) {
        Ok(url) if url.is_https() || url.is_loopback() => Some(text.to_owned()),
        Ok(_) => {
            let remedy = "write an https URL; http is for loopback only";
            node.spot.error(notes, "the value cannot be used", remedy);
            None
        }
        Err(error) => {
            node.spot
                .error(notes, "the value cannot be used", error.remedy());
            None
        }
    }
}

fn algorithms(node: &Node<'_>, notes: &mut Notes) -> Option<Vec<Algorithm>> {
    let mut known = Vec::new();
    for (word, spot) in node.texts(notes)? {
        match Algorithm::parse(word) {
            Some(algorithm) => known.push(algorithm),
            None => spot.error(notes, "unknown algorithm", "write RS256, ES256 or EdDSA"),
        }
    }
    Some(known)
}
