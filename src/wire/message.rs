//! A JSON-RPC 2.0 envelope as spans of the text it came in. The payload (`params`, `result`,
//! `error`) is located and checked, never decoded.

use std::borrow::Cow;
use std::fmt;

use crate::base::limits;
use crate::wire::json::{Fault, JsonError, Rules, string_value};
use crate::wire::members::{Members, MembersError};

/// Rules for messages from clients: lone surrogates are refused, because two parsers may read
/// such a name differently.
pub const FROM_CLIENT: Rules = Rules {
    depth: limits::JSON_DEPTH,
    lone_surrogates: false,
};
/// Rules for messages from servers: a lone surrogate in a result is passed on as it came.
pub const FROM_SERVER: Rules = Rules {
    depth: limits::JSON_DEPTH,
    lone_surrogates: true,
};

/// One message. `id` is the raw JSON of a string or integer.
#[derive(Debug)]
pub struct Envelope<'a> {
    pub text: &'a str,
    pub kind: Kind<'a>,
    pub params: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<'a> {
    Request {
        id: &'a str,
        method: Cow<'a, str>,
    },
    Notification {
        method: Cow<'a, str>,
    },
    Result {
        id: &'a str,
        result: &'a str,
    },
    /// `id` is absent when the peer could not tell which request was at fault.
    Error {
        id: Option<&'a str>,
        error: &'a str,
    },
}

/// Why a text is not a message, with the code that JSON-RPC 2.0 section 5.1 gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvelopeError {
    NotUtf8,
    Json(JsonError),
    /// Valid JSON, but not a valid message. `id` is the request's own, if it could be read.
    Invalid {
        reason: String,
        id: Option<String>,
    },
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnvelopeError::NotUtf8 => f.write_str("the message is not UTF-8"),
            EnvelopeError::Json(error) => error.fmt(f),
            EnvelopeError::Invalid { reason, .. } => f.write_str(reason),
        }
    }
}

impl EnvelopeError {
    /// The text is no JSON at all.
    pub fn is_syntax(&self) -> bool {
        matches!(self, EnvelopeError::Json(error) if error.fault == Fault::Syntax)
    }
}

impl<'a> Envelope<'a> {
    pub fn from_bytes(bytes: &'a [u8], rules: Rules) -> Result<Envelope<'a>, EnvelopeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| EnvelopeError::NotUtf8)?;
        Envelope::parse(text, rules)
    }

    pub fn parse(text: &'a str, rules: Rules) -> Result<Envelope<'a>, EnvelopeError> {
        let members = match Members::parse(text, 0, rules) {
            Ok(members) => members,
            Err(MembersError::Json(error)) => return Err(EnvelopeError::Json(error)),
            Err(other) => return Err(invalid(&format!("message: {other}"), None)),
        };
        let id = members.get("id");
        let known_id = id.filter(|raw| is_id(raw));
        if members.string("jsonrpc").as_deref() != Some("2.0") {
            return Err(invalid("\"jsonrpc\" must be \"2.0\"", known_id));
        }
        let params = match members.get("params") {
            None | Some("null") => None,
            Some(raw) if raw.starts_with('{') => Some(raw),
            Some(_) => return Err(invalid("\"params\" must be an object", known_id)),
        };
        let kind = classify(&members, id, known_id)?;
        Ok(Envelope { text, kind, params })
    }
}

fn classify<'a>(
    members: &Members<'a>,
    id: Option<&'a str>,
    known_id: Option<&'a str>,
) -> Result<Kind<'a>, EnvelopeError> {
    if let Some(raw) = members.get("method") {
        let Some(method) = string_value(raw) else {
            return Err(invalid("\"method\" must be a string", known_id));
        };
        if members.get("result").is_some() || members.get("error").is_some() {
            return Err(invalid(
                "a message is a request or a response, not both",
                known_id,
            ));
        }
        return match (id, known_id) {
            (None, _) => Ok(Kind::Notification { method }),
            (_, Some(id)) => Ok(Kind::Request { id, method }),
            (Some(_), None) => Err(invalid("\"id\" must be a string or an integer", None)),
        };
    }
    match (members.get("result"), members.get("error"), known_id) {
        (Some(result), None, Some(id)) => Ok(Kind::Result { id, result }),
        (None, Some(error), known) if id.is_none_or(|raw| raw == "null") || known.is_some() => {
            Ok(Kind::Error { id: known, error })
        }
        _ => Err(invalid("neither a request nor a response", known_id)),
    }
}

fn invalid(reason: &str, id: Option<&str>) -> EnvelopeError {
    EnvelopeError::Invalid {
        reason: reason.to_owned(),
        id: id.map(str::to_owned),
    }
}

/// MCP ids are strings or integers, never null (basic/index of every revision).
fn is_id(raw: &str) -> bool {
    if raw.starts_with('"') {
        return raw.len() <= limits::ID_BYTES + 2;
    }
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    !digits.is_empty() && digits.len() <= 40 && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The form in which two ids are compared: `"a\u0062"` and `"ab"` are the same id, `1` and
/// `"1"` are not.
pub fn canonical_id(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    match string_value(raw) {
        Some(value) => Cow::Owned(crate::wire::json::quoted(&value)),
        None => Cow::Borrowed(raw),
    }
}

/// Raw line breaks in JSON text are white space; one message must stay one line.
pub fn blank_line_breaks(bytes: &mut [u8]) {
    if memchr::memchr2(b'\n', b'\r', bytes).is_none() {
        return;
    }
    for byte in bytes.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::{Envelope, EnvelopeError, FROM_CLIENT, Kind, blank_line_breaks, canonical_id};

    fn kind(text: &str) -> Result<Kind<'_>, EnvelopeError> {
        Envelope::parse(text, FROM_CLIENT).map(|envelope| envelope.kind)
    }

    #[test]
    fn tells_messages_apart() {
        let call = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"x":1}}"#;
        assert_eq!(
            kind(call),
            Ok(Kind::Request {
                id: "\"a\"",
                method: "tools/call".into()
            })
        );
        let notice = r#"{"method":"notifications/initialized","jsonrpc":"2.0"}"#;
        let expected = Kind::Notification {
            method: "notifications/initialized".into(),
        };
        assert_eq!(kind(notice), Ok(expected));
        let answer = r#"{"jsonrpc":"2.0","id":-7,"result":null}"#;
        assert_eq!(
            kind(answer),
            Ok(Kind::Result {
                id: "-7",
                result: "null"
            })
        );
        let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":1}}"#;
        assert_eq!(
            kind(error),
            Ok(Kind::Error {
                id: None,
                error: "{\"code\":1}"
            })
        );
    }

    #[test]
    fn escaped_member_names_are_the_same_members() {
        let text = r#"{"jsonrpc":"2.0","\u0069d":1,"m\u0065thod":"p\u0069ng"}"#;
        assert_eq!(
            kind(text),
            Ok(Kind::Request {
                id: "1",
                method: "ping".into()
            })
        );
    }

    #[test]
    fn refuses_what_is_not_a_message() {
        let cases = [
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[],"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}"#,
            "1",
            "\"x\"",
        ];
        for text in cases {
            assert!(
                matches!(kind(text), Err(EnvelopeError::Invalid { .. })),
                "{text}"
            );
        }
        let long = format!(
            r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#,
            "x".repeat(300)
        );
        assert!(kind(&long).is_err());
        assert!(matches!(kind("{"), Err(EnvelopeError::Json(_))));
        let bytes = b"{\"jsonrpc\":\"2.0\",\"x\":\"\xff\"}";
        assert_eq!(
            Envelope::from_bytes(bytes, FROM_CLIENT).err(),
            Some(EnvelopeError::NotUtf8)
        );
    }

    #[test]
    fn invalid_messages_keep_a_readable_id() {
        let Err(EnvelopeError::Invalid { id, .. }) = kind(r#"{"id":"q","method":"x"}"#) else {
            panic!("must be refused");
        };
        assert_eq!(id.as_deref(), Some("\"q\""));
    }

    #[test]
    fn ids_compare_by_value() {
        assert_eq!(canonical_id(r#""a\u0062""#), canonical_id(r#""ab""#));
        assert_ne!(canonical_id("1"), canonical_id("\"1\""));
    }

    #[test]
    fn one_message_is_one_line() {
        let mut text = b"{\n\"a\":\r\n1}".to_vec();
        blank_line_breaks(&mut text);
        assert_eq!(text, b"{ \"a\":  1}");
    }
}
