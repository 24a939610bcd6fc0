//! What is measured. Counting costs a few atomic additions and never waits: who makes many calls
//! keeps the handles (`meter`). What is a state and no event, such as open sessions, is not
//! counted here at all but looked at when somebody asks (`sample`, filled by the gateway).
//!
//! Everything is in the one registry of the process, so that whoever exports metrics gathers them
//! there. `table` says what there is.

pub mod meter;
pub mod outcome;
pub mod sample;
pub mod table;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, TextEncoder};

use crate::journal::metrics::table::{Kind, Metric};

static RECORDING: AtomicBool = AtomicBool::new(false);

/// From now on calls are measured, or not. Said before the first server is started.
pub fn set_recording(on: bool) {
    RECORDING.store(on, Ordering::Relaxed);
}

pub fn is_recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// Everything as Prometheus reads it (text format 0.0.4). One at a time, because who asks often
/// must not take more than one thread's work.
pub fn text() -> String {
    static ONE: Mutex<()> = Mutex::new(());
    let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let families = prometheus::gather();
    drop(turn);
    let mut text = String::new();
    if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
        log::error!("metrics not written: {error}");
    }
    text
}

/// Counters of one metric in the registry.
pub(crate) fn counters(metric: &Metric) -> Option<IntCounterVec> {
    let options = Opts::new(metric.name, metric.help);
    enter(IntCounterVec::new(options, metric.labels), metric)
}

pub(crate) fn histograms(metric: &Metric) -> Option<HistogramVec> {
    let Kind::Histogram(bounds) = metric.kind else {
        return None;
    };
    let options = HistogramOpts::new(metric.name, metric.help).buckets(bounds.to_vec());
    enter(HistogramVec::new(options, metric.labels), metric)
}

/// `None`: it is not measured, and that is said once.
fn enter<C: Collector + Clone + 'static>(
    made: Result<C, prometheus::Error>,
    metric: &Metric,
) -> Option<C> {
    let entered = made.and_then(|made| {
        prometheus::register(Box::new(made.clone()))?;
        Ok(made)
    });
    entered
        .inspect_err(|error| log::error!("not measured metric={}: {error}", metric.name))
        .ok()
}
