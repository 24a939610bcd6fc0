//! The control socket: how an operator on this machine sees and steers the gateway. A client
//! sends one JSON object as one line and gets JSON lines, of which the last one has `ok`. Only
//! who is not one of our servers is listened to (`base::peer`).
//!
//! Threads: `control` accepts, `ctl-N` serves one connection; both are joined at the end. What a
//! connection sends it takes from the gateway itself, so one that reads slowly holds nobody up,
//! and is cut. One request per connection: who gets hold of one that watches cannot steer.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Value, json};

use crate::base::exit::{EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE};
use crate::base::peer::{self, Peer};
use crate::base::{limits, thread};
use crate::gateway::conversation::Conversation;
use crate::gateway::local_socket::LocalSocket;
use crate::gateway::operator::{Operator, Refused};
use crate::gateway::orders::{Order, Stop, carry_out};
use crate::journal::audit::{self, Event, Outcome, Record};
use crate::journal::fact::{self, Fact};

pub struct Control {
    desk: Arc<Desk>,
    wake: UnixStream,
    thread: JoinHandle<Vec<Connection>>,
}

/// What the threads share.
pub struct Desk {
    pub operator: Operator,
    /// The gateway is at its end.
    pub stopping: AtomicBool,
    /// Connections that stay.
    followers: AtomicUsize,
    refusals: Mutex<Refusals>,
}

/// A server that tries again and again must not fill the log.
#[derive(Default)]
struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

/// The right to stay.
struct Seat<'d>(&'d AtomicUsize);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Connection {
    stream: Arc<UnixStream>,
    thread: JoinHandle<()>,
}

const SWEEP: Timespec = Timespec {
    tv_sec: limits::SWEEP.as_secs() as i64,
    tv_nsec: 0,
};

impl Control {
    /// # Errors
    /// When the system refuses a thread or a pair of sockets.
    pub fn start(socket: LocalSocket, operator: Operator) -> io::Result<Control> {
        let (wake, woken) = UnixStream::pair()?;
        let desk = Arc::new(Desk {
            operator,
            stopping: AtomicBool::new(false),
            followers: AtomicUsize::new(0),
            refusals: Mutex::default(),
        });
        let shared = desk.clone();
        let body = move || {
            let connections = accept_all(&socket, &woken, &shared);
            // Nobody new from here on.
            drop(socket);
            connections
        };
        let thread = thread::spawn("control", limits::STACK_WORKER_BYTES, body)?;
        Ok(Control { desk, wake, thread })
    }

    /// Removes the socket, and tells everybody who is connected that this is the end. Who does
    /// not take it within that time is cut.
    pub fn stop(self, within: Duration) {
        let deadline = Instant::now() + within;
        self.desk.stopping.store(true, Ordering::Release);
        self.desk.operator.hub.beat();
        // The other end of the pair is closed now: that wakes the thread.
        drop(self.wake);
        match self.thread.join() {
            Ok(connections) => end(connections, deadline),
            Err(_) => log::error!("control thread panicked"),
        }
    }
}

fn accept_all(socket: &LocalSocket, woken: &UnixStream, desk: &Arc<Desk>) -> Vec<Connection> {
    let mut connections: Vec<Connection> = Vec::new();
    let mut count = 0_u64;
    // When a failure was last told of.
    let mut told: Option<Instant> = None;
    while !desk.stopping.load(Ordering::Acquire) {
        let (listener, woken) = (socket.listener.as_fd(), woken.as_fd());
        let mut fds = [
            PollFd::new(&listener, PollFlags::IN),
            PollFd::new(&woken, PollFlags::IN),
        ];
        // An error here is a signal that came between. Without news it joins who has ended.
        let _ = rustix::event::poll(&mut fds, Some(&SWEEP));
        connections = joined(connections);
        match socket.listener.accept() {
            Ok((stream, _)) => {
                let accepted = peer::boot_ticks();
                count += 1;
                match connections.len() < limits::CONTROL_CONNECTIONS {
                    true => connections.extend(serve(stream, accepted, count, desk)),
                    false => turn_away(&stream),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                let is_quiet = |told: Instant| told.elapsed() < limits::ACCEPT_LOG_INTERVAL;
                if !told.is_some_and(is_quiet) {
                    log::warn!("control connection not accepted: {error}");
                    told = Some(Instant::now());
                }
                std::thread::sleep(limits::ACCEPT_RETRY);
            }
        }
    }
    connections
}

/// Those that are still at work; the others are joined.
fn joined(connections: Vec<Connection>) -> Vec<Connection> {
    let (ended, living): (Vec<_>, Vec<_>) = connections
        .into_iter()
        .partition(|connection| connection.thread.is_finished());
    ended.into_iter().for_each(join);
    living
}

fn join(connection: Connection) {
    if connection.thread.join().is_err() {
        log::error!("thread of a control connection panicked");
    }
}

/// Lets everybody say the last line, and cuts who is not done then.
fn end(mut connections: Vec<Connection>, deadline: Instant) {
    while Instant::now() < deadline {
        connections = joined(connections);
        if connections.is_empty() {
            return;
        }
        std::thread::sleep(limits::PROCESS_POLL);
    }
    for connection in &connections {
        // Gone already is as good.
        let _ = connection.stream.shutdown(std::net::Shutdown::Both);
    }
    connections.into_iter().for_each(join);
}

fn turn_away(stream: &UnixStream) {
    let most = limits::CONTROL_CONNECTIONS;
    let error = format!("there are {most} control connections already; try again in a moment");
    let refused = Refused::new(EXIT_UNREACHABLE, error);
    // The line fits into the empty buffer of a new connection.
    if let Ok(talk) = Conversation::new(stream) {
        let _ = talk.say(&last_line(Err(refused)));
    }
}

fn serve(stream: UnixStream, accepted: u64, number: u64, desk: &Arc<Desk>) -> Option<Connection> {
    let stream = Arc::new(stream);
    let (theirs, desk) = (stream.clone(), desk.clone());
    let body = move || {
        if let Err(error) = converse(&theirs, accepted, &desk) {
            log::debug!("control connection ended: {error}");
        }
        // The accepting thread still holds the connection; the client must not wait for it.
        let _ = theirs.shutdown(std::net::Shutdown::Both);
    };
    let name = format!("ctl-{number}");
    match thread::spawn(&name, limits::STACK_WORKER_BYTES, body) {
        Ok(thread) => Some(Connection { stream, thread }),
        Err(error) => {
            log::warn!("control connection not served: {error}");
            None
        }
    }
}

/// From the look at the peer to the last line.
fn converse(stream: &UnixStream, accepted: u64, desk: &Desk) -> io::Result<()> {
    let (peer, verdict) = peer::examine(stream, accepted)?;
    let talk = Conversation::new(stream)?;
    if let Err(why) = verdict {
        if why != peer::Refusal::Gone {
            desk.note_refusal(&peer, &why);
        }
        let refused = Refused::new(EXIT_REFUSED, format!("refused: {why}"));
        return talk.say(&last_line(Err(refused)));
    }
    let line = match talk.request() {
        Ok(Some(line)) => line,
        Ok(None) => return Ok(()),
        Err(error) => {
            let what = format!("no order of one line was read: {error}");
            return talk.say(&last_line(Err(Refused::new(EXIT_USAGE, what))));
        }
    };
    let done = match Order::parse(&line) {
        Ok(order) => desk.obey(&order, &peer, &talk),
        Err(refused) => Err(Stop::Refused(refused)),
    };
    match done {
        Ok(value) => talk.say(&last_line(Ok(value))),
        Err(Stop::Refused(refused)) => talk.say(&last_line(Err(refused))),
        Err(Stop::Client(error)) => Err(error),
    }
}

fn last_line(done: Result<Value, Refused>) -> Value {
    match done {
        Ok(mut value) => {
            value["ok"] = true.into();
            value
        }
        Err(Refused { code, error }) => json!({"ok": false, "code": code, "error": error}),
    }
}

impl Desk {
    fn obey(&self, order: &Order, peer: &Peer, talk: &Conversation<'_>) -> Result<Value, Stop> {
        if order.steers() {
            let (pid, uid) = (peer.pid, peer.uid);
            let server = order.server().unwrap_or_default();
            log::info!(
                "control order={} server={server:?} pid={pid} uid={uid}",
                order.word()
            );
            audit::note(Record {
                name: order.word(),
                server,
                detail: &format!("process {pid} of user {uid}"),
                ..Record::new(Event::Operator, Outcome::Ok)
            });
        }
        if !order.stays() {
            return carry_out(order, self, talk);
        }
        let others = self.followers.fetch_add(1, Ordering::AcqRel);
        let _seat = Seat(&self.followers);
        if others >= limits::CONTROL_FOLLOWERS {
            let most = limits::CONTROL_FOLLOWERS;
            let error = format!("there are {most} commands already that watch or wait");
            return Err(Refused::new(EXIT_UNREACHABLE, error).into());
        }
        carry_out(order, self, talk)
    }

    fn note_refusal(&self, peer: &Peer, why: &peer::Refusal) {
        fact::note(Fact::Refused {
            what: fact::Refused::Operator,
            whom: format!("process {} of user {}", peer.pid, peer.uid),
        });
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = refusals
            .told
            .is_some_and(|told| told.elapsed() < limits::ACCEPT_LOG_INTERVAL);
        if is_quiet {
            refusals.untold += 1;
            return;
        }
        let (pid, uid, untold) = (peer.pid, peer.uid, refusals.untold);
        log::warn!("control refused pid={pid} uid={uid} before={untold}: {why}");
        *refusals = Refusals {
            told: Some(Instant::now()),
            untold: 0,
        };
    }
}
