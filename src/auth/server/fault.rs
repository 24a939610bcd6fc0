//! What a program is told that gets nothing: the errors of RFC 6749 5.2 and their relatives.

use std::time::Duration;

use serde_json::Value;

use crate::base::limits::SHARED_RETRY;
use crate::base::template::filled;
use crate::http::Reply;
use crate::journal::audit::Reason;

/// An answer that is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    status: u16,
    pub error: &'static str,
    pub what: String,
    /// What the auditor is told; `None`: somebody has told already.
    pub reason: Option<Reason>,
    /// The value of WWW-Authenticate.
    challenge: Option<&'static str>,
    retry: Option<Duration>,
}

impl Fault {
    pub fn bad(error: &'static str, what: impl Into<String>) -> Fault {
        Fault {
            status: 400,
            error,
            what: what.into(),
            reason: Some(reason_of(error)),
            challenge: None,
            retry: None,
        }
    }

    /// The same, with another reason for the auditor.
    pub fn because(mut self, reason: impl Into<Option<Reason>>) -> Fault {
        self.reason = reason.into();
        self
    }

    pub fn request(what: impl Into<String>) -> Fault {
        Fault::bad("invalid_request", what)
    }

    /// One text for everything that may be wrong with a code or a refresh token: who guesses
    /// learns nothing.
    pub fn grant() -> Fault {
        Fault::bad(
            "invalid_grant",
            "the grant is not known, over, used, or was given to another client",
        )
    }

    /// Likewise for clients. `used_basic`: it showed its secret in a header.
    pub fn client(used_basic: bool) -> Fault {
        Fault {
            status: 401,
            challenge: used_basic.then_some("Basic realm=\"onemcp\""),
            ..Fault::bad(
                "invalid_client",
                "the client is not known here, or did not show its secret",
            )
        }
    }

    pub fn bearer() -> Fault {
        Fault {
            status: 401,
            challenge: Some("Bearer realm=\"onemcp\""),
            ..Fault::bad(
                "invalid_token",
                "registration takes a token of the operator",
            )
        }
    }

    /// There is no such endpoint.
    pub fn absent() -> Fault {
        Fault {
            status: 404,
            ..Fault::bad("not_found", "this gateway does not do that")
        }
    }

    pub fn too_often(wait: Duration) -> Fault {
        Fault {
            status: 429,
            retry: Some(wait),
            ..Fault::bad("too_many_requests", "asked too often; try again later")
        }
    }

    pub fn full() -> Fault {
        Fault {
            status: 503,
            retry: Some(Duration::from_secs(60)),
            ..Fault::bad("temporarily_unavailable", "try again later")
        }
    }

    /// The shared store is away; that may be over soon.
    pub fn away() -> Fault {
        Fault {
            retry: Some(SHARED_RETRY),
            ..Fault::full()
        }
    }

    pub fn reply(&self) -> Reply {
        let body = filled(
            r#"{"error": "$error", "error_description": "$what"}"#,
            &[
                ("error", self.error.into()),
                ("what", self.what.as_str().into()),
            ],
        );
        let mut reply = answer(self.status, &body);
        if let Some(challenge) = self.challenge {
            reply = reply.with("WWW-Authenticate", challenge);
        }
        if let Some(wait) = self.retry {
            // Whole seconds, rounded up: who comes at that time is not too early.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            reply = reply.with("Retry-After", seconds.to_string());
        }
        reply
    }
}

/// What the auditor is told of an error code, at whichever endpoint.
pub(super) fn reason_of(error: &str) -> Reason {
    match error {
        "invalid_grant" => Reason::BadCode,
        "invalid_scope" => Reason::BadScope,
        "invalid_target" => Reason::BadAudience,
        "invalid_client" | "unauthorized_client" => Reason::BadClient,
        "temporarily_unavailable" => Reason::Unavailable,
        _ => Reason::BadRequest,
    }
}

/// JSON that nobody keeps.
pub fn answer(status: u16, body: &Value) -> Reply {
    let reply = Reply::json(status, body.to_string());
    reply
        .with("Cache-Control", "no-store")
        .with("Pragma", "no-cache")
}
