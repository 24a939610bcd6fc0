//! Documents of clients, asked for over TLS at a host of our own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::auth::server::cimd::Documents;
use crate::base::limits::CLIENT_DOCUMENT_TIME;
use crate::net::client::ClientOptions;
use crate::net::egress::{Allowed, Egress};
use crate::secrets::store::testing::Folder;

/// A certificate for localhost; `None` where there is no openssl.
fn certificate(folder: &Path) -> Option<()> {
    let mut command = Command::new("openssl");
    let line = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                -subj /CN=localhost -addext subjectAltName=DNS:localhost \
                -addext basicConstraints=critical,CA:FALSE \
                -keyout key.pem -out leaf.pem";
    command.current_dir(folder).args(line.split_whitespace());
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then_some(())
}

/// A host that answers every path with what `say` makes of it and of its port.
struct Host {
    port: u16,
    hits: Arc<AtomicUsize>,
    ca: PathBuf,
}

impl Host {
    fn start(folder: &Path, say: fn(&str, u16) -> String) -> Host {
        let chain = CertificateDer::from_pem_file(folder.join("leaf.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config
            .with_no_client_auth()
            .with_single_cert(vec![chain], key);
        let config = Arc::new(config.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let hits = Arc::new(AtomicUsize::new(0));
        let counted = hits.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, counted) = (config.clone(), counted.clone());
                std::thread::spawn(move || serve(stream, config, port, &counted, say));
            }
        });
        Host {
            port,
            hits,
            ca: folder.join("leaf.pem"),
        }
    }

    fn id(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.port)
    }

    fn documents(&self, allow: &str) -> Documents {
        let allow = Allowed::parse(allow).into_iter().collect();
        let options = ClientOptions {
            ca_file: Some(self.ca.clone()),
            egress: Egress::peer(allow, None),
            ..ClientOptions::default()
        };
        Documents::with(&[format!("localhost:{}", self.port)], options)
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

fn serve(
    mut socket: TcpStream,
    config: Arc<ServerConfig>,
    port: u16,
    hits: &AtomicUsize,
    say: fn(&str, u16) -> String,
) -> Option<()> {
    let mut session = ServerConnection::new(config).ok()?;
    let mut stream = Stream::new(&mut session, &mut socket);
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).ok()?;
    hits.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8_lossy(&bytes[..count]).into_owned();
    let path = head.split(' ').nth(1)?.to_owned();
    stream.write_all(say(&path, port).as_bytes()).ok()?;
    if path == "/silent" {
        // Held open until the other side has had enough.
        while stream.read(&mut bytes).ok()? > 0 {}
    }
    Some(())
}

fn document(path: &str, port: u16) -> String {
    let id = format!("https://localhost:{port}{path}");
    format!(r#"{{"client_id":"{id}","client_name":"A","redirect_uris":["https://a.example/"]}}"#)
}

fn say(path: &str, port: u16) -> String {
    let body = document(path, port);
    let answer = |status: &str, kind: &str, more: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n{more}\r\n{body}"
        )
    };
    let json = "application/json";
    match path {
        "/good" => answer("200 OK", json, "Cache-Control: max-age=600\r\n", &body),
        "/cimd+json" => answer("200 OK", "application/cimd+json; charset=utf-8", "", &body),
        "/redirect" => answer("302 Found", json, "Location: /good\r\n", &body),
        "/away" => answer(
            "301 Moved",
            json,
            "Location: http://127.0.0.1:1/\r\n",
            &body,
        ),
        "/html" => answer("200 OK", "text/html", "", &body),
        "/text" => answer("200 OK", "text/plain", "", &body),
        "/missing" => answer("404 Not Found", json, "", &body),
        "/broken" => answer("500 Oops", json, "", &body),
        "/created" => answer("201 Created", json, "", &body),
        "/huge" => answer("200 OK", json, "", &format!("{body}{}", " ".repeat(70_000))),
        "/other" => answer("200 OK", json, "", &document("/good", port)),
        "/cut" => answer("200 OK", json, "", &body).replace(&body, &body[..20]),
        "/silent" => answer("200 OK", json, "", &body).replace(&body, "{"),
        _ => String::new(),
    }
}

#[test]
fn documents_are_fetched_once_and_within_bounds() {
    let folder = Folder::new("auth-documents");
    if certificate(&folder.0).is_none() {
        return;
    }
    let host = Host::start(&folder.0, say);
    let documents = host.documents("127.0.0.0/8");
    for path in ["good", "cimd+json"] {
        let id = host.id(path);
        let client = documents.get(&id).unwrap();
        assert_eq!(
            (client.id.as_str(), client.name.as_str()),
            (id.as_str(), "A")
        );
        let before = host.hits();
        assert_eq!(documents.get(&id), Ok(client));
        assert_eq!(host.hits(), before, "asked again");
    }
    for path in [
        "redirect", "away", "html", "text", "missing", "broken", "created", "huge", "other", "cut",
        "nothing",
    ] {
        let before = host.hits();
        assert!(documents.get(&host.id(path)).is_err(), "{path}");
        assert_eq!(host.hits(), before + 1, "{path}");
        // It is let alone for a while.
        assert!(documents.get(&host.id(path)).is_err(), "{path}");
        assert_eq!(host.hits(), before + 1, "{path}");
    }
    let began = Instant::now();
    assert!(documents.get(&host.id("silent")).is_err());
    let most = CLIENT_DOCUMENT_TIME * 2;
    assert!(began.elapsed() < most, "{:?}", began.elapsed());
}

#[test]
fn a_host_inside_is_never_connected_to() {
    let folder = Folder::new("auth-inside");
    if certificate(&folder.0).is_none() {
        return;
    }
    let host = Host::start(&folder.0, say);
    let documents = host.documents("192.0.2.1");
    for path in ["good", "other", "redirect"] {
        assert!(documents.get(&host.id(path)).is_err(), "{path}");
    }
    assert_eq!(host.hits(), 0);
}
