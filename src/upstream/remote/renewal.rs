//! The session at a server with sessions: taken from the answer to `initialize`, and asked for
//! anew, once for everybody, when the server no longer knows it. The owner is told, because what
//! the session held (subscriptions, log level) is gone with it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::limits;
use crate::mcp::method::INITIALIZED;
use crate::mcp::revision::Revision;
use crate::net::client::Response;
use crate::upstream::remote::flight::Flight;
use crate::upstream::remote::road::{Patience, small_body};
use crate::upstream::remote::state::{Manner, Session, session_id};
use crate::upstream::remote::trouble::Trouble;
use crate::upstream::remote::{Remote, lock};
use crate::wire::members::Members;
use crate::wire::message::{Envelope, FROM_SERVER, Kind};
use crate::wire::sse::Parser;

/// When sessions were renewed: each soon after the other means that it does not help.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Instant>,
    row: u32,
}

impl Pace {
    /// The time until the next one may be asked for.
    fn pause(&self, now: Instant) -> Duration {
        let Some(last) = self.last.filter(|_| self.row >= limits::REMOTE_RENEWALS) else {
            return Duration::ZERO;
        };
        let doublings = (self.row - limits::REMOTE_RENEWALS).min(10);
        let pause = (limits::REMOTE_RETRY * (1 << doublings)).min(limits::REMOTE_PAUSE_CEILING);
        (last + pause).saturating_duration_since(now)
    }

    fn begin(&mut self, now: Instant) {
        let is_calm = |last| now.duration_since(last) > limits::REMOTE_PAUSE_CEILING;
        if self.last.is_some_and(is_calm) {
            self.row = 0;
        }
        self.last = Some(now);
        self.row = self.row.saturating_add(1);
    }
}

impl Remote {
    /// The answer to `initialize` came: from now on everything goes to that session. Without a
    /// revision that we speak nothing is agreed; whoever asked sees that too.
    pub(super) fn opened(&self, body: &[u8], id: Option<&str>) {
        let Some(revision) = revision_of(body) else {
            return;
        };
        let mut state = lock(&self.state);
        if state.manner == Manner::Fresh {
            state.manner = Manner::Session(Session {
                id: session_id(id),
                revision,
                number: 1,
            });
        }
    }

    /// Whether session `number` had an id that the server could forget, or is another one by now.
    pub(super) fn has_session_id(&self, number: u64) -> bool {
        let state = lock(&self.state);
        let session = state.session();
        session.is_some_and(|session| session.number != number || session.id.is_some())
    }

    /// Takes the place of session `number`, unless somebody did so already.
    pub(super) fn renew(&self, number: u64) -> Result<(), Trouble> {
        let mut pace = lock(&self.renewal);
        let opening = {
            let state = lock(&self.state);
            if state
                .session()
                .is_none_or(|session| session.number != number)
            {
                return Ok(());
            }
            state.opening.clone()
        };
        self.may_renew(&mut pace)?;
        // Of its own: the call that found out may be taken back, the others may not suffer.
        let Some(flight) = self.flights.enter(None) else {
            return Err(Trouble::stopped());
        };
        let outcome = self.open_again(&flight, &opening, number);
        self.flights.leave(&flight);
        match &outcome {
            Ok(()) => {
                log::info!(
                    "session of the server was lost, a new one is open server={:?}",
                    self.server
                );
                self.signals.renewed();
                if let Some(stream) = lock(&self.stream).as_ref() {
                    stream.stop.stop();
                }
            }
            Err(trouble) => {
                let why = format!(
                    "forgot its session and gives no new one: it {}",
                    trouble.detail
                );
                self.signals.lost(&why);
            }
        }
        outcome
    }

    /// A server that forgets one session after the other is asked for them ever more rarely, and
    /// is down when none of them was of any use.
    fn may_renew(&self, pace: &mut Pace) -> Result<(), Trouble> {
        let now = Instant::now();
        let pause = pace.pause(now);
        if !pause.is_zero() {
            let detail = format!(
                "forgets its sessions; another one is asked for in {} s",
                pause.as_secs() + 1
            );
            return Err(Trouble::unusable(detail));
        }
        pace.begin(now);
        let barren = self.barren.fetch_add(1, Ordering::Relaxed);
        if barren < limits::REMOTE_RENEWALS {
            return Ok(());
        }
        let why = format!("gave {barren} sessions, and knew none of them afterwards");
        self.signals.lost(&why);
        Err(Trouble::unusable(why))
    }

    fn open_again(&self, flight: &Flight, opening: &[u8], number: u64) -> Result<(), Trouble> {
        let headers = Vec::new();
        let patience = Patience::GREETING;
        let mut response = self
            .road
            .post(None, &headers, opening, patience, &flight.stop)?;
        if !(200..300).contains(&response.status()) {
            let body = small_body(&mut response);
            return Err(Trouble::of_status(response.status(), &body));
        }
        let id = session_id(response.header("mcp-session-id"));
        let answer = first_answer(&mut response)?;
        let Some(revision) = revision_of(&answer) else {
            return Err(Trouble::unusable("refused to initialize once more"));
        };
        let session = Session {
            id,
            revision,
            number: number + 1,
        };
        let line = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{INITIALIZED}\",\"params\":{{}}}}");
        let headers = session.headers();
        let body = line.as_bytes();
        let mut said = self
            .road
            .post(None, &headers, body, patience, &flight.stop)?;
        small_body(&mut said);
        lock(&self.state).manner = Manner::Session(session);
        Ok(())
    }
}

/// The response in a body of either media type.
pub(super) fn first_answer(response: &mut Response) -> Result<Vec<u8>, Trouble> {
    let failed = |error| Trouble::of_net(&error);
    if response.media_type() != "text/event-stream" {
        return response.read_to_end(limits::LINE_BYTES).map_err(failed);
    }
    let mut parser = Parser::new(limits::LINE_BYTES);
    let mut buffer = vec![0; limits::REMOTE_READ_BYTES];
    loop {
        let count = response.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Err(Trouble::unusable(
                "ended the stream without an answer to initialize",
            ));
        }
        for event in parser.feed(&buffer[..count]) {
            let data = event.data.into_bytes();
            if is_response(&data) {
                return Ok(data);
            }
        }
    }
}

fn is_response(text: &[u8]) -> bool {
    Envelope::from_bytes(text, FROM_SERVER)
        .is_ok_and(|envelope| matches!(envelope.kind, Kind::Result { .. } | Kind::Error { .. }))
}

/// What the result of an `initialize` agrees on.
fn revision_of(body: &[u8]) -> Option<Revision> {
    let envelope = Envelope::from_bytes(body.trim_ascii(), FROM_SERVER).ok()?;
    let Kind::Result { result, .. } = envelope.kind else {
        return None;
    };
    let members = Members::parse(result, 0, FROM_SERVER).ok()?;
    Revision::parse(&members.string("protocolVersion")?)
}

#[cfg(test)]
mod tests {
    use super::{Pace, revision_of};
    use crate::base::limits;
    use crate::mcp::revision::Revision;
    use std::time::{Duration, Instant};

    #[test]
    fn sessions_are_renewed_ever_more_rarely_until_it_is_calm() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..limits::REMOTE_RENEWALS {
            assert_eq!(pace.pause(now), Duration::ZERO);
            pace.begin(now);
        }
        assert_eq!(pace.pause(now), limits::REMOTE_RETRY);
        now += limits::REMOTE_RETRY;
        pace.begin(now);
        assert_eq!(pace.pause(now), limits::REMOTE_RETRY * 2);
        now += limits::REMOTE_PAUSE_CEILING * 2;
        pace.begin(now);
        assert_eq!(pace.pause(now), Duration::ZERO);
    }

    #[test]
    fn only_a_result_agrees_on_a_revision() {
        let result = |version: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"protocolVersion":"{version}"}}}}"#)
        };
        assert_eq!(
            revision_of(result("2025-06-18").as_bytes()),
            Some(Revision::V2025_06_18)
        );
        for other in [
            result("2026-07-28"),
            result("x"),
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#.to_owned(),
            String::new(),
        ] {
            assert_eq!(revision_of(other.as_bytes()), None, "{other}");
        }
    }
}
