use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::{LeafReader, ends, file_ends, moment, server_ends};
use crate::base::time::rfc3339;
use crate::net::egress::Egress;
use crate::net::stop::Stop;
use crate::net::url::Url;

fn shown(tag: u8, text: &str) -> Option<String> {
    moment(tag, text).map(rfc3339)
}

#[test]
fn both_forms_of_time_are_read() {
    let at = |text: &str| Some(text.to_owned());
    assert_eq!(shown(0x17, "270115080000Z"), at("2027-01-15T08:00:00.000Z"));
    assert_eq!(shown(0x17, "991231235959Z"), at("1999-12-31T23:59:59.000Z"));
    assert_eq!(
        shown(0x18, "20500101000000Z"),
        at("2050-01-01T00:00:00.000Z")
    );
    for (tag, bad) in [
        (0x17, "270115080000"),
        (0x17, "2701150800Z"),
        (0x17, "271315080000Z"),
        (0x17, "27-115080000Z"),
        (0x18, "270115080000Z"),
        (0x04, "270115080000Z"),
        (0x17, ""),
        (0x17, "üüüüüüZ"),
    ] {
        assert_eq!(shown(tag, bad), None, "{bad}");
    }
}

/// What cannot be a certificate is refused, wherever it is cut.
#[test]
fn garbage_is_no_certificate() {
    assert_eq!(ends(b""), None);
    assert_eq!(ends(&[0x30; 64]), None);
    assert_eq!(ends(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    assert_eq!(ends(&[0x30, 0x80, 0, 0]), None);
    let mut certificate = vec![0x30, 37, 0x30, 35];
    certificate.extend([0x02, 1, 1, 0x30, 0, 0x30, 0, 0x30, 30]);
    for text in ["270115080000Z", "280115080000Z"] {
        certificate.extend([0x17, 13]);
        certificate.extend(text.as_bytes());
    }
    certificate[1] = u8::try_from(certificate.len() - 2).unwrap();
    certificate[3] = u8::try_from(certificate.len() - 4).unwrap();
    let found = ends(&certificate).map(rfc3339);
    assert_eq!(found.as_deref(), Some("2028-01-15T08:00:00.000Z"));
    for end in 0..certificate.len() {
        assert_eq!(ends(&certificate[..end]), None, "cut at {end}");
    }
}

fn openssl(folder: &Path, arguments: &str) -> Option<()> {
    let mut command = Command::new("openssl");
    command
        .current_dir(folder)
        .args(arguments.split_whitespace());
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then_some(())
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(folder: &Path, more: &str) -> (Server, Url) {
    let arguments = "s_server -accept 127.0.0.1:0 -cert leaf.pem -key key.pem -www ";
    let mut command = Command::new("openssl");
    command
        .current_dir(folder)
        .args(format!("{arguments}{more}").split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = Server(command.spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| {
        let line = line.ok()?;
        let port = line.strip_prefix("ACCEPT ")?.rsplit(':').next()?;
        Some(port.to_owned())
    });
    let url = format!("https://127.0.0.1:{}/", port.unwrap());
    (server, Url::parse(&url).unwrap())
}

fn look(url: &Url, stop: &Stop, time: Duration) -> Result<SystemTime, String> {
    server_ends(url, &Egress::default(), stop, Instant::now() + time)
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_real_server_shows_when_its_certificate_ends() {
    let folder = std::env::temp_dir().join(format!("onemcp-certificate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for key in ["ec -pkeyopt ec_paramgen_curve:prime256v1", "rsa:2048"] {
        let request = format!("req -x509 -newkey {key} -nodes -days 9 -subj /CN=localhost");
        if openssl(&folder, &format!("{request} -keyout key.pem -out leaf.pem")).is_none() {
            return;
        }
        let in_days = |days: u64| SystemTime::now() + Duration::from_secs(days * 86_400);
        let fits = |ends: SystemTime| in_days(8) < ends && ends < in_days(10);
        assert!(fits(file_ends(&folder.join("leaf.pem")).unwrap()));
        // Only the old, only the new, and one that wants to see a certificate of ours.
        for only in [
            "-tls1_2",
            "-tls1_3",
            "-tls1_2 -Verify 1",
            "-tls1_3 -Verify 1",
        ] {
            let (_server, url) = serve(&folder, only);
            let found = look(&url, &Stop::default(), LONG);
            assert!(found.clone().is_ok_and(fits), "{key} {only}: {found:?}");
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Whatever the server shows, nothing of a request can follow.
#[test]
fn no_handshake_with_the_reader_succeeds() {
    let reader = LeafReader::new(rustls::crypto::ring::default_provider());
    let name = ServerName::try_from("localhost").unwrap();
    let leaf = CertificateDer::from(b"leaf".to_vec());
    let verdict = reader.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now());
    assert!(verdict.is_err());
    assert_eq!(reader.leaf.get().map(Vec::as_slice), Some(&b"leaf"[..]));
}

#[test]
fn a_server_that_speaks_something_else_is_told_of() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = Url::parse(&format!("https://127.0.0.1:{port}/")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
            // Until the other side has gone, however it goes.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert!(look(&url, &Stop::default(), LONG).is_err());
    });
}

#[test]
fn a_silent_server_is_left_at_the_deadline_and_at_a_stop() {
    // Its backlog takes the connection; nobody ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = Url::parse(&format!("https://127.0.0.1:{port}/")).unwrap();
    let late = look(&url, &Stop::default(), Duration::from_millis(100));
    assert_eq!(late, Err("it does not answer".to_owned()));
    let stop = Stop::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| look(&url, &stop, LONG));
        // The first look's connection, then this one's: it is greeted, so it waits.
        listener.accept().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stop.stop();
        assert!(looking.join().unwrap().is_err());
    });
    assert!(begun.elapsed() < LONG / 2);
}
