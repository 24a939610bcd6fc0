//! The whole life of one server process, top to bottom, and the only loop that restarts
//! anything. Runs on the owner thread, which lives as long as the child (its death signal is
//! bound to the thread that started it).

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::gate::Permit;
use crate::base::thread::{self, Rest};
use crate::base::{limits, time};
use crate::config::remote::RemoteSpec;
use crate::mcp::era::Era;
use crate::mcp::error::Reason;
use crate::mcp::list::ListKind;
use crate::model::backoff::Supervision;
use crate::model::hint::CacheHint;
use crate::model::listing::Listing;
use crate::upstream::agenda::Agenda;
use crate::upstream::call::{CallId, Mailbox, next_call_id};
use crate::upstream::checkup::{Checkup, Finding};
use crate::upstream::event::Event;
use crate::upstream::handshake::{ClientFace, Dialogue, Fault, Limit, Read, bound_instructions};
use crate::upstream::inbound::Inbound;
use crate::upstream::link::{Hello, Link};
use crate::upstream::listening::Filter;
use crate::upstream::outlet::{Outlet, WriterEnd};
use crate::upstream::process::{Graces, Process, Spec};
use crate::upstream::remote::Remote;
use crate::upstream::remote::greet::Greeting;
use crate::upstream::server::{
    Instance, LastExit, Server, SessionFace, State, Status, connected_now, send_level,
};
use crate::upstream::signals::{End, OwnerSignals, ProcessSignals, Told, Watch};
use crate::upstream::subscriber::Subscriber;
use crate::upstream::verdict::{Started, Verdict};
use crate::wire::lines::LineReader;

/// Whose process this is.
#[derive(Debug, Clone)]
pub enum Role {
    /// Everybody's. Its lists are the server's lists; it is restarted when it dies.
    Shared,
    /// One session's. Started at its first call, not restarted: the next call starts another.
    Session(SessionFace),
    /// For calls that stand alone, or of this principal. Started when wanted, not restarted.
    Beside(Option<String>),
}

impl Role {
    fn principal(&self) -> Option<&str> {
        match self {
            Role::Shared => None,
            Role::Session(face) => face.principal.as_deref(),
            Role::Beside(principal) => principal.as_deref(),
        }
    }
}

pub struct Owner {
    pub(super) server: Arc<Server>,
    role: Role,
    instance: Arc<Instance>,
    /// The lists as they were read last: what cannot be read again stays as it was.
    known: RefCell<Listing>,
}

/// Why a process is over.
enum Ending {
    Stopped,
    /// `next`: what the next start takes it for.
    Died {
        death: Death,
        next: Option<Verdict>,
    },
    /// Somebody asked for another process.
    Restart,
    /// The server wants a login.
    Locked(String),
    /// Our first word may have been too much for it: it is started again at once and greeted as
    /// every server of the session era knows.
    Spoilt,
}

/// How a process of the server, or the try to start one, came to its end.
pub(super) struct Death {
    pub(super) why: String,
    pub(super) last: Stage,
    pub(super) up_for: Duration,
}

/// How far it had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is nothing to run or to talk to.
    Absent,
    /// It did not say what it had to in its time.
    Silent,
    Started,
    Ready,
}

/// Why a process is served no longer.
enum Over {
    Stopped,
    Restart,
    Died(String),
}

/// A running process and the threads that serve it.
struct Running<'a> {
    watch: Watch<'a>,
    link: Arc<Link>,
    agenda: Agenda,
    subscriber: Subscriber,
    checkup: Checkup,
    /// Calls before this one are older than this.
    older: (Instant, CallId),
    /// Disconnected when all its threads have ended.
    ended: Receiver<()>,
    /// Over HTTP: what its threads hand messages to, for as long as it is held here.
    _inbound: Option<Arc<Inbound>>,
}

impl Running<'_> {
    /// A list whose changes nobody announces is read again when it is stale, but not often.
    fn expire(&mut self, kind: ListKind, hint: Option<CacheHint>, now: Instant) {
        let hello = self.link.hello();
        let is_announced = hello.is_some_and(|h| h.declares_that(kind.capability(), "listChanged"));
        if is_announced && !self.subscriber.is_refused() {
            return;
        }
        if let Some(hint) = hint.filter(|hint| hint.ttl_ms > 0) {
            let ttl = Duration::from_millis(hint.ttl_ms);
            let ttl = ttl.clamp(limits::RELIST_STALE_MIN, limits::RELIST_STALE_MAX);
            self.agenda.expires(kind, now + ttl);
        }
    }
}

impl Owner {
    pub(crate) fn new(server: Arc<Server>, role: Role, instance: Arc<Instance>) -> Owner {
        Owner {
            server,
            role,
            instance,
            known: RefCell::default(),
        }
    }

    pub(super) fn signals(&self) -> &Arc<OwnerSignals> {
        self.instance.signals()
    }

    fn is_shared(&self) -> bool {
        matches!(self.role, Role::Shared)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status, &mut Option<Arc<Link>>)) {
        self.server.update(&self.role, &self.instance, change);
    }

    pub fn run(&self) {
        let mut supervision = Supervision::new(self.server.config.restart);
        let mut known = self.recall();
        loop {
            let ending = self.run_once(&mut supervision, known);
            let name = self.server.name();
            if let (Some(why), false) = (ending.why(), self.is_shared()) {
                log::warn!("process of a session ended server={name:?}: {why}");
                return self.stopped(Some(why.to_owned()));
            }
            let told = match ending {
                Ending::Stopped => Told::Stop,
                // Who needs it starts another one.
                Ending::Restart if !self.is_shared() => return self.stopped(None),
                Ending::Restart => {
                    self.update(|status, _| status.restarts += 1);
                    Told::Restart
                }
                Ending::Spoilt => {
                    log::info!("started again without server/discover server={name:?}");
                    known = Some(Verdict::Session);
                    continue;
                }
                Ending::Locked(why) => self.pause_for_login(why),
                Ending::Died { death, next } => {
                    known = next;
                    self.pause(&mut supervision, death)
                }
            };
            match told {
                Told::Stop => break,
                Told::Restart => {
                    supervision.forget();
                    known = self.recall();
                }
                Told::Time => {}
            }
        }
        self.stopped(None);
    }

    fn stopped(&self, why: Option<String>) {
        self.update(|status, link| {
            *link = None;
            status.state = State::Stopped;
            status.pid = None;
            status.lists = None;
            status.retry_at = None;
            status.last_error = why.or(status.last_error.take());
        });
    }

    /// What it spoke when it was started last.
    fn recall(&self) -> Option<Verdict> {
        let started = Started::of(&self.server.config)?;
        self.server.era.recall(started)
    }

    fn learn(&self, link: &Link, era: Era) {
        let over_http = link.remote().and_then(|remote| remote.verdict());
        let verdict = over_http.unwrap_or(Verdict::of(era));
        if let Some(started) = Started::of(&self.server.config) {
            self.server.era.learn(started, verdict);
        }
    }

    /// One process from its start to its end. `known`: what it is taken for.
    fn run_once(&self, supervision: &mut Supervision, known: Option<Verdict>) -> Ending {
        if self.is_shared() && !self.await_dependencies() {
            return Ending::Stopped;
        }
        let Some(turn) = self.enter_starts() else {
            return Ending::Stopped;
        };
        // The start that was asked for is this one.
        let is_asked = self.signals().take_restart();
        self.loading(is_asked);
        let mut running = match self.spawn(turn) {
            Ok(running) => running,
            Err(why) => return unborn(why, Stage::Absent, known),
        };
        let pid = running.watch.process.as_ref().map(Process::pid);
        self.update(|status, _| status.pid = pid);
        match self.connect(&mut running, known, self.server.config.connection_timeout) {
            Ok(()) => self.ready(&running),
            Err(fault) => {
                let is_first = supervision.deaths_in_a_row() == 0;
                return self.failed_start(running, fault, is_first);
            }
        }
        running.watch.end_turn();
        let since = Instant::now();
        running.checkup.greeted(&running.link);
        let over = self.serve(&mut running);
        self.served(running, over, since.elapsed())
    }

    /// The end of a process that was ready.
    fn served(&self, running: Running<'_>, over: Over, up_for: Duration) -> Ending {
        // Callers learn at once that the process is gone; ending the rest of it may take longer.
        self.update(|status, link| {
            *link = None;
            // Unless it was restarted meanwhile, which says more.
            if let (Over::Died(why), false) = (&over, self.signals().must_restart()) {
                status.state = State::Restarting;
                status.last_error = Some(why.clone());
            }
        });
        let why = match over {
            Over::Stopped => {
                self.end(running, Reason::Draining, "is stopping");
                return Ending::Stopped;
            }
            Over::Restart => {
                self.end(running, Reason::Restarting, "is restarting on request");
                return Ending::Restart;
            }
            Over::Died(why) => why,
        };
        let remote = running.link.remote();
        let is_locked = remote.is_some_and(|remote| remote.wants_login());
        if remote.is_some() {
            // Something else may answer there next time.
            self.server.era.forget();
        }
        self.end(running, Reason::Crashed, &why);
        if is_locked {
            return Ending::Locked(why);
        }
        let death = Death {
            why,
            last: Stage::Ready,
            up_for,
        };
        let next = self.recall();
        Ending::Died { death, next }
    }

    /// Ends a process that did not become ready. What a first request may have spoilt is tried
    /// again at once, but only after a time without failures: starts must stay rare. Later
    /// failures make the greetings take turns.
    fn failed_start(&self, mut running: Running<'_>, fault: Fault, is_first: bool) -> Ending {
        let (fault, is_spoilt) = match fault {
            Fault::Spoilt(fault) => (*fault, true),
            fault => (fault, false),
        };
        if self.signals().must_restart() {
            self.end(running, Reason::Restarting, "is restarting on request");
            return Ending::Restart;
        }
        if is_spoilt && is_first {
            self.end(running, Reason::Starting, "is starting");
            return Ending::Spoilt;
        }
        // What had all its time has failed; what ended early is tried again a moment later.
        let last = match fault {
            Fault::Timeout(..) => Stage::Silent,
            _ => Stage::Started,
        };
        let why = match fault {
            Fault::Stopped => {
                self.end(running, Reason::Draining, "is stopping");
                return Ending::Stopped;
            }
            // A process that has just ended gets a moment, so that its code is known.
            Fault::Gone(end) => {
                let seen = words(end, &mut running.watch);
                format!("{seen} before it was ready")
            }
            fault => fault.to_string(),
        };
        self.server.era.forget();
        let remote = running.link.remote();
        let is_locked = remote.is_some_and(|remote| remote.wants_login());
        self.end(running, Reason::BadUpstream, "failed to start");
        if is_locked {
            return Ending::Locked(why);
        }
        let next = is_spoilt.then_some(Verdict::Session);
        unborn(format!("{why}{}", self.last_words()), last, next)
    }

    /// Waits for a turn to start, watching for a stop.
    fn enter_starts(&self) -> Option<Permit<'_>> {
        while !self.signals().must_stop() {
            let slice = Instant::now() + Duration::from_millis(100);
            if let Some(permit) = self.server.starts().enter(slice) {
                return Some(permit);
            }
        }
        None
    }

    fn loading(&self, is_asked: bool) {
        self.update(|status, _| {
            // What was down stays what it was until it is ready: states do not flap.
            if is_asked {
                status.begin();
            } else if status.state == State::Pending {
                status.state = State::Loading;
            }
            status.retry_at = None;
        });
    }

    /// Opens the way to a server that is no child of ours. Nothing is sent yet.
    fn dial<'a>(&self, spec: &RemoteSpec, turn: Permit<'a>) -> Result<Running<'a>, String> {
        let signals = Arc::new(ProcessSignals::new(self.signals().clone()));
        let (remote, ended) =
            Remote::new(&self.server, spec, signals.clone(), self.role.principal())?;
        let link = Arc::new(Link::over_http(self.server.name(), remote.clone()));
        let inbound = Arc::new(Inbound {
            link: link.clone(),
            signals: signals.clone(),
            outlook: self.server.outlook(&self.role),
        });
        remote.deliver_to(&inbound);
        Ok(Running {
            watch: Watch::new(None, signals, turn),
            link,
            agenda: Agenda::new(self.server.refresh_window()),
            older: (Instant::now(), next_call_id()),
            subscriber: Subscriber::default(),
            checkup: Checkup::new(self.server.config.request_timeout),
            ended,
            _inbound: Some(inbound),
        })
    }

    fn spawn<'a>(&self, turn: Permit<'a>) -> Result<Running<'a>, String> {
        if let Some(spec) = &self.server.config.remote {
            return self.dial(spec, turn);
        }
        let Some(spec) = self.server.config.process.as_ref() else {
            return Err("has no command".to_owned());
        };
        let spec = Spec {
            program: spec.program.clone(),
            args: spec.args.clone(),
            env: spec
                .env
                .iter()
                .map(|(k, v)| (k.clone(), v.expose().to_owned()))
                .collect(),
            cwd: spec.cwd.clone(),
        };
        let mut process = Process::spawn(&spec).map_err(|error| error.to_string())?;
        let pipes = (
            process.take_stdin(),
            process.take_stdout(),
            process.take_stderr(),
        );
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err("has no pipes".to_owned());
        };
        widen(&stdin);
        widen(&stdout);
        let link = Arc::new(Link::new(
            self.server.name(),
            Outlet::new(OwnedFd::from(stdin)),
        ));
        let signals = Arc::new(ProcessSignals::new(self.signals().clone()));
        let ended = self
            .start_threads(&link, &signals, stdout, stderr)
            .map_err(|error| {
                link.close(Reason::Busy, "cannot be served");
                format!("cannot start its threads: {error}")
            })?;
        Ok(Running {
            watch: Watch::new(Some(process), signals, turn),
            link,
            agenda: Agenda::new(self.server.refresh_window()),
            subscriber: Subscriber::default(),
            checkup: Checkup::new(self.server.config.request_timeout),
            older: (Instant::now(), next_call_id()),
            ended,
            _inbound: None,
        })
    }

    fn start_threads(
        &self,
        link: &Arc<Link>,
        signals: &Arc<ProcessSignals>,
        stdout: std::process::ChildStdout,
        stderr: std::process::ChildStderr,
    ) -> std::io::Result<Receiver<()>> {
        let name = self.server.name().to_owned();
        let (alive, ended): (Sender<()>, Receiver<()>) = bounded(0);
        let inbound = Inbound {
            link: link.clone(),
            signals: signals.clone(),
            outlook: self.server.outlook(&self.role),
        };
        let held = alive.clone();
        thread::spawn(
            &format!("rd:{name}"),
            limits::STACK_WORKER_BYTES,
            move || {
                inbound.run(stdout);
                drop(held);
            },
        )?;
        let (writer, signals, held) = (link.clone(), signals.clone(), alive.clone());
        thread::spawn(
            &format!("wr:{name}"),
            limits::STACK_WORKER_BYTES,
            move || {
                let end = writer.outlet().map(Outlet::run_writer);
                signals.writer_ended(end.unwrap_or(WriterEnd::Closed));
                drop(held);
            },
        )?;
        let tail = self.server.tail.clone();
        let lines = LineReader::new(stderr, limits::STDERR_LINE_BYTES);
        thread::spawn(
            &format!("err:{name}"),
            limits::STACK_WORKER_BYTES,
            move || {
                crate::upstream::stderr::run(&name, lines, &tail);
                drop(alive);
            },
        )?;
        Ok(ended)
    }

    /// Handshake and, for the shared process, the lists.
    fn connect(
        &self,
        running: &mut Running<'_>,
        known: Option<Verdict>,
        limit: Duration,
    ) -> Result<(), Fault> {
        let link = running.link.clone();
        let mut dialogue = Dialogue {
            link: &link,
            watch: &mut running.watch,
        };
        let started = Instant::now();
        let face = match &self.role {
            Role::Shared | Role::Beside(_) => ClientFace::shared(),
            Role::Session(session) => session.face.clone(),
        };
        let key = "connectionTimeout";
        let within = Limit { time: limit, key };
        let mut hello = match (link.remote(), &self.server.config.remote) {
            (Some(remote), Some(spec)) => {
                Greeting::new(remote, dialogue, spec.kind, &face, within).run(known)?
            }
            _ => dialogue.greet(known, &face, within)?,
        };
        bound_instructions(self.server.name(), &mut hello);
        self.learn(&link, hello.era);
        let kinds: Vec<ListKind> = declared(Some(&hello)).collect();
        link.set_hello(hello);
        // Before the lists, so that no change falls between.
        self.wish(running);
        self.attend(running);
        if !self.is_shared() {
            return Ok(());
        }
        let time = limit
            .saturating_sub(started.elapsed())
            .max(Duration::from_secs(1));
        let _ = link.take_dirty();
        let undeclared = ListKind::ALL.into_iter().filter(|k| !kinds.contains(k));
        undeclared.for_each(|kind| self.known.borrow_mut().set(kind, Vec::new(), None));
        let mut is_good = kinds.is_empty();
        for kind in kinds {
            let is_known = match self.read(running, kind, Limit { time, key }) {
                // It says nothing at all: that is no start.
                Err(Fault::Timeout(..)) => return Err(Fault::Timeout(limit, key)),
                outcome => outcome?,
            };
            is_good |= is_known;
        }
        // Nor is it one when only greetings are for everybody.
        if let (false, Some(why)) = (is_good, refusal(&link)) {
            return Err(Fault::Bad(why));
        }
        running.subscriber.lists_read(&running.link);
        Ok(())
    }

    /// Reads one list. True when it is known anew; otherwise the old one stays, and it is read
    /// again later. An error means that the process is over, or is silent.
    fn read(&self, running: &mut Running<'_>, kind: ListKind, limit: Limit) -> Result<bool, Fault> {
        let mut dialogue = Dialogue {
            link: &running.link,
            watch: &mut running.watch,
        };
        let room = running.agenda.room(kind);
        let (server, method) = (self.server.name(), kind.method());
        let fault = match dialogue.read_list(kind, room, limit) {
            Ok(Read {
                mut items,
                bytes,
                flaw,
                hint,
            }) => {
                if let (ListKind::Tools, Some(remote)) = (kind, running.link.remote()) {
                    remote.admit(&mut items);
                }
                if let Some(flaw) = &flaw {
                    log::warn!("list incomplete server={server:?} method={method}: it {flaw}");
                }
                running.agenda.read(kind, bytes, flaw, Instant::now());
                let hint = hint.filter(|_| running.link.is_stateless());
                running.expire(kind, hint, Instant::now());
                self.known.borrow_mut().set(kind, items, hint);
                return Ok(true);
            }
            Err(fault @ (Fault::Stopped | Fault::Gone(_))) => return Err(fault),
            Err(fault) => fault,
        };
        let why = fault.to_string();
        let (delay, is_news) = running.agenda.failed(kind, why, Instant::now());
        if is_news {
            let delay_s = delay.as_secs();
            log::warn!(
                "list not read, the old one stays server={server:?} method={method} \
                 next_try_s={delay_s}: it {fault}"
            );
        }
        match fault {
            Fault::Timeout(..) => Err(fault),
            _ => Ok(false),
        }
    }

    fn ready(&self, running: &Running<'_>) {
        let link = &running.link;
        self.tell_again(link);
        if self.is_shared() {
            let listing = self.known.borrow().clone();
            let counts = ListKind::ALL.map(|kind| listing.of(kind).len());
            log::info!(
                "server ready server={:?} revision={} tools={} prompts={} resources={} \
                 templates={}",
                self.server.name(),
                link.hello().map_or("", |hello| hello.era.as_str()),
                counts[0],
                counts[1],
                counts[2],
                counts[3],
            );
            self.server.send(Event::Listing {
                server: self.server.id,
                listing,
            });
        }
        self.update(|status, slot| {
            if self.signals().must_restart() {
                return;
            }
            *slot = Some(link.clone());
            status.state = State::Ready;
            status.last_connected = connected_now();
            status.last_error = None;
            status.lists = running.agenda.note();
        });
    }

    /// The resources that sessions want to hear of from this process.
    fn wanted_uris(&self) -> Vec<String> {
        match (&self.role, self.server.config.instances) {
            (Role::Session(session), _) => session.wanted.at(self.server.id.slot),
            (Role::Shared | Role::Beside(_), mode) if !mode.is_per_session() => {
                self.server.subscribed_uris()
            }
            // Only the sessions' own processes are asked.
            (Role::Shared | Role::Beside(_), _) => Vec::new(),
        }
    }

    /// What a stateless server is to tell us of.
    fn wish(&self, running: &mut Running<'_>) {
        let hello = running
            .link
            .hello()
            .filter(|hello| hello.era.is_stateless());
        if let Some(hello) = hello {
            let lists = self.is_shared();
            let filter = Filter::of(hello, lists, self.wanted_uris());
            let tasks = match lists {
                true => self.server.watched_tasks(),
                false => Vec::new(),
            };
            let filter = filter.with_tasks(hello, tasks);
            running.subscriber.want(filter);
        }
    }

    /// Keeps the subscription at a stateless server.
    fn attend(&self, running: &mut Running<'_>) {
        if !running.link.is_stateless() {
            return;
        }
        let now = Instant::now();
        if running.subscriber.tend(&running.link, now) && self.is_shared() {
            let listed = |kind: &ListKind| {
                running
                    .link
                    .hello()
                    .is_some_and(|h| h.declares(kind.capability()))
            };
            let kinds = ListKind::ALL.into_iter().filter(listed);
            kinds.for_each(|kind| running.agenda.changed(kind, now));
        }
    }

    /// What sessions subscribed to before a restart. A stateless server is told by `attend`.
    fn subscribe_again(&self, link: &Link) {
        if link.is_stateless() {
            return;
        }
        for uri in self.wanted_uris() {
            let params = format!("{{\"uri\":{}}}", crate::wire::json::quoted(&uri));
            let mail = Mailbox::new(1);
            if let Err(error) = link.request("resources/subscribe", &params, mail.sender()) {
                log::warn!(
                    "subscription lost server={:?}: {}",
                    link.server(),
                    error.message
                );
            }
        }
    }

    /// Until the process dies, or must go.
    fn serve(&self, running: &mut Running<'_>) -> Over {
        let bell = running.watch.bell();
        let mut rest = Rest::after_work();
        loop {
            let turn = match running.watch.look() {
                Some(end) => Err(end),
                None => self.refresh(running),
            };
            match turn {
                Err(End::Stop) => return Over::Stopped,
                Err(End::Restart) => return Over::Restart,
                Err(end) => return Over::Died(words(end, &mut running.watch)),
                // The bell may have rung meanwhile, and was heard there.
                Ok(true) => continue,
                Ok(false) => {}
            }
            self.expire_calls(running);
            if let Some(why) = self.check_up(running) {
                return Over::Died(why);
            }
            let look = running.watch.next_look();
            let due = running
                .agenda
                .next()
                .into_iter()
                .chain(running.subscriber.next());
            let wake = due.fold(look, Instant::min);
            // A timeout, too, is a reason to look; a rest is none.
            let woken = loop {
                let until = rest.due().map_or(wake, |due| wake.min(due));
                match bell.recv_deadline(until) {
                    Err(_) if rest.look() && Instant::now() < wake => {}
                    woken => break woken,
                }
            };
            if woken.is_ok() {
                rest.worked();
            }
        }
    }

    /// Looks whether the server still answers, and shows it. `Some` says why it is given up.
    fn check_up(&self, running: &mut Running<'_>) -> Option<String> {
        let process = running.watch.process.as_mut();
        match running.checkup.look(&running.link, process, Instant::now()) {
            Finding::Nothing => {}
            Finding::Ill(why) => {
                log::warn!("server in doubt server={:?}: it {why}", self.server.name());
                self.update(|status, link| {
                    if link.is_some() {
                        status.state = State::Failed;
                        status.last_error = Some(why);
                    }
                });
            }
            Finding::Well => {
                log::info!("server answers again server={:?}", self.server.name());
                self.update(|status, link| {
                    if link.is_some() {
                        status.state = State::Ready;
                        status.last_error = None;
                    }
                });
            }
            Finding::Dead(why) => return Some(why),
        }
        None
    }

    /// Takes back requests of ours that a server leaves unanswered, such as a change of its log
    /// level. Not while a list is read: that one is waited for.
    fn expire_calls(&self, running: &mut Running<'_>) {
        let longest = limits::CALL_DEADLINE;
        let patience = self.server.config.request_timeout;
        let patience = patience.clamp(limits::OWN_REQUEST_LEAST, longest);
        let (since, first) = running.older;
        if since.elapsed() >= patience {
            running.link.expire_gateway_calls(first);
            running.older = (Instant::now(), next_call_id());
        }
    }

    /// What a server over HTTP that forgot us must be told again, and what nobody heard while
    /// its stream was closed.
    fn make_up(&self, running: &mut Running<'_>) {
        let signals = running.watch.signals();
        let (is_new, is_missed) = (signals.take_renewed(), signals.take_missed());
        if is_new {
            running.link.forget_level();
            self.tell_again(&running.link);
        }
        if is_new || is_missed {
            let now = Instant::now();
            let kinds = declared(running.link.hello());
            kinds.for_each(|kind| running.agenda.changed(kind, now));
        }
    }

    /// What the gateway wants of a server beside answers.
    fn tell_again(&self, link: &Link) {
        if let Some(level) = self.server.level() {
            send_level(link, level);
        }
        self.subscribe_again(link);
    }

    /// Reads one list that is due. False when there is none.
    fn refresh(&self, running: &mut Running<'_>) -> Result<bool, End> {
        if self.signals().take_wishes_changed() {
            self.wish(running);
        }
        self.attend(running);
        let is_doubted = self.signals().take_lists_doubted();
        if is_doubted {
            let hello = self.server.hello();
            for kind in declared(hello.as_ref()) {
                running.link.mark_dirty(kind);
            }
        }
        let is_news = running.watch.signals().take_lists_changed() || is_doubted;
        self.make_up(running);
        if !self.is_shared() {
            return Ok(false);
        }
        let now = Instant::now();
        if is_news {
            running.agenda.set_window(self.server.refresh_window());
            let dirty = running.link.take_dirty();
            dirty
                .into_iter()
                .for_each(|kind| running.agenda.changed(kind, now));
        }
        let Some(kind) = running.agenda.due(now) else {
            return Ok(false);
        };
        let limit = Limit {
            time: self.server.config.request_timeout,
            key: "requestTimeout",
        };
        let before = running.agenda.note();
        match self.read(running, kind, limit) {
            Ok(true) => {
                let known = self.known.borrow();
                self.server.send(Event::List {
                    server: self.server.id,
                    kind,
                    items: known.of(kind).to_vec(),
                    hint: known.hint(kind),
                });
            }
            Ok(false) => {
                if let (false, Some(why)) = (running.agenda.is_any_read(), refusal(&running.link)) {
                    running.watch.signals().lost(&why);
                }
            }
            Err(Fault::Timeout(..)) => running.checkup.doubt(&running.link),
            Err(Fault::Gone(end)) => return Err(end),
            Err(_) => return Err(End::Stop),
        }
        let note = running.agenda.note();
        if note != before {
            self.update(|status, _| status.lists = note);
        }
        Ok(true)
    }

    /// The last line of stderr often says why a start failed.
    fn last_words(&self) -> String {
        match self.server.tail.last() {
            Some(line) => format!(
                "; its last words: {}",
                line.chars().take(200).collect::<String>()
            ),
            None => String::new(),
        }
    }

    /// Answers what is pending, ends the process and waits for its threads.
    fn end(&self, mut running: Running<'_>, reason: Reason, detail: &str) {
        running.watch.end_turn();
        running.link.close(reason, detail);
        match (&mut running.watch.process, running.link.remote()) {
            (Some(process), _) => {
                let exit = process.stop(Graces::within(self.signals().patience()));
                let (pid, at) = (process.pid(), time::now_rfc3339());
                // Whoever hears of the state that follows sees this, too.
                let last_exit = Some(LastExit { exit, pid, at });
                self.instance
                    .update(|status, _| status.last_exit = last_exit);
            }
            (None, Some(remote)) => remote.good_bye(),
            (None, None) => {}
        }
        if running.ended.recv_timeout(limits::THREADS_END) != Err(RecvTimeoutError::Disconnected) {
            log::error!(
                "threads of an ended server do not end server={:?}",
                self.server.name()
            );
        }
    }
}

/// The end of a process that never was ready.
fn unborn(why: String, last: Stage, next: Option<Verdict>) -> Ending {
    let death = Death {
        why,
        last,
        up_for: Duration::ZERO,
    };
    Ending::Died { death, next }
}

impl Ending {
    fn why(&self) -> Option<&str> {
        match self {
            Ending::Died { death, .. } => Some(&death.why),
            Ending::Locked(why) => Some(why),
            Ending::Stopped | Ending::Restart | Ending::Spoilt => None,
        }
    }
}

/// That a server over HTTP does not accept our credentials.
fn refusal(link: &Link) -> Option<String> {
    link.remote().and_then(|remote| remote.refusal())
}

/// The lists that a server says it has.
fn declared(hello: Option<&Hello>) -> impl Iterator<Item = ListKind> {
    let has = move |kind: &ListKind| hello.is_some_and(|hello| hello.declares(kind.capability()));
    ListKind::ALL.into_iter().filter(has)
}

/// Why the process is no longer served. One that has just ended gets a moment, so that its code
/// is known.
fn words(end: End, watch: &mut Watch<'_>) -> String {
    let seconds = limits::OUTLET_STALL.as_secs();
    let seen = match end {
        End::Exited(exit) => return exit.to_string(),
        End::Writer(WriterEnd::Stalled) => {
            return format!("took none of its input for {seconds} s");
        }
        End::Writer(WriterEnd::Broken) => "closed its input",
        End::Lost => {
            let why = watch.signals().why_lost();
            return why.unwrap_or("is gone").to_owned();
        }
        End::Stop | End::Restart | End::OutputClosed | End::Writer(_) => "closed its output",
    };
    let process = watch.process.as_mut();
    match process.and_then(|process| process.wait_exit(soon())) {
        Some(exit) => exit.to_string(),
        None => seen.to_owned(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(500)
}

/// Best effort: systems with a low limit keep the usual size.
fn widen(pipe: &impl AsFd) {
    if let Err(error) = rustix::pipe::fcntl_setpipe_size(pipe, limits::PIPE_BYTES) {
        log::debug!("pipe keeps its size: {error}");
    }
}
