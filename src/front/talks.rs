//! The talks of HTTP+SSE by the id that their clients post to. They are made by one thread,
//! `talks`, started with the first of them: the thread of a quiet stream had better allocate
//! nothing, because its first allocation costs it many pages.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::{limits, thread};
use crate::front::channel::{Channel, Form};
use crate::front::sessions::note_too_many;
use crate::front::streamable::rpc_reply;
use crate::front::talk::{Common, Talk};
use crate::http::Reply;
use crate::mcp::error::{INVALID_PARAMS, INVALID_REQUEST};
use crate::model::principal::Principal;
use crate::relay::view::parse_query;

pub struct Talks {
    pub common: Arc<Common>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ordered: Condvar,
    made: Condvar,
}

#[derive(Default)]
struct State {
    open: HashMap<Arc<str>, Arc<Talk>>,
    orders: VecDeque<Order>,
    made: Vec<(u64, Made)>,
    last_number: u64,
    maker: Option<JoinHandle<()>>,
    stopping: bool,
}

/// The id of a talk and the talk; or what the client is told instead.
type Made = Result<(Arc<str>, Arc<Talk>), Reply>;

/// A talk that is wanted. It owns nothing on the heap.
struct Order {
    number: u64,
    address: IpAddr,
    owner: Option<Arc<Principal>>,
    query: [u8; limits::SSE_QUERY_BYTES],
    query_bytes: usize,
}

impl Talks {
    pub fn new(common: Arc<Common>) -> Talks {
        let shared = Arc::<Shared>::default();
        shared.state().orders.reserve(limits::SSE_ORDERS);
        Talks { common, shared }
    }

    pub fn get(&self, id: &str) -> Option<Arc<Talk>> {
        self.shared.state().open.get(id).cloned()
    }

    /// Opens one with a new id.
    pub fn open(&self, query: &str, address: IpAddr, owner: Option<&Arc<Principal>>) -> Made {
        match self.order(query, address, owner) {
            Some(number) => self.take_made(number),
            None => {
                self.shared.admit(address, owner)?;
                let made = make(&self.common, query, address, owner.cloned());
                made.inspect(|made| self.shared.enter(made))
            }
        }
    }

    /// Has it made by the `talks` thread, if that can be.
    fn order(&self, query: &str, address: IpAddr, owner: Option<&Arc<Principal>>) -> Option<u64> {
        let mut state = self.shared.state();
        let has_room = state.orders.len() < limits::SSE_ORDERS;
        if !has_room || query.len() > limits::SSE_QUERY_BYTES || !self.has_maker(&mut state) {
            return None;
        }
        state.last_number += 1;
        let number = state.last_number;
        let mut order = Order {
            number,
            address,
            owner: owner.cloned(),
            query: [0; limits::SSE_QUERY_BYTES],
            query_bytes: query.len(),
        };
        order.query[..query.len()].copy_from_slice(query.as_bytes());
        state.orders.push_back(order);
        self.shared.ordered.notify_one();
        Some(number)
    }

    fn has_maker(&self, state: &mut State) -> bool {
        if state.stopping || state.maker.is_some() {
            return !state.stopping;
        }
        let (shared, common) = (self.shared.clone(), self.common.clone());
        let body = move || shared.make_all(&common);
        match thread::spawn("talks", limits::STACK_WORKER_BYTES, body) {
            Ok(handle) => state.maker = Some(handle),
            Err(error) => log::warn!("streams need more memory than usual: no thread: {error}"),
        }
        state.maker.is_some()
    }

    fn take_made(&self, number: u64) -> Made {
        let deadline = Instant::now() + limits::START_WAIT;
        let mut state = self.shared.state();
        loop {
            if let Some(at) = state.made.iter().position(|(made, _)| *made == number) {
                return state.made.swap_remove(at).1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stopping {
                return Err(unavailable("the gateway is shutting down"));
            }
            let waited = self.shared.made.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends one that `open` gave.
    pub fn close(&self, id: &str, talk: &Talk) {
        self.shared.state().open.remove(id);
        talk.close();
    }

    /// Those that are open. At the end of the gateway each is drained: what is asked for is
    /// answered, then the channel ends.
    pub fn all(&self) -> Vec<Arc<Talk>> {
        self.shared.state().open.values().cloned().collect()
    }

    pub fn stop(&self) {
        let maker = {
            let mut state = self.shared.state();
            state.stopping = true;
            state.maker.take()
        };
        self.shared.ordered.notify_all();
        self.shared.made.notify_all();
        if maker.is_some_and(|maker| maker.join().is_err()) {
            log::error!("talks thread panicked");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one of this owner may be opened: each holds a thread and a session.
    fn admit(&self, address: IpAddr, owner: Option<&Arc<Principal>>) -> Result<(), Reply> {
        let Some(owner) = owner else {
            return Ok(());
        };
        let state = self.state();
        let mine = state
            .open
            .values()
            .filter(|talk| talk.belongs_to(Some(owner)));
        if mine.count() < limits::SESSIONS_PER_PRINCIPAL {
            return Ok(());
        }
        drop(state);
        note_too_many(address);
        let what = "too many streams of this client; end one first";
        Err(rpc_reply(429, INVALID_REQUEST, what))
    }

    fn enter(&self, (id, talk): &(Arc<str>, Arc<Talk>)) {
        self.state().open.insert(id.clone(), talk.clone());
    }

    fn make_all(&self, common: &Arc<Common>) {
        while let Some(order) = self.next_order() {
            let query = &order.query[..order.query_bytes];
            // It was a text when it was copied.
            let query = std::str::from_utf8(query).unwrap_or_default();
            let admitted = self.admit(order.address, order.owner.as_ref());
            let made = admitted.and_then(|()| make(common, query, order.address, order.owner));
            let made = made.inspect(|made| self.enter(made));
            self.state().made.push((order.number, made));
            self.made.notify_all();
        }
    }

    fn next_order(&self) -> Option<Order> {
        let mut state = self.state();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(order) = state.orders.pop_front() {
                return Some(order);
            }
            // Woken for each order and for the end.
            let waited = self.ordered.wait_timeout(state, Duration::from_secs(60));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn make(common: &Arc<Common>, query: &str, address: IpAddr, owner: Option<Arc<Principal>>) -> Made {
    let desk = &common.streamable.desk;
    if desk.is_draining() {
        return Err(unavailable("the gateway is shutting down"));
    }
    let filter = parse_query(Some(query), &desk.hub.world())
        .map_err(|bad| rpc_reply(400, INVALID_PARAMS, &bad.0))?;
    let channel = Channel::new(Form::Event).map_err(|error| {
        log::warn!("stream not opened: {error}");
        unavailable("the gateway has too many files open")
    })?;
    let talk = Talk::new(common.clone(), Arc::new(channel), filter, address, owner);
    Ok((common.streamable.sessions.new_id().into(), Arc::new(talk)))
}

fn unavailable(why: &str) -> Reply {
    rpc_reply(503, INVALID_REQUEST, why)
}
