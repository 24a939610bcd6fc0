//! The hidden field of a form: which authorization request it is about, for which browser (and
//! which session of the operator), until when, and a number that is used once. Sealed, so it is
//! the protection against forged forms, too: nobody else can make one that fits the cookies.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::store::{Space, Store};
use crate::base::limits;
use crate::base::sys::random_bytes;
use crate::base::time::unix_s;
use crate::model::seal::SealKey;
use crate::wire::hex;

const NONCE_BYTES: usize = 12;
const ID_BYTES: usize = 16;

/// The key of all gateways that share a store, as hexadecimal digits.
const KEY: Space = Space {
    name: "form-key",
    limit: 1,
};
/// Forms that were used, likewise.
const SPENT: Space = Space {
    name: "forms-spent",
    limit: limits::CONSENTS,
};

pub struct Forms {
    /// Of this process. `None` never happens: a key of that length is always one.
    key: Option<SealKey>,
    /// Where the key is, and what was used, if several gateways make forms for each other.
    shared: Option<Arc<Store>>,
    started: Instant,
    /// Unix milliseconds of that moment.
    started_ms: u64,
    spent: Mutex<Vec<([u8; ID_BYTES], Instant)>>,
}

/// What a form was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    id: [u8; ID_BYTES],
    until: Instant,
    /// The query of the authorization request, as it came.
    pub query: String,
}

impl Forms {
    pub fn new(store: &Arc<Store>, now: Instant) -> Forms {
        let mut key = [0; 32];
        random_bytes(&mut key);
        Forms {
            key: SealKey::new(&key),
            shared: store.is_shared().then(|| store.clone()),
            started: now,
            started_ms: unix_s() * 1000,
            spent: Mutex::default(),
        }
    }

    /// `purpose` and `cookies` must be the same when it is opened.
    pub fn seal(&self, purpose: &str, cookies: &[&str], query: &str, now: Instant) -> String {
        let mut random = [0; NONCE_BYTES + ID_BYTES];
        random_bytes(&mut random);
        let (nonce, id) = random.split_at(NONCE_BYTES);
        let until = now + limits::FORM_LIFE - self.started;
        let until = u64::try_from(until.as_millis()).unwrap_or_default() + self.started_ms;
        let plain = [id, &until.to_be_bytes(), query.as_bytes()].concat();
        let mut once = [0; NONCE_BYTES];
        once.copy_from_slice(nonce);
        let bound = bound(purpose, cookies);
        self.with_key(|key| key.seal(&bound, &plain, once))
            .unwrap_or_default()
    }

    /// `None`: made by nobody, for another browser or purpose, or too old.
    pub fn open(&self, purpose: &str, cookies: &[&str], text: &str, now: Instant) -> Option<Form> {
        let plain = self.with_key(|key| key.open(&bound(purpose, cookies), text))?;
        let (id, rest) = plain.split_first_chunk::<ID_BYTES>()?;
        let (until, query) = rest.split_first_chunk::<8>()?;
        let until_ms = u64::from_be_bytes(*until).checked_sub(self.started_ms)?;
        let until = self.started + Duration::from_millis(until_ms);
        let query = String::from_utf8(query.to_vec()).ok()?;
        (now < until).then_some(Form {
            id: *id,
            until,
            query,
        })
    }

    /// `None`: the shared store, which has the key, is away.
    fn with_key<T>(&self, body: impl FnOnce(&SealKey) -> Option<T>) -> Option<T> {
        let Some(shared) = &self.shared else {
            return body(self.key.as_ref()?);
        };
        let mut key = shared.get(KEY, "key").ok()?;
        if key.is_none() {
            let mut new = [0; 32];
            random_bytes(&mut new);
            // Of many who make the first one, one succeeds.
            let put = shared.put_new(KEY, "key", &hex::encode(&new), limits::FORM_KEY_LIFE);
            put.ok()?;
            key = shared.get(KEY, "key").ok()?;
        }
        body(&SealKey::new(&hex::decode(&key?)?.try_into().ok()?)?)
    }

    /// False: it was used before, or too many were within their life.
    pub fn spend(&self, form: &Form, now: Instant) -> bool {
        if let Some(shared) = &self.shared {
            let put = shared.put_new(SPENT, &hex::encode(&form.id), "", limits::FORM_LIFE);
            return put.unwrap_or(false);
        }
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.retain(|(_, until)| now < *until);
        let is_fresh = spent.iter().all(|(id, _)| *id != form.id);
        if !is_fresh || spent.len() >= limits::CONSENTS {
            return false;
        }
        spent.push((form.id, form.until));
        true
    }
}

/// Cookies have no spaces in them.
fn bound(purpose: &str, cookies: &[&str]) -> Vec<u8> {
    format!("{purpose} {}", cookies.join(" ")).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::Forms;
    use crate::auth::store::Store;
    use crate::base::limits;

    fn new(now: Instant) -> Forms {
        Forms::new(&Arc::new(Store::memory()), now)
    }

    #[test]
    fn a_form_is_good_for_its_browser_and_once() {
        let now = Instant::now();
        let forms = new(now);
        let text = forms.seal("consent", &["a", "b"], "x=1", now);
        let form = forms
            .open("consent", &["a", "b"], &text, now)
            .expect("good");
        assert_eq!(form.query, "x=1");
        assert_eq!(forms.open("login", &["a", "b"], &text, now), None);
        assert_eq!(forms.open("consent", &["a", "c"], &text, now), None);
        assert_eq!(forms.open("consent", &["a"], &text, now), None);
        assert_eq!(new(now).open("consent", &["a", "b"], &text, now), None);
        assert!(forms.spend(&form, now));
        assert!(!forms.spend(&form, now));
        let end = now + limits::FORM_LIFE;
        let before = end - Duration::from_millis(2);
        assert!(forms.open("consent", &["a", "b"], &text, before).is_some());
        assert_eq!(forms.open("consent", &["a", "b"], &text, end), None);
    }

    #[test]
    fn what_was_used_is_remembered_within_bounds() {
        let now = Instant::now();
        let forms = new(now);
        let fresh = || {
            let text = forms.seal("consent", &[], "", now);
            forms.open("consent", &[], &text, now).expect("good")
        };
        let taken = (0..limits::CONSENTS + 5).filter(|_| forms.spend(&fresh(), now));
        assert_eq!(taken.count(), limits::CONSENTS);
        let later = now + limits::FORM_LIFE;
        assert!(forms.spend(&fresh(), later));
    }
}
