//! Traces and metrics for a receiver of OTLP, as the settings want them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use crate::base::secret::Secret;
use crate::config::Config;
use crate::config::settings::Settings;
use crate::journal::otlp::push::Headers;
use crate::journal::otlp::{Gather, Otlp, Spec};
use crate::journal::span;

/// What a reload may change of it.
#[derive(Clone, Default)]
pub struct Wishes {
    headers: Headers,
    /// Whether metrics are pushed.
    metrics: Arc<AtomicBool>,
}

impl Wishes {
    pub fn new(config: &Config) -> Wishes {
        let wishes = Wishes::default();
        wishes.keep(&config.settings, &config.otlp_headers);
        wishes
    }

    /// Takes over what another configuration wants.
    pub fn adopt(&self, config: &Config) {
        self.keep(&config.settings, &config.otlp_headers);
        span::set_percent(percent(&config.settings));
    }

    fn keep(&self, settings: &Settings, headers: &[(String, Secret)]) {
        let mut kept = self.headers.write().unwrap_or_else(PoisonError::into_inner);
        headers.clone_into(&mut kept);
        self.metrics
            .store(settings.enable_otlp_metrics, Ordering::Relaxed);
    }

    /// `None`: nobody is to be told, or that is not possible, which is said. The gateway serves
    /// as well without.
    pub fn start(&self, settings: &Settings, gather: Gather) -> Option<Otlp> {
        let spec = Spec {
            endpoint: settings.otlp_endpoint.clone()?,
            headers: self.headers.clone(),
            egress_allow: settings.egress_allow.clone(),
            trace_percent: percent(settings),
            interval: settings.otlp_interval,
        };
        let metrics = self.metrics.clone();
        let gather = move || metrics.load(Ordering::Relaxed).then(&gather);
        Otlp::start(&spec, Box::new(gather))
            .inspect_err(|error| log::error!("no traces and metrics are sent: {error}"))
            .ok()
    }
}

fn percent(settings: &Settings) -> Option<u32> {
    let percent = u32::try_from(settings.trace_percent).unwrap_or(100);
    settings.enable_traces.then_some(percent)
}
