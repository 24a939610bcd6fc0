//! Running the real binary: a folder for its files, a command to its end, a gateway while a
//! test lasts. Nothing here waits without a deadline.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_onemcp")
}

/// A test server, built as an example beside this test.
pub(crate) fn fixture(name: &str) -> String {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().unwrap().parent().unwrap();
    let path = target.join("examples").join(name);
    assert!(path.is_file(), "{} is not built", path.display());
    path.to_str().unwrap().to_owned()
}

/// A folder that goes with the test, and is HOME for what it starts.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("onemcp-cli-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A command of the binary that knows nothing of this machine's configuration.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.0)
            .current_dir(&self.0);
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) lines: Vec<Value>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    /// The one line of stdout.
    pub(crate) fn line(&self) -> &Value {
        assert_eq!(self.lines.len(), 1, "{self:?}");
        &self.lines[0]
    }

    pub(crate) fn of_kind(&self, kind: &str) -> Vec<&Value> {
        let lines = self.lines.iter();
        lines.filter(|line| line["kind"] == kind).collect()
    }
}

/// Runs a command to its end, with this on its stdin.
pub(crate) fn run(mut command: Command, input: Option<&str>) -> Outcome {
    let stdin = if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(text) = input {
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }
    finish(child)
}

/// Waits for the end, and for the end of everybody who holds its output.
pub(crate) fn finish(mut child: Child) -> Outcome {
    let out = collect(child.stdout.take().unwrap());
    let err = collect(child.stderr.take().unwrap());
    let code = wait(&mut child, PATIENCE);
    let text = |bytes: Receiver<String>| bytes.recv_timeout(PATIENCE).expect("output never ended");
    let (out, err) = (text(out), text(err));
    let lines = out
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    Outcome {
        code,
        lines,
        out,
        err,
    }
}

fn collect(mut source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = source.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// The exit code; a process that does not end in time is killed and fails the test.
pub(crate) fn wait(child: &mut Child, patience: Duration) -> Option<i32> {
    let ended = eventually(patience, || child.try_wait().unwrap().is_some());
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    assert!(ended, "did not end in time");
    status.code()
}

/// Asks again and again, where there is no event to wait for.
pub(crate) fn eventually(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    holds()
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Living processes whose environment has `HOME=folder`, but for `except`.
pub(crate) fn residents(folder: &Path, except: u32) -> Vec<u32> {
    let entry = format!("HOME={}", folder.display()).into_bytes();
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|file| file.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != except)
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|text| text == entry)
        })
        .collect()
}

/// A running gateway (`serve` or `demo`).
pub(crate) struct Gateway {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) port: u64,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Gateway {
    /// Starts it and waits for the line that says where it listens.
    pub(crate) fn start(mut command: Command) -> Gateway {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        let first = out.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!(
                "does not listen: {}",
                err.try_iter().collect::<Vec<_>>().join("\n")
            )
        });
        let line: Value = serde_json::from_str(&first).expect("a line of JSON");
        assert_eq!(line["event"], "listening");
        Gateway {
            child,
            url: line["url"].as_str().unwrap().to_owned(),
            port: line["port"].as_u64().unwrap(),
            out,
            err,
        }
    }

    /// Lines of stderr up to one that fits, that one included.
    pub(crate) fn stderr_until(&self, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let line = self.err.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("not said: {seen:?}"));
            let last = fits(&line);
            seen.push(line);
            if last {
                return seen;
            }
        }
    }

    /// Ends it with this signal: its exit code, and what it wrote to stdout after its first line.
    pub(crate) fn end(mut self, with: Signal) -> (Option<i32>, Vec<String>) {
        signal(&self.child, with);
        let code = wait(&mut self.child, PATIENCE);
        let rest = std::iter::from_fn(|| self.out.recv_timeout(PATIENCE).ok()).collect();
        (code, rest)
    }
}

impl Drop for Gateway {
    /// Its watcher ends what it started.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
