//! What an operator asks about those who may come in: who waits to sign in, which clients there
//! are, what was granted, and its end. Answers of the control socket.

use std::time::Instant;

use serde_json::{Value, json};

use crate::auth::operator::Waiting;
use crate::auth::people::{Known, People};
use crate::auth::server::Server;
use crate::auth::server::client::Origin;
use crate::auth::server::refresh::Family;
use crate::auth::store::StoreError;
use crate::base::exit::{EXIT_FALSE, EXIT_UNREACHABLE};
use crate::base::template::filled;
use crate::base::time;
use crate::gateway::control::Desk;
use crate::gateway::conversation::Conversation;
use crate::gateway::operator::Refused;
use crate::gateway::orders::Done;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthVerb {
    Approve,
    Clients,
    Tokens,
    Revoke,
}

impl AuthVerb {
    pub fn parse(word: &str) -> Option<AuthVerb> {
        match word {
            "approve" => Some(AuthVerb::Approve),
            "clients" => Some(AuthVerb::Clients),
            "tokens" => Some(AuthVerb::Tokens),
            "revoke" => Some(AuthVerb::Revoke),
            _ => None,
        }
    }

    /// As it stands in the log.
    pub fn command(self) -> &'static str {
        match self {
            AuthVerb::Approve => "auth approve",
            AuthVerb::Clients => "auth clients",
            AuthVerb::Tokens => "auth tokens",
            AuthVerb::Revoke => "auth revoke",
        }
    }

    /// Whether something changes by it.
    pub fn steers(self, word: Option<&str>) -> bool {
        match self {
            AuthVerb::Approve => word.is_some(),
            AuthVerb::Clients | AuthVerb::Tokens => false,
            AuthVerb::Revoke => true,
        }
    }
}

pub(super) fn auth(
    desk: &Desk,
    talk: &Conversation<'_>,
    verb: AuthVerb,
    word: Option<&str>,
) -> Done {
    let auth = desk.operator.auth.as_ref();
    let server = auth.and_then(|auth| auth.server.as_ref());
    let (Some(people), Some(server)) = (auth.map(|auth| &auth.people), server) else {
        let error = "this gateway lets nobody in by itself: its authorization server is off";
        return Err(Refused::new(EXIT_UNREACHABLE, error).into());
    };
    match (verb, word) {
        (AuthVerb::Approve, None) => waiting(people, talk),
        (AuthVerb::Approve, Some(word)) => approve(people, word),
        (AuthVerb::Clients, _) => {
            for known in people.clients(server).map_err(unread)? {
                talk.say(&client_line(&known))?;
            }
            Ok(json!({}))
        }
        (AuthVerb::Tokens, _) => {
            for family in server.families().map_err(unread)? {
                talk.say(&grant_line(&family))?;
            }
            Ok(json!({}))
        }
        (AuthVerb::Revoke, word) => revoke(people, server, word.unwrap_or_default()),
    }
}

/// What is kept of clients and grants cannot be read now.
fn unread(error: StoreError) -> Refused {
    let error = format!("failed to read who has access: {error}");
    Refused::new(EXIT_UNREACHABLE, error)
}

fn waiting(people: &People, talk: &Conversation<'_>) -> Done {
    let waiting = people.operator.waiting(Instant::now());
    for one in &waiting {
        talk.say(&waiting_line(one))?;
    }
    match waiting.is_empty() {
        true => Err(Refused::new(EXIT_FALSE, "nobody waits to sign in").into()),
        false => Ok(json!({})),
    }
}

fn approve(people: &People, word: &str) -> Done {
    match people.operator.approve(word, Instant::now()) {
        Some(approved) => Ok(json!({"approved": waiting_line(&approved)})),
        None => {
            let error = "no browser waits with this number or code; onemcp auth approve shows \
                         those that wait";
            Err(Refused::new(EXIT_FALSE, error).into())
        }
    }
}

fn revoke(people: &People, server: &Server, word: &str) -> Done {
    match people.revoke(server, word) {
        Ok(Some(grants)) => Ok(json!({"revoked": grants})),
        Ok(None) => {
            let error = "there is no grant and no client of this name; see onemcp auth tokens and \
                         onemcp auth clients";
            Err(Refused::new(EXIT_FALSE, error).into())
        }
        Err(why) => Err(Refused::new(EXIT_FALSE, format!("failed to {why}")).into()),
    }
}

fn waiting_line(waiting: &Waiting) -> Value {
    filled(
        r#"{"kind": "waiting", "request": "$number", "client": "$client",
            "address": "$address", "ageSeconds": "$age", "approved": "$approved"}"#,
        &[
            ("number", waiting.number.as_str().into()),
            ("client", waiting.client.as_str().into()),
            ("address", waiting.address.as_str().into()),
            ("age", waiting.age_s.into()),
            ("approved", waiting.is_approved.into()),
        ],
    )
}

fn client_line(known: &Known) -> Value {
    let client = &known.client;
    let origin = match client.origin {
        Origin::Configured => "configured",
        Origin::Registered => "registered",
        Origin::Document => "document",
    };
    filled(
        r#"{"kind": "client", "client": "$id", "name": "$name", "origin": "$origin",
            "redirectUris": "$uris", "allowed": "$allowed", "grants": "$grants"}"#,
        &[
            ("id", client.id.as_str().into()),
            ("name", client.name.as_str().into()),
            ("origin", origin.into()),
            ("uris", client.redirect_uris.clone().into()),
            ("allowed", known.allowed.to_string().into()),
            ("grants", known.grants.into()),
        ],
    )
}

fn grant_line(family: &Family) -> Value {
    let moment = time::rfc3339_of_s;
    filled(
        r#"{"kind": "grant", "grant": "$id", "client": "$client", "subject": "$subject",
            "scope": "$scope", "since": "$since", "until": "$until"}"#,
        &[
            ("id", family.id.as_str().into()),
            ("client", family.client.as_str().into()),
            ("subject", family.subject.as_str().into()),
            ("scope", family.scopes.to_string().into()),
            ("since", moment(family.created_s).into()),
            ("until", moment(family.end_s).into()),
        ],
    )
}
