//! One event stream of a session, kept so that a client that lost its connection can go on
//! where it was. Producers append; the connection that is attached in front writes. Bounded:
//! the oldest events are forgotten, and a client that asks for them starts at what is left.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::limits;

pub struct EventStream {
    number: u64,
    inner: Mutex<Inner>,
}

struct Inner {
    events: VecDeque<Kept>,
    bytes: usize,
    next: u64,
    /// The newest event that was handed to a connection.
    sent: u64,
    finished: bool,
    /// The first one writes; the others wait until it is gone.
    attached: VecDeque<Attached>,
    next_token: u64,
}

struct Kept {
    seq: u64,
    data: Arc<[u8]>,
}

struct Attached {
    token: u64,
    /// An eventfd. A producer that writes its own stream needs none.
    waker: Option<Arc<OwnedFd>>,
}

/// A place among the connections of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(u64);

/// What a connection does next.
#[derive(Debug)]
pub enum Next {
    Events(Vec<(u64, Arc<[u8]>)>),
    /// Nothing now; it will be woken.
    Wait,
    /// The stream is complete and everything was written.
    Finished,
}

impl EventStream {
    pub fn new(number: u64) -> EventStream {
        let inner = Inner {
            events: VecDeque::new(),
            bytes: 0,
            next: 1,
            sent: 0,
            finished: false,
            // Made here, because the thread of a quiet stream had better allocate nothing: its
            // first allocation costs it many pages.
            attached: VecDeque::with_capacity(limits::SESSION_LISTENERS),
            next_token: 0,
        };
        EventStream {
            number,
            inner: Mutex::new(inner),
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `take_over`: a client that resumes is the one that is really there.
    pub fn attach(&self, waker: Option<Arc<OwnedFd>>, take_over: bool) -> Token {
        let mut inner = self.lock();
        let token = inner.next_token;
        inner.next_token += 1;
        let attached = Attached { token, waker };
        match take_over {
            true => inner.attached.push_front(attached),
            false => inner.attached.push_back(attached),
        }
        Token(token)
    }

    pub fn detach(&self, token: Token) {
        let mut inner = self.lock();
        inner.attached.retain(|attached| attached.token != token.0);
        inner.wake_first();
    }

    pub fn attached(&self) -> usize {
        self.lock().attached.len()
    }

    /// Appends an event and returns its number, and whether `own` is the one to write it.
    pub fn push(&self, data: Vec<u8>, own: Option<Token>) -> (u64, bool) {
        let mut inner = self.lock();
        let seq = inner.next;
        inner.next += 1;
        inner.bytes += data.len();
        inner.events.push_back(Kept {
            seq,
            data: data.into(),
        });
        while inner.events.len() > limits::REPLAY_EVENTS || inner.bytes > limits::REPLAY_BYTES {
            let Some(oldest) = inner.events.pop_front() else {
                break;
            };
            inner.bytes -= oldest.data.len();
        }
        let own_first = own.is_some_and(|own| inner.is_first(own));
        if own_first {
            inner.sent = seq;
        } else {
            inner.wake_first();
        }
        (seq, own_first)
    }

    /// Whether an event with just this data still waits to be sent.
    pub fn has_unsent(&self, data: &[u8]) -> bool {
        let inner = self.lock();
        inner
            .events
            .iter()
            .any(|kept| kept.seq > inner.sent && *kept.data == *data)
    }

    /// The number an event would get now: for events that carry no data of their own.
    pub fn reserve(&self) -> u64 {
        let mut inner = self.lock();
        let seq = inner.next;
        inner.next += 1;
        seq
    }

    /// Everything after `after` that the connection may write now.
    pub fn next(&self, token: Token, after: u64) -> Next {
        let mut inner = self.lock();
        if !inner.is_first(token) {
            return Next::Wait;
        }
        let found: Vec<(u64, Arc<[u8]>)> = inner
            .events
            .iter()
            .filter(|kept| kept.seq > after)
            .map(|kept| (kept.seq, kept.data.clone()))
            .collect();
        if let Some((last, _)) = found.last() {
            inner.sent = inner.sent.max(*last);
            return Next::Events(found);
        }
        if inner.finished {
            Next::Finished
        } else {
            Next::Wait
        }
    }

    pub fn sent(&self) -> u64 {
        self.lock().sent
    }

    pub fn finish(&self) {
        let mut inner = self.lock();
        inner.finished = true;
        inner.attached.iter().for_each(Attached::wake);
    }

    pub fn is_finished(&self) -> bool {
        self.lock().finished
    }
}

impl Inner {
    fn is_first(&self, token: Token) -> bool {
        self.attached
            .front()
            .is_some_and(|attached| attached.token == token.0)
    }

    fn wake_first(&self) {
        if let Some(first) = self.attached.front() {
            first.wake();
        }
    }
}

impl Attached {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            // Fails only when the counter is full, and then the waiter is awake.
            let _ = rustix::io::write(waker, &1u64.to_ne_bytes());
        }
    }
}

/// The id of an event, unique in its session: which stream, and which event of it.
pub fn event_id(stream: u64, seq: u64) -> String {
    format!("{stream}-{seq}")
}

/// Reads `Last-Event-ID`.
pub fn parse_event_id(text: &str) -> Option<(u64, u64)> {
    let (stream, seq) = text.trim().split_once('-')?;
    Some((stream.parse().ok()?, seq.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{EventStream, Next, event_id, parse_event_id};
    use crate::base::limits;

    fn numbers(next: Next) -> Vec<u64> {
        match next {
            Next::Events(events) => events.into_iter().map(|(seq, _)| seq).collect(),
            Next::Wait | Next::Finished => Vec::new(),
        }
    }

    #[test]
    fn one_connection_writes_at_a_time() {
        let stream = EventStream::new(1);
        let first = stream.attach(None, false);
        let second = stream.attach(None, false);
        stream.push(b"a".to_vec(), None);
        assert!(numbers(stream.next(second, 0)).is_empty());
        assert_eq!(numbers(stream.next(first, 0)), [1]);
        stream.detach(first);
        stream.push(b"b".to_vec(), None);
        assert_eq!(numbers(stream.next(second, stream.sent())), [2]);
        let resumed = stream.attach(None, true);
        assert!(numbers(stream.next(second, 0)).is_empty());
        assert_eq!(numbers(stream.next(resumed, 1)), [2]);
    }

    #[test]
    fn events_wait_for_a_connection_and_are_bounded() {
        let stream = EventStream::new(1);
        for _ in 0..limits::REPLAY_EVENTS + 10 {
            stream.push(vec![b'x'; 10], None);
        }
        assert!(stream.has_unsent(&[b'x'; 10]));
        let token = stream.attach(None, false);
        assert_eq!(numbers(stream.next(token, 0)).len(), limits::REPLAY_EVENTS);
        assert!(!stream.has_unsent(&[b'x'; 10]));
        stream.push(vec![0; limits::REPLAY_BYTES + 1], None);
        assert!(numbers(stream.next(token, 0)).is_empty());
        stream.finish();
        assert!(matches!(stream.next(token, 0), Next::Finished));
    }

    #[test]
    fn the_producer_writes_its_own_stream_until_somebody_resumes_it() {
        let stream = EventStream::new(1);
        let own = stream.attach(None, false);
        assert_eq!(stream.push(b"a".to_vec(), Some(own)), (1, true));
        let resumed = stream.attach(None, true);
        assert_eq!(stream.push(b"b".to_vec(), Some(own)), (2, false));
        assert_eq!(numbers(stream.next(resumed, 1)), [2]);
    }

    #[test]
    fn event_ids_name_stream_and_event() {
        assert_eq!(parse_event_id(&event_id(3, 17)), Some((3, 17)));
        for bad in ["", "3", "a-1", "3-x", "-1-2"] {
            assert_eq!(parse_event_id(bad), None, "{bad}");
        }
    }
}
