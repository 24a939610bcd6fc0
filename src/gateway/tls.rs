//! TLS of the listener, from the settings: opened once, and what becomes of its files is told to
//! whoever looks after the gateway.

use std::sync::Arc;

use crate::base::time;
use crate::config::tls::TlsSettings;
use crate::http::{ServerOptions, Tls, TlsFiles, TlsNews};
use crate::journal::alert::certificates::LISTENER;
use crate::journal::fact::{Fact, note};

/// How clients are listened to.
///
/// # Errors
/// Which file will not do, and why.
pub fn options(settings: &TlsSettings) -> Result<ServerOptions, String> {
    Ok(ServerOptions {
        tls: open(settings)?,
        ..ServerOptions::default()
    })
}

/// `None`: the listener is plain.
fn open(settings: &TlsSettings) -> Result<Option<Arc<Tls>>, String> {
    if let Some(flaw) = settings.flaw() {
        return Err(format!("failed to start: {flaw}"));
    }
    let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
        return Ok(None);
    };
    let files = TlsFiles {
        certificate: certificate.clone(),
        key: key.clone(),
        client_ca: settings.client_ca.clone(),
    };
    Tls::open(files, tell).map(|tls| Some(Arc::new(tls)))
}

fn tell(news: TlsNews) {
    match news {
        TlsNews::Loaded { ends } => {
            let until = ends.map_or_else(|| "unknown".to_owned(), time::rfc3339);
            log::info!("new certificate in force until={until}");
            note(Fact::CertificateRejected(None));
            if let Some(ends) = ends {
                let whose = LISTENER.to_owned();
                note(Fact::Certificate { whose, ends });
            }
        }
        TlsNews::Rejected(why) => {
            log::error!("changed certificate rejected, the old one goes on: {why}");
            note(Fact::CertificateRejected(Some(why)));
        }
    }
}
