//! More members for an object of a JSON text that people wrote: comments, order and layout of
//! what is there stay as they are. Pure.

use jsonc_parser::ast::{Object, Value as Ast};
use jsonc_parser::common::Ranged;
use serde_json::{Map, Value};

use crate::config::document::{Lines, Notes, parse};
use crate::config::problem::Scope;

/// Columns of an array that stays on one line.
const SHORT: usize = 90;

/// A text into which nothing can be put.
#[derive(Debug, PartialEq, Eq)]
pub enum SpliceError {
    NotJson,
    /// The document, or the member of this name, is something else.
    NoObject(String),
}

impl std::fmt::Display for SpliceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SpliceError::NotJson => f.write_str("it is not valid JSON"),
            SpliceError::NoObject(name) if name.is_empty() => f.write_str("it is no object"),
            SpliceError::NoObject(name) => write!(f, "\"{name}\" in it is no object"),
        }
    }
}

impl std::error::Error for SpliceError {}

/// Adds members to the object `name` of the document, which is made when it is not there.
/// Names that are there already must not be given.
///
/// # Errors
/// When there is no such place.
pub fn add(text: &str, name: &str, members: &Map<String, Value>) -> Result<String, SpliceError> {
    let lines = Lines::new("", text);
    let root = parse(&lines, &mut Notes::new(Scope::File)).ok_or(SpliceError::NotJson)?;
    let root = object(&root, "")?;
    let property = root.properties.iter().find(|one| one.name.as_str() == name);
    match property {
        Some(property) => Ok(insert(text, object(&property.value, name)?, members)),
        None => {
            let mut outer = Map::new();
            outer.insert(name.to_owned(), Value::Object(members.clone()));
            Ok(insert(text, root, &outer))
        }
    }
}

fn object<'a, 'd>(value: &'a Ast<'d>, name: &str) -> Result<&'a Object<'d>, SpliceError> {
    let found = value.as_object();
    found.ok_or_else(|| SpliceError::NoObject(name.to_owned()))
}

/// Members go to the end, behind a comment that may stand there, each on lines of its own.
fn insert(text: &str, object: &Object<'_>, members: &Map<String, Value>) -> String {
    if members.is_empty() {
        return text.to_owned();
    }
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let brace = object.end() - 1;
    let outer = indent_at(text, object.start());
    let unit = unit_of(text);
    let inner = match object.properties.first() {
        Some(first) if starts_line(text, first.start()) => {
            indent_at(text, first.start()).to_owned()
        }
        _ => format!("{outer}{unit}"),
    };

    let tail = text[..brace].trim_end().len();
    let mut out = text[..tail].to_owned();
    if let Some(last) = object.properties.last()
        && !has_comma(&text[last.end()..brace])
    {
        out.insert(last.end(), ',');
    }
    for (number, (name, value)) in members.iter().enumerate() {
        let comma = if number + 1 < members.len() { "," } else { "" };
        let value = pretty(value, unit).replace('\n', &format!("{newline}{inner}"));
        let name = Value::String(name.clone());
        out.push_str(&format!("{newline}{inner}{name}: {value}{comma}"));
    }
    if text[tail..brace].contains('\n') {
        out.push_str(&text[tail..brace]);
    } else {
        out.push_str(newline);
        out.push_str(outer);
    }
    out.push_str(&text[brace..]);
    out
}

/// The blanks at the beginning of the line in which `at` lies.
fn indent_at(text: &str, at: usize) -> &str {
    let line = &text[text[..at].rfind('\n').map_or(0, |newline| newline + 1)..];
    let blanks = line.find(|c: char| c != ' ' && c != '\t');
    &line[..blanks.unwrap_or(line.len())]
}

fn starts_line(text: &str, at: usize) -> bool {
    let before = text[..at].trim_end_matches([' ', '\t']);
    before.ends_with('\n')
}

/// How deep the first indented line is.
fn unit_of(text: &str) -> &str {
    let blanks = |line: &'_ str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines
        .map(|line| &line[..blanks(line)])
        .find(|indent| !indent.is_empty());
    first.unwrap_or("  ")
}

/// Whether a comma stands in what follows the last member, outside comments.
fn has_comma(text: &str) -> bool {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else {
            return rest.starts_with(',');
        }
    }
}

/// As people write it: one member to a line, and a short array of texts on one.
fn pretty(value: &Value, unit: &str) -> String {
    let (open, close, items): (char, char, Vec<String>) = match value {
        Value::Object(object) if !object.is_empty() => {
            let member = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::from(name.as_str()), pretty(value, unit))
            };
            ('{', '}', object.iter().map(member).collect())
        }
        Value::Array(list) if !list.is_empty() => {
            let items: Vec<String> = list.iter().map(|item| pretty(item, unit)).collect();
            let line = format!("[{}]", items.join(", "));
            let is_plain = list
                .iter()
                .all(|item| !item.is_array() && !item.is_object());
            if is_plain && line.chars().count() <= SHORT {
                return line;
            }
            ('[', ']', items)
        }
        _ => return value.to_string(),
    };
    let items: Vec<String> = items
        .iter()
        .map(|item| item.replace('\n', &format!("\n{unit}")))
        .collect();
    let items = items.join(&format!(",\n{unit}"));
    format!("{open}\n{unit}{items}\n{close}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{SpliceError, add};

    fn check(text: &str, expect: &str) {
        let Value::Object(members) = json!({"b": {"x": [1]}, "c": 2}) else {
            unreachable!()
        };
        assert_eq!(add(text, "s", &members).unwrap(), expect, "{text}");
    }

    #[test]
    fn members_come_behind_what_is_there() {
        check(
            "{\n  \"s\": {\n    \"a\": 1\n  }\n}\n",
            "{\n  \"s\": {\n    \"a\": 1,\n    \"b\": {\n      \"x\": [1]\n    },\n    \
             \"c\": 2\n  }\n}\n",
        );
        check(
            "{\"s\": {}}",
            "{\"s\": {\n  \"b\": {\n    \"x\": [1]\n  },\n  \"c\": 2\n}}",
        );
        check(
            "{\n\t\"z\": 1, // why\n}",
            "{\n\t\"z\": 1, // why\n\t\"s\": {\n\t\t\"b\": {\n\t\t\t\"x\": [1]\n\t\t},\n\t\t\
             \"c\": 2\n\t}\n}",
        );
    }

    #[test]
    fn comments_and_commas_stay() {
        let text = "{\n  \"s\": {\n    \"a\": 1 // one, two\n    /* , */\n    // last\n  }\n}";
        let out = add(text, "s", &one()).unwrap();
        let expect = "{\n  \"s\": {\n    \"a\": 1, // one, two\n    /* , */\n    // last\n    \
                      \"n\": 1\n  }\n}";
        assert_eq!(out, expect);
        let text = "{\"s\": {\"a\": 1, /* x */}}";
        assert_eq!(
            add(text, "s", &one()).unwrap(),
            "{\"s\": {\"a\": 1, /* x */\n  \"n\": 1\n}}"
        );
        let text = "{\r\n  \"s\": {}\r\n}\r\n";
        let expect = "{\r\n  \"s\": {\r\n    \"n\": 1\r\n  }\r\n}\r\n";
        assert_eq!(add(text, "s", &one()).unwrap(), expect);
        assert_eq!(add(text, "s", &Map::new()).unwrap(), text);
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        assert_eq!(add("{", "s", &one()), Err(SpliceError::NotJson));
        assert_eq!(
            add("[]", "s", &one()),
            Err(SpliceError::NoObject(String::new()))
        );
        assert_eq!(
            add("{\"s\": 1}", "s", &one()),
            Err(SpliceError::NoObject("s".into()))
        );
    }

    fn one() -> Map<String, Value> {
        Map::from_iter([("n".to_owned(), json!(1))])
    }
}
