//! The answer to one request: whole (`reply`, `send`) or as a stream.
//!
//! Owner: the connection's own thread. Exactly one answer is written per request; an error of
//! the socket is remembered, and the connection closes after it.
//! Absent on purpose: waiting for anything but the socket.

use std::io::IoSlice;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::base::limits::COPIED_ANSWER_BYTES;
use crate::http::outbox::{Extent, Outbox};
use crate::http::pipe::Pipe;

/// Slices in one gathering write: the head and the parts of a body.
const SLICES: usize = 16;

/// A whole answer as a value, for everything that is not on the fast path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn text(status: u16, text: &str) -> Self {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Self {
            status,
            headers,
            body: format!("{text}\n").into_bytes(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// How far the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Nothing,
    /// A stream is open; `chunked` or ended by the close of the connection.
    Streaming {
        chunked: bool,
    },
    Answered,
    /// The peer is gone or too slow.
    Broken,
}

/// Writes the answer to one request.
pub struct Responder<'c> {
    pipe: &'c Pipe<'c>,
    outbox: &'c mut Outbox,
    patience: Duration,
    closing: &'c AtomicBool,
    /// HEAD: everything but the body.
    head_only: bool,
    http11: bool,
    close: bool,
    progress: Progress,
    /// A header of whatever is said.
    pub(super) mark: Option<(&'static str, String)>,
}

impl<'c> Responder<'c> {
    pub(super) fn new(
        pipe: &'c Pipe<'c>,
        outbox: &'c mut Outbox,
        patience: Duration,
        closing: &'c AtomicBool,
    ) -> Self {
        let progress = Progress::Nothing;
        Self {
            pipe,
            outbox,
            patience,
            closing,
            head_only: false,
            http11: true,
            close: false,
            progress,
            mark: None,
        }
    }

    pub(super) fn for_request(mut self, head_only: bool, http11: bool, keep_alive: bool) -> Self {
        self.head_only = head_only;
        self.http11 = http11;
        self.close = !keep_alive;
        self
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    pub(super) fn closes(&self) -> bool {
        self.close
    }

    /// Closes the connection after this answer, and says so in it.
    pub fn close(&mut self) {
        self.close = true;
    }

    /// Wants the body of the request. False: the peer is gone.
    pub(super) fn invite(&self) -> bool {
        let mut text = "HTTP/1.1 100 Continue\r\n".to_owned();
        if let Some((name, value)) = &self.mark {
            [*name, ": ", value, "\r\n"]
                .iter()
                .for_each(|part| text.push_str(part));
        }
        text.push_str("\r\n");
        self.pipe.send_all(text.as_bytes(), self.patience)
    }

    /// Answers with `reply`.
    pub fn reply(&mut self, reply: &Reply) {
        let headers = reply
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        self.answer(reply.status, headers, &[&reply.body]);
    }

    /// Answers with a body in `parts`, whose length together becomes Content-Length.
    pub fn send(&mut self, status: u16, headers: &[(&str, &str)], parts: &[&[u8]]) {
        self.answer(status, headers.iter().copied(), parts);
    }

    /// Begins an answer of unknown length. False: the peer is gone, or an answer was given.
    pub fn start_stream(&mut self, status: u16, headers: &[(&str, &str)]) -> bool {
        if !self.may_answer() {
            return false;
        }
        let chunked = self.http11;
        let extent = if chunked {
            Extent::Chunked
        } else {
            Extent::Unsaid
        };
        self.close |= !chunked || self.closing.load(Ordering::Relaxed);
        let mark = self.mark.iter().map(|(name, value)| (*name, &**value));
        let headers = headers.iter().copied().chain(mark);
        self.outbox.head(status, headers, extent, self.close);
        let sent = self.pipe.send_all(&self.outbox.bytes, self.patience);
        self.progress = match sent {
            true if self.head_only => Progress::Answered,
            true => Progress::Streaming { chunked },
            false => Progress::Broken,
        };
        sent
    }

    /// Sends one piece of the stream. False: the peer is gone or did not take it in time.
    pub fn write_stream(&mut self, data: &[u8]) -> bool {
        let Progress::Streaming { chunked } = self.progress else {
            return false;
        };
        if data.is_empty() {
            // An empty chunk would be the end.
            return true;
        }
        self.outbox.bytes.clear();
        if chunked {
            self.outbox.chunk_size(data.len());
        }
        let end: &[u8] = if chunked { b"\r\n" } else { b"" };
        // The buffer is not made larger for it: the thread of a quiet stream allocates nothing.
        let free = self.outbox.bytes.capacity() - self.outbox.bytes.len();
        let sent = self.transmit(&[data, end], free);
        if !sent {
            self.progress = Progress::Broken;
        }
        sent
    }

    /// Ends the stream. A stream that is never finished ends with the connection, which shows
    /// the peer that it is not complete.
    pub fn finish_stream(&mut self) {
        let Progress::Streaming { chunked } = self.progress else {
            return;
        };
        // It began before the end did, and so could not say it in its head.
        self.close |= self.closing.load(Ordering::Relaxed);
        let sent = !chunked || self.pipe.send_all(b"0\r\n\r\n", self.patience);
        self.progress = if sent {
            Progress::Answered
        } else {
            Progress::Broken
        };
    }

    /// Whether the peer has hung up; does not wait. In a stream, the end of the peer's own
    /// direction is enough; before it, that may be a client that still wants its answer.
    pub fn client_gone(&self) -> bool {
        match self.progress {
            Progress::Broken => true,
            Progress::Streaming { .. } => self.pipe.hung_up(true),
            Progress::Nothing | Progress::Answered => self.pipe.hung_up(false),
        }
    }

    /// Whether the peer has ended its own direction, or the connection. Does not wait.
    pub fn hung_up(&self) -> bool {
        self.progress == Progress::Broken || self.pipe.hung_up(true)
    }

    /// Whether the connection has ended in both directions. Does not wait.
    pub fn is_lost(&self) -> bool {
        self.progress == Progress::Broken || self.pipe.hung_up(false)
    }

    /// Leaves the request without an answer, or without the rest of one: its client is gone. The
    /// connection is closed without a word.
    pub fn abandon(&mut self) {
        self.close = true;
        self.progress = Progress::Broken;
    }

    /// The socket, to be polled beside other things; never to be read or written.
    pub fn socket(&self) -> &TcpStream {
        self.pipe.socket()
    }

    /// Answers for a handler that panicked or gave no answer, unless it wrote something.
    pub(super) fn fail(&mut self) {
        self.close = true;
        if self.progress == Progress::Nothing {
            self.reply(&Reply::text(500, "internal error"));
        }
    }

    fn may_answer(&self) -> bool {
        let may = self.progress == Progress::Nothing;
        if !may {
            log::error!(
                "second answer to one request left out progress={:?}",
                self.progress
            );
        }
        may
    }

    fn answer<'h>(
        &mut self,
        status: u16,
        headers: impl Iterator<Item = (&'h str, &'h str)>,
        parts: &[&[u8]],
    ) {
        if !self.may_answer() {
            return;
        }
        let bodiless = matches!(status, 100..=199 | 204 | 304);
        let body_bytes = parts.iter().map(|part| part.len()).sum();
        let extent = if bodiless {
            Extent::Unsaid
        } else {
            Extent::Length(body_bytes)
        };
        self.close |= self.closing.load(Ordering::Relaxed);
        #[expect(clippy::map_identity, reason = "these live longer than the mark does")]
        let headers = headers.map(|(name, value)| (name, value));
        let mark = self.mark.iter().map(|(name, value)| (*name, &**value));
        self.outbox
            .head(status, headers.chain(mark), extent, self.close);
        let parts = if bodiless || self.head_only {
            &[]
        } else {
            parts
        };
        let sent = self.transmit(parts, COPIED_ANSWER_BYTES);
        self.progress = if sent {
            Progress::Answered
        } else {
            Progress::Broken
        };
    }

    /// Sends the outbox and `parts` behind it, in one write if the socket takes it.
    /// Up to `copied` bytes are put behind the outbox for that.
    fn transmit(&mut self, parts: &[&[u8]], copied: usize) -> bool {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes <= copied.min(COPIED_ANSWER_BYTES) || parts.len() >= SLICES {
            parts
                .iter()
                .for_each(|part| self.outbox.bytes.extend_from_slice(part));
            return self.pipe.send_all(&self.outbox.bytes, self.patience);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices[0] = IoSlice::new(&self.outbox.bytes);
        for (slice, part) in slices[1..].iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        self.pipe
            .send_slices(&mut slices[..=parts.len()], self.patience)
    }
}
