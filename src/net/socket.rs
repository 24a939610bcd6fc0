//! One TCP connection as ureq's transport. The socket never blocks by itself: each wait is a
//! poll with the deadline of the request on this thread, and ends when that is stopped.
//!
//! What is written is kept back until an answer is awaited, so that head and body of a small
//! request leave in one packet.

use std::fmt;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

use crate::base::limits;
use crate::base::time::rounded;
use crate::net::error::Cause;
use crate::net::stop::Stop;
use crate::net::wait;

pub(super) struct Socket {
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
    /// Written, but not sent yet.
    pending: Vec<u8>,
    /// The request it works for.
    holder: Option<Stop>,
    /// It worked for another request before.
    used: bool,
    /// Until the first byte came: when the other side must have greeted, as TLS does at once.
    greeted_by: Option<Instant>,
}

impl Socket {
    pub(super) fn new(stream: Arc<TcpStream>, holder: Stop, greeted_by: Option<Instant>) -> Socket {
        Socket {
            stream,
            buffers: LazyBuffers::new(limits::NET_INPUT_BYTES, limits::NET_OUTPUT_BYTES),
            pending: Vec::new(),
            holder: Some(holder),
            used: false,
            greeted_by,
        }
    }

    /// Makes it work for the request on this thread.
    fn attach(&mut self) -> Result<(), ureq::Error> {
        let stop = wait::stop();
        if !self.holder.as_ref().is_some_and(|holder| holder.is(&stop)) {
            wait::hold(&self.stream)?;
            self.holder = Some(stop);
            if self.used {
                wait::note_reuse();
            }
        } else if stop.is_stopped() {
            return Err(wait::fail(Cause::Stopped));
        }
        Ok(())
    }

    fn detach(&mut self) {
        self.used = true;
        if let Some(stop) = self.holder.take() {
            stop.release(&self.stream);
        }
    }

    fn send_all(&self, mut bytes: &[u8]) -> Result<(), ureq::Error> {
        while !bytes.is_empty() {
            match send(&self.stream, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::AGAIN) => await_ready(&self.stream, PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(lost(&std::io::Error::from(error).to_string())),
            }
        }
        Ok(())
    }

    fn await_bytes(&self) -> Result<(), ureq::Error> {
        let (until, _) = wait::end_of_wait();
        let greeted_by = self.greeted_by;
        let Some(by) = greeted_by.filter(|by| until.is_none_or(|until| *by < until)) else {
            return await_ready(&self.stream, PollFlags::IN);
        };
        match poll_until(&self.stream, PollFlags::IN, Some(by)) {
            Ok(false) => Err(wait::fail(Cause::Connect(format!(
                "no answer to the TLS greeting within {}",
                rounded(limits::NET_CONNECT)
            )))),
            _ => await_ready(&self.stream, PollFlags::IN),
        }
    }

    fn flush(&mut self) -> Result<(), ureq::Error> {
        self.send_all(&self.pending)?;
        self.pending.clear();
        // A large body must not be remembered by an idle connection.
        self.pending.shrink_to(limits::NET_OUTPUT_BYTES);
        Ok(())
    }
}

fn lost(detail: &str) -> ureq::Error {
    let stopped = wait::is_stopped();
    wait::fail(if stopped {
        Cause::Stopped
    } else {
        Cause::Lost(detail.to_owned())
    })
}

/// Waits until the socket is ready, ended, or shut down by `Stop`.
fn await_ready(stream: &TcpStream, events: PollFlags) -> Result<(), ureq::Error> {
    let (until, cause) = wait::end_of_wait();
    match poll_until(stream, events, until) {
        Ok(true) if wait::is_stopped() => Err(wait::fail(Cause::Stopped)),
        Ok(true) => Ok(()),
        Ok(false) => Err(wait::fail(cause)),
        Err(error) => Err(lost(&std::io::Error::from(error).to_string())),
    }
}

/// False when the time is over.
pub(super) fn poll_until(
    stream: &TcpStream,
    events: PollFlags,
    until: Option<Instant>,
) -> Result<bool, Errno> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let time = left.map(timespec);
        match poll(&mut [PollFd::new(stream, events)], time.as_ref()) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        self.attach()?;
        if self.pending.len() + amount > limits::NET_OUTPUT_BYTES {
            self.flush()?;
        }
        let output = &self.buffers.output()[..amount];
        self.pending.extend_from_slice(output);
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        self.attach()?;
        if !self.pending.is_empty() {
            self.flush()?;
            // The answer cannot be there yet.
            self.await_bytes()?;
        }
        loop {
            let room = self.buffers.input_append_buf();
            match recv(&self.stream, &mut *room, RecvFlags::empty()) {
                // A shutdown by `Stop` looks like an orderly end.
                Ok((_, 0)) if wait::is_stopped() => return Err(wait::fail(Cause::Stopped)),
                Ok((_, 0)) => return Ok(false),
                Ok((_, count)) => {
                    wait::note_bytes();
                    self.greeted_by = None;
                    self.buffers.input_appended(count);
                    return Ok(true);
                }
                Err(Errno::AGAIN) => self.await_bytes()?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(lost(&std::io::Error::from(error).to_string())),
            }
        }
    }

    /// Asked when a request is done with it and when the next one wants it. Anything unread
    /// belongs to nobody.
    fn is_open(&mut self) -> bool {
        let stopped = self.holder.as_ref().is_some_and(Stop::is_stopped);
        self.detach();
        let probe = recv(&self.stream, &mut [0_u8; 1][..], RecvFlags::PEEK);
        !stopped && self.pending.is_empty() && matches!(probe, Err(Errno::AGAIN))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}
