//! An MCP client over Streamable HTTP for `list --url` and `call --url`: opens sessions at a
//! running gateway, asks one thing at a time, and closes what it opened. It declares no
//! capabilities, so every question of a server is refused. Runs on the main thread; a second
//! thread closes the sessions when a signal ends the command. Deliberately absent: resuming
//! a stream that broke, logins.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::base::{limits, thread};
use crate::cli::args::ClientFlags;
use crate::cli::deadline::Deadline;
use crate::cli::gateway_url::GatewayUrl;
use crate::cli::outcome::{Failure, member};
use crate::cli::proxy::read_header;
use crate::cli::{quieten, with_log};
use crate::config::settings::Flags;
use crate::config::{load_settings, process_environment};
use crate::front::streamable::SESSION_HEADER;
use crate::mcp::error::{METHOD_NOT_FOUND, RpcError, result_response};
use crate::mcp::list::ListKind;
use crate::mcp::method::INITIALIZED;
use crate::mcp::revision::Revision;
use crate::model::listing::{Item, parse_page};
use crate::net::client::{Client as Agent, ClientOptions, Method, Request, Response};
use crate::net::error::NetError;
use crate::net::proxy::ProxyChoice;
use crate::net::stop::Stop;
use crate::wire::json::{quoted, string_value};
use crate::wire::message::{Envelope, FROM_SERVER, Kind};
use crate::wire::sse::Parser;

/// The way to one gateway.
pub struct Client {
    pub url: GatewayUrl,
    /// Go with every request; may be secrets.
    headers: Vec<(String, String)>,
    agent: Agent,
    deadline: Deadline,
    open: Arc<Mutex<Vec<Open>>>,
    signals: Option<(Handle, JoinHandle<()>)>,
}

/// A session that must be closed.
struct Open {
    endpoint: String,
    id: String,
    headers: Vec<(String, String)>,
}

/// One session at one endpoint.
pub struct Session<'c> {
    client: &'c Client,
    endpoint: String,
    id: Option<String>,
    revision: Revision,
    /// Raw JSON.
    capabilities: String,
    next_id: u64,
}

/// Runs `body` with a client of the gateway at `url`, and with the log.
pub fn with_client(
    url: &str,
    asked: &ClientFlags,
    flags: &Flags,
    body: impl FnOnce(&Client) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let config = load_settings(flags, &process_environment());
    let mut config = config.map_err(Failure::Configuration)?;
    quieten(&mut config.settings);
    with_log(&config.settings, || body(&Client::new(url, asked)?))
}

fn pairs(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    let headers = headers.iter();
    headers.map(|(name, value)| (&**name, &**value)).collect()
}

fn lock(open: &Mutex<Vec<Open>>) -> MutexGuard<'_, Vec<Open>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    fn new(url: &str, asked: &ClientFlags) -> Result<Client, Failure> {
        let url = GatewayUrl::parse(url)?;
        let proxy = match url.is_loopback() {
            true => ProxyChoice::None,
            false => ProxyChoice::Environment,
        };
        let options = ClientOptions {
            ca_file: asked.ca_file.clone(),
            proxy,
            ..ClientOptions::default()
        };
        let agent = Agent::new(&options)
            .map_err(|error| Failure::Unreachable(format!("failed to {error}")))?;
        let open: Arc<Mutex<Vec<Open>>> = Arc::default();
        let signals = close_at_signal(agent.clone(), open.clone()).map_err(|error| {
            Failure::Unreachable(format!("failed to start the client: {error}"))
        })?;
        let headers = asked.headers.iter().map(|header| read_header(header));
        Ok(Client {
            headers: headers.collect::<Result<_, _>>()?,
            url,
            agent,
            deadline: Deadline::after(asked.timeout.unwrap_or(limits::CLIENT_DEADLINE)),
            open,
            signals: Some(signals),
        })
    }

    /// Opens a session at one endpoint of the gateway.
    pub fn open(&self, endpoint: String) -> Result<Session<'_>, Failure> {
        let mut session = Session {
            client: self,
            endpoint,
            id: None,
            revision: Revision::NEWEST,
            capabilities: "{}".to_owned(),
            next_id: 1,
        };
        session.initialize()?;
        Ok(session)
    }

    /// A plain GET; the body whatever the status, if it is not too large.
    pub fn get(&self, url: &str) -> Option<String> {
        let request = Request {
            method: Method::Get,
            url,
            headers: &pairs(&self.headers),
            body: b"",
            head_timeout: self.deadline.left().ok()?,
            idle_timeout: Some(limits::CLIENT_SILENCE),
        };
        let mut response = self.agent.send(&request, &Stop::default()).ok()?;
        response.set_deadline(Some(self.deadline.at()));
        let bytes = response.read_to_end(limits::LINE_BYTES).ok()?;
        String::from_utf8(bytes).ok()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some((handle, thread)) = self.signals.take() {
            handle.close();
            if thread.join().is_err() {
                log::error!("signal thread panicked");
            }
        }
    }
}

/// A gateway keeps a session, and works on its calls, until it is closed.
fn close_at_signal(
    agent: Agent,
    open: Arc<Mutex<Vec<Open>>>,
) -> std::io::Result<(Handle, JoinHandle<()>)> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT])?;
    let handle = signals.handle();
    let thread = thread::spawn("signal", limits::STACK_WORKER_BYTES, move || {
        if let Some(signal) = signals.forever().next() {
            let sessions: Vec<Open> = lock(&open).drain(..).collect();
            sessions.iter().for_each(|session| close(&agent, session));
            std::process::exit(128 + signal);
        }
    })?;
    Ok((handle, thread))
}

/// If it fails, the gateway closes the session when it has been idle for long enough.
fn close(agent: &Agent, session: &Open) {
    let mut headers = pairs(&session.headers);
    headers.push((SESSION_HEADER, &session.id));
    let request = Request {
        method: Method::Delete,
        url: &session.endpoint,
        headers: &headers,
        body: b"",
        head_timeout: limits::CLIENT_CLOSE,
        idle_timeout: None,
    };
    if let Err(error) = agent.send(&request, &Stop::default()) {
        log::debug!("session not closed: {error}");
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let Some(id) = &self.id else { return };
        let mine = {
            let mut open = lock(&self.client.open);
            let at = open.iter().position(|session| session.id == *id);
            at.map(|at| open.swap_remove(at))
        };
        if let Some(session) = mine {
            close(&self.client.agent, &session);
        }
    }
}

impl Session<'_> {
    fn initialize(&mut self) -> Result<(), Failure> {
        let params = format!(
            "{{\"protocolVersion\":\"{}\",\"capabilities\":{{}},\
             \"clientInfo\":{{\"name\":\"onemcp\",\"version\":\"{}\"}}}}",
            self.revision.as_str(),
            env!("CARGO_PKG_VERSION")
        );
        let result = self.request("initialize", &params)?;
        let text = |key: &str| member(&result, key);
        let version = text("protocolVersion").unwrap_or_default();
        let version = string_value(&version).unwrap_or_default();
        let Some(revision) = Revision::parse(&version) else {
            return Err(self.nonsense(&format!(
                "speaks protocol revision {version:?}, which is not known here"
            )));
        };
        self.revision = revision;
        self.capabilities = text("capabilities").unwrap_or_default();
        let message = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{INITIALIZED}\"}}");
        self.post(&message).map(drop)
    }

    /// Asks one thing and waits for its result, which is raw JSON.
    pub fn request(&mut self, method: &str, params: &str) -> Result<String, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let message = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}"
        );
        let mut response = self.post(&message)?;
        if method == "initialize" {
            self.remember_session(&response);
        }
        if response.media_type() == "text/event-stream" {
            return self.read_stream(response, id);
        }
        let bytes = response.read_to_end(limits::LINE_BYTES);
        let bytes = bytes.map_err(|error| self.broken(&error))?;
        match self.take(&String::from_utf8_lossy(&bytes), id)? {
            Some(result) => Ok(result),
            None => Err(self.nonsense("answered with something that is not a response")),
        }
    }

    /// Every entry of a list, if the server declares it.
    pub fn list(&mut self, kind: ListKind) -> Result<Vec<Item>, Failure> {
        if member(&self.capabilities, kind.capability()).is_none() {
            return Ok(Vec::new());
        }
        let (mut items, mut seen) = (Vec::new(), HashSet::new());
        let mut params = "{}".to_owned();
        for _ in 0..limits::LIST_PAGES {
            let result = self.request(kind.method(), &params)?;
            let Some(page) = parse_page(&result, kind) else {
                return Err(self.nonsense(&format!("answered {} without a list", kind.method())));
            };
            items.extend(page.items);
            match page.next_cursor {
                Some(next) if items.len() < limits::ENTRIES && seen.insert(next.clone()) => {
                    params = format!("{{\"cursor\":{}}}", quoted(&next));
                }
                _ => break,
            }
        }
        Ok(items)
    }

    fn remember_session(&mut self, response: &Response) {
        let Some(id) = response.header(SESSION_HEADER) else {
            return;
        };
        self.id = Some(id.to_owned());
        lock(&self.client.open).push(Open {
            endpoint: self.endpoint.clone(),
            id: id.to_owned(),
            headers: self.client.headers.clone(),
        });
    }

    /// Sends one message. Gives the response if its status says that all is well.
    fn post(&self, message: &str) -> Result<Response, Failure> {
        let mut headers = vec![
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        headers.extend(pairs(&self.client.headers));
        if let Some(id) = &self.id {
            headers.push((SESSION_HEADER, id));
            headers.push(("MCP-Protocol-Version", self.revision.as_str()));
        }
        let request = Request {
            method: Method::Post,
            url: &self.endpoint,
            headers: &headers,
            body: message.as_bytes(),
            head_timeout: self.client.deadline.left()?,
            idle_timeout: Some(limits::CLIENT_SILENCE),
        };
        let sent = self.client.agent.send(&request, &Stop::default());
        let mut response = sent.map_err(|error| self.broken(&error))?;
        response.set_deadline(Some(self.client.deadline.at()));
        match response.status() {
            200..=299 => Ok(response),
            status => Err(self.refused(status, &mut response)),
        }
    }

    fn refused(&self, status: u16, response: &mut Response) -> Failure {
        let body = response.read_to_end(limits::STDERR_LINE_BYTES);
        let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        let error = member(&body, "error").filter(|error| error.starts_with('{'));
        let text = error.as_deref().unwrap_or(&body);
        let text: String = text.chars().take(300).collect();
        let said = format!("{} answers HTTP {status}: {text}", self.endpoint);
        match status {
            401 | 403 => Failure::Refused(said),
            404 if self.id.is_none() => Failure::NoEndpoint(said),
            400..=499 => error.map_or(Failure::Unreachable(said), Failure::Answered),
            _ => Failure::Unreachable(said),
        }
    }

    /// Reads events until the response to `id` is among them.
    fn read_stream(&self, mut response: Response, id: u64) -> Result<String, Failure> {
        let mut parser = Parser::default();
        let mut buffer = [0; 8192];
        loop {
            let count = match response.read(&mut buffer) {
                Ok(0) => return Err(self.nonsense("ended the stream before the answer")),
                Ok(count) => count,
                Err(error) => return Err(self.broken(&error)),
            };
            for event in parser.feed(&buffer[..count]) {
                if event.data.is_empty() {
                    continue;
                }
                if let Some(result) = self.take(&event.data, id)? {
                    return Ok(result);
                }
            }
            if parser.held_bytes() > limits::LINE_BYTES {
                return Err(self.nonsense("sent an event that is too large"));
            }
        }
    }

    /// The result, if this message is the response to `id`.
    fn take(&self, message: &str, id: u64) -> Result<Option<String>, Failure> {
        let envelope = Envelope::parse(message, FROM_SERVER)
            .map_err(|error| self.nonsense(&format!("sent an unusable message: {error}")))?;
        let own = id.to_string();
        match &envelope.kind {
            Kind::Result { id, result } if *id == own => Ok(Some((*result).to_owned())),
            Kind::Error { id, error } if id.is_none_or(|id| id == own) => {
                Err(Failure::Answered((*error).to_owned()))
            }
            Kind::Request { id, method } => {
                self.answer(id, method);
                Ok(None)
            }
            Kind::Notification { method } => {
                let params = envelope.params.unwrap_or_default();
                log::info!("notification method={method} params={params}");
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Answers a question: this client can do nothing but say that it is there.
    fn answer(&self, id: &str, method: &str) {
        let response = match method {
            "ping" => result_response(id, "{}"),
            _ => RpcError::new(
                METHOD_NOT_FOUND,
                format!("onemcp does not support {method}"),
            )
            .response(Some(id)),
        };
        if let Err(failure) = self.post(&String::from_utf8_lossy(&response)) {
            log::warn!("answer to a question lost method={method}: {failure}");
        }
    }

    fn nonsense(&self, what: &str) -> Failure {
        Failure::Unreachable(format!("{} {what}", self.endpoint))
    }

    fn broken(&self, error: &NetError) -> Failure {
        let is_late = self.client.deadline.at() <= Instant::now();
        match error {
            NetError::Deadline { .. } | NetError::Silent { .. } if is_late => {
                self.client.deadline.passed()
            }
            NetError::Silent { .. } => Failure::Timeout(format!(
                "{} has been silent for {} s",
                self.endpoint,
                limits::CLIENT_SILENCE.as_secs()
            )),
            NetError::Url(_) | NetError::Header(_) => {
                Failure::Usage(format!("{} is not a URL that can be asked", self.endpoint))
            }
            NetError::TooLarge { limit_bytes, .. } => {
                self.nonsense(&format!("sent an answer of more than {limit_bytes} bytes"))
            }
            NetError::Redirect { .. } => Failure::Unreachable(format!("failed to {error}")),
            error => {
                let what = format!("cannot be reached: failed to {error}; is the gateway running?");
                self.nonsense(&what)
            }
        }
    }
}
