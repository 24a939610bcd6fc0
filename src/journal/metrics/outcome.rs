//! How a request ended, in the words of a label: a closed set, whatever servers say.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::mcp::error::{
    HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND,
    MISSING_CLIENT_CAPABILITY, PARSE_ERROR, RESOURCE_NOT_FOUND, Reason, RpcError,
    SESSION_NOT_FOUND, UNSUPPORTED_VERSION, URL_ELICITATION_REQUIRED,
};
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// A result that says of itself that the tool failed.
    ToolError,
    /// An error of the server, or of the gateway about the request.
    Error(i32),
    /// An error of the gateway about the server.
    Failed(Reason),
    /// Nobody waits for it any more.
    Cancelled,
}

impl Outcome {
    pub fn of_error(error: &RpcError) -> Outcome {
        match error.reason() {
            Some(reason) => Outcome::Failed(reason),
            None => Outcome::Error(error.code),
        }
    }

    /// Of a response: `payload` is its result, or its error object.
    pub fn of_response(payload: &[u8], is_error: bool) -> Outcome {
        match is_error {
            true => Outcome::Error(code_of(payload).unwrap_or_default()),
            false if is_tool_error(payload) => Outcome::ToolError,
            false => Outcome::Success,
        }
    }

    /// `error.type` of the conventions; `None` for a success.
    pub fn error_type(self) -> Option<&'static str> {
        Some(match self {
            Outcome::Success => return None,
            Outcome::ToolError => "tool_error",
            Outcome::Error(code) => code_word(code),
            Outcome::Failed(reason) => reason.as_str(),
            Outcome::Cancelled => "cancelled",
        })
    }
}

/// All that `error_type` says.
pub fn error_types() -> impl Iterator<Item = &'static str> {
    let codes = CODES.iter().map(|(_, word)| *word);
    let reasons = Reason::ALL.into_iter().map(Reason::as_str);
    ["tool_error", "cancelled", OTHER]
        .into_iter()
        .chain(codes)
        .chain(reasons)
}

/// What the conventions say of an error that has no word.
const OTHER: &str = "_OTHER";

/// Servers may use any number; each would be a series of its own.
const CODES: &[(i32, &str)] = &[
    (PARSE_ERROR, "-32700"),
    (INVALID_REQUEST, "-32600"),
    (METHOD_NOT_FOUND, "-32601"),
    (INVALID_PARAMS, "-32602"),
    (INTERNAL_ERROR, "-32603"),
    (RESOURCE_NOT_FOUND, "-32002"),
    (SESSION_NOT_FOUND, "-32001"),
    (-32000, "-32000"),
    (URL_ELICITATION_REQUIRED, "-32042"),
    (HEADER_MISMATCH, "-32020"),
    (MISSING_CLIENT_CAPABILITY, "-32021"),
    (UNSUPPORTED_VERSION, "-32022"),
];

fn code_word(code: i32) -> &'static str {
    let known = CODES.iter().find(|(number, _)| *number == code);
    known.map_or(OTHER, |(_, word)| word)
}

fn code_of(error: &[u8]) -> Option<i32> {
    let members = Members::parse(str::from_utf8(error).ok()?, 1, FROM_SERVER).ok()?;
    members.get("code")?.parse().ok()
}

/// Whether a result has `isError: true`. Most have not, and are only searched for the word; what
/// has it somewhere is read.
fn is_tool_error(result: &[u8]) -> bool {
    const KEY: &[u8] = b"\"isError\"";
    // To make one takes longer than to search an answer of ordinary size.
    static FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(KEY));
    let mut places = FINDER.find_iter(result);
    let said = places.any(|at| is_true(&result[at + KEY.len()..]));
    said && str::from_utf8(result)
        .ok()
        .and_then(|text| Members::parse(text, 1, FROM_SERVER).ok())
        .is_some_and(|members| members.get("isError") == Some("true"))
}

/// A colon and `true`.
fn is_true(rest: &[u8]) -> bool {
    let rest = rest.trim_ascii_start();
    rest.strip_prefix(b":")
        .is_some_and(|rest| rest.trim_ascii_start().starts_with(b"true"))
}

#[cfg(test)]
mod tests {
    use super::{Outcome, error_types};
    use crate::mcp::error::{Reason, RpcError};
    use std::collections::BTreeSet;

    #[test]
    fn responses_are_judged_by_what_stands_in_them() {
        let of = |text: &str, is_error| Outcome::of_response(text.as_bytes(), is_error);
        for text in [
            "{}",
            "{\"isError\":false}",
            "{\"structuredContent\":{\"isError\":true}}",
            "{\"content\":[{\"text\":\"\\\"isError\\\":true\"}]}",
            "{\"content\":[{\"text\":\"isError\"}],\"isError\" : false}",
        ] {
            assert_eq!(of(text, false), Outcome::Success, "{text}");
        }
        for text in [
            "{\"isError\":true}",
            "{\"content\":[],\"isError\" : true}",
            "{\"structuredContent\":{\"isError\":false},\"isError\":\n true}",
        ] {
            assert_eq!(of(text, false), Outcome::ToolError, "{text}");
        }
        let error = of("{\"code\":-32602,\"message\":\"x\"}", true);
        assert_eq!(error, Outcome::Error(-32602));
    }

    #[test]
    fn words_are_a_closed_set() {
        let words: Vec<&str> = error_types().collect();
        let set: BTreeSet<&str> = words.iter().copied().collect();
        assert_eq!(words.len(), set.len(), "{words:?}");
        let crashed = RpcError::gateway(Reason::Crashed, "s", "x");
        let outcomes = [
            Outcome::ToolError,
            Outcome::Cancelled,
            Outcome::Error(-32602),
            Outcome::Error(77),
            Outcome::of_error(&crashed),
        ];
        for outcome in outcomes {
            assert!(outcome.error_type().is_some_and(|word| set.contains(word)));
        }
        assert_eq!(Outcome::Error(77).error_type(), Some("_OTHER"));
        assert_eq!(Outcome::of_error(&crashed).error_type(), Some("crashed"));
        assert_eq!(Outcome::Success.error_type(), None);
    }
}
