//! A server that is reached by a URL: its address, the headers that go with every request, and
//! the way there. Nothing is looked up but what its templates name.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use crate::base::secret::{Secret, is_secret_name};
use crate::base::{limits, mask};
use crate::config::document::{Node, Notes, Spot};
use crate::config::entry::{Entry, Written};
use crate::config::oauth::{Mapping, OauthSpec, Tokens, oauth};
use crate::config::server::Surroundings;
use crate::net::egress::Allowed;
use crate::net::proxy::ProxyChoice;
use crate::net::url::Url;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteKind {
    /// Streamable HTTP, or else HTTP with SSE: found out at the first exchange.
    Auto,
    Streamable,
    /// HTTP with SSE, of revision 2024-11-05.
    Sse,
}

impl RemoteKind {
    /// As it is written in `type`.
    pub fn word(self) -> &'static str {
        match self {
            RemoteKind::Auto => "http",
            RemoteKind::Streamable => "streamableHttp",
            RemoteKind::Sse => "sse",
        }
    }
}

/// How to reach a server over HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteSpec {
    pub kind: RemoteKind,
    /// Absolute, `http` or `https`, expanded. May hold a secret.
    pub url: String,
    /// Sent with every request; the names are in the writing of the file.
    pub headers: Vec<(String, Secret)>,
    /// Certificates (PEM) to trust instead of the usual ones.
    pub ca_file: Option<PathBuf>,
    pub proxy: ProxyChoice,
    /// Without it: a login as the server describes it.
    pub oauth: Option<OauthSpec>,
    /// Headers of clients that go to the server.
    pub handed_on: Vec<Mapping>,
    /// Of a server that was found: where it may be, and nowhere else.
    pub within: Option<Vec<Allowed>>,
}

impl RemoteSpec {
    /// Whether each principal is somebody else at the server.
    pub fn is_per_principal(&self) -> bool {
        let oauth = self.oauth.as_ref();
        oauth.is_some_and(|oauth| oauth.tokens == Tokens::Principal)
    }
}

impl fmt::Debug for RemoteSpec {
    /// Of the URL only its origin: path and query may hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let origin = Url::parse(&self.url).map_or_else(|_| String::new(), |url| url.origin());
        f.debug_struct("RemoteSpec")
            .field("kind", &self.kind)
            .field("url", &origin)
            .field("headers", &names)
            .field("ca_file", &self.ca_file)
            .field("proxy", &self.proxy)
            .field("oauth", &self.oauth)
            .field("handed_on", &self.handed_on)
            .finish()
    }
}

/// One header as it is written.
#[derive(Clone)]
pub struct HeaderItem<'d> {
    pub name: &'d str,
    pub value: Written<'d>,
}

/// The gateway writes these itself: they frame a message, or say which one it is.
const OURS: &[&str] = &[
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// In lower case.
pub fn is_ours(name: &str) -> bool {
    OURS.contains(&name)
}

/// The headers of an entry or of the defaults; what cannot be sent is noted and left out.
pub fn header_items<'d>(node: &Node<'d>, notes: &mut Notes) -> Option<Vec<HeaderItem<'d>>> {
    let mut items = Vec::new();
    let mut seen = BTreeSet::new();
    for member in node.members(notes)? {
        let Some(text) = member.node.text(notes) else {
            continue;
        };
        let lower = member.name.to_ascii_lowercase();
        if !is_token(member.name) {
            let remedy = "use letters, digits and hyphens";
            member.spot.error(notes, "is not a header name", remedy);
        } else if OURS.contains(&lower.as_str()) || lower.starts_with("mcp-param-") {
            let remedy = "remove it: the gateway writes this header itself";
            member.spot.warn(notes, "is not sent", remedy);
        } else if !seen.insert(lower) {
            member
                .spot
                .error(notes, "sets a header twice", "keep one of the two");
        } else {
            let spot = member.node.spot;
            items.push(HeaderItem {
                name: member.name,
                value: Written { text, spot },
            });
        }
    }
    if items.len() > limits::REMOTE_HEADERS {
        let remedy = format!("at most {} are allowed", limits::REMOTE_HEADERS);
        node.spot
            .error(notes, format!("{} headers", items.len()), remedy);
        items.truncate(limits::REMOTE_HEADERS);
    }
    Some(items)
}

/// RFC 9110, section 5.6.2.
pub fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

/// `None` when something was noted that makes it unusable.
pub fn remote<'d>(
    kind: RemoteKind,
    url: &Written<'d>,
    entry: &Entry<'d>,
    around: &Surroundings<'_, 'd>,
    notes: &mut Notes,
) -> Option<RemoteSpec> {
    let expand = |word: &Written<'d>, private: bool, notes: &mut Notes| {
        let text = around.substitute(word, private, &[], notes);
        text.trim().to_owned()
    };
    let address = checked_url(&expand(url, true, notes), &url.spot, notes);
    let items = entry.headers.as_ref().or(around.defaults.headers.as_ref());
    let mut headers = Vec::new();
    for item in items.into_iter().flatten() {
        let value = expand(&item.value, true, notes);
        if value_fits(&value, &item.value.spot, notes) {
            if is_secret_name(item.name) {
                mask::learn(&value);
            }
            headers.push((item.name.to_owned(), Secret::new(value)));
        }
    }
    let ca_file = entry.ca_file.as_ref();
    let ca_file = ca_file.map(|word| around.folder.join(expand(word, false, notes)));
    let proxy = match &entry.proxy {
        None => ProxyChoice::None,
        Some(word) => proxy(&expand(word, true, notes), &word.spot, notes),
    };
    let item = entry.oauth.as_ref().or(around.defaults.oauth.as_ref());
    let expand_private = |word: &Written<'d>, notes: &mut Notes| expand(word, true, notes);
    let oauth = item.map(|item| oauth(item, &expand_private, notes));
    Some(RemoteSpec {
        kind,
        url: address?,
        headers,
        ca_file,
        proxy,
        oauth,
        handed_on: entry.handed_on.clone(),
        within: None,
    })
}

/// The URL in its plain form. It is never quoted: it may hold a secret.
fn checked_url(text: &str, spot: &Spot<'_>, notes: &mut Notes) -> Option<String> {
    match Url::parse(text) {
        Ok(url) => Some(url.whole()),
        // What is wrong with the expansion was noted and explains this.
        Err(_) if notes.first_error().is_some() => None,
        Err(error) => {
            spot.error(notes, error.to_string(), error.remedy());
            None
        }
    }
}

fn value_fits(value: &str, spot: &Spot<'_>, notes: &mut Notes) -> bool {
    let fits = |c: char| c == '\t' || c == ' ' || c.is_ascii_graphic();
    if !value.chars().all(fits) {
        let message = "holds a control character or one outside ASCII";
        spot.error(
            notes,
            message,
            "a header cannot carry it; encode or remove it",
        );
        return false;
    }
    if value.len() > limits::REMOTE_HEADER_BYTES {
        let remedy = format!("at most {} bytes are allowed", limits::REMOTE_HEADER_BYTES);
        spot.error(notes, "the header is too long", remedy);
        return false;
    }
    true
}

/// A proxy may be given with its user and password, which is why it is kept as a secret.
fn proxy(text: &str, spot: &Spot<'_>, notes: &mut Notes) -> ProxyChoice {
    match text {
        "none" => return ProxyChoice::None,
        "environment" => return ProxyChoice::Environment,
        _ => {}
    }
    let bare = text.strip_prefix("http://").map(|rest| {
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("http://{host}")
    });
    let url = bare.and_then(|bare| Url::parse(&bare).ok());
    if url.is_none_or(|url| url.whole() != format!("{}/", url.origin())) {
        let remedy = "write none, environment, or a URL such as http://proxy:3128";
        spot.error(notes, "is no proxy that can be used", remedy);
        return ProxyChoice::None;
    }
    ProxyChoice::Url(Secret::new(text.to_owned()))
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
