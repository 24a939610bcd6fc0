//! Who is signed in as the operator, and which browsers wait for a code, where several gateways
//! share a store: whatever gateway a browser comes to next, it is known there. Of cookies and
//! codes only hashes are kept; those of codes, which are short, need the signing keys. What cannot
//! be read because the store is away is not there.

use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::auth::operator::{Entered, Waiting};
use crate::auth::store::{Space, Store, StoreError};
use crate::auth::tokens::Tokens;
use crate::base::limits;
use crate::base::sys::random_bytes;
use crate::base::time::unix_s;
use crate::wire::form::{Form, encode};
use crate::wire::hex;

/// By the cookie; the value is the word that counted at the sign-in.
const SESSIONS: Space = Space {
    name: "operators",
    limit: limits::OPERATOR_SESSIONS,
};
/// The word that sessions must have, another one each time when all are signed out: clocks, of
/// which each gateway has its own, say nothing here. None before the first time, and none again
/// when all sessions from before it have ended by themselves. There is one key.
const WORD: Space = Space {
    name: "operators-word",
    limit: 1,
};
const LOGIN_CODE: &str = "onemcp login code";
/// By the hash of the browser's cookie.
const WAITING: Space = Space {
    name: "logins",
    limit: limits::LOGIN_REQUESTS,
};

pub struct SharedDesk {
    pub store: Arc<Store>,
    /// With the keys that all gateways have.
    pub tokens: Arc<Tokens>,
}

/// A browser that waits for a code.
pub struct Request {
    pub browser: String,
    pub number: String,
    pub code_hash: String,
    pub client: String,
    pub address: String,
    pub since_s: u64,
    pub tries: u32,
    pub is_approved: bool,
}

impl Request {
    fn to_text(&self) -> String {
        encode(&[
            ("browser", &self.browser),
            ("number", &self.number),
            ("code", &self.code_hash),
            ("client", &self.client),
            ("address", &self.address),
            ("since", &self.since_s.to_string()),
            ("tries", &self.tries.to_string()),
            ("approved", if self.is_approved { "1" } else { "" }),
        ])
    }

    fn from_text(text: &str) -> Option<Request> {
        let form = Form::parse(text.as_bytes()).ok()?;
        let text = |name: &str| form.get(name).unwrap_or_default().to_owned();
        Some(Request {
            browser: form.get("browser")?.to_owned(),
            number: text("number"),
            code_hash: form.get("code")?.to_owned(),
            client: text("client"),
            address: text("address"),
            since_s: form.get("since")?.parse().ok()?,
            tries: form.get("tries")?.parse().ok()?,
            is_approved: !text("approved").is_empty(),
        })
    }
}

impl SharedDesk {
    pub fn sign_in(&self, cookie: &str) {
        // An empty value would be as none among all values of the store.
        let none = || "none".to_owned();
        let word = self.store.get(WORD, "all");
        let word = word.map(|word| word.unwrap_or_else(none));
        let life = limits::OPERATOR_SESSION;
        let put = word.and_then(|word| self.store.put(SESSIONS, cookie, &word, life));
        note(put.err());
    }

    pub fn is_signed_in(&self, cookie: &str) -> bool {
        let Ok(Some(had)) = self.store.get(SESSIONS, cookie) else {
            return false;
        };
        // Away in between: nobody is.
        let word = self.store.get(WORD, "all");
        word.is_ok_and(|word| word.is_none_or(|word| word == had))
    }

    pub fn sign_out(&self, cookie: &str) {
        note(self.store.take(SESSIONS, cookie).err());
    }

    /// How many were signed in, at most.
    ///
    /// # Errors
    /// When somebody may be signed in, or wait, as before.
    pub fn sign_all_out(&self) -> Result<usize, StoreError> {
        let mut word = [0; 16];
        random_bytes(&mut word);
        // Longer than any session from before it, also of one who is just signing in.
        let life = limits::OPERATOR_SESSION * 2;
        self.store.put(WORD, "all", &hex::encode(&word), life)?;
        for text in self.store.values(WAITING)? {
            if let Some(request) = Request::from_text(&text) {
                self.store.take(WAITING, &request.browser)?;
            }
        }
        Ok(self.store.values(SESSIONS)?.len())
    }

    /// What may stand for a code: the first is what is kept.
    fn marks(&self, code: &str) -> Vec<String> {
        self.tokens.keys.marks(LOGIN_CODE, code)
    }

    /// Those that wait, the oldest first.
    pub fn requests(&self) -> Vec<Request> {
        let texts = self.store.values(WAITING).unwrap_or_default();
        let requests = texts.iter().filter_map(|text| Request::from_text(text));
        let mut requests: Vec<Request> = requests.collect();
        requests.sort_by_key(|request| request.since_s);
        requests
    }

    pub fn request(&self, browser: &str) -> Option<Request> {
        Request::from_text(&self.store.get(WAITING, &hashed(browser)).ok()??)
    }

    /// False: another one was quicker, or it cannot be kept.
    pub fn ask(&self, browser: &str, code: &str, request: Request) -> bool {
        let request = Request {
            browser: hashed(browser),
            code_hash: self.marks(code).into_iter().next().unwrap_or_default(),
            ..request
        };
        self.keep(&request)
    }

    fn keep(&self, request: &Request) -> bool {
        let age_s = unix_s().saturating_sub(request.since_s);
        let left = limits::FORM_LIFE.saturating_sub(Duration::from_secs(age_s));
        let put = self
            .store
            .put_new(WAITING, &request.browser, &request.to_text(), left);
        put.unwrap_or(false)
    }

    /// Of many who come with a code for one browser at the same moment, one is heard.
    pub fn enter(&self, browser: &str, code: &str) -> Entered {
        let taken = self.store.take(WAITING, &hashed(browser)).ok().flatten();
        let Some(mut request) = taken.and_then(|text| Request::from_text(&text)) else {
            return Entered::Gone;
        };
        if request.is_approved || self.marks(code).contains(&request.code_hash) {
            return Entered::Right;
        }
        // Who presses the button too early has not guessed.
        request.tries += u32::from(!code.is_empty());
        match request.tries < limits::LOGIN_CODE_TRIES && self.keep(&request) {
            true => Entered::Wrong,
            false => Entered::Gone,
        }
    }

    /// Lets the browser in that shows this number or was given this code.
    pub fn approve(&self, word: &str) -> Option<Waiting> {
        let marks = self.marks(word);
        let mut requests = self.requests().into_iter();
        let found = requests.find(|one| one.number == word || marks.contains(&one.code_hash))?;
        // Taken, so that nobody who guesses meanwhile puts it back as it was.
        let text = self.store.take(WAITING, &found.browser).ok()??;
        let mut request = Request::from_text(&text)?;
        request.is_approved = true;
        self.keep(&request).then(|| request.waiting())
    }
}

impl Request {
    pub fn waiting(&self) -> Waiting {
        Waiting {
            number: self.number.clone(),
            client: self.client.clone(),
            address: self.address.clone(),
            age_s: unix_s().saturating_sub(self.since_s),
            is_approved: self.is_approved,
        }
    }
}

fn hashed(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()).as_ref())
}

fn note(error: Option<StoreError>) {
    if let Some(error) = error {
        log::warn!("operator's session not kept error=\"{error}\"");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use ring::digest::{SHA256, digest};

    use super::{Entered, Request, SharedDesk, WAITING};
    use crate::auth::keys::KeySet;
    use crate::auth::revoked::Revoked;
    use crate::auth::store::Store;
    use crate::auth::tokens::Tokens;
    use crate::base::time::unix_s;
    use crate::net::redis::spec::Spec;
    use crate::net::redis::{Redis, RedisServer};
    use crate::wire::hex;

    fn shared(url: &str) -> Arc<Store> {
        let redis = Redis::new(Spec::parse(url).expect("a URL")).expect("a client");
        Arc::new(Store::Shared(Arc::new(redis)))
    }

    /// One of several, with keys of its own.
    fn desk(store: &Arc<Store>) -> SharedDesk {
        let keys = KeySet::open(None, false).expect("a key");
        let revoked = Revoked::open(None, None, unix_s()).expect("nothing to read");
        SharedDesk {
            store: store.clone(),
            tokens: Arc::new(Tokens::new("http://localhost", keys, revoked)),
        }
    }

    #[test]
    fn who_signs_in_in_the_second_in_which_all_were_signed_out_stays() {
        sign_out_all(&Arc::new(Store::memory()));
        if let Some(server) = RedisServer::start(&[]) {
            sign_out_all(&shared(&server.url()));
        }
    }

    fn sign_out_all(store: &Arc<Store>) {
        let (one, two) = (desk(store), desk(store));
        one.sign_in("before");
        assert!(two.is_signed_in("before"));
        assert_eq!(two.sign_all_out().ok(), Some(1));
        assert!(!one.is_signed_in("before"));
        one.sign_in("after");
        assert!(two.is_signed_in("after"));
        assert!(two.sign_all_out().is_ok());
        assert!(!one.is_signed_in("after") && !one.is_signed_in("before"));
    }

    #[test]
    fn a_store_that_does_not_take_it_that_all_are_signed_out_is_told_of() {
        let nobody = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let nobody = nobody.expect("an address");
        assert!(
            desk(&shared(&format!("redis://{nobody}")))
                .sign_all_out()
                .is_err()
        );
    }

    #[test]
    fn what_is_kept_of_a_code_says_nothing_to_who_lacks_the_keys() {
        let store = Arc::new(Store::memory());
        let (one, stranger) = (desk(&store), desk(&store));
        let request = Request {
            browser: String::new(),
            number: "123456".to_owned(),
            code_hash: String::new(),
            client: "app".to_owned(),
            address: "192.0.2.1".to_owned(),
            since_s: unix_s(),
            tries: 0,
            is_approved: false,
        };
        assert!(one.ask("browser", "BCDFGHJK", request));
        let kept = store.values(WAITING).expect("there").concat();
        let plain = digest(&SHA256, b"BCDFGHJK");
        assert!(!kept.contains(&hex::encode(plain.as_ref())), "{kept}");
        assert_eq!(stranger.enter("browser", "BCDFGHJK"), Entered::Wrong);
        assert!(stranger.approve("BCDFGHJK").is_none());
        assert_eq!(one.enter("browser", "BCDFGHJK"), Entered::Right);
    }
}
