//! The open connections: their number against the caps, and a hold on each socket.
//!
//! Shared by the accept thread, the connection threads (at their beginning and end only) and
//! whoever stops the server; the lock is never held over a wait.
//! Absent on purpose: anything a running request would need.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};

use crate::http::server::ServerOptions;

/// A socket, and whether its thread is between two requests, or not yet at the first.
pub(super) struct Link {
    pub(super) socket: TcpStream,
    resting: AtomicBool,
}

impl Link {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            resting: AtomicBool::new(true),
        }
    }

    pub(super) fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
    }

    pub(super) fn work(&self) {
        self.resting.store(false, Ordering::SeqCst);
    }

    /// Bytes of the peer wait to be read.
    fn has_news(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        recv(&self.socket, &mut [0u8; 1], flags).is_ok_and(|(_, count)| count > 0)
    }

    fn is_silent(&self) -> bool {
        self.resting.load(Ordering::SeqCst) && !self.has_news()
    }
}

/// How a new connection is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Ordinary,
    /// Beyond the cap: for `/health*` only.
    Health,
}

struct Entry {
    link: Arc<Link>,
    address: IpAddr,
    slot: Slot,
    since: Instant,
}

#[derive(Default)]
struct State {
    open: HashMap<u64, Entry>,
    per_address: HashMap<IpAddr, usize>,
    ordinary: usize,
    /// Those that have a health slot, the oldest first.
    health: VecDeque<u64>,
    /// Connections whose threads are ending and wait to be joined.
    ended: Vec<u64>,
    listener_closed: bool,
}

#[derive(Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    changed: Condvar,
}

impl Registry {
    /// Takes a slot for `link`; the name of the cap that is full otherwise. Beyond a cap there are
    /// the health slots: probes come from addresses that clients share, too.
    pub(super) fn enter(
        &self,
        id: u64,
        link: &Arc<Link>,
        address: IpAddr,
        options: &ServerOptions,
    ) -> Result<Slot, &'static str> {
        let mut state = self.lock();
        let exempt = options.loopback_exempt && address.is_loopback();
        let of_address = state.per_address.get(&address).copied().unwrap_or(0);
        let has_room = exempt || of_address < options.connections_per_address;
        let slot = match () {
            () if has_room && state.ordinary < options.connections => Slot::Ordinary,
            () if state.health.len() < options.health_connections => Slot::Health,
            () if state.make_way(options.health_turn, link.has_news()) => Slot::Health,
            () => return Err(if has_room { "total" } else { "address" }),
        };
        match slot {
            Slot::Ordinary => state.ordinary += 1,
            Slot::Health => state.health.push_back(id),
        }
        *state.per_address.entry(address).or_default() += 1;
        state.open.insert(
            id,
            Entry {
                link: Arc::clone(link),
                address,
                slot,
                since: Instant::now(),
            },
        );
        Ok(slot)
    }

    /// Gives the slot back. Says how many threads wait to be joined, this one included.
    pub(super) fn leave(&self, id: u64) -> usize {
        let mut state = self.lock();
        let Some(entry) = state.open.remove(&id) else {
            return state.ended.len();
        };
        match entry.slot {
            Slot::Ordinary => state.ordinary -= 1,
            // One that made way is not in the queue any more.
            Slot::Health => state.health.retain(|other| *other != id),
        }
        if let Some(count) = state.per_address.get_mut(&entry.address) {
            *count -= 1;
            if *count == 0 {
                state.per_address.remove(&entry.address);
            }
        }
        state.ended.push(id);
        self.changed.notify_all();
        state.ended.len()
    }

    /// The connections that left since the last call.
    pub(super) fn take_ended(&self) -> Vec<u64> {
        mem::take(&mut self.lock().ended)
    }

    pub(super) fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// Ends the reading side of every connection that is between two requests.
    pub(super) fn close_resting(&self) {
        for entry in self.lock().open.values() {
            if entry.link.resting.load(Ordering::SeqCst) {
                // It fails only when the connection is gone already.
                let _ = entry.link.socket.shutdown(Shutdown::Read);
            }
        }
    }

    pub(super) fn abort(&self) {
        for entry in self.lock().open.values() {
            let _ = entry.link.socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn listener_closed(&self) {
        self.lock().listener_closed = true;
        self.changed.notify_all();
    }

    pub(super) fn wait_listener_closed(&self, deadline: Instant) -> bool {
        self.wait(deadline, |state| state.listener_closed)
    }

    pub(super) fn wait_empty(&self, deadline: Instant) -> bool {
        self.wait(deadline, |state| state.open.is_empty())
    }

    fn wait(&self, deadline: Instant, done: impl Fn(&State) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), left, |state| !done(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        done(&state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Cuts the oldest connection in a health slot that has had its turn: who only holds slots must
    /// not keep probes out. For one who has asked already, who is silent has no turn: in a flood
    /// of connections no probe would find a slot.
    fn make_way(&mut self, turn: Duration, has_asked: bool) -> bool {
        let gives_way =
            |entry: &Entry| entry.since.elapsed() >= turn || has_asked && entry.link.is_silent();
        let open = &self.open;
        let mut held = self.health.iter();
        let Some(place) = held.position(|id| open.get(id).is_some_and(gives_way)) else {
            return false;
        };
        let oldest = self.health.remove(place).and_then(|id| self.open.get(&id));
        if let Some(oldest) = oldest {
            // It fails only when the connection is gone already.
            let _ = oldest.link.socket.shutdown(Shutdown::Both);
        }
        true
    }
}
