//! The routes, as one table. What is not in it does not exist: 404 for everybody.

use crate::relay::view::Scope;
use crate::wire::percent;

/// Who may ask. (Authentication adds its own kinds here.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Host and Origin are checked.
    Checked,
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
}

struct Row {
    path: &'static str,
    access: Access,
    endpoint: fn() -> Endpoint,
}

const ENDPOINTS: &[Row] = &[
    Row {
        path: "/mcp",
        access: Access::Checked,
        endpoint: || Endpoint::Mcp(Scope::All),
    },
    Row {
        path: "/sse",
        access: Access::Checked,
        endpoint: || Endpoint::Sse,
    },
    Row {
        path: "/messages",
        access: Access::Checked,
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
];

/// `/mcp/<server>`: one segment, percent-encoded.
const SERVER_PREFIX: &str = "/mcp/";
const SERVER_HEALTH_PREFIX: &str = "/health/mcp/";

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
    let name = name_in(path.strip_prefix(SERVER_PREFIX)?)?;
    Some((Endpoint::Mcp(Scope::Server(name)), Access::Checked))
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
    use crate::relay::view::Scope;

    #[test]
    fn knows_its_paths_and_no_others() {
        let server =
            |name: &str| Some((Endpoint::Mcp(Scope::Server(name.into())), Access::Checked));
        assert_eq!(
            find("/mcp"),
            Some((Endpoint::Mcp(Scope::All), Access::Checked))
        );
        assert_eq!(
            find("/mcp/"),
            Some((Endpoint::Mcp(Scope::All), Access::Checked))
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
        ] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }
}
