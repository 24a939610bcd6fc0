//! When a certificate ends: read from its DER, from a file of them, or from what a server shows
//! when it is greeted. Nothing is trusted here, and nothing depends on it but a warning: each
//! real request verifies for itself.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
};

use crate::base::limits;
use crate::net::client::read_certificates;
use crate::net::connect::dial;
use crate::net::egress::Egress;
use crate::net::error::NetError;
use crate::net::socket::poll_until;
use crate::net::stop::Stop;
use crate::net::url::Url;
use crate::net::wait::{self, Wait};

/// When the certificate ends (`notAfter`); `None` for what is no certificate.
pub fn ends(der: &[u8]) -> Option<SystemTime> {
    let (_, validity, _) = element(validity(der)?)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, text, _) = element(not_after)?;
    moment(tag, std::str::from_utf8(text).ok()?)
}

/// From the validity on.
fn validity(der: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    // The version, if there is one, then serial number, algorithm and issuer.
    if rest.first() == Some(&0xa0) {
        (_, _, rest) = element(rest)?;
    }
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    Some(rest)
}

/// Whom the certificate names: `CN=alice,O=example`, as it stands there. Kinds of names without a
/// usual short form, and texts that are none, are left out; `None` when nothing is left.
pub fn subject(der: &[u8]) -> Option<String> {
    let (_, _, rest) = element(validity(der)?)?;
    let (_, mut sets, _) = element(rest)?;
    let mut name = String::new();
    while let Some((_, mut parts, after)) = element(sets) {
        sets = after;
        while let Some((_, pair, others)) = element(parts) {
            parts = others;
            let (_, kind, value) = element(pair)?;
            let (_, text, _) = element(value)?;
            if let (Some(kind), Ok(text)) = (short_name(kind), std::str::from_utf8(text)) {
                add_part(&mut name, kind, text);
            }
        }
    }
    (!name.is_empty()).then_some(name)
}

fn short_name(kind: &[u8]) -> Option<&'static str> {
    Some(match kind {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x05] => "SERIALNUMBER",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        _ => return None,
    })
}

/// No text can look like two parts, or like a line of its own.
fn add_part(name: &mut String, kind: &str, text: &str) {
    if !name.is_empty() {
        name.push(',');
    }
    name.push_str(kind);
    name.push('=');
    for c in text.chars().filter(|c| !c.is_control()) {
        if name.len() >= limits::SUBJECT_BYTES {
            return;
        }
        if ",=+\"\\<>;#".contains(c) {
            name.push('\\');
        }
        name.push(c);
    }
}

/// Tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length >= 0x80 {
        let count = length & 0x7f;
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}

/// UTCTime and GeneralizedTime, as RFC 5280 wants them: in seconds and in UTC.
fn moment(tag: u8, text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (0x17, 12) => {
            let (year, rest) = digits.split_at(2);
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        (0x18, 14) => {
            let (year, rest) = digits.split_at(4);
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let part = |at: usize| &rest[at..at + 2];
    let (month, day) = (part(0), part(2));
    let (hour, minute, second) = (part(4), part(6), part(8));
    crate::base::time::from_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

/// When the last certificate of a PEM file ends: from then on nothing in it is of use.
///
/// # Errors
/// When there is none that can be read.
pub fn file_ends(path: &Path) -> Result<SystemTime, NetError> {
    ends_of(path, |moments| moments.max())
}

/// When the first certificate of a PEM file ends: from then on one of the chain is missing.
///
/// # Errors
/// When there is none that can be read.
pub fn chain_ends(path: &Path) -> Result<SystemTime, NetError> {
    ends_of(path, |moments| moments.min())
}

fn ends_of(
    path: &Path,
    which: fn(&mut dyn Iterator<Item = SystemTime>) -> Option<SystemTime>,
) -> Result<SystemTime, NetError> {
    let certificates = read_certificates(path)?;
    let mut moments = certificates.iter().filter_map(|one| ends(one.der()));
    which(&mut moments).ok_or_else(|| NetError::CaFile {
        path: path.to_owned(),
        detail: "no certificate in it says when it ends".to_owned(),
    })
}

/// When the certificate ends that a server shows.
///
/// # Errors
/// Why that is not known.
pub fn server_ends(
    url: &Url,
    egress: &Egress,
    stop: &Stop,
    until: Instant,
) -> Result<SystemTime, String> {
    let wait = Wait {
        stop: stop.clone(),
        until: Some(until),
        ..Wait::default()
    };
    let uri = url.whole().parse().map_err(|_| "its URL cannot be used")?;
    let (stream, wait) = wait::on(wait, || dial(&uri, egress));
    let stream = stream.map_err(|cause| format!("{cause:?}"))?;
    drop(wait);
    let leaf = greet(url, &Wire { stream, until })?;
    ends(&leaf).ok_or_else(|| "its certificate cannot be read".to_owned())
}

/// The certificate that is shown in answer to a greeting. The handshake goes no further.
fn greet(url: &Url, mut wire: &Wire) -> Result<Vec<u8>, String> {
    let reader = Arc::new(LeafReader::new(ring::default_provider()));
    let config = ClientConfig::builder_with_provider(Arc::clone(&reader.provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<LeafReader>::clone(&reader))
        .with_no_client_auth();
    let name = ServerName::try_from(url.host().to_owned())
        .map_err(|_| "its host is no name of a certificate")?;
    let mut greeting =
        ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    while reader.leaf.get().is_none() && greeting.is_handshaking() {
        if let Err(error) = greeting.complete_io(&mut wire) {
            // The reader always refuses, so an error is what a certificate ends in.
            let leaf = reader.leaf.get().cloned();
            return leaf.ok_or_else(|| error.to_string());
        }
    }
    let leaf = reader.leaf.get().cloned();
    leaf.ok_or_else(|| "it showed no certificate".to_owned())
}

/// Keeps the certificate that a server shows and then refuses it, whatever it is: no
/// connection comes of a handshake with it. It is used for nothing else than reading when
/// that certificate ends, and must not be.
#[derive(Debug)]
struct LeafReader {
    leaf: OnceLock<Vec<u8>>,
    provider: Arc<CryptoProvider>,
}

impl LeafReader {
    fn new(provider: CryptoProvider) -> LeafReader {
        LeafReader {
            leaf: OnceLock::new(),
            provider: Arc::new(provider),
        }
    }
}

fn refusal() -> rustls::Error {
    CertificateError::ApplicationVerificationFailure.into()
}

impl ServerCertVerifier for LeafReader {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.leaf.get_or_init(|| leaf.to_vec());
        Err(refusal())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(refusal())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(refusal())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// A connection each of whose waits ends at the same moment. `Stop` shuts it down.
pub(super) struct Wire {
    pub(super) stream: Arc<TcpStream>,
    pub(super) until: Instant,
}

impl Wire {
    /// Tries again whenever the socket is ready.
    fn perform(
        &self,
        events: PollFlags,
        mut attempt: impl FnMut(&TcpStream) -> Result<usize, Errno>,
    ) -> std::io::Result<usize> {
        loop {
            match attempt(&self.stream) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if poll_until(&self.stream, events, Some(self.until))? => {}
                Err(Errno::AGAIN) => {
                    return Err(Error::new(ErrorKind::TimedOut, "it does not answer"));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for &Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.perform(PollFlags::IN, |stream| {
            recv(stream, &mut *buffer, RecvFlags::empty()).map(|(_, count)| count)
        })
    }
}

impl Write for &Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.perform(PollFlags::OUT, |stream| {
            send(stream, bytes, SendFlags::NOSIGNAL)
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
