//! The end in its order: not ready but serving, no new clients, streams, calls, servers; what a
//! service manager is told about it; and all of that as PID 1.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::{Connection, Request, Stream};
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, hostile, with};
use crate::support::session::{Session, initialize, text_of, tool_call};
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
    let before = rig.session();
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

#[test]
fn who_is_held_at_the_start_is_not_held_at_the_end() {
    let slow = hostile(&["--slow-start", "60000"]);
    let mut rig = Plan::new(json!({"slow": slow})).start_unready();
    let held = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    let mut connection = rig.connect();
    connection.send_only(&held);
    let client = stateless::Client::new(rig.port, "/mcp");
    let mut lists = rig.connect();
    lists.send_only(&client.request(&json!(1), "tools/list", &json!({})));
    eventually("both are held", || rig.threads_named("http-") > 2);
    let begun = Instant::now();
    rig.term();
    assert_eq!(connection.streamed().head.status, 503);
    let answer = lists.streamed().message();
    assert_eq!(answer["result"]["tools"], json!([]), "{answer}");
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn who_waits_for_a_server_is_told_at_once_that_it_ends() {
    let servers = json!({
        "slow": hostile(&["--slow-start", "60000"]),
        "needs": with(everything(&[]), json!({"dependsOn": ["slow"]})),
    });
    let plan = Plan::new(servers).arg("--enable-async-loading");
    let mut rig = plan.set("drainDelay", json!(500)).start_unready();
    let session = rig.session();
    let client = stateless::Client::new(rig.port, "/mcp");
    let mut waiting = Vec::new();
    for tool in ["slow_1mcp_echo", "needs_1mcp_echo"] {
        waiting.push(session.send(tool_call(&json!(1), tool, &json!({}))));
        let mut connection = rig.connect();
        let call = json!({"name": tool, "arguments": {}});
        connection.send_only(&client.request(&json!(1), "tools/call", &call));
        waiting.push(connection);
    }
    eventually("all are held", || rig.threads_named("http-") >= 4);
    let begun = Instant::now();
    rig.term();
    for connection in waiting {
        let answer = connection.streamed().answer().1;
        let reason = &answer["error"]["data"]["onemcp"]["reason"];
        assert_eq!(reason, "draining", "{answer}");
    }
    let taken = begun.elapsed();
    let delay = Duration::from_millis(500);
    assert!(
        taken >= delay && taken < Duration::from_secs(5),
        "{taken:?}"
    );
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
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

/// A server that takes its time to end, and writes down when it has.
fn recorder(name: &str, depends_on: &[&str], folder: &str) -> Value {
    let script = format!(
        r#"
        while IFS= read -r line; do
            id=$${{line#*'"id":'}}
            id=$${{id%%,*}}
            case $line in
            *'"initialize"'*)
                info='"serverInfo":{{"name":"s","version":"1"}}'
                printf '{{"jsonrpc":"2.0","id":%s,"result":%s}}\n' "$id" \
                    '{{"protocolVersion":"2025-11-25","capabilities":{{}},'"$info}}" ;;
            *'"server/discover"'*)
                error='"error":{{"code":-32601,"message":"?"}}'
                printf '{{"jsonrpc":"2.0","id":%s,%s}}\n' "$id" "$error" ;;
            esac
        done
        echo "{name} begins" >>{folder}
        sleep 0.2
        echo "{name} ends" >>{folder}"#
    );
    json!({"command": "sh", "args": ["-c", script], "dependsOn": depends_on})
}

#[test]
fn servers_end_before_those_that_they_depend_on() {
    let record = std::env::temp_dir().join(format!("order-{}", std::process::id()));
    let path = record.to_str().unwrap();
    let rig = Rig::start(json!({
        "db": recorder("db", &[], path),
        "web": recorder("web", &["api"], path),
        "api": recorder("api", &["db"], path),
    }));
    rig.stop();
    let order = std::fs::read_to_string(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    let expected = "web begins\nweb ends\napi begins\napi ends\ndb begins\ndb ends\n";
    assert_eq!(order, expected);
}

/// Servers that resist, calls that hang, clients that do not read: the time is kept.
#[test]
fn the_end_takes_no_longer_than_it_may() {
    let count = 12;
    let mut servers = json!({"ev": everything(&[])});
    for number in 0..count {
        servers[format!("deaf{number}")] = hostile(&["--ignore-term", "--ignore-eof"]);
    }
    servers["needs"] = with(
        hostile(&["--ignore-term", "--ignore-eof"]),
        json!({"dependsOn": ["deaf0"]}),
    );
    let plan = Plan::new(servers).set("shutdownTimeout", json!(6000));
    let mut rig = plan.set("maxBodyBytes", json!(16 << 20)).start();
    let session = rig.session();
    let hanging: Vec<Connection> = (0..count)
        .map(|number| {
            let tool = format!("deaf{number}_1mcp_hang");
            session.send(tool_call(&json!(number), &tool, &json!({})))
        })
        .collect();
    // Each of them is sent more than fits on the way, and takes none of it.
    let text = "x".repeat(6 << 20);
    let deaf: Vec<Connection> = (0..4)
        .map(|id| {
            let call = tool_call(&json!(id), "ev_1mcp_echo", &json!({"text": text}));
            session.send(call)
        })
        .collect();
    let mut other = rig.session();
    eventually("all calls are there", || {
        in_work(&mut other, 0) && rig.threads_named("http-") >= hanging.len() + deaf.len()
    });
    let begun = Instant::now();
    rig.term();
    for connection in hanging {
        let answer = connection.streamed().answer().1;
        let reason = &answer["error"]["data"]["onemcp"]["reason"];
        assert_eq!(reason, "draining", "{answer}");
    }
    assert_eq!(rig.exit_code(PATIENCE), Some(0), "{}", rig.stderr());
    let taken = begun.elapsed();
    assert!(taken < Duration::from_millis(6500), "{taken:?}");
    assert!(rig.bearers().is_empty());
    drop(deaf);
}

/// Sends one request after the other until it finds the listener closed. Gives how many were
/// answered: each that was sent must be.
fn sends_until_the_end(port: u16, keeps_alive: bool) -> usize {
    let client = stateless::Client::new(port, "/mcp");
    let call = json!({"name": "ev_1mcp_echo", "arguments": {"text": "x"}});
    let mut answered = 0;
    while let Some(mut connection) = Connection::try_open(port) {
        let (mut is_good, mut is_first) = (true, true);
        while is_good {
            let request = client.request(&json!(answered), "tools/call", &call);
            let Some(reply) = connection.try_exchange(&request) else {
                // The system had let it in when the listener closed: nothing of it was read.
                assert!(
                    is_first,
                    "a request on a connection that stood was not answered"
                );
                break;
            };
            let answer = &reply.messages()[0];
            assert_eq!(answer["id"], answered, "{answer}");
            assert_eq!(text_of(&answer["result"]), "x", "{answer}");
            answered += 1;
            is_first = false;
            is_good = keeps_alive && reply.head.header("Connection") != Some("close");
        }
    }
    answered
}

#[test]
fn every_request_under_load_is_answered_once() {
    for round in 0..5 {
        let mut rig = plan().start();
        let port = rig.port;
        let answered: usize = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..6)
                .map(|number| scope.spawn(move || sends_until_the_end(port, number % 2 == 0)))
                .collect();
            // Each round meets them in another moment.
            std::thread::sleep(Duration::from_millis(100 + 37 * round));
            rig.term();
            senders
                .into_iter()
                .map(|sender| sender.join().unwrap())
                .sum()
        });
        assert!(answered > 6, "{answered}");
        assert_eq!(rig.exit_code(PATIENCE), Some(0));
    }
}

#[test]
fn as_pid_1_it_drains_when_it_is_told_to_end() {
    let Some(mut rig) = plan().set("drainDelay", json!(300)).start_as_pid_1() else {
        return;
    };
    let mut watcher = rig.session();
    let waiting = rig.session();
    let answer = std::thread::scope(|scope| {
        let call = tool_call(&json!(1), "ev_1mcp_sleep", &json!({"ms": 1500}));
        let answer = scope.spawn(move || waiting.stream(call).answer().1);
        eventually("the call is in work", || in_work(&mut watcher, 1));
        rig.term();
        eventually("it is not ready", || !is_ready(&rig));
        answer.join().unwrap()
    });
    assert_eq!(text_of(&answer["result"]), "Slept 1500 ms");
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    assert!(rig.bearers().is_empty());
}

/// A socket like that of a service manager.
struct Manager {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Manager {
    fn new(name: &str) -> Manager {
        let path = std::env::temp_dir().join(format!("notify-{name}-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager { socket, path }
    }

    fn of(&self, plan: Plan) -> Plan {
        plan.env("NOTIFY_SOCKET", self.path.to_str().unwrap())
    }

    fn hears(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// Waits for a message with this line; gives those before it.
    #[track_caller]
    fn waits_for(&self, line: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let heard = self.hears(PATIENCE);
            let heard = heard.unwrap_or_else(|| panic!("not told {line}: {before:?}"));
            if heard.lines().any(|one| one == line) {
                return before;
            }
            before.push(heard);
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_service_manager_is_told_when_it_is_ready_and_when_it_ends() {
    let manager = Manager::new("ready");
    let slow = hostile(&["--slow-start", "1000"]);
    let nosy = json!({"command": "sh", "inheritParentEnv": true,
        "args": ["-c", "env >&2; exec sleep 1000"], "connectionTimeout": 500});
    let plan = Plan::new(json!({"slow": slow, "nosy": nosy}));
    let mut rig = manager
        .of(plan)
        .env("WATCHDOG_USEC", "200000")
        .start_unready();
    let begun = Instant::now();
    let before = manager.waits_for("READY=1");
    assert!(begun.elapsed() > Duration::from_millis(500), "{before:?}");
    assert!(before.iter().all(|told| told == "WATCHDOG=1"), "{before:?}");
    let begun = Instant::now();
    for _ in 0..10 {
        assert_eq!(manager.hears(PATIENCE).as_deref(), Some("WATCHDOG=1"));
    }
    let each = begun.elapsed() / 10;
    assert!(
        each > Duration::from_millis(50) && each < Duration::from_millis(200),
        "{each:?}"
    );
    rig.term();
    manager.waits_for("STOPPING=1");
    assert_eq!(rig.exit_code(PATIENCE), Some(0));
    let said = rig.stderr();
    assert!(
        said.contains("MARK=") && !said.contains("NOTIFY_SOCKET"),
        "{said}"
    );
    assert!(!said.contains("WATCHDOG_USEC"), "{said}");
}

#[test]
fn a_service_manager_that_asks_for_a_reload_is_told_when_it_is_over() {
    let manager = Manager::new("reload");
    let rig = manager.of(plan()).start();
    manager.waits_for("READY=1");
    signal(rig.pid, Signal::HUP);
    let told = manager.hears(PATIENCE).unwrap();
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("RELOADING=1"));
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
    let at = lines
        .next()
        .unwrap()
        .strip_prefix("MONOTONIC_USEC=")
        .unwrap();
    let at: i64 = at.parse().unwrap();
    assert!(
        (since_boot - 20..=since_boot).contains(&(at / 1_000_000)),
        "{at}"
    );
    assert!(manager.waits_for("READY=1").is_empty());
    rig.stop();
}

#[test]
fn signs_of_life_meant_for_another_process_are_not_given() {
    let manager = Manager::new("other");
    let plan = manager.of(plan()).env("WATCHDOG_USEC", "20000");
    let rig = plan.env("WATCHDOG_PID", "1").start();
    manager.waits_for("READY=1");
    assert_eq!(manager.hears(Duration::from_millis(200)), None);
    rig.stop();
    assert!(manager.waits_for("STOPPING=1").is_empty());
}
