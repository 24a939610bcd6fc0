//! Characters that people do not see and models read: found in text and in the JSON of an
//! entry, and taken out where that changes no meaning. Pure. Deliberately absent: letters that
//! look like others; nobody can say which of them was meant.

use std::borrow::Cow;
use std::ops::Range;

use crate::wire::json::{quoted, string_value};
use crate::wire::members::edited;

/// What happens to entries that hold such characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Invisible {
    Off,
    /// They pass, and operators are told.
    #[default]
    Flag,
    Strip,
}

impl Invisible {
    pub const WORDS: &'static [&'static str] = &["off", "flag", "strip"];

    pub fn parse(word: &str) -> Option<Invisible> {
        match word {
            "off" => Some(Invisible::Off),
            "flag" => Some(Invisible::Flag),
            "strip" => Some(Invisible::Strip),
            _ => None,
        }
    }
}

/// Members whose values people read and nothing else: without a character they mean the same.
const TEXTS: [&str; 2] = ["title", "description"];

/// What a character is before another one, as far as that says whether it may stand there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The beginning, white space, or something invisible.
    Nothing,
    /// A letter or a sign of ASCII.
    Plain,
    /// A sign that can be the base of a keycap, such as `1`.
    Key,
    /// Any other character: it may be a sign with variants, or a part of one.
    Other,
    /// Such a character and its variation selector.
    Varied,
}

/// `text` without what nobody sees; escape sequences of terminals leave whole.
pub fn clean(text: &str) -> Cow<'_, str> {
    if is_plain(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut before = Before::Nothing;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let then = judge(c, before, rest.clone().next());
        match then {
            Some(then) => {
                out.push(c);
                before = then;
            }
            None if c == '\u{1b}' => rest = after_sequence(rest.as_str()).chars(),
            None => {}
        }
    }
    match out.len() == text.len() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(out),
    }
}

/// Whether there is something in `text` that nobody sees.
pub fn hides(text: &str) -> bool {
    clean(text).len() != text.len()
}

/// What follows a control sequence of which the escape character is gone.
fn after_sequence(rest: &str) -> &str {
    let Some(inner) = rest.strip_prefix('[') else {
        return rest;
    };
    let body = inner.trim_start_matches(|c: char| ('\u{20}'..='\u{3f}').contains(&c));
    let mut end = body.chars();
    match end.next() {
        Some('\u{40}'..='\u{7e}') => end.as_str(),
        _ => rest,
    }
}

/// Nothing but printable ASCII and white space.
fn is_plain(text: &[u8]) -> bool {
    let plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r');
    text.iter().all(|byte| plain(*byte))
}

/// What `c` is for the next one; `None` when it is not to be there.
fn judge(c: char, before: Before, next: Option<char>) -> Option<Before> {
    match c {
        '\t' | '\n' | '\r' | ' ' => Some(Before::Nothing),
        '0'..='9' | '#' | '*' => Some(Before::Key),
        '!'..='~' => Some(Before::Plain),
        // One may choose the form of the sign before it; a row of them is a hidden text.
        '\u{fe0e}' | '\u{fe0f}' => {
            matches!(before, Before::Key | Before::Other).then_some(Before::Varied)
        }
        '\u{fe00}'..='\u{fe0d}' | '\u{e0100}'..='\u{e01ef}' => {
            (before == Before::Other).then_some(Before::Varied)
        }
        // Joins signs, and letters of some scripts; between others it says nothing.
        '\u{200c}' | '\u{200d}' => {
            let joins = matches!(before, Before::Other | Before::Varied);
            let next = next.is_some_and(|c| !c.is_ascii() && !is_hidden(c) && !c.is_whitespace());
            (joins && next).then_some(Before::Nothing)
        }
        c if is_hidden(c) => None,
        c if c.is_whitespace() => Some(Before::Nothing),
        _ => Some(Before::Other),
    }
}

/// Wherever they stand: controls, what has no width, what turns the direction of writing, tags,
/// and letters without a form.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether any text in the JSON `raw`, keys too, holds something that nobody sees.
pub fn json_hides(raw: &str) -> bool {
    let has_escape = || {
        ["\\u", "\\b", "\\f"]
            .iter()
            .any(|escape| raw.contains(escape))
    };
    let is_suspect = !is_plain(raw.as_bytes()) || has_escape();
    is_suspect && literals(raw).iter().any(|literal| literal.hides(raw))
}

/// `raw`, an object, with clean titles and descriptions, and a clean member `also`. `None` when
/// something is hidden elsewhere, where a character is part of what is meant: in names, in
/// values that are allowed, in patterns.
pub fn json_cleaned(raw: &str, also: Option<&str>) -> Option<String> {
    let mut edits = Vec::new();
    for literal in literals(raw) {
        if !literal.hides(raw) {
            continue;
        }
        let of = literal.of.filter(|of| {
            let is_text = TEXTS.iter().any(|text| text == of);
            is_text || literal.depth == 1 && also == Some(of)
        });
        of?;
        let text = string_value(&raw[literal.span.clone()])?;
        edits.push((literal.span, quoted(&clean(&text))));
    }
    String::from_utf8(edited(raw, edits)).ok()
}

/// One string in a JSON text.
struct Literal<'a> {
    span: Range<usize>,
    /// The key whose value it is, as it is written.
    of: Option<&'a str>,
    depth: usize,
}

impl Literal<'_> {
    /// What cannot be decoded is no text that anybody sees.
    fn hides(&self, raw: &str) -> bool {
        let text = string_value(&raw[self.span.clone()]);
        text.is_none_or(|text| hides(&text))
    }
}

/// All strings of a valid JSON text, in their order.
fn literals(raw: &str) -> Vec<Literal<'_>> {
    let bytes = raw.as_bytes();
    let mut found: Vec<Literal<'_>> = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    // The key before the value that comes next.
    let mut key = None;
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' | b'[' => (depth, key) = (depth + 1, None),
            b'}' | b']' => (depth, key) = (depth.saturating_sub(1), None),
            b',' => key = None,
            b':' => {
                let last = found.last().map(|literal| literal.span.clone());
                key = last.map(|span| &raw[span.start + 1..span.end - 1]);
            }
            b'"' => {
                while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                    at += if *byte == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                let (span, of) = (start..at, key.take());
                found.push(Literal { span, of, depth });
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{clean, hides, json_cleaned, json_hides};

    #[test]
    fn what_nobody_sees_is_found_and_taken_out() {
        let cases = [
            ("plain text, 1 + 1\n\tnext", "plain text, 1 + 1\n\tnext"),
            ("Grüße, 你好, שלום, سلام", "Grüße, 你好, שלום, سلام"),
            ("zero\u{200b}width", "zerowidth"),
            ("join\u{200d}er non\u{200c}joiner", "joiner nonjoiner"),
            ("\u{feff}mark \u{2060}word", "mark word"),
            (
                "turn \u{202e}back\u{202c} \u{2066}in\u{2069}",
                "turn back in",
            ),
            ("mark\u{200e}s\u{200f}\u{61c}", "marks"),
            ("tags\u{e0041}\u{e0042}\u{e007f}", "tags"),
            ("flag 🏴\u{e0067}\u{e0062}\u{e007f}", "flag 🏴"),
            ("soft\u{ad}hyphen\u{34f}", "softhyphen"),
            ("fill\u{3164}er\u{ffa0}\u{115f}", "filler"),
            ("lines\u{2028}\u{2029}", "lines"),
            ("bell\u{7}\u{0}\u{7f}\u{85}", "bell"),
            ("\u{1b}[31mred\u{1b}[0m \u{1b}[8;1Hx", "red x"),
            ("\u{1b}]0;title\u{7}", "]0;title"),
            ("\u{1b}[", "["),
            // What belongs to a sign stays.
            (
                "heart ❤\u{fe0f} key 1\u{fe0f}\u{20e3}",
                "heart ❤\u{fe0f} key 1\u{fe0f}\u{20e3}",
            ),
            (
                "👩\u{200d}💻 ❤\u{fe0f}\u{200d}🔥",
                "👩\u{200d}💻 ❤\u{fe0f}\u{200d}🔥",
            ),
            ("می\u{200c}خواهم क्\u{200d}ष", "می\u{200c}خواهم क्\u{200d}ष"),
            ("葛\u{e0100}城", "葛\u{e0100}城"),
            // A row of selectors is a hidden text.
            ("😀\u{fe01}\u{fe02}\u{e0130}", "😀\u{fe01}"),
            ("a\u{fe0f}b\u{e0150}", "ab"),
            ("👩\u{200d}\u{200d}💻 x\u{200d}", "👩\u{200d}💻 x"),
        ];
        for (text, expect) in cases {
            assert_eq!(clean(text), expect, "{text:?}");
            assert_eq!(hides(text), text != expect, "{text:?}");
            assert_eq!(clean(expect), expect, "{expect:?}");
        }
    }

    #[test]
    fn texts_of_json_are_cleaned_and_nothing_else_is() {
        let same = Some("");
        let cases: [(&str, Option<&str>); 11] = [
            (r#"{"name":"a","description":"b\n\"c\""}"#, same),
            (r#"{"name":"a","x":"\u00e9\\u200b"}"#, same),
            (
                "{\"name\":\"a\",\"n\":1.10,\"title\" : \"b\u{200b}\"}",
                Some(r#"{"name":"a","n":1.10,"title" : "b"}"#),
            ),
            (
                r#"{"description":"b\udb40\udc41\u200b\u001b[1mc","name":"a"}"#,
                Some(r#"{"description":"bc","name":"a"}"#),
            ),
            (
                r#"{"s":{"properties":{"description":{"description":"x\u200b"}}}}"#,
                Some(r#"{"s":{"properties":{"description":{"description":"x"}}}}"#),
            ),
            (r#"{"name":"a\u200b"}"#, None),
            (r#"{"s":{"enum":["x","y\u200b"]}}"#, None),
            (r#"{"s":{"description":["y\u200b"]}}"#, None),
            (r#"{"s":{"k\u200b":1}}"#, None),
            (r#"{"s":{"description\u200b":"x"}}"#, None),
            (r#"{"title":"\ud800"}"#, None),
        ];
        for (raw, expect) in cases {
            let expect = expect.map(|text| if text.is_empty() { raw } else { text });
            assert_eq!(json_cleaned(raw, None).as_deref(), expect, "{raw}");
            assert_eq!(json_hides(raw), expect != Some(raw), "{raw}");
        }
        let raw = r#"{"uri":"a:b","name":"n\u200b"}"#;
        let cleaned = json_cleaned(raw, Some("name"));
        assert_eq!(cleaned.as_deref(), Some(r#"{"uri":"a:b","name":"n"}"#));
        assert_eq!(
            json_cleaned(r#"{"a":{"name":"n\u200b"}}"#, Some("name")),
            None
        );
    }
}
