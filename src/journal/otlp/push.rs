//! One receiver of traces and metrics, and how it takes them: what may succeed later is tried
//! again, with pauses that grow; a receiver that takes nothing is left alone for a while. Runs on
//! the thread `otlp`, which may be told to end at any point.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::base::secret::Secret;
use crate::base::{limits, sys};
use crate::net::client::{Client, Method, Request};
use crate::net::stop::Stop;
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

/// Those of the configuration: a reload may bring others.
pub type Headers = Arc<RwLock<Vec<(String, Secret)>>>;

pub struct Road {
    pub client: Client,
    pub headers: Headers,
    /// Stops the request that is under way.
    pub stop: Stop,
    /// Disconnected when the gateway ends.
    pub end: Receiver<()>,
    /// For the log: no secret is in it.
    pub receiver: String,
    health: Health,
    /// It takes only a part: not said again before that.
    partly_said_until: Option<Instant>,
}

/// How the receiver is, judged by the last requests.
#[derive(Default)]
struct Health {
    /// Given up in a row.
    failures: u32,
    /// It is left alone until then.
    rest_until: Option<Instant>,
}

/// Why it did not take something.
struct Failure {
    why: String,
    /// It may take it later: after so long, if it said that.
    later: Option<Option<Duration>>,
}

/// What it took was refused in part.
#[derive(Debug, PartialEq, Eq)]
struct Partial {
    refused: usize,
    why: String,
}

impl Road {
    pub fn new(client: Client, headers: Headers, end: Receiver<()>, receiver: String) -> Road {
        Road {
            client,
            headers,
            stop: Stop::default(),
            end,
            receiver,
            health: Health::default(),
            partly_said_until: None,
        }
    }

    /// It is being left alone, until the time that is returned.
    pub fn rests_until(&self) -> Option<Instant> {
        self.health
            .rest_until
            .filter(|until| *until > Instant::now())
    }

    /// How much of it the receiver refused; `None` when it took nothing. `time`: set when the
    /// gateway ends; then it is tried once.
    pub fn push(&mut self, url: &str, body: &[u8], time: Option<Duration>) -> Option<usize> {
        let mut pause = limits::OTLP_PAUSE;
        for left in (0..self.tries(time)).rev() {
            let failure = match self.post(url, body, time.unwrap_or(limits::OTLP_REQUEST)) {
                Ok(partial) => {
                    self.taken();
                    return Some(partial.map_or(0, |partial| self.partly(&partial)));
                }
                Err(failure) => failure,
            };
            let wanted = match failure.later {
                Some(wanted) if left > 0 => wanted,
                _ => {
                    self.given_up(&failure.why);
                    return None;
                }
            };
            log::debug!(
                "telemetry not taken yet receiver={}: {}",
                self.receiver,
                failure.why
            );
            let wait = wanted.unwrap_or_else(|| shortened(pause));
            if self.waits(wait.min(limits::OTLP_PAUSE_MAX)) {
                return None;
            }
            pause *= 2;
        }
        None
    }

    fn tries(&self, time: Option<Duration>) -> u32 {
        let is_half_open = self.health.failures >= limits::OTLP_BREAKER;
        match time.is_some() || is_half_open {
            true => 1,
            false => limits::OTLP_TRIES,
        }
    }

    /// True when the gateway ended meanwhile.
    fn waits(&self, time: Duration) -> bool {
        self.end.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    }

    fn taken(&mut self) {
        if self.health.failures > 0 {
            log::info!("telemetry is taken again receiver={}", self.receiver);
        }
        self.health = Health::default();
    }

    fn given_up(&mut self, why: &str) {
        if self.health.failures == 0 {
            let receiver = &self.receiver;
            log::warn!(
                "telemetry not taken, what was to be sent is lost receiver={receiver}: {why}"
            );
        }
        self.health.failures = self.health.failures.saturating_add(1);
        if self.health.failures >= limits::OTLP_BREAKER {
            self.health.rest_until = Some(Instant::now() + limits::OTLP_REST);
        }
    }

    fn post(&self, url: &str, body: &[u8], time: Duration) -> Result<Option<Partial>, Failure> {
        let own = [
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
        ];
        let configured = self
            .headers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let configured = configured
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()));
        let headers: Vec<(&str, &str)> = own.into_iter().chain(configured).collect();
        let request = Request {
            method: Method::Post,
            url,
            headers: &headers,
            body,
            head_timeout: time,
            idle_timeout: Some(time),
        };
        let sent = self.client.send(&request, &self.stop);
        let mut response = sent.map_err(|error| Failure {
            why: error.to_string(),
            later: Some(None),
        })?;
        let status = response.status();
        let after = response.header("retry-after").and_then(retry_in);
        response.set_deadline(Some(Instant::now() + time));
        let answer = response.read_to_end(limits::OTLP_ANSWER_BYTES);
        let answer = answer.unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(partial(&answer));
        }
        let is_for_later = matches!(status, 429 | 502 | 503 | 504);
        Err(Failure {
            why: format!("it answered {status}"),
            later: is_for_later.then_some(after),
        })
    }

    /// What was taken was refused in part: how much of it. It would be said often.
    fn partly(&mut self, partial: &Partial) -> usize {
        let Partial { refused, why } = partial;
        let now = Instant::now();
        if self.partly_said_until.is_none_or(|until| until <= now) {
            self.partly_said_until = Some(now + limits::OTLP_PARTLY);
            let receiver = &self.receiver;
            log::warn!("telemetry taken in part receiver={receiver} refused={refused}: {why}");
        }
        *refused
    }
}

/// In seconds. A date is not understood: then the pause is ours.
fn retry_in(value: &str) -> Option<Duration> {
    let seconds = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// `partialSuccess`, if it says anything.
fn partial(answer: &[u8]) -> Option<Partial> {
    let text = str::from_utf8(answer).ok()?;
    let members = Members::parse(text, 0, FROM_SERVER).ok()?;
    let partly = Members::parse(members.get("partialSuccess")?, 1, FROM_SERVER).ok()?;
    let why = partly.string("errorMessage").unwrap_or_default();
    let counts = ["rejectedSpans", "rejectedDataPoints"];
    // JSON of protobuf writes such numbers as strings.
    let count = counts.iter().find_map(|key| partly.get(key));
    let refused = count.and_then(|count| count.trim_matches('"').parse().ok());
    let refused: usize = refused.unwrap_or_default();
    (refused > 0 || !why.is_empty()).then(|| Partial {
        refused,
        why: why.into_owned(),
    })
}

/// By up to all of it: many gateways must not come back together.
fn shortened(pause: Duration) -> Duration {
    let mut byte = [0];
    sys::random_bytes(&mut byte);
    pause * u32::from(byte[0]) / u32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use crossbeam_channel::bounded;

    use super::{Road, partial, retry_in};
    use crate::base::limits;
    use crate::net::client::{Client, ClientOptions};

    #[test]
    fn who_takes_nothing_is_left_alone_and_then_tried_once() {
        let client = Client::new(&ClientOptions::default()).expect("a client");
        let (_end, ended) = bounded(0);
        let mut road = Road::new(client, Arc::default(), ended, "r".to_owned());
        assert_eq!(road.tries(None), limits::OTLP_TRIES);
        for _ in 1..limits::OTLP_BREAKER {
            road.given_up("x");
            assert_eq!(road.rests_until(), None);
        }
        road.given_up("x");
        let until = road.rests_until().expect("a rest");
        assert!(until > Instant::now() && until <= Instant::now() + limits::OTLP_REST);
        assert_eq!(road.tries(None), 1);
        road.taken();
        assert_eq!(road.rests_until(), None);
        assert_eq!(road.tries(None), limits::OTLP_TRIES);
        assert_eq!(road.tries(Some(limits::OTLP_END)), 1);
    }

    #[test]
    fn a_receiver_may_say_when_it_wants_to_be_asked_again() {
        let seconds = |text| retry_in(text).map(|time| time.as_secs());
        assert_eq!(seconds(" 7 "), Some(7));
        for date in ["", "-1", "x", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            assert_eq!(seconds(date), None, "{date}");
        }
    }

    #[test]
    fn what_was_refused_in_part_is_told() {
        for nothing in ["", "{}", "[]", r#"{"partialSuccess":{}}"#, "nonsense"] {
            assert_eq!(partial(nothing.as_bytes()), None, "{nothing}");
        }
        let told = |text: &str| partial(text.as_bytes()).map(|some| (some.refused, some.why));
        let some = r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#;
        assert_eq!(told(some), Some((3, "too old".to_owned())));
        let some = r#"{"partialSuccess":{"rejectedDataPoints":4}}"#;
        assert_eq!(told(some), Some((4, String::new())));
        let warning = r#"{"partialSuccess":{"errorMessage":"mind"}}"#;
        assert_eq!(told(warning), Some((0, "mind".to_owned())));
        let none = r#"{"partialSuccess":{"rejectedDataPoints":"0"}}"#;
        assert_eq!(partial(none.as_bytes()), None);
    }
}
