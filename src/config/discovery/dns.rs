//! `gateway.discovery` with the type `dns`: SRV records of one name, each a server.

use std::net::SocketAddr;

use crate::base::limits;
use crate::config::discovery::Parts;
use crate::config::document::Notes;

pub const KEYS: &[&str] = &["srv", "scheme", "path", "nameserver", "interval"];

#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Such as `_mcp._tcp.example.com`, without a dot at the end.
    pub srv: String,
    pub is_https: bool,
    /// Of the URLs.
    pub path: String,
    /// Instead of those of `resolv.conf`.
    pub nameserver: Option<SocketAddr>,
    /// The longest time between two questions; a shorter life of the records counts.
    pub interval_ms: u64,
}

/// `None` when it cannot be carried out, which was noted.
pub fn read(parts: &Parts<'_, '_>, notes: &mut Notes) -> Option<Spec> {
    let Some(srv) = parts.text("srv", notes) else {
        parts.missing("srv", notes);
        return None;
    };
    let srv = srv.trim_end_matches('.').to_ascii_lowercase();
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(fits)
    };
    if srv.len() > limits::DNS_NAME_BYTES || !srv.split('.').all(label) {
        let remedy = "write a name such as _mcp._tcp.example.com";
        parts.refuse("srv", "is no name of DNS", remedy, notes);
        return None;
    }
    let is_https = match parts.text("scheme", notes).as_deref() {
        None | Some("http") => false,
        Some("https") => true,
        Some(_) => {
            parts.refuse("scheme", "is no scheme", "write http or https", notes);
            return None;
        }
    };
    let path = parts.text("path", notes).unwrap_or_else(|| "/mcp".into());
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        parts.refuse("path", "is no path of a URL", "write /mcp", notes);
        return None;
    }
    let nameserver = match parts.text("nameserver", notes) {
        None => None,
        Some(text) => match address(&text) {
            Some(address) => Some(address),
            None => {
                let remedy = "write an address such as 10.0.0.53 or 10.0.0.53:5353";
                parts.refuse("nameserver", "is no address", remedy, notes);
                return None;
            }
        },
    };
    let (least, most) = (limits::DNS_ASK_MS_LEAST, limits::DISCOVERY_KEEP_MS_MAX);
    let interval_ms = parts.count("interval", least, most, notes);
    Some(Spec {
        srv,
        is_https,
        path,
        nameserver,
        interval_ms: interval_ms.unwrap_or(limits::DNS_ASK_MS),
    })
}

fn address(text: &str) -> Option<SocketAddr> {
    let bare = || text.parse().ok().map(|ip| SocketAddr::new(ip, 53));
    text.parse().ok().or_else(bare)
}
