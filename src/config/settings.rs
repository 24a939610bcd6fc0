//! SETTINGS: the one table of everything that can be set on the gateway itself. The command
//! line, `--help`, the `gateway` object of the file and the variables all derive from it.
//!
//! Precedence: environment, then flag, then file, then default; each value knows its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jsonc_parser::ast::Value as JsonValue;
use log::LevelFilter;

use crate::base::limits;
use crate::config::Environment;
use crate::config::document::{Node, Notes, join, parse_switch};
use crate::config::foreign::{FOREIGN, by_file_key, variable_of};
use crate::config::near::did_you_mean;
use crate::config::preset::filter_remedy;
use crate::config::problem::{Place, Problem, Scope, Severity};
use crate::model::filter::TagExpression;
use crate::model::naming::{Naming, Prefix};
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
    fill: fn(&mut Settings, &Value),
}

/// How a value is written and checked.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Switch,
    /// A whole number, both ends included.
    Number(u64, u64),
    /// Milliseconds, both ends included.
    Millis(u64, u64),
    Choice(&'static [&'static str]),
    Path,
    /// A path, or one of these words.
    PathOr(&'static [&'static str]),
    Host,
    /// Address and port.
    Address,
    /// A part of a file name.
    Word,
    Filter,
    Preset,
    Separator,
    Hosts,
    Origins,
    Proxies,
    Egress,
    Roots,
}

impl Kind {
    /// What stands for the value in `--help`.
    pub fn placeholder(self) -> String {
        match self {
            Kind::Number(..) => "N".into(),
            Kind::Millis(..) => "MS".into(),
            Kind::Choice(words) => words.join("|"),
            Kind::Path => "PATH".into(),
            Kind::PathOr(words) => format!("PATH|{}", words.join("|")),
            Kind::Host => "ADDRESS".into(),
            Kind::Address => "ADDRESS:PORT".into(),
            Kind::Word => "NAME".into(),
            Kind::Filter => "EXPR".into(),
            Kind::Preset => "NAME".into(),
            Kind::Separator => "TEXT".into(),
            Kind::Switch => String::new(),
            Kind::Hosts | Kind::Origins | Kind::Proxies | Kind::Egress | Kind::Roots => {
                "LIST".into()
            }
        }
    }

    fn is_list(self) -> bool {
        matches!(
            self,
            Kind::Hosts | Kind::Origins | Kind::Proxies | Kind::Egress | Kind::Roots
        )
    }
}

/// A checked value; which variant follows from the `Kind`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Switch(bool),
    Number(u64),
    Text(String),
    List(Vec<String>),
}

impl Value {
    fn on(&self) -> bool {
        matches!(self, Value::Switch(true))
    }

    fn number(&self) -> u64 {
        match self {
            Value::Number(number) => *number,
            _ => 0,
        }
    }

    fn size(&self) -> usize {
        usize::try_from(self.number()).unwrap_or(usize::MAX)
    }

    fn millis(&self) -> Duration {
        Duration::from_millis(self.number())
    }

    fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            _ => "",
        }
    }

    fn list(&self) -> Vec<String> {
        match self {
            Value::List(list) => list.clone(),
            _ => Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthInfoLevel {
    /// Decided for each request by who asks.
    Auto,
    Full,
    Basic,
    Minimal,
}

/// Which servers must be ready for `/health/ready` to say yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadyPolicy {
    /// Those marked as required.
    Required,
    All,
    /// At least one.
    Any,
    None,
}

/// Where operators reach the running gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlSocket {
    /// In the runtime or state directory.
    Auto,
    Off,
    At(PathBuf),
}

/// How clients reach the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Http,
    Stdio,
}

/// The parts of `Naming` while the table is folded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamingParts {
    separator: String,
    prefix: Prefix,
    max_length: usize,
}

/// Every setting with its final value.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub filter: Option<TagExpression>,
    /// What the client on stdio sees.
    pub preset: Option<String>,
    pub log_level: LevelFilter,
    pub log_format: LogFormat,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub allow_unauthenticated: bool,
    pub max_body_bytes: usize,
    pub naming: Naming,
    pub page_size: usize,
    pub health_info_level: HealthInfoLevel,
    pub health_listen: Option<SocketAddr>,
    pub ready_policy: ReadyPolicy,
    pub enable_async_loading: bool,
    pub async_batch_notifications: bool,
    pub async_batch_delay: Duration,
    /// Bounds a larger batch delay.
    pub async_max_delay: Duration,
    /// Whether clients are told of what appears while servers load.
    pub async_notify_on_snapshot: bool,
    pub sync_start_timeout: Duration,
    /// Servers that start at the same time.
    pub start_concurrency: usize,
    pub drain_delay: Duration,
    pub shutdown_timeout: Duration,
    pub control_socket: ControlSocket,
    pub enable_config_reload: bool,
    pub config_reload_debounce: Duration,
    /// Names the overlay `mcp.<environment>.json`.
    pub environment: Option<String>,
    pub state_dir: Option<PathBuf>,
    /// `loopback`, `linklocal`, `uniquelocal`, `true`, addresses and networks, as given.
    pub trust_proxy: Vec<String>,
    pub transport: Transport,
    /// What may be reached although the rules of `net::egress` refuse it.
    pub egress_allow: Vec<Allowed>,
    /// `file://` URIs, told to a server that asks for roots while no call is in flight.
    pub roots: Vec<String>,
    /// How long a question waits for the answer of a stateless client.
    pub parking_timeout: Duration,
    naming_parts: NamingParts,
    /// What was given, by key; the rest has its default.
    values: BTreeMap<&'static str, Value>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Settings {
    /// These, as far as they may change while the gateway runs; for the rest `started`.
    pub fn over(&self, started: &Settings) -> Settings {
        let mut settings = Settings::default();
        for row in SETTINGS {
            let from = if row.reloadable { self } else { started };
            let Some(value) = from.values.get(row.key) else {
                continue;
            };
            (row.fill)(&mut settings, value);
            settings.values.insert(row.key, value.clone());
            settings
                .origins
                .insert(row.key, from.origin(row.key).clone());
        }
        // Both were checked, and the parts of a name are reloaded together.
        settings.name_things(&mut Vec::new());
        settings
    }

    /// Who decided the value of a key of SETTINGS.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// Keys whose values differ, wherever they come from.
    pub fn differing(&self, other: &Settings) -> Vec<&'static str> {
        let value = |settings: &Settings, row: &Setting| match settings.values.get(row.key) {
            Some(value) => Some(value.clone()),
            None => row.default.and_then(|text| parse(row.kind, text).ok()),
        };
        let rows = SETTINGS.iter();
        rows.filter(|row| value(self, row) != value(other, row))
            .map(|row| row.key)
            .collect()
    }

    /// The rules check the parts one by one; `Naming` may know more.
    fn name_things(&mut self, problems: &mut Vec<Problem>) {
        let parts = &self.naming_parts;
        match Naming::new(&parts.separator, parts.prefix, parts.max_length) {
            Ok(naming) => self.naming = naming,
            Err(error) => problems.push(Problem {
                severity: Severity::Error,
                scope: Scope::Setting("naming"),
                place: None,
                key_path: "gateway.naming".into(),
                message: format!("failed to {error}"),
                remedy: String::new(),
            }),
        }
    }
}

impl Default for Settings {
    /// The defaults of the table.
    fn default() -> Settings {
        let mut settings = Settings {
            host: String::new(),
            port: 0,
            filter: None,
            preset: None,
            log_level: LevelFilter::Info,
            log_format: LogFormat::Text,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            allow_unauthenticated: false,
            max_body_bytes: limits::BODY_BYTES,
            naming: Naming::default(),
            naming_parts: NamingParts {
                separator: String::new(),
                prefix: Prefix::Always,
                max_length: limits::PUBLIC_NAME_BYTES,
            },
            page_size: limits::PAGE_ENTRIES,
            health_info_level: HealthInfoLevel::Auto,
            health_listen: None,
            ready_policy: ReadyPolicy::Required,
            enable_async_loading: false,
            async_batch_notifications: true,
            async_batch_delay: limits::LIST_CHANGED_DELAY,
            async_max_delay: limits::LIST_CHANGED_LONGEST,
            async_notify_on_snapshot: true,
            sync_start_timeout: limits::SYNC_START,
            start_concurrency: limits::CONCURRENT_STARTS,
            drain_delay: Duration::ZERO,
            shutdown_timeout: limits::SHUTDOWN,
            control_socket: ControlSocket::Auto,
            enable_config_reload: true,
            config_reload_debounce: limits::CONFIG_DEBOUNCE,
            environment: None,
            state_dir: None,
            trust_proxy: Vec::new(),
            transport: Transport::Http,
            egress_allow: Vec::new(),
            roots: Vec::new(),
            parking_timeout: limits::PARKED,
            values: BTreeMap::new(),
            origins: BTreeMap::new(),
        };
        for row in SETTINGS {
            if let Some(Ok(value)) = row.default.map(|text| parse(row.kind, text)) {
                (row.fill)(&mut settings, &value);
            }
        }
        settings
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(Place),
    Flag(&'static str),
    Environment(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(place) => write!(f, "{}:{}:{}", place.file, place.line, place.column),
            Origin::Flag(flag) => write!(f, "--{flag}"),
            Origin::Environment(name) => f.write_str(name),
        }
    }
}

/// The flags of a command line by name, without dashes; the last one won.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    given: BTreeMap<&'static str, String>,
}

impl Flags {
    pub fn set(&mut self, flag: &'static str, value: String) {
        self.given.insert(flag, value);
    }

    pub fn get(&self, flag: &str) -> Option<&str> {
        self.given.get(flag).map(String::as_str)
    }
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
];

/// A value from the file, not checked yet.
struct FromFile {
    text: String,
    path: String,
    place: Place,
}

/// The values under `gateway`, by key of SETTINGS.
#[derive(Default)]
pub struct FileValues {
    values: BTreeMap<&'static str, FromFile>,
}

/// Reads a `gateway` object. A wrong type, a repeated or an unknown key is reported here.
pub fn read_file(node: &Node<'_>, values: &mut FileValues, problems: &mut Vec<Problem>) {
    read_level(node, "", values, problems);
}

fn read_level(node: &Node<'_>, base: &str, out: &mut FileValues, problems: &mut Vec<Problem>) {
    let mut notes = Notes::new(Scope::Setting("gateway"));
    for member in node.members(&mut notes).unwrap_or_default() {
        let key = join(base, &camel_case(member.name));
        if let Some(row) = by_key(&key) {
            read_value(row, &member.node, out, problems);
        } else if SETTINGS.iter().any(|row| is_below(row, &key)) {
            read_level(&member.node, &key, out, problems);
        } else if let Some(row) = by_file_key(&key) {
            if row.is_missed(&scalar(member.node.value)) {
                member
                    .spot
                    .warn(&mut notes, "is known but not carried out", row.missing);
            }
        } else {
            let known = SETTINGS.iter().filter(|row| row.in_file).map(|row| row.key);
            let remedy = did_you_mean(&key, known, "see onemcp --help for the settings");
            member.spot.warn(&mut notes, "unknown key", remedy);
        }
    }
    problems.append(&mut notes.problems);
}

fn by_key(key: &str) -> Option<&'static Setting> {
    let named = |row: &&Setting| row.key == key || row.aliases.contains(&key);
    SETTINGS.iter().filter(|row| row.in_file).find(named)
}

/// True when `key` is a table in which a key of `row` lies.
fn is_below(row: &Setting, key: &str) -> bool {
    let inside = |name: &str| {
        name.strip_prefix(key)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    inside(row.key) || row.aliases.iter().any(|alias| inside(alias))
}

/// `max-length` and `max_length` are other spellings of `maxLength`.
fn camel_case(name: &str) -> String {
    let mut words = name.split(['-', '_']).filter(|word| !word.is_empty());
    let mut out = words.next().unwrap_or(name).to_owned();
    for word in words {
        let mut chars = word.chars();
        out.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
}

fn read_value(
    row: &'static Setting,
    node: &Node<'_>,
    out: &mut FileValues,
    problems: &mut Vec<Problem>,
) {
    let mut notes = Notes::new(Scope::Setting(row.key));
    if let Some(text) = text_of(row, node, &mut notes) {
        let value = FromFile {
            text,
            path: node.spot.path.clone(),
            place: node.spot.place(),
        };
        if let Some(earlier) = out.values.get(row.key) {
            let FromFile { path, place, .. } = earlier;
            let remedy = if place.file == value.place.file {
                format!("{path} says it already; keep one of the two")
            } else {
                let Place { file, line, column } = place;
                format!("{file}:{line}:{column} says it already; keep one of the two")
            };
            node.spot
                .error(&mut notes, "sets the same thing twice", remedy);
        } else {
            out.values.insert(row.key, value);
        }
    }
    problems.append(&mut notes.problems);
}

/// A single value as text; empty for tables and lists.
fn scalar(value: &JsonValue<'_>) -> String {
    match value {
        JsonValue::BooleanLit(literal) => literal.value.to_string(),
        JsonValue::StringLit(literal) => literal.value.to_string(),
        JsonValue::NumberLit(literal) => literal.value.to_owned(),
        _ => String::new(),
    }
}

/// The value in the form of a flag.
fn text_of(row: &Setting, node: &Node<'_>, notes: &mut Notes) -> Option<String> {
    match row.kind {
        Kind::Switch => node.switch(notes).map(|on| on.to_string()),
        Kind::Number(least, most) | Kind::Millis(least, most) => node
            .count(notes, least, most)
            .map(|number| number.to_string()),
        kind if kind.is_list() && node.value.as_array().is_some() => {
            let words = node.words(notes)?;
            Some(
                words
                    .iter()
                    .map(|(word, _)| *word)
                    .collect::<Vec<_>>()
                    .join(","),
            )
        }
        _ => node.text(notes).map(str::to_owned),
    }
}

/// One fold over the table: environment, flag, file, default.
pub fn resolve(
    file: &FileValues,
    flags: &Flags,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Settings {
    let mut settings = Settings::default();
    for row in SETTINGS {
        if let Some((value, origin)) = winner(row, file, flags, environment, problems) {
            (row.fill)(&mut settings, &value);
            settings.values.insert(row.key, value);
            settings.origins.insert(row.key, origin);
        }
    }
    settings.name_things(problems);
    warn_foreign(flags, environment, problems);
    warn_unknown_variables(environment, problems);
    settings
}

/// Every given value is checked, also those that lose.
fn winner(
    row: &'static Setting,
    file: &FileValues,
    flags: &Flags,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Option<(Value, Origin)> {
    let from_environment = variable(environment, row.env).and_then(|text| {
        let scope = Scope::Setting(row.key);
        checked(row, text, scope, row.env.to_owned(), None, problems)
    });
    let from_flag = flags.get(row.flag).and_then(|text| {
        let path = format!("--{}", row.flag);
        checked(row, text, Scope::Flag(row.flag), path, None, problems)
    });
    let from_file = file.values.get(row.key).and_then(|given| {
        let scope = Scope::Setting(row.key);
        let place = Some(given.place.clone());
        let value = checked(row, &given.text, scope, given.path.clone(), place, problems)?;
        Some((value, Origin::File(given.place.clone())))
    });
    if from_environment.is_some() && from_flag.is_some() && from_environment != from_flag {
        problems.push(Problem {
            severity: Severity::Warning,
            scope: Scope::Setting(row.key),
            place: None,
            key_path: row.env.to_owned(),
            message: format!("overrides the flag --{}", row.flag),
            remedy: "the environment wins; remove one of the two".into(),
        });
    }
    let from_environment = from_environment.map(|value| (value, Origin::Environment(row.env)));
    let from_flag = from_flag.map(|value| (value, Origin::Flag(row.flag)));
    from_environment.or(from_flag).or(from_file)
}

/// An empty variable counts as one that is not set, as Compose files leave them.
pub(crate) fn variable<'e>(environment: &'e Environment, name: &str) -> Option<&'e str> {
    environment
        .get(name)
        .map(String::as_str)
        .filter(|text| !text.trim().is_empty())
}

fn checked(
    row: &Setting,
    text: &str,
    scope: Scope,
    key_path: String,
    place: Option<Place>,
    problems: &mut Vec<Problem>,
) -> Option<Value> {
    if let Some((word, instead)) = row.deprecated
        && word.eq_ignore_ascii_case(text.trim())
    {
        problems.push(Problem {
            severity: Severity::Warning,
            scope,
            place,
            key_path,
            message: format!("{word} is deprecated and means {instead}"),
            remedy: format!("write {instead}"),
        });
        return parse(row.kind, instead).ok();
    }
    let remedy = match parse(row.kind, text) {
        Ok(value) => return Some(value),
        Err(remedy) => remedy,
    };
    let shown: String = text.chars().take(60).collect();
    let message = if row.secret {
        "the value cannot be used".to_owned()
    } else {
        format!("{shown:?} cannot be used")
    };
    problems.push(Problem {
        severity: Severity::Error,
        scope,
        place,
        key_path,
        message,
        remedy,
    });
    None
}

/// Checks a value in the form of a flag; the error says what would be right.
fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    let text = text.trim();
    match kind {
        Kind::Switch => match parse_switch(text) {
            Some(on) => Ok(Value::Switch(on)),
            None => Err("write true or false".into()),
        },
        Kind::Number(least, most) => parse_number(text, least, most, ""),
        Kind::Millis(least, most) => parse_number(text, least, most, " milliseconds"),
        Kind::Choice(words) => {
            let known = words.iter().find(|word| word.eq_ignore_ascii_case(text));
            known
                .map(|word| Value::Text((*word).to_owned()))
                .ok_or_else(|| format!("write one of {}", words.join(", ")))
        }
        Kind::Path | Kind::PathOr(_) if text.is_empty() => Err("write a path".into()),
        Kind::Path | Kind::PathOr(_) => Ok(Value::Text(text.to_owned())),
        Kind::Host => parse_host(text),
        Kind::Address => match text.parse::<SocketAddr>() {
            Ok(_) => Ok(Value::Text(text.to_owned())),
            Err(_) => Err("write an address and a port such as 0.0.0.0:9090".into()),
        },
        Kind::Word => parse_word(text),
        Kind::Filter => match TagExpression::parse(text) {
            Ok(_) => Ok(Value::Text(text.to_owned())),
            Err(error) => Err(filter_remedy(&error)),
        },
        Kind::Preset if text.is_empty() => Err("write the name of a preset".into()),
        Kind::Preset => Ok(Value::Text(text.to_owned())),
        Kind::Separator => parse_separator(text),
        Kind::Hosts => parse_list(text, is_host_item, "write host names separated by commas"),
        Kind::Origins => parse_list(
            text,
            is_origin,
            "write origins such as https://app.example.com",
        ),
        Kind::Proxies => parse_proxies(text),
        Kind::Egress => parse_list(
            text,
            |item| Allowed::parse(item).is_some(),
            "write networks (10.0.0.0/8), addresses and host names separated by commas",
        ),
        Kind::Roots => parse_list(
            text,
            is_root,
            "write URIs such as file:///srv/data separated by commas; a comma inside is %2C",
        ),
    }
}

fn parse_number(text: &str, least: u64, most: u64, unit: &str) -> Result<Value, String> {
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Value::Number(number)),
        _ => Err(format!("write a whole number from {least} to {most}{unit}")),
    }
}

fn parse_host(text: &str) -> Result<Value, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() || is_host_name(bare) {
        return Ok(Value::Text(bare.to_owned()));
    }
    Err("write an address such as 127.0.0.1, without a port".into())
}

fn is_host_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !text.is_empty() && text.chars().all(fits)
}

fn parse_word(text: &str) -> Result<Value, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !text.is_empty() && text.len() <= limits::ENVIRONMENT_BYTES && text.chars().all(fits) {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(format!(
        "write 1 to {} characters of A-Z a-z 0-9 _ -",
        limits::ENVIRONMENT_BYTES
    ))
}

fn parse_separator(text: &str) -> Result<Value, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !text.is_empty() && text.len() <= limits::SEPARATOR_BYTES && text.chars().all(fits) {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(format!(
        "write 1 to {} characters of A-Z a-z 0-9 _ - .",
        limits::SEPARATOR_BYTES
    ))
}

fn parse_list(text: &str, fits: fn(&str) -> bool, remedy: &str) -> Result<Value, String> {
    let items: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    if items.len() > limits::SETTING_ITEMS {
        return Err(format!("write at most {} items", limits::SETTING_ITEMS));
    }
    match items.iter().find(|item| !fits(item)) {
        Some(_) => Err(remedy.to_owned()),
        None => Ok(Value::List(items.into_iter().map(str::to_owned).collect())),
    }
}

/// A host name or address, perhaps with a port, never a URL.
fn is_host_item(item: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:[]*".contains(c);
    item.chars().all(fits)
}

/// `scheme://host[:port]` and nothing behind it.
fn is_origin(item: &str) -> bool {
    let Some((scheme, host)) = item.split_once("://") else {
        return false;
    };
    let scheme_fits = scheme
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    !scheme.is_empty() && scheme_fits && !host.is_empty() && is_host_item(host)
}

fn is_root(item: &str) -> bool {
    item.len() <= limits::URI_BYTES
        && item.starts_with("file:///")
        && item.bytes().all(|byte| byte.is_ascii_graphic())
}

fn parse_proxies(text: &str) -> Result<Value, String> {
    if text.is_empty() || text == "false" {
        return Ok(Value::List(Vec::new()));
    }
    parse_list(
        text,
        is_proxy,
        "write loopback, false, or addresses and networks (10.0.0.0/8)",
    )
}

fn is_proxy(item: &str) -> bool {
    if ["loopback", "linklocal", "uniquelocal", "true"].contains(&item) {
        return true;
    }
    let (address, bits) = item
        .split_once('/')
        .map_or((item, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u32>().is_ok_and(|bits| bits <= most))
}

fn warn_foreign(flags: &Flags, environment: &Environment, problems: &mut Vec<Problem>) {
    for row in FOREIGN {
        let name = row.variable();
        let from_environment = variable(environment, &name).map(|text| (name.clone(), text));
        let from_flag = flags
            .get(row.flag)
            .map(|text| (format!("--{}", row.flag), text));
        let Some((key_path, text)) = from_environment.or(from_flag) else {
            continue;
        };
        if row.is_missed(text) {
            problems.push(Problem {
                severity: Severity::Warning,
                scope: Scope::Setting(row.flag),
                place: None,
                key_path,
                message: "is known but not carried out".into(),
                remedy: row.missing.to_owned(),
            });
        }
    }
}

fn warn_unknown_variables(environment: &Environment, problems: &mut Vec<Problem>) {
    let foreign: Vec<String> = FOREIGN.iter().map(|row| variable_of(row.flag)).collect();
    let known: Vec<&str> = SETTINGS
        .iter()
        .map(|row| row.env)
        .chain(foreign.iter().map(String::as_str))
        .collect();
    for name in environment
        .keys()
        .filter(|name| name.starts_with("ONE_MCP_"))
    {
        if known.contains(&name.as_str()) {
            continue;
        }
        let otherwise = "see onemcp --help for the known ones";
        // Without the common beginning, which would make any two names look alike.
        let ends = known.iter().map(|known| &known["ONE_MCP_".len()..]);
        let remedy = did_you_mean(&name["ONE_MCP_".len()..], ends, otherwise);
        problems.push(Problem {
            severity: Severity::Warning,
            scope: Scope::Setting("environment"),
            place: None,
            key_path: name.clone(),
            message: "unknown variable".into(),
            remedy: remedy.replacen("mean \"", "mean \"ONE_MCP_", 1),
        });
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
