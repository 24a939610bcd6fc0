//! What a stateless request repeats of its body in headers (streamable-http of 2026-07-28): all
//! of it is read from the line that is sent, so that the two can never disagree. Pure.

use std::borrow::Cow;

use crate::mcp::meta;
use crate::model::mirror::Mirror;
use crate::wire::base64::encode_standard;
use crate::wire::json::string_value;
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

const SENTINEL: (&str, &str) = ("=?base64?", "?=");

/// A text as a header value: as it is, or in Base64 between the marks that say so.
pub fn value_of(text: &str) -> Cow<'_, str> {
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let has_edges = text.starts_with(' ') || text.ends_with(' ');
    let looks_encoded = text.starts_with(SENTINEL.0) && text.ends_with(SENTINEL.1);
    if is_plain && !has_edges && !looks_encoded {
        return Cow::Borrowed(text);
    }
    let encoded = encode_standard(text.as_bytes());
    Cow::Owned([SENTINEL.0, &encoded, SENTINEL.1].concat())
}

/// What a line says about itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub method: String,
    /// The tool, prompt, resource or task that it is about.
    pub name: Option<String>,
    /// The stateless revision that it names.
    pub version: Option<String>,
    /// The call's `arguments`, raw.
    arguments: Option<String>,
}

impl Told {
    /// `None` when the line is no request.
    pub fn read(line: &str) -> Option<Told> {
        let message = Members::parse(line, 0, FROM_SERVER).ok()?;
        let method = message.string("method")?.into_owned();
        let params = message
            .get("params")
            .and_then(|raw| Members::parse(raw, 1, FROM_SERVER).ok());
        let param = |key: &str| params.as_ref().and_then(|params| params.get(key));
        let version = param("_meta")
            .and_then(|raw| Members::parse(raw, 2, FROM_SERVER).ok())
            .and_then(|meta| meta.string(meta::PROTOCOL_VERSION).map(Cow::into_owned));
        let name = key_of(&method).and_then(param).and_then(string_value);
        Some(Told {
            name: name.map(Cow::into_owned),
            version,
            arguments: param("arguments").map(str::to_owned),
            method,
        })
    }

    pub fn headers(&self, mirrors: &[Mirror]) -> Vec<(String, String)> {
        let mut headers = Vec::with_capacity(4);
        let mut add = |name: &str, value: &str| {
            headers.push((name.to_owned(), value_of(value).into_owned()));
        };
        if let Some(version) = &self.version {
            add("MCP-Protocol-Version", version);
        }
        add("Mcp-Method", &self.method);
        if let Some(name) = &self.name {
            add("Mcp-Name", name);
        }
        let arguments = self.arguments.as_deref();
        headers.extend(mirrors.iter().filter_map(|mirror| {
            let text = text_of(mirror.value(arguments)?)?;
            Some((mirror.header.clone(), value_of(&text).into_owned()))
        }));
        headers
    }
}

/// A string, an integer in plain digits (`3` for `3`, `3.0` and `3e0`), or a boolean. Nothing
/// else can be said in a header; the server will find fault with that in the body.
fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    if let Some(text) = string_value(raw) {
        return Some(text);
    }
    if raw == "true" || raw == "false" || raw.parse::<i128>().is_ok() {
        return Some(Cow::Borrowed(raw));
    }
    let number: f64 = raw.parse().ok()?;
    let is_exact = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_991.0;
    is_exact.then(|| Cow::Owned(format!("{number:.0}")))
}

/// Whether a request does nothing that it would not do again: by its method as the server
/// decodes it, however it is written.
pub fn is_safe(line: &str) -> bool {
    let message = Members::parse(line, 0, FROM_SERVER).ok();
    let method = message
        .as_ref()
        .and_then(|message| message.string("method"));
    method.is_some_and(|method| is_safe_method(&method))
}

pub fn is_safe_method(method: &str) -> bool {
    matches!(
        method,
        "initialize"
            | "ping"
            | "server/discover"
            | "subscriptions/listen"
            | "tools/list"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "completion/complete"
            | "logging/setLevel"
            | "tasks/get"
            | "tasks/list"
            | "tasks/result"
    )
}

/// The parameter that says what a request is about.
fn key_of(method: &str) -> Option<&'static str> {
    Some(match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Told, is_safe, text_of, value_of};
    use crate::model::mirror::Mirror;

    #[test]
    fn values_are_encoded_only_where_they_must_be() {
        for (text, value) in [
            ("search", "search"),
            ("", ""),
            ("a b", "a b"),
            ("a\tb", "=?base64?YQli?="),
            (" a", "=?base64?IGE=?="),
            ("a ", "=?base64?YSA=?="),
            ("ä", "=?base64?w6Q=?="),
            ("a\nb", "=?base64?YQpi?="),
            ("\u{7f}", "=?base64?fw==?="),
            ("=?base64?QQ==?=", "=?base64?PT9iYXNlNjQ/UVE9PT89?="),
            ("=?base64?x", "=?base64?x"),
        ] {
            assert_eq!(value_of(text), value, "{text:?}");
        }
    }

    #[test]
    fn only_what_is_known_to_be_safe_is_said_twice() {
        for (line, safe) in [
            (r#"{"id":1,"method":"tools/list"}"#, true),
            (
                r#"{"id":1,"method":"tools\/list","params":{"x":"tools/call"}}"#,
                true,
            ),
            (r#"{"id":1,"method":"tools/call"}"#, false),
            (r#"{"id":1,"method":"tools\/call"}"#, false),
            (r#"{"id":1,"method":"tools\u002fcall"}"#, false),
            (r#"{"id":1,"method":"vendor/do"}"#, false),
            (r#"{"id":1,"result":{}}"#, false),
        ] {
            assert_eq!(is_safe(line), safe, "{line}");
        }
    }

    #[test]
    fn headers_say_what_the_line_says() {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        let told = |method: &str, params: &str| {
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params},{meta}}}}}"#
            );
            let mirrors = [Mirror {
                path: vec!["q".to_owned()],
                header: "Mcp-Param-Q".to_owned(),
            }];
            let headers = Told::read(&line).expect("a request").headers(&mirrors);
            let parts = headers
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            parts.collect::<Vec<_>>().join(" ")
        };
        let version = "MCP-Protocol-Version=2026-07-28";
        assert_eq!(
            told("tools/call", r#""name":"a\u0062","arguments":{"q":1}"#),
            format!("{version} Mcp-Method=tools/call Mcp-Name=ab Mcp-Param-Q=1")
        );
        assert_eq!(
            told("resources/read", r#""uri":"file:///ä","name":"n""#),
            format!("{version} Mcp-Method=resources/read Mcp-Name==?base64?ZmlsZTovLy/DpA==?=")
        );
        assert_eq!(
            told("tasks/get", r#""taskId":"7""#),
            format!("{version} Mcp-Method=tasks/get Mcp-Name=7")
        );
        assert_eq!(
            told("tools/list", r#""name":"n""#),
            format!("{version} Mcp-Method=tools/list")
        );
        assert_eq!(Told::read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), None);
    }

    #[test]
    fn arguments_are_said_as_the_protocol_wants_them() {
        for (raw, text) in [
            ("\"a\\u0062\"", Some("ab")),
            ("42", Some("42")),
            ("-7.0", Some("-7")),
            ("1e3", Some("1000")),
            ("123456789012345678901", Some("123456789012345678901")),
            ("true", Some("true")),
            ("1.5", None),
            ("{}", None),
            ("[1]", None),
        ] {
            assert_eq!(text_of(raw).as_deref(), text, "{raw}");
        }
    }
}
