//! Traces and metrics for a receiver of OTLP, as the settings want them.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::secret::Secret;
use crate::config::settings::Settings;
use crate::journal::otlp::{Gather, Otlp, Spec};
use crate::journal::span;

/// Whether metrics are pushed, where there is a receiver.
static METRICS: AtomicBool = AtomicBool::new(false);

/// `None`: nobody is to be told, or that is not possible, which is said. The gateway serves as
/// well without.
pub fn start(settings: &Settings, gather: Gather) -> Option<Otlp> {
    let endpoint = settings.otlp_endpoint.clone()?;
    let headers = settings.otlp_headers.iter();
    let spec = Spec {
        endpoint,
        headers: headers
            .map(|(name, value)| (name.clone(), Secret::new(value.clone())))
            .collect(),
        egress_allow: settings.egress_allow.clone(),
        trace_percent: percent(settings),
        interval: settings.otlp_interval,
    };
    METRICS.store(settings.enable_otlp_metrics, Ordering::Relaxed);
    let wanted = move || METRICS.load(Ordering::Relaxed).then(&gather);
    Otlp::start(&spec, Box::new(wanted))
        .inspect_err(|error| log::error!("no traces and metrics are sent: {error}"))
        .ok()
}

/// What a reload may change.
pub fn apply(settings: &Settings) {
    span::set_percent(percent(settings));
    METRICS.store(settings.enable_otlp_metrics, Ordering::Relaxed);
}

fn percent(settings: &Settings) -> Option<u32> {
    let percent = u32::try_from(settings.trace_percent).unwrap_or(100);
    settings.enable_traces.then_some(percent)
}
