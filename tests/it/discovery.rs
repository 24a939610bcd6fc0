//! Servers that nobody wrote down: what is found comes, changes and goes as if it stood in the
//! file, and can do no harm; a source that fails takes nothing with it at once.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::remote::{HttpFixture, Script};
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::everything;
use crate::support::session::Session;

/// Looks into `found` beside the configuration.
fn watching(servers: Value, more: Value) -> Plan {
    let mut source = json!({"type": "directory", "path": "found", "tags": ["found"]});
    for (key, value) in more.as_object().unwrap() {
        source[key] = value.clone();
    }
    Plan::new(servers)
        .set("configReload", json!({"debounce": 20}))
        .set("discovery", json!({"drop": source}))
}

fn folder(rig: &Rig) -> PathBuf {
    let folder = rig.folder().join("found");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// As one should: beside it, and then in its place.
fn put(folder: &Path, name: &str, text: &str) {
    let beside = folder.join(format!(".{name}.new"));
    fs::write(&beside, text).unwrap();
    fs::rename(beside, folder.join(format!("{name}.json"))).unwrap();
}

fn remove(folder: &Path, name: &str) {
    fs::remove_file(folder.join(format!("{name}.json"))).unwrap();
}

fn connected(rig: &Rig) -> Vec<String> {
    let health = rig.health();
    let details = health["servers"]["details"].as_array().unwrap().clone();
    let ready = details.iter().filter(|one| one["status"] == "connected");
    ready
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

fn source(rig: &Rig) -> Value {
    rig.health()["configuration"]["discovery"][0].clone()
}

fn tools_of(session: &mut Session) -> Vec<String> {
    let mut prefixes: Vec<String> = session
        .names("tools")
        .iter()
        .filter_map(|name| Some(name.split_once("_1mcp_")?.0.to_owned()))
        .collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

#[test]
fn a_file_that_comes_is_a_server_and_goes_with_the_file() {
    let fixture = HttpFixture::start(&[]);
    let rig = watching(json!({"own": everything(&[])}), json!({})).start();
    eventually("the folder is missed", || {
        let source = source(&rig);
        source["ok"] == false && source["failures"].as_u64() > Some(0)
    });
    let folder = folder(&rig);
    let mut session = rig.session();
    let mut stream = session.listen();
    put(&folder, "one", &fixture.entry().to_string());
    let news = stream.message();
    assert_eq!(news["method"], "notifications/tools/list_changed");
    eventually("it is listed", || tools_of(&mut session) == ["one", "own"]);
    assert_eq!(session.text("one_1mcp_echo", json!({"text": "x"})), "x");
    assert_eq!(source(&rig)["taken"], 1);
    let mut narrow = rig.session_at("/mcp?tags=found");
    assert_eq!(tools_of(&mut narrow), ["one"]);

    // Other tags are no new connection; several servers may be in one file.
    let mut entry = fixture.entry();
    entry["tags"] = json!(["blue"]);
    let several = json!({"mcpServers": {"one": entry, "two": fixture.old_entry()}});
    put(&folder, "one", &several.to_string());
    eventually("both are there", || connected(&rig).len() == 3);
    let mut blue = rig.session_at("/mcp?tags=blue");
    assert_eq!(tools_of(&mut blue), ["one"]);

    remove(&folder, "one");
    eventually("only what was written is left", || {
        tools_of(&mut session) == ["own"] && connected(&rig) == ["own"]
    });
    rig.stop();
}

#[test]
fn what_is_found_can_do_no_harm() {
    let script = Script::start(|_, _| false);
    let plan = watching(json!({"own": everything(&[])}), json!({}));
    let rig = plan.env("CANARY", "canary-5131").start();
    let folder = folder(&rig);
    let url = script.url("/mcp");
    let bad = [
        ("command", json!({"command": "touch", "args": ["x"]})),
        ("both", json!({"url": url, "command": "touch"})),
        ("stdio", json!({"type": "stdio", "url": url})),
        (
            "headers",
            json!({"url": url, "headers": {"a": "${CANARY}"}}),
        ),
        ("env", json!({"url": url, "env": {"A": "${CANARY}"}})),
        ("proxy", json!({"url": url, "proxy": script.url("/")})),
        ("ca", json!({"url": url, "caFile": "/etc/passwd"})),
        (
            "forward",
            json!({"url": url, "forwardHeaders": ["authorization"]}),
        ),
        ("oauth", json!({"url": url, "oauth": {"clientId": "a"}})),
        ("required", json!({"url": url, "required": true})),
        ("metadata", json!({"url": "http://169.254.169.254/latest"})),
        ("public", json!({"url": "http://8.8.8.8/mcp"})),
        ("mapped", json!({"url": "http://[::ffff:169.254.169.254]/"})),
        ("file", json!({"url": "file:///etc/passwd"})),
        ("own", json!({"url": url})),
        ("", json!({"url": url})),
        ("none", json!({})),
    ];
    for (name, entry) in &bad {
        let text = json!({"mcpServers": {*name: entry}}).to_string();
        put(&folder, &format!("bad-{name}"), &text);
    }
    eventually("all are refused", || {
        source(&rig)["found"] == bad.len() && source(&rig)["refused"] != json!([])
    });
    assert_eq!(source(&rig)["taken"], 0, "{}", source(&rig));
    assert_eq!(connected(&rig), ["own"]);
    // A template is a text like any other.
    let entry = json!({"url": script.url("/mcp?key=${CANARY}")});
    put(&folder, "template", &entry.to_string());
    put(&folder, "good", &json!({"url": url}).to_string());
    eventually("the good one is there", || {
        connected(&rig).contains(&"good".to_owned())
    });
    for seen in script.seen() {
        assert!(!format!("{seen:?}").contains("canary-5131"), "{seen:?}");
    }
    assert!(!source(&rig).to_string().contains("canary-5131"));
    rig.stop();
}

#[test]
fn a_name_that_leads_elsewhere_is_not_followed() {
    let script = Script::start(|_, _| false);
    let rig = watching(json!({}), json!({"allow": ["10.0.0.0/8"]})).start();
    let folder = folder(&rig);
    let url = format!("http://localhost:{}/mcp", script.port);
    put(&folder, "near", &json!({"url": url}).to_string());
    eventually("it is not connected", || {
        let health = rig.health();
        let details = health["servers"]["details"].as_array().unwrap();
        details.iter().any(|one| one["status"] == "error")
    });
    assert_eq!(script.seen().len(), 0);
    rig.stop();
}

#[test]
fn half_a_file_changes_nothing() {
    let fixture = HttpFixture::start(&[]);
    let rig = watching(json!({}), json!({})).start();
    let folder = folder(&rig);
    put(&folder, "one", &fixture.entry().to_string());
    eventually("it is there", || connected(&rig) == ["one"]);
    let whole = fixture.entry().to_string();
    fs::write(folder.join("one.json"), &whole[..whole.len() / 2]).unwrap();
    eventually("it is told after a while", || {
        source(&rig)["refused"]
            .to_string()
            .contains("not valid JSON")
    });
    assert_eq!(connected(&rig), ["one"]);
    put(&folder, "one", &whole);
    eventually("it is well", || source(&rig)["refused"] == json!([]));
    assert_eq!(connected(&rig), ["one"]);
    rig.stop();
}

#[test]
fn a_source_that_fails_keeps_what_it_found_for_a_while() {
    let fixture = HttpFixture::start(&[]);
    let rig = watching(json!({}), json!({"keepFor": 2500})).start();
    let (folder, away) = (folder(&rig), rig.folder().join("away"));
    put(&folder, "one", &fixture.entry().to_string());
    eventually("it is there", || connected(&rig) == ["one"]);
    fs::rename(&folder, &away).unwrap();
    eventually("the source fails", || source(&rig)["ok"] == false);
    assert_eq!(connected(&rig), ["one"]);
    eventually("it goes in the end", || connected(&rig).is_empty());
    fs::rename(&away, &folder).unwrap();
    eventually("it is back", || connected(&rig) == ["one"]);
    assert_eq!(source(&rig)["ok"], true);
    rig.stop();
}

#[test]
fn a_reload_leaves_findings_alone() {
    let fixture = HttpFixture::start(&[]);
    let rig = watching(json!({}), json!({})).start();
    put(&folder(&rig), "one", &fixture.entry().to_string());
    eventually("it is there", || connected(&rig) == ["one"]);
    let since = rig.server("one")["lastConnected"].clone();
    let file = rig.folder().join("mcp.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    config["mcpServers"]["new"] = fixture.entry();
    fs::write(&file, config.to_string()).unwrap();
    signal(rig.pid, Signal::HUP);
    eventually("the new one is there", || connected(&rig).len() == 2);
    assert_eq!(rig.server("one")["lastConnected"], since);
    // Whoever writes the name down has it.
    config["mcpServers"]["one"] = fixture.entry();
    fs::write(&file, config.to_string()).unwrap();
    signal(rig.pid, Signal::HUP);
    eventually("the finding is refused", || source(&rig)["taken"] == 0);
    assert_eq!(connected(&rig).len(), 2);
    rig.stop();
}

/// What the stub of a name server does.
const SERVES: u8 = 0;
const NOTHING: u8 = 1;
const FAILS: u8 = 2;
const LARGE: u8 = 3;
const FORGES: u8 = 4;

/// The same port over UDP and TCP.
fn name_server(port: u16, mode: &Arc<AtomicU8>) -> u16 {
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = tcp.local_addr().unwrap();
        if let Ok(udp) = UdpSocket::bind(at) {
            break (udp, tcp);
        }
    };
    let own = udp.local_addr().unwrap().port();
    let (over_udp, over_tcp) = (mode.clone(), mode.clone());
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((count, from)) = udp.recv_from(&mut bytes) {
            let mode = over_udp.load(Ordering::SeqCst);
            if mode == FORGES {
                // Another number, another question, no answer at all: then the true one.
                let mut forged = answered(&bytes[..count], 1, SERVES);
                forged[1] ^= 1;
                let _ = udp.send_to(&forged, from);
                forged[1] ^= 1;
                forged[14] ^= 1;
                let _ = udp.send_to(&forged, from);
                let _ = udp.send_to(&bytes[..count], from);
            }
            let _ = udp.send_to(&answered(&bytes[..count], port, mode), from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut bytes).is_err() {
                continue;
            }
            assert_eq!(over_tcp.load(Ordering::SeqCst), LARGE);
            let answer = answered(&bytes, port, SERVES);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&length[..], &answer].concat());
        }
    });
    own
}

fn answered(question: &[u8], port: u16, mode: u8) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut bytes = question[..end].to_vec();
    let (high, low, count) = match mode {
        NOTHING => (0x81, 0x83, 0),
        FAILS => (0x81, 0x82, 0),
        LARGE => (0x83, 0x80, 0),
        _ => (0x81, 0x80, 1),
    };
    (bytes[2], bytes[3]) = (high, low);
    bytes[6..12].copy_from_slice(&[0, count, 0, 0, 0, 0]);
    if count == 1 {
        let target = b"\x09localhost\x00";
        bytes.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 1]);
        bytes.extend(u16::try_from(6 + target.len()).unwrap().to_be_bytes());
        bytes.extend([0, 0, 0, 0]);
        bytes.extend(port.to_be_bytes());
        bytes.extend(target);
    }
    bytes
}

/// Asks the name server at `port`.
fn asking(port: u16, interval_ms: u64) -> Plan {
    let source = json!({"dns": {
        "srv": "_mcp._tcp.example.com",
        "nameserver": format!("127.0.0.1:{port}"),
        "interval": interval_ms,
        "allow": ["127.0.0.0/8", "::1"],
        "tags": ["dns"],
    }});
    Plan::new(json!({})).set("discovery", source)
}

#[test]
fn a_name_server_that_failed_is_asked_again_soon() {
    let fixture = HttpFixture::start(&[]);
    let mode = Arc::new(AtomicU8::new(FAILS));
    // As long as anything that is found is kept.
    let rig = asking(name_server(fixture.port, &mode), 600_000).start();
    eventually("it fails", || source(&rig)["failures"].as_u64() > Some(0));
    mode.store(SERVES, Ordering::SeqCst);
    eventually("it is asked again", || connected(&rig).len() == 1);
    rig.stop();
}

#[test]
fn service_records_of_dns_are_servers() {
    let fixture = HttpFixture::start(&[]);
    let mode = Arc::new(AtomicU8::new(SERVES));
    let port = name_server(fixture.port, &mode);
    let rig = asking(port, 1000).start();
    let name = format!("localhost-{}", fixture.port);
    let set = |to| mode.store(to, Ordering::SeqCst);
    let is_there = || connected(&rig) == [name.clone()];
    eventually("the record is a server", is_there);
    set(FAILS);
    eventually("the name server fails", || {
        self::source(&rig)["ok"] == false
    });
    assert!(is_there());
    set(NOTHING);
    eventually("there is no such name", || connected(&rig).is_empty());
    set(LARGE);
    eventually("it is asked over TCP", is_there);
    set(NOTHING);
    eventually("it is gone again", || connected(&rig).is_empty());
    set(FORGES);
    eventually("what is forged is not heard", is_there);
    rig.stop();
}

const NAMES: usize = 100;
const ROUNDS: usize = 5;

#[test]
fn a_thousand_comings_and_goings_leave_nothing() {
    let fixture = HttpFixture::start(&[]);
    let rig = watching(json!({"own": everything(&[])}), json!({})).start();
    let folder = folder(&rig);
    let mut session = rig.session();
    let names: Vec<String> = (0..NAMES).map(|number| format!("s{number:03}")).collect();
    let round = |session: &mut Session| {
        for name in &names {
            put(&folder, name, &fixture.entry().to_string());
        }
        eventually("all are listed", || tools_of(session).len() == NAMES + 1);
        for name in &names {
            remove(&folder, name);
        }
        eventually("none is listed", || tools_of(session) == ["own"]);
        eventually("none is shown", || connected(&rig) == ["own"]);
        eventually("their threads are gone", || {
            ["own:", "ht:", "st:", "bye:"]
                .iter()
                .all(|prefix| rig.threads_named(prefix) <= 1)
        });
    };
    round(&mut session);
    let (threads, files) = (rig.threads(), rig.files());
    let mut memory = vec![resident_kib(&rig)];
    for _ in 1..ROUNDS {
        round(&mut session);
        memory.push(resident_kib(&rig));
    }
    eventually("threads are as before", || rig.threads() <= threads + 2);
    eventually("files are as before", || rig.files() <= files + 3);
    println!("{} events: {memory:?} KiB", ROUNDS * NAMES * 2);
    // What the allocator keeps for the threads of a hundred servers comes and goes; a leak comes
    // with each round.
    let rounds = memory.windows(2);
    let least = rounds.map(|both| both[1].saturating_sub(both[0])).min();
    assert!(least < Some(8 * 1024), "{memory:?} KiB");
    assert_eq!(session.text("own_1mcp_echo", json!({"text": "x"})), "x");
    rig.stop();
}

fn resident_kib(rig: &Rig) -> usize {
    // What was freed a moment ago may still be counted.
    std::thread::sleep(Duration::from_millis(300));
    let status = fs::read_to_string(format!("/proc/{}/status", rig.pid)).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let mut words = line.unwrap().split_whitespace();
    words.nth(1).unwrap().parse().unwrap()
}
