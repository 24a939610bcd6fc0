//! The settings of the gateway itself: one fold over SETTINGS.
//!
//! Precedence: environment, then flag, then file, then default; each value knows its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jsonc_parser::ast::Value as JsonValue;
use log::LevelFilter;

use crate::base::limits;
use crate::base::ordered;
use crate::base::sorted::SortedMap;
use crate::config::Environment;
use crate::config::audit::AuditSettings;
use crate::config::auth::AuthSettings;
use crate::config::document::{Node, Notes, join};
use crate::config::foreign::{FOREIGN, by_file_key, variable_of};
use crate::config::near::did_you_mean;
use crate::config::problem::{Place, Problem, Scope, Severity};
use crate::config::replicas::ReplicaSettings;
use crate::config::secret_sources::SecretSettings;
pub use crate::config::table::{SETTINGS, Setting};
use crate::config::tls::TlsSettings;
pub use crate::config::value::Kind;
use crate::config::value::{Value, parse};
use crate::model::filter::TagExpression;
use crate::model::naming::{Naming, Prefix};
use crate::model::pin::Pinning;
use crate::model::visible_text::Invisible;
use crate::net::egress::Allowed;
use crate::net::url::Url;
use crate::secrets::key;

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
pub(super) struct NamingParts {
    pub(super) separator: String,
    pub(super) prefix: Prefix,
    pub(super) max_length: usize,
}

impl Default for NamingParts {
    fn default() -> NamingParts {
        NamingParts {
            separator: String::new(),
            prefix: Prefix::Always,
            max_length: limits::PUBLIC_NAME_BYTES,
        }
    }
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
    /// Who may come in.
    pub auth: AuthSettings,
    pub tls: TlsSettings,
    pub replicas: ReplicaSettings,
    pub max_body_bytes: usize,
    pub naming: Naming,
    /// For servers whose entries do not say.
    pub tool_pins: Pinning,
    pub strip_invisible: Invisible,
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
    /// Levels of single modules, over `log_level`.
    pub log_modules: Vec<(String, LevelFilter)>,
    pub log_file: Option<PathBuf>,
    pub log_max_bytes: u64,
    /// Old log files that are kept beside the current one.
    pub log_max_files: usize,
    /// Whether the arguments of calls are logged at debug.
    pub log_arguments: bool,
    /// Holds one file for what each server writes to stderr.
    pub server_log_dir: Option<PathBuf>,
    pub audit: AuditSettings,
    pub enable_metrics: bool,
    /// Whether `/metrics` answers others than loopback on the main listener.
    pub metrics_public: bool,
    pub enable_traces: bool,
    pub enable_otlp_metrics: bool,
    pub otlp_endpoint: Option<String>,
    /// Their values are templates.
    pub otlp_headers: Vec<(String, String)>,
    pub otlp_interval: Duration,
    /// How many of a hundred traces are recorded.
    pub trace_percent: u64,
    pub enable_alerts: bool,
    /// JSON as its reader in SETTINGS accepted it.
    pub alerts: Option<String>,
    /// Likewise.
    pub discovery: Option<String>,
    /// JSON as its reader in SETTINGS accepted it; none is the default order.
    pub secrets: SecretSettings,
    pub enable_env_substitution: bool,
    /// Whether clients are told that lists changed.
    pub enable_client_notifications: bool,
    /// Whether clients may come by the old HTTP+SSE transport.
    pub enable_sse: bool,
    pub(super) naming_parts: NamingParts,
    /// What was given, by key; the rest has its default.
    values: SortedMap<&'static str, Value>,
    origins: SortedMap<&'static str, Origin>,
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

    /// The value of a row as it would stand in a file; `null` when it has none.
    pub fn plain(&self, row: &Setting) -> serde_json::Value {
        match self.value(row) {
            None => serde_json::Value::Null,
            Some(Value::Switch(on)) => on.into(),
            Some(Value::Number(number)) => number.into(),
            Some(Value::List(list)) => list.into(),
            Some(Value::Text(text)) if matches!(row.kind, Kind::Table(_)) => {
                serde_json::from_str(&text).unwrap_or_default()
            }
            Some(Value::Text(text)) => text.into(),
        }
    }

    /// The switches of whole features by their names under `gateway.features`.
    pub fn features(&self) -> BTreeMap<&'static str, bool> {
        let named = |row: &'static Setting| {
            let mut keys = std::iter::once(row.key).chain(row.aliases.iter().copied());
            let name = keys.find_map(|key| key.strip_prefix("features."))?;
            let value = self.value(row)?;
            Some((name, value.on()))
        };
        ordered::map(SETTINGS.iter().filter_map(named))
    }

    fn value(&self, row: &Setting) -> Option<Value> {
        match self.values.get(row.key) {
            Some(value) => Some(value.clone()),
            None => row.default.and_then(|text| parse(row.kind, text).ok()),
        }
    }

    /// Keys whose values differ, wherever they come from.
    pub fn differing(&self, other: &Settings) -> Vec<&'static str> {
        let rows = SETTINGS.iter();
        rows.filter(|row| self.value(row) != other.value(row))
            .map(|row| row.key)
            .collect()
    }

    /// What the table fills; its defaults are not in yet.
    fn unset() -> Settings {
        Settings {
            host: String::new(),
            port: 0,
            filter: None,
            preset: None,
            log_level: LevelFilter::Info,
            log_format: LogFormat::Text,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            allow_unauthenticated: false,
            auth: AuthSettings::default(),
            tls: TlsSettings::default(),
            replicas: ReplicaSettings::default(),
            max_body_bytes: limits::BODY_BYTES,
            naming: Naming::default(),
            naming_parts: NamingParts::default(),
            tool_pins: Pinning::default(),
            strip_invisible: Invisible::default(),
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
            log_modules: Vec::new(),
            log_file: None,
            log_max_bytes: limits::LOG_FILE_BYTES,
            log_max_files: limits::LOG_FILES,
            log_arguments: false,
            server_log_dir: None,
            audit: AuditSettings::default(),
            enable_metrics: true,
            metrics_public: false,
            enable_traces: true,
            enable_otlp_metrics: true,
            otlp_endpoint: None,
            otlp_headers: Vec::new(),
            otlp_interval: limits::OTLP_INTERVAL,
            trace_percent: 100,
            enable_alerts: true,
            alerts: None,
            discovery: None,
            secrets: SecretSettings::default(),
            enable_env_substitution: true,
            enable_client_notifications: true,
            enable_sse: true,
            values: SortedMap::new(),
            origins: SortedMap::new(),
        }
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
        let mut settings = Settings::unset();
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
    given: SortedMap<&'static str, String>,
}

impl Flags {
    pub fn set(&mut self, flag: &'static str, value: String) {
        self.given.insert(flag, value);
    }

    pub fn get(&self, flag: &str) -> Option<&str> {
        self.given.get(flag).map(String::as_str)
    }
}

/// A value from the file, not checked yet.
struct FromFile {
    text: String,
    path: String,
    place: Place,
}

/// The values under `gateway`, by key of SETTINGS; of several files the first one wins.
#[derive(Default)]
pub struct FileValues {
    values: SortedMap<&'static str, Vec<FromFile>>,
}

impl FileValues {
    /// These, and behind them those of a file that counts less.
    pub fn over(mut self, lower: FileValues) -> FileValues {
        for (key, values) in lower.values {
            self.values.get_or_insert_with(key, Vec::new).extend(values);
        }
        self
    }
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
        if let Some(earlier) = out.values.get(row.key).and_then(|all| all.first()) {
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
            out.values.insert(row.key, vec![value]);
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
        Kind::Size(..) if node.value.as_number_lit().is_some() => {
            let number = node.count(notes, 0, u64::MAX)?;
            Some(number.to_string())
        }
        Kind::Levels if node.value.as_object().is_some() => {
            let members = node.members(notes)?;
            let items = members.iter().filter_map(|member| {
                let level = member.node.text(notes)?;
                Some(format!("{}={level}", member.name))
            });
            Some(items.collect::<Vec<_>>().join(","))
        }
        Kind::Headers if node.value.as_object().is_some() => Some(node.plain(notes).to_string()),
        Kind::Table(reader) => {
            reader(node, notes);
            let plain = node.plain(notes);
            notes.first_error().is_none().then(|| plain.to_string())
        }
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
    let from_file = first_of_files(row, file, problems);
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

/// The value of the first file that has one; whoever says something else is told that it loses.
fn first_of_files(
    row: &'static Setting,
    file: &FileValues,
    problems: &mut Vec<Problem>,
) -> Option<(Value, Origin)> {
    let mut first: Option<(Value, Origin)> = None;
    for given in file.values.get(row.key).into_iter().flatten() {
        let (scope, place) = (Scope::Setting(row.key), Some(given.place.clone()));
        let path = given.path.clone();
        let Some(value) = checked(row, &given.text, scope.clone(), path, place, problems) else {
            continue;
        };
        match &first {
            None => first = Some((value, Origin::File(given.place.clone()))),
            Some((known, _)) if *known == value => {}
            Some((_, winner)) => problems.push(Problem {
                severity: Severity::Warning,
                scope,
                place: Some(given.place.clone()),
                key_path: given.path.clone(),
                message: format!("has no effect: {winner} says otherwise and wins"),
                remedy: "remove one of the two".into(),
            }),
        }
    }
    first
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
    // Never what was written: a password may stand in it, and problems are told to third parties.
    let message = match (row.kind, Url::parse(text.trim())) {
        (Kind::Url, Err(error)) => error.to_string(),
        _ => "the value cannot be used".to_owned(),
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
        .chain([key::VARIABLE])
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
