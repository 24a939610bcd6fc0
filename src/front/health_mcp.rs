//! `/health/mcp` and `/health/mcp/<name>`: how far each server is, in the form that users of
//! 1MCP know. A stranger is told numbers, and of one server its state alone.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::base::ordered;
use crate::base::time;
use crate::front::health::{Detail, json};
use crate::front::roll::{self, Seen};
use crate::front::tally::Tally;
use crate::http::Reply;
use crate::relay::world::World;
use crate::upstream::server::State;
use crate::wire::json::quoted;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    loading: Loading<'a>,
    summary: Summary,
    servers: Servers<'a>,
    backend_supervision: Supervision,
    degraded: bool,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Loading<'a> {
    is_complete: bool,
    start_time: &'a str,
    success_rate: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    total: usize,
    pending: usize,
    loading: usize,
    ready: usize,
    failed: usize,
    #[serde(rename = "awaitingOAuth")]
    awaiting_oauth: usize,
    restarting: usize,
    crash_loop: usize,
    stopped: usize,
    disabled: usize,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Servers<'a> {
    by_state: ByState<'a>,
    details: InOrder<'a>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct ByState<'a> {
    pending: Vec<&'a str>,
    loading: Vec<&'a str>,
    ready: Vec<&'a str>,
    failed: Vec<&'a str>,
    #[serde(rename = "awaitingOAuth")]
    awaiting_oauth: Vec<&'a str>,
    restarting: Vec<&'a str>,
    crash_loop: Vec<&'a str>,
    stopped: Vec<&'a str>,
    disabled: Vec<&'a str>,
}

/// An object whose members stand in the order of the configuration.
#[derive(Default)]
struct InOrder<'a>(Vec<(&'a str, Detailed)>);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detailed {
    state: &'static str,
    retry_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// How processes are watched: numbers for strangers, each server for the others.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Supervision {
    Numbers(Numbers),
    Servers(BTreeMap<String, Watched>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Numbers {
    total: usize,
    connected: usize,
    restarting: usize,
    crash_loop: usize,
    stopped: usize,
}

/// One server as supervision sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Watched {
    backend_id: String,
    state: &'static str,
    attempt: u32,
    /// Null: as often as the breaker allows.
    limit: Option<u32>,
    next_retry_at: Option<String>,
    last_exit: Option<Exited>,
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_pid: Option<i32>,
}

/// How its last process ended.
#[derive(Serialize)]
struct Exited {
    code: Option<i32>,
    signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    at: String,
}

impl Supervision {
    pub fn of(roll: &[Seen<'_>], detail: Detail) -> Supervision {
        let enabled = roll.iter().filter(|seen| seen.is_enabled());
        if detail == Detail::Minimal {
            let tally = roll::tally(roll);
            return Supervision::Numbers(Numbers {
                total: tally.total(),
                connected: tally.ready,
                restarting: tally.restarting,
                crash_loop: tally.crash_loop,
                stopped: tally.stopped,
            });
        }
        let watched = enabled.map(|seen| (seen.name().to_owned(), watched(seen, detail)));
        Supervision::Servers(ordered::map(watched))
    }
}

fn watched(seen: &Seen<'_>, detail: Detail) -> Watched {
    Watched {
        backend_id: format!("static:{}", seen.name()),
        state: match seen.status.state {
            State::Stopped => "stopped",
            _ => seen.word(),
        },
        attempt: seen.status.restarts,
        limit: seen.entry.restart.max.filter(|most| *most > 0),
        next_retry_at: seen.next_try(),
        last_exit: seen.status.last_exit.as_ref().map(|last| Exited {
            code: last.exit.code,
            signal: last.exit.signal_name(),
            pid: Some(last.pid).filter(|_| detail == Detail::Full),
            at: last.at.clone(),
        }),
        last_error: seen.last_error(),
        current_pid: seen.status.pid.filter(|_| detail == Detail::Full),
    }
}

/// `/health/mcp`: 200 once no server is starting for the first time, 202 before.
pub fn all(world: &World, started_at: &str, detail: Detail) -> Reply {
    let roll = roll::call(world);
    let tally = roll::tally(&roll);
    let is_complete = tally.coming() == 0;
    let success_rate = success_rate(&tally);
    let body = Body {
        loading: Loading {
            is_complete,
            start_time: started_at,
            success_rate,
        },
        summary: summary(&tally),
        servers: match detail {
            Detail::Minimal => Servers::default(),
            Detail::Basic | Detail::Full => servers(&roll),
        },
        backend_supervision: Supervision::of(&roll, detail),
        degraded: tally.restarting + tally.crash_loop > 0,
        timestamp: time::now_rfc3339(),
    };
    json(if is_complete { 200 } else { 202 }, &body)
        .with("X-Loading-Complete", is_complete.to_string())
        .with("X-Success-Rate", format!("{success_rate:.1}"))
}

/// Ready servers in percent, with one decimal.
fn success_rate(tally: &Tally) -> f64 {
    match tally.total() {
        0 => 100.0,
        total => (tally.ready as f64 / total as f64 * 1000.0).round() / 10.0,
    }
}

fn summary(tally: &Tally) -> Summary {
    Summary {
        total: tally.total(),
        pending: tally.pending,
        loading: tally.loading,
        ready: tally.ready,
        failed: tally.failed,
        awaiting_oauth: tally.awaiting_oauth,
        restarting: tally.restarting,
        crash_loop: tally.crash_loop,
        stopped: tally.stopped,
        disabled: tally.disabled,
    }
}

fn servers<'a>(roll: &'a [Seen<'a>]) -> Servers<'a> {
    let mut servers = Servers::default();
    for seen in roll {
        let states = &mut servers.by_state;
        match seen.status.state {
            State::Pending => &mut states.pending,
            State::Loading => &mut states.loading,
            State::Ready => &mut states.ready,
            State::Failed => &mut states.failed,
            State::Restarting => &mut states.restarting,
            State::CrashLoop => &mut states.crash_loop,
            State::AwaitingOauth => &mut states.awaiting_oauth,
            State::Stopped => &mut states.stopped,
            State::Disabled => &mut states.disabled,
        }
        .push(seen.name());
        let detailed = Detailed {
            state: seen.status.state.as_str(),
            retry_count: seen.status.restarts,
            error: seen.last_error(),
        };
        servers.details.0.push((seen.name(), detailed));
    }
    servers
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    name: &'a str,
    backend_id: String,
    state: &'static str,
    attempt: u32,
    retry_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_connected: Option<&'a str>,
    limit: Option<u32>,
    next_retry_at: Option<String>,
    last_exit: Option<Exited>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_pid: Option<i32>,
    timestamp: String,
}

/// `/health/mcp/<name>`; `name` may also be in the form that tool names have.
pub fn one(world: &World, name: &str, detail: Detail) -> Reply {
    let timestamp = time::now_rfc3339();
    let mut roll = roll::call(world);
    let Some(at) = world.position_named(name).filter(|at| *at < roll.len()) else {
        let error = quoted(&format!("Server '{name}' not found"));
        let body = format!("{{\"error\":{error},\"timestamp\":\"{timestamp}\"}}");
        return Reply::json(404, body);
    };
    let seen = roll.swap_remove(at);
    let state = seen.status.state;
    let code = match state {
        State::Ready => 200,
        State::Pending | State::Loading => 202,
        State::AwaitingOauth => 401,
        State::Failed | State::Restarting | State::CrashLoop | State::Stopped | State::Disabled => {
            503
        }
    };
    let state = state.as_str();
    let reply = match detail {
        Detail::Minimal => Reply::json(
            code,
            format!("{{\"state\":\"{state}\",\"timestamp\":\"{timestamp}\"}}"),
        ),
        Detail::Basic | Detail::Full => json(code, &body_of(&seen, detail, timestamp)),
    };
    reply.with("X-Server-State", state)
}

fn body_of<'a>(seen: &'a Seen<'_>, detail: Detail, timestamp: String) -> One<'a> {
    let watched = watched(seen, detail);
    One {
        name: seen.name(),
        backend_id: watched.backend_id,
        state: seen.status.state.as_str(),
        attempt: watched.attempt,
        retry_count: watched.attempt,
        error: watched.last_error.clone(),
        last_error: watched.last_error,
        last_connected: seen.status.last_connected.as_deref(),
        limit: watched.limit,
        next_retry_at: watched.next_retry_at,
        last_exit: watched.last_exit,
        current_pid: watched.current_pid,
        timestamp,
    }
}
