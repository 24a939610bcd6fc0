//! What is measured. Counting costs a few atomic additions and never waits: who makes many calls
//! keeps the handles (`meter`). What is a state and no event, such as open sessions, is not
//! counted here at all but looked at when somebody asks (`sample`, filled by the gateway).
//!
//! Everything is in the one registry of the process, so that whoever exports metrics gathers them
//! there. `table` says what there is.

pub mod events;
pub mod meter;
pub mod outcome;
pub mod sample;
pub mod table;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, TextEncoder};

use crate::journal::metrics::sample::Samples;
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

/// Where samples of states come from.
type Source = Box<dyn Fn(&mut Samples) + Send + Sync>;

static SOURCE: RwLock<Option<Source>> = RwLock::new(None);

/// From now on whoever gathers metrics finds what `source` sees; an earlier source is forgotten.
pub fn look_at(source: Source) {
    static ENTERED: Once = Once::new();
    *SOURCE.write().unwrap_or_else(PoisonError::into_inner) = Some(source);
    ENTERED.call_once(|| {
        let entered = States::new().and_then(|states| prometheus::register(Box::new(states)));
        if let Err(error) = entered {
            log::error!("states not measured: {error}");
        }
    });
}

/// The part of the registry that looks instead of counting.
struct States(Vec<Desc>);

impl States {
    fn new() -> Result<States, prometheus::Error> {
        // All states under one name: which there are is seen when somebody looks.
        let (name, help) = ("onemcp_states".to_owned(), "States.".to_owned());
        Ok(States(vec![Desc::new(name, help, vec![], HashMap::new())?]))
    }
}

impl Collector for States {
    fn desc(&self) -> Vec<&Desc> {
        self.0.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Samples::default();
        let source = SOURCE.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = &*source {
            source(&mut samples);
        }
        samples.into_families()
    }
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
