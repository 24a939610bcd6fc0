use std::collections::BTreeSet;
use std::time::Duration;

use log::LevelFilter;

use super::{
    ControlSocket, FileValues, Flags, HealthInfoLevel, LogFormat, Origin, ReadyPolicy, SETTINGS,
    Setting, Settings, Transport, parse, read_file, resolve,
};
use crate::base::limits;
use crate::config::Environment;
use crate::config::document::{self, Lines, Node, Notes};
use crate::config::foreign::{FOREIGN, variable_of};
use crate::config::problem::{Problem, Scope};
use crate::model::naming::{Naming, Prefix};
use crate::net::egress::Allowed;

/// `port=1 host=x` as flags or variables.
fn pairs(text: &str) -> Vec<(&str, &str)> {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .collect()
}

fn flag_name(name: &str) -> &'static str {
    let own = SETTINGS.iter().map(|row| row.flag);
    own.chain(FOREIGN.iter().map(|row| row.flag))
        .find(|flag| *flag == name)
        .unwrap()
}

fn settle(environment: &str, flags: &str, gateway: &str) -> (Settings, Vec<Problem>) {
    let variables: Environment = pairs(environment)
        .into_iter()
        .map(|(name, text)| (name.into(), text.into()))
        .collect();
    let mut given = Flags::default();
    for (flag, text) in pairs(flags) {
        given.set(flag_name(flag), text.to_owned());
    }
    let lines = Lines::new("mcp.json", gateway);
    let mut notes = Notes::new(Scope::File);
    let mut problems = Vec::new();
    let value = document::parse(&lines, &mut notes).unwrap();
    let mut file = FileValues::default();
    read_file(&Node::root(&lines, &value), &mut file, &mut problems);
    let settings = resolve(&file, &given, &variables, &mut problems);
    (settings, problems)
}

#[test]
fn the_table_is_sound() {
    let mut seen = BTreeSet::new();
    for row in SETTINGS {
        assert!(seen.insert(row.flag), "{}", row.flag);
        assert!(seen.insert(row.env), "{}", row.env);
        assert!(
            row.short
                .is_none_or(|short| seen.insert(&row.flag[..0]) || short != ' ')
        );
        assert!(row.env.starts_with("ONE_MCP_"), "{}", row.env);
        assert_eq!(row.env, variable_of(row.flag));
        if let Some(default) = row.default {
            assert!(parse(row.kind, default).is_ok(), "{}", row.key);
        }
    }
    let shorts = SETTINGS.iter().filter_map(|row| row.short);
    let shorts: Vec<char> = shorts
        .chain(FOREIGN.iter().filter_map(|row| row.short))
        .collect();
    assert_eq!(shorts.len(), shorts.iter().collect::<BTreeSet<_>>().len());
    for row in FOREIGN {
        assert!(seen.insert(row.flag), "{} is carried out", row.flag);
    }
}

#[test]
fn defaults_agree_with_the_bounds() {
    let settings = Settings::default();
    assert_eq!((settings.host.as_str(), settings.port), ("127.0.0.1", 3050));
    assert_eq!(settings.max_body_bytes, limits::BODY_BYTES);
    assert_eq!(settings.naming, Naming::default());
    assert_eq!(settings.page_size, limits::PAGE_ENTRIES);
    assert_eq!(settings.async_batch_delay, limits::LIST_CHANGED_DELAY);
    assert_eq!(settings.sync_start_timeout, limits::SYNC_START);
    assert_eq!(settings.async_max_delay, limits::LIST_CHANGED_LONGEST);
    assert!(settings.async_batch_notifications && settings.async_notify_on_snapshot);
    assert_eq!(settings.start_concurrency, limits::CONCURRENT_STARTS);
    assert_eq!(settings.drain_delay, Duration::ZERO);
    assert_eq!(settings.shutdown_timeout, limits::SHUTDOWN);
    assert_eq!(settings.config_reload_debounce, limits::CONFIG_DEBOUNCE);
    assert!(settings.enable_config_reload && settings.environment.is_none());
    assert_eq!(settings.control_socket, ControlSocket::Auto);
    assert_eq!(settings.ready_policy, ReadyPolicy::Required);
    assert_eq!(settings.health_listen, None);
    assert_eq!(settings.trust_proxy, ["loopback"]);
    assert_eq!(settings.transport, Transport::Http);
    assert_eq!(settings.parking_timeout, limits::PARKED);
    assert!(settings.egress_allow.is_empty() && settings.roots.is_empty());
    assert!(!settings.enable_async_loading && !settings.allow_unauthenticated);
    assert_eq!(settings.log_max_bytes, limits::LOG_FILE_BYTES);
    assert_eq!(settings.log_max_files, limits::LOG_FILES);
    assert_eq!(settings.otlp_interval, limits::OTLP_INTERVAL);
    assert_eq!(settings.secrets.refresh, limits::SECRETS_REFRESH);
    assert!(settings.enable_metrics && settings.enable_alerts && settings.enable_sse);
    assert!(!settings.metrics_public && !settings.log_arguments);
    assert_eq!(settings.origin("port"), &Origin::Default);
}

#[test]
fn precedence() {
    let check = |env: &str, flags: &str, file: &str, port: u16, origin: &str| {
        let (settings, problems) = settle(env, flags, file);
        assert!(
            problems.iter().all(|problem| !problem.is_error()),
            "{problems:?}"
        );
        assert_eq!(settings.port, port, "{env} | {flags} | {file}");
        assert_eq!(
            settings.origin("port").to_string(),
            origin,
            "{env} | {flags} | {file}"
        );
    };
    let (env, flag, file) = ("ONE_MCP_PORT=1001", "port=1002", "{\"port\": 1003}");
    check("", "", "{}", 3050, "default");
    check("", "", file, 1003, "mcp.json:1:10");
    check("", flag, "{}", 1002, "--port");
    check("", flag, file, 1002, "--port");
    check(env, "", "{}", 1001, "ONE_MCP_PORT");
    check(env, "", file, 1001, "ONE_MCP_PORT");
    check(env, flag, "{}", 1001, "ONE_MCP_PORT");
    check(env, flag, file, 1001, "ONE_MCP_PORT");
    check("ONE_MCP_PORT=", flag, file, 1002, "--port");
}

#[test]
fn a_flag_that_loses_is_told_once() {
    let told = |env: &str, flags: &str| {
        let (_, problems) = settle(env, flags, "{}");
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let lost = told("ONE_MCP_PORT=1", "port=2");
    assert_eq!(lost.len(), 1);
    assert!(
        lost[0].contains("ONE_MCP_PORT") && lost[0].contains("--port"),
        "{lost:?}"
    );
    assert!(told("ONE_MCP_PORT=1", "port=1").is_empty());
    assert!(told("ONE_MCP_PORT=1", "host=::1").is_empty());
}

#[test]
fn values_fill_their_fields() {
    let file = r#"{
        "host": "[::1]", "filter": "web", "logging": {"level": "debug", "format": "json"},
        "allowedHosts": ["a.example", "b.example:8080"], "allowed-origins": "https://a.example",
        "allowUnauthenticated": true, "max_body_bytes": 2048,
        "naming": {"separator": "__", "prefix": "never", "max-length": 100},
        "pageSize": 10, "healthInfoLevel": "full",
        "asyncLoading": {"enabled": true, "batchDelay": 5, "maxDelay": 6,
            "batchNotifications": false, "notifyOnReady": false}, "syncStartTimeout": 0,
        "shutdownTimeout": 1, "stateDir": "/s", "auth": {"trustProxy": "10.0.0.0/8, ::1"},
        "transport": "stdio", "egress": {"allow": ["10.0.0.0/8", "Vault.internal"]},
        "roots": ["file:///srv/a", "file:///srv/b%2C"], "parking-timeout": 1000,
        "health": {"listen": "0.0.0.0:9090", "readyPolicy": "any"}, "maxConcurrentStarts": 2,
        "drainDelay": 7, "controlSocket": "off", "configReload": {"enabled": false, "debounce": 0},
    }"#;
    let (settings, problems) = settle("", "", file);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(settings.host, "::1");
    assert!(
        settings
            .filter
            .as_ref()
            .unwrap()
            .matches(&["web".to_owned()])
    );
    assert_eq!(settings.log_level, LevelFilter::Debug);
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.allowed_hosts, ["a.example", "b.example:8080"]);
    assert_eq!(settings.allowed_origins, ["https://a.example"]);
    assert!(settings.allow_unauthenticated && settings.enable_async_loading);
    assert_eq!(settings.max_body_bytes, 2048);
    assert_eq!(
        settings.naming,
        Naming::new("__", Prefix::Never, 100).unwrap()
    );
    assert_eq!(settings.page_size, 10);
    assert_eq!(settings.health_info_level, HealthInfoLevel::Full);
    assert_eq!(settings.async_batch_delay, Duration::from_millis(5));
    assert_eq!(settings.async_max_delay, Duration::from_millis(6));
    assert!(!settings.async_batch_notifications && !settings.async_notify_on_snapshot);
    assert_eq!(settings.sync_start_timeout, Duration::ZERO);
    assert_eq!(settings.health_listen, "0.0.0.0:9090".parse().ok());
    assert_eq!(settings.ready_policy, ReadyPolicy::Any);
    assert_eq!(settings.start_concurrency, 2);
    assert_eq!(settings.drain_delay, Duration::from_millis(7));
    assert_eq!(settings.control_socket, ControlSocket::Off);
    assert!(!settings.enable_config_reload);
    assert_eq!(settings.config_reload_debounce, Duration::ZERO);
    assert_eq!(settings.shutdown_timeout, Duration::from_millis(1));
    assert_eq!(
        settings.state_dir.as_deref(),
        Some(std::path::Path::new("/s"))
    );
    assert_eq!(settings.trust_proxy, ["10.0.0.0/8", "::1"]);
    assert_eq!(settings.transport, Transport::Stdio);
    let allowed = ["10.0.0.0/8", "vault.internal"].map(|text| Allowed::parse(text).unwrap());
    assert_eq!(settings.egress_allow, allowed);
    assert_eq!(settings.roots, ["file:///srv/a", "file:///srv/b%2C"]);
    assert_eq!(settings.parking_timeout, Duration::from_secs(1));
    assert_eq!(
        settings.origin("naming.prefix").to_string(),
        "mcp.json:5:49"
    );
}

#[test]
fn sizes_levels_headers_and_tables_fill_their_fields() {
    let check = |env: &str, file: &str| {
        let (settings, problems) = settle(env, "", file);
        assert!(problems.is_empty(), "{problems:?}");
        let modules = [("upstream", LevelFilter::Debug), ("http", LevelFilter::Off)];
        let modules = modules.map(|(name, level)| (name.to_owned(), level));
        assert_eq!(settings.log_modules, modules);
        assert_eq!(settings.log_max_bytes, 2 << 20);
        let headers = [("a", "1=2"), ("b", "${SECRET:x}")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(settings.otlp_headers, headers);
        assert_eq!(settings.alerts.as_deref(), Some(r#"{"sinks":{}}"#));
    };
    check(
        "ONE_MCP_LOG_MODULES=upstream=debug,http=off ONE_MCP_LOG_MAX_SIZE=2M \
         ONE_MCP_OTLP_HEADERS=a=1=2,b=${SECRET:x} ONE_MCP_ALERTS={\"sinks\":{},}",
        "{}",
    );
    check(
        "",
        r#"{"logging": {"modules": {"upstream": "debug", "http": "off"}, "maxSize": 2097152},
            "otlp": {"headers": {"b": "${SECRET:x}", "a": "1=2"}},
            "alerts": {"sinks": {/* none */}}}"#,
    );
    check(
        "",
        r#"{"logging": {"modules": "upstream=debug, http=off", "maxSize": "2m"},
            "otlp": {"headers": "a=1=2, b=${SECRET:x}"}, "alerts": {"sinks": {}}}"#,
    );
}

const HASH: &str =
    "pbkdf2-sha256$100000$AAAAAAAAAAAAAAAAAAAAAA$bzYmnnISQnrzo8N3R3HpQFDMT_MLZlxtshLEdDCD1Jc";

#[test]
fn every_setting_can_come_from_everywhere() {
    for row in SETTINGS {
        let text = row.default.filter(|text| !text.is_empty()).unwrap_or("x.y");
        let text = match row.flag {
            "allowed-origins" | "external-url" => "http://x.y",
            "roots" => "file:///x",
            "environment" | "auth-untagged-tag" => "prod-eu",
            "audit-arguments" => "a/b",
            "health-listen" => "[::1]:9090",
            "async-notify-on-ready" | "auth" => "true",
            "auth-baseline-scopes" => "tag:a",
            "log-modules" => "upstream=debug",
            "otlp-endpoint" | "audit-webhook" => "http://x.y:4318",
            "otlp-headers" | "audit-webhook-headers" => "a=b",
            "secrets-providers" | "auth-issuers" => "[]",
            "auth-registration" => "token",
            "auth-operator-password" => HASH,
            "alerts" | "auth-clients" | "config-json" => "{}",
            _ => text,
        };
        let (settings, problems) = settle(&format!("{}={text}", row.env), "", "{}");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(settings.origin(row.key), &Origin::Environment(row.env));
        let (settings, problems) = settle("", &format!("{}={text}", row.flag), "{}");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(settings.origin(row.key), &Origin::Flag(row.flag));
    }
}

#[test]
fn bad_values_name_their_origin() {
    let check = |env: &str, flags: &str, file: &str, expect: &str| {
        let (_, problems) = settle(env, flags, file);
        let errors: Vec<&Problem> = problems.iter().filter(|one| one.is_error()).collect();
        assert_eq!(errors.len(), 1, "{env}{flags}{file}: {problems:?}");
        assert!(errors[0].is_fatal());
        let text = errors[0].to_string();
        assert!(text.contains(expect), "{text}");
    };
    check(
        "ONE_MCP_PORT=x",
        "",
        "{}",
        "ONE_MCP_PORT: the value cannot be used; write a whole number",
    );
    check("", "port=70000", "{}", "--port: the value cannot be used; ");
    check("", "port=-1", "{}", "from 0 to 65535");
    check(
        "",
        "",
        "{\"port\": \"3050\"}",
        "mcp.json:1:10: port: expected a number, found a string",
    );
    check("", "", "{\"port\": 1.5}", "1.5 is out of range");
    check("", "", "{\"port\": 65536}", "from 0 to 65535");
    check("", "log-level=loud", "{}", "debug, info, warn, error");
    check("", "host=127.0.0.1:80", "{}", "without a port");
    check("", "naming-separator=a/b", "{}", "A-Z a-z 0-9 _ - .");
    check("", "naming-separator=", "{}", "A-Z a-z 0-9 _ - .");
    check("", "naming-max-length=8", "{}", "from 32 to 256");
    check(
        "",
        "allowed-origins=a.example",
        "{}",
        "https://app.example.com",
    );
    check("", "allowed-hosts=http://x", "{}", "host names");
    check("", "trust-proxy=10.0.0.0/33", "{}", "10.0.0.0/8");
    check("", "trust-proxy=all", "{}", "loopback");
    check("", "transport=ws", "{}", "write one of http, stdio");
    check("", "egress-allow=http://h", "{}", "10.0.0.0/8");
    check("", "roots=/srv", "{}", "file:///srv/data");
    check("", "parking-timeout=999", "{}", "from 1000 to");
    check("", "filter=((", "{}", "--filter");
    check("", "health-listen=9090", "{}", "0.0.0.0:9090");
    check("", "ready-policy=most", "{}", "required, all, any, none");
    check("", "environment=a/b", "{}", "A-Z a-z 0-9 _ -");
    check("", "environment=..", "{}", "A-Z a-z 0-9 _ -");
    check("", "max-concurrent-starts=0", "{}", "from 1 to");
    check("", "enable-async-loading=maybe", "{}", "true or false");
    check(
        "",
        "",
        "{\"allowedHosts\": [1]}",
        "allowedHosts[0]: expected a string",
    );
    check(
        "",
        "",
        "{\"logging\": \"debug\"}",
        "logging: expected an object",
    );
    check(
        "",
        "",
        "{\"logLevel\": \"info\", \"logging\": {\"level\": \"info\"}}",
        "twice",
    );
    check("", "", "{\"page-size\": 1, \"pageSize\": 2}", "twice");
    check("", "", "{\"port\": 1, \"port\": 2}", "given twice");
    check("ONE_MCP_PORT=1", "port=x", "{}", "--port");
    check("", "log-max-size=10x", "{}", "a number with k, m or g");
    check("", "log-max-size=1", "{}", "from 4096");
    check("", "", "{\"logging\": {\"maxSize\": 1}}", "from 4096");
    check(
        "",
        "log-modules=upstream=loud",
        "{}",
        "upstream=debug,http=warn",
    );
    check(
        "",
        "",
        "{\"logging\": {\"modules\": {\"a\": 1}}}",
        "logging.modules.a: expected",
    );
    check("", "otlp-endpoint=collector:4318", "{}", "http");
    check("", "otlp-endpoint=http://u:p@h", "{}", "a user name or a");
    check(
        "",
        "otlp-headers=hunter2",
        "{}",
        "the value cannot be used; write name=value",
    );
    check(
        "",
        "",
        "{\"otlp\": {\"headers\": {\"a\": 1}}}",
        "an object of texts",
    );
    check("", "otlp-trace-percent=101", "{}", "from 0 to 100");
    check(
        "",
        "alerts={\"a\":hunter2}",
        "{}",
        "the value cannot be used; 1:6: not valid JSON",
    );
    check(
        "",
        "",
        "{\"alerts\": 1}",
        "mcp.json:1:12: alerts: expected an object",
    );
}

/// A rejected configuration is told to sinks of alerts, too.
#[test]
fn no_rejected_value_is_quoted_wherever_it_comes_from() {
    let canary = "http://u:hunter2@h/hunter2?hunter2";
    let mut quoted = Vec::new();
    let mut check = |row: &Setting, env: &str, flags: &str, file: &str| {
        let (settings, problems) = settle(env, flags, file);
        let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
        if texts.iter().any(|text| text.contains("hunter2")) {
            quoted.push(texts);
        }
        settings.origin(row.key) == &Origin::Default
    };
    let mut refused = 0;
    for row in SETTINGS {
        refused += usize::from(check(row, &format!("{}={canary}", row.env), "", "{}"));
        check(row, "", &format!("{}={canary}", row.flag), "{}");
        if row.in_file {
            let names: Vec<&str> = row.key.split('.').collect();
            let value = serde_json::Value::from(canary);
            let nested = names
                .iter()
                .rev()
                .fold(value, |value, name| serde_json::json!({ *name: value }));
            check(row, "", "", &nested.to_string());
        }
    }
    assert!(refused > 20, "{refused}");
    assert_eq!(quoted, Vec::<Vec<String>>::new());
}

#[test]
fn what_is_unknown_or_not_carried_out_is_a_warning() {
    let check = |env: &str, flags: &str, file: &str, expect: &str| {
        let (_, problems) = settle(env, flags, file);
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            problems.iter().all(|problem| !problem.is_error()),
            "{texts:?}"
        );
        assert_eq!(
            texts.join("|").is_empty(),
            expect.is_empty(),
            "{env}{flags}{file}: {texts:?}"
        );
        assert!(
            texts.len() <= 1 && texts.join("|").contains(expect),
            "{texts:?}"
        );
    };
    check("ONE_MCP_PROT=1", "", "{}", "did you mean \"ONE_MCP_PORT\"?");
    check(
        "ONE_MCP_FROBNICATE=1",
        "",
        "{}",
        "ONE_MCP_FROBNICATE: unknown variable; see",
    );
    check("ONE_MCPX=1 OTHER=2", "", "{}", "");
    check(
        "ONE_MCP_ENABLE_LAZY_LOADING=true",
        "",
        "{}",
        "ONE_MCP_ENABLE_LAZY_LOADING: is known",
    );
    check("ONE_MCP_ENABLE_LAZY_LOADING=false", "", "{}", "");
    check(
        "ONE_MCP_ENABLE_LAZY_LOADING=true",
        "enable-lazy-loading=true",
        "{}",
        "lazy loading",
    );
    check(
        "ONE_MCP_ADMIN_PASSWORD=hunter2",
        "",
        "{}",
        "ONE_MCP_ADMIN_PASSWORD: is known",
    );
    check("", "enable-enhanced-security=true", "{}", "checks");
    check(
        "",
        "enable-lazy-loading=true",
        "{}",
        "--enable-lazy-loading",
    );
    check("", "transport=http", "{}", "");
    check("", "transport=stdio", "{}", "");
    check(
        "",
        "transport=sse",
        "{}",
        "--transport: sse is deprecated and means http",
    );
    check(
        "",
        "",
        "{\"transport\": \"SSE\"}",
        "mcp.json:1:15: transport: sse is",
    );
    check(
        "",
        "",
        "{\"prot\": 1}",
        "mcp.json:1:2: prot: unknown key; did you mean \"port\"?",
    );
    check(
        "",
        "",
        "{\"naming\": {\"seperator\": \"x\"}}",
        "did you mean \"naming.separator\"?",
    );
    check(
        "",
        "",
        "{\"lazyLoading\": {\"enabled\": true}}",
        "lazyLoading: is known",
    );
    check(
        "",
        "",
        "{\"auth\": {\"enableEnhancedSecurity\": true}}",
        "auth.enableEnhancedSecurity: is known",
    );
    check(
        "",
        "",
        "{\"asyncLoading\": {\"minServers\": 1}}",
        "asyncLoading.minServers: is known",
    );
    check("", "", "{\"config\": \"x\"}", "config: unknown key");
    check("", "", "{\"port\": null}", "");
}

#[test]
fn no_secret_is_shown() {
    let (_, problems) = settle(
        "ONE_MCP_ADMIN_PASSWORD=hunter2 ONE_MCP_TOKEN=hunter2",
        "",
        "{}",
    );
    assert_eq!(problems.len(), 2);
    assert!(!format!("{problems:?}").contains("hunter2"));
}

#[test]
fn what_guards_the_door_is_never_reloadable() {
    for row in SETTINGS.iter().filter(|row| row.security) {
        assert!(!row.reloadable, "{}", row.key);
    }
    let security = |flag: &str| SETTINGS.iter().any(|row| row.flag == flag && row.security);
    for flag in ["allow-unauthenticated", "trust-proxy", "egress-allow"] {
        assert!(security(flag), "{flag}");
    }
}
