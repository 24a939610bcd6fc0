//! What one server offers, as it said it: entries stay raw JSON.

use std::ops::Range;
use std::sync::Arc;

use crate::base::limits;
use crate::mcp::list::ListKind;
use crate::model::hint::CacheHint;
use crate::wire::json::{elements, string_value};
use crate::wire::members::{Members, span_in};
use crate::wire::message::FROM_SERVER;

/// One tool, prompt, resource or template.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name or URI, decoded.
    pub key: Arc<str>,
    pub raw: Arc<str>,
    /// Where the key's string literal stands in `raw`.
    pub key_span: Range<usize>,
}

impl Item {
    /// `None` when `raw` is not an object with a non-empty string `key`, or is too large.
    pub fn parse(raw: &str, kind: ListKind) -> Option<Item> {
        if raw.len() > limits::ENTRY_BYTES {
            return None;
        }
        let members = Members::parse(raw, 0, FROM_SERVER).ok()?;
        let literal = members.get(kind.key())?;
        let key = string_value(literal).filter(|key| !key.is_empty())?;
        Some(Item {
            key: key.into(),
            raw: raw.into(),
            key_span: span_in(raw, literal),
        })
    }

    /// The entry with another key in its place, every other byte as it came.
    pub fn write_renamed(&self, key: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.raw.as_bytes()[..self.key_span.start]);
        out.extend_from_slice(crate::wire::json::quoted(key).as_bytes());
        out.extend_from_slice(&self.raw.as_bytes()[self.key_span.end..]);
    }

    /// The entry with its description replaced.
    pub fn with_description(&self, description: &str, kind: ListKind) -> Item {
        let quoted = crate::wire::json::quoted(description);
        let raw = Members::parse(&self.raw, 0, FROM_SERVER)
            .map(|members| members.with("description", &quoted));
        raw.ok()
            .and_then(|raw| Item::parse(&raw, kind))
            .unwrap_or_else(|| self.clone())
    }
}

/// All four lists of one server.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    lists: [Arc<Vec<Item>>; 4],
    hints: [Option<CacheHint>; 4],
}

impl Listing {
    pub fn of(&self, kind: ListKind) -> &Arc<Vec<Item>> {
        &self.lists[kind as usize]
    }

    /// How long and for whom this list may be kept; `None` when the server does not say, as in
    /// the session era.
    pub fn hint(&self, kind: ListKind) -> Option<CacheHint> {
        self.hints[kind as usize]
    }

    pub fn set(&mut self, kind: ListKind, items: Vec<Item>, hint: Option<CacheHint>) {
        self.lists[kind as usize] = Arc::new(items);
        self.hints[kind as usize] = hint;
    }
}

/// One page of a list result.
#[derive(Debug, Default)]
pub struct Page {
    pub items: Vec<Item>,
    /// Entries that were not usable: no name, not an object, too large.
    pub dropped: usize,
    pub next_cursor: Option<String>,
    pub hint: Option<CacheHint>,
}

/// Reads the `result` of a list request. `None` when it is not an object with the list in it.
pub fn parse_page(result: &str, kind: ListKind) -> Option<Page> {
    let members = Members::parse(result, 0, FROM_SERVER).ok()?;
    let raw_items = elements(members.get(kind.member())?, FROM_SERVER)?;
    let items: Vec<Item> = raw_items
        .iter()
        .filter_map(|raw| Item::parse(raw, kind))
        .collect();
    let dropped = raw_items.len() - items.len();
    let next_cursor = members
        .string("nextCursor")
        .map(|cursor| cursor.into_owned());
    Some(Page {
        items,
        dropped,
        next_cursor,
        hint: CacheHint::read(&members),
    })
}

#[cfg(test)]
mod tests {
    use super::parse_page;
    use crate::mcp::list::ListKind;

    #[test]
    fn keeps_good_entries_and_counts_bad_ones() {
        let result = r#"{"tools":[{"x":1.10,"name":"a"},{"name":7},"b",{"name":""}],
            "nextCursor":""}"#;
        let page = parse_page(result, ListKind::Tools).expect("a page");
        assert_eq!(page.items.len(), 1);
        assert_eq!(page.dropped, 3);
        assert_eq!(page.next_cursor.as_deref(), Some(""));
        let mut out = Vec::new();
        page.items[0].write_renamed("s_a", &mut out);
        assert_eq!(out, br#"{"x":1.10,"name":"s_a"}"#);
        let described = page.items[0].with_description("d\"", ListKind::Tools);
        assert_eq!(
            &*described.raw,
            r#"{"x":1.10,"name":"a","description":"d\""}"#
        );
        assert!(parse_page("{}", ListKind::Tools).is_none());
        assert!(parse_page("[]", ListKind::Tools).is_none());
    }
}
