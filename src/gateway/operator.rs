//! What an operator may see and do: the one place behind the control socket. It holds no thread
//! and no state of its own; what it shows is taken from the world at that moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crossbeam_channel::Sender;
use serde::{Serialize, Serializer};

use crate::auth::Auth;
use crate::base::exit::{EXIT_CONFIGURATION, EXIT_FALSE};
use crate::base::{limits, time};
use crate::config::near::nearest;
use crate::front::health::Health;
use crate::front::roll::Seen;
use crate::front::sessions::Sessions;
use crate::front::standing::{Configured, SourceStanding};
use crate::gateway::ending::{EndWhy, Ending};
use crate::gateway::fleet::Fleet;
use crate::gateway::pins::Pins;
use crate::gateway::reload::{Reload, Report};
use crate::mcp::list::ListKind;
use crate::relay::world::{Hub, World};
use crate::upstream::event::Event;
use crate::upstream::server::{Server, State};

pub struct Operator {
    pub hub: Arc<Hub>,
    pub health: Arc<Health>,
    pub sessions: Arc<Sessions>,
    pub started: SystemTime,
    /// Where clients on this machine connect to, if they do.
    pub url: Option<String>,
    pub fleet: Arc<Fleet>,
    pub pins: Arc<Pins>,
    pub events: Sender<Event>,
    pub reload: Arc<Reload>,
    pub configured: Arc<Configured>,
    pub ending: Arc<Ending>,
    /// Whom to ask who may come in.
    pub auth: Option<Arc<Auth>>,
}

/// Why something is not done. The code is the exit code of the command that asked for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: u8,
    pub error: String,
}

impl Refused {
    pub fn new(code: u8, error: impl Into<String>) -> Refused {
        Refused {
            code,
            error: error.into(),
        }
    }
}

/// One server, as a line of `status`. Times are moments, so that a line changes only when
/// something has happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerLine {
    pub kind: &'static str,
    pub name: String,
    /// Place in the configuration.
    pub position: usize,
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<&'static str>,
    pub tags: Vec<String>,
    pub required: bool,
    pub tools: usize,
    pub prompts: usize,
    /// Templates included.
    pub resources: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    pub processes: usize,
    pub calls: usize,
    pub restarts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "moment")]
    pub retry_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is wrong with its lists although it is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<String>,
    /// Tools that are not as they were pinned, and what nobody sees in entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definitions: Option<String>,
}

/// The gateway itself, as a line of `status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayLine {
    pub kind: &'static str,
    pub status: &'static str,
    pub version: &'static str,
    pub pid: u32,
    pub started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Enabled ones.
    pub servers: usize,
    pub ready: usize,
    pub sessions: usize,
    pub calls: usize,
    /// Clients are held until servers have settled.
    pub starting: bool,
    pub draining: bool,
    pub config: ConfigLine,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigLine {
    /// Counts the configurations that were in force.
    pub version: u64,
    pub since: String,
    /// How the last attempt to take another one went.
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Settings that changed in the file and wait for a restart of the gateway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
    /// Servers that were switched on or off by hand, against what the files say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub switched: Vec<String>,
    /// Where servers are looked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovery: Vec<SourceStanding>,
}

fn moment<S: Serializer>(at: &Option<Instant>, serializer: S) -> Result<S::Ok, S::Error> {
    let left = at.map(|at| at.saturating_duration_since(Instant::now()));
    let at = SystemTime::now() + left.unwrap_or_default();
    serializer.serialize_str(&time::rfc3339(at))
}

/// How far the wait for servers is.
#[derive(Debug, PartialEq, Eq)]
pub enum Readiness {
    /// So many are ready.
    Ready(usize),
    /// Of so many in all, these are on their way: name and state.
    Waiting(usize, Vec<(String, &'static str)>),
    /// These will not be ready soon.
    Failed(Vec<String>),
}

impl Operator {
    /// Every server in the order of the configuration.
    pub fn servers(&self) -> Vec<ServerLine> {
        let world = self.hub.world();
        let coming = Coming::of(&self.fleet);
        let servers = world.servers().iter().enumerate();
        servers
            .map(|(position, server)| server_line(&world, position, coming.shown(server)))
            .collect()
    }

    /// The gateway around these servers.
    pub fn gateway(&self, servers: &[ServerLine]) -> GatewayLine {
        let enabled = servers
            .iter()
            .filter(|server| server.state != State::Disabled.as_str());
        let (total, ready) = enabled.fold((0, 0), |(total, ready), server| {
            let is_ready = server.state == State::Ready.as_str();
            (total + 1, ready + usize::from(is_ready))
        });
        GatewayLine {
            kind: "gateway",
            status: self.health.verdict(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started_at: time::rfc3339(self.started),
            url: self.url.clone(),
            servers: total,
            ready,
            sessions: self.sessions.len(),
            calls: servers.iter().map(|server| server.calls).sum(),
            starting: self.hub.holds_clients(),
            draining: self.health.is_draining(),
            config: self.config(),
        }
    }

    fn config(&self) -> ConfigLine {
        let standing = self.configured.standing();
        let (at, ok, problems) = match standing.last_attempt {
            Some(attempt) => (Some(attempt.at), attempt.ok, attempt.problems),
            None => (None, true, Vec::new()),
        };
        ConfigLine {
            version: standing.version,
            since: standing.since,
            ok,
            at,
            problems,
            needs_restart: standing.needs_restart,
            switched: standing.switched,
            discovery: standing.discovery,
        }
    }

    /// By its name, or by the form its name takes in tool names.
    ///
    /// # Errors
    /// When there is none.
    pub fn server(&self, name: &str) -> Result<Arc<Server>, Refused> {
        let world = self.hub.world();
        if let Some(position) = world.position_named(name) {
            return Ok(world.servers()[position].clone());
        }
        let known = world.servers().iter().map(|server| server.name());
        let hint = match nearest(name, known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "onemcp servers shows those that there are".to_owned(),
        };
        let error = format!("unknown server {name:?}; {hint}");
        Err(Refused::new(EXIT_FALSE, error))
    }

    /// Ends the process of a server and starts it again, whatever happened to it before.
    ///
    /// # Errors
    /// When it has none, because it is disabled or its entry is wrong.
    pub fn restart(&self, server: &Arc<Server>) -> Result<(), Refused> {
        let refused = |why| Refused::new(EXIT_FALSE, format!("{:?} {why}", server.name()));
        server.restart().map_err(refused)
    }

    /// Starts or ends a server by hand.
    ///
    /// # Errors
    /// When there is no such server, or its entry cannot be used.
    pub fn set_enabled(&self, name: &str, enabled: bool) -> Result<Report, Refused> {
        let name = self.server(name)?.name().to_owned();
        let deadline = Instant::now() + limits::CONTROL_CHANGE;
        let outcome = self.reload.set_enabled(&name, enabled, deadline);
        outcome.map_err(|problems| Refused::new(EXIT_FALSE, problems.join("\n")))
    }

    /// Takes what the files say now into force.
    ///
    /// # Errors
    /// What is wrong with them; nothing has changed then.
    pub fn reload(&self) -> Result<Report, Refused> {
        let outcome = self.reload.reload(Instant::now() + limits::CONTROL_CHANGE);
        outcome.map_err(|problems| Refused::new(EXIT_CONFIGURATION, problems.join("\n")))
    }

    /// Asks the gateway to end.
    pub fn drain(&self) {
        self.ending.ask(EndWhy::Drain);
    }

    /// How far one server is, or all that are enabled.
    ///
    /// # Errors
    /// When there is no such server.
    pub fn readiness(&self, name: Option<&str>) -> Result<Readiness, Refused> {
        let world = self.hub.world();
        let coming = Coming::of(&self.fleet);
        let only = name.map(|name| self.server(name)).transpose()?;
        let wanted = |server: &Arc<Server>| match &only {
            Some(only) => only.id.slot == server.id.slot,
            None => coming.instead(server).is_enabled(),
        };
        let servers = world.servers().iter().enumerate();
        let servers: Vec<_> = servers.filter(|(_, server)| wanted(server)).collect();
        let (mut waiting, mut failed) = (Vec::new(), Vec::new());
        for (position, server) in &servers {
            let instead = coming.instead(server);
            let serves = instead.id == server.id && world.offers[*position].is_some();
            let seen = Seen::at(&world, *position, instead);
            match seen.status.state {
                State::Ready if serves => {}
                State::Ready | State::Pending | State::Loading | State::Restarting => {
                    waiting.push((server.name().to_owned(), seen.status.state.as_str()));
                }
                state => {
                    let cause = seen.last_error();
                    let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
                    failed.push(format!("{:?} {}{cause}", server.name(), phrase(state)));
                }
            }
        }
        Ok(match (failed.is_empty(), waiting.is_empty()) {
            (false, _) => Readiness::Failed(failed),
            (true, false) => Readiness::Waiting(servers.len(), waiting),
            (true, true) => Readiness::Ready(servers.len()),
        })
    }
}

/// The newest handle of each server: one that serves, or is to take the place of one that does.
struct Coming(HashMap<usize, Arc<Server>>);

impl Coming {
    fn of(fleet: &Fleet) -> Coming {
        let handles = fleet.handles().into_iter();
        // The later ones replace the earlier.
        Coming(handles.map(|server| (server.id.slot, server)).collect())
    }

    /// What serves as `server`, or is about to.
    fn instead<'s>(&'s self, server: &'s Arc<Server>) -> &'s Arc<Server> {
        let newest = self.0.get(&server.id.slot);
        // One that never came to serve may be on its way out.
        let newest = newest.filter(|newest| newest.status().state != State::Stopped);
        newest.unwrap_or(server)
    }

    /// What there is to see: who serves well is seen until the other one is there.
    fn shown<'s>(&'s self, server: &'s Arc<Server>) -> &'s Arc<Server> {
        match server.status().state {
            State::Ready => server,
            _ => self.instead(server),
        }
    }
}

/// A state that does not become better soon, as the end of a sentence.
fn phrase(state: State) -> &'static str {
    match state {
        State::Failed => "has failed",
        State::CrashLoop => "keeps dying",
        State::AwaitingOauth => "waits for authorisation",
        State::Stopped => "is stopped",
        State::Disabled => "is disabled",
        State::Ready => "is ready",
        State::Pending | State::Loading | State::Restarting => "is on its way",
    }
}

fn server_line(world: &World, position: usize, server: &Server) -> ServerLine {
    let seen = Seen::at(world, position, server);
    let (error, lists) = (seen.last_error(), seen.lists());
    let definitions = seen.remark.map(str::to_owned);
    let Seen { entry, status, .. } = seen;
    let count = |kind| world.catalog.count(kind, position);
    let config = &server.config;
    let transport = match (&config.process, &config.remote) {
        (Some(_), _) => Some("stdio"),
        (None, Some(_)) => Some("http"),
        (None, None) => None,
    };
    ServerLine {
        kind: "server",
        name: server.name().to_owned(),
        position,
        state: status.state.as_str(),
        transport,
        tags: entry.tags.clone(),
        required: entry.required,
        tools: count(ListKind::Tools),
        prompts: count(ListKind::Prompts),
        resources: count(ListKind::Resources) + count(ListKind::Templates),
        pid: status.pid,
        processes: server.processes(),
        calls: server.calls(),
        restarts: status.restarts,
        connected_at: status.last_connected,
        retry_at: status.retry_at,
        error,
        lists,
        definitions,
    }
}
