//! A gateway of one test: its configuration in a folder of its own, started on a free port,
//! stopped by TERM, and nothing left of it.
//!
//! Gateway and servers carry a mark in their environment, so that every process which they
//! start is found, wherever it hides.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::support::http::{Connection, Reply, Request};
use crate::support::servers::gateway_binary;
use crate::support::session::Session;
use crate::support::tls::{self, Pki};
use crate::support::{PATIENCE, eventually};

/// What a gateway is started with.
pub(crate) struct Plan {
    servers: Value,
    settings: Value,
    presets: Value,
    args: Vec<String>,
    env: Vec<(String, String)>,
    stderr: Option<Stdio>,
    tls: Option<Arc<ClientConfig>>,
}

impl Plan {
    /// `servers` is the object behind `mcpServers`.
    pub(crate) fn new(servers: Value) -> Plan {
        Plan {
            servers,
            settings: json!({"asyncLoading": {"batchDelay": 50}}),
            presets: Value::Null,
            args: Vec::new(),
            env: Vec::new(),
            stderr: None,
            tls: None,
        }
    }

    /// Speaks TLS with this certificate of `pki`; every connection of the rig is made like that.
    pub(crate) fn tls(mut self, pki: &Pki, name: &str) -> Plan {
        self.tls = Some(pki.client());
        let (certificate, key) = (pki.certificate(name), pki.key(name));
        self.args(["--tls-cert", &certificate, "--tls-key", &key].as_slice())
    }

    /// What the rig itself connects with.
    pub(crate) fn connecting(mut self, client: Arc<ClientConfig>) -> Plan {
        self.tls = Some(client);
        self
    }

    /// Where its stderr goes, if not into the file that `Rig::stderr` reads.
    pub(crate) fn stderr(mut self, stderr: Stdio) -> Plan {
        self.stderr = Some(stderr);
        self
    }

    /// One setting of the object behind `gateway`.
    pub(crate) fn set(mut self, key: &str, value: Value) -> Plan {
        self.settings[key] = value;
        self
    }

    pub(crate) fn presets(mut self, presets: Value) -> Plan {
        self.presets = presets;
        self
    }

    pub(crate) fn arg(mut self, arg: &str) -> Plan {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn args(self, args: &[&str]) -> Plan {
        args.iter().fold(self, |plan, arg| plan.arg(arg))
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Plan {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it until every server is settled.
    pub(crate) fn start(self) -> Rig {
        let rig = self.start_unready();
        eventually("the gateway is ready", || {
            rig.get("/health/ready").status() == 200
        });
        rig
    }

    /// Runs it as PID 1 of a process namespace, ready. `None` where that is not permitted.
    pub(crate) fn start_as_pid_1(self) -> Option<Rig> {
        let flags = ["--pid", "--fork", "--mount-proc", "--kill-child"];
        let mut probe = Command::new("unshare");
        probe.args(flags).arg("true").stderr(Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            println!("skipped: a new process namespace is not permitted here");
            return None;
        }
        let (plain, folder, mark) = self.command();
        let mut command = Command::new("unshare");
        command
            .args(flags)
            .arg(plain.get_program())
            .args(plain.get_args());
        command.env_clear();
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.stdin(Stdio::null());
        command.stderr(fs::File::create(folder.join("stderr")).unwrap());
        let mut rig = run(command, folder, mark, None);
        let children = format!("/proc/{0}/task/{0}/children", rig.pid);
        rig.pid = fs::read_to_string(children)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        eventually("the gateway is ready", || {
            rig.get("/health/ready").status() == 200
        });
        Some(rig)
    }

    /// Runs it and only waits for the listener.
    pub(crate) fn start_unready(self) -> Rig {
        let client = self.tls.clone();
        let (command, folder, mark) = self.command();
        run(command, folder, mark, client)
    }

    /// Runs it as the child of its one client, who has the two pipes.
    pub(crate) fn start_piped(self) -> (Rig, ChildStdin, ChildStdout) {
        let (mut command, folder, mark) = self.plain_command();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let pid = child.id().try_into().unwrap();
        let rig = Rig {
            child,
            folder,
            mark,
            port: 0,
            health_port: 0,
            pid,
        };
        (rig, input, output)
    }

    /// Runs it with a stdout of which nobody reads anything; where it listens is not known.
    pub(crate) fn start_unheard(self, stdout: Stdio) -> Rig {
        let (mut command, folder, mark) = self.command();
        let child = command.stdout(stdout).spawn().unwrap();
        let pid = child.id().try_into().unwrap();
        Rig {
            child,
            folder,
            mark,
            port: 0,
            health_port: 0,
            pid,
        }
    }

    /// Runs it to its end, for starts that are refused.
    pub(crate) fn refused(self) -> (Option<i32>, String) {
        let (mut command, folder, _) = self.command();
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let status = wait(&mut child, PATIENCE).expect("the gateway runs although it must not");
        let stderr = fs::read_to_string(folder.join("stderr")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        (status.code(), stderr)
    }

    fn command(mut self) -> (Command, PathBuf, String) {
        self.args.splice(0..0, ["--port".into(), "0".into()]);
        self.plain_command()
    }

    fn plain_command(mut self) -> (Command, PathBuf, String) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("rig-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(&mark);
        fs::create_dir(&folder).unwrap();
        for entry in self.servers.as_object_mut().unwrap().values_mut() {
            if entry.get("command").is_some() && entry.get("env").is_none_or(Value::is_object) {
                entry["env"]["MARK"] = mark.as_str().into();
            }
        }
        let config = json!({"mcpServers": self.servers, "gateway": self.settings});
        fs::write(folder.join("mcp.json"), config.to_string()).unwrap();
        if !self.presets.is_null() {
            fs::write(folder.join("presets.json"), self.presets.to_string()).unwrap();
        }
        let mut command = Command::new(gateway_binary());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &folder)
            .env("MARK", &mark)
            .envs(self.env)
            .arg("--config")
            .arg(folder.join("mcp.json"))
            .args(self.args)
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("stderr")).unwrap());
        if let Some(stderr) = self.stderr {
            command.stderr(stderr);
        }
        (command, folder, mark)
    }
}

/// Runs it until it says where it listens.
fn run(
    mut command: Command,
    folder: PathBuf,
    mark: String,
    client: Option<Arc<ClientConfig>>,
) -> Rig {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let mut rig = Rig {
        child,
        folder,
        mark,
        port: 0,
        health_port: 0,
        pid: 0,
    };
    let event: Value = serde_json::from_str(&line)
        .unwrap_or_else(|error| panic!("{error}: {line:?}; stderr: {}", rig.stderr()));
    assert_eq!(event["event"], "listening");
    rig.port = event["port"].as_u64().unwrap().try_into().unwrap();
    let health = event["health"].as_u64().unwrap_or(0);
    rig.health_port = health.try_into().unwrap();
    let scheme = if client.is_some() { "https" } else { "http" };
    let expected = format!("{scheme}://127.0.0.1:{}/mcp", rig.port);
    assert_eq!(event["url"], expected);
    if let Some(client) = client {
        tls::connect_with(rig.port, client);
    }
    rig.pid = rig.child.id().try_into().unwrap();
    rig
}

pub(crate) struct Rig {
    child: Child,
    folder: PathBuf,
    mark: String,
    pub(crate) port: u16,
    /// Of `--health-listen`, or 0.
    pub(crate) health_port: u16,
    pub(crate) pid: i32,
}

impl Rig {
    pub(crate) fn start(servers: Value) -> Rig {
        Plan::new(servers).start()
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.port)
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        self.connect().exchange(&Request::new("GET", target))
    }

    /// A session of the newest session revision on the aggregate, without capabilities.
    pub(crate) fn session(&self) -> Session {
        Session::open(self.port, "/mcp", "2025-11-25", json!({}))
    }

    pub(crate) fn session_at(&self, target: &str) -> Session {
        Session::open(self.port, target, "2025-11-25", json!({}))
    }

    pub(crate) fn session_with(&self, capabilities: Value) -> Session {
        Session::open(self.port, "/mcp", "2025-11-25", capabilities)
    }

    pub(crate) fn session_of(&self, revision: &str) -> Session {
        Session::open(self.port, "/mcp", revision, json!({}))
    }

    pub(crate) fn health(&self) -> Value {
        self.get("/health").json()
    }

    /// What health says about one server.
    #[track_caller]
    pub(crate) fn server(&self, name: &str) -> Value {
        let health = self.health();
        let details = health["servers"]["details"].as_array().unwrap().clone();
        let found = details.into_iter().find(|entry| entry["name"] == name);
        found.unwrap_or_else(|| panic!("health does not know {name}: {health}"))
    }

    #[track_caller]
    pub(crate) fn pid_of(&self, name: &str) -> i32 {
        let server = self.server(name);
        let pid = server["pid"].as_i64();
        pid.unwrap_or_else(|| panic!("no process: {server}")) as i32
    }

    /// Kills the process of a server and waits until another one serves in its place.
    #[track_caller]
    pub(crate) fn kill(&self, name: &str) {
        let before = self.pid_of(name);
        signal(before, Signal::KILL);
        eventually("another process is up", || {
            let server = self.server(name);
            server["status"] == "connected" && server["pid"] != before
        });
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }

    pub(crate) fn term(&self) {
        signal(self.pid, Signal::TERM);
    }

    /// Waits for the end of the gateway; gives its exit code.
    #[track_caller]
    pub(crate) fn exit_code(&mut self, patience: Duration) -> Option<i32> {
        match wait(&mut self.child, patience) {
            Some(status) => status.code(),
            None => panic!("the gateway does not end; stderr: {}", self.stderr()),
        }
    }

    /// Stops it as an operator does; it must end well and leave nothing.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.term();
        assert_eq!(self.exit_code(PATIENCE), Some(0), "{}", self.stderr());
        let left = self.bearers();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Living processes that the gateway started, itself included.
    pub(crate) fn bearers(&self) -> Vec<i32> {
        bearers(&self.mark)
    }

    /// A place of its own, which is also its home.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn files(&self) -> usize {
        entries(self.pid, "fd")
    }

    /// Threads whose name begins so.
    pub(crate) fn threads_named(&self, prefix: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        let names =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with(prefix)).count()
    }

    /// Time of the processor that it has used.
    pub(crate) fn cpu_ms(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        // utime and stime, in hundredths of a second.
        let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks * 10
    }

    pub(crate) fn threads(&self) -> usize {
        entries(self.pid, "task")
    }
}

impl Drop for Rig {
    /// A failed test says what the gateway said, and leaves nothing behind.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- stderr of the gateway\n{}", self.stderr());
        }
        tls::forget(self.port);
        // It may be gone already, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in self.bearers() {
            signal(pid, Signal::KILL);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    // One that is gone needs no signal.
    let _ = rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal);
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn entries(pid: i32, folder: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count)
}

fn bearers(mark: &str) -> Vec<i32> {
    let entry = format!("MARK={mark}").into_bytes();
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<i32>().ok()
    });
    // A zombie has no environment, so its parent's list of children is asked elsewhere.
    let bears = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|text| text == entry)
    };
    numbers.filter(bears).collect()
}
