//! Asynchronous loading: each server's entries are there when it is, every session hears of them
//! in time and not more often than once in a window, and health says at each stage what is so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{everything, hostile, with};
use crate::support::session::Session;

const WINDOW: Duration = Duration::from_millis(1000);
/// From a server's readiness to the list that shows it.
const SOON: Duration = Duration::from_millis(1500);

/// Name, and how long it takes to answer its handshake.
const SLOW: [(&str, &str); 9] = [
    ("s0", "100"),
    ("s1", "400"),
    ("s2", "800"),
    ("s3", "1300"),
    ("s4", "2000"),
    ("s5", "3000"),
    ("s6", "4500"),
    ("s7", "10000"),
    ("never", "600000"),
];

fn ten_servers() -> Rig {
    let mut servers = json!({"crashing": hostile(&["--exit-at-start", "3"])});
    for (name, ms) in SLOW {
        servers[name] = hostile(&["--slow-start", ms]);
    }
    let settings = json!({"enabled": true, "batchDelay": WINDOW.as_millis() as u64});
    let plan = Plan::new(servers).set("asyncLoading", settings);
    // Each shall take the time that it takes, not wait for a turn.
    plan.set("maxConcurrentStarts", json!(10)).start_unready()
}

/// What one session saw: the servers of each list that it asked for, and when it was told.
struct Watcher {
    opened: Instant,
    /// When a server's tools were first in a list.
    seen: Vec<(String, Instant)>,
    told: Vec<Instant>,
}

impl Watcher {
    /// Opens a session, lists, and lists again whenever it is told to.
    fn begin(rig: &Rig, until: &Arc<AtomicBool>) -> JoinHandle<Watcher> {
        let (mut session, until) = (rig.session(), until.clone());
        std::thread::spawn(move || {
            let mut watcher = Watcher {
                opened: Instant::now(),
                seen: Vec::new(),
                told: Vec::new(),
            };
            let mut stream = session.listen();
            watcher.list(&mut session);
            while !until.load(Ordering::Relaxed) {
                let Some(message) = stream.message_within(Duration::from_millis(100)) else {
                    continue;
                };
                if message["method"] == "notifications/tools/list_changed" {
                    watcher.told.push(Instant::now());
                    watcher.list(&mut session);
                }
            }
            watcher
        })
    }

    fn list(&mut self, session: &mut Session) {
        for tool in session.names("tools") {
            let server = tool.split("_1mcp_").next().unwrap_or_default();
            if !self.seen.iter().any(|(name, _)| name == server) {
                self.seen.push((server.to_owned(), Instant::now()));
            }
        }
    }

    /// `ready`: when each server was, at the latest.
    fn judge(&self, ready: &[(String, Instant)]) {
        for (name, at) in ready {
            let seen = self.seen.iter().find(|(seen, _)| seen == name);
            let (_, seen) = seen.unwrap_or_else(|| panic!("{name} was never seen"));
            let from = (*at).max(self.opened);
            let late = seen.saturating_duration_since(from);
            assert!(late <= SOON, "{name} was seen after {late:?}");
        }
        for pair in self.told.windows(2) {
            let apart = pair[1] - pair[0];
            // Told at the end of windows: what lies between is at least one, but for jitter.
            assert!(
                apart >= WINDOW - Duration::from_millis(150),
                "{apart:?} apart"
            );
        }
    }
}

/// The states of the servers, and what health says of them all: one row of the written table in
/// docs/operations.md. `None` of the rows is a 5xx.
#[track_caller]
fn health_fits(rig: &Rig) -> Vec<String> {
    let reply = rig.get("/health");
    assert!(reply.status() < 500, "{reply:?}");
    let health: Value = reply.json();
    let details = health["servers"]["details"].as_array().unwrap();
    let named = |status: &str| details.iter().filter(|one| one["status"] == status).count();
    let (connected, loading) = (named("connected"), named("loading"));
    let down = details.len() - connected - loading;
    let expected = match (connected, down) {
        (_, 0) => "healthy",
        _ => "degraded",
    };
    assert_eq!(health["status"], expected, "{health}");
    assert_eq!(health["servers"]["total"], 10);
    assert_eq!(health["servers"]["healthy"], connected);
    assert_eq!(health["servers"]["unhealthy"], down);
    let up = details.iter().filter(|one| one["status"] == "connected");
    up.map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn ten_servers_come_up_each_in_its_time_and_everybody_sees_them() {
    let began = Instant::now();
    let rig = ten_servers();
    let until = Arc::new(AtomicBool::new(false));
    let early = Watcher::begin(&rig, &until);
    let mut late = None;
    let mut ready: Vec<(String, Instant)> = Vec::new();
    let mut calls = rig.session();
    eventually("all that come up are up", || {
        for name in health_fits(&rig) {
            if !ready.iter().any(|(known, _)| *known == name) {
                ready.push((name, Instant::now()));
            }
        }
        for path in [
            "/health/live",
            "/health/ready",
            "/health/startup",
            "/health/mcp",
        ] {
            let reply = rig.get(path);
            assert!(reply.status() < 500, "{path}: {reply:?}");
        }
        if began.elapsed() >= Duration::from_secs(4) && late.is_none() {
            late = Some(Watcher::begin(&rig, &until));
        }
        calls.names("tools");
        ready.len() == 8
    });
    // Until whoever is still to be told was told.
    std::thread::sleep(SOON);
    until.store(true, Ordering::Relaxed);
    early.join().unwrap().judge(&ready);
    late.expect("a late session").join().unwrap().judge(&ready);
    rig.stop();
}

#[test]
fn what_a_session_does_not_see_it_does_not_hear_of() {
    let servers = json!({
        "a": with(everything(&[]), json!({"tags": ["a"]})),
        "b": with(hostile(&["--slow-start", "300"]), json!({"tags": ["b"]})),
    });
    let rig = Plan::new(servers)
        .arg("--enable-async-loading")
        .start_unready();
    let narrow = rig.session_at("/mcp?tags=a");
    eventually("both are up", || rig.server("b")["status"] == "connected");
    let mut other = rig.session_at("/mcp?tags=a");
    let mut stream = narrow.listen();
    other.call("a_1mcp_test_trigger_prompt_change", json!({}));
    let mut methods = Vec::new();
    while methods
        .last()
        .is_none_or(|last| last != "notifications/prompts/list_changed")
    {
        methods.push(stream.message()["method"].as_str().unwrap().to_owned());
    }
    // Those of its own server came up once; those of the other are none of its business.
    let tools = |method: &&String| *method == "notifications/tools/list_changed";
    assert!(methods.iter().filter(tools).count() <= 1, "{methods:?}");
    rig.stop();
}

#[test]
fn who_does_not_want_to_hear_of_the_start_hears_of_later_changes_only() {
    let settings = json!({"enabled": true, "batchDelay": 50, "notifyOnSnapshot": false});
    let servers = json!({"a": everything(&[]), "b": hostile(&["--slow-start", "500"])});
    let rig = Plan::new(servers)
        .set("asyncLoading", settings)
        .start_unready();
    let mut session = rig.session();
    let mut stream = session.listen();
    eventually("both are listed", || {
        let names = session.names("tools");
        ["a_1mcp_echo", "b_1mcp_echo"]
            .iter()
            .all(|name| names.iter().any(|n| n == name))
    });
    eventually("the start is over", || {
        rig.get("/health/mcp").status() == 200
    });
    session.call("a_1mcp_test_trigger_tool_change", json!({}));
    assert_eq!(
        stream.message()["method"],
        "notifications/tools/list_changed"
    );
    assert_eq!(stream.message_within(Duration::from_millis(300)), None);
    rig.stop();
}

#[test]
fn windows_are_left_out_or_bounded_as_it_is_asked_for() {
    let cases = [
        json!({"enabled": true, "batchDelay": 60_000, "batchNotifications": false}),
        json!({"enabled": true, "batchDelay": 600_000, "maxDelay": 200}),
    ];
    for settings in cases {
        let rig = Plan::new(json!({"a": everything(&[])}))
            .set("asyncLoading", settings)
            .start();
        let mut session = rig.session();
        let mut stream = session.listen();
        session.call("a_1mcp_test_trigger_tool_change", json!({}));
        assert_eq!(
            stream.message()["method"],
            "notifications/tools/list_changed"
        );
        rig.stop();
    }
}
