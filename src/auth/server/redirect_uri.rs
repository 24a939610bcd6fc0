//! Where an answer may be sent: which URIs may be registered, and which one a request names.
//! Pure. Strings are compared as they are; nothing is decoded or made equal first.

use crate::base::limits::REDIRECT_URI_BYTES;
use crate::net::url::Url;
use crate::wire::percent;

/// Schemes that run or read something in place of handing it to a program.
const UNSAFE: &[&str] = &[
    "about",
    "blob",
    "data",
    "file",
    "filesystem",
    "ftp",
    "http",
    "https",
    "intent",
    "javascript",
    "mailto",
    "vbscript",
    "view-source",
    "ws",
    "wss",
];

/// What an answer says by its query.
const RESPONSE: &[&str] = &["code", "state", "iss", "error", "access_token"];

/// Who wrote a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    Operator,
    /// A scheme of its own must have a dot in it (RFC 8252, 7.1), as a domain that it owns has.
    Client,
}

/// Whether an answer may be sent there at all: https, http to this machine, or a program's own
/// scheme.
pub fn is_usable(uri: &str, author: Author) -> bool {
    if uri.len() > REDIRECT_URI_BYTES || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return false;
    }
    if uri.contains(['#', '"', '<', '>', '\\', '^', '`', '{', '|', '}']) {
        return false;
    }
    let Some((scheme, rest)) = uri.split_once(':') else {
        return false;
    };
    if author == Author::Client && has_response(uri) {
        return false;
    }
    match scheme {
        "https" => Url::parse(uri).is_ok_and(|url| !url.host().contains('*')),
        "http" => Url::parse(uri).is_ok_and(|url| is_this_machine(url.host())),
        own => is_own_scheme(own, author) && !rest.trim_matches('/').is_empty(),
    }
}

/// Parameters that an answer has: beside ours, a program could take them for it.
fn has_response(uri: &str) -> bool {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        percent::decode_form(name).is_none_or(|name| RESPONSE.contains(&name.as_str()))
    })
}

fn is_this_machine(host: &str) -> bool {
    ["localhost", "127.0.0.1", "::1"].contains(&host)
}

fn is_own_scheme(scheme: &str, author: Author) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(fits)
        && !UNSAFE.contains(&scheme.split('.').next().unwrap_or_default())
        && (author == Author::Operator || scheme.contains('.'))
}

/// Whether `asked` is the one that was registered. Of a loopback address the port may be
/// another: a program takes the one that is free (RFC 8252, 7.3).
pub fn is_same(registered: &str, asked: &str) -> bool {
    if registered == asked {
        return true;
    }
    let (Some(one), Some(other)) = (without_port(registered), without_port(asked)) else {
        return false;
    };
    one == other
}

/// The host and what follows the port, of a URI with a loopback address.
fn without_port(uri: &str) -> Option<(&str, &str)> {
    let end = ["http://127.0.0.1", "http://[::1]"]
        .iter()
        .find(|host| uri.starts_with(*host))?
        .len();
    let (host, rest) = uri.split_at(end);
    let rest = match rest.strip_prefix(':') {
        None => rest,
        Some(port) => {
            let end = port.find(['/', '?']).unwrap_or(port.len());
            let (digits, rest) = port.split_at(end);
            let fits = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .parse::<u16>()
                .ok()
                .filter(|port| fits && *port > 0)?;
            rest
        }
    };
    let ends_host = rest.is_empty() || rest.starts_with(['/', '?']);
    ends_host.then_some((host, rest))
}

/// The host that a person is shown; of a program's own scheme the scheme.
pub fn shown_host(uri: &str) -> String {
    match Url::parse(uri) {
        Ok(url) => url.host().to_owned(),
        Err(_) => uri.split(':').next().unwrap_or_default().to_owned(),
    }
}

/// Whether only programs of one machine could be meant.
pub fn is_local(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| is_this_machine(url.host()))
}
