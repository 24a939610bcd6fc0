//! What the gateway says about itself. Bodies, status values and headers are those that users
//! of 1MCP know; what they say is true at every moment: loading is not failing, and a server is
//! "connected" only after its handshake and lists worked.
//!
//! Here are `/health` and the probes; `health_mcp` is about the servers one by one. Everything
//! is computed when it is asked for, from one world, and waits for nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::base::{memory, time};
use crate::config::settings::{HealthInfoLevel, Transport};
use crate::front::endpoints::Endpoint;
use crate::front::health_mcp::{self, Supervision};
use crate::front::redacted::redacted;
use crate::front::roll::{self, Seen};
use crate::front::standing::{Configured, SourceStanding};
use crate::front::tally::{Tally, missing};
use crate::http::{Head, Peer, Reply, Trusted};
use crate::model::catalog::Clash;
use crate::relay::world::{Hub, World};
use crate::upstream::server::State;

pub struct Health {
    pub hub: Arc<Hub>,
    pub started: Instant,
    /// RFC 3339.
    pub started_at: String,
    pub draining: Arc<AtomicBool>,
    pub configured: Arc<Configured>,
}

/// How much one caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Full,
    Basic,
    Minimal,
}

#[derive(Serialize)]
struct Body {
    status: &'static str,
    timestamp: String,
    version: &'static str,
    system: System,
    servers: Servers,
    configuration: Configuration,
}

#[derive(Serialize)]
struct System {
    uptime: u64,
    memory: Memory,
    process: Process,
}

/// Megabytes that this process takes, and may take.
#[derive(Serialize, Default)]
struct Memory {
    used: f64,
    total: f64,
    percentage: f64,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Process {
    pid: u32,
    /// Readers of 1MCP's body expect the member; there is no Node here.
    node_version: &'static str,
    platform: &'static str,
    arch: &'static str,
}

#[derive(Serialize)]
struct Servers {
    total: usize,
    healthy: usize,
    unhealthy: usize,
    loading: usize,
    details: Vec<ServerDetail>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerDetail {
    name: String,
    status: &'static str,
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_connected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lists: Option<String>,
    /// Tools that are not as they were pinned, and what nobody sees in entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    definitions: Option<String>,
    /// The server that it needs first.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
    tags: Vec<String>,
    required: bool,
    restarts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    noise_lines: u64,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    loaded: bool,
    server_count: usize,
    enabled_count: usize,
    disabled_count: usize,
    auth_enabled: bool,
    transport: &'static str,
    #[serde(flatten)]
    standing: Option<Standing>,
}

/// Beyond what 1MCP tells: how the configuration stands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    name_clashes: Vec<String>,
    version: u64,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reload: Option<LastReload>,
    needs_restart: Vec<String>,
    switched: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_store: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    discovery: Vec<SourceStanding>,
    features: BTreeMap<&'static str, bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LastReload {
    at: String,
    ok: bool,
    problem_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness<'a> {
    status: &'static str,
    timestamp: String,
    /// `draining`, `starting` or `servers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<Missing<'a>>>,
    configuration: Configuration,
    backend_supervision: Supervision,
}

/// A server that `/health/ready` waits for.
#[derive(Serialize)]
struct Missing<'a> {
    name: &'a str,
    state: &'static str,
}

impl Health {
    /// The answer of one health path; 404 for every other one.
    pub fn answer(&self, endpoint: &Endpoint, detail: Detail) -> Reply {
        match endpoint {
            Endpoint::Health => self.whole(detail),
            Endpoint::HealthLive => live(),
            Endpoint::HealthReady => self.ready(detail),
            Endpoint::HealthStartup => self.startup(),
            Endpoint::HealthMcp => health_mcp::all(&self.hub.world(), &self.started_at, detail),
            Endpoint::HealthServer(name) => health_mcp::one(&self.hub.world(), name, detail),
            Endpoint::Mcp(_)
            | Endpoint::Sse
            | Endpoint::Messages
            | Endpoint::Metrics
            | Endpoint::ClientDocument(_)
            | Endpoint::Oauth(_) => not_found(),
        }
    }

    /// Whether the sender of `head` is a program on this machine, as far as it can be seen.
    pub fn is_local(&self, head: &Head<'_>, peer: &Peer) -> bool {
        let settings = self.hub.world().fixed.settings.clone();
        let client = Trusted::new(&settings.trust_proxy).client(peer.address, head);
        client.is_local && head.host.is_loopback() && head.header("Origin").is_none()
    }

    /// How much the sender of `head` is told. `known_host`: its Host names us.
    pub fn detail_for(&self, head: &Head<'_>, peer: &Peer, known_host: bool) -> Detail {
        let settings = self.hub.world().fixed.settings.clone();
        let is_local = || self.is_local(head, peer);
        // A name may have been bound to our address by anybody, an address can't be.
        let named = known_host || head.host.is_address();
        match settings.health_info_level {
            _ if !named => Detail::Minimal,
            HealthInfoLevel::Full => Detail::Full,
            HealthInfoLevel::Basic => Detail::Basic,
            HealthInfoLevel::Minimal => Detail::Minimal,
            HealthInfoLevel::Auto if is_local() => Detail::Full,
            HealthInfoLevel::Auto => Detail::Minimal,
        }
    }

    /// `/health`.
    fn whole(&self, detail: Detail) -> Reply {
        let world = self.hub.world();
        let roll = roll::call(&world);
        let tally = roll::tally(&roll);
        let verdict = tally.verdict(!self.is_draining());
        let uptime = self.started.elapsed().as_secs();
        let body = Body {
            status: verdict.as_str(),
            timestamp: time::now_rfc3339(),
            version: env!("CARGO_PKG_VERSION"),
            system: System {
                uptime,
                memory: memory_of(detail),
                process: process_of(detail),
            },
            servers: Servers {
                total: tally.total(),
                healthy: tally.ready,
                unhealthy: tally.broken() + tally.awaiting_oauth,
                loading: tally.coming(),
                details: match detail {
                    Detail::Minimal => Vec::new(),
                    Detail::Basic | Detail::Full => roll
                        .iter()
                        .map(|seen| server_detail(seen, detail))
                        .collect(),
                },
            },
            configuration: self.configuration(&world, &tally, detail),
        };
        json(verdict.code(), &body)
            .with("X-Health-Status", verdict.as_str())
            .with("X-Service-Version", env!("CARGO_PKG_VERSION"))
            .with("X-Uptime-Seconds", uptime.to_string())
    }

    /// The verdict of `/health` in a word.
    pub fn verdict(&self) -> &'static str {
        let world = self.hub.world();
        let tally = roll::tally(&roll::call(&world));
        tally.verdict(!self.is_draining()).as_str()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// `/health/ready`: clients are answered, and the servers that the policy names are ready.
    fn ready(&self, detail: Detail) -> Reply {
        let world = self.hub.world();
        let roll = roll::call(&world);
        let servers: Vec<(bool, State)> = roll
            .iter()
            .map(|seen| (seen.entry.required, seen.status.state))
            .collect();
        let settings = &world.fixed.settings;
        let waits_for = missing(settings.ready_policy, &servers);
        let reason = match () {
            () if self.is_draining() => Some("draining"),
            () if self.hub.holds_clients() => Some("starting"),
            () if !waits_for.is_empty() => Some("servers"),
            () => None,
        };
        let tell = |at: &usize| Missing {
            name: roll[*at].name(),
            state: roll[*at].status.state.as_str(),
        };
        let missing = waits_for.iter().map(tell).collect();
        let is_ready = reason.is_none();
        let body = Readiness {
            status: if is_ready { "ready" } else { "not_ready" },
            timestamp: time::now_rfc3339(),
            reason,
            missing: (detail != Detail::Minimal && !is_ready).then_some(missing),
            configuration: self.configuration(&world, &roll::tally(&roll), detail),
            backend_supervision: Supervision::of(&roll, detail),
        };
        json(if is_ready { 200 } else { 503 }, &body)
    }

    /// `/health/startup`: the start is over, whatever came after. Nothing waits for the servers
    /// of a gateway that loads them asynchronously.
    fn startup(&self) -> Reply {
        match self.hub.holds_clients() {
            false => probe(200, "started"),
            true => probe(503, "starting"),
        }
    }

    fn configuration(&self, world: &World, tally: &Tally, detail: Detail) -> Configuration {
        // Without a configuration there is no gateway, and one in force stays when another is bad.
        let loaded = true;
        if detail == Detail::Minimal {
            return Configuration {
                loaded,
                transport: "http",
                ..Default::default()
            };
        }
        let enabled = tally.total();
        Configuration {
            loaded,
            server_count: enabled + tally.disabled,
            enabled_count: enabled,
            disabled_count: tally.disabled,
            auth_enabled: world.fixed.settings.auth.enabled,
            transport: match world.fixed.settings.transport {
                Transport::Http => "http",
                Transport::Stdio => "stdio",
            },
            standing: Some(self.standing(world, detail)),
        }
    }

    fn standing(&self, world: &World, detail: Detail) -> Standing {
        let standing = self.configured.standing();
        let last_reload = standing.last_attempt.map(|attempt| LastReload {
            at: attempt.at,
            ok: attempt.ok,
            problem_count: attempt.problems.len(),
            problems: (detail == Detail::Full).then(|| {
                let problems = attempt.problems.iter();
                problems.map(|problem| redacted(problem, [])).collect()
            }),
        });
        Standing {
            name_clashes: clash_lines(world),
            version: standing.version,
            since: standing.since,
            last_reload,
            needs_restart: standing.needs_restart,
            switched: standing.switched,
            shared_store: standing.shared_store,
            discovery: sources(standing.discovery, detail),
            features: world.fixed.settings.features(),
        }
    }
}

/// Names of what was found, and why it is not taken, are for who sees everything.
fn sources(mut sources: Vec<SourceStanding>, detail: Detail) -> Vec<SourceStanding> {
    for source in &mut sources {
        let SourceStanding { error, refused, .. } = source;
        if detail == Detail::Full {
            let texts = error.iter_mut().chain(refused.iter_mut());
            texts.for_each(|text| *text = redacted(text, []));
        } else {
            *error = None;
            refused.clear();
        }
    }
    sources
}

/// `/health/live`: the process turns. Says nothing about servers.
fn live() -> Reply {
    probe(200, "alive")
}

fn clash_lines(world: &World) -> Vec<String> {
    let name = |index: usize| world.servers()[index].name();
    let line = |clash: &Clash| {
        format!(
            "{}: {} keeps it, {} is refused",
            clash.public,
            name(clash.kept),
            name(clash.refused)
        )
    };
    world.catalog.clashes.iter().map(line).collect()
}

fn probe(code: u16, status: &str) -> Reply {
    let now = time::now_rfc3339();
    uncached(Reply::json(
        code,
        format!("{{\"status\":\"{status}\",\"timestamp\":\"{now}\"}}"),
    ))
}

/// An answer that nobody keeps.
pub(crate) fn json(code: u16, body: &impl Serialize) -> Reply {
    // A body of plain fields always serialises.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    uncached(Reply::json(code, bytes))
}

fn uncached(reply: Reply) -> Reply {
    reply.with("Cache-Control", "no-cache, no-store, must-revalidate")
}

fn not_found() -> Reply {
    Reply::json(404, "{\"error\":\"Not found\"}")
}

fn server_detail(seen: &Seen<'_>, detail: Detail) -> ServerDetail {
    let link = seen.server.shared_link();
    let noise = link.as_ref().map(|link| &link.counters.noise_lines);
    ServerDetail {
        name: seen.name().to_owned(),
        status: seen.word(),
        healthy: seen.status.state == State::Ready,
        last_connected: seen.status.last_connected.clone(),
        last_error: seen.last_error(),
        lists: seen.lists(),
        definitions: seen.remark.map(str::to_owned),
        waiting_for: seen.status.waiting_for.clone(),
        tags: seen.entry.tags.clone(),
        required: seen.entry.required,
        restarts: seen.status.restarts,
        pid: seen.status.pid.filter(|_| detail == Detail::Full),
        noise_lines: noise.map_or(0, |count| count.get()),
    }
}

fn process_of(detail: Detail) -> Process {
    match detail {
        Detail::Minimal | Detail::Basic => Process::default(),
        Detail::Full => Process {
            pid: std::process::id(),
            node_version: "",
            platform: std::env::consts::OS,
            arch: std::env::consts::ARCH,
        },
    }
}

fn memory_of(detail: Detail) -> Memory {
    let decimals = match detail {
        Detail::Minimal => return Memory::default(),
        Detail::Basic => 1.0,
        Detail::Full => 100.0,
    };
    let memory = memory::now();
    let (resident, limit) = (memory.resident as f64, memory.limit as f64);
    let mib = |bytes: f64| (bytes / 1024.0 / 1024.0 * decimals).round() / decimals;
    let share = if limit > 0.0 { resident / limit } else { 0.0 };
    Memory {
        used: mib(resident),
        total: mib(limit),
        percentage: (share * 10_000.0).round() / 100.0,
    }
}
