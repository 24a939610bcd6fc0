//! The threads that exchange messages with one server: `ht:NAME`, one for each exchange under
//! way. An idle one takes the next exchange, and ends when none comes for a while.
//!
//! Nothing is queued here: an exchange begins at once, or its sender hears that it cannot.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, at, bounded, select};

use crate::base::{limits, thread};
use crate::upstream::outlet::SendError;

/// `J`: what one exchange is about.
pub struct Crew<J> {
    name: String,
    jobs: Sender<J>,
    taken: Receiver<J>,
    threads: Arc<AtomicUsize>,
    /// Held by every thread; gone once closed.
    alive: Mutex<Option<Sender<()>>>,
    /// Disconnected once closed.
    closing: Mutex<Option<Sender<()>>>,
    closed: Receiver<()>,
}

impl<J: Send + 'static> Crew<J> {
    /// Also gives what is disconnected when all threads have ended.
    pub fn new(name: &str) -> (Crew<J>, Receiver<()>) {
        let (jobs, taken) = bounded(0);
        let (alive, ended) = bounded(0);
        let (closing, closed) = bounded(0);
        let crew = Crew {
            name: name.to_owned(),
            jobs,
            taken,
            threads: Arc::default(),
            alive: Mutex::new(Some(alive)),
            closing: Mutex::new(Some(closing)),
            closed,
        };
        (crew, ended)
    }

    /// Hands `job` to an idle thread, or to a new one while there are fewer than `most`. Without
    /// either it waits until `deadline`, or not at all.
    pub fn hand(
        &self,
        job: J,
        most: usize,
        deadline: Option<Instant>,
        run: impl Fn(J) + Send + 'static,
    ) -> Result<(), SendError> {
        let job = match self.jobs.try_send(job) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
        };
        if let Some(place) = Place::take(&self.threads, most) {
            return self.enlist(job, place, run);
        }
        let Some(deadline) = deadline else {
            return Err(SendError::Busy);
        };
        select! {
            send(self.jobs, job) -> sent => sent.map_err(|_| SendError::Closed),
            recv(self.closed) -> _ => Err(SendError::Closed),
            recv(at(deadline)) -> _ => Err(SendError::Busy),
        }
    }

    fn enlist(
        &self,
        job: J,
        place: Place,
        run: impl Fn(J) + Send + 'static,
    ) -> Result<(), SendError> {
        let (taken, closed) = (self.taken.clone(), self.closed.clone());
        let spawned = self.thread("ht", move || {
            run(job);
            loop {
                select! {
                    recv(closed) -> _ => break,
                    recv(taken) -> next => match next {
                        Ok(job) => run(job),
                        Err(_) => break,
                    },
                    default(limits::REMOTE_IDLE) => break,
                }
            }
            drop(place);
        });
        spawned.map_err(|error| {
            log::warn!("no thread for an exchange server={:?}: {error}", self.name);
            SendError::Busy
        })
    }

    /// A thread of its own, which the owner waits for as for the others.
    pub fn thread(&self, prefix: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = alive.clone() else {
            return Err(io::Error::other("the server is being stopped"));
        };
        let name = format!("{prefix}:{}", self.name);
        let spawned = thread::spawn(&name, limits::STACK_REMOTE_BYTES, move || {
            body();
            drop(held);
        });
        spawned.map(|_| ())
    }

    /// False when closed before `deadline`.
    pub fn rest(&self, deadline: Instant) -> bool {
        // Nothing is ever sent: it is a timeout, or closed.
        matches!(
            self.closed.recv_deadline(deadline),
            Err(RecvTimeoutError::Timeout)
        )
    }

    pub fn close(&self) {
        for end in [&self.alive, &self.closing] {
            drop(end.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

/// One thread among those that may be; given back when it ends, however it ends.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(threads: &Arc<AtomicUsize>, most: usize) -> Option<Place> {
        let place = Place(threads.clone());
        (threads.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::Crew;
    use crate::upstream::outlet::SendError;
    use crossbeam_channel::{RecvTimeoutError, bounded};
    use std::time::{Duration, Instant};

    #[test]
    fn works_with_so_many_threads_and_ends_them() {
        let (crew, ended) = Crew::<u32>::new("s");
        let (done, results) = bounded(8);
        let (go, gate) = bounded::<()>(8);
        let run = move |job: u32| {
            let _ = gate.recv_timeout(Duration::from_secs(20));
            let _ = done.send(job);
        };
        let hand = |job: u32, wait: u64| {
            let deadline = (wait > 0).then(|| Instant::now() + Duration::from_millis(wait));
            crew.hand(job, 2, deadline, run.clone())
        };
        assert_eq!(hand(1, 0), Ok(()));
        assert_eq!(hand(2, 0), Ok(()));
        assert_eq!(hand(3, 0), Err(SendError::Busy));
        assert_eq!(hand(3, 20), Err(SendError::Busy));
        for _ in 0..4 {
            go.send(()).expect("room");
        }
        assert_eq!(hand(4, 20_000), Ok(()));
        for _ in 0..3 {
            results.recv_timeout(Duration::from_secs(20)).expect("work");
        }
        crew.close();
        assert_eq!(
            ended.recv_timeout(Duration::from_secs(20)),
            Err(RecvTimeoutError::Disconnected)
        );
        assert_eq!(hand(5, 20_000), Err(SendError::Busy));
    }
}
