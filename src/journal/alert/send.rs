//! One try to bring one alert to one sink, on the thread of the caller, which may be ended from
//! outside at any time. What a sink answers is never shown: it could repeat what it got.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::limits;
use crate::base::secret::Secret;
use crate::config::alerts::rule::Severity;
use crate::config::alerts::sink::{HttpTarget, Shape, Target};
use crate::journal::alert::body::{Speaker, body, signed_headers};
use crate::journal::alert::command;
use crate::journal::alert::message::{Alert, State};
use crate::net::client::{Client, ClientOptions, Method, Request, Response};
use crate::net::egress::{Allowed, Egress};
use crate::net::stop::Stop;

/// Why it did not arrive. The texts fit behind "failed to ...".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Perhaps another time; `after` is when the sink wants to be asked again.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// This alert will never be taken.
    Never { why: String },
}

impl Failure {
    pub fn why(&self) -> &str {
        match self {
            Failure::Later { why, .. } | Failure::Never { why } => why,
        }
    }

    fn later(why: String) -> Failure {
        Failure::Later { why, after: None }
    }
}

/// What all tries have in common.
#[derive(Debug, Clone)]
pub struct Around {
    pub speaker: Speaker,
    /// What may be reached although `net::egress` refuses it.
    pub egress_allow: Vec<Allowed>,
}

/// Gives a word on how it was taken.
///
/// # Errors
/// Why it was not, and whether to try again.
pub fn send(
    target: &Target,
    alert: &Alert,
    around: &Around,
    timeout: Duration,
    stop: &Stop,
) -> Result<String, Failure> {
    match target {
        Target::Http(http) => post(http, alert, around, timeout, stop),
        Target::Command(spec) => {
            let outcome = command::run(spec, alert, &around.speaker, timeout, stop);
            outcome.map_err(Failure::later)
        }
        Target::Log => {
            write(alert);
            Ok("written".to_owned())
        }
    }
}

fn write(alert: &Alert) {
    let level = match (alert.state, alert.severity) {
        (State::Resolved, _) | (_, Severity::Info) => log::Level::Info,
        (_, Severity::Warning) => log::Level::Warn,
        (_, Severity::Error | Severity::Critical) => log::Level::Error,
    };
    log::log!(
        level,
        "alert rule={} state={} severity={} key={:?} count={} title={:?} detail={:?}",
        alert.rule,
        alert.state.as_str(),
        alert.severity,
        alert.key,
        alert.count,
        alert.title,
        alert.detail,
    );
}

fn post(
    target: &HttpTarget,
    alert: &Alert,
    around: &Around,
    timeout: Duration,
    stop: &Stop,
) -> Result<String, Failure> {
    let until = Instant::now() + timeout;
    // A new one each time: alerts are rare, and the file of certificates may have changed.
    let client = Client::new(&ClientOptions {
        ca_file: target.ca_file.clone(),
        proxy: target.proxy.clone(),
        egress: Egress::operator(around.egress_allow.clone()),
    });
    let client = client.map_err(|error| Failure::later(error.to_string()))?;
    let client = client.keeping_redirects();
    let body = body(&target.shape, alert, &around.speaker);
    let own = match &target.shape {
        Shape::Webhook { key } => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let seconds = now.unwrap_or_default().as_secs();
            signed_headers(key.as_ref().map(Secret::expose), &alert.id, seconds, &body)
        }
        _ => Vec::new(),
    };
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
    let more = target.headers.iter();
    headers.extend(more.map(|(name, value)| (name.as_str(), value.expose())));
    let request = Request {
        method: Method::Post,
        url: target.url.expose(),
        headers: &headers,
        body: &body,
        head_timeout: timeout,
        idle_timeout: None,
    };
    let sent = client.send(&request, stop);
    let mut response = sent.map_err(|error| Failure::later(error.to_string()))?;
    response.set_deadline(Some(until));
    let verdict = judge(&response);
    // Only to let the other side finish in peace.
    let _ = response.read_to_end(limits::ALERT_ANSWER_BYTES);
    verdict
}

fn judge(response: &Response) -> Result<String, Failure> {
    let status = response.status();
    let origin = response.url().origin();
    let why = format!("be heard by {origin}: it answered {status}");
    match status {
        200..=299 => Ok(format!("HTTP {status}")),
        300..=399 => {
            let hint = "redirects are not followed; configure the URL it leads to";
            Err(Failure::later(format!("{why}; {hint}")))
        }
        // Those that another key, another URL or some time can heal.
        401 | 403 | 404 | 407 | 408 | 410 | 421 | 425 | 429 | 500..=599 => Err(Failure::Later {
            why,
            after: retry_after(response.header("retry-after")),
        }),
        _ => Err(Failure::Never { why }),
    }
}

/// In seconds; a date is not worth a calendar here.
fn retry_after(value: Option<&str>) -> Option<Duration> {
    let seconds = value?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds))
}
