//! One connection to a store that speaks RESP2: a command, its answer. Every wait ends at one
//! moment; what is read is bounded in bytes and in depth, whatever the other side says.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::base::limits;
use crate::net::certificate::Wire;
use crate::net::connect::dial;
use crate::net::egress::Egress;
use crate::net::redis::Trouble;
use crate::net::redis::secure::{Channel, Trust};
use crate::net::stop::Stop;
use crate::net::wait::{self, Wait};

/// What a store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A text, also one of several lines.
    Text(String),
    Number(i64),
    Nothing,
    List(Vec<Answer>),
}

impl Answer {
    pub fn text(self) -> Option<String> {
        match self {
            Answer::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn list(self) -> Vec<Answer> {
        match self {
            Answer::List(list) => list,
            _ => Vec::new(),
        }
    }
}

pub(super) struct Link {
    wire: Wire,
    tls: Option<Channel>,
    /// Read, but not used yet, from `at` on.
    input: Vec<u8>,
    at: usize,
    /// Bytes that the answer may still have.
    room: usize,
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
            input: Vec::new(),
            at: 0,
            room: 0,
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
        if self.at == self.input.len() {
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
        self.at == self.input.len() && matches!(probe, Err(Errno::AGAIN))
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut wire = &self.wire;
        match &mut self.tls {
            Some(tls) => tls.write(wire, bytes),
            None => wire.write_all(bytes),
        }
    }

    /// Some more bytes.
    fn fill(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 8192];
        let mut wire = &self.wire;
        let count = match &mut self.tls {
            Some(tls) => tls.read(wire, &mut buffer)?,
            None => wire.read(&mut buffer)?,
        };
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.input.drain(..self.at);
        self.at = 0;
        self.input.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    fn answer(&mut self) -> Result<Answer, Trouble> {
        self.room = limits::SHARED_ANSWER_BYTES;
        self.read(limits::SHARED_DEPTH)
    }

    fn read(&mut self, depth: usize) -> Result<Answer, Trouble> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(strange)?;
        let number = || rest.parse::<i64>().map_err(|_| strange());
        match kind {
            "+" => Ok(Answer::Text(rest.to_owned())),
            "-" => Err(Trouble::Refused(code(rest))),
            ":" => number().map(Answer::Number),
            "$" => match number()? {
                -1 => Ok(Answer::Nothing),
                count => self.bulk(usize::try_from(count).map_err(|_| strange())?),
            },
            "*" if depth > 0 => match number()? {
                -1 => Ok(Answer::Nothing),
                count => {
                    let mut list = Vec::new();
                    for _ in 0..count {
                        // A member that is an error is none: nobody asks for such.
                        list.push(self.read(depth - 1)?);
                    }
                    Ok(Answer::List(list))
                }
            },
            _ => Err(strange()),
        }
    }

    fn bulk(&mut self, count: usize) -> Result<Answer, Trouble> {
        let whole = count.checked_add(2).filter(|whole| *whole <= self.room);
        let whole = whole.ok_or_else(strange)?;
        while self.input.len() - self.at < whole {
            self.fill().map_err(lost)?;
        }
        self.room -= whole;
        let bytes = &self.input[self.at..self.at + whole];
        let text = bytes.strip_suffix(b"\r\n").ok_or_else(strange)?;
        let text = String::from_utf8(text.to_vec()).map_err(|_| strange())?;
        self.at += whole;
        Ok(Answer::Text(text))
    }

    /// To its end, which is not given.
    fn line(&mut self) -> Result<String, Trouble> {
        let mut seen = 0;
        loop {
            let rest = &self.input[self.at..];
            if let Some(end) = rest[seen..].iter().position(|byte| *byte == b'\n') {
                let line = &rest[..seen + end];
                let line = line.strip_suffix(b"\r").ok_or_else(strange)?;
                let line = String::from_utf8(line.to_vec()).map_err(|_| strange())?;
                let whole = line.len() + 2;
                self.room = self.room.checked_sub(whole).ok_or_else(strange)?;
                self.at += whole;
                return Ok(line);
            }
            seen = rest.len();
            if seen > limits::SHARED_LINE_BYTES {
                return Err(strange());
            }
            self.fill().map_err(lost)?;
        }
    }
}

fn lost(error: std::io::Error) -> Trouble {
    Trouble::Away(match error.kind() {
        ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        _ => error.to_string(),
    })
}

fn strange() -> Trouble {
    Trouble::Away("what it says is no RESP2".to_owned())
}

/// The first word of an error. The rest may repeat what was sent, also a password.
fn code(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let is_code = !word.is_empty() && word.len() <= 20;
    match is_code && word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        true => word.to_owned(),
        false => "ERR".to_owned(),
    }
}
