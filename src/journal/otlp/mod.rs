//! Traces and metrics for a receiver of OTLP/HTTP (JSON), pushed by the thread `otlp`. Nothing of
//! it is ever waited for: spans come through a bounded queue, and what there is no room for is
//! counted and dropped. Deliberately absent: gzip, protobuf, and any state on disk.

pub mod json;
pub mod metrics;
pub mod push;
pub mod resource;
pub mod spans;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use prometheus::proto::MetricFamily;

use crate::base::{limits, thread};
use crate::journal::otlp::json::Resource;
use crate::journal::otlp::push::{Headers, Road};
use crate::journal::span::{self, Record};
use crate::net::client::{Client, ClientOptions};
use crate::net::egress::{Allowed, Egress};
use crate::net::stop::Stop;
use crate::net::url::Url;

/// Where to, and what.
#[derive(Debug, Clone)]
pub struct Spec {
    /// To which `/v1/traces` and `/v1/metrics` are added.
    pub endpoint: String,
    pub headers: Headers,
    pub egress_allow: Vec<Allowed>,
    /// Of a hundred new traces, so many are recorded. `None`: no traces for now.
    pub trace_percent: Option<u32>,
    /// Between two pushes of metrics.
    pub interval: Duration,
}

/// What can be pushed.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Traces,
    Metrics,
}

/// Pushes of each signal that were taken, and that were given up.
static TAKEN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static GIVEN_UP: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Signal, outcome and number of all pushes so far.
pub fn pushes() -> impl Iterator<Item = (&'static str, &'static str, u64)> {
    let signals = [("traces", Signal::Traces), ("metrics", Signal::Metrics)];
    signals.into_iter().flat_map(|(name, signal)| {
        let count = |counts: &[AtomicU64; 2]| counts[signal as usize].load(Ordering::Relaxed);
        [("taken", count(&TAKEN)), ("given_up", count(&GIVEN_UP))]
            .map(|(outcome, count)| (name, outcome, count))
    })
}

/// What there is to tell of metrics.
pub type Gather = Box<dyn Fn() -> Vec<MetricFamily> + Send>;

/// The same; nothing while nobody wants it.
pub type GatherIfWanted = Box<dyn Fn() -> Option<Vec<MetricFamily>> + Send>;

/// The running thread. `finish` sends what is left.
pub struct Otlp {
    end: Sender<()>,
    stop: Stop,
    over: Receiver<()>,
    thread: JoinHandle<()>,
}

struct Pusher {
    road: Road,
    resource: Resource,
    traces_url: String,
    metrics_url: String,
    spans: Receiver<Box<Record>>,
    end: Receiver<()>,
    interval: Duration,
    gather: GatherIfWanted,
    start_ns: u64,
    /// Spans that wait to be sent together.
    batch: Vec<Record>,
}

impl Otlp {
    /// # Errors
    /// When the system refuses a thread, or the endpoint is no URL.
    pub fn start(spec: &Spec, gather: GatherIfWanted) -> io::Result<Otlp> {
        let url = Url::parse(&spec.endpoint)
            .map_err(|error| io::Error::other(format!("otlp.endpoint: {error}")))?;
        let client = Client::new(&ClientOptions {
            egress: Egress::operator(spec.egress_allow.clone()),
            ..ClientOptions::default()
        });
        let client = client.map_err(|error| io::Error::other(error.to_string()))?;
        let (end, ended) = bounded(0);
        let (spans, taken) = bounded(limits::SPANS);
        let (alive, over) = bounded(0);
        let road = Road::new(client, spec.headers.clone(), ended.clone(), url.origin());
        let stop = road.stop.clone();
        let pusher = Pusher {
            road,
            resource: resource::own(|name| std::env::var(name).ok()),
            traces_url: signal_url(&spec.endpoint, "v1/traces"),
            metrics_url: signal_url(&spec.endpoint, "v1/metrics"),
            spans: taken,
            end: ended,
            interval: spec.interval,
            gather,
            start_ns: now_ns(),
            batch: Vec::new(),
        };
        let thread = thread::spawn("otlp", limits::STACK_REMOTE_BYTES, move || {
            pusher.run();
            drop(alive);
        })?;
        span::set_taker(Some(spans), spec.trace_percent);
        Ok(Otlp {
            end,
            stop,
            over,
            thread,
        })
    }

    /// Sends what is left, as far as that is possible until `deadline`.
    pub fn finish(self, deadline: Instant) {
        span::set_taker(None, None);
        drop(self.end);
        // Nothing is ever sent there: it is disconnected when the thread is over, or it is late.
        let _ = self.over.recv_deadline(deadline);
        self.stop.stop();
        if self.thread.join().is_err() {
            log::error!("otlp thread panicked");
        }
    }
}

/// As the standard wants it: relative to an endpoint for all signals.
fn signal_url(endpoint: &str, path: &str) -> String {
    format!("{}/{path}", endpoint.trim_end_matches('/'))
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

impl Pusher {
    fn run(mut self) {
        let mut metrics_at = Instant::now() + self.interval;
        let mut spans_at: Option<Instant> = None;
        loop {
            let rests = self.road.rests_until();
            let wake = spans_at.map_or(metrics_at, |at| at.min(metrics_at));
            let wake = rests.map_or(wake, |until| wake.max(until));
            let wait = wake.saturating_duration_since(Instant::now());
            // While the receiver is left alone, spans wait in their queue, which is bounded.
            let spans = match rests.is_some() || self.batch.len() >= limits::SPANS_AT_ONCE {
                true => never(),
                false => self.spans.clone(),
            };
            select! {
                recv(spans) -> span => match span {
                    Ok(span) => {
                        self.batch.push(*span);
                        spans_at.get_or_insert(Instant::now() + limits::SPANS_GATHERED);
                    }
                    // Somebody else takes them now.
                    Err(_) => self.spans = never(),
                },
                recv(self.end) -> _ => break,
                default(wait) => {}
            }
            if self.road.rests_until().is_some() {
                continue;
            }
            let now = Instant::now();
            let is_full = self.batch.len() >= limits::SPANS_AT_ONCE;
            if is_full || spans_at.is_some_and(|at| at <= now) {
                self.push_spans(None);
                spans_at = None;
            }
            if metrics_at <= now {
                self.push_metrics(None);
                metrics_at = Instant::now() + self.interval;
            }
        }
        self.finish();
    }

    fn push_spans(&mut self, time: Option<Duration>) {
        let body = spans::body(&self.resource, &self.batch);
        let sent = self.batch.len();
        let refused = self.push(Signal::Traces, &body, time);
        span::count_dropped(refused.map_or(sent, |refused| refused.min(sent)));
        self.batch.clear();
    }

    fn push_metrics(&mut self, time: Option<Duration>) {
        let span = metrics::Span {
            start_ns: self.start_ns,
            now_ns: now_ns(),
        };
        let Some(families) = (self.gather)() else {
            return;
        };
        let body = metrics::body(&self.resource, &families, span);
        self.push(Signal::Metrics, &body, time);
    }

    /// How much of it the receiver refused; `None` when it took nothing.
    fn push(&mut self, signal: Signal, body: &[u8], time: Option<Duration>) -> Option<usize> {
        let url = match signal {
            Signal::Traces => &self.traces_url,
            Signal::Metrics => &self.metrics_url,
        };
        let refused = self.road.push(url, body, time);
        let counts = match refused {
            Some(_) => &TAKEN,
            None => &GIVEN_UP,
        };
        counts[signal as usize].fetch_add(1, Ordering::Relaxed);
        refused
    }

    /// The last words, if the receiver takes any.
    fn finish(mut self) {
        if self.road.rests_until().is_some() {
            return span::count_dropped(self.batch.len() + self.spans.len());
        }
        while self.batch.len() < limits::SPANS
            && let Ok(span) = self.spans.try_recv()
        {
            self.batch.push(*span);
        }
        if !self.batch.is_empty() {
            self.push_spans(Some(limits::OTLP_END));
        }
        self.push_metrics(Some(limits::OTLP_END));
    }
}

#[cfg(test)]
mod tests {
    use super::signal_url;

    #[test]
    fn signals_have_their_paths_below_the_endpoint() {
        for (endpoint, url) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp/", "https://c/otlp/v1/traces"),
        ] {
            assert_eq!(signal_url(endpoint, "v1/traces"), url);
        }
    }
}
