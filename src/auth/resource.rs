//! What is told to who has no token, or not the right one: the metadata of this resource
//! (RFC 9728), and challenges that lead there (RFC 6750). Pure.

use crate::base::template;
use crate::http::Reply;

/// `Cache-Control` of documents that are the same for everybody.
pub const METADATA_CACHE: &str = "public, max-age=300";

/// Where the metadata of a path is.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The resource that a path belongs to, as a path: `/mcp`, `/mcp/<server>`, `/sse`, or the whole.
pub fn resource_path(path: &str) -> &str {
    let path = path.strip_suffix('/').unwrap_or(path);
    match path {
        "/messages" => "/sse",
        "/mcp" | "/sse" => path,
        _ if path.starts_with("/mcp/") => path,
        _ => "",
    }
}

/// The document for the resource at `path` (`""`: the gateway as a whole is `/mcp`).
pub fn metadata(issuer: &str, path: &str, servers: &[&str], scopes: &str) -> Reply {
    let path = if path.is_empty() { "/mcp" } else { path };
    let scopes: Vec<&str> = scopes.split(' ').filter(|word| !word.is_empty()).collect();
    let mut document = template::filled(
        r#"{"resource":"$resource","authorization_servers":"$servers",
            "bearer_methods_supported":["header"],"resource_name":"onemcp"}"#,
        &[
            ("resource", format!("{issuer}{path}").into()),
            ("servers", servers.into()),
        ],
    );
    if let Some(members) = document.as_object_mut().filter(|_| !scopes.is_empty()) {
        members.insert("scopes_supported".into(), scopes.into());
    }
    Reply::json(200, document.to_string()).with("Cache-Control", METADATA_CACHE)
}

/// `WWW-Authenticate`: where the metadata is, what is wanted, and what was wrong. None of it is
/// a client's own words but scopes and paths, which are spelt in characters that need no escape.
pub fn challenge(issuer: &str, path: &str, error: Option<(&str, &str)>, scopes: &str) -> String {
    let mut text = String::from("Bearer ");
    if let Some((error, description)) = error {
        text += &format!("error=\"{error}\", error_description=\"{description}\", ");
    }
    if !scopes.is_empty() {
        text += &format!("scope=\"{}\", ", quotable(scopes));
    }
    let path = quotable(resource_path(path));
    text + &format!("resource_metadata=\"{issuer}{WELL_KNOWN}{path}\"")
}

/// What may stand between quotes as it is.
fn quotable(text: &str) -> String {
    let fits = |c: &char| c.is_ascii() && !c.is_ascii_control() && !"\"\\".contains(*c);
    text.chars().filter(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::{challenge, metadata};

    const HOME: &str = "https://mcp.example";

    #[test]
    fn each_path_has_its_document() {
        for (path, resource) in [
            ("", "https://mcp.example/mcp"),
            ("/mcp", "https://mcp.example/mcp"),
            ("/sse", "https://mcp.example/sse"),
            ("/mcp/a%2Fb", "https://mcp.example/mcp/a%2Fb"),
        ] {
            let reply = metadata(HOME, path, &[HOME], "tag:a tag:b");
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(body["resource"], resource);
            assert_eq!(body["authorization_servers"][0], HOME);
            assert_eq!(body["bearer_methods_supported"][0], "header");
            assert_eq!(body["scopes_supported"][1], "tag:b");
        }
        let reply = metadata(HOME, "", &[], "");
        assert!(
            !String::from_utf8(reply.body)
                .unwrap()
                .contains("scopes_supported")
        );
    }

    #[test]
    fn challenges_are_these() {
        let base = "resource_metadata=\"https://mcp.example/.well-known/oauth-protected-resource";
        for (path, error, scopes, expect) in [
            ("/mcp", None, "", format!("Bearer {base}/mcp\"")),
            (
                "/mcp/",
                None,
                "tag:a",
                format!("Bearer scope=\"tag:a\", {base}/mcp\""),
            ),
            ("/mcp/x%22y", None, "", format!("Bearer {base}/mcp/x%22y\"")),
            ("/messages", None, "", format!("Bearer {base}/sse\"")),
            ("/other", None, "", format!("Bearer {base}\"")),
            (
                "/sse",
                Some(("invalid_token", "no")),
                "tag:a tag:b",
                format!(
                    "Bearer error=\"invalid_token\", error_description=\"no\", \
                     scope=\"tag:a tag:b\", {base}/sse\""
                ),
            ),
            (
                "/mcp",
                None,
                "a\"b\r\nX: y\\",
                format!("Bearer scope=\"abX: y\", {base}/mcp\""),
            ),
        ] {
            assert_eq!(challenge(HOME, path, error, scopes), expect);
        }
    }
}
