//! The token endpoint: who asks, with which grant, and the answer. Forms only.

use std::time::Instant;

use crate::auth::network;
use crate::auth::own_token::Claims;
use crate::auth::server::client::{self, Client};
use crate::auth::server::fault::{Fault, answer};
use crate::auth::server::grant::random_text;
use crate::auth::server::{Server, cimd};
use crate::auth::store::StoreError;
use crate::base::limits::{CLIENT_ID_BYTES, TOKEN_FORM_BYTES};
use crate::base::template::filled;
use crate::base::time::unix_s;
use crate::http::{self, Head, Reply};
use crate::journal::audit::rejects::reject;
use crate::journal::audit::{self, Event, Outcome, Record};
use crate::model::scope::Scopes;
use crate::wire::base64::decode_standard;
use crate::wire::form::{self, Form};

/// What a token is given for.
pub(super) struct Issue<'i> {
    pub(super) client: &'i str,
    pub(super) subject: &'i str,
    pub(super) scopes: &'i Scopes,
    pub(super) resource: &'i str,
    pub(super) family: &'i str,
    pub(super) refresh: Option<&'i str>,
}

impl Server {
    /// Answers `/token`.
    pub fn token(&self, head: &Head<'_>, from: &http::Client, body: &[u8]) -> Reply {
        self.try_token(head, from, body)
            .unwrap_or_else(|fault| fault.reply())
    }

    fn try_token(&self, head: &Head<'_>, from: &http::Client, body: &[u8]) -> Result<Reply, Fault> {
        let form = read_form(head, body)?;
        let grant = form.get("grant_type");
        let grant = grant.ok_or_else(|| Fault::request("grant_type is missing"))?;
        if !["authorization_code", "refresh_token", "client_credentials"].contains(&grant) {
            let what = "grant_type must be authorization_code, refresh_token or client_credentials";
            return Err(Fault::bad("unsupported_grant_type", what));
        }
        let client = self.authenticate(head, &form, from)?;
        let done = match grant {
            "authorization_code" => self.redeem(&form, &client),
            "refresh_token" => self.refresh(&form, &client),
            _ => self.serve_machine(&form, &client),
        };
        done.inspect_err(|fault| {
            if let Some(reason) = fault.reason {
                reject(Record {
                    client: &client.id,
                    name: grant,
                    ..Record::denied(Event::AuthFail, reason)
                });
            }
        })
    }

    /// The client that asks, if it shows that it is it: by a header, by fields, or, a public one,
    /// by its name.
    pub(super) fn authenticate(
        &self,
        head: &Head<'_>,
        form: &Form,
        from: &http::Client,
    ) -> Result<Client, Fault> {
        let shown = shown(head, form)?;
        if shown.id.is_empty() || shown.id.len() > CLIENT_ID_BYTES {
            return Err(Fault::client(shown.used_basic));
        }
        if shown.secret.is_some() {
            let key = format!("{} {}", network(from.address), shown.id);
            let paced = self.secrets_pace.take(&key, Instant::now());
            paced.map_err(|wait| {
                reject(Record {
                    client: &shown.id,
                    ..Record::denied(Event::RateLimit, audit::Reason::TooOften)
                });
                Fault::too_often(wait)
            })?;
        }
        let known = self.client(&shown.id).map_err(full)?;
        // A client that is not known takes the same way as a wrong secret.
        let hash = shown.secret.as_deref().map(client::hash);
        let kept = known
            .as_ref()
            .and_then(|client| client.secret_hash.as_deref());
        let is_it = match (kept, &hash) {
            (Some(kept), Some(hash)) => client::is_same_hash(kept, hash),
            (None, None) => known.is_some(),
            _ => false,
        };
        known.filter(|_| is_it).ok_or_else(|| {
            reject(Record {
                client: &shown.id,
                ..Record::denied(Event::AuthFail, audit::Reason::BadClient)
            });
            Fault::client(shown.used_basic)
        })
    }

    /// A client by its id, without asking anybody. One with a document of its own is public, and
    /// what it shows besides was given to that id alone.
    fn client(&self, id: &str) -> Result<Option<Client>, StoreError> {
        let known = self.clients.iter().find(|client| client.id == id);
        if let Some(known) = known {
            return Ok(Some(known.clone()));
        }
        match cimd::place(id) {
            Some(place) if self.documents.allows(&place) => {
                let known = self.documents.known(id).flatten();
                Ok(Some(known.unwrap_or_else(|| cimd::bare(id))))
            }
            Some(_) => Ok(None),
            None => client::registered(&self.store, id),
        }
    }

    /// Signs a token and answers with it.
    pub(super) fn issue(&self, issue: &Issue<'_>) -> Result<Reply, Fault> {
        let (now_s, life_s) = (unix_s(), self.life.as_secs());
        let mut claims = Claims {
            issuer: self.issuer.clone(),
            subject: issue.subject.to_owned(),
            client: issue.client.to_owned(),
            audience: issue.resource.to_owned(),
            scope: issue.scopes.to_string(),
            family: Some(issue.family.to_owned()),
            id: random_text(),
            issued_s: now_s,
            expires_s: now_s + life_s,
        };
        // Those of this second were taken back; this one is given after that.
        if self.tokens.is_revoked(&claims) {
            claims.issued_s += 1;
        }
        let token = claims.signed(&self.tokens.keys).ok_or_else(Fault::full)?;
        let mut body = filled(
            r#"{"access_token": "$token", "token_type": "Bearer", "expires_in": "$life"}"#,
            &[("token", token.into()), ("life", life_s.into())],
        );
        if let Some(refresh) = issue.refresh {
            body["refresh_token"] = refresh.into();
        }
        body["scope"] = claims.scope.as_str().into();
        Ok(answer(200, &body))
    }
}

/// What was issued, for the audit log.
pub(super) fn note(event: Event, issue: &Issue<'_>) {
    if !audit::is_on() {
        return;
    }
    audit::note(Record {
        client: issue.client,
        subject: issue.subject,
        name: issue.resource,
        scopes_used: &issue.scopes.to_string(),
        ..Record::new(event, Outcome::Ok)
    });
}

pub(super) fn full(error: StoreError) -> Fault {
    log::error!("token not issued error=\"{error}\"");
    match error {
        StoreError::Away(_) => Fault::away(),
        _ => Fault::full(),
    }
}

/// The form of a request that may carry secrets: in its body, nowhere else.
pub(super) fn read_form(head: &Head<'_>, body: &[u8]) -> Result<Form, Fault> {
    let kind = head.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let what = "the body must be application/x-www-form-urlencoded";
        return Err(Fault::request(what));
    }
    if head.query.is_some_and(|query| !query.is_empty()) {
        return Err(Fault::request("parameters belong into the body"));
    }
    if body.len() > TOKEN_FORM_BYTES {
        return Err(Fault::request("the body is too long"));
    }
    let form = Form::parse(body).map_err(|error| Fault::request(error.to_string()))?;
    match form.repeated() {
        Some(_) => Err(Fault::request("a parameter is given twice")),
        None => Ok(form),
    }
}

/// What a client shows of itself.
struct Shown {
    id: String,
    secret: Option<String>,
    used_basic: bool,
}

fn shown(head: &Head<'_>, form: &Form) -> Result<Shown, Fault> {
    let mut headers = head.header_values("authorization");
    let header = headers.next();
    if headers.next().is_some() {
        return Err(Fault::request("there are two Authorization headers"));
    }
    if form.get("client_assertion").is_some() {
        // Of all ways to show who one is, this one is not there.
        return Err(Fault::client(false));
    }
    let (id, secret) = (form.get("client_id"), form.get("client_secret"));
    let Some(header) = header else {
        return Ok(Shown {
            id: id.unwrap_or_default().to_owned(),
            secret: secret.map(str::to_owned),
            used_basic: false,
        });
    };
    let (from_header, secret_of_header) = basic(header).ok_or_else(|| Fault::client(true))?;
    if secret.is_some() || id.is_some_and(|id| id != from_header) {
        return Err(Fault::request("the client shows itself in two ways"));
    }
    Ok(Shown {
        id: from_header,
        secret: (!secret_of_header.is_empty()).then_some(secret_of_header),
        used_basic: true,
    })
}

/// RFC 6749 2.3.1: both parts are form-encoded inside.
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, text) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = decode_standard(text.trim().as_bytes())?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let (id, secret) = (&pair[..colon], &pair[colon + 1..]);
    Some((form::decode(id)?, form::decode(secret)?))
}
