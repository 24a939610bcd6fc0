//! What the tests of the listener share: a small echo handler and a raw client.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::http::{Admit, Handler, Head, Peer, Reply, Responder, Server, ServerOptions};

/// More than any test may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const MAX_BODY: usize = 4096;

/// Answers by path; `/canary/...` is remembered.
pub(super) struct Echo {
    pub(super) canaries: Mutex<HashSet<String>>,
    pub(super) refused: Mutex<Vec<u16>>,
    /// What handlers saw: one text per event.
    events: Sender<String>,
    /// Lets a waiting handler go on.
    gate: Receiver<()>,
}

pub(super) struct Site {
    pub(super) server: Server,
    pub(super) echo: Arc<Echo>,
    pub(super) events: Receiver<String>,
    pub(super) gate: Sender<()>,
}

impl Site {
    pub(super) fn start(options: ServerOptions) -> Self {
        let (event_sender, events) = bounded(1024);
        let (gate, gate_receiver) = bounded(64);
        let echo = Arc::new(Echo {
            canaries: Mutex::default(),
            refused: Mutex::default(),
            events: event_sender,
            gate: gate_receiver,
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::start(listener, options, Arc::clone(&echo) as _).unwrap();
        Self {
            server,
            echo,
            events,
            gate,
        }
    }

    pub(super) fn client(&self) -> Client {
        let socket = TcpStream::connect(self.server.address()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Client {
            socket,
            bytes: Vec::new(),
        }
    }

    pub(super) fn event(&self) -> String {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until so many connections are open.
    pub(super) fn wait_connections(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.server.connections() != count {
            assert!(
                Instant::now() < deadline,
                "{} connections",
                self.server.connections()
            );
            std::thread::yield_now();
        }
    }
}

impl Handler for Echo {
    fn admit(&self, head: &Head<'_>, _peer: &Peer) -> Admit {
        match head.path {
            "/deny" => Admit::Answer(Reply::text(401, "no").with("WWW-Authenticate", "Bearer")),
            "/panic-admit" => panic!("asked to"),
            "/big" => Admit::Body {
                max_bytes: 8 << 20,
                mark: Some(("X-Mark", "m".to_owned())),
            },
            _ => Admit::Body {
                max_bytes: MAX_BODY,
                mark: None,
            },
        }
    }

    fn handle(&self, head: &Head<'_>, peer: &Peer, body: &[u8], out: &mut Responder<'_>) {
        match head.path {
            "/panic" => panic!("asked to"),
            "/silent" => {}
            "/panic-stream" => {
                assert!(out.start_stream(200, &[]));
                assert!(out.write_stream(b"some"));
                panic!("asked to");
            }
            "/stream" => {
                assert!(out.start_stream(200, &[("Content-Type", "text/event-stream")]));
                for part in body.chunks(3) {
                    out.write_stream(part);
                }
                out.write_stream(b"");
                out.finish_stream();
            }
            "/wait" => {
                self.tell("waiting");
                self.gate.recv_timeout(PATIENCE).unwrap();
                out.send(200, &[], &[b"waited"]);
            }
            "/gone" => self.until_gone(out),
            "/flood" => self.flood(out),
            "/who" => {
                let subject = peer.subject.as_deref().unwrap_or("nobody");
                out.send(200, &[], &[subject.as_bytes()]);
            }
            "/parts" => out.send(200, &[("X-Parts", "3")], &[b"a", body, &[b'z'; 5000]]),
            "/nothing" => out.send(204, &[], &[b"dropped"]),
            "/twice" => {
                out.send(200, &[], &[b"first"]);
                out.send(200, &[], &[b"second"]);
            }
            "/close" => {
                out.close();
                out.send(200, &[], &[b"last"]);
            }
            path => {
                if path.starts_with("/canary") {
                    self.canaries.lock().unwrap().insert(path.to_owned());
                }
                out.send(200, &[("Content-Type", "text/plain")], &[body]);
            }
        }
    }

    fn refused(&self, _peer: &Peer, status: u16, _reason: &'static str) {
        self.refused.lock().unwrap().push(status);
    }
}

impl Echo {
    fn tell(&self, event: &str) {
        self.events.send(event.to_owned()).unwrap();
    }

    fn until_gone(&self, out: &mut Responder<'_>) {
        assert!(out.start_stream(200, &[]));
        assert!(!out.client_gone());
        self.tell("streaming");
        let deadline = Instant::now() + PATIENCE;
        while !out.client_gone() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        self.tell(if out.client_gone() {
            "gone"
        } else {
            "still there"
        });
    }

    /// Writes until the client does not take it in time.
    fn flood(&self, out: &mut Responder<'_>) {
        assert!(out.start_stream(200, &[]));
        let block = vec![b'x'; 1 << 20];
        let mut written = 0;
        while written < 256 && out.write_stream(&block) {
            written += 1;
        }
        self.tell(if written < 256 { "cut" } else { "all taken" });
    }
}

/// One answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// False: a chunked body without its end.
    pub(super) complete: bool,
}

impl Answer {
    pub(super) fn has(&self, line: &str) -> bool {
        self.head.lines().any(|other| other == line)
    }
}

pub(super) struct Client {
    pub(super) socket: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have answered and closed already.
        let _ = self.socket.write_all(bytes.as_ref());
    }

    /// Sends a request with the usual headers.
    pub(super) fn request(&mut self, line: &str, body: &[u8]) {
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        self.send([head.as_bytes(), body].concat());
    }

    pub(super) fn ask(&mut self, line: &str, body: &[u8]) -> Answer {
        self.request(line, body);
        self.answer(false)
    }

    /// Reads one answer; `bodiless` for HEAD.
    pub(super) fn answer(&mut self, bodiless: bool) -> Answer {
        loop {
            if let Some((answer, length)) = take_answer(&self.bytes, bodiless, false) {
                self.bytes.drain(..length);
                return answer;
            }
            if !self.read_more() {
                let answer = take_answer(&self.bytes, bodiless, true);
                self.bytes.clear();
                return answer.unwrap().0;
            }
        }
    }

    /// Everything until the end of the connection, as answers.
    pub(super) fn answers(&mut self, first_bodiless: bool) -> Vec<Answer> {
        while self.read_more() {}
        let (mut answers, mut at) = (Vec::new(), 0);
        while at < self.bytes.len() {
            let bodiless = first_bodiless && answers.is_empty();
            let (answer, length) = take_answer(&self.bytes[at..], bodiless, true).unwrap();
            answers.push(answer);
            at += length;
        }
        answers
    }

    pub(super) fn is_closed(&mut self) -> bool {
        self.bytes.is_empty() && !self.read_more()
    }

    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.bytes.extend_from_slice(&buffer[..read]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}, so far {:?}", self.bytes.escape_ascii()),
        }
    }
}

/// The first answer in `bytes` and its length; `None` if more is needed.
fn take_answer(bytes: &[u8], bodiless: bool, ended: bool) -> Option<(Answer, usize)> {
    let head_end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3]
        .parse()
        .unwrap();
    let mut answer = Answer {
        status,
        head,
        body: Vec::new(),
        complete: true,
    };
    let rest = &bytes[head_end..];
    if bodiless || status == 204 || status == 100 {
        return Some((answer, head_end));
    }
    if answer.has("Transfer-Encoding: chunked") {
        let (body, length, complete) = chunks(rest);
        answer.body = body;
        answer.complete = complete;
        return (complete || ended).then_some((answer, head_end + length));
    }
    let announced = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length = match announced {
        Some(length) => length.parse().unwrap(),
        None if ended => rest.len(),
        None => return None,
    };
    answer.body = rest.get(..length)?.to_vec();
    Some((answer, head_end + length))
}

fn chunks(bytes: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut body, mut at) = (Vec::new(), 0);
    while let Some(line) = memchr::memmem::find(&bytes[at..], b"\r\n") {
        let size = str::from_utf8(&bytes[at..at + line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let start = at + line + 2;
        let Some(data) = bytes.get(start..start + size + 2) else {
            break;
        };
        body.extend_from_slice(&data[..size]);
        at = start + size + 2;
        if size == 0 {
            return (body, at, true);
        }
    }
    (body, bytes.len(), false)
}
