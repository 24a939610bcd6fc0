//! The GET stream of a session: messages that belong to no request, and streams that a client
//! resumes. The connection thread sleeps until there is an event, the client hangs up, or a
//! keep-alive is due.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::fcntl_dupfd_cloexec;

use crate::base::thread::Rest;
use crate::base::{limits, sys, time};
use crate::front::exchange::with_type;
use crate::front::session::Session;
use crate::front::stream::{EventStream, Next, event_id, parse_event_id};
use crate::http::{Reply, Responder};
use crate::model::principal::Principal;
use crate::wire::sse;

/// Serves one GET until the client goes, the stream ends, or the session does.
pub fn run(
    session: &Arc<Session>,
    last_event_id: Option<&str>,
    whose: Option<&Arc<Principal>>,
    headers: &[(&str, &str)],
    out: &mut Responder<'_>,
) {
    let resumed = last_event_id.and_then(parse_event_id);
    let call_stream = resumed.and_then(|(number, _)| session.stream(number));
    let (stream, after) = match (&call_stream, resumed) {
        (Some(stream), Some((_, seq))) => (&**stream, Some(seq)),
        (None, Some((0, seq))) => (&session.listener, Some(seq)),
        _ => (&session.listener, None),
    };
    // An id of an event that has not been: kept from an earlier session.
    let after = after.filter(|seq| stream.has_seen(*seq));
    if call_stream.is_none() && session.listener.attached() >= limits::SESSION_LISTENERS {
        return out.reply(&Reply::json(
            409,
            "{\"error\":\"the session has too many streams open\"}",
        ));
    }
    let (waker, bell) = match new_waker() {
        Ok(pair) => pair,
        Err(error) => {
            log::warn!("stream not opened: {error}");
            return out.reply(&Reply::empty(503).with("Retry-After", "1"));
        }
    };
    // Before the head is sent: who has seen it may count on the order of the streams.
    let token = stream.attach(Some(bell), after.is_some());
    if out.start_stream(200, &with_type(headers, "text/event-stream")) {
        let listener = Listener {
            session,
            stream,
            whose,
            waker: &waker,
            after,
        };
        listener.serve(token, out);
    }
    stream.detach(token);
    session.touch();
    out.finish_stream();
}

/// Two descriptors of one eventfd: to wait at, and to ring. Not shared on the heap, because the
/// thread of a quiet stream had better allocate nothing: its first allocation costs it many
/// pages.
pub fn new_waker() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let bell = fcntl_dupfd_cloexec(&waker, 0)?;
    Ok((waker, bell))
}

struct Listener<'a> {
    session: &'a Session,
    stream: &'a EventStream,
    whose: Option<&'a Arc<Principal>>,
    waker: &'a OwnedFd,
    /// What the client asked to go on from; only until it has that.
    after: Option<u64>,
}

impl Listener<'_> {
    fn serve(mut self, token: crate::front::stream::Token, out: &mut Responder<'_>) {
        if !self.greet(out) {
            return;
        }
        let mut last_write = Instant::now();
        let mut rest = Rest::after_work();
        while !has_ended(self.whose) {
            match self.stream.next(token, self.after) {
                Next::Events(events) => {
                    self.after = None;
                    for (seq, data) in events {
                        if !self.write(seq, &data, out) {
                            return self.stream.not_delivered(seq, None);
                        }
                    }
                    last_write = Instant::now();
                    rest.worked();
                    continue;
                }
                Next::Finished => return self.take_leave(out),
                Next::Wait if self.session.is_closed() => return,
                Next::Wait => {}
            }
            let left = limits::STREAM_KEEP_ALIVE.saturating_sub(last_write.elapsed());
            if left.is_zero() {
                if !out.write_stream(sse::KEEP_ALIVE) {
                    return;
                }
                last_write = Instant::now();
                continue;
            }
            rest.look();
            let quiet = rest
                .due()
                .map(|due| due.saturating_duration_since(Instant::now()));
            if !sleep(self.waker, quiet.map_or(left, |quiet| left.min(quiet)), out) {
                return;
            }
        }
    }

    fn greet(&self, out: &mut Responder<'_>) -> bool {
        match self.session.revision.has_priming_event() {
            true => self.write_retry(limits::STREAM_RETRY_MS, out),
            // The head alone is held back by some proxies and clients.
            false => out.write_stream(b": open\n\n"),
        }
    }

    /// The gateway ends the stream: its clients come back at different times, and by then to
    /// another gateway if there is one.
    fn take_leave(&self, out: &mut Responder<'_>) {
        let is_ended_by_us = !self.session.is_closed() && self.stream.number() == 0;
        if is_ended_by_us && self.session.revision.has_priming_event() {
            let retry = limits::STREAM_RETRY_MS + random_up_to(limits::END_RETRY_MS);
            // The stream ends either way.
            let _ = self.write_retry(retry, out);
        }
    }

    /// For a client that knows it: an id to resume from, and when to come back. Written from the
    /// stack: the thread of a quiet stream allocates nothing.
    fn write_retry(&self, retry: u64, out: &mut Responder<'_>) -> bool {
        let mut event = [0; 96];
        let mut rest = &mut event[..];
        let number = self.stream.number();
        let after = self.after.unwrap_or_else(|| self.stream.sent());
        let written = write!(rest, "id: {number}-{after}\nretry: {retry}\ndata: \n\n",);
        let left = rest.len();
        // Three numbers of at most twenty digits fit.
        written.is_ok() && out.write_stream(&event[..event.len() - left])
    }

    fn write(&self, seq: u64, data: &[u8], out: &mut Responder<'_>) -> bool {
        let mut event = Vec::new();
        sse::write_event(
            Some(&event_id(self.stream.number(), seq)),
            None,
            data,
            &mut event,
        );
        out.write_stream(&event)
    }
}

/// Whether the token that opened a stream is good no more. Its client comes back with another.
pub fn has_ended(whose: Option<&Arc<Principal>>) -> bool {
    whose.is_some_and(|whose| whose.is_over(time::unix_s()))
}

fn random_up_to(most: u64) -> u64 {
    let mut bytes = [0; 8];
    sys::random_bytes(&mut bytes);
    u64::from_le_bytes(bytes) % (most + 1)
}

/// Until the bell of `waker` rings, `limit` is over or the client hangs up: then it is false.
pub fn sleep(waker: &OwnedFd, limit: Duration, out: &Responder<'_>) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    // Not IN: pipelined bytes would wake the loop again and again.
    let hang_up = PollFlags::RDHUP;
    let mut fds = [
        PollFd::new(waker, PollFlags::IN),
        PollFd::new(out.socket(), hang_up),
    ];
    // Interrupted or failed: the loop looks around and comes back.
    let _ = poll(&mut fds, Some(&timeout));
    let (woken, socket) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
    if woken {
        let mut count = [0; 8];
        let _ = rustix::io::read(waker, &mut count);
    }
    !(socket && out.client_gone())
}
