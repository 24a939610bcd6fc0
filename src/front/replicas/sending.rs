//! One request to another replica, and its answer to the client as it comes: a stream piece by
//! piece, and no faster than the client takes it. Watches the client, too: who hangs up is soon
//! known to the one who serves him. Each request has a connection of its own, so that none is
//! ever sent twice.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::base::limits;
use crate::front::replicas::Errand;
use crate::front::replicas::hop::{self, Hop};
use crate::front::replicas::reading::{Answer, Body, Garbled, Piece};
use crate::http::{Head, Method, Responder};
use crate::model::place::Here;

/// What came of it.
pub enum Outcome {
    /// The client has its answer, or as much of one as there was.
    Answered,
    /// The client hung up before there was one.
    ClientGone,
    /// It is another replica, of this name.
    Misdirected(String),
    /// It did not let the request in, or has not shown that it is who was asked. Nothing is done.
    Unreached,
    /// It took the request and ended before an answer.
    Silent,
}

/// What a wait ended with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waited {
    Bytes,
    ClientGone,
    Late,
}

const CONTINUE: u16 = 100;
const RDHUP: PollFlags = PollFlags::RDHUP;

/// Headers that are between two neighbours, or tell of the way to us.
const OWN_WAY: [&str; 14] = [
    "connection",
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "expect",
    "upgrade",
    "te",
    "trailer",
    "proxy-connection",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-prefix",
    "x-real-ip",
    "onemcp-hop",
];

pub fn send(
    stream: &mut TcpStream,
    here: &Here,
    errand: &Errand<'_>,
    out: &mut Responder<'_>,
) -> Outcome {
    let mut bytes = Vec::new();
    let answer = match ask(stream, here, errand, out, &mut bytes) {
        Ok(answer) => answer,
        Err(outcome) => return outcome,
    };
    let rest = bytes.split_off(answer.length_bytes);
    match answer.body {
        Body::Length(length) => whole(stream, &answer, (rest, length), out),
        Body::Chunked => streamed(stream, &answer, rest, out),
    }
}

/// The head alone, until the other has proven who it is and let it in: who hangs or is a stranger
/// has done nothing, and the next may be asked. Once the body was sent, nobody else is. With the
/// head of the answer come the first bytes of what follows it.
fn ask(
    stream: &mut TcpStream,
    here: &Here,
    errand: &Errand<'_>,
    out: &mut Responder<'_>,
    bytes: &mut Vec<u8>,
) -> Result<Answer, Outcome> {
    let (nonce, request) = request(here, errand);
    let at = stream.peer_addr().ok();
    // It fails for a time of zero alone.
    let _ = stream.set_write_timeout(Some(limits::REPLICA_REACH));
    let sent = stream.write_all(&request);
    sent.map_err(|_| Outcome::Unreached)?;
    let soon = Instant::now() + limits::REPLICA_REACH;
    let first =
        heard(stream, out, bytes, (soon, errand.body.is_empty())).map_err(
            |outcome| match outcome {
                Outcome::Silent => Outcome::Unreached,
                other => other,
            },
        )?;
    let name = |answer: &Answer| {
        let shown = answer.header(hop::NAME_HEADER)?;
        hop::proven(here, nonce, shown)
    };
    if first.status == hop::MISDIRECTED {
        return Err(Outcome::Misdirected(name(&first).unwrap_or_default()));
    }
    let is_believed = |answer: &Answer| {
        let is_so = name(answer).is_some_and(|name| name == errand.to);
        if !is_so {
            let status = answer.status;
            log::warn!("answer for a replica not believed address={at:?} status={status}");
        }
        is_so
    };
    if !is_believed(&first) {
        return Err(Outcome::Unreached);
    }
    if first.status != CONTINUE {
        return Ok(first);
    }
    bytes.drain(..first.length_bytes);
    let _ = stream.set_write_timeout(Some(limits::WRITE_DEADLINE));
    let sent = stream.write_all(errand.body);
    sent.map_err(|_| Outcome::Silent)?;
    let last = heard(stream, out, bytes, (silence(), true))?;
    match last.status != hop::MISDIRECTED && is_believed(&last) {
        true => Ok(last),
        false => Err(Outcome::Silent),
    }
}

/// The next head, until then; and whether all of the request was sent.
fn heard(
    stream: &mut TcpStream,
    out: &mut Responder<'_>,
    bytes: &mut Vec<u8>,
    until: (Instant, bool),
) -> Result<Answer, Outcome> {
    loop {
        match Answer::read(bytes) {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(Garbled) => return Err(Outcome::Silent),
        }
        match receive(stream, out, bytes, until) {
            Ok(Waited::Bytes) => {}
            Ok(Waited::ClientGone) => {
                out.abandon();
                return Err(Outcome::ClientGone);
            }
            Ok(Waited::Late) | Err(_) => return Err(Outcome::Silent),
        }
    }
}

fn silence() -> Instant {
    Instant::now() + limits::REPLICA_SILENCE
}

fn request(here: &Here, errand: &Errand<'_>) -> (u128, Vec<u8>) {
    let head = errand.head;
    let mut text = String::with_capacity(limits::KEPT_BUFFER_BYTES);
    let mut say = |parts: &[&str]| parts.iter().for_each(|part| text.push_str(part));
    say(&[head.method.as_str(), " ", head.path]);
    if let Some(query) = head.query {
        say(&["?", query]);
    }
    say(&[" HTTP/1.1\r\n"]);
    for (name, value) in passed(head) {
        say(&[name, ": ", value, "\r\n"]);
    }
    let (nonce, shown) = Hop::seal(here, errand.to, head, errand.body, errand.client);
    say(&[hop::HEADER, ": ", &shown, "\r\nConnection: close\r\n"]);
    if head.method == Method::Post || !errand.body.is_empty() {
        say(&["Content-Length: ", &errand.body.len().to_string(), "\r\n"]);
    }
    if !errand.body.is_empty() {
        say(&["Expect: 100-continue\r\n"]);
    }
    say(&["\r\n"]);
    (nonce, text.into_bytes())
}

fn passed<'h>(head: &'h Head<'_>) -> impl Iterator<Item = (&'h str, &'h str)> {
    let is_ours = |name: &str| OWN_WAY.iter().any(|own| own.eq_ignore_ascii_case(name));
    head.headers().filter(move |(name, _)| !is_ours(name))
}

/// An answer of known length.
fn whole(
    stream: &mut TcpStream,
    answer: &Answer,
    (mut body, length): (Vec<u8>, usize),
    out: &mut Responder<'_>,
) -> Outcome {
    while body.len() < length {
        match receive(stream, out, &mut body, (silence(), true)) {
            Ok(Waited::Bytes) => {}
            Ok(Waited::ClientGone) => {
                out.abandon();
                return Outcome::Answered;
            }
            Ok(Waited::Late) | Err(_) => return Outcome::Silent,
        }
    }
    body.truncate(length);
    out.send(answer.status, &answer.headers(), &[&body]);
    Outcome::Answered
}

/// An answer that comes in pieces. One that is cut off is cut off for the client, too.
fn streamed(
    stream: &mut TcpStream,
    answer: &Answer,
    mut bytes: Vec<u8>,
    out: &mut Responder<'_>,
) -> Outcome {
    if !out.start_stream(answer.status, &answer.headers()) {
        return Outcome::Answered;
    }
    let mut pieces = Piece::default();
    loop {
        let Ok(piece) = pieces.take(&mut bytes) else {
            out.abandon();
            return Outcome::Answered;
        };
        if !out.write_stream(piece) {
            return Outcome::Answered;
        }
        if pieces.is_done() {
            out.finish_stream();
            return Outcome::Answered;
        }
        if !matches!(
            receive(stream, out, &mut bytes, (silence(), true)),
            Ok(Waited::Bytes)
        ) {
            out.abandon();
            return Outcome::Answered;
        }
    }
}

/// Adds what has come, and waits for it.
fn receive(
    stream: &mut TcpStream,
    out: &Responder<'_>,
    bytes: &mut Vec<u8>,
    until: (Instant, bool),
) -> std::io::Result<Waited> {
    let waited = wait(stream, out, until);
    if waited != Waited::Bytes {
        return Ok(waited);
    }
    let mut piece = [0; limits::REPLICA_READ_BYTES];
    match stream.read(&mut piece) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(count) => {
            bytes.extend_from_slice(&piece[..count]);
            Ok(Waited::Bytes)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Waited::Bytes),
        Err(error) => Err(error),
    }
}

fn wait(stream: &TcpStream, out: &Responder<'_>, (until, is_sent): (Instant, bool)) -> Waited {
    let mut watches = true;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Waited::Late;
        }
        let mut fds = [
            PollFd::new(stream, PollFlags::IN),
            PollFd::new(
                out.socket(),
                if watches { RDHUP } else { PollFlags::empty() },
            ),
        ];
        // Interrupted or failed: the loop looks around and comes back.
        let _ = poll(&mut fds, Some(&timespec(left)));
        let (came, left) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if came {
            return Waited::Bytes;
        }
        if left && out.client_gone() {
            return Waited::ClientGone;
        }
        // It has gone, or said all that it wants to say and waits for its answer: what that
        // means is for the other replica to judge, as if the client were there.
        if left && is_sent {
            let _ = stream.shutdown(Shutdown::Write);
        }
        watches &= !left;
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
