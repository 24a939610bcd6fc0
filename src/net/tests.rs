//! The client against small scripted servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::{limits, thread};
use crate::net::client::{Client, ClientOptions, Method, Request, Response};
use crate::net::egress::{Allowed, Egress, Refusal};
use crate::net::error::{BadRedirect, NetError};
use crate::net::proxy::ProxyChoice;
use crate::net::stop::Stop;
use crate::net::url::Url;

/// More than any test may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than ending a wait may take, less than any of the waits.
const AT_ONCE: Duration = Duration::from_secs(2);

/// One request as a server saw it.
struct Seen {
    /// Which connection brought it, from one.
    connection: usize,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

struct Site {
    address: SocketAddr,
}

impl Site {
    /// `answer` writes to the connection and says whether it goes on.
    fn start(answer: impl Fn(&Seen, &mut TcpStream) -> bool + Send + Sync + 'static) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        let accept = move || {
            for (at, stream) in listener.incoming().enumerate() {
                let (stream, answer) = (stream.unwrap(), answer.clone());
                let serve = move || serve(at + 1, stream, &*answer);
                thread::spawn("site", limits::STACK_WORKER_BYTES, serve).unwrap();
            }
        };
        thread::spawn("site", limits::STACK_WORKER_BYTES, accept).unwrap();
        Site { address }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn serve(connection: usize, stream: TcpStream, answer: &dyn Fn(&Seen, &mut TcpStream) -> bool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        if !answer(
            &Seen {
                connection,
                head,
                body,
            },
            &mut writer,
        ) {
            writer.shutdown(Shutdown::Both).ok();
            return;
        }
    }
}

fn say(stream: &mut TcpStream, text: &str) {
    // The client may be gone, which is what some tests are about.
    drop(stream.write_all(text.as_bytes()));
}

fn reply(stream: &mut TcpStream, body: &str) -> bool {
    let length = body.len();
    say(
        stream,
        &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"),
    );
    true
}

fn client() -> Client {
    Client::new(&ClientOptions::default()).unwrap()
}

fn get(url: &str) -> Request<'_> {
    Request {
        method: Method::Get,
        url,
        headers: &[],
        body: b"",
        head_timeout: PATIENCE,
        idle_timeout: Some(PATIENCE),
    }
}

fn post<'a>(url: &'a str, body: &'a [u8]) -> Request<'a> {
    Request {
        method: Method::Post,
        body,
        ..get(url)
    }
}

fn text(response: &mut Response) -> String {
    String::from_utf8(response.read_to_end(1 << 20).unwrap()).unwrap()
}

fn fetch(client: &Client, request: &Request<'_>) -> String {
    text(&mut client.send(request, &Stop::default()).unwrap())
}

fn error(outcome: Result<Response, NetError>) -> NetError {
    outcome.err().expect("an error")
}

/// Stops when it is told to, and says how long ago that was.
fn stopper(stop: &Stop, told: Receiver<()>) -> std::thread::JoinHandle<Instant> {
    let stop = stop.clone();
    let body = move || {
        told.recv_timeout(PATIENCE).ok();
        let now = Instant::now();
        stop.stop();
        now
    };
    thread::spawn("stopper", limits::STACK_WORKER_BYTES, body).unwrap()
}

fn signal() -> (Sender<()>, Receiver<()>) {
    bounded(16)
}

#[test]
fn requests_share_a_connection_and_carry_what_was_given() {
    let site = Site::start(|seen, stream| {
        let body = String::from_utf8_lossy(&seen.body);
        reply(stream, &format!("{} {}{body}", seen.connection, seen.head))
    });
    let (client, url) = (client(), site.url("/mcp?x=1"));
    for round in 0..3 {
        let headers = [("Authorization", "Bearer a"), ("X-Key", "b")];
        let request = Request {
            headers: &headers,
            ..post(&url, b"payload")
        };
        let seen = fetch(&client, &request);
        assert!(
            seen.starts_with("1 post /mcp?x=1 http/1.1\r\n"),
            "{round}: {seen}"
        );
        assert!(seen.ends_with("payload"), "{seen}");
        for part in [
            "authorization: bearer a",
            "x-key: b",
            "content-length: 7",
            "user-agent: onemcp/",
        ] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        for part in ["accept", "cookie", "transfer-encoding", "expect"] {
            assert!(!seen.contains(part), "{part}: {seen}");
        }
    }
    let request = Request {
        method: Method::Delete,
        ..get(&url)
    };
    let seen = fetch(&client, &request);
    assert!(seen.starts_with("1 delete /mcp"), "{seen}");
    assert!(fetch(&client, &post(&url, b"")).contains("content-length: 0"));
    let large = vec![b'x'; 300_000];
    assert!(fetch(&client, &post(&url, &large)).len() > large.len());
}

#[test]
fn every_framing_of_a_body_is_read() {
    let site = Site::start(|seen, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n";
        match seen.head.split_whitespace().nth(1) {
            Some("/chunked") => {
                say(
                    stream,
                    &format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
                );
                say(stream, "2;x=y\r\nde\r\n0\r\n\r\n");
                true
            }
            Some("/close") => {
                say(stream, &format!("{head}\r\nabcde"));
                false
            }
            Some("/nothing") => {
                say(stream, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
                true
            }
            Some("/short") => {
                say(stream, &format!("{head}Content-Length: 9\r\n\r\nabc"));
                false
            }
            Some("/cut") => {
                say(
                    stream,
                    &format!("{head}Transfer-Encoding: chunked\r\n\r\n9\r\nabc"),
                );
                false
            }
            _ => reply(stream, "abcde"),
        }
    });
    let client = client();
    let ask = |path: &str| {
        client
            .send(&get(&site.url(path)), &Stop::default())
            .unwrap()
    };
    for path in ["/length", "/chunked", "/length", "/close"] {
        assert_eq!(text(&mut ask(path)), "abcde", "{path}");
    }
    let mut nothing = ask("/nothing");
    assert_eq!((nothing.status(), text(&mut nothing).as_str()), (202, ""));
    assert_eq!(ask("/close").media_type(), "text/event-stream");
    assert_eq!(ask("/length").media_type(), "");
    for path in ["/short", "/cut"] {
        let outcome = ask(path).read_to_end(100);
        assert!(
            matches!(outcome, Err(NetError::Lost { .. })),
            "{path}: {outcome:?}"
        );
    }
    let outcome = ask("/length").read_to_end(4);
    assert!(
        matches!(outcome, Err(NetError::TooLarge { limit_bytes: 4, .. })),
        "{outcome:?}"
    );
}

#[test]
fn events_are_read_as_they_come() {
    let (go, gate) = signal();
    let site = Site::start(move |_, stream| {
        say(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for event in ["one", "two", "six"] {
            say(stream, &format!("3\r\n{event}\r\n"));
            // The next one is only written when this one was read.
            gate.recv_timeout(PATIENCE).unwrap();
        }
        say(stream, "0\r\n\r\n");
        true
    });
    let url = site.url("/");
    let mut response = client().send(&get(&url), &Stop::default()).unwrap();
    let mut buffer = [0; 100];
    for event in ["one", "two", "six"] {
        let count = response.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], event.as_bytes());
        go.send(()).unwrap();
    }
    assert_eq!(response.read(&mut buffer), Ok(0));
    assert_eq!(response.read(&mut buffer), Ok(0));
}

#[test]
fn a_status_is_no_error() {
    let site = Site::start(|_, stream| {
        say(
            stream,
            "HTTP/1.1 404 Gone\r\nContent-Length: 2\r\nX-A: b\r\n\r\nno",
        );
        true
    });
    let mut response = client()
        .send(&get(&site.url("/")), &Stop::default())
        .unwrap();
    assert_eq!(
        (response.status(), response.header("x-a")),
        (404, Some("b"))
    );
    assert_eq!(text(&mut response), "no");
}

#[test]
fn a_blocked_head_is_stopped_at_once() {
    let (tell, told) = signal();
    let site = Site::start(move |_, _| {
        tell.send(()).unwrap();
        true
    });
    let (client, stop) = (client(), Stop::default());
    let stopping = stopper(&stop, told);
    let url = site.url("/");
    assert_eq!(
        error(client.send(&post(&url, b"x"), &stop)),
        NetError::Stopped
    );
    assert!(stopping.join().unwrap().elapsed() < AT_ONCE);
    assert_eq!(error(client.send(&get(&url), &stop)), NetError::Stopped);
}

#[test]
fn a_blocked_body_is_stopped_at_once_and_its_connection_is_not_used_again() {
    let (tell, told) = signal();
    let site = Site::start(|seen, stream| match seen.head.starts_with("post") {
        true => reply(stream, &seen.connection.to_string()),
        false => {
            say(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata",
            );
            true
        }
    });
    let (client, stop, url) = (client(), Stop::default(), site.url("/"));
    assert_eq!(fetch(&client, &post(&url, b"")), "1");
    let stopping = stopper(&stop, told);
    // The connection of the first request carries the second one.
    let request = Request {
        idle_timeout: None,
        ..get(&url)
    };
    let mut response = client.send(&request, &stop).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(response.read(&mut buffer), Ok(4));
    tell.send(()).unwrap();
    assert_eq!(response.read(&mut buffer), Err(NetError::Stopped));
    assert!(stopping.join().unwrap().elapsed() < AT_ONCE);
    drop(response);
    assert_eq!(fetch(&client, &post(&url, b"")), "2");
}

#[test]
fn stopping_a_finished_request_hurts_no_other() {
    let site = Site::start(|seen, stream| reply(stream, &seen.connection.to_string()));
    let (client, url) = (client(), site.url("/"));
    for _ in 0..20 {
        let stop = Stop::default();
        assert_eq!(text(&mut client.send(&get(&url), &stop).unwrap()), "1");
        stop.stop();
    }
}

#[test]
fn a_connect_that_hangs_is_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    // Who is neither accepted nor refused hangs.
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue has no end");
    }
    let url = format!("http://{address}/");
    let request = Request {
        head_timeout: Duration::from_millis(100),
        ..get(&url)
    };
    let outcome = error(client().send(&request, &Stop::default()));
    assert!(matches!(outcome, NetError::Connect { .. }), "{outcome:?}");
    let (tell, told) = signal();
    let stop = Stop::default();
    let stopping = stopper(&stop, told);
    let begun = Instant::now();
    tell.send(()).unwrap();
    assert_eq!(error(client().send(&get(&url), &stop)), NetError::Stopped);
    assert!(begun.elapsed() < AT_ONCE);
    stopping.join().unwrap();
}

#[test]
fn silence_is_bounded() {
    let site = Site::start(|seen, stream| {
        if seen.head.starts_with("get /body") {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        }
        true
    });
    let (client, body, head) = (client(), site.url("/body"), site.url("/head"));
    let short = Duration::from_millis(50);
    let request = Request {
        idle_timeout: Some(short),
        ..get(&body)
    };
    let outcome = client
        .send(&request, &Stop::default())
        .unwrap()
        .read_to_end(100);
    assert!(
        matches!(outcome, Err(NetError::Silent { .. })),
        "{outcome:?}"
    );
    let mut response = client.send(&get(&body), &Stop::default()).unwrap();
    response.set_deadline(Some(Instant::now() + short));
    let outcome = response.read_to_end(100);
    assert!(
        matches!(outcome, Err(NetError::Silent { .. })),
        "{outcome:?}"
    );
    let request = Request {
        head_timeout: short,
        ..get(&head)
    };
    let outcome = error(client.send(&request, &Stop::default()));
    assert_eq!(
        outcome,
        NetError::Deadline {
            origin: site.url(""),
            after: short
        }
    );
}

#[test]
fn a_kept_connection_that_was_closed_is_told_from_a_lost_one() {
    let site = Site::start(|seen, stream| match seen.body.as_slice() {
        b"keep" => reply(stream, ""),
        // Taken, and never answered.
        _ => false,
    });
    let (client, url) = (client(), site.url("/"));
    let fresh = error(client.send(&post(&url, b"end"), &Stop::default()));
    assert!(
        matches!(&fresh, NetError::Lost { .. }) && !fresh.is_stale(),
        "{fresh:?}"
    );
    fetch(&client, &post(&url, b"keep"));
    let kept = error(client.send(&post(&url, b"end"), &Stop::default()));
    assert!(kept.is_stale() && !kept.is_unsent(), "{kept:?}");
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = error(client.send(&get(&format!("http://{nobody}/")), &Stop::default()));
    assert!(refused.is_unsent(), "{refused:?}");
    assert!(
        refused
            .to_string()
            .starts_with(&format!("connect to http://{nobody}: "))
    );
}

#[test]
fn redirects_stay_within_the_origin() {
    static LEAKS: AtomicUsize = AtomicUsize::new(0);
    let other = Site::start(|_, stream| {
        LEAKS.fetch_add(1, Ordering::SeqCst);
        reply(stream, "leaked")
    });
    let elsewhere = other.url("/x?key=s3cret");
    let site = Site::start(move |seen, stream| {
        let path = seen.head.split_whitespace().nth(1).unwrap_or_default();
        let (status, to) = match path {
            "/end" => return reply(stream, &format!("{}{}", seen.head, seen.body.len())),
            "/loop" => ("307", "/loop"),
            "/away" => ("307", elsewhere.as_str()),
            "/nowhere" => ("302", "http://[x"),
            _ => (&path[1..4], "end"),
        };
        say(
            stream,
            &format!("HTTP/1.1 {status} R\r\nLocation: {to}\r\nContent-Length: 2\r\n\r\nhm"),
        );
        true
    });
    let client = client();
    let headers = [("Authorization", "Bearer s3cret"), ("X-Key", "s3cret")];
    let ask = |method: Method, path: &str| {
        let url = site.url(path);
        let request = Request {
            method,
            headers: &headers,
            body: b"12345",
            ..get(&url)
        };
        client.send(&request, &Stop::default())
    };
    for status in ["301", "302", "303", "307", "308"] {
        let mut response = ask(Method::Get, &format!("/{status}")).unwrap();
        assert_eq!(response.url().path(), "/end");
        assert!(text(&mut response).contains("x-key: s3cret"));
    }
    for status in ["307", "308"] {
        let mut response = ask(Method::Post, &format!("/{status}")).unwrap();
        let seen = text(&mut response);
        assert!(
            seen.starts_with("post /end") && seen.ends_with("\r\n\r\n5"),
            "{seen}"
        );
    }
    let why = |method: Method, path: &str| match error(ask(method, path)) {
        NetError::Redirect { why, .. } => why,
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(why(Method::Post, "/302"), BadRedirect::Method);
    assert_eq!(why(Method::Delete, "/307"), BadRedirect::Method);
    assert_eq!(why(Method::Post, "/loop"), BadRedirect::TooMany);
    assert_eq!(why(Method::Get, "/nowhere"), BadRedirect::Target);
    let away = error(ask(Method::Post, "/away"));
    let told = away.to_string();
    assert!(
        told.contains(&site.url("")) && told.contains(&other.url("")),
        "{told}"
    );
    assert!(!format!("{told} {away:?}").contains("s3cret"), "{away:?}");
    assert_eq!(LEAKS.load(Ordering::SeqCst), 0);
}

#[test]
fn refused_addresses_are_never_connected_to() {
    let site = Site::start(|_, stream| reply(stream, "hello"));
    let port = site.address.port();
    let with = |egress: Egress| {
        let options = ClientOptions {
            egress,
            ..ClientOptions::default()
        };
        Client::new(&options).unwrap()
    };
    let refusal = |client: &Client, url: &str| match error(client.send(&get(url), &Stop::default()))
    {
        NetError::Refused { refusal, .. } => refusal,
        other => panic!("{url}: {other:?}"),
    };
    let operator = with(Egress::operator(Vec::new()));
    assert_eq!(
        fetch(&operator, &get(&format!("http://localhost:{port}/"))),
        "hello"
    );
    for url in [
        "http://169.254.169.254/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
    ] {
        assert!(
            matches!(refusal(&operator, url), Refusal::Address(_)),
            "{url}"
        );
    }
    let peer = with(Egress::peer(Vec::new(), None));
    assert_eq!(refusal(&peer, &site.url("/")), Refusal::PlainHttp);
    // Only the lookup can tell: the names themselves are harmless.
    for host in ["localhost", "127.1", "2130706433", "0x7f.1"] {
        let found = refusal(&peer, &format!("https://{host}:{port}/"));
        assert_eq!(found, Refusal::Address("a loopback address"), "{host}");
    }
    let home = Url::parse(&site.url("/sse")).unwrap();
    let near = with(Egress::peer(Vec::new(), Some(home)));
    assert_eq!(fetch(&near, &get(&site.url("/messages"))), "hello");
    let allowed = with(Egress::peer(
        vec![Allowed::parse("localhost").unwrap()],
        None,
    ));
    // Let through, and then there is no TLS to be had.
    let url = format!("https://localhost:{port}/");
    let outcome = error(allowed.send(&get(&url), &Stop::default()));
    assert!(!matches!(outcome, NetError::Refused { .. }), "{outcome:?}");
}

#[test]
fn answers_that_are_none_are_refused() {
    let site = Site::start(|seen, stream| {
        let long = "x".repeat(limits::NET_HEAD_BYTES);
        say(
            stream,
            &match seen.head.split_whitespace().nth(1) {
                Some("/long") => format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n"),
                Some("/chunk") => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".into()
                }
                _ => "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
            },
        );
        false
    });
    let client = client();
    for path in ["/long", "/other", "/chunk"] {
        let outcome = client.send(&get(&site.url(path)), &Stop::default());
        let outcome = outcome.and_then(|mut response| response.read_to_end(100));
        assert!(
            matches!(outcome, Err(NetError::Protocol { .. })),
            "{path}: {outcome:?}"
        );
    }
    let headers = [("X-Key", "s3cret\r\nX: y")];
    let request = Request {
        headers: &headers,
        ..get("http://127.0.0.1:9/")
    };
    let outcome = error(client.send(&request, &Stop::default()));
    assert_eq!(outcome, NetError::Header("X-Key".to_owned()));
}

#[test]
fn a_proxy_is_asked_for_a_tunnel() {
    let site = Site::start(|_, stream| reply(stream, "through"));
    let target = site.address;
    let proxy = Site::start(move |seen, stream| {
        assert!(
            seen.head.starts_with(&format!("connect {target}")),
            "{}",
            seen.head
        );
        assert!(
            seen.head.contains("proxy-authorization: basic "),
            "{}",
            seen.head
        );
        say(stream, "HTTP/1.1 200 OK\r\n\r\n");
        let mut onward = TcpStream::connect(target).unwrap();
        let mut back = (onward.try_clone().unwrap(), stream.try_clone().unwrap());
        let copy = move || std::io::copy(&mut back.0, &mut back.1).ok();
        thread::spawn("back", limits::STACK_WORKER_BYTES, copy).unwrap();
        std::io::copy(stream, &mut onward).ok();
        false
    });
    let url = format!("http://u:p@{}", proxy.address);
    let proxy = ProxyChoice::Url(crate::base::secret::Secret::new(url));
    let options = ClientOptions {
        proxy,
        ..ClientOptions::default()
    };
    let client = Client::new(&options).unwrap();
    assert_eq!(fetch(&client, &get(&site.url("/"))), "through");
    let metadata = client.send(&get("http://169.254.169.254/"), &Stop::default());
    assert!(matches!(error(metadata), NetError::Refused { .. }));
}

/// Runs `openssl` in `folder`; `None` where there is no such program.
fn openssl(folder: &std::path::Path, arguments: &str) -> Option<()> {
    let mut command = Command::new("openssl");
    command
        .current_dir(folder)
        .args(arguments.split_whitespace());
    let output = command.stdin(Stdio::null()).output().ok()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(())
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let folder = std::env::temp_dir().join(format!("onemcp-net-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let authority = format!("req -x509 {key} -days 2 -keyout ca.key -out ca.pem -subj /CN=ca");
    if openssl(&folder, &authority).is_none() {
        return;
    }
    let request = format!("req {key} -keyout key.pem -out leaf.csr -subj /CN=localhost");
    openssl(
        &folder,
        &format!("{request} -addext subjectAltName=IP:127.0.0.1"),
    );
    let sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -copy_extensions copy -days 2";
    openssl(&folder, &format!("{sign} -out leaf.pem"));
    let mut server = Command::new("openssl");
    let arguments = "s_server -accept 127.0.0.1:0 -cert leaf.pem -key key.pem -www";
    server
        .current_dir(&folder)
        .args(arguments.split_whitespace());
    server
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| {
        let line = line.ok()?;
        line.strip_prefix("ACCEPT ")?
            .rsplit(':')
            .next()
            .map(str::to_owned)
    });
    let url = format!("https://127.0.0.1:{}/", port.unwrap());
    let options = ClientOptions {
        ca_file: Some(folder.join("ca.pem")),
        ..ClientOptions::default()
    };
    let trusting = Client::new(&options).unwrap();
    let outcome = trusting
        .send(&get(&url), &Stop::default())
        .map(|mut one| one.read_to_end(1 << 20));
    let distrusting = client().send(&get(&url), &Stop::default());
    server.kill().unwrap();
    server.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        matches!(&outcome, Ok(Ok(page)) if !page.is_empty()),
        "{outcome:?}"
    );
    assert!(matches!(error(distrusting), NetError::Tls { .. }));
    let missing = Client::new(&options).err().unwrap();
    assert!(matches!(missing, NetError::CaFile { .. }), "{missing:?}");
}

#[test]
fn idle_connections_are_closed_without_another_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (closed, ends) = bounded(1);
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).unwrap();
        reply(&mut stream, "x");
        // Until the client lets go.
        let _ = stream.read(&mut buffer);
        closed.send(()).unwrap();
    };
    thread::spawn("site", limits::STACK_WORKER_BYTES, serve).unwrap();
    let client = client();
    let since = Instant::now();
    assert_eq!(fetch(&client, &get(&url)), "x");
    while ends.recv_timeout(Duration::from_millis(50)).is_err() {
        client.tend();
        assert!(since.elapsed() < PATIENCE, "it is still open");
    }
    assert!(
        since.elapsed() >= limits::NET_IDLE,
        "it was closed too soon"
    );
}
