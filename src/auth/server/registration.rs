//! RFC 7591: a program makes itself known. Bounded in every direction: how often an address may,
//! how many there are that nobody has consented to, how much each may say. What we do not use is
//! dropped; nobody chooses an id.

use std::time::Instant;

use serde_json::Value;

use crate::auth::network;
use crate::auth::server::Server;
use crate::auth::server::client::{self, Client, Origin, hash, is_same_hash};
use crate::auth::server::fault::{Fault, answer};
use crate::auth::server::grant::{random_id, random_text};
use crate::auth::server::redirect_uri::{Author, is_usable};
use crate::auth::server::token::full;
use crate::base::limits::{CLIENT_NAME_BYTES, REDIRECT_URIS, REGISTRATION_BYTES};
use crate::base::template::filled;
use crate::base::time::unix_s;
use crate::config::auth_server::Registration;
use crate::http::{self, Head, Reply};
use crate::journal::audit::rejects::reject;
use crate::journal::audit::{self, Event, Outcome, Reason, Record};
use crate::wire::jose::jws::RULES;
use crate::wire::json::{elements, string_value};
use crate::wire::members::Members;

/// What a program says of itself, as far as we use it.
struct Wish {
    name: String,
    redirect_uris: Vec<String>,
    method: String,
    may_refresh: bool,
    /// `native` or `web`, if it says so.
    kind: String,
}

impl Server {
    /// Answers `/register`.
    pub fn register(&self, head: &Head<'_>, from: &http::Client, body: &[u8]) -> Reply {
        self.try_register(head, from, body).unwrap_or_else(|fault| {
            reject(Record {
                detail: &fault.what,
                ..Record::denied(Event::ClientRegister, Reason::BadRequest)
            });
            fault.reply()
        })
    }

    fn try_register(
        &self,
        head: &Head<'_>,
        from: &http::Client,
        body: &[u8],
    ) -> Result<Reply, Fault> {
        if self.spec.registration == Registration::Off {
            return Err(Fault::absent());
        }
        let now = Instant::now();
        // Any program here may claim any address: it is counted as itself, too.
        if from.peer.is_loopback() && from.peer != from.address {
            let paced = self.local_pace.take(&network(from.peer), now);
            paced.map_err(Fault::too_often)?;
        }
        let paced = self.registrations_pace.take(&network(from.address), now);
        paced.map_err(Fault::too_often)?;
        if self.spec.registration == Registration::Token && !self.has_token(head) {
            return Err(Fault::bearer());
        }
        let wish = read(head, body)?;
        let secret = (wish.method != "none").then(random_text);
        let client = Client {
            id: random_id(),
            name: wish.name.clone(),
            origin: Origin::Registered,
            redirect_uris: wish.redirect_uris.clone(),
            secret_hash: secret.as_deref().map(hash),
            may_refresh: wish.may_refresh,
            is_machine: false,
            most: None,
            created_s: unix_s(),
        };
        client::add(&self.store, &client).map_err(full)?;
        log::info!("client registered id={} name={:?}", client.id, client.name);
        audit::note(Record {
            client: &client.id,
            detail: &client.name,
            ..Record::new(Event::ClientRegister, Outcome::Ok)
        });
        Ok(answer(201, &told(&client, &wish, secret)))
    }

    fn has_token(&self, head: &Head<'_>) -> bool {
        let header = head
            .header("authorization")
            .and_then(|text| text.split_once(' '));
        let shown = header.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let ours = self.spec.registration_token.as_ref();
        shown.zip(ours).is_some_and(|((_, shown), ours)| {
            !ours.expose().is_empty() && is_same_hash(&hash(ours.expose()), &hash(shown.trim()))
        })
    }
}

fn told(client: &Client, wish: &Wish, secret: Option<String>) -> Value {
    let uris = client.redirect_uris.iter().map(|uri| uri.as_str().into());
    let mut grants = vec![Value::from("authorization_code")];
    if wish.may_refresh {
        grants.push("refresh_token".into());
    }
    let mut body = filled(
        r#"{
            "client_id": "$id",
            "client_id_issued_at": "$at",
            "redirect_uris": "$uris",
            "grant_types": "$grants",
            "response_types": ["code"],
            "token_endpoint_auth_method": "$method"
        }"#,
        &[
            ("id", client.id.as_str().into()),
            ("at", client.created_s.into()),
            ("uris", Value::Array(uris.collect())),
            ("grants", Value::Array(grants)),
            ("method", wish.method.as_str().into()),
        ],
    );
    for (name, value) in [
        ("client_name", &wish.name),
        ("application_type", &wish.kind),
    ] {
        if !value.is_empty() {
            body[name] = value.as_str().into();
        }
    }
    if let Some(secret) = secret {
        body["client_secret"] = secret.into();
        body["client_secret_expires_at"] = 0.into();
    }
    body
}

fn bad(what: &str) -> Fault {
    Fault::bad("invalid_client_metadata", what)
}

fn read(head: &Head<'_>, body: &[u8]) -> Result<Wish, Fault> {
    let kind = head.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(bad("the body must be application/json"));
    }
    if body.len() > REGISTRATION_BYTES {
        return Err(bad("the body is too long"));
    }
    let text = std::str::from_utf8(body).map_err(|_| bad("the body is not UTF-8"))?;
    let members = Members::parse(text, 0, RULES);
    let members = members.map_err(|_| bad("the body is no JSON object, or says a thing twice"))?;
    let kind = text_of(&members, "application_type")?;
    if !["", "native", "web"].contains(&kind.as_str()) {
        return Err(bad("application_type must be native or web"));
    }
    let method = match text_of(&members, "token_endpoint_auth_method")? {
        method if method.is_empty() => "client_secret_basic".to_owned(),
        method => method,
    };
    if !["none", "client_secret_basic", "client_secret_post"].contains(&method.as_str()) {
        return Err(bad(
            "token_endpoint_auth_method is not one of those offered",
        ));
    }
    let types = texts_of(&members, "response_types")?;
    if !types.is_empty() && !types.iter().any(|one| one == "code") {
        return Err(bad("response_types must have code"));
    }
    let grants = texts_of(&members, "grant_types")?;
    if !grants.is_empty() && !grants.iter().any(|one| one == "authorization_code") {
        return Err(bad("grant_types must have authorization_code"));
    }
    let name = text_of(&members, "client_name")?;
    if name.len() > CLIENT_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(bad("client_name is too long or holds a control character"));
    }
    Ok(Wish {
        name,
        redirect_uris: redirect_uris(&members)?,
        method,
        may_refresh: grants.iter().any(|one| one == "refresh_token"),
        kind,
    })
}

/// At least one, each of them usable.
pub(super) fn redirect_uris(members: &Members<'_>) -> Result<Vec<String>, Fault> {
    let bad = |what| Fault::bad("invalid_redirect_uri", what);
    let uris = texts_of(members, "redirect_uris")?;
    if uris.is_empty() {
        return Err(bad("redirect_uris is missing"));
    }
    if uris.len() > REDIRECT_URIS {
        return Err(bad("there are too many redirect_uris"));
    }
    match uris.iter().all(|uri| is_usable(uri, Author::Client)) {
        true => Ok(uris),
        false => Err(bad(
            "redirect_uris must be https, http to this machine, or a scheme with a dot in it",
        )),
    }
}

/// A text; nothing when it is missing or null.
pub(super) fn text_of(members: &Members<'_>, name: &str) -> Result<String, Fault> {
    match members.get(name) {
        None | Some("null") => Ok(String::new()),
        Some(raw) => match string_value(raw) {
            Some(text) => Ok(text.into_owned()),
            None => Err(bad(&format!("{name} must be a text"))),
        },
    }
}

pub(super) fn texts_of(members: &Members<'_>, name: &str) -> Result<Vec<String>, Fault> {
    let wrong = || bad(&format!("{name} must be a list of texts"));
    let Some(raw) = members.get(name).filter(|raw| *raw != "null") else {
        return Ok(Vec::new());
    };
    let items = elements(raw, RULES).ok_or_else(wrong)?;
    let mut texts = Vec::new();
    for item in items {
        texts.push(string_value(item).ok_or_else(wrong)?.into_owned());
    }
    Ok(texts)
}
