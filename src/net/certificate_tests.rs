use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::{ends, file_ends, leaf, moment, server_ends};
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

#[test]
fn records_are_read_as_they_come() {
    let message = [&[11, 0, 0, 10, 0, 0, 7, 0, 0, 4][..], b"leaf"].concat();
    let hello = [2, 0, 0, 1, 9];
    let record = |bytes: &[u8]| [&[22, 3, 3, 0, bytes.len() as u8][..], bytes].concat();
    let two = [record(&hello), record(&message)].concat();
    assert_eq!(leaf(&two), Ok(Some(&b"leaf"[..])));
    let one = record(&[&hello[..], &message].concat());
    assert_eq!(leaf(&one), Ok(Some(&b"leaf"[..])));
    for end in 0..two.len() {
        assert_eq!(leaf(&two[..end]), Ok(None), "cut at {end}");
    }
    assert!(leaf(&[21, 3, 3, 0, 2, 2, 70]).is_err());
    assert!(leaf(b"HTTP/1.1 400 Bad Request").is_err());
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
        let (_server, url) = serve(&folder, "");
        let look = |url: &Url| {
            let until = Instant::now() + Duration::from_secs(10);
            server_ends(url, &Egress::default(), &Stop::default(), until)
        };
        assert!(fits(look(&url).unwrap()), "{key}");
        let (_newer, url) = serve(&folder, "-tls1_3");
        assert!(look(&url).is_err());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
