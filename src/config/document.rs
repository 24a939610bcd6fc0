//! A JSON file with comments and trailing commas, read so that every value knows its key
//! path and its place. The typed readers report a wrong type once and give `None`.
//!
//! A document may lie over another as a merge patch (RFC 7386): its objects are merged key by
//! key, anything else replaces, `null` removes. Each value keeps the place of its own file.
//! `null` means "not given" everywhere, because generators write it that way.

use std::collections::{HashMap, HashSet};

use jsonc_parser::ast::{ObjectProp, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::config::problem::{Place, Problem, Scope, Severity};

/// What is said of a key that stands twice in one object.
pub const REPEATED: &str = "given twice in the same object";

/// Problems gathered for one scope.
pub struct Notes {
    scope: Scope,
    pub problems: Vec<Problem>,
    /// How many of them say only that a value is not to be had now.
    lacks: usize,
}

impl Notes {
    pub fn new(scope: Scope) -> Notes {
        Notes {
            scope,
            problems: Vec::new(),
            lacks: 0,
        }
    }

    /// One of the errors is about a value that may be there later.
    pub fn count_lack(&mut self) {
        self.lacks += 1;
    }

    /// There are errors, and none is of what is written.
    pub fn only_lacks(&self) -> bool {
        let errors = self.problems.iter().filter(|problem| problem.is_error());
        self.lacks > 0 && errors.count() == self.lacks
    }

    fn add(&mut self, severity: Severity, spot: &Spot<'_>, message: String, remedy: String) {
        self.problems.push(Problem {
            severity,
            scope: self.scope.clone(),
            place: Some(spot.lines.place(spot.at)),
            key_path: spot.path.clone(),
            message,
            remedy,
        });
    }

    /// The first error, if there is one.
    pub fn first_error(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.is_error())
    }

    /// Everything that was found still counts, but stops nothing.
    pub fn soften(&mut self) {
        for problem in &mut self.problems {
            problem.severity = Severity::Warning;
        }
    }
}

/// Where the lines of a file begin.
pub struct Lines<'d> {
    file: &'d str,
    text: &'d str,
    starts: Vec<usize>,
}

impl<'d> Lines<'d> {
    pub fn new(file: &'d str, text: &'d str) -> Lines<'d> {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0)
            .chain(newlines.map(|(at, _)| at + 1))
            .collect();
        Lines { file, text, starts }
    }

    pub fn place(&self, at: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        let column = self
            .text
            .get(start..at)
            .map_or(0, |before| before.chars().count())
            + 1;
        Place {
            file: self.file.to_owned(),
            line,
            column,
        }
    }
}

/// A key path and its place, without a value.
#[derive(Clone)]
pub struct Spot<'d> {
    lines: &'d Lines<'d>,
    pub at: usize,
    pub path: String,
}

impl<'d> Spot<'d> {
    /// A byte of a file that no key leads to.
    pub fn at(lines: &'d Lines<'d>, at: usize) -> Spot<'d> {
        let path = String::new();
        Spot { lines, at, path }
    }

    pub fn place(&self) -> Place {
        self.lines.place(self.at)
    }

    pub fn error(&self, notes: &mut Notes, message: impl Into<String>, remedy: impl Into<String>) {
        notes.add(Severity::Error, self, message.into(), remedy.into());
    }

    pub fn warn(&self, notes: &mut Notes, message: impl Into<String>, remedy: impl Into<String>) {
        notes.add(Severity::Warning, self, message.into(), remedy.into());
    }
}

/// A value with its spot.
pub struct Node<'d> {
    pub spot: Spot<'d>,
    pub value: &'d Value<'d>,
    /// Objects of later documents that are merged into `value`, which is one, too.
    over: Vec<Layer<'d>>,
}

/// A value of one document.
#[derive(Clone, Copy)]
struct Layer<'d> {
    lines: &'d Lines<'d>,
    /// Where its key stands; of a root, where it begins itself.
    at: usize,
    value: &'d Value<'d>,
}

/// What several documents say of the same key: nothing, one value, or objects to be merged.
#[derive(Default)]
struct Stack<'d> {
    layers: Vec<Layer<'d>>,
}

impl<'d> Stack<'d> {
    fn put(&mut self, layer: Layer<'d>) {
        let is_object = |layer: &Layer<'_>| layer.value.as_object().is_some();
        if !(is_object(&layer) && self.layers.last().is_some_and(is_object)) {
            self.layers.clear();
        }
        if !matches!(layer.value, Value::NullKeyword(_)) {
            self.layers.push(layer);
        }
    }

    fn member(self, name: &'d str, path: String) -> Option<Member<'d>> {
        let mut layers = self.layers.into_iter();
        let first = layers.next()?;
        Some(member(name, path, first, layers.collect()))
    }
}

/// The place is that of the first layer: an object is where it was begun.
fn member<'d>(name: &'d str, path: String, first: Layer<'d>, over: Vec<Layer<'d>>) -> Member<'d> {
    let spot = |at: usize, path: String| Spot {
        lines: first.lines,
        at,
        path,
    };
    let node = Node {
        spot: spot(first.value.start(), path.clone()),
        value: first.value,
        over,
    };
    Member {
        name,
        spot: spot(first.at, path),
        node,
    }
}

/// One member of an object: the spot is that of its key.
pub struct Member<'d> {
    pub name: &'d str,
    pub spot: Spot<'d>,
    pub node: Node<'d>,
}

/// Strict JSON, plus comments and trailing commas.
pub fn parse<'d>(lines: &'d Lines<'d>, notes: &mut Notes) -> Option<Value<'d>> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let top = Spot::at(lines, 0);
    match parse_to_ast(lines.text, &CollectOptions::default(), &options) {
        Ok(parsed) if parsed.value.is_none() => {
            top.error(
                notes,
                "the file is empty",
                "write at least {\"mcpServers\": {}}",
            );
            None
        }
        Ok(parsed) => parsed.value,
        Err(error) => {
            let message = format!("not valid JSON: {}", lower_first(&error.kind().to_string()));
            let spot = Spot::at(lines, error.range().start);
            spot.error(
                notes,
                message,
                "comments and trailing commas are allowed, no more",
            );
            None
        }
    }
}

/// `base.name`, or `base["na.me"]` where the plain form could be misread.
pub fn join(base: &str, name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-$".contains(c);
    match (base.is_empty(), !name.is_empty() && name.chars().all(plain)) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{base}.{name}"),
        (_, false) => format!("{base}[{name:?}]"),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn layer<'d>(lines: &'d Lines<'d>, property: &'d ObjectProp<'d>) -> Layer<'d> {
    Layer {
        lines,
        at: property.start(),
        value: &property.value,
    }
}

impl<'d> Node<'d> {
    pub fn root(lines: &'d Lines<'d>, value: &'d Value<'d>) -> Node<'d> {
        Node {
            spot: Spot {
                lines,
                at: value.start(),
                path: String::new(),
            },
            value,
            over: Vec::new(),
        }
    }

    /// This document with another one laid over it.
    pub fn patched(self, lines: &'d Lines<'d>, value: &'d Value<'d>) -> Node<'d> {
        if self.value.as_object().is_none() || value.as_object().is_none() {
            return Node::root(lines, value);
        }
        let at = value.start();
        let mut over = self.over;
        over.push(Layer { lines, at, value });
        Node { over, ..self }
    }

    fn kind(&self) -> &'static str {
        match self.value {
            Value::StringLit(_) => "a string",
            Value::NumberLit(_) => "a number",
            Value::BooleanLit(_) => "true or false",
            Value::Object(_) => "an object",
            Value::Array(_) => "an array",
            Value::NullKeyword(_) => "null",
        }
    }

    fn wrong_type(&self, notes: &mut Notes, expected: &str, remedy: &str) {
        let message = format!("expected {expected}, found {}", self.kind());
        self.spot.error(notes, message, remedy);
    }

    /// The members of an object in their order, without nulls. A repeated key is an error
    /// and the first one stays.
    pub fn members(&self, notes: &mut Notes) -> Option<Vec<Member<'d>>> {
        let (members, repeated) = self.members_and_repeated(notes)?;
        for member in repeated {
            member.spot.error(notes, REPEATED, "keep one of the two");
        }
        Some(members)
    }

    /// As `members`, but the repeated ones are given back instead of noted.
    pub fn members_and_repeated(
        &self,
        notes: &mut Notes,
    ) -> Option<(Vec<Member<'d>>, Vec<Member<'d>>)> {
        let Value::Object(object) = self.value else {
            self.wrong_type(notes, "an object", "write {\"key\": value}");
            return None;
        };
        let base = std::iter::once((self.spot.lines, object));
        let over = self.over.iter().filter_map(|layer| {
            let object = layer.value.as_object()?;
            Some((layer.lines, object))
        });
        let (mut stacks, mut repeated) = (Vec::new(), Vec::new());
        let mut numbers = HashMap::new();
        for (lines, object) in base.chain(over) {
            let mut seen = HashSet::new();
            for property in &object.properties {
                let name = property.name.as_str();
                let layer = layer(lines, property);
                if !seen.insert(name) {
                    let path = join(&self.spot.path, name);
                    repeated.push(member(name, path, layer, Vec::new()));
                    continue;
                }
                let number = *numbers.entry(name).or_insert(stacks.len());
                if number == stacks.len() {
                    stacks.push((name, Stack::default()));
                }
                if let Some((_, stack)) = stacks.get_mut(number) {
                    stack.put(layer);
                }
            }
        }
        let members = stacks
            .into_iter()
            .filter_map(|(name, stack)| stack.member(name, join(&self.spot.path, name)));
        Some((members.collect(), repeated))
    }

    /// The whole value as plain JSON, without comments, later documents merged in. A repeated
    /// key is noted and the first one stays.
    pub fn plain(&self, notes: &mut Notes) -> serde_json::Value {
        match self.value {
            Value::StringLit(literal) => literal.value.as_ref().into(),
            Value::BooleanLit(literal) => literal.value.into(),
            Value::NumberLit(literal) => {
                serde_json::from_str(literal.value).unwrap_or(serde_json::Value::Null)
            }
            Value::NullKeyword(_) => serde_json::Value::Null,
            Value::Array(_) => {
                let elements = self.elements(notes).unwrap_or_default();
                elements.iter().map(|node| node.plain(notes)).collect()
            }
            Value::Object(_) => {
                let members = self.members(notes).unwrap_or_default();
                let plain = members
                    .iter()
                    .map(|member| (member.name.to_owned(), member.node.plain(notes)));
                serde_json::Value::Object(plain.collect())
            }
        }
    }

    /// The elements of an array.
    pub fn elements(&self, notes: &mut Notes) -> Option<Vec<Node<'d>>> {
        let Value::Array(array) = self.value else {
            self.wrong_type(notes, "an array", "write [...]");
            return None;
        };
        let nodes = array.elements.iter().enumerate().map(|(index, value)| {
            let path = format!("{}[{index}]", self.spot.path);
            Node {
                spot: Spot {
                    lines: self.spot.lines,
                    at: value.start(),
                    path,
                },
                value,
                over: Vec::new(),
            }
        });
        Some(nodes.collect())
    }

    pub fn text(&self, notes: &mut Notes) -> Option<&'d str> {
        let Value::StringLit(literal) = self.value else {
            let remedy = match self.value {
                Value::NumberLit(_) | Value::BooleanLit(_) => "put it in quotes",
                _ => "write \"...\"",
            };
            self.wrong_type(notes, "a string", remedy);
            return None;
        };
        if literal.value.contains('\0') {
            self.spot
                .error(notes, "contains a NUL character", "remove \\u0000");
            return None;
        }
        Some(literal.value.as_ref())
    }

    /// An array of strings; one element of another type spoils that element only.
    pub fn texts(&self, notes: &mut Notes) -> Option<Vec<(&'d str, Spot<'d>)>> {
        let elements = self.elements(notes)?;
        let texts = elements
            .into_iter()
            .filter_map(|node| Some((node.text(notes)?, node.spot)));
        Some(texts.collect())
    }

    /// An array of strings none of which may be blank.
    pub fn words(&self, notes: &mut Notes) -> Option<Vec<(&'d str, Spot<'d>)>> {
        let mut words = self.texts(notes)?;
        words.retain(|(word, spot)| {
            let blank = word.trim().is_empty();
            if blank {
                spot.error(notes, "is empty", "remove it");
            }
            !blank
        });
        Some(words)
    }

    /// `true`, `false`, or the usual words for them.
    pub fn switch(&self, notes: &mut Notes) -> Option<bool> {
        let value = match self.value {
            Value::BooleanLit(literal) => Some(literal.value),
            Value::StringLit(literal) => parse_switch(&literal.value),
            _ => None,
        };
        if value.is_none() {
            let message = format!("expected true or false, found {}", self.kind());
            self.spot.error(notes, message, "write true or false");
        }
        value
    }

    /// A whole number from `least` to `most`.
    pub fn count(&self, notes: &mut Notes, least: u64, most: u64) -> Option<u64> {
        let Value::NumberLit(literal) = self.value else {
            let remedy = match self.value {
                Value::StringLit(_) => "write it without quotes",
                _ => "write digits",
            };
            self.wrong_type(notes, "a number", remedy);
            return None;
        };
        match literal.value.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                let message = format!("{} is out of range", literal.value);
                let remedy = format!("write a whole number from {least} to {most}");
                self.spot.error(notes, message, remedy);
                None
            }
        }
    }
}

/// The words for true and false that 1MCP takes, and their opposites.
pub fn parse_switch(word: &str) -> Option<bool> {
    match word.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" | "" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Node, Notes, Place, Value, join, parse};
    use crate::config::problem::Scope;

    #[test]
    fn places_count_lines_and_characters() {
        let lines = Lines::new("f", "ab\nçd\n\nx");
        let place = |at: usize| (lines.place(at).line, lines.place(at).column);
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(2), (1, 3));
        assert_eq!(place(3), (2, 1));
        assert_eq!(place(5), (2, 2));
        assert_eq!(place(8), (4, 1));
    }

    #[test]
    fn paths_quote_what_could_be_misread() {
        assert_eq!(join("", "a"), "a");
        assert_eq!(join("a", "b-c"), "a.b-c");
        assert_eq!(join("a", "x.y"), "a[\"x.y\"]");
        assert_eq!(join("a", ""), "a[\"\"]");
    }

    #[test]
    fn only_comments_and_trailing_commas_are_added_to_json() {
        let check = |text: &str, good: bool| {
            let lines = Lines::new("f", text);
            let mut notes = Notes::new(Scope::File);
            assert_eq!(parse(&lines, &mut notes).is_some(), good, "{text}");
            assert_eq!(notes.problems.is_empty(), good, "{text}");
        };
        check("{}", true);
        check("// c\n{/* d */ \"a\": [1, 2,], }", true);
        check("", false);
        check("{a: 1}", false);
        check("{'a': 1}", false);
        check("{\"a\" 1}", false);
        check("{\"a\": 1 \"b\": 2}", false);
        check("{\"a\": 0x10}", false);
        check("{\"a\": NaN}", false);
        check("{} {}", false);
        check(&"[".repeat(100_000), false);
    }

    #[test]
    fn a_repeated_key_is_reported_at_its_second_place() {
        let lines = Lines::new("f", "{\"a\": 1,\n  \"a\": 2, \"b\": null}");
        let mut notes = Notes::new(Scope::File);
        let value = parse(&lines, &mut notes).unwrap();
        let members = Node::root(&lines, &value).members(&mut notes).unwrap();
        assert_eq!(members.len(), 1);
        assert_eq!(
            notes.problems[0].to_string().split(';').next().unwrap(),
            "f:2:3: a: given twice in the same object"
        );
    }

    /// The merged document as JSON; strings only.
    fn merged(node: &Node<'_>, notes: &mut Notes) -> String {
        match node.value {
            Value::Object(_) => {
                let members = node.members(notes).unwrap();
                let members = members.iter().map(|member| {
                    let Place { file, line, .. } = member.node.spot.place();
                    let value = merged(&member.node, notes);
                    format!("{}={file}{line}:{value}", member.name)
                });
                format!("{{{}}}", members.collect::<Vec<_>>().join(" "))
            }
            Value::StringLit(literal) => literal.value.to_string(),
            Value::Array(array) => format!("[{}]", array.elements.len()),
            _ => "?".to_owned(),
        }
    }

    #[test]
    fn a_document_over_another_is_a_merge_patch() {
        let check = |base: &str, over: &str, expect: &str| {
            let (base, over) = (Lines::new("b", base), Lines::new("o", over));
            let mut notes = Notes::new(Scope::File);
            let below = parse(&base, &mut notes).unwrap();
            let above = parse(&over, &mut notes).unwrap();
            let node = Node::root(&base, &below).patched(&over, &above);
            let found = merged(&node, &mut notes);
            assert_eq!(found, expect, "{} {}", base.text, over.text);
            assert!(notes.problems.is_empty());
        };
        // The examples of RFC 7386, with places.
        check(r#"{"a":"b"}"#, r#"{"a":"c"}"#, "{a=o1:c}");
        check(r#"{"a":"b"}"#, "{\n\"b\":\"c\"}", "{a=b1:b b=o2:c}");
        check(r#"{"a":"b"}"#, r#"{"a":null}"#, "{}");
        check(r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, "{b=b1:c}");
        check(r#"{"a":["b"]}"#, r#"{"a":"c"}"#, "{a=o1:c}");
        check(r#"{"a":"c"}"#, r#"{"a":["b"]}"#, "{a=o1:[1]}");
        check(
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":{"b":"d","c":null}}"#,
            "{a=b1:{b=o1:d}}",
        );
        check(r#"{"a":[{"b":"c"}]}"#, r#"{"a":["1","2"]}"#, "{a=o1:[2]}");
        check(r#"{"a":"foo"}"#, r#""bar""#, "bar");
        check("[\"a\"]", r#"{"a":"b","c":null}"#, "{a=o1:b}");
        check("{}", r#"{"a":{"bb":{"ccc":null}}}"#, "{a=o1:{bb=o1:{}}}");
        // What the base leaves open is as if it were not there; an object replaces a text.
        check(r#"{"a":null}"#, r#"{"a":{"b":"c"}}"#, "{a=o1:{b=o1:c}}");
        check(r#"{"a":"b"}"#, r#"{"a":{"b":"c"}}"#, "{a=o1:{b=o1:c}}");
        check(r#"{"a":{"b":"c"}}"#, "{}", "{a=b1:{b=b1:c}}");
        check(
            r#"{"a":{"b":{"c":"1","d":"2"}}}"#,
            r#"{"a":{"b":{"d":"3"},"e":"4"}}"#,
            "{a=b1:{b=b1:{c=b1:1 d=o1:3} e=o1:4}}",
        );
    }

    #[test]
    fn a_key_that_repeats_in_one_layer_is_reported() {
        let base = Lines::new("b", r#"{"a": "1"}"#);
        let over = Lines::new("o", r#"{"a": "2", "a": null}"#);
        let mut notes = Notes::new(Scope::File);
        let below = parse(&base, &mut notes).unwrap();
        let above = parse(&over, &mut notes).unwrap();
        let node = Node::root(&base, &below).patched(&over, &above);
        assert_eq!(merged(&node, &mut notes), "{a=o1:2}");
        assert!(
            notes.problems[0]
                .to_string()
                .starts_with("o:1:12: a: given twice")
        );
    }
}
