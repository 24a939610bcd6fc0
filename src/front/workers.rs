//! The `call` threads: what clients ask for on a channel runs here, because whoever reads a
//! channel must be free for the next message (which may take the request back). A thread is made
//! when none is idle, waits a moment for more work, and ends; bounded in number.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::base::{limits, room, thread};

pub type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct Workers {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// A thread has ended.
    left: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Threads that wait for work.
    idle: usize,
    threads: HashMap<u64, JoinHandle<()>>,
    next_number: u64,
    /// The thread that ended last; the next one to end joins it.
    ended: Option<JoinHandle<()>>,
    stopping: bool,
}

impl Workers {
    /// Runs `job` on a thread of its own. False when too many are at work, or the system gives no
    /// thread.
    pub fn run(&self, job: Job) -> bool {
        let mut state = self.shared.state();
        if state.stopping {
            return false;
        }
        // Each waiting job has an idle thread that is about to take it.
        if state.idle > state.queue.len() {
            state.queue.push_back(job);
            self.shared.work.notify_one();
            return true;
        }
        if state.threads.len() >= room::bounds().calls {
            return false;
        }
        let number = state.next_number;
        state.next_number += 1;
        let shared = self.shared.clone();
        // The lock is held: the thread may end at once, and looks for its handle then.
        let body = move || shared.work(number, job);
        match thread::spawn("call", limits::STACK_CONNECTION_BYTES, body) {
            Ok(handle) => {
                state.threads.insert(number, handle);
                true
            }
            Err(error) => {
                log::warn!("call refused: no thread: {error}");
                false
            }
        }
    }

    /// Threads, idle ones included.
    pub fn len(&self) -> usize {
        self.shared.state().threads.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes no more work and joins the threads; one that is still at work at `deadline` is left
    /// behind.
    pub fn stop(&self, deadline: Instant) {
        let mut state = self.shared.state();
        state.stopping = true;
        self.shared.work.notify_all();
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = self
            .shared
            .left
            .wait_timeout_while(state, left, |state| !state.threads.is_empty());
        let (mut state, _) = ended.unwrap_or_else(PoisonError::into_inner);
        if !state.threads.is_empty() {
            log::warn!("calls left behind threads={}", state.threads.len());
        }
        let last = state.ended.take();
        drop(state);
        last.into_iter().for_each(join);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, number: u64, first: Job) {
        let mut job = first;
        loop {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                log::error!("call panicked");
            }
            match self.next() {
                Some(next) => job = next,
                None => break,
            }
        }
        let before = {
            let mut state = self.state();
            match state.threads.remove(&number) {
                Some(own) => state.ended.replace(own),
                None => None,
            }
        };
        self.left.notify_all();
        if let Some(before) = before {
            join(before);
        }
    }

    fn next(&self) -> Option<Job> {
        let deadline = Instant::now() + limits::WORKER_IDLE;
        let mut state = self.state();
        state.idle += 1;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let job = state.queue.pop_front();
            if job.is_some() || state.stopping || left.is_zero() {
                state.idle -= 1;
                return job;
            }
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        log::error!("call thread panicked");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Instant;

    use super::Workers;
    use crate::base::{limits, thread};

    #[test]
    fn threads_are_reused_bounded_and_joined() {
        let workers = Workers::default();
        let (done, finished) = sync_channel(1);
        for _ in 0..50 {
            let done = done.clone();
            let names = move || {
                done.send(thread::name()).expect("the test waits");
            };
            assert!(workers.run(Box::new(names)));
            assert_eq!(finished.recv().expect("done"), "call");
        }
        // One that has just said so is not idle yet, so there may be a few.
        assert!(workers.len() < 25, "{}", workers.len());
        let (release, held) = sync_channel::<()>(1);
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        let mut taken = 0;
        loop {
            let held = held.clone();
            let wait = move || {
                // The sender is dropped below: that is the end of the wait.
                let _ = held.lock().expect("not poisoned").recv();
            };
            if !workers.run(Box::new(wait)) {
                break;
            }
            taken += 1;
        }
        assert_eq!(workers.len(), limits::CHANNEL_CALLS);
        assert!(taken >= limits::CHANNEL_CALLS - 25, "{taken}");
        drop(release);
        workers.stop(Instant::now() + limits::CHANNEL_WAIT);
        assert!(workers.is_empty() && !workers.run(Box::new(|| ())));
    }
}
