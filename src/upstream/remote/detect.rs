//! Which kind of server stands behind a URL, read off its answers to the first requests
//! (versioning and transports of every revision). Pure: who asks and waits is in `greet`.

use crate::mcp::error::{HEADER_MISMATCH, MISSING_CLIENT_CAPABILITY};
use crate::upstream::remote::trouble::{Cause, Trouble};
use crate::upstream::verdict::is_stateless_error;

/// What came back for a request of the greeting.
#[derive(Debug)]
pub enum Heard<'a> {
    /// A result; `described`: it describes a stateless server that we can speak with.
    Result {
        described: bool,
    },
    /// An error object, with the status it came with.
    Error {
        status: u16,
        error: &'a str,
    },
    Trouble(&'a Trouble),
    /// Nothing in time.
    Silence,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It is a stateless server.
    Stateless,
    /// It says that it is one, and that the request was not right.
    DiscoverAgain,
    Initialize,
    /// Open an event stream, as for HTTP with SSE.
    Sse,
    /// This says nothing about what it is: try again later.
    Later,
    /// No way that we know leads on.
    Refused,
}

pub fn after_discover(heard: &Heard<'_>) -> Step {
    match heard {
        Heard::Result { described: true } => Step::Stateless,
        Heard::Error { status: 400, error } if is_stateless(error) => Step::DiscoverAgain,
        Heard::Error { error, .. } if is_stateless_error(error) => Step::DiscoverAgain,
        Heard::Trouble(trouble) => match trouble.cause {
            Cause::Stopped | Cause::Unreachable | Cause::Down => Step::Later,
            Cause::Status(401 | 403 | 300..=399) | Cause::Ours => Step::Refused,
            Cause::Status(408 | 429 | 500..) => Step::Later,
            Cause::Status(_) | Cause::Silent | Cause::Unusable => Step::Initialize,
        },
        Heard::Result { .. } | Heard::Error { .. } | Heard::Silence => Step::Initialize,
    }
}

/// `initialize` was not answered with a result.
pub fn after_initialize(heard: &Heard<'_>) -> Step {
    match heard {
        Heard::Trouble(trouble) => match trouble.cause {
            Cause::Status(400 | 404 | 405) => Step::Sse,
            Cause::Stopped | Cause::Unreachable | Cause::Down | Cause::Silent => Step::Later,
            Cause::Status(408 | 429 | 500..) => Step::Later,
            Cause::Status(_) | Cause::Unusable | Cause::Ours => Step::Refused,
        },
        _ => Step::Refused,
    }
}

/// Errors that only stateless servers give, beside that of an unknown version.
fn is_stateless(error: &str) -> bool {
    let has = |code: i32| {
        crate::wire::members::Members::parse(error, 0, crate::wire::message::FROM_SERVER).is_ok_and(
            |members| {
                members
                    .get("code")
                    .is_some_and(|raw| raw.parse() == Ok(code))
            },
        )
    };
    has(HEADER_MISMATCH) || has(MISSING_CLIENT_CAPABILITY)
}

#[cfg(test)]
mod tests {
    use super::{Heard, Step, after_discover, after_initialize};
    use crate::upstream::remote::trouble::{Cause, Trouble};

    fn trouble(cause: Cause) -> Trouble {
        Trouble {
            cause,
            ..Trouble::unusable("")
        }
    }

    #[test]
    fn discover_tells_the_eras_apart() {
        let unknown_version = |supported: &str| {
            format!(r#"{{"code":-32022,"message":"","data":{{"supported":{supported}}}}}"#)
        };
        let error = |status: u16, error: &str| after_discover(&Heard::Error { status, error });
        for (status, text, step) in [
            (
                400,
                unknown_version(r#"["2026-07-28"]"#),
                Step::DiscoverAgain,
            ),
            (
                200,
                unknown_version(r#"["2026-07-28"]"#),
                Step::DiscoverAgain,
            ),
            (400, unknown_version(r#"["2025-11-25"]"#), Step::Initialize),
            (
                400,
                r#"{"code":-32020,"message":""}"#.to_owned(),
                Step::DiscoverAgain,
            ),
            (
                400,
                r#"{"code":-32021,"message":""}"#.to_owned(),
                Step::DiscoverAgain,
            ),
            (
                200,
                r#"{"code":-32020,"message":""}"#.to_owned(),
                Step::Initialize,
            ),
            (
                404,
                r#"{"code":-32601,"message":""}"#.to_owned(),
                Step::Initialize,
            ),
            (
                200,
                r#"{"code":-32601,"message":""}"#.to_owned(),
                Step::Initialize,
            ),
        ] {
            assert_eq!(error(status, &text), step, "{status} {text}");
        }
        let result = |described| after_discover(&Heard::Result { described });
        assert_eq!(result(true), Step::Stateless);
        assert_eq!(result(false), Step::Initialize);
        assert_eq!(after_discover(&Heard::Silence), Step::Initialize);
        for (cause, step) in [
            (Cause::Status(400), Step::Initialize),
            (Cause::Status(404), Step::Initialize),
            (Cause::Status(405), Step::Initialize),
            (Cause::Status(415), Step::Initialize),
            (Cause::Unusable, Step::Initialize),
            (Cause::Silent, Step::Initialize),
            (Cause::Status(401), Step::Refused),
            (Cause::Status(403), Step::Refused),
            (Cause::Status(302), Step::Refused),
            (Cause::Ours, Step::Refused),
            (Cause::Status(429), Step::Later),
            (Cause::Status(500), Step::Later),
            (Cause::Down, Step::Later),
        ] {
            let step_taken = after_discover(&Heard::Trouble(&trouble(cause)));
            assert_eq!(step_taken, step, "{cause:?}");
        }
    }

    #[test]
    fn a_refused_initialize_leads_to_the_older_transport() {
        for (cause, step) in [
            (Cause::Status(400), Step::Sse),
            (Cause::Status(404), Step::Sse),
            (Cause::Status(405), Step::Sse),
            (Cause::Status(401), Step::Refused),
            (Cause::Status(406), Step::Refused),
            (Cause::Unusable, Step::Refused),
            (Cause::Status(503), Step::Later),
            (Cause::Down, Step::Later),
            (Cause::Silent, Step::Later),
        ] {
            let step_taken = after_initialize(&Heard::Trouble(&trouble(cause)));
            assert_eq!(step_taken, step, "{cause:?}");
        }
        let refused = Heard::Error {
            status: 400,
            error: "{\"code\":-32602,\"message\":\"\"}",
        };
        assert_eq!(after_initialize(&refused), Step::Refused);
    }
}
