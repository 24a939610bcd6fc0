//! Every handle of a server whose threads may run: those that serve, those that come up in the
//! place of another, and those that leave. A leaving one finishes what it is asked already,
//! within a bound, on a thread of its own (`bye:NAME`); it is stopped and joined there. Where the
//! system refuses that thread, it is stopped at once, and joined when it is over.
//!
//! Deliberately absent: which handle serves (the router's world says so), and when one must go.

use std::collections::HashMap;
use std::io;
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
    /// Told to end, and without a thread that waits for it.
    unattended: Vec<Arc<Server>>,
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

    /// What the system refused threads for: servers that were not launched, and such that left.
    /// True while there is something to be done yet. Waits for nobody.
    pub fn catch_up(&self) -> bool {
        let leaving = self.join_unattended();
        let lacking = |server: &Arc<Server>| server.launch_again();
        let handles = self.handles();
        handles.iter().filter(|server| lacking(server)).count() + leaving > 0
    }

    /// Those that are over. How many are not.
    fn join_unattended(&self) -> usize {
        let unattended = std::mem::take(&mut self.state().unattended);
        let now = Instant::now();
        let is_over = |server: &Arc<Server>| server.wait_stopped(now);
        let (over, others): (Vec<_>, Vec<_>) = unattended.into_iter().partition(is_over);
        over.iter().for_each(|server| self.bury(server));
        let left = others.len();
        self.state().unattended.extend(others);
        left
    }

    fn bury(&self, server: &Arc<Server>) {
        server.join();
        let mut state = self.state();
        state.handles.retain(|handle| !Arc::ptr_eq(handle, server));
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
        state.attend(server, spawned);
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
        self.bury(server);
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
    fn attend(&mut self, server: Arc<Server>, spawned: io::Result<JoinHandle<()>>) {
        match spawned {
            Ok(thread) => self.leaving.push(thread),
            Err(error) => {
                let name = server.name();
                log::warn!("server is not waited for server={name:?}: {error}");
                server.stop();
                self.unattended.push(server);
            }
        }
    }

    /// Only of names that there are servers of.
    fn forget_names(&mut self) {
        let handles = &self.handles;
        let is_there = |name: &String| handles.iter().any(|server| server.name() == name);
        self.names.retain(|name, _| is_there(name));
    }
}

/// How often a leaving server is looked at.
const LOOK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use crossbeam_channel::bounded;

    use super::Fleet;
    use crate::base::gate::Gate;
    use crate::base::limits;
    use crate::config::server::{ProcessSpec, ServerConfig};
    use crate::config::settings::Settings;
    use crate::upstream::server::Surroundings;

    #[test]
    fn who_leaves_without_a_thread_to_wait_for_it_is_joined_when_it_is_over() {
        let (router, events) = bounded(limits::ROUTER_EVENTS);
        // Nobody looks at them.
        drop(events);
        let around = Surroundings::new(router, Arc::new(Gate::new(1)), &Settings::default());
        let fleet = Fleet::new(around);
        let process = ProcessSpec {
            program: "/bin/sh".to_owned(),
            args: ["-c", "cat >/dev/null"].map(str::to_owned).to_vec(),
            env: Vec::new(),
            cwd: None,
        };
        let server = fleet.prepare(ServerConfig::shared("a", process), None);
        server.launch();
        let refused = Err(io::Error::from(io::ErrorKind::WouldBlock));
        fleet.state().attend(server, refused);
        let deadline = Instant::now() + Duration::from_secs(20);
        while fleet.catch_up() {
            assert!(Instant::now() < deadline, "still not over");
            std::thread::yield_now();
        }
        assert!(fleet.handles().is_empty());
    }
}
