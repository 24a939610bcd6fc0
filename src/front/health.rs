//! What the gateway says about itself. Bodies, status values and headers are those that users
//! of 1MCP know; what they say is true at every moment: loading is not failing, and a server is
//! "connected" only after its handshake and lists worked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::base::time;
use crate::config::settings::HealthInfoLevel;
use crate::front::standing::{Configured, Standing};
use crate::http::{Head, Peer, Reply};
use crate::model::catalog::Clash;
use crate::relay::world::{Hub, World};
use crate::upstream::server::{Server, State, Status};

pub struct Health {
    pub hub: Arc<Hub>,
    pub started: Instant,
    pub level: HealthInfoLevel,
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

/// Megabytes of this process, and what the machine or container allows.
#[derive(Serialize, Default)]
struct Memory {
    used: f64,
    total: f64,
    percentage: f64,
}

#[derive(Serialize, Default)]
struct Process {
    pid: u32,
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
    tags: Vec<String>,
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
    name_clashes: Vec<String>,
    #[serde(flatten)]
    standing: Option<Standing>,
}

/// The counts behind the verdict. Only enabled servers count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    total: usize,
    ready: usize,
    loading: usize,
    failed: usize,
}

impl Counts {
    fn of(servers: &[(&Arc<Server>, Status)]) -> Counts {
        let mut counts = Counts::default();
        for (_, status) in servers
            .iter()
            .filter(|(_, status)| status.state != State::Disabled)
        {
            counts.total += 1;
            match status.state {
                State::Ready => counts.ready += 1,
                State::Pending | State::Loading => counts.loading += 1,
                _ => counts.failed += 1,
            }
        }
        counts
    }

    fn verdict(self, draining: bool) -> &'static str {
        let settled = self.total - self.loading;
        match () {
            () if draining => "unhealthy",
            () if self.total == 0 => "degraded",
            () if settled > 0 && self.failed == settled => "unhealthy",
            () if self.failed * 2 > self.total => "unhealthy",
            () if self.failed > 0 => "degraded",
            () => "healthy",
        }
    }
}

impl Health {
    /// `/health`.
    pub fn whole(&self, detail: Detail) -> Reply {
        let world = self.hub.world();
        let servers: Vec<(&Arc<Server>, Status)> = world
            .servers()
            .iter()
            .map(|server| (server, server.status()))
            .collect();
        let counts = Counts::of(&servers);
        let draining = self.draining.load(Ordering::Acquire);
        let status = counts.verdict(draining);
        let uptime = self.started.elapsed().as_secs();
        let minimal = detail == Detail::Minimal;
        let body = Body {
            status,
            timestamp: time::now_rfc3339(),
            version: env!("CARGO_PKG_VERSION"),
            system: System {
                uptime,
                memory: if minimal { Memory::default() } else { memory() },
                process: if detail == Detail::Full {
                    process()
                } else {
                    Process::default()
                },
            },
            servers: Servers {
                total: counts.total,
                healthy: counts.ready,
                unhealthy: counts.failed,
                loading: counts.loading,
                details: match minimal {
                    true => Vec::new(),
                    false => servers
                        .iter()
                        .map(|(server, status)| server_detail(server, status, detail))
                        .collect(),
                },
            },
            configuration: match minimal {
                true => Configuration {
                    loaded: true,
                    transport: "http",
                    ..Default::default()
                },
                false => Configuration {
                    loaded: true,
                    server_count: servers.len(),
                    enabled_count: counts.total,
                    disabled_count: servers.len() - counts.total,
                    auth_enabled: false,
                    transport: "http",
                    name_clashes: clash_lines(&world),
                    standing: Some(self.configured.standing()),
                },
            },
        };
        let code = if status == "unhealthy" { 503 } else { 200 };
        // A body of plain fields always serialises.
        let json = serde_json::to_vec(&body).unwrap_or_default();
        Reply::json(code, json)
            .with("Cache-Control", "no-cache, no-store, must-revalidate")
            .with("X-Health-Status", status)
            .with("X-Service-Version", env!("CARGO_PKG_VERSION"))
            .with("X-Uptime-Seconds", uptime.to_string())
    }

    /// `/health/live`: the process turns. Says nothing about servers.
    pub fn live(&self) -> Reply {
        probe(200, "alive")
    }

    /// `/health/ready`: servers have started or failed, and the gateway is not shutting down.
    pub fn ready(&self) -> Reply {
        if self.draining.load(Ordering::Acquire) {
            return probe(503, "draining");
        }
        match self.hub.is_settled() {
            true => probe(200, "ready"),
            false => probe(503, "starting"),
        }
    }

    /// `/health/startup`: the start is over, whatever came after.
    pub fn startup(&self) -> Reply {
        match self.hub.is_settled() {
            true => probe(200, "started"),
            false => probe(503, "starting"),
        }
    }

    /// What a caller on the network is told: everything on this machine, little elsewhere.
    pub fn detail_for(&self, head: &Head<'_>, peer: &Peer) -> Detail {
        match self.level {
            HealthInfoLevel::Full => Detail::Full,
            HealthInfoLevel::Basic => Detail::Basic,
            HealthInfoLevel::Minimal => Detail::Minimal,
            HealthInfoLevel::Auto => {
                let forwarded = ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"]
                    .iter()
                    .any(|name| head.header(name).is_some());
                let local = peer.address.is_loopback()
                    && head.host.is_loopback()
                    && head.header("Origin").is_none()
                    && !forwarded;
                if local { Detail::Full } else { Detail::Minimal }
            }
        }
    }
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
    let body = format!("{{\"status\":\"{status}\",\"timestamp\":\"{now}\"}}");
    Reply::json(code, body).with("Cache-Control", "no-cache, no-store, must-revalidate")
}

fn server_detail(server: &Server, status: &Status, detail: Detail) -> ServerDetail {
    let link = server.shared_link();
    let noise = link.as_ref().map(|link| &link.counters.noise_lines);
    ServerDetail {
        name: server.name().to_owned(),
        status: match status.state {
            State::Ready => "connected",
            State::Pending | State::Loading => "loading",
            State::Failed => "error",
            State::Restarting => "restarting",
            State::CrashLoop => "crash-loop",
            State::Stopped | State::Disabled => "disconnected",
        },
        healthy: status.state == State::Ready,
        last_connected: status.last_connected.clone(),
        last_error: status.last_error.as_ref().map(|error| sanitised(error)),
        lists: status.lists.as_ref().map(|note| sanitised(note)),
        tags: server.config.tags.clone(),
        restarts: status.restarts,
        pid: status.pid.filter(|_| detail == Detail::Full),
        noise_lines: noise.map_or(0, |count| count.load(Ordering::Relaxed)),
    }
}

/// An error text without what looks like a credential: the word after `key=`, `token:` and the
/// like, and what stands before an `@` in a URL.
fn sanitised(text: &str) -> String {
    const WORDS: [&str; 6] = ["password", "passwd", "token", "key", "secret", "auth"];
    let masked: Vec<String> = text
        .split(' ')
        .map(|word| {
            let lower = word.to_lowercase();
            let assigned = word.find(['=', ':']).filter(|at| {
                *at + 1 < word.len() && WORDS.iter().any(|name| lower[..*at].contains(name))
            });
            match (assigned, word.find("://"), word.rfind('@')) {
                (Some(at), _, _) => format!("{}***", &word[..=at]),
                (None, Some(scheme), Some(at)) if scheme < at => {
                    format!("{}***{}", &word[..scheme + 3], &word[at..])
                }
                _ => word.to_owned(),
            }
        })
        .collect();
    masked.join(" ").chars().take(300).collect()
}

fn process() -> Process {
    Process {
        pid: std::process::id(),
        platform: std::env::consts::OS,
        arch: std::env::consts::ARCH,
    }
}

/// Resident memory against the limit of the container, or else the machine.
fn memory() -> Memory {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages
        .as_deref()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<f64>().ok())
        .map_or(0.0, |pages| pages * rustix::param::page_size() as f64);
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok())
        .unwrap_or_else(|| {
            let system = rustix::system::sysinfo();
            system.totalram as f64 * f64::from(system.mem_unit)
        });
    let mib = |bytes: f64| (bytes / 1024.0 / 1024.0 * 100.0).round() / 100.0;
    let share = if limit > 0.0 {
        resident / limit * 100.0
    } else {
        0.0
    };
    Memory {
        used: mib(resident),
        total: mib(limit),
        percentage: (share * 100.0).round() / 100.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, sanitised};

    #[test]
    fn verdicts_follow_the_formula() {
        let cases = [
            // total, ready, loading, failed, verdict
            (0, 0, 0, 0, "degraded"),
            (3, 0, 3, 0, "healthy"),
            (3, 3, 0, 0, "healthy"),
            (3, 2, 0, 1, "degraded"),
            (3, 1, 0, 2, "unhealthy"),
            (3, 0, 2, 1, "unhealthy"),
            (4, 2, 0, 2, "degraded"),
            (1, 0, 0, 1, "unhealthy"),
        ];
        for (total, ready, loading, failed, verdict) in cases {
            let counts = Counts {
                total,
                ready,
                loading,
                failed,
            };
            assert_eq!(counts.verdict(false), verdict, "{counts:?}");
            assert_eq!(counts.verdict(true), "unhealthy");
        }
    }

    #[test]
    fn error_texts_lose_credentials() {
        assert_eq!(sanitised("bad API_KEY=abc here"), "bad API_KEY=*** here");
        assert_eq!(sanitised("at http://u:p@host/x"), "at http://***@host/x");
        assert_eq!(sanitised("exited with code 3"), "exited with code 3");
    }
}
