//! One sink: its queue and its thread (`al:NAME`), so that a sink that hangs holds up no other.
//! The queue is bounded and loses its oldest; what is sent is sent one after the other, as `Pace`
//! allows. Another configuration takes effect on what is waiting, too.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::{limits, sys, thread};
use crate::config::alerts::sink::{SinkSpec, Target};
use crate::journal::alert::message::Alert;
use crate::journal::alert::pace::Pace;
use crate::journal::alert::rules::{lost_subject, sink_subject};
use crate::journal::alert::send::{Around, Failure, send};
use crate::journal::fact::{Fact, note};
use crate::journal::metrics::events;
use crate::net::stop::Stop;

/// The way to the thread of a sink.
pub struct Outlet {
    desk: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    desk: Mutex<Desk>,
    wake: Condvar,
}

struct Desk {
    spec: SinkSpec,
    /// Rises with each other configuration.
    edition: u64,
    waiting: VecDeque<Arc<Alert>>,
    /// Lost since it was asked for last.
    lost: u64,
    /// What is not sent by then stays unsent.
    end: Option<Instant>,
    /// Of the try under way.
    stop: Stop,
}

/// What the thread does next.
enum Step {
    Send(Arc<Alert>, Job),
    End,
}

/// The terms of one try.
struct Job {
    /// Of the sink.
    name: String,
    target: Target,
    timeout: Duration,
    stop: Stop,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(spec: SinkSpec, around: Around) -> std::io::Result<Outlet> {
        let name = format!("al:{}", spec.name);
        let desk = Arc::new(Shared {
            desk: Mutex::new(Desk {
                spec,
                edition: 0,
                waiting: VecDeque::new(),
                lost: 0,
                end: None,
                stop: Stop::default(),
            }),
            wake: Condvar::new(),
        });
        let shared = desk.clone();
        let body = move || Courier::new(shared, around).run();
        let thread = thread::spawn(&name, limits::STACK_REMOTE_BYTES, body)?;
        Ok(Outlet {
            desk,
            thread: Some(thread),
        })
    }

    /// Never waits.
    pub fn push(&self, alert: Arc<Alert>) {
        let mut desk = self.desk.lock();
        if desk.waiting.len() >= limits::ALERT_QUEUE {
            desk.waiting.pop_front();
            desk.lost += 1;
        }
        desk.waiting.push_back(alert);
        self.desk.wake.notify_all();
    }

    /// What is waiting stays. A sink that cannot be filled in any more keeps its target.
    pub fn configure(&self, mut spec: SinkSpec) {
        let mut desk = self.desk.lock();
        if spec.target.is_none() && spec.kind == desk.spec.kind {
            spec.target.clone_from(&desk.spec.target);
        }
        if desk.spec != spec {
            desk.spec = spec;
            desk.edition += 1;
            self.desk.wake.notify_all();
        }
    }

    /// Lost since the last time.
    pub fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.desk.lock().lost)
    }

    /// Sends what can be sent until then.
    pub fn end(&self, by: Instant) {
        self.desk.lock().end = Some(by);
        self.desk.wake.notify_all();
    }

    pub fn has_ended(&self) -> bool {
        let thread = self.thread.as_ref();
        thread.is_none_or(JoinHandle::is_finished)
    }

    /// Ends it now, in the middle of a try.
    pub fn stop(&mut self) {
        let mut desk = self.desk.lock();
        desk.end = Some(Instant::now());
        let left = desk.waiting.len();
        if left > 0 {
            log::warn!("alerts not sent sink={} count={left}", desk.spec.name);
        }
        desk.waiting.clear();
        desk.stop.stop();
        drop(desk);
        self.desk.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("thread of an alert sink panicked");
        }
    }
}

/// The thread.
struct Courier {
    desk: Arc<Shared>,
    around: Around,
    pace: Pace,
    edition: u64,
    /// The alert that is being sent, and how often it was tried.
    current: Option<(Arc<Alert>, u32)>,
    /// Operators were told that it takes nothing.
    is_reported: bool,
}

impl Courier {
    fn new(desk: Arc<Shared>, around: Around) -> Courier {
        Courier {
            desk,
            around,
            pace: Pace::default(),
            edition: 0,
            current: None,
            is_reported: false,
        }
    }

    fn run(mut self) {
        loop {
            match self.next() {
                Step::Send(alert, job) => self.attempt(&alert, &job),
                Step::End => return,
            }
        }
    }

    /// Waits for something that may be sent.
    fn next(&mut self) -> Step {
        let shared = self.desk.clone();
        let mut desk = shared.lock();
        loop {
            let now = Instant::now();
            if desk.edition != self.edition {
                self.edition = desk.edition;
                self.pace.forgive(now);
                self.current = self.current.take().map(|(alert, _)| (alert, 0));
            }
            if self.current.is_none() {
                self.current = desk.waiting.pop_front().map(|alert| (alert, 0));
            }
            let target = desk.spec.target.clone();
            let due = self.pace.next().map_or(now, |next| next.max(now));
            let wanted = self.current.as_ref().zip(target);
            let has_time = desk.end.is_none_or(|end| due < end);
            match wanted {
                Some(((alert, _), target)) if due <= now && has_time => {
                    let alert = alert.clone();
                    return Step::Send(alert, desk.job(target, now));
                }
                Some(_) if has_time => {
                    let waited = shared.wake.wait_timeout(desk, due - now);
                    desk = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                _ if desk.end.is_some() => {
                    let left = desk.waiting.len() + usize::from(self.current.is_some());
                    desk.waiting.clear();
                    if left > 0 {
                        log::warn!("alerts not sent sink={} count={left}", desk.spec.name);
                    }
                    return Step::End;
                }
                _ => {
                    let waited = shared.wake.wait(desk);
                    desk = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn attempt(&mut self, alert: &Alert, job: &Job) {
        self.pace.begin(Instant::now());
        let sent = send(&job.target, alert, &self.around, job.timeout, &job.stop);
        let now = Instant::now();
        events::alert_tried(&job.name, sent.is_ok());
        match sent {
            Ok(_) => {
                self.current = None;
                self.pace.succeeded();
                if std::mem::take(&mut self.is_reported) {
                    self.report(None);
                }
            }
            // The end of the gateway, or of this sink.
            Err(_) if job.stop.is_stopped() => self.current = None,
            Err(failure) => self.failed(alert, &failure, now),
        }
    }

    fn failed(&mut self, alert: &Alert, failure: &Failure, now: Instant) {
        let (asked, is_final) = match failure {
            Failure::Later { after, .. } => (*after, false),
            Failure::Never { .. } => (None, true),
        };
        self.pace.failed(now, asked, chance());
        let tries = self.current.as_ref().map_or(0, |(_, tries)| *tries) + 1;
        let name = self.desk.lock().spec.name.clone();
        let (rule, why) = (alert.rule, failure.why());
        if is_final || tries >= limits::ALERT_TRIES {
            log::warn!("alert lost sink={name} rule={rule} tries={tries}: failed to {why}");
            self.current = None;
            self.desk.lock().lost += 1;
        } else {
            if self.pace.failures() == 1 {
                log::warn!("alert not sent yet sink={name} rule={rule}: failed to {why}");
            }
            self.current = self.current.take().map(|(alert, _)| (alert, tries));
        }
        if self.pace.is_broken() && !std::mem::replace(&mut self.is_reported, true) {
            self.report(Some(format!("failed to {why}")));
        }
    }

    fn report(&self, failing: Option<String>) {
        let name = sink_subject(&self.desk.lock().spec.name);
        match &failing {
            Some(why) => log::error!("{name} takes nothing: {why}"),
            None => log::info!("{name} takes alerts again"),
        }
        note(Fact::Sink { name, failing });
    }
}

impl Desk {
    fn job(&mut self, target: Target, now: Instant) -> Job {
        self.stop = Stop::default();
        let left = self.end.map(|end| end.saturating_duration_since(now));
        let timeout = self.spec.timeout;
        Job {
            name: self.spec.name.clone(),
            target,
            timeout: left.map_or(timeout, |left| left.min(timeout)),
            stop: self.stop.clone(),
        }
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    sys::random_bytes(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

/// The fact that so many alerts for a sink were lost.
pub fn lost(name: &str, count: u64) -> Fact {
    let what = lost_subject(name);
    Fact::Lost { what, count }
}

#[cfg(test)]
#[path = "outlet_tests.rs"]
mod tests;
