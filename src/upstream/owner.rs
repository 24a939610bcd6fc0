//! The whole life of one server process, top to bottom, and the only loop that restarts
//! anything. Runs on the owner thread, which lives as long as the child (its death signal is
//! bound to the thread that started it).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

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
use crate::upstream::server::{Server, SessionFace, State, connected_now, send_level};

/// What wakes an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerEvent {
    /// The child closed its output.
    OutputClosed,
    WriterEnded(WriterEnd),
    ListChanged,
    /// Some child of ours ended; perhaps this one.
    LookAtChild,
    Stop,
}

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
    events: Receiver<OwnerEvent>,
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
struct Running {
    process: Process,
    link: Arc<Link>,
    /// Disconnected when all its threads have ended.
    ended: Receiver<()>,
}

impl Owner {
    pub fn new(server: Arc<Server>, role: Role, events: Receiver<OwnerEvent>) -> Owner {
        Owner {
            server,
            role,
            events,
        }
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
            self.server.update(&self.role, |status, link| {
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
            if self.wait_for_stop(wait.delay) {
                break;
            }
        }
        self.stopped(None);
    }

    fn stopped(&self, why: Option<String>) {
        self.server.update(&self.role, |status, link| {
            *link = None;
            status.state = State::Stopped;
            status.pid = None;
            status.retry_at = None;
            status.last_error = why.or(status.last_error.take());
        });
    }

    /// True when the server must stop.
    fn wait_for_stop(&self, delay: Duration) -> bool {
        let deadline = Instant::now() + delay;
        loop {
            match self.events.recv_deadline(deadline) {
                Ok(OwnerEvent::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// One process from its start to its end.
    fn run_once(&self, supervision: &mut Supervision) -> Ending {
        let died = |why: String| Ending::Died {
            why,
            ready: false,
            up_for: Duration::ZERO,
        };
        let mut running = {
            // The permit ends with this block's `connect`: a slow server holds it until it is
            // ready or has failed, so that not all start at once.
            let limit = self.server.config.connection_timeout;
            let Some(_permit) = self.enter_starts() else {
                return Ending::Stopped;
            };
            self.loading();
            let mut running = match self.spawn() {
                Ok(running) => running,
                Err(why) => return died(why),
            };
            self.server.update(&self.role, |status, _| {
                status.pid = Some(running.process.pid())
            });
            match self.connect(&running.link, limit) {
                Ok(listing) => {
                    self.ready(&running.link, listing);
                    running
                }
                Err(Fault::Stopped) => {
                    self.end(running, Reason::Draining, "is stopping");
                    return Ending::Stopped;
                }
                Err(fault) => {
                    // A process that has just ended gets a moment, so that its code is known.
                    let exit = match fault {
                        Fault::Gone => running.process.wait_exit(soon()),
                        _ => None,
                    };
                    self.end(running, Reason::BadUpstream, "failed to start");
                    return died(match exit {
                        Some(exit) => format!("{exit} before it was ready{}", self.last_words()),
                        None => format!("{fault}{}", self.last_words()),
                    });
                }
            }
        };
        let since = Instant::now();
        supervision.became_ready(since);
        let fault = self.serve(&mut running);
        // Callers learn at once that the process is gone; ending the rest of it may take longer.
        self.server.update(&self.role, |status, link| {
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
    fn enter_starts(&self) -> Option<crate::base::gate::Permit<'_>> {
        loop {
            let slice = Instant::now() + Duration::from_millis(100);
            if let Some(permit) = self.server.starts().enter(slice) {
                return Some(permit);
            }
            if self
                .events
                .try_iter()
                .any(|event| event == OwnerEvent::Stop)
            {
                return None;
            }
        }
    }

    fn loading(&self) {
        self.server.update(&self.role, |status, _| {
            // A server that was ready before stays "restarting" until it is ready again.
            if matches!(status.state, State::Pending | State::Failed) {
                status.state = State::Loading;
            }
            status.retry_at = None;
        });
    }

    fn spawn(&self) -> Result<Running, String> {
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
        let ended = self.start_threads(&link, stdout, stderr).map_err(|error| {
            link.close(Reason::Busy, "cannot be served");
            format!("cannot start its threads: {error}")
        })?;
        Ok(Running {
            process,
            link,
            ended,
        })
    }

    fn start_threads(
        &self,
        link: &Arc<Link>,
        stdout: std::process::ChildStdout,
        stderr: std::process::ChildStderr,
    ) -> std::io::Result<Receiver<()>> {
        let name = self.server.name().to_owned();
        let Some(owner) = self.server.control(&self.role) else {
            return Err(std::io::ErrorKind::NotFound.into());
        };
        let (alive, ended): (Sender<()>, Receiver<()>) = bounded(0);
        let inbound = Inbound {
            link: link.clone(),
            owner: owner.clone(),
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
        let (writer, held) = (link.clone(), alive.clone());
        thread::spawn(
            &format!("wr:{name}"),
            limits::STACK_WORKER_BYTES,
            move || {
                let end = writer.outlet().run_writer();
                // The owner is gone or ending when its queue takes nothing.
                let _ = owner.try_send(OwnerEvent::WriterEnded(end));
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
    fn connect(&self, link: &Arc<Link>, limit: Duration) -> Result<Option<Listing>, Fault> {
        let dialogue = Dialogue {
            link,
            control: &self.events,
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
        self.server.update(&self.role, |status, slot| {
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
    fn serve(&self, running: &mut Running) -> Option<String> {
        let mut last_refresh = Instant::now();
        let mut last_observed = Instant::now();
        let mut refresh_due = false;
        loop {
            let wait = match refresh_due {
                true => limits::REFRESH_WINDOW.saturating_sub(last_refresh.elapsed()),
                false => limits::OWNER_LOOK,
            };
            match self.events.recv_timeout(wait) {
                Ok(OwnerEvent::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(OwnerEvent::OutputClosed) => return Some(self.exit_words(running)),
                Ok(OwnerEvent::WriterEnded(WriterEnd::Stalled)) => {
                    let seconds = limits::OUTLET_STALL.as_secs();
                    return Some(format!("took none of its input for {seconds} s"));
                }
                Ok(OwnerEvent::WriterEnded(_)) => return Some(self.exit_words(running)),
                Ok(OwnerEvent::ListChanged) => refresh_due = true,
                Ok(OwnerEvent::LookAtChild) | Err(RecvTimeoutError::Timeout) => {
                    if let Some(exit) = running.process.try_exit() {
                        return Some(exit.to_string());
                    }
                    if last_observed.elapsed() >= limits::FAMILY_LOOK {
                        running.process.observe();
                        last_observed = Instant::now();
                    }
                }
            }
            if refresh_due && last_refresh.elapsed() >= limits::REFRESH_WINDOW {
                refresh_due = false;
                match self.refresh(&running.link) {
                    Ok(()) => {}
                    Err(Fault::Stopped) => return None,
                    Err(Fault::Gone) => return Some(self.exit_words(running)),
                    Err(fault) => {
                        log::warn!(
                            "list not read again server={:?}: {fault}",
                            self.server.name()
                        );
                    }
                }
                last_refresh = Instant::now();
            }
        }
    }

    /// Reads the lists that the server said have changed, one after the other.
    fn refresh(&self, link: &Arc<Link>) -> Result<(), Fault> {
        if matches!(self.role, Role::Session(_)) {
            return Ok(());
        }
        let dialogue = Dialogue {
            link,
            control: &self.events,
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

    fn exit_words(&self, running: &mut Running) -> String {
        match running.process.wait_exit(soon()) {
            Some(exit) => exit.to_string(),
            None => "closed its output".to_owned(),
        }
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
    fn end(&self, mut running: Running, reason: Reason, detail: &str) {
        running.link.close(reason, detail);
        running.process.stop(Graces::default());
        if running.ended.recv_timeout(limits::THREADS_END) != Err(RecvTimeoutError::Disconnected) {
            log::error!(
                "threads of an ended server do not end server={:?}",
                self.server.name()
            );
        }
        // Events of the process that is over must not be taken for the next one's.
        let stop = self
            .events
            .try_iter()
            .filter(|event| *event == OwnerEvent::Stop)
            .count();
        if stop > 0
            && let Some(control) = self.server.control(&self.role)
        {
            let _ = control.try_send(OwnerEvent::Stop);
        }
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
