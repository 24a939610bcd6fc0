//! `onemcp proxy --url URL`: a program on stdio in front of an MCP endpoint on HTTP, for clients
//! that can only start programs. It understands as much as it must: which messages open a session,
//! which answer which, and what HTTP wants in headers. Everything else goes through as it is.
//!
//! Each request has a `call` thread of its own that posts it and reads what comes back; the
//! messages that belong to no request come over one more thread (`listen`).

mod flight;
mod letter;
mod listen;
mod post;
mod session;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::base::exit::EXIT_UNREACHABLE;
use crate::base::{limits, sys, thread};
use crate::cli::args::ProxyFlags;
use crate::cli::gateway_url::GatewayUrl;
use crate::cli::outcome::Failure;
use crate::cli::proxy::flight::{Flight, Heard};
use crate::cli::proxy::session::State;
use crate::cli::serve::{hand_over, nothing_to_reload};
use crate::cli::{quieten, say, with_log};
use crate::config::expand::{Lack, Wanted, expand};
use crate::config::settings::Flags;
use crate::config::{load_settings, process_environment};
use crate::front::channel::{Channel, Form};
use crate::front::pipes::{End, Pipes};
use crate::front::workers::Workers;
use crate::gateway::ending::{EndWhy, Ending};
use crate::mcp::error::{INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, RpcError};
use crate::mcp::method;
use crate::net::client::{Client, ClientOptions};
use crate::net::egress::Egress;
use crate::net::proxy::ProxyChoice;
use crate::net::stop::Stop;
use crate::wire::message::EnvelopeError;

/// What stands between one client and one endpoint.
struct Proxy {
    net: Client,
    endpoint: String,
    /// Of the command line: they go with every request.
    headers: Vec<(String, String)>,
    /// For the whole of one request.
    timeout: Duration,
    channel: Arc<Channel>,
    workers: Workers,
    state: Mutex<State>,
    /// Rings when `state` changes.
    changed: Condvar,
    /// Held by whoever asks for a new session; the others wait for the outcome.
    renewal: Mutex<()>,
    /// The endpoint has answered something.
    reached: AtomicBool,
    listener: Mutex<Option<JoinHandle<()>>>,
}

/// Headers that are the proxy's own.
const OWN_HEADERS: [&str; 11] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "transfer-encoding",
];

pub fn run(proxy: &ProxyFlags, flags: &Flags) -> ExitCode {
    match serve(proxy, flags) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(&format!("onemcp: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn serve(proxy: &ProxyFlags, flags: &Flags) -> Result<u8, Failure> {
    let mut url = GatewayUrl::parse(&proxy.url)?;
    if let Some((name, value)) = &proxy.filter {
        url.add_parameter(name, value);
    }
    let headers = proxy.headers.iter().map(|header| read_header(header));
    let headers = headers.collect::<Result<Vec<_>, _>>()?;
    let config = load_settings(flags, &process_environment());
    let mut config = config.map_err(Failure::Configuration)?;
    quieten(&mut config.settings);
    let cannot = |what: String| Failure::Unreachable(format!("failed to {what}"));
    with_log(&config.settings, || {
        let options = ClientOptions {
            ca_file: proxy.ca_file.clone(),
            proxy: match url.is_loopback() {
                true => ProxyChoice::None,
                false => ProxyChoice::Environment,
            },
            egress: Egress::operator(config.settings.egress_allow.clone()),
        };
        let net = Client::new(&options).map_err(|error| cannot(error.to_string()))?;
        let channel =
            Channel::new(Form::Line).map_err(|error| cannot(format!("start: {error}")))?;
        let proxy = Arc::new(Proxy {
            net,
            endpoint: url.endpoint(),
            headers,
            timeout: proxy.timeout.unwrap_or(limits::CLIENT_DEADLINE),
            channel: Arc::new(channel),
            workers: Workers::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            renewal: Mutex::new(()),
            reached: AtomicBool::new(false),
            listener: Mutex::new(None),
        });
        until_the_end(&proxy).map_err(|error| cannot(format!("start: {error}")))?;
        // A client that asked nothing has missed nothing.
        let was_in_vain = lock(&proxy.state).has_failed && !proxy.reached.load(Ordering::Acquire);
        Ok(if was_in_vain { EXIT_UNREACHABLE } else { 0 })
    })
}

/// `NAME:VALUE`. The value may be a secret, so it is in no error.
pub(super) fn read_header(header: &str) -> Result<(String, String), Failure> {
    let bad = |why: &str| Failure::Usage(format!("--header {why}; write it like NAME:VALUE"));
    let (name, value) = header.split_once(':').ok_or_else(|| bad("has no colon"))?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(bad("begins with something that is no name"));
    }
    if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(bad(&format!("{name} is written by onemcp itself")));
    }
    let expanded = expand(value.trim(), &|wanted| match wanted {
        Wanted::Variable(name) => {
            std::env::var(name).map_err(|error| Lack::Absent(error.to_string()))
        }
        _ => Err(Lack::Absent("only variables can be used here".to_owned())),
    });
    if let Some(failure) = expanded.failures.first() {
        return Err(Failure::Usage(format!(
            "--header {name}: {}",
            failure.message()
        )));
    }
    let is_text = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    if !expanded.text.bytes().all(is_text) {
        return Err(bad(&format!("{name} has a value that no header can have")));
    }
    Ok((name.to_owned(), expanded.text))
}

fn until_the_end(proxy: &Arc<Proxy>) -> std::io::Result<()> {
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT])?;
    let files = sys::take_stdio()?;
    let ending = Arc::new(Ending::default());
    let second = hand_over(signals, ending.clone(), nothing_to_reload)?;
    let asked = ending.clone();
    let tell = move |end| asked.ask(EndWhy::Client(end));
    let listener = proxy.clone();
    let take = move |line: &str| listener.take(line);
    let pipes = Pipes::start(proxy.channel.clone(), files, take, tell)?;
    if ending.wait() == EndWhy::Client(End::Input) {
        log::info!("end of input: answering what was asked");
        proxy.drain();
        wait_written(&ending, Instant::now() + limits::SHUTDOWN);
    }
    proxy.close();
    pipes.stop();
    proxy.good_bye();
    second.close();
    Ok(())
}

/// Until everything is written, nobody reads, a signal comes, or the time is over.
fn wait_written(ending: &Ending, deadline: Instant) {
    if ending.wait_until(deadline).is_none() {
        log::warn!("calls are cancelled: they were not answered in time");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Takes one line of the client. What it asks for is carried out elsewhere.
    fn take(self: &Arc<Self>, line: &str) {
        let heard = match Heard::read(line) {
            Ok(heard) => heard,
            Err(error) => {
                let (code, id) = match &error {
                    EnvelopeError::Invalid { id, .. } => (INVALID_REQUEST, id.as_deref()),
                    EnvelopeError::NotUtf8 | EnvelopeError::Json(_) => (PARSE_ERROR, None),
                };
                let error = RpcError::new(code, error.to_string());
                return self.channel.send(error.response(id));
            }
        };
        self.wait_opened();
        match heard {
            Heard::Request(flight) => self.request(Arc::new(flight), line),
            Heard::Notification { method } if method == method::CANCELLED => self.cancel(line),
            Heard::Notification { method } => {
                // In their order, and before what comes next.
                self.tell(line);
                if method == method::INITIALIZED {
                    lock(&self.state).initialized = Some(line.to_owned());
                    self.listen();
                }
            }
            Heard::Response => {
                let (proxy, line) = (self.clone(), line.to_owned());
                self.workers.run(Box::new(move || proxy.tell(&line)));
            }
        }
    }

    /// Until no `initialize` is under way: what comes after it needs its session.
    fn wait_opened(&self) {
        self.wait(self.timeout, |state| !state.is_opening);
    }

    fn wait(&self, limit: Duration, holds: impl Fn(&State) -> bool) -> bool {
        let state = lock(&self.state);
        let waited = self
            .changed
            .wait_timeout_while(state, limit, |state| !holds(state) && !state.is_closed);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        holds(&state)
    }

    fn request(self: &Arc<Self>, flight: Arc<Flight>, line: &str) {
        let has_room = |state: &State| state.flights.len() < limits::SESSION_CALLS;
        if !self.wait(limits::QUEUE_WAIT, has_room) {
            return self.fail(&flight, "take the request: too many are under way");
        }
        {
            let mut state = lock(&self.state);
            if state.is_closed {
                return;
            }
            if flight.is_initialize() {
                state.is_opening = true;
                state.opening = Some(line.to_owned());
            }
            state.flights.push(flight.clone());
        }
        let job = Work {
            proxy: self.clone(),
            flight,
            line: line.to_owned(),
        };
        // If there is no thread it is dropped and says so.
        self.workers.run(Box::new(move || job.run()));
    }

    /// The client takes a request back.
    fn cancel(self: &Arc<Self>, line: &str) {
        let flight = flight::cancelled(line).and_then(|id| {
            let state = lock(&self.state);
            state
                .flights
                .iter()
                .find(|flight| flight.has_id(&id))
                .cloned()
        });
        match flight {
            // Its end says it.
            Some(flight) if flight.is_stateless => flight.cancel(),
            flight => {
                let (proxy, line) = (self.clone(), line.to_owned());
                self.workers.run(Box::new(move || {
                    let age = flight.as_ref().map_or(Duration::MAX, |flight| flight.age());
                    // It must not overtake what it takes back, which is on another connection.
                    let early = limits::CHANNEL_TURN.saturating_sub(age);
                    proxy.wait(early, |_| false);
                    proxy.tell(&line);
                    if let Some(flight) = flight {
                        flight.cancel();
                    }
                }));
            }
        }
    }

    /// What was not answered is told why.
    fn fail(&self, flight: &Flight, why: &str) {
        lock(&self.state).has_failed = true;
        let error = RpcError::new(INTERNAL_ERROR, format!("failed to {why}"));
        for id in flight.take_open() {
            self.channel.send(error.response(Some(&id)));
        }
    }

    fn done(&self, flight: &Arc<Flight>) {
        let mut state = lock(&self.state);
        state.flights.retain(|other| !Arc::ptr_eq(other, flight));
        if flight.is_initialize() {
            state.is_opening = false;
        }
        if state.is_draining && state.flights.is_empty() {
            self.channel.finish();
        }
        self.changed.notify_all();
    }

    /// What was asked is answered; then the output ends.
    fn drain(&self) {
        let mut state = lock(&self.state);
        state.is_draining = true;
        let endless = state.flights.iter().filter(|flight| flight.is_endless());
        endless.for_each(|flight| flight.cancel());
        if state.flights.is_empty() {
            self.channel.finish();
        }
    }

    /// Ends everything at once.
    fn close(&self) {
        self.channel.cut();
        let (flights, listening) = {
            let mut state = lock(&self.state);
            state.is_closed = true;
            (std::mem::take(&mut state.flights), state.listening.take())
        };
        self.changed.notify_all();
        flights.iter().for_each(|flight| flight.cancel());
        if let Some(stop) = listening {
            stop.stop();
        }
        if lock(&self.listener)
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            log::error!("thread of the stream panicked");
        }
        self.workers.stop(Instant::now() + limits::CLIENT_CLOSE);
    }

    /// Reads what belongs to no request, from the first session on.
    fn listen(self: &Arc<Self>) {
        let mut listener = lock(&self.listener);
        if listener.is_some() {
            return;
        }
        let proxy = self.clone();
        match thread::spawn("listen", limits::STACK_WORKER_BYTES, move || proxy.follow()) {
            Ok(thread) => *listener = Some(thread),
            Err(error) => log::warn!("notifications are not listened for: {error}"),
        }
    }
}

/// One request at work. However it ends, its place is free afterwards, and what was not answered
/// is answered with an error.
struct Work {
    proxy: Arc<Proxy>,
    flight: Arc<Flight>,
    line: String,
}

impl Work {
    fn run(self) {
        if let Err(why) = self.proxy.converse(&self.flight, &self.line) {
            self.proxy.fail(&self.flight, &why);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.proxy.fail_rest(&self.flight);
        self.proxy.done(&self.flight);
    }
}

impl Proxy {
    fn fail_rest(&self, flight: &Flight) {
        if flight.has_open() {
            self.fail(
                flight,
                "carry out the request: the proxy has too much to do",
            );
        }
    }

    /// A stop that `close` reaches.
    fn stop_for_listening(&self) -> Option<Stop> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return None;
        }
        let stop = Stop::default();
        state.listening = Some(stop.clone());
        Some(stop)
    }
}
