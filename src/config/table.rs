//! SETTINGS: the one table of everything that can be set on the gateway itself. The command
//! line, `--help`, the `gateway` object of the file and the variables all derive from it.

use std::path::PathBuf;

use log::LevelFilter;

use crate::base::limits;
use crate::config::alerts;
use crate::config::auth;
use crate::config::auth_server::{self, Registration};
use crate::config::discovery;
use crate::config::secret_sources;
use crate::config::settings::{
    ControlSocket, HealthInfoLevel, LogFormat, ReadyPolicy, Settings, Transport,
};
use crate::config::value::{Kind, Value};
use crate::model::filter::TagExpression;
use crate::model::naming::Prefix;
use crate::model::password::PasswordHash;
use crate::model::pin::Pinning;
use crate::model::visible_text::Invisible;
use crate::net::egress::Allowed;

/// One row of the table.
pub struct Setting {
    /// Path under `gateway` in the file.
    pub key: &'static str,
    /// Other spellings of the key that 1MCP users may have.
    pub aliases: &'static [&'static str],
    pub env: &'static str,
    /// Without the dashes.
    pub flag: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    /// A word that still works, with what it stands for.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// In the same form as a flag's value; `None` is "not set".
    pub default: Option<&'static str>,
    /// False for what says where the file is.
    pub in_file: bool,
    /// Takes effect without a restart.
    pub reloadable: bool,
    /// Says who may come in or what may be reached: only a restart changes it.
    pub security: bool,
    /// Never printed.
    pub secret: bool,
    pub help: &'static str,
    pub(super) fill: fn(&mut Settings, &Value),
}

/// A row with the parts that most rows share.
const fn row(
    key: &'static str,
    env: &'static str,
    flag: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    fill: fn(&mut Settings, &Value),
) -> Setting {
    Setting {
        key,
        aliases: &[],
        env,
        flag,
        short: None,
        kind,
        deprecated: None,
        default,
        in_file: true,
        reloadable: false,
        security: false,
        secret: false,
        help: "",
        fill,
    }
}

/// The words were checked.
fn levels(value: &Value) -> Vec<(String, LevelFilter)> {
    let pairs = value.pairs().into_iter();
    pairs
        .filter_map(|(module, level)| Some((module, level.parse().ok()?)))
        .collect()
}

const MILLIS: Kind = Kind::Millis(0, limits::SETTING_MS);

pub static SETTINGS: &[Setting] = &[
    Setting {
        short: Some('c'),
        in_file: false,
        help: "The mcp.json to use",
        ..row(
            "config",
            "ONE_MCP_CONFIG",
            "config",
            Kind::Path,
            None,
            |_, _| {},
        )
    },
    Setting {
        short: Some('d'),
        in_file: false,
        help: "The directory that holds mcp.json and presets.json",
        ..row(
            "config-dir",
            "ONE_MCP_CONFIG_DIR",
            "config-dir",
            Kind::Path,
            None,
            |_, _| {},
        )
    },
    Setting {
        in_file: false,
        secret: true,
        help: "The whole configuration as JSON, in place of mcp.json",
        ..row(
            "config-json",
            "ONE_MCP_CONFIG_JSON",
            "config-json",
            Kind::Document,
            None,
            |_, _| {},
        )
    },
    Setting {
        in_file: false,
        help: "Also read mcp.NAME.json, whose values replace those of mcp.json",
        ..row(
            "environment",
            "ONE_MCP_ENVIRONMENT",
            "environment",
            Kind::Word,
            None,
            |to, value| to.environment = Some(value.text().to_owned()),
        )
    },
    Setting {
        short: Some('t'),
        deprecated: Some(("sse", "http")),
        help: "How clients reach the gateway; stdio serves the program that started it",
        ..row(
            "transport",
            "ONE_MCP_TRANSPORT",
            "transport",
            Kind::Choice(&["http", "stdio"]),
            Some("http"),
            |to, value| {
                let stdio = value.text() == "stdio";
                to.transport = if stdio {
                    Transport::Stdio
                } else {
                    Transport::Http
                };
            },
        )
    },
    Setting {
        short: Some('H'),
        help: "Address to listen on",
        ..row(
            "host",
            "ONE_MCP_HOST",
            "host",
            Kind::Host,
            Some("127.0.0.1"),
            |to, value| {
                to.host = value.text().to_owned();
            },
        )
    },
    Setting {
        short: Some('P'),
        help: "Port to listen on; 0 picks a free one and prints it",
        ..row(
            "port",
            "ONE_MCP_PORT",
            "port",
            Kind::Number(0, u16::MAX as u64),
            Some("3050"),
            |to, value| to.port = u16::try_from(value.number()).unwrap_or(u16::MAX),
        )
    },
    Setting {
        short: Some('f'),
        reloadable: true,
        help: "Serve only servers whose tags match, such as \"web and not test\"",
        ..row(
            "filter",
            "ONE_MCP_FILTER",
            "filter",
            Kind::Filter,
            None,
            |to, value| {
                to.filter = TagExpression::parse(value.text()).ok();
            },
        )
    },
    Setting {
        help: "With the transport stdio: show the client only what this preset shows",
        ..row(
            "preset",
            "ONE_MCP_PRESET",
            "preset",
            Kind::Preset,
            None,
            |to, value| to.preset = Some(value.text().to_owned()),
        )
    },
    Setting {
        aliases: &["logLevel"],
        reloadable: true,
        help: "How much is logged",
        ..row(
            "logging.level",
            "ONE_MCP_LOG_LEVEL",
            "log-level",
            Kind::Choice(&["debug", "info", "warn", "error"]),
            Some("info"),
            |to, value| to.log_level = value.text().parse().unwrap_or(LevelFilter::Info),
        )
    },
    Setting {
        aliases: &["logFormat"],
        help: "How the log on stderr is written",
        ..row(
            "logging.format",
            "ONE_MCP_LOG_FORMAT",
            "log-format",
            Kind::Choice(&["text", "json"]),
            Some("text"),
            |to, value| {
                let json = value.text() == "json";
                to.log_format = if json {
                    LogFormat::Json
                } else {
                    LogFormat::Text
                };
            },
        )
    },
    Setting {
        security: true,
        help: "Host names that requests may carry, besides loopback names",
        ..row(
            "allowedHosts",
            "ONE_MCP_ALLOWED_HOSTS",
            "allowed-hosts",
            Kind::Hosts,
            None,
            |to, value| to.allowed_hosts = value.list(),
        )
    },
    Setting {
        security: true,
        help: "Origins of web pages that may call, such as https://app.example.com",
        ..row(
            "allowedOrigins",
            "ONE_MCP_ALLOWED_ORIGINS",
            "allowed-origins",
            Kind::Origins,
            None,
            |to, value| to.allowed_origins = value.list(),
        )
    },
    Setting {
        security: true,
        help: "Listen beyond loopback although nobody has to authenticate",
        ..row(
            "allowUnauthenticated",
            "ONE_MCP_ALLOW_UNAUTHENTICATED",
            "allow-unauthenticated",
            Kind::Switch,
            Some("false"),
            |to, value| to.allow_unauthenticated = value.on(),
        )
    },
    Setting {
        aliases: &["features.auth"],
        security: true,
        help: "Let only clients in that show a token; see docs/auth.md",
        ..row(
            "auth.enabled",
            "ONE_MCP_ENABLE_AUTH",
            "enable-auth",
            Kind::Switch,
            Some("false"),
            |to, value| to.auth.enabled |= value.on(),
        )
    },
    Setting {
        security: true,
        help: "Another name for enable-auth; either of them is enough",
        ..row(
            "auth.on",
            "ONE_MCP_AUTH",
            "auth",
            Kind::Switch,
            None,
            |to, value| to.auth.enabled |= value.on(),
        )
    },
    Setting {
        aliases: &["auth.enableScopeValidation", "features.scopeValidation"],
        security: true,
        help: "A token reaches only what its scopes name; false lets each reach everything",
        ..row(
            "auth.scopeValidation",
            "ONE_MCP_ENABLE_SCOPE_VALIDATION",
            "enable-scope-validation",
            Kind::Switch,
            Some("true"),
            |to, value| to.auth.scope_validation = value.on(),
        )
    },
    Setting {
        security: true,
        help: "Whose JWTs are taken besides our own, see docs/auth.md",
        ..row(
            "auth.issuers",
            "ONE_MCP_AUTH_ISSUERS",
            "auth-issuers",
            Kind::Table(auth::check_issuers),
            None,
            |to, value| to.auth.issuers = Some(value.text().to_owned()),
        )
    },
    Setting {
        reloadable: true,
        help: "Scopes that are named to who asks for none, such as \"tag:web tag:docs\"",
        ..row(
            "auth.baselineScopes",
            "ONE_MCP_AUTH_BASELINE_SCOPES",
            "auth-baseline-scopes",
            Kind::Scopes,
            None,
            |to, value| to.auth.baseline_scopes = value.text().to_owned(),
        )
    },
    Setting {
        security: true,
        help: "Servers without tags count as tagged so; without it they need tag:*",
        ..row(
            "auth.untaggedTag",
            "ONE_MCP_AUTH_UNTAGGED_TAG",
            "auth-untagged-tag",
            Kind::Word,
            None,
            |to, value| to.auth.untagged_tag = Some(value.text().to_ascii_lowercase()),
        )
    },
    Setting {
        security: true,
        help: "The keys that sign our tokens: a file, or a folder of files by name",
        ..row(
            "auth.keys",
            "ONE_MCP_AUTH_KEYS",
            "auth-keys",
            Kind::Path,
            None,
            |to, value| to.auth.keys = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        security: true,
        help: "The file of onemcp key, when it is not in the state directory",
        ..row(
            "auth.apiKeyFile",
            "ONE_MCP_AUTH_API_KEY_FILE",
            "auth-api-key-file",
            Kind::Path,
            None,
            |to, value| to.auth.api_key_file = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        help: "Minutes that an access token of ours is good for",
        ..row(
            "auth.sessionTtl",
            "ONE_MCP_SESSION_TTL",
            "session-ttl",
            Kind::Number(1, limits::ACCESS_TOKEN_MINUTES),
            Some("60"),
            |to, value| to.auth.session_ttl_minutes = value.number(),
        )
    },
    Setting {
        reloadable: true,
        help: "Requests that one principal may make in a minute; 0 is any number",
        ..row(
            "auth.rateLimit",
            "ONE_MCP_AUTH_RATE_LIMIT",
            "auth-rate-limit",
            Kind::Number(0, limits::PRINCIPAL_RATE_MOST),
            Some("12000"),
            |to, value| to.auth.rate_per_minute = value.number(),
        )
    },
    Setting {
        reloadable: true,
        help: "Requests of one principal that may be in work at the same time; 0 is any number",
        ..row(
            "auth.concurrency",
            "ONE_MCP_AUTH_CONCURRENCY",
            "auth-concurrency",
            Kind::Number(0, limits::CONNECTIONS as u64),
            Some("256"),
            |to, value| to.auth.concurrency = value.size(),
        )
    },
    Setting {
        reloadable: true,
        help: "Minutes over which rate-limit-max counts",
        ..row(
            "auth.rateLimitWindow",
            "ONE_MCP_RATE_LIMIT_WINDOW",
            "rate-limit-window",
            Kind::Number(1, limits::ACCESS_TOKEN_MINUTES),
            Some("15"),
            |to, value| to.auth.window_minutes = value.number(),
        )
    },
    Setting {
        reloadable: true,
        help: "Requests of one address at the OAuth endpoints within rate-limit-window",
        ..row(
            "auth.rateLimitMax",
            "ONE_MCP_RATE_LIMIT_MAX",
            "rate-limit-max",
            Kind::Number(1, limits::PRINCIPAL_RATE_MOST),
            Some("100"),
            |to, value| to.auth.window_requests = value.number(),
        )
    },
    Setting {
        short: Some('u'),
        security: true,
        help: "The URL that clients use, such as https://mcp.example.com; see docs/tls.md",
        ..row(
            "externalUrl",
            "ONE_MCP_EXTERNAL_URL",
            "external-url",
            Kind::Site,
            None,
            |to, value| to.tls.external_url = Some(value.text().to_owned()),
        )
    },
    Setting {
        security: true,
        help: "Speak TLS with this certificate and its chain (PEM)",
        ..row(
            "tls.certificate",
            "ONE_MCP_TLS_CERT",
            "tls-cert",
            Kind::Path,
            None,
            |to, value| to.tls.certificate = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        security: true,
        help: "The private key of tls-cert (PEM)",
        ..row(
            "tls.key",
            "ONE_MCP_TLS_KEY",
            "tls-key",
            Kind::Path,
            None,
            |to, value| to.tls.key = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        security: true,
        help: "Let only clients in whose certificate is of one of these authorities (PEM)",
        ..row(
            "tls.clientCa",
            "ONE_MCP_TLS_CLIENT_CA",
            "tls-client-ca",
            Kind::Path,
            None,
            |to, value| to.tls.client_ca = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        security: true,
        help: "A proxy in front of the listener speaks TLS with the clients",
        ..row(
            "behindTlsProxy",
            "ONE_MCP_BEHIND_TLS_PROXY",
            "behind-tls-proxy",
            Kind::Switch,
            Some("false"),
            |to, value| to.tls.behind_proxy = value.on(),
        )
    },
    Setting {
        security: true,
        help: "The keys that all replicas share, a line each; the first seals, all open",
        ..row(
            "replicas.keys",
            "ONE_MCP_REPLICA_KEYS",
            "replica-keys",
            Kind::Path,
            None,
            |to, value| to.replicas.keys = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        security: true,
        help: "What this replica is called, unlike all others; without it the host name",
        ..row(
            "replicas.name",
            "ONE_MCP_REPLICA_NAME",
            "replica-name",
            Kind::Word,
            None,
            |to, value| to.replicas.name = Some(value.text().to_owned()),
        )
    },
    Setting {
        security: true,
        help: "Where replicas reach each other: HOST:PORT, or a name that gives all addresses",
        ..row(
            "replicas.peers",
            "ONE_MCP_REPLICA_PEERS",
            "replica-peers",
            Kind::Hosts,
            None,
            |to, value| to.replicas.peers = value.list(),
        )
    },
    Setting {
        security: true,
        secret: true,
        help: "Hash of the password of the operator, who lets clients in; see onemcp auth password",
        ..row(
            "auth.operatorPassword",
            "ONE_MCP_AUTH_OPERATOR_PASSWORD",
            "auth-operator-password",
            Kind::PasswordHash,
            None,
            |to, value| to.auth.operator_password = PasswordHash::parse(value.text()),
        )
    },
    Setting {
        security: true,
        help: "Let the operator in by a one-time code, too, which is written to the log",
        ..row(
            "auth.loginCode",
            "ONE_MCP_AUTH_LOGIN_CODE",
            "auth-login-code",
            Kind::Switch,
            Some("true"),
            |to, value| to.auth.login_code = value.on(),
        )
    },
    Setting {
        help: "Longest request body",
        ..row(
            "maxBodyBytes",
            "ONE_MCP_MAX_BODY_BYTES",
            "max-body-bytes",
            Kind::Number(1024, limits::BODY_BYTES_CEILING as u64),
            Some("4194304"),
            |to, value| to.max_body_bytes = value.size(),
        )
    },
    Setting {
        reloadable: true,
        help: "What stands between server and tool name",
        ..row(
            "naming.separator",
            "ONE_MCP_NAMING_SEPARATOR",
            "naming-separator",
            Kind::Separator,
            Some("_1mcp_"),
            |to, value| to.naming_parts.separator = value.text().to_owned(),
        )
    },
    Setting {
        reloadable: true,
        help: "Whether tool and prompt names begin with their server's name",
        ..row(
            "naming.prefix",
            "ONE_MCP_NAMING_PREFIX",
            "naming-prefix",
            Kind::Choice(&["always", "never"]),
            Some("always"),
            |to, value| {
                let never = value.text() == "never";
                to.naming_parts.prefix = if never { Prefix::Never } else { Prefix::Always };
            },
        )
    },
    Setting {
        reloadable: true,
        help: "Longest tool or prompt name; longer ones are shortened with a hash",
        ..row(
            "naming.maxLength",
            "ONE_MCP_NAMING_MAX_LENGTH",
            "naming-max-length",
            Kind::Number(
                limits::PUBLIC_NAME_BYTES_MIN as u64,
                limits::PUBLIC_NAME_BYTES_MAX as u64,
            ),
            Some("64"),
            |to, value| to.naming_parts.max_length = value.size(),
        )
    },
    Setting {
        reloadable: true,
        help: "Tools that changed since they were first seen: pass, be told of, or be held back",
        ..row(
            "toolPins",
            "ONE_MCP_TOOL_PINS",
            "tool-pins",
            Kind::Choice(Pinning::WORDS),
            Some("off"),
            |to, value| to.tool_pins = Pinning::parse(value.text()).unwrap_or_default(),
        )
    },
    Setting {
        reloadable: true,
        help: "Invisible characters in what servers offer: pass, be told of, or be taken out",
        ..row(
            "stripInvisible",
            "ONE_MCP_STRIP_INVISIBLE",
            "strip-invisible",
            Kind::Choice(Invisible::WORDS),
            Some("flag"),
            |to, value| to.strip_invisible = Invisible::parse(value.text()).unwrap_or_default(),
        )
    },
    Setting {
        reloadable: true,
        help: "Entries in one page of a list",
        ..row(
            "pageSize",
            "ONE_MCP_PAGE_SIZE",
            "page-size",
            Kind::Number(1, limits::ENTRIES as u64),
            Some("1000"),
            |to, value| to.page_size = value.size(),
        )
    },
    Setting {
        reloadable: true,
        help: "How much /health tells",
        ..row(
            "healthInfoLevel",
            "ONE_MCP_HEALTH_INFO_LEVEL",
            "health-info-level",
            Kind::Choice(&["auto", "full", "basic", "minimal"]),
            Some("auto"),
            |to, value| {
                to.health_info_level = match value.text() {
                    "full" => HealthInfoLevel::Full,
                    "basic" => HealthInfoLevel::Basic,
                    "minimal" => HealthInfoLevel::Minimal,
                    _ => HealthInfoLevel::Auto,
                };
            },
        )
    },
    Setting {
        reloadable: true,
        help: "Which servers must be ready for /health/ready; required: those marked so",
        ..row(
            "health.readyPolicy",
            "ONE_MCP_READY_POLICY",
            "ready-policy",
            Kind::Choice(&["required", "all", "any", "none"]),
            Some("required"),
            |to, value| {
                to.ready_policy = match value.text() {
                    "all" => ReadyPolicy::All,
                    "any" => ReadyPolicy::Any,
                    "none" => ReadyPolicy::None,
                    _ => ReadyPolicy::Required,
                };
            },
        )
    },
    Setting {
        help: "Serve health and metrics, nothing else, on this address too",
        ..row(
            "health.listen",
            "ONE_MCP_HEALTH_LISTEN",
            "health-listen",
            Kind::Address,
            None,
            |to, value| to.health_listen = value.text().parse().ok(),
        )
    },
    Setting {
        aliases: &["features.asyncLoading"],
        help: "Answer clients before every server has started",
        ..row(
            "asyncLoading.enabled",
            "ONE_MCP_ENABLE_ASYNC_LOADING",
            "enable-async-loading",
            Kind::Switch,
            Some("false"),
            |to, value| to.enable_async_loading = value.on(),
        )
    },
    Setting {
        reloadable: true,
        help: "List changes are gathered for so long before clients are told",
        ..row(
            "asyncLoading.batchDelay",
            "ONE_MCP_ASYNC_BATCH_DELAY",
            "async-batch-delay",
            MILLIS,
            Some("1000"),
            |to, value| to.async_batch_delay = value.millis(),
        )
    },
    Setting {
        reloadable: true,
        help: "List changes are told after so long, even if the batch delay is longer",
        ..row(
            "asyncLoading.maxDelay",
            "ONE_MCP_ASYNC_MAX_DELAY",
            "async-max-delay",
            MILLIS,
            Some("5000"),
            |to, value| to.async_max_delay = value.millis(),
        )
    },
    Setting {
        reloadable: true,
        help: "Gather list changes; false tells of each one at once",
        ..row(
            "asyncLoading.batchNotifications",
            "ONE_MCP_ASYNC_BATCH_NOTIFICATIONS",
            "async-batch-notifications",
            Kind::Switch,
            Some("true"),
            |to, value| to.async_batch_notifications = value.on(),
        )
    },
    Setting {
        reloadable: true,
        help: "Tell clients of list changes while servers load",
        ..row(
            "asyncLoading.notifyOnSnapshot",
            "ONE_MCP_ASYNC_NOTIFY_ON_SNAPSHOT",
            "async-notify-on-snapshot",
            Kind::Switch,
            Some("true"),
            |to, value| to.async_notify_on_snapshot = value.on(),
        )
    },
    Setting {
        reloadable: true,
        help: "Another name for async-notify-on-snapshot; it wins over that",
        ..row(
            "asyncLoading.notifyOnReady",
            "ONE_MCP_ASYNC_NOTIFY_ON_READY",
            "async-notify-on-ready",
            Kind::Switch,
            None,
            |to, value| to.async_notify_on_snapshot = value.on(),
        )
    },
    Setting {
        help: "Without async loading: clients wait at most so long for servers to start",
        ..row(
            "syncStartTimeout",
            "ONE_MCP_SYNC_START_TIMEOUT",
            "sync-start-timeout",
            MILLIS,
            Some("30000"),
            |to, value| to.sync_start_timeout = value.millis(),
        )
    },
    Setting {
        help: "Servers that start at the same time",
        ..row(
            "maxConcurrentStarts",
            "ONE_MCP_MAX_CONCURRENT_STARTS",
            "max-concurrent-starts",
            Kind::Number(1, limits::CONCURRENT_STARTS_MOST as u64),
            Some("5"),
            |to, value| to.start_concurrency = value.size(),
        )
    },
    Setting {
        reloadable: true,
        help: "When stopped: stay open for so long while /health/ready already says no",
        ..row(
            "drainDelay",
            "ONE_MCP_DRAIN_DELAY",
            "drain-delay",
            MILLIS,
            Some("0"),
            |to, value| to.drain_delay = value.millis(),
        )
    },
    Setting {
        reloadable: true,
        help: "Calls in work get so long to finish when the gateway is stopped",
        ..row(
            "shutdownTimeout",
            "ONE_MCP_SHUTDOWN_TIMEOUT",
            "shutdown-timeout",
            MILLIS,
            Some("25000"),
            |to, value| to.shutdown_timeout = value.millis(),
        )
    },
    Setting {
        security: true,
        help: "Socket for onemcp status, reload and the like",
        ..row(
            "controlSocket",
            "ONE_MCP_CONTROL_SOCKET",
            "control-socket",
            Kind::PathOr(&["auto", "off"]),
            Some("auto"),
            |to, value| {
                to.control_socket = match value.text() {
                    "auto" => ControlSocket::Auto,
                    "off" => ControlSocket::Off,
                    path => ControlSocket::At(PathBuf::from(path)),
                };
            },
        )
    },
    Setting {
        aliases: &["features.configReload"],
        help: "Apply changes of the configuration files without a restart",
        ..row(
            "configReload.enabled",
            "ONE_MCP_ENABLE_CONFIG_RELOAD",
            "enable-config-reload",
            Kind::Switch,
            Some("true"),
            |to, value| to.enable_config_reload = value.on(),
        )
    },
    Setting {
        reloadable: true,
        help: "Changes of files are applied when nothing changed for so long",
        ..row(
            "configReload.debounce",
            "ONE_MCP_CONFIG_RELOAD_DEBOUNCE",
            "config-reload-debounce",
            MILLIS,
            Some("500"),
            |to, value| to.config_reload_debounce = value.millis(),
        )
    },
    Setting {
        help: "Directory for sockets and other state",
        ..row(
            "stateDir",
            "ONE_MCP_STATE_DIR",
            "state-dir",
            Kind::Path,
            None,
            |to, value| {
                to.state_dir = Some(PathBuf::from(value.text()));
            },
        )
    },
    Setting {
        security: true,
        secret: true,
        help: "URL of the Redis or Valkey that several gateways share; see docs/replicas.md",
        ..row(
            "store",
            "ONE_MCP_STORE",
            "store",
            Kind::Text,
            None,
            |to, value| to.replicas.store = Some(value.text().to_owned()),
        )
    },
    Setting {
        aliases: &["auth.trustProxy"],
        security: true,
        help: "Proxies whose forwarding headers count: loopback, false, addresses, networks",
        ..row(
            "trustProxy",
            "ONE_MCP_TRUST_PROXY",
            "trust-proxy",
            Kind::Proxies,
            Some("loopback"),
            |to, value| to.trust_proxy = value.list(),
        )
    },
    Setting {
        security: true,
        help: "Networks and host names that may be reached although they are refused otherwise",
        ..row(
            "egress.allow",
            "ONE_MCP_EGRESS_ALLOW",
            "egress-allow",
            Kind::Egress,
            None,
            |to, value| {
                let items = value.list();
                to.egress_allow = items.iter().filter_map(|one| Allowed::parse(one)).collect();
            },
        )
    },
    Setting {
        help: "file:// URIs told to servers that ask for roots while no call is in flight",
        ..row(
            "roots",
            "ONE_MCP_ROOTS",
            "roots",
            Kind::Roots,
            None,
            |to, value| to.roots = value.list(),
        )
    },
    Setting {
        help: "A question of a server waits so long for the answer of a stateless client",
        ..row(
            "parkingTimeout",
            "ONE_MCP_PARKING_TIMEOUT",
            "parking-timeout",
            Kind::Millis(limits::PARKED_LEAST_MS, limits::SETTING_MS),
            Some("300000"),
            |to, value| to.parking_timeout = value.millis(),
        )
    },
    Setting {
        aliases: &["logModules"],
        reloadable: true,
        help: "Levels of single modules, such as upstream=debug,http=warn",
        ..row(
            "logging.modules",
            "ONE_MCP_LOG_MODULES",
            "log-modules",
            Kind::Levels,
            None,
            |to, value| to.log_modules = levels(value),
        )
    },
    Setting {
        aliases: &["logFile"],
        help: "Log into this file too; with the transport stdio only there",
        ..row(
            "logging.file",
            "ONE_MCP_LOG_FILE",
            "log-file",
            Kind::Path,
            None,
            |to, value| to.log_file = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        aliases: &["logMaxSize"],
        help: "A log file of this size is put aside and begun anew",
        ..row(
            "logging.maxSize",
            "ONE_MCP_LOG_MAX_SIZE",
            "log-max-size",
            Kind::Size(limits::LOG_FILE_BYTES_LEAST, limits::LOG_FILE_BYTES_MOST),
            Some("10m"),
            |to, value| to.log_max_bytes = value.number(),
        )
    },
    Setting {
        aliases: &["logMaxFiles"],
        help: "Log files put aside that are kept",
        ..row(
            "logging.maxFiles",
            "ONE_MCP_LOG_MAX_FILES",
            "log-max-files",
            Kind::Number(0, limits::LOG_FILES_MOST as u64),
            Some("5"),
            |to, value| to.log_max_files = value.size(),
        )
    },
    Setting {
        aliases: &["logArguments"],
        security: true,
        help: "Log the arguments of calls too, at the level debug",
        ..row(
            "logging.arguments",
            "ONE_MCP_LOG_ARGUMENTS",
            "log-arguments",
            Kind::Switch,
            Some("false"),
            |to, value| to.log_arguments = value.on(),
        )
    },
    Setting {
        aliases: &["serverLogDir"],
        help: "Write what each server says on stderr to its own file in this directory",
        ..row(
            "logging.serverDirectory",
            "ONE_MCP_SERVER_LOG_DIR",
            "server-log-dir",
            Kind::Path,
            None,
            |to, value| to.server_log_dir = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        aliases: &["metrics.enabled"],
        help: "Count and time, and answer /metrics",
        ..row(
            "features.metrics",
            "ONE_MCP_ENABLE_METRICS",
            "enable-metrics",
            Kind::Switch,
            Some("true"),
            |to, value| to.enable_metrics = value.on(),
        )
    },
    Setting {
        security: true,
        help: "Answer /metrics to everybody who reaches the port, not to loopback alone",
        ..row(
            "metrics.public",
            "ONE_MCP_METRICS_PUBLIC",
            "metrics-public",
            Kind::Switch,
            Some("false"),
            |to, value| to.metrics_public = value.on(),
        )
    },
    Setting {
        reloadable: true,
        help: "Push traces to otlp-endpoint, when there is one",
        ..row(
            "features.traces",
            "ONE_MCP_ENABLE_TRACES",
            "enable-traces",
            Kind::Switch,
            Some("true"),
            |to, value| to.enable_traces = value.on(),
        )
    },
    Setting {
        reloadable: true,
        help: "Push metrics to otlp-endpoint, when there is one",
        ..row(
            "features.otlpMetrics",
            "ONE_MCP_ENABLE_OTLP_METRICS",
            "enable-otlp-metrics",
            Kind::Switch,
            Some("true"),
            |to, value| to.enable_otlp_metrics = value.on(),
        )
    },
    Setting {
        help: "Push metrics and traces there by OTLP over HTTP",
        ..row(
            "otlp.endpoint",
            "ONE_MCP_OTLP_ENDPOINT",
            "otlp-endpoint",
            Kind::Url,
            None,
            |to, value| to.otlp_endpoint = Some(value.text().to_owned()),
        )
    },
    Setting {
        reloadable: true,
        secret: true,
        help: "Headers of what is pushed; values may be ${VAR} and ${SECRET:name}",
        ..row(
            "otlp.headers",
            "ONE_MCP_OTLP_HEADERS",
            "otlp-headers",
            Kind::Headers,
            None,
            |to, value| to.otlp_headers = value.pairs(),
        )
    },
    Setting {
        help: "Metrics are pushed so often",
        ..row(
            "otlp.interval",
            "ONE_MCP_OTLP_INTERVAL",
            "otlp-interval",
            Kind::Millis(limits::OTLP_INTERVAL_LEAST_MS, limits::SETTING_MS),
            Some("30000"),
            |to, value| to.otlp_interval = value.millis(),
        )
    },
    Setting {
        reloadable: true,
        help: "How many of a hundred traces that begin here are recorded",
        ..row(
            "otlp.tracePercent",
            "ONE_MCP_OTLP_TRACE_PERCENT",
            "otlp-trace-percent",
            Kind::Number(0, 100),
            Some("100"),
            |to, value| to.trace_percent = value.number(),
        )
    },
    Setting {
        reloadable: true,
        help: "Send alerts to the sinks of alerts",
        ..row(
            "features.alerts",
            "ONE_MCP_ENABLE_ALERTS",
            "enable-alerts",
            Kind::Switch,
            Some("true"),
            |to, value| to.enable_alerts = value.on(),
        )
    },
    Setting {
        reloadable: true,
        secret: true,
        help: "Who is told of what: sinks and rules, see docs/alerts.md",
        ..row(
            "alerts",
            "ONE_MCP_ALERTS",
            "alerts",
            Kind::Table(alerts::check),
            None,
            |to, value| to.alerts = Some(value.text().to_owned()),
        )
    },
    Setting {
        security: true,
        help: "Where to look for servers that nobody wrote down, see docs/discovery.md",
        ..row(
            "discovery",
            "ONE_MCP_DISCOVERY",
            "discovery",
            Kind::Table(discovery::check),
            None,
            |to, value| to.discovery = Some(value.text().to_owned()),
        )
    },
    Setting {
        security: true,
        help: "Whether the gateway gives out tokens itself, after people have consented",
        ..row(
            "auth.server",
            "ONE_MCP_AUTH_SERVER",
            "auth-server",
            Kind::Choice(&["on", "off"]),
            Some("on"),
            |to, value| to.auth.server.enabled = value.text() == "on",
        )
    },
    Setting {
        security: true,
        help: "Who may register a client; open on a loopback address, else off",
        ..row(
            "auth.registration",
            "ONE_MCP_AUTH_REGISTRATION",
            "auth-registration",
            Kind::Choice(&["off", "token", "open"]),
            None,
            |to, value| {
                to.auth.server.registration = Some(match value.text() {
                    "open" => Registration::Open,
                    "token" => Registration::Token,
                    _ => Registration::Off,
                });
            },
        )
    },
    Setting {
        security: true,
        secret: true,
        help: "What a program shows to register a client; may be ${SECRET:name}",
        ..row(
            "auth.registrationToken",
            "ONE_MCP_AUTH_REGISTRATION_TOKEN",
            "auth-registration-token",
            Kind::Text,
            None,
            |to, value| to.auth.server.registration_token = Some(value.text().to_owned()),
        )
    },
    Setting {
        security: true,
        secret: true,
        help: "Clients that are known beforehand, people's and machines'",
        ..row(
            "auth.clients",
            "ONE_MCP_AUTH_CLIENTS",
            "auth-clients",
            Kind::Table(auth_server::check),
            None,
            |to, value| to.auth.server.clients = Some(value.text().to_owned()),
        )
    },
    Setting {
        security: true,
        help: "Hosts whose documents may describe clients (client_id is an https URL); * is any",
        ..row(
            "auth.clientMetadata",
            "ONE_MCP_AUTH_CLIENT_METADATA",
            "auth-client-metadata",
            Kind::Hosts,
            None,
            |to, value| to.auth.server.client_metadata = value.list(),
        )
    },
    Setting {
        security: true,
        help: "Refuse clients that do not say which resource a token is for",
        ..row(
            "auth.requireResource",
            "ONE_MCP_AUTH_REQUIRE_RESOURCE",
            "auth-require-resource",
            Kind::Switch,
            Some("false"),
            |to, value| to.auth.server.require_resource = value.on(),
        )
    },
    Setting {
        security: true,
        help: "Where ${SECRET:name} is looked for, in this order; see docs/secrets.md",
        ..row(
            "secrets.providers",
            "ONE_MCP_SECRETS_PROVIDERS",
            "secrets-providers",
            Kind::Table(secret_sources::check),
            None,
            |to, value| to.secrets.providers = Some(value.text().to_owned()),
        )
    },
    Setting {
        security: true,
        help: "A directory with one file for each secret",
        ..row(
            "secrets.directory",
            "ONE_MCP_SECRETS_DIR",
            "secrets-dir",
            Kind::Path,
            None,
            |to, value| to.secrets.directory = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        security: true,
        help: "The sealed file of onemcp secret, when it is not in the state directory",
        ..row(
            "secrets.file",
            "ONE_MCP_SECRETS_FILE",
            "secrets-file",
            Kind::Path,
            None,
            |to, value| to.secrets.file = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        security: true,
        help: "The file with the key of the sealed file",
        ..row(
            "secrets.keyFile",
            "ONE_MCP_SECRETS_KEY_FILE",
            "secrets-key-file",
            Kind::Path,
            None,
            |to, value| to.secrets.key_file = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        reloadable: true,
        help: "Commands and vaults are asked anew for secrets so often",
        ..row(
            "secrets.refresh",
            "ONE_MCP_SECRETS_REFRESH",
            "secrets-refresh",
            Kind::Millis(limits::SECRETS_REFRESH_LEAST_MS, limits::SETTING_MS),
            Some("30000"),
            |to, value| to.secrets.refresh = value.millis(),
        )
    },
    Setting {
        reloadable: true,
        help: "Put values in the place of ${...} and $NAME in server entries",
        ..row(
            "features.envSubstitution",
            "ONE_MCP_ENABLE_ENV_SUBSTITUTION",
            "enable-env-substitution",
            Kind::Switch,
            Some("true"),
            |to, value| to.enable_env_substitution = value.on(),
        )
    },
    Setting {
        reloadable: true,
        help: "Tell clients that lists changed",
        ..row(
            "features.clientNotifications",
            "ONE_MCP_ENABLE_CLIENT_NOTIFICATIONS",
            "enable-client-notifications",
            Kind::Switch,
            Some("true"),
            |to, value| to.enable_client_notifications = value.on(),
        )
    },
    Setting {
        reloadable: true,
        help: "Serve clients of the old HTTP+SSE transport on /sse",
        ..row(
            "features.sse",
            "ONE_MCP_ENABLE_SSE",
            "enable-sse",
            Kind::Switch,
            Some("true"),
            |to, value| to.enable_sse = value.on(),
        )
    },
    Setting {
        security: true,
        help: "Where the audit log goes: auto, off, or some of stdout, file, syslog, webhook",
        ..row(
            "audit.sinks",
            "ONE_MCP_AUDIT_SINKS",
            "audit-sinks",
            Kind::AuditSinks,
            Some("auto"),
            |to, value| to.audit.sinks = value.list(),
        )
    },
    Setting {
        security: true,
        help: "The file of the audit log; audit.log in the state directory without it",
        ..row(
            "audit.file",
            "ONE_MCP_AUDIT_FILE",
            "audit-file",
            Kind::Path,
            None,
            |to, value| to.audit.file = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        security: true,
        help: "An audit file of this size is put aside and begun anew",
        ..row(
            "audit.maxSize",
            "ONE_MCP_AUDIT_MAX_SIZE",
            "audit-max-size",
            Kind::Size(limits::LOG_FILE_BYTES_LEAST, limits::LOG_FILE_BYTES_MOST),
            Some("100m"),
            |to, value| to.audit.max_bytes = value.number(),
        )
    },
    Setting {
        security: true,
        help: "Audit files put aside that are kept",
        ..row(
            "audit.maxFiles",
            "ONE_MCP_AUDIT_MAX_FILES",
            "audit-max-files",
            Kind::Number(1, limits::LOG_FILES_MOST as u64),
            Some("10"),
            |to, value| to.audit.max_files = value.size(),
        )
    },
    Setting {
        security: true,
        help: "The secret that chains and signs the audit log; made when none is named",
        ..row(
            "audit.keyFile",
            "ONE_MCP_AUDIT_KEY_FILE",
            "audit-key-file",
            Kind::Path,
            None,
            |to, value| to.audit.key_file = Some(PathBuf::from(value.text())),
        )
    },
    Setting {
        security: true,
        help: "When the audit log cannot be written: drop its lines, or block new requests",
        ..row(
            "audit.onFailure",
            "ONE_MCP_AUDIT_ON_FAILURE",
            "audit-on-failure",
            Kind::Choice(&["drop", "block"]),
            Some("drop"),
            |to, value| to.audit.blocks = value.text() == "block",
        )
    },
    Setting {
        security: true,
        help: "Where the sink syslog sends to: the path of a socket, or udp://HOST:PORT",
        ..row(
            "audit.syslog",
            "ONE_MCP_AUDIT_SYSLOG",
            "audit-syslog",
            Kind::Path,
            Some("/dev/log"),
            |to, value| value.text().clone_into(&mut to.audit.syslog),
        )
    },
    Setting {
        security: true,
        help: "Where the sink webhook posts lines to",
        ..row(
            "audit.webhook",
            "ONE_MCP_AUDIT_WEBHOOK",
            "audit-webhook",
            Kind::Url,
            None,
            |to, value| to.audit.webhook = Some(value.text().to_owned()),
        )
    },
    Setting {
        security: true,
        secret: true,
        help: "Headers of these requests; ${SECRET:name} is filled in",
        ..row(
            "audit.webhookHeaders",
            "ONE_MCP_AUDIT_WEBHOOK_HEADERS",
            "audit-webhook-headers",
            Kind::Headers,
            None,
            |to, value| to.audit.webhook_headers = value.pairs(),
        )
    },
    Setting {
        security: true,
        help: "Tools whose arguments are told in full, secrets masked: SERVER/TOOL or SERVER/*",
        ..row(
            "audit.arguments",
            "ONE_MCP_AUDIT_ARGUMENTS",
            "audit-arguments",
            Kind::Tools,
            None,
            |to, value| to.audit.arguments = value.list(),
        )
    },
];
