//! Reading and writing one client socket under absolute deadlines.
//!
//! The usual request needs no clock: a blocking read under the idle timeout (set once), and
//! one write that the socket takes whole. Only what comes or goes in pieces is timed, with
//! `poll` and calls that do not wait, so no timeout ever has to be changed.
//! Absent on purpose: buffers of its own; errors in detail (to us they all mean "gone").

use std::io::IoSlice;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};

use crate::base::limits::DRAIN_BYTES;

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    Bytes,
    /// The peer is done, or the connection is broken.
    Closed,
    TimedOut,
}

pub(super) const SEND: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// Waits under the socket's own timeout and appends what comes to the spare room of `into`.
pub(super) fn receive(socket: &TcpStream, into: &mut Vec<u8>) -> Received {
    loop {
        return match recv(socket, spare_capacity(into), RecvFlags::empty()) {
            Ok((0, _)) => Received::Closed,
            Ok(_) => Received::Bytes,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Received::TimedOut,
            Err(_) => Received::Closed,
        };
    }
}

/// Like [`receive`], but takes only what is there.
pub(super) fn receive_now(socket: &TcpStream, into: &mut Vec<u8>) -> Received {
    loop {
        return match recv(socket, spare_capacity(into), RecvFlags::DONTWAIT) {
            Ok((0, _)) => Received::Closed,
            Ok(_) => Received::Bytes,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Received::TimedOut,
            Err(_) => Received::Closed,
        };
    }
}

/// Like [`receive`], but waits until `deadline` at most.
pub(super) fn receive_by(socket: &TcpStream, into: &mut Vec<u8>, deadline: Instant) -> Received {
    loop {
        // Asked on every round: a peer that always has one more byte must not win.
        let Some(left) = time_left(deadline) else {
            return Received::TimedOut;
        };
        match recv(socket, spare_capacity(into), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Received::Closed,
            Ok(_) => return Received::Bytes,
            Err(Errno::AGAIN) => wait(socket, PollFlags::IN, left),
            Err(Errno::INTR) => {}
            Err(_) => return Received::Closed,
        }
    }
}

/// Writes all of `bytes` within `patience`; false when the peer is gone or too slow.
pub(super) fn send_all(socket: &TcpStream, mut bytes: &[u8], patience: Duration) -> bool {
    let mut pace = Pace::new(patience);
    while !bytes.is_empty() {
        match send(socket, bytes, SEND) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if pace.goes_on(socket, error) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Writes all slices within `patience`, gathered; false when the peer is gone or too slow.
pub(super) fn send_slices(
    socket: &TcpStream,
    mut slices: &mut [IoSlice<'_>],
    patience: Duration,
) -> bool {
    let mut pace = Pace::new(patience);
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), SEND) {
            Ok(sent) => IoSlice::advance_slices(&mut slices, sent),
            Err(error) if pace.goes_on(socket, error) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Whether bytes, or the end, arrive within `patience`.
pub(super) fn readable_within(socket: &TcpStream, patience: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timeout)), Ok(1))
}

/// Whether the peer has hung up. `half`: that it ended its own direction is enough.
pub(super) fn hung_up(socket: &TcpStream, half: bool) -> bool {
    let asked = if half {
        PollFlags::RDHUP
    } else {
        PollFlags::empty()
    };
    let mut polled = [PollFd::new(socket, asked)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // ERR and HUP are always reported.
    matches!(poll(&mut polled, Some(&now)), Ok(ready) if ready > 0)
}

/// Ends our direction and throws away what the peer still sends, within bounds: a close with
/// unread bytes would be a reset, which can destroy the answer on its way.
pub(super) fn linger(socket: &TcpStream, sink: &mut Vec<u8>, patience: Duration) {
    if socket.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let deadline = Instant::now() + patience;
    let mut thrown_away = 0;
    while thrown_away < DRAIN_BYTES {
        sink.clear();
        if receive_by(socket, sink, deadline) != Received::Bytes {
            return;
        }
        thrown_away += sink.len();
    }
}

/// The first byte to come, left where it is; `None` when none comes until `deadline`.
pub(super) fn first_byte(socket: &TcpStream, deadline: Instant) -> Option<u8> {
    loop {
        let mut byte = [0];
        match recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return None,
            Ok(_) => return Some(byte[0]),
            Err(Errno::AGAIN) => wait(socket, PollFlags::IN, time_left(deadline)?),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Waits until the socket is ready or `left` is over; the caller looks which it was.
pub(super) fn wait(socket: &TcpStream, for_what: PollFlags, left: Duration) {
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    // An error here shows itself in the next read or write.
    let _ = poll(&mut [PollFd::new(socket, for_what)], Some(&timeout));
}

pub(super) fn time_left(deadline: Instant) -> Option<Duration> {
    deadline
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
}

/// The time for one answer, which begins to count when the socket first takes no more.
pub(super) struct Pace {
    patience: Duration,
    deadline: Option<Instant>,
}

impl Pace {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            deadline: None,
        }
    }

    pub(super) fn goes_on(&mut self, socket: &TcpStream, error: Errno) -> bool {
        if error == Errno::INTR {
            return true;
        }
        let patience = self.patience;
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Instant::now() + patience);
        match time_left(deadline) {
            Some(left) if error == Errno::AGAIN => {
                wait(socket, PollFlags::OUT, left);
                true
            }
            _ => false,
        }
    }
}
