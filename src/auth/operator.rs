//! The operator: the one person who lets clients in, known by a password or by a one-time code.
//! Who is signed in, and which browsers wait for a code, is in memory, bounded, and forgotten at
//! the end of the gateway; with a shared store it is there (`shared_desk`).
//!
//! Owner: none; connection threads and the control socket share it. Deliberately absent: the
//! pages (`pages`), and how often somebody may try (`pace`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use ring::digest::{SHA256, digest};

use crate::auth::shared_desk::{self, SharedDesk};
use crate::auth::store::{Store, StoreError};
use crate::auth::tokens::Tokens;
use crate::base::limits;
use crate::base::sys::random_bytes;
use crate::base::time::unix_s;
use crate::model::password::PasswordHash;
use crate::wire::base64;

/// Without vowels, which make words, and letters that look like digits.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const DIGITS: &[u8; 10] = b"0123456789";
const CODE_CHARS: usize = 8;
const NUMBER_CHARS: usize = 6;

/// How the operator is called in tokens and in the audit log.
pub const SUBJECT: &str = "operator";

pub struct Operator {
    password: Option<PasswordHash>,
    has_codes: bool,
    desk: Mutex<Desk>,
    /// A password costs a good part of a second of CPU: one is tried at a time.
    trying: Mutex<()>,
    /// In place of the desk, where several gateways share a store.
    shared: Option<SharedDesk>,
}

#[derive(Default)]
struct Desk {
    sessions: Vec<Session>,
    requests: Vec<Request>,
}

/// What stands for a cookie here; the cookie itself is not kept.
type Hash = [u8; 32];

struct Session {
    cookie: Hash,
    until: Instant,
}

/// A browser that waits for a code.
struct Request {
    browser: Hash,
    number: String,
    code: String,
    client: String,
    address: String,
    since: Instant,
    tries: u32,
    is_approved: bool,
}

/// One that waits, for whoever may approve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub number: String,
    pub client: String,
    pub address: String,
    pub age_s: u64,
    pub is_approved: bool,
}

/// What became of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    Right,
    Wrong,
    /// Another one is being tried.
    Busy,
}

/// What became of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    Right,
    Wrong,
    /// There is none for this browser, or no longer.
    Gone,
}

impl Operator {
    pub fn new(password: Option<PasswordHash>, has_codes: bool) -> Operator {
        Operator {
            shared: None,
            password,
            has_codes,
            desk: Mutex::default(),
            trying: Mutex::new(()),
        }
    }

    /// Whoever signs in at one of the gateways that share a store is signed in at all of them.
    pub fn sharing(mut self, store: &Arc<Store>, tokens: &Arc<Tokens>) -> Operator {
        self.shared = store.is_shared().then(|| SharedDesk {
            store: store.clone(),
            tokens: tokens.clone(),
        });
        self
    }

    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    pub fn has_codes(&self) -> bool {
        self.has_codes
    }

    pub fn try_password(&self, password: &str) -> Tried {
        let Some(hash) = &self.password else {
            return Tried::Wrong;
        };
        let _alone = match self.trying.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Tried::Busy,
        };
        match password.len() <= limits::PASSWORD_BYTES && hash.verifies(password) {
            true => Tried::Right,
            false => Tried::Wrong,
        }
    }

    /// Makes a session; the text is for the cookie.
    pub fn sign_in(&self, now: Instant) -> String {
        let cookie = token();
        if let Some(shared) = &self.shared {
            shared.sign_in(&cookie);
            return cookie;
        }
        let mut desk = self.desk(now);
        if desk.sessions.len() >= limits::OPERATOR_SESSIONS {
            desk.sessions.remove(0);
        }
        desk.sessions.push(Session {
            cookie: hashed(&cookie),
            until: now + limits::OPERATOR_SESSION,
        });
        cookie
    }

    pub fn is_signed_in(&self, cookie: &str, now: Instant) -> bool {
        if let Some(shared) = &self.shared {
            return shared.is_signed_in(cookie);
        }
        let hash = hashed(cookie);
        let desk = self.desk(now);
        desk.sessions.iter().any(|one| one.cookie == hash)
    }

    pub fn sign_out(&self, cookie: &str, now: Instant) {
        if let Some(shared) = &self.shared {
            return shared.sign_out(cookie);
        }
        let hash = hashed(cookie);
        self.desk(now).sessions.retain(|one| one.cookie != hash);
    }

    /// Nobody is signed in any more, and nobody waits. How many were.
    ///
    /// # Errors
    /// When the store that several gateways share does not take it.
    pub fn sign_all_out(&self, now: Instant) -> Result<usize, StoreError> {
        if let Some(shared) = &self.shared {
            return shared.sign_all_out();
        }
        let mut desk = self.desk(now);
        desk.requests.clear();
        Ok(std::mem::take(&mut desk.sessions).len())
    }

    /// Makes a code for a browser and writes it to the log; one that it has already stays as it
    /// is. False: too many wait.
    pub fn ask(&self, browser: &str, client: &str, address: &str, now: Instant) -> bool {
        if let Some(shared) = &self.shared {
            return self.ask_shared(shared, browser, client, address);
        }
        let browser = hashed(browser);
        let mut desk = self.desk(now);
        if desk.requests.iter().any(|one| one.browser == browser) {
            return true;
        }
        let of_one = desk.requests.iter().filter(|one| one.address == address);
        let is_full = of_one.count() >= limits::LOGIN_REQUESTS_OF_ONE
            || desk.requests.len() >= limits::LOGIN_REQUESTS;
        if is_full || !self.has_codes {
            return false;
        }
        let number = loop {
            let number = picked::<NUMBER_CHARS>(DIGITS);
            if desk.requests.iter().all(|one| one.number != number) {
                break number;
            }
        };
        let code = picked::<CODE_CHARS>(LETTERS);
        announce(&code, &number, address, client);
        desk.requests.push(Request {
            browser,
            number,
            code,
            client: client.to_owned(),
            address: address.to_owned(),
            since: now,
            tries: 0,
            is_approved: false,
        });
        true
    }

    fn ask_shared(&self, shared: &SharedDesk, browser: &str, client: &str, address: &str) -> bool {
        if shared.request(browser).is_some() {
            return true;
        }
        let requests = shared.requests();
        let of_one = requests.iter().filter(|one| one.address == address);
        if of_one.count() >= limits::LOGIN_REQUESTS_OF_ONE || !self.has_codes {
            return false;
        }
        let number = loop {
            let number = picked::<NUMBER_CHARS>(DIGITS);
            if requests.iter().all(|one| one.number != number) {
                break number;
            }
        };
        let code = picked::<CODE_CHARS>(LETTERS);
        let request = shared_desk::Request {
            browser: String::new(),
            number: number.clone(),
            code_hash: String::new(),
            client: client.to_owned(),
            address: address.to_owned(),
            since_s: unix_s(),
            tries: 0,
            is_approved: false,
        };
        let is_kept = shared.ask(browser, &code, request);
        if is_kept {
            announce(&code, &number, address, client);
        }
        is_kept
    }

    /// The number that the page of this browser shows, while it waits.
    pub fn number(&self, browser: &str, now: Instant) -> Option<String> {
        if let Some(shared) = &self.shared {
            return shared.request(browser).map(|request| request.number);
        }
        let browser = hashed(browser);
        let desk = self.desk(now);
        let request = desk.requests.iter().find(|one| one.browser == browser)?;
        Some(request.number.clone())
    }

    /// Takes the code of a browser, or none when it was approved. What was right is used up.
    pub fn enter(&self, browser: &str, code: &str, now: Instant) -> Entered {
        if let Some(shared) = &self.shared {
            return shared.enter(browser, &plain(code));
        }
        let browser = hashed(browser);
        let mut desk = self.desk(now);
        let Some(at) = desk.requests.iter().position(|one| one.browser == browser) else {
            return Entered::Gone;
        };
        let request = &mut desk.requests[at];
        // Equal hashes say nothing about where texts differ first.
        if request.is_approved || hashed(&plain(code)) == hashed(&request.code) {
            desk.requests.remove(at);
            return Entered::Right;
        }
        // Who presses the button too early has not guessed.
        request.tries += u32::from(!code.is_empty());
        if request.tries >= limits::LOGIN_CODE_TRIES {
            desk.requests.remove(at);
            return Entered::Gone;
        }
        Entered::Wrong
    }

    /// Lets the browser in that shows this number or was given this code.
    pub fn approve(&self, word: &str, now: Instant) -> Option<Waiting> {
        let word = plain(word);
        if let Some(shared) = &self.shared {
            return shared.approve(&word);
        }
        let mut desk = self.desk(now);
        let mut requests = desk.requests.iter_mut();
        let request = requests.find(|one| one.number == word || one.code == word)?;
        request.is_approved = true;
        Some(waiting(request, now))
    }

    /// The browsers that wait, the oldest first.
    pub fn waiting(&self, now: Instant) -> Vec<Waiting> {
        if let Some(shared) = &self.shared {
            return shared
                .requests()
                .iter()
                .map(shared_desk::Request::waiting)
                .collect();
        }
        let desk = self.desk(now);
        let requests = desk.requests.iter();
        requests.map(|request| waiting(request, now)).collect()
    }

    /// Without what is over.
    fn desk(&self, now: Instant) -> MutexGuard<'_, Desk> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.sessions.retain(|one| now < one.until);
        let life = limits::FORM_LIFE;
        desk.requests
            .retain(|one| now.duration_since(one.since) < life);
        desk
    }
}

/// For the operator, who reads the log.
fn announce(code: &str, number: &str, address: &str, client: &str) {
    let (first, last) = code.split_at(CODE_CHARS / 2);
    let minutes = limits::FORM_LIFE.as_secs() / 60;
    log::warn!(
        "login code={first}-{last} request={number} address={address} client={client:?} \
         minutes={minutes}: for whoever opened this login page; else ignore it"
    );
}

fn waiting(request: &Request, now: Instant) -> Waiting {
    Waiting {
        number: request.number.clone(),
        client: request.client.clone(),
        address: request.address.clone(),
        age_s: now.duration_since(request.since).as_secs(),
        is_approved: request.is_approved,
    }
}

fn hashed(text: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// 256 bits for a cookie.
pub fn token() -> String {
    let mut bytes = [0; 32];
    random_bytes(&mut bytes);
    base64::encode_url(&bytes)
}

/// Each character as likely as every other one.
fn picked<const COUNT: usize>(from: &[u8]) -> String {
    let fair = u8::MAX - u8::MAX % u8::try_from(from.len()).unwrap_or(u8::MAX);
    let mut text = String::new();
    while text.len() < COUNT {
        let mut byte = [0; 1];
        random_bytes(&mut byte);
        if byte[0] < fair {
            text.push(char::from(from[usize::from(byte[0]) % from.len()]));
        }
    }
    text
}

/// As it was made, however somebody typed it.
fn plain(text: &str) -> String {
    let kept = text.chars().filter(char::is_ascii_alphanumeric);
    kept.map(|c| c.to_ascii_uppercase()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Entered, Operator, Tried};
    use crate::base::limits;
    use crate::model::password::PasswordHash;

    /// Of "correct horse battery".
    const HASH: &str = "pbkdf2-sha256$100000$AAAAAAAAAAAAAAAAAAAAAA$\
                        bzYmnnISQnrzo8N3R3HpQFDMT_MLZlxtshLEdDCD1Jc";

    fn code_of(operator: &Operator, now: Instant) -> (String, String) {
        let desk = operator.desk(now);
        let request = desk.requests.last().expect("a request");
        (request.number.clone(), request.code.clone())
    }

    #[test]
    fn sessions_end_by_themselves_and_by_hand() {
        let (operator, now) = (Operator::new(None, true), Instant::now());
        let cookie = operator.sign_in(now);
        assert!(operator.is_signed_in(&cookie, now));
        assert!(!operator.is_signed_in("", now));
        let end = now + limits::OPERATOR_SESSION;
        assert!(operator.is_signed_in(&cookie, end - Duration::from_millis(1)));
        let other = operator.sign_in(now);
        operator.sign_out(&other, now);
        assert!(!operator.is_signed_in(&other, now));
        assert!(!operator.is_signed_in(&cookie, end));
        for _ in 0..limits::OPERATOR_SESSIONS + 5 {
            operator.sign_in(now);
        }
        assert_eq!(operator.sign_all_out(now), Ok(limits::OPERATOR_SESSIONS));
    }

    #[test]
    fn a_password_is_right_or_wrong() {
        let operator = Operator::new(PasswordHash::parse(HASH), false);
        assert_eq!(operator.try_password("correct horse battery"), Tried::Right);
        assert_eq!(operator.try_password("correct horse"), Tried::Wrong);
        let long = "x".repeat(limits::PASSWORD_BYTES + 1);
        assert_eq!(operator.try_password(&long), Tried::Wrong);
        assert_eq!(Operator::new(None, true).try_password(""), Tried::Wrong);
        let _busy = operator.trying.lock();
        assert_eq!(operator.try_password("x"), Tried::Busy);
    }

    #[test]
    fn a_code_is_good_once_and_in_its_browser() {
        let (operator, now) = (Operator::new(None, true), Instant::now());
        assert!(operator.ask("browser", "app", "192.0.2.1", now));
        let (number, code) = code_of(&operator, now);
        assert!(operator.ask("browser", "app", "192.0.2.1", now));
        assert_eq!(code_of(&operator, now).1, code, "no second code");
        assert_eq!(operator.number("browser", now), Some(number));
        assert_eq!(operator.enter("other", &code, now), Entered::Gone);
        assert_eq!(operator.enter("browser", "", now), Entered::Wrong);
        let typed = format!(" {}-{} ", &code[..4].to_lowercase(), &code[4..]);
        assert_eq!(operator.enter("browser", &typed, now), Entered::Right);
        assert_eq!(operator.enter("browser", &code, now), Entered::Gone);
    }

    #[test]
    fn guesses_and_age_end_a_code() {
        let (operator, now) = (Operator::new(None, true), Instant::now());
        operator.ask("browser", "app", "192.0.2.1", now);
        for _ in 1..limits::LOGIN_CODE_TRIES {
            assert_eq!(operator.enter("browser", "BBBBBBBA", now), Entered::Wrong);
        }
        assert_eq!(operator.enter("browser", "BBBBBBBA", now), Entered::Gone);
        operator.ask("browser", "app", "192.0.2.1", now);
        let (_, code) = code_of(&operator, now);
        let late = now + limits::FORM_LIFE;
        assert_eq!(operator.enter("browser", &code, late), Entered::Gone);
        assert_eq!(operator.approve(&code, late), None);
    }

    #[test]
    fn who_is_approved_needs_no_code() {
        let (operator, now) = (Operator::new(None, true), Instant::now());
        operator.ask("a", "app", "192.0.2.1", now);
        operator.ask("b", "app", "192.0.2.2", now);
        let (number, _) = code_of(&operator, now);
        assert_eq!(operator.approve("nothing", now), None);
        let approved = operator.approve(&number, now).expect("one");
        assert!(approved.is_approved && approved.address == "192.0.2.2");
        assert_eq!(operator.enter("a", "", now), Entered::Wrong);
        assert_eq!(operator.enter("b", "", now), Entered::Right);
        assert_eq!(operator.waiting(now).len(), 1);
    }

    #[test]
    fn those_who_wait_are_bounded() {
        let (operator, now) = (Operator::new(None, true), Instant::now());
        let ask = |browser: usize, address: usize| {
            let (browser, address) = (browser.to_string(), address.to_string());
            operator.ask(&browser, "app", &address, now)
        };
        let taken = (0..100).filter(|browser| ask(*browser, 1)).count();
        assert_eq!(taken, limits::LOGIN_REQUESTS_OF_ONE);
        let taken = (100..200).filter(|browser| ask(*browser, *browser)).count();
        assert_eq!(
            taken,
            limits::LOGIN_REQUESTS - limits::LOGIN_REQUESTS_OF_ONE
        );
        assert!(!Operator::new(None, false).ask("a", "app", "b", now));
    }
}
