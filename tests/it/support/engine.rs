//! A container engine for tests: what Docker and Podman answer over their socket to whoever lists
//! containers and listens to events.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

#[derive(Default)]
pub(crate) struct State {
    containers: Vec<Value>,
    events: Vec<String>,
    /// As Podman: an answer begins with the first event.
    pub(crate) is_late: bool,
    /// Neither list nor events are JSON.
    pub(crate) is_odd: bool,
    is_over: bool,
    pub(crate) lists: usize,
    pub(crate) listeners: usize,
}

pub(crate) struct Engine {
    path: PathBuf,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Engine {
    pub(crate) fn start(path: &Path) -> Engine {
        let listener = UnixListener::bind(path).unwrap();
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.0.lock().unwrap().is_over {
                    return;
                }
                let shared = serving.clone();
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Engine {
            path: path.to_owned(),
            shared,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// One that serves at `port` of 127.0.0.1, as if that were its address.
    pub(crate) fn run(&self, name: &str, port: u16, labels: Value) {
        let mut state = self.state();
        let count = state.events.len();
        let id = format!("{count:064x}");
        state.containers.push(json!({
            "Id": id, "Names": [format!("/{name}")], "Image": "mcp", "State": "running",
            "Created": 1_700_000_000 + count, "Status": "Up 2 seconds",
            "Labels": labels, "HostConfig": {"NetworkMode": "mcp"}, "Mounts": [],
            "Ports": [{"PrivatePort": port, "Type": "tcp"}],
            "NetworkSettings": {"Networks": {"mcp": {
                "IPAddress": "127.0.0.1", "GlobalIPv6Address": "", "NetworkID": "1"}}},
        }));
        self.tell(state, "start");
    }

    pub(crate) fn end(&self, name: &str) {
        let mut state = self.state();
        let name = format!("/{name}");
        state
            .containers
            .retain(|one| one["Names"][0] != name.as_str());
        self.tell(state, "die");
    }

    pub(crate) fn tell(&self, mut state: MutexGuard<'_, State>, what: &str) {
        let event = json!({"Type": "container", "Action": what, "time": 1, "timeNano": 1});
        state.events.push(format!("{event}\n"));
        drop(state);
        self.shared.1.notify_all();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.state().is_over = true;
        self.shared.1.notify_all();
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(stream: &UnixStream, shared: &(Mutex<State>, Condvar)) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let target = head.split(' ').nth(1)?;
        if target.starts_with("/events?since=") {
            return events(stream, shared);
        }
        let mut state = shared.0.lock().unwrap();
        state.lists += 1;
        let wanted = "%22onemcp.enable%3Dtrue%22";
        let (code, body) = match target.starts_with("/containers/json?filters=") {
            true if state.is_odd => (200, "<html>".to_owned()),
            true if target.contains(wanted) => {
                let fits = |one: &&Value| one["Labels"]["onemcp.enable"] == "true";
                let fitting: Vec<&Value> = state.containers.iter().filter(fits).collect();
                (200, json!(fitting).to_string())
            }
            _ => (404, json!({"message": "page not found"}).to_string()),
        };
        drop(state);
        let length = body.len();
        let head = "Api-Version: 1.47\r\nContent-Type: application/json";
        let reply = format!("HTTP/1.1 {code} x\r\n{head}\r\nContent-Length: {length}\r\n\r\n");
        (&*stream).write_all((reply + &body).as_bytes()).ok()?;
    }
}

fn events(mut stream: &UnixStream, shared: &(Mutex<State>, Condvar)) -> Option<()> {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut state = shared.0.lock().unwrap();
    state.listeners += 1;
    let mut at = state.events.len();
    let mut is_begun = !state.is_late;
    if is_begun {
        stream.write_all(head.as_bytes()).ok()?;
    }
    loop {
        while state.events.len() == at && !state.is_over && !state.is_odd {
            let wait = shared.1.wait_timeout(state, Duration::from_millis(200));
            state = wait.unwrap().0;
        }
        if state.is_over {
            return None;
        }
        let text = match state.is_odd {
            true => "no event\n".to_owned(),
            false => state.events[at..].concat(),
        };
        at = state.events.len();
        let is_odd = state.is_odd;
        drop(state);
        if !is_begun {
            stream.write_all(head.as_bytes()).ok()?;
            is_begun = true;
        }
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        stream.write_all(chunk.as_bytes()).ok()?;
        if is_odd {
            return None;
        }
        state = shared.0.lock().unwrap();
    }
}
