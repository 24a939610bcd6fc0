//! Takes connections in: one thread that polls the listener and a wake-up descriptor.
//!
//! Owner of the listener, of the handles of all connection threads, and of one reserve file
//! descriptor. Nothing a client does and no shortage ends it: refused connections get a 503.
//! Absent on purpose: reading requests; a pool of threads.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::base::limits::{
    ACCEPT_LOG_INTERVAL, ACCEPT_RETRY, ACCEPTED_AT_ONCE, GIVE_BACK_WAIT, LISTENER_QUEUE,
    REFUSED_AT_ONCE, REFUSED_KEPT, STACK_CONNECTION_BYTES, UNJOINED_THREADS,
};
use crate::base::{sys, thread};
use crate::http::connection::{self, Buffers};
use crate::http::registry::{Link, Slot};
use crate::http::server::{Peer, Shared};

/// What a connection gets that is not let in.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
    Retry-After: 1\r\nContent-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n";

/// The same in TLS: the fatal alert `internal_error`, which needs no handshake.
const BUSY_TLS: &[u8] = b"\x15\x03\x03\x00\x02\x02\x50";

pub(super) struct Acceptor {
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
    threads: HashMap<u64, JoinHandle<()>>,
    /// Connections that ended since memory was given back, and when it will be.
    ended: usize,
    give_back_at: Option<Instant>,
    next_id: u64,
    /// Given up for a moment when descriptors ran out, to refuse politely.
    reserve: Option<OwnedFd>,
    refused: VecDeque<(TcpStream, Instant)>,
    last_log: Option<Instant>,
    unlogged: u64,
}

impl Acceptor {
    pub(super) fn new(shared: Arc<Shared>, listener: TcpListener) -> io::Result<Self> {
        let reserve = Some(shared.wake.try_clone()?);
        deepen_queue(&listener)?;
        Ok(Self {
            shared,
            listener: Some(listener),
            threads: HashMap::new(),
            ended: 0,
            give_back_at: None,
            next_id: 0,
            reserve,
            refused: VecDeque::new(),
            last_log: None,
            unlogged: 0,
        })
    }

    pub(super) fn run(mut self) {
        while !self.shared.ending.load(Ordering::SeqCst) {
            if self.shared.stopping.load(Ordering::SeqCst) {
                self.close_listener();
            }
            self.wait(true, self.next_time());
            self.join_ended();
            self.give_back();
            self.drop_refused();
            self.accept_some();
        }
        self.join_ended();
        if !self.threads.is_empty() {
            log::warn!(
                "connection threads left behind count={}",
                self.threads.len()
            );
        }
    }

    /// Waits for a wake-up, and for a client if `clients`.
    fn wait(&self, clients: bool, at_most: Option<Duration>) {
        let timeout = at_most.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let wake = PollFd::new(&self.shared.wake, PollFlags::IN);
        // All errors of poll pass: the loop looks at everything again.
        let _ = match &self.listener {
            Some(listener) if clients => poll(
                &mut [wake, PollFd::new(listener, PollFlags::IN)],
                timeout.as_ref(),
            ),
            _ => poll(&mut [wake], timeout.as_ref()),
        };
        // Empty (EAGAIN) when it was a client that woke us.
        let _ = rustix::io::read(&self.shared.wake, &mut [0u8; 8]);
    }

    /// Takes in who stands in the queue of the system: closed over their heads, they would be
    /// reset although they were connected.
    fn close_listener(&mut self) {
        for _ in 0..LISTENER_QUEUE {
            match self.listener.as_ref().map(TcpListener::accept) {
                Some(Ok((socket, address))) => self.take_in(socket, address),
                Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Some(Err(_)) | None => break,
            }
        }
        if self.listener.take().is_some() {
            self.shared.registry.listener_closed();
        }
    }

    /// Some of those who wait: between two lots the threads of those who have left are joined, for
    /// in a flood somebody always waits.
    fn accept_some(&mut self) {
        for _ in 0..ACCEPTED_AT_ONCE {
            let Some(listener) = &self.listener else {
                return;
            };
            if self.shared.stopping.load(Ordering::SeqCst) {
                return;
            }
            match listener.accept() {
                Ok((socket, address)) => self.take_in(socket, address),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.survive(&error),
            }
        }
    }

    /// A failed accept: frees the queue if descriptors ran out, then waits a little.
    fn survive(&mut self, error: &io::Error) {
        self.log("accept failed", error);
        let errno = Errno::from_io_error(error);
        if matches!(errno, Some(Errno::MFILE | Errno::NFILE)) {
            self.refused.clear();
            self.reserve = None;
            self.refuse_queued();
            self.reserve = self.shared.wake.try_clone().ok();
        }
        if errno != Some(Errno::CONNABORTED) {
            self.wait(false, Some(ACCEPT_RETRY));
        }
    }

    /// With the one descriptor just freed: accept, answer, close, again.
    fn refuse_queued(&self) {
        for _ in 0..REFUSED_AT_ONCE {
            let Some(Ok((socket, _))) = self.listener.as_ref().map(TcpListener::accept) else {
                return;
            };
            self.answer_busy(&socket);
            let mut request = [0u8; 4096];
            let _ = rustix::net::recv(&socket, &mut request, rustix::net::RecvFlags::DONTWAIT);
        }
    }

    fn take_in(&mut self, socket: TcpStream, from: SocketAddr) {
        let id = self.next_id;
        self.next_id += 1;
        let address = from.ip().to_canonical();
        let link = Arc::new(Link::new(socket));
        let slot = match self
            .shared
            .registry
            .enter(id, &link, address, &self.shared.options)
        {
            Ok(slot) => slot,
            Err(cap) => {
                self.log(
                    "connection refused",
                    &format_args!("cap={cap} peer={address}"),
                );
                return self.refuse(link);
            }
        };
        let health_only = slot == Slot::Health;
        let peer = Peer {
            address,
            port: from.port(),
            health_only,
            connection: id,
            subject: None,
        };
        match self.spawn(id, &link, peer) {
            Ok(thread) => {
                self.threads.insert(id, thread);
            }
            Err(error) => {
                self.log("connection thread not started", &error);
                self.shared.registry.leave(id);
                self.refuse(link);
            }
        }
    }

    fn spawn(&self, id: u64, link: &Arc<Link>, peer: Peer) -> io::Result<JoinHandle<()>> {
        let (shared, link) = (Arc::clone(&self.shared), Arc::clone(link));
        let address = peer.address;
        let buffers = Buffers::new();
        thread::spawn(&format!("http-{id}"), STACK_CONNECTION_BYTES, move || {
            let run = AssertUnwindSafe(|| connection::serve(&shared, &link, peer, buffers));
            if catch_unwind(run).is_err() {
                log::error!("connection thread panicked peer={address}");
            }
            // The slot is free before the peer can see the end of its connection.
            let unjoined = shared.registry.leave(id);
            if unjoined >= UNJOINED_THREADS {
                shared.wake();
            }
        })
    }

    /// Answers 503 and keeps the socket for a moment: closed at once, with the request still
    /// to come, it would be reset before the peer has read the answer.
    fn refuse(&mut self, link: Arc<Link>) {
        let Some(link) = Arc::into_inner(link) else {
            return;
        };
        self.answer_busy(&link.socket);
        let _ = link.socket.shutdown(std::net::Shutdown::Write);
        if self.refused.len() >= REFUSED_KEPT {
            self.refused.pop_front();
        }
        self.refused.push_back((
            link.socket,
            Instant::now() + self.shared.options.drain_deadline,
        ));
    }

    fn answer_busy(&self, socket: &TcpStream) {
        let answer = match self.shared.options.tls {
            None => BUSY,
            Some(_) => BUSY_TLS,
        };
        // A new socket takes these few bytes; if it does not, there is nobody to tell.
        let _ = send(socket, answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// When something is to be done although nobody comes.
    fn next_time(&self) -> Option<Duration> {
        let refused = self.refused.front().map(|(_, until)| *until);
        let next = refused.into_iter().chain(self.give_back_at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn drop_refused(&mut self) {
        let now = Instant::now();
        while self.refused.front().is_some_and(|(_, until)| *until <= now) {
            self.refused.pop_front();
        }
    }

    fn join_ended(&mut self) {
        for id in self.shared.registry.take_ended() {
            self.ended += 1;
            if let Some(thread) = self.threads.remove(&id)
                && thread.join().is_err()
            {
                log::error!("connection thread ended by a panic connection={id}");
            }
        }
    }

    /// What a crowd used the allocator would keep until it is used again, which may be never: the
    /// buffers of connections come from this thread, and what their threads leave behind is only
    /// looked at when somebody looks.
    fn give_back(&mut self) {
        let now = Instant::now();
        if self.give_back_at.is_some_and(|time| time <= now) {
            self.give_back_at = None;
            self.ended = 0;
            sys::rest_heap();
        }
        if self.ended >= UNJOINED_THREADS && self.give_back_at.is_none() {
            self.give_back_at = Some(now + GIVE_BACK_WAIT);
        }
    }

    /// Logs at most once per interval, with the number of lines left out.
    fn log(&mut self, event: &str, detail: &dyn std::fmt::Display) {
        let now = Instant::now();
        if self
            .last_log
            .is_some_and(|last| now - last < ACCEPT_LOG_INTERVAL)
        {
            self.unlogged += 1;
            return;
        }
        log::warn!("{event} {detail} unlogged={}", self.unlogged);
        self.last_log = Some(now);
        self.unlogged = 0;
    }
}

/// std asks for 128, and whom the system turns away for want of room tries again a second later.
fn deepen_queue(listener: &TcpListener) -> io::Result<()> {
    let most = i32::try_from(LISTENER_QUEUE).unwrap_or(i32::MAX);
    Ok(rustix::net::listen(listener, most)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_hundred_may_come_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        deepen_queue(&listener).unwrap();
        let address = listener.local_addr().unwrap();
        // The system tries again after one second whom it has turned away.
        let patience = Duration::from_millis(900);
        let come = |_| TcpStream::connect_timeout(&address, patience).unwrap();
        let came: Vec<TcpStream> = (0..400).map(come).collect();
        drop(came);
    }
}
