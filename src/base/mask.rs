//! Secret texts that this process knows, so that none of them is repeated in a line that people
//! read, whoever wrote it. One pass over the text, however many secrets there are. Process-wide,
//! like the log. Deliberately absent: forgetting. A server may repeat an old secret for long;
//! the oldest go when there are too many.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::base::{limits, ordered};

/// What stands for a secret.
pub const MASK: &str = "***";

/// Shorter texts are no secrets, and would blot out ordinary words.
pub const LEAST_BYTES: usize = 8;

static KNOWN: RwLock<Option<Known>> = RwLock::new(None);
/// How many were learnt. Most gateways know none: then nothing is looked for.
static LEARNT: AtomicU64 = AtomicU64::new(0);

/// From now on `value` is masked, also as it looks inside JSON, in debug texts and in URLs.
pub fn learn(value: &str) {
    let value = value.trim();
    if value.len() < LEAST_BYTES {
        return;
    }
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_with(Known::default);
    if !known.has(value) {
        known.add(value);
        LEARNT.fetch_add(1, Ordering::Relaxed);
    }
}

/// What was masked before stays good for as long as this does not change.
#[inline]
pub fn learnt() -> u64 {
    LEARNT.load(Ordering::Relaxed)
}

/// `text` without any secret that is known.
pub fn masked(text: &str) -> Cow<'_, str> {
    if learnt() == 0 {
        return Cow::Borrowed(text);
    }
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some(known) => known.masked(text),
        None => Cow::Borrowed(text),
    }
}

/// Words of the filter: one bit for each value of 16 bits.
const WORDS: usize = 1024;

type Start = [u8; LEAST_BYTES];

struct Known {
    /// As they were learnt, the oldest first.
    values: VecDeque<String>,
    /// Their forms by their first bytes, the longest first.
    forms: HashMap<Start, Vec<String>>,
    /// Which hashes of first bytes occur.
    filter: Box<[u64; WORDS]>,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            values: VecDeque::new(),
            forms: HashMap::new(),
            filter: Box::new([0; WORDS]),
        }
    }
}

impl Known {
    fn has(&self, value: &str) -> bool {
        self.values.iter().any(|known| known == value)
    }

    fn add(&mut self, value: &str) {
        self.values.push_back(value.to_owned());
        if self.values.len() > limits::KNOWN_SECRETS {
            self.values.pop_front();
            self.forms.clear();
            self.filter.fill(0);
            let all: Vec<String> = self.values.iter().flat_map(|value| forms(value)).collect();
            all.into_iter().for_each(|form| self.add_form(form));
            return;
        }
        forms(value)
            .into_iter()
            .for_each(|form| self.add_form(form));
    }

    fn add_form(&mut self, form: String) {
        let Some(start) = form.as_bytes().first_chunk::<LEAST_BYTES>().copied() else {
            return;
        };
        let (word, bit) = place(start);
        self.filter[word] |= bit;
        let same = self.forms.entry(start).or_default();
        if !same.contains(&form) {
            same.push(form);
            ordered::sort_by_key(same, |form| std::cmp::Reverse(form.len()));
        }
    }

    fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let bytes = text.as_bytes();
        let mut out = String::new();
        let (mut at, mut copied) = (0, 0);
        while let Some(start) = bytes[at..].first_chunk::<LEAST_BYTES>() {
            let Some(length) = self.match_at(&bytes[at..], *start) else {
                at += 1;
                continue;
            };
            // A form is whole characters, so it begins and ends between two.
            out.push_str(&text[copied..at]);
            out.push_str(MASK);
            at += length;
            copied = at;
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    }

    #[inline]
    fn match_at(&self, rest: &[u8], start: Start) -> Option<usize> {
        let (word, bit) = place(start);
        if self.filter[word] & bit == 0 {
            return None;
        }
        let same = self.forms.get(&start)?;
        let found = same.iter().find(|form| rest.starts_with(form.as_bytes()));
        found.map(String::len)
    }
}

#[inline]
fn place(start: Start) -> (usize, u64) {
    let hash = u64::from_le_bytes(start).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    // 16 bits: ten say which word, six which bit.
    ((hash >> 6) as usize, 1 << (hash & 63))
}

/// How a value may look where it is repeated.
fn forms(value: &str) -> Vec<String> {
    let mut pieces = vec![value];
    // "Bearer x" is repeated as x.
    if let Some((scheme, rest)) = value.split_once(' ')
        && scheme.bytes().all(|byte| byte.is_ascii_alphabetic())
        && !rest.trim().contains(' ')
    {
        pieces.push(rest.trim());
    }
    // A key of many lines is repeated line by line.
    if value.contains('\n') {
        pieces.extend(value.lines().map(str::trim));
    }
    let debug = |piece: &str| {
        let text = format!("{piece:?}");
        text[1..text.len() - 1].to_owned()
    };
    let all = pieces.into_iter().flat_map(|piece| {
        [
            piece.to_owned(),
            debug(piece),
            in_json(piece),
            in_url(piece),
        ]
    });
    all.filter(|form| form.len() >= LEAST_BYTES).collect()
}

fn in_json(piece: &str) -> String {
    // Serialising a string into memory has no failing case.
    let text = serde_json::to_string(piece).unwrap_or_default();
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

fn in_url(piece: &str) -> String {
    let mut text = String::new();
    for byte in piece.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
#[path = "mask_properties.rs"]
mod properties;

#[cfg(test)]
mod tests {
    use super::{Known, learn, masked};
    use crate::base::limits;

    fn known(values: &[&str]) -> Known {
        let mut known = Known::default();
        values.iter().for_each(|value| {
            known.add(value);
        });
        known
    }

    #[test]
    fn masks_each_form_and_nothing_else() {
        let known = known(&[
            "Bearer tok\"en-12345",
            "ünïcödé-secret",
            "one\nsecond-line-x\n",
        ]);
        for (text, instead) in [
            ("nothing here", "nothing here"),
            ("a Bearer tok\"en-12345 b", "a *** b"),
            ("x tok\"en-12345", "x ***"),
            ("{\"h\":\"Bearer tok\\\"en-12345\"}", "{\"h\":\"***\"}"),
            ("u?k=tok%22en-12345&b", "u?k=***&b"),
            ("ä ünïcödé-secretünïcödé-secret ä", "ä ****** ä"),
            ("then second-line-x", "then ***"),
            ("tok\"en-1234", "tok\"en-1234"),
            ("", ""),
        ] {
            assert_eq!(known.masked(text), instead, "{text}");
        }
    }

    #[test]
    fn the_longest_wins_and_the_oldest_go() {
        let mut known = known(&["prefix-1", "prefix-1-longer"]);
        assert_eq!(known.masked("prefix-1-longer prefix-1"), "*** ***");
        (0..limits::KNOWN_SECRETS).for_each(|n| {
            known.add(&format!("secret number {n}"));
        });
        assert_eq!(known.masked("prefix-1-longer"), "prefix-1-longer");
        assert_eq!(known.masked("secret number 7"), "***");
        assert_eq!(known.values.len(), limits::KNOWN_SECRETS);
    }

    #[test]
    fn short_words_are_no_secrets() {
        learn("main");
        learn("known-to-the-process");
        assert_eq!(masked("main known-to-the-process"), "main ***");
    }
}
