//! Which replica holds something: its name, sealed, behind the text that a client carries. Every
//! replica that has the keys reads it; nobody else learns or makes one, and behind another text
//! it is worth nothing. Also what one replica shows another with a request that it passes on. A
//! value; keys are handed in. Deliberately absent: addresses, which change, and clocks.

use std::sync::Arc;

use crate::model::rotating::Master;
use crate::model::steady::SteadyKey;

/// Between a text and the place behind it. No text of ours has one within.
const MARK: char = '.';

#[derive(Debug)]
pub struct PlaceKey(SteadyKey);

impl PlaceKey {
    pub fn new(masters: &[Master]) -> PlaceKey {
        PlaceKey(SteadyKey::new("replica", masters))
    }

    pub fn rotate(&self, masters: &[Master]) {
        self.0.rotate(masters);
    }

    /// `plain` in sealed form: the same text for the same input, good together with `bound` only.
    pub fn seal(&self, bound: &[u8], plain: &[u8]) -> Option<String> {
        self.0.seal(bound, plain)
    }

    pub fn open(&self, bound: &[u8], text: &str) -> Option<Vec<u8>> {
        self.0.open(bound, text)
    }

    /// `text` with the name of the replica that holds what it stands for.
    pub fn at(&self, text: &str, replica: &str) -> Option<String> {
        let place = self.seal(text.as_bytes(), replica.as_bytes())?;
        Some(format!("{text}{MARK}{place}"))
    }

    /// The text and the replica that it names; `None` for what no replica made.
    pub fn split<'a>(&self, placed: &'a str) -> Option<(&'a str, String)> {
        let (text, place) = placed.rsplit_once(MARK)?;
        let replica = self.open(text.as_bytes(), place)?;
        Some((text, String::from_utf8(replica).ok()?))
    }
}

/// One replica as it names itself.
#[derive(Debug, Clone)]
pub struct Here {
    pub key: Arc<PlaceKey>,
    pub name: String,
}

impl Here {
    /// `text`, and that this replica holds it.
    pub fn put_behind(&self, text: &str) -> Option<String> {
        self.key.at(text, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::PlaceKey;

    #[test]
    fn names_the_replica_to_those_who_have_the_key_alone() {
        let key = PlaceKey::new(&[[7; 32]]);
        let text = key.at("stream-1", "onemcp-0").expect("sealed");
        assert_eq!(key.split(&text), Some(("stream-1", "onemcp-0".to_owned())));
        assert_eq!(key.at("stream-1", "onemcp-0"), Some(text.clone()));
        assert!(!text.contains("onemcp"), "{text}");
        assert_eq!(PlaceKey::new(&[[8; 32]]).split(&text), None);
        let moved = text.replace("stream-1", "stream-2");
        for bad in [&moved, "", ".", "stream-1", "stream-1.", "stream-1.AAAA"] {
            assert_eq!(key.split(bad), None, "{bad}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("text");
            assert_eq!(key.split(&changed), None, "{at}");
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, new) = ([7; 32], [8; 32]);
        let key = PlaceKey::new(&[old]);
        let before = key.at("a", "x").expect("sealed");
        key.rotate(&[old, new]);
        assert_eq!(key.at("a", "x").as_ref(), Some(&before));
        key.rotate(&[new, old]);
        let after = key.at("a", "x").expect("sealed");
        assert_ne!(after, before);
        let known = |text: &str| key.split(text).is_some();
        assert!(known(&before) && known(&after));
        key.rotate(&[new]);
        let known = |text: &str| key.split(text).is_some();
        assert!(!known(&before) && known(&after));
    }
}
