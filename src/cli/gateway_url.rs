//! The URL of a running gateway, and the endpoints that follow from it.

use crate::cli::outcome::Failure;
use crate::net::url::{Url, UrlError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayUrl {
    /// Scheme, host and port.
    origin: String,
    /// Without a slash at its end.
    path: String,
    query: Option<String>,
    is_loopback: bool,
}

impl GatewayUrl {
    /// A bare origin means `/mcp`.
    pub fn parse(text: &str) -> Result<GatewayUrl, Failure> {
        let bad = |why: &str| {
            let example = "write it like http://127.0.0.1:3050/mcp";
            Failure::Usage(format!("--url {why}; {example}"))
        };
        let url = Url::parse(text).map_err(|error| match error {
            UrlError::UserInfo => bad("must not hold a user name or password"),
            error => bad(&error.to_string()),
        })?;
        let path = match url.path().trim_end_matches('/') {
            "" => "/mcp",
            path => path,
        };
        Ok(GatewayUrl {
            origin: url.origin(),
            path: path.to_owned(),
            query: url.query().map(str::to_owned),
            is_loopback: url.is_loopback(),
        })
    }

    /// The endpoint as it was given.
    pub fn endpoint(&self) -> String {
        self.with_query(&self.path)
    }

    /// Appends one parameter to the query.
    pub fn add_parameter(&mut self, name: &str, value: &str) {
        let before = self.query.take().map(|query| format!("{query}&"));
        let value = encode_segment(value);
        self.query = Some(format!("{}{name}={value}", before.unwrap_or_default()));
    }

    /// The endpoint of one server.
    pub fn of_server(&self, server: &str) -> String {
        self.with_query(&format!("{}/{}", self.path, encode_segment(server)))
    }

    /// Where the gateway says how its servers are.
    pub fn health(&self) -> String {
        let before = self.path.strip_suffix("/mcp").unwrap_or_default();
        format!("{}{before}/health", self.origin)
    }

    /// Then no proxy is asked, whatever the environment says.
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    fn with_query(&self, path: &str) -> String {
        let query = self.query.as_deref();
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        format!("{}{path}{query}", self.origin)
    }
}

/// One path segment: everything but letters, digits, `-` and `_` as `%XX`.
pub fn encode_segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{GatewayUrl, encode_segment};
    use crate::wire::percent;

    #[test]
    fn endpoints() {
        let url = |text: &str| GatewayUrl::parse(text).expect(text);
        let plain = url("http://127.0.0.1:3050");
        assert_eq!(plain.endpoint(), "http://127.0.0.1:3050/mcp");
        assert_eq!(plain, url("http://127.0.0.1:3050/"));
        assert_eq!(plain, url("http://127.0.0.1:3050/mcp/"));
        let behind = url("https://example.org/tools/mcp?tags=a");
        assert_eq!(behind.endpoint(), "https://example.org/tools/mcp?tags=a");
        assert_eq!(
            behind.of_server("a b/c"),
            "https://example.org/tools/mcp/a%20b%2Fc?tags=a"
        );
        let mut narrowed = behind.clone();
        narrowed.add_parameter("preset", "a b&c");
        let expected = "https://example.org/tools/mcp?tags=a&preset=a%20b%26c";
        assert_eq!(narrowed.endpoint(), expected);
        assert_eq!(behind.health(), "https://example.org/tools/health");
        assert!(plain.is_loopback() && url("http://[::1]:1").is_loopback());
        assert!(url("http://localhost").is_loopback() && !behind.is_loopback());
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "127.0.0.1:3050",
            "localhost",
            "/mcp",
            "ftp://host/mcp",
            "http://user:secret@host/mcp",
            "http://",
            "http://a b/",
        ] {
            let error = GatewayUrl::parse(text).expect_err(text);
            assert_eq!(error.exit_code(), 64, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn segments_survive() {
        for name in ["plain", "github.com/x/y", "Sequential Thinking", "é%", ".."] {
            let encoded = encode_segment(name);
            assert!(!encoded.contains(['/', ' ', '.']), "{encoded}");
            assert_eq!(percent::decode(&encoded).as_deref(), Some(name));
        }
    }
}
