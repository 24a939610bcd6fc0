//! Who a request speaks for, as a token said it that was checked: a value. Deliberately absent:
//! how tokens are checked, and the clock.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::scope::Scopes;

/// What somebody showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// A token that this gateway gave.
    OwnToken,
    /// A token of another issuer.
    Jwt,
    ApiKey,
}

impl Means {
    pub fn as_str(self) -> &'static str {
        match self {
            Means::OwnToken => "token",
            Means::Jwt => "jwt",
            Means::ApiKey => "key",
        }
    }
}

/// Somebody who may come in, and how far. One value for each verified token.
#[derive(Debug)]
pub struct Principal {
    pub issuer: String,
    pub subject: String,
    pub client: String,
    pub means: Means,
    pub scopes: Scopes,
    /// 12 hex digits that stand for the token where it must not go.
    pub token: String,
    /// The grant that the token comes from (`sid`): it ends with that.
    pub family: Option<String>,
    /// Unix time in seconds.
    pub expires_s: Option<u64>,
    key: String,
    is_ended: AtomicBool,
}

impl Principal {
    /// Who it is, who says so, for which client; nothing is open yet.
    pub fn new(means: Means, issuer: &str, subject: &str, client: &str) -> Principal {
        // No part may hold the other parts' bounds.
        let key = format!("{issuer:?} {subject:?} {client:?}");
        Principal {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            client: client.to_owned(),
            means,
            scopes: Scopes::default(),
            token: String::new(),
            family: None,
            expires_s: None,
            key,
            is_ended: AtomicBool::new(false),
        }
    }

    /// Issuer, subject and client as one text: what is kept for one is never given to another.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its token is good no more.
    pub fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
    }

    /// Whether the token was taken back, or has had its time. `now_s`: Unix time.
    pub fn is_over(&self, now_s: u64) -> bool {
        self.is_ended.load(Ordering::Acquire) || self.expires_s.is_some_and(|end| end <= now_s)
    }
}

impl Eq for Principal {}

impl PartialEq for Principal {
    /// The same caller with the same rights, whichever token said so.
    fn eq(&self, other: &Principal) -> bool {
        self.key == other.key && self.scopes == other.scopes
    }
}

#[cfg(test)]
mod tests {
    use super::{Means, Principal};

    #[test]
    fn no_two_callers_have_one_key() {
        let key = |i: &str, s: &str, c: &str| {
            let who = Principal::new(Means::Jwt, i, s, c);
            who.key().to_owned()
        };
        assert_ne!(key("a", "b c", "d"), key("a", "b", "c d"));
        assert_ne!(key("a\" \"b", "c", "d"), key("a", "b\" \"c", "d"));
    }

    #[test]
    fn a_token_ends_by_time_or_by_word() {
        let mut who = Principal::new(Means::OwnToken, "i", "s", "c");
        assert!(!who.is_over(u64::MAX));
        who.expires_s = Some(100);
        assert!(!who.is_over(99) && who.is_over(100));
        who.expires_s = None;
        who.end();
        assert!(who.is_over(0));
    }
}
