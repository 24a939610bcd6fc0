//! One exchange: a message is posted, and what comes back is read to its end. Runs on a thread
//! of the crew, which may be stopped at any point.

use std::time::{Duration, Instant};

use crate::base::limits;
use crate::mcp::error::HEADER_MISMATCH;
use crate::mcp::list::ListKind;
use crate::net::client::Response;
use crate::upstream::remote::flight::Flight;
use crate::upstream::remote::road::{Headers, Patience, small_body};
use crate::upstream::remote::state::{Letter, Manner, State};
use crate::upstream::remote::trouble::{Trouble, error_of, is_lost_session};
use crate::upstream::remote::{Last, Remote, is_look, lock};
use crate::wire::message::blank_line_breaks;
use crate::wire::sse::{Event, Parser};

/// What a stream of events said about coming back to it.
#[derive(Default)]
struct Trail {
    last_id: Option<String>,
    retry: Option<Duration>,
    messages: u64,
}

impl Trail {
    /// The server's own wish within bounds, longer the more streams in a row brought no message.
    fn pause(&self, idle: u32) -> Duration {
        let first = self.retry.unwrap_or(limits::REMOTE_RETRY);
        let first = first.max(limits::REMOTE_RETRY_LEAST);
        let longer = first.saturating_mul(1 << idle.min(10));
        longer.min(limits::REMOTE_IDLE_PAUSE.max(first))
    }
}

impl Remote {
    pub(super) fn converse(&self, flight: &Flight, line: &[u8]) -> Result<(), Trouble> {
        let text = std::str::from_utf8(line).unwrap_or_default().trim_end();
        // A second try is made once, and only for a request that the server did not touch.
        let mut may_try_again = true;
        loop {
            let letter = self.letter(flight, text)?;
            // Said twice, a notification or an answer does no harm.
            let is_repeatable = letter.is_repeatable || flight.call.is_none();
            let mut response = match self.post(flight, &letter, text.as_bytes()) {
                Err(trouble) if may_try_again && trouble.is_stale && is_repeatable => {
                    may_try_again = false;
                    continue;
                }
                other => other?,
            };
            let status = response.status();
            *lock(&self.last) = Last {
                status,
                trouble: None,
            };
            if (200..300).contains(&status) {
                return self.accepted(flight, &letter, response);
            }
            let wants_login = self.road.wants_login(&response);
            let body = small_body(&mut response);
            if wants_login {
                return Err(self.login_wanted(status, &body));
            }
            if !std::mem::take(&mut may_try_again)
                || !self.is_mended(flight, &letter, status, &body)?
            {
                return self.refused(flight, status, &body);
            }
        }
    }

    pub(super) fn login_wanted(&self, status: u16, body: &str) -> Trouble {
        Trouble::of_challenge(status, body, &self.mask, &self.road.remedy())
    }

    fn letter(&self, flight: &Flight, text: &str) -> Result<Letter, Trouble> {
        let has_endpoint = |state: &State| state.manner != Manner::Sse { endpoint: None };
        let deadline = Instant::now() + limits::REMOTE_STREAM_HEAD;
        if !self.await_state(deadline, &flight.stop, has_endpoint) {
            return Err(match flight.stop.is_stopped() {
                true => Trouble::stopped(),
                false => Trouble::unusable("named no endpoint for messages in time"),
            });
        }
        let mut state = lock(&self.state);
        let mut letter = state.letter(text);
        letter.headers.extend(flight.carried());
        let is_long = |(_, value): &&(String, String)| value.len() > limits::REMOTE_MIRROR_BYTES;
        if let Some((name, value)) = letter.headers.iter().find(is_long) {
            let (bytes, limit) = (value.len(), limits::REMOTE_MIRROR_BYTES);
            return Err(Trouble::unsayable(format!(
                "wants a value of this request in the header {name:?}, and it has {bytes} bytes \
                 there (limit {limit}); make it shorter"
            )));
        }
        if letter.is_opening && flight.call.is_some() {
            state.opening = text.as_bytes().to_vec();
        }
        Ok(letter)
    }

    fn post(&self, flight: &Flight, letter: &Letter, body: &[u8]) -> Result<Response, Trouble> {
        let patience = match flight.call {
            None => Patience::NOTE,
            Some(_) if letter.is_listening => Patience::STREAM,
            Some(_) if is_look(body) => self.look,
            Some(_) => Patience::CALL,
        };
        let url = letter.url.as_deref();
        self.road
            .post(url, &letter.headers, body, patience, &flight.stop)
    }

    fn accepted(
        &self,
        flight: &Flight,
        letter: &Letter,
        mut response: Response,
    ) -> Result<(), Trouble> {
        let Some(call) = flight.call else {
            small_body(&mut response);
            return Ok(());
        };
        if letter.answered_elsewhere {
            small_body(&mut response);
            return Ok(());
        }
        let status = response.status();
        match response.media_type().as_str() {
            "application/json" => self.read_body(flight, letter, &mut response)?,
            "text/event-stream" => self.read_stream(flight, letter, response)?,
            "" if status == 202 || status == 204 => {}
            other => {
                let kind: String = other.chars().take(80).collect();
                return Err(Trouble::unusable(format!(
                    "answered with status {status} and the media type {kind:?} where JSON or \
                     events are due"
                )));
            }
        }
        match self.awaits(call) {
            false => Ok(()),
            true => Err(Trouble::unusable(format!(
                "took the request (status {status}) and did not answer it"
            ))),
        }
    }

    /// A status that is no success may still carry the server's own answer to this request.
    fn refused(&self, flight: &Flight, status: u16, body: &str) -> Result<(), Trouble> {
        self.suspect(flight, status, body);
        let answers_us = error_of(body).is_some_and(|error| error.has_id);
        if let (Some(call), true) = (flight.call, answers_us) {
            self.heard(flight, body.as_bytes().to_vec());
            if !self.awaits(call) {
                return Ok(());
            }
        }
        Err(Trouble::of_status(status, body, &self.mask))
    }

    /// Whether what the server complains of was put right, and the request may be sent again.
    fn is_mended(
        &self,
        flight: &Flight,
        letter: &Letter,
        status: u16,
        body: &str,
    ) -> Result<bool, Trouble> {
        if let Some(number) = letter.session
            && is_lost_session(status, body)
            && self.has_session_id(number)
        {
            // Only 404 says for sure that nothing was done. Otherwise it is `check` that renews.
            if status != 404 && flight.call.is_some() && !letter.is_repeatable {
                return Ok(false);
            }
            self.renew(number)?;
            return Ok(true);
        }
        let complaint = error_of(body).and_then(|error| error.code);
        if letter.is_stateless && status == 400 && complaint == Some(HEADER_MISMATCH) {
            return Ok(self.read_tools_again(flight));
        }
        Ok(false)
    }

    /// The owner reads the list of tools again: they may want other headers than we know of.
    fn read_tools_again(&self, flight: &Flight) -> bool {
        let tools = lock(&self.state).tools.clone();
        let Some((before, reader)) = tools.reader() else {
            return false;
        };
        let Some(inbound) = reader.inbound() else {
            return false;
        };
        inbound.link.mark_dirty(ListKind::Tools);
        reader.signals.lists_changed();
        let deadline = Instant::now() + limits::REMOTE_RELIST;
        self.await_state(deadline, &flight.stop, |_| tools.times_read() > before)
    }

    fn read_body(
        &self,
        flight: &Flight,
        letter: &Letter,
        response: &mut Response,
    ) -> Result<(), Trouble> {
        let body = response.read_to_end(limits::LINE_BYTES);
        let body = body.map_err(|error| Trouble::of_net(&error))?;
        if letter.is_opening {
            self.opened(&body, response.header("mcp-session-id"))?;
        }
        self.heard(flight, body);
        Ok(())
    }

    /// Reads a stream of events until the answer came. A stream of a session that ends before
    /// that is taken up again where it ended, if it gave an event an id.
    fn read_stream(
        &self,
        flight: &Flight,
        letter: &Letter,
        mut response: Response,
    ) -> Result<(), Trouble> {
        let id = response.header("mcp-session-id").map(str::to_owned);
        let mut trail = Trail::default();
        let (mut fruitless, mut idle) = (0, 0);
        loop {
            let (seen, messages) = (trail.last_id.clone(), trail.messages);
            let end = self.read_events(flight, &mut response, &mut trail, |body| {
                match letter.is_opening {
                    true => self.opened(body, id.as_deref()),
                    false => Ok(()),
                }
            });
            if flight.call.is_none_or(|call| !self.awaits(call)) {
                return Ok(());
            }
            if flight.stop.is_stopped() {
                return Err(Trouble::stopped());
            }
            let why = end.err().map_or_else(
                || "ended the stream of a call without its answer".to_owned(),
                |trouble| trouble.detail,
            );
            fruitless = match trail.last_id == seen {
                true => fruitless + 1,
                false => 0,
            };
            idle = match trail.messages == messages {
                true => idle + 1,
                false => 0,
            };
            let Some(number) = letter.session.filter(|_| trail.last_id.is_some()) else {
                return Err(Trouble::broken(why));
            };
            if fruitless >= limits::REMOTE_RESUMPTIONS {
                return Err(Trouble::broken(why));
            }
            let pause = trail.pause(idle).saturating_mul(fruitless.max(1));
            response = self.resume(flight, number, &trail, pause, &why)?;
        }
    }

    fn resume(
        &self,
        flight: &Flight,
        number: u64,
        trail: &Trail,
        pause: Duration,
        why: &str,
    ) -> Result<Response, Trouble> {
        let until = Instant::now() + pause.min(limits::REMOTE_PAUSE_CEILING);
        self.await_state(until, &flight.stop, |_| false);
        if flight.stop.is_stopped() {
            return Err(Trouble::stopped());
        }
        let broken = |detail: String| Trouble::broken(format!("{why}; {detail}"));
        let Some(mut headers) = self.headers_of(number) else {
            return Err(broken("its session is over".to_owned()));
        };
        let id = trail.last_id.clone().unwrap_or_default();
        headers.push(("Last-Event-ID".to_owned(), id));
        log::debug!("stream taken up again server={:?}: it {why}", self.server);
        let response = match self.road.get(&headers, &flight.stop) {
            Ok(response) => response,
            Err(trouble) => return Err(broken(trouble.detail)),
        };
        match (response.status(), response.media_type().as_str()) {
            (200, "text/event-stream") => Ok(response),
            (status, _) => Err(broken(format!(
                "and answered {status} when asked for the rest of it"
            ))),
        }
    }

    fn headers_of(&self, number: u64) -> Option<Headers> {
        let state = lock(&self.state);
        let session = state.session()?;
        (session.number == number).then(|| session.headers())
    }

    /// Hands on events until the stream ends or the call is answered.
    fn read_events(
        &self,
        flight: &Flight,
        response: &mut Response,
        trail: &mut Trail,
        first: impl Fn(&[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut parser = Parser::new(limits::LINE_BYTES);
        let mut buffer = vec![0; limits::REMOTE_READ_BYTES];
        let mut is_answered = false;
        loop {
            let count = match response.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(_) if is_answered => return Ok(()),
                Err(error) => return Err(Trouble::of_net(&error)),
            };
            for event in parser.feed(&buffer[..count]) {
                if event.skipped.is_none() {
                    first(event.data.as_bytes())?;
                }
                trail.messages += u64::from(!event.data.trim().is_empty());
                self.event(flight, event);
            }
            if let Some(id) = parser.last_id() {
                trail.last_id = Some(id.to_owned());
            }
            if let Some(retry) = parser.retry_ms() {
                trail.retry = Some(Duration::from_millis(retry));
            }
            if !is_answered && flight.call.is_some_and(|call| !self.awaits(call)) {
                // Its end makes the connection free for the next exchange.
                is_answered = true;
                response.set_deadline(Some(Instant::now() + limits::REMOTE_TAIL));
            }
        }
    }

    /// One event of a stream that belongs to `flight`, or to no call.
    pub(super) fn event(&self, flight: &Flight, event: Event) {
        if let Some(skipped) = event.skipped {
            if let Some(inbound) = self.inbound() {
                inbound.too_long(skipped.bytes, skipped.id.or(flight.call), skipped.is_call);
            }
            return;
        }
        // Other events than messages are for others; empty ones open a stream.
        let is_message = event.name.is_empty() || event.name == "message";
        if is_message && !event.data.trim().is_empty() {
            self.heard(flight, event.data.into_bytes());
        }
    }

    fn heard(&self, flight: &Flight, mut text: Vec<u8>) {
        // A message is one line on every other way that it may go.
        blank_line_breaks(&mut text);
        if text.len() <= limits::REMOTE_REFUSAL_BYTES
            && memchr::memmem::find(&text, b"\"error\"").is_some()
        {
            self.suspect(flight, 200, std::str::from_utf8(&text).unwrap_or_default());
        }
        if let Some(inbound) = self.inbound() {
            inbound.line(&text, flight.call);
        }
    }

    fn awaits(&self, call: u64) -> bool {
        self.inbound()
            .is_some_and(|inbound| inbound.link.awaits(call))
    }
}

#[cfg(test)]
mod tests {
    use super::Trail;
    use crate::base::limits;
    use std::time::Duration;

    #[test]
    fn a_stream_that_brings_nothing_is_asked_for_less_and_less() {
        let pause = |retry_ms: Option<u64>, idle: u32| {
            let trail = Trail {
                retry: retry_ms.map(Duration::from_millis),
                ..Trail::default()
            };
            trail.pause(idle)
        };
        assert_eq!(pause(Some(0), 0), limits::REMOTE_RETRY_LEAST);
        assert_eq!(pause(Some(0), 3), limits::REMOTE_RETRY_LEAST * 8);
        assert_eq!(pause(Some(0), 100), limits::REMOTE_IDLE_PAUSE);
        assert_eq!(pause(None, 0), limits::REMOTE_RETRY);
        assert_eq!(pause(Some(30_000), 100), Duration::from_secs(30));
        assert_eq!(pause(Some(u64::MAX), 100), Duration::from_millis(u64::MAX));
    }
}
