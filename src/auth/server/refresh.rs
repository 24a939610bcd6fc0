//! Refresh tokens: one family for each consent, of which one token is good at a time. Each use
//! gives the next one; what was good once and is shown again ends the family, because somebody
//! else has it. All end 30 days after the consent.
//!
//! A token is `FAMILY.PROOF.RANDOM`: the proof is the same in all tokens of a family and shows
//! that a token was one of them, so that nobody ends a family whose name alone is known.

use std::time::Duration;

use crate::auth::revoked::Kind;
use crate::auth::server::Server;
use crate::auth::server::client::{Client, hash, is_same_hash};
use crate::auth::server::fault::Fault;
use crate::auth::server::grant::random_text;
use crate::auth::server::resource::is_ours;
use crate::auth::server::token::{Issue, full, note};
use crate::auth::store::{Space, StoreError};
use crate::base::limits::{FAMILIES, REFRESH_LIFE, ROTATION_LIFE};
use crate::base::time::unix_s;
use crate::http::Reply;
use crate::journal::audit::{self, Event, Reason, Record};
use crate::model::scope::Scopes;
use crate::wire::form::{Form, encode};

const LIVING: Space = Space {
    name: "families",
    limit: FAMILIES,
};
/// Tokens that are being rotated: of many that come at once, one goes on.
const ROTATED: Space = Space {
    name: "rotated",
    limit: FAMILIES,
};
/// Families that were ended while somebody may have been about to write them again.
const ENDED: Space = Space {
    name: "families-ended",
    limit: FAMILIES,
};

/// A consent that lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// `sid` of its access tokens.
    pub id: String,
    pub client: String,
    pub subject: String,
    pub scopes: Scopes,
    pub resource: String,
    /// Unix seconds.
    pub created_s: u64,
    pub end_s: u64,
    proof_hash: String,
    /// Of the one token that is good.
    token_hash: String,
}

impl Family {
    fn to_text(&self) -> String {
        encode(&[
            ("id", &self.id),
            ("client", &self.client),
            ("subject", &self.subject),
            ("scope", &self.scopes.to_string()),
            ("resource", &self.resource),
            ("created", &self.created_s.to_string()),
            ("end", &self.end_s.to_string()),
            ("proof", &self.proof_hash),
            ("token", &self.token_hash),
        ])
    }

    fn from_text(text: &str) -> Option<Family> {
        let form = Form::parse(text.as_bytes()).ok()?;
        let text = |name: &str| form.get(name).map(str::to_owned);
        Some(Family {
            id: text("id")?,
            client: text("client")?,
            subject: text("subject")?,
            scopes: Scopes::parse(form.get("scope")?).ok()?,
            resource: text("resource")?,
            created_s: form.get("created")?.parse().ok()?,
            end_s: form.get("end")?.parse().ok()?,
            proof_hash: text("proof")?,
            token_hash: text("token")?,
        })
    }

    /// The next token, whose proof is known.
    fn next(&mut self, proof: &str) -> String {
        let token = [&self.id, proof, &random_text()].join(".");
        self.token_hash = hash(&token);
        token
    }
}

impl Server {
    /// The first refresh token of what a person granted.
    pub(super) fn begin_family(&self, granted: &Form, client: &Client) -> Result<String, Fault> {
        let text = |name: &str| granted.get(name).unwrap_or_default().to_owned();
        let (created_s, proof) = (unix_s(), random_text());
        let mut family = Family {
            id: text("family"),
            client: client.id.clone(),
            subject: text("subject"),
            scopes: Scopes::parse(&text("scope")).unwrap_or_default(),
            resource: text("resource"),
            created_s,
            end_s: created_s + REFRESH_LIFE.as_secs(),
            proof_hash: hash(&proof),
            token_hash: String::new(),
        };
        let token = family.next(&proof);
        self.keep_family(&family).map_err(full)?;
        Ok(token)
    }

    pub(super) fn refresh(&self, form: &Form, client: &Client) -> Result<Reply, Fault> {
        let shown = form.get("refresh_token");
        let shown = shown.ok_or_else(|| Fault::request("refresh_token is missing"))?;
        let (mut family, proof) = self
            .family_of(shown)
            .map_err(full)?
            .ok_or_else(Fault::grant)?;
        if family.client != client.id {
            // Who shows it is another client: it was stolen.
            return Err(self.reused(&family, Reason::BadClient));
        }
        if !is_same_hash(&family.token_hash, &hash(shown)) {
            return Err(self.reused(&family, Reason::Reused));
        }
        let asked = form.get("resource");
        let is_other = |asked| is_ours(&self.issuer, asked).as_ref() != Some(&family.resource);
        if asked.is_some_and(is_other) {
            let what = "resource is not the one that was consented to";
            return Err(Fault::bad("invalid_target", what));
        }
        let mut scopes = match form.get("scope") {
            None => family.scopes.clone(),
            Some(_) => {
                let wanted = self.read_scopes(form.get("scope"), client);
                wanted.map_err(|[error, what]| Fault::bad(error, what))?
            }
        };
        if !family.scopes.includes(&scopes) {
            let what = "scope is more than was consented to";
            return Err(Fault::bad("invalid_scope", what));
        }
        if let Some(most) = &client.most {
            scopes = scopes.and(most);
        }
        if !self.rotates(shown)? {
            return Err(self.reused(&family, Reason::Reused));
        }
        let token = family.next(&proof);
        self.keep_family(&family).map_err(|error| {
            // Nothing was given for it: it may come again, if that can still be written.
            let _ = self.store.take(ROTATED, shown);
            full(error)
        })?;
        let issue = Issue {
            client: &client.id,
            subject: &family.subject,
            scopes: &scopes,
            resource: &family.resource,
            family: &family.id,
            refresh: Some(&token),
        };
        note(Event::TokenRefresh, &issue);
        self.issue(&issue)
    }

    /// Whether this use of the token is the first.
    fn rotates(&self, shown: &str) -> Result<bool, Fault> {
        self.store
            .put_new(ROTATED, shown, "", ROTATION_LIFE)
            .map_err(full)
    }

    /// The family of a token that is, or was, one of its tokens; and the proof.
    pub(super) fn family_of(&self, token: &str) -> Result<Option<(Family, String)>, StoreError> {
        let Some((id, rest)) = token.split_once('.') else {
            return Ok(None);
        };
        let proof = rest.split_once('.').map_or("", |(proof, _)| proof);
        let text = self.store.get(LIVING, id)?;
        let family = text.and_then(|text| Family::from_text(&text));
        let is_it = |family: &Family| {
            family.end_s > unix_s() && is_same_hash(&family.proof_hash, &hash(proof))
        };
        Ok(family
            .filter(is_it)
            .map(|family| (family, proof.to_owned())))
    }

    fn keep_family(&self, family: &Family) -> Result<(), StoreError> {
        let left_s = family.end_s.saturating_sub(unix_s());
        let life = Duration::from_secs(left_s);
        self.store
            .put(LIVING, &family.id, &family.to_text(), life)?;
        // Who ended it meanwhile removed it before it was written, or is about to.
        if self.store.get(ENDED, &family.id)?.is_some() {
            self.store.take(LIVING, &family.id)?;
        }
        Ok(())
    }

    fn reused(&self, family: &Family, reason: Reason) -> Fault {
        log::warn!(
            "refresh token reused client={:?} family={}",
            family.client,
            family.id
        );
        audit::note(Record {
            client: &family.client,
            subject: &family.subject,
            name: &family.id,
            ..Record::denied(Event::TokenReuse, reason)
        });
        self.end_family(&family.id);
        Fault::grant().because(None)
    }

    /// Ends all tokens that came of one consent. False: not everything could be written down.
    pub fn end_family(&self, id: &str) -> bool {
        let marked = self.store.put(ENDED, id, "1", ROTATION_LIFE);
        let taken = self.store.take(LIVING, id);
        let revoked = self.tokens.revoke(Kind::Family, id, unix_s());
        if let Err(error) = &revoked {
            log::error!("revocation not kept error=\"failed to {error}\"");
        }
        marked.is_ok() && taken.is_ok() && revoked.is_ok()
    }

    /// Every consent that lives.
    ///
    /// # Errors
    /// Those of the store.
    pub fn families(&self) -> Result<Vec<Family>, StoreError> {
        let texts = self.store.values(LIVING)?;
        let families = texts.iter().filter_map(|text| Family::from_text(text));
        Ok(families.collect())
    }
}
