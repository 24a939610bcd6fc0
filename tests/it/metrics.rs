//! What `/metrics` says: to whom, in which words, of what, and that nobody can make it grow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use onemcp::base::limits;
use onemcp::journal::metrics::table::{Kind, METRICS, Metric};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::repo::read;
use crate::support::http::{Connection, Reply, Request};
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, hostile, with};
use crate::support::session::{request, tool_call};
use crate::support::stateless::Client;
use crate::support::{PATIENCE, eventually};

/// One line of a scrape.
#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// All lines of a scrape.
struct Scrape(Vec<Sample>);

fn scrape(rig: &Rig) -> Scrape {
    let reply = rig.get("/metrics");
    assert_eq!(reply.status(), 200, "{reply:?}");
    // Most lines are buckets, and few tests look at them.
    let lines = reply.text.lines();
    let lines = lines.filter(|line| !line.contains("_bucket{") && !line.starts_with('#'));
    Scrape(lines.map(sample).collect())
}

impl Scrape {
    fn read(text: &str) -> Scrape {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Scrape(lines.map(sample).collect())
    }

    /// The sum of all samples that have these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.with(name, labels).map(|sample| sample.value).sum()
    }

    fn with<'s>(
        &'s self,
        name: &'s str,
        labels: &'s [(&str, &str)],
    ) -> impl Iterator<Item = &'s Sample> {
        let fits = move |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).map(String::as_str) == Some(*value)
            };
            sample.name == name && labels.iter().all(has)
        };
        self.0.iter().filter(fits)
    }

    fn values_of(&self, label: &str) -> BTreeSet<&str> {
        let values = self.0.iter().filter_map(|sample| sample.labels.get(label));
        values.map(String::as_str).collect()
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
    };
    let pairs = labels.split(',').filter(|pair| !pair.is_empty());
    let labels = pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), value.trim_matches('"').to_owned())
    });
    Sample {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().unwrap(),
    }
}

/// The metric of a sample, and the labels that belong to its kind and not to it.
fn metric_of(name: &str) -> Option<(&'static Metric, &'static [&'static str])> {
    let exact = METRICS.iter().find(|metric| metric.name == name);
    if let Some(metric) = exact.filter(|metric| !matches!(metric.kind, Kind::Histogram(_))) {
        return Some((metric, &[]));
    }
    let parts: [(&str, &'static [&'static str]); 3] =
        [("_bucket", &["le"]), ("_sum", &[]), ("_count", &[])];
    parts.into_iter().find_map(|(part, labels)| {
        let name = name.strip_suffix(part)?;
        let is_it =
            |metric: &&&Metric| metric.name == name && matches!(metric.kind, Kind::Histogram(_));
        METRICS.iter().find(is_it).map(|metric| (*metric, labels))
    })
}

#[test]
fn everything_in_it_is_in_the_table() {
    let rig = Rig::start(
        json!({"ev": everything(&[]), "off": with(everything(&[]), json!({"disabled": true}))}),
    );
    let mut session = rig.session();
    session.text("ev_1mcp_echo", json!({"text": "x"}));
    session.delete();
    // So that there is a connection that has ended.
    rig.kill("ev");
    comes_to(&rig, "mcp_client_session_duration_seconds_count", &[], 1.0);
    let reply = rig.get("/metrics");
    let kind = reply.head.header("Content-Type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut seen = BTreeSet::new();
    for sample in Scrape::read(&reply.text).0 {
        let (metric, more) =
            metric_of(&sample.name).unwrap_or_else(|| panic!("{} is in no table", sample.name));
        let expected: BTreeSet<&str> = metric.labels.iter().chain(more).copied().collect();
        let labels: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
        assert_eq!(labels, expected, "{}", sample.name);
        seen.insert(metric.name);
    }
    for metric in METRICS {
        let help = format!("# HELP {} {}\n", metric.name, metric.help);
        let kind = format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
        let has_samples = seen.contains(metric.name);
        assert_eq!(reply.text.contains(&help), has_samples, "{}", metric.name);
        assert_eq!(reply.text.contains(&kind), has_samples, "{}", metric.name);
    }
    // Only what counts what has not happened yet may be absent, and what a setting brings.
    let absent = METRICS.iter().filter(|metric| !seen.contains(metric.name));
    for metric in absent {
        if metric.labels.first() == Some(&"source") {
            continue;
        }
        assert_eq!(metric.kind, Kind::Counter, "{} is not there", metric.name);
    }
    rig.stop();
}

const CALLS: &str = "mcp_client_operation_duration_seconds_count";
const CALLS_FAILED: &str = "onemcp_client_operation_failures_total";
const OPERATIONS: &str = "mcp_server_operation_duration_seconds_count";
const OPERATIONS_FAILED: &str = "onemcp_server_operation_failures_total";

/// A call is counted when it is over, which may be a moment after its client has the answer.
fn comes_to(rig: &Rig, name: &str, labels: &[(&str, &str)], expected: f64) {
    all_come_to(rig, &[(name, labels, expected)]);
}

/// A name, labels, and the value of the sum.
type Expected<'e> = (&'e str, &'e [(&'e str, &'e str)], f64);

/// The same of several, in one scrape, which it gives.
fn all_come_to(rig: &Rig, expected: &[Expected<'_>]) -> Scrape {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = scrape(rig);
        let is_other = |(name, labels, value): &&Expected<'_>| now.sum(name, labels) != *value;
        let Some((name, labels, value)) = expected.iter().find(is_other) else {
            return now;
        };
        let there: Vec<_> = now.with(name, &[]).take(20).collect();
        assert!(
            Instant::now() < deadline,
            "{name} {labels:?} is not {value}: {there:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn tool(name: &str) -> [(&str, &str); 2] {
    [
        ("gen_ai_tool_name", name),
        ("mcp_method_name", "tools/call"),
    ]
}

#[test]
fn successes_are_timed_and_failures_counted_on_both_sides() {
    let hasty = with(hostile(&[]), json!({"requestTimeout": 300}));
    let servers = json!({"ev": everything(&[]), "ho": hostile(&[]), "hasty": hasty});
    let rig = Rig::start(servers);
    let mut session = rig.session();
    for _ in 0..3 {
        session.text("ev_1mcp_echo", json!({"text": "x"}));
    }

    comes_to(&rig, CALLS, &[("server", "ev"), tool("echo")[0]], 3.0);
    comes_to(&rig, OPERATIONS, &tool("ev_1mcp_echo"), 3.0);
    session.refused(
        "tools/call",
        json!({"name": "ev_1mcp_echo", "arguments": {}}),
    );
    comes_to(
        &rig,
        CALLS_FAILED,
        &[("error_type", "-32602"), tool("echo")[0]],
        1.0,
    );
    comes_to(
        &rig,
        OPERATIONS_FAILED,
        &[("error_type", "-32602"), tool("ev_1mcp_echo")[0]],
        1.0,
    );
    session.call("ev_1mcp_test_error_handling", json!({}));
    comes_to(
        &rig,
        CALLS_FAILED,
        &[("error_type", "tool_error"), ("server", "ev")],
        1.0,
    );
    for (server, name, word) in [("hasty", "hang", "timeout"), ("ho", "crash", "crashed")] {
        let public = format!("{server}_1mcp_{name}");
        session.refused("tools/call", json!({"name": public, "arguments": {}}));
        comes_to(
            &rig,
            CALLS_FAILED,
            &[("error_type", word), tool(name)[0]],
            1.0,
        );
        comes_to(
            &rig,
            OPERATIONS_FAILED,
            &[("error_type", word), tool(&public)[0]],
            1.0,
        );
    }
    // What failed was not timed.
    let now = scrape(&rig);
    assert_eq!(now.sum(CALLS, &tool("echo")), 3.0);
    assert_eq!(now.sum(CALLS, &tool("hang")), 0.0);
    let whole = Scrape::read(&rig.get("/metrics").text);
    let bucket = "mcp_client_operation_duration_seconds_bucket";
    assert_eq!(whole.sum(bucket, &[("le", "+Inf"), tool("echo")[0]]), 3.0);
    rig.stop();
}

#[test]
fn stateless_clients_are_counted_like_sessions() {
    let rig = Rig::start(json!({"ev": everything(&[])}));
    let client = Client::new(rig.port, "/mcp");
    client.text("ev_1mcp_echo", json!({"text": "x"}));
    client.get("tools/list", &json!({}));
    client.get("server/discover", &json!({}));
    client.ask("prompts/get", &json!({"name": "nobody has it"}));
    client.ask("no/such/method", &json!({}));
    for (method, name) in [
        ("tools/call", OPERATIONS),
        ("tools/list", OPERATIONS),
        ("server/discover", OPERATIONS),
        ("prompts/get", OPERATIONS_FAILED),
        ("_other", OPERATIONS_FAILED),
    ] {
        comes_to(&rig, name, &[("mcp_method_name", method)], 1.0);
    }
    comes_to(&rig, CALLS, &[("gen_ai_tool_name", "echo")], 1.0);
    let stream = client.listen(&json!("s"), &json!({"toolsListChanged": true}));
    comes_to(&rig, "onemcp_streams", &[("kind", "subscription")], 1.0);
    stream.cut();
    comes_to(&rig, "onemcp_streams", &[("kind", "subscription")], 0.0);
    let now = scrape(&rig);
    assert_eq!(
        now.with(OPERATIONS, &[("mcp_method_name", "subscriptions/listen")])
            .count(),
        0
    );
    rig.stop();
}

#[test]
fn names_that_nobody_offers_add_no_series() {
    // scripts/receivers.sh does the same with 100,000.
    const BATCHES: usize = 6_400 / limits::BATCH_MESSAGES + 1;
    let rig = Rig::start(json!({"ev": everything(&[])}));
    let mut session = rig.session_of("2025-03-26");
    let mut batch = |number: usize| {
        let call = |at: usize| match at % 3 {
            0 => tool_call(&json!(at), &format!("tool-{number}-{at}"), &json!({})),
            1 => request(&json!(at), &format!("m{number}/{at}"), &json!({})),
            _ => {
                let params = json!({"name": format!("p{number}{at}")});
                request(&json!(at), "prompts/get", &params)
            }
        };
        let calls: Vec<String> = (0..limits::BATCH_MESSAGES).map(call).collect();
        assert_eq!(session.post(format!("[{}]", calls.join(","))).status(), 200);
    };
    batch(0);
    let before = scrape(&rig);
    (1..BATCHES).for_each(&mut batch);
    let after = scrape(&rig);
    // What the gateway asks for itself meanwhile comes on top.
    let own = |scrape: &Scrape| {
        let samples = scrape.0.iter();
        let of_clients = samples.filter(|sample| sample.name.contains("server_operation"));
        of_clients.count()
    };
    assert_eq!(own(&before), own(&after));
    let all = (BATCHES * limits::BATCH_MESSAGES) as f64;
    assert_eq!(after.sum(OPERATIONS_FAILED, &[]), all);
    let others = [
        ("gen_ai_tool_name", "_other"),
        ("gen_ai_prompt_name", "_other"),
        ("mcp_method_name", "_other"),
    ];
    let others: f64 = others
        .iter()
        .map(|label| after.sum(OPERATIONS_FAILED, &[*label]))
        .sum();
    assert_eq!(others, all);
    rig.stop();
}

#[test]
fn a_large_catalogue_is_measured_up_to_a_bound() {
    const MORE: usize = 50;
    let tools = limits::METRIC_ENTRIES + MORE;
    let rig = Rig::start(json!({"ho": hostile(&["--tools", &tools.to_string()])}));
    let mut session = rig.session_of("2025-03-26");
    let numbers: Vec<usize> = (0..tools).collect();
    for some in numbers.chunks(limits::BATCH_MESSAGES) {
        let call = |at: &usize| tool_call(&json!(at), &format!("ho_1mcp_tool_{at:05}"), &json!({}));
        let calls: Vec<String> = some.iter().map(call).collect();
        assert_eq!(session.post(format!("[{}]", calls.join(","))).status(), 200);
    }
    // Such a scrape is large: one must do.
    let other: &[(&str, &str)] = &[("gen_ai_tool_name", "_other")];
    let (more, entries) = (MORE as f64, limits::METRIC_ENTRIES as f64);
    let expected = [
        (CALLS, other, more),
        (OPERATIONS, other, more),
        ("onemcp_metric_entries", &[], entries),
    ];
    let now = all_come_to(&rig, &expected);
    let named = now
        .with(CALLS, &[("mcp_method_name", "tools/call")])
        .count();
    assert_eq!(named, limits::METRIC_ENTRIES + 1);
    rig.stop();
}

fn rewrite(rig: &Rig, mut servers: Value) {
    let mark = rig.folder().file_name().unwrap().to_str().unwrap();
    for entry in servers.as_object_mut().unwrap().values_mut() {
        entry["env"]["MARK"] = mark.into();
    }
    let settings = json!({"asyncLoading": {"batchDelay": 50}, "configReload": {"debounce": 20}});
    let text = json!({"mcpServers": servers, "gateway": settings}).to_string();
    fs::write(rig.folder().join("mcp.json"), text).unwrap();
    signal(rig.pid, Signal::HUP);
}

#[test]
fn a_server_that_leaves_takes_its_series_along() {
    let plan = Plan::new(json!({"a": everything(&[]), "b": everything(&[])}));
    let rig = plan.set("configReload", json!({"debounce": 20})).start();
    let mut session = rig.session();
    session.text("a_1mcp_echo", json!({"text": "x"}));
    session.text("b_1mcp_echo", json!({"text": "x"}));
    session.refused(
        "tools/call",
        json!({"name": "b_1mcp_echo", "arguments": {}}),
    );
    comes_to(&rig, CALLS_FAILED, &[("server", "b")], 1.0);
    assert!(scrape(&rig).values_of("server").contains("b"));
    rewrite(&rig, json!({"a": everything(&[])}));
    eventually("the series of b are gone", || {
        let now = scrape(&rig);
        let has_tool = now.values_of("gen_ai_tool_name").contains("b_1mcp_echo");
        !now.values_of("server").contains("b") && !has_tool
    });
    let now = scrape(&rig);
    assert_eq!(
        now.sum(CALLS, &[("server", "a"), ("gen_ai_tool_name", "echo")]),
        1.0
    );
    assert_eq!(now.sum("onemcp_config_generation", &[]), 2.0);
    assert_eq!(
        now.sum("onemcp_config_reloads_total", &[("outcome", "applied")]),
        1.0
    );
    rewrite(&rig, json!({"a": everything(&[]), "b": everything(&[])}));
    eventually("b is back", || {
        scrape(&rig).sum(
            "onemcp_server_state",
            &[("server", "b"), ("state", "ready")],
        ) == 1.0
    });
    assert_eq!(session.text("b_1mcp_echo", json!({"text": "x"})), "x");
    comes_to(
        &rig,
        CALLS,
        &[("server", "b"), ("gen_ai_tool_name", "echo")],
        1.0,
    );
    rig.stop();
}

#[test]
fn states_are_those_of_the_moment() {
    let servers = json!({"ev": everything(&[]), "bad": {"command": "false"}});
    let rig = Plan::new(servers).start_unready();
    let state = |server, state| [("server", server), ("state", state)];
    comes_to(&rig, "onemcp_server_state", &state("ev", "ready"), 1.0);
    comes_to(&rig, "onemcp_server_state", &state("bad", "failed"), 1.0);
    comes_to(&rig, "onemcp_servers", &[], 2.0);
    let mut session = rig.session();
    let stream = session.listen();
    comes_to(&rig, "onemcp_sessions", &[], 1.0);
    comes_to(&rig, "onemcp_streams", &[("kind", "session")], 1.0);
    let waiting = session.send(tool_call(
        &json!(1),
        "ev_1mcp_sleep",
        &json!({"ms": 60_000}),
    ));
    comes_to(&rig, "onemcp_server_calls", &[("server", "ev")], 1.0);
    session.delete();
    comes_to(&rig, "onemcp_server_calls", &[("server", "ev")], 0.0);
    comes_to(&rig, OPERATIONS_FAILED, &[("error_type", "cancelled")], 1.0);
    comes_to(&rig, "onemcp_sessions", &[], 0.0);
    let ended = [
        ("mcp_protocol_version", "2025-11-25"),
        ("network_transport", "tcp"),
    ];
    comes_to(
        &rig,
        "mcp_server_session_duration_seconds_count",
        &ended,
        1.0,
    );
    drop((stream, waiting));
    rig.kill("ev");
    comes_to(
        &rig,
        "mcp_client_session_duration_seconds_count",
        &[("server", "ev")],
        1.0,
    );
    comes_to(
        &rig,
        "onemcp_server_restarts_total",
        &[("server", "ev")],
        1.0,
    );
    let now = scrape(&rig);
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_threads",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
        "onemcp_memory_limit_bytes",
        "onemcp_build_info",
    ] {
        assert!(now.sum(name, &[]) > 0.0, "{name}");
    }
    assert_eq!(now.sum("onemcp_health_status", &[]), 1.0);
    rig.stop();
}

fn asked(port: u16, headers: &[(&str, &str)]) -> Reply {
    let request = Request::new("GET", "/metrics");
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.with(name, value));
    Connection::open(port).exchange(&request)
}

#[test]
fn only_programs_of_this_machine_may_ask() {
    let strange: [&[(&str, &str)]; 4] = [
        &[("Host", "gateway.example:3050")],
        &[("Host", "10.1.2.3")],
        &[("X-Forwarded-For", "10.1.2.3")],
        &[("Origin", "http://evil.example")],
    ];
    let health = ["--health-listen", "127.0.0.1:0"];
    let rig = Plan::new(json!({"ev": everything(&[])}))
        .args(&health)
        .start();
    assert_eq!(asked(rig.port, &[]).status(), 200);
    for headers in strange {
        let reply = asked(rig.port, headers);
        assert_eq!(reply.status(), 403, "{headers:?}");
        assert!(!reply.text.contains("onemcp_"), "{headers:?}");
    }
    let now = scrape(&rig);
    for (reason, count) in [("metrics", 3.0), ("origin", 1.0), ("host", 0.0)] {
        let labels = [("reason", reason)];
        assert_eq!(now.sum("onemcp_refusals_total", &labels), count, "{reason}");
    }
    // Whoever reaches the listener for health may ask, but no page.
    for headers in &strange[..3] {
        assert_eq!(asked(rig.health_port, headers).status(), 200, "{headers:?}");
    }
    assert_eq!(asked(rig.health_port, strange[3]).status(), 403);
    let posted = Connection::open(rig.port).exchange(&Request::post("/metrics", "{}"));
    assert_eq!(posted.status(), 405);
    rig.stop();
    let rig = Plan::new(json!({})).arg("--metrics-public").start();
    for headers in &strange[..3] {
        assert_eq!(asked(rig.port, headers).status(), 200, "{headers:?}");
    }
    assert_eq!(asked(rig.port, strange[3]).status(), 403);
    rig.stop();
    let rig = Plan::new(json!({"ev": everything(&[])}))
        .args(&health)
        .arg("--no-enable-metrics")
        .start();
    rig.session().text("ev_1mcp_echo", json!({"text": "x"}));
    for port in [rig.port, rig.health_port] {
        assert_eq!(asked(port, &[]).status(), 404);
    }
    rig.stop();
}

/// Words of an expression that may be metrics or labels.
fn words(expression: &str) -> BTreeSet<&str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    expression
        .split(word)
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn the_dashboard_names_what_there_is() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/onemcp.json")).unwrap();
    let mut named = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let words = words(expression);
            let metrics: Vec<_> = words.iter().filter_map(|word| metric_of(word)).collect();
            assert!(!metrics.is_empty(), "no metric in {expression}");
            let ours = |word: &&&str| {
                ["onemcp_", "mcp_server_", "mcp_client_", "process_"]
                    .iter()
                    .any(|prefix| word.starts_with(prefix))
            };
            for word in words.iter().filter(ours) {
                assert!(metric_of(word).is_some(), "{word} in {expression}");
            }
            let mut known: BTreeSet<&str> = BTreeSet::from(["instance", "le"]);
            known.extend(metrics.iter().flat_map(|(metric, _)| metric.labels));
            let legend = target["legendFormat"].as_str().unwrap();
            for part in legend.split("{{").skip(1) {
                let label = part.split("}}").next().unwrap();
                assert!(known.contains(label), "{label} in {legend} of {expression}");
            }
            let labels: BTreeSet<&str> = METRICS
                .iter()
                .flat_map(|metric| metric.labels)
                .copied()
                .collect();
            for label in words.iter().filter(|word| labels.contains(**word)) {
                // Words of values are labels of no metric here.
                let is_matcher = [
                    format!("{label}=\""),
                    format!("{label}=~"),
                    format!("{label}!="),
                ];
                if is_matcher
                    .iter()
                    .any(|text| expression.contains(text.as_str()))
                {
                    assert!(known.contains(label), "{label} in {expression}");
                }
            }
            named.extend(metrics.iter().map(|(metric, _)| metric.name));
        }
    }
    let all: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let missing: Vec<_> = all.difference(&named).collect();
    assert!(
        missing.is_empty(),
        "the dashboard shows nothing of {missing:?}"
    );
}
