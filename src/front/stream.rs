//! One event stream of a session, kept so that a client that lost its connection can go on
//! where it was. Producers append; the connection that is attached in front writes. Bounded:
//! the oldest events are forgotten, and a client that asks for them starts at what is left.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{limits, room};

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
    finished: Option<Instant>,
    /// The first one writes; the others wait until it is gone.
    attached: VecDeque<Attached>,
    next_token: u64,
}

struct Kept {
    seq: u64,
    data: Arc<[u8]>,
    /// A response must not be lost; a notification may be.
    is_response: bool,
}

/// Bytes that all streams keep together.
static KEPT_BYTES: AtomicUsize = AtomicUsize::new(0);

/// More than half of what all streams may keep is used.
pub fn short_of_memory() -> bool {
    KEPT_BYTES.load(Ordering::Relaxed) > room::bounds().replay_bytes / 2
}

struct Attached {
    token: u64,
    /// An eventfd. A producer that writes its own stream needs none.
    waker: Option<OwnedFd>,
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
            finished: None,
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
    pub fn attach(&self, waker: Option<OwnedFd>, take_over: bool) -> Token {
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

    /// Appends a notification or question. Returns its number, and whether `own` is the one to
    /// write it. When there is no room it is not kept, and lost to a client that is away.
    pub fn push(&self, data: Vec<u8>, own: Option<Token>) -> (u64, bool) {
        self.append(data, own, None)
    }

    /// Appends a response. If there is no room to keep it for a client that is away, `instead`
    /// is kept, which must be small: each request gets its one answer.
    pub fn push_response(&self, data: Vec<u8>, own: Token, instead: Vec<u8>) -> (u64, bool) {
        self.append(data, Some(own), Some(instead))
    }

    fn append(&self, data: Vec<u8>, own: Option<Token>, instead: Option<Vec<u8>>) -> (u64, bool) {
        let mut inner = self.lock();
        let seq = inner.next;
        inner.next += 1;
        let own_first = own.is_some_and(|own| inner.is_first(own));
        let is_response = instead.is_some();
        if inner.make_room(data.len(), is_response) {
            inner.keep(seq, data, is_response);
        } else if let (false, Some(instead)) = (own_first, instead) {
            inner.keep(seq, instead, true);
        }
        if own_first {
            inner.sent = seq;
        } else {
            inner.wake_first();
        }
        (seq, own_first)
    }

    /// The connection did not take event `seq`: it waits for the next one. `instead` is kept if
    /// the event itself was too large to keep.
    pub fn not_delivered(&self, seq: u64, instead: Option<Vec<u8>>) {
        let mut inner = self.lock();
        inner.sent = inner.sent.min(seq.saturating_sub(1));
        let kept = inner.events.iter().any(|event| event.seq == seq);
        if let (false, Some(instead)) = (kept, instead) {
            inner.keep(seq, instead, true);
        }
        inner.wake_first();
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

    /// What the connection may write now: everything after event `after`, or everything that no
    /// connection has been given yet.
    pub fn next(&self, token: Token, after: Option<u64>) -> Next {
        let mut inner = self.lock();
        if !inner.is_first(token) {
            return Next::Wait;
        }
        let after = after.unwrap_or(inner.sent);
        let later = inner.events.iter().filter(|kept| kept.seq > after);
        let found: Vec<(u64, Arc<[u8]>)> =
            later.map(|kept| (kept.seq, kept.data.clone())).collect();
        if let Some((last, _)) = found.last() {
            inner.sent = inner.sent.max(*last);
            return Next::Events(found);
        }
        match inner.finished {
            Some(_) => Next::Finished,
            None => Next::Wait,
        }
    }

    /// Whether `seq` is the number of an event that there has been.
    pub fn has_seen(&self, seq: u64) -> bool {
        seq < self.lock().next
    }

    pub fn sent(&self) -> u64 {
        self.lock().sent
    }

    pub fn finish(&self, now: Instant) {
        let mut inner = self.lock();
        inner.finished.get_or_insert(now);
        inner.attached.iter().for_each(Attached::wake);
    }

    /// Complete for at least so long, and nobody is reading it.
    pub fn is_finished_for(&self, time: Duration, now: Instant) -> bool {
        let inner = self.lock();
        let is_old = |since| now.saturating_duration_since(since) >= time;
        inner.attached.is_empty() && inner.finished.is_some_and(is_old)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        KEPT_BYTES.fetch_sub(self.lock().bytes, Ordering::Relaxed);
    }
}

impl Inner {
    /// Forgets old events until `bytes` more fit. A response that no connection has been given
    /// is not forgotten. False when there is no room.
    fn make_room(&mut self, bytes: usize, is_response: bool) -> bool {
        while self.events.len() >= limits::REPLAY_EVENTS
            || self.bytes + bytes > limits::REPLAY_BYTES
        {
            let sent = self.sent;
            let at = self
                .events
                .iter()
                .position(|event| !event.is_response || event.seq <= sent);
            let Some(event) = at.and_then(|at| self.events.remove(at)) else {
                break;
            };
            self.bytes -= event.data.len();
            KEPT_BYTES.fetch_sub(event.data.len(), Ordering::Relaxed);
        }
        // One large response may exceed a stream's share, but not everybody's.
        let fits_here = self.bytes + bytes <= limits::REPLAY_BYTES || is_response;
        fits_here && KEPT_BYTES.load(Ordering::Relaxed) + bytes <= room::bounds().replay_bytes
    }

    fn keep(&mut self, seq: u64, data: Vec<u8>, is_response: bool) {
        self.bytes += data.len();
        KEPT_BYTES.fetch_add(data.len(), Ordering::Relaxed);
        self.events.push_back(Kept {
            seq,
            data: data.into(),
            is_response,
        });
    }

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
    use std::time::Instant;

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
        assert!(numbers(stream.next(second, Some(0))).is_empty());
        assert_eq!(numbers(stream.next(first, Some(0))), [1]);
        stream.detach(first);
        stream.push(b"b".to_vec(), None);
        assert_eq!(numbers(stream.next(second, None)), [2]);
        let resumed = stream.attach(None, true);
        assert!(numbers(stream.next(second, Some(0))).is_empty());
        assert_eq!(numbers(stream.next(resumed, Some(1))), [2]);
    }

    #[test]
    fn events_wait_for_a_connection_and_are_bounded() {
        let stream = EventStream::new(1);
        for _ in 0..limits::REPLAY_EVENTS + 10 {
            stream.push(vec![b'x'; 10], None);
        }
        assert!(stream.has_unsent(&[b'x'; 10]));
        let token = stream.attach(None, false);
        assert_eq!(
            numbers(stream.next(token, Some(0))).len(),
            limits::REPLAY_EVENTS
        );
        assert!(!stream.has_unsent(&[b'x'; 10]));
        // Too large for a notification: not kept, and the others stay out of its way.
        stream.push(vec![0; limits::REPLAY_BYTES + 1], None);
        assert!(numbers(stream.next(token, None)).is_empty());
        stream.finish(Instant::now());
        assert!(matches!(stream.next(token, Some(0)), Next::Finished));
    }

    #[test]
    fn the_producer_writes_its_own_stream_until_somebody_resumes_it() {
        let stream = EventStream::new(1);
        let own = stream.attach(None, false);
        assert_eq!(stream.push(b"a".to_vec(), Some(own)), (1, true));
        let resumed = stream.attach(None, true);
        assert_eq!(stream.push(b"b".to_vec(), Some(own)), (2, false));
        assert_eq!(numbers(stream.next(resumed, Some(1))), [2]);
    }

    #[test]
    fn a_response_waits_for_a_client_that_is_away() {
        let stream = EventStream::new(1);
        let own = stream.attach(None, false);
        let large = vec![b'x'; limits::REPLAY_BYTES * 2];
        let (seq, write) = stream.push_response(large.clone(), own, b"instead".to_vec());
        assert!(write);
        stream.detach(own);
        stream.not_delivered(seq, Some(b"instead".to_vec()));
        for _ in 0..limits::REPLAY_EVENTS * 2 {
            stream.push(b"notice".to_vec(), None);
        }
        let resumed = stream.attach(None, true);
        let Next::Events(events) = stream.next(resumed, Some(0)) else {
            panic!("nothing was kept")
        };
        assert_eq!(events[0].1.len(), large.len());
        let huge = vec![b'x'; limits::REPLAY_TOTAL_BYTES + 1];
        let (_, write) = stream.push_response(huge, own, b"instead".to_vec());
        assert!(!write);
        let Next::Events(events) = stream.next(resumed, None) else {
            panic!("nothing was kept")
        };
        assert_eq!(&*events.last().expect("an event").1, b"instead");
    }

    #[test]
    fn a_connection_that_waited_its_turn_repeats_nothing() {
        let stream = EventStream::new(0);
        let first = stream.attach(None, false);
        let second = stream.attach(None, false);
        stream.push(b"a".to_vec(), None);
        assert_eq!(numbers(stream.next(first, None)), [1]);
        stream.detach(first);
        assert!(numbers(stream.next(second, None)).is_empty());
        stream.push(b"b".to_vec(), None);
        assert_eq!(numbers(stream.next(second, None)), [2]);
    }

    #[test]
    fn event_ids_name_stream_and_event() {
        assert_eq!(parse_event_id(&event_id(3, 17)), Some((3, 17)));
        for bad in ["", "3", "a-1", "3-x", "-1-2"] {
            assert_eq!(parse_event_id(bad), None, "{bad}");
        }
    }
}
