//! Why an exchange with a server over HTTP did not bring what it should: as callers are told,
//! and as the owner judges the server by it. Pure.

use crate::mcp::error::{HEADER_MISMATCH, Reason, UNSUPPORTED_VERSION};
use crate::net::error::NetError;
use crate::upstream::remote::mask::Mask;
use crate::wire::members::Members;
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

/// A failed exchange. `detail` fits behind "server NAME: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub cause: Cause,
    pub reason: Reason,
    pub detail: String,
    /// The connection was an old one, and most likely closed before the request came.
    pub is_stale: bool,
    /// It says that a login (OAuth) would help.
    pub wants_login: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// We ended it ourselves.
    Stopped,
    /// There is no connection to be had.
    Unreachable,
    /// The connection broke, or whoever answers cannot reach the server.
    Down,
    /// It took the connection and said nothing in time.
    Silent,
    /// The status of an answer that is no message.
    Status(u16),
    /// It answered, but not with what was asked for.
    Unusable,
    /// The configuration of this server is at fault: it is not even asked.
    Ours,
}

impl Trouble {
    fn new(cause: Cause, reason: Reason, detail: impl Into<String>) -> Trouble {
        Trouble {
            cause,
            reason,
            detail: detail.into(),
            is_stale: false,
            wants_login: false,
        }
    }

    pub fn unusable(detail: impl Into<String>) -> Trouble {
        Trouble::new(Cause::Unusable, Reason::BadUpstream, detail)
    }

    pub fn stopped() -> Trouble {
        Trouble::new(Cause::Stopped, Reason::Draining, "the exchange was stopped")
    }

    /// The request cannot be said to this server.
    pub fn unsayable(detail: impl Into<String>) -> Trouble {
        Trouble::new(Cause::Ours, Reason::BadUpstream, detail)
    }

    /// The stream of a call ended, or broke, without its answer.
    pub fn broken(detail: impl Into<String>) -> Trouble {
        Trouble::new(Cause::Down, Reason::Crashed, detail)
    }

    pub fn of_net(error: &NetError) -> Trouble {
        let (cause, reason) = match error {
            NetError::Stopped => return Trouble::stopped(),
            NetError::Lookup { .. } | NetError::Connect { .. } => {
                (Cause::Unreachable, Reason::Restarting)
            }
            NetError::Tls { .. } => (Cause::Unreachable, Reason::BadUpstream),
            NetError::Lost { .. } => (Cause::Down, Reason::Crashed),
            NetError::Deadline { .. } | NetError::Silent { .. } => (Cause::Silent, Reason::Timeout),
            NetError::TooLarge { limit_bytes, .. } => {
                let detail = format!("result too large (limit {limit_bytes})");
                return Trouble::new(Cause::Unusable, Reason::TooLarge, detail);
            }
            _ if error.is_unsent() => (Cause::Ours, Reason::BadUpstream),
            _ => (Cause::Unusable, Reason::BadUpstream),
        };
        let what = match error {
            _ if error.is_unsent() => "cannot be asked",
            NetError::Protocol { .. } | NetError::Redirect { .. } => "gave no usable answer",
            _ => "gave no answer",
        };
        Trouble {
            is_stale: error.is_stale(),
            ..Trouble::new(cause, reason, format!("{what}: failed to {error}"))
        }
    }

    /// An answer that is not 2xx and no JSON-RPC response to the request.
    pub fn of_status(status: u16, body: &str, mask: &Mask) -> Trouble {
        let said = said(body, mask);
        let (cause, reason) = match status {
            502 | 504 => (Cause::Down, Reason::BadUpstream),
            503 => (Cause::Down, Reason::Busy),
            429 => (Cause::Status(status), Reason::Busy),
            _ => (Cause::Status(status), Reason::BadUpstream),
        };
        let what = match status {
            401 | 403 => ": credentials are missing or not accepted; set them in its \"headers\"",
            404 | 405 => ": check its \"url\"",
            300..=399 => ": it redirects; configure the URL that it leads to",
            _ => "",
        };
        let detail = format!("answered with HTTP status {status}{what}{said}");
        Trouble::new(cause, reason, detail)
    }

    /// The same of an answer that asks for a login: 401, or 403 for want of a scope.
    pub fn of_challenge(status: u16, body: &str, mask: &Mask, remedy: &str) -> Trouble {
        let said = said(body, mask);
        let what = match status {
            403 => "wants a login with more scopes",
            _ => "wants a login",
        };
        let detail = format!("{what} (HTTP status {status}){said}: {remedy}");
        Trouble {
            wants_login: true,
            ..Trouble::new(Cause::Status(status), Reason::BadUpstream, detail)
        }
    }

    /// There is a login, and no token to be had for it now.
    pub fn without_token(why: String) -> Trouble {
        Trouble::new(Cause::Down, Reason::Busy, why)
    }
}

/// What the body says in words, if it is a JSON-RPC error.
fn said(body: &str, mask: &Mask) -> String {
    let Some(message) = error_of(body).and_then(|error| error.message) else {
        return String::new();
    };
    let message: String = mask
        .hide(&message)
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    format!(" ({message})")
}

/// A JSON-RPC error in a body.
pub struct BodyError {
    /// Whether it names the request that it answers.
    pub has_id: bool,
    pub code: Option<i32>,
    pub message: Option<String>,
}

pub fn error_of(body: &str) -> Option<BodyError> {
    let Ok(Envelope {
        kind: Kind::Error { id, error },
        ..
    }) = Envelope::parse(body.trim(), FROM_SERVER)
    else {
        return None;
    };
    let members = Members::parse(error, 1, FROM_SERVER).ok()?;
    let message = members.string("message");
    Some(BodyError {
        has_id: id.is_some(),
        code: members.get("code").and_then(|code| code.parse().ok()),
        message: message.map(|text| text.into_owned()),
    })
}

/// Whether the server no longer knows the session that the request named. 404 is what the
/// protocol says; 400 with an error that belongs to no request and speaks of the session is what
/// servers do that were written after the examples of the official SDK. A server that has become
/// stateless since knows no session either: it misses what every stateless request says.
pub fn is_lost_session(status: u16, body: &str) -> bool {
    match status {
        404 => true,
        400 => error_of(body).is_some_and(|error| {
            let message = error.message.unwrap_or_default().to_ascii_lowercase();
            let is_stateless = matches!(error.code, Some(HEADER_MISMATCH | UNSUPPORTED_VERSION))
                || message.contains("io.modelcontextprotocol/");
            is_stateless || !error.has_id && message.contains("session")
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Trouble, is_lost_session};
    use crate::mcp::error::Reason;
    use crate::net::error::NetError;
    use crate::upstream::remote::mask::Mask;

    #[test]
    fn statuses_are_told_with_their_remedy() {
        for (status, cause, reason, word) in [
            (401, Cause::Status(401), Reason::BadUpstream, "credentials"),
            (403, Cause::Status(403), Reason::BadUpstream, "\"headers\""),
            (404, Cause::Status(404), Reason::BadUpstream, "\"url\""),
            (307, Cause::Status(307), Reason::BadUpstream, "redirects"),
            (429, Cause::Status(429), Reason::Busy, "429"),
            (500, Cause::Status(500), Reason::BadUpstream, "500"),
            (502, Cause::Down, Reason::BadUpstream, "502"),
            (503, Cause::Down, Reason::Busy, "503"),
        ] {
            let trouble = Trouble::of_status(status, "<html>", &Mask::default());
            assert_eq!((trouble.cause, trouble.reason), (cause, reason));
            assert!(trouble.detail.contains(word), "{}", trouble.detail);
        }
        let body = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no \u0007x"}}"#;
        let trouble = Trouble::of_status(400, body, &Mask::default());
        assert!(trouble.detail.ends_with("400 (no x)"), "{}", trouble.detail);
    }

    #[test]
    fn only_what_was_not_sent_could_not_be_asked() {
        let origin = || "http://a".to_owned();
        let detail = String::new;
        let after = std::time::Duration::from_millis(44_998);
        for (error, words) in [
            (
                NetError::Connect {
                    origin: origin(),
                    detail: "no".to_owned(),
                },
                "cannot be asked: failed to connect to http://a: no",
            ),
            (
                NetError::Deadline {
                    origin: origin(),
                    after,
                },
                "gave no answer: failed to get an answer from http://a within 45 s",
            ),
            (
                NetError::Protocol {
                    origin: origin(),
                    detail: detail(),
                },
                "gave no usable answer: failed to understand the answer of http://a: ",
            ),
        ] {
            assert_eq!(Trouble::of_net(&error).detail, words);
        }
    }

    #[test]
    fn a_session_is_lost_when_the_server_says_so() {
        let body = |id: &str, message: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"{message}"}}}}"#
            )
        };
        assert!(is_lost_session(404, ""));
        assert!(is_lost_session(
            400,
            &body("null", "Bad Request: No valid session ID")
        ));
        let misses = body("1", "_meta needs io.modelcontextprotocol/protocolVersion");
        assert!(is_lost_session(400, &misses));
        assert!(is_lost_session(400, &misses.replace("-32000", "-32022")));
        for (status, body) in [
            (400, body("1", "No valid session ID")),
            (400, body("null", "Bad Request")),
            (400, "no session".to_owned()),
            (500, body("null", "session")),
        ] {
            assert!(!is_lost_session(status, &body), "{status} {body}");
        }
    }
}
