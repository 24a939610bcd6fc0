//! Requests on their way to a server of the other era. The span of a progress token is never
//! touched: the link puts its own there.

use crate::mcp::error::{INVALID_PARAMS, RpcError};
use crate::mcp::level::Level;
use crate::mcp::meta::{self, RESERVED, TASKS_EXTENSION};
use crate::mcp::revision::Revision;
use crate::relay::bridge::{Change, Edits};
use crate::wire::json::quoted;
use crate::wire::members::{Members, MembersError, span_in};
use crate::wire::message::FROM_CLIENT;

/// Members of `params` that belong to round trips of one era or to tasks of the other. What a
/// client of sessions writes there would be taken for answers to questions it was never asked;
/// what a stateless one does, for the wish to have a task in a form that it does not know.
const OF_ONE_ERA: [&str; 3] = ["inputResponses", "requestState", "task"];

fn is_reserved(key: &str) -> bool {
    key.starts_with(RESERVED)
}

fn bad_params(error: &MembersError) -> RpcError {
    RpcError::new(INVALID_PARAMS, format!("params: {error}"))
}

/// What a client of a session tells a stateless server about itself with every request: members
/// of `_meta`, made once for a session and a level.
pub fn stamp(revision: Revision, capabilities: &str, info: &str, level: Level) -> String {
    let capabilities = capabilities_for_stateless(revision, capabilities);
    let who = meta::of_request(&capabilities, info);
    format!("{who},\"{}\":\"{}\"", meta::LOG_LEVEL, level.as_str())
}

/// Capabilities of a session's client in the words of the stateless era: what that does not know
/// (changes of roots, tasks of 2025-11-25) is left out, and so is what the client's revision
/// cannot be asked.
pub fn capabilities_for_stateless(revision: Revision, capabilities: &str) -> String {
    let Ok(members) = Members::parse(capabilities, 1, FROM_CLIENT) else {
        return "{}".to_owned();
    };
    let kept = members
        .iter()
        .filter(|(_, raw)| raw.starts_with('{'))
        .filter_map(|(key, raw)| {
            let value = match key {
                "tasks" => return None,
                "roots" => "{}".to_owned(),
                "elicitation" => elicitation(revision, raw)?,
                "extensions" => without(raw, TASKS_EXTENSION),
                _ => raw.to_owned(),
            };
            Some(format!("{}:{value}", quoted(key)))
        });
    format!("{{{}}}", kept.collect::<Vec<_>>().join(","))
}

/// Forms as declared; visits of URLs only for revisions that have them.
fn elicitation(revision: Revision, raw: &str) -> Option<String> {
    if revision.has_url_elicitation() {
        return Some(raw.to_owned());
    }
    let members = Members::parse(raw, 2, FROM_CLIENT).ok()?;
    let has_forms = members.get("form").is_some() || members.get("url").is_none();
    has_forms.then(|| without(raw, "url"))
}

fn without(object: &str, key: &str) -> String {
    let Ok(members) = Members::parse(object, 2, FROM_CLIENT) else {
        return "{}".to_owned();
    };
    let kept = members.iter().filter(|(other, _)| *other != key);
    let kept: Vec<String> = kept
        .map(|(key, raw)| format!("{}:{raw}", quoted(key)))
        .collect();
    format!("{{{}}}", kept.join(","))
}

/// The answers that a request brings when it is sent again. Raw JSON.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// By key; `{}` when nothing was asked.
    pub responses: String,
    /// Exactly as the server gave it.
    pub state: Option<String>,
}

impl Retry {
    fn members(&self) -> String {
        let responses = match self.responses.as_str() {
            "" | "{}" => None,
            raw => Some(format!("\"inputResponses\":{raw}")),
        };
        let state = self.state.as_ref();
        let state = state.map(|raw| format!("\"requestState\":{raw}"));
        let members: Vec<String> = responses.into_iter().chain(state).collect();
        members.join(",")
    }
}

/// A request of a session for a stateless server. `text`: the whole message, `params` its
/// parameters, `stamp` what `stamp` made.
pub fn to_stateless(
    text: &str,
    params: Option<&Members<'_>>,
    stamp: &str,
    retry: Option<&Retry>,
) -> Result<Edits, RpcError> {
    let first = retry.map(Retry::members).unwrap_or_default();
    if let Some(params) = params {
        let change = Change {
            drop: &OF_ONE_ERA,
            first: &first,
            drop_meta: is_reserved,
            first_meta: stamp,
        };
        return change.of(text, params).map_err(|error| bad_params(&error));
    }
    let comma = if first.is_empty() { "" } else { "," };
    let made = format!("{{{first}{comma}\"_meta\":{{{stamp}}}}}");
    let message = Members::parse(text, 0, FROM_CLIENT).map_err(|error| bad_params(&error))?;
    Ok(match message.get("params") {
        // A `null`: an envelope takes nothing else for parameters that are missing.
        Some(raw) => vec![(span_in(text, raw), made)],
        None => message.rewritten(text, |_| false, &format!("\"params\":{made}")),
    })
}

/// A request of a stateless client for a server with sessions. `meta`: the members of its `_meta`,
/// if they are at hand.
pub fn to_session(
    text: &str,
    params: Option<&Members<'_>>,
    meta: Option<&Members<'_>>,
) -> Result<Edits, RpcError> {
    let Some(params) = params else {
        return Ok(Edits::new());
    };
    let change = Change {
        drop: &OF_ONE_ERA,
        first: "",
        drop_meta: is_reserved,
        first_meta: "",
    };
    match meta {
        Some(_) => Ok(change.of_parsed(text, params, meta)),
        None => change.of(text, params).map_err(|error| bad_params(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Retry, capabilities_for_stateless, stamp, to_session, to_stateless};
    use crate::mcp::level::Level;
    use crate::mcp::revision::Revision;
    use crate::relay::bridge::applied;
    use crate::wire::members::Members;
    use crate::wire::message::{Envelope, FROM_CLIENT};

    fn message(params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0", "id":1,"method":"tools/call"{params}}}"#)
    }

    fn stateless(params: &str, retry: Option<&Retry>) -> String {
        let text = message(params);
        let envelope = Envelope::parse(&text, FROM_CLIENT).expect("a message");
        let members = envelope
            .params
            .map(|raw| Members::parse(raw, 1, FROM_CLIENT).expect("params"));
        let edits = to_stateless(&text, members.as_ref(), "\"S\":0", retry).expect("edits");
        applied(&text, edits)
    }

    fn session(params: &str) -> String {
        let text = message(params);
        let envelope = Envelope::parse(&text, FROM_CLIENT).expect("a message");
        let members = envelope
            .params
            .map(|raw| Members::parse(raw, 1, FROM_CLIENT).expect("params"));
        applied(
            &text,
            to_session(&text, members.as_ref(), None).expect("edits"),
        )
    }

    #[test]
    fn tells_a_stateless_server_what_it_wants_to_know() {
        let cases = [
            (
                r#","params":{"name":"a"}"#,
                r#","params":{"_meta":{"S":0},"name":"a"}"#,
            ),
            (r#","params":{ }"#, r#","params":{"_meta":{"S":0} }"#),
            (r#","params":null"#, r#","params":{"_meta":{"S":0}}"#),
            (
                r#","params":{"name":"a","_meta":{"progressToken":1.10}}"#,
                r#","params":{"name":"a","_meta":{"S":0,"progressToken":1.10}}"#,
            ),
            (
                r#","params":{"_meta":{}}"#,
                r#","params":{"_meta":{"S":0}}"#,
            ),
            (
                r#","params":{"_meta":7,"n":1}"#,
                r#","params":{"_meta":{"S":0},"n":1}"#,
            ),
            (
                r#","params":{"_m\u0065ta":{"io.modelcontextprotocol/logLevel":1,"a":[{}]}}"#,
                r#","params":{"_m\u0065ta":{"S":0,"a":[{}]}}"#,
            ),
            (
                r#","params":{"_meta":{"a":1,"io.\u006dodelcontextprotocol/x":1}}"#,
                r#","params":{"_meta":{"S":0,"a":1}}"#,
            ),
            (
                r#","params":{"task":{"ttl":1},"arguments":{"task":1,"_meta":{"k":1}}}"#,
                r#","params":{"_meta":{"S":0},"arguments":{"task":1,"_meta":{"k":1}}}"#,
            ),
            (
                r#","params":{"requestState":"x","name":"a" , "inputResponses":{}}"#,
                r#","params":{"_meta":{"S":0},"name":"a"}"#,
            ),
        ];
        for (params, expected) in cases {
            assert_eq!(stateless(params, None), message(expected), "{params}");
        }
        assert_eq!(
            stateless("", None),
            r#"{"params":{"_meta":{"S":0}},"jsonrpc":"2.0", "id":1,"method":"tools/call"}"#
        );
    }

    #[test]
    fn brings_answers_when_it_is_sent_again() {
        let retry = |responses: &str, state: Option<&str>| Retry {
            responses: responses.to_owned(),
            state: state.map(str::to_owned),
        };
        let both = retry(r#"{"a":{}}"#, Some(r#""\u0041""#));
        let params = r#","params":{"requestState":0}"#;
        assert_eq!(
            stateless(params, Some(&both)),
            message(
                r#","params":{"inputResponses":{"a":{}},"requestState":"\u0041","_meta":{"S":0}}"#
            )
        );
        let state = retry("{}", Some("\"s\""));
        assert_eq!(
            stateless(r#","params":{"_meta":{}}"#, Some(&state)),
            message(r#","params":{"requestState":"s","_meta":{"S":0}}"#)
        );
        let answers = retry(r#"{"a":{}}"#, None);
        assert_eq!(
            stateless(r#","params":null"#, Some(&answers)),
            message(r#","params":{"inputResponses":{"a":{}},"_meta":{"S":0}}"#)
        );
    }

    #[test]
    fn keeps_from_a_server_with_sessions_what_it_does_not_know() {
        let cases = [
            ("", ""),
            (r#","params":{"name":"a"}"#, r#","params":{"name":"a"}"#),
            (
                r#","params":{"_meta":{},"n":1}"#,
                r#","params":{"_meta":{},"n":1}"#,
            ),
            (
                r#","params":{"n":1,"_meta":{"io.modelcontextprotocol/x":1,"traceparent":"t"}}"#,
                r#","params":{"n":1,"_meta":{"traceparent":"t"}}"#,
            ),
            (
                r#","params":{"_meta":{"io.modelcontextprotocol/a":{"x":1}},"n":1}"#,
                r#","params":{"n":1}"#,
            ),
            (
                r#","params":{"inputResponses":{},"requestState":"q","task":{"ttl":1},
                "n":1,"_meta":{"progressToken":2, "io.modelcontextprotocol/a":1}}"#,
                r#","params":{"n":1,"_meta":{"progressToken":2}}"#,
            ),
        ];
        for (params, expected) in cases {
            assert_eq!(session(params), message(expected), "{params}");
        }
    }

    #[test]
    fn refuses_a_key_that_stands_twice() {
        let text = message(r#","params":{"_meta":{"a":1,"\u0061":2}}"#);
        let envelope = Envelope::parse(&text, FROM_CLIENT).expect("a message");
        let params = Members::parse(envelope.params.expect("params"), 1, FROM_CLIENT);
        let params = params.expect("members");
        let refused = |code: Option<i32>| assert_eq!(code, Some(-32602));
        let edits = to_stateless(&text, Some(&params), "\"S\":0", None);
        refused(edits.err().map(|error| error.code));
        refused(to_session(&text, Some(&params), None).err().map(|e| e.code));
    }

    #[test]
    fn translates_capabilities() {
        let cases = [
            ("{}", "{}", "{}"),
            (
                r#"{"roots":{"listChanged":true}}"#,
                r#"{"roots":{}}"#,
                r#"{"roots":{}}"#,
            ),
            (
                r#"{"tasks":{"list":{}},"sampling":{"tools":{}},"roots":null}"#,
                r#"{"sampling":{"tools":{}}}"#,
                r#"{"sampling":{"tools":{}}}"#,
            ),
            (
                r#"{"elicitation":{}}"#,
                r#"{"elicitation":{}}"#,
                r#"{"elicitation":{}}"#,
            ),
            (
                r#"{"elicitation":{"form":{},"url":{}}}"#,
                r#"{"elicitation":{"form":{}}}"#,
                r#"{"elicitation":{"form":{},"url":{}}}"#,
            ),
            (
                r#"{"elicitation":{"url":{}}}"#,
                "{}",
                r#"{"elicitation":{"url":{}}}"#,
            ),
            (
                r#"{"experimental":{"x":{"y":1.0}},
                "extensions":{"io.modelcontextprotocol/tasks":{},"e":{}}}"#,
                r#"{"experimental":{"x":{"y":1.0}},"extensions":{"e":{}}}"#,
                r#"{"experimental":{"x":{"y":1.0}},"extensions":{"e":{}}}"#,
            ),
        ];
        for (declared, older, newest) in cases {
            let older_got = capabilities_for_stateless(Revision::V2025_06_18, declared);
            assert_eq!(older_got, older, "{declared}");
            let newest_got = capabilities_for_stateless(Revision::NEWEST, declared);
            assert_eq!(newest_got, newest, "{declared}");
        }
        let stamp = stamp(
            Revision::NEWEST,
            "{}",
            r#"{"name":"c","version":"1"}"#,
            Level::Info,
        );
        let value: serde_json::Value =
            serde_json::from_str(&format!("{{{stamp}}}")).expect("members");
        assert_eq!(
            value["io.modelcontextprotocol/protocolVersion"],
            "2026-07-28"
        );
        assert_eq!(value["io.modelcontextprotocol/logLevel"], "info");
        assert_eq!(value["io.modelcontextprotocol/clientInfo"]["name"], "c");
    }
}
