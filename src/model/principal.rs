//! Who sends a request: proven by a token, and bound to what it opens.

use std::sync::atomic::{AtomicBool, Ordering};

/// How somebody proved who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    OwnToken,
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

#[derive(Debug)]
pub struct Principal {
    pub issuer: String,
    pub subject: String,
    pub client: String,
    pub means: Means,
    /// 12 hex digits that stand for the token in logs; never the token.
    pub token: String,
    over: AtomicBool,
}

impl Principal {
    pub fn new(means: Means, issuer: &str, subject: &str, client: &str) -> Principal {
        Principal {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            client: client.to_owned(),
            means,
            token: String::new(),
            over: AtomicBool::new(false),
        }
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
