//! Which Host and Origin may talk to us, and what a browser is told (CORS). Pure.
//!
//! Against DNS rebinding and foreign pages: the Host must be one of ours on every path, and an
//! Origin, which only browsers send, must be listed or as local as the Host.
//! Absent on purpose: paths, authentication, and any trust in Referer or X-Forwarded-* (whom
//! those of a proxy speak for is said in `trusted`).

use crate::base::limits::PREFLIGHT_PARAMETERS;
use crate::http::authority::Authority;
use crate::http::head::Head;
use crate::http::respond::Reply;

/// Request headers that a page may send to us.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Accept, Mcp-Session-Id, \
    MCP-Protocol-Version, Mcp-Method, Mcp-Name, Last-Event-ID";
const EXPOSED_HEADERS: &str = "Mcp-Session-Id, WWW-Authenticate";
/// Request headers of tools: allowed one by one, as the page names them.
const PARAMETER_PREFIX: &str = "mcp-param-";
const PREFLIGHT_SECONDS: &str = "600";

/// The names we answer to and the pages we answer.
#[derive(Debug, Clone, Default)]
pub struct HostPolicy {
    /// Beside the loopback names; ports are ignored; `*` allows any.
    pub allowed_hosts: Vec<String>,
    /// `scheme://host[:port]`; there is no `*`.
    pub allowed_origins: Vec<String>,
    pub bound_to_loopback: bool,
}

/// What the policy says about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked<'h> {
    /// `cors`: the origin that may read the answer.
    Pass {
        cors: Option<&'h str>,
    },
    BadHost,
    BadOrigin,
}

impl HostPolicy {
    /// Checks the Host and then the Origin of a request.
    pub fn check<'h>(&self, head: &Head<'h>) -> Checked<'h> {
        if !self.allows_host(&head.host) {
            return Checked::BadHost;
        }
        self.check_origin(head)
    }

    /// The Origin alone, for paths that every Host may ask for.
    pub fn check_origin<'h>(&self, head: &Head<'h>) -> Checked<'h> {
        let mut origins = head.header_values("Origin");
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return Checked::Pass { cors: None },
            (Some(origin), None) => origin,
            (Some(_), Some(_)) => return Checked::BadOrigin,
        };
        let Some(parsed) = Origin::parse(origin) else {
            return Checked::BadOrigin;
        };
        let mut listed = self
            .allowed_origins
            .iter()
            .filter_map(|entry| Origin::parse(entry));
        if listed.any(|entry| entry.same_as(&parsed)) {
            return Checked::Pass { cors: Some(origin) };
        }
        if parsed.is_loopback() && head.host.is_loopback() {
            return Checked::Pass {
                cors: self.bound_to_loopback.then_some(origin),
            };
        }
        Checked::BadOrigin
    }

    /// Whether `host` names us. The port is ignored: a proxy or a port mapping may change it.
    pub fn allows_host(&self, host: &Authority<'_>) -> bool {
        if host.is_loopback() {
            return true;
        }
        self.allowed_hosts.iter().any(|entry| {
            let entry_name = Authority::parse(entry).map(|entry| entry.name);
            entry == "*"
                || entry_name.is_some_and(|name| name.eq_ignore_ascii_case(host.name))
                    && !host.name.is_empty()
        })
    }
}

/// Headers of an answer that the page at `origin` may read.
pub fn cors_headers(origin: &str) -> [(&'static str, &str); 3] {
    [
        ("Access-Control-Allow-Origin", origin),
        ("Vary", "Origin"),
        ("Access-Control-Expose-Headers", EXPOSED_HEADERS),
    ]
}

impl HostPolicy {
    /// Answers OPTIONS; `allow` are the methods of the path, `cors` is what `check` gave. Without
    /// that the browser stops there.
    pub fn preflight(head: &Head<'_>, allow: &'static str, cors: Option<&str>) -> Reply {
        let reply = Reply::empty(204).with("Allow", allow);
        let Some(origin) = cors else {
            return reply.with("Vary", "Origin");
        };
        reply
            .with("Access-Control-Allow-Origin", origin)
            .with("Vary", "Origin, Access-Control-Request-Headers")
            .with("Access-Control-Allow-Methods", allow)
            .with("Access-Control-Allow-Headers", allowed_headers(head))
            .with("Access-Control-Max-Age", PREFLIGHT_SECONDS)
    }
}

fn allowed_headers(head: &Head<'_>) -> String {
    let mut allowed = ALLOWED_HEADERS.to_owned();
    head.header_values("Access-Control-Request-Headers")
        .flat_map(|names| names.split(','))
        .map(str::trim)
        .filter(|name| is_parameter(name))
        .take(PREFLIGHT_PARAMETERS)
        .for_each(|name| {
            allowed.push_str(", ");
            allowed.push_str(name);
        });
    allowed
}

fn is_parameter(name: &str) -> bool {
    name.get(..PARAMETER_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PARAMETER_PREFIX))
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Whether `text` could ever match an Origin header: for the check of the configuration.
pub fn valid_origin(text: &str) -> bool {
    Origin::parse(text).is_some()
}

/// `scheme://host[:port]` and nothing else.
struct Origin<'o> {
    scheme: &'o str,
    authority: Authority<'o>,
}

impl<'o> Origin<'o> {
    /// `null` is no origin: any sandboxed page can send it.
    fn parse(text: &'o str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let authority = Authority::parse(authority)?;
        let well_formed = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(scheme_byte)
            && !authority.name.is_empty();
        well_formed.then_some(Self { scheme, authority })
    }

    fn default_port(&self) -> Option<u16> {
        match self.scheme {
            scheme if scheme.eq_ignore_ascii_case("http") => Some(80),
            scheme if scheme.eq_ignore_ascii_case("https") => Some(443),
            _ => None,
        }
    }

    fn same_as(&self, other: &Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self
                .authority
                .same_as(&other.authority, self.default_port())
    }

    /// A page served by this machine; `default_port` knows the schemes of the web.
    fn is_loopback(&self) -> bool {
        self.default_port().is_some() && self.authority.is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use crate::http::guard::{Checked, HostPolicy, cors_headers};
    use crate::http::head::{Head, Parsed, no_fields};

    const PASS: &str = "pass";
    const CORS: &str = "cors";

    fn policy(bound_to_loopback: bool) -> HostPolicy {
        HostPolicy {
            allowed_hosts: vec!["gw.example.com".into(), "[2001:db8::1]:9".into()],
            allowed_origins: vec![
                "https://app.example.com".into(),
                "http://tool.example.com:8080".into(),
                "vscode-webview://abc".into(),
                "null".into(),
                "*".into(),
            ],
            bound_to_loopback,
        }
    }

    fn verdict(policy: &HostPolicy, host: &str, origin_lines: &str) -> &'static str {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{origin_lines}\r\n");
        let mut fields = no_fields();
        let Parsed::Complete(head) = Head::parse(bytes.as_bytes(), &mut fields) else {
            return "unparsed";
        };
        match policy.check(&head) {
            Checked::Pass { cors: None } => PASS,
            Checked::Pass { cors: Some(_) } => CORS,
            Checked::BadHost => "host",
            Checked::BadOrigin => "origin",
        }
    }

    #[test]
    fn hosts() {
        for (host, expected) in [
            ("localhost", PASS),
            ("LOCALHOST:1", PASS),
            ("127.0.0.1:3050", PASS),
            ("127.8.8.8", PASS),
            ("[::1]:3050", PASS),
            ("gw.example.com", PASS),
            ("GW.example.com:8443", PASS),
            ("[2001:DB8::1]", PASS),
            ("evil.example", "host"),
            ("localhost.evil.example", "host"),
            ("xgw.example.com", "host"),
            ("gw.example.com.evil", "host"),
            ("127.0.0.1.nip.io", "host"),
            ("", "host"),
            ("10.0.0.1", "host"),
            ("0.0.0.0", "host"),
            ("*", "host"),
            ("app.example.com", "host"),
            ("a?/../x", "unparsed"),
            ("x#y", "unparsed"),
            ("localhost@evil", "unparsed"),
        ] {
            assert_eq!(verdict(&policy(true), host, ""), expected, "{host:?}");
        }
        let any = HostPolicy {
            allowed_hosts: vec!["*".into()],
            ..policy(false)
        };
        assert_eq!(verdict(&any, "evil.example", ""), PASS);
        assert_eq!(
            verdict(&any, "evil.example", "Origin: https://evil.example\r\n"),
            "origin"
        );
        assert_eq!(
            verdict(&any, "evil.example", "Origin: http://localhost\r\n"),
            "origin"
        );
    }

    #[test]
    fn origins() {
        for (origin, expected) in [
            ("http://localhost", CORS),
            ("http://localhost:6274", CORS),
            ("https://127.0.0.1:1", CORS),
            ("http://[::1]:3050", CORS),
            ("https://app.example.com", CORS),
            ("https://APP.example.com:443", CORS),
            ("http://tool.example.com:8080", CORS),
            ("vscode-webview://abc", CORS),
            ("http://app.example.com", "origin"),
            ("https://app.example.com:80", "origin"),
            ("http://tool.example.com", "origin"),
            ("null", "origin"),
            ("*", "origin"),
            ("", "origin"),
            ("http://localhost.evil.com", "origin"),
            ("http://localhost@evil.com", "origin"),
            ("http://evil.com@localhost", "origin"),
            ("https://evil.com", "origin"),
            ("http://localhost/", "origin"),
            ("http://localhost:1:2", "origin"),
            ("localhost", "origin"),
            ("//localhost", "origin"),
            ("http://localhost evil.com", "origin"),
            ("http://localhost, http://a", "origin"),
            ("http://", "origin"),
            ("http://:80", "origin"),
            ("file://localhost", "origin"),
            ("http://localhost?x", "origin"),
            ("http://localhost#", "origin"),
            ("1http://localhost", "origin"),
            ("http://gw.example.com", "origin"),
        ] {
            let line = format!("Origin: {origin}\r\n");
            assert_eq!(
                verdict(&policy(true), "localhost:3050", &line),
                expected,
                "{origin:?}"
            );
        }
        let two = "Origin: http://localhost\r\nOrigin: http://localhost\r\n";
        assert_eq!(verdict(&policy(true), "localhost", two), "origin");
        let local = "Origin: http://localhost\r\n";
        assert_eq!(verdict(&policy(true), "gw.example.com", local), "origin");
        assert_eq!(verdict(&policy(false), "localhost", local), PASS);
        assert_eq!(verdict(&policy(true), "evil.example", local), "host");
    }

    #[test]
    fn preflight_names_what_a_page_may_send() {
        let bytes =
            b"OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:6274\r\n\
            Access-Control-Request-Method: POST\r\n\
            Access-Control-Request-Headers: content-type, mcp-param-Region,x-other, Mcp-Param-b\r\n\
            \r\n";
        let mut fields = no_fields();
        let Parsed::Complete(head) = Head::parse(bytes, &mut fields) else {
            panic!("refused")
        };
        let Checked::Pass { cors } = policy(true).check(&head) else {
            panic!("refused")
        };
        let reply = HostPolicy::preflight(&head, "GET, POST", cors);
        let value = |name: &str| {
            let found = reply.headers.iter().find(|(header, _)| *header == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        assert_eq!(reply.status, 204);
        assert_eq!(value("Allow"), "GET, POST");
        assert_eq!(value("Access-Control-Allow-Methods"), "GET, POST");
        assert_eq!(
            value("Access-Control-Allow-Origin"),
            "http://localhost:6274"
        );
        let allowed: Vec<_> = value("Access-Control-Allow-Headers").split(", ").collect();
        for name in [
            "Mcp-Session-Id",
            "Last-Event-ID",
            "Authorization",
            "mcp-param-Region",
        ] {
            assert!(allowed.contains(&name), "{name}");
        }
        assert!(!allowed.contains(&"x-other"));
        assert!(
            HostPolicy::preflight(&head, "GET", None)
                .headers
                .iter()
                .all(|(name, _)| { !name.starts_with("Access-Control") })
        );
        assert!(cors_headers("http://a").contains(&("Vary", "Origin")));
    }
}
