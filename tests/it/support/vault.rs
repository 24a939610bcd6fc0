//! A vault for tests: what HashiCorp Vault answers over HTTP to a reader of KV version 2 and to a
//! Kubernetes login, after its API documentation. Shared by the tests of the crate itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

/// What it holds, and how it is.
#[derive(Default)]
pub(crate) struct State {
    /// By namespace and path, `team|secret/data/app`; the newest version last, `None` when deleted.
    versions: BTreeMap<String, Vec<Option<Value>>>,
    tokens: BTreeSet<String>,
    /// Service account token and role that may log in, for each mount.
    accounts: BTreeMap<String, (String, String)>,
    pub(crate) lease_s: u64,
    pub(crate) is_sealed: bool,
    /// Accepts and says nothing.
    pub(crate) is_hanging: bool,
    logins: usize,
    reads: usize,
}

pub(crate) struct Vault {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Vault {
    pub(crate) fn start() -> Vault {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            lease_s: 3600,
            ..State::default()
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Vault { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn allow(&self, token: &str) {
        self.state().tokens.insert(token.into());
    }

    pub(crate) fn revoke_all(&self) {
        self.state().tokens.clear();
    }

    /// Whose Kubernetes account may log in at `mount`.
    pub(crate) fn account(&self, mount: &str, jwt: &str, role: &str) {
        let account = (jwt.into(), role.into());
        self.state().accounts.insert(mount.into(), account);
    }

    /// A new version: `place` is `secret/data/app`, or `team|secret/data/app` in a namespace.
    pub(crate) fn put(&self, place: &str, data: Value) {
        let mut state = self.state();
        state
            .versions
            .entry(place.into())
            .or_default()
            .push(Some(data));
    }

    /// As `vault kv delete`.
    pub(crate) fn delete(&self, place: &str) {
        let mut state = self.state();
        if let Some(last) = state.versions.get_mut(place).and_then(|all| all.last_mut()) {
            *last = None;
        }
    }

    pub(crate) fn logins(&self) -> usize {
        self.state().logins
    }

    pub(crate) fn reads(&self) -> usize {
        self.state().reads
    }
}

struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(asked) = read(&mut reader) {
        let (status, body) = {
            let mut state = state.lock().unwrap();
            match state.is_hanging {
                true => (0, Value::Null),
                false => answer(&mut state, &asked),
            }
        };
        if status == 0 {
            // Until the client has enough of it.
            let _ = reader.read(&mut [0; 1]);
            return;
        }
        let text = body.to_string();
        let length = text.len();
        let head = "Content-Type: application/json\r\nCache-Control: no-store";
        let reply = format!("HTTP/1.1 {status} x\r\n{head}\r\nContent-Length: {length}\r\n\r\n");
        if stream.write_all((reply + &text).as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or("0", String::as_str);
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn errors(texts: &[&str]) -> Value {
    json!({ "errors": texts })
}

fn answer(state: &mut State, asked: &Asked) -> (u16, Value) {
    if state.is_sealed {
        return (503, errors(&["Vault is sealed"]));
    }
    if asked.headers.get("x-vault-request").map(String::as_str) != Some("true") {
        return (412, errors(&["the X-Vault-Request header is missing"]));
    }
    let Some(path) = asked.path.strip_prefix("/v1/") else {
        return (404, errors(&[]));
    };
    let login = path
        .strip_prefix("auth/")
        .and_then(|rest| rest.strip_suffix("/login"));
    match (asked.method.as_str(), login) {
        ("POST" | "PUT", Some(mount)) => log_in(state, mount, &asked.body),
        ("GET", None) => read_secret(state, path, &asked.headers),
        _ => (405, errors(&["unsupported operation"])),
    }
}

fn log_in(state: &mut State, mount: &str, body: &Value) -> (u16, Value) {
    let Some((jwt, role)) = state.accounts.get(mount).cloned() else {
        return (
            404,
            errors(&[&format!("no handler for route \"auth/{mount}/login\"")]),
        );
    };
    if body["role"] != role.as_str() {
        return (
            400,
            errors(&[&format!("invalid role name {}", body["role"])]),
        );
    }
    if body["jwt"] != jwt.as_str() {
        return (403, errors(&["permission denied"]));
    }
    state.logins += 1;
    let token = format!("hvs.login-{}", state.logins);
    state.tokens.insert(token.clone());
    let auth = json!({
        "client_token": token,
        "accessor": "afa306d0-be3d-c8d2-b0d7-2676e1c0d9b4",
        "policies": ["default"],
        "token_policies": ["default"],
        "metadata": {"role": role, "service_account_name": "onemcp"},
        "lease_duration": state.lease_s,
        "renewable": true,
        "entity_id": "",
        "token_type": "service",
        "orphan": true,
    });
    (200, whole(Value::Null, auth))
}

fn read_secret(state: &mut State, path: &str, headers: &BTreeMap<String, String>) -> (u16, Value) {
    let token = headers.get("x-vault-token");
    if !token.is_some_and(|token| state.tokens.contains(token)) {
        return (
            403,
            errors(&["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]),
        );
    }
    state.reads += 1;
    let place = match headers.get("x-vault-namespace") {
        Some(namespace) => format!("{}|{path}", namespace.trim_matches('/')),
        None => path.to_owned(),
    };
    let Some(versions) = state.versions.get(&place) else {
        return (404, errors(&[]));
    };
    let newest = versions.last().cloned().flatten();
    let deleted = if newest.is_some() {
        ""
    } else {
        "2026-03-22T02:36:43.986212308Z"
    };
    let metadata = json!({
        "created_time": "2026-03-22T02:24:06.945319214Z",
        "custom_metadata": null,
        "deletion_time": deleted,
        "destroyed": false,
        "version": versions.len(),
    });
    let status = if newest.is_some() { 200 } else { 404 };
    let data = json!({"data": newest, "metadata": metadata});
    (status, whole(data, Value::Null))
}

fn whole(data: Value, auth: Value) -> Value {
    json!({
        "request_id": "1b3ba2ad-ed63-4a97-8a2b-0de4b7a1d6a0",
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": data,
        "wrap_info": null,
        "warnings": null,
        "auth": auth,
        "mount_type": "kv",
    })
}
