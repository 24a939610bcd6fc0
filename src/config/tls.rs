//! How clients reach the listener: over TLS of its own, through a proxy that speaks TLS, and by
//! which URL. Values alone; files are read by `http::tls`.

use std::path::PathBuf;

use crate::net::url::Url;

/// What was set about TLS of the listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Whose client certificates are let in; without it nobody is asked for one.
    pub client_ca: Option<PathBuf>,
    /// A proxy in front of the listener speaks TLS with the clients.
    pub behind_proxy: bool,
    /// `scheme://host[:port]` by which clients reach us.
    pub external_url: Option<String>,
}

impl TlsSettings {
    pub fn is_on(&self) -> bool {
        self.certificate.is_some()
    }

    /// What is missing beside what was given.
    pub fn flaw(&self) -> Option<&'static str> {
        match (&self.certificate, &self.key, &self.client_ca) {
            (Some(_), None, _) => Some("tls-cert has no private key: give tls-key too"),
            (None, Some(_), _) => Some("tls-key has no certificate: give tls-cert too"),
            (None, None, Some(_)) => {
                Some("tls-client-ca is of no use without TLS: give tls-cert and tls-key too")
            }
            _ => None,
        }
    }
}

/// `scheme://host[:port]` in the form in which URLs begin with it; `None` for anything more.
pub fn site(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let is_bare = url.path() == "/" && url.query().is_none() && !text.contains('#');
    is_bare.then(|| url.origin())
}

#[cfg(test)]
mod tests {
    use super::site;

    #[test]
    fn a_site_is_scheme_host_and_port() {
        for (text, expected) in [
            ("https://MCP.example.com", Some("https://mcp.example.com")),
            ("https://mcp.example.com/", Some("https://mcp.example.com")),
            ("https://a.b:443/", Some("https://a.b")),
            ("http://[::1]:3050", Some("http://[::1]:3050")),
            ("https://a.b/mcp", None),
            ("https://a.b/?x", None),
            ("https://a.b/#x", None),
            ("https://user@a.b", None),
            ("a.b", None),
            ("", None),
        ] {
            assert_eq!(site(text).as_deref(), expected, "{text}");
        }
    }
}
