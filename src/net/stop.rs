//! The handle with which another thread ends a request: it shuts the request's socket down, so
//! that a blocked connect, write or read returns at once.
//!
//! A socket is held while a request uses it and let go before it returns to the pool, both
//! under the lock under which it is shut down: the next request on it is never hit.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Thread;

/// Clones stand for the same request, or requests. Once stopped it stays so.
#[derive(Clone, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stopped: AtomicBool,
    held: Mutex<Vec<Held>>,
}

/// What a request waits on.
enum Held {
    Socket(Weak<TcpStream>),
    /// Parked until a name is looked up.
    Waiter(Thread),
}

impl Stop {
    /// Ends what runs with it, and everything that begins later.
    pub fn stop(&self) {
        let mut held = self.lock();
        self.0.stopped.store(true, Ordering::SeqCst);
        for one in held.drain(..) {
            match one {
                Held::Socket(socket) => {
                    // An error means that it is closed already.
                    socket
                        .upgrade()
                        .map(|socket| socket.shutdown(Shutdown::Both).ok());
                }
                Held::Waiter(thread) => thread.unpark(),
            }
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    pub(super) fn is(&self, other: &Stop) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// From now on `stop` shuts it down. False when it was stopped before.
    pub(super) fn hold(&self, socket: &Arc<TcpStream>) -> bool {
        self.add(Held::Socket(Arc::downgrade(socket)))
    }

    /// From now on `stop` unparks this thread. False when it was stopped before.
    pub(super) fn hold_thread(&self) -> bool {
        self.add(Held::Waiter(std::thread::current()))
    }

    fn add(&self, one: Held) -> bool {
        let mut held = self.lock();
        held.retain(|one| match one {
            Held::Socket(socket) => socket.strong_count() > 0,
            Held::Waiter(_) => true,
        });
        held.push(one);
        !self.is_stopped()
    }

    pub(super) fn release(&self, socket: &Arc<TcpStream>) {
        let is_it = |one: &Held| match one {
            Held::Socket(held) => std::ptr::eq(held.as_ptr(), Arc::as_ptr(socket)),
            Held::Waiter(_) => false,
        };
        self.lock().retain(|one| !is_it(one));
    }

    pub(super) fn release_thread(&self) {
        let me = std::thread::current().id();
        let is_it = |one: &Held| matches!(one, Held::Waiter(thread) if thread.id() == me);
        self.lock().retain(|one| !is_it(one));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
