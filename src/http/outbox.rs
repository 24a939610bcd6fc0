//! The one place where answer heads are written, into one reused buffer.
//!
//! A header that could end its line early, or that would contradict our own framing, is left
//! out and logged: no text from a client or a server can split an answer.
//! Absent on purpose: sending, and any choice about the connection.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::calendar;
use crate::base::limits::KEPT_BUFFER_BYTES;

/// Room for the date line.
const DATE_BYTES: usize = 40;

/// How the end of the body is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Length(usize),
    Chunked,
    /// Until the connection ends, or no body at all.
    Unsaid,
}

/// The buffer for what is about to be sent, and the date as text.
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    date: String,
    date_second: u64,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(512),
            date: String::with_capacity(DATE_BYTES),
            date_second: 0,
        }
    }

    /// Replaces the content by the head of an answer.
    pub(super) fn head<'h>(
        &mut self,
        status: u16,
        headers: impl Iterator<Item = (&'h str, &'h str)>,
        extent: Extent,
        close: bool,
    ) {
        self.bytes.clear();
        self.status_line(status);
        self.date_line();
        for (name, value) in headers {
            self.header(name, value);
        }
        match extent {
            Extent::Length(bytes) => self.length_line(bytes),
            Extent::Chunked => self.text("Transfer-Encoding: chunked\r\n"),
            Extent::Unsaid => {}
        }
        self.text(if close {
            "Connection: close\r\n\r\n"
        } else {
            "\r\n"
        });
    }

    /// The line in front of a chunk.
    pub(super) fn chunk_size(&mut self, bytes: usize) {
        self.bytes.clear();
        // Writing to a vector does not fail.
        let _ = write!(self.bytes, "{bytes:x}\r\n");
    }

    /// Gives memory back that an unusual answer needed.
    pub(super) fn shrink(&mut self) {
        if self.bytes.capacity() > KEPT_BUFFER_BYTES {
            self.bytes = Vec::with_capacity(512);
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn status_line(&mut self, status: u16) {
        match status {
            200 => self.text("HTTP/1.1 200 OK\r\n"),
            202 => self.text("HTTP/1.1 202 Accepted\r\n"),
            _ => {
                let _ = write!(self.bytes, "HTTP/1.1 {status:03} {}\r\n", reason(status));
            }
        }
    }

    fn header(&mut self, name: &str, value: &str) {
        if !is_token(name) || is_ours(name) || !value.bytes().all(is_value_byte) {
            log::warn!("answer header left out name={name:?}");
            return;
        }
        self.text(name);
        self.text(": ");
        self.text(value);
        self.text("\r\n");
    }

    fn length_line(&mut self, bytes: usize) {
        let mut digits = [0u8; 20];
        let (mut at, mut left) = (digits.len(), bytes);
        loop {
            at -= 1;
            digits[at] = b"0123456789"[left % 10];
            left /= 10;
            if left == 0 {
                break;
            }
        }
        self.text("Content-Length: ");
        self.bytes.extend_from_slice(&digits[at..]);
        self.text("\r\n");
    }

    /// RFC 9110 6.6.1 wants a date; its text is made anew only when the second has changed.
    fn date_line(&mut self) {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let second = since_epoch.as_secs();
        if second != self.date_second || self.date.is_empty() {
            write_date(second, &mut self.date);
            self.date_second = second;
        }
        self.bytes.extend_from_slice(self.date.as_bytes());
    }
}

/// Replaces `line`; by nothing for a time that no calendar has.
fn write_date(second: u64, line: &mut String) {
    line.clear();
    line.push_str("Date: ");
    match calendar::write_http_date(second, line) {
        true => line.push_str("\r\n"),
        false => line.clear(),
    }
}

/// Framing is decided here alone.
fn is_ours(name: &str) -> bool {
    match name.len() {
        4 => name.eq_ignore_ascii_case("date"),
        10 => name.eq_ignore_ascii_case("connection"),
        14 => name.eq_ignore_ascii_case("content-length"),
        17 => name.eq_ignore_ascii_case("transfer-encoding"),
        _ => false,
    }
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token_byte)
}

/// What the name of a field may hold.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use crate::http::outbox::{DATE_BYTES, Extent, Outbox, write_date};

    #[test]
    fn no_value_can_split_an_answer() {
        let mut outbox = Outbox::new();
        let headers = [
            ("X-Good", "a\tb ~"),
            ("X-Split", "a\r\nSet-Cookie: z=1"),
            ("X-Nul", "\0"),
            ("X-Wide", "\u{10a}"),
            ("X-Del", "\u{7f}"),
            ("X Space", "a"),
            ("X-Colon:", "a"),
            ("", "a"),
            ("content-length", "7"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "keep-alive"),
        ];
        outbox.head(200, headers.into_iter(), Extent::Length(1_234_567), false);
        let text = String::from_utf8(outbox.bytes).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("Date: "))
            .collect();
        assert_eq!(
            lines,
            [
                "HTTP/1.1 200 OK",
                "X-Good: a\tb ~",
                "Content-Length: 1234567",
                ""
            ]
        );
    }

    #[test]
    fn dates_are_those_of_rfc_9110() {
        let mut line = String::with_capacity(DATE_BYTES);
        write_date(784_111_777, &mut line);
        assert_eq!(line, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert!(line.len() <= DATE_BYTES);
    }
}
