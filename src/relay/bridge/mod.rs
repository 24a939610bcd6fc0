//! The translation between the eras: what one side must not see of the other, as edits of the
//! text that passes, so that every other byte leaves as it came. Pure functions from text to
//! edits; who calls whom, and when, is decided by `front`.

pub mod content;
pub mod error;
pub mod input;
pub mod request;
pub mod result;
pub mod task;

use std::borrow::Cow;
use std::ops::Range;

use crate::wire::members::{Members, MembersError, span_in};
use crate::wire::message::FROM_SERVER;

/// Spans of a message and what stands there instead, in any order and without overlaps: an empty
/// span inserts, an empty text removes.
pub type Edits = Vec<(Range<usize>, String)>;

/// What the gateway says it is. Raw JSON.
pub const SERVER_INFO: &str = concat!(
    "{\"name\":\"onemcp\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\"}"
);

/// The same as a member of `_meta`.
pub const SERVER_INFO_MEMBER: &str = concat!(
    "\"io.modelcontextprotocol/serverInfo\":{\"name\":\"onemcp\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\"}"
);

/// What changes in an object that has a `_meta`: `params`, or a result.
struct Change<'c> {
    /// Members that leave.
    drop: &'c [&'c str],
    /// Members that come in, with commas between them.
    first: &'c str,
    drop_meta: fn(&str) -> bool,
    first_meta: &'c str,
}

impl Change<'_> {
    /// As edits of `whole`, of which `object` is a part.
    fn of(&self, whole: &str, object: &Members<'_>) -> Result<Edits, MembersError> {
        match object.get("_meta") {
            Some(raw) if raw.starts_with('{') => {
                let meta = Members::parse(raw, 2, FROM_SERVER)?;
                Ok(self.of_parsed(whole, object, Some(&meta)))
            }
            _ => Ok(self.of_parsed(whole, object, None)),
        }
    }

    /// The same, with the members of `_meta` at hand, if it is an object.
    fn of_parsed(&self, whole: &str, object: &Members<'_>, meta: Option<&Members<'_>>) -> Edits {
        let mut edits = Edits::new();
        let mut is_meta_emptied = false;
        let mut first = Cow::Borrowed(self.first);
        match (meta, object.get("_meta")) {
            (Some(members), _) => {
                is_meta_emptied = self.first_meta.is_empty()
                    && !members.is_empty()
                    && members.iter().all(|(key, _)| (self.drop_meta)(key));
                if !is_meta_emptied {
                    edits = members.rewritten(whole, self.drop_meta, self.first_meta);
                }
            }
            _ if self.first_meta.is_empty() => {}
            (None, Some(raw)) => {
                edits.push((span_in(whole, raw), ["{", self.first_meta, "}"].concat()));
            }
            (None, None) => {
                let comma = if first.is_empty() { "" } else { "," };
                let parts = [&*first, comma, "\"_meta\":{", self.first_meta, "}"];
                first = Cow::Owned(parts.concat());
            }
        }
        let leaves = |key: &str| self.drop.contains(&key) || (is_meta_emptied && key == "_meta");
        edits.extend(object.rewritten(whole, leaves, &first));
        edits
    }
}

#[cfg(test)]
pub(crate) fn applied(text: &str, edits: Edits) -> String {
    let bytes = crate::wire::members::edited(text, edits);
    let text = String::from_utf8(bytes).expect("text");
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    text
}
