//! The members of one JSON object, found but not decoded, and edits that change one member
//! and leave every other byte as it came. A duplicated key is refused: if we routed by the
//! first `name` and the server obeyed the last, every filter would be bypassed.

use std::borrow::Cow;
use std::ops::Range;

use crate::base::ordered;
use crate::wire::json::{JsonError, Rules, Scanner, string_value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembersError {
    Json(JsonError),
    NotAnObject,
    Duplicate(String),
}

impl std::fmt::Display for MembersError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MembersError::Json(error) => error.fmt(f),
            MembersError::NotAnObject => f.write_str("not a JSON object"),
            MembersError::Duplicate(key) => write!(f, "key {key:?} appears twice"),
        }
    }
}

/// Keys (decoded) and values (raw text) of one object, in their order.
#[derive(Debug)]
pub struct Members<'a> {
    text: &'a str,
    items: Vec<Member<'a>>,
}

#[derive(Debug)]
struct Member<'a> {
    key: Cow<'a, str>,
    /// Where the key's literal begins.
    at: usize,
    value: &'a str,
}

impl<'a> Members<'a> {
    /// Reads a whole text that must be one object. `outer` is the nesting it stands in.
    pub fn parse(text: &'a str, outer: usize, rules: Rules) -> Result<Members<'a>, MembersError> {
        let mut scanner = Scanner::new(text, rules);
        if !scanner.take(b'{') {
            scanner
                .value(outer)
                .and_then(|_| scanner.expect_end())
                .map_err(MembersError::Json)?;
            return Err(MembersError::NotAnObject);
        }
        let mut items = Vec::with_capacity(8);
        if !scanner.take(b'}') {
            loop {
                let item = member(text, &mut scanner, outer).map_err(MembersError::Json)?;
                items.push(item);
                if !scanner.take(b',') {
                    break;
                }
            }
            scanner.expect(b'}').map_err(MembersError::Json)?;
        }
        scanner.expect_end().map_err(MembersError::Json)?;
        refuse_duplicates(&items)?;
        Ok(Members { text, items })
    }

    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.items
            .iter()
            .find(|member| member.key == key)
            .map(|member| member.value)
    }

    /// The decoded value of a string member.
    pub fn string(&self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key).and_then(string_value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        let items = self.items.iter();
        items.map(|member| (member.key.as_ref(), member.value))
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The object with `key` set to `raw`: replaced in place, or added as the last member.
    pub fn with(&self, key: &str, raw: &str) -> String {
        if let Some(old) = self.get(key) {
            let span = span_in(self.text, old);
            return [&self.text[..span.start], raw, &self.text[span.end..]].concat();
        }
        let close = self.text.rfind('}').unwrap_or(self.text.len());
        let comma = if self.items.is_empty() { "" } else { "," };
        let quoted = crate::wire::json::quoted(key);
        [self.text[..close].trim_end(), comma, &quoted, ":", raw, "}"].concat()
    }

    /// Edits of `whole`, of which this object is a part: members that `unwanted` names leave
    /// with their commas, and `first` (members with commas between them, or nothing) comes in
    /// before all others.
    pub fn rewritten(
        &self,
        whole: &str,
        unwanted: impl Fn(&str) -> bool,
        first: &str,
    ) -> Vec<(Range<usize>, String)> {
        let base = span_in(whole, self.text).start;
        let removed = self.removals(unwanted);
        let is_emptied = match removed.as_slice() {
            [] => self.items.is_empty(),
            [run] => run.items == self.items.len(),
            _ => false,
        };
        let mut edits = Vec::with_capacity(removed.len() + 1);
        if !first.is_empty() {
            let open = base + self.text.find('{').map_or(0, |brace| brace + 1);
            let comma = if is_emptied { "" } else { "," };
            edits.push((open..open, [first, comma].concat()));
        }
        edits.extend(removed.into_iter().map(|run| {
            let span = base + run.span.start..base + run.span.end;
            (span, String::new())
        }));
        edits
    }

    /// Runs of neighbours that leave together, each with one comma beside it.
    fn removals(&self, unwanted: impl Fn(&str) -> bool) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut at = 0;
        while at < self.items.len() {
            let leaving = self.items[at..].iter();
            let items = leaving.take_while(|member| unwanted(&member.key)).count();
            if items == 0 {
                at += 1;
                continue;
            }
            let next = at + items;
            let last_end = span_in(self.text, self.items[next - 1].value).end;
            let span = match (at.checked_sub(1), self.items.get(next)) {
                (Some(before), _) => span_in(self.text, self.items[before].value).end..last_end,
                (None, Some(after)) => self.items[at].at..after.at,
                (None, None) => self.items[at].at..last_end,
            };
            runs.push(Run { span, items });
            at = next;
        }
        runs
    }
}

/// Neighbours in one object.
struct Run {
    span: Range<usize>,
    items: usize,
}

fn member<'a>(
    text: &'a str,
    scanner: &mut Scanner<'a>,
    outer: usize,
) -> Result<Member<'a>, JsonError> {
    let (start, end) = match scanner.peek() {
        Some(b'"') => scanner.value(outer)?,
        _ => {
            scanner.expect(b'"')?;
            (0, 0)
        }
    };
    let key = string_value(&text[start..end]).unwrap_or(Cow::Borrowed(""));
    scanner.expect(b':')?;
    let (from, to) = scanner.value(outer + 1)?;
    Ok(Member {
        key,
        at: start,
        value: &text[from..to],
    })
}

fn refuse_duplicates(items: &[Member<'_>]) -> Result<(), MembersError> {
    const FEW: usize = 16;
    if items.len() <= FEW {
        for (at, Member { key, .. }) in items.iter().enumerate() {
            if items[..at].iter().any(|earlier| earlier.key == *key) {
                return Err(MembersError::Duplicate(key.to_string()));
            }
        }
        return Ok(());
    }
    let mut seen = std::collections::HashSet::with_capacity(items.len());
    match items
        .iter()
        .find(|member| !seen.insert(member.key.as_ref()))
    {
        Some(member) => Err(MembersError::Duplicate(member.key.to_string())),
        None => Ok(()),
    }
}

/// Where `part`, a slice of `whole`, stands in it.
pub fn span_in(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

/// One replacement of a span by new text.
pub struct Edit<'a> {
    pub span: Range<usize>,
    pub text: &'a str,
}

/// Appends `text` to `out` with `edits` carried out; they must be in order and not overlap.
pub fn splice(text: &str, edits: &[Edit<'_>], out: &mut Vec<u8>) {
    let mut at = 0;
    for edit in edits {
        out.extend_from_slice(&text.as_bytes()[at..edit.span.start]);
        out.extend_from_slice(edit.text.as_bytes());
        at = edit.span.end;
    }
    out.extend_from_slice(&text.as_bytes()[at..]);
}

/// `text` with `edits` carried out, which may come in any order and must not overlap.
pub fn edited(text: &str, mut edits: Vec<(Range<usize>, String)>) -> Vec<u8> {
    // What is inserted comes before what is replaced at the same place.
    ordered::sort_by_key(&mut edits, |(span, _)| (span.start, span.end));
    let edits: Vec<Edit<'_>> = edits
        .iter()
        .map(|(span, text)| Edit {
            span: span.clone(),
            text,
        })
        .collect();
    let mut out = Vec::with_capacity(text.len() + 256);
    splice(text, &edits, &mut out);
    out
}

#[cfg(test)]
#[path = "members_properties.rs"]
mod properties;

#[cfg(test)]
mod tests {
    use super::{Edit, Members, MembersError, edited, span_in, splice};
    use crate::wire::json::Rules;

    const RULES: Rules = Rules {
        depth: 128,
        lone_surrogates: false,
    };

    fn parse(text: &str) -> Result<Members<'_>, MembersError> {
        Members::parse(text, 0, RULES)
    }

    #[test]
    fn finds_members_and_decodes_keys() {
        let members = parse(r#" { "a" : 1.10 , "\u0062":{"c":[1]} } "#).expect("object");
        assert_eq!(members.get("a"), Some("1.10"));
        assert_eq!(members.get("b"), Some(r#"{"c":[1]}"#));
        assert_eq!(members.get("c"), None);
        assert!(parse("{}").expect("object").is_empty());
    }

    #[test]
    fn refuses_what_is_not_one_plain_object() {
        for text in ["[]", "1", "\"x\""] {
            assert_eq!(parse(text).err(), Some(MembersError::NotAnObject), "{text}");
        }
        for text in [
            "",
            "{",
            "{\"a\":1",
            "{\"a\":1}x",
            "{1:2}",
            "{\"a\" 1}",
            "{\"a\":1,}",
        ] {
            assert!(matches!(parse(text), Err(MembersError::Json(_))), "{text}");
        }
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(
                parse(text).err(),
                Some(MembersError::Duplicate("a".into())),
                "{text}"
            );
        }
        let many: Vec<String> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
        assert!(parse(&format!("{{{}}}", many.join(","))).is_ok());
        assert!(parse(&format!("{{{},\"k7\":0}}", many.join(","))).is_err());
    }

    #[test]
    fn edits_one_member_and_leaves_the_rest() {
        let text = r#"{ "n":12345678901234567890123, "name" : "x", "z":1.10 }"#;
        let members = parse(text).expect("object");
        assert_eq!(
            members.with("name", "\"y\""),
            r#"{ "n":12345678901234567890123, "name" : "y", "z":1.10 }"#
        );
        assert_eq!(parse("{}").expect("object").with("a", "1"), r#"{"a":1}"#);
        assert_eq!(
            parse(r#"{"b":2 }"#).expect("object").with("a", "1"),
            r#"{"b":2,"a":1}"#
        );
    }

    #[test]
    fn splices_several_spans() {
        let text = r#"{"id":7,"p":{"name":"abc"}}"#;
        let id = span_in(text, &text[6..7]);
        let name = span_in(text, &text[20..25]);
        let mut out = Vec::new();
        splice(
            text,
            &[
                Edit {
                    span: id,
                    text: "\"q\"",
                },
                Edit {
                    span: name,
                    text: "\"z\"",
                },
            ],
            &mut out,
        );
        assert_eq!(out, br#"{"id":"q","p":{"name":"z"}}"#);
    }

    #[test]
    fn removes_members_with_their_commas_and_inserts_first() {
        let drop = |key: &str| key.starts_with('x');
        for (object, removed, with) in [
            ("{}", "{}", r#"{"n":0}"#),
            (r#"{ "x" : 1 }"#, "{  }", r#"{"n":0  }"#),
            (
                r#"{"a":1,"x":2,"b":3}"#,
                r#"{"a":1,"b":3}"#,
                r#"{"n":0,"a":1,"b":3}"#,
            ),
            (r#"{"x":1,"a":2}"#, r#"{"a":2}"#, r#"{"n":0,"a":2}"#),
            (r#"{"a":2 , "x":1 }"#, r#"{"a":2 }"#, r#"{"n":0,"a":2 }"#),
            (
                r#"{"x":1,"x2":1,"a":2,"x3":3}"#,
                r#"{"a":2}"#,
                r#"{"n":0,"a":2}"#,
            ),
            (r#"{"x":1 , "x2":{"x":1}}"#, "{}", r#"{"n":0}"#),
            (
                r#"{"\u0078":1,"a":{"x":1}}"#,
                r#"{"a":{"x":1}}"#,
                r#"{"n":0,"a":{"x":1}}"#,
            ),
            (
                r#"{"a":"\"x\":1,","b":[{"x":1}]}"#,
                r#"{"a":"\"x\":1,","b":[{"x":1}]}"#,
                r#"{"n":0,"a":"\"x\":1,","b":[{"x":1}]}"#,
            ),
        ] {
            let whole = format!(r#" {{"p" : {object},"x":7}} "#);
            let start = whole.find(object).expect("the object");
            let members = parse(&whole[start..start + object.len()]).expect("object");
            for (first, expected) in [("", removed), (r#""n":0"#, with)] {
                let edits = members.rewritten(&whole, drop, first);
                let expected = format!(r#" {{"p" : {expected},"x":7}} "#);
                let got = String::from_utf8(edited(&whole, edits)).expect("text");
                assert_eq!(got, expected, "{object}");
            }
        }
    }
}
