//! The thread "config": takes another configuration into force. It looks at the files, waits
//! until they rest, reads and checks them whole, and compares (`config::plan`). Then it starts
//! what is new and gives the router one order. A bad file changes nothing and is told in the
//! log, in health and to whoever asked.
//!
//! Deliberately absent: which handle serves when (`router`), the end of those that leave
//! (`fleet`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, at, bounded, never, select};
use serde::Serialize;

use crate::auth::Auth;
use crate::base::sorted::SortedMap;
use crate::base::thread::{self, Rest};
use crate::base::{limits, notify, time};
use crate::config::discovery::sources;
use crate::config::fingerprint::Fingerprint;
use crate::config::plan::{Change, Plan, hold_lacking, newly_broken, plan};
use crate::config::problem::{Problem, Scope};
use crate::config::server::{ServerConfig, ServerState};
use crate::config::settings::Settings;
use crate::config::{Config, LoadError};
use crate::front::standing::{Attempt, Configured};
use crate::gateway::discovery::Discovery;
use crate::gateway::discovery::board::Board;
use crate::gateway::fleet::Fleet;
use crate::gateway::router::Order;
use crate::gateway::telemetry::Wishes;
use crate::gateway::witnessed;
use crate::journal;
use crate::journal::alert::Alerts;
use crate::journal::fact::{Fact, note};
use crate::relay::world::Fixed;
use crate::secrets::refresher::Refresher;
use crate::secrets::store::Store;
use crate::upstream::server::Server;

/// Reads the configuration from where it came from.
pub struct Loader {
    pub load: Box<dyn Fn() -> Result<Config, LoadError> + Send>,
    /// What it asks for secrets.
    pub secrets: Arc<Store>,
}

/// What a change came to: names of servers, keys of settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Of the configuration in force now.
    pub version: u64,
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Started anew.
    pub replaced: Vec<String>,
    /// Changed without a new process.
    pub updated: Vec<String>,
    pub settings: Vec<String>,
    pub needs_restart: Vec<String>,
    /// Servers that go on as they were, because a secret or a file is not there.
    pub held: Vec<String>,
    /// Why, one text for each thing that is missing.
    #[serde(skip)]
    pub lacks: Vec<String>,
}

/// Why nothing changed, one line each.
pub type Refused = Vec<String>;

type Outcome = Result<Report, Refused>;

enum Request {
    Load(Sender<Outcome>),
    Switch {
        name: String,
        enabled: bool,
        answer: Sender<Outcome>,
    },
    Stop,
}

/// The way to the thread.
pub struct Reload {
    requests: Sender<Request>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Where there are providers of secrets that have to be asked.
    refresher: Option<Refresher>,
    discovery: Discovery,
}

/// What the thread works with.
pub struct Keeper {
    /// As it was read last, with what was switched by hand.
    config: Config,
    /// As the files said it last, without what was found or switched.
    written: Config,
    /// What was found beside it.
    board: Arc<Board>,
    /// What the process was started with: some settings stay as they were then.
    started: Config,
    /// The settings of the files, whether they count by now or not.
    files: Settings,
    loader: Option<Loader>,
    /// Switched on or off by hand, each with whether the files said `disabled` then.
    switched: SortedMap<String, Switched>,
    /// The newest handle of each server.
    handles: SortedMap<String, Arc<Server>>,
    /// What stays from one configuration to the next.
    base: Arc<Fixed>,
    fleet: Arc<Fleet>,
    orders: Sender<Order>,
    configured: Arc<Configured>,
    /// How often slow providers of secrets are asked.
    refresh_ms: Arc<AtomicU64>,
    alerts: Arc<Alerts>,
    auth: Option<Arc<Auth>>,
    wishes: Wishes,
}

/// What the thread shares with others.
pub type Parts = (Arc<Fleet>, Sender<Order>, Arc<Configured>, Wishes);

#[derive(Clone, Copy)]
struct Switched {
    enabled: bool,
    was_disabled: bool,
    /// Nobody wrote it down: it may come and go.
    is_found: bool,
}

/// What the files looked like, and since when they rest.
struct Look {
    paths: Vec<PathBuf>,
    print: Fingerprint,
    next: Instant,
    changed: Option<Instant>,
    /// `Store::changes` when they were read.
    secrets: u64,
    /// What was read before the thread looked may be old.
    is_first: bool,
}

impl Reload {
    pub fn start(keeper: Keeper) -> std::io::Result<Reload> {
        let (requests, received) = bounded(limits::RELOAD_REQUESTS);
        let refresher = keeper.refresher()?;
        let discovery = Discovery::start(&keeper.board, &keeper.folder())?;
        let thread = thread::spawn("config", limits::STACK_WORKER_BYTES, move || {
            keeper.run(&received);
        })?;
        let thread = Mutex::new(Some(thread));
        Ok(Reload {
            requests,
            thread,
            refresher,
            discovery,
        })
    }

    /// Reads the files now, whether they have changed or not.
    ///
    /// # Errors
    /// What is wrong with them, or that it takes too long; then nothing has changed.
    pub fn reload(&self, deadline: Instant) -> Outcome {
        self.ask(Request::Load, deadline)
    }

    /// Starts or ends a server by hand. This holds until the gateway ends or the entry's own
    /// `disabled` is changed in the files.
    ///
    /// # Errors
    /// That there is no such server, or that it takes too long.
    pub fn set_enabled(&self, name: &str, enabled: bool, deadline: Instant) -> Outcome {
        let name = name.to_owned();
        let request = |answer| Request::Switch {
            name,
            enabled,
            answer,
        };
        self.ask(request, deadline)
    }

    /// The same as `reload`, without waiting for what comes of it.
    pub fn begin(&self) {
        let (answer, _) = bounded(1);
        if self.requests.try_send(Request::Load(answer)).is_err() {
            log::debug!("reload not begun: as many wait already as may");
        }
    }

    fn ask(&self, request: impl FnOnce(Sender<Outcome>) -> Request, deadline: Instant) -> Outcome {
        let (answer, outcome) = bounded(1);
        let busy = |what: &str| vec![format!("the configuration is not changed: {what}")];
        self.requests
            .send_deadline(request(answer), deadline)
            .map_err(|_| busy("too many wait for that"))?;
        match outcome.recv_deadline(deadline) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(busy("it takes too long, and goes on")),
            Err(RecvTimeoutError::Disconnected) => Err(busy("the gateway is shutting down")),
        }
    }

    /// Ends the thread: the configuration stays as it is.
    pub fn stop(&self) {
        // First of all: the thread may wait for a vault.
        self.refresher.iter().for_each(Refresher::stop);
        self.discovery.stop();
        // The thread reads all the time; gone already is as good.
        let _ = self.requests.send(Request::Stop);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            log::error!("config thread panicked");
        }
    }
}

impl Keeper {
    pub fn new(
        config: Config,
        loader: Option<Loader>,
        base: Arc<Fixed>,
        (fleet, orders, configured, wishes): Parts,
        (alerts, auth): (Arc<Alerts>, Option<Arc<Auth>>),
    ) -> Keeper {
        let named = |server: &Arc<Server>| (server.name().to_owned(), server.clone());
        Keeper {
            handles: base.servers.iter().map(named).collect(),
            files: config.settings.clone(),
            refresh_ms: Arc::new(AtomicU64::new(refresh_ms(&config.settings))),
            board: Arc::new(Board::new(sources(&config.settings), configured.clone())),
            started: config.clone(),
            written: config.clone(),
            switched: SortedMap::new(),
            config,
            loader,
            base,
            fleet,
            orders,
            configured,
            alerts,
            auth,
            wishes,
        }
    }

    /// Where relative paths start.
    fn folder(&self) -> PathBuf {
        let path = self.config.path.as_ref();
        let absolute = path.and_then(|path| std::path::absolute(path).ok());
        let folder = absolute.as_deref().and_then(Path::parent);
        folder.map_or_else(PathBuf::new, Path::to_path_buf)
    }

    fn refresher(&self) -> std::io::Result<Option<Refresher>> {
        let Some(loader) = self
            .loader
            .as_ref()
            .filter(|loader| loader.secrets.is_slow())
        else {
            return Ok(None);
        };
        let refresh_ms = self.refresh_ms.clone();
        let pause = move || Duration::from_millis(refresh_ms.load(Ordering::Relaxed));
        Refresher::start(loader.secrets.clone(), Box::new(pause)).map(Some)
    }

    fn run(mut self, requests: &Receiver<Request>) {
        let now = Instant::now();
        // Between the first reading and now something may have changed.
        let mut look = Look {
            paths: self.config.watched.clone(),
            print: Fingerprint::of(&self.config.watched),
            next: now,
            changed: Some(now),
            secrets: self.secrets_changes(),
            is_first: true,
        };
        let changes = self.board.changes();
        let mut settled = None;
        let mut rest = Rest::after_work();
        loop {
            let clock = match self.is_watching() {
                true => at(look.next),
                false => never(),
            };
            // All launches are of this thread, so what lacks a thread here was refused one.
            // Who leaves for want of it is noticed at the next turn.
            let refused = match self.fleet.catch_up() {
                true => at(Instant::now() + limits::CONFIG_LOOK),
                false => never(),
            };
            let findings = match settled.into_iter().chain(self.board.due()).min() {
                Some(due) => at(due),
                None => never(),
            };
            let quiet = rest.due().map_or_else(never, at);
            select! {
                recv(requests) -> request => match request {
                    Ok(Request::Load(answer)) => {
                        rest.worked();
                        let outcome = self.reload(&mut look, true);
                        // Who asked may be gone.
                        let _ = answer.try_send(outcome);
                    }
                    Ok(Request::Switch { name, enabled, answer }) => {
                        let _ = answer.try_send(self.switch(&name, enabled));
                    }
                    Ok(Request::Stop) | Err(_) => return,
                },
                recv(clock) -> _ => self.look(&mut look),
                recv(refused) -> _ => {}
                recv(quiet) -> _ => {
                    rest.look();
                }
                recv(changes) -> _ => {
                    settled.get_or_insert_with(|| Instant::now() + limits::DISCOVERY_SETTLE);
                }
                recv(findings) -> _ => {
                    settled = None;
                    self.take_findings();
                }
            }
        }
    }

    fn is_watching(&self) -> bool {
        self.loader.is_some() && self.config.settings.enable_config_reload
    }

    fn secrets_changes(&self) -> u64 {
        let loader = self.loader.as_ref();
        loader.map_or(0, |loader| loader.secrets.changes())
    }

    /// Files that were changed and rest now are read.
    fn look(&mut self, look: &mut Look) {
        let now = Instant::now();
        let debounce = self.config.settings.config_reload_debounce;
        let print = Fingerprint::of(&look.paths);
        let secrets = self.secrets_changes();
        if print != look.print || secrets != look.secrets {
            (look.print, look.secrets) = (print, secrets);
            look.changed = Some(now);
        }
        match look.changed {
            Some(changed) if now.duration_since(changed) >= debounce && look.is_first => {
                look.is_first = false;
                if !self.is_in_force(look) {
                    look.changed = Some(changed);
                }
            }
            Some(changed) if now.duration_since(changed) >= debounce => {
                // Whoever is to know is told by `reload`.
                let _ = self.reload(look, false);
            }
            _ => {}
        }
        let pause = match look.changed {
            Some(_) => debounce.clamp(LOOK_AT_LEAST, limits::CONFIG_LOOK),
            None => limits::CONFIG_LOOK,
        };
        look.next = now + pause;
    }

    /// Whether the files say what is in force; nothing is told of that.
    fn is_in_force(&self, look: &mut Look) -> bool {
        let loaded = self.loader.as_ref().map(|loader| look.read(loader));
        let Some(Ok(mut config)) = loaded else {
            return false;
        };
        config.keep_lost_presets(&self.config);
        plan(&self.started, &config).is_empty()
    }

    /// `is_asked`: somebody wants to know, also that nothing has changed.
    fn reload(&mut self, look: &mut Look, is_asked: bool) -> Outcome {
        let Some(loader) = &self.loader else {
            return Err(vec!["this gateway was not started from a file".to_owned()]);
        };
        notify::reloading();
        if is_asked {
            loader.secrets.doubt();
        }
        let loaded = look.read(loader);
        let outcome = match loaded {
            Ok(config) => match self.broken_anew(&config) {
                problems if problems.is_empty() => self.take_what_is_there(config),
                problems => Err(problems),
            },
            Err(error) => Err(error.to_string().lines().map(str::to_owned).collect()),
        };
        self.tell(&outcome, is_asked);
        notify::reloaded(match &outcome {
            Ok(_) => "serving",
            Err(_) => "serving, the configuration was not changed because it has errors",
        });
        outcome
    }

    /// A file that breaks an entry is as bad as one that cannot be read: what works goes on. An
    /// entry that was broken before hurts nothing that works.
    fn broken_anew(&self, config: &Config) -> Refused {
        if newly_broken(&self.config, config).is_empty() {
            return Vec::new();
        }
        let problems = config.problems.iter().filter(|problem| problem.is_error());
        problems.map(ToString::to_string).collect()
    }

    /// What lacks a secret or a file goes on as it was, and all else is carried out.
    fn take_what_is_there(&mut self, mut config: Config) -> Outcome {
        let held = hold_lacking(&self.config, &mut config);
        let is_of_held = |problem: &&Problem| match &problem.scope {
            Scope::Server(name) => problem.is_error() && held.contains(name),
            _ => false,
        };
        let lacks = config.problems.iter().filter(is_of_held);
        let lacks = lacks.map(ToString::to_string).collect();
        config.keep_lost_presets(&self.config);
        self.written = config.clone();
        let config = self.with_findings(config);
        let report = self.take(config)?;
        Ok(Report {
            held,
            lacks,
            ..report
        })
    }

    fn with_findings(&mut self, mut config: Config) -> Config {
        self.board.merge_into(&mut config);
        self.switched_by_hand(config)
    }

    /// The sources say something else, the files do not.
    fn take_findings(&mut self) {
        let config = self.with_findings(self.written.clone());
        match self.take(config) {
            Ok(report) if !report.is_unchanged() => report.tell(),
            Ok(_) => {}
            Err(problems) => log::error!("findings not taken: {problems:?}"),
        }
    }

    /// What was switched by hand stays so, until the files say something new of it.
    fn switched_by_hand(&mut self, mut config: Config) -> Config {
        self.switched.retain(|name, switched| {
            let found = config
                .servers
                .iter_mut()
                .find(|server| server.name == *name);
            let Some(server) = found else {
                return switched.is_found;
            };
            let says = server.state == ServerState::Disabled;
            says == switched.was_disabled && switch(server, switched.enabled)
        });
        config
    }

    fn switch(&mut self, name: &str, enabled: bool) -> Outcome {
        let mut config = self.config.clone();
        config.settings = self.files.clone();
        let Some(server) = config.servers.iter_mut().find(|s| s.name == name) else {
            return Err(vec![format!("there is no server {name:?}")]);
        };
        let was_disabled = match self.switched.get(name) {
            Some(switched) => switched.was_disabled,
            None => server.state == ServerState::Disabled,
        };
        let remote = server.remote.as_ref();
        let is_found = remote.is_some_and(|remote| remote.within.is_some());
        if !switch(server, enabled) {
            return Err(vec![format!(
                "server {name:?} cannot be enabled: its entry is not usable"
            )]);
        }
        let switched = Switched {
            enabled,
            was_disabled,
            is_found,
        };
        // As the files say: then nothing is switched.
        match enabled == was_disabled {
            true => self.switched.insert(name.to_owned(), switched),
            false => self.switched.remove(name),
        };
        let outcome = self.take(config);
        self.tell(&outcome, true);
        outcome
    }

    /// Carries out what is different.
    fn take(&mut self, mut config: Config) -> Outcome {
        let needs_restart = self.needs_restart(&config);
        self.files = config.settings.clone();
        config.settings = config.settings.over(&self.started.settings);
        let plan = plan(&self.config, &config);
        let mut report = report(&plan);
        report.needs_restart.clone_from(&needs_restart);
        if plan.is_empty() {
            self.config = config;
            report.version = self.configured.standing().version;
            self.configured
                .change(|standing| standing.needs_restart = needs_restart);
            return Ok(report);
        }
        self.put_in_force(&config, &plan);
        witnessed::secrets(&config, Some(&self.config));
        self.alerts.configure(&config);
        let auth = self.auth.iter();
        auth.for_each(|auth| auth.configure(&config.settings.auth));
        self.fleet.set_refresh_window(&config.settings);
        let refresh_ms = refresh_ms(&config.settings);
        self.refresh_ms.store(refresh_ms, Ordering::Relaxed);
        journal::log::adopt(&config.settings);
        self.wishes.adopt(&config);
        let switched: Vec<String> = self.switched.keys().cloned().collect();
        self.config = config;
        self.configured.change(|standing| {
            standing.version += 1;
            standing.since = time::now_rfc3339();
            standing.needs_restart = needs_restart;
            standing.switched = switched;
            report.version = standing.version;
        });
        Ok(report)
    }

    /// Starts what is new, and has the router take it in. Who leaves is ended by the router.
    fn put_in_force(&mut self, config: &Config, plan: &Plan) {
        let mut handles = SortedMap::new();
        let mut new: Vec<Arc<Server>> = Vec::new();
        let names = config.servers.iter().map(|entry| entry.name.as_str());
        self.fleet.expect(names);
        for entry in &config.servers {
            let before = self.handles.get(&entry.name);
            let handle = match (before, plan.change_of(&entry.name)) {
                (Some(before), Some(Change::Keep | Change::Metadata(_)) | None) => before.clone(),
                (before, _) => {
                    let server = self.fleet.prepare(entry.clone(), before.map(|b| &**b));
                    new.push(server.clone());
                    server
                }
            };
            handles.insert(entry.name.clone(), handle);
        }
        let entries = config.servers.iter();
        let fixed = Fixed {
            settings: Arc::new(config.settings.clone()),
            presets: Arc::new(config.presets.clone()),
            servers: entries
                .clone()
                .filter_map(|entry| handles.get(&entry.name).cloned())
                .collect(),
            entries: entries.cloned().map(Arc::new).collect(),
            ..Fixed::clone(&self.base)
        };
        self.handles = handles;
        let (done, carried_out) = bounded(0);
        // The router reads all the time. It is gone only while the gateway ends.
        if self.orders.send(Order { fixed, done }).is_ok() {
            let _ = carried_out.recv_timeout(limits::ROUTER_ORDER);
        }
        // Only now: the router would not know what they report.
        new.iter().for_each(Server::launch);
    }

    /// Settings that are read at the start only.
    fn needs_restart(&self, config: &Config) -> Vec<String> {
        let since_start = plan(&self.started, config).settings;
        let waiting = since_start.into_iter().filter(|change| !change.reloadable);
        waiting.map(|change| change.key.to_owned()).collect()
    }

    fn tell(&self, outcome: &Outcome, is_asked: bool) {
        let last = self.configured.standing().last_attempt;
        let was_refused = last.is_some_and(|attempt| !attempt.ok);
        let (lead, problems) = match outcome {
            Ok(report) => (
                "goes on as it was, something is not there",
                report.lacks.clone(),
            ),
            Err(problems) => ("configuration not changed", problems.clone()),
        };
        for problem in &problems {
            log::error!("{lead}: {problem}");
        }
        let is_whole = outcome.is_ok() && problems.is_empty();
        if !is_whole {
            note(Fact::ConfigRejected {
                problems: problems.clone(),
            });
        }
        if let Ok(report) = outcome
            && (is_asked || was_refused || !report.is_unchanged())
        {
            match is_whole {
                true => report.tell(),
                false => report.log(),
            }
        }
        let attempt = Attempt {
            at: time::now_rfc3339(),
            ok: is_whole,
            problems,
        };
        self.configured
            .change(|standing| standing.last_attempt = Some(attempt));
    }
}

impl Look {
    /// Reads files that rest: what changes while it is read was perhaps read in halves. What
    /// never rests is read again after a while.
    fn read(&mut self, loader: &Loader) -> Result<Config, LoadError> {
        self.changed = None;
        self.print = Fingerprint::of(&self.paths);
        self.secrets = loader.secrets.changes();
        let mut loaded = (loader.load)();
        for _ in 1..limits::CONFIG_READS {
            let paths = match &loaded {
                Ok(config) => config.watched.clone(),
                // Which files there are is not known; those from before are.
                Err(_) => self.paths.clone(),
            };
            let print = Fingerprint::of(&paths);
            if print == self.print {
                return loaded;
            }
            (self.paths, self.print) = (paths, print);
            loaded = (loader.load)();
        }
        self.changed = Some(Instant::now());
        loaded
    }
}

/// While files are changing they are looked at so often.
const LOOK_AT_LEAST: Duration = Duration::from_millis(50);

fn refresh_ms(settings: &Settings) -> u64 {
    u64::try_from(settings.secrets.refresh.as_millis()).unwrap_or(u64::MAX)
}

/// False when the entry cannot be used.
fn switch(server: &mut ServerConfig, enabled: bool) -> bool {
    let can_start = server.process.is_some() || server.remote.is_some();
    match (enabled, can_start) {
        (true, true) => server.state = ServerState::Enabled,
        (true, false) => return false,
        (false, _) => server.state = ServerState::Disabled,
    }
    true
}

fn report(plan: &Plan) -> Report {
    let mut report = Report::default();
    for (name, change) in &plan.servers {
        let list = match change {
            Change::Keep => continue,
            Change::Add => &mut report.added,
            Change::Remove => &mut report.removed,
            Change::Replace(_) => &mut report.replaced,
            Change::Metadata(_) => &mut report.updated,
        };
        list.push(name.clone());
    }
    let settings = plan.settings.iter();
    report.settings = settings.map(|change| change.key.to_owned()).collect();
    // A secret in them may be another one although their text is the same.
    if plan.alerts && !report.settings.iter().any(|key| key == "alerts") {
        report.settings.push("alerts".to_owned());
    }
    report
}

impl Report {
    pub fn is_unchanged(&self) -> bool {
        let lists = [
            &self.added,
            &self.removed,
            &self.replaced,
            &self.updated,
            &self.settings,
        ];
        lists.iter().all(|list| list.is_empty())
    }

    /// It is in force, whole.
    fn tell(&self) {
        self.log();
        let version = self.version;
        note(Fact::ConfigApplied { version });
        witnessed::applied(self);
    }

    fn log(&self) {
        let Report {
            version,
            added,
            removed,
            replaced,
            updated,
            settings,
            needs_restart,
            ..
        } = self;
        log::info!(
            "configuration in force version={version} added={added:?} removed={removed:?} \
             replaced={replaced:?} updated={updated:?} settings={settings:?}"
        );
        if !needs_restart.is_empty() {
            log::warn!("settings wait for a restart of the gateway: {needs_restart:?}");
        }
    }
}
