//! The URL that clients know this gateway by: where issuer, metadata and redirects begin. It
//! comes from the settings and the socket alone; what a request says of its host, its scheme or
//! its proxies never changes it.

use std::net::{IpAddr, SocketAddr};

use crate::config::settings::Settings;
use crate::config::tls::site;
use crate::net::url::Url;

/// `scheme://host[:port]` without a slash at its end.
///
/// # Errors
/// Why there is none by which people who log in could safely reach a gateway that listens on
/// `bound`, and what to do.
pub fn issuer(settings: &Settings, bound: SocketAddr) -> Result<String, String> {
    let tls = &settings.tls;
    let Some(given) = &tls.external_url else {
        let is_open = !bound.ip().is_loopback() && !tls.is_on();
        return match own(settings, bound) {
            None => Err(format!(
                "clients cannot be told to ask {}: name the URL that they use with --external-url",
                bound.ip()
            )),
            Some(url) if is_open => Err(format!(
                "tokens would be sent to {url} for everybody on the network to read: give \
                 --tls-cert and --tls-key, or the https --external-url of a proxy that speaks TLS"
            )),
            Some(url) => Ok(url),
        };
    };
    let is_safe = Url::parse(given).is_ok_and(|url| url.is_https() || url.is_loopback());
    if is_safe || tls.behind_proxy {
        return Ok(given.clone());
    }
    Err(format!(
        "tokens would be sent to the external URL {given} for everybody on the network to read: \
         write https:// if --tls-cert is given or a proxy speaks TLS, or declare such a proxy with \
         --behind-tls-proxy"
    ))
}

/// The URL of the listener itself, if its host is one that can be said.
pub fn own(settings: &Settings, bound: SocketAddr) -> Option<String> {
    if bound.ip().is_unspecified() {
        return None;
    }
    own_for(settings, bound.ip(), bound.port())
}

/// The same where this machine reaches it.
pub fn own_for(settings: &Settings, ip: IpAddr, port: u16) -> Option<String> {
    let scheme = if settings.tls.is_on() {
        "https"
    } else {
        "http"
    };
    let is_name = settings.host.parse::<IpAddr>().is_err();
    let host = match ip {
        // A certificate is for the name.
        _ if is_name && settings.tls.is_on() => settings.host.clone(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    site(&format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::issuer;
    use crate::config::settings::Settings;

    /// (host, bound, external URL, TLS, proxy), then the URL or a word of the refusal.
    #[test]
    fn there_is_one_url_or_a_reason() {
        for (host, bound, external, tls, proxy, expected) in [
            (
                "127.0.0.1",
                "127.0.0.1:3050",
                "",
                false,
                false,
                "http://127.0.0.1:3050",
            ),
            ("::1", "[::1]:3050", "", false, false, "http://[::1]:3050"),
            (
                "localhost",
                "127.0.0.1:3050",
                "",
                false,
                false,
                "http://127.0.0.1:3050",
            ),
            (
                "localhost",
                "127.0.0.1:3050",
                "",
                true,
                false,
                "https://localhost:3050",
            ),
            (
                "127.0.0.1",
                "127.0.0.1:443",
                "",
                true,
                false,
                "https://127.0.0.1",
            ),
            (
                "10.0.0.5",
                "10.0.0.5:8443",
                "",
                true,
                false,
                "https://10.0.0.5:8443",
            ),
            (
                "mcp.a.b",
                "10.0.0.5:8443",
                "",
                true,
                false,
                "https://mcp.a.b:8443",
            ),
            ("0.0.0.0", "0.0.0.0:8443", "", true, false, "--external-url"),
            ("::", "[::]:8443", "", true, false, "--external-url"),
            (
                "0.0.0.0",
                "0.0.0.0:3050",
                "",
                false,
                false,
                "--external-url",
            ),
            ("0.0.0.0", "0.0.0.0:3050", "", false, true, "--external-url"),
            ("10.0.0.5", "10.0.0.5:3050", "", false, false, "--tls-cert"),
            (
                "0.0.0.0",
                "0.0.0.0:1",
                "https://a.b",
                false,
                false,
                "https://a.b",
            ),
            (
                "127.0.0.1",
                "127.0.0.1:1",
                "http://a.b",
                false,
                false,
                "--behind-tls-proxy",
            ),
            (
                "127.0.0.1",
                "127.0.0.1:1",
                "http://a.b",
                true,
                false,
                "--behind-tls-proxy",
            ),
            (
                "127.0.0.1",
                "127.0.0.1:1",
                "http://a.b",
                false,
                true,
                "http://a.b",
            ),
            (
                "0.0.0.0",
                "0.0.0.0:1",
                "http://localhost:1",
                false,
                false,
                "http://localhost:1",
            ),
        ] {
            let mut settings = Settings::default();
            settings.host = host.to_owned();
            settings.tls.external_url = (!external.is_empty()).then(|| external.to_owned());
            settings.tls.certificate = tls.then(|| "/cert".into());
            settings.tls.behind_proxy = proxy;
            let found = issuer(&settings, bound.parse().unwrap());
            let case = format!("{host} {bound} {external} {tls} {proxy}: {found:?}");
            match found {
                Ok(url) => assert_eq!(url, expected, "{case}"),
                Err(why) => assert!(why.contains(expected) && !expected.contains(':'), "{case}"),
            }
        }
    }
}
