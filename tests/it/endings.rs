//! The end of the gateway: calls are answered, and nothing it started is left.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, hostile, with};
use crate::support::session::{Session, text_of, tool_call};
use crate::support::{PATIENCE, eventually, within};

/// Servers that resist their end in every way there is.
fn stubborn() -> Value {
    json!({
        "deaf": hostile(&["--ignore-term", "--ignore-eof"]),
        "fork": hostile(&["--fork-holder"]),
        "setsid": hostile(&["--setsid-holder", "--ignore-eof"]),
        "own": with(hostile(&["--fork-holder"]), json!({"instances": "session"})),
        "ev": everything(&[]),
    })
}

fn in_work(session: &mut Session, calls: u64) -> bool {
    let text = session.text("ev_1mcp_whoami", json!({}));
    serde_json::from_str::<Value>(&text).unwrap()["calls"] == calls + 1
}

#[test]
fn nothing_is_left_of_servers_that_resist_their_end() {
    let rig = Rig::start(stubborn());
    let mut session = rig.session();
    assert_eq!(session.text("own_1mcp_echo", json!({"text": "x"})), "x");
    // Gateway and watcher, five servers and one of the session, four holders.
    eventually("all are there", || rig.bearers().len() == 12);
    let begun = Instant::now();
    rig.stop();
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn nothing_is_left_of_a_gateway_that_was_killed() {
    let rig = Rig::start(stubborn());
    let mut session = rig.session();
    assert_eq!(session.text("own_1mcp_echo", json!({"text": "x"})), "x");
    let running = session.send(tool_call(&json!(1), "deaf_1mcp_hang", &json!({})));
    eventually("all are there", || rig.bearers().len() == 12);
    signal(rig.pid, rustix::process::Signal::KILL);
    within(Duration::from_secs(10), "all are gone", || {
        rig.bearers().is_empty()
    });
    drop(running);
}

#[test]
fn calls_in_work_are_answered_before_the_end() {
    let mut rig = Rig::start(json!({"ev": everything(&[])}));
    let mut watcher = rig.session();
    let mut listening = watcher.listen();
    let waiting = rig.session();
    let answer = std::thread::scope(|scope| {
        let call = tool_call(&json!(1), "ev_1mcp_sleep", &json!({"ms": 1500}));
        let answer = scope.spawn(move || waiting.stream(call).answer().1);
        eventually("the call is in work", || in_work(&mut watcher, 1));
        rig.term();
        assert!(listening.is_over());
        answer.join().unwrap()
    });
    assert_eq!(text_of(&answer["result"]), "Slept 1500 ms");
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    assert!(rig.bearers().is_empty());
}

#[test]
fn calls_that_take_longer_than_the_end_may_get_an_error() {
    let plan = Plan::new(json!({"ev": everything(&[])}));
    let mut rig = plan.set("shutdownTimeout", json!(5500)).start();
    let mut watcher = rig.session();
    let waiting = rig.session();
    let answer = std::thread::scope(|scope| {
        let call = tool_call(&json!(1), "ev_1mcp_sleep", &json!({"ms": 60_000}));
        let answer = scope.spawn(move || waiting.stream(call).answer().1);
        eventually("the call is in work", || in_work(&mut watcher, 1));
        rig.term();
        answer.join().unwrap()
    });
    assert_eq!(
        answer["error"]["data"]["onemcp"]["reason"], "draining",
        "{answer}"
    );
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    assert!(rig.bearers().is_empty());
}

#[test]
fn while_it_ends_the_gateway_takes_no_new_clients() {
    let mut rig = Rig::start(json!({"ev": everything(&[])}));
    let mut watcher = rig.session();
    let mut kept = rig.connect();
    assert_eq!(
        kept.exchange(&Request::new("GET", "/health/ready"))
            .status(),
        200
    );
    let waiting = rig.session();
    let running = waiting.send(tool_call(&json!(1), "ev_1mcp_sleep", &json!({"ms": 800})));
    eventually("the call is in work", || in_work(&mut watcher, 1));
    rig.term();
    assert!(kept.is_closed_by_peer());
    let refused = || std::net::TcpStream::connect(("127.0.0.1", rig.port)).is_err();
    eventually("the listener is closed", refused);
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    drop(running);
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut rig = Rig::start(json!({"ev": everything(&[])}));
    let mut watcher = rig.session();
    let waiting = rig.session();
    let running = waiting.send(tool_call(
        &json!(1),
        "ev_1mcp_sleep",
        &json!({"ms": 60_000}),
    ));
    eventually("the call is in work", || in_work(&mut watcher, 1));
    rig.term();
    eventually("it says that it ends", || {
        rig.stderr().contains("shutting down")
    });
    rig.term();
    rig.exit_code(Duration::from_secs(10));
    within(Duration::from_secs(10), "all are gone", || {
        rig.bearers().is_empty()
    });
    drop(running);
}
