//! Sealed text that is the same for the same input, so that nothing needs to be kept: the nonce is
//! made from all that is sealed. A value; keys are handed in and may be exchanged, and each
//! purpose has its own. Deliberately absent: what is sealed, and for how long it is good.

use std::fmt;

use ring::hmac;

use crate::model::rotating::{Master, Rotating, derived};
use crate::model::seal::SealKey;

pub struct SteadyKey {
    purpose: &'static str,
    keys: Rotating<Key>,
}

struct Key {
    seal: SealKey,
    nonce: hmac::Key,
}

impl SteadyKey {
    pub fn new(purpose: &'static str, masters: &[Master]) -> SteadyKey {
        SteadyKey {
            purpose,
            keys: Rotating::new(keys(purpose, masters)),
        }
    }

    pub fn rotate(&self, masters: &[Master]) {
        self.keys.replace(keys(self.purpose, masters));
    }

    /// `plain` sealed by the first key, good together with `bound` only.
    pub fn seal(&self, bound: &[u8], plain: &[u8]) -> Option<String> {
        let keys = self.keys.all();
        let key = keys.first()?;
        // The same nonce comes back for the same text only.
        let mut all = hmac::Context::with_key(&key.nonce);
        all.update(&(bound.len() as u64).to_le_bytes());
        all.update(bound);
        all.update(plain);
        let nonce = all.sign().as_ref().first_chunk().copied()?;
        key.seal.seal(bound, plain, nonce)
    }

    /// `None`: not sealed by any of these keys, changed, or bound to something else.
    pub fn open(&self, bound: &[u8], text: &str) -> Option<Vec<u8>> {
        let keys = self.keys.all();
        keys.iter().find_map(|key| key.seal.open(bound, text))
    }
}

fn keys(purpose: &str, masters: &[Master]) -> Vec<Key> {
    let derived = |master, part| derived(master, format!("onemcp {purpose} {part}").as_bytes());
    let key = |master| {
        Some(Key {
            seal: SealKey::new(&derived(master, "seal"))?,
            nonce: hmac::Key::new(hmac::HMAC_SHA256, &derived(master, "nonce")),
        })
    };
    masters.iter().filter_map(key).collect()
}

impl fmt::Debug for SteadyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SteadyKey(***)")
    }
}
