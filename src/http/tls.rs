//! Certificate and key of the listener, and whose client certificates it wants.
//!
//! The files are looked at when a connection begins, at most once a second, on its own thread:
//! a new pair is in force for the next connection, and no thread wakes up for it. Files that will
//! not do leave the old pair in force.
//! Absent on purpose: bytes of connections (`secure`); revocation lists.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::base::limits;
use crate::net::certificate;
use crate::wire::hex;

/// The first byte of every connection that begins with a handshake.
pub(super) const HANDSHAKE: u8 = 0x16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

/// What came of changed files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsNews {
    /// In force for new connections; when the first of the certificates ends.
    Loaded { ends: Option<SystemTime> },
    /// The old pair stays in force.
    Rejected(String),
}

pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    look: Mutex<Look>,
    told: fn(TlsNews),
}

/// The last look at the files.
struct Look {
    at: Instant,
    /// What the current pair, or the trouble that was told, was read from.
    settled: Stamps,
    /// Files that would not do: told only if they are the same at the next look, because
    /// certificate and key are written one after the other.
    doubted: Option<Stamps>,
}

type Stamps = [Option<Stamp>; 3];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    changed: (i64, i64),
    bytes: u64,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. `told` hears of what becomes of later ones, on the thread of a connection.
    ///
    /// # Errors
    /// Which file will not do, and why.
    pub fn open(files: TlsFiles, told: fn(TlsNews)) -> Result<Tls, String> {
        let settled = stamps(&files);
        let (config, _) = load(&files)?;
        let look = Look {
            at: Instant::now(),
            settled,
            doubted: None,
        };
        Ok(Tls {
            files,
            current: RwLock::new(Arc::new(config)),
            look: Mutex::new(look),
            told,
        })
    }

    /// What the next connection is greeted with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        // Whoever comes while another one looks takes what there is.
        if let Ok(mut look) = self.look.try_lock()
            && look.at.elapsed() >= limits::TLS_LOOK
        {
            self.look(&mut look);
            look.at = Instant::now();
        }
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self, look: &mut Look) {
        // Before they are read: what is written meanwhile is found the next time.
        let stamps = stamps(&self.files);
        if stamps == look.settled {
            look.doubted = None;
            return;
        }
        match load(&self.files) {
            Ok((config, ends)) => {
                let current = self.current.write();
                *current.unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                (look.settled, look.doubted) = (stamps, None);
                (self.told)(TlsNews::Loaded { ends });
            }
            Err(why) if look.doubted == Some(stamps) => {
                (look.settled, look.doubted) = (stamps, None);
                (self.told)(TlsNews::Rejected(why));
            }
            Err(_) => look.doubted = Some(stamps),
        }
    }
}

/// Links are followed: a volume of secrets is replaced by changing one.
fn stamps(files: &TlsFiles) -> Stamps {
    let stamp = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some(Stamp {
            inode: (found.dev(), found.ino()),
            changed: (found.mtime(), found.mtime_nsec()),
            bytes: found.len(),
        })
    };
    let client_ca = files.client_ca.as_deref().and_then(stamp);
    [stamp(&files.certificate), stamp(&files.key), client_ca]
}

/// What connections are greeted with, and when the first certificate of the chain ends.
fn load(files: &TlsFiles) -> Result<(ServerConfig, Option<SystemTime>), String> {
    let chain = certificates("tls-cert", &files.certificate)?;
    let ends = chain.iter().filter_map(|one| certificate::ends(one)).min();
    let key = private_key(&files.key)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("failed to set TLS up: {error}"))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let failed = |why: &dyn fmt::Display| unusable("tls-client-ca", path, why);
            let mut roots = RootCertStore::empty();
            for one in certificates("tls-client-ca", path)? {
                roots.add(one).map_err(|error| failed(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| failed(&error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let why = format!("{error}; it must be the key of the first certificate in tls-cert");
        unusable("tls-key", &files.key, &why)
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, ends))
}

fn unusable(what: &str, path: &Path, why: &dyn fmt::Display) -> String {
    format!("failed to use {what} {}: {why}", path.display())
}

fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(what, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| unusable(what, path, &error))?;
    match found.is_empty() {
        true => Err(unusable(
            what,
            path,
            &"there is no certificate in it; it must be PEM",
        )),
        false => Ok(found),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read("tls-key", path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let why = "there is no private key in it; it must be PEM and not encrypted";
        unusable("tls-key", path, &why)
    })
}

/// Plain files alone: what has no end must not hold up a connection.
fn read(what: &str, path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| unusable(what, path, &error);
    let is_file = std::fs::metadata(path).map_err(failed)?.is_file();
    if !is_file {
        return Err(unusable(what, path, &"it is no file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(limits::NET_CA_BYTES).read_to_end(&mut bytes);
    read.map_err(failed)?;
    Ok(bytes)
}

/// Whom a certificate names; one that names nobody is known by its hash.
pub(super) fn subject(der: &[u8]) -> String {
    certificate::subject(der).unwrap_or_else(|| {
        let digest = ::ring::digest::digest(&::ring::digest::SHA256, der);
        format!("sha256:{}", hex::encode(digest.as_ref()))
    })
}
