//! The listener as others see it: start it, stop it, and what it asks of its handler.
//! Absent on purpose: routes, policy, and how bytes are read (`connection`).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::base::limits;
use crate::base::room;
use crate::base::thread;
use crate::http::accept;
use crate::http::head::Head;
use crate::http::registry::Registry;
use crate::http::respond::{Reply, Responder};
use crate::http::tls::Tls;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// An IPv4 address that came over an IPv6 socket is shown as IPv4.
    pub address: IpAddr,
    pub port: u16,
    /// This connection has one of the slots beyond the cap, for `/health*` only.
    pub health_only: bool,
    /// Counts connections; for logs.
    pub connection: u64,
    /// Whom the client certificate names that was asked for and verified.
    pub subject: Option<Arc<str>>,
}

/// What becomes of a request, decided on its head.
#[derive(Debug)]
pub enum Admit {
    /// Read the body, up to so many bytes, and call `handle`.
    Body {
        max_bytes: usize,
        /// A header of whatever is said to this request from now on.
        mark: Option<(&'static str, String)>,
    },
    /// Answer at once; a body that was announced is not read, and the connection closes.
    Answer(Reply),
}

/// What the listener serves.
pub trait Handler: Send + Sync + 'static {
    /// Decides on the head alone, before any byte of the body is read.
    fn admit(&self, head: &Head<'_>, peer: &Peer) -> Admit;

    /// Answers a request that was admitted.
    fn handle(&self, head: &Head<'_>, peer: &Peer, body: &[u8], out: &mut Responder<'_>);

    /// Hears of what the listener itself refused: framing, bounds, deadlines, handshakes.
    fn refused(&self, _peer: &Peer, _status: u16, _reason: &'static str) {}
}

/// Bounds of one server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub connections: usize,
    pub connections_per_address: usize,
    pub health_connections: usize,
    /// What a connection in a health slot has at least, when others wait for one; none if it is
    /// silent and they have asked.
    pub health_turn: Duration,
    /// Loopback addresses do not count against `connections_per_address`.
    pub loopback_exempt: bool,
    pub head_deadline: Duration,
    pub body_deadline: Duration,
    pub write_deadline: Duration,
    pub keep_alive_idle: Duration,
    pub drain_deadline: Duration,
    /// Without it connections are plain.
    pub tls: Option<Arc<Tls>>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections: room::bounds().connections,
            connections_per_address: limits::CONNECTIONS_PER_ADDRESS,
            health_connections: limits::HEALTH_CONNECTIONS,
            health_turn: limits::HEALTH_TURN,
            loopback_exempt: true,
            head_deadline: limits::HEAD_DEADLINE,
            body_deadline: limits::BODY_DEADLINE,
            write_deadline: limits::WRITE_DEADLINE,
            keep_alive_idle: limits::KEEP_ALIVE_IDLE,
            drain_deadline: limits::DRAIN_DEADLINE,
            tls: None,
        }
    }
}

/// What the threads of one server have in common.
pub(super) struct Shared {
    pub(super) options: ServerOptions,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) registry: Registry,
    /// Set once: every answer from now on says that its connection ends, and ends it.
    pub(super) closing: AtomicBool,
    /// Set once: nobody waits for another request.
    pub(super) draining: AtomicBool,
    /// Set once: no new connections.
    pub(super) stopping: AtomicBool,
    /// Set once: the accept thread ends.
    pub(super) ending: AtomicBool,
    /// Wakes the accept thread.
    pub(super) wake: OwnedFd,
}

impl Shared {
    pub(super) fn wake(&self) {
        // It fails only when the counter is full, and then the thread is awake.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// A running listener.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    accept: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to accept on `listener`.
    ///
    /// # Errors
    /// When the system refuses a file descriptor or the thread.
    pub fn start(
        listener: TcpListener,
        options: ServerOptions,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            options,
            handler,
            registry: Registry::default(),
            closing: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            wake,
        });
        let acceptor = accept::Acceptor::new(Arc::clone(&shared), listener)?;
        let accept = thread::spawn("http-accept", limits::STACK_WORKER_BYTES, move || {
            acceptor.run()
        })?;
        Ok(Server {
            shared,
            address,
            accept: Some(accept),
        })
    }

    /// Where it listens; with the real port if it was bound to port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.shared.registry.open()
    }

    /// The same for whoever must not hold the server.
    pub fn count(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || shared.upgrade().map_or(0, |shared| shared.registry.open())
    }

    /// From now on each answer says `Connection: close` and ends its connection. New connections
    /// are still taken, for one request each.
    pub fn close_after_answers(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
    }

    /// Closes the listener: new clients are refused by the system. Those that the system has let
    /// in already are served.
    pub fn stop_accepting(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.wake();
        let deadline = Instant::now() + limits::LISTENER_CLOSE;
        if !self.shared.registry.wait_listener_closed(deadline) {
            log::warn!("listener not closed in time address={}", self.address);
        }
    }

    /// Closes connections that are between two requests; requests in work finish, say
    /// `Connection: close`, and their connections close after them.
    pub fn close_idle(&self) {
        self.close_after_answers();
        self.shared.draining.store(true, Ordering::SeqCst);
        self.shared.registry.close_resting();
    }

    /// Cuts every connection.
    pub fn abort(&self) {
        self.close_after_answers();
        self.shared.draining.store(true, Ordering::SeqCst);
        self.shared.registry.abort();
    }

    /// Waits until no connection is left; false when the deadline passed before.
    pub fn wait_empty(&self, deadline: Instant) -> bool {
        self.shared.registry.wait_empty(deadline)
    }

    /// Cuts what is left and joins the threads; a handler that does not return is left behind
    /// at the deadline.
    pub fn join(mut self, deadline: Instant) {
        self.end(deadline);
    }

    fn end(&mut self, deadline: Instant) {
        let Some(accept) = self.accept.take() else {
            return;
        };
        self.stop_accepting();
        self.abort();
        if !self.wait_empty(deadline) {
            log::warn!("requests left behind connections={}", self.connections());
        }
        self.shared.ending.store(true, Ordering::SeqCst);
        self.shared.wake();
        if accept.join().is_err() {
            log::error!("accept thread panicked address={}", self.address);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let patience = self.shared.options.drain_deadline + Duration::from_secs(1);
        self.end(Instant::now() + patience);
    }
}
