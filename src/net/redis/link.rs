//! One connection to a store that speaks RESP2: a command, its answer. Every wait ends at one
//! moment.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::base::limits;
use crate::net::certificate::Wire;
use crate::net::connect::dial;
use crate::net::egress::Egress;
use crate::net::redis::Trouble;
use crate::net::redis::reply::{Answer, Replies, lost};
use crate::net::redis::secure::{Channel, Trust};
use crate::net::stop::Stop;
use crate::net::wait::{self, Wait};

pub(super) struct Link {
    wire: Wire,
    tls: Option<Channel>,
    replies: Replies,
}

impl Link {
    /// A connection on which nothing was said yet.
    pub(super) fn open(
        (host, port): (&str, u16),
        trust: Option<&Trust>,
        stop: &Stop,
        until: Instant,
    ) -> Result<Link, Trouble> {
        let away = |what: &str| Trouble::Away(format!("{host}:{port}: {what}"));
        let uri = format!("http://{host}:{port}/");
        let uri = uri.parse().map_err(|_| away("it is no host"))?;
        let terms = Wait {
            stop: stop.clone(),
            until: Some(until),
            ..Wait::default()
        };
        // The operator named it: no address is refused.
        let (stream, _) = wait::on(terms, || dial(&uri, &Egress::default()));
        let stream = stream.map_err(|cause| away(&format!("{cause:?}")))?;
        let tls = trust.map(|trust| trust.greet(host));
        let tls = tls.transpose().map_err(|error| away(&error))?;
        Ok(Link {
            wire: Wire { stream, until },
            tls,
            replies: Replies::default(),
        })
    }

    /// One command and its answer, before this moment.
    pub(super) fn ask(&mut self, words: &[&[u8]], until: Instant) -> Result<Answer, Trouble> {
        self.wire.until = until;
        let mut line = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            line.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            line.extend_from_slice(word);
            line.extend_from_slice(b"\r\n");
        }
        self.write(&line).map_err(lost)?;
        self.answer()
    }

    /// What is said next without being asked; `None` when it is quiet until then.
    pub(super) fn hear(&mut self, until: Instant) -> Result<Option<Answer>, Trouble> {
        self.wire.until = until;
        if self.replies.is_empty() {
            match self.fill() {
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                filled => filled.map_err(lost)?,
            }
        }
        self.wire.until = Instant::now() + limits::SHARED_WAIT;
        self.answer().map(Some)
    }

    /// Nobody closed it, and nothing came that nobody asked for.
    pub(super) fn is_quiet(&self) -> bool {
        let stream: &TcpStream = &self.wire.stream;
        let probe = recv(stream, &mut [0_u8; 1][..], RecvFlags::PEEK);
        self.replies.is_empty() && matches!(probe, Err(Errno::AGAIN))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut wire = &self.wire;
        match &mut self.tls {
            Some(tls) => tls.write(wire, bytes),
            None => wire.write_all(bytes),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let Link { wire, tls, replies } = self;
        replies.fill(&mut |input| more(wire, tls.as_mut(), input))
    }

    fn answer(&mut self) -> Result<Answer, Trouble> {
        let Link { wire, tls, replies } = self;
        replies.answer(&mut |input| more(wire, tls.as_mut(), input))
    }
}

/// Some more bytes.
fn more(wire: &Wire, tls: Option<&mut Channel>, input: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 8192];
    let mut wire = wire;
    let count = match tls {
        Some(tls) => tls.read(wire, &mut buffer)?,
        None => wire.read(&mut buffer)?,
    };
    if count == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    input.extend_from_slice(&buffer[..count]);
    Ok(())
}
