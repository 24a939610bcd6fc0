//! Why a request got no answer. The texts fit behind "failed to ..."; they name the origin and
//! never a path, a query, a header value or what stands in a body.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::time::rounded;
use crate::net::egress::Refusal;
use crate::net::url::UrlError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetError {
    /// Ended by its `Stop`.
    Stopped,
    Url(UrlError),
    /// A name or value that no header can have.
    Header(String),
    /// The rules about where requests may go.
    Refused {
        origin: String,
        refusal: Refusal,
    },
    Lookup {
        origin: String,
        detail: String,
    },
    Connect {
        origin: String,
        detail: String,
    },
    Tls {
        origin: String,
        detail: String,
    },
    /// No complete response head in time.
    Deadline {
        origin: String,
        after: Duration,
    },
    /// Nothing came for so long, or the body was not complete in time.
    Silent {
        origin: String,
    },
    /// The connection ended before the answer did.
    Lost {
        origin: String,
        detail: String,
        is_stale: bool,
    },
    /// Not HTTP as it should be.
    Protocol {
        origin: String,
        detail: String,
    },
    Redirect {
        from: String,
        to: String,
        status: u16,
        why: BadRedirect,
    },
    TooLarge {
        origin: String,
        limit_bytes: usize,
    },
    CaFile {
        path: PathBuf,
        detail: String,
    },
    /// The proxy that was configured cannot be used.
    Proxy(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRedirect {
    OtherOrigin,
    /// The method would have to change.
    Method,
    TooMany,
    /// No target, or one that cannot be read.
    Target,
}

/// What ended a wait inside ureq, before it is known to which request it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    Stopped,
    Deadline,
    Idle,
    Refused(Refusal),
    Lookup(String),
    Connect(String),
    Lost(String),
}

impl NetError {
    /// The server closed a kept connection as the request was on its way, and nothing of an
    /// answer came: most likely it never saw the request, but that is not certain.
    pub fn is_stale(&self) -> bool {
        matches!(self, NetError::Lost { is_stale: true, .. })
    }

    /// True when no byte of the request can have reached the server.
    pub fn is_unsent(&self) -> bool {
        use NetError::{CaFile, Connect, Header, Lookup, Proxy, Refused, Tls, Url};
        matches!(
            self,
            Url(_)
                | Header(_)
                | Refused { .. }
                | Lookup { .. }
                | Connect { .. }
                | Tls { .. }
                | CaFile { .. }
                | Proxy(_)
        )
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Stopped => f.write_str("finish: the request was stopped"),
            NetError::Url(error) => write!(f, "use a URL that {error}; {}", error.remedy()),
            NetError::Header(name) => write!(f, "send the header {name}: it holds what none may"),
            NetError::Refused { origin, refusal } => write!(f, "ask {origin}: {refusal}"),
            NetError::Lookup { origin, detail } => {
                write!(f, "find the address of {origin}: {detail}")
            }
            NetError::Connect { origin, detail } => write!(f, "connect to {origin}: {detail}"),
            NetError::Tls { origin, detail } => write!(f, "agree on TLS with {origin}: {detail}"),
            NetError::Deadline { origin, after } => {
                write!(f, "get an answer from {origin} within {}", rounded(*after))
            }
            NetError::Silent { origin } => {
                write!(f, "read the answer of {origin} to its end: it fell silent")
            }
            NetError::Lost { origin, detail, .. } => {
                write!(f, "keep the connection to {origin}: {detail}")
            }
            NetError::Protocol { origin, detail } => {
                write!(f, "understand the answer of {origin}: {detail}")
            }
            NetError::Redirect {
                from,
                to,
                status,
                why,
            } => {
                write!(f, "follow the redirect ({status}) of {from} to {to}: {why}")
            }
            NetError::TooLarge {
                origin,
                limit_bytes,
            } => {
                write!(
                    f,
                    "take the answer of {origin}: it is larger than {limit_bytes} bytes"
                )
            }
            NetError::CaFile { path, detail } => {
                write!(f, "read certificates from {}: {detail}", path.display())
            }
            NetError::Proxy(why) => write!(f, "use the proxy: {why}"),
        }
    }
}

impl fmt::Display for BadRedirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadRedirect::OtherOrigin => {
                "it leads to another origin; if that is right, configure it"
            }
            BadRedirect::Method => "it would change the method; configure the URL it leads to",
            BadRedirect::TooMany => "there are too many of them",
            BadRedirect::Target => "it leads nowhere",
        })
    }
}

impl std::error::Error for NetError {}
