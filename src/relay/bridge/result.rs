//! Results on their way to a client of the other era, or of an older revision.

use std::borrow::Cow;

use crate::mcp::meta::SERVER_INFO as SERVER_INFO_KEY;
use crate::mcp::revision::Revision;
use crate::model::hint::CacheHint;
use crate::relay::bridge::{Change, Edits, SERVER_INFO_MEMBER, content};
use crate::wire::members::{Members, MembersError};

/// What a result of a stateless server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultType {
    Complete,
    InputRequired,
    /// Of the extension for tasks.
    Task,
    /// Of another extension, or no string at all. Raw JSON. A client that does not know it must
    /// take it for an error.
    Other(String),
}

impl ResultType {
    /// Complete when the result does not say.
    pub fn of(result: &Members<'_>) -> ResultType {
        match result.get("resultType") {
            None => ResultType::Complete,
            Some(raw) => match result.string("resultType").as_deref() {
                Some("complete") => ResultType::Complete,
                Some("input_required") => ResultType::InputRequired,
                Some("task") => ResultType::Task,
                _ => ResultType::Other(raw.to_owned()),
            },
        }
    }
}

fn is_server_info(key: &str) -> bool {
    key == SERVER_INFO_KEY
}

/// A complete result of a stateless server for a client with a session. `text`: the whole
/// message that `result` is a part of.
pub fn stateless_to_session(
    text: &str,
    result: &Members<'_>,
    revision: Revision,
) -> Result<Edits, MembersError> {
    let mut drop = vec!["resultType", "ttlMs", "cacheScope"];
    // Every session revision demands an object.
    let structured = result.get("structuredContent");
    if structured.is_some_and(|raw| !raw.starts_with('{')) {
        drop.push("structuredContent");
    }
    let change = Change {
        drop: &drop,
        first: "",
        drop_meta: is_server_info,
        first_meta: "",
    };
    let mut edits = change.of(text, result)?;
    edits.extend(content::for_revision(text, result, revision));
    Ok(edits)
}

/// A result of a server with sessions for a stateless client. `hint`: for resources/read.
pub fn session_to_stateless(
    text: &str,
    result: &Members<'_>,
    hint: Option<CacheHint>,
) -> Result<Edits, MembersError> {
    let complete = "\"resultType\":\"complete\"";
    let first = match hint {
        Some(hint) => Cow::Owned(format!("{complete},{}", hint.members())),
        None => Cow::Borrowed(complete),
    };
    // What stands under these names already was not meant as this era means it.
    let change = Change {
        drop: &["resultType", "ttlMs", "cacheScope"],
        first: &first,
        drop_meta: is_server_info,
        first_meta: SERVER_INFO_MEMBER,
    };
    change.of(text, result)
}

/// A result of a stateless server for a stateless client: what it says about itself is ours.
pub fn stateless_to_stateless(text: &str, result: &Members<'_>) -> Result<Edits, MembersError> {
    let first = match result.get("resultType") {
        Some(_) => "",
        None => "\"resultType\":\"complete\"",
    };
    let change = Change {
        drop: &[],
        first,
        drop_meta: is_server_info,
        first_meta: SERVER_INFO_MEMBER,
    };
    change.of(text, result)
}

#[cfg(test)]
mod tests {
    use super::{ResultType, session_to_stateless, stateless_to_session, stateless_to_stateless};
    use crate::mcp::revision::Revision;
    use crate::model::hint::CacheHint;
    use crate::relay::bridge::{SERVER_INFO, applied};
    use crate::wire::members::Members;
    use crate::wire::message::FROM_SERVER;

    fn members(text: &str) -> Members<'_> {
        Members::parse(text, 1, FROM_SERVER).expect("a result")
    }

    fn ours() -> String {
        format!("\"io.modelcontextprotocol/serverInfo\":{SERVER_INFO}")
    }

    #[test]
    fn strips_what_a_session_does_not_know() {
        let cases = [
            (r#"{"resultType":"complete"}"#, "{}"),
            (
                r#"{"content":[] , "resultType":"complete", "isError":false}"#,
                r#"{"content":[], "isError":false}"#,
            ),
            (
                r#"{"ttlMs":0,"contents":[{"ttlMs":1}],"cacheScope":"x","resultType":"complete"}"#,
                r#"{"contents":[{"ttlMs":1}]}"#,
            ),
            (
                r#"{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"x"}},"content":[]}"#,
                r#"{"content":[]}"#,
            ),
            (
                r#"{"content":[],"_meta":{"a":1.10,"io.modelcontextprotocol/server\u0049nfo":{}}}"#,
                r#"{"content":[],"_meta":{"a":1.10}}"#,
            ),
            (r#"{"_meta":{},"a":1}"#, r#"{"_meta":{},"a":1}"#),
            (r#"{"_meta":null,"a":1}"#, r#"{"_meta":null,"a":1}"#),
            (
                r#"{"content":[],"structuredContent":[1],"resultType":"complete"}"#,
                r#"{"content":[]}"#,
            ),
            (
                r#"{"structuredContent":{"resultType":1},"content":[]}"#,
                r#"{"structuredContent":{"resultType":1},"content":[]}"#,
            ),
        ];
        for (text, expected) in cases {
            let edits = stateless_to_session(text, &members(text), Revision::NEWEST);
            assert_eq!(applied(text, edits.expect("edits")), expected, "{text}");
        }
        let text = r#"{"resultType":"complete","content":[{"type":"audio","mimeType":"a/b"}]}"#;
        let edits = stateless_to_session(text, &members(text), Revision::V2024_11_05);
        assert_eq!(
            applied(text, edits.expect("edits")),
            r#"{"content":[{"type":"text","text":"[audio, mimeType: a/b]"}]}"#
        );
    }

    #[test]
    fn adds_what_a_stateless_client_expects() {
        let hint = CacheHint {
            ttl_ms: 5,
            is_private: true,
        };
        let cases = [
            ("{}", None, r#"{"resultType":"complete","_meta":{OURS}}"#),
            (
                r#"{"contents":[],"resultType":7}"#,
                Some(hint),
                r#"{"resultType":"complete","ttlMs":5,SCOPE,"_meta":{OURS},"contents":[]}"#,
            ),
            (
                r#"{"content":[],"_meta":{"io.modelcontextprotocol/serverInfo":1,"a":2}}"#,
                None,
                r#"{"resultType":"complete","content":[],"_meta":{OURS,"a":2}}"#,
            ),
            (
                r#"{"_meta":[],"x":1}"#,
                None,
                r#"{"resultType":"complete","_meta":{OURS},"x":1}"#,
            ),
        ];
        for (text, hint, expected) in cases {
            let edits = session_to_stateless(text, &members(text), hint).expect("edits");
            let scope = r#""cacheScope":"private""#;
            let expected = expected.replace("OURS", &ours()).replace("SCOPE", scope);
            assert_eq!(applied(text, edits), expected, "{text}");
        }
    }

    #[test]
    fn puts_our_name_in_the_place_of_a_servers() {
        let cases = [
            (
                r#"{"resultType":"input_required","requestState":"s"}"#,
                r#"{"_meta":{OURS},"resultType":"input_required","requestState":"s"}"#,
            ),
            (
                r#"{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"x"}},"ttlMs":9}"#,
                r#"{"resultType":"complete","_meta":{OURS},"ttlMs":9}"#,
            ),
        ];
        for (text, expected) in cases {
            let edits = stateless_to_stateless(text, &members(text)).expect("edits");
            assert_eq!(
                applied(text, edits),
                expected.replace("OURS", &ours()),
                "{text}"
            );
        }
    }

    #[test]
    fn tells_result_types_apart() {
        for (text, expected) in [
            ("{}", ResultType::Complete),
            (r#"{"resultType":"complete"}"#, ResultType::Complete),
            (
                r#"{"resultType":"input\u005frequired"}"#,
                ResultType::InputRequired,
            ),
            (r#"{"resultType":"task"}"#, ResultType::Task),
            (r#"{"resultType":"x"}"#, ResultType::Other("\"x\"".into())),
            (r#"{"resultType":null}"#, ResultType::Other("null".into())),
        ] {
            assert_eq!(ResultType::of(&members(text)), expected, "{text}");
        }
    }

    #[test]
    fn refuses_a_meta_with_a_key_twice() {
        let text = r#"{"_meta":{"a":1,"a":2}}"#;
        assert!(stateless_to_session(text, &members(text), Revision::NEWEST).is_err());
        assert!(session_to_stateless(text, &members(text), None).is_err());
        assert!(stateless_to_stateless(text, &members(text)).is_err());
    }
}
