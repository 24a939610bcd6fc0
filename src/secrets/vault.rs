//! Secrets from HashiCorp Vault (and OpenBao): its HTTP API, KV version 2. Who we are is a token
//! from a file, read anew each time, or a login with the Kubernetes account of the pod.
//!
//! Deliberately absent: writing, renewing leases (a new login is made instead), and following a
//! standby to another host (Vault forwards by itself, unless that was switched off).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::base::fields::{number, text};
use crate::base::secret::Secret;
use crate::base::{limits, mask};
use crate::net::client::{Client, ClientOptions, Method, Request};
use crate::net::egress::{Allowed, Egress};
use crate::net::proxy::ProxyChoice;
use crate::net::stop::Stop;
use crate::secrets::answer::Answer;
use crate::secrets::command::NAME;
use crate::secrets::directory;

#[derive(Clone, PartialEq, Eq)]
pub struct VaultSpec {
    /// Without a slash at its end.
    pub url: String,
    /// Where the secrets engine is mounted.
    pub mount: String,
    /// Below it; `{name}` stands for the name of the secret, here and in `field`.
    pub path: String,
    pub field: String,
    pub namespace: Option<String>,
    pub login: Login,
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
    pub egress_allow: Vec<Allowed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A file that holds a token.
    TokenFile(PathBuf),
    /// The token itself, from a variable.
    Token(Secret),
    Kubernetes {
        role: String,
        mount: String,
        /// The token of the service account.
        token_file: PathBuf,
    },
}

impl fmt::Debug for VaultSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultSpec")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl VaultSpec {
    pub fn label(&self) -> String {
        format!("vault {}", self.url)
    }
}

/// A vault that is spoken to.
pub struct Vault {
    spec: VaultSpec,
    /// `Err`: why no request can be made.
    client: Result<Client, String>,
    stop: Stop,
    token: Mutex<Option<Token>>,
}

/// From a login; used up to its time.
struct Token {
    text: Secret,
    until: Instant,
}

/// What an exchange came to.
struct Reply {
    status: u16,
    body: Vec<u8>,
}

/// Why a request was not answered with 200.
enum Refusal {
    Absent(String),
    /// 403: the token may be of no use any more.
    Denied,
    /// What is there cannot be a secret.
    Value(String),
    Trouble(String),
}

impl Vault {
    pub fn new(spec: VaultSpec, stop: Stop) -> Vault {
        let options = ClientOptions {
            ca_file: spec.ca_file.clone(),
            proxy: ProxyChoice::None,
            egress: Egress::operator(spec.egress_allow.clone()),
        };
        let client = Client::new(&options).map_err(|error| format!("failed to {error}"));
        Vault {
            spec,
            client,
            stop,
            token: Mutex::new(None),
        }
    }

    pub fn spec(&self) -> &VaultSpec {
        &self.spec
    }

    pub fn ask(&self, name: &str) -> Answer {
        let deadline = Instant::now() + self.spec.timeout;
        let mut outcome = self.read(name, deadline);
        // A token that was revoked looks like one that may not read.
        if matches!(outcome, Err(Refusal::Denied)) && self.forget_token() {
            outcome = self.read(name, deadline);
        }
        match outcome {
            Ok(value) => Answer::Found(value),
            Err(Refusal::Absent(why)) => Answer::Absent(why),
            Err(Refusal::Denied) => Answer::Trouble("status 403: its policies deny it".into()),
            Err(Refusal::Value(why)) => Answer::Trouble(why),
            Err(Refusal::Trouble(why)) => Answer::Away(why),
        }
    }

    fn read(&self, name: &str, deadline: Instant) -> Result<String, Refusal> {
        let token = self.token(deadline)?;
        let path = self.spec.path.replace(NAME, name);
        let path = format!("{}/data/{}", encode(&self.spec.mount), encode(&path));
        let headers = [("X-Vault-Token", token.expose())];
        let reply = self.exchange(Method::Get, &path, &headers, b"", deadline)?;
        let field = self.spec.field.replace(NAME, name);
        let data = read_data(&reply.body).ok_or_else(not_vault)?;
        let value = match data.get(&field) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => {
                return Err(Refusal::Absent(format!("has no field {field}")));
            }
            // Numbers and objects are given as they are written.
            Some(other) => other.to_string(),
        };
        let fits = directory::check(&value);
        fits.map_err(|why| Refusal::Value(format!("field {field}: {why}")))?;
        Ok(value)
    }

    fn token(&self, deadline: Instant) -> Result<Secret, Refusal> {
        match &self.spec.login {
            Login::Token(token) => Ok(token.clone()),
            Login::TokenFile(path) => read_token(path).map(Secret::known),
            Login::Kubernetes {
                role,
                mount,
                token_file,
            } => {
                if let Some(token) = self.known_token() {
                    return Ok(token);
                }
                let body = json!({"role": role, "jwt": read_token(token_file)?}).to_string();
                let path = format!("auth/{}/login", encode(mount));
                self.log_in(&path, body.as_bytes(), deadline)
            }
        }
    }

    fn log_in(&self, path: &str, body: &[u8], deadline: Instant) -> Result<Secret, Refusal> {
        let reply = match self.exchange(Method::Post, path, &[], body, deadline) {
            Err(Refusal::Denied) => {
                return Err(Refusal::Trouble("status 403: the login was refused".into()));
            }
            Err(Refusal::Absent(_)) => {
                let why = "status 404: there is no such login; is the mount right?";
                return Err(Refusal::Trouble(why.into()));
            }
            other => other?,
        };
        let reply: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let auth = &reply["auth"];
        let text = Secret::known(text(auth, "client_token").ok_or_else(not_vault)?);
        // A lease of nothing means that it does not end.
        let lease = match number(auth, "lease_duration") {
            None | Some(0) => limits::VAULT_TOKEN,
            Some(seconds) => Duration::from_secs(seconds).min(limits::VAULT_TOKEN),
        };
        let until = Instant::now() + lease.mul_f64(0.7);
        *self.lock() = Some(Token {
            text: text.clone(),
            until,
        });
        Ok(text)
    }

    fn known_token(&self) -> Option<Secret> {
        let known = self.lock();
        let known = known.as_ref().filter(|token| Instant::now() < token.until);
        known.map(|token| token.text.clone())
    }

    /// True when another one can be had.
    fn forget_token(&self) -> bool {
        self.lock().take().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        deadline: Instant,
    ) -> Result<Reply, Refusal> {
        let client = self
            .client
            .as_ref()
            .map_err(|why| Refusal::Trouble(why.clone()))?;
        let url = format!("{}/v1/{path}", self.spec.url);
        let mut all = vec![("X-Vault-Request", "true"), ("Accept", "application/json")];
        if method == Method::Post {
            all.push(("Content-Type", "application/json"));
        }
        if let Some(namespace) = &self.spec.namespace {
            all.push(("X-Vault-Namespace", namespace));
        }
        all.extend(headers);
        let left = deadline.saturating_duration_since(Instant::now());
        let request = Request {
            method,
            url: &url,
            headers: &all,
            body,
            head_timeout: left,
            idle_timeout: Some(left),
        };
        let failed = |error| Refusal::Trouble(format!("failed to {error}"));
        let mut response = client.send(&request, &self.stop).map_err(failed)?;
        response.set_deadline(Some(deadline));
        let body = response.read_to_end(limits::VAULT_BYTES).map_err(failed)?;
        judge(Reply {
            status: response.status(),
            body,
        })
    }
}

fn judge(reply: Reply) -> Result<Reply, Refusal> {
    let status = reply.status;
    Err(match status {
        200 => return Ok(reply),
        404 => Refusal::Absent(if is_deleted(&reply.body) {
            "its version was deleted".into()
        } else {
            "has nothing at that path".into()
        }),
        403 => Refusal::Denied,
        400 => {
            Refusal::Trouble("status 400: is the mount KV version 2, and the role right?".into())
        }
        429 => Refusal::Trouble("status 429: it was asked too often".into()),
        503 => Refusal::Trouble("status 503: it is sealed or in maintenance".into()),
        _ => Refusal::Trouble(format!("status {status}")),
    })
}

/// 404 with metadata.
fn is_deleted(body: &[u8]) -> bool {
    read_data(body) == Some(Value::Null)
}

/// The fields of a secret; null for a version that was deleted.
fn read_data(body: &[u8]) -> Option<Value> {
    let mut reply: Value = serde_json::from_slice(body).ok()?;
    let data = reply.get_mut("data")?.as_object_mut()?.get_mut("data");
    let data = data.map(Value::take).unwrap_or_default();
    (data.is_object() || data.is_null()).then_some(data)
}

fn not_vault() -> Refusal {
    Refusal::Trouble("its answer is not that of KV version 2".into())
}

fn read_token(path: &Path) -> Result<String, Refusal> {
    let text = directory::read(path).map_err(|why| {
        Refusal::Trouble(format!(
            "failed to read the token in {}: {why}",
            path.display()
        ))
    })?;
    mask::learn(&text);
    Ok(text.trim().to_owned())
}

/// A path with its slashes; everything that is not plain becomes %XX.
fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.trim_matches('/').bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
#[path = "vault_tests.rs"]
mod tests;
