//! How a gateway is asked to end, and by whom. Anybody asks here, from any thread; the thread
//! that runs the gateway waits here. Deliberately absent: what is done then (`gateway::run`).

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};

use crate::front::pipes::End;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndWhy {
    Terminate,
    Interrupt,
    Quit,
    /// `onemcp drain`.
    Drain,
    /// The client on stdin and stdout.
    Client(End),
}

impl EndWhy {
    pub fn of_signal(signal: i32) -> Option<EndWhy> {
        match signal {
            SIGTERM => Some(EndWhy::Terminate),
            SIGINT => Some(EndWhy::Interrupt),
            SIGQUIT => Some(EndWhy::Quit),
            _ => None,
        }
    }

    /// Others are told first that this gateway is not ready, for `--drain-delay`. A person at a
    /// terminal, or a client that is gone, has nobody to tell.
    pub fn has_delay(self) -> bool {
        matches!(self, EndWhy::Terminate | EndWhy::Drain)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            EndWhy::Terminate => "signal TERM",
            EndWhy::Interrupt => "signal INT",
            EndWhy::Quit => "signal QUIT",
            EndWhy::Drain => "onemcp drain",
            EndWhy::Client(End::Input) => "end of input",
            EndWhy::Client(End::Output) => "end of output",
        }
    }
}

/// Where a gateway is asked to end.
#[derive(Default)]
pub struct Ending {
    asks: Mutex<Asks>,
    asked: Condvar,
}

/// Each reason once, so there are as many as there are reasons.
#[derive(Default)]
struct Asks {
    all: Vec<EndWhy>,
    heard: usize,
}

impl Ending {
    fn asks(&self) -> MutexGuard<'_, Asks> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the gateway to end. To ask again for the same reason changes nothing.
    pub fn ask(&self, why: EndWhy) {
        let mut asks = self.asks();
        if !asks.all.contains(&why) {
            asks.all.push(why);
            self.asked.notify_all();
        }
    }

    pub fn is_asked(&self) -> bool {
        !self.asks().all.is_empty()
    }

    /// The reasons so far, the first one first.
    pub fn all(&self) -> Vec<EndWhy> {
        self.asks().all.clone()
    }

    /// Waits until this reason is one of them, heard or not; false at the deadline.
    pub fn wait_for(&self, why: EndWhy, deadline: Instant) -> bool {
        let mut asks = self.asks();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if asks.all.contains(&why) || left.is_zero() {
                return asks.all.contains(&why);
            }
            let waited = self.asked.wait_timeout(asks, left);
            asks = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next reason that nobody has heard yet.
    pub fn wait(&self) -> EndWhy {
        let mut asks = self.asks();
        loop {
            if let Some(why) = asks.next() {
                return why;
            }
            let waited = self.asked.wait(asks);
            asks = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same, up to a deadline.
    pub fn wait_until(&self, deadline: Instant) -> Option<EndWhy> {
        let mut asks = self.asks();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match asks.next() {
                None if !left.is_zero() => {}
                next => return next,
            }
            let waited = self.asked.wait_timeout(asks, left);
            asks = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Asks {
    fn next(&mut self) -> Option<EndWhy> {
        let next = self.all.get(self.heard).copied();
        self.heard += usize::from(next.is_some());
        next
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{EndWhy, Ending};

    #[test]
    fn each_reason_is_heard_once_and_none_is_lost() {
        let ending = Ending::default();
        let soon = || Instant::now() + Duration::from_millis(10);
        assert!(!ending.is_asked());
        assert_eq!(ending.wait_until(soon()), None);
        for _ in 0..100 {
            ending.ask(EndWhy::Drain);
        }
        ending.ask(EndWhy::Interrupt);
        assert!(ending.is_asked());
        assert_eq!(ending.wait(), EndWhy::Drain);
        assert_eq!(ending.wait_until(soon()), Some(EndWhy::Interrupt));
        ending.ask(EndWhy::Drain);
        assert_eq!(ending.wait_until(soon()), None);
        assert_eq!(ending.all(), [EndWhy::Drain, EndWhy::Interrupt]);
        assert!(ending.wait_for(EndWhy::Drain, soon()));
        assert!(!ending.wait_for(EndWhy::Quit, soon()));
    }

    #[test]
    fn who_waits_is_woken() {
        let ending = Ending::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| ending.wait());
            ending.ask(EndWhy::Terminate);
            assert_eq!(waiting.join().expect("woken"), EndWhy::Terminate);
        });
    }
}
