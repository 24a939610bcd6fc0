//! Sealed texts: what comes back is what was sealed, where it belongs, and nothing else does.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::sample::Index;

use super::SealKey;
use crate::base::laws::for_all;
use crate::model::place::{Here, PlaceKey};
use crate::model::steady::SteadyKey;
use crate::model::task_id::{Holder, TaskId, TaskKey};
use crate::wire::base64;

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=most)
}

/// `text` with one byte of what it stands for changed.
fn spoilt(text: &str, at: Index, mask: u8) -> String {
    let mut bytes = base64::decode_url(text.as_bytes()).expect("base64");
    let at = at.index(bytes.len());
    bytes[at] ^= mask;
    base64::encode_url(&bytes)
}

#[test]
fn sealed_text_opens_unchanged_and_where_it_belongs() {
    let all = (
        bytes(20),
        bytes(60),
        any::<[u8; 12]>(),
        any::<Index>(),
        1..=255_u8,
    );
    for_all(all, |(bound, plain, nonce, at, mask)| {
        let key = SealKey::new(&[7; 32]).expect("a key");
        let text = key.seal(&bound, &plain, nonce).expect("sealed");
        assert_eq!(key.open(&bound, &text), Some(plain));
        assert_eq!(key.open(&bound, &spoilt(&text, at, mask)), None);
        assert_eq!(key.open(&[&bound[..], b"x"].concat(), &text), None);
        assert_eq!(key.open(&bound, &text[..at.index(text.len())]), None);
        let other = SealKey::new(&[8; 32]).expect("a key");
        assert_eq!(other.open(&bound, &text), None);
    });
}

#[test]
fn steady_text_is_the_same_for_the_same_alone() {
    let all = (bytes(12), bytes(40), bytes(40), any::<Index>(), 1..=255_u8);
    for_all(all, |(bound, plain, other, at, mask)| {
        let key = SteadyKey::new("law", &[[7; 32]]);
        let text = key.seal(&bound, &plain).expect("sealed");
        assert_eq!(key.seal(&bound, &plain).as_ref(), Some(&text));
        assert_eq!(
            key.seal(&bound, &other) == Some(text.clone()),
            plain == other
        );
        assert_eq!(key.open(&bound, &spoilt(&text, at, mask)), None);
        key.rotate(&[[8; 32], [7; 32]]);
        assert_eq!(key.open(&bound, &text), Some(plain));
    });
}

#[test]
fn a_task_is_found_again_by_its_holder_alone() {
    let names = ("[a-z é]{0,20}", ".{0,30}", any::<u64>());
    let holders = ("[a-z]{0,6}", any::<u64>(), "[a-z]{0,6}");
    let change = (any::<Index>(), 1..=255_u8);
    for_all((names, holders, change), |(names, holders, (at, mask))| {
        let (server, native, process) = names;
        let (principal, view, session) = holders;
        let task = TaskId {
            server,
            process,
            native,
        };
        let place = Arc::new(PlaceKey::new(&[[9; 32]]));
        let here = Here {
            key: place,
            name: "one-0".to_owned(),
        };
        let alone = TaskKey::new(&[[7; 32]], None);
        let replica = TaskKey::new(&[[7; 32]], Some(here));
        let stateless = Holder::Stateless {
            principal: &principal,
            view,
        };
        let owner = Holder::Session(&session);
        for key in [&alone, &replica] {
            for (mine, theirs) in [(stateless, owner), (owner, stateless)] {
                let text = task.seal(key, mine).expect("an id");
                assert_eq!(TaskId::open(&text, key, mine).as_ref(), Some(&task));
                assert_eq!(TaskId::open(&text, key, theirs), None);
            }
        }
        let text = task.seal(&alone, owner).expect("an id");
        assert_eq!(TaskId::open(&spoilt(&text, at, mask), &alone, owner), None);
    });
}

#[test]
fn a_place_belongs_to_its_text() {
    let all = ("[a-z0-9-]{0,30}", "[a-z-]{1,12}", any::<Index>());
    for_all(all, |(text, replica, at)| {
        let key = PlaceKey::new(&[[7; 32]]);
        let placed = key.at(&text, &replica).expect("sealed");
        assert_eq!(key.split(&placed), Some((text.as_str(), replica)));
        let mut letters = placed.into_bytes();
        let at = at.index(letters.len());
        letters[at] = if letters[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(letters).expect("text");
        assert_eq!(key.split(&changed), None);
    });
}

#[test]
fn base64_has_one_text_for_the_same_bytes() {
    for_all((bytes(40), "[A-Za-z0-9_=+/-]{0,12}"), |(bytes, text)| {
        let encoded = base64::encode_url(&bytes);
        assert_eq!(base64::decode_url(encoded.as_bytes()), Some(bytes));
        if let Some(decoded) = base64::decode_url(text.as_bytes()) {
            assert_eq!(base64::encode_url(&decoded), text);
        }
    });
}
