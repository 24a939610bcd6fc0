//! The listener over TLS, seen by clients that are not ours: rustls and curl. What holds for plain
//! connections holds here: streams, bodies, clients that go, a slow or a wrong greeting.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion};
use serde_json::{Value, json};

use crate::support::http::{Connection, Request};
use crate::support::rig::{Plan, Rig};
use crate::support::servers::{everything, gateway_binary};
use crate::support::session::initialize;
use crate::support::stateless::Client;
use crate::support::tls::{EVERY_VERSION, Pki, session};
use crate::support::{PATIENCE, eventually};

fn servers() -> Value {
    json!({"s": everything(&[])})
}

fn rig(pki: &Pki) -> Rig {
    Plan::new(servers()).tls(pki, "gateway").start()
}

/// What comes of a request on a connection of its own, or why nothing does.
fn ask(client: Arc<ClientConfig>, port: u16) -> Result<(String, Option<ProtocolVersion>), String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = session(client);
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    let request = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    let sent = stream.write_all(request.as_bytes());
    let read = sent.and_then(|()| stream.read_to_string(&mut answer));
    match read {
        Ok(_) => Ok((answer, tls.protocol_version())),
        Err(error) => Err(error.to_string()),
    }
}

fn curl(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(args)
        .output()
        .expect("curl is installed");
    let both = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(both).unwrap())
}

#[test]
fn sessions_streams_and_large_bodies_go_over_tls() {
    let pki = Pki::new().with("gateway", 30);
    let rig = rig(&pki);
    let mut session = rig.session();
    let large = "x".repeat(3 << 20);
    let result = session.call("s_1mcp_echo", json!({"text": large}));
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(
        text.len() >= 3 << 20 && text.ends_with(&large[..99]),
        "{}",
        text.len()
    );
    // An answer that begins as a stream because it takes long.
    let sleep = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": {"name": "s_1mcp_sleep", "arguments": {"ms": 1500}}});
    let mut stream = session.stream(sleep.to_string());
    assert!(stream.head.is_events());
    assert_eq!(stream.message()["id"], 7);
    assert!(session.listen().event(PATIENCE).is_some());
    rig.stop();
}

#[test]
fn versions_and_protocols_are_agreed_on() {
    let pki = Pki::new().with("gateway", 30);
    let rig = rig(&pki);
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let (answer, spoken) = ask(
            pki.client_with(None, &[version], &["h2", "http/1.1"]),
            rig.port,
        )
        .expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(spoken, Some(expected));
    }
    assert!(ask(pki.client_with(None, EVERY_VERSION, &[]), rig.port).is_ok());
    let why = ask(pki.client_with(None, EVERY_VERSION, &["h2"]), rig.port).unwrap_err();
    assert!(why.contains("NoApplicationProtocol"), "{why}");
    let stranger = Pki::new();
    let why = ask(stranger.client(), rig.port).unwrap_err();
    assert!(
        why.contains("UnknownIssuer") || why.contains("BadSignature"),
        "{why}"
    );
    let url = format!("https://localhost:{}/health", rig.port);
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let (code, said) = curl(&[version, &["--cacert", &pki.ca(), &url]].concat());
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("\"authEnabled\":false"), "{said}");
    }
    let (code, _) = curl(&[&url]);
    assert_eq!(code, Some(60));
    rig.stop();
}

#[test]
fn who_speaks_no_tls_is_told_so() {
    let pki = Pki::new().with("gateway", 30);
    let rig = rig(&pki);
    let url = format!("http://127.0.0.1:{}/mcp", rig.port);
    let (code, said) = curl(&["--include", "--data", "{}", &url]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    assert!(
        said.contains("https") && said.contains("Connection: close"),
        "{said}"
    );
    for bytes in [&b"\0\0\0\0"[..], b"\x80\x80", b"SSH-2.0-x\r\n", b"\n"] {
        let mut socket = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    // A handshake that begins with the wrong word.
    let mut socket = TcpStream::connect(("127.0.0.1", rig.port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
        .write_all(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00")
        .unwrap();
    let mut answer = Vec::new();
    let read = socket.read_to_end(&mut answer);
    let is_reset = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionReset;
    assert!(
        read.as_ref().is_ok() || read.as_ref().is_err_and(is_reset),
        "{read:?}"
    );
    assert_eq!(answer.first(), Some(&0x15), "not an alert: {answer:?}");
    assert_eq!(rig.get("/health/live").status(), 200);
    rig.stop();
}

#[test]
fn a_client_that_goes_takes_its_request_back() {
    let pki = Pki::new().with("gateway", 30);
    let rig = rig(&pki);
    let client = Client::new(rig.port, "/mcp/s");
    let sleep = json!({"name": "sleep", "arguments": {"ms": 60_000}});
    let in_work = || {
        let known: Value = serde_json::from_str(&client.text("whoami", json!({}))).unwrap();
        known["calls"].as_u64().unwrap() - 1
    };
    let mut waiting = Connection::open(rig.port);
    waiting.send_only(&client.request(&json!(1), "tools/call", &sleep));
    eventually("the call is in work", || in_work() == 1);
    waiting.cut();
    eventually("it has ended", || in_work() == 0);
    let mut stream = client.stream(&json!(1), "tools/call", &sleep);
    assert!(stream.event(PATIENCE).unwrap().comment);
    assert_eq!(in_work(), 1);
    stream.cut();
    eventually("it has ended too", || in_work() == 0);
    rig.stop();
}

/// Runs a command of ours to its end; its exit code and what it said.
fn onemcp(pki: &Pki, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(gateway_binary());
    command.env_clear().env("HOME", &pki.0).current_dir(&pki.0);
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    let both = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(both).unwrap())
}

#[test]
fn commands_find_the_gateway() {
    let pki = Pki::new().with("gateway", 30);
    let rig = rig(&pki);
    let url = format!("https://127.0.0.1:{}", rig.port);
    let (port, ca, own) = (rig.port.to_string(), pki.ca(), pki.certificate("gateway"));
    let key = pki.key("gateway");
    let line = ["list", "--url", &url, "--ca-file", &ca];
    let (code, said) = onemcp(&pki, &line);
    assert!(code == Some(0) && said.contains("s_1mcp_echo"), "{said}");
    let line = [
        "call",
        "s/echo",
        "--args",
        "{\"text\":\"hi\"}",
        "--url",
        &url,
    ];
    let (code, said) = onemcp(&pki, &[&line[..], &["--ca-file", &ca]].concat());
    assert!(code == Some(0) && said.contains("hi"), "{said}");
    let (code, said) = onemcp(&pki, &line);
    assert_eq!(code, Some(69), "{said}");
    let mut proxy = Command::new(gateway_binary());
    proxy.env_clear().env("HOME", &pki.0);
    proxy.args(["proxy", "--url", &url, "--ca-file", &ca]);
    let mut proxy = proxy
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ping = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
    let hello = initialize("2025-11-25", &json!({}));
    let mut input = proxy.stdin.take().unwrap();
    write!(input, "{hello}\n{ping}\n").unwrap();
    let mut lines = BufReader::new(proxy.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains("\"result\""), "{first}");
    drop(input);
    assert!(proxy.wait().unwrap().success());
    // No socket is found from that home, so it asks the port.
    let tls = ["--port", &port, "--tls-cert", &own, "--tls-key", &key];
    for ca in [&[][..], &["--ca-file", &ca]] {
        let (code, said) = onemcp(&pki, &[&["health", "--live"], &tls[..], ca].concat());
        assert_eq!(
            code,
            if ca.is_empty() { Some(69) } else { Some(0) },
            "{said}"
        );
    }
    // One that vouches for itself needs nothing else.
    pki.make_own("alone");
    let (own, key) = (pki.certificate("alone"), pki.key("alone"));
    let alone = Plan::new(json!({}))
        .args(&["--tls-cert", &own, "--tls-key", &key])
        .connecting(pki.client_trusting("alone"))
        .start();
    let port = alone.port.to_string();
    let tls = ["--port", &port, "--tls-cert", &own, "--tls-key", &key];
    let (code, said) = onemcp(&pki, &[&["health", "--ready"], &tls[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    alone.stop();
    rig.stop();
}

/// Calls on connections of their own until told to stop; how many there were, and which failed.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(client: &Arc<ClientConfig>, port: u16) -> Load {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..4).map(|_| {
            let (stop, done, client) = (stop.clone(), done.clone(), client.clone());
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match ask(client.clone(), port) {
                        Ok((answer, _)) if answer.starts_with("HTTP/1.1 200") => {}
                        other => failed.push(format!("{other:?}")),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                failed
            })
        });
        let threads = threads.collect();
        Load {
            stop,
            done,
            threads,
        }
    }

    #[track_caller]
    fn end(self) {
        eventually("there was a load", || {
            self.done.load(Ordering::Relaxed) > 20
        });
        self.stop.store(true, Ordering::Relaxed);
        let failed: Vec<_> = self
            .threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}

/// The certificate that a new connection is shown.
fn shown(pki: &Pki, port: u16) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut tls = session(pki.client());
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).unwrap();
    }
    tls.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn certificates_are_replaced_under_load() {
    let pki = Pki::new()
        .with("gateway", 30)
        .with("next", 60)
        .with("last", 90);
    let rig = rig(&pki);
    let mut before = rig.session();
    let load = Load::start(&pki.client(), rig.port);
    let replace = |from: &str| {
        // Not at once: for a moment the key does not fit.
        fs::copy(pki.certificate(from), pki.certificate("gateway")).unwrap();
        fs::copy(pki.key(from), pki.key("gateway")).unwrap();
    };
    replace("next");
    let is_in_force = |name: &str| shown(&pki, rig.port) == pki.chain(name)[0].to_vec();
    eventually("the next pair is in force", || is_in_force("next"));
    fs::write(pki.certificate("gateway"), "nothing").unwrap();
    eventually("it is refused", || {
        assert!(is_in_force("next"));
        rig.stderr().contains("certificate rejected")
    });
    replace("last");
    eventually("the last pair is in force", || is_in_force("last"));
    load.end();
    // What was open stays open.
    let result = before.call("s_1mcp_echo", json!({"text": "still"}));
    assert!(
        result["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("still")
    );
    rig.stop();
}

#[test]
fn a_volume_of_secrets_is_replaced_by_one_link() {
    let pki = Pki::new().with("gateway", 30).with("next", 60);
    let folder = pki.0.join("volume");
    for (data, name) in [("..1", "gateway"), ("..2", "next")] {
        fs::create_dir_all(folder.join(data)).unwrap();
        fs::copy(pki.certificate(name), folder.join(data).join("tls.crt")).unwrap();
        fs::copy(pki.key(name), folder.join(data).join("tls.key")).unwrap();
    }
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, folder.join(to)).unwrap();
    link("..1", "..data");
    link("..data/tls.crt", "tls.crt");
    link("..data/tls.key", "tls.key");
    let path = |file: &str| folder.join(file).display().to_string();
    let (certificate, key) = (path("tls.crt"), path("tls.key"));
    let rig = Plan::new(servers())
        .args(&["--tls-cert", &certificate, "--tls-key", &key])
        .connecting(pki.client())
        .start();
    assert_eq!(shown(&pki, rig.port), pki.chain("gateway")[0].to_vec());
    link("..2", "..data_tmp");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    eventually("the next pair is in force", || {
        shown(&pki, rig.port) == pki.chain("next")[0].to_vec()
    });
    rig.stop();
}

#[test]
fn only_clients_of_the_authority_come_in() {
    let pki = Pki::new().with("gateway", 30).with("alice", 30);
    let stranger = Pki::new().with("mallory", 30);
    let alice = pki.client_showing((&pki, "alice"));
    let rig = Plan::new(servers())
        .tls(&pki, "gateway")
        .connecting(alice.clone())
        .args(&["--tls-client-ca", &pki.ca()])
        .start();
    let load = Load::start(&alice, rig.port);
    for version in [&TLS12, &TLS13] {
        let mallory = Some((&stranger, "mallory"));
        for (shown, expected) in [
            (None, "CertificateRequired"),
            (mallory, "UnknownCA"),
            (Some((&pki, "alice")), ""),
        ] {
            let client = pki.client_with(shown, &[version], &["http/1.1"]);
            let found = ask(client, rig.port);
            let case = format!("{version:?} {expected} {found:?}");
            match found {
                Ok((answer, _)) => assert!(expected.is_empty(), "{case} {answer}"),
                // TLS 1.2 has no word for a certificate that is missing.
                Err(why) => assert!(
                    !expected.is_empty()
                        && (why.contains(expected) || why.contains("alert") || why.contains("eof")),
                    "{case}"
                ),
            }
        }
    }
    load.end();
    rig.stop();
}

#[test]
fn a_certificate_that_ends_soon_is_told_of_until_it_is_replaced() {
    let pki = Pki::new().with("gateway", 2).with("next", 90);
    let alerts = json!({"sinks": {"here": {"type": "log"}}});
    let rig = Plan::new(json!({}))
        .set("alerts", alerts)
        .tls(&pki, "gateway")
        .start();
    let says = |text: &str| rig.stderr().contains(text);
    let told = "the certificate of the listener expires in 1 days";
    eventually("it is told", || says(told));
    for (from, to) in [
        (pki.certificate("next"), pki.certificate("gateway")),
        (pki.key("next"), pki.key("gateway")),
    ] {
        fs::copy(from, to).unwrap();
    }
    eventually("its end is told", || {
        rig.get("/health/live");
        says("the certificate of the listener was replaced")
    });
    rig.stop();
}

#[test]
fn settings_that_do_not_fit_stop_the_start() {
    let pki = Pki::new().with("gateway", 30).with("other", 30);
    let (certificate, key) = (pki.certificate("gateway"), pki.key("gateway"));
    let other = pki.key("other");
    let ca = pki.ca();
    for (args, said) in [
        (&["--tls-cert", &certificate][..], "tls-key"),
        (&["--tls-key", &key], "tls-cert"),
        (&["--tls-client-ca", &ca], "tls-cert and tls-key"),
        (&["--tls-cert", "/nowhere", "--tls-key", &key], "/nowhere"),
        (&["--tls-cert", &key, "--tls-key", &key], "no certificate"),
        (
            &["--tls-cert", &certificate, "--tls-key", &certificate],
            "no private key",
        ),
        (
            &["--tls-cert", &certificate, "--tls-key", &other],
            "key of the first certificate",
        ),
        (
            &["--tls-cert", "/dev/zero", "--tls-key", &key],
            "it is no file",
        ),
        (
            &["--external-url", "https://a.b/path"],
            "scheme and host alone",
        ),
        (
            &["--enable-auth", "--external-url", "http://a.b"],
            "--behind-tls-proxy",
        ),
        (&["--enable-auth", "--host", "0.0.0.0"], "--external-url"),
        (&["--host", "0.0.0.0"], "--allow-unauthenticated"),
    ] {
        let (code, stderr) = Plan::new(json!({})).args(args).refused();
        let is_flag = said == "scheme and host alone";
        assert_eq!(
            code,
            Some(if is_flag { 64 } else { 78 }),
            "{args:?}: {stderr}"
        );
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
}

#[test]
fn the_external_url_names_us_and_headers_of_proxies_do_not() {
    let rig = Plan::new(servers())
        .args(&["--external-url", "https://mcp.example.com"])
        .start();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "c", "version": "1"}}});
    let status = |host: &str, header: (&str, &str)| {
        let request = Request::post("/mcp", list.to_string());
        let request = request.with("Host", host).with(header.0, header.1);
        let reply = Connection::open(rig.port).exchange(&request);
        let cors = reply.head.header("Access-Control-Allow-Origin");
        (reply.status(), cors.map(str::to_owned))
    };
    let ours = "https://mcp.example.com";
    let origin = |text| ("Origin", text);
    for (host, header, expected, cors) in [
        ("mcp.example.com", origin(ours), 200, Some(ours)),
        ("MCP.example.com:443", origin(""), 200, None),
        (
            "mcp.example.com",
            origin("http://mcp.example.com"),
            403,
            None,
        ),
        (
            "mcp.example.com",
            origin("https://mcp.example.com.evil"),
            403,
            None,
        ),
        (
            "mcp.example.com",
            origin("https://other.example"),
            403,
            None,
        ),
        (
            "evil.example",
            ("X-Forwarded-Host", "mcp.example.com"),
            403,
            None,
        ),
        (
            "evil.example",
            ("Forwarded", "host=mcp.example.com"),
            403,
            None,
        ),
        (
            "mcp.example.com",
            ("X-Forwarded-Host", "evil.example"),
            200,
            None,
        ),
    ] {
        let found = status(host, header);
        assert_eq!(
            found,
            (expected, cors.map(str::to_owned)),
            "{host} {header:?}"
        );
    }
    rig.stop();
}
