//! When a certificate ends: read from its DER, from a file of them, or from what a server shows
//! when it is greeted. Nothing is verified here, and nothing depends on it but a warning: each
//! real request verifies for itself.
//!
//! A server shows its certificate in the open up to TLS 1.2, so that is what it is asked for; of
//! one that speaks only TLS 1.3 nothing is learned.

use std::net::TcpStream;
use std::path::Path;
use std::time::{Instant, SystemTime};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::base::{limits, sys};
use crate::net::client::read_certificates;
use crate::net::connect::dial;
use crate::net::egress::Egress;
use crate::net::error::NetError;
use crate::net::socket::poll_until;
use crate::net::stop::Stop;
use crate::net::url::Url;
use crate::net::wait::{self, Wait};

/// When the certificate ends (`notAfter`); `None` for what is no certificate.
pub fn ends(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    // The version, if there is one, then serial number, algorithm and issuer.
    if rest.first() == Some(&0xa0) {
        (_, _, rest) = element(rest)?;
    }
    for _ in 0..3 {
        (_, _, rest) = element(rest)?;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, text, _) = element(not_after)?;
    moment(tag, std::str::from_utf8(text).ok()?)
}

/// Tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length >= 0x80 {
        let count = length & 0x7f;
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}

/// UTCTime and GeneralizedTime, as RFC 5280 wants them: in seconds and in UTC.
fn moment(tag: u8, text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (0x17, 12) => {
            let (year, rest) = digits.split_at(2);
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        (0x18, 14) => {
            let (year, rest) = digits.split_at(4);
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let part = |at: usize| &rest[at..at + 2];
    let (month, day) = (part(0), part(2));
    let (hour, minute, second) = (part(4), part(6), part(8));
    crate::base::time::from_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

/// When the last certificate of a PEM file ends: from then on nothing in it is of use.
///
/// # Errors
/// When there is none that can be read.
pub fn file_ends(path: &Path) -> Result<SystemTime, NetError> {
    let certificates = read_certificates(path)?;
    let moments = certificates.iter().filter_map(|one| ends(one.der()));
    moments.max().ok_or_else(|| NetError::CaFile {
        path: path.to_owned(),
        detail: "no certificate in it says when it ends".to_owned(),
    })
}

/// When the certificate ends that a server shows.
///
/// # Errors
/// Why that is not known.
pub fn server_ends(
    url: &Url,
    egress: &Egress,
    stop: &Stop,
    until: Instant,
) -> Result<SystemTime, String> {
    let wait = Wait {
        stop: stop.clone(),
        until: Some(until),
        ..Wait::default()
    };
    let uri = url.whole().parse().map_err(|_| "its URL cannot be used")?;
    let (stream, wait) = wait::on(wait, || dial(&uri, egress));
    let stream = stream.map_err(|cause| format!("{cause:?}"))?;
    drop(wait);
    let hello = hello(url);
    send_all(&stream, &hello, until).map_err(|error| error.to_string())?;
    let flight = read_flight(&stream, stop, until)?;
    let der = leaf(&flight)?.ok_or("it showed no certificate")?;
    ends(der).ok_or_else(|| "its certificate cannot be read".to_owned())
}

fn send_all(stream: &TcpStream, mut bytes: &[u8], until: Instant) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if poll_until(stream, PollFlags::OUT, Some(until))? => {}
            Err(Errno::AGAIN) => return Err(std::io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What it says until its certificate is complete, or it says no more.
fn read_flight(stream: &TcpStream, stop: &Stop, until: Instant) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes.len() < limits::CERTIFICATE_FLIGHT_BYTES && !stop.is_stopped() {
        if leaf(&bytes)?.is_some() {
            return Ok(bytes);
        }
        match recv(stream, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, 0)) => return Ok(bytes),
            Ok((_, count)) => bytes.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll_until(stream, PollFlags::IN, Some(until)) {
                Ok(true) => {}
                Ok(false) => return Err("it does not answer".to_owned()),
                Err(error) => return Err(std::io::Error::from(error).to_string()),
            },
            Err(error) => return Err(std::io::Error::from(error).to_string()),
        }
    }
    Err("it says too much before its certificate".to_owned())
}

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const CERTIFICATE: u8 = 11;

/// The first certificate among the records so far; `None` when more must come.
fn leaf(mut records: &[u8]) -> Result<Option<&[u8]>, String> {
    // A message may go on in the next record; the first certificate of the list hardly ever does.
    while let [kind, _, _, high, low, rest @ ..] = records {
        let length = usize::from(*high) << 8 | usize::from(*low);
        if *kind == ALERT {
            return Err("it does not speak TLS 1.2".to_owned());
        }
        if *kind != HANDSHAKE {
            return Err("it does not speak TLS".to_owned());
        }
        let Some((record, after)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        if let Some(found) = leaf_in(record) {
            return Ok(Some(found));
        }
        records = after;
    }
    Ok(None)
}

/// In the messages of one record.
fn leaf_in(mut messages: &[u8]) -> Option<&[u8]> {
    while let [kind, a, b, c, rest @ ..] = messages {
        let (body, after) = rest
            .split_at_checked(length(*a, *b, *c))
            .unwrap_or((rest, &[]));
        if *kind == CERTIFICATE {
            // All of them, then the first one.
            let [_, _, _, d, e, f, list @ ..] = body else {
                return None;
            };
            return list.get(..length(*d, *e, *f));
        }
        messages = after;
    }
    None
}

fn length(high: u8, middle: u8, low: u8) -> usize {
    usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
}

/// A greeting of TLS 1.2 for what is in common use; no more of the handshake ever follows.
fn hello(url: &Url) -> Vec<u8> {
    const SUITES: [u16; 12] = [
        0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc009, 0xc013, 0xc00a, 0xc014, 0x009c,
        0x002f,
    ];
    const GROUPS: [u16; 3] = [29, 23, 24];
    const SIGNATURES: [u16; 9] = [
        0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0603, 0x0806, 0x0601,
    ];
    let list = |values: &[u16]| -> Vec<u8> {
        let values: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_be_bytes())
            .collect();
        with_length(&values)
    };
    let mut extensions = Vec::new();
    let mut add = |kind: u16, body: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(with_length(body));
    };
    if url.address().is_none() {
        let name = [&[0][..], &with_length(url.host().as_bytes())].concat();
        add(0, &with_length(&name));
    }
    add(10, &list(&GROUPS));
    add(11, &[1, 0]);
    add(13, &list(&SIGNATURES));
    // Extended master secret and secure renegotiation: some servers insist.
    add(23, &[]);
    add(0xff01, &[0]);
    let mut random = [0; 32];
    sys::random_bytes(&mut random);
    let mut body = vec![3, 3];
    body.extend(random);
    body.push(0);
    body.extend(list(&SUITES));
    body.extend([1, 0]);
    body.extend(with_length(&extensions));
    // It is far shorter than 64 KiB.
    let [high, low] = u16::try_from(body.len()).unwrap_or_default().to_be_bytes();
    let message = [&[1, 0, high, low][..], &body].concat();
    [&[HANDSHAKE, 3, 1][..], &with_length(&message)].concat()
}

/// With its length before it, in two bytes.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or_default();
    [&length.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
