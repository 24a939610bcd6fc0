//! The head of a request: everything before the body, parsed strictly and without copying.
//! Pure. `httparse` splits it; this file adds what it lets through: bare LF, several empty
//! lines in front, bytes >= 0x80, and every rule about framing headers.
//! Absent on purpose: decoding of the path, obs-fold, HTTP/0.9, HTTP/2.

use std::mem::MaybeUninit;

use crate::base::limits::{HEAD_BYTES, HEADERS, REQUEST_LINE_EXTRA_BYTES, TARGET_BYTES};
use crate::http::authority::Authority;

/// The methods that this gateway can mean something by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Delete,
    Options,
    Other,
}

impl Method {
    fn parse(text: &str) -> Self {
        match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }

    /// As it stands in a request; empty for what we know nothing of.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "",
        }
    }
}

/// How the length of the body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Empty,
    Length(u64),
    Chunked,
}

/// Why a request is not carried out; the connection is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub reason: &'static str,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }
}

/// Room for the header fields of one request, on the stack of its connection.
pub type Fields<'b> = [MaybeUninit<httparse::Header<'b>>; HEADERS];

/// Empty room for [`Head::parse`].
pub fn no_fields<'b>() -> Fields<'b> {
    [const { MaybeUninit::uninit() }; HEADERS]
}

/// What the bytes received so far are.
#[derive(Debug)]
pub enum Parsed<'b> {
    Complete(Head<'b>),
    Incomplete,
    Refused(Refusal),
}

/// An accepted head. All texts are plain ASCII and stand as they were sent.
#[derive(Debug)]
pub struct Head<'b> {
    pub method: Method,
    /// Raw, undecoded; begins with `/`, or is `*` (OPTIONS only).
    pub path: &'b str,
    pub query: Option<&'b str>,
    /// The one Host header; the name may be empty.
    pub host: Authority<'b>,
    pub framing: Framing,
    /// HTTP/1.1 and not told to close.
    pub(super) keep_alive: bool,
    /// HTTP/1.1: may be answered in chunks.
    pub(super) http11: bool,
    pub(super) expects_continue: bool,
    /// Bytes of the head, an empty line in front included.
    pub length_bytes: usize,
    fields: &'b [httparse::Header<'b>],
}

impl<'b> Head<'b> {
    /// Reads the head at the start of `bytes`.
    #[inline(never)]
    pub fn parse(
        bytes: &'b [u8],
        fields: &'b mut [MaybeUninit<httparse::Header<'b>>],
    ) -> Parsed<'b> {
        match read(bytes, fields) {
            Ok(Some(head)) => Parsed::Complete(head),
            Ok(None) => Parsed::Incomplete,
            Err(refusal) => Parsed::Refused(refusal),
        }
    }

    /// First value of the header `name` (any case), without white space around it.
    pub fn header(&self, name: &str) -> Option<&'b str> {
        let field = self.fields.iter().find(|field| is_name(field.name, name))?;
        Some(text(field.value))
    }

    /// All values of the header `name`, in the order they were sent.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'b str> + 'a {
        let mut fields = self.fields.iter();
        std::iter::from_fn(move || {
            let field = fields.find(|field| is_name(field.name, name))?;
            Some(text(field.value))
        })
    }

    /// Names of all headers, in the order they were sent.
    pub fn names(&self) -> impl Iterator<Item = &'b str> + '_ {
        self.fields.iter().map(|field| field.name)
    }

    /// All headers as (name, value), in the order they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'b str, &'b str)> + '_ {
        self.fields
            .iter()
            .map(|field| (field.name, text(field.value)))
    }

    /// Whether a body is announced.
    pub fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::Empty | Framing::Length(0))
    }
}

/// Most names differ in their length already, which is seen without a call.
#[inline]
fn is_name(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len() && name.eq_ignore_ascii_case(wanted)
}

/// A value as text. The whole head was found to be ASCII before, so nothing is lost here.
fn text(value: &[u8]) -> &str {
    str::from_utf8(value.trim_ascii()).unwrap_or_default()
}

fn read<'b>(
    bytes: &'b [u8],
    fields: &'b mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Option<Head<'b>>, Refusal> {
    let Some(skipped) = empty_line_in_front(bytes)? else {
        return Ok(None);
    };
    let bytes = &bytes[skipped..];
    let mut request = httparse::Request::new(&mut []);
    let length_bytes = match request.parse_with_uninit_headers(bytes, fields) {
        Ok(httparse::Status::Complete(length_bytes)) => length_bytes,
        Ok(httparse::Status::Partial) => {
            check_lines(bytes)?;
            check_length(bytes)?;
            return Ok(None);
        }
        Err(error) => return Err(refusal_of(error, bytes)),
    };
    let head = &bytes[..length_bytes];
    check_lines(head)?;
    if length_bytes > HEAD_BYTES {
        return Err(HEAD_TOO_BIG);
    }
    let target = request.path.unwrap_or_default();
    if target.len() > TARGET_BYTES {
        return Err(TARGET_TOO_LONG);
    }
    if !head.is_ascii() {
        return Err(Refusal::new(400, "bytes outside ASCII in the head"));
    }
    let http11 = request.version == Some(1);
    let method = Method::parse(request.method.unwrap_or_default());
    let fields: &'b [httparse::Header<'b>] = request.headers;
    let notes = Notes::take(fields)?;
    let host = notes.host()?;
    let (path, query) = split_target(method, target, host)?;
    Ok(Some(Head {
        method,
        path,
        query,
        host,
        framing: notes.framing(http11)?,
        keep_alive: http11 && !notes.close,
        http11,
        expects_continue: http11 && notes.expects_continue,
        length_bytes: skipped + length_bytes,
        fields,
    }))
}

const HEAD_TOO_BIG: Refusal = Refusal {
    status: 431,
    reason: "head too big",
};
/// More than there was room for.
pub(super) const TOO_MANY_FIELDS: Refusal = Refusal {
    status: 431,
    reason: "too many header fields",
};
const TARGET_TOO_LONG: Refusal = Refusal {
    status: 414,
    reason: "request target too long",
};

/// Length of the one empty line that RFC 9112 2.2 wants ignored; `None`: not known yet.
fn empty_line_in_front(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let more = Refusal::new(400, "more than one empty line before the request");
    match bytes {
        [] | b"\r" | b"\r\n" => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(more),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r' | b'\n', ..] => Err(Refusal::new(400, "bare CR or LF before the request")),
        _ => Ok(Some(0)),
    }
}

/// Every LF must follow a CR. (`httparse` itself refuses a CR without LF.)
fn check_lines(head: &[u8]) -> Result<(), Refusal> {
    let strict = memchr::memchr_iter(b'\n', head).all(|at| at > 0 && head[at - 1] == b'\r');
    if strict {
        Ok(())
    } else {
        Err(Refusal::new(400, "line ends with a bare LF"))
    }
}

/// Whether a head that is not complete can still become an acceptable one.
pub(super) fn check_length(bytes: &[u8]) -> Result<(), Refusal> {
    let line_room = TARGET_BYTES + REQUEST_LINE_EXTRA_BYTES;
    if bytes.len() > line_room && memchr::memchr(b'\n', &bytes[..line_room]).is_none() {
        return Err(TARGET_TOO_LONG);
    }
    if bytes.len() > HEAD_BYTES {
        Err(HEAD_TOO_BIG)
    } else {
        Ok(())
    }
}

fn refusal_of(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => TOO_MANY_FIELDS,
        httparse::Error::Version if names_other_version(bytes) => {
            Refusal::new(505, "only HTTP/1.1 is spoken here")
        }
        httparse::Error::Version => Refusal::new(400, "malformed version"),
        httparse::Error::HeaderName => Refusal::new(400, "malformed header name"),
        httparse::Error::HeaderValue => Refusal::new(400, "malformed header value"),
        httparse::Error::NewLine => Refusal::new(400, "malformed line end"),
        _ => Refusal::new(400, "malformed request line"),
    }
}

/// Whether the request line is well formed but for the digits of its version.
fn names_other_version(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\r' || byte == b'\n')
        .next()
        .unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let version = words.nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    let [major, rest @ ..] = version.unwrap_or_default() else {
        return false;
    };
    let minor = matches!(rest, [] | [b'.', b'0'..=b'9']);
    words.next().is_none() && major.is_ascii_digit() && minor
}

/// What the header fields say about the message itself.
#[derive(Default)]
struct Notes<'b> {
    hosts: usize,
    host: &'b [u8],
    lengths: usize,
    length: &'b [u8],
    codings: usize,
    coding: &'b [u8],
    close: bool,
    expects_continue: bool,
}

impl<'b> Notes<'b> {
    fn take(fields: &[httparse::Header<'b>]) -> Result<Self, Refusal> {
        let mut notes = Self::default();
        for field in fields {
            notes.add(field)?;
        }
        Ok(notes)
    }

    fn add(&mut self, field: &httparse::Header<'b>) -> Result<(), Refusal> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // The length first: most fields are dismissed by one comparison.
        match field.name.len() {
            4 if is("host") => {
                self.hosts += 1;
                self.host = field.value;
            }
            14 if is("content-length") => {
                self.lengths += 1;
                self.length = field.value;
            }
            17 if is("transfer-encoding") => {
                self.codings += 1;
                self.coding = field.value;
            }
            // No header at all for us, but the length of the body for who reads `_` as `-`.
            14 | 17 if is("content_length") || is("transfer_encoding") => {
                return Err(Refusal::new(400, "framing header with an underscore"));
            }
            10 if is("connection") => {
                let mut options = text(field.value).split(',');
                self.close |= options.any(|option| option.trim().eq_ignore_ascii_case("close"));
            }
            6 if is("expect") => {
                if !text(field.value).eq_ignore_ascii_case("100-continue") {
                    return Err(Refusal::new(417, "unknown expectation"));
                }
                self.expects_continue = true;
            }
            16 if is("content-encoding") && !text(field.value).eq_ignore_ascii_case("identity") => {
                return Err(Refusal::new(415, "encoded bodies are not accepted"));
            }
            _ => {}
        }
        Ok(())
    }

    fn host(&self) -> Result<Authority<'b>, Refusal> {
        if self.hosts != 1 {
            return Err(Refusal::new(400, "exactly one Host header is needed"));
        }
        Authority::parse(text(self.host)).ok_or(Refusal::new(400, "malformed Host header"))
    }

    fn framing(&self, http11: bool) -> Result<Framing, Refusal> {
        if self.codings > 0 {
            if self.lengths > 0 {
                return Err(Refusal::new(400, "Content-Length beside Transfer-Encoding"));
            }
            if !http11 {
                return Err(Refusal::new(
                    400,
                    "Transfer-Encoding in an HTTP/1.0 request",
                ));
            }
            if self.codings > 1 || !text(self.coding).eq_ignore_ascii_case("chunked") {
                return Err(Refusal::new(
                    501,
                    "only the transfer coding chunked is known",
                ));
            }
            return Ok(Framing::Chunked);
        }
        match self.lengths {
            0 => Ok(Framing::Empty),
            1 => Ok(Framing::Length(content_length(text(self.length))?)),
            _ => Err(Refusal::new(400, "more than one Content-Length")),
        }
    }
}

/// Digits only; a number beyond `u64` is just as far beyond every bound.
fn content_length(digits: &str) -> Result<u64, Refusal> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::new(400, "malformed Content-Length"));
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// Path and query of a target in origin, absolute or asterisk form.
fn split_target<'b>(
    method: Method,
    target: &'b str,
    host: Authority<'b>,
) -> Result<(&'b str, Option<&'b str>), Refusal> {
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(Refusal::new(400, "fragment in the request target"));
    }
    let origin_form = match target.as_bytes() {
        [b'/', ..] => target,
        b"*" if method == Method::Options => return Ok(("*", None)),
        _ => without_authority(target, host)?,
    };
    let (path, query) = match memchr::memchr(b'?', origin_form.as_bytes()) {
        Some(at) => (&origin_form[..at], Some(&origin_form[at + 1..])),
        None => (origin_form, None),
    };
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// The part of an absolute target behind its authority, which must be that of Host.
fn without_authority<'b>(target: &'b str, host: Authority<'b>) -> Result<&'b str, Refusal> {
    let malformed = Refusal::new(400, "malformed request target");
    let (scheme, rest) = target.split_once("://").ok_or(malformed)?;
    let default_port = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => 80,
        _ if scheme.eq_ignore_ascii_case("https") => 443,
        _ => return Err(malformed),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = Authority::parse(&rest[..end]).ok_or(malformed)?;
    if authority.name.is_empty() || !authority.same_as(&host, Some(default_port)) {
        return Err(Refusal::new(
            400,
            "request target and Host name different servers",
        ));
    }
    Ok(&rest[end..])
}

#[cfg(test)]
mod tests {
    use crate::http::head::{Framing, Head, Method, Parsed, no_fields};

    #[test]
    fn gives_texts_as_they_were_sent() {
        let bytes = b"\r\nPOST /mcp/a%20b?tags=x HTTP/1.1\r\nhost: localhost:3050\r\n\
            X-A:  one \r\nx-a:two\r\nContent-Length: 3\r\n\r\nabc";
        let mut fields = no_fields();
        let Parsed::Complete(head) = Head::parse(bytes, &mut fields) else {
            panic!("refused")
        };
        assert_eq!(
            (head.method, head.path, head.query),
            (Method::Post, "/mcp/a%20b", Some("tags=x"))
        );
        assert_eq!(head.header("X-a"), Some("one"));
        assert_eq!(
            head.header_values("x-A").collect::<Vec<_>>(),
            ["one", "two"]
        );
        assert_eq!(head.framing, Framing::Length(3));
        assert_eq!(&bytes[head.length_bytes..], b"abc");
        assert_eq!((head.host.name, head.host.port), ("localhost", Some(3050)));
    }

    /// Whatever is accepted has strict lines, one length and stays inside its bytes.
    #[test]
    fn changed_bytes_are_refused_or_unambiguous() {
        let good = b"POST /mcp?a=b HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: 12\r\n\
            Transfer-Encodin: chunked\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let odd = b"\r\n\0\t :;,+-gG0123456789\x7f\xe9HTransfer";
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        for _ in 0..50_000 {
            let mut bytes = good.to_vec();
            for _ in 0..=next(3) {
                let (at, byte) = (next(bytes.len()), odd[next(odd.len())]);
                match next(3) {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            let mut fields = no_fields();
            let Parsed::Complete(head) = Head::parse(&bytes, &mut fields) else {
                continue;
            };
            let text = &bytes[..head.length_bytes];
            assert!(
                text.is_ascii() && text.ends_with(b"\r\n\r\n"),
                "{}",
                text.escape_ascii()
            );
            let lone = |at: usize| text[at] == b'\n' && (at == 0 || text[at - 1] != b'\r');
            assert!(!(0..text.len()).any(lone), "{}", text.escape_ascii());
            let lengths = head.header_values("content-length").count();
            let codings = head.header_values("transfer-encoding").count();
            assert!(lengths + codings <= 1, "{}", text.escape_ascii());
            assert_eq!(head.header_values("host").count(), 1);
        }
    }

    #[test]
    fn every_prefix_of_a_good_head_is_incomplete() {
        let bytes = b"\r\nGET /?a HTTP/1.1\r\nHost: [::1]:80\r\nAccept: */*\r\n\r\n";
        for end in 0..bytes.len() {
            let mut fields = no_fields();
            let parsed = Head::parse(&bytes[..end], &mut fields);
            assert!(matches!(parsed, Parsed::Incomplete), "{end}: {parsed:?}");
        }
    }
}
