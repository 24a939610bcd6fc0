//! Errors of servers on their way to a client of the other era. All that both eras know passes
//! unchanged.

use crate::mcp::error::{
    HEADER_MISMATCH, INVALID_PARAMS, MISSING_CLIENT_CAPABILITY, RESOURCE_NOT_FOUND, Reason,
    RpcError, UNSUPPORTED_VERSION, URL_ELICITATION_REQUIRED,
};
use crate::mcp::method::Method;
use crate::relay::bridge::Edits;
use crate::wire::json::{elements, quoted};
use crate::wire::members::{Members, span_in};
use crate::wire::message::FROM_SERVER;

/// What becomes of an error.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes with these edits, which may be none.
    Pass(Edits),
    /// Another error in its place.
    Instead(RpcError),
    /// No error in this era but a result. Raw JSON.
    Result(String),
}

impl Verdict {
    fn unchanged() -> Verdict {
        Verdict::Pass(Edits::new())
    }
}

/// What was asked of which server.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub server: &'a str,
    pub method: Method,
    /// Of resources/read.
    pub uri: Option<&'a str>,
}

/// An error of a stateless server for a client with a session. `error`: the error object, a part
/// of the message `text`.
pub fn stateless_to_session(text: &str, error: &str, asked: &Asked<'_>) -> Verdict {
    let Some((members, code)) = parse(error) else {
        return Verdict::unchanged();
    };
    let internal = |what: &str| {
        let error = RpcError::gateway(Reason::BadUpstream, asked.server, what);
        Verdict::Instead(error)
    };
    match code {
        INVALID_PARAMS if asked.method == Method::ResourcesRead => {
            renumbered(text, &members, RESOURCE_NOT_FOUND, asked.uri)
        }
        HEADER_MISMATCH => internal("did not accept the headers of the gateway's request"),
        UNSUPPORTED_VERSION => internal("no longer speaks the revision it was found to speak"),
        MISSING_CLIENT_CAPABILITY => {
            let wanted = members
                .get("data")
                .and_then(|data| Members::parse(data, 2, FROM_SERVER).ok())
                .and_then(|data| Some(data.get("requiredCapabilities")?.to_owned()));
            let wanted = wanted.unwrap_or_else(|| "not said which".to_owned());
            internal(&format!(
                "needs a capability that this client lacks: {wanted}"
            ))
        }
        _ => Verdict::unchanged(),
    }
}

/// An error of a server with sessions for a stateless client.
pub fn session_to_stateless(text: &str, error: &str, asked: &Asked<'_>) -> Verdict {
    let Some((members, code)) = parse(error) else {
        return Verdict::unchanged();
    };
    match code {
        RESOURCE_NOT_FOUND if asked.method == Method::ResourcesRead => {
            renumbered(text, &members, INVALID_PARAMS, asked.uri)
        }
        URL_ELICITATION_REQUIRED => match visits(&members) {
            Some(result) => Verdict::Result(result),
            None => {
                let what = "wants a URL to be visited and does not say which";
                let error = RpcError::gateway(Reason::BadUpstream, asked.server, what);
                Verdict::Instead(error)
            }
        },
        _ => Verdict::unchanged(),
    }
}

/// A result of a type that the client's era does not have.
pub fn unknown_result(server: &str, result_type: &str) -> RpcError {
    let detail = format!("gave a result of type {result_type}, which this client does not know");
    RpcError::gateway(Reason::BadUpstream, server, &detail)
}

fn parse(error: &str) -> Option<(Members<'_>, i32)> {
    let members = Members::parse(error, 1, FROM_SERVER).ok()?;
    let code = members.get("code")?.parse().ok()?;
    Some((members, code))
}

/// The same error under another number; `data.uri` says what was not found.
fn renumbered(text: &str, error: &Members<'_>, code: i32, uri: Option<&str>) -> Verdict {
    let Some(old) = error.get("code") else {
        return Verdict::unchanged();
    };
    let mut edits = vec![(span_in(text, old), code.to_string())];
    let Some(uri) = uri.map(|uri| format!("\"uri\":{}", quoted(uri))) else {
        return Verdict::Pass(edits);
    };
    match error.get("data") {
        None => edits.extend(error.rewritten(text, |_| false, &format!("\"data\":{{{uri}}}"))),
        Some(raw) => match Members::parse(raw, 2, FROM_SERVER) {
            Ok(data) if data.get("uri").is_some() => {}
            Ok(data) => edits.extend(data.rewritten(text, |_| false, &uri)),
            Err(_) => edits.push((span_in(text, raw), format!("{{{uri},\"detail\":{raw}}}"))),
        },
    }
    Verdict::Pass(edits)
}

/// The visits that an error demands, as a result that asks for them. The ids under which their
/// end would be told do not exist in the stateless era.
fn visits(error: &Members<'_>) -> Option<String> {
    let data = Members::parse(error.get("data")?, 2, FROM_SERVER).ok()?;
    let listed = elements(data.get("elicitations")?, FROM_SERVER)?;
    let mut requests = Vec::with_capacity(listed.len());
    for (at, raw) in listed.iter().enumerate() {
        let params = Members::parse(raw, 3, FROM_SERVER).ok()?;
        let edits = params.rewritten(raw, |key| key == "elicitationId", "");
        let params = String::from_utf8(crate::wire::members::edited(raw, edits)).ok()?;
        let key = at + 1;
        requests.push(format!(
            "\"url{key}\":{{\"method\":\"elicitation/create\",\"params\":{params}}}"
        ));
    }
    (!requests.is_empty()).then(|| {
        let requests = requests.join(",");
        format!("{{\"resultType\":\"input_required\",\"inputRequests\":{{{requests}}}}}")
    })
}

#[cfg(test)]
mod tests {
    use super::{Asked, Verdict, session_to_stateless, stateless_to_session};
    use crate::mcp::method::Method;
    use crate::relay::bridge::applied;

    fn asked(method: Method) -> Asked<'static> {
        Asked {
            server: "s",
            method,
            uri: Some("x:/\"1"),
        }
    }

    fn passed(text: &str, verdict: Verdict) -> String {
        match verdict {
            Verdict::Pass(edits) => applied(text, edits),
            other => panic!("must pass: {other:?}"),
        }
    }

    #[test]
    fn renumbers_resources_that_are_not_found() {
        let cases = [
            (
                r#"{"code":CODE,"message":"m"}"#,
                r#"{"data":{"uri":"x:/\"1"},"code":CODE,"message":"m"}"#,
            ),
            (
                r#"{"message":"m", "data":{ "a":1.10}, "code": CODE }"#,
                r#"{"message":"m", "data":{"uri":"x:/\"1", "a":1.10}, "code": CODE }"#,
            ),
            (
                r#"{"code":CODE,"message":"m","data":{"ur\u0069":"y"}}"#,
                r#"{"code":CODE,"message":"m","data":{"ur\u0069":"y"}}"#,
            ),
            (
                r#"{"code":CODE,"message":"m","data":"d"}"#,
                r#"{"code":CODE,"message":"m","data":{"uri":"x:/\"1","detail":"d"}}"#,
            ),
        ];
        let read = asked(Method::ResourcesRead);
        for (before, after) in cases {
            let text = before.replace("CODE", "-32602");
            let got = passed(&text, stateless_to_session(&text, &text, &read));
            assert_eq!(got, after.replace("CODE", "-32002"));
            let text = before.replace("CODE", "-32002");
            let got = passed(&text, session_to_stateless(&text, &text, &read));
            assert_eq!(got, after.replace("CODE", "-32602"));
        }
    }

    #[test]
    fn leaves_other_errors_as_they_came() {
        for (method, code) in [
            (Method::ToolsCall, -32602),
            (Method::ToolsCall, -32002),
            (Method::ResourcesRead, -32603),
            (Method::ResourcesRead, 7),
        ] {
            let text = format!("{{\"code\":{code},\"message\":\"m\",\"data\":[1.10]}}");
            let asked = asked(method);
            assert_eq!(
                stateless_to_session(&text, &text, &asked),
                Verdict::Pass(vec![])
            );
            assert_eq!(
                session_to_stateless(&text, &text, &asked),
                Verdict::Pass(vec![])
            );
        }
    }

    #[test]
    fn explains_what_a_session_cannot_know() {
        for code in [-32020, -32021, -32022] {
            let text = format!(
                "{{\"code\":{code},\"message\":\"m\",\
                 \"data\":{{\"requiredCapabilities\":{{\"sampling\":{{}}}}}}}}"
            );
            match stateless_to_session(&text, &text, &asked(Method::ToolsCall)) {
                Verdict::Instead(error) => {
                    assert_eq!(error.code, -32603);
                    assert_eq!(error.message.contains("sampling"), code == -32021);
                }
                other => panic!("must be explained: {other:?}"),
            }
        }
    }

    #[test]
    fn turns_visits_into_questions() {
        let text = r#"{"code":-32042,"message":"m","data":{"elicitations":[
            {"mode":"url","elicitationId":"e1","url":"https://a.example/","message":"go"},
            {"mode":"url","url":"https://b.example/","message":"go","elicitationId":"e2"}]}}"#;
        let Verdict::Result(result) = session_to_stateless(text, text, &asked(Method::ToolsCall))
        else {
            panic!("must be a result");
        };
        let value: serde_json::Value = serde_json::from_str(&result).expect("JSON");
        assert_eq!(value["resultType"], "input_required");
        let first = &value["inputRequests"]["url1"];
        assert_eq!(first["method"], "elicitation/create");
        assert_eq!(first["params"]["url"], "https://a.example/");
        assert!(first["params"].get("elicitationId").is_none());
        assert_eq!(value["inputRequests"]["url2"]["params"]["mode"], "url");
        for data in ["{}", r#"{"elicitations":[]}"#, r#"{"elicitations":[1]}"#] {
            let text = format!("{{\"code\":-32042,\"message\":\"m\",\"data\":{data}}}");
            let verdict = session_to_stateless(&text, &text, &asked(Method::ToolsCall));
            assert!(matches!(verdict, Verdict::Instead(_)), "{data}");
        }
    }
}
