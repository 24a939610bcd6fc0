//! The end in its order: not ready but serving, no new clients, streams, calls, servers; what a
//! service manager is told about it; and all of that as PID 1.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::{Connection, Request, Stream};
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, hostile, with};
use crate::support::session::{Session, text_of, tool_call};
use crate::support::{PATIENCE, eventually, sse, stateless, stdio};

fn plan() -> Plan {
    Plan::new(json!({"ev": everything(&[])}))
}

fn is_ready(rig: &Rig) -> bool {
    rig.get("/health/ready").status() == 200
}

fn in_work(session: &mut Session, calls: u64) -> bool {
    let text = session.text("ev_1mcp_whoami", json!({}));
    serde_json::from_str::<Value>(&text).unwrap()["calls"] == calls + 1
}

#[test]
fn during_the_delay_everything_is_served_but_it_is_not_ready() {
    let mut rig = plan().set("drainDelay", json!(2000)).start();
    let mut before = rig.session();
    let mut listening = before.listen();
    let begun = Instant::now();
    rig.term();
    eventually("it is not ready", || !is_ready(&rig));
    assert!(begun.elapsed() < Duration::from_millis(1500));
    assert_eq!(rig.get("/health/live").status(), 200);
    assert_eq!(rig.get("/health").status(), 503);
    // A session from before, a new one, and a client without.
    let call = tool_call(&json!(1), "ev_1mcp_echo", &json!({"text": "old"}));
    let reply = rig
        .connect()
        .exchange(&before.sign(Request::post("/mcp", call)));
    assert_eq!(reply.head.header("Connection"), Some("close"));
    assert_eq!(text_of(&reply.messages()[0]["result"]), "old");
    let mut new = rig.session();
    assert_eq!(new.text("ev_1mcp_echo", json!({"text": "new"})), "new");
    let client = stateless::Client::new(rig.port, "/mcp");
    assert_eq!(client.text("ev_1mcp_echo", json!({"text": "one"})), "one");
    // Streams go on, too.
    client.text("ev_1mcp_add_tool", json!({"name": "late"}));
    assert_eq!(
        listening.message()["method"],
        "notifications/tools/list_changed"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "too slow a machine"
    );
    assert!(listening.is_over());
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
}

#[test]
fn a_key_on_the_terminal_skips_the_delay() {
    for by in [Signal::INT, Signal::QUIT] {
        let mut rig = plan().set("drainDelay", json!(60_000)).start();
        signal(rig.pid, by);
        assert_eq!(rig.exit_code(PATIENCE), Some(0));
        assert!(rig.bearers().is_empty());
    }
}

/// Reads a stream to its end; gives the last `retry` and when it ended.
fn last_words(mut stream: Stream) -> (Option<u64>, Instant) {
    let mut retry = None;
    while let Some(event) = stream.event(PATIENCE) {
        retry = event.retry.or(retry);
    }
    assert!(stream.is_over());
    (retry, Instant::now())
}

#[test]
fn streams_end_one_after_the_other_and_clients_are_told_when_to_return() {
    let mut rig = Rig::start(json!({"ev": everything(&[])}));
    let sessions: Vec<Session> = (0..60).map(|_| rig.session()).collect();
    let older = rig.session_of("2025-06-18");
    let streams: Vec<Stream> = sessions.iter().map(Session::listen).collect();
    let mut plain = older.listen();
    // The greeting is not what is looked for.
    let greeted = streams.into_iter().map(|mut stream| {
        assert_eq!(stream.event(PATIENCE).unwrap().retry, Some(1000));
        stream
    });
    let greeted: Vec<Stream> = greeted.collect();
    assert!(plain.event(PATIENCE).unwrap().comment);
    rig.term();
    let ends: Vec<(Option<u64>, Instant)> = std::thread::scope(|scope| {
        let readers: Vec<_> = greeted
            .into_iter()
            .map(|stream| scope.spawn(|| last_words(stream)))
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect()
    });
    assert_eq!(last_words(plain).0, None);
    let mut retries: Vec<u64> = ends.iter().map(|(retry, _)| retry.unwrap()).collect();
    assert!(
        retries.iter().all(|retry| (1000..=5000).contains(retry)),
        "{retries:?}"
    );
    retries.sort_unstable();
    retries.dedup();
    assert!(retries.len() > 40, "{retries:?}");
    let (first, last) = (
        ends.iter().map(|end| end.1).min(),
        ends.iter().map(|end| end.1).max(),
    );
    let spread = last.unwrap() - first.unwrap();
    assert!(
        (Duration::from_millis(300)..Duration::from_secs(3)).contains(&spread),
        "{spread:?}"
    );
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
}

#[test]
fn subscriptions_end_with_their_result_on_every_transport() {
    let mut rig = Rig::start(json!({"ev": everything(&[])}));
    let client = stateless::Client::new(rig.port, "/mcp");
    let listen = json!({"notifications": {"toolsListChanged": true}});
    let mut over_http = client.stream(&json!("h"), "subscriptions/listen", &listen);
    over_http.message();
    let mut channel = sse::Client::connect(rig.port, &Request::listen("/sse"));
    channel.post(
        client
            .body(&json!("s"), "subscriptions/listen", &listen)
            .to_string(),
    );
    channel.expect("notifications/subscriptions/acknowledged");
    rig.term();
    for answer in [over_http.message(), channel.answer(&json!("s"))] {
        assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    }
    assert!(over_http.is_over());
    assert!(channel.stream.is_over());
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    let mut piped = stdio::Client::start(plan());
    piped.send(
        &client
            .body(&json!("p"), "subscriptions/listen", &listen)
            .to_string(),
    );
    piped.expect("notifications/subscriptions/acknowledged");
    piped.end_input();
    let answer = piped.answer(&json!("p"));
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    assert_eq!(piped.rig.exit_code(PATIENCE), Some(0));
}
