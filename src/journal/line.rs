//! One line of the log, for people or for programs. Pure.
//!
//! Our messages are an event, then `key=value`, then perhaps a colon and a text. For programs these
//! become members; what is not of that form stays the message, so that nobody can make up
//! members by what he says.

use std::borrow::Cow;
use std::fmt::Write;

use log::Level;

use crate::base::limits;
use crate::journal::level::short;
use crate::wire::json::{Rules, Scanner, quoted};

/// What a server wrote to its stderr has this target, with the server's name behind it.
pub const SERVER: &str = "server.";

/// What clients were granted and refused has this target, and begins so, with JSON at its end.
pub const SCOPE: &str = "scope";
pub const SCOPE_OPERATION: &str = "Scope operation: ";

/// How a line is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Text { colour: bool },
    Json,
}

/// Everything about one line. Secrets have been masked.
pub struct Line<'a> {
    pub now: &'a str,
    pub level: Level,
    pub target: &'a str,
    pub text: &'a str,
    pub request: Option<u64>,
    pub trace: Option<&'a str>,
}

impl Line<'_> {
    /// With its line break.
    pub fn render(&self, look: Look) -> String {
        let text = bounded(self.text);
        let mut line = match look {
            Look::Text { colour } => self.for_people(&text, colour),
            Look::Json => self.for_programs(&text),
        };
        line.push('\n');
        line
    }

    fn for_people(&self, text: &str, colour: bool) -> String {
        let level = self.level.as_str();
        let (on, off) = match (colour, self.level) {
            (true, Level::Error) => ("\x1b[31m", "\x1b[0m"),
            (true, Level::Warn) => ("\x1b[33m", "\x1b[0m"),
            (true, Level::Debug | Level::Trace) => ("\x1b[2m", "\x1b[0m"),
            _ => ("", ""),
        };
        if self.target == SCOPE {
            // The form that is documented elsewhere; what is behind its end would belong to it.
            return format!("{} {level}: {text}", self.now);
        }
        let mut line = format!("{} {on}{level:<5}{off} ", self.now);
        if let Some(server) = self.target.strip_prefix(SERVER) {
            let _ = write!(line, "stderr server={server:?}: ");
        }
        // One record stays one line, whatever a server or client put into it.
        let harmless = |c| if is_harmful(c) && c != '\t' { ' ' } else { c };
        line.extend(text.chars().map(harmless));
        if let Some(request) = self.request {
            let _ = write!(line, " request={request}");
        }
        if let Some(trace) = self.trace {
            let _ = write!(line, " trace={trace}");
        }
        line
    }

    fn for_programs(&self, text: &str) -> String {
        let level = self.level.as_str().to_lowercase();
        let target = literal(short(self.target));
        let mut line = format!(
            "{{\"ts\":\"{}\",\"level\":\"{level}\",\"target\":{target}",
            self.now
        );
        let server = self.target.strip_prefix(SERVER);
        let (text, members) = match self.target == SCOPE {
            true => text.split_once(" {").unwrap_or((text, "")),
            false => (text, ""),
        };
        let (text, members) = match text.strip_prefix(SCOPE_OPERATION) {
            // The name has no space, so that the JSON is behind the first one.
            Some(_) if members.ends_with('}') => (text, &members[..members.len() - 1]),
            _ => (text, ""),
        };
        let parts = match server {
            // What a server says is its own, whatever it looks like.
            Some(_) => None,
            None => Parts::of(text),
        };
        let event = parts.as_ref().map_or(text, |parts| parts.event);
        let _ = write!(line, ",\"msg\":{}", literal(event));
        if let Some(server) = server {
            let _ = write!(line, ",\"server\":{}", literal(server));
        }
        if !members.is_empty() {
            let _ = write!(line, ",{members}");
        }
        for (key, value) in parts.iter().flat_map(|parts| &parts.fields) {
            let taken = match RESERVED.contains(key) {
                true => "_",
                false => "",
            };
            let _ = write!(line, ",\"{key}{taken}\":{value}");
        }
        if let Some(detail) = parts.as_ref().and_then(|parts| parts.detail) {
            let _ = write!(line, ",\"detail\":{}", literal(detail));
        }
        if let Some(request) = self.request {
            let _ = write!(line, ",\"requestId\":{request}");
        }
        if let Some(trace) = self.trace {
            let _ = write!(line, ",\"traceId\":\"{trace}\"");
        }
        line.push('}');
        line
    }
}

/// A field of such a name gets a `_` behind it.
const RESERVED: [&str; 7] = [
    "ts",
    "level",
    "target",
    "msg",
    "detail",
    "requestId",
    "traceId",
];

fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= limits::LOG_LINE_BYTES {
        return Cow::Borrowed(text);
    }
    let mut end = limits::LOG_LINE_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}... ({} bytes)", &text[..end], text.len()))
}

/// What breaks a line, moves a cursor or turns the direction of what follows.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A JSON string that is as harmless on a terminal as it is in a program.
fn literal(text: &str) -> String {
    let quoted = quoted(text);
    if quoted.is_ascii() && !quoted.contains('\u{7f}') {
        return quoted;
    }
    let mut out = String::with_capacity(quoted.len());
    for c in quoted.chars() {
        match is_harmful(c) {
            true => drop(write!(out, "\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

/// A message in its parts. Values are JSON.
struct Parts<'t> {
    event: &'t str,
    fields: Vec<(&'t str, String)>,
    detail: Option<&'t str>,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Option<Parts<'t>> {
        let start = first_field(text)?;
        let mut parts = Parts {
            event: text[..start].trim_end(),
            fields: Vec::new(),
            detail: None,
        };
        let mut rest = &text[start..];
        loop {
            let (key, after) = key(rest)?;
            let (value, after) = value(after)?;
            if parts.fields.iter().any(|(known, _)| *known == key) {
                return None;
            }
            parts.fields.push((key, value));
            if let Some(detail) = after.strip_prefix(": ") {
                parts.detail = Some(detail);
                return Some(parts);
            }
            match after.strip_prefix(' ') {
                Some(next) => rest = next.trim_start(),
                None if after.is_empty() || after == ":" => return Some(parts),
                None => return None,
            }
            if rest.is_empty() {
                return Some(parts);
            }
        }
    }
}

/// Where the fields begin. What stands behind a colon is text.
fn first_field(text: &str) -> Option<usize> {
    let before = text.find(": ").unwrap_or(text.len());
    let mut at = 0;
    loop {
        if key(&text[at..]).is_some() {
            return Some(at);
        }
        at += text[at..].find(' ')? + 1;
        if at > before {
            return None;
        }
    }
}

fn key(text: &str) -> Option<(&str, &str)> {
    let (key, rest) = text.split_once('=')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!key.is_empty() && key.bytes().all(fits)).then_some((key, rest))
}

/// The value at the start as JSON, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    match text.as_bytes().first() {
        Some(b'"') => {
            let (inside, rest) = debug_text(text)?;
            Some((literal(&inside), rest))
        }
        Some(b'[') => list(text),
        _ => {
            let end = text.find(' ').unwrap_or(text.len());
            // A colon at the end of a value begins the text.
            let end = match text[..end].strip_suffix(':') {
                Some(short) => short.len(),
                None => end,
            };
            let bare = &text[..end];
            Some((plain(bare), &text[end..]))
        }
    }
}

/// Numbers and truth values are such in JSON, too.
fn plain(text: &str) -> String {
    const RULES: Rules = Rules {
        depth: 1,
        lone_surrogates: false,
    };
    let looks_so = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let mut scanner = Scanner::new(text, RULES);
    let is_number = looks_so && scanner.value(0).is_ok() && scanner.expect_end().is_ok();
    match is_number || text == "true" || text == "false" {
        true => text.to_owned(),
        false => literal(text),
    }
}

/// A list as `{:?}` writes it.
fn list(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('[')?;
    let mut out = String::from("[");
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            out.push(']');
            return Some((out, after));
        }
        if out.len() > 1 {
            rest = rest.strip_prefix(", ")?;
            out.push(',');
        }
        if rest.starts_with('"') {
            let (inside, after) = debug_text(rest)?;
            out.push_str(&literal(&inside));
            rest = after;
        } else {
            let end = rest.find([',', ']', ' '])?;
            out.push_str(&plain(&rest[..end]));
            rest = &rest[end..];
        }
    }
}

/// A string as `{:?}` writes it, decoded.
fn debug_text(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 2..])),
            '\\' => out.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let digits: String = chars
                        .by_ref()
                        .map(|(_, c)| c)
                        .take_while(|c| *c != '}')
                        .collect();
                    let code = u32::from_str_radix(digits.strip_prefix('{')?, 16).ok()?;
                    char::from_u32(code)?
                }
                other => other,
            }),
            _ => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use log::Level;
    use serde_json::{Value, json};

    use super::{Line, Look};
    use crate::base::limits;

    fn line<'a>(target: &'a str, text: &'a str) -> Line<'a> {
        Line {
            now: "T",
            level: Level::Warn,
            target,
            text,
            request: None,
            trace: None,
        }
    }

    fn json(target: &str, text: &str) -> Value {
        let line = line(target, text).render(Look::Json);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(&line).expect("valid JSON")
    }

    #[test]
    fn one_record_is_one_line() {
        let text = "a\nb\u{1b}[31m\"q\"\u{2028}\u{202e}\u{85}c";
        let plain = line("onemcp::a", text).render(Look::Text { colour: false });
        assert_eq!(plain, "T WARN  a b [31m\"q\"   c\n");
        let raw = line("onemcp::a", text).render(Look::Json);
        assert!(
            raw.chars()
                .all(|c| c == '\n' || c.is_ascii() && !c.is_control()),
            "{raw}"
        );
        assert_eq!(json("onemcp::a", text)["msg"], text);
    }

    #[test]
    fn fields_become_members() {
        for (text, fields) in [
            (
                "server ready server=\"a \\\"b\\\\\\u{1b}\\n\" tools=3 ms=0.25 ok=true",
                json!({"msg": "server ready", "server": "a \"b\\\u{1b}\n", "tools": 3,
                       "ms": 0.25, "ok": true}),
            ),
            (
                "server down server=\"a\" next_try_s=1.50: exit code=5 server=\"b\"",
                json!({"msg": "server down", "server": "a", "next_try_s": 1.5,
                       "detail": "exit code=5 server=\"b\""}),
            ),
            (
                "in force added=[] removed=[\"x\", \"y, z\"] at=127.0.0.1:80 v=007",
                json!({"msg": "in force", "added": [], "removed": ["x", "y, z"],
                       "at": "127.0.0.1:80", "v": "007"}),
            ),
            ("closed status=4:", json!({"msg": "closed", "status": 4})),
            (
                "taken level=5 msg=6",
                json!({"msg": "taken", "level_": 5, "msg_": 6}),
            ),
        ] {
            let mut found = json("onemcp::upstream::owner", text);
            let head = found.as_object_mut().expect("an object");
            assert_eq!(head.remove("ts"), Some(json!("T")));
            assert_eq!(head.remove("level"), Some(json!("warn")));
            assert_eq!(head.remove("target"), Some(json!("upstream::owner")));
            assert_eq!(found, fields, "{text}");
        }
    }

    #[test]
    fn text_of_others_makes_no_members() {
        for text in [
            "mcp.json:3:5: level=debug is unknown",
            "refused: server=\"x\"",
            "odd server=\"x\" and more",
            "twice a=1 a=2",
            "open a=\"b",
            "open a=[1",
            "nothing",
            "",
        ] {
            let found = json("onemcp::a", text);
            assert_eq!(found["msg"], text);
            assert_eq!(found.as_object().expect("an object").len(), 4, "{text}");
        }
        let found = json("server.fs", "event server=\"forged\" level=5");
        assert_eq!(found["msg"], "event server=\"forged\" level=5");
        assert_eq!(
            (&found["server"], &found["target"]),
            (&json!("fs"), &json!("server.fs"))
        );
    }

    #[test]
    fn context_and_stderr_are_shown() {
        let mut line = line("server.f\"s", "hello");
        (line.request, line.trace) = (Some(7), Some("abc"));
        let text = line.render(Look::Text { colour: true });
        let expected = "T \u{1b}[33mWARN \u{1b}[0m stderr server=\"f\\\"s\": hello \
                        request=7 trace=abc\n";
        assert_eq!(text, expected);
        let value: Value = serde_json::from_str(&line.render(Look::Json)).expect("valid JSON");
        assert_eq!(
            (&value["requestId"], &value["traceId"]),
            (&json!(7), &json!("abc"))
        );
    }

    #[test]
    fn a_line_has_an_end() {
        let text = "ä".repeat(limits::LOG_LINE_BYTES);
        let rendered = line("onemcp::a", &text).render(Look::Text { colour: false });
        assert!(rendered.len() < limits::LOG_LINE_BYTES + 60);
    }
}
