//! Servers that are reached over HTTP: Streamable HTTP of every session revision, the stateless
//! one of 2026-07-28, and HTTP with SSE of 2024-11-05.
//!
//! `Remote` takes the place that a child's pipes have for a stdio server. Each message is posted
//! by a thread of its own (`crew`), which reads what comes back and hands it to `Inbound` with
//! the call on whose stream it came: over HTTP nobody has to guess whose a question is. What
//! belongs to no call comes over one more thread (`stream`). The owner thread only greets
//! (`greet`), supervises and says good-bye.
//!
//! Deliberately absent: sending a `tools/call` twice, except where the protocol says that the
//! server did nothing with it.

pub mod check;
pub mod crew;
pub mod detect;
pub mod exchange;
pub mod flight;
pub mod greet;
pub mod headers;
pub mod mask;
pub mod renewal;
pub mod road;
pub mod state;
pub mod stream;
pub mod trouble;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::base::limits;
use crate::config::oauth::Mapping;
use crate::config::remote::RemoteSpec;
use crate::journal::context;
use crate::mcp::error::{Reason, RpcError};
use crate::mcp::method::DISCOVER;
use crate::model::listing::Item;
use crate::model::mirror;
use crate::upstream::call::CallId;
use crate::upstream::inbound::Inbound;
use crate::upstream::outlet::SendError;
use crate::upstream::remote::crew::Crew;
use crate::upstream::remote::flight::{Flight, Flights};
use crate::upstream::remote::mask::Mask;
use crate::upstream::remote::renewal::Pace;
use crate::upstream::remote::road::{Headers, Patience, Road};
use crate::upstream::remote::state::{Manner, State};
use crate::upstream::remote::trouble::{Cause, Trouble};
use crate::upstream::server::Server;
use crate::upstream::signals::ProcessSignals;

/// One server behind a URL, from one greeting to the end of what was agreed in it.
pub struct Remote {
    server: String,
    road: Road,
    /// For a sign of life.
    look: Patience,
    mask: Mask,
    /// Headers of clients that go to the server.
    handed_on: Vec<Mapping>,
    state: Mutex<State>,
    /// Rings when `state` changes.
    changed: Condvar,
    flights: Flights,
    crew: Crew<(Arc<Flight>, Vec<u8>)>,
    /// Held by whoever asks for a new session; the others wait for the outcome.
    renewal: Mutex<Pace>,
    /// The stream of what belongs to no call, while it is open.
    stream: Mutex<Option<Arc<Flight>>>,
    /// The owner keeps it alive.
    inbound: OnceLock<Weak<Inbound>>,
    signals: Arc<ProcessSignals>,
    /// In a row: the server could not be reached, or gave no sign of life when asked for one.
    strikes: AtomicU32,
    /// Something went wrong that a server which is there may cause, too.
    is_doubtful: AtomicBool,
    /// It let a call run out of time: it is asked for a sign of life although others go on.
    must_look: AtomicBool,
    /// It is being asked for a sign of life.
    is_looking: AtomicBool,
    /// Why the last exchange did not reach the server, until one does.
    ill: Mutex<Option<String>>,
    /// It answered as a server of another manner would.
    is_suspect: AtomicBool,
    /// When it was last asked whether it still is what it was.
    checked: Mutex<Option<Instant>>,
    /// Sessions renewed since an exchange went well.
    barren: AtomicU32,
    /// When an exchange went well, or one was begun to see whether it would.
    good: Mutex<Instant>,
    /// How the last exchange went: what the greeting goes by, when there is one at a time.
    last: Mutex<Last>,
}

#[derive(Debug, Clone, Default)]
struct Last {
    status: u16,
    trouble: Option<Trouble>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remote {
    /// Nothing is sent yet. Also gives what is disconnected when all its threads have ended.
    ///
    /// # Errors
    /// Why the entry cannot be used.
    pub fn new(
        server: &Server,
        spec: &RemoteSpec,
        signals: Arc<ProcessSignals>,
        principal: Option<&str>,
    ) -> Result<(Arc<Remote>, Receiver<()>), String> {
        let login = server.login_of(principal);
        let road = Road::open(spec, server.egress_allow(), login);
        let road = road.map_err(|trouble| trouble.detail)?;
        context::hand_on(spec.handed_on.iter().map(|mapping| mapping.from.as_str()));
        let (crew, ended) = Crew::new(server.name());
        let remote = Remote {
            server: server.name().to_owned(),
            road,
            look: Patience::of_look(server.config.request_timeout),
            mask: Mask::of(spec),
            handed_on: spec.handed_on.clone(),
            state: Mutex::new(State {
                tools: server.tools.clone(),
                ..State::default()
            }),
            changed: Condvar::new(),
            flights: Flights::default(),
            crew,
            renewal: Mutex::default(),
            stream: Mutex::new(None),
            inbound: OnceLock::new(),
            signals,
            strikes: AtomicU32::new(0),
            is_doubtful: AtomicBool::new(false),
            must_look: AtomicBool::new(false),
            is_looking: AtomicBool::new(false),
            ill: Mutex::default(),
            is_suspect: AtomicBool::new(false),
            checked: Mutex::default(),
            barren: AtomicU32::new(0),
            good: Mutex::new(Instant::now()),
            last: Mutex::default(),
        };
        Ok((Arc::new(remote), ended))
    }

    /// Host and port of its URL.
    pub fn address(&self) -> Option<(String, u16)> {
        self.road.address()
    }

    /// Where messages of the server go. Once, before anything is sent.
    pub fn deliver_to(&self, inbound: &Arc<Inbound>) {
        // There is one owner and it does so once.
        let _ = self.inbound.set(Arc::downgrade(inbound));
    }

    fn inbound(&self) -> Option<Arc<Inbound>> {
        self.inbound.get()?.upgrade()
    }

    /// Sends one message. Waits until `deadline` for a thread that is free, or not at all.
    pub fn send(
        self: &Arc<Self>,
        call: Option<CallId>,
        line: Vec<u8>,
        deadline: Option<Instant>,
    ) -> Result<(), SendError> {
        if call.is_none() && lock(&self.state).manner == Manner::Stateless {
            // A stateless server takes requests only.
            return Ok(());
        }
        let entered = match is_setting(&line) {
            true => self.flights.enter_first(call),
            false => self.flights.enter(call),
        };
        let Some(flight) = entered else {
            return Err(SendError::Closed);
        };
        // Calls leave some threads to notifications and answers: those end calls.
        let most = match call {
            Some(_) => limits::REMOTE_CALLS,
            None => limits::REMOTE_CALLS + limits::REMOTE_NOTES,
        };
        flight.carry(self.handed_on());
        let remote = self.clone();
        let job = (flight.clone(), line);
        let handed = self.crew.hand(job, most, deadline, move |(flight, line)| {
            remote.work(&flight, &line);
        });
        if handed.is_err() {
            self.flights.leave(&flight);
        }
        handed
    }

    /// What the client at work on this thread sent along for the server.
    fn handed_on(&self) -> Headers {
        if self.handed_on.is_empty() {
            return Vec::new();
        }
        let found = context::with(|context| {
            let handed = context.handed.iter();
            let named = handed.flat_map(|(name, value)| {
                let mappings = self.handed_on.iter();
                mappings
                    .filter(move |mapping| mapping.from == *name)
                    .map(|mapping| (mapping.to.clone(), value.clone()))
            });
            named.collect()
        });
        found.unwrap_or_default()
    }

    /// Stops waiting for the answer to `call`. A server with sessions is told by `notice`, for a
    /// stateless one the end of the stream says it.
    pub fn cancel(self: &Arc<Self>, call: CallId, notice: Vec<u8>) {
        let is_told = match lock(&self.state).manner {
            Manner::Session(_) | Manner::Sse { .. } => true,
            Manner::Fresh | Manner::Stateless => false,
        };
        let is_under_way = self.flights.stop(call, is_told.then(|| notice.clone()));
        if !is_under_way && is_told && self.send(None, notice, None).is_err() {
            log::debug!("cancellation lost server={:?} call={call}", self.server);
        }
    }

    /// The whole of one exchange, on a thread of the crew.
    fn work(&self, flight: &Flight, line: &[u8]) {
        self.flights.wait_turn(flight, limits::REMOTE_TURN);
        match self.converse(flight, line) {
            Ok(()) => self.went_well(flight.call.is_some()),
            Err(trouble) => self.failed(flight, is_look(line), &trouble),
        }
        self.flights.leave(flight);
        if is_look(line) {
            self.look_is_over();
        }
        if let Some(words) = flight.take_last_words() {
            self.say(&words);
        }
        self.check();
    }

    fn failed(&self, flight: &Flight, is_look: bool, trouble: &Trouble) {
        lock(&self.last).trouble = Some(trouble.clone());
        match (flight.call, self.inbound()) {
            (Some(call), Some(inbound)) => {
                let error = RpcError::gateway(trouble.reason, &self.server, &trouble.detail);
                inbound.link.failed(call, error);
            }
            _ if trouble.cause == Cause::Stopped => {}
            _ => log::warn!(
                "message not taken server={:?}: it {}",
                self.server,
                trouble.detail
            ),
        }
        let is_missed = match trouble.cause {
            Cause::Unreachable => true,
            // Whoever is too busy is there.
            Cause::Down => is_look || trouble.reason != Reason::Busy,
            Cause::Silent => is_look,
            _ => false,
        };
        if is_missed {
            *lock(&self.ill) = Some(trouble.detail.clone());
        }
        match trouble.cause {
            Cause::Unreachable => self.strike(trouble),
            Cause::Down | Cause::Silent if is_look => self.strike(trouble),
            Cause::Status(401 | 403) if is_look => self.signals.lost(&trouble.detail),
            // Whatever it says to that, it is there.
            Cause::Status(_) | Cause::Unusable if is_look => self.went_well(false),
            Cause::Down => self.is_doubtful.store(true, Ordering::Relaxed),
            Cause::Silent => self.doubt(),
            // Perhaps the login has run out; perhaps this call alone wants more.
            // A scope that is missing concerns this call alone.
            Cause::Status(401) if trouble.wants_login => self.doubt(),
            _ => {}
        }
    }

    fn went_well(&self, is_call: bool) {
        self.strikes.store(0, Ordering::Relaxed);
        self.is_doubtful.store(false, Ordering::Relaxed);
        // Something is there, but perhaps not the server that was greeted: `check` finds out.
        if !self.is_suspect.load(Ordering::Relaxed) {
            lock(&self.ill).take();
        }
        if is_call {
            self.barren.store(0, Ordering::Relaxed);
        }
        *lock(&self.good) = Instant::now();
    }

    /// A call ran out of time.
    pub fn doubt(&self) {
        self.must_look.store(true, Ordering::Relaxed);
    }

    /// Why the last exchange did not reach the server.
    pub fn ill(&self) -> Option<String> {
        lock(&self.ill).clone()
    }

    /// A request that shows whether the server is still there, when no exchange has shown it for
    /// a while. After a failure sooner. An open stream shows nothing: it may be silent for hours.
    /// `is_busy`: calls are under way.
    pub fn wanted_look(&self, is_busy: bool) -> Option<&'static str> {
        self.road.tend();
        if self.is_looking.load(Ordering::Relaxed) {
            return None;
        }
        let must_look = self.must_look.swap(false, Ordering::Relaxed);
        let failing = self.strikes.load(Ordering::Relaxed) > 0
            || self.is_doubtful.load(Ordering::Relaxed)
            || lock(&self.ill).is_some();
        let patience = match failing {
            true => limits::REMOTE_RETRY,
            false => limits::REMOTE_LOOK,
        };
        let mut good = lock(&self.good);
        if !must_look && (good.elapsed() < patience || is_busy) {
            return None;
        }
        *good = Instant::now();
        let method = match lock(&self.state).manner {
            Manner::Session(_) | Manner::Sse { endpoint: Some(_) } => Some("ping"),
            Manner::Stateless => Some(DISCOVER),
            Manner::Fresh | Manner::Sse { endpoint: None } => None,
        };
        self.is_looking.store(method.is_some(), Ordering::Relaxed);
        method
    }

    /// What was asked for by `wanted_look` has ended, or could not be sent.
    pub fn look_is_over(&self) {
        self.is_looking.store(false, Ordering::Relaxed);
    }

    /// Several failures in a row mean that the server is down, and the owner hears of it.
    fn strike(&self, trouble: &Trouble) {
        let strikes = self.strikes.fetch_add(1, Ordering::Relaxed) + 1;
        if strikes >= limits::REMOTE_STRIKES {
            self.signals.lost(&trouble.detail);
        }
    }

    /// A message that is not waited for, from this thread.
    fn say(&self, line: &[u8]) {
        let Some(flight) = self.flights.enter(None) else {
            return;
        };
        if let Err(trouble) = self.converse(&flight, line) {
            log::debug!(
                "message not taken server={:?}: it {}",
                self.server,
                trouble.detail
            );
        }
        self.flights.leave(&flight);
    }

    /// Notes what the tools of a stateless server want in headers, and drops those whose wishes
    /// the protocol forbids.
    pub fn admit(self: &Arc<Self>, tools: &mut Vec<Item>) {
        let known = {
            let state = lock(&self.state);
            match state.manner {
                Manner::Stateless => state.tools.clone(),
                _ => return,
            }
        };
        let mut wanted = HashMap::new();
        tools.retain(|tool| match mirror::of_tool(&tool.raw) {
            Ok(mirrors) => {
                wanted.extend(mirrors.map(|mirrors| (tool.key.clone(), mirrors)));
                true
            }
            Err(why) => {
                let (server, name) = (&self.server, &tool.key);
                log::warn!("tool left out server={server:?} tool={name:?}: {why}");
                false
            }
        });
        known.learn(self, wanted);
        self.changed.notify_all();
    }

    /// What a server says, without the secrets of its entry.
    pub fn hide(&self, text: &str) -> String {
        self.mask.hide(text)
    }

    /// That the last request was refused for want of credentials, with the remedy.
    pub fn refusal(&self) -> Option<String> {
        let trouble = lock(&self.last).trouble.clone()?;
        matches!(trouble.cause, Cause::Status(401 | 403)).then_some(trouble.detail)
    }

    /// That the last request was answered with a challenge.
    pub fn wants_login(&self) -> bool {
        let last = lock(&self.last);
        last.trouble.as_ref().is_some_and(|one| one.wants_login)
    }

    /// Waits in slices until `holds` or `deadline`.
    fn await_state(
        &self,
        deadline: Instant,
        stop: &crate::net::stop::Stop,
        holds: impl Fn(&State) -> bool,
    ) -> bool {
        const SLICE: Duration = Duration::from_millis(50);
        let mut state = lock(&self.state);
        while !holds(&state) {
            if stop.is_stopped() || Instant::now() >= deadline {
                return false;
            }
            let waited = self.changed.wait_timeout(state, SLICE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Ends every exchange and stream at once.
    pub fn close(&self) {
        self.flights.close();
        self.crew.close();
    }

    /// Gives a session back. Called by the owner when all else has ended.
    pub fn good_bye(&self) {
        let session = lock(&self.state).session().cloned();
        let Some(session) = session.filter(|session| session.id.is_some()) else {
            return;
        };
        match self
            .road
            .delete(&session.headers(), limits::REMOTE_GOOD_BYE)
        {
            Ok(status) => log::debug!("session ended server={:?} status={status}", self.server),
            Err(trouble) => {
                log::debug!(
                    "session not ended server={:?}: {}",
                    self.server,
                    trouble.detail
                );
            }
        }
    }
}

/// Exchanges overtake each other. A log level must be there before the next call; the gateway
/// alone sends it, with the method in front.
fn is_setting(line: &[u8]) -> bool {
    const METHOD: &[u8] = b"\"method\":\"logging/setLevel\"";
    has_in_front(line, METHOD)
}

/// The gateway alone asks for signs of life, with the method in front.
fn is_look(line: &[u8]) -> bool {
    has_in_front(line, b"\"method\":\"ping\"")
        || has_in_front(line, b"\"method\":\"server/discover\"")
}

fn has_in_front(line: &[u8], text: &[u8]) -> bool {
    let front = &line[..line.len().min(100)];
    memchr::memmem::find(front, text).is_some()
}
