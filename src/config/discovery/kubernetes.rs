//! `gateway.discovery` with the type `kubernetes`: Services of one namespace, or of all, that
//! bear a label.
//!
//! Deliberately absent: several namespaces in one source. Each has a Role of its own, and its own
//! source here.

use std::path::PathBuf;

use crate::base::limits;
use crate::config::discovery::Parts;
use crate::config::document::Notes;
use crate::net::url::Url;

pub const KEYS: &[&str] = &[
    "namespace",
    "selector",
    "server",
    "tokenFile",
    "caFile",
    "clusterDomain",
];

/// Where a pod finds what it needs to ask the API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Every cluster gives this name to its API server.
const SERVER: &str = "https://kubernetes.default.svc";
const SELECTOR: &str = "onemcp.io/enable=true";

#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub namespace: Namespace,
    pub selector: String,
    /// The URL of the API server, without a slash at its end.
    pub server: String,
    /// Read before each request, since it is replaced while it is good.
    pub token_file: PathBuf,
    pub ca_file: PathBuf,
    /// What follows `.svc` in the names of Services, or nothing where the resolver adds it.
    pub domain: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Namespace {
    /// As this file says: that of the pod.
    Own(PathBuf),
    Named(String),
    All,
}

/// `None` when it cannot be carried out, which was noted.
pub fn read(parts: &Parts<'_, '_>, notes: &mut Notes) -> Option<Spec> {
    let account = |file: &str| PathBuf::from(ACCOUNT).join(file);
    let namespace = match parts.text("namespace", notes) {
        None => Namespace::Own(account("namespace")),
        Some(all) if all == "*" => Namespace::All,
        Some(name) if is_label(&name) => Namespace::Named(name),
        Some(_) => {
            let remedy = "write the name of one, or * for all";
            parts.refuse("namespace", "is no namespace", remedy, notes);
            return None;
        }
    };
    let server = parts.text("server", notes);
    let server = server.unwrap_or_else(|| SERVER.to_owned());
    let server = server.trim_end_matches('/').to_owned();
    let url = Url::parse(&server).ok();
    if !url.is_some_and(|url| url.query().is_none() && (url.is_https() || url.is_loopback())) {
        let remedy = format!("write a URL such as {SERVER}; http is for 127.0.0.1 alone");
        parts.refuse("server", "is no API server", &remedy, notes);
        return None;
    }
    let domain = parts.text("clusterDomain", notes);
    if let Some(domain) = &domain
        && (domain.len() > limits::DNS_NAME_BYTES || !domain.split('.').all(is_label))
    {
        let remedy = "write a domain such as cluster.local";
        parts.refuse("clusterDomain", "is no domain", remedy, notes);
        return None;
    }
    let mut path = |key: &str, usual: &str| {
        let path = parts.text(key, notes);
        path.map_or_else(|| account(usual), PathBuf::from)
    };
    let (token_file, ca_file) = (path("tokenFile", "token"), path("caFile", "ca.crt"));
    let selector = parts.text("selector", notes);
    Some(Spec {
        namespace,
        selector: selector.unwrap_or_else(|| SELECTOR.to_owned()),
        server,
        token_file,
        ca_file,
        domain,
    })
}

/// A name of Kubernetes that is one label of DNS, too.
pub fn is_label(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-')
}
