//! The one way to a client on which every message is sent by itself: the event stream of HTTP+SSE,
//! or stdout. Anyone may put a message in; the thread that owns the way out takes them in order
//! and writes. Nothing is kept for resumption.
//!
//! Bounded. Who answers one client's request may wait for room; whoever works for others (the
//! router) never waits: a client that does not read loses the channel, and nobody else notices.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::base::limits;
use crate::wire::message::blank_line_breaks;

pub struct Channel {
    form: Form,
    /// An eventfd: rung when there is something to look at.
    bell: OwnedFd,
    state: Mutex<State>,
    room: Condvar,
}

struct State {
    queue: VecDeque<Vec<u8>>,
    /// What nobody asked for and came before the client was greeted.
    held: Option<VecDeque<Vec<u8>>>,
    bytes: usize,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// What is queued is written, nothing is added.
    Finishing,
    Cut,
}

/// What a message looks like on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An event of a stream.
    Event,
    /// A line.
    Line,
}

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// One message in its form. Made by who sent it, because the thread of a quiet stream had
    /// better allocate nothing.
    Message(Vec<u8>),
    /// Nothing now; it will be woken.
    Wait,
    /// Nothing any more.
    Over,
}

impl Channel {
    /// # Errors
    /// When the system refuses a file descriptor.
    pub fn new(form: Form) -> io::Result<Channel> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let state = State {
            queue: VecDeque::new(),
            held: Some(VecDeque::new()),
            bytes: 0,
            stage: Stage::Open,
        };
        Ok(Channel {
            form,
            bell,
            state: Mutex::new(state),
            room: Condvar::new(),
        })
    }

    pub fn form(&self) -> Form {
        self.form
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message, after a wait for room if need be: for threads that work for this client
    /// alone. The writer cuts the channel of a client that takes nothing, which ends the wait.
    pub fn send(&self, message: Vec<u8>) {
        let deadline = Instant::now() + limits::CHANNEL_WAIT;
        let mut state = self.state();
        while state.stage == Stage::Open && !state.has_room(message.len()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.room.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.add(&mut state, message);
    }

    /// Adds an answer without waiting. If there is no room the channel is cut.
    pub fn push(&self, message: Vec<u8>) {
        self.add(&mut self.state(), message);
    }

    /// Adds the answer to `initialize`, and behind it what was told meanwhile.
    pub fn greet(&self, message: Vec<u8>) {
        let mut state = self.state();
        self.add(&mut state, message);
        for told in state.held.take().into_iter().flatten() {
            self.add(&mut state, told);
        }
    }

    /// Adds what the client did not ask for, without waiting: once it has been greeted.
    pub fn tell(&self, message: Vec<u8>) {
        let mut state = self.state();
        match &mut state.held {
            Some(held) if held.len() < limits::CHANNEL_MESSAGES => held.push_back(message),
            _ => self.add(&mut state, message),
        }
    }

    fn add(&self, state: &mut State, message: Vec<u8>) {
        if state.stage != Stage::Open {
            return;
        }
        if !state.has_room(message.len()) {
            let waiting = state.queue.len();
            log::info!("channel cut messages={waiting}: the client does not read");
            state.cut();
            self.room.notify_all();
            return self.ring();
        }
        let message = self.form.of(message);
        state.bytes += message.len();
        state.queue.push_back(message);
        if state.queue.len() == 1 {
            self.ring();
        }
    }

    /// Whether just this message still waits to be written.
    pub fn has_unsent(&self, message: &[u8]) -> bool {
        let state = self.state();
        let mut sent = state.queue.iter().map(|framed| self.form.text(framed));
        let mut held = state.held.iter().flatten();
        sent.any(|waiting| waiting == message) || held.any(|waiting| waiting == message)
    }

    /// For the writer alone.
    pub fn next(&self) -> Next {
        let mut state = self.state();
        let Some(message) = state.queue.pop_front() else {
            return match state.stage {
                Stage::Open => Next::Wait,
                Stage::Finishing | Stage::Cut => Next::Over,
            };
        };
        state.bytes -= message.len();
        self.room.notify_all();
        Next::Message(message)
    }

    /// What waits is still written, and then the channel is over.
    pub fn finish(&self) {
        let mut state = self.state();
        if state.stage == Stage::Open {
            state.stage = Stage::Finishing;
        }
        self.room.notify_all();
        self.ring();
    }

    /// The client is gone, or is to go: what waits is lost.
    pub fn cut(&self) {
        self.state().cut();
        self.room.notify_all();
        self.ring();
    }

    pub fn is_cut(&self) -> bool {
        self.state().stage == Stage::Cut
    }

    /// Nothing more is added to it.
    pub fn is_over(&self) -> bool {
        self.state().stage != Stage::Open
    }

    fn ring(&self) {
        // Fails only when the counter is full, and then the writer is awake.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// For the writer alone: sleeps until there is something to look at, `other` has news, or
    /// the time is over. Gives what `other` said.
    pub fn sleep(&self, other: PollFd<'_>, limit: Duration) -> PollFlags {
        let timeout = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.bell, PollFlags::IN), other];
        // Interrupted or failed: the writer looks around and comes back.
        let _ = poll(&mut fds, Some(&timeout));
        if !fds[0].revents().is_empty() {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.bell, &mut count);
        }
        fds[1].revents()
    }
}

impl Form {
    fn around(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Form::Event => (b"event: message\ndata: ", b"\n\n"),
            Form::Line => (b"", b"\n"),
        }
    }

    /// One message is one line, in an event too.
    fn of(self, mut message: Vec<u8>) -> Vec<u8> {
        blank_line_breaks(&mut message);
        let (before, after) = self.around();
        if before.is_empty() {
            message.extend_from_slice(after);
            return message;
        }
        [before, &message, after].concat()
    }

    fn text(self, framed: &[u8]) -> &[u8] {
        let (before, after) = self.around();
        &framed[before.len()..framed.len() - after.len()]
    }
}

/// What one request says on a channel.
pub struct Voice<'a> {
    channel: &'a Channel,
    told: Option<Instant>,
}

impl<'a> Voice<'a> {
    pub fn new(channel: &'a Channel) -> Voice<'a> {
        Voice {
            channel,
            told: None,
        }
    }

    /// Something before the answer.
    pub fn tell(&mut self, message: Vec<u8>) {
        self.channel.send(message);
        self.told = Some(Instant::now());
    }

    pub fn answer(&mut self, message: Vec<u8>) {
        leave_gap(self.told);
        self.channel.send(message);
    }
}

/// Waits until what was told then has most likely arrived by itself (`limits::CHANNEL_GAP`).
pub fn leave_gap(told: Option<Instant>) {
    let since = told.map_or(limits::CHANNEL_GAP, |told| told.elapsed());
    let left = limits::CHANNEL_GAP.saturating_sub(since);
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}

impl State {
    /// One message always fits, however large.
    fn has_room(&self, bytes: usize) -> bool {
        self.queue.is_empty()
            || self.queue.len() < limits::CHANNEL_MESSAGES
                && self.bytes + bytes <= limits::CHANNEL_BYTES
    }

    fn cut(&mut self) {
        self.stage = Stage::Cut;
        self.queue = VecDeque::new();
        self.held = None;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Channel, Form, Next};
    use crate::base::limits;

    fn line() -> Channel {
        Channel::new(Form::Line).expect("a channel")
    }

    #[test]
    fn messages_come_out_in_order_and_as_one_line() {
        let channel = line();
        channel.push(b"{\r\n}".to_vec());
        channel.push(b"2".to_vec());
        assert!(channel.has_unsent(b"2") && !channel.has_unsent(b"3"));
        assert_eq!(channel.next(), Next::Message(b"{  }\n".to_vec()));
        channel.finish();
        channel.push(b"3".to_vec());
        assert_eq!(channel.next(), Next::Message(b"2\n".to_vec()));
        assert_eq!(channel.next(), Next::Over);
        let events = Channel::new(Form::Event).expect("a channel");
        events.push(b"{\n}".to_vec());
        assert!(events.has_unsent(b"{ }"));
        let event = b"event: message\ndata: { }\n\n".to_vec();
        assert_eq!(events.next(), Next::Message(event));
    }

    #[test]
    fn what_nobody_asked_for_waits_for_the_greeting() {
        let channel = line();
        channel.tell(b"news".to_vec());
        channel.push(b"pong".to_vec());
        assert!(channel.has_unsent(b"news"));
        channel.greet(b"welcome".to_vec());
        channel.tell(b"more".to_vec());
        for expected in ["pong", "welcome", "news", "more"] {
            assert_eq!(
                channel.next(),
                Next::Message(format!("{expected}\n").into())
            );
        }
        assert_eq!(channel.next(), Next::Wait);
    }

    #[test]
    fn a_client_that_does_not_read_loses_the_channel() {
        let channel = line();
        for _ in 0..limits::CHANNEL_MESSAGES {
            channel.push(b"x".to_vec());
        }
        assert!(!channel.is_cut());
        channel.push(b"x".to_vec());
        assert!(channel.is_cut());
        assert_eq!(channel.next(), Next::Over);
        let channel = line();
        // One message of any size fits, but nothing behind it.
        channel.push(vec![b'x'; limits::CHANNEL_BYTES + 1]);
        assert!(!channel.is_cut());
        channel.push(b"x".to_vec());
        assert!(channel.is_cut());
    }

    #[test]
    fn who_may_wait_gets_room_or_the_end() {
        let channel = line();
        channel.push(vec![b'x'; limits::CHANNEL_BYTES]);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| channel.send(b"second".to_vec()));
            assert!(matches!(channel.next(), Next::Message(first) if first[0] == b'x'));
            waiting.join().expect("sent");
            assert_eq!(channel.next(), Next::Message(b"second\n".to_vec()));
            channel.push(vec![b'x'; limits::CHANNEL_BYTES]);
            let waiting = scope.spawn(|| channel.send(b"third".to_vec()));
            channel.cut();
            waiting.join().expect("released");
        });
        assert_eq!(channel.next(), Next::Over);
    }
}
