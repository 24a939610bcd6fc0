//! Cursors: each opens as what was sealed, and a changed one as nothing.

use proptest::prelude::{Just, Strategy, any};
use proptest::sample::{Index, select};

use super::{Cursor, CursorError, CursorKey, put_number, take_number};
use crate::base::laws::for_all;
use crate::mcp::list::ListKind;
use crate::model::order::Mark;
use crate::wire::base64;

fn cursor() -> impl Strategy<Value = Cursor> {
    let kind = select(&ListKind::ALL[..]);
    let mark = (".{0,24}", any::<u64>(), any::<u64>());
    let mark = mark.prop_map(|(name, place, index)| Mark { name, place, index });
    let all = (kind, any::<u64>(), ".{0,12}", any::<u32>(), mark);
    all.prop_map(|(kind, view, server, server_index, mark)| Cursor {
        kind,
        view,
        server,
        server_index,
        mark,
    })
}

#[test]
fn opens_as_what_was_sealed_with_any_key_that_is_kept() {
    for_all(
        (cursor(), any::<[u8; 32]>(), any::<[u8; 32]>()),
        |(cursor, old, new)| {
            let key = CursorKey::new(&[old]);
            let text = cursor.seal(&key);
            key.rotate(&[new, old]);
            assert_eq!(Cursor::open(&text, &key), Ok(cursor.clone()));
            assert_eq!(
                cursor.clone().expect(cursor.kind, cursor.view).as_ref(),
                Ok(&cursor)
            );
            let foreign = cursor.clone().expect(cursor.kind, !cursor.view);
            assert_eq!(foreign, Err(CursorError::Foreign));
            key.rotate(&[new]);
            let is_same = old == new;
            assert_eq!(Cursor::open(&text, &key).is_ok(), is_same);
        },
    );
}

#[test]
fn a_changed_byte_or_letter_is_refused() {
    let change = (any::<Index>(), 1..=255_u8, any::<Index>());
    for_all((cursor(), change), |(cursor, (byte, mask, letter))| {
        let key = CursorKey::new(&[[7; 32]]);
        let text = cursor.seal(&key);
        let mut bytes = base64::decode_url(text.as_bytes()).expect("base64");
        let at = byte.index(bytes.len());
        bytes[at] ^= mask;
        let changed = base64::encode_url(&bytes);
        assert_eq!(Cursor::open(&changed, &key), Err(CursorError::Forged));
        let mut letters = text.clone().into_bytes();
        let at = letter.index(letters.len());
        letters[at] = if letters[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(letters).expect("text");
        assert_eq!(Cursor::open(&changed, &key), Err(CursorError::Forged));
        let cut = &text[..byte.index(text.len())];
        assert_eq!(Cursor::open(cut, &key), Err(CursorError::Forged));
    });
}

#[test]
fn no_text_is_a_cursor_by_chance() {
    for_all("[A-Za-z0-9_-]{0,80}", |text| {
        let key = CursorKey::new(&[[7; 32]]);
        assert_eq!(Cursor::open(&text, &key), Err(CursorError::Forged));
    });
}

#[test]
fn numbers_come_back() {
    let any_size = (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift);
    for_all((any_size, Just(b"rest")), |(number, rest)| {
        let mut bytes = Vec::new();
        put_number(&mut bytes, number);
        assert!(bytes.len() <= 10);
        bytes.extend_from_slice(rest);
        let mut left = bytes.as_slice();
        assert_eq!(take_number(&mut left), Some(number));
        assert_eq!(left, rest);
    });
}
