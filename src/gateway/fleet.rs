//! Every handle of a server whose threads may run: those that serve, those that come up in the
//! place of another, and those that leave. A leaving one finishes what it is asked already,
//! within a bound, on a thread of its own (`bye:NAME`); it is stopped and joined there.
//!
//! Deliberately absent: which handle serves (the router's world says so), and when one must go.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::{limits, thread};
use crate::config::server::ServerConfig;
use crate::config::settings::Settings;
use crate::upstream::server::{Kept, Server, Surroundings};

pub struct Fleet {
    around: Surroundings,
    state: Mutex<State>,
    /// Rings when the fleet closes.
    closing: Condvar,
}

#[derive(Default)]
struct State {
    handles: Vec<Arc<Server>>,
    /// What is kept of each name, also while there is no server of it.
    names: HashMap<String, Kept>,
    leaving: Vec<JoinHandle<()>>,
    next_slot: usize,
    is_closed: bool,
}

impl Fleet {
    pub fn new(around: Surroundings) -> Fleet {
        Fleet {
            around,
            state: Mutex::default(),
            closing: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server that was not there, or one in the place of `before`. Whoever takes it in launches
    /// it then.
    pub fn prepare(&self, config: ServerConfig, before: Option<&Server>) -> Arc<Server> {
        let mut state = self.state();
        let around = self.around.clone();
        let server = match before {
            Some(before) => before.successor(config, around),
            None => match state.names.get(&config.name) {
                Some(kept) => Server::of(kept.clone(), config, around),
                None => {
                    state.next_slot += 1;
                    Server::new(state.next_slot, config, around)
                }
            },
        };
        if state.names.len() >= limits::FLEET_NAMES {
            state.forget_names();
        }
        state.names.insert(server.name().to_owned(), server.kept());
        state.handles.push(server.clone());
        server
    }

    /// The servers of the configuration that is to be put in force: they may wait for each other.
    pub fn expect<'n>(&self, names: impl Iterator<Item = &'n str>) {
        self.around.neighbours.expect(names);
    }

    /// How often a list that changes all the time is read.
    pub fn set_refresh_window(&self, settings: &Settings) {
        self.around.refresh_window.set(settings);
    }

    pub fn handles(&self) -> Vec<Arc<Server>> {
        self.state().handles.clone()
    }

    /// Servers that got no thread when they were launched; true while there are such.
    pub fn launch_again(&self) -> bool {
        let lacking = |server: &Arc<Server>| server.launch_again();
        self.handles()
            .iter()
            .filter(|server| lacking(server))
            .count()
            > 0
    }

    /// Lets `server` finish its calls, then ends it. Returns at once.
    pub fn retire(self: &Arc<Self>, server: Arc<Server>) {
        let name = server.name().to_owned();
        log::info!("server leaves server={name:?}");
        let mut state = self.state();
        state.leaving.retain(|thread| !thread.is_finished());
        if state.is_closed {
            return;
        }
        if state.leaving.len() >= limits::RETIRING {
            // Too many changes at a time: this one's calls are not waited for.
            server.stop();
        }
        let (fleet, leaving) = (self.clone(), server.clone());
        let spawned = thread::spawn(
            &format!("bye:{name}"),
            limits::STACK_WORKER_BYTES,
            move || fleet.see_off(&leaving),
        );
        match spawned {
            Ok(thread) => state.leaving.push(thread),
            Err(error) => {
                log::warn!("server is not waited for server={name:?}: {error}");
                server.stop();
            }
        }
    }

    fn see_off(&self, server: &Arc<Server>) {
        let began = Instant::now();
        let patience = server.config.request_timeout.min(limits::RETIRE);
        let mut state = self.state();
        while !state.is_closed && began.elapsed() < patience {
            // Who took the world before the change may still be on the way here.
            if began.elapsed() >= limits::RETIRE_MIN && server.is_quiet() {
                break;
            }
            let waited = self.closing.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        server.stop();
        server.join();
        self.state()
            .handles
            .retain(|handle| !Arc::ptr_eq(handle, server));
    }

    /// Who waits for a server that is not up yet waits no longer.
    pub fn dismiss_waiting(&self) {
        self.around.closing.store(true, Ordering::Release);
        let handles = self.handles();
        handles.iter().for_each(|server| server.wake_waiting());
    }

    /// Starts none any more, and ends those that leave. Gives all that are left, to be stopped.
    pub fn close(&self) -> Vec<Arc<Server>> {
        let handles = {
            let mut state = self.state();
            state.is_closed = true;
            state.handles.clone()
        };
        self.closing.notify_all();
        handles
    }

    /// When all were told to end: waits for them.
    pub fn join_all(&self) {
        let handles = self.handles();
        handles.iter().for_each(|server| server.join());
        let leaving = std::mem::take(&mut self.state().leaving);
        for thread in leaving {
            if thread.join().is_err() {
                log::error!("thread of a leaving server panicked");
            }
        }
    }
}

impl State {
    /// Only of names that there are servers of.
    fn forget_names(&mut self) {
        let handles = &self.handles;
        let is_there = |name: &String| handles.iter().any(|server| server.name() == name);
        self.names.retain(|name, _| is_there(name));
    }
}

/// How often a leaving server is looked at.
const LOOK: Duration = Duration::from_millis(50);
