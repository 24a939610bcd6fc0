//! One client connection as its thread sees it: the socket as it is, or with TLS over it. Which
//! of the two is decided once, when the connection begins.
//!
//! Absent on purpose: policy. Deadlines are those of the caller, as in `socket`.

use std::io::IoSlice;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::http::secure::Secure;
use crate::http::socket::{self, Received};

pub(super) enum Pipe<'s> {
    Plain(&'s TcpStream),
    Tls(Secure<'s>),
}

impl Pipe<'_> {
    /// The socket below, to be polled; never to be read or written past TLS.
    #[inline]
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Pipe::Plain(socket) => socket,
            Pipe::Tls(secure) => secure.socket,
        }
    }

    /// Waits as long as a connection may rest, and appends what comes to the spare room of `into`.
    #[inline]
    pub(super) fn receive(&self, into: &mut Vec<u8>) -> Received {
        match self {
            Pipe::Plain(socket) => socket::receive(socket, into),
            Pipe::Tls(secure) => secure.receive_by(into, Instant::now() + secure.idle),
        }
    }

    /// Like [`Pipe::receive`], but takes only what is there.
    #[inline]
    pub(super) fn receive_now(&self, into: &mut Vec<u8>) -> Received {
        match self {
            Pipe::Plain(socket) => socket::receive_now(socket, into),
            Pipe::Tls(secure) => secure.receive_now(into),
        }
    }

    /// Like [`Pipe::receive`], but waits until `deadline` at most.
    #[inline]
    pub(super) fn receive_by(&self, into: &mut Vec<u8>, deadline: Instant) -> Received {
        match self {
            Pipe::Plain(socket) => socket::receive_by(socket, into, deadline),
            Pipe::Tls(secure) => secure.receive_by(into, deadline),
        }
    }

    /// Writes all of `bytes` within `patience`; false when the peer is gone or too slow.
    #[inline]
    pub(super) fn send_all(&self, bytes: &[u8], patience: Duration) -> bool {
        match self {
            Pipe::Plain(socket) => socket::send_all(socket, bytes, patience),
            Pipe::Tls(secure) => secure.send(&mut [IoSlice::new(bytes)], patience),
        }
    }

    /// Writes all slices within `patience`, gathered; false when the peer is gone or too slow.
    #[inline]
    pub(super) fn send_slices(&self, slices: &mut [IoSlice<'_>], patience: Duration) -> bool {
        match self {
            Pipe::Plain(socket) => socket::send_slices(socket, slices, patience),
            Pipe::Tls(secure) => secure.send(slices, patience),
        }
    }

    /// Whether bytes, or the end, arrive within `patience`.
    pub(super) fn readable_within(&self, patience: Duration) -> bool {
        let is_waiting = matches!(self, Pipe::Tls(secure) if secure.has_bytes());
        is_waiting || socket::readable_within(self.socket(), patience)
    }

    /// Whether the peer has hung up. `half`: that it ended its own direction is enough.
    #[inline]
    pub(super) fn hung_up(&self, half: bool) -> bool {
        socket::hung_up(self.socket(), half)
    }

    /// Says that nothing more comes, without waiting. TLS has a word for it.
    pub(super) fn say_goodbye(&self) {
        if let Pipe::Tls(secure) = self {
            secure.say_goodbye();
        }
    }

    /// Ends our direction and waits a little for the peer to take what was said.
    pub(super) fn linger(&self, sink: &mut Vec<u8>, patience: Duration) {
        self.say_goodbye();
        // What comes now is thrown away, so nobody has to decipher it.
        socket::linger(self.socket(), sink, patience);
    }
}
