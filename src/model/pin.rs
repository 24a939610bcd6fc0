//! What a tool is pinned by: the SHA-256 of its definition in one canonical form. Pure.
//!
//! The form follows RFC 8785 in what matters here: no white space, members in the order of their
//! keys, strings with the fewest escapes. Numbers stay as they are written, because nobody can
//! say what a reader makes of `1.0`.

use ring::digest;

use crate::base::ordered;
use crate::wire::hex;
use crate::wire::json::{elements, quoted, string_value};
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

/// What happens to tools whose definition is another than the one that was pinned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pinning {
    /// Nothing is pinned.
    #[default]
    Off,
    Warn,
    /// They are neither listed nor called until an operator approves them.
    Block,
}

impl Pinning {
    pub const WORDS: &'static [&'static str] = &["off", "warn", "block"];

    pub fn parse(word: &str) -> Option<Pinning> {
        match word {
            "off" => Some(Pinning::Off),
            "warn" => Some(Pinning::Warn),
            "block" => Some(Pinning::Block),
            _ => None,
        }
    }
}

/// The members of a tool that a pin covers, in the order of the canonical form.
pub const MEMBERS: [&str; 6] = [
    "annotations",
    "description",
    "inputSchema",
    "name",
    "outputSchema",
    "title",
];

/// The definition in `tool`, one object as its server wrote it.
pub fn canonical(tool: &str) -> String {
    let Ok(members) = Members::parse(tool, 0, FROM_SERVER) else {
        return tool.to_owned();
    };
    let pinned = MEMBERS
        .iter()
        .filter_map(|key| Some((*key, members.get(key)?)));
    let mut out = String::with_capacity(tool.len());
    write_object(pinned, 1, &mut out);
    out
}

/// 64 hex digits.
pub fn hash(canonical: &str) -> String {
    let bytes = digest::digest(&digest::SHA256, canonical.as_bytes());
    hex::encode(bytes.as_ref())
}

fn write_object<'k>(
    members: impl Iterator<Item = (&'k str, &'k str)>,
    depth: usize,
    out: &mut String,
) {
    out.push('{');
    for (at, (key, value)) in members.enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&quoted(key));
        out.push(':');
        write_value(value, depth, out);
    }
    out.push('}');
}

/// What cannot be read in one way only stands as it was written.
fn write_value(raw: &str, depth: usize, out: &mut String) {
    let raw = raw.trim_ascii();
    match raw.as_bytes().first() {
        Some(b'{') => {
            if let Ok(members) = Members::parse(raw, depth, FROM_SERVER) {
                let sorted = ordered::map(members.iter());
                return write_object(sorted.into_iter(), depth + 1, out);
            }
        }
        Some(b'[') => {
            if let Some(items) = elements(raw, FROM_SERVER) {
                out.push('[');
                for (at, item) in items.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_value(item, depth + 1, out);
                }
                return out.push(']');
            }
        }
        Some(b'"') => {
            if let Some(text) = string_value(raw) {
                return out.push_str(&quoted(&text));
            }
        }
        _ => {}
    }
    out.push_str(raw);
}

#[cfg(test)]
mod tests {
    use super::{canonical, hash};

    #[test]
    fn one_definition_has_one_form() {
        let expect =
            r#"{"annotations":{"readOnlyHint":true,"title":"T"},"description":"é \"x\"\n","#
                .to_owned()
                + r#""inputSchema":{"a":[1.10,{"b":null,"c":"d"}],"type":"object"},"name":"n"}"#;
        let same = [
            r#"{"name":"n","description":"é \"x\"\n","inputSchema":{"type":"object",
                "a":[1.10,{"c":"d","b":null}]},"annotations":{"title":"T","readOnlyHint":true}}"#,
            r#" { "inputSchema" : {"a": [ 1.10 , {"b":null,"c":"\u0064"}] , "type":"object"},
                "\u006eame":"n","annotations":{"readOnlyHint":true,"title":"T"},
                "icons":[],"_meta":{"v":1},"description":"\u00e9 \u0022x\u0022\u000a"}"#,
        ];
        for raw in same {
            assert_eq!(canonical(raw), expect);
        }
        assert_eq!(hash("").len(), 64);
        assert_eq!(&hash("abc")[..12], "ba7816bf8f01");
    }

    #[test]
    fn every_change_of_a_definition_is_another_form() {
        let base = r#"{"name":"n","title":"t","description":"d","inputSchema":{"type":"object",
            "properties":{"a":{"description":"x","enum":["p","q"],"default":1}}},
            "outputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}"#;
        let edits = [
            ("\"t\"", "\"T\""),
            ("\"d\"", "\"d \""),
            ("\"d\"", "\"d\\u200b\""),
            ("\"x\"", "\"y\""),
            ("[\"p\",\"q\"]", "[\"q\",\"p\"]"),
            (":1}", ":1.0}"),
            (":1}", ":\"1\"}"),
            ("{\"type\":\"object\"},", "{\"type\":\"array\"},"),
            ("true", "false"),
            ("true", "true,\"destructiveHint\":false"),
            (",\"title\":\"t\"", ""),
            ("\"default\":1", "\"default\":1,\"default\":2"),
        ];
        let forms: Vec<String> = edits
            .iter()
            .map(|(old, new)| {
                let edited = base.replacen(old, new, 1);
                assert_ne!(edited, base);
                hash(&canonical(&edited))
            })
            .collect();
        let mut all = forms.clone();
        all.push(hash(&canonical(base)));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), forms.len() + 1);
    }
}
