//! The control socket and the commands that use it, as an operator and as a hostile server meet
//! them: the real program on both sides.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cli_support::{self, Outcome};
use crate::support::rig::{Plan, Rig, signal};
use crate::support::servers::{demo, gateway_binary, with};
use crate::support::{PATIENCE, eventually};

/// A server that never answers.
fn silent() -> Value {
    json!({"command": "sleep", "args": ["1000"]})
}

/// A server that says two words and fails.
fn failing() -> Value {
    json!({"command": "sh", "args": ["-c", "echo 'last words' >&2; exit 3"]})
}

/// A server that says a word first.
fn talker() -> Value {
    let binary = gateway_binary();
    let script = format!(
        "echo hello >&2; exec {} demo-server clock",
        binary.display()
    );
    json!({"command": "sh", "args": ["-c", script]})
}

fn socket(rig: &Rig) -> PathBuf {
    let name = format!("onemcp-{}.control.sock", rig.port);
    rig.folder().join(".local/state/onemcp").join(name)
}

fn command(rig: &Rig, words: &[&str]) -> Command {
    let mut command = Command::new(gateway_binary());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", rig.folder())
        .args(words);
    command
}

fn run(rig: &Rig, words: &[&str]) -> Outcome {
    cli_support::run(command(rig, words), None)
}

#[track_caller]
fn done(rig: &Rig, words: &[&str]) -> Outcome {
    let outcome = run(rig, words);
    assert_eq!(outcome.code, Some(0), "{words:?}: {outcome:?}");
    outcome
}

fn state(rig: &Rig, name: &str) -> String {
    let outcome = run(rig, &["servers"]);
    let line = outcome.lines.iter().find(|line| line["name"] == name);
    line.unwrap()["state"].as_str().unwrap().to_owned()
}

/// Speaks on the socket itself: sends `text` and reads all that comes.
fn talk(rig: &Rig, text: &[u8]) -> Vec<Value> {
    let mut stream = UnixStream::connect(socket(rig)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let lines = said.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A command that goes on, and its lines.
struct Going {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Going {
    fn start(mut command: Command) -> Going {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Going { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Lines up to one that fits.
    fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.line();
            let value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
            if fits(&value) {
                return value;
            }
        }
    }

    fn code(&mut self) -> Option<i32> {
        cli_support::wait(&mut self.child, PATIENCE)
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn status_tells_of_servers_and_of_the_gateway() {
    let servers = json!({"clock": demo("clock"), "bad": failing(),
        "off": {"command": "true", "disabled": true}});
    let rig = Plan::new(servers).start();
    let outcome = done(&rig, &["status"]);
    let lines = &outcome.lines;
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["name"].as_str())
        .collect();
    assert_eq!(names, ["clock", "bad", "off"]);
    assert_eq!(lines[0]["state"], "ready");
    assert_eq!(lines[0]["tools"], 2);
    assert_eq!(lines[0]["pid"], rig.pid_of("clock"));
    assert!(lines[1]["error"].as_str().unwrap().contains("last words"));
    assert_eq!(lines[2]["state"], "disabled");
    let gateway = lines.last().unwrap();
    assert_eq!(gateway["kind"], "gateway");
    assert_eq!(gateway["pid"], rig.pid);
    assert_eq!(gateway["status"], "degraded");
    assert_eq!(
        (&gateway["servers"], &gateway["ready"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(gateway["config"]["version"], 1);
    // The same by port and by path; and briefly.
    let port = rig.port.to_string();
    let path = socket(&rig);
    for words in [["--port", &port], ["--socket", path.to_str().unwrap()]] {
        done(&rig, &["status", words[0], words[1]]);
    }
    let brief = done(&rig, &["servers"]);
    assert_eq!(brief.lines.len(), 3);
    rig.stop();
}

#[test]
fn an_unhealthy_gateway_is_exit_code_1() {
    let rig = Plan::new(json!({"bad": failing()})).start();
    let outcome = run(&rig, &["status"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.lines.last().unwrap()["status"], "unhealthy");
    rig.stop();
}

#[test]
fn the_socket_is_private_and_goes_with_the_gateway() {
    let rig = Rig::start(json!({"clock": demo("clock")}));
    let path = socket(&rig);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let home = rig.folder().to_owned();
    rig.term();
    eventually("the socket is gone", || !path.exists());
    drop(rig);
    assert!(!home.exists());
}

#[test]
fn off_is_off_and_a_path_is_a_path() {
    let rig = Plan::new(json!({"clock": demo("clock")}))
        .arg("--control-socket=off")
        .start();
    assert!(!socket(&rig).exists());
    assert_eq!(run(&rig, &["status"]).code, Some(69));
    rig.stop();
    let path = std::env::temp_dir().join(format!("ctl-{}.sock", std::process::id()));
    let text = path.to_str().unwrap().to_owned();
    let rig = Plan::new(json!({"clock": demo("clock")}))
        .arg(&format!("--control-socket={text}"))
        .start();
    assert_eq!(run(&rig, &["status"]).code, Some(69));
    done(&rig, &["status", "--socket", &text]);
    rig.stop();
    assert!(!path.exists());
}

#[test]
fn without_a_gateway_it_is_exit_code_69_and_wait_waits_for_one() {
    let rig = Rig::start(json!({"clock": demo("clock")}));
    for words in [
        &["status", "--port", "1"][..],
        &["restart", "clock", "--socket", "/nowhere/x.sock"],
        &["wait", "--port", "1", "--timeout", "100"],
    ] {
        let outcome = run(&rig, words);
        assert_eq!(outcome.code, Some(69), "{outcome:?}");
        assert_eq!(outcome.line()["ok"], false);
    }
    // One that is started later.
    let path = rig.folder().join("later.sock");
    let text = path.to_str().unwrap();
    let words = ["wait", "--socket", text, "--timeout", "20s"];
    let mut waiting = Going::start(command(&rig, &words));
    let later = Plan::new(json!({"clock": demo("clock")}))
        .arg(&format!("--control-socket={text}"))
        .start();
    assert_eq!(waiting.until(|_| true), json!({"ready": 1, "ok": true}));
    assert_eq!(waiting.code(), Some(0));
    later.stop();
    rig.stop();
}

#[test]
fn wait_ends_with_what_it_waits_for() {
    let slow = json!({"command": "sh", "args": ["-c",
        format!("sleep 1; exec {} demo-server clock", gateway_binary().display())]});
    let servers = json!({"clock": demo("clock"), "slow": slow, "bad": failing(),
        "never": silent(), "off": {"command": "true", "disabled": true}});
    let rig = Plan::new(servers).start_unready();
    done(&rig, &["wait", "clock"]);
    assert_eq!(done(&rig, &["wait", "slow"]).line()["ready"], 1);
    // At once, long before its time is over.
    let began = Instant::now();
    for name in ["bad", "off", "nobody"] {
        let outcome = run(&rig, &["wait", name, "--timeout", "60s"]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
    }
    assert_eq!(run(&rig, &["wait"]).code, Some(1));
    assert!(began.elapsed() < Duration::from_secs(20));
    let outcome = run(&rig, &["wait", "never", "--timeout", "300ms"]);
    assert_eq!(outcome.code, Some(75), "{outcome:?}");
    assert!(outcome.err.contains("never"), "{outcome:?}");
    rig.stop();
}

#[test]
fn restart_starts_another_process_and_wait_waits_for_that_one() {
    let rig = Rig::start(json!({"clock": demo("clock")}));
    for _ in 0..5 {
        let before = rig.pid_of("clock");
        done(&rig, &["restart", "clock"]);
        done(&rig, &["wait", "clock"]);
        assert_ne!(rig.pid_of("clock"), before);
    }
    let outcome = run(&rig, &["restart", "clokc"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.err.contains("did you mean \"clock\"?"),
        "{outcome:?}"
    );
    rig.stop();
}

#[test]
fn a_gateway_that_hangs_is_waited_for_no_longer_than_was_asked() {
    let rig = Rig::start(json!({"clock": demo("clock")}));
    signal(rig.pid, Signal::STOP);
    for words in [&["wait"][..], &["status"], &["restart", "clock"]] {
        let began = Instant::now();
        let outcome = run(&rig, &[words, &["--timeout", "1s"]].concat());
        assert_eq!(outcome.code, Some(75), "{outcome:?}");
        let took = began.elapsed();
        let most = Duration::from_millis(3000);
        assert!(took >= Duration::from_secs(1) && took < most, "{took:?}");
    }
    signal(rig.pid, Signal::CONT);
    done(&rig, &["wait"]);
    rig.stop();
}

#[test]
fn folders_that_cannot_be_used_are_passed_over() {
    let folder = cli_support::Folder::new();
    let long = folder.0.join("x".repeat(100));
    std::fs::create_dir(&long).unwrap();
    // A file where a folder is expected, and one that nobody may look into.
    let file = folder.write("file", "");
    let closed = folder.0.join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    for path in [long.to_str().unwrap(), &file, closed.to_str().unwrap()] {
        let rig = Plan::new(json!({"clock": demo("clock")})).start();
        let port = rig.port.to_string();
        for words in [&["wait"][..], &["status", "--port", &port]] {
            let mut command = command(&rig, words);
            command.env("XDG_RUNTIME_DIR", path);
            command.env("RUNTIME_DIRECTORY", path);
            let outcome = cli_support::run(command, None);
            assert_eq!(outcome.code, Some(0), "{path} {words:?}: {outcome:?}");
        }
        rig.stop();
    }
}

#[test]
fn a_restart_waits_for_no_process_that_is_not_there() {
    let servers = json!({
        "never": silent(),
        "waits": with(demo("clock"), json!({"dependsOn": ["never"]})),
        "off": {"command": "true", "disabled": true},
        "blocked": with(demo("clock"), json!({"dependsOn": ["off"]})),
        "bad": with(failing(), json!({"restartDelay": 600_000})),
        "looped": with(failing(), json!({"maxRestarts": 1, "restartDelay": 1})),
    });
    let rig = Plan::new(servers).start_unready();
    for (name, expected) in [
        ("never", "loading"),
        ("waits", "pending"),
        ("blocked", "failed"),
        ("bad", "failed"),
        ("looped", "crash_loop"),
    ] {
        eventually(name, || state(&rig, name) == expected);
        // The commands wait for less than the gateway would.
        done(&rig, &["restart", name, "--timeout", "10s"]);
    }
    rig.stop();
}

#[test]
fn a_server_is_switched_off_and_on() {
    let servers = json!({"clock": demo("clock"), "notes": demo("notes")});
    let rig = Rig::start(servers);
    done(&rig, &["disable", "notes"]);
    eventually("it is disabled", || state(&rig, "notes") == "disabled");
    let switched = || {
        let gateway = done(&rig, &["status"]).lines.pop().unwrap();
        gateway["config"]["switched"].clone()
    };
    assert_eq!(switched(), json!(["notes"]));
    assert_eq!(run(&rig, &["wait", "notes"]).code, Some(1));
    assert_eq!(run(&rig, &["restart", "notes"]).code, Some(1));
    done(&rig, &["wait"]);
    done(&rig, &["enable", "notes"]);
    // The one that was disabled is not taken for the one that comes.
    done(&rig, &["wait", "notes"]);
    assert_eq!(state(&rig, "notes"), "ready");
    // As the file says again.
    assert_eq!(switched(), Value::Null);
    rig.stop();
}

#[test]
fn reload_takes_what_the_file_says_or_says_why_not() {
    let rig = Plan::new(json!({"clock": demo("clock")}))
        .arg("--enable-config-reload=false")
        .start();
    let outcome = done(&rig, &["reload"]);
    assert_eq!(outcome.line()["report"]["version"], 1);
    let file = rig.folder().join("mcp.json");
    let servers = json!({"clock": demo("clock"), "notes": demo("notes")});
    std::fs::write(&file, json!({"mcpServers": servers}).to_string()).unwrap();
    let outcome = done(&rig, &["reload"]);
    assert_eq!(outcome.line()["report"]["added"], json!(["notes"]));
    done(&rig, &["wait"]);
    assert_eq!(state(&rig, "notes"), "ready");
    std::fs::write(&file, "{\"mcpServers\": {").unwrap();
    let outcome = run(&rig, &["reload"]);
    assert_eq!(outcome.code, Some(78), "{outcome:?}");
    let gateway = done(&rig, &["status"]).lines.pop().unwrap();
    assert_eq!(gateway["config"]["ok"], false);
    assert!(!gateway["config"]["problems"].as_array().unwrap().is_empty());
    assert_eq!(gateway["config"]["version"], 2);
    rig.stop();
}

#[test]
fn drain_returns_when_the_gateway_has_ended() {
    let mut rig = Rig::start(json!({"clock": demo("clock")}));
    let outcome = done(&rig, &["drain"]);
    assert_eq!(outcome.line(), &json!({"ended": true, "ok": true}));
    // Its process has ended, not only its socket.
    assert_eq!(rig.exit_code(Duration::ZERO), Some(0));
    assert_eq!(run(&rig, &["status"]).code, Some(69));
}

#[test]
fn watch_tells_what_changes_until_the_end() {
    let rig = Rig::start(json!({"clock": demo("clock"), "notes": demo("notes")}));
    let mut watching = Going::start(command(&rig, &["status", "--watch"]));
    let is_gateway = |line: &Value| line["kind"] == "gateway";
    watching.until(is_gateway);
    signal(rig.pid_of("clock"), Signal::KILL);
    let restarted = watching.until(|line| line["name"] == "clock" && line["restarts"] == 1);
    assert_ne!(restarted["state"], "disabled");
    watching.until(|line| line["name"] == "clock" && line["state"] == "ready");
    done(&rig, &["disable", "notes"]);
    watching.until(|line| line["name"] == "notes" && line["state"] == "disabled");
    rig.term();
    watching.until(|line| is_gateway(line) && line["draining"] == true);
    watching.until(|line| line["ok"] == false);
    assert_eq!(watching.code(), Some(69));
}

#[test]
fn logs_follow_a_server_through_its_restarts() {
    let rig = Rig::start(json!({"talker": talker()}));
    eventually("it has spoken", || {
        done(&rig, &["logs", "talker"]).out.contains("hello")
    });
    let mut following = Going::start(command(&rig, &["logs", "-f", "talker"]));
    assert_eq!(following.line(), "hello");
    done(&rig, &["restart", "talker"]);
    assert_eq!(following.line(), "hello");
    let objects = done(&rig, &["logs", "talker", "--json"]);
    assert_eq!(objects.lines[0]["line"], "hello");
    assert!(objects.lines[0]["time"].is_string());
    rig.term();
    assert_eq!(following.code(), Some(0));
}

#[test]
fn what_is_no_order_is_refused_in_one_line() {
    let rig = Rig::start(json!({"clock": demo("clock")}));
    let long = format!("{{\"command\":\"{}\"}}\n", "x".repeat(100_000));
    for text in ["{}\n", "[]\n", "\u{0}\n", "{\"command\":\"stop\"}\n", &long] {
        let lines = talk(&rig, text.as_bytes());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            (&lines[0]["ok"], &lines[0]["code"]),
            (&json!(false), &json!(64))
        );
    }
    // One order, then the connection is over.
    let lines = talk(&rig, b"{\"command\":\"status\"}\n{\"command\":\"drain\"}\n");
    assert_eq!(lines.last().unwrap()["ok"], true);
    done(&rig, &["status"]);
    rig.stop();
}

#[test]
fn connections_are_bounded_and_those_that_stay_leave_room() {
    let rig = Rig::start(json!({"clock": demo("clock")}));
    let path = socket(&rig);
    let watch = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"{\"command\":\"watch\"}\n").unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut watching: Vec<UnixStream> = (0..30).map(|_| watch()).collect();
    let last_words: Vec<String> = watching
        .iter_mut()
        .map(|stream| {
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            line
        })
        .collect();
    let refused = last_words
        .iter()
        .filter(|line| line.contains("\"ok\":false"));
    assert_eq!(refused.count(), 6);
    done(&rig, &["status"]);
    let silent: Vec<UnixStream> = (0..40)
        .map(|_| UnixStream::connect(&path).unwrap())
        .collect();
    assert!(rig.threads_named("ctl-") <= 32);
    drop((watching, silent));
    eventually("their threads are gone", || rig.threads_named("ctl-") == 0);
    done(&rig, &["status"]);
    rig.stop();
}

/// A gateway with a hostile server, run as somebody who is not root.
struct Trap {
    gateway: cli_support::Gateway,
    folder: cli_support::Folder,
    socket: PathBuf,
}

/// Nobody in particular.
const SOMEBODY: u32 = 65_534;

impl Trap {
    fn set() -> Trap {
        let folder = cli_support::Folder::new();
        // Where this stands the other user may perhaps not go.
        let binary = folder.0.join("onemcp");
        // By another program: a file that this one has open for writing may not be run, and a
        // child of another test would keep it open.
        let copied = Command::new("cp")
            .arg(gateway_binary())
            .arg(&binary)
            .status();
        assert!(copied.unwrap().success());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hostile/control.sh");
        let script = folder.write("control.sh", &std::fs::read_to_string(script).unwrap());
        let socket = folder.0.join("control.sock");
        let victim = json!({"command": binary, "args": ["demo-server", "clock"]});
        let hostile = json!({"command": "sh", "args": [script, binary, socket, folder.0]});
        let config = json!({"mcpServers": {"victim": victim, "hostile": hostile}});
        let config = folder.write("mcp.json", &config.to_string());
        let mut command = folder.command(&["--config", &config, "--port", "0"]);
        command.env("SECRET_OF_THE_GATEWAY", "open-sesame");
        command.arg("--control-socket").arg(&socket);
        if rustix::process::geteuid().is_root() {
            for path in [&folder.0, &binary, &folder.0.join("mcp.json")] {
                std::os::unix::fs::chown(path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
            }
            let mut other = Command::new(&binary);
            other
                .args(command.get_args())
                .env_clear()
                .current_dir(&folder.0);
            let env = command.get_envs();
            other.envs(env.filter_map(|(name, value)| Some((name, value?))));
            command = other;
            command.uid(SOMEBODY).gid(SOMEBODY);
        }
        Trap {
            gateway: cli_support::Gateway::start(command),
            folder,
            socket,
        }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.0.join(name)).unwrap_or_default()
    }

    /// Root may, as the user of the gateway may.
    fn operator(&self, words: &[&str]) -> Outcome {
        let mut command = self.folder.command(words);
        command.arg("--socket").arg(&self.socket);
        cli_support::run(command, None)
    }
}

#[test]
fn a_server_gets_nothing_however_it_hides() {
    let trap = Trap::set();
    let line_of_victim = || {
        let outcome = trap.operator(&["servers"]);
        outcome
            .lines
            .into_iter()
            .find(|line| line["name"] == "victim")
    };
    assert_eq!(trap.operator(&["wait", "victim"]).code, Some(0));
    let before = line_of_victim();
    for way in ["child", "session", "orphan", "daemon"] {
        eventually(way, || !trap.read(&format!("{way}.code")).is_empty());
        let heard = trap.read(&format!("{way}.out"));
        assert_eq!(trap.read(&format!("{way}.code")), "77\n", "{way}: {heard}");
    }
    // Those two were really nobody's children but the gateway's.
    for way in ["orphan", "daemon"] {
        let parent = trap.read(&format!("{way}.parent"));
        let expected = format!("PPid:\t{}", trap.gateway.child.id());
        assert_eq!(parent.trim(), expected, "{way}");
    }
    let environ = trap.read("environ");
    assert!(environ.contains("ermission denied"), "{environ}");
    assert!(!environ.contains("open-sesame"));
    let now = line_of_victim();
    assert!(before.is_some() && before == now, "{before:?} {now:?}");
    // Who is not one of its servers is obeyed.
    assert_eq!(trap.operator(&["restart", "victim"]).code, Some(0));
}

#[test]
fn a_socket_that_a_dead_gateway_left_is_replaced() {
    let rig = Rig::start(json!({"clock": demo("clock")}));
    let path = socket(&rig);
    signal(rig.pid, Signal::KILL);
    eventually("nobody listens", || UnixStream::connect(&path).is_err());
    assert!(path.exists());
    assert_eq!(run(&rig, &["status"]).code, Some(69));
    let next = Plan::new(json!({"clock": demo("clock")}))
        .arg(&format!("--control-socket={}", path.display()))
        .start();
    done(&next, &["status", "--socket", path.to_str().unwrap()]);
    // A second one does not take it away.
    let third = Plan::new(json!({"clock": demo("clock")}))
        .arg(&format!("--control-socket={}", path.display()))
        .start();
    let line = done(&next, &["status", "--socket", path.to_str().unwrap()])
        .lines
        .pop();
    assert_eq!(line.unwrap()["pid"], next.pid);
    third.stop();
    assert!(path.exists());
    next.stop();
    assert!(!path.exists());
}

#[test]
fn a_gateway_on_stdio_has_one_too() {
    let (rig, input, output) = Plan::new(json!({"clock": demo("clock")}))
        .arg("--transport=stdio")
        .start_piped();
    let name = format!("onemcp-stdio-{}.control.sock", rig.pid);
    let path = rig.folder().join(".local/state/onemcp").join(name);
    done(&rig, &["wait", "clock"]);
    assert!(path.exists());
    drop((input, output));
    eventually("the socket is gone", || !path.exists());
}

/// What a command shows on a terminal of 80 columns.
fn on_terminal(rig: &Rig, words: &str, more: &[(&str, &str)]) -> String {
    let program = gateway_binary();
    let line = format!("stty cols 80 rows 24; {} {words}", program.display());
    let mut command = Command::new("script");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", rig.folder())
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .envs(more.iter().copied())
        .args(["-qec", &line, "/dev/null"]);
    cli_support::run(command, None).out.replace('\r', "")
}

#[test]
fn a_terminal_gets_a_table_that_fits() {
    let long = "x".repeat(100);
    let mut servers = json!({"clock": demo("clock"), "bad": failing()});
    servers[&long] = json!({"command": "true", "disabled": true});
    let rig = Plan::new(servers).start();
    let plain = on_terminal(&rig, "status", &[("NO_COLOR", "1")]);
    assert!(
        plain.contains("SERVER") && plain.contains("+ clock"),
        "{plain}"
    );
    assert!(!plain.contains('\x1b') && !plain.contains('{'), "{plain}");
    for line in plain.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    let coloured = on_terminal(&rig, "status", &[]);
    assert!(coloured.contains("\x1b[32m"), "{coloured}");
    let said = on_terminal(&rig, "wait clock", &[]);
    assert!(said.contains("1 server is ready"), "{said}");
    // Objects only when they are asked for.
    let objects = on_terminal(&rig, "status --json", &[]);
    assert!(
        objects.lines().all(|line| line.starts_with('{')),
        "{objects}"
    );
    // Nothing of a picture that moves stays behind: no mode is changed, no cursor hidden.
    let watched = on_terminal(&rig, "status --watch --timeout 1500", &[]);
    assert!(
        watched.contains("\x1b[J") && !watched.contains("\x1b[?"),
        "{watched}"
    );
    rig.stop();
}

#[test]
fn names_are_shown_so_that_they_do_no_harm() {
    // One with control characters is refused by the configuration.
    let name = "evil\u{202e}name";
    let mut servers = json!({"clock": demo("clock")});
    servers[name] = demo("notes");
    let rig = Plan::new(servers).start();
    for words in ["servers", "status", "wait"] {
        let shown = on_terminal(&rig, words, &[("NO_COLOR", "1")]);
        assert!(!shown.contains('\u{202e}'), "{shown:?}");
    }
    let shown = on_terminal(&rig, "servers", &[("NO_COLOR", "1")]);
    assert!(shown.contains("evil\\u{202e}name"), "{shown:?}");
    rig.stop();
}
