//! The source `kubernetes`: Services, listed once and then watched at the API server.
//!
//! A watch that ends is taken up again where it stood (`resourceVersion`). When the server does not
//! know that place any more (410), or something went wrong, all is listed anew; until then what
//! was found stays. Token and certificates are read anew, since Kubernetes replaces them.
//!
//! Deliberately absent: endpoints. Whether a server answers is found out by who speaks to it.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use crate::base::fields::text;
use crate::base::secret::Secret;
use crate::base::sorted::SortedMap;
use crate::base::{limits, mask};
use crate::config::discovery::kubernetes::{Namespace, Spec};
use crate::gateway::discovery::hints::{Record, findings};
use crate::gateway::discovery::watching::{Pauses, lines};
use crate::gateway::discovery::{Sink, Stop, service};
use crate::net::client::{Client, ClientOptions, Method, Request, Response};
use crate::net::egress::Egress;
use crate::net::error::NetError;
use crate::net::proxy::ProxyChoice;
use crate::secrets::directory;
use crate::wire::lines::Line;
use crate::wire::percent::encode;

pub fn run(spec: &Spec, sink: &Sink, stop: &Stop) {
    let mut pauses = Pauses::default();
    loop {
        let begun = Instant::now();
        let ended = Cluster::new(spec, sink, stop).and_then(|cluster| cluster.follow());
        if stop.is_stopped() {
            return;
        }
        if let Err(error) = ended {
            sink.fail(error);
        }
        if begun.elapsed() >= limits::DISCOVERY_STEADY {
            pauses.forget();
        }
        if stop.wait(pauses.longer()) {
            return;
        }
    }
}

struct Cluster<'a> {
    spec: &'a Spec,
    sink: &'a Sink,
    stop: &'a Stop,
    client: Client,
    namespace: Option<String>,
    token_file: PathBuf,
}

/// What follows a line or the end of a watch.
enum Next {
    Watch,
    /// The same, but what was to come was lost on the way.
    Lost(String),
    List,
}

/// The Services that are known, and as of when.
struct Services {
    records: SortedMap<String, Record>,
    version: String,
    /// Some were left out.
    is_full: bool,
}

impl<'a> Cluster<'a> {
    fn new(spec: &'a Spec, sink: &'a Sink, stop: &'a Stop) -> Result<Cluster<'a>, String> {
        let is_https = spec.server.starts_with("https:");
        let client = Client::new(&ClientOptions {
            ca_file: is_https.then(|| sink.folder.join(&spec.ca_file)),
            proxy: ProxyChoice::None,
            egress: Egress::operator(Vec::new()),
        });
        let namespace = match &spec.namespace {
            Namespace::All => None,
            Namespace::Named(name) => Some(name.clone()),
            Namespace::Own(file) => {
                let read = directory::read(file).map_err(|why| {
                    let file = file.display();
                    format!("read the namespace of this pod in {file}: {why}; name one")
                })?;
                Some(read.trim().to_owned())
            }
        };
        Ok(Cluster {
            spec,
            sink,
            stop,
            client: client.map_err(|error| error.to_string())?,
            namespace,
            token_file: sink.folder.join(&spec.token_file),
        })
    }

    /// Lists, and watches until all must be listed anew.
    fn follow(&self) -> Result<(), String> {
        let Some(mut services) = self.list()? else {
            return Ok(());
        };
        self.publish(&services);
        let mut pauses = Pauses::default();
        let mut lost = 0;
        loop {
            let (begun, version) = (Instant::now(), services.version.clone());
            match self.watch(&mut services)? {
                Next::List => return Ok(()),
                Next::Lost(error) if lost >= limits::DISCOVERY_LOST => return Err(error),
                Next::Lost(_) if services.version == version => lost += 1,
                Next::Watch | Next::Lost(_) => lost = 0,
            }
            if begun.elapsed() >= limits::DISCOVERY_STEADY {
                pauses.forget();
            }
            if self.stop.wait(pauses.longer()) {
                return Ok(());
            }
        }
    }

    /// None when it took so long that its pages do not belong together any more.
    fn list(&self) -> Result<Option<Services>, String> {
        let deadline = Instant::now() + limits::DISCOVERY_LIST;
        let mut services = Services {
            records: SortedMap::new(),
            version: String::new(),
            is_full: false,
        };
        let (mut page, mut pages, mut size) = (String::new(), 0, limits::DISCOVERY_PAGE);
        while pages < limits::DISCOVERY_PAGES.max(limits::DISCOVERY_FOUND / size) {
            pages += 1;
            let query = format!("limit={size}{page}");
            let Some(mut response) = self.ask(&query, Some(deadline))? else {
                return Ok(None);
            };
            response.set_deadline(Some(deadline));
            let body = match response.read_to_end(limits::DISCOVERY_LIST_BYTES) {
                Ok(body) => body,
                Err(NetError::TooLarge { .. }) if size > 1 => {
                    // All anew, so that pages and their count belong together.
                    size = (size / 8).max(1);
                    (page, pages) = (String::new(), 0);
                    (services.records, services.is_full) = (SortedMap::new(), false);
                    continue;
                }
                Err(error) => return Err(error.to_string()),
            };
            let list: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (Some(items), Some(version)) = (
                list["items"].as_array(),
                text(&list["metadata"], "resourceVersion"),
            ) else {
                return Err(self.odd("its list of Services is none"));
            };
            for item in items {
                services.put(item, self);
            }
            services.version = version;
            match list["metadata"]["continue"].as_str() {
                Some(more) if !more.is_empty() => {
                    page = format!("&continue={}", encode(more));
                }
                _ => return Ok(Some(services)),
            }
        }
        match services.is_full {
            true => Ok(Some(services)),
            false => Err(self.odd("its list of Services has no end")),
        }
    }

    fn watch(&self, services: &mut Services) -> Result<Next, String> {
        let seconds = limits::DISCOVERY_WATCH.as_secs();
        let query = format!(
            "watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={seconds}",
            encode(&services.version)
        );
        let Some(response) = self.ask(&query, None)? else {
            return Ok(Next::List);
        };
        let mut lines = lines(response);
        let mut is_told = true;
        loop {
            let line = match lines.next_line() {
                Ok(Some(Line::Text(line))) => line,
                Ok(Some(Line::TooLong { .. })) => return Err(self.odd("a line is too long")),
                Ok(None) => return Ok(Next::Watch),
                Err(error) => return Ok(Next::Lost(error.to_string())),
            };
            let before = services.is_full;
            is_told &= !self.take(line, services)?;
            if services.version.is_empty() || before && !services.is_full {
                return Ok(Next::List);
            }
            if !is_told && !lines.has_line() {
                self.publish(services);
                is_told = true;
            }
        }
    }

    /// True when it changed something.
    fn take(&self, line: &[u8], services: &mut Services) -> Result<bool, String> {
        let odd = || self.odd("a line of its watch is none");
        let event: Value = serde_json::from_slice(line).map_err(|_| odd())?;
        let object = &event["object"];
        let is_other = match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => services.put(object, self),
            Some("DELETED") => services.remove(object),
            Some("BOOKMARK") => false,
            Some("ERROR") if object["code"] == 410 => {
                services.version.clear();
                return Ok(false);
            }
            Some("ERROR") => {
                let code = object["code"].as_u64().unwrap_or_default();
                return Err(self.odd(&format!("it ended the watch with code {code}")));
            }
            _ => return Err(odd()),
        };
        services.version = text(&object["metadata"], "resourceVersion").ok_or_else(odd)?;
        Ok(is_other)
    }

    fn publish(&self, services: &Services) {
        let (found, mut odd) = findings(services.records.values());
        if services.is_full {
            let most = limits::DISCOVERY_FOUND;
            odd.insert(0, format!("more than {most} Services; narrow the selector"));
        }
        self.sink.publish_with(found, odd);
    }

    /// None: what is asked for is too long ago.
    fn ask(&self, query: &str, deadline: Option<Instant>) -> Result<Option<Response>, String> {
        let place = match &self.namespace {
            Some(namespace) => format!("namespaces/{namespace}/services"),
            None => "services".to_owned(),
        };
        let selector = encode(&self.spec.selector);
        let server = &self.spec.server;
        let url = format!("{server}/api/v1/{place}?labelSelector={selector}&{query}");
        let token = self.token()?;
        let mut headers = vec![("Accept", "application/json")];
        if let Some(token) = &token {
            headers.push(("Authorization", token.expose()));
        }
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let watch = limits::DISCOVERY_WATCH + limits::DISCOVERY_WATCH_OVER;
        let request = Request {
            method: Method::Get,
            url: &url,
            headers: &headers,
            body: b"",
            head_timeout: limits::DISCOVERY_HEAD.min(left.unwrap_or(limits::DISCOVERY_HEAD)),
            idle_timeout: Some(watch),
        };
        let response = self.client.send(&request, self.stop.net());
        let response = response.map_err(|error| error.to_string())?;
        match response.status() {
            200 => Ok(Some(response)),
            410 => Ok(None),
            status => Err(self.refused(status)),
        }
    }

    fn refused(&self, status: u16) -> String {
        let remedy = match status {
            401 => "is the token that of a service account of this cluster?",
            403 => "its account needs a Role that may list and watch services",
            404 => "is that the URL of the API server?",
            _ => "look into its log",
        };
        let namespace = self.namespace.as_deref().unwrap_or("*");
        let server = &self.spec.server;
        format!("list Services at {server}, namespace {namespace}: status {status}; {remedy}")
    }

    fn odd(&self, what: &str) -> String {
        format!("understand the API server {}: {what}", self.spec.server)
    }

    /// The header. Over plain HTTP, as to `kubectl proxy`, nobody is told.
    fn token(&self) -> Result<Option<Secret>, String> {
        if !self.spec.server.starts_with("https:") {
            return Ok(None);
        }
        let read = directory::read(&self.token_file).map_err(|why| {
            let file = self.token_file.display();
            format!("read the token of the service account in {file}: {why}")
        })?;
        mask::learn(&read);
        Ok(Some(Secret::new(format!("Bearer {}", read.trim()))))
    }
}

impl Services {
    /// True when it changed something.
    fn put(&mut self, object: &Value, of: &Cluster<'_>) -> bool {
        let is_alone = of.namespace.is_some();
        let Some(record) = service::record(object, is_alone, of.spec.domain.as_deref()) else {
            return false;
        };
        // What was not asked for is not taken.
        let namespace = record.key.split('/').next();
        if is_alone && namespace != of.namespace.as_deref() {
            return false;
        }
        self.keep(record)
    }

    fn keep(&mut self, record: Record) -> bool {
        if self.records.get(&record.key) == Some(&record) {
            return false;
        }
        let key = record.key.clone();
        self.records.insert(key.clone(), record);
        if self.records.len() <= limits::DISCOVERY_FOUND {
            return true;
        }
        let was_full = std::mem::replace(&mut self.is_full, true);
        let records = self.records.values();
        let last = records.max_by(|one, other| one.cmp_standing(other));
        let last = last.map(|record| record.key.clone()).unwrap_or_default();
        self.records.remove(&last);
        !was_full || last != key
    }

    fn remove(&mut self, object: &Value) -> bool {
        let key = service::key(object);
        let is_known = key.is_some_and(|key| self.records.remove(&key).is_some());
        self.is_full &= !is_known;
        is_known
    }
}

#[cfg(test)]
mod tests {
    use super::Services;
    use crate::base::limits;
    use crate::base::sorted::SortedMap;
    use crate::gateway::discovery::Found;
    use crate::gateway::discovery::hints::Record;

    fn record(made: usize, key: &str) -> Record {
        Record {
            made: format!("{made:05}"),
            key: key.to_owned(),
            outcome: Ok(Found {
                name: key.to_owned(),
                entry: serde_json::Map::new(),
                place: key.to_owned(),
            }),
        }
    }

    #[test]
    fn newcomers_push_out_nobody_who_is_served() {
        let mut services = Services {
            records: SortedMap::new(),
            version: String::new(),
            is_full: false,
        };
        let most = limits::DISCOVERY_FOUND;
        for at in 1..=most {
            assert!(services.keep(record(at, &format!("n/s-{at}"))));
        }
        assert!(!services.is_full);
        // Some are told to have been left out, once.
        assert!(services.keep(record(most + 1, "n/a")));
        assert!(!services.keep(record(most + 1, "n/b")));
        assert!(services.is_full && !services.records.contains_key("n/a"));
        // One that is older was on a later page.
        assert!(services.keep(record(0, "n/z")));
        assert!(services.records.contains_key("n/z"));
        assert!(!services.records.contains_key(&format!("n/s-{most}")));
        assert_eq!(services.records.len(), most);
    }
}
