//! Servers over HTTP: our fixture as one, and one that does exactly what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::servers::example;

/// `everything --http`.
pub(crate) struct HttpFixture {
    child: Child,
    pub(crate) port: u16,
}

impl HttpFixture {
    pub(crate) fn start(args: &[&str]) -> HttpFixture {
        HttpFixture::start_at(0, args)
    }

    pub(crate) fn start_at(port: u16, args: &[&str]) -> HttpFixture {
        let mut child = Command::new(example("everything"))
            .args(["--http", &port.to_string()])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        let port = event["port"].as_u64().unwrap().try_into().unwrap();
        HttpFixture { child, port }
    }

    pub(crate) fn entry(&self) -> Value {
        json!({"url": format!("http://127.0.0.1:{}/mcp", self.port)})
    }

    /// Over HTTP with SSE.
    pub(crate) fn old_entry(&self) -> Value {
        json!({"url": format!("http://127.0.0.1:{}/sse", self.port)})
    }
}

impl Drop for HttpFixture {
    fn drop(&mut self) {
        // It may be gone already, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request as a scripted server sees it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    /// `null` when there is no body.
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) text: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The method of the message, or that of HTTP.
    pub(crate) fn what(&self) -> &str {
        self.body["method"].as_str().unwrap_or(&self.method)
    }
}

/// Where the answer goes.
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) fn write(&mut self, text: &str) {
        // A client that has gone is what some tests are about.
        let _ = self.0.write_all(text.as_bytes());
    }

    pub(crate) fn reply(&mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        self.write(&format!(
            "HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ));
    }

    pub(crate) fn json(&mut self, status: u16, headers: &str, body: &Value) {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        self.reply(status, &headers, &body.to_string());
    }

    pub(crate) fn result(&mut self, seen: &Seen, result: &Value) {
        let id = &seen.body["id"];
        self.json(
            200,
            "",
            &json!({"jsonrpc": "2.0", "id": id, "result": result}),
        );
    }

    /// Begins a stream that ends with the connection.
    pub(crate) fn events(&mut self) {
        self.write(
            "HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
        );
    }

    pub(crate) fn event(&mut self, fields: &str, data: &str) {
        self.write(&format!("{fields}data: {data}\n\n"));
    }

    pub(crate) fn close(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// Waits until the client lets go of the connection.
    pub(crate) fn wait_for_end(&mut self) {
        let _ = self.0.read(&mut [0; 1]);
    }
}

type Handler = dyn Fn(&Seen, &mut Wire) -> bool + Send + Sync;

/// A server whose answers a test writes. What the handler declines with false is answered as a
/// small server with one session (`s1`), one tool (`t`) and no stream would.
pub(crate) struct Script {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    closing: Arc<AtomicBool>,
}

impl Script {
    pub(crate) fn start(
        handler: impl Fn(&Seen, &mut Wire) -> bool + Send + Sync + 'static,
    ) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let closing = Arc::new(AtomicBool::new(false));
        let (log, closed) = (seen.clone(), closing.clone());
        let handler: Arc<Handler> = Arc::new(handler);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (log, handler) = (log.clone(), handler.clone());
                std::thread::spawn(move || serve(stream, &log, &*handler));
            }
        });
        Script {
            port,
            seen,
            closing,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn entry(&self) -> Value {
        json!({"url": self.url("/mcp")})
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.what() == what)
            .count()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Seen>>, handler: &Handler) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut wire = Wire(stream);
    while let Some(seen) = read(&mut reader) {
        log.lock().unwrap().push(seen.clone());
        if !handler(&seen, &mut wire) {
            usual(&seen, &mut wire);
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    let mut words = lines.first()?.split(' ').map(str::to_owned);
    let method = words.next()?;
    let target = words.next()?;
    let split = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    let headers: Vec<(String, String)> = lines[1..].iter().filter_map(split).collect();
    let mut seen = Seen {
        method,
        target,
        headers,
        body: Value::Null,
        text: String::new(),
    };
    let length = seen.header("Content-Length").unwrap_or("0").parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    seen.body = serde_json::from_slice(&body).unwrap_or_default();
    seen.text = String::from_utf8(body).unwrap_or_default();
    Some(seen)
}

fn usual(seen: &Seen, wire: &mut Wire) {
    let tool = json!({"name": "t", "inputSchema": {"type": "object"}});
    match seen.what() {
        "initialize" => {
            let id = &seen.body["id"];
            let result = json!({
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "script", "version": "1"},
            });
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
            wire.json(200, "Mcp-Session-Id: s1\r\n", &answer);
        }
        "tools/list" => wire.result(seen, &json!({"tools": [tool]})),
        "tools/call" => wire.result(seen, &text("done")),
        "server/discover" => wire.reply(400, "", "what?"),
        "GET" => wire.reply(405, "", ""),
        "DELETE" => wire.reply(200, "", ""),
        _ => wire.reply(202, "", ""),
    }
}

/// The result of a tool.
pub(crate) fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}
