//! The cursor of our own list pages: opaque text that names the last entry returned.
//!
//! Sealed, so that nobody can put a place into it that was never given out, and bound to its
//! kind of list and its view. A value; the key belongs to the caller. Deliberately absent:
//! expiry (a cursor stays good while the catalogue changes) and secrecy (it holds only names
//! that its reader has just been shown).

use std::fmt;

use ring::hmac;

use crate::base::limits;
use crate::mcp::list::ListKind;
use crate::model::order::Mark;
use crate::model::rotating::{Master, Rotating};
use crate::wire::base64;

const FORMAT: u8 = 1;
/// Keeps the seal apart from whatever else the same key may seal.
const PURPOSE: &[u8] = b"onemcp list cursor\0";
/// HMAC-SHA256.
const SEAL_BYTES: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub kind: ListKind,
    /// A digest of everything that decides which entries the list holds.
    pub view: u64,
    /// Whose entry was the last one, and where this server stood in the order.
    pub server: String,
    pub server_index: u32,
    pub mark: Mark,
}

/// All of them are -32602 to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorError {
    TooLong,
    /// Not one of ours, or changed.
    Forged,
    /// Ours, but given out for another list or view.
    Foreign,
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CursorError::TooLong => "read the cursor: too long; list again without a cursor",
            CursorError::Forged => {
                "read the cursor: not one of this gateway; list again without a cursor"
            }
            CursorError::Foreign => {
                "use the cursor: it belongs to another list; list again without a cursor"
            }
        })
    }
}

impl std::error::Error for CursorError {}

/// What seals cursors. The same masters in every replica make cursors good at all of them.
pub struct CursorKey(Rotating<hmac::Key>);

impl CursorKey {
    pub fn new(masters: &[Master]) -> CursorKey {
        CursorKey(Rotating::new(keys(masters)))
    }

    pub fn rotate(&self, masters: &[Master]) {
        self.0.replace(keys(masters));
    }

    fn seal(&self, payload: &[u8]) -> Option<hmac::Tag> {
        let keys = self.0.all();
        let key = keys.first()?;
        Some(hmac::sign(key, &[PURPOSE, payload].concat()))
    }

    /// In constant time, which is why the seal is the whole of HMAC-SHA256.
    fn verify(&self, payload: &[u8], seal: &[u8; SEAL_BYTES]) -> Result<(), CursorError> {
        let sealed = [PURPOSE, payload].concat();
        let keys = self.0.all();
        let mut keys = keys.iter();
        let is_good = keys.any(|key| hmac::verify(key, &sealed, seal).is_ok());
        is_good.then_some(()).ok_or(CursorError::Forged)
    }
}

fn keys(masters: &[Master]) -> Vec<hmac::Key> {
    let masters = masters.iter();
    let keys = masters.map(|master| hmac::Key::new(hmac::HMAC_SHA256, master));
    keys.collect()
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey(***)")
    }
}

impl Cursor {
    /// Text of `[A-Za-z0-9_-]`, within the bound as server names and marks are bounded.
    pub fn seal(&self, key: &CursorKey) -> String {
        let mut bytes = Vec::with_capacity(64 + self.server.len() + self.mark.name.len());
        bytes.push(FORMAT);
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.view.to_le_bytes());
        put_number(&mut bytes, u64::from(self.server_index));
        put_number(&mut bytes, self.mark.place);
        put_number(&mut bytes, self.mark.index);
        put_number(&mut bytes, self.server.len() as u64);
        bytes.extend_from_slice(self.server.as_bytes());
        bytes.extend_from_slice(self.mark.name.as_bytes());
        if let Some(seal) = key.seal(&bytes) {
            bytes.extend_from_slice(seal.as_ref());
        }
        base64::encode_url(&bytes)
    }

    pub fn open(text: &str, key: &CursorKey) -> Result<Cursor, CursorError> {
        if text.len() > limits::CURSOR_BYTES {
            return Err(CursorError::TooLong);
        }
        let bytes = base64::decode_url(text.as_bytes()).ok_or(CursorError::Forged)?;
        let (payload, seal) = bytes
            .split_last_chunk::<SEAL_BYTES>()
            .ok_or(CursorError::Forged)?;
        key.verify(payload, seal)?;
        // Sealed by us, but perhaps by another release.
        decoded(payload).ok_or(CursorError::Forged)
    }

    /// Refuses a cursor that was given out for another list.
    pub fn expect(self, kind: ListKind, view: u64) -> Result<Cursor, CursorError> {
        if self.kind == kind && self.view == view {
            Ok(self)
        } else {
            Err(CursorError::Foreign)
        }
    }
}

fn decoded(payload: &[u8]) -> Option<Cursor> {
    let (&format, rest) = payload.split_first()?;
    let (&kind, rest) = rest.split_first()?;
    let (view, mut rest) = rest.split_first_chunk::<8>()?;
    if format != FORMAT {
        return None;
    }
    let server_index = u32::try_from(take_number(&mut rest)?).ok()?;
    let place = take_number(&mut rest)?;
    let index = take_number(&mut rest)?;
    let server_bytes = usize::try_from(take_number(&mut rest)?).ok()?;
    let (server, name) = rest.split_at_checked(server_bytes)?;
    Some(Cursor {
        kind: *ListKind::ALL.get(usize::from(kind))?,
        view: u64::from_le_bytes(*view),
        server: str::from_utf8(server).ok()?.to_owned(),
        server_index,
        mark: Mark {
            name: str::from_utf8(name).ok()?.to_owned(),
            place,
            index,
        },
    })
}

/// Seven bits a byte, lowest first; the top bit says that more follow.
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
#[path = "cursor_properties.rs"]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CursorKey {
        CursorKey::new(&[[7; 32]])
    }

    fn cursor(server: &str, name: &str) -> Cursor {
        let mark = Mark {
            name: name.to_owned(),
            place: 300,
            index: u64::MAX,
        };
        Cursor {
            kind: ListKind::Templates,
            view: 0x0123_4567_89AB_CDEF,
            server: server.to_owned(),
            server_index: u32::MAX,
            mark,
        }
    }

    #[test]
    fn opens_what_it_sealed() {
        for (server, name) in [
            ("fs", "read_file"),
            ("", ""),
            ("github.com/x/y", "読む"),
            ("\0", "a\0b"),
        ] {
            for kind in ListKind::ALL {
                let cursor = Cursor {
                    kind,
                    ..cursor(server, name)
                };
                let text = cursor.seal(&key());
                assert!(
                    text.bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
                    "{text}"
                );
                assert_eq!(Cursor::open(&text, &key()), Ok(cursor));
            }
        }
    }

    #[test]
    fn the_longest_cursor_is_within_the_bound() {
        let server = "s".repeat(limits::SERVER_NAME_BYTES);
        let cursor = cursor(&server, &"n".repeat(limits::CURSOR_NAME_BYTES));
        let text = cursor.seal(&key());
        assert!(text.len() <= limits::CURSOR_BYTES, "{}", text.len());
        assert_eq!(Cursor::open(&text, &key()), Ok(cursor));
    }

    #[test]
    fn every_changed_character_is_refused() {
        for name in ["a", "ab", "abc"] {
            let text = cursor("fs", name).seal(&key());
            for at in 0..text.len() {
                for character in (0..=127).map(char::from) {
                    let mut changed = text.clone();
                    changed.replace_range(at..=at, character.encode_utf8(&mut [0; 4]));
                    if changed != text {
                        let found = Cursor::open(&changed, &key());
                        assert_eq!(found, Err(CursorError::Forged), "{at} {character:?}");
                    }
                }
                assert_eq!(Cursor::open(&text[..at], &key()), Err(CursorError::Forged));
                assert_eq!(
                    Cursor::open(&text[at + 1..], &key()),
                    Err(CursorError::Forged)
                );
            }
            for tail in ["A", "=", "\n", " "] {
                let longer = format!("{text}{tail}");
                assert_eq!(Cursor::open(&longer, &key()), Err(CursorError::Forged));
            }
        }
    }

    #[test]
    fn strangers_are_refused() {
        let text = cursor("fs", "a").seal(&key());
        let other_key = CursorKey::new(&[[8; 32]]);
        assert_eq!(Cursor::open(&text, &other_key), Err(CursorError::Forged));
        for forged in ["", "A", "null", "eyJ2IjoxfQ", "ä", "\0"] {
            assert_eq!(
                Cursor::open(forged, &key()),
                Err(CursorError::Forged),
                "{forged:?}"
            );
        }
        let long = "A".repeat(limits::CURSOR_BYTES + 1);
        assert_eq!(Cursor::open(&long, &key()), Err(CursorError::TooLong));
        let view = cursor("fs", "a").view;
        assert!(cursor("fs", "a").expect(ListKind::Templates, view).is_ok());
        for (kind, view) in [(ListKind::Tools, view), (ListKind::Templates, view + 1)] {
            assert_eq!(
                cursor("fs", "a").expect(kind, view),
                Err(CursorError::Foreign)
            );
        }
    }

    /// What another release sealed with the same key is refused, not misread.
    #[test]
    fn sealed_nonsense_is_refused() {
        let payload: &[u8] = &[FORMAT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0];
        let sealed = |payload: &[u8]| {
            let seal = key().seal(payload).expect("a key");
            let bytes = [payload, seal.as_ref()].concat();
            Cursor::open(&base64::encode_url(&bytes), &key())
        };
        for length in 0..payload.len() {
            assert_eq!(
                sealed(&payload[..length]),
                Err(CursorError::Forged),
                "{length}"
            );
        }
        let cases: [(usize, u8); 4] = [(0, 2), (1, 4), (12, 0x80), (13, 9)];
        for (at, value) in cases {
            let mut changed = payload.to_vec();
            changed[at] = value;
            assert_eq!(sealed(&changed), Err(CursorError::Forged), "{at}");
        }
        let endless = [&payload[..10], &[0xFF; 40]].concat();
        assert_eq!(sealed(&endless), Err(CursorError::Forged));
    }
}
