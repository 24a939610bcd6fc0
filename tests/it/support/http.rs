//! A raw HTTP/1.1 client: one connection, kept alive, with answers as whole bodies or as
//! streams of events. It takes what the gateway sends literally and forgives nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::tls::session_for;

pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Request {
        Request {
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A JSON-RPC message as any client would post it.
    pub(crate) fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
        let mut request = Request::new("POST", target)
            .with("Content-Type", "application/json")
            .with("Accept", "application/json, text/event-stream");
        request.body = body.into();
        request
    }

    pub(crate) fn listen(target: &str) -> Request {
        Request::new("GET", target).with("Accept", "text/event-stream")
    }

    /// Sets a header in the place of an earlier one of that name; an empty value removes it.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Request {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            self.headers.push((name.into(), value.into()));
        }
        self
    }

    fn bytes(&self, port: u16) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let named = |name: &str| {
            self.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        if !named("Host") {
            head += &format!("Host: 127.0.0.1:{port}\r\n");
        }
        if self.method == "POST" {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        [head.as_bytes(), &self.body].concat()
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All of them, in their order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let all = self.headers.iter();
        let named = all.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn is_events(&self) -> bool {
        self.header("Content-Type")
            .is_some_and(|kind| kind.starts_with("text/event-stream"))
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: Head,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: {} {:?}", self.head.status, self.text))
    }

    /// The messages of the answer, whichever of the two forms it has.
    #[track_caller]
    pub(crate) fn messages(&self) -> Vec<Value> {
        if !self.head.is_events() {
            return match self.json() {
                Value::Array(items) => items,
                one => vec![one],
            };
        }
        let mut rest = self.text.as_bytes().to_vec();
        let mut messages = Vec::new();
        while let Some(event) = take_event(&mut rest) {
            messages.extend(event.message());
        }
        messages
    }
}

/// One event of a stream; a comment counts as one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) comment: bool,
}

impl Event {
    pub(crate) fn message(&self) -> Option<Value> {
        let data = self.data.as_deref().filter(|data| !data.is_empty())?;
        Some(serde_json::from_str(data).unwrap())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Framing {
    Length(usize),
    Chunked,
    Ended,
}

pub(crate) struct Connection {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    port: u16,
    /// Received and not yet looked at.
    raw: Vec<u8>,
    /// What is left of the answer that is being read.
    framing: Framing,
    /// The answer said that the connection ends behind it: the next request takes another.
    is_last: bool,
}

impl Connection {
    pub(crate) fn open(port: u16) -> Connection {
        Connection::try_open(port).expect("the gateway listens")
    }

    /// `None` where nobody listens.
    pub(crate) fn try_open(port: u16) -> Option<Connection> {
        let socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
        socket.set_nodelay(true).unwrap();
        Some(Connection {
            socket,
            tls: session_for(port),
            port,
            raw: Vec::new(),
            framing: Framing::Ended,
            is_last: false,
        })
    }

    pub(crate) fn exchange(&mut self, request: &Request) -> Reply {
        self.try_exchange(request).expect("an answer")
    }

    /// Nothing when the connection ends without a byte of an answer.
    pub(crate) fn try_exchange(&mut self, request: &Request) -> Option<Reply> {
        self.renew();
        self.send_only(request);
        if self.raw.is_empty() && !self.receive(Instant::now() + PATIENCE) {
            return None;
        }
        let head = self.read_head();
        let mut body = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while self.framing != Framing::Ended {
            assert!(
                self.more(&mut body, deadline),
                "the answer stopped half way"
            );
        }
        Some(Reply {
            head,
            text: String::from_utf8(body).unwrap(),
        })
    }

    /// Sends a request whose answer may come bit by bit.
    pub(crate) fn stream(mut self, request: &Request) -> Stream {
        self.send_only(request);
        self.streamed()
    }

    /// The answer to what was sent before.
    pub(crate) fn streamed(mut self) -> Stream {
        let head = self.read_head();
        Stream {
            connection: self,
            head,
            pending: Vec::new(),
        }
    }

    /// Sends a request and leaves the answer unread, as a client does that is cut off.
    pub(crate) fn send_only(&mut self, request: &Request) {
        let bytes = request.bytes(self.port);
        // A refusal may come, and the connection end, while a large body is still on its way.
        let _ = self.write(&bytes);
    }

    /// For the next request.
    fn renew(&mut self) {
        assert_eq!(self.framing, Framing::Ended, "the last answer was not read");
        if self.is_last {
            *self = Connection::open(self.port);
        }
    }

    pub(crate) fn read_head(&mut self) -> Head {
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(at) = find(&self.raw, b"\r\n\r\n") {
                break at;
            }
            assert!(self.receive(deadline), "no answer to the request");
        };
        let text = String::from_utf8(self.raw.drain(..end + 4).collect()).unwrap();
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let status = lines.next().unwrap();
        let split = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_owned(), value.trim().to_owned())
        };
        let head = Head {
            status: status.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: lines.map(split).collect(),
        };
        self.is_last = head.header("Connection") == Some("close");
        self.framing = match (
            head.header("Content-Length"),
            head.header("Transfer-Encoding"),
        ) {
            (Some(length), None) => match length.parse().unwrap() {
                0 => Framing::Ended,
                length => Framing::Length(length),
            },
            (None, Some("chunked")) => Framing::Chunked,
            (None, None) => Framing::Ended,
            both => panic!("an answer is framed by {both:?}"),
        };
        head
    }

    /// Appends the next piece of the body; false when nothing came until the deadline or the
    /// connection ended.
    fn more(&mut self, body: &mut Vec<u8>, deadline: Instant) -> bool {
        loop {
            match self.framing {
                Framing::Ended => return false,
                Framing::Length(left) if !self.raw.is_empty() => {
                    let taken = left.min(self.raw.len());
                    body.extend(self.raw.drain(..taken));
                    self.framing = match left - taken {
                        0 => Framing::Ended,
                        left => Framing::Length(left),
                    };
                    return true;
                }
                Framing::Chunked => {
                    if self.take_chunk(body) {
                        return true;
                    }
                }
                Framing::Length(_) => {}
            }
            if !self.receive(deadline) {
                return false;
            }
        }
    }

    fn take_chunk(&mut self, body: &mut Vec<u8>) -> bool {
        let Some(line) = find(&self.raw, b"\r\n") else {
            return false;
        };
        let size = std::str::from_utf8(&self.raw[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let end = line + 2 + size + 2;
        if self.raw.len() < end {
            return false;
        }
        assert_eq!(
            &self.raw[end - 2..end],
            b"\r\n",
            "a chunk does not end in a line end"
        );
        body.extend_from_slice(&self.raw[line + 2..end - 2]);
        self.raw.drain(..end);
        if size == 0 {
            self.framing = Framing::Ended;
        }
        true
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.tls {
            None => self.socket.write_all(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).write_all(bytes),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).read(buffer),
        }
    }

    /// False at the deadline and at the end of the connection.
    fn receive(&mut self, deadline: Instant) -> bool {
        let mut buffer = [0; 64 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            match self.read(&mut buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    self.raw.extend_from_slice(&buffer[..read]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Waits for the gateway to close the connection.
    pub(crate) fn is_closed_by_peer(&mut self) -> bool {
        let before = self.raw.len();
        !self.receive(Instant::now() + PATIENCE) && self.raw.len() == before
    }

    /// Says that nothing more comes from here; what comes is still read.
    pub(crate) fn end_sending(&self) {
        self.socket.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Cuts the connection, in the middle of whatever goes on.
    pub(crate) fn cut(self) {
        drop(self.socket);
    }

    /// The same with a reset, so that the other side sees at once that nobody is there.
    pub(crate) fn reset(self) {
        let at_once = Some(std::time::Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.socket, at_once).unwrap();
    }
}

/// An answer that is read as it comes.
pub(crate) struct Stream {
    connection: Connection,
    pub(crate) head: Head,
    pending: Vec<u8>,
}

impl Stream {
    /// The next event, comments included; nothing at the end of the stream or the deadline.
    pub(crate) fn event(&mut self, patience: Duration) -> Option<Event> {
        assert!(
            self.head.is_events(),
            "not a stream of events: {:?}",
            self.head
        );
        let deadline = Instant::now() + patience;
        loop {
            if let Some(event) = take_event(&mut self.pending) {
                return Some(event);
            }
            if !self.connection.more(&mut self.pending, deadline) {
                return None;
            }
        }
    }

    /// The next event that carries a message.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Event {
        let found = self.next_within(PATIENCE);
        found.expect("the stream ended or is silent")
    }

    /// The same, or nothing; comments that keep the stream alive are not waited for.
    fn next_within(&mut self, patience: Duration) -> Option<Event> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.event(left)?;
            if event.message().is_some() {
                return Some(event);
            }
        }
    }

    pub(crate) fn message_within(&mut self, patience: Duration) -> Option<Value> {
        self.next_within(patience)?.message()
    }

    #[track_caller]
    pub(crate) fn message(&mut self) -> Value {
        if self.head.is_events() {
            return self.next().message().unwrap();
        }
        let mut body = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while self.connection.more(&mut body, deadline) {}
        serde_json::from_slice(&body).unwrap()
    }

    /// All messages up to the answer to a request, and that answer.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> (Vec<Value>, Value) {
        let mut before = Vec::new();
        loop {
            let message = self.message();
            if message.get("method").is_none() {
                return (before, message);
            }
            before.push(message);
        }
    }

    /// True when the answer is over, without another message.
    #[track_caller]
    pub(crate) fn is_over(&mut self) -> bool {
        if !self.head.is_events() {
            return self.connection.framing == Framing::Ended;
        }
        while let Some(event) = self.event(PATIENCE) {
            assert_eq!(event.message(), None, "a message after the last one");
        }
        self.connection.framing == Framing::Ended
    }

    pub(crate) fn cut(self) {
        self.connection.cut();
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Takes one event off the front, up to and with its blank line.
fn take_event(bytes: &mut Vec<u8>) -> Option<Event> {
    let end = find(bytes, b"\n\n")?;
    let text = String::from_utf8(bytes.drain(..end + 2).collect()).unwrap();
    let mut event = Event::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => event.comment = true,
            "id" => event.id = Some(value.to_owned()),
            "retry" => event.retry = Some(value.parse().unwrap()),
            "data" => match &mut event.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => event.data = Some(value.to_owned()),
            },
            "event" => event.name = Some(value.to_owned()),
            _ => panic!("unknown field in {text:?}"),
        }
    }
    Some(event)
}
