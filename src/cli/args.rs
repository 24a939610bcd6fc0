//! The command line as data: which command, which operands, which flags. Values of settings
//! are checked with the configuration, because the same rules hold for all their origins.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};

use crate::base::limits;
use crate::config::document::parse_switch;
use crate::config::foreign::{FOREIGN, LIFECYCLE_FLAGS};
use crate::config::near::nearest;
use crate::config::settings::{Flags, Kind, SETTINGS};

#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    pub command: Command,
    pub flags: Flags,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Serve,
    Demo,
    DemoServer(DemoKind),
    Config(ConfigCommand),
    List {
        server: Option<String>,
        client: ClientFlags,
    },
    /// `SERVER/TOOL`; a server's name may hold slashes, so it is not split here.
    Call {
        target: String,
        arguments: Arguments,
        client: ClientFlags,
    },
    Proxy(ProxyFlags),
    Health(HealthFlags),
    Login {
        asked: LoginFlags,
        control: ControlFlags,
    },
    Control {
        verb: Verb,
        control: ControlFlags,
    },
    Secret(SecretFlags),
    /// Prints the hash of a password.
    Password,
    Key(KeyFlags),
    Alerts(AlertsVerb),
    Audit(AuditFlags),
    Help(Topic),
    Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoKind {
    Clock,
    Notes,
}

/// What is asked of the files; without a file, of those that `serve` would use.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfigCommand {
    Check {
        file: Option<PathBuf>,
        json: bool,
    },
    Show {
        file: Option<PathBuf>,
        origin: bool,
        json: bool,
    },
    Schema,
    Diff {
        file: PathBuf,
        json: bool,
    },
    Import {
        client: Client,
        how: ImportFlags,
    },
}

/// The programs whose servers can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Claude,
    Cursor,
    VsCode,
    OneMcp,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct ImportFlags {
    /// A file, or a folder that is searched.
    pub from: Option<PathBuf>,
    pub write: bool,
    pub show_secrets: bool,
}

impl ImportFlags {
    /// The name of one that was given.
    fn first(&self) -> Option<&'static str> {
        let flags = [
            ("from", self.from.is_some()),
            ("write", self.write),
            ("show-secrets", self.show_secrets),
        ];
        let given = flags.iter().find(|(_, given)| *given);
        given.map(|(flag, _)| *flag)
    }
}

/// How `list` and `call` reach their servers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientFlags {
    /// Of a running gateway; without it the servers of the file are started.
    pub url: Option<String>,
    /// Certificates that are trusted instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// `NAME:VALUE`, with templates.
    pub headers: Vec<String>,
    pub timeout: Option<Duration>,
}

/// What is asked of a running gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    Status {
        watch: bool,
    },
    Servers,
    /// `None` waits for every server.
    Wait(Option<String>),
    Logs {
        server: String,
        follow: bool,
    },
    Restart(String),
    Enable(String),
    Disable(String),
    Reload,
    Drain,
    Auth(AuthVerb),
    /// How tools differ from their pins; `None` asks for every server.
    PinsDiff(Option<String>),
    /// `None` approves all of every server, no tools approve all of one.
    PinsApprove {
        server: Option<String>,
        tools: Vec<String>,
    },
}

/// What is asked about who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthVerb {
    /// `None` shows who waits.
    Approve(Option<String>),
    Clients,
    Tokens,
    /// A grant, a client, or `all`.
    Revoke(String),
}

/// What is done with the gateway's login at a server.
#[derive(Debug, PartialEq, Eq)]
pub struct LoginFlags {
    pub verb: LoginVerb,
    /// `None`: of all servers.
    pub server: Option<String>,
    pub principal: Option<String>,
    pub catch: Catch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginVerb {
    Login,
    Logout,
    Status,
}

/// Who catches the browser when it comes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Catch {
    /// The gateway, or else the command.
    #[default]
    Auto,
    Loopback,
    Paste,
}

/// What is asked of the sinks and rules of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertsVerb {
    List,
    /// `None` is every sink.
    Test(Option<String>),
}

/// Which gateway, and how it is spoken of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ControlFlags {
    pub socket: Option<PathBuf>,
    pub json: bool,
    pub timeout: Option<Duration>,
}

/// Where a proxy carries the messages of its client.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProxyFlags {
    pub url: String,
    pub ca_file: Option<PathBuf>,
    /// As given: `NAME:VALUE`, with variables in the value.
    pub headers: Vec<String>,
    pub timeout: Option<Duration>,
    /// A parameter for the query, and its value.
    pub filter: Option<(&'static str, String)>,
}

/// What a running gateway is asked, and where it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HealthFlags {
    pub probe: Probe,
    pub socket: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub timeout: Option<Duration>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub enum Probe {
    #[default]
    Whole,
    Live,
    Ready,
    Startup,
    Server(String),
}

/// What is done with the sealed file.
#[derive(Debug, PartialEq, Eq)]
pub struct SecretFlags {
    pub verb: SecretVerb,
    pub json: bool,
    pub new_key_file: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum SecretVerb {
    Set(String),
    Get(String),
    List,
    Remove(String),
    /// Another key for the file.
    Rotate,
    /// A new key, to stdout or into this file.
    Key(Option<PathBuf>),
}

/// What is done with API keys.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyFlags {
    pub verb: KeyVerb,
    pub json: bool,
    /// As given, separated by spaces.
    pub scopes: Option<String>,
    pub expires: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum KeyVerb {
    /// A name for it.
    Create(String),
    List,
    /// By its name or its id.
    Revoke(String),
}

/// Where the arguments of a call come from.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Arguments {
    #[default]
    None,
    /// Valid JSON, an object.
    Json(String),
    File(PathBuf),
    Stdin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Main,
    Demo,
    Config,
    List,
    Call,
    Proxy,
    Health,
    Control,
    Secret,
    Key,
    Alerts,
    Auth,
    Audit,
}

/// A command line that cannot be carried out.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> UsageError {
        UsageError(error.to_string())
    }
}

/// What `audit verify` is told. Without files, those of the settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AuditFlags {
    pub files: Vec<PathBuf>,
    pub public_key: Option<String>,
    /// The code of a line that was seen elsewhere.
    pub head: Option<String>,
    pub partial: bool,
    pub open: bool,
    pub mixed: bool,
    pub json: bool,
}

/// Of `audit`.
pub const AUDIT_FLAGS: &[(&str, &str, &str)] = &[
    (
        "public-key",
        "HEX",
        "Judge by the signatures of checkpoints alone, without the secret",
    ),
    (
        "head",
        "CODE",
        "A line with this \"mac\" must be there: it was seen elsewhere",
    ),
    ("partial", "", "The first line need not be the first of all"),
    (
        "open",
        "",
        "The gateway may still be writing: the end need not be signed",
    ),
    (
        "mixed",
        "",
        "Lines of others may stand between, as on stdout: they are skipped",
    ),
    ("json", "", "One JSON object per line"),
];

/// Flags of `list` and `call`: name, placeholder, help.
const HEADER_FLAG: (&str, &str, &str) = (
    "header",
    "NAME:VALUE",
    "Goes with every request, such as Authorization; ${VAR} is filled in from the \
     environment; may be given several times",
);

pub const CLIENT_FLAGS: &[(&str, &str, &str)] = &[
    (
        "url",
        "URL",
        "A running gateway; without it the servers of the file are started",
    ),
    (
        "ca-file",
        "PATH",
        "Certificates (PEM) to trust instead of the built-in ones",
    ),
    HEADER_FLAG,
    (
        "timeout",
        "MS",
        "Give up after so long in all (exit code 75); without it the time limits of \
         the servers count, and 610000 with --url",
    ),
];
/// Of `call` alone.
pub const CALL_FLAGS: &[(&str, &str, &str)] = &[(
    "args",
    "JSON|@FILE|-",
    "The tool's arguments: an object, a file that holds one, or stdin",
)];

/// Of `proxy`.
pub const PROXY_FLAGS: &[(&str, &str, &str)] = &[
    ("url", "URL", "The MCP endpoint; a bare origin means /mcp"),
    (
        "ca-file",
        "PATH",
        "Certificates (PEM) to trust instead of the built-in ones",
    ),
    HEADER_FLAG,
    (
        "timeout",
        "MS",
        "Give up on one request after so long (default 610000)",
    ),
    ("tags", "LIST", "See only servers with one of these tags"),
    ("tag-filter", "EXPR", "See only servers that match"),
    (
        "preset",
        "NAME",
        "See only what this preset of the gateway shows",
    ),
];

/// Of `health`; a flag without placeholder is a switch.
pub const HEALTH_FLAGS: &[(&str, &str, &str)] = &[
    (
        "ready",
        "",
        "Whether it serves clients, as --ready-policy says",
    ),
    ("live", "", "Whether it runs, whatever its servers do"),
    ("startup", "", "Whether its start is over"),
    (
        "socket",
        "PATH",
        "Its health socket; without it the one that belongs to --port, or else \
         HTTP to that port",
    ),
    (
        "ca-file",
        "PATH",
        "Certificates (PEM) to trust if that port speaks TLS; without it tls-cert itself",
    ),
    (
        "timeout",
        "MS",
        "Give up after so long (exit code 75; default 5000)",
    ),
];

/// Of the commands that see and steer a running gateway.
pub const CONTROL_FLAGS: &[(&str, &str, &str)] = &[
    (
        "socket",
        "PATH",
        "The control socket of the gateway; without it that of --port, or of the only gateway \
         that runs",
    ),
    ("json", "", "Objects also on a terminal"),
    ("watch", "", "status: go on and show what changes"),
    ("all", "", "pins approve: every server"),
    (
        "follow",
        "",
        "logs: go on and show what is new; also -f, after the command",
    ),
    (
        "timeout",
        "MS",
        "Give up after so long (exit code 75); also 30s, 5m (default: 30s, and none for --watch, \
         --follow and drain)",
    ),
];

/// Of `auth login`, `auth logout` and `auth status`.
pub const LOGIN_FLAGS: &[(&str, &str, &str)] = &[
    (
        "principal",
        "NAME",
        "login and logout: of this principal, where each is somebody else at the server",
    ),
    (
        "loopback",
        "",
        "login: catch the browser on a port of this machine, not at the gateway",
    ),
    (
        "paste",
        "",
        "login: read from stdin the URL at which the browser ended",
    ),
];

/// Of `secret`.
pub const SECRET_FLAGS: &[(&str, &str, &str)] = &[
    ("json", "", "list: one JSON object per line"),
    (
        "new-key-file",
        "FILE",
        "rotate: let the key in this file open the sealed file, too",
    ),
];

/// Of `key`.
pub const KEY_FLAGS: &[(&str, &str, &str)] = &[
    (
        "scopes",
        "SCOPES",
        "create: what it opens, such as \"tag:web read\" (tag:*: everything)",
    ),
    (
        "expires",
        "TIME",
        "create: it is good for so long, such as 90d or 12h; without it for ever",
    ),
    ("json", "", "list: one JSON object per line"),
];

/// Of the commands that begin with `config`.
pub const CONFIG_FLAGS: &[(&str, &str, &str)] = &[
    ("origin", "", "show: say where each value comes from"),
    (
        "json",
        "",
        "check, show and diff: one JSON object per line, and nothing for people",
    ),
    (
        "from",
        "PATH",
        "import: this file, or the files in this folder, instead of the usual places",
    ),
    (
        "write",
        "",
        "import: write the file; what was there is kept beside it with the ending .bak",
    ),
    (
        "show-secrets",
        "",
        "import: print values of env and headers, keys and passwords, too",
    ),
];

/// The words of these commands.
const CONTROL: &[&str] = &[
    "status", "servers", "wait", "logs", "restart", "enable", "disable", "reload", "drain", "pins",
];

/// The first words of a command line.
pub const COMMANDS: &[&str] = &[
    "serve", "demo", "config", "validate", "list", "call", "proxy", "status", "servers", "wait",
    "logs", "restart", "enable", "disable", "reload", "drain", "pins", "health", "alerts", "audit",
    "secret", "key", "auth", "help", "version",
];

/// Commands of 1MCP that are called otherwise here.
const RENAMED: &[(&str, &str)] = &[("run", "call"), ("inspect", "list"), ("start", "serve")];

/// What was seen so far.
#[derive(Default)]
struct Seen {
    words: Vec<String>,
    flags: Flags,
    url: Option<String>,
    ca_file: Option<PathBuf>,
    timeout: Option<Duration>,
    args: Option<String>,
    headers: Vec<String>,
    filters: Vec<(&'static str, String)>,
    socket: Option<PathBuf>,
    probes: Vec<&'static str>,
    new_key_file: Option<PathBuf>,
    audit: AuditFlags,
    scopes: Option<String>,
    expires: Option<Duration>,
    json: bool,
    all: bool,
    watch: bool,
    follow: bool,
    origin: bool,
    import: ImportFlags,
    principal: Option<String>,
    catch: Option<(&'static str, Catch)>,
    help: bool,
    version: bool,
}

/// Parses the words after the program's name.
pub fn parse<I>(words: I) -> Result<Invocation, UsageError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = Parser::from_args(words);
    let mut seen = Seen::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Value(word) => seen.words.push(unicode(word)?),
            Arg::Short('h') => seen.help = true,
            Arg::Short('V') => seen.version = true,
            Arg::Short(short) => read_short(&mut seen, &mut parser, short)?,
            Arg::Long(name) => {
                let name = name.to_owned();
                read_long(&mut seen, &mut parser, &name)?;
            }
        }
    }
    let command = command(&mut seen)?;
    Ok(Invocation {
        command,
        flags: seen.flags,
    })
}

fn unicode(word: OsString) -> Result<String, UsageError> {
    word.into_string()
        .map_err(|word| UsageError(format!("{word:?} is not UTF-8")))
}

fn read_short(seen: &mut Seen, parser: &mut Parser, short: char) -> Result<(), UsageError> {
    if short == 'f' && seen.words.first().is_some_and(|word| word == "logs") {
        seen.follow = true;
        return Ok(());
    }
    let own = SETTINGS
        .iter()
        .find(|row| row.short == Some(short))
        .map(|row| row.flag);
    let foreign = FOREIGN
        .iter()
        .find(|row| row.short == Some(short))
        .map(|row| row.flag);
    match own.or(foreign) {
        Some(flag) => read_long(seen, parser, flag),
        None => Err(UsageError(format!(
            "unknown flag -{short}; see onemcp --help"
        ))),
    }
}

fn read_long(seen: &mut Seen, parser: &mut Parser, name: &str) -> Result<(), UsageError> {
    match name {
        "help" => seen.help = true,
        "version" => seen.version = true,
        "url" => seen.url = Some(unicode(parser.value()?)?),
        "ca-file" => seen.ca_file = Some(PathBuf::from(parser.value()?)),
        "args" => seen.args = Some(unicode(parser.value()?)?),
        "header" if seen.headers.len() >= limits::PROXY_HEADERS => {
            let most = limits::PROXY_HEADERS;
            return Err(UsageError(format!(
                "--header is given more than {most} times"
            )));
        }
        "header" => seen.headers.push(unicode(parser.value()?)?),
        "tags" => seen.filters.push(("tags", unicode(parser.value()?)?)),
        "tag-filter" => seen.filters.push(("tag-filter", unicode(parser.value()?)?)),
        "preset" => seen.filters.push(("preset", unicode(parser.value()?)?)),
        "socket" => seen.socket = Some(PathBuf::from(parser.value()?)),
        "new-key-file" => seen.new_key_file = Some(PathBuf::from(parser.value()?)),
        "public-key" => seen.audit.public_key = Some(unicode(parser.value()?)?),
        "head" => seen.audit.head = Some(unicode(parser.value()?)?),
        "partial" => seen.audit.partial = true,
        "open" => seen.audit.open = true,
        "mixed" => seen.audit.mixed = true,
        "principal" => seen.principal = Some(unicode(parser.value()?)?),
        "loopback" => seen.catch = Some(("loopback", Catch::Loopback)),
        "paste" => seen.catch = Some(("paste", Catch::Paste)),
        "scopes" => seen.scopes = Some(unicode(parser.value()?)?),
        "expires" => seen.expires = Some(life(&unicode(parser.value()?)?)?),
        "live" => seen.probes.push("live"),
        "ready" => seen.probes.push("ready"),
        "startup" => seen.probes.push("startup"),
        "json" => seen.json = true,
        "all" => seen.all = true,
        "watch" => seen.watch = true,
        "follow" => seen.follow = true,
        "origin" => seen.origin = true,
        "from" => seen.import.from = Some(PathBuf::from(parser.value()?)),
        "write" => seen.import.write = true,
        "show-secrets" => seen.import.show_secrets = true,
        "timeout" => seen.timeout = Some(timeout(&unicode(parser.value()?)?)?),
        _ if LIFECYCLE_FLAGS.contains(&name) => {
            let remedy = match name {
                "stop" => "write onemcp drain",
                "status" => "write onemcp status",
                _ => "it would start a gateway here; use your service manager",
            };
            return Err(UsageError(format!(
                "--{name} of 1MCP is not carried out: {remedy}"
            )));
        }
        _ => return read_setting(seen, parser, name),
    }
    Ok(())
}

/// A flag of SETTINGS, or one of 1MCP that is known and not carried out.
fn read_setting(seen: &mut Seen, parser: &mut Parser, name: &str) -> Result<(), UsageError> {
    if let Some((flag, is_switch)) = find(name) {
        let value = if is_switch {
            switch(parser, flag)?
        } else {
            unicode(parser.value()?)?
        };
        seen.flags.set(flag, value);
        return Ok(());
    }
    let negated = name.strip_prefix("no-").and_then(find);
    let Some((flag, is_switch)) = negated else {
        return Err(unknown_flag(name));
    };
    if !is_switch {
        return Err(UsageError(format!(
            "--{name} makes no sense; --{flag} takes a value"
        )));
    }
    if parser.optional_value().is_some() {
        return Err(UsageError(format!(
            "--{name} takes no value; write --{flag}=true or =false"
        )));
    }
    seen.flags.set(flag, "false".into());
    Ok(())
}

/// The flag as the tables spell it, and whether it is a switch.
fn find(name: &str) -> Option<(&'static str, bool)> {
    let own = SETTINGS.iter().find(|row| row.flag == name);
    let own = own.map(|row| (row.flag, matches!(row.kind, Kind::Switch)));
    let foreign = FOREIGN.iter().find(|row| row.flag == name);
    own.or_else(|| foreign.map(|row| (row.flag, !row.takes_value)))
}

/// `--x`, `--x=false`, or `--x false` as 1MCP takes it.
fn switch(parser: &mut Parser, flag: &str) -> Result<String, UsageError> {
    let value = match parser.optional_value() {
        Some(value) => Some(unicode(value)?),
        None => {
            let follows = |word: &std::ffi::OsStr| word == "true" || word == "false";
            let next = parser
                .try_raw_args()
                .and_then(|mut rest| rest.next_if(follows));
            next.map(unicode).transpose()?
        }
    };
    let Some(value) = value else {
        return Ok("true".into());
    };
    match parse_switch(&value) {
        Some(on) => Ok(on.to_string()),
        // Told with everything else that is wrong with settings.
        None if SETTINGS.iter().any(|row| row.flag == flag) => Ok(value),
        None => Err(UsageError(format!("--{flag} takes true or false"))),
    }
}

fn unknown_flag(name: &str) -> UsageError {
    let own = SETTINGS
        .iter()
        .map(|row| row.flag)
        .chain(["help", "version"]);
    let client = CLIENT_FLAGS
        .iter()
        .chain(CALL_FLAGS)
        .chain(PROXY_FLAGS)
        .chain(HEALTH_FLAGS)
        .chain(CONTROL_FLAGS)
        .chain(SECRET_FLAGS)
        .chain(LOGIN_FLAGS)
        .chain(KEY_FLAGS)
        .chain(CONFIG_FLAGS)
        .map(|(flag, _, _)| *flag);
    let foreign = FOREIGN.iter().map(|row| row.flag);
    match nearest(name, own.chain(client).chain(foreign)) {
        Some(flag) => UsageError(format!("unknown flag --{name}; did you mean --{flag}?")),
        None => UsageError(format!("unknown flag --{name}; see onemcp --help")),
    }
}

/// Milliseconds, or a number with `ms`, `s` or `m`.
fn timeout(text: &str) -> Result<Duration, UsageError> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let factor = match &text[digits.len()..] {
        "" | "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok();
    match number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
    {
        Some(ms) if (1..=limits::SETTING_MS).contains(&ms) => Ok(Duration::from_millis(ms)),
        _ => Err(UsageError(
            "--timeout takes milliseconds, such as 30000, or a time such as 30s".into(),
        )),
    }
}

/// A number with `h` or `d`.
fn life(text: &str) -> Result<Duration, UsageError> {
    let hours = match text.strip_suffix('d') {
        Some(days) => days
            .parse::<u64>()
            .ok()
            .and_then(|days| days.checked_mul(24)),
        None => text.strip_suffix('h').and_then(|hours| hours.parse().ok()),
    };
    match hours {
        Some(hours @ 1..=limits::API_KEY_HOURS) => Ok(Duration::from_secs(hours * 3600)),
        _ => Err(UsageError(
            "--expires takes hours or days, such as 12h or 90d".into(),
        )),
    }
}

/// Turns the words into a command and refuses the flags that it cannot use.
fn command(seen: &mut Seen) -> Result<Command, UsageError> {
    let words: Vec<&str> = seen.words.iter().map(String::as_str).collect();
    if words.first() == Some(&"help") {
        return Ok(Command::Help(topic(&words[1..])?));
    }
    if seen.help {
        return Ok(Command::Help(topic(&words)?));
    }
    if seen.version || words == ["version"] {
        return Ok(Command::Version);
    }
    check_places(seen)?;
    let words: Vec<&str> = seen.words.iter().map(String::as_str).collect();
    if words == ["proxy"] {
        return proxy(seen);
    }
    if words.first() == Some(&"health") {
        let name = words.get(1).map(|name| (*name).to_owned());
        return match words.len() {
            1 | 2 => health(seen, name),
            _ => Err(unknown_command("health", &words)),
        };
    }
    match words.first() {
        Some(word) if CONTROL.contains(word) => return control(seen),
        Some(&"secret") => return secret(seen),
        Some(&"auth") => return auth(seen),
        Some(&"audit") => return audit(seen),
        Some(&"key") => return key(seen),
        Some(&("config" | "validate")) => return config(seen),
        _ => {}
    }
    let client = ClientFlags {
        url: seen.url.take(),
        ca_file: seen.ca_file.take(),
        headers: match words.first() {
            Some(&("call" | "list")) => std::mem::take(&mut seen.headers),
            _ => Vec::new(),
        },
        timeout: seen.timeout.take(),
    };
    match words.as_slice() {
        [] | ["serve"] => Ok(Command::Serve),
        ["demo"] => Ok(Command::Demo),
        ["demo-server", kind] => demo_server(kind),
        ["demo-server"] => Err(UsageError(
            "demo-server needs a kind: clock or notes".into(),
        )),
        ["list"] => Ok(Command::List {
            server: None,
            client,
        }),
        ["list", server] => Ok(Command::List {
            server: Some((*server).to_owned()),
            client,
        }),
        ["call"] => Err(UsageError(
            "call needs SERVER/TOOL; see onemcp call --help".into(),
        )),
        ["alerts", "list"] => Ok(Command::Alerts(AlertsVerb::List)),
        ["alerts", "test"] => Ok(Command::Alerts(AlertsVerb::Test(None))),
        ["alerts", "test", sink] => Ok(Command::Alerts(AlertsVerb::Test(Some((*sink).to_owned())))),
        ["alerts"] => Err(UsageError(
            "alerts needs a command: onemcp alerts list, or onemcp alerts test [SINK]".into(),
        )),
        ["call", target] => call(target, seen.args.as_deref(), client),
        [name, ..] => Err(unknown_command(name, &words)),
    }
}

/// One of 1MCP, with a warning of its own; that of a proxy is the gateway's.
fn take_preset(seen: &mut Seen) {
    if seen.words.first().is_some_and(|word| word == "proxy") {
        return;
    }
    let preset = seen.filters.iter().position(|(name, _)| *name == "preset");
    if let Some((flag, value)) = preset.map(|at| seen.filters.remove(at)) {
        seen.flags.set(flag, value);
    }
}

/// Refuses flags of other commands.
fn check_places(seen: &mut Seen) -> Result<(), UsageError> {
    take_preset(seen);
    let command = seen.words.first().map(String::as_str);
    let is = |word: &str| command == Some(word);
    let (is_call, is_proxy, is_health) = (is("call"), is("proxy"), is("health"));
    let is_auth = is("auth");
    let is_control = is_auth || command.is_some_and(|word| CONTROL.contains(&word));
    let is_client = is_call || is_proxy || command == Some("list");
    let is_secret = matches!(command, Some("secret" | "key"));
    let is_audit = is("audit");
    let is_config = matches!(command, Some("config" | "validate"));
    let import = seen.import.first().unwrap_or_default();
    let second = seen.words.get(1).map(String::as_str);
    let is_second = |word: &str| is_config && second == Some(word);
    let probe = seen.probes.first().copied().unwrap_or_default();
    let filter = seen.filters.first().map_or("tags", |(name, _)| *name);
    let misplaced = [
        ("args", "call", seen.args.is_some() && !is_call),
        (
            "url",
            "list, call and proxy",
            seen.url.is_some() && !is_client,
        ),
        (
            "ca-file",
            "list, call, proxy and health",
            seen.ca_file.is_some() && !is_client && !is_health,
        ),
        (
            "timeout",
            "list, call, proxy, health and the commands for a running gateway",
            seen.timeout.is_some() && !is_client && !is_health && !is_control,
        ),
        (
            "socket",
            "health and the commands for a running gateway",
            seen.socket.is_some() && !is_health && !is_control,
        ),
        (probe, "health", !seen.probes.is_empty() && !is_health),
        (
            "json",
            "config, secret list, key list, audit and the commands for a running gateway",
            seen.json && !is_control && !is_secret && !is_config && !is_audit,
        ),
        ("origin", "config show", seen.origin && !is_second("show")),
        (
            import,
            "config import",
            !import.is_empty() && !is_second("import"),
        ),
        ("watch", "status", seen.watch && command != Some("status")),
        ("follow", "logs", seen.follow && command != Some("logs")),
        (
            "header",
            "list, call and proxy",
            !seen.headers.is_empty() && !is_proxy && !is_client,
        ),
        (filter, "proxy", !seen.filters.is_empty() && !is_proxy),
    ];
    let kept = keeper_places(seen);
    let misplaced = misplaced.iter().chain(&kept).find(|(_, _, wrong)| *wrong);
    misplaced.map_or(Ok(()), |(flag, owner, _)| {
        Err(UsageError(format!("--{flag} belongs to {owner}")))
    })
}

/// Flags of whoever keeps keys, pins, logins and the audit log, where they belong, and whether they
/// are
/// given elsewhere.
fn keeper_places(seen: &Seen) -> [(&'static str, &'static str, bool); 7] {
    let is = |word: &str| seen.words.first().is_some_and(|first| first == word);
    let is_login = is("auth") && seen.words.get(1).is_some_and(|verb| verb == "login");
    let has_new_key = seen.new_key_file.is_some();
    [
        ("principal", "auth", seen.principal.is_some() && !is("auth")),
        (
            seen.catch.map_or("paste", |(flag, _)| flag),
            "auth login",
            seen.catch.is_some() && !is_login,
        ),
        (
            "new-key-file",
            "secret rotate",
            has_new_key && !is("secret"),
        ),
        ("all", "pins approve", seen.all && !is("pins")),
        (
            "public-key, --head, --partial, --open and --mixed",
            "audit verify",
            seen.audit != AuditFlags::default() && !is("audit"),
        ),
        ("scopes", "key create", seen.scopes.is_some() && !is("key")),
        (
            "expires",
            "key create",
            seen.expires.is_some() && !is("key"),
        ),
    ]
}

fn audit(seen: &mut Seen) -> Result<Command, UsageError> {
    let mut asked = std::mem::take(&mut seen.audit);
    match seen.words.get(1).map(String::as_str) {
        Some("verify") => {
            asked.files = seen.words[2..].iter().map(PathBuf::from).collect();
            asked.json = seen.json;
            Ok(Command::Audit(asked))
        }
        _ => Err(UsageError("write onemcp audit verify [FILE ..]".into())),
    }
}

const CONFIG: &[&str] = &["check", "show", "schema", "diff", "import"];

fn config(seen: &mut Seen) -> Result<Command, UsageError> {
    let words: Vec<&str> = seen.words.iter().map(String::as_str).collect();
    let words = match words.as_slice() {
        ["validate", rest @ ..] => [&["check"], rest].concat(),
        [_, rest @ ..] => rest.to_vec(),
        [] => Vec::new(),
    };
    let json = seen.json;
    let path = |words: &[&str]| words.first().map(PathBuf::from);
    let command = match words.as_slice() {
        ["check" | "validate", file @ ..] if file.len() < 2 => {
            let file = path(file);
            ConfigCommand::Check { file, json }
        }
        ["show", file @ ..] if file.len() < 2 => ConfigCommand::Show {
            file: path(file),
            origin: seen.origin,
            json,
        },
        ["schema"] => ConfigCommand::Schema,
        ["diff", file] => {
            let file = PathBuf::from(file);
            ConfigCommand::Diff { file, json }
        }
        ["import", name] => ConfigCommand::Import {
            client: client_named(name)?,
            how: std::mem::take(&mut seen.import),
        },
        _ => return Err(unknown_config(&words)),
    };
    Ok(Command::Config(command))
}

fn client_named(name: &str) -> Result<Client, UsageError> {
    match name {
        "claude" | "claude-desktop" | "claude-code" => Ok(Client::Claude),
        "cursor" => Ok(Client::Cursor),
        "vscode" | "code" => Ok(Client::VsCode),
        "1mcp" => Ok(Client::OneMcp),
        _ => Err(UsageError(format!(
            "config import does not know \"{name}\"; write claude, cursor, vscode or 1mcp, and \
             for any other program --from FILE"
        ))),
    }
}

fn unknown_config(words: &[&str]) -> UsageError {
    let there_is = CONFIG.join(", ");
    UsageError(match words {
        [] => format!("config needs a command: {there_is}"),
        ["diff"] => "config diff needs the file or folder that would come: config diff FILE".into(),
        ["import"] => "config import needs claude, cursor, vscode or 1mcp".into(),
        [name, .., last] if CONFIG.contains(name) => {
            format!("config {name}: \"{last}\" is one word too many")
        }
        [name, ..] => match nearest(name, CONFIG.iter().copied()) {
            Some(near) => format!("unknown command \"config {name}\"; did you mean config {near}?"),
            None => format!("unknown command \"config {name}\"; there are {there_is}"),
        },
    })
}

fn proxy(seen: &mut Seen) -> Result<Command, UsageError> {
    let Some(url) = seen.url.take() else {
        let example = "onemcp proxy --url http://127.0.0.1:3050/mcp";
        return Err(UsageError(format!("proxy needs --url: {example}")));
    };
    if seen.filters.len() > 1 {
        let what = "proxy takes one of --tags, --tag-filter and --preset, once";
        return Err(UsageError(what.into()));
    }
    Ok(Command::Proxy(ProxyFlags {
        url,
        ca_file: seen.ca_file.take(),
        headers: std::mem::take(&mut seen.headers),
        timeout: seen.timeout.take(),
        filter: seen.filters.pop(),
    }))
}

fn health(seen: &mut Seen, server: Option<String>) -> Result<Command, UsageError> {
    let probe = match (seen.probes.as_slice(), server) {
        ([], None) => Probe::Whole,
        ([], Some(name)) => Probe::Server(name),
        (["live"], None) => Probe::Live,
        (["ready"], None) => Probe::Ready,
        (["startup"], None) => Probe::Startup,
        _ => {
            let what = "health takes one of --live, --ready, --startup and the name of a server";
            return Err(UsageError(what.into()));
        }
    };
    Ok(Command::Health(HealthFlags {
        probe,
        socket: seen.socket.take(),
        ca_file: seen.ca_file.take(),
        timeout: seen.timeout.take(),
    }))
}

fn control(seen: &mut Seen) -> Result<Command, UsageError> {
    let words: Vec<&str> = seen.words.iter().map(String::as_str).collect();
    let verb = match words.as_slice() {
        ["status"] => Verb::Status { watch: seen.watch },
        ["servers"] => Verb::Servers,
        ["wait"] => Verb::Wait(None),
        ["wait", server] => Verb::Wait(Some((*server).to_owned())),
        ["logs", server] => Verb::Logs {
            server: (*server).to_owned(),
            follow: seen.follow,
        },
        ["restart", server] => Verb::Restart((*server).to_owned()),
        ["enable", server] => Verb::Enable((*server).to_owned()),
        ["disable", server] => Verb::Disable((*server).to_owned()),
        ["reload"] => Verb::Reload,
        ["drain"] => Verb::Drain,
        ["pins", rest @ ..] => pins(rest, seen.all)?,
        [name @ ("logs" | "restart" | "enable" | "disable")] => {
            return Err(UsageError(format!("{name} needs the name of a server")));
        }
        _ => return Err(unknown_command(words[0], &words)),
    };
    Ok(Command::Control {
        verb,
        control: control_flags(seen),
    })
}

fn control_flags(seen: &mut Seen) -> ControlFlags {
    ControlFlags {
        socket: seen.socket.take(),
        json: seen.json,
        timeout: seen.timeout.take(),
    }
}

/// A word too many is not repeated: it may be a password.
fn auth(seen: &mut Seen) -> Result<Command, UsageError> {
    let words: Vec<&str> = seen.words.iter().skip(1).map(String::as_str).collect();
    let verb = match words.as_slice() {
        ["password"] => return Ok(Command::Password),
        ["approve"] => AuthVerb::Approve(None),
        ["approve", word] => AuthVerb::Approve(Some((*word).to_owned())),
        ["clients"] => AuthVerb::Clients,
        ["tokens"] => AuthVerb::Tokens,
        ["revoke", word] => AuthVerb::Revoke((*word).to_owned()),
        ["login" | "logout" | "status", ..] => return login(seen),
        ["password", ..] => {
            let what = "auth password takes no word: the password comes from stdin";
            return Err(UsageError(what.into()));
        }
        _ => {
            let what = "write onemcp auth password, approve [REQUEST], clients, tokens, revoke \
                        GRANT|CLIENT|all, login SERVER, logout SERVER or status [SERVER]";
            return Err(UsageError(what.into()));
        }
    };
    Ok(Command::Control {
        verb: Verb::Auth(verb),
        control: control_flags(seen),
    })
}

/// The gateway's logins at servers.
fn login(seen: &mut Seen) -> Result<Command, UsageError> {
    let words: Vec<&str> = seen.words.iter().skip(1).map(String::as_str).collect();
    let (verb, server) = match words.as_slice() {
        ["login", server] => (LoginVerb::Login, Some(*server)),
        ["logout", server] => (LoginVerb::Logout, Some(*server)),
        ["status"] => (LoginVerb::Status, None),
        ["status", server] => (LoginVerb::Status, Some(*server)),
        _ => {
            let what = "write onemcp auth login SERVER, logout SERVER or status [SERVER]";
            return Err(UsageError(what.into()));
        }
    };
    let asked = LoginFlags {
        verb,
        server: server.map(str::to_owned),
        principal: seen.principal.take(),
        catch: seen.catch.map(|(_, catch)| catch).unwrap_or_default(),
    };
    let control = control_flags(seen);
    Ok(Command::Login { asked, control })
}

fn pins(words: &[&str], all: bool) -> Result<Verb, UsageError> {
    let owned = |word: &&str| (*word).to_owned();
    match (words, all) {
        (["diff"], false) => Ok(Verb::PinsDiff(None)),
        (["diff", server], false) => Ok(Verb::PinsDiff(Some(owned(server)))),
        (["approve"], true) => Ok(Verb::PinsApprove {
            server: None,
            tools: Vec::new(),
        }),
        (["approve", server, tools @ ..], false) => Ok(Verb::PinsApprove {
            server: Some(owned(server)),
            tools: tools.iter().map(owned).collect(),
        }),
        _ => {
            let what = "write onemcp pins diff [SERVER], pins approve SERVER [TOOL...], \
                        or pins approve --all";
            Err(UsageError(what.into()))
        }
    }
}

/// A word too many is not repeated: it may be the value.
fn secret(seen: &mut Seen) -> Result<Command, UsageError> {
    let words: Vec<&str> = seen.words.iter().skip(1).map(String::as_str).collect();
    let owned = |name: &str| name.to_owned();
    let verb = match words.as_slice() {
        ["set", name] => SecretVerb::Set(owned(name)),
        ["get", name] => SecretVerb::Get(owned(name)),
        ["list"] => SecretVerb::List,
        ["rm", name] => SecretVerb::Remove(owned(name)),
        ["rotate"] => SecretVerb::Rotate,
        ["key"] => SecretVerb::Key(None),
        ["key", file] => SecretVerb::Key(Some(PathBuf::from(file))),
        ["set", ..] => {
            let what = "secret set takes a name; the value comes from stdin, never as a word";
            return Err(UsageError(what.into()));
        }
        _ => {
            let what = "write onemcp secret set|get|rm NAME, list, rotate or key [FILE]";
            return Err(UsageError(what.into()));
        }
    };
    if seen.new_key_file.is_some() && verb != SecretVerb::Rotate {
        return Err(UsageError("--new-key-file belongs to secret rotate".into()));
    }
    Ok(Command::Secret(SecretFlags {
        verb,
        json: seen.json,
        new_key_file: seen.new_key_file.take(),
    }))
}

fn key(seen: &mut Seen) -> Result<Command, UsageError> {
    let words: Vec<&str> = seen.words.iter().skip(1).map(String::as_str).collect();
    let verb = match words.as_slice() {
        ["create", name] => KeyVerb::Create((*name).to_owned()),
        ["list"] => KeyVerb::List,
        ["revoke", name] => KeyVerb::Revoke((*name).to_owned()),
        _ => {
            let what = "write onemcp key create NAME, list, or revoke NAME";
            return Err(UsageError(what.into()));
        }
    };
    let is_create = matches!(verb, KeyVerb::Create(_));
    if is_create != seen.scopes.is_some() {
        let what = match is_create {
            true => "key create needs --scopes, such as --scopes \"tag:web read\"",
            false => "--scopes belongs to key create",
        };
        return Err(UsageError(what.into()));
    }
    if seen.expires.is_some() && !is_create {
        return Err(UsageError("--expires belongs to key create".into()));
    }
    Ok(Command::Key(KeyFlags {
        verb,
        json: seen.json,
        scopes: seen.scopes.take(),
        expires: seen.expires,
    }))
}

fn unknown_command(name: &str, words: &[&str]) -> UsageError {
    if COMMANDS.contains(&name) || name == "demo-server" {
        let last = words.last().copied().unwrap_or_default();
        return UsageError(format!("{name}: \"{last}\" is one word too many"));
    }
    if let Some((_, own)) = RENAMED.iter().find(|(theirs, _)| *theirs == name) {
        return UsageError(format!(
            "unknown command \"{name}\"; here it is called {own}"
        ));
    }
    if name.ends_with(".json") {
        return UsageError(format!("unknown command \"{name}\"; write --config {name}"));
    }
    match nearest(name, COMMANDS.iter().copied()) {
        Some(near) => UsageError(format!("unknown command \"{name}\"; did you mean {near}?")),
        None => UsageError(format!("unknown command \"{name}\"; see onemcp --help")),
    }
}

fn topic(words: &[&str]) -> Result<Topic, UsageError> {
    match words {
        [] | ["serve" | "help" | "version", ..] => Ok(Topic::Main),
        ["demo" | "demo-server", ..] => Ok(Topic::Demo),
        ["config" | "validate", ..] => Ok(Topic::Config),
        ["list", ..] => Ok(Topic::List),
        ["call", ..] => Ok(Topic::Call),
        ["proxy", ..] => Ok(Topic::Proxy),
        ["health", ..] => Ok(Topic::Health),
        ["secret", ..] => Ok(Topic::Secret),
        ["key", ..] => Ok(Topic::Key),
        ["alerts", ..] => Ok(Topic::Alerts),
        ["auth", ..] => Ok(Topic::Auth),
        ["audit", ..] => Ok(Topic::Audit),
        [name, ..] if CONTROL.contains(name) => Ok(Topic::Control),
        [name, ..] => Err(unknown_command(name, words)),
    }
}

fn demo_server(kind: &str) -> Result<Command, UsageError> {
    match kind {
        "clock" => Ok(Command::DemoServer(DemoKind::Clock)),
        "notes" => Ok(Command::DemoServer(DemoKind::Notes)),
        _ => Err(UsageError(format!(
            "unknown demo server \"{kind}\"; write clock or notes"
        ))),
    }
}

fn call(target: &str, args: Option<&str>, client: ClientFlags) -> Result<Command, UsageError> {
    let two_names = target
        .rsplit_once('/')
        .is_some_and(|(server, tool)| !server.is_empty() && !tool.is_empty());
    if !two_names {
        return Err(UsageError(format!("\"{target}\" is not SERVER/TOOL")));
    }
    let arguments = match args {
        None => Arguments::None,
        Some("-") => Arguments::Stdin,
        Some(text) => match text.strip_prefix('@') {
            Some("") => return Err(UsageError("--args @FILE needs the name of a file".into())),
            Some(file) => Arguments::File(PathBuf::from(file)),
            None => Arguments::Json(object(text)?),
        },
    };
    Ok(Command::Call {
        target: target.to_owned(),
        arguments,
        client,
    })
}

/// The text itself is kept, so that numbers and key order reach the tool as written.
pub fn object(text: &str) -> Result<String, UsageError> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            Err(UsageError(format!("--args is not a JSON object ({place})")))
        }
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
