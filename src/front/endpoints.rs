//! The routes, as one table. What is not in it does not exist: 404 for everybody.

use crate::auth::OauthPath;
use crate::relay::view::Scope;
use crate::wire::percent;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Host and Origin are checked; with authentication, whoever asks shows a token.
    Token,
    /// Host and Origin are checked; who asks is the endpoint's own business.
    Page,
    /// The Host is checked. Any page may read the answer: documents for everybody.
    Public,
    /// Any Host: probes send the address of a pod. Tells nothing but up or down to strangers.
    Probe,
    /// Programs on this machine, or everybody (`metrics.public`); on the listener for health
    /// everybody.
    Scrape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Mcp(Scope),
    /// HTTP+SSE: the stream, and where its client posts to.
    Sse,
    Messages,
    Health,
    HealthLive,
    HealthReady,
    HealthStartup,
    /// How far the servers are, and one of them.
    HealthMcp,
    HealthServer(String),
    Metrics,
    /// Only there with authentication, but for the way back from a login at a server.
    Oauth(OauthPath),
    /// Describes this gateway as a client of one server's authorization server.
    ClientDocument(String),
}

struct Row {
    path: &'static str,
    access: Access,
    endpoint: fn() -> Endpoint,
}

const ENDPOINTS: &[Row] = &[
    Row {
        path: "/mcp",
        access: Access::Token,
        endpoint: || Endpoint::Mcp(Scope::All),
    },
    Row {
        path: "/sse",
        access: Access::Token,
        endpoint: || Endpoint::Sse,
    },
    Row {
        path: "/messages",
        access: Access::Token,
        endpoint: || Endpoint::Messages,
    },
    Row {
        path: "/health",
        access: Access::Probe,
        endpoint: || Endpoint::Health,
    },
    Row {
        path: "/health/live",
        access: Access::Probe,
        endpoint: || Endpoint::HealthLive,
    },
    Row {
        path: "/health/ready",
        access: Access::Probe,
        endpoint: || Endpoint::HealthReady,
    },
    Row {
        path: "/health/startup",
        access: Access::Probe,
        endpoint: || Endpoint::HealthStartup,
    },
    Row {
        path: "/health/mcp",
        access: Access::Probe,
        endpoint: || Endpoint::HealthMcp,
    },
    Row {
        path: "/metrics",
        access: Access::Scrape,
        endpoint: || Endpoint::Metrics,
    },
    Row {
        path: "/.well-known/oauth-protected-resource",
        access: Access::Public,
        endpoint: || Endpoint::Oauth(OauthPath::ProtectedResource(None)),
    },
    Row {
        path: "/.well-known/oauth-authorization-server",
        access: Access::Public,
        endpoint: || Endpoint::Oauth(OauthPath::AuthorizationServer),
    },
    Row {
        path: "/.well-known/openid-configuration",
        access: Access::Public,
        endpoint: || Endpoint::Oauth(OauthPath::AuthorizationServer),
    },
    Row {
        path: "/.well-known/jwks.json",
        access: Access::Public,
        endpoint: || Endpoint::Oauth(OauthPath::Jwks),
    },
    Row {
        path: "/token",
        access: Access::Page,
        endpoint: || Endpoint::Oauth(OauthPath::Token),
    },
    Row {
        path: "/register",
        access: Access::Page,
        endpoint: || Endpoint::Oauth(OauthPath::Register),
    },
    Row {
        path: "/revoke",
        access: Access::Page,
        endpoint: || Endpoint::Oauth(OauthPath::Revoke),
    },
    Row {
        path: "/authorize",
        access: Access::Page,
        endpoint: || Endpoint::Oauth(OauthPath::Authorize),
    },
    Row {
        path: "/oauth/login",
        access: Access::Page,
        endpoint: || Endpoint::Oauth(OauthPath::Login),
    },
    Row {
        path: "/oauth/consent",
        access: Access::Page,
        endpoint: || Endpoint::Oauth(OauthPath::Consent),
    },
];

/// `/mcp/<server>`: one segment, percent-encoded.
const SERVER_PREFIX: &str = "/mcp/";
const SERVER_HEALTH_PREFIX: &str = "/health/mcp/";
/// A client that knows a resource by its path asks for that path behind the well-known one
/// (RFC 9728 3.1; RFC 8414 3.1).
const RESOURCE_PREFIX: &str = "/.well-known/oauth-protected-resource";
const AUTHORIZATION_PREFIXES: [&str; 2] = [
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
];
const CALLBACK_PREFIX: &str = "/oauth/callback/";
const DOCUMENT_PREFIX: &str = "/oauth/client/";

/// Finds the route of a raw path.
pub fn find(path: &str) -> Option<(Endpoint, Access)> {
    let path = match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter,
        _ => path,
    };
    if let Some(row) = ENDPOINTS.iter().find(|row| row.path == path) {
        return Some(((row.endpoint)(), row.access));
    }
    if let Some(segment) = path.strip_prefix(SERVER_HEALTH_PREFIX) {
        return Some((Endpoint::HealthServer(name_in(segment)?), Access::Probe));
    }
    if let Some(found) = oauth(path) {
        return Some(found);
    }
    let name = name_in(path.strip_prefix(SERVER_PREFIX)?)?;
    Some((Endpoint::Mcp(Scope::Server(name)), Access::Token))
}

fn oauth(path: &str) -> Option<(Endpoint, Access)> {
    if let Some(segment) = path.strip_prefix(DOCUMENT_PREFIX) {
        return Some((Endpoint::ClientDocument(name_in(segment)?), Access::Public));
    }
    if let Some(segment) = path.strip_prefix(CALLBACK_PREFIX) {
        let at = OauthPath::UpstreamCallback(name_in(segment)?);
        return Some((Endpoint::Oauth(at), Access::Page));
    }
    if let Some(resource) = path.strip_prefix(RESOURCE_PREFIX) {
        let (_, access) = find(resource).filter(|_| resource.starts_with('/'))?;
        let at = OauthPath::ProtectedResource(Some(resource.to_owned()));
        return (access == Access::Token).then_some((Endpoint::Oauth(at), Access::Public));
    }
    let mut prefixes = AUTHORIZATION_PREFIXES.iter();
    let issuer = prefixes.find_map(|prefix| path.strip_prefix(prefix))?;
    let is_ours = find(issuer).is_some_and(|(_, access)| access == Access::Token);
    is_ours.then_some((
        Endpoint::Oauth(OauthPath::AuthorizationServer),
        Access::Public,
    ))
}

fn name_in(segment: &str) -> Option<String> {
    if segment.is_empty() || segment.contains('/') {
        return None;
    }
    percent::decode(segment)
}

#[cfg(test)]
mod tests {
    use super::{Access, Endpoint, find};
    use crate::auth::OauthPath;
    use crate::relay::view::Scope;

    #[test]
    fn knows_its_paths_and_no_others() {
        let server = |name: &str| Some((Endpoint::Mcp(Scope::Server(name.into())), Access::Token));
        assert_eq!(
            find("/mcp"),
            Some((Endpoint::Mcp(Scope::All), Access::Token))
        );
        assert_eq!(
            find("/mcp/"),
            Some((Endpoint::Mcp(Scope::All), Access::Token))
        );
        assert_eq!(find("/mcp/files"), server("files"));
        assert_eq!(find("/mcp/github.com%2Fx%2Fy"), server("github.com/x/y"));
        assert_eq!(
            find("/mcp/Sequential%20Thinking"),
            server("Sequential Thinking")
        );
        assert_eq!(
            find("/health/live"),
            Some((Endpoint::HealthLive, Access::Probe))
        );
        let probed = |name: &str| Some((Endpoint::HealthServer(name.into()), Access::Probe));
        assert_eq!(find("/health/mcp/files"), probed("files"));
        assert_eq!(find("/health/mcp/a%2Fb/"), probed("a/b"));
        assert_eq!(
            find("/health/mcp/"),
            Some((Endpoint::HealthMcp, Access::Probe))
        );
        let resource = |path: Option<&str>| {
            let at = OauthPath::ProtectedResource(path.map(str::to_owned));
            Some((Endpoint::Oauth(at), Access::Public))
        };
        let known = "/.well-known/oauth-protected-resource";
        assert_eq!(find(known), resource(None));
        for path in ["/mcp", "/mcp/a%2Fb", "/sse"] {
            assert_eq!(find(&format!("{known}{path}")), resource(Some(path)));
        }
        let server = Endpoint::Oauth(OauthPath::AuthorizationServer);
        let found = find("/.well-known/oauth-authorization-server/mcp");
        assert_eq!(found, Some((server, Access::Public)));
        let back = Endpoint::Oauth(OauthPath::UpstreamCallback("a b".into()));
        assert_eq!(find("/oauth/callback/a%20b"), Some((back, Access::Page)));
        for unknown in [
            "/",
            "",
            "/mcpx",
            "/mcp/a/b",
            "/mcp/%ff",
            "/health/x",
            "/health/mcp/a/b",
            "/health/mcp/%ff",
            "/health/mcpx",
            "/sse/files",
            "/messages/x",
            "//mcp",
            "/.well-known/oauth-protected-resource/health",
            "/.well-known/oauth-protected-resourcemcp",
            "/.well-known/oauth-protected-resource/.well-known/oauth-protected-resource/mcp",
            "/.well-known/oauth-authorization-server/token",
            "/.well-known",
            "/oauth",
            "/oauth/callback/",
            "/oauth/callback/a/b",
            "/token/x",
            "/authorize/x",
        ] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }
}
