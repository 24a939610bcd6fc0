//! Certificates made by openssl, and clients that trust them. A port that was named with
//! `connect_with` is connected to over TLS by whoever connects to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

static CLIENTS: Mutex<BTreeMap<u16, Arc<ClientConfig>>> = Mutex::new(BTreeMap::new());

pub(crate) fn connect_with(port: u16, client: Arc<ClientConfig>) {
    CLIENTS.lock().unwrap().insert(port, client);
}

pub(crate) fn forget(port: u16) {
    CLIENTS.lock().unwrap().remove(&port);
}

pub(crate) fn session_for(port: u16) -> Option<Box<ClientConnection>> {
    let client = CLIENTS.lock().unwrap().get(&port).cloned()?;
    Some(Box::new(session(client)))
}

pub(crate) fn session(client: Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    ClientConnection::new(client, name).unwrap()
}

pub(crate) const EVERY_VERSION: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// An authority of its own in a folder of its own.
pub(crate) struct Pki(pub(crate) PathBuf);

impl Pki {
    pub(crate) fn new() -> Pki {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("onemcp-pki-{}-{count}", std::process::id());
        let pki = Pki(std::env::temp_dir().join(folder));
        fs::create_dir_all(&pki.0).unwrap();
        pki.openssl(&format!(
            "req -x509 {NEW_KEY} -keyout ca.key -out ca.pem -days 30 -subj /CN=authority"
        ));
        pki
    }

    /// A certificate for 127.0.0.1 and localhost.
    pub(crate) fn with(self, name: &str, days: u32) -> Pki {
        self.make(name, days);
        self
    }

    pub(crate) fn make(&self, name: &str, days: u32) {
        self.openssl(&format!(
            "req -x509 {NEW_KEY} -CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem \
             -days {days} -subj /O=Example/CN={name} -addext basicConstraints=critical,CA:FALSE \
             -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
        ));
    }

    /// One that vouches for itself.
    pub(crate) fn make_own(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 {NEW_KEY} -keyout {name}.key -out {name}.pem -days 30 -subj /CN={name} \
             -addext basicConstraints=critical,CA:FALSE \
             -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
        ));
    }

    fn openssl(&self, line: &str) {
        let mut command = Command::new("openssl");
        let made = command
            .args(line.split_whitespace())
            .current_dir(&self.0)
            .output()
            .expect("openssl is installed");
        let stderr = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "openssl {line}: {stderr}");
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).display().to_string()
    }

    pub(crate) fn ca(&self) -> String {
        self.path("ca.pem")
    }

    pub(crate) fn certificate(&self, name: &str) -> String {
        self.path(&format!("{name}.pem"))
    }

    pub(crate) fn key(&self, name: &str) -> String {
        self.path(&format!("{name}.key"))
    }

    pub(crate) fn chain(&self, name: &str) -> Vec<CertificateDer<'static>> {
        let found = CertificateDer::pem_file_iter(self.certificate(name)).unwrap();
        found.map(Result::unwrap).collect()
    }

    /// Trusts this authority and shows no certificate.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_with(None, EVERY_VERSION, &["http/1.1"])
    }

    /// Trusts one certificate that vouches for itself.
    pub(crate) fn client_trusting(&self, name: &str) -> Arc<ClientConfig> {
        client(&self.certificate(name), None, EVERY_VERSION, &["http/1.1"])
    }

    /// Shows the certificate of `shown`, which may be one of another authority.
    pub(crate) fn client_showing(&self, shown: (&Pki, &str)) -> Arc<ClientConfig> {
        self.client_with(Some(shown), EVERY_VERSION, &["http/1.1"])
    }

    pub(crate) fn client_with(
        &self,
        shown: Option<(&Pki, &str)>,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Arc<ClientConfig> {
        client(&self.ca(), shown, versions, protocols)
    }
}

fn client(
    trusted: &str,
    shown: Option<(&Pki, &str)>,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_file_iter(trusted).unwrap() {
        roots.add(one.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut client = match shown {
        None => builder.with_no_client_auth(),
        Some((pki, name)) => {
            let key = PrivateKeyDer::from_pem_file(pki.key(name)).unwrap();
            builder.with_client_auth_cert(pki.chain(name), key).unwrap()
        }
    };
    client.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Arc::new(client)
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
