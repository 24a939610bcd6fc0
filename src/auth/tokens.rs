//! Our own tokens, from their issue to their end: what signs them, what was revoked, and the
//! principals that they stand for while these are in use.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use crate::auth::keys::KeySet;
use crate::auth::own_token::{Claims, KIND};
use crate::auth::revoked::{Asked, Kind, Revoked};
use crate::base::limits;
use crate::journal::audit::{self, Event, Outcome, Reason, Record};
use crate::model::principal::Principal;
use crate::wire::jose::jws::Jws;

pub struct Tokens {
    /// Without a slash at its end.
    pub issuer: String,
    pub keys: KeySet,
    revoked: Revoked,
    /// Who came in by a token of ours and may still be here, with what the token said.
    given: Mutex<Vec<(Weak<Principal>, Arc<Claims>)>>,
}

impl Tokens {
    pub fn new(issuer: &str, keys: KeySet, revoked: Revoked) -> Tokens {
        Tokens {
            issuer: issuer.to_owned(),
            keys,
            revoked,
            given: Mutex::default(),
        }
    }

    /// What a good token says.
    ///
    /// # Errors
    /// Why it is none of ours, or good no more.
    pub fn verify(&self, token: &Jws<'_>, now_s: u64) -> Result<Claims, Reason> {
        self.keys.verify(token, KIND)?;
        let claims = Claims::read(&token.claims).ok_or(Reason::BadClaims)?;
        if claims.issuer != self.issuer {
            return Err(Reason::BadIssuer);
        }
        if claims.expires_s <= now_s {
            return Err(Reason::Expired);
        }
        if claims.issued_s > now_s + limits::TOKEN_FUTURE_S {
            return Err(Reason::NotYetValid);
        }
        match self.is_revoked(&claims) {
            true => Err(Reason::Revoked),
            false => Ok(claims),
        }
    }

    /// From now on a revocation ends this principal, too.
    pub fn watch(&self, who: &Arc<Principal>, claims: Claims) {
        let claims = Arc::new(claims);
        {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            if given.len() == given.capacity() {
                given.retain(|(who, _)| who.strong_count() > 0);
            }
            given.push((Arc::downgrade(who), claims.clone()));
        }
        // It may have been revoked between its verification and this moment.
        if self.is_revoked(&claims) {
            who.end();
        }
    }

    /// Ends tokens, and whoever is here by one of them, at once.
    ///
    /// # Errors
    /// When it could not be written, after "failed to"; here they have ended nevertheless.
    pub fn revoke(&self, kind: Kind, value: &str, now_s: u64) -> Result<(), String> {
        let added = self.revoked.add(kind, value, now_s);
        self.end_revoked();
        let shown = format!("{} {value}", kind.as_str());
        let mut record = Record::new(Event::TokenRevoke, Outcome::Ok);
        record.name = &shown;
        audit::note(record);
        added
    }

    /// Looks at the files of keys and revocations. True when tokens must be verified anew.
    pub fn look(&self, now: Instant, now_s: u64) -> bool {
        if self.revoked.look(now, now_s) {
            self.end_revoked();
        }
        self.keys.look(now)
    }

    /// The same with the shared store, where there is one.
    ///
    /// # Errors
    /// When it is away, after "failed to".
    pub fn exchange(&self, now_s: u64) -> Result<(), String> {
        if self.revoked.exchange(now_s)? {
            self.end_revoked();
        }
        Ok(())
    }

    fn end_revoked(&self) {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        for (who, claims) in given.iter() {
            if let Some(who) = who.upgrade().filter(|_| self.is_revoked(claims)) {
                who.end();
            }
        }
    }

    /// Whether a token with these claims has ended already.
    pub fn is_revoked(&self, claims: &Claims) -> bool {
        self.revoked.covers(&asked(claims))
    }
}

fn asked(claims: &Claims) -> Asked<'_> {
    Asked {
        family: claims.family.as_deref(),
        id: &claims.id,
        client: &claims.client,
        subject: &claims.subject,
        issued_s: claims.issued_s,
    }
}
