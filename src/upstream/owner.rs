//! The whole life of one server process, top to bottom, and the only loop that restarts
//! anything. Runs on the owner thread, which lives as long as the child (its death signal is
//! bound to the thread that started it).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::gate::Permit;
use crate::base::{limits, sys, thread};
use crate::mcp::error::Reason;
use crate::mcp::list::ListKind;
use crate::model::backoff::Supervision;
use crate::model::listing::Listing;
use crate::upstream::event::Event;
use crate::upstream::handshake::{ClientFace, Dialogue, Fault};
use crate::upstream::inbound::Inbound;
use crate::upstream::link::Link;
use crate::upstream::outlet::{Outlet, WriterEnd};
use crate::upstream::process::{Graces, Process, Spec};
use crate::upstream::server::{
    Instance, Server, SessionFace, State, Status, connected_now, send_level,
};
use crate::upstream::signals::{End, OwnerSignals, ProcessSignals, Watch};

/// Whose process this is.
#[derive(Debug, Clone)]
pub enum Role {
    /// Everybody's. Its lists are the server's lists; it is restarted when it dies.
    Shared,
    /// One session's. Started at its first call, not restarted: the next call starts another.
    Session(SessionFace),
}

pub struct Owner {
    server: Arc<Server>,
    role: Role,
    instance: Arc<Instance>,
}

/// Why a process is over.
enum Ending {
    Stopped,
    /// `ready`: it had finished its handshake.
    Died {
        why: String,
        ready: bool,
        up_for: Duration,
    },
}

/// A running process and the threads that serve it.
struct Running<'a> {
    watch: Watch<'a>,
    link: Arc<Link>,
    /// Disconnected when all its threads have ended.
    ended: Receiver<()>,
}

impl Owner {
    pub(crate) fn new(server: Arc<Server>, role: Role, instance: Arc<Instance>) -> Owner {
        Owner {
            server,
            role,
            instance,
        }
    }

    fn signals(&self) -> &Arc<OwnerSignals> {
        self.instance.signals()
    }

    fn update(&self, change: impl FnOnce(&mut Status, &mut Option<Arc<Link>>)) {
        self.server.update(&self.role, &self.instance, change);
    }

    pub fn run(&self) {
        let mut supervision = Supervision::default();
        loop {
            let ending = self.run_once(&mut supervision);
            let Ending::Died { why, ready, up_for } = ending else {
                break;
            };
            let name = self.server.name();
            if matches!(self.role, Role::Session(_)) {
                log::warn!("process of a session ended server={name:?}: {why}");
                self.stopped(Some(why));
                return;
            }
            let wait = supervision.died(up_for, Instant::now(), random_fraction());
            let delay_s = wait.delay.as_secs_f64();
            log::warn!("server down server={name:?} next_try_s={delay_s:.1}: {why}");
            self.update(|status, link| {
                *link = None;
                status.state = match (wait.breaker_open, ready || status.last_connected.is_some()) {
                    (true, _) => State::CrashLoop,
                    (false, true) => State::Restarting,
                    (false, false) => State::Failed,
                };
                status.last_error = Some(why);
                status.retry_at = Some(Instant::now() + wait.delay);
                status.pid = None;
                status.restarts += 1;
            });
            if self.signals().wait_for_stop(Instant::now() + wait.delay) {
                break;
            }
        }
        self.stopped(None);
    }

    fn stopped(&self, why: Option<String>) {
        self.update(|status, link| {
            *link = None;
            status.state = State::Stopped;
            status.pid = None;
            status.retry_at = None;
            status.last_error = why.or(status.last_error.take());
        });
    }

    /// One process from its start to its end.
    fn run_once(&self, supervision: &mut Supervision) -> Ending {
        let died = |why: String| Ending::Died {
            why,
            ready: false,
            up_for: Duration::ZERO,
        };
        let Some(turn) = self.enter_starts() else {
            return Ending::Stopped;
        };
        self.loading();
        let mut running = match self.spawn(turn) {
            Ok(running) => running,
            Err(why) => return died(why),
        };
        self.update(|status, _| status.pid = Some(running.watch.process.pid()));
        match self.connect(&mut running, self.server.config.connection_timeout) {
            Ok(listing) => self.ready(&running.link, listing),
            Err(Fault::Stopped) => {
                self.end(running, Reason::Draining, "is stopping");
                return Ending::Stopped;
            }
            Err(fault) => {
                // A process that has just ended gets a moment, so that its code is known.
                let why = match fault {
                    Fault::Gone(end) => format!(
                        "{} before it was ready",
                        words(end, &mut running.watch.process)
                    ),
                    fault => fault.to_string(),
                };
                self.end(running, Reason::BadUpstream, "failed to start");
                return died(format!("{why}{}", self.last_words()));
            }
        }
        running.watch.end_turn();
        let since = Instant::now();
        supervision.became_ready(since);
        let fault = self.serve(&mut running);
        // Callers learn at once that the process is gone; ending the rest of it may take longer.
        self.update(|status, link| {
            *link = None;
            if fault.is_some() {
                status.state = State::Restarting;
                status.last_error.clone_from(&fault);
            }
        });
        match fault {
            None => {
                self.end(running, Reason::Draining, "is stopping");
                Ending::Stopped
            }
            Some(why) => {
                self.end(running, Reason::Crashed, &why);
                Ending::Died {
                    why,
                    ready: true,
                    up_for: since.elapsed(),
                }
            }
        }
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

    fn loading(&self) {
        self.update(|status, _| {
            // A server that was ready before stays "restarting" until it is ready again.
            if matches!(status.state, State::Pending | State::Failed) {
                status.state = State::Loading;
            }
            status.retry_at = None;
        });
    }

    fn spawn<'a>(&self, turn: Permit<'a>) -> Result<Running<'a>, String> {
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
            watch: Watch::new(process, signals, turn),
            link,
            ended,
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
                signals.writer_ended(writer.outlet().run_writer());
                drop(held);
            },
        )?;
        let tail = self.server.tail.clone();
        thread::spawn(
            &format!("err:{name}"),
            limits::STACK_WORKER_BYTES,
            move || {
                crate::upstream::stderr::run(&name, stderr, &tail);
                drop(alive);
            },
        )?;
        Ok(ended)
    }

    /// Handshake and, for the shared process, the lists.
    fn connect(
        &self,
        running: &mut Running<'_>,
        limit: Duration,
    ) -> Result<Option<Listing>, Fault> {
        let link = &running.link;
        let mut dialogue = Dialogue {
            link,
            watch: &mut running.watch,
        };
        let started = Instant::now();
        let face = match &self.role {
            Role::Shared => ClientFace::shared(),
            Role::Session(session) => session.face.clone(),
        };
        let hello = dialogue.initialize(&face, limit)?;
        let capabilities = hello.capabilities.clone();
        link.set_hello(hello);
        if matches!(self.role, Role::Session(_)) {
            return Ok(None);
        }
        let left = limit
            .saturating_sub(started.elapsed())
            .max(Duration::from_secs(1));
        let _ = link.take_dirty();
        dialogue.read_all(&capabilities, left).map(Some)
    }

    fn ready(&self, link: &Arc<Link>, listing: Option<Listing>) {
        if let Some(level) = self.server.level() {
            send_level(link, level);
        }
        if let Some(listing) = listing {
            self.subscribe_again(link);
            let counts = ListKind::ALL.map(|kind| listing.of(kind).len());
            log::info!(
                "server ready server={:?} revision={} tools={} prompts={} resources={} \
                 templates={}",
                self.server.name(),
                link.hello().map_or("", |hello| hello.revision.as_str()),
                counts[0],
                counts[1],
                counts[2],
                counts[3],
            );
            self.server.send(Event::Listing {
                server: self.server.index,
                listing,
            });
        }
        self.update(|status, slot| {
            *slot = Some(link.clone());
            status.state = State::Ready;
            status.last_connected = connected_now();
            status.last_error = None;
        });
    }

    /// What sessions subscribed to before a restart.
    fn subscribe_again(&self, link: &Link) {
        for uri in self.server.subscribed_uris() {
            let params = format!("{{\"uri\":{}}}", crate::wire::json::quoted(&uri));
            let mail = crate::upstream::call::Mailbox::new(1);
            if let Err(error) = link.request("resources/subscribe", &params, mail.sender()) {
                log::warn!(
                    "subscription lost server={:?}: {}",
                    link.server(),
                    error.message
                );
            }
        }
    }

    /// Until the process dies or must stop: `Some` says why it died.
    fn serve(&self, running: &mut Running<'_>) -> Option<String> {
        let bell = running.watch.bell();
        let mut last_refresh = Instant::now();
        let mut refresh_due = false;
        loop {
            match running.watch.look() {
                Some(End::Stop) => return None,
                Some(end) => return Some(words(end, &mut running.watch.process)),
                None => {}
            }
            refresh_due |= running.watch.signals().take_lists_changed();
            let window_ends = last_refresh + limits::REFRESH_WINDOW;
            if refresh_due && window_ends <= Instant::now() {
                refresh_due = false;
                match self.refresh(running) {
                    Ok(()) => {}
                    Err(Fault::Stopped) => return None,
                    Err(Fault::Gone(end)) => {
                        return Some(words(end, &mut running.watch.process));
                    }
                    Err(fault) => {
                        log::warn!(
                            "list not read again server={:?}: {fault}",
                            self.server.name()
                        );
                    }
                }
                last_refresh = Instant::now();
                continue;
            }
            let look = running.watch.next_look();
            let wake = if refresh_due {
                look.min(window_ends)
            } else {
                look
            };
            // A timeout, too, is a reason to look.
            let _ = bell.recv_deadline(wake);
        }
    }

    /// Reads the lists that the server said have changed, one after the other.
    fn refresh(&self, running: &mut Running<'_>) -> Result<(), Fault> {
        if matches!(self.role, Role::Session(_)) {
            return Ok(());
        }
        let link = &running.link;
        let mut dialogue = Dialogue {
            link,
            watch: &mut running.watch,
        };
        for kind in link.take_dirty() {
            let items = dialogue.read_list(kind, self.server.config.request_timeout)?;
            self.server.send(Event::List {
                server: self.server.index,
                kind,
                items,
            });
        }
        Ok(())
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
        running.watch.process.stop(Graces::default());
        if running.ended.recv_timeout(limits::THREADS_END) != Err(RecvTimeoutError::Disconnected) {
            log::error!(
                "threads of an ended server do not end server={:?}",
                self.server.name()
            );
        }
    }
}

/// Why the process is no longer served. One that has just ended gets a moment, so that its code
/// is known.
fn words(end: End, process: &mut Process) -> String {
    let seconds = limits::OUTLET_STALL.as_secs();
    let seen = match end {
        End::Exited(exit) => return exit.to_string(),
        End::Writer(WriterEnd::Stalled) => {
            return format!("took none of its input for {seconds} s");
        }
        End::Writer(WriterEnd::Broken) => "closed its input",
        End::Stop | End::OutputClosed | End::Writer(_) => "closed its output",
    };
    match process.wait_exit(soon()) {
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

/// From 0.0 to 1.0.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    sys::random_bytes(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
