//! TLS towards a store: who is trusted, and the encrypted side of one connection.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use crate::net::certificate::Wire;
use crate::net::client::read_certificates;

/// Where most systems keep the authorities that they trust.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Whom to trust.
pub(super) struct Trust(Arc<ClientConfig>);

impl Trust {
    /// # Errors
    /// When the file cannot be used, after "failed to".
    pub(super) fn open(ca_file: Option<&str>) -> Result<Trust, String> {
        let file = ca_file.unwrap_or(SYSTEM_CA);
        let failed =
            |why: &dyn std::fmt::Display| format!("trust the shared store by {file}: {why}");
        let mut roots = RootCertStore::empty();
        let found = read_certificates(Path::new(file)).map_err(|error| failed(&error))?;
        for one in found.iter() {
            // One that cannot be used does not make the others useless.
            let _ = roots.add(CertificateDer::from_slice(one.der()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust(Arc::new(config)))
    }

    /// The greeting itself goes out with the first bytes.
    pub(super) fn greet(&self, host: &str) -> Result<Channel, String> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
        let greeting = ClientConnection::new(self.0.clone(), name);
        let greeting = greeting.map_err(|error| error.to_string())?;
        Ok(Channel(Box::new(greeting)))
    }
}

pub(super) struct Channel(Box<ClientConnection>);

impl Channel {
    pub(super) fn write(&mut self, mut wire: &Wire, bytes: &[u8]) -> std::io::Result<()> {
        let mut stream = Stream::new(self.0.as_mut(), &mut wire);
        stream.write_all(bytes)?;
        stream.flush()
    }

    pub(super) fn read(&mut self, mut wire: &Wire, buffer: &mut [u8]) -> std::io::Result<usize> {
        Stream::new(self.0.as_mut(), &mut wire).read(buffer)
    }
}
