//! Whether the server behind the URL still is what it was greeted as. Another one may have taken
//! its place at the same port, without a moment of silence: then it answers as servers of another
//! manner do. Such an answer is a suspicion; what settles it is a request of our own. No call is
//! sent again here.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::base::limits;
use crate::mcp::error::{
    HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, MISSING_CLIENT_CAPABILITY,
    UNSUPPORTED_VERSION,
};
use crate::mcp::method::DISCOVER;
use crate::upstream::call::next_call_id;
use crate::upstream::link::with_meta;
use crate::upstream::remote::flight::Flight;
use crate::upstream::remote::renewal::first_answer;
use crate::upstream::remote::road::{Patience, small_body};
use crate::upstream::remote::state::Manner;
use crate::upstream::remote::trouble::{Trouble, error_of};
use crate::upstream::remote::{Remote, lock};
use crate::upstream::verdict::{is_stateless_error, stateless_hello};
use crate::wire::message::{Envelope, FROM_SERVER, Kind};

/// What a request of ours says about the server.
#[derive(Debug, PartialEq, Eq)]
enum Sign {
    Same,
    Other,
    /// Nothing: it may be busy, or down.
    None,
}

impl Remote {
    /// Notes an answer that a server of the agreed manner has no reason to give.
    pub(super) fn suspect(&self, flight: &Flight, status: u16, body: &str) {
        if flight.call.is_some() && is_odd(&lock(&self.state).manner, status, body) {
            self.is_suspect.store(true, Ordering::Relaxed);
        }
    }

    /// Settles a suspicion: nothing happens, or there is another session, or the owner greets
    /// the server anew.
    pub(super) fn check(&self) {
        if !self.is_suspect.swap(false, Ordering::Relaxed) {
            return;
        }
        {
            let mut checked = lock(&self.checked);
            if checked.is_some_and(|at| at.elapsed() < limits::REMOTE_CHECK) {
                return;
            }
            *checked = Some(Instant::now());
        }
        let manner = lock(&self.state).manner.clone();
        match manner {
            Manner::Fresh => {}
            Manner::Sse { .. } => self.signals.lost("no longer knows the endpoint it named"),
            Manner::Stateless => {
                let line = line(DISCOVER, &with_meta("{}"));
                if self.sign(&line, is_description) == Sign::Other {
                    self.signals
                        .lost("no longer is the stateless server that it was");
                }
            }
            Manner::Session(session) => {
                let line = line("ping", "{}");
                if self.sign(&line, is_pong) == Sign::Other {
                    // Who is told of the failure is the owner.
                    drop(self.renew(session.number));
                }
            }
        }
    }

    /// Asks, on this thread.
    fn sign(&self, line: &str, is_good: fn(&Kind<'_>) -> bool) -> Sign {
        let Some(flight) = self.flights.enter(None) else {
            return Sign::None;
        };
        let headers = lock(&self.state).letter(line).headers;
        let patience = Patience::NOTE;
        let response = self
            .road
            .post(None, &headers, line.as_bytes(), patience, &flight.stop);
        let answer = response.and_then(|mut response| match response.status() {
            200..=299 => first_answer(&mut response).map(Some),
            400..=499 if !is_other_matter(response.status()) => {
                small_body(&mut response);
                Ok(None)
            }
            status => Err(Trouble::of_status(status, "")),
        });
        self.flights.leave(&flight);
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => return Sign::Other,
            Err(trouble) => {
                log::debug!("no sign server={:?}: it {}", self.server, trouble.detail);
                self.is_doubtful.store(true, Ordering::Relaxed);
                return Sign::None;
            }
        };
        let envelope = Envelope::from_bytes(answer.trim_ascii(), FROM_SERVER);
        match envelope.is_ok_and(|envelope| is_good(&envelope.kind)) {
            true => Sign::Same,
            false => Sign::Other,
        }
    }
}

fn line(method: &str, params: &str) -> String {
    let id = next_call_id();
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}")
}

fn is_description(kind: &Kind<'_>) -> bool {
    match kind {
        Kind::Result { result, .. } => stateless_hello(result).is_some(),
        Kind::Error { error, .. } => is_stateless_error(error),
        _ => false,
    }
}

/// A server of the session era may know no `ping`.
fn is_pong(kind: &Kind<'_>) -> bool {
    match kind {
        Kind::Result { .. } => true,
        Kind::Error { error, .. } => error.contains(&METHOD_NOT_FOUND.to_string()),
        _ => false,
    }
}

/// Statuses that say nothing about what the server is.
fn is_other_matter(status: u16) -> bool {
    matches!(status, 401 | 403 | 408 | 413 | 429)
}

fn is_odd(manner: &Manner, status: u16, body: &str) -> bool {
    let error = error_of(body);
    let code = error.as_ref().and_then(|error| error.code);
    if *manner == Manner::Fresh {
        return false;
    }
    if let Manner::Sse { .. } = manner {
        return matches!(status, 404 | 405 | 410);
    }
    if (200..300).contains(&status) {
        let message = error.and_then(|error| error.message).unwrap_or_default();
        let message = message.to_ascii_lowercase();
        let speaks_of_it = ["_meta", "session", "initialize"]
            .iter()
            .any(|w| message.contains(w));
        return match code {
            Some(UNSUPPORTED_VERSION) => true,
            Some(INVALID_REQUEST | INVALID_PARAMS) => speaks_of_it,
            _ => false,
        };
    }
    if !(400..500).contains(&status) || is_other_matter(status) {
        return false;
    }
    if !error.is_some_and(|error| error.has_id) {
        return true;
    }
    match code {
        Some(HEADER_MISMATCH | UNSUPPORTED_VERSION | INVALID_REQUEST) => true,
        Some(METHOD_NOT_FOUND | INVALID_PARAMS | MISSING_CLIENT_CAPABILITY) => {
            *manner != Manner::Stateless
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_odd;
    use crate::mcp::revision::Revision;
    use crate::upstream::remote::state::{Manner, Session};

    #[test]
    fn answers_of_another_manner_are_told_from_refusals() {
        let session = Manner::Session(Session {
            id: Some("s".to_owned()),
            revision: Revision::V2025_11_25,
            number: 1,
        });
        let sse = Manner::Sse { endpoint: None };
        let error = |id: &str, code: i32, message: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#
            )
        };
        for (manner, status, body, odd) in [
            (&session, 400, String::new(), true),
            (&session, 405, String::new(), true),
            (&session, 400, error("1", -32602, "no _meta"), true),
            (&session, 200, error("1", -32602, "no _meta"), true),
            (&session, 200, error("1", -32602, "unknown tool"), false),
            (&session, 404, error("1", -32601, ""), true),
            (&session, 400, error("1", -32099, ""), false),
            (&session, 401, String::new(), false),
            (&session, 429, String::new(), false),
            (&session, 503, String::new(), false),
            (&Manner::Stateless, 404, error("1", -32601, ""), false),
            (&Manner::Stateless, 400, error("1", -32602, ""), false),
            (&Manner::Stateless, 400, error("1", -32022, ""), true),
            (
                &Manner::Stateless,
                400,
                error("null", -32000, "no session"),
                true,
            ),
            (&Manner::Fresh, 400, String::new(), false),
            (&sse, 404, String::new(), true),
            (&sse, 400, String::new(), false),
        ] {
            assert_eq!(
                is_odd(manner, status, &body),
                odd,
                "{manner:?} {status} {body}"
            );
        }
    }
}
