//! One client connection, from its first byte to its end.
//!
//! Owner: the thread `http-<id>`, which reads a request, hands it to the handler and only
//! then looks at the bytes behind it. Buffers are reused and grow with the bytes received,
//! never with a number that the peer sent.
//! Absent on purpose: locks, timers, pipelined work.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::limits::{
    BODY_BYTES_PER_SECOND, BODY_READ_BYTES, FIRST_BUFFER_BYTES, HEAD_BYTES, HEADERS,
    HEALTH_FIRST_BYTE, KEPT_BUFFER_BYTES, LARGE_BUFFER_WAIT, USUAL_HEADERS,
};
use crate::base::room::Share;
use crate::http::chunked::{BODY_TOO_BIG, Chunked};
use crate::http::head::{Framing, Head, Method, Parsed, Refusal, TOO_MANY_FIELDS, check_length};
use crate::http::outbox::Outbox;
use crate::http::pipe::Pipe;
use crate::http::registry::Link;
use crate::http::respond::{Progress, Reply, Responder};
use crate::http::secure::Secure;
use crate::http::server::{Admit, Peer, Shared};
use crate::http::socket::{self, Received};
use crate::http::tls::{self, Tls};

/// What follows a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Request,
    Close,
    /// Close, but let the peer read our answer although it may have sent more.
    Linger,
}

/// What came of the bytes that are there.
enum Step {
    Done(Next),
    /// The head is not whole.
    More,
    /// There are more fields than there was room for.
    Crowded,
}

/// The end of one request: what follows, and how many bytes behind the head belonged to it.
struct Ending {
    next: Next,
    used: usize,
}

impl Ending {
    fn linger() -> Self {
        Self {
            next: Next::Linger,
            used: 0,
        }
    }
}

/// What a request is answered with, beside its own bytes.
struct Context<'s> {
    shared: &'s Shared,
    link: &'s Link,
    pipe: &'s Pipe<'s>,
    peer: &'s Peer,
}

/// Bodies that did not arrive with their head.
#[derive(Default)]
struct Spill {
    body: Vec<u8>,
    /// Chunked bytes as they came; after the request, what came behind its end.
    raw: Vec<u8>,
    share: Share,
}

struct Connection<'s> {
    context: Context<'s>,
    inbox: Vec<u8>,
    /// Where the next request starts in `inbox`.
    start: usize,
    spill: Spill,
    outbox: Outbox,
}

/// What a connection keeps from request to request. Made by the accept thread: a thread that
/// allocates nothing of its own needs fewer pages of the allocator (measured: an idle
/// connection takes 38 KiB instead of 70 KiB).
pub(super) struct Buffers {
    inbox: Vec<u8>,
    outbox: Outbox,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            inbox: Vec::with_capacity(FIRST_BUFFER_BYTES),
            outbox: Outbox::new(),
        }
    }
}

/// Serves one connection until it ends.
pub(super) fn serve(shared: &Shared, link: &Link, mut peer: Peer, mut buffers: Buffers) {
    let idle = if peer.health_only {
        HEALTH_FIRST_BYTE
    } else {
        Duration::MAX
    };
    let idle = idle
        .min(shared.options.keep_alive_idle)
        .max(Duration::from_millis(1));
    // Without its timeout a silent connection would stay for ever.
    if link.socket.set_read_timeout(Some(idle)).is_err() {
        return;
    }
    // Only delays answers when it fails.
    let _ = link.socket.set_nodelay(true);
    let greeted = match &shared.options.tls {
        None => Greeted::Ready(Pipe::Plain(&link.socket)),
        Some(tls) => greet(tls, (shared, link), &peer, idle),
    };
    let (pipe, refusal) = match greeted {
        Greeted::Ready(pipe) => (pipe, None),
        Greeted::Refused(refusal) => (Pipe::Plain(&link.socket), Some(refusal)),
        Greeted::Failed => {
            let patience = shared.options.drain_deadline;
            return socket::linger(&link.socket, &mut buffers.inbox, patience);
        }
        Greeted::Nobody => return,
    };
    if let Pipe::Tls(secure) = &pipe {
        peer.subject = secure.certificate().map(|der| tls::subject(&der).into());
    }
    let mut connection = Connection {
        context: Context {
            shared,
            link,
            pipe: &pipe,
            peer: &peer,
        },
        inbox: buffers.inbox,
        start: 0,
        spill: Spill::default(),
        outbox: buffers.outbox,
    };
    let mut next = match refusal {
        None => Next::Request,
        Some(refusal) => connection.refuse(refusal),
    };
    loop {
        match next {
            Next::Request => {}
            Next::Close => return pipe.say_goodbye(),
            Next::Linger => {
                let patience = shared.options.drain_deadline;
                return pipe.linger(&mut connection.inbox, patience);
            }
        }
        next = connection.next_request();
        if next == Next::Request {
            connection.shrink();
        }
    }
}

/// What came of the greeting of TLS.
enum Greeted<'s> {
    Ready(Pipe<'s>),
    /// Whoever is there does not speak TLS, but may understand a plain answer.
    Refused(Refusal),
    /// There was a handshake, and nothing came of it.
    Failed,
    Nobody,
}

const NOT_TLS: Refusal = Refusal {
    status: 400,
    reason: "this port speaks TLS: use https",
};

/// Shakes hands within the time that a head may take, or a probe its first byte.
///
/// Like the others that are not inlined here: what they need on the stack would stay there below
/// an open stream.
#[inline(never)]
fn greet<'s>(
    tls: &Tls,
    (shared, link): (&Shared, &'s Link),
    peer: &Peer,
    idle: Duration,
) -> Greeted<'s> {
    let deadline = Instant::now() + shared.options.head_deadline.min(idle);
    link.rest();
    // After `rest`, as before a request.
    let first = match shared.draining.load(Ordering::SeqCst) {
        true => socket::first_byte(&link.socket, Instant::now()),
        false => socket::first_byte(&link.socket, deadline),
    };
    link.work();
    match first {
        None => Greeted::Nobody,
        Some(tls::HANDSHAKE) => match Secure::accept(tls.config(), &link.socket, idle, deadline) {
            Ok(secure) => Greeted::Ready(Pipe::Tls(secure)),
            Err((reason, detail)) => {
                log::debug!("{reason} peer={} detail={detail:?}", peer.address);
                note_refused(shared, peer, 400, reason);
                Greeted::Failed
            }
        },
        Some(_) => Greeted::Refused(NOT_TLS),
    }
}

impl Connection<'_> {
    fn next_request(&mut self) -> Next {
        let mut deadline = None;
        let mut worth_parsing = self.start < self.inbox.len();
        loop {
            if worth_parsing {
                let mut step = self.carry_out::<USUAL_HEADERS>();
                if matches!(step, Step::Crowded) {
                    step = self.carry_out::<HEADERS>();
                }
                if let Step::Done(next) = step {
                    return next;
                }
            }
            let known = self.inbox.len() - self.start;
            match self.read_head(&mut deadline) {
                Ok(()) => {}
                Err(Some(refusal)) => return self.refuse(refusal),
                Err(None) => return Next::Close,
            }
            // Parsing starts at the front each time, so it waits for the end of a line: byte
            // by byte, a head would otherwise cost its length squared.
            let bytes = &self.inbox[self.start..];
            worth_parsing = memchr::memchr(b'\n', &bytes[known..]).is_some();
            if !worth_parsing && let Err(refusal) = check_length(bytes) {
                return self.refuse(refusal);
            }
        }
    }

    /// Carries out the request in the inbox if its head is whole and has no more than `N` fields.
    #[inline(never)]
    fn carry_out<const N: usize>(&mut self) -> Step {
        let bytes = &self.inbox[self.start..];
        let mut fields = [const { MaybeUninit::uninit() }; N];
        // What comes behind is judged when it is its turn, however much was read at once.
        let most = bytes.len().min(HEAD_BYTES);
        let refusal = match Head::parse(&bytes[..most], &mut fields) {
            Parsed::Complete(head) => {
                let (spill, outbox) = (&mut self.spill, &mut self.outbox);
                let rest = &bytes[head.length_bytes..];
                let ending = self.context.answer(&head, rest, spill, outbox);
                let used = head.length_bytes + ending.used;
                return Step::Done(self.settle(used, ending.next));
            }
            Parsed::Incomplete => match check_length(bytes) {
                Ok(()) => return Step::More,
                Err(refusal) => refusal,
            },
            Parsed::Refused(TOO_MANY_FIELDS) if N < HEADERS => return Step::Crowded,
            Parsed::Refused(refusal) => refusal,
        };
        Step::Done(self.refuse(refusal))
    }

    /// Reads more of a head; `Err(None)`: nothing is owed to the peer.
    fn read_head(&mut self, deadline: &mut Option<Instant>) -> Result<(), Option<Refusal>> {
        let Context {
            shared, link, pipe, ..
        } = self.context;
        let begun = self.start < self.inbox.len();
        self.make_room();
        let received = if begun {
            let patience = shared.options.head_deadline;
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
            pipe.receive_by(&mut self.inbox, deadline)
        } else {
            link.rest();
            // After `rest`: who closes idle connections sees either the flag or the rest.
            let received = match shared.draining.load(Ordering::SeqCst) {
                // What has come already is answered.
                true => pipe.receive_now(&mut self.inbox),
                false => pipe.receive(&mut self.inbox),
            };
            link.work();
            received
        };
        match received {
            Received::Bytes => Ok(()),
            Received::TimedOut if begun => Err(Some(Refusal::new(408, "head took too long"))),
            Received::Closed if begun => Err(Some(Refusal::new(400, "head ended early"))),
            Received::TimedOut | Received::Closed => Err(None),
        }
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.inbox.drain(..self.start);
            self.start = 0;
        }
        if self.inbox.len() == self.inbox.capacity() {
            self.inbox.reserve(KEPT_BUFFER_BYTES);
        }
    }

    /// Leaves in the inbox what belongs to the next request.
    fn settle(&mut self, used: usize, next: Next) -> Next {
        self.start += used;
        if self.start == self.inbox.len() {
            self.inbox.clear();
            self.start = 0;
        }
        self.inbox.append(&mut self.spill.raw);
        let unread = self.start < self.inbox.len();
        if next == Next::Close && unread {
            Next::Linger
        } else {
            next
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Next {
        self.context.refuse(refusal, &mut self.outbox);
        Next::Linger
    }

    /// Gives large buffers back, unless the next request follows at once: a client that sends
    /// one large body after the other would pay for fresh memory each time.
    fn shrink(&mut self) {
        self.outbox.shrink();
        if !self.spill.body.is_empty() && self.inbox.capacity() < KEPT_BUFFER_BYTES {
            self.inbox.reserve(KEPT_BUFFER_BYTES);
        }
        let capacity = self.spill.body.capacity().max(self.inbox.capacity());
        if capacity > KEPT_BUFFER_BYTES && self.context.pipe.readable_within(LARGE_BUFFER_WAIT) {
            self.spill.body.clear();
            self.spill.raw.clear();
            return;
        }
        for buffer in [&mut self.spill.body, &mut self.spill.raw] {
            buffer.clear();
            if buffer.capacity() > KEPT_BUFFER_BYTES {
                *buffer = Vec::new();
            }
        }
        self.spill.share = Share::default();
        let left = self.inbox.len() - self.start;
        if self.inbox.capacity() > KEPT_BUFFER_BYTES && left <= KEPT_BUFFER_BYTES {
            let mut small = Vec::with_capacity(KEPT_BUFFER_BYTES);
            small.extend_from_slice(&self.inbox[self.start..]);
            self.inbox = small;
            self.start = 0;
        }
    }
}

impl Context<'_> {
    /// Carries out one request whose head is known; `rest` is what came behind it.
    #[inline(never)]
    fn answer(
        &self,
        head: &Head<'_>,
        rest: &[u8],
        spill: &mut Spill,
        outbox: &mut Outbox,
    ) -> Ending {
        let mut out = self.responder(outbox).for_request(
            head.method == Method::Head,
            head.http11,
            head.keep_alive && !self.peer.health_only,
        );
        let max_bytes = match self.admit(head) {
            Some(Admit::Body { max_bytes, mark }) => {
                out.mark = mark;
                max_bytes
            }
            Some(Admit::Answer(reply)) => {
                if head.has_body() {
                    out.close();
                }
                out.reply(&reply);
                let more = head.keep_alive || head.has_body();
                return Ending {
                    next: after(&out, more),
                    used: 0,
                };
            }
            None => {
                out.fail();
                return Ending::linger();
            }
        };
        let read = match head.framing {
            Framing::Empty => Ok(0),
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= max_bytes => {
                    self.read_length(head, length, (rest, spill), &out)
                }
                _ => Err(BODY_TOO_BIG),
            },
            Framing::Chunked => self.read_chunked(head, max_bytes, (rest, spill), &out),
        };
        let used = match read {
            Ok(used) => used,
            Err(refusal) => {
                self.refuse_with(refusal, &mut out);
                return Ending::linger();
            }
        };
        let body = match head.framing {
            Framing::Empty => &[],
            Framing::Length(length) if length == used as u64 => &rest[..used],
            Framing::Length(_) | Framing::Chunked => &spill.body[..],
        };
        self.handle(head, body, &mut out);
        Ending {
            next: after(&out, head.keep_alive),
            used,
        }
    }

    /// `None`: the handler panicked.
    #[inline(never)]
    fn admit(&self, head: &Head<'_>) -> Option<Admit> {
        if self.peer.health_only && !head.path.starts_with("/health") {
            let reply = Reply::text(503, "too many connections").with("Retry-After", "1");
            return Some(Admit::Answer(reply));
        }
        let handler = &self.shared.handler;
        catch_unwind(AssertUnwindSafe(|| handler.admit(head, self.peer))).ok()
    }

    fn handle(&self, head: &Head<'_>, body: &[u8], out: &mut Responder<'_>) {
        let handler = &self.shared.handler;
        let run = AssertUnwindSafe(|| handler.handle(head, self.peer, body, out));
        if catch_unwind(run).is_err() {
            log::error!("request handler panicked path={:?}", head.path);
            out.fail();
        } else if out.progress() == Progress::Nothing {
            log::error!("request handler gave no answer path={:?}", head.path);
            out.fail();
        }
    }

    /// Reads a body of `length` bytes into the spill, unless it is already there in `rest`.
    #[inline(never)]
    fn read_length(
        &self,
        head: &Head<'_>,
        length: usize,
        (rest, spill): (&[u8], &mut Spill),
        out: &Responder<'_>,
    ) -> Result<usize, Refusal> {
        if length <= rest.len() {
            return Ok(length);
        }
        invite(head, rest, out)?;
        let Spill { body, raw, share } = spill;
        body.clear();
        body.extend_from_slice(rest);
        let deadline = self.body_deadline(Instant::now(), length);
        while body.len() < length {
            let step = (length - body.len()).min(body.len().max(KEPT_BUFFER_BYTES));
            claim(share, body.len() + step)?;
            body.reserve(step);
            self.read_body(body, deadline)?;
        }
        raw.extend_from_slice(&body[length..]);
        body.truncate(length);
        Ok(rest.len())
    }

    /// Decodes a chunked body into the spill.
    #[inline(never)]
    fn read_chunked(
        &self,
        head: &Head<'_>,
        max_bytes: usize,
        (rest, spill): (&[u8], &mut Spill),
        out: &Responder<'_>,
    ) -> Result<usize, Refusal> {
        let Spill { body, raw, share } = spill;
        body.clear();
        let mut chunked = Chunked::new(max_bytes);
        let used = chunked.feed(rest, body)?;
        if chunked.is_done() {
            return Ok(used);
        }
        invite(head, rest, out)?;
        let begun = Instant::now();
        while !chunked.is_done() {
            raw.clear();
            let step = body.len().clamp(KEPT_BUFFER_BYTES, BODY_READ_BYTES);
            claim(share, body.len() + step)?;
            raw.reserve(step);
            self.read_body(raw, self.body_deadline(begun, body.len()))?;
            let used = chunked.feed(raw, body)?;
            raw.drain(..used);
        }
        Ok(rest.len())
    }

    fn read_body(&self, into: &mut Vec<u8>, deadline: Instant) -> Result<(), Refusal> {
        match self.pipe.receive_by(into, deadline) {
            Received::Bytes => Ok(()),
            Received::Closed => Err(BODY_ENDED),
            Received::TimedOut => Err(Refusal::new(408, "body took too long")),
        }
    }

    fn body_deadline(&self, begun: Instant, bytes: usize) -> Instant {
        let seconds = (bytes / BODY_BYTES_PER_SECOND) as u64;
        begun + self.shared.options.body_deadline + Duration::from_secs(seconds)
    }

    fn responder<'c>(&'c self, outbox: &'c mut Outbox) -> Responder<'c> {
        let Shared {
            options, closing, ..
        } = self.shared;
        Responder::new(self.pipe, outbox, options.write_deadline, closing)
    }

    fn refuse(&self, refusal: Refusal, outbox: &mut Outbox) {
        self.refuse_with(refusal, &mut self.responder(outbox));
    }

    #[inline(never)]
    fn refuse_with(&self, refusal: Refusal, out: &mut Responder<'_>) {
        let Refusal { status, reason } = refusal;
        log::debug!(
            "request refused peer={} status={status} reason={reason:?}",
            self.peer.address
        );
        out.close();
        let reply = Reply::text(status, reason);
        out.reply(&match status {
            503 => reply.with("Retry-After", "1"),
            _ => reply,
        });
        note_refused(self.shared, self.peer, status, reason);
    }
}

/// Tells a client that waits for it to send its body.
fn invite(head: &Head<'_>, rest: &[u8], out: &Responder<'_>) -> Result<(), Refusal> {
    let waits = head.expects_continue && rest.is_empty();
    match !waits || out.invite() {
        true => Ok(()),
        false => Err(BODY_ENDED),
    }
}

fn note_refused(shared: &Shared, peer: &Peer, status: u16, reason: &'static str) {
    let run = AssertUnwindSafe(|| shared.handler.refused(peer, status, reason));
    if catch_unwind(run).is_err() {
        log::error!("request handler panicked status={status}");
    }
}

/// Many clients with large bodies must not bring down a gateway that has little memory.
fn claim(share: &mut Share, bytes: usize) -> Result<(), Refusal> {
    match share.grow(bytes) {
        true => Ok(()),
        false => Err(Refusal::new(503, "too many large requests")),
    }
}

const BODY_ENDED: Refusal = Refusal {
    status: 400,
    reason: "body ended early",
};

/// What follows the answer that `out` has written; `more`: the peer may be sending still.
fn after(out: &Responder<'_>, more: bool) -> Next {
    match out.progress() {
        Progress::Answered if !out.closes() => Next::Request,
        Progress::Answered if more => Next::Linger,
        _ => Next::Close,
    }
}
