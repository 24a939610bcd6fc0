//! Metrics as the body of a request to `/v1/metrics`: cumulative since the start, under the
//! names of the OpenTelemetry conventions. What Prometheus makes of those is what a scrape says.
//! Pure.

use prometheus::proto::{Histogram, LabelPair, Metric, MetricFamily, MetricType};
use serde::Serialize;

use crate::journal::otlp::json::{Attribute, Resource, SCOPE, Scope};

/// Counts since the start, not since the last time.
const CUMULATIVE: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    resource_metrics: [ResourceMetrics<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    resource: &'a Resource,
    scope_metrics: [ScopeMetrics<'a>; 1],
}

#[derive(Serialize)]
struct ScopeMetrics<'a> {
    scope: Scope,
    metrics: Vec<Stream<'a>>,
}

#[derive(Serialize)]
struct Stream<'a> {
    name: String,
    description: &'a str,
    unit: &'static str,
    #[serde(flatten)]
    data: Data,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Data {
    #[serde(rename_all = "camelCase")]
    Sum {
        aggregation_temporality: u8,
        is_monotonic: bool,
        data_points: Vec<Number>,
    },
    #[serde(rename_all = "camelCase")]
    Gauge { data_points: Vec<Number> },
    #[serde(rename_all = "camelCase")]
    Histogram {
        aggregation_temporality: u8,
        data_points: Vec<Spread>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Number {
    attributes: Vec<Attribute>,
    start_time_unix_nano: String,
    time_unix_nano: String,
    as_double: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spread {
    attributes: Vec<Attribute>,
    start_time_unix_nano: String,
    time_unix_nano: String,
    count: String,
    sum: f64,
    bucket_counts: Vec<String>,
    explicit_bounds: Vec<f64>,
}

/// Nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub start_ns: u64,
    pub now_ns: u64,
}

pub fn body(resource: &Resource, families: &[MetricFamily], span: Span) -> Vec<u8> {
    let body = Body {
        resource_metrics: [ResourceMetrics {
            resource,
            scope_metrics: [ScopeMetrics {
                scope: SCOPE,
                metrics: families.iter().filter_map(|f| stream(f, span)).collect(),
            }],
        }],
    };
    // Texts and numbers only: there is nothing in it that cannot be written.
    serde_json::to_vec(&body).unwrap_or_default()
}

fn stream(family: &MetricFamily, span: Span) -> Option<Stream<'_>> {
    let points = family.get_metric().iter();
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum {
            aggregation_temporality: CUMULATIVE,
            is_monotonic: true,
            data_points: points
                .map(|point| number(point, point.get_counter().get_value(), span))
                .collect(),
        },
        MetricType::GAUGE => Data::Gauge {
            data_points: points
                .map(|point| number(point, point.get_gauge().get_value(), span))
                .collect(),
        },
        MetricType::HISTOGRAM => Data::Histogram {
            aggregation_temporality: CUMULATIVE,
            data_points: points.map(|point| spread(point, span)).collect(),
        },
        // There are none.
        MetricType::SUMMARY | MetricType::UNTYPED => return None,
    };
    let (name, unit) = name_of(family.name(), family.get_field_type());
    Some(Stream {
        name,
        description: family.help(),
        unit,
        data,
    })
}

fn number(point: &Metric, value: f64, span: Span) -> Number {
    Number {
        attributes: attributes(point.get_label()),
        start_time_unix_nano: span.start_ns.to_string(),
        time_unix_nano: span.now_ns.to_string(),
        as_double: value,
    }
}

fn spread(point: &Metric, span: Span) -> Spread {
    let histogram: &Histogram = point.get_histogram();
    let count = histogram.get_sample_count();
    let buckets = histogram.get_bucket().iter();
    let finite = buckets.filter(|bucket| bucket.upper_bound().is_finite());
    let mut below = 0;
    let (mut bounds, mut counts) = (Vec::new(), Vec::new());
    for bucket in finite {
        let up_to = bucket.cumulative_count();
        bounds.push(bucket.upper_bound());
        counts.push(up_to.saturating_sub(below).to_string());
        below = up_to;
    }
    counts.push(count.saturating_sub(below).to_string());
    Spread {
        attributes: attributes(point.get_label()),
        start_time_unix_nano: span.start_ns.to_string(),
        time_unix_nano: span.now_ns.to_string(),
        count: count.to_string(),
        sum: histogram.get_sample_sum(),
        bucket_counts: counts,
        explicit_bounds: bounds,
    }
}

/// An empty label is none.
fn attributes(labels: &[LabelPair]) -> Vec<Attribute> {
    let labels = labels.iter().filter(|label| !label.value().is_empty());
    labels
        .map(|label| Attribute::text(&key_of(label.name()), label.value()))
        .collect()
}

/// Labels that are attributes of the conventions.
const KEYS: [&str; 6] = [
    "mcp.method.name",
    "mcp.protocol.version",
    "gen_ai.tool.name",
    "gen_ai.prompt.name",
    "error.type",
    "network.transport",
];

fn key_of(label: &str) -> String {
    let mut keys = KEYS.iter();
    let known = keys.find(|key| key.replace('.', "_") == label);
    known.map_or_else(|| label.to_owned(), |key| (*key).to_owned())
}

/// The name without what Prometheus adds to it, and the unit.
fn name_of(name: &str, kind: MetricType) -> (String, &'static str) {
    let name = match kind {
        MetricType::COUNTER => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    let units = [("_seconds", "s"), ("_bytes", "By")];
    let found = units.iter().find_map(|(suffix, unit)| {
        let short = name.strip_suffix(suffix)?;
        Some((short, *unit))
    });
    let (name, unit) = found.unwrap_or((name, ""));
    let name = match name.starts_with("mcp_") {
        true => name.replace('_', "."),
        false => name.replacen('_', ".", 1),
    };
    (name, unit)
}

#[cfg(test)]
mod tests {
    use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
    use serde_json::{Value as Json, json};

    use super::{Span, body};
    use crate::journal::otlp::json::Resource;

    #[test]
    fn each_kind_has_the_form_of_the_protocol() {
        let registry = Registry::new();
        let counter = Opts::new("onemcp_list_changed_total", "Changed lists.");
        let counter = IntCounterVec::new(counter, &["error_type", "kind"]).expect("a counter");
        counter.with_label_values(&["", "tools"]).inc_by(7);
        let gauge = IntGauge::new("process_resident_memory_bytes", "Memory.").expect("a gauge");
        gauge.set(5);
        let name = "mcp_server_operation_duration_seconds";
        let options = HistogramOpts::new(name, "Durations.").buckets(vec![1.0, 2.0]);
        let options = options.const_label("mcp_method_name", "ping");
        let histogram = Histogram::with_opts(options).expect("a histogram");
        [0.5, 0.5, 1.5, 3.0]
            .iter()
            .for_each(|s| histogram.observe(*s));
        registry.register(Box::new(counter)).expect("new");
        registry.register(Box::new(gauge)).expect("new");
        registry.register(Box::new(histogram)).expect("new");
        let span = Span {
            start_ns: 1,
            now_ns: 2,
        };
        let resource = Resource {
            attributes: Vec::new(),
        };
        let body = body(&resource, &registry.gather(), span);
        let body: Json = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"],
            json!([
                {"name": "mcp.server.operation.duration", "description": "Durations.", "unit": "s",
                 "histogram": {"aggregationTemporality": 2, "dataPoints": [{
                    "attributes": [
                        {"key": "mcp.method.name", "value": {"stringValue": "ping"}}],
                    "startTimeUnixNano": "1", "timeUnixNano": "2", "count": "4", "sum": 5.5,
                    "bucketCounts": ["2", "1", "1"], "explicitBounds": [1.0, 2.0]}]}},
                {"name": "onemcp.list_changed", "description": "Changed lists.", "unit": "",
                 "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{
                    "attributes": [{"key": "kind", "value": {"stringValue": "tools"}}],
                    "startTimeUnixNano": "1", "timeUnixNano": "2", "asDouble": 7.0}]}},
                {"name": "process.resident_memory", "description": "Memory.", "unit": "By",
                 "gauge": {"dataPoints": [{"attributes": [],
                    "startTimeUnixNano": "1", "timeUnixNano": "2", "asDouble": 5.0}]}},
            ])
        );
    }
}
