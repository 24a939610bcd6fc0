//! States as samples: what a scrape finds when it looks. Built anew each time, so that what is
//! gone leaves no series behind.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric as Point, MetricFamily, MetricType};

use crate::journal::metrics::table::{Kind, Metric};

/// Samples of any number of metrics, those of each one together.
#[derive(Default)]
pub struct Samples(Vec<MetricFamily>);

impl Samples {
    /// `labels` in the order of the metric's own.
    pub fn add(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        let pairs = metric.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut point = Point::from_label(pairs.collect());
        match metric.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                point.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram(_) => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                point.set_gauge(gauge);
            }
        }
        self.family(metric).mut_metric().push(point);
    }

    /// 1 for the label that is `current`, 0 for the other ones.
    pub fn choice(&mut self, metric: &Metric, first: &[&str], all: &[&str], current: &str) {
        for word in all {
            let labels: Vec<&str> = first.iter().copied().chain([*word]).collect();
            self.add(metric, &labels, f64::from(u8::from(*word == current)));
        }
    }

    fn family(&mut self, metric: &Metric) -> &mut MetricFamily {
        let known = self
            .0
            .iter()
            .position(|family| family.name() == metric.name);
        let at = known.unwrap_or_else(|| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge | Kind::Histogram(_) => MetricType::GAUGE,
            });
            self.0.push(family);
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    pub fn into_families(self) -> Vec<MetricFamily> {
        self.0
    }
}
