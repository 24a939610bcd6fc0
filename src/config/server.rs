//! One server: its entry merged with the defaults, expanded, and turned into what the
//! upstream side needs. A bad entry becomes `Invalid` and keeps its place and its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::secret::{Secret, is_secret_name};
use crate::base::{limits, mask};
use crate::config::Environment;
use crate::config::child::inherited;
use crate::config::document::{Member, Notes, Spot};
use crate::config::entry::{Entry, Env, EnvItem, Written, read};
use crate::config::expand::{Expanded, Wanted, expand};
use crate::config::lookups::Lookups;
use crate::config::oauth::OauthItem;
use crate::config::problem::{Problem, Scope};
use crate::config::remote::{RemoteKind, RemoteSpec, remote};
use crate::model::backoff::RestartPolicy;
use crate::model::pin::Pinning;
use crate::model::visible_text::Invisible;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    pub name: String,
    /// Lower case, without repetition, in the order of the file.
    pub tags: Vec<String>,
    pub state: ServerState,
    /// A usable server has exactly one of the two; one that is `Invalid` has none, and so has
    /// a disabled one that could not start.
    pub process: Option<ProcessSpec>,
    pub remote: Option<RemoteSpec>,
    pub connection_timeout: Duration,
    pub request_timeout: Duration,
    pub disabled_tools: BTreeSet<String>,
    /// Replaces the server's own instructions; empty suppresses them.
    pub instruction_override: Option<String>,
    pub tool_description_overrides: BTreeMap<String, String>,
    /// `None`: as the gateway says.
    pub tool_pins: Option<Pinning>,
    pub strip_invisible: Option<Invisible>,
    pub instances: Instances,
    /// Instances beside the shared one.
    pub max_instances: usize,
    /// How long an instance is kept that nobody uses.
    pub instance_idle: Duration,
    /// The gateway is not ready without it.
    pub required: bool,
    /// Clients whose tokens do not reach it may know that it is there, and how it is reached.
    pub discoverable: bool,
    /// Names of servers that start before it.
    pub depends_on: Vec<String>,
    pub restart: RestartPolicy,
    /// Names of the secrets that its values were made with.
    pub secrets: BTreeSet<String>,
    /// It is `Invalid` only because a secret or a file is not there now.
    pub is_lacking: bool,
}

impl ServerConfig {
    /// One process for everybody, and for the rest the defaults.
    pub fn shared(name: &str, process: ProcessSpec) -> ServerConfig {
        ServerConfig {
            name: name.to_owned(),
            tags: Vec::new(),
            state: ServerState::Enabled,
            process: Some(process),
            remote: None,
            connection_timeout: limits::HANDSHAKE_DEADLINE,
            request_timeout: limits::CALL_DEADLINE,
            disabled_tools: BTreeSet::new(),
            instruction_override: None,
            tool_description_overrides: BTreeMap::new(),
            tool_pins: None,
            strip_invisible: None,
            instances: Instances::Shared,
            max_instances: limits::INSTANCES_PER_POOL,
            instance_idle: limits::INSTANCE_IDLE,
            required: false,
            discoverable: false,
            depends_on: Vec::new(),
            restart: RestartPolicy::default(),
            secrets: BTreeSet::new(),
            is_lacking: false,
        }
    }
}

impl ServerConfig {
    /// For a configuration that is judged in another folder than it will lie in.
    pub fn move_paths(&mut self, from: &Path, to: &Path) {
        let move_path = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(from) {
                *path = to.join(rest);
            }
        };
        if let Some(path) = self.process.as_mut().and_then(|spec| spec.cwd.as_mut()) {
            move_path(path);
        }
        if let Some(path) = self.remote.as_mut().and_then(|spec| spec.ca_file.as_mut()) {
            move_path(path);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerState {
    Enabled,
    Disabled,
    /// Shown as failed, with this reason.
    Invalid(String),
}

/// Who shares one instance of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Instances {
    /// Everybody, until the server asks its client something.
    #[default]
    Auto,
    Shared,
    Session,
    Principal,
}

impl Instances {
    /// True when each session has its own from its first call on.
    pub fn is_per_session(self) -> bool {
        self == Instances::Session
    }
}

/// How to start a child: its whole environment, nothing to be interpreted by a shell.
#[derive(Clone, PartialEq, Eq)]
pub struct ProcessSpec {
    pub program: String,
    pub args: Vec<String>,
    /// Complete: the child gets these variables and no others.
    pub env: Vec<(String, Secret)>,
    pub cwd: Option<PathBuf>,
}

impl fmt::Debug for ProcessSpec {
    /// Arguments may hold expanded secrets as well as the environment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ProcessSpec")
            .field("program", &self.program)
            .field("args", &format_args!("[{}]", self.args.len()))
            .field("env", &names)
            .field("cwd", &self.cwd)
            .finish()
    }
}

/// What all servers of a file share.
pub struct Surroundings<'s, 'd> {
    pub defaults: &'s Entry<'d>,
    /// What a process may inherit.
    pub environment: &'s Environment,
    pub lookups: &'s Lookups<'s>,
    /// False when every text means itself.
    pub expands: bool,
    /// Tags are scopes: with authentication.
    pub has_scopes: bool,
    /// The folder of the configuration file; relative `cwd` start there.
    pub folder: &'s Path,
}

/// A server, and the places of the names it depends on.
pub struct Read<'d> {
    pub server: ServerConfig,
    /// What its templates read.
    pub files: BTreeSet<PathBuf>,
    pub depends_on: Vec<Written<'d>>,
}

/// Reads one member of `mcpServers`. `None` when even its name cannot be used.
pub fn read_server<'d>(
    member: &Member<'d>,
    around: &Surroundings<'_, 'd>,
    problems: &mut Vec<Problem>,
) -> Option<Read<'d>> {
    let mut notes = Notes::new(Scope::Server(member.name.to_owned()));
    if !name_fits(member, &mut notes) {
        problems.append(&mut notes.problems);
        return None;
    }
    let entry = read(&member.node, &mut notes);
    for spot in entry.odd_tags.iter().filter(|_| around.has_scopes) {
        let remedy = "use at most 64 of A-Z, a-z, 0-9, _ and -; until then only tag:* opens by it";
        spot.warn(&mut notes, "the tag cannot be named by a scope", remedy);
    }
    let means = means(&entry, member, around, &mut notes);
    if entry.disabled {
        notes.soften();
    }
    let state = match (entry.disabled, notes.first_error()) {
        (true, _) => ServerState::Disabled,
        (false, Some(problem)) => ServerState::Invalid(problem.reason()),
        (false, None) => ServerState::Enabled,
    };
    let is_invalid = matches!(state, ServerState::Invalid(_));
    let is_lacking = is_invalid && notes.only_lacks();
    let means = means.filter(|_| !is_invalid);
    problems.append(&mut notes.problems);
    let depends_on = entry.depends_on.clone();
    let used = around.lookups.take_used();
    let mut server = assemble(member.name, entry, around.defaults, state);
    server.secrets = used.secrets;
    server.is_lacking = is_lacking;
    match means {
        Some(Means::Process(spec)) => server.process = Some(spec),
        Some(Means::Remote(spec)) => server.remote = Some(*spec),
        None => {}
    }
    Some(Read {
        server,
        files: used.files,
        depends_on,
    })
}

fn assemble(
    name: &str,
    entry: Entry<'_>,
    defaults: &Entry<'_>,
    state: ServerState,
) -> ServerConfig {
    let either = entry.timeout_ms.or(defaults.timeout_ms);
    let timeout = |own: Option<u64>, default: Option<u64>, otherwise: Duration| {
        // The entry's own fallback is nearer than the default of the exact key.
        own.or(entry.timeout_ms)
            .or(default)
            .or(either)
            .map_or(otherwise, Duration::from_millis)
    };
    let connection_timeout = timeout(
        entry.connection_timeout_ms,
        defaults.connection_timeout_ms,
        limits::HANDSHAKE_DEADLINE,
    );
    let request_timeout = timeout(
        entry.request_timeout_ms,
        defaults.request_timeout_ms,
        limits::CALL_DEADLINE,
    );
    let instances = match principals_differ(&entry, defaults) {
        // Who differs at the server stands alone there.
        true => Instances::Principal,
        false => entry.instances.unwrap_or_default(),
    };
    let most = match instances {
        Instances::Session => limits::INSTANCES_PER_SERVER,
        _ => limits::INSTANCES_PER_POOL,
    };
    let max_instances = entry
        .max_instances
        .map_or(most, |count| usize::try_from(count).unwrap_or(most));
    let instance_idle = entry
        .instance_idle_timeout_ms
        .map_or(limits::INSTANCE_IDLE, Duration::from_millis);
    let nothing = Entry::default();
    // Of 1MCP these defaults are for processes; a connection that is lost is made again.
    let restart_defaults = match entry.command.is_empty() {
        true => &nothing,
        false => defaults,
    };
    let restart = restart_policy(&entry, restart_defaults);
    ServerConfig {
        name: name.to_owned(),
        tags: entry.tags,
        state,
        process: None,
        remote: None,
        connection_timeout,
        request_timeout,
        disabled_tools: entry.disabled_tools,
        instruction_override: entry.instruction_override,
        tool_description_overrides: entry.tool_description_overrides,
        tool_pins: entry.tool_pins,
        strip_invisible: entry.strip_invisible,
        instances,
        max_instances,
        instance_idle,
        required: entry.required,
        discoverable: entry.discoverable,
        depends_on: entry.depends_on.iter().map(|one| one.text.into()).collect(),
        restart,
        secrets: BTreeSet::new(),
        is_lacking: false,
    }
}

/// Whether each principal is somebody else at the server.
fn principals_differ(entry: &Entry<'_>, defaults: &Entry<'_>) -> bool {
    let item = entry.oauth.as_ref().or(defaults.oauth.as_ref());
    entry.url.is_some() && item.is_some_and(OauthItem::is_per_principal)
}

/// A delay of nothing would make a server that cannot start busy all the time.
fn restart_policy(entry: &Entry<'_>, defaults: &Entry<'_>) -> RestartPolicy {
    let max = entry.max_restarts.or(defaults.max_restarts);
    let delay_ms = entry.restart_delay_ms.or(defaults.restart_delay_ms);
    RestartPolicy {
        on_exit: entry
            .restart_on_exit
            .or(defaults.restart_on_exit)
            .unwrap_or(RestartPolicy::default().on_exit),
        max: max.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        delay: delay_ms.map(|ms| Duration::from_millis(ms).max(limits::RESTART_LEAST)),
    }
}

fn name_fits(member: &Member<'_>, notes: &mut Notes) -> bool {
    let name = member.name;
    if name.trim().is_empty() {
        member
            .spot
            .error(notes, "the server has no name", "give it one");
        return false;
    }
    if name.len() > limits::SERVER_NAME_BYTES {
        let remedy = format!("at most {} bytes are allowed", limits::SERVER_NAME_BYTES);
        member
            .spot
            .error(notes, "the server's name is too long", remedy);
        return false;
    }
    if name.contains(char::is_control) {
        member.spot.error(
            notes,
            "the server's name has control characters",
            "remove them",
        );
        return false;
    }
    true
}

/// How a server is reached.
enum Means {
    Process(ProcessSpec),
    Remote(Box<RemoteSpec>),
}

/// What the entry says about it, or a note that says why that is nothing.
fn means<'d>(
    entry: &Entry<'d>,
    member: &Member<'d>,
    around: &Surroundings<'_, 'd>,
    notes: &mut Notes,
) -> Option<Means> {
    match way(entry, member, notes)? {
        Way::Process => {
            for spot in &entry.remote_only {
                let message = "has no effect on a server with a command";
                spot.warn(notes, message, "remove it, or write \"type\": \"http\"");
            }
            Some(Means::Process(process(entry, member, around, notes)))
        }
        Way::Remote(kind, url) => {
            let command = entry.command.first().map(|word| &word.spot);
            for spot in command.into_iter().chain(&entry.process_only) {
                spot.warn(notes, "has no effect on a server with a url", "remove it");
            }
            let spec = remote(kind, url, entry, around, notes);
            spec.map(|spec| Means::Remote(Box::new(spec)))
        }
    }
}

enum Way<'e, 'd> {
    Process,
    Remote(RemoteKind, &'e Written<'d>),
}

/// A type decides; without one a command comes before a url.
fn way<'e, 'd>(
    entry: &'e Entry<'d>,
    member: &Member<'d>,
    notes: &mut Notes,
) -> Option<Way<'e, 'd>> {
    let kind = match entry.kind.as_ref() {
        None if entry.command.is_empty() && entry.url.is_some() => RemoteKind::Auto,
        None => return has_command(entry, member, notes).then_some(Way::Process),
        Some(word) => match word.text {
            "stdio" => return has_command(entry, member, notes).then_some(Way::Process),
            "http" => RemoteKind::Auto,
            "streamableHttp" | "streamable-http" | "streamable_http" => RemoteKind::Streamable,
            "sse" => RemoteKind::Sse,
            _ => {
                let remedy = "write stdio, http, streamableHttp or sse, or remove it";
                word.spot.error(notes, "is no known type", remedy);
                return None;
            }
        },
    };
    if entry.url.is_none() && notes.first_error().is_none() {
        let remedy = "add \"url\": \"https://mcp.example.com/mcp\"";
        member.spot.error(notes, "has no url", remedy);
    }
    entry.url.as_ref().map(|url| Way::Remote(kind, url))
}

fn has_command(entry: &Entry<'_>, member: &Member<'_>, notes: &mut Notes) -> bool {
    if entry.command.is_empty() && notes.first_error().is_none() {
        let (message, remedy) = match entry.kind {
            Some(_) => ("has no command", "add \"command\": \"program\""),
            None => (
                "has neither a command nor a url",
                "add \"command\": \"program\" or \"url\": \"https://...\"",
            ),
        };
        member.spot.error(notes, message, remedy);
    }
    !entry.command.is_empty()
}

fn process<'d>(
    entry: &Entry<'d>,
    member: &Member<'d>,
    around: &Surroundings<'_, 'd>,
    notes: &mut Notes,
) -> ProcessSpec {
    let own = own_environment(entry, around, notes);
    let mut words = Vec::new();
    for word in entry.command.iter().chain(&entry.args) {
        words.push(around.substitute(word, false, &own, notes));
    }
    let cwd = entry.cwd.as_ref().map(|word| {
        let text = around.substitute(word, false, &own, notes);
        around.folder.join(text)
    });
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    if program.trim().is_empty() && notes.first_error().is_none() {
        member
            .spot
            .error(notes, "the command is empty", "name a program");
    }
    let env = whole_environment(entry, own, around);
    ProcessSpec {
        program,
        args: words.collect(),
        env,
        cwd,
    }
}

/// The `env` of the defaults and of the entry, expanded in their order.
fn own_environment<'d>(
    entry: &Entry<'d>,
    around: &Surroundings<'_, 'd>,
    notes: &mut Notes,
) -> Vec<(String, String)> {
    let mut own: Vec<(String, String)> = Vec::new();
    for item in merged_env(around.defaults.env.as_ref(), entry.env.as_ref()) {
        let value = match item.value {
            Some(text) => {
                let spot = item.spot.clone();
                let word = Written { text, spot };
                Some(around.substitute(&word, true, &own, notes))
            }
            None => around.lookups.variable(item.name),
        };
        match value {
            Some(value) => own.push((item.name.to_owned(), value)),
            None => {
                let message = format!("{} is not set and cannot be copied", item.name);
                item.spot
                    .warn(notes, message, "set it, or write NAME=value");
            }
        }
    }
    own
}

/// Two objects are merged key by key and the entry wins; any other form replaces.
fn merged_env<'d>(defaults: Option<&Env<'d>>, own: Option<&Env<'d>>) -> Vec<EnvItem<'d>> {
    let (defaults, own) = match (defaults, own) {
        (None, None) => return Vec::new(),
        (Some(only), None) | (None, Some(only)) => return only.items.clone(),
        (Some(defaults), Some(own)) => (defaults, own),
    };
    if !(defaults.is_object && own.is_object) {
        return own.items.clone();
    }
    let given = |name: &str| own.items.iter().any(|item| item.name == name);
    let kept = defaults.items.iter().filter(|item| !given(item.name));
    kept.chain(&own.items).cloned().collect()
}

fn find(own: &[(String, String)], name: &str) -> Option<String> {
    own.iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.clone())
}

/// Inherited variables first, then the entry's own, which win.
fn whole_environment(
    entry: &Entry<'_>,
    own: Vec<(String, String)>,
    around: &Surroundings<'_, '_>,
) -> Vec<(String, Secret)> {
    let everything = entry
        .inherit_parent_env
        .or(around.defaults.inherit_parent_env);
    let mut filter = around.defaults.env_filter.clone();
    filter.extend(entry.env_filter.iter().cloned());
    let mut all = inherited(around.environment, everything.unwrap_or(false), &filter);
    all.extend(own);
    for (name, value) in &all {
        if is_secret_name(name) {
            mask::learn(value);
        }
    }
    all.into_iter()
        .map(|(name, value)| (name, Secret::new(value)))
        .collect()
}

impl Surroundings<'_, '_> {
    /// Expands one string and notes what could not be done; `own` variables come before all
    /// others. `private` values are not quoted, not even the name behind a bare `$`, which may
    /// be a part of a password.
    pub fn substitute(
        &self,
        word: &Written<'_>,
        private: bool,
        own: &[(String, String)],
        notes: &mut Notes,
    ) -> String {
        if !self.expands {
            return word.text.to_owned();
        }
        let lookup = |wanted: Wanted<'_>| match wanted {
            Wanted::Variable(name) => match find(own, name) {
                Some(value) => Ok(value),
                None => self.lookups.find(wanted),
            },
            _ => self.lookups.find(wanted),
        };
        note_expanded(expand(word.text, &lookup), &word.spot, private, notes)
    }
}

/// The text of what was expanded; what could not be done is noted.
pub fn note_expanded(
    expanded: Expanded,
    spot: &Spot<'_>,
    private: bool,
    notes: &mut Notes,
) -> String {
    for failure in &expanded.failures {
        spot.error(notes, failure.message(), failure.remedy());
        if failure.is_lack() {
            notes.count_lack();
        }
    }
    for name in &expanded.kept {
        let message = match private {
            true => "\"$\" before a name that is not set stays as it is".to_owned(),
            false => format!("${name} is not set and stays as it is"),
        };
        spot.warn(notes, message, "write ${NAME} to insist on a variable");
    }
    if expanded.text.contains('\0') {
        spot.error(
            notes,
            "contains a NUL character after expansion",
            "change the variable",
        );
    }
    expanded.text
}
