//! The listener over TLS: greetings that are slow, wrong or never end, and that deadlines, caps,
//! streams and the end are those of plain connections. Certificates are made by openssl.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::testing::{PATIENCE, Site};
use crate::http::tls::{Tls, TlsFiles};
use crate::http::{Server, ServerOptions};

const SHORT: Duration = Duration::from_millis(300);

/// A folder with an authority and two certificates of it.
static PKI: LazyLock<PathBuf> = LazyLock::new(|| {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("onemcp-tls-{}-{count}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
    openssl(
        &folder,
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca"),
    );
    for name in ["server", "client"] {
        openssl(
            &folder,
            &format!(
                "req -x509 {key} -CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem \
                 -subj /C=DE/O=A,B=c/CN={name} -addext basicConstraints=critical,CA:FALSE \
                 -addext subjectAltName=DNS:localhost"
            ),
        );
    }
    folder
});

fn openssl(folder: &Path, line: &str) {
    let mut command = Command::new("openssl");
    let made = command.args(line.split_whitespace()).current_dir(folder);
    let made = made.output().expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
}

fn quick() -> ServerOptions {
    ServerOptions {
        head_deadline: SHORT,
        body_deadline: SHORT,
        write_deadline: SHORT,
        keep_alive_idle: SHORT,
        ..ServerOptions::default()
    }
}

fn site(options: ServerOptions, asks_clients: bool) -> Site {
    let files = TlsFiles {
        certificate: PKI.join("server.pem"),
        key: PKI.join("server.key"),
        client_ca: asks_clients.then(|| PKI.join("ca.pem")),
    };
    Site::start(ServerOptions {
        tls: Some(Arc::new(Tls::open(files, |_| {}).unwrap())),
        ..options
    })
}

fn raw(server: &Server) -> TcpStream {
    let socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn greeting(shows: bool) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(PKI.join("ca.pem")).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        false => builder.with_no_client_auth(),
        true => {
            let chain = CertificateDer::from_pem_file(PKI.join("client.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_file(PKI.join("client.key")).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn client(server: &Server, shows: bool) -> Client {
    StreamOwned::new(greeting(shows), raw(server))
}

/// Sends a GET and reads what comes until `end`, or all there is.
fn ask(client: &mut Client, path: &str, end: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    read_to(client, end)
}

fn read_to(client: &mut Client, end: &str) -> String {
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        match client.read(&mut part) {
            Ok(0) | Err(_) => return String::from_utf8(answer).unwrap(),
            Ok(read) => answer.extend_from_slice(&part[..read]),
        }
        if answer.ends_with(end.as_bytes()) {
            return String::from_utf8(answer).unwrap();
        }
    }
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    greeting(false).write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn slow_handshakes_are_cut_at_an_absolute_deadline() {
    let site = site(quick(), false);
    let hello = hello();
    for start in [&hello[..1], &hello[..hello.len() / 2], &hello] {
        let begun = Instant::now();
        let mut socket = raw(&site.server);
        socket.write_all(start).unwrap();
        let mut writer = socket.try_clone().unwrap();
        // One byte again and again must not move the deadline.
        let rest: Vec<u8> = hello[start.len()..].to_vec();
        let (stop, stopped) = crossbeam_channel::bounded::<()>(1);
        let trickle = std::thread::spawn(move || {
            for byte in rest {
                let goes_on = stopped.recv_timeout(Duration::from_millis(20)).is_err();
                if !goes_on || writer.write_all(&[byte]).is_err() {
                    return;
                }
            }
        });
        // What comes is the server's part of the handshake, if the greeting was whole.
        let _ = socket.read_to_end(&mut Vec::new());
        let took = begun.elapsed();
        assert!(took >= SHORT && took < PATIENCE / 2, "{took:?}");
        drop((socket, stop));
        trickle.join().unwrap();
    }
    // And who says nothing at all.
    assert_eq!(raw(&site.server).read(&mut [0]).unwrap(), 0);
    site.wait_connections(0);
}

#[test]
fn half_open_handshakes_do_not_keep_others_out() {
    let site = site(
        ServerOptions {
            head_deadline: Duration::from_secs(2),
            ..ServerOptions::default()
        },
        false,
    );
    let hello = hello();
    let half: Vec<_> = (0..200)
        .map(|at| {
            let mut socket = raw(&site.server);
            socket.write_all(&hello[..at % hello.len()]).unwrap();
            socket
        })
        .collect();
    site.wait_connections(200);
    let answer = ask(&mut client(&site.server, false), "/who", "nobody");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    site.wait_connections(0);
    drop(half);
}

#[test]
fn beyond_the_cap_an_alert_is_sent() {
    let options = ServerOptions {
        connections: 0,
        health_connections: 0,
        ..ServerOptions::default()
    };
    let site = site(options, false);
    let mut socket = raw(&site.server);
    let mut alert = Vec::new();
    socket.read_to_end(&mut alert).unwrap();
    assert_eq!(alert, [0x15, 3, 3, 0, 2, 2, 80]);
}

#[test]
fn the_handler_knows_whom_the_certificate_names() {
    let site = site(ServerOptions::default(), true);
    let mut known = client(&site.server, true);
    let answer = ask(&mut known, "/who", "CN=client");
    assert!(
        answer.ends_with("\r\n\r\nC=DE,O=A\\,B\\=c,CN=client"),
        "{answer}"
    );
    // A session is taken up again with whom it was begun.
    let mut unknown = client(&site.server, false);
    let request = b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let written = unknown.write_all(request);
    let read = written.and_then(|()| unknown.read_to_end(&mut Vec::new()));
    assert!(read.is_err(), "{read:?}");
    // It is counted when it has been told, which is what the client saw.
    site.wait_connections(1);
    assert_eq!(*site.echo.refused.lock().unwrap(), [400]);
}

#[test]
fn requests_in_one_record_are_answered_in_order() {
    let site = site(ServerOptions::default(), false);
    let mut both = client(&site.server, false);
    let one = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n";
    both.write_all(format!("{one}abc{one}xyz").as_bytes())
        .unwrap();
    let first = read_to(&mut both, "xyz");
    assert_eq!(first.matches("HTTP/1.1 200 OK").count(), 2, "{first}");
    assert!(first.find("abc") < first.find("xyz"));
    let large = vec![b'l'; 3 << 20];
    let head = format!(
        "POST /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        large.len()
    );
    both.write_all(head.as_bytes()).unwrap();
    both.write_all(&large).unwrap();
    let mut answer = vec![0; large.len()];
    both.read_exact(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn a_client_that_goes_or_does_not_read_is_found_out() {
    let site = site(quick(), false);
    let mut flooded = client(&site.server, false);
    let request = "GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n";
    flooded.write_all(request.as_bytes()).unwrap();
    assert_eq!(site.event(), "cut");
    for says_goodbye in [true, false] {
        let mut gone = client(&site.server, false);
        ask(&mut gone, "/gone", "\r\n\r\n");
        assert_eq!(site.event(), "streaming");
        if says_goodbye {
            gone.conn.send_close_notify();
            gone.conn.write_tls(&mut gone.sock).unwrap();
        }
        drop(gone);
        assert_eq!(site.event(), "gone");
    }
    site.wait_connections(0);
}

#[test]
fn the_end_spares_running_requests() {
    let site = site(ServerOptions::default(), false);
    let mut idle = client(&site.server, false);
    ask(&mut idle, "/who", "nobody");
    let mut unborn = raw(&site.server);
    let mut running = client(&site.server, false);
    running
        .write_all(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    assert_eq!(site.event(), "waiting");
    site.server.stop_accepting();
    site.server.close_idle();
    // With the word of TLS for it, not cut.
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    assert_eq!(unborn.read(&mut [0]).unwrap(), 0);
    site.gate.send(()).unwrap();
    let answer = read_to(&mut running, "waited");
    assert!(answer.contains("Connection: close"), "{answer}");
    drop((idle, running, unborn));
    assert!(site.server.wait_empty(Instant::now() + PATIENCE));
}

#[test]
fn abort_cuts_streams() {
    let site = site(ServerOptions::default(), false);
    let mut streaming = client(&site.server, false);
    ask(&mut streaming, "/gone", "\r\n\r\n");
    assert_eq!(site.event(), "streaming");
    site.server.abort();
    assert!(streaming.read(&mut [0]).map_or(true, |read| read == 0));
    assert_eq!(site.event(), "gone");
    assert!(site.server.wait_empty(Instant::now() + PATIENCE));
}
