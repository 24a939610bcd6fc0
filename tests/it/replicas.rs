//! Several gateways behind one load balancer: whoever gets a request answers it, has it answered
//! by the one that can, or says at once that nobody can.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::{Connection, Request};
use crate::support::remote::HttpFixture;
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{demo, everything, with};
use crate::support::session::{Session, initialize, reporting_call, tool_call};
use crate::support::sse;
use crate::support::stateless::Client;
use crate::support::token::{ISSUER, Mint};
use crate::support::{PATIENCE, eventually};

const OLD: &str = "the first key that these replicas share";
const NEW: &str = "the second key that these replicas share";
const WATCHED: &str = "test://watched-resource";

fn keys(name: &str, lines: &[&str]) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("replicas-{name}"));
    fs::write(&file, lines.join("\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Ports that nobody listens on.
fn free_ports<const N: usize>() -> [u16; N] {
    let taken = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    taken.map(|listener| listener.local_addr().unwrap().port())
}

fn plan(servers: &Value, keys: &Path, name: &str) -> Plan {
    let keys = keys.to_str().unwrap();
    Plan::new(servers.clone()).args(&["--replica-keys", keys, "--replica-name", name])
}

/// Replicas that know of each other.
struct Replicas<const N: usize> {
    rigs: [Rig; N],
}

fn start<const N: usize>(name: &str, servers: &Value, more: &[&str]) -> Replicas<N> {
    let (ports, keys) = (free_ports::<N>(), keys(name, &[OLD]));
    let peers = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
    let rigs = std::array::from_fn(|at| {
        let plan = plan(servers, &keys, &format!("r{at}"));
        let plan = plan.args(&["--replica-peers", &peers]).args(more);
        plan.args(&["--port", &ports[at].to_string()]).start()
    });
    Replicas { rigs }
}

impl<const N: usize> Replicas<N> {
    fn port(&self, at: usize) -> u16 {
        self.rigs[at].port
    }

    fn stop(self) {
        self.rigs.into_iter().for_each(Rig::stop);
    }
}

/// What HTTP and JSON-RPC say of a ping at `port` in a session.
fn ping(session: &Session, port: u16) -> (u16, String) {
    let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
    let request = session.sign(Request::post("/mcp", body));
    let reply = Connection::open(port).exchange(&request);
    let message = reply.json()["error"]["message"].as_str().map(str::to_owned);
    (reply.status(), message.unwrap_or_default())
}

#[test]
fn a_session_is_served_from_every_replica() {
    let own = with(everything(&[]), json!({"instances": "session"}));
    let replicas = start::<3>("session", &json!({"ev": everything(&[]), "own": own}), &[]);
    let mut session = replicas.rigs[0].session();
    assert!(session.id.starts_with("stream-") && session.id.contains('.'));
    let known: Value = serde_json::from_str(&session.text("own_1mcp_whoami", json!({}))).unwrap();
    let mut session = session.moved(replicas.port(1));
    // The same process of its own, wherever the request arrives.
    let again: Value = serde_json::from_str(&session.text("own_1mcp_whoami", json!({}))).unwrap();
    assert_eq!(again["pid"], known["pid"]);
    assert!(session.names("tools").len() > 20);
    // A stream of a call, and the one that belongs to no call.
    let arguments = json!({"steps": 3, "ms": 10});
    let call = reporting_call(
        &json!("p"),
        "ev_1mcp_slow_progress",
        &arguments,
        &json!("t"),
    );
    let (before, answer) = session.stream(call).answer();
    assert_eq!(
        (before.len(), &answer["id"]),
        (3, &json!("p")),
        "{before:?}"
    );
    session.get("resources/subscribe", json!({"uri": WATCHED}));
    let mut stream = session.moved_to(replicas.port(2)).listen();
    session.call("ev_1mcp_test_update_resource", json!({}));
    let news = stream.message();
    assert_eq!(news["method"], "notifications/resources/updated", "{news}");
    // It has come back elsewhere with what it heard last.
    let mut session = session.moved(replicas.port(2));
    assert_eq!(session.delete().status(), 200);
    assert!(stream.is_over());
    for port in replicas.rigs.each_ref().map(|rig| rig.port) {
        assert_eq!(ping(&session, port).0, 404);
    }
    replicas.stop();
}

#[test]
fn a_client_that_hangs_up_is_missed_where_its_stream_is() {
    let replicas = start::<2>("hang-up", &json!({"ev": everything(&[])}), &[]);
    let session = replicas.rigs[0].session();
    let before = replicas.rigs[0].threads_named("http-");
    let moved = session.moved_to(replicas.port(1));
    let streams: Vec<_> = (0..4).map(|_| moved.listen()).collect();
    eventually("the streams are there", || {
        replicas.rigs[0].threads_named("http-") == before + 4
    });
    streams.into_iter().for_each(|stream| stream.cut());
    eventually("the streams are gone", || {
        replicas.rigs[0].threads_named("http-") == before
    });
    replicas.stop();
}

#[test]
fn old_clients_post_wherever_they_are_sent() {
    let replicas = start::<2>("sse", &json!({"ev": everything(&[])}), &[]);
    let client = sse::Client::open(replicas.port(0), "/sse", "2024-11-05", json!({}));
    let body = tool_call(&json!(7), "ev_1mcp_greet", &json!({"name": "Ann"}));
    let request = Request::post(&client.endpoint, body);
    let reply = Connection::open(replicas.port(1)).exchange(&request);
    assert_eq!(reply.status(), 202, "{reply:?}");
    let mut client = client;
    let answer = client.answer(&json!(7));
    assert_eq!(answer["result"]["content"][0]["text"], "Hello, Ann!");
    drop(client);
    replicas.stop();
}

#[test]
fn what_is_with_nobody_is_refused_with_the_reason() {
    let clock = json!({"clock": demo("clock")});
    let replicas = start::<2>("gone", &clock, &[]);
    let session = replicas.rigs[0].session();
    for id in ["stream-1.AAAA", "stream-1", ".", &session.id[1..]] {
        let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
        let request = Request::post("/mcp", body).with("Mcp-Session-Id", id);
        let reply = Connection::open(replicas.port(1)).exchange(&request);
        assert_eq!(reply.status(), 404, "{id}");
    }
    // Killed in the middle of a stream: what is cut off is cut off here, too.
    let mut stream = session.moved_to(replicas.port(1)).listen();
    signal(replicas.rigs[0].pid, Signal::KILL);
    while stream.event(PATIENCE).is_some() {}
    assert!(!stream.is_over(), "it looks as if it were complete");
    eventually("nobody listens there any more", || {
        let (status, message) = ping(&session, replicas.port(1));
        status == 404 && message.contains("not there any more")
    });
    // The same name and place, and yet another one.
    let keys = keys("gone", &[OLD]);
    let again = plan(&clock, &keys, "r0").args(&["--port", &replicas.port(0).to_string()]);
    let again = again.start();
    let (status, message) = ping(&session, replicas.port(1));
    assert_eq!(status, 404);
    assert!(
        message.contains("session not found; send initialize"),
        "{message}"
    );
    // Who is told of no other says so.
    let elsewhere = replicas.rigs[1].session();
    let (status, message) = ping(&elsewhere, again.port);
    assert_eq!(status, 404);
    assert!(message.contains("replica-peers"), "{message}");
    again.stop();
    let [first, second] = replicas.rigs;
    drop(first);
    second.stop();
}

#[test]
fn a_stateless_request_goes_nowhere_for_a_session_that_its_client_left() {
    let replicas = start::<2>("left", &json!({"clock": demo("clock")}), &[]);
    let session = replicas.rigs[0].session();
    let client = Client::new(replicas.port(1), "/mcp");
    let request = client.request(&json!(1), "tools/list", &json!({}));
    let request = request.with("Mcp-Session-Id", &session.id);
    let [first, second] = replicas.rigs;
    first.stop();
    let reply = client.send(&request);
    assert_eq!(reply.status(), 200, "{reply:?}");
    second.stop();
}

#[test]
fn a_form_is_answered_at_any_replica() {
    let replicas = start::<2>("form", &json!({"ev": everything(&[])}), &[]);
    let at = |at: usize| Client::new(replicas.port(at), "/mcp/ev").able(json!({"elicitation": {}}));
    let call = json!({"name": "ask_name", "arguments": {"token": "t"}});
    let asked = at(0).get("tools/call", &call);
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let keys = asked["inputRequests"].as_object().unwrap().keys();
    let form = |key: &String| {
        let answer = json!({"action": "accept", "content": {"name": "Ann"}});
        (key.clone(), answer)
    };
    let mut back = call.clone();
    back["inputResponses"] = keys.map(form).collect::<serde_json::Map<_, _>>().into();
    back["requestState"] = asked["requestState"].clone();
    let done = at(1).get("tools/call", &back);
    assert_eq!(done["content"][0]["text"], "t:Ann");
    for replica in [0, 1] {
        let again = at(replica).ask("tools/call", &back);
        assert_eq!(again["error"]["code"], -32602, "{again}");
    }
    replicas.stop();
}

#[test]
fn pages_and_tasks_go_on_at_any_replica() {
    let remote = HttpFixture::start(&["--era", "modern"]);
    let servers = json!({"ev": everything(&["--era", "modern"]), "far": remote.entry()});
    let replicas = start::<2>("tasks", &servers, &[]);
    let able = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let at = |at: usize| Client::new(replicas.port(at), "/mcp").able(able.clone());
    let begin = |tool: &str| {
        let call = json!({"name": tool, "arguments": {"seconds": 60}});
        let task = at(0).get("tools/call", &call);
        json!({"taskId": task["taskId"]})
    };
    let (near, far) = (
        begin("ev_1mcp_slow_compute"),
        begin("far_1mcp_slow_compute"),
    );
    for task in [&near, &far] {
        let told = at(1).get("tasks/get", task);
        assert_eq!(
            (&told["status"], &told["taskId"]),
            (&json!("working"), &task["taskId"])
        );
    }
    at(1).get("tasks/cancel", &near);
    eventually("it is cancelled", || {
        at(0).get("tasks/get", &near)["status"] == "cancelled"
    });
    // Without the replica that began it, a task of a server of its own is lost, others are not.
    signal(replicas.rigs[0].pid, Signal::KILL);
    eventually("the first is gone", || {
        Connection::try_open(replicas.port(0)).is_none()
    });
    assert_eq!(at(1).get("tasks/get", &far)["status"], "working");
    let [first, second] = replicas.rigs;
    drop(first);
    second.stop();
}

#[test]
fn cursors_are_good_everywhere() {
    let keys = keys("cursor", &[OLD]);
    let plan = |name| {
        let plan = plan(&json!({"ev": everything(&[])}), &keys, name);
        plan.set("pageSize", json!(5)).start()
    };
    let (one, two) = (plan("one"), plan("two"));
    let page = Client::new(one.port, "/mcp").get("tools/list", &json!({}));
    let cursor = json!({"cursor": page["nextCursor"]});
    let here = Client::new(one.port, "/mcp").get("tools/list", &cursor);
    let there = Client::new(two.port, "/mcp").get("tools/list", &cursor);
    assert_eq!(here["tools"], there["tools"]);
    one.stop();
    two.stop();
}

const PING: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";

/// Reads up to the end of a head.
fn head_of(socket: &mut TcpStream) -> String {
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !text.contains("\r\n\r\n") {
        let count = socket.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{text}");
        text.push_str(str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(
        text.ends_with("\r\n\r\n"),
        "no body before it is wanted: {text}"
    );
    text
}

/// Takes the head of one request, gives `answer` to it, and sees that nothing follows. What is
/// given back is the request as the one whom it is for would have got it.
fn intercepted(listener: &TcpListener, answer: &str) -> String {
    let (mut socket, _) = listener.accept().unwrap();
    let head = head_of(&mut socket);
    socket.write_all(answer.as_bytes()).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        socket.read(&mut [0; 1]).unwrap_or(0),
        0,
        "nothing is trusted to it"
    );
    head + PING
}

fn sent(port: u16, request: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn what_a_replica_shows_is_good_once_and_for_one_request() {
    let keys = keys("hop", &[OLD]);
    let middle = TcpListener::bind("127.0.0.1:0").unwrap();
    let peers = middle.local_addr().unwrap().to_string();
    let clock = json!({"clock": demo("clock")});
    let holder = plan(&clock, &keys, "holder").start();
    let other = plan(&clock, &keys, "other");
    let other = other.args(&["--replica-peers", &peers]).start();
    let session = holder.session();
    let (id, port) = (session.id.clone(), other.port);
    let asked = std::thread::spawn(move || ping(&session, port));
    let request = intercepted(&middle, "HTTP/1.1 421 Misdirected Request\r\n\r\n");
    let (status, message) = asked.join().unwrap();
    assert_eq!(status, 404);
    assert!(message.contains("not there any more"), "{message}");
    assert!(
        request.contains(&id) && request.contains("\r\nOnemcp-Hop: "),
        "{request}"
    );
    assert!(
        !request.contains("holder") && !request.contains("other"),
        "{request}"
    );
    assert_eq!(
        sent(holder.port, &request.replace("ping", "pong")),
        "HTTP/1.1 403 Forbidden"
    );
    let again = intercepted_again(&middle, &holder, port, &id);
    assert_eq!(
        sent(holder.port, &again.replace("/mcp", "/sse")),
        "HTTP/1.1 403 Forbidden"
    );
    assert_eq!(sent(other.port, &again), "HTTP/1.1 421 Misdirected Request");
    assert_eq!(sent(holder.port, &again), "HTTP/1.1 200 OK");
    assert_eq!(sent(holder.port, &again), "HTTP/1.1 403 Forbidden");
    let forged = again.replace("Onemcp-Hop: ", "Onemcp-Hop: A");
    assert_eq!(sent(holder.port, &forged), "HTTP/1.1 403 Forbidden");
    holder.stop();
    other.stop();
}

/// One more such request, not yet shown to anybody.
fn intercepted_again(middle: &TcpListener, holder: &Rig, port: u16, id: &str) -> String {
    let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
    let request = Request::post("/mcp", body).with("Mcp-Session-Id", id);
    let client = std::thread::spawn(move || Connection::open(port).exchange(&request).status());
    let taken = intercepted(middle, "");
    // Nothing was done there, and there is nobody else.
    assert_eq!(client.join().unwrap(), 503);
    assert_ne!(holder.port, port);
    taken
}

#[test]
fn who_hangs_or_is_a_stranger_is_passed_over() {
    let keys = keys("strangers", &[OLD]);
    let [hung, stranger, greedy] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let clock = json!({"clock": demo("clock")});
    let holder = plan(&clock, &keys, "holder").start();
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let peers = [&stranger, &greedy, &hung].map(address).join(",");
    let peers = format!("{peers},127.0.0.1:{}", holder.port);
    let other = plan(&clock, &keys, "other");
    let other = other.args(&["--replica-peers", &peers]).start();
    let (session, port) = (holder.session(), other.port);
    let asked = std::thread::spawn(move || ping(&session, port));
    let forged = "HTTP/1.1 200 OK\r\nOnemcp-Replica: holder\r\nContent-Length: 2\r\n\r\n{}";
    intercepted(&stranger, forged);
    intercepted(
        &greedy,
        "HTTP/1.1 100 Continue\r\nOnemcp-Replica: holder\r\n\r\n",
    );
    // The last one takes connections and never says anything.
    assert_eq!(asked.join().unwrap(), (200, String::new()));
    // For a while they are asked after all others, and so not at all.
    let session = holder.session();
    let waits = [&stranger, &greedy, &hung];
    for one in waits {
        one.set_nonblocking(true).unwrap();
    }
    assert!(hung.accept().is_ok());
    assert_eq!(ping(&session, port), (200, String::new()));
    for one in waits {
        let error = one.accept().expect_err("nobody asks");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    holder.stop();
    other.stop();
}

#[test]
fn a_replica_that_hangs_delays_streams_and_ends_of_sessions_by_moments_only() {
    let keys = keys("hung", &[OLD]);
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let holder = plan(&json!({"ev": everything(&[])}), &keys, "holder").start();
    let peers = format!("{},127.0.0.1:{}", hung.local_addr().unwrap(), holder.port);
    let others = ["one", "two"].map(|name| {
        let other = plan(&json!({}), &keys, name);
        other.args(&["--replica-peers", &peers]).start()
    });
    let mut session = holder.session();
    let mut stream = session.moved_to(others[0].port).listen();
    session.get("resources/subscribe", json!({"uri": WATCHED}));
    session.call("ev_1mcp_test_update_resource", json!({}));
    assert_eq!(
        stream.message()["method"],
        "notifications/resources/updated"
    );
    assert_eq!(session.moved_to(others[1].port).delete().status(), 200);
    assert!(stream.is_over());
    for _ in &others {
        hung.accept().unwrap();
    }
    others.into_iter().for_each(Rig::stop);
    holder.stop();
}

/// Passes a request on to `holder` up to the moment in which it wants the body, which it never
/// gets; then gives `answer` instead of it.
fn hijacked(listener: &TcpListener, holder: u16, answer: &str) {
    let (mut socket, _) = listener.accept().unwrap();
    let head = head_of(&mut socket);
    let mut behind = TcpStream::connect(("127.0.0.1", holder)).unwrap();
    behind.write_all(head.as_bytes()).unwrap();
    let invited = head_of(&mut behind);
    assert!(invited.starts_with("HTTP/1.1 100 "), "{invited}");
    socket.write_all(invited.as_bytes()).unwrap();
    let mut body = vec![0; PING.len()];
    socket.read_exact(&mut body).unwrap();
    socket.write_all(answer.as_bytes()).unwrap();
}

#[test]
fn a_body_that_was_sent_is_not_sent_to_a_second_address() {
    let keys = keys("twice", &[OLD]);
    let [middle, next] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let clock = json!({"clock": demo("clock")});
    let holder = plan(&clock, &keys, "holder").start();
    let peers = [&middle, &next].map(|one| one.local_addr().unwrap().to_string());
    next.set_nonblocking(true).unwrap();
    for (at, answer) in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 421 Misdirected Request\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let other = plan(&clock, &keys, &format!("other-{at}"));
        let other = other.args(&["--replica-peers", &peers.join(",")]).start();
        let (session, port) = (holder.session(), other.port);
        let asked = std::thread::spawn(move || ping(&session, port).0);
        hijacked(&middle, holder.port, answer);
        assert_eq!(asked.join().unwrap(), 502, "{answer}");
        assert!(next.accept().is_err(), "{answer}");
        other.stop();
    }
    holder.stop();
}

#[test]
fn a_large_body_reaches_its_replica_after_others_were_asked() {
    let replicas = start::<3>("large", &json!({"clock": demo("clock")}), &[]);
    let session = replicas.rigs[2].session();
    let padding = "x".repeat(3 << 20);
    let body = PING.replace(
        '}',
        &format!(",\"params\":{{\"_meta\":{{\"x\":\"{padding}\"}}}}}}"),
    );
    for _ in 0..2 {
        let request = session.sign(Request::post("/mcp", body.clone()));
        let reply = Connection::open(replicas.port(1)).exchange(&request);
        assert_eq!(reply.status(), 200, "{:?}", reply.head);
    }
    replicas.stop();
}

#[test]
fn a_client_that_hangs_up_ends_the_search_for_its_replica() {
    let keys = keys("search", &[OLD]);
    let [hung, next] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let peers = [&hung, &next].map(|one| one.local_addr().unwrap().to_string());
    let clock = json!({"clock": demo("clock")});
    let holder = plan(&clock, &keys, "holder").start();
    let other = plan(&clock, &keys, "other");
    let other = other.args(&["--replica-peers", &peers.join(",")]).start();
    let (session, before) = (holder.session(), other.threads_named("http-"));
    let mut client = Connection::open(other.port);
    client.send_only(&session.sign(Request::post("/mcp", PING)));
    let (mut socket, _) = hung.accept().unwrap();
    head_of(&mut socket);
    client.reset();
    assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0);
    eventually("nobody works for it any more", || {
        other.threads_named("http-") == before
    });
    next.set_nonblocking(true).unwrap();
    assert!(next.accept().is_err(), "the next is not asked");
    holder.stop();
    other.stop();
}

#[test]
fn the_other_replica_judges_the_token_itself() {
    let mint = Mint::new(7);
    let file = keys("auth-keys", &[]);
    mint.write(&file);
    let more = ["--enable-auth", "--external-url", ISSUER, "--auth-keys"];
    let more = [&more[..], &[file.to_str().unwrap()]].concat();
    let servers = json!({"clock": with(demo("clock"), json!({"tags": ["web"]}))});
    let replicas = start::<2>("auth", &servers, &more);
    let bearer =
        |subject: &str| format!("Bearer {}", mint.token("tag:web", json!({"sub": subject})));
    let hello = Request::post("/mcp", initialize("2025-11-25", &json!({})));
    let opened = Connection::open(replicas.port(0));
    let opened = { opened }.exchange(&hello.with("Authorization", &bearer("ada")));
    assert_eq!(opened.status(), 200, "{opened:?}");
    let id = opened.head.header("Mcp-Session-Id").unwrap();
    let status = |token: &str| {
        let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
        let request = Request::post("/mcp", body).with("Mcp-Session-Id", id);
        let request = request.with("Authorization", token);
        Connection::open(replicas.port(1))
            .exchange(&request)
            .status()
    };
    assert_eq!(status(&bearer("ada")), 200);
    assert_eq!(status(&bearer("eve")), 404);
    assert_eq!(status("Bearer x"), 401);
    replicas.stop();
}

#[test]
fn keys_are_exchanged_while_sessions_live() {
    let replicas = start::<2>("rotation", &json!({"clock": demo("clock")}), &[]);
    let before = replicas.rigs[0].session();
    let mark = |id: &str| id.rsplit_once('.').unwrap().1.len();
    // Known everywhere before it is used.
    keys("rotation", &[OLD, NEW]);
    keys("rotation", &[NEW, OLD]);
    let stranger = keys("rotation-new", &[NEW]);
    let stranger = plan(&json!({}), &stranger, "stranger").start();
    eventually("the new key seals", || {
        let after = replicas.rigs[0].session();
        ping(&after, stranger.port).1.contains("replica-peers")
    });
    eventually("the new key is known", || {
        ping(&replicas.rigs[0].session(), replicas.port(1)).0 == 200
    });
    assert_eq!(ping(&before, replicas.port(1)).0, 200);
    keys("rotation", &[NEW]);
    eventually("the old key is forgotten", || {
        ping(&before, replicas.port(1)).0 == 404
    });
    assert_eq!(ping(&before, replicas.port(0)).0, 200);
    assert!(mark(&before.id) > 28);
    stranger.stop();
    replicas.stop();
}

#[test]
fn bad_keys_are_refused_with_what_to_do() {
    for (lines, said) in [
        (&["short"][..], "openssl rand -base64 32"),
        (&["# nothing"], "find a key"),
    ] {
        let keys = keys("bad", lines);
        let (code, stderr) = plan(&json!({}), &keys, "x").refused();
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
    let plan = Plan::new(json!({})).args(&["--replica-peers", "127.0.0.1:1"]);
    let (code, stderr) = plan.refused();
    assert!(
        code == Some(78) && stderr.contains("replica-keys"),
        "{stderr}"
    );
}
