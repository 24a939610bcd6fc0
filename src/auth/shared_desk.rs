//! Who is signed in as the operator, and which browsers wait for a code, where several gateways
//! share a store: whatever gateway a browser comes to next, it is known there. Of cookies and
//! codes only hashes are kept. What cannot be read because the store is away is not there.

use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::auth::operator::{Entered, Waiting};
use crate::auth::store::{Space, Store};
use crate::base::limits;
use crate::base::time::unix_s;
use crate::wire::form::{Form, encode};
use crate::wire::hex;

/// By the cookie; the value is the second of the sign-in.
const SESSIONS: Space = Space {
    name: "operators",
    limit: limits::OPERATOR_SESSIONS,
};
/// Since when sessions count: there is one key.
const SINCE: Space = Space {
    name: "operators-since",
    limit: 1,
};
/// By the hash of the browser's cookie.
const WAITING: Space = Space {
    name: "logins",
    limit: limits::LOGIN_REQUESTS,
};

pub struct SharedDesk(pub Arc<Store>);

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
        let life = limits::OPERATOR_SESSION;
        let put = self.0.put(SESSIONS, cookie, &unix_s().to_string(), life);
        note(put.err());
    }

    pub fn is_signed_in(&self, cookie: &str) -> bool {
        let Some(at) = self.seconds(SESSIONS, cookie) else {
            return false;
        };
        // Away in between: nobody is.
        match self.0.get(SINCE, "all") {
            Ok(since) => since.is_none_or(|since| since.parse().is_ok_and(|since: u64| at > since)),
            Err(_) => false,
        }
    }

    pub fn sign_out(&self, cookie: &str) {
        note(self.0.take(SESSIONS, cookie).err());
    }

    /// How many were signed in.
    pub fn sign_all_out(&self) -> usize {
        let count = self.0.values(SESSIONS).map_or(0, |values| values.len());
        let life = limits::OPERATOR_SESSION;
        note(self.0.put(SINCE, "all", &unix_s().to_string(), life).err());
        for request in self.requests() {
            note(self.0.take(WAITING, &request.browser).err());
        }
        count
    }

    fn seconds(&self, space: Space, key: &str) -> Option<u64> {
        self.0.get(space, key).ok()??.parse().ok()
    }

    /// Those that wait, the oldest first.
    pub fn requests(&self) -> Vec<Request> {
        let texts = self.0.values(WAITING).unwrap_or_default();
        let requests = texts.iter().filter_map(|text| Request::from_text(text));
        let mut requests: Vec<Request> = requests.collect();
        requests.sort_by_key(|request| request.since_s);
        requests
    }

    pub fn request(&self, browser: &str) -> Option<Request> {
        Request::from_text(&self.0.get(WAITING, &hashed(browser)).ok()??)
    }

    /// False: another one was quicker, or it cannot be kept.
    pub fn ask(&self, browser: &str, code: &str, request: Request) -> bool {
        let request = Request {
            browser: hashed(browser),
            code_hash: hashed(code),
            ..request
        };
        self.keep(&request)
    }

    fn keep(&self, request: &Request) -> bool {
        let age_s = unix_s().saturating_sub(request.since_s);
        let left = limits::FORM_LIFE.saturating_sub(Duration::from_secs(age_s));
        let put = self
            .0
            .put_new(WAITING, &request.browser, &request.to_text(), left);
        put.unwrap_or(false)
    }

    /// Of many who come with a code for one browser at the same moment, one is heard.
    pub fn enter(&self, browser: &str, code: &str) -> Entered {
        let taken = self.0.take(WAITING, &hashed(browser)).ok().flatten();
        let Some(mut request) = taken.and_then(|text| Request::from_text(&text)) else {
            return Entered::Gone;
        };
        if request.is_approved || hashed(code) == request.code_hash {
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
        let hash = hashed(word);
        let mut requests = self.requests().into_iter();
        let found = requests.find(|one| one.number == word || one.code_hash == hash)?;
        // Taken, so that nobody who guesses meanwhile puts it back as it was.
        let text = self.0.take(WAITING, &found.browser).ok()??;
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

fn note(error: Option<crate::auth::store::StoreError>) {
    if let Some(error) = error {
        log::warn!("operator's session not kept error=\"{error}\"");
    }
}
