//! The log: what it says, where it goes, and that nothing which takes no lines holds up a call.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{everything, hostile, with};
use crate::support::session::{Session, request};

/// Only the request log: so the number of lines is known.
fn quiet() -> Plan {
    Plan::new(json!({})).args(&[
        "--log-level",
        "error",
        "--log-modules",
        "request=debug",
        "--log-format",
        "json",
    ])
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn parsed(text: &str) -> Vec<Value> {
    let line =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    text.lines().map(line).collect()
}

/// A request that nothing but its line in the log knows of. `filler` makes that line long, where
/// parameters are logged.
fn number(session: &mut Session, n: usize, filler: &str) {
    let body = request(&json!(n), &format!("n/{n}"), &json!({"filler": filler}));
    assert_eq!(session.post(body).json()["error"]["code"], -32601);
}

/// Which numbers there are, and how often.
fn numbers<'l>(lines: impl IntoIterator<Item = &'l Value>) -> BTreeMap<usize, usize> {
    let mut found = BTreeMap::new();
    for line in lines {
        let method = line["method"].as_str().unwrap_or_default();
        if let Some(n) = method.strip_prefix("n/") {
            *found.entry(n.parse().unwrap()).or_insert(0) += 1;
        }
    }
    found
}

/// Lines that the log says it has lost.
fn lost(lines: &[Value]) -> u64 {
    let notices = lines
        .iter()
        .filter(|line| line["target"] == "journal::sink");
    notices.filter_map(|line| line["count"].as_u64()).sum()
}

/// The same as metrics have it.
fn lines_lost(rig: &Rig) -> f64 {
    let page = rig.get("/metrics").text;
    let name = "onemcp_log_lines_lost_total ";
    let value = page.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap_or_else(|| panic!("{page}")).parse().unwrap()
}

/// More than waits for a destination that takes nothing: twice two MiB, about 2 KiB a line.
const TOO_MANY: usize = 2600;

/// Sends so many requests, all of which must be answered.
fn flood(rig: &Rig) {
    let mut session = rig.session();
    let filler = "f".repeat(2000);
    (0..TOO_MANY).for_each(|n| number(&mut session, n, &filler));
}

/// Each line that was to be written is there once, or is counted as lost.
#[track_caller]
fn nothing_is_missing(lines: &[Value]) {
    let found = numbers(lines);
    assert!(found.values().all(|times| *times == 1), "a line twice");
    assert!(lost(lines) > 0, "nothing was lost");
    // `initialize` of the session is lost or found like the others.
    let opened = lines.iter().filter(|line| line["method"] == "initialize");
    let expected = TOO_MANY + 1;
    assert_eq!(
        found.len() + opened.count() + lost(lines) as usize,
        expected
    );
}

#[test]
fn programs_get_fields_and_requests_their_line() {
    let servers = json!({"ev": everything(&[])});
    let rig = Plan::new(servers)
        .args(&["--log-level", "debug", "--log-format", "json"])
        .start();
    let mut session = rig.session();
    session.text("ev_1mcp_echo", json!({"text": "canary-argument"}));
    session.refused("tools/call", json!({"name": "ev_1mcp_none"}));
    eventually("both are logged", || {
        whole_lines(&rig.folder().join("stderr")).contains("-32602")
    });
    let text = rig.stderr();
    assert!(
        !text.contains("canary-argument") && !text.contains('\u{1b}'),
        "{text}"
    );
    let lines = parsed(&text);
    for line in &lines {
        for key in ["ts", "level", "target", "msg"] {
            assert!(line[key].is_string(), "{line}");
        }
        assert!(line["ts"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    let calls: Vec<&Value> = lines
        .iter()
        .filter(|line| line["method"] == "tools/call")
        .collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    let good = calls[0];
    assert_eq!(
        (&good["level"], &good["target"]),
        (&json!("debug"), &json!("request"))
    );
    assert_eq!(
        (&good["name"], &good["server"]),
        (&json!("ev_1mcp_echo"), &json!("ev"))
    );
    assert_eq!(good["outcome"], "ok");
    assert!(
        good["ms"].as_f64().unwrap() > 0.0 && good["params"].is_null(),
        "{good}"
    );
    let bad = calls[1];
    assert_eq!(
        (&bad["outcome"], &bad["code"]),
        (&json!("error"), &json!(-32602))
    );
    let requests = (&good["requestId"], &bad["requestId"]);
    assert!(requests.0.as_u64() < requests.1.as_u64(), "{requests:?}");
    let ready = lines
        .iter()
        .find(|line| line["server"] == "ev" && line["tools"].is_u64());
    assert!(
        ready.is_some_and(|line| line["target"] == "upstream::owner"),
        "{text}"
    );
    rig.stop();
}

#[test]
fn people_get_no_colours_in_a_file_and_no_requests_at_info() {
    let rig = Rig::start(json!({"ev": everything(&[])}));
    rig.session().text("ev_1mcp_echo", json!({"text": "x"}));
    let text = rig.stderr();
    assert!(
        !text.contains('\u{1b}') && !text.contains("tools/call"),
        "{text}"
    );
    assert!(
        text.lines()
            .all(|line| line.len() > 24 && &line[23..24] == "Z"),
        "{text}"
    );
    rig.stop();
}

#[test]
fn arguments_are_logged_where_that_is_asked_for_without_secrets() {
    let secret = "s3cret-token-of-ev";
    let servers = json!({"ev": with(everything(&[]), json!({"env": {"API_TOKEN": secret}}))});
    let rig = Plan::new(servers)
        .args(&[
            "--log-level",
            "debug",
            "--log-arguments",
            "--log-format",
            "json",
        ])
        .start();
    let said = format!("shown \"{secret}\" shown");
    let arguments = json!({"text": said, "more": [{"password": "hunter2"}]});
    let mut session = rig.session();
    let text = session.text("ev_1mcp_echo", arguments);
    assert_eq!(text, said);
    let own = rig.folder().join("stderr");
    eventually("it is logged", || whole_lines(&own).contains("tools/call"));
    let log = whole_lines(&own);
    assert!(!log.contains(secret), "{log}");
    let lines = parsed(&log);
    let call = lines
        .iter()
        .find(|line| line["method"] == "tools/call")
        .unwrap();
    let params: Value = serde_json::from_str(call["params"].as_str().unwrap()).unwrap();
    assert_eq!(params["arguments"]["text"], "shown \"***\" shown");
    assert_eq!(params["arguments"]["more"][0]["password"], "***");
    rig.stop();
}

#[test]
fn levels_of_modules_change_with_the_file() {
    let plan = Plan::new(json!({})).set("logging", json!({"level": "error", "format": "json"}));
    let rig = plan.set("configReload", json!({"debounce": 20})).start();
    let mut session = rig.session();
    number(&mut session, 1, "");
    assert!(numbers(&parsed(&whole_lines(&rig.folder().join("stderr")))).is_empty());
    let logging = json!({"level": "error", "format": "json", "modules": {"request": "debug"}});
    let settings = json!({"asyncLoading": {"batchDelay": 50}, "configReload": {"debounce": 20},
                          "logging": logging});
    let config = json!({"mcpServers": {}, "gateway": settings});
    fs::write(rig.folder().join("mcp.json"), config.to_string()).unwrap();
    let mut n = 2;
    eventually("requests are logged", || {
        number(&mut session, n, "");
        n += 1;
        !numbers(&parsed(&whole_lines(&rig.folder().join("stderr")))).is_empty()
    });
    assert!(
        parsed(&whole_lines(&rig.folder().join("stderr")))
            .iter()
            .all(|line| line["level"] != "info")
    );
    rig.stop();
}

#[test]
fn stderr_that_nobody_reads_holds_nobody_up() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let rig = quiet().arg("--log-arguments").stderr(writer.into()).start();
    flood(&rig);
    let mut log = BufReader::new(File::from(reader));
    let mut lines = Vec::new();
    // Whoever reads again finds what is left and how much is not.
    let mut read_on = |enough: &dyn Fn(&[Value]) -> bool, lines: &mut Vec<Value>| {
        while !enough(lines) {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the log has ended");
            lines.extend(parsed(&line));
        }
    };
    read_on(&|lines| lost(lines) > 0, &mut lines);
    nothing_is_missing(&lines);
    number(&mut rig.session(), TOO_MANY, "");
    read_on(&|lines| numbers(lines).contains_key(&TOO_MANY), &mut lines);
    rig.stop();
}

#[test]
fn a_full_stdout_holds_nobody_up() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let blocking = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, blocking | OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, b"full").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, blocking).unwrap();
    let plan = Plan::new(json!({})).args(&["--log-format", "json"]);
    let mut rig = plan.start_unheard(writer.into());
    let url = || {
        let log = parsed(&whole_lines(&rig.folder().join("stderr")));
        let mut urls = log.iter().filter_map(|line| line["url"].as_str());
        urls.next().map(str::to_owned)
    };
    eventually("it listens", || url().is_some());
    let port = url().unwrap().split([':', '/']).nth(4).unwrap().parse();
    rig.port = port.unwrap();
    number(&mut rig.session(), 1, "");
    rig.stop();
    drop(reader);
}

#[test]
fn stderr_on_a_full_device_holds_nobody_up() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let rig = quiet().arg("--log-arguments").stderr(full.into()).start();
    assert_eq!(lines_lost(&rig), 0.0);
    flood(&rig);
    assert!(lines_lost(&rig) > 0.0);
    rig.stop();
}

#[test]
fn a_log_file_on_a_full_device_is_written_when_there_is_another_behind_its_name() {
    let folder = Scratch::new("full");
    let (link, good) = (folder.0.join("log"), folder.0.join("good"));
    symlink("/dev/full", &link).unwrap();
    let plan = quiet().args(&["--log-arguments", "--log-file", path_text(&link)]);
    let rig = plan.start();
    flood(&rig);
    assert_eq!(fs::metadata("/dev/full").unwrap().len(), 0);
    fs::remove_file(&link).unwrap();
    symlink(&good, &link).unwrap();
    let read = || parsed(&whole_lines(&good));
    eventually("the log is written again", || lost(&read()) > 0);
    nothing_is_missing(&read());
    number(&mut rig.session(), TOO_MANY, "");
    eventually("and goes on", || numbers(&read()).contains_key(&TOO_MANY));
    rig.stop();
}

/// Lines that are complete.
fn whole_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    match text.rfind('\n') {
        Some(at) => text[..=at].to_owned(),
        None => String::new(),
    }
}

#[test]
fn a_full_disk_is_waited_for_without_a_torn_line() {
    let Some(disk) = Disk::mount() else { return };
    let log = disk.folder().join("log");
    let plan = quiet().args(&["--log-arguments", "--log-file", path_text(&log)]);
    let rig = plan.start();
    number(&mut rig.session(), TOO_MANY, "");
    eventually("it is written", || {
        !numbers(&parsed(&whole_lines(&log))).is_empty()
    });
    let filler = disk.folder().join("filler");
    let filled = fs::write(&filler, vec![0; 20 << 20]);
    assert!(filled.is_err(), "the disk is not full");
    flood(&rig);
    let torn = fs::read_to_string(&log).unwrap();
    assert!(
        torn.ends_with('\n'),
        "a torn line: {:?}",
        &torn[torn.len().saturating_sub(80)..]
    );
    fs::remove_file(&filler).unwrap();
    let read = || parsed(&whole_lines(&log));
    eventually("the log is written again", || lost(&read()) > 0);
    let mut lines = read();
    // The line before, and the session that it was sent in.
    lines.retain(|line| line["method"] != json!(format!("n/{TOO_MANY}")));
    let first = lines
        .iter()
        .position(|line| line["method"] == "initialize")
        .unwrap();
    lines.remove(first);
    nothing_is_missing(&lines);
    rig.stop();
}

#[test]
fn a_pipe_is_written_whenever_somebody_reads_it() {
    let folder = Scratch::new("pipe");
    let pipe = folder.0.join("log");
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
    let plan = quiet().args(&["--log-arguments", "--log-file", path_text(&pipe)]);
    let rig = plan.start();
    // Nobody has opened it.
    flood(&rig);
    let open = || -> OwnedFd {
        rustix::fs::open(&pipe, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap()
    };
    let mut reader = Lines::new(open());
    reader.until(|lines| lost(lines) > 0);
    nothing_is_missing(&reader.lines);
    // Somebody has it open and reads nothing.
    reader.lines.clear();
    flood(&rig);
    reader.until(|lines| lost(lines) > 0);
    nothing_is_missing(&reader.lines);
    // The reader goes, within a line or not, and another one comes.
    drop(reader);
    number(&mut rig.session(), TOO_MANY, "");
    let mut reader = Lines::new(open());
    reader.until(|lines| numbers(lines).contains_key(&TOO_MANY));
    rig.stop();
}

/// What can be read of a pipe, line by line.
struct Lines {
    pipe: File,
    text: Vec<u8>,
    lines: Vec<Value>,
}

impl Lines {
    fn new(pipe: OwnedFd) -> Lines {
        Lines {
            pipe: pipe.into(),
            text: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn until(&mut self, enough: impl Fn(&[Value]) -> bool) {
        eventually("enough is in the pipe", || {
            let mut part = [0; 1 << 16];
            if let Ok(read) = self.pipe.read(&mut part) {
                self.text.extend_from_slice(&part[..read]);
            }
            let Some(end) = self.text.iter().rposition(|byte| *byte == b'\n') else {
                return false;
            };
            let whole: Vec<u8> = self.text.drain(..=end).collect();
            self.lines
                .extend(parsed(std::str::from_utf8(&whole).unwrap()));
            enough(&self.lines)
        });
    }
}

#[test]
fn files_are_put_aside_under_load_and_no_line_is_lost_or_torn() {
    let folder = Scratch::new("rotate");
    let log = folder.0.join("log");
    let plan = quiet().args(&["--log-file", path_text(&log)]);
    let rig = plan
        .args(&["--log-max-size", "4096", "--log-max-files", "100"])
        .start();
    let sent = AtomicUsize::new(0);
    load(&rig, &sent, 300);
    let expected = sent.load(Ordering::Relaxed);
    eventually("all is written", || count(&folder) == expected);
    let files = fs::read_dir(&folder.0).unwrap().count();
    assert!(files > 10, "{files}");
    for file in fs::read_dir(&folder.0).unwrap() {
        let file = file.unwrap();
        assert!(file.metadata().unwrap().len() <= 4096);
        assert!(fs::read_to_string(file.path()).unwrap().ends_with('\n'));
    }
    assert!(
        numbers(&lines_in(&folder))
            .values()
            .all(|times| *times == 1)
    );
    rig.stop();
}

#[test]
fn a_file_that_is_moved_is_opened_again_at_hup_and_no_line_is_lost_or_torn() {
    let folder = Scratch::new("hup");
    let log = folder.0.join("log");
    let rig = quiet().args(&["--log-file", path_text(&log)]).start();
    let (sent, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let moved = std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let mut moved = 0;
            while !over.load(Ordering::Relaxed) {
                // There is one again as soon as the log has been opened.
                if fs::rename(&log, folder.0.join(format!("log-{moved}"))).is_ok() {
                    moved += 1;
                    signal(rig.pid, Signal::HUP);
                }
                std::thread::yield_now();
            }
            moved
        });
        load(&rig, &sent, 300);
        over.store(true, Ordering::Relaxed);
        mover.join().unwrap()
    });
    assert!(moved > 5, "{moved}");
    let expected = sent.load(Ordering::Relaxed);
    eventually("all is written", || count(&folder) == expected);
    assert!(
        numbers(&lines_in(&folder))
            .values()
            .all(|times| *times == 1)
    );
    rig.stop();
}

/// Four clients, each with so many requests.
fn load(rig: &Rig, sent: &AtomicUsize, requests: usize) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = rig.session();
                for _ in 0..requests {
                    number(&mut session, sent.fetch_add(1, Ordering::Relaxed), "");
                }
            });
        }
    });
}

fn lines_in(folder: &Scratch) -> Vec<Value> {
    let files = fs::read_dir(&folder.0).unwrap();
    let text = files.map(|file| whole_lines(&file.unwrap().path()));
    text.flat_map(|text| parsed(&text)).collect()
}

fn count(folder: &Scratch) -> usize {
    numbers(&lines_in(folder)).values().sum()
}

#[test]
fn a_server_has_its_own_stream_and_its_own_file() {
    let folder = Scratch::new("servers");
    let secret = "s3cret-token-of-ho";
    let talk = with(hostile(&[]), json!({"env": {"API_TOKEN": secret}}));
    let shout = "printf 'key %s\\033[31m\\n' \"$API_TOKEN\" >&2; exit 3";
    let dead = json!({"command": "sh", "args": ["-c", shout], "env": {"API_TOKEN": secret},
                      "restartOnExit": false});
    let rig = Plan::new(json!({"ho": talk, "a/b": dead}))
        .args(&[
            "--log-format",
            "json",
            "--server-log-dir",
            path_text(&folder.0),
        ])
        .start_unready();
    eventually("it is up", || rig.server("ho")["status"] == "connected");
    rig.session()
        .text("ho_1mcp_stderr_flood", json!({"lines": 3000}));
    let file = |name: &str| whole_lines(&folder.0.join(name));
    eventually("all its lines are there", || {
        file("ho.log").lines().count() >= 3000
    });
    let own = parsed(&file("ho.log"));
    assert!(
        own.iter()
            .all(|line| line["server"] == "ho" && line["target"] == "server.ho")
    );
    eventually("the other one has its own", || {
        !file("a%2Fb.log").is_empty()
    });
    let said = &parsed(&file("a%2Fb.log"))[0];
    assert_eq!(said["msg"], "key ***\u{fffd}[31m");
    // The log has what a person can read.
    let log = parsed(&whole_lines(&rig.folder().join("stderr")));
    let shown = log
        .iter()
        .filter(|line| line["target"] == "server.ho")
        .count();
    assert!((1..=40).contains(&shown), "{shown}");
    assert!(!rig.stderr().contains(secret) && !rig.health().to_string().contains(secret));
    rig.stop();
}

/// A folder that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("onemcp-it-logs-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A small disk that only a process of its own sees by name; everybody else reaches it through
/// that process.
struct Disk {
    owner: Child,
    scratch: Scratch,
}

impl Disk {
    /// `None` where that is not permitted.
    fn mount() -> Option<Disk> {
        let scratch = Scratch::new("disk");
        let script =
            "mount -t tmpfs -o size=16m,mode=700 none \"$0\" && echo ready && exec sleep 600";
        let mut owner = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(&scratch.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let out = owner.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        let disk = Disk { owner, scratch };
        if said != "ready\n" {
            println!("skipped: a disk of its own is not permitted here");
            return None;
        }
        Some(disk)
    }

    fn folder(&self) -> PathBuf {
        let inside = self.scratch.0.strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.owner.id())).join(inside)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.owner.kill();
        let _ = self.owner.wait();
    }
}
