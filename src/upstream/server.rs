//! The handle of one configured server: its state, its shared process, and the processes that
//! belong to single sessions. Connection threads come here for a link; the owner threads write
//! the state.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::base::gate::Gate;
use crate::base::{limits, thread, time};
use crate::config::oauth::Grant;
use crate::config::remote::RemoteSpec;
use crate::config::server::{Instances, ServerConfig, ServerState};
use crate::config::settings::Settings;
use crate::journal::metrics::meter::{self, Meter};
use crate::mcp::error::{Reason, RpcError};
use crate::mcp::level::Level;
use crate::mcp::method::{Asks, Method};
use crate::net::egress::Allowed;
use crate::upstream::call::Mailbox;
use crate::upstream::caller::{Caller, Lease};
use crate::upstream::dependency::{Neighbours, Turn};
use crate::upstream::event::{Event, Outlook, ServerId};
use crate::upstream::handshake::ClientFace;
use crate::upstream::link::{Hello, Link};
use crate::upstream::oauth::login::Login;
use crate::upstream::oauth::{Begun, Logins};
use crate::upstream::owner::{Owner, Role};
use crate::upstream::pool::{NoSeat, Pool, Whose};
use crate::upstream::process::Exit;
use crate::upstream::remote::state::Tools;
use crate::upstream::signals::OwnerSignals;
use crate::upstream::stderr::Tail;
use crate::upstream::verdict::Memory;
use crate::wire::json::quoted;

/// Where a server is in its life. The names of health, logs and `onemcp list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Loading,
    Ready,
    /// It has never been ready: its start failed and is tried again.
    Failed,
    /// It was ready and died; it is started again.
    Restarting,
    /// It died so often that it is tried only now and then, or not any more.
    CrashLoop,
    /// It answers over HTTP, and wants a login that it was not given.
    AwaitingOauth,
    Stopped,
    Disabled,
}

impl State {
    pub const ALL: [State; 9] = [
        State::Pending,
        State::Loading,
        State::Ready,
        State::Failed,
        State::Restarting,
        State::CrashLoop,
        State::AwaitingOauth,
        State::Stopped,
        State::Disabled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Loading => "loading",
            State::Ready => "ready",
            State::Failed => "failed",
            State::Restarting => "restarting",
            State::CrashLoop => "crash_loop",
            State::AwaitingOauth => "awaiting_oauth",
            State::Stopped => "stopped",
            State::Disabled => "disabled",
        }
    }

    /// Nothing more will happen soon: clients need not be held for this server.
    pub fn is_settled(self) -> bool {
        !matches!(self, State::Pending | State::Loading)
    }
}

#[derive(Debug, Clone)]
pub struct Status {
    pub state: State,
    pub last_error: Option<String>,
    /// What is wrong with its lists although it is connected.
    pub lists: Option<String>,
    /// RFC 3339.
    pub last_connected: Option<String>,
    pub restarts: u32,
    pub retry_at: Option<Instant>,
    /// It is not started again until somebody asks for that.
    pub is_given_up: bool,
    /// The server that it needs and that is not ready.
    pub waiting_for: Option<String>,
    pub pid: Option<i32>,
    pub last_exit: Option<LastExit>,
}

/// How its process before this one ended, whoever wanted that.
#[derive(Debug, Clone)]
pub struct LastExit {
    pub exit: Exit,
    pub pid: i32,
    /// RFC 3339.
    pub at: String,
}

impl Status {
    pub fn new(state: State) -> Status {
        Status {
            state,
            last_error: None,
            lists: None,
            last_connected: None,
            restarts: 0,
            retry_at: None,
            is_given_up: false,
            waiting_for: None,
            pid: None,
            last_exit: None,
        }
    }

    /// Nobody can use it, and that will last: what it offered is withdrawn. One that is stopped
    /// has been replaced, or the gateway ends: then nobody asks, and to publish a world for each
    /// of a hundred would take seconds.
    pub fn has_nothing_to_offer(&self) -> bool {
        let is_gone = matches!(self.state, State::CrashLoop | State::AwaitingOauth);
        is_gone || self.is_given_up
    }

    /// A start was asked for, or it begins.
    pub(crate) fn begin(&mut self) {
        self.state = State::Loading;
        self.last_error = None;
        self.lists = None;
        self.retry_at = None;
        self.is_given_up = false;
        self.pid = None;
    }
}

/// Who calls, as far as servers need to know: the session and what its client can do.
#[derive(Debug, Clone)]
pub struct SessionFace {
    pub session: String,
    pub face: ClientFace,
    /// What its client can be asked.
    pub asks: Asks,
    pub principal: Option<String>,
    pub wanted: Wanted,
    /// Set before its processes are ended: no other one is started for it.
    pub ended: Arc<AtomicBool>,
}

/// The resources that a session is subscribed to, and at which server: a process that takes the
/// place of another one of the session is told them again.
#[derive(Debug, Clone, Default)]
pub struct Wanted(Arc<Mutex<HashMap<String, usize>>>);

impl Wanted {
    pub fn add(&self, uri: &str, server: usize) {
        lock(&self.0).insert(uri.to_owned(), server);
    }

    pub fn remove(&self, uri: &str) {
        lock(&self.0).remove(uri);
    }

    pub fn at(&self, server: usize) -> Vec<String> {
        let wanted = lock(&self.0);
        let here = wanted.iter().filter(|(_, at)| **at == server);
        here.map(|(uri, _)| uri.clone()).collect()
    }
}

/// What all servers of one gateway share.
#[derive(Clone)]
pub struct Surroundings {
    pub router: Sender<Event>,
    /// Permits to start.
    pub starts: Arc<Gate>,
    /// The result that answers `roots/list` while no call is in flight: raw JSON.
    pub roots: Arc<str>,
    /// What servers over HTTP may stand at although `net::egress` refuses it.
    pub egress_allow: Arc<[Allowed]>,
    /// Between two readings of a list that changes all the time.
    pub refresh_window: RefreshWindow,
    /// How the gateway gets in at servers over HTTP.
    pub logins: Arc<Logins>,
    /// Whoever others may wait for.
    pub neighbours: Arc<Neighbours>,
    /// The gateway ends: nobody waits for a start any more.
    pub closing: Arc<AtomicBool>,
}

impl Surroundings {
    pub fn new(router: Sender<Event>, starts: Arc<Gate>, settings: &Settings) -> Surroundings {
        let roots = settings
            .roots
            .iter()
            .map(|uri| format!("{{\"uri\":{}}}", quoted(uri)));
        let roots = roots.collect::<Vec<_>>().join(",");
        Surroundings {
            router,
            starts,
            roots: format!("{{\"roots\":[{roots}]}}").into(),
            egress_allow: settings.egress_allow.as_slice().into(),
            refresh_window: RefreshWindow::new(settings),
            logins: Arc::default(),
            neighbours: Arc::default(),
            closing: Arc::default(),
        }
    }
}

/// One reading for each window in which clients are told of changes. In milliseconds; a reload
/// may set it.
#[derive(Clone, Default)]
pub struct RefreshWindow(Arc<AtomicU64>);

impl RefreshWindow {
    fn new(settings: &Settings) -> RefreshWindow {
        let window = RefreshWindow::default();
        window.set(settings);
        window
    }

    pub fn set(&self, settings: &Settings) {
        let batch = settings.async_batch_delay.min(settings.async_max_delay);
        let window = match settings.async_batch_notifications {
            true => batch.max(limits::REFRESH_WINDOW),
            false => limits::REFRESH_WINDOW,
        };
        let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// One process (and its successors) with its own four threads.
pub(crate) struct Instance {
    slot: Mutex<Slot>,
    changed: Condvar,
    signals: Arc<OwnerSignals>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

struct Slot {
    status: Status,
    link: Option<Arc<Link>>,
    /// Of the last link: stays while the server restarts.
    hello: Option<Hello>,
    /// Calls that wait for the link.
    waiting: usize,
}

/// Who wants to hear of one resource.
#[derive(Default)]
struct Subscription {
    sessions: usize,
    agreed: bool,
}

/// What clients want of a server, whichever handle serves them: stays when the entry is changed
/// and another handle takes the place.
#[derive(Default)]
struct Standing {
    /// Resource subscriptions of all sessions, by URI.
    subscriptions: Mutex<HashMap<String, Subscription>>,
    /// Tasks that stateless clients want to hear of, each with their number.
    watched_tasks: Mutex<HashMap<String, usize>>,
    level: Mutex<Option<Level>>,
    /// The handle that serves.
    current: Mutex<Weak<Server>>,
}

/// What handles of one name have in common.
#[derive(Clone)]
pub struct Kept {
    slot: usize,
    tail: Tail,
    standing: Arc<Standing>,
}

/// One entry of `mcpServers`, as it is started.
pub struct Server {
    pub id: ServerId,
    /// What it was started with; what may change without a restart stands in the world.
    pub config: ServerConfig,
    pub tail: Tail,
    /// Which era it spoke when it was last started.
    pub(crate) era: Memory,
    /// Over HTTP: what its tools want in headers.
    pub(crate) tools: Arc<Tools>,
    shared: Arc<Instance>,
    /// Processes beside the shared one.
    pool: Pool,
    /// What it has asked its client so far, in a way that names no call (`Asks`).
    asked: Arc<AtomicU8>,
    around: Surroundings,
    standing: Arc<Standing>,
    /// Of methods that are about no tool or prompt.
    meters: [OnceLock<Option<Arc<Meter>>>; Method::ALL.len()],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Instance {
    pub(crate) fn new(state: State) -> Arc<Instance> {
        let slot = Mutex::new(Slot {
            status: Status::new(state),
            link: None,
            hello: None,
            waiting: 0,
        });
        Arc::new(Instance {
            slot,
            changed: Condvar::new(),
            signals: Arc::default(),
            thread: Mutex::new(None),
        })
    }

    pub(crate) fn signals(&self) -> &Arc<OwnerSignals> {
        &self.signals
    }

    fn status(&self) -> Status {
        lock(&self.slot).status.clone()
    }

    pub(crate) fn is_living(&self) -> bool {
        lock(&self.slot).status.state != State::Stopped
    }

    /// It is up, and works at nothing for anybody.
    pub(crate) fn is_quiet(&self) -> bool {
        let link = lock(&self.slot).link.clone();
        link.is_some_and(|link| link.is_quiet())
    }

    /// It is up, and at work on tasks that were made here.
    pub(crate) fn has_tasks(&self) -> bool {
        let link = lock(&self.slot).link.clone();
        link.is_some_and(|link| link.tasks().are_open(Instant::now()))
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status, &mut Option<Arc<Link>>)) {
        let mut slot = lock(&self.slot);
        let Slot {
            status,
            link,
            hello,
            ..
        } = &mut *slot;
        change(status, link);
        if let Some(said) = link.as_ref().and_then(|link| link.hello()) {
            *hello = Some(said.clone());
        }
        self.changed.notify_all();
    }

    /// The link, waiting for a start that is under way until `deadline` or the end of the gateway.
    fn link(&self, deadline: Instant, closing: &AtomicBool) -> Result<Arc<Link>, Box<Status>> {
        let mut slot = lock(&self.slot);
        loop {
            if let Some(link) = &slot.link {
                return Ok(link.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let is_vain = slot.status.state.is_settled() || closing.load(Ordering::Acquire);
            if is_vain || left.is_zero() {
                return Err(Box::new(slot.status.clone()));
            }
            slot.waiting += 1;
            slot = self
                .changed
                .wait_timeout(slot, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            slot.waiting -= 1;
        }
    }

    /// Whoever waits for the link looks again.
    fn wake(&self) {
        drop(lock(&self.slot));
        self.changed.notify_all();
    }

    /// Waits until its owner is at its end; false at the deadline.
    pub(crate) fn wait_stopped(&self, deadline: Instant) -> bool {
        if lock(&self.thread).is_none() {
            return true;
        }
        let mut slot = lock(&self.slot);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if slot.status.state == State::Stopped || left.is_zero() {
                return slot.status.state == State::Stopped;
            }
            let waited = self.changed.wait_timeout(slot, left);
            slot = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn join(&self) {
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            log::error!("owner thread panicked");
        }
    }
}

impl Server {
    /// The handle of a server that was not there. Nothing is started: what it reports must be
    /// expected first.
    pub fn new(slot: usize, config: ServerConfig, around: Surroundings) -> Arc<Server> {
        let fresh = Kept {
            slot,
            tail: Tail::default(),
            standing: Arc::default(),
        };
        Server::of(fresh, config, around)
    }

    /// One that is to take the place of this one: what clients want stays, and so do its last
    /// lines. `take_over` makes it the one that serves.
    pub fn successor(&self, config: ServerConfig, around: Surroundings) -> Arc<Server> {
        Server::of(self.kept(), config, around)
    }

    /// What goes over to the next handle of this name.
    pub fn kept(&self) -> Kept {
        Kept {
            slot: self.id.slot,
            tail: self.tail.clone(),
            standing: self.standing.clone(),
        }
    }

    /// Another handle of a name that there was a server of.
    pub fn of(kept: Kept, config: ServerConfig, around: Surroundings) -> Arc<Server> {
        let Kept {
            slot,
            tail,
            standing,
        } = kept;
        let state = match config.state {
            ServerState::Enabled => State::Pending,
            ServerState::Disabled => State::Disabled,
            ServerState::Invalid(_) => State::Failed,
        };
        let shared = Instance::new(state);
        if let ServerState::Invalid(reason) = &config.state {
            lock(&shared.slot).status.last_error = Some(reason.clone());
        }
        let server = Arc::new(Server {
            id: ServerId::new(slot),
            config,
            tail,
            era: Memory::default(),
            tools: Arc::default(),
            shared,
            pool: Pool::default(),
            asked: Arc::default(),
            around,
            standing,
            meters: Default::default(),
        });
        meter::expect_server(server.name());
        {
            let mut current = lock(&server.standing.current);
            if current.strong_count() == 0 {
                *current = Arc::downgrade(&server);
            }
        }
        server.around.neighbours.enter(&server);
        server
    }

    /// Starts the owner thread of an enabled server, once. What the system refuses makes it a
    /// server that has failed; to restart it tries again.
    pub fn launch(self: &Arc<Self>) {
        let mut running = lock(&self.shared.thread);
        if self.config.state != ServerState::Enabled || running.is_some() {
            return;
        }
        let owner = Owner::new(self.clone(), Role::Shared, self.shared.clone());
        let name = format!("own:{}", self.config.name);
        match thread::spawn(&name, limits::STACK_WORKER_BYTES, move || owner.run()) {
            Ok(thread) => *running = Some(thread),
            Err(error) => {
                drop(running);
                let why = format!("cannot be started, there is no thread for it: {error}");
                self.update(&Role::Shared, &self.shared, |status, _| {
                    if status.state != State::Failed {
                        log::error!("server not started server={:?}: it {why}", self.name());
                    }
                    status.state = State::Failed;
                    status.last_error = Some(why);
                });
            }
        }
    }

    /// Tries once more what `launch` was refused. True when it has to be tried again.
    pub(crate) fn launch_again(self: &Arc<Self>) -> bool {
        let lacks_thread = || lock(&self.shared.thread).is_none();
        let wanted = self.config.state == ServerState::Enabled && !self.shared.signals.must_stop();
        if !wanted || !lacks_thread() {
            return false;
        }
        self.launch();
        lacks_thread()
    }

    /// From now on this handle serves.
    pub fn take_over(self: &Arc<Self>) {
        *lock(&self.standing.current) = Arc::downgrade(self);
        self.shared.signals.wishes_changed();
    }

    /// The handle that serves in the place of this one, which may be itself.
    pub fn current(self: &Arc<Self>) -> Arc<Server> {
        let current = lock(&self.standing.current).upgrade();
        current.unwrap_or_else(|| self.clone())
    }

    /// The owner of the handle that serves looks at what is wanted.
    fn wishes_have_changed(&self) {
        let current = lock(&self.standing.current).upgrade();
        if let Some(current) = current {
            current.shared.signals.wishes_changed();
        }
    }

    pub(crate) fn egress_allow(&self) -> &[Allowed] {
        &self.around.egress_allow
    }

    /// How requests of `principal` get in; `None` when they do not go over HTTP, or by what the
    /// entry says.
    pub(crate) fn login_of(&self, principal: Option<&str>) -> Option<Arc<Login>> {
        let spec = self.config.remote.as_ref()?;
        if spec.within.is_some() {
            // Nobody wrote it down: no token of anybody goes there.
            return None;
        }
        let principal = principal.filter(|_| spec.is_per_principal());
        let logins = &self.around.logins;
        logins.of(self.name(), principal, spec, &self.around.egress_allow)
    }

    /// Each principal is somebody else there.
    pub fn serves_principals_only(&self) -> bool {
        let spec = self.config.remote.as_ref();
        spec.is_some_and(RemoteSpec::is_per_principal)
    }

    fn login_at(&self, principal: Option<&str>) -> Result<Arc<Login>, String> {
        let spec = self.config.remote.as_ref();
        let spec = spec.ok_or("is no server over HTTP: nobody logs in there")?;
        if spec.within.is_some() {
            return Err("was found by discovery: write it under mcpServers to log in".to_owned());
        }
        if principal.is_some() && !spec.is_per_principal() {
            return Err("has one login for all: \"tokens\" in its \"oauth\" says so".to_owned());
        }
        if spec
            .oauth
            .as_ref()
            .is_some_and(|oauth| oauth.grant == Grant::ClientCredentials)
        {
            return Err("gets its tokens by itself (client_credentials)".to_owned());
        }
        let login = self.login_of(principal);
        login.ok_or_else(|| "is given an \"Authorization\" in its \"headers\"".to_owned())
    }

    /// Begins a login that a person allows in a browser.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn begin_login(
        &self,
        principal: Option<&str>,
        caught_at: (&str, bool),
    ) -> Result<Begun, String> {
        let login = self.login_at(principal)?;
        self.around.logins.begin(&login, caught_at)
    }

    /// The browser came back with this query.
    ///
    /// # Errors
    /// Why the login has not come to its end.
    pub fn finish_login(self: &Arc<Self>, query: &str) -> Result<(), String> {
        self.around.logins.finish(self.name(), query)?;
        let state = self.status().state;
        if state.is_settled() && state != State::Ready {
            // It was down for want of this. Whatever else hinders it is told in its state.
            drop(self.restart());
        }
        Ok(())
    }

    /// Ends a login; false when there was none. What is under way goes on.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn log_out(&self, principal: Option<&str>) -> Result<bool, String> {
        Ok(self.login_at(principal)?.log_out())
    }

    /// The logins at this server, each with the principal that it is of.
    pub fn logins(&self) -> Vec<(Option<String>, Arc<Login>)> {
        let names = self.around.logins.principals(self.name()).into_iter();
        let named = names.filter(|name| !name.is_empty()).map(Some);
        let all = std::iter::once(None).chain(named);
        let all = all.filter_map(|name| Some((name.clone(), self.login_of(name.as_deref())?)));
        all.collect()
    }

    /// The document that describes this gateway as a client of the server's.
    pub fn client_document(&self) -> Option<String> {
        self.config.remote.as_ref()?;
        self.around.logins.document(self.name())
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What measures calls of `method` that are about no tool or prompt.
    pub fn meter(&self, method: Method) -> Option<Arc<Meter>> {
        let look_up = || meter::of_method(self.name(), method);
        self.meters[method as usize].get_or_init(look_up).clone()
    }

    pub fn status(&self) -> Status {
        self.shared.status()
    }

    pub fn is_enabled(&self) -> bool {
        self.config.state != ServerState::Disabled
    }

    /// What the shared process said in its last handshake.
    pub fn hello(&self) -> Option<Hello> {
        lock(&self.shared.slot).hello.clone()
    }

    /// The shared process, if it is up.
    pub fn shared_link(&self) -> Option<Arc<Link>> {
        lock(&self.shared.slot).link.clone()
    }

    /// Calls of clients at work in all its processes.
    pub fn calls(&self) -> usize {
        let beside = self.pool.all();
        let links = beside
            .iter()
            .map(|instance| lock(&instance.slot).link.clone());
        let links = links.flatten().chain(self.shared_link());
        links.map(|link| link.client_calls()).sum()
    }

    /// Calls that wait for a process to be up.
    pub fn waiting(&self) -> usize {
        let beside = self.pool.all();
        let beside = beside.iter().map(|instance| lock(&instance.slot).waiting);
        lock(&self.shared.slot).waiting + beside.sum::<usize>()
    }

    /// Bytes of messages that its processes have not taken yet.
    pub fn queued_bytes(&self) -> usize {
        let beside = self.pool.all();
        let links = beside
            .iter()
            .map(|instance| lock(&instance.slot).link.clone());
        let links = links.flatten().chain(self.shared_link());
        links
            .filter_map(|link| Some(link.outlet()?.queued_bytes()))
            .sum()
    }

    /// Its processes that are up, or on their way.
    pub fn processes(&self) -> usize {
        let beside = self.pool.all();
        let beside = beside.iter().filter(|instance| instance.is_living());
        usize::from(self.status().pid.is_some()) + beside.count()
    }

    /// Whether the servers that it needs let it start.
    pub(crate) fn turn(&self) -> Turn {
        Turn::of(&self.around.neighbours.needs(&self.config.depends_on))
    }

    /// Ends its processes and starts the shared one at once, whatever became of it before. Calls
    /// in flight get an error, later ones wait for the start. Returns at once.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn restart(self: &Arc<Self>) -> Result<(), String> {
        match &self.config.state {
            ServerState::Enabled => {}
            ServerState::Disabled => return Err("is disabled; enable it instead".to_owned()),
            ServerState::Invalid(reason) => return Err(format!("cannot be started: {reason}")),
        }
        if self.shared.signals.must_stop() {
            return Err("is being stopped".to_owned());
        }
        log::info!("restart asked for server={:?}", self.name());
        // Under the lock: what the owner writes next comes after this.
        self.update(&Role::Shared, &self.shared, |status, link| {
            self.shared.signals.restart();
            *link = None;
            status.begin();
        });
        self.pool.restart();
        self.launch();
        Ok(())
    }

    pub(crate) fn refresh_window(&self) -> Duration {
        self.around.refresh_window.get()
    }

    pub(crate) fn starts(&self) -> &Gate {
        &self.around.starts
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The link that a call must use. Waits for a start that is under way, but not for a restart.
    ///
    /// # Errors
    /// An error that names the server, its state and what comes next.
    pub fn link_for(self: &Arc<Self>, caller: &Caller<'_>) -> Result<Lease, RpcError> {
        if self.serves_principals_only() && caller.principal().is_none() {
            let detail = "serves only clients that have shown who they are (\"tokens\" in its \
                          \"oauth\"): switch authorization on";
            return Err(RpcError::gateway(Reason::BadUpstream, self.name(), detail));
        }
        let deadline = Instant::now() + limits::START_WAIT;
        let whose = self.whose(caller);
        // A living process of the caller's own needs nobody else.
        let is_up = whose
            .as_ref()
            .is_some_and(|whose| self.pool.living(whose).is_some());
        if !is_up {
            let shared = self.shared.link(deadline, &self.around.closing);
            let link = shared.map_err(|status| self.unavailable(&status))?;
            if whose.is_none() {
                return Ok(Lease::shared(link));
            }
        }
        self.seat(caller, whose)
    }

    /// Whose process the calls of `caller` run on; `None` is everybody's. Those that a server may
    /// ask something stand alone once it has asked: a question names no call on stdio.
    fn whose(&self, caller: &Caller<'_>) -> Option<Whose> {
        let asked = Asks::from_bits(self.asked.load(Ordering::Relaxed));
        // One that has become stateless asks nobody.
        let may_be_asked = !asked.is_empty() && asked.meets(caller.asks()) && !self.is_stateless();
        match (self.config.instances, caller) {
            (Instances::Shared, _) => None,
            (Instances::Session, Caller::Session(face)) => {
                Some(Whose::Session(face.session.clone()))
            }
            (Instances::Principal, _) if caller.principal().is_some() => caller
                .principal()
                .map(|name| Whose::Principal(name.to_owned())),
            // Most servers never ask: their calls pay for no name.
            (_, Caller::Session(_)) if !may_be_asked && self.pool.is_empty() => None,
            (_, Caller::Session(face)) => {
                let own = Whose::Session(face.session.clone());
                (may_be_asked || self.pool.living(&own).is_some()).then_some(own)
            }
            // Two calls of one principal may run at once: a question must find the right one.
            (_, Caller::Stateless(_)) => may_be_asked.then_some(Whose::OneCall(0)),
        }
    }

    fn seat(
        self: &Arc<Self>,
        caller: &Caller<'_>,
        whose: Option<Whose>,
    ) -> Result<Lease, RpcError> {
        if let Caller::Session(face) = caller
            && face.ended.load(Ordering::Acquire)
        {
            let detail = "is not started for a session that has ended";
            return Err(RpcError::gateway(Reason::Draining, self.name(), detail));
        }
        let most = self.config.max_instances;
        let deadline = Instant::now() + limits::POOL_WAIT;
        let make = |_: &Whose| self.start_beside(caller);
        let taken = match whose {
            Some(whose @ (Whose::Session(_) | Whose::Principal(_))) => {
                self.pool.seat(&whose, most, deadline, make)
            }
            _ => self.pool.seat_alone(most, deadline, make),
        };
        let (whose, instance) = match taken {
            Ok(taken) => taken,
            // Better than none: there it is served, though it may not be asked.
            Err(NoSeat::Full) if self.config.instances == Instances::Auto => {
                let shared = self.shared.link(Instant::now(), &self.around.closing);
                let link = shared.map_err(|status| self.unavailable(&status))?;
                return Ok(Lease::shared(link));
            }
            Err(error) => return Err(self.no_seat(error)),
        };
        // Given back on every way out of here.
        let seat = |link: Arc<Link>| Lease::seated(link, self.clone(), whose.clone());
        match instance.link(Instant::now() + limits::START_WAIT, &self.around.closing) {
            Ok(link) => Ok(seat(link)),
            Err(status) => {
                self.pool.give_back(&whose);
                Err(self.unavailable(&status))
            }
        }
    }

    fn no_seat(&self, error: NoSeat) -> RpcError {
        let (reason, detail) = match error {
            NoSeat::Stopping => {
                let detail = "is stopped: the gateway is shutting down";
                (Reason::Draining, detail.to_owned())
            }
            NoSeat::Full => {
                let detail = "has as many processes as it may have, and all are in use; \
                              call again in a moment or raise \"maxInstances\"";
                (Reason::Busy, detail.to_owned())
            }
            NoSeat::Failed(error) => (Reason::Busy, format!("cannot be started: {error}")),
        };
        RpcError::gateway(reason, self.name(), &detail)
    }

    /// One more process beside the shared one.
    fn start_beside(self: &Arc<Self>, caller: &Caller<'_>) -> std::io::Result<Arc<Instance>> {
        let role = match caller {
            Caller::Session(face) => Role::Session((*face).clone()),
            Caller::Stateless(face) => Role::Beside(face.principal.map(str::to_owned)),
        };
        let instance = Instance::new(State::Pending);
        let owner = Owner::new(self.clone(), role, instance.clone());
        let name = format!("own:{}", self.config.name);
        let thread = thread::spawn(&name, limits::STACK_WORKER_BYTES, move || owner.run())?;
        *lock(&instance.thread) = Some(thread);
        Ok(instance)
    }

    /// The processes that are up and may have tasks of a session, each with the right to use it.
    pub fn leases(self: &Arc<Self>, face: &SessionFace) -> Vec<Lease> {
        let session = Whose::Session(face.session.clone());
        let principal = face.principal.clone().map(Whose::Principal);
        let own = [Some(session), principal].into_iter().flatten();
        let own = own.filter_map(|whose| {
            let instance = self.pool.seat_living(&whose)?;
            match lock(&instance.slot).link.clone() {
                Some(link) => Some(Lease::seated(link, self.clone(), whose)),
                None => {
                    self.pool.give_back(&whose);
                    None
                }
            }
        });
        let shared = self.shared_link().map(Lease::shared);
        shared.into_iter().chain(own).collect()
    }

    /// The process of one session, if it has one that is up.
    pub fn session_link(&self, session: &str) -> Option<Arc<Link>> {
        let instance = self.pool.living(&Whose::Session(session.to_owned()))?;

        lock(&instance.slot).link.clone()
    }

    /// Ends the process of a session that is over. Returns at once; `reap_sessions` joins.
    pub fn end_session(&self, session: &str) {
        self.pool.end(&Whose::Session(session.to_owned()));
    }

    /// Ends processes that nobody has used for long, and forgets those that have ended.
    pub fn reap_instances(&self) {
        let is_kept = |whose: &Whose| {
            // Asked for in so many words: it stays as long as its session.
            matches!(whose, Whose::Session(_)) && self.config.instances == Instances::Session
        };
        self.pool.reap(self.config.instance_idle, is_kept);
    }

    fn unavailable(&self, status: &Status) -> RpcError {
        let cause = status.last_error.as_deref().unwrap_or("no cause is known");
        let again = match status
            .retry_at
            .map(|at| at.saturating_duration_since(Instant::now()))
        {
            Some(left) if left > Duration::ZERO => {
                format!("; next try in {} s", left.as_secs_f64().ceil())
            }
            _ => String::new(),
        };
        let is_closing = self.around.closing.load(Ordering::Acquire);
        let (reason, detail) = match status.state {
            State::Pending | State::Loading if is_closing => (
                Reason::Draining,
                "cannot be called: the gateway is shutting down".to_owned(),
            ),
            State::Pending if status.waiting_for.is_some() => (
                Reason::Starting,
                format!(
                    "waits for {:?} to be ready; call again in a moment",
                    status.waiting_for.as_deref().unwrap_or_default()
                ),
            ),
            State::Pending | State::Loading => (
                Reason::Starting,
                "is still starting; call again in a moment".to_owned(),
            ),
            State::Restarting => (Reason::Restarting, format!("is restarting: {cause}{again}")),
            State::CrashLoop => (Reason::Crashed, format!("keeps dying: {cause}{again}")),
            State::AwaitingOauth => (Reason::BadUpstream, format!("wants a login: {cause}")),
            State::Stopped => (Reason::Draining, format!("is stopped: {cause}")),
            State::Disabled => (Reason::BadUpstream, "is disabled".to_owned()),
            State::Failed | State::Ready => (
                Reason::BadUpstream,
                format!("is not available: {cause}{again}"),
            ),
        };
        RpcError::gateway(reason, self.name(), &detail)
    }

    /// Where the process of `role` sends what belongs to no call.
    pub(crate) fn outlook(&self, role: &Role) -> Outlook {
        let session = match role {
            Role::Shared | Role::Beside(_) => None,
            Role::Session(face) => Some(face.session.clone()),
        };
        Outlook {
            server: self.id,
            session,
            asked: self.asked.clone(),
            roots: self.around.roots.clone(),
            router: self.around.router.clone(),
        }
    }

    /// For the owner thread of `role`: changes the state and says so.
    pub(crate) fn update(
        &self,
        role: &Role,
        instance: &Instance,
        change: impl FnOnce(&mut Status, &mut Option<Arc<Link>>),
    ) {
        instance.update(change);
        if matches!(role, Role::Shared) {
            let _ = self.around.router.send(Event::Status { server: self.id });
        }
    }

    pub(crate) fn send(&self, event: Event) {
        let _ = self.around.router.send(event);
    }

    /// Counts one more session that wants `uri`. True when the server has not agreed to anybody
    /// yet: then this session asks it too.
    pub fn subscribe(&self, uri: &str) -> bool {
        let mut subscriptions = lock(&self.standing.subscriptions);
        let subscription = subscriptions.entry(uri.to_owned()).or_default();
        subscription.sessions += 1;
        // A stateless server is asked by its owner.
        self.wishes_have_changed();
        !subscription.agreed
    }

    /// The server has agreed to the subscription.
    pub fn confirm_subscription(&self, uri: &str) {
        let is_news = match lock(&self.standing.subscriptions).get_mut(uri) {
            Some(subscription) => !std::mem::replace(&mut subscription.agreed, true),
            None => false,
        };
        if is_news {
            self.tell_beside("resources/subscribe", uri);
        }
    }

    /// What processes hear that are neither shared nor a session's: a call there may change what
    /// somebody watches.
    fn tell_beside(&self, method: &str, uri: &str) {
        if self.config.instances.is_per_session() {
            return;
        }
        let params = format!("{{\"uri\":{}}}", quoted(uri));
        for instance in self.pool.beside() {
            let link = lock(&instance.slot).link.clone();
            let Some(link) = link.filter(|link| !link.is_stateless()) else {
                continue;
            };
            if let Err(error) = link.request(method, &params, Mailbox::new(1).sender()) {
                log::debug!(
                    "{method} not told server={:?}: {}",
                    self.name(),
                    error.message
                );
            }
        }
    }

    /// Counts one less. True when it was the last.
    pub fn unsubscribe(&self, uri: &str) -> bool {
        let mut subscriptions = lock(&self.standing.subscriptions);
        let Some(subscription) = subscriptions.get_mut(uri) else {
            return false;
        };
        subscription.sessions -= 1;
        if subscription.sessions > 0 {
            return false;
        }
        let was_agreed = subscriptions.remove(uri).is_some_and(|one| one.agreed);
        drop(subscriptions);
        self.wishes_have_changed();
        if was_agreed {
            self.tell_beside("resources/unsubscribe", uri);
        }
        true
    }

    /// The resources that a session wants to hear of are others: for a process of its own that
    /// is stateless they are a part of what it is asked to tell.
    pub fn wishes_changed(&self, session: &str) {
        let own = self.pool.living(&Whose::Session(session.to_owned()));
        if let Some(instance) = own {
            instance.signals.wishes_changed();
        }
    }

    /// True once after it said that a list changed: for gateways that have the same server.
    pub fn take_lists_said(&self) -> bool {
        self.shared.signals.take_lists_said()
    }

    /// Whether it is reached over HTTP, and no process of ours.
    pub fn is_remote(&self) -> bool {
        self.config.remote.is_some()
    }

    /// What `take_lists_said` gave was not told.
    pub fn say_lists(&self) {
        self.shared.signals.say_lists();
    }

    /// Another gateway heard that its lists changed: they are read again.
    pub fn doubt_lists(&self) {
        self.shared.signals.doubt_lists();
    }

    /// Whether it spoke the stateless revision when it was last up.
    pub fn is_stateless(&self) -> bool {
        let slot = lock(&self.shared.slot);
        let hello = slot.hello.as_ref();
        hello.is_some_and(|hello| hello.era.is_stateless())
    }

    /// There is no room for another resource in what it is asked to tell of.
    pub fn has_all_subscriptions(&self) -> bool {
        lock(&self.standing.subscriptions).len() >= limits::LISTEN_RESOURCES
    }

    /// Counts one more subscription that wants to hear of a task of the shared process. False when
    /// there is no room for it.
    pub fn watch_task(&self, id: &str) -> bool {
        let mut watched = lock(&self.standing.watched_tasks);
        if watched.len() >= limits::LISTEN_TASKS && !watched.contains_key(id) {
            return false;
        }
        *watched.entry(id.to_owned()).or_default() += 1;
        drop(watched);
        self.wishes_have_changed();
        true
    }

    pub fn unwatch_task(&self, id: &str) {
        let mut watched = lock(&self.standing.watched_tasks);
        if let Some(count) = watched.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                watched.remove(id);
                drop(watched);
                self.wishes_have_changed();
            }
        }
    }

    pub(crate) fn watched_tasks(&self) -> Vec<String> {
        lock(&self.standing.watched_tasks).keys().cloned().collect()
    }

    pub(crate) fn subscribed_uris(&self) -> Vec<String> {
        lock(&self.standing.subscriptions).keys().cloned().collect()
    }

    /// Asks the shared process for log messages of `level` and above. Sessions filter theirs.
    pub fn set_level(&self, level: Level) {
        *lock(&self.standing.level) = Some(level);
        if let Some(link) = self.shared_link() {
            send_level(&link, level);
        }
    }

    /// What the shared process was told last.
    pub fn level(&self) -> Option<Level> {
        *lock(&self.standing.level)
    }

    /// None of its processes works at anything for anybody.
    pub fn is_quiet(&self) -> bool {
        let is_at_rest = |instance: &Instance| {
            let slot = lock(&instance.slot);
            let (link, now) = (slot.link.clone(), Instant::now());
            slot.waiting == 0
                && link.is_none_or(|link| {
                    link.is_quiet() && !link.is_held() && !link.tasks().are_open(now)
                })
        };
        is_at_rest(&self.shared) && self.pool.all().iter().all(|instance| is_at_rest(instance))
    }

    /// The gateway is closing: whoever waits for a process of this server looks again.
    pub fn wake_waiting(&self) {
        self.pool.close();
        let beside = self.pool.all();
        beside.iter().for_each(|instance| instance.wake());
        self.shared.wake();
    }

    /// Tells every process of this server to end; `join` waits for them.
    pub fn stop(&self) {
        self.stop_within(limits::STOP_EOF + limits::STOP_TERM);
    }

    /// The same, with so much time for each before it is killed.
    pub fn stop_within(&self, patience: Duration) {
        self.pool.stop(patience);
        self.shared.signals.stop_within(patience);
    }

    /// Waits until all its processes are over; false at the deadline.
    pub fn wait_stopped(&self, deadline: Instant) -> bool {
        self.shared.wait_stopped(deadline) && self.pool.wait_stopped(deadline)
    }

    pub fn join(&self) {
        self.pool.join();
        self.shared.join();
    }
}

/// Tells a server that declares logging. A stateless one hears it with each request instead.
pub fn send_level(link: &Link, level: Level) {
    let declares = |hello: &Hello| !hello.era.is_stateless() && hello.declares("logging");
    if link.hello().is_some_and(declares) {
        link.tell_level(level);
    }
}

/// For the status of a server that has just become ready.
pub(crate) fn connected_now() -> Option<String> {
    Some(time::now_rfc3339())
}
