//! Where a login at a server is to be had: the server as a protected resource (RFC 9728), then
//! its authorization server (RFC 8414, or OpenID Connect Discovery). What they say is checked
//! against the URLs that were asked; nobody can speak for another one.

use crate::base::limits;
use crate::net::url::Url;
use crate::upstream::oauth::fetch::Fetch;
use crate::wire::json::{elements, string_value};
use crate::wire::members::Members;
use crate::wire::message::FROM_SERVER;

/// What is to be asked for, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What a token is to be good for.
    pub resource: String,
    /// What the server says it knows.
    pub scopes: Vec<String>,
    pub authority: Authority,
}

/// An authorization server, as it describes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authority {
    pub issuer: String,
    pub authorization: String,
    pub token: String,
    pub registration: Option<String>,
    /// How clients may say who they are; empty: it does not say.
    pub proofs: Vec<String>,
    pub scopes: Vec<String>,
    /// PKCE with S256.
    pub has_pkce: bool,
    /// Clients may be described by a document at their id.
    pub takes_documents: bool,
    /// It says who it is when it sends a browser back.
    pub says_issuer: bool,
}

const RESOURCE: &str = "/.well-known/oauth-protected-resource";
const AUTHORITY: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";

/// `hint`: where the server said that it describes itself. `pinned`: the only issuer to trust.
pub fn discover(
    fetch: &Fetch,
    server: &Url,
    hint: Option<&str>,
    pinned: Option<&str>,
) -> Result<Found, String> {
    let described = protected_resource(fetch, server, hint)?;
    let is_legacy = described.is_none();
    let resource = described.unwrap_or_else(|| Resource {
        // As 2025-03-26 has it: the server is its own authorization server.
        resource: canonical(server),
        scopes: Vec::new(),
        issuers: vec![server.origin()],
    });
    let issuer = match pinned {
        None => &resource.issuers[0],
        Some(pinned) => resource
            .issuers
            .iter()
            .find(|issuer| is_legacy || *issuer == pinned)
            .map(|_| pinned)
            .ok_or("names other authorization servers than the issuer in its \"oauth\"")?,
    };
    let authority = match authority(fetch, issuer)? {
        Some(authority) => authority,
        None if is_legacy => legacy(server),
        None => {
            return Err(format!(
                "authorization server {issuer} does not describe itself"
            ));
        }
    };
    Ok(Found {
        resource: resource.resource,
        scopes: resource.scopes,
        authority,
    })
}

struct Resource {
    resource: String,
    scopes: Vec<String>,
    /// At least one.
    issuers: Vec<String>,
}

fn protected_resource(
    fetch: &Fetch,
    server: &Url,
    hint: Option<&str>,
) -> Result<Option<Resource>, String> {
    let origin = server.origin();
    let mut places = match hint {
        Some(hint) => vec![hint.to_owned()],
        None => vec![
            format!("{origin}{RESOURCE}{}", tail(server)),
            format!("{origin}{RESOURCE}"),
        ],
    };
    places.dedup();
    for place in &places {
        fetch.admit("description", place)?;
        let Some(text) = document(fetch, place)? else {
            continue;
        };
        return resource_in(&text, server).map(Some);
    }
    match hint {
        None => Ok(None),
        Some(_) => Err("named a description of itself that is not there".to_owned()),
    }
}

fn resource_in(text: &str, server: &Url) -> Result<Resource, String> {
    let members = members(text, "description of the server")?;
    let resource = members.string("resource");
    let resource = resource.ok_or("describes itself without saying which resource it is")?;
    let is_ours = Url::parse(&resource).is_ok_and(|url| covers(&url, server));
    if !is_ours || resource.contains('#') || resource.len() > limits::OAUTH_URL_BYTES {
        return Err("is described as another resource than the one that was asked".to_owned());
    }
    let issuers = texts(&members, "authorization_servers");
    if issuers.is_empty() {
        return Err("names no authorization server".to_owned());
    }
    Ok(Resource {
        resource: resource.into_owned(),
        scopes: texts(&members, "scopes_supported"),
        issuers,
    })
}

/// Whether a token for `resource` is one for `server`: it is the same, or stands above it.
fn covers(resource: &Url, server: &Url) -> bool {
    let above = resource.path().trim_end_matches('/');
    let rest = server.path().strip_prefix(above);
    resource.same_origin(server)
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn canonical(server: &Url) -> String {
    format!("{}{}", server.origin(), tail(server))
}

fn tail(url: &Url) -> &str {
    url.path().trim_end_matches('/')
}

fn authority(fetch: &Fetch, issuer: &str) -> Result<Option<Authority>, String> {
    fetch.admit("authorization server", issuer)?;
    let url = Url::parse(issuer).map_err(|error| error.to_string())?;
    if url.query().is_some() {
        return Err("named an authorization server with a query".to_owned());
    }
    let (origin, path) = (url.origin(), tail(&url));
    let mut places = vec![
        format!("{origin}{AUTHORITY}{path}"),
        format!("{origin}{OPENID}{path}"),
        format!("{origin}{path}{OPENID}"),
    ];
    places.dedup();
    for place in &places {
        if let Some(text) = document(fetch, place)? {
            return authority_in(fetch, &text, issuer).map(Some);
        }
    }
    Ok(None)
}

fn authority_in(fetch: &Fetch, text: &str, issuer: &str) -> Result<Authority, String> {
    let members = members(text, "description of the authorization server")?;
    if members.string("issuer").as_deref() != Some(issuer) {
        return Err(format!(
            "authorization server {issuer} describes itself as another one"
        ));
    }
    let url = |what: &str| match members.string(what) {
        None => Ok(None),
        Some(url) => fetch.admit(what, &url).map(|()| Some(url.into_owned())),
    };
    let is_true = |name: &str| members.get(name) == Some("true");
    let methods = texts(&members, "code_challenge_methods_supported");
    let token = url("token_endpoint")?;
    Ok(Authority {
        issuer: issuer.to_owned(),
        authorization: url("authorization_endpoint")?.unwrap_or_default(),
        token: token.ok_or("authorization server has no token_endpoint")?,
        registration: url("registration_endpoint")?,
        proofs: texts(&members, "token_endpoint_auth_methods_supported"),
        scopes: texts(&members, "scopes_supported"),
        has_pkce: methods.iter().any(|method| method == "S256"),
        takes_documents: is_true("client_id_metadata_document_supported"),
        says_issuer: is_true("authorization_response_iss_parameter_supported"),
    })
}

/// Where 2025-03-26 expects everything, when nothing is said.
fn legacy(server: &Url) -> Authority {
    let origin = server.origin();
    Authority {
        authorization: format!("{origin}/authorize"),
        token: format!("{origin}/token"),
        registration: Some(format!("{origin}/register")),
        has_pkce: true,
        issuer: origin,
        ..Authority::default()
    }
}

/// `None` when there is none at that place.
fn document(fetch: &Fetch, url: &str) -> Result<Option<String>, String> {
    let answer = fetch.get(url)?;
    match answer.status {
        200 => Ok(Some(answer.body)),
        400..=499 => Ok(None),
        status => Err(format!("failed to read {url}: it answered {status}")),
    }
}

pub fn members<'a>(text: &'a str, what: &str) -> Result<Members<'a>, String> {
    Members::parse(text, 0, FROM_SERVER).map_err(|error| format!("gave a {what} that is {error}"))
}

/// The texts in an array; nothing when it is none.
fn texts(members: &Members<'_>, name: &str) -> Vec<String> {
    let elements = members.get(name).and_then(|raw| elements(raw, FROM_SERVER));
    let texts = elements.unwrap_or_default().into_iter();
    let texts = texts.filter_map(string_value).take(limits::OAUTH_SCOPES);
    texts.map(|text| text.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{canonical, covers};
    use crate::net::url::Url;

    #[test]
    fn a_resource_is_the_server_or_stands_above_it() {
        let url = |text: &str| Url::parse(text).expect(text);
        let server = url("https://h/a/mcp?key=1");
        for (resource, good) in [
            ("https://h/a/mcp", true),
            ("https://h/a/mcp/", true),
            ("https://h/a", true),
            ("https://h", true),
            ("https://h/a/mc", false),
            ("https://h/a/mcp/x", false),
            ("https://h/b", false),
            ("http://h/a/mcp", false),
            ("https://other/a/mcp", false),
            ("https://h:444/a/mcp", false),
        ] {
            assert_eq!(covers(&url(resource), &server), good, "{resource}");
        }
        assert_eq!(canonical(&server), "https://h/a/mcp");
        assert_eq!(canonical(&url("https://h/")), "https://h");
    }
}
