//! An absolute `http` or `https` URL, checked strictly: what two readers could take for two
//! hosts is refused. Pure.
//!
//! `Display` and `Debug` show the origin only, because paths and queries may hold secrets.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    is_https: bool,
    /// Lower case; an IPv6 address in its brackets.
    host: String,
    port: u16,
    /// Path and query, beginning with a slash.
    target: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    NotAbsolute,
    Scheme,
    UserInfo,
    Host,
    Port,
    Character,
}

impl UrlError {
    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            UrlError::NotAbsolute | UrlError::Host => "write it like https://mcp.example.com/mcp",
            UrlError::Scheme => "write http:// or https://",
            UrlError::UserInfo => "write an Authorization header in headers instead",
            UrlError::Port => "write a number from 1 to 65535",
            UrlError::Character => "write it as %XX",
        }
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::NotAbsolute => "is not an absolute URL",
            UrlError::Scheme => "has a scheme other than http and https",
            UrlError::UserInfo => "holds a user name or a password",
            UrlError::Host => "names no host that can be asked",
            UrlError::Port => "has a port that is none",
            UrlError::Character => "holds a character that must be encoded",
        })
    }
}

impl Url {
    /// Reads an absolute URL; a fragment is dropped.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
            let is_host_free = !text.contains("://") && bad == ' ';
            let error = if is_host_free {
                UrlError::NotAbsolute
            } else {
                UrlError::Character
            };
            return Err(error);
        }
        if text.contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}']) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NotAbsolute)?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = split_authority(authority)?;
        let port = port.unwrap_or(if is_https { 443 } else { 80 });
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Url {
            is_https,
            host: host.to_ascii_lowercase(),
            port,
            target: format!("{slash}{target}"),
        })
    }

    /// What a reference in an answer to this URL means (RFC 3986, section 5.2).
    ///
    /// # Errors
    /// As `parse`.
    pub fn join(&self, reference: &str) -> Result<Url, UrlError> {
        let reference = reference.split('#').next().unwrap_or_default();
        let scheme_end = reference.find(':');
        let first_other = reference.find(['/', '?']);
        if scheme_end.is_some_and(|colon| first_other.is_none_or(|other| colon < other)) {
            return Url::parse(reference);
        }
        if reference.starts_with("//") {
            return Url::parse(&format!("{}:{reference}", self.scheme()));
        }
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (reference, None),
        };
        let query = if path.is_empty() {
            query.or(self.query())
        } else {
            query
        };
        let path = match path {
            "" => self.path().to_owned(),
            absolute if absolute.starts_with('/') => without_dots(absolute),
            relative => {
                let folder = self.path().rfind('/').map_or("/", |at| &self.path()[..=at]);
                without_dots(&format!("{folder}{relative}"))
            }
        };
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        Url::parse(&format!("{}{path}{query}", self.origin()))
    }

    pub fn is_https(&self) -> bool {
        self.is_https
    }

    fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// Lower case; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let inner = self
            .host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        inner.unwrap_or(&self.host)
    }

    /// The host, if it is written as an address.
    pub fn address(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(&self.target, |(path, _)| path)
    }

    /// Without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// `localhost`, 127.0.0.0/8 or `::1`.
    pub fn is_loopback(&self) -> bool {
        match self.address() {
            Some(address) => address.to_canonical().is_loopback(),
            None => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }

    /// Scheme, host and port; the port only if it is not the usual one.
    pub fn origin(&self) -> String {
        let usual = if self.is_https { 443 } else { 80 };
        match self.port {
            port if port == usual => format!("{}://{}", self.scheme(), self.host),
            port => format!("{}://{}:{port}", self.scheme(), self.host),
        }
    }

    pub fn same_origin(&self, other: &Url) -> bool {
        (self.is_https, &self.host, self.port) == (other.is_https, &other.host, other.port)
    }

    /// The whole URL, for the request itself and nothing else.
    pub fn whole(&self) -> String {
        format!("{}{}", self.origin(), self.target)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/...", self.origin())
    }
}

/// `name`, `name:port`, `[v6]` or `[v6]:port`.
fn split_authority(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']').ok_or(UrlError::Host)?;
            inner[..end]
                .parse::<Ipv6Addr>()
                .map_err(|_| UrlError::Host)?;
            authority.split_at(end + 2)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, rest) = authority.split_at(end);
            let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if host.is_empty() || !host.chars().all(fits) {
                return Err(UrlError::Host);
            }
            (host, rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some(digits) => Some(port_number(digits).ok_or(UrlError::Port)?),
        None => return Err(UrlError::Host),
    };
    Ok((host, port))
}

/// Digits only: `parse` alone would take a sign, too.
fn port_number(digits: &str) -> Option<u16> {
    let fits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| fits && *port > 0)
}

/// An absolute path without `.` and `..` segments.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => {
                kept.push(other);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{Url, UrlError};

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    #[test]
    fn reads_origin_and_target() {
        let check = |text: &str, origin: &str, whole: &str| {
            assert_eq!(url(text).origin(), origin, "{text}");
            assert_eq!(url(text).whole(), whole, "{text}");
        };
        check("http://h", "http://h", "http://h/");
        check("HTTP://H:80/a?b=c#d", "http://h", "http://h/a?b=c");
        check("https://h:443", "https://h", "https://h/");
        check("https://h:80?x", "https://h:80", "https://h:80/?x");
        check("http://[::1]:9/x", "http://[::1]:9", "http://[::1]:9/x");
        check(
            "http://a_b.c-d:1/%20",
            "http://a_b.c-d:1",
            "http://a_b.c-d:1/%20",
        );
        assert_eq!(url("http://[::1]").host(), "::1");
        assert_eq!((url("http://h").port(), url("https://h").port()), (80, 443));
    }

    #[test]
    fn refuses_what_is_none() {
        let check = |text: &str, expect: UrlError| {
            assert_eq!(Url::parse(text), Err(expect), "{text}");
        };
        check("", UrlError::NotAbsolute);
        check("mcp.example.com/mcp", UrlError::NotAbsolute);
        check("not a url", UrlError::NotAbsolute);
        check("/mcp", UrlError::NotAbsolute);
        check("ftp://h/", UrlError::Scheme);
        check("file:///etc/passwd", UrlError::Scheme);
        check("http://u:p@h/", UrlError::UserInfo);
        check("http://h@evil/", UrlError::UserInfo);
        check("http://", UrlError::Host);
        check("http:///x", UrlError::Host);
        check("http://[::1", UrlError::Host);
        check("http://[::1]x/", UrlError::Host);
        check("http://[1.2.3.4]/", UrlError::Host);
        check("http://h%41/", UrlError::Host);
        check("http://h:/", UrlError::Port);
        check("http://h:0/", UrlError::Port);
        check("http://h:+1/", UrlError::Port);
        check("http://h:65536/", UrlError::Port);
        check("http://h/a b", UrlError::Character);
        check("http://h\\@evil/", UrlError::Character);
        check("http://h/\r\nX: y", UrlError::Character);
        check("http://h/é", UrlError::Character);
    }

    #[test]
    fn references_are_resolved() {
        let check = |reference: &str, expect: &str| {
            let base = url("http://h:1/a/b/c?q=1");
            assert_eq!(base.join(reference).unwrap().whole(), expect, "{reference}");
        };
        check("http://other/x", "http://other/x");
        check("//other/x", "http://other/x");
        check("/x?y#z", "http://h:1/x?y");
        check("x", "http://h:1/a/b/x");
        check("./x", "http://h:1/a/b/x");
        check("../x", "http://h:1/a/x");
        check("../../../x", "http://h:1/x");
        check("..", "http://h:1/a/");
        check("?z", "http://h:1/a/b/c?z");
        check("", "http://h:1/a/b/c?q=1");
        check("#f", "http://h:1/a/b/c?q=1");
        check("x?u=http://y", "http://h:1/a/b/x?u=http://y");
        assert!(url("http://h").join("javascript:alert(1)").is_err());
        assert!(url("http://h").join("data:text/plain,x").is_err());
    }

    #[test]
    fn origins_are_compared_whole() {
        let same = |a: &str, b: &str| url(a).same_origin(&url(b));
        assert!(same("http://h/a", "http://H:80/b"));
        assert!(!same("http://h/", "https://h/"));
        assert!(!same("http://h/", "http://h:81/"));
        assert!(!same("http://h/", "http://h2/"));
    }

    #[test]
    fn shows_its_origin_only() {
        let secret = url("https://h/s3cret?key=s3cret");
        assert_eq!(format!("{secret} {secret:?}"), "https://h https://h/...");
    }
}
