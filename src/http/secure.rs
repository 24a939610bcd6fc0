//! TLS over one client socket, under the same absolute deadlines as plain bytes. Owner: the
//! connection's own thread.
//!
//! Absent on purpose: certificates and keys (`tls`), and any choice about the connection.

use std::cell::RefCell;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, recv, sendmsg};
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection};

use crate::http::socket::{Pace, Received, SEND, time_left, wait};

pub(super) struct Secure<'s> {
    pub(super) socket: &'s TcpStream,
    /// How long the connection may rest between two requests.
    pub(super) idle: Duration,
    session: RefCell<Box<ServerConnection>>,
}

/// The socket as TLS wants it. Nothing here waits.
struct Raw<'s>(&'s TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, read) = recv(self.0, buffer, RecvFlags::DONTWAIT)?;
        Ok(read)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut nothing = SendAncillaryBuffer::default();
        Ok(sendmsg(self.0, slices, &mut nothing, SEND)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a try to read brought.
enum Step {
    /// Bytes came, or the end did.
    On,
    /// There is nothing now.
    Wait,
    Broken,
}

impl<'s> Secure<'s> {
    /// Shakes hands until `deadline`; the error says why nothing came of it, in one of few texts
    /// and in detail.
    #[inline(never)]
    pub(super) fn accept(
        config: Arc<ServerConfig>,
        socket: &'s TcpStream,
        idle: Duration,
        deadline: Instant,
    ) -> Result<Secure<'s>, (&'static str, String)> {
        let session = ServerConnection::new(config);
        let session = session.map_err(|error| ("TLS cannot begin", error.to_string()))?;
        let mut session = Box::new(session);
        loop {
            while session.wants_write() {
                match session.write_tls(&mut Raw(socket)) {
                    Ok(_) => {}
                    Err(error) => until(socket, &error, PollFlags::OUT, deadline)?,
                }
            }
            if !session.is_handshaking() {
                let session = RefCell::new(session);
                return Ok(Secure {
                    socket,
                    idle,
                    session,
                });
            }
            match session.read_tls(&mut Raw(socket)) {
                Ok(0) => return Err((FAILED, "the client has gone".to_owned())),
                Ok(_) => {}
                Err(error) => until(socket, &error, PollFlags::IN, deadline)?,
            }
            if let Err(error) = session.process_new_packets() {
                // The alert tells the client why; one that does not take it stays in the dark.
                let _ = session.write_tls(&mut Raw(socket));
                return Err((short(&error), error.to_string()));
            }
        }
    }

    /// The client's own certificate, if it showed one. It was verified.
    pub(super) fn certificate(&self) -> Option<CertificateDer<'static>> {
        let session = self.session.borrow();
        session.peer_certificates()?.first().cloned()
    }

    /// Deciphered bytes wait to be taken.
    pub(super) fn has_bytes(&self) -> bool {
        let mut session = self.session.borrow_mut();
        let bytes = session.reader().into_first_chunk();
        bytes.is_ok_and(|bytes| !bytes.is_empty())
    }

    pub(super) fn receive_now(&self, into: &mut Vec<u8>) -> Received {
        let mut session = self.session.borrow_mut();
        loop {
            if let Some(received) = take(&mut session, into) {
                return received;
            }
            match self.step(&mut session) {
                Step::On => {}
                Step::Wait => return Received::TimedOut,
                Step::Broken => return Received::Closed,
            }
        }
    }

    pub(super) fn receive_by(&self, into: &mut Vec<u8>, deadline: Instant) -> Received {
        let mut session = self.session.borrow_mut();
        loop {
            if let Some(received) = take(&mut session, into) {
                return received;
            }
            // Asked on every round: a peer that always has one more byte must not win.
            let Some(left) = time_left(deadline) else {
                return Received::TimedOut;
            };
            match self.step(&mut session) {
                Step::On => {}
                Step::Wait => wait(self.socket, PollFlags::IN, left),
                Step::Broken => return Received::Closed,
            }
        }
    }

    /// Reads once and deciphers.
    fn step(&self, session: &mut ServerConnection) -> Step {
        match session.read_tls(&mut Raw(self.socket)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Wait,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Step::On,
            Err(_) => return Step::Broken,
        }
        let processed = session.process_new_packets();
        // Answers of TLS itself, and alerts: they are small, and go with the next write otherwise.
        if session.wants_write() {
            let _ = session.write_tls(&mut Raw(self.socket));
        }
        match processed {
            Ok(_) => Step::On,
            Err(error) => {
                log::debug!("TLS broken why={error}");
                Step::Broken
            }
        }
    }

    pub(super) fn send(&self, mut slices: &mut [IoSlice<'_>], patience: Duration) -> bool {
        let mut session = self.session.borrow_mut();
        let mut pace = Pace::new(patience);
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            // It takes as much as its buffer holds, so never more than that is kept here.
            let Ok(taken) = session.writer().write_vectored(slices) else {
                return false;
            };
            IoSlice::advance_slices(&mut slices, taken);
            while session.wants_write() {
                match session.write_tls(&mut Raw(self.socket)) {
                    Ok(_) => {}
                    Err(error) if pace.goes_on(self.socket, errno(&error)) => {}
                    Err(_) => return false,
                }
            }
        }
        true
    }

    pub(super) fn say_goodbye(&self) {
        let mut session = self.session.borrow_mut();
        session.send_close_notify();
        let _ = session.write_tls(&mut Raw(self.socket));
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Deciphered bytes into the spare room of `into`; `None` when more must be read first.
fn take(session: &mut ServerConnection, into: &mut Vec<u8>) -> Option<Received> {
    let mut reader = session.reader();
    let bytes = match reader.fill_buf() {
        Ok([]) => return Some(Received::Closed),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
        Err(_) => return Some(Received::Closed),
    };
    let taken = bytes.len().min(into.capacity() - into.len());
    into.extend_from_slice(&bytes[..taken]);
    reader.consume(taken);
    Some(Received::Bytes)
}

/// Waits until the socket is ready to be tried again, within the time for the handshake.
fn until(
    socket: &TcpStream,
    error: &io::Error,
    events: PollFlags,
    deadline: Instant,
) -> Result<(), (&'static str, String)> {
    match (error.kind(), time_left(deadline)) {
        (_, None) => Err(("TLS handshake took too long", String::new())),
        (io::ErrorKind::Interrupted, _) => Ok(()),
        (io::ErrorKind::WouldBlock, Some(left)) => {
            wait(socket, events, left);
            Ok(())
        }
        _ => Err((FAILED, error.to_string())),
    }
}

const FAILED: &str = "TLS handshake failed";

fn short(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::NoCertificatesPresented => "client certificate missing",
        rustls::Error::InvalidCertificate(_) => "client certificate not good",
        _ => FAILED,
    }
}
