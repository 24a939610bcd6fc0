//! An API server of Kubernetes for tests: Services listed in pages and watched, over TLS and with
//! a token, after the documentation of its API concepts. What it keeps of the past is bounded, as
//! there; it can be made to forget it, to drop its watches, and to fail in many ways.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::tls::Pki;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Good,
    /// Everything is answered with this status.
    Status(u16),
    /// Lists and lines of watches are no JSON.
    Garbage,
    /// A line that has no end.
    Endless,
    /// Nothing is answered.
    Hangs,
    /// Watches end as soon as they begin.
    Short,
}

pub(crate) struct State {
    /// By namespace and name.
    services: BTreeMap<String, Value>,
    /// What happened, with the version that it made and the labels before.
    log: Vec<(u64, Value, Value)>,
    version: u64,
    /// What is older than this is forgotten.
    oldest: u64,
    /// Pages that are still to come of lists that were begun.
    pages: BTreeMap<String, (u64, Vec<Value>)>,
    pub(crate) token: String,
    pub(crate) mode: Mode,
    /// Watches end when this changes.
    cuts: usize,
    /// 410 as an event of a watch, instead of as its status.
    pub(crate) is_told_late: bool,
    pub(crate) lists: usize,
    pub(crate) watches: usize,
    pub(crate) pages_given: usize,
    /// Queries of which something cannot be right.
    pub(crate) wrong: BTreeSet<String>,
}

pub(crate) struct Cluster {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    news: Condvar,
    tls: Arc<ServerConfig>,
}

type Wire = StreamOwned<ServerConnection, TcpStream>;

/// So many objects are on a page at most, whatever a client asks for.
const PAGE: usize = 3;

impl Cluster {
    pub(crate) fn start(pki: &Pki, name: &str, token: &str) -> Cluster {
        let key = PrivateKeyDer::from_pem_file(pki.key(name)).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(pki.chain(name), key)
            .unwrap();
        let state = State {
            services: BTreeMap::new(),
            log: Vec::new(),
            version: 1000,
            oldest: 1000,
            pages: BTreeMap::new(),
            token: token.to_owned(),
            mode: Mode::Good,
            cuts: 0,
            is_told_late: false,
            lists: 0,
            watches: 0,
            pages_given: 0,
            wrong: BTreeSet::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            news: Condvar::new(),
            tls: Arc::new(tls),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Cluster { port, shared }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Makes it, or changes it.
    pub(crate) fn put(&self, key: &str, labels: Value, annotations: Value, spec: Value) {
        let (namespace, name) = key.split_once('/').unwrap();
        let mut state = self.state();
        let known = state.services.get(key).cloned();
        state.version += 1;
        let version = state.version;
        let made = known.as_ref().map_or_else(
            || {
                json!(format!(
                    "2026-11-23T07:00:{:02}Z",
                    state.services.len() % 60
                ))
            },
            |known| known["metadata"]["creationTimestamp"].clone(),
        );
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "namespace": namespace, "name": name, "labels": labels,
                "annotations": annotations, "resourceVersion": version.to_string(),
                "creationTimestamp": made, "uid": format!("uid-{key}"),
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:metadata": {}}}],
            },
            "spec": spec, "status": {"loadBalancer": {}},
        });
        let word = if known.is_some() { "MODIFIED" } else { "ADDED" };
        let before = known.map_or(Value::Null, |known| known["metadata"]["labels"].clone());
        let event = json!({"type": word, "object": object});
        state.log.push((version, event, before));
        state.services.insert(key.to_owned(), object);
        drop(state);
        self.shared.news.notify_all();
    }

    /// With the label that is looked for, and one port.
    pub(crate) fn enable(&self, key: &str) {
        let spec = json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": [
            {"name": "mcp", "protocol": "TCP", "port": 8080, "targetPort": 8080}]});
        self.put(key, json!({"onemcp.io/enable": "true"}), json!({}), spec);
    }

    pub(crate) fn delete(&self, key: &str) {
        let mut state = self.state();
        let Some(mut object) = state.services.remove(key) else {
            return;
        };
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let before = object["metadata"]["labels"].clone();
        let event = json!({"type": "DELETED", "object": object});
        state.log.push((version, event, before));
        drop(state);
        self.shared.news.notify_all();
    }

    /// Ends all watches without a word.
    pub(crate) fn cut(&self) {
        self.state().cuts += 1;
        self.shared.news.notify_all();
    }

    /// Whoever stood somewhere before now has to list anew.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.version += 1;
        state.oldest = state.version;
        state.log.clear();
        state.pages.clear();
    }

    pub(crate) fn set(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        state.cuts += 1;
        drop(state);
        self.shared.news.notify_all();
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let _ = stream.set_read_timeout(Some(PATIENCE * 4));
    let session = ServerConnection::new(shared.tls.clone()).unwrap();
    let mut wire = StreamOwned::new(session, stream);
    while let Some(head) = read_head(&mut wire) {
        if answer(&head, &mut wire, shared).is_none() {
            return;
        }
    }
}

fn read_head(wire: &mut Wire) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if wire.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// None when the connection is at its end.
fn answer(head: &str, wire: &mut Wire, shared: &Shared) -> Option<()> {
    let mut state = shared.state.lock().unwrap();
    let target = head.split(' ').nth(1)?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), decode(value)))
        .collect();
    let token = format!("authorization: Bearer {}\r\n", state.token);
    let is_known = head.to_lowercase().contains(&token.to_lowercase());
    let get = |key: &str| query.get(key).cloned().unwrap_or_default();
    let (mode, is_watch) = (state.mode, get("watch") == "1");
    match mode {
        Mode::Hangs => {
            drop(state);
            let _ = wire.read(&mut [0]);
            return None;
        }
        Mode::Status(code) => return status(wire, code),
        Mode::Garbage if !is_watch => return reply(wire, 200, "<html>no list</html>"),
        _ => {}
    }
    if !is_known {
        return status(wire, 401);
    }
    let namespace = match path.strip_prefix("/api/v1/namespaces/") {
        Some(rest) => rest.strip_suffix("/services").unwrap_or("?"),
        None if path == "/api/v1/services" => "",
        None => return status(wire, 404),
    };
    let selector = get("labelSelector");
    if is_watch {
        let (from, begun) = (get("resourceVersion"), state.cuts);
        if get("allowWatchBookmarks") != "true" || get("timeoutSeconds").is_empty() {
            state.wrong.insert(target.clone());
        }
        drop(state);
        watch(wire, shared, (namespace, &selector), &from, begun);
        return None;
    }
    let page = match get("continue").as_str() {
        "" => {
            state.lists += 1;
            let all = state.services.values();
            let fits = |object: &&Value| fits(object, namespace, &selector);
            Some((state.version, all.filter(fits).cloned().collect()))
        }
        more => state.pages.remove(more),
    };
    let Some((version, mut items)) = page else {
        drop(state);
        return status(wire, 410);
    };
    state.pages_given += 1;
    let most = get("limit").parse::<usize>().unwrap_or(PAGE).min(PAGE);
    let later = items.split_off(most.min(items.len()));
    let mut about = json!({"resourceVersion": version.to_string()});
    if !later.is_empty() {
        let more = format!("v={version}&n={}/+", state.pages_given);
        about["continue"] = more.as_str().into();
        state.pages.insert(more, (version, later));
    }
    drop(state);
    let list = json!({"kind": "ServiceList", "apiVersion": "v1", "metadata": about,
        "items": items});
    reply(wire, 200, &list.to_string())
}

fn watch(
    wire: &mut Wire,
    shared: &Shared,
    (namespace, selector): (&str, &str),
    from: &str,
    begun: usize,
) -> Option<()> {
    let mut state = shared.state.lock().unwrap();
    let mut at = from.parse::<u64>().ok()?;
    let is_late = state.is_told_late;
    if at < state.oldest && !is_late {
        drop(state);
        return status(wire, 410);
    }
    state.watches += 1;
    let is_expired = at < state.oldest;
    let mode = state.mode;
    drop(state);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    wire.write_all(head.as_bytes()).ok()?;
    wire.flush().ok()?;
    if is_expired {
        let gone = json!({"kind": "Status", "status": "Failure", "reason": "Expired",
            "code": 410});
        return chunk(wire, &json!({"type": "ERROR", "object": gone}).to_string());
    }
    match mode {
        Mode::Garbage => return chunk(wire, "{\"type\":\"ADDED\",\"obj"),
        Mode::Endless => {
            let part = "x".repeat(16 * 1024);
            (0..400).try_for_each(|_| chunk_of(wire, &part))?;
            return None;
        }
        Mode::Short => return chunk_end(wire),
        _ => {}
    }
    let end = Instant::now() + PATIENCE * 4;
    let mut is_marked = false;
    while Instant::now() < end {
        let mut state = shared.state.lock().unwrap();
        let news = |state: &State| state.log.last().is_some_and(|(version, ..)| *version > at);
        if !news(&state) && state.cuts == begun && is_marked {
            let wait = shared.news.wait_timeout(state, Duration::from_millis(500));
            state = wait.unwrap().0;
        }
        if state.cuts != begun {
            return None;
        }
        let newer = state.log.iter().filter(|(version, ..)| *version > at);
        let seen =
            newer.filter_map(|(_, event, before)| as_seen(event, before, namespace, selector));
        let events: Vec<Value> = seen.collect();
        at = state.version;
        drop(state);
        for event in events {
            chunk(wire, &event.to_string())?;
        }
        // As after a while without news; here it is told at once.
        let about = json!({"resourceVersion": at.to_string(), "creationTimestamp": null});
        let mark = json!({"kind": "Service", "apiVersion": "v1", "metadata": about});
        chunk(
            wire,
            &json!({"type": "BOOKMARK", "object": mark}).to_string(),
        )?;
        is_marked = true;
    }
    chunk_end(wire)
}

/// What does not fit any more was deleted, for who watches; what fits from now on was added.
fn as_seen(event: &Value, before: &Value, namespace: &str, selector: &str) -> Option<Value> {
    let object = &event["object"];
    let now_fits = fits(object, namespace, selector);
    let is_there = fits(object, namespace, "") && labels_fit(before, selector);
    let mut event = event.clone();
    let word = match (event["type"].as_str()?, is_there, now_fits) {
        ("DELETED", true, _) | (_, true, false) => "DELETED",
        ("DELETED", false, _) | (_, false, false) => return None,
        (_, false, true) => "ADDED",
        (_, true, true) => "MODIFIED",
    };
    event["type"] = word.into();
    Some(event)
}

fn fits(object: &Value, namespace: &str, selector: &str) -> bool {
    let about = &object["metadata"];
    (namespace.is_empty() || about["namespace"] == namespace)
        && (selector.is_empty() || labels_fit(&about["labels"], selector))
}

fn labels_fit(labels: &Value, selector: &str) -> bool {
    let (key, value) = selector.split_once('=').unwrap_or((selector, ""));
    labels[key] == value
}

fn status(wire: &mut Wire, code: u16) -> Option<()> {
    let body = json!({"kind": "Status", "status": "Failure", "code": code});
    reply(wire, code, &body.to_string())
}

fn reply(wire: &mut Wire, code: u16, body: &str) -> Option<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {code} x\r\nContent-Type: application/json\r\n");
    let text = format!("{head}Content-Length: {length}\r\n\r\n{body}");
    wire.write_all(text.as_bytes()).ok()?;
    wire.flush().ok()
}

/// A line in two chunks: where they end means nothing.
fn chunk(wire: &mut Wire, line: &str) -> Option<()> {
    let (one, two) = line.split_at(line.len() / 2);
    chunk_of(wire, one)?;
    chunk_of(wire, &format!("{two}\n"))
}

fn chunk_of(wire: &mut Wire, text: &str) -> Option<()> {
    write!(wire, "{:x}\r\n{text}\r\n", text.len()).ok()?;
    wire.flush().ok()
}

fn chunk_end(wire: &mut Wire) -> Option<()> {
    wire.write_all(b"0\r\n\r\n").ok()?;
    wire.flush().ok()
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let pair = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(out).unwrap()
}
