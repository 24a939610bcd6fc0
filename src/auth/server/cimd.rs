//! Clients that are described by a document at the URL that is their id (client ID metadata
//! documents). The document is fetched only after the operator has logged in, only from hosts
//! that the configuration allows, only from public addresses; and it is kept for a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::server::client::{Client, Origin};
use crate::auth::server::fault::Fault;
use crate::auth::server::registration::{redirect_uris, text_of, texts_of};
use crate::base::limits::{
    CLIENT_DOCUMENT_BYTES, CLIENT_DOCUMENT_FAILED, CLIENT_DOCUMENT_FETCHES, CLIENT_DOCUMENT_LEAST,
    CLIENT_DOCUMENT_LIFE, CLIENT_DOCUMENT_TIME, CLIENT_DOCUMENTS, CLIENT_ID_BYTES,
    CLIENT_NAME_BYTES,
};
use crate::net::client::{Client as NetClient, ClientOptions, Method, Request, Response};
use crate::net::egress::{Allowed, Egress};
use crate::net::stop::Stop;
use crate::net::url::Url;
use crate::wire::jose::jws::RULES;
use crate::wire::members::Members;

pub(super) struct Documents {
    /// Lower case; `*` is every host.
    hosts: Vec<String>,
    options: ClientOptions,
    kept: Mutex<HashMap<String, Kept>>,
    fetching: AtomicUsize,
}

/// What a document said, or that there is none, until then.
struct Kept {
    until: Instant,
    client: Option<Client>,
}

impl Documents {
    pub(super) fn new(hosts: &[String], allow: Vec<Allowed>) -> Documents {
        let egress = Egress::peer(allow, None);
        let options = ClientOptions {
            egress,
            ..ClientOptions::default()
        };
        Documents::with(hosts, options)
    }

    pub(super) fn with(hosts: &[String], options: ClientOptions) -> Documents {
        Documents {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            options,
            kept: Mutex::default(),
            fetching: AtomicUsize::new(0),
        }
    }

    /// Any host at the usual port, or one that is named with its port.
    pub(super) fn allows(&self, place: &str) -> bool {
        let is_usual = !place.contains(':');
        let mut hosts = self.hosts.iter();
        hosts.any(|known| known == place || (known == "*" && is_usual))
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known without asking: `None` when one would have to ask.
    pub(super) fn known(&self, id: &str) -> Option<Option<Client>> {
        let kept = self.kept();
        let kept = kept.get(id).filter(|kept| kept.until > Instant::now())?;
        Some(kept.client.clone())
    }

    /// The client that a document describes, asked for if need be. Waits for at most five
    /// seconds.
    ///
    /// # Errors
    /// Why there is none, for the operator.
    pub(super) fn get(&self, id: &str) -> Result<Client, String> {
        if let Some(known) = self.known(id) {
            return known.ok_or_else(|| "its document could not be used just now".to_owned());
        }
        let most = CLIENT_DOCUMENT_FETCHES;
        if self.fetching.fetch_add(1, Ordering::AcqRel) >= most {
            self.fetching.fetch_sub(1, Ordering::AcqRel);
            return Err("too many documents are being fetched; try again".to_owned());
        }
        let found = self.fetch(id);
        self.fetching.fetch_sub(1, Ordering::AcqRel);
        let (client, life) = match &found {
            Ok((client, life)) => (Some(client.clone()), *life),
            Err(_) => (None, CLIENT_DOCUMENT_FAILED),
        };
        self.keep(id, client, life);
        found.map(|(client, _)| client)
    }

    fn keep(&self, id: &str, client: Option<Client>, life: Duration) {
        let now = Instant::now();
        let mut kept = self.kept();
        if kept.len() >= CLIENT_DOCUMENTS {
            kept.retain(|_, kept| kept.until > now);
        }
        if kept.len() < CLIENT_DOCUMENTS {
            let until = now + life;
            kept.insert(id.to_owned(), Kept { until, client });
        }
    }

    fn fetch(&self, id: &str) -> Result<(Client, Duration), String> {
        let failed = |error: crate::net::error::NetError| error.to_string();
        let until = Instant::now() + CLIENT_DOCUMENT_TIME;
        let net = NetClient::new(&self.options)
            .map_err(failed)?
            .keeping_redirects();
        let request = Request {
            method: Method::Get,
            url: id,
            headers: &[("Accept", "application/json")],
            body: b"",
            head_timeout: CLIENT_DOCUMENT_TIME,
            idle_timeout: Some(CLIENT_DOCUMENT_TIME),
        };
        let mut response = net.send(&request, &Stop::default()).map_err(failed)?;
        if response.status() != 200 {
            return Err(format!(
                "its document was answered with {}",
                response.status()
            ));
        }
        let kind = response.media_type();
        if kind != "application/json" && !kind.ends_with("+json") {
            return Err("its document is no JSON".to_owned());
        }
        let life = life(&response);
        response.set_deadline(Some(until));
        let bytes = response
            .read_to_end(CLIENT_DOCUMENT_BYTES)
            .map_err(failed)?;
        Ok((read(id, &bytes)?, life))
    }
}

/// How long the host wants it to be kept, within bounds.
fn life(response: &Response) -> Duration {
    let header = response.header("cache-control").unwrap_or_default();
    let mut parts = header.split(',').map(str::trim);
    let age = parts.find_map(|part| part.strip_prefix("max-age=")?.parse().ok());
    let life = Duration::from_secs(age.unwrap_or(0));
    life.clamp(CLIENT_DOCUMENT_LEAST, CLIENT_DOCUMENT_LIFE)
}

/// The host (and the port, if it is not the usual one) of an id that is the URL of a document:
/// https, a path, and one way to write it.
pub fn place(id: &str) -> Option<String> {
    let url = Url::parse(id).ok()?;
    let is_plain = url.is_https() && url.whole() == id && id.len() <= CLIENT_ID_BYTES;
    let path = url.path();
    let has_dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    let fits = path.len() > 1 && !path.split('/').any(has_dots);
    let place = url.origin().trim_start_matches("https://").to_owned();
    (is_plain && fits && url.address().is_none()).then_some(place)
}

/// A client of which only the id is known.
pub(super) fn bare(id: &str) -> Client {
    Client {
        id: id.to_owned(),
        name: String::new(),
        origin: Origin::Document,
        redirect_uris: Vec::new(),
        secret_hash: None,
        may_refresh: true,
        is_machine: false,
        most: None,
        created_s: 0,
    }
}

/// Reads a document. Nobody but its own URL is described by it.
pub(super) fn read(id: &str, bytes: &[u8]) -> Result<Client, String> {
    let told = |fault: Fault| fault.what;
    let text = std::str::from_utf8(bytes).map_err(|_| "its document is not UTF-8")?;
    let members = Members::parse(text, 0, RULES).map_err(|_| "its document is no JSON object")?;
    if text_of(&members, "client_id").map_err(told)? != id {
        return Err("its document is for another client_id".to_owned());
    }
    let name = text_of(&members, "client_name").map_err(told)?;
    if name.is_empty() || name.len() > CLIENT_NAME_BYTES || name.chars().any(char::is_control) {
        return Err("its document has no client_name that can be shown".to_owned());
    }
    let method = text_of(&members, "token_endpoint_auth_method").map_err(told)?;
    let has_secret = members.get("client_secret").is_some();
    if has_secret || !["", "none"].contains(&method.as_str()) {
        return Err("its document asks for a secret; only public clients are taken".to_owned());
    }
    let grants = texts_of(&members, "grant_types").map_err(told)?;
    Ok(Client {
        name,
        redirect_uris: redirect_uris(&members).map_err(told)?,
        may_refresh: grants.iter().any(|one| one == "refresh_token"),
        ..bare(id)
    })
}
