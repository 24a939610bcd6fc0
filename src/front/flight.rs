//! A stateless request on a channel, as far as it can be taken back: by a notification of its
//! client, or by the end of the channel. (Over HTTP the end of its connection does that.)

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::mcp::method;
use crate::wire::message::canonical_id;

pub struct Flight {
    /// In the form in which ids are compared.
    id: String,
    is_over: AtomicBool,
    /// What lasts as long as the channel is to come to its proper end.
    is_finishing: AtomicBool,
    /// An eventfd, for a request that may last as long as the channel.
    bell: Option<OwnedFd>,
}

impl Flight {
    /// `id` is raw JSON.
    ///
    /// # Errors
    /// When the system refuses a file descriptor.
    pub fn new(id: &str, method: &str) -> io::Result<Flight> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = (method == method::LISTEN).then(|| eventfd(0, flags));
        Ok(Flight {
            id: canonical_id(id).into_owned(),
            is_over: AtomicBool::new(false),
            is_finishing: AtomicBool::new(false),
            bell: bell.transpose()?,
        })
    }

    pub fn has_id(&self, id: &str) -> bool {
        self.id == canonical_id(id)
    }

    /// Whether it lasts until it is taken back.
    pub fn is_endless(&self) -> bool {
        self.bell.is_some()
    }

    /// Takes the request back: nothing more is sent for it.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.ring();
    }

    /// Lets a request that has no end of its own come to its answer.
    pub fn finish(&self) {
        self.is_finishing.store(true, Ordering::Release);
        self.ring();
    }

    pub fn is_finishing(&self) -> bool {
        self.is_finishing.load(Ordering::Acquire)
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            // Fails only when the counter is full, and then the waiter is awake.
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Until `waker` rings, `limit` is over or the request is taken back: then it is false.
    pub fn sleep(&self, waker: &OwnedFd, limit: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut fds = [
            PollFd::new(waker, PollFlags::IN),
            // Without a bell of its own it is looked at in turns.
            PollFd::new(self.bell.as_ref().unwrap_or(waker), PollFlags::IN),
        ];
        // Interrupted or failed: the caller looks around and comes back.
        let _ = poll(&mut fds, Some(&timeout));
        if !fds[0].revents().is_empty() {
            let mut count = [0; 8];
            let _ = rustix::io::read(waker, &mut count);
        }
        !self.is_over()
    }
}
