//! Sealed text: what a client carries for us and must neither read nor change nor use elsewhere
//! (AEAD, ChaCha20-Poly1305). A value; the key belongs to the caller. Deliberately absent: expiry
//! and single use, which are the caller's.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::wire::base64;

pub struct SealKey(LessSafeKey);

impl SealKey {
    pub fn new(bytes: &[u8; 32]) -> Option<SealKey> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).ok()?;
        Some(SealKey(LessSafeKey::new(key)))
    }

    /// Text of `[A-Za-z0-9_-]`. It opens only together with the same `bound`. A `nonce` must never
    /// be used twice with one key: take random bytes.
    pub fn seal(&self, bound: &[u8], plain: &[u8], nonce: [u8; NONCE_LEN]) -> Option<String> {
        let mut sealed = plain.to_vec();
        let once = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(once, Aad::from(bound), &mut sealed)
            .ok()?;
        Some(base64::encode_url(&[&nonce[..], &sealed].concat()))
    }

    /// `None`: not sealed by this key, changed, or bound to something else.
    pub fn open(&self, bound: &[u8], text: &str) -> Option<Vec<u8>> {
        let bytes = base64::decode_url(text.as_bytes())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let once = Nonce::assume_unique_for_key(*nonce);
        let plain = self.0.open_in_place(once, Aad::from(bound), &mut sealed);
        plain.ok().map(|plain| plain.to_vec())
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(***)")
    }
}

#[cfg(test)]
#[path = "seal_properties.rs"]
mod properties;

#[cfg(test)]
mod tests {
    use super::SealKey;

    #[test]
    fn opens_only_what_it_sealed_and_only_where_it_belongs() {
        let key = SealKey::new(&[7; 32]).expect("a key");
        let text = key.seal(b"call 1", b"secret", [1; 12]).expect("sealed");
        assert_eq!(key.open(b"call 1", &text).as_deref(), Some(&b"secret"[..]));
        assert_eq!(key.open(b"call 2", &text), None);
        let other = SealKey::new(&[8; 32]).expect("a key");
        assert_eq!(other.open(b"call 1", &text), None);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("text");
            assert_eq!(key.open(b"call 1", &changed), None, "{at}");
        }
        assert_eq!(key.open(b"call 1", ""), None);
    }
}
