//! Every metric that there is, as one table: what is registered, what a scrape may say, and the
//! table of docs/metrics.md. A metric that is not in it does not exist.
//!
//! Names of MCP are those of the OpenTelemetry conventions in the form that Prometheus gives
//! them (`mcp.server.operation.duration` in seconds); ours begin with `onemcp_`.

/// One metric.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// The upper bounds of its buckets.
    Histogram(&'static [f64]),
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// The bounds of the conventions, and below them those of calls on one machine.
const OPERATION: Kind = Kind::Histogram(&[
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0,
    300.0,
]);

/// The bounds of the conventions, and above them those of a working day.
const SESSION: Kind = Kind::Histogram(&[
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 1800.0, 7200.0,
    28_800.0, 86_400.0,
]);

macro_rules! metrics {
    ($($id:ident: $name:literal, $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        $(pub const $id: Metric = Metric {
            name: $name,
            kind: $kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        pub const METRICS: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    SERVER_OPERATION: "mcp_server_operation_duration_seconds", OPERATION,
        ["mcp_method_name", "gen_ai_tool_name", "gen_ai_prompt_name"],
        "Requests of clients that succeeded, from their reading to the end of their answer.";
    SERVER_FAILURES: "onemcp_server_operation_failures_total", Kind::Counter,
        ["mcp_method_name", "gen_ai_tool_name", "gen_ai_prompt_name", "error_type"],
        "Requests of clients that failed. They are not in the durations.";
    CLIENT_OPERATION: "mcp_client_operation_duration_seconds", OPERATION,
        ["server", "mcp_method_name", "gen_ai_tool_name", "gen_ai_prompt_name"],
        "Requests to servers that succeeded, from their sending to the arrival of the answer.";
    CLIENT_FAILURES: "onemcp_client_operation_failures_total", Kind::Counter,
        ["server", "mcp_method_name", "gen_ai_tool_name", "gen_ai_prompt_name", "error_type"],
        "Requests to servers that failed. They are not in the durations.";
    SERVER_SESSION: "mcp_server_session_duration_seconds", SESSION,
        ["mcp_protocol_version", "network_transport"],
        "Sessions of clients that have ended, from initialize on.";
    CLIENT_SESSION: "mcp_client_session_duration_seconds", SESSION,
        ["server", "network_transport"],
        "Connections to servers that have ended, from the end of their handshake on.";

    SERVERS: "onemcp_servers", Kind::Gauge, ["state"],
        "Servers of the configuration by their state.";
    SERVER_STATE: "onemcp_server_state", Kind::Gauge, ["server", "state"],
        "1 for the state that a server is in, 0 for all others.";
    SERVER_RESTARTS: "onemcp_server_restarts_total", Kind::Counter, ["server"],
        "How often a server was started again since it was configured as it is.";
    SERVER_PROCESSES: "onemcp_server_processes", Kind::Gauge, ["server"],
        "Processes of a server that are up or on their way.";
    SERVER_CALLS: "onemcp_server_calls", Kind::Gauge, ["server"],
        "Calls of clients that a server works on.";
    SERVER_WAITING: "onemcp_server_waiting_calls", Kind::Gauge, ["server"],
        "Calls of clients that wait for a server to start.";
    SERVER_QUEUE: "onemcp_server_queue_bytes", Kind::Gauge, ["server"],
        "Bytes of messages that wait to be taken by a server.";
    SERVER_DISCARDED: "onemcp_server_discarded_total", Kind::Counter, ["server", "reason"],
        "Messages of a server that could not be used, or not be handed on.";
    SERVER_TURNS: "onemcp_server_turns_total", Kind::Counter, ["server", "turn"],
        "How often a server became ready, went down, fell into a crash loop, or was taken away.";
    TOOLS_CHANGED: "onemcp_server_tools_changed_total", Kind::Counter, ["server"],
        "How often a server listed other tools, or other definitions of them, than before.";
    CATALOGUE: "onemcp_catalogue_entries", Kind::Gauge, ["kind"],
        "Entries of the merged lists.";

    SESSIONS: "onemcp_sessions", Kind::Gauge, [],
        "Sessions of clients that are open.";
    STREAMS: "onemcp_streams", Kind::Gauge, ["kind"],
        "Streams to clients that are open: of sessions, of HTTP+SSE, and subscriptions.";
    CONNECTIONS: "onemcp_http_connections", Kind::Gauge, ["listener"],
        "Open connections of clients and probes.";
    LIST_CHANGED: "onemcp_list_changed_total", Kind::Counter, ["kind", "outcome"],
        "Changed lists: received from servers, gathered with others, sent to clients, suppressed.";
    PARKED: "onemcp_parked_calls", Kind::Gauge, [],
        "Calls that wait for their stateless client to come back with answers.";
    PARKED_EXPIRED: "onemcp_parked_calls_expired_total", Kind::Counter, [],
        "Such calls whose client did not come back in time.";

    REFUSALS: "onemcp_refusals_total", Kind::Counter, ["reason"],
        "Who asked for what he may not have: by Host, by Origin, as an operator, or for /metrics.";
    HTTP_REFUSED: "onemcp_http_refused_total", Kind::Counter, ["status"],
        "Requests that the listener refused for their framing, size or time.";
    FACTS_DROPPED: "onemcp_facts_dropped_total", Kind::Counter, [],
        "Facts that alerts had no room for.";
    SINK_FAILURES: "onemcp_sink_failures_total", Kind::Counter, ["sink"],
        "How often a log file or a sink of alerts began to take nothing.";
    ALERTS: "onemcp_alert_tries_total", Kind::Counter, ["sink", "outcome"],
        "Tries to bring an alert to a sink: sent or failed.";
    LOST: "onemcp_lost_total", Kind::Counter, ["what"],
        "What was to be written or sent, and was not.";
    LOG_LOST: "onemcp_log_lines_lost_total", Kind::Counter, [],
        "Log lines that no destination took.";
    SPANS_DROPPED: "onemcp_spans_dropped_total", Kind::Counter, [],
        "Finished spans that the receiver of OTLP did not get, or refused.";
    PUSHES: "onemcp_otlp_pushes_total", Kind::Counter, ["signal", "outcome"],
        "Requests to the receiver of OTLP: taken, or given up after all tries.";

    ROUTER_QUEUE: "onemcp_router_queue_events", Kind::Gauge, [],
        "What servers report and the router has not taken yet.";
    CONFIG_GENERATION: "onemcp_config_generation", Kind::Gauge, [],
        "Which configuration is in force, counted from the start.";
    CONFIG_RELOADS: "onemcp_config_reloads_total", Kind::Counter, ["outcome"],
        "Attempts to change the configuration: applied or rejected.";
    CONFIG_RELOADED: "onemcp_config_last_reload_successful", Kind::Gauge, [],
        "1 unless the last attempt to change the configuration was refused.";
    DISCOVERED: "onemcp_discovery_servers", Kind::Gauge, ["source", "state"],
        "Servers that a source of discovery found, and those of them that were taken.";
    DISCOVERY_OK: "onemcp_discovery_ok", Kind::Gauge, ["source"],
        "1 when the last look of a source of discovery went well.";
    DISCOVERY_FAILURES: "onemcp_discovery_failures_total", Kind::Counter, ["source"],
        "Looks of a source of discovery that failed.";
    HEALTH: "onemcp_health_status", Kind::Gauge, ["status"],
        "1 for the verdict of /health, 0 for the others.";
    SERIES: "onemcp_metric_entries", Kind::Gauge, [],
        "Tools and prompts that have series of their own; over the bound they are _other.";
    BUILD: "onemcp_build_info", Kind::Gauge, ["version", "os", "arch"],
        "Always 1: what is running.";

    CPU: "process_cpu_seconds_total", Kind::Counter, [],
        "User and system time of the gateway, without its servers.";
    RESIDENT: "process_resident_memory_bytes", Kind::Gauge, [],
        "Memory of the gateway, without its servers.";
    VIRTUAL: "process_virtual_memory_bytes", Kind::Gauge, [],
        "Address space of the gateway.";
    MEMORY_LIMIT: "onemcp_memory_limit_bytes", Kind::Gauge, [],
        "What the gateway and its servers may take together: their control group, or the machine.";
    OPEN_FILES: "process_open_fds", Kind::Gauge, [],
        "Open file descriptors.";
    MAX_FILES: "process_max_fds", Kind::Gauge, [],
        "How many file descriptors may be open.";
    THREADS: "process_threads", Kind::Gauge, [],
        "Threads.";
    STARTED: "process_start_time_seconds", Kind::Gauge, [],
        "When the gateway was started, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use super::{Kind, METRICS};
    use std::collections::BTreeSet;

    #[test]
    fn names_say_their_kind_and_unit_and_are_used_once() {
        let mut seen = BTreeSet::new();
        for metric in METRICS {
            assert!(seen.insert(metric.name), "{}", metric.name);
            let is_counter = metric.kind == Kind::Counter;
            assert_eq!(
                metric.name.ends_with("_total"),
                is_counter,
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
